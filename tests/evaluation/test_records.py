"""Records of measurements, in an order of their own."""

import torch

from dscm.evaluation.records import arrange


def test_rows_are_shown_in_an_order_of_their_own() -> None:
    """By checkpoint, ω, abduction and how tokens were tuned, whenever each was measured."""
    plain = {"checkpoint_sha256": "b", "guidance": 1.5, "abduction": "semantic"}
    plain |= dict.fromkeys(("weights", "cta_lr", "cta_steps", "cta_optimizer"))
    aligned = plain | {"abduction": "dynamic", "cta_lr": 0.1, "cta_steps": 1, "cta_optimizer": "sgd"}
    wanted = [
        plain,
        aligned | {"cta_lr": 0.01},
        aligned,
        aligned | {"cta_steps": 5},
        aligned | {"cta_optimizer": "adam"},
        plain | {"abduction": "residual"},
        plain | {"guidance": 3.0},
        plain | {"checkpoint_sha256": "a", "guidance": None, "abduction": "vae"},
    ]
    for seed in range(3):  # the first of a checkpoint says where it stands
        mixed = [wanted[0], *(wanted[1 + i] for i in torch.randperm(7, generator=torch.Generator().manual_seed(seed)))]
        assert arrange(mixed) == wanted
