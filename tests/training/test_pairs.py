"""Pairs: images that show the same thing under other parents, and share what is random."""

import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from dscm.causal.graph_file import parse
from dscm.errors import InputError
from dscm.graphs import get_graph
from dscm.training.pairs import Pairs, find_groups
from dscm.training.schedule import Hyperparameters
from dscm.training.trainer import Trainer
from tests.support.networks import PARENTS, X, make
from tests.training.test_trainer import SETTINGS, Regression

CPU = torch.device("cpu")
GROUP = torch.tensor([7, 2, 7, 2, 9, 7, 2, 7, 4, 4])  # of ten images
MARKER = torch.tensor([0, 0, 1, 0, 1, 1, 1, 0, 1, 1])
IMAGE = {"type": "image", "size": 16, "channels": 1, "parents": ["group"]}
SIZE = torch.tensor([1.0, 2, 1, 2, 3, 1, 2, 5, 6, 6])


def make_pairs() -> Pairs:
    """Find pairs of images whose marker or size differs; images 4, 8 and 9 have no partner."""
    return Pairs(GROUP, {"marker": MARKER, "size": SIZE})


def test_partners_show_the_same_under_the_nearest_parents_each_as_often() -> None:
    """Of 0 three differ in one parent, of 7 one does, of 6 two; who has none keeps whom it was drawn beside."""
    pairs, index = make_pairs(), torch.tensor([0, 1, 7, 4, 8, 5, 3, 2, 6, 9, 1])
    drawn = torch.stack([pairs.draw(index, seed) for seed in range(600)])
    assert (drawn[:, :5] == index[:5]).all() and (drawn[:, 10] == 1).all()
    assert (drawn[:, 8] == 6).all() and (drawn[:, 9] == 9).all(), "4 and 8 have no partner"
    shares = [drawn[:, i].bincount(minlength=10) / 600 for i in (5, 6, 7)]
    expected = [{2: 1 / 3, 5: 1 / 3, 7: 1 / 3}, {6: 1.0}, {0: 1.0}]
    for share, wanted in zip(shares, expected):
        assert {k: p for k, p in enumerate(share.tolist()) if p} == pytest.approx(wanted, abs=0.08)  # 4 errors
    assert torch.equal(pairs.draw(index, 5), pairs.draw(index, 5))


def test_the_second_of_a_pair_uses_the_draws_of_the_first() -> None:
    assert make_pairs().like(torch.tensor([0, 4, 1, 2, 9, 6, 3])).tolist() == [0, 1, 2, 0, 4, 2, 6]


