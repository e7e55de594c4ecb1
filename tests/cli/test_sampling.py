"""Notes about what a command line asks of a model."""

import dscm
from dscm.cli.sampling import note_guidance
from dscm.diffusion.guidance import Weights
from dscm.errors import spell


def test_weights_for_groups_of_parents_need_a_training_with_null_apart() -> None:
    """Which the bundled models had not; one weight for all needs none."""
    model = dscm.load("celebahq")
    assert note_guidance(model, ["1.5", 3, "do=2,others=2", Weights(1.0)]) == []
    (note,) = note_guidance(model, [1.5, "do=2.5", "Smiling=2,others=1"])
    words = "was trained without null_apart, so conditions that are null in part only are new to it"
    assert spell(note) == f"guidance do=2.5,others=1 Smiling=2,others=1: celebahq-semantic.pt {words}"
    assert note_guidance(model, [2], "0.3:20") == note_guidance(model, [2], (0.3, 20.0)) == []
    (note,) = note_guidance(model, [2], "Smiling=0.3:20,others=1:2")
    assert spell(note) == f"guidance_interval Smiling=0.3:20,others=1:2: celebahq-semantic.pt {words}"
    object.__setattr__(model.checkpoint, "settings", {**model.checkpoint.settings, "null_apart": True})
    assert note_guidance(model, ["do=2.5"]) == []