def test_what_a_group_differs_in_is_known() -> None:
    """The range of its images, pixel by pixel, whatever the image that one asks of; of one alone nothing."""
    images = torch.randint(256, (10, 2, 3, 4), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    index = torch.tensor([7, 0, 3, 4, 8])
    spread = make_pairs().spread(index, images)
    for i, found in zip(index, spread):
        group = images[GROUP[i] == GROUP]
        assert torch.equal(found, group.amax(dim=0) - group.amin(dim=0))
    assert torch.equal(spread[0], spread[1]) and not spread[3].any() and spread[4].any()


def test_data_without_pairs_are_refused() -> None:
    """Without groups, with an attribute of that name, or where those of a group do not differ."""
    with pytest.raises(InputError, match="pairs: no two images of a group differ in their attributes"):
        Pairs(torch.arange(10), {"marker": MARKER})
    graph = get_graph("embed")
    assert find_groups({"image": SIZE, "group": GROUP}, graph).keys() == {"group"}
    named = parse({"variables": {"group": {"type": "binary"}, "image": IMAGE}}, Path("graph.json"))
    for data, of in (({"image": SIZE}, graph), ({"image": SIZE, "group": GROUP}, named)):
        with pytest.raises(InputError, match="pairs: no column 'group' of the data says"):
            find_groups(data, of)


class Sharing(Regression):
    """A regression that keeps what it gets."""

    def forward(self, value: Tensor, parents: dict[str, Tensor], generator: torch.Generator, like: Any = None) -> Any:  # type: ignore[override]
        self.seen.append({"value": value, "like": like, **parents})
        noise = torch.rand(len(value), generator=generator)
        noise = noise if like is None else noise[like]
        return {"loss": (value.flatten(1) @ self.weight - parents["size"] - noise).square().mean()}


def start(settings: Hyperparameters, objective: nn.Module | None = None) -> Trainer:
    """Start a training on ten images of 2×3 pixels."""
    image = torch.randint(256, (10, 1, 2, 3), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    data = {"image": image, "marker": MARKER, "size": SIZE, "group": GROUP}
    return Trainer(
        objective or Sharing(),
        data if settings.pairs else {k: v for k, v in data.items() if k != "group"},
        settings,
        CPU,
    )


@pytest.mark.parametrize("flip", [False, True])
def test_half_of_a_batch_are_partners_and_the_training_resumes_bit_for_bit(flip: bool) -> None:
    """Whose group is no parent; both of a pair are mirrored, or neither is."""
    settings = replace(SETTINGS, batch=6, pairs=True, flip=flip)
    whole, half = start(settings), start(settings)
    for _ in whole.run(9):
        pass
    for _ in half.run(4):
        pass
    rest = start(settings)
    rest.load_state_dict(copy.deepcopy(half.state_dict()))
    for _ in rest.run(9):
        pass
    assert torch.equal(rest.model.weight, whole.model.weight)
    for step, seen in enumerate(whole.objective.seen, 1):
        index = whole.draw(step)
        assert torch.equal(index, whole.draw(step)) and seen.keys() == {"value", "like", "marker", "size"}
        original = whole.data["image"][index] / 127.5 - 1
        kept = (seen["value"] == original).flatten(1).all(dim=1)
        assert torch.equal(kept, kept[seen["like"]]) and (flip or kept.all())
        for i, j in enumerate(seen["like"].tolist()):
            assert i == j or (GROUP[index[i]] == GROUP[index[j]] and j < 3 <= i)
    assert start(replace(settings, pairs=False)).draw(1).tolist() != whole.draw(1).tolist()


class Seeing(Sharing):
    """One that also gets what the groups differ in."""

    def forward(
        self, value: Tensor, parents: dict[str, Tensor], generator: torch.Generator, like: Any, spread: Tensor
    ) -> Any:  # type: ignore[override]
        self.seen.append({"value": value, "like": like, "spread": spread})
        return {"loss": (value.mean() * self.weight).sum()}


@pytest.mark.parametrize("window", [None, 2])
def test_pairs_are_seen_through_one_window(window: int | None) -> None:
    """And so is what their group differs in, mirrored with them."""
    trainer = start(replace(SETTINGS, batch=6, pairs=True, flip=True, window=window), Seeing())
    for _ in trainer.run(9):
        pass
    images = trainer.data["image"]
    for step, seen in enumerate(trainer.objective.seen, 1):
        index, (value, like, spread) = trainer.draw(step), seen.values()
        assert value.shape == spread.shape == (6, 1, 2, window or 3)
        assert trainer.pairs is not None
        whole = trainer.pairs.spread(index, images)
        for i in range(6):
            both = torch.stack([images[index[i]] / 127.5 - 1, whole[i] / 127.5])
            side = window or 3
            cuts = [f[..., c : c + side] for f in (both, both.flip(-1)) for c in range(4 - side)]
            found = torch.stack([value[i], spread[i]])
            assert any(torch.allclose(found, cut, atol=1e-6) for cut in cuts)
        pair = next(i for i in range(3, 6) if like[i] != i)
        torch.testing.assert_close(spread[pair], spread[like[pair]])


class Spy(nn.Module):
    """A network that keeps what it is given and predicts zero."""

    def embed(self, c: Tensor) -> Tensor:
        return c

    def forward(self, x: Tensor, t: Tensor, c: Tensor) -> Tensor:
        self.x, self.t, self.c = x, t, c
        return torch.zeros_like(x)


def test_pairs_share_timestep_noise_code_noise_and_dropped_conditions() -> None:
    """What differs between two of one image is what differs in their parents."""
    model, like = make(), torch.tensor([0, 1, 2, 0, 1, 5])
    model.unet = spy = Spy()
    x = X[[0, 1, 2, 0, 1, 5]]
    parents = {name: value[[0, 1, 2, 0, 1, 5]] for name, value in PARENTS.items()}
    for seed in range(5):
        model(x, parents, torch.Generator().manual_seed(seed), p_null=0.5, beta=1.0, apart=True, like=like)
        for part in (spy.t, spy.x, spy.c):  # pairs of equal images are equal
            torch.testing.assert_close(part, part[like])
        assert len(spy.t.unique()) == 4


def test_the_gradient_of_a_difference_has_less_noise_in_pairs() -> None:
    """Of two images that differ in a corner and in their digit, the difference of the gradients by their conditions."""
    model, n = make(0), 32
    embed, seen = model.unet.embed, []

    def keep(c: Tensor) -> Tensor:
        seen.append(c.detach().requires_grad_())
        return embed(seen[-1])

    model.unet.embed = keep
    other = X[:1].clone()
    other[..., :2, :2] += 0.5
    x = torch.cat([X[:1].expand(n, -1, -1, -1), other.expand(n, -1, -1, -1)])
    parents = {name: value[:1].expand(2 * n) for name, value in PARENTS.items()}
    parents["digit"] = torch.cat([parents["digit"][:n], (parents["digit"][:n] + 1) % 10])
    noise = []
    for like in (None, torch.arange(n).repeat(2)):
        model(x, parents, torch.Generator().manual_seed(0), p_null=0.0, beta=1.0, like=like)["loss"].backward()
        difference = seen[-1].grad[:n] - seen[-1].grad[n:]
        noise.append((difference - difference.mean(dim=0)).square().sum(dim=1).mean().item())
    assert noise[1] < noise[0] / 4
