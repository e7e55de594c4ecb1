"""Replay of trajectories: with a stand-in for CUDA graphs, and on a device that can be waited for by nobody."""

import contextlib
import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from dscm.diffusion import replay
from dscm.diffusion.mechanism import DiffusionMechanism, ImageNoise
from dscm.diffusion.replay import Capture, HostNumbers, Replay, Rerun
from tests.support.networks import PARENTS, X, make

OTHERS = {name: value.flip(0) for name, value in PARENTS.items()}
SETTINGS: list[dict[str, Any]] = [
    {},
    {"abduction": "residual"},
    {"solver": "2m", "abduction": "guided"},
    {"guidance": "do=3,others=1.5"},
    {"guidance": "do=3,others=1.5", "guidance_interval": "digit=1:20,others=0.1:9"},
]
USUAL = {"guidance": 1.5, "guidance_interval": (0.0, 1000.0), "steps": 2}


class Stand:
    """Stand in for CUDA graphs on a CPU: run the function again on the inputs that it was captured with."""

    def __init__(self) -> None:
        self.captured = self.replayed = 0

    def __call__(self, function: Rerun, device: torch.device) -> Rerun:
        self.captured += 1
        result = function()

        def run() -> Any:
            self.replayed += 1
            for old, new in zip(*(tree_leaves(tuple(x) if isinstance(x, tuple) else x) for x in (result, function()))):
                old.copy_(new)
            return result

        return run


def replaying(model: DiffusionMechanism) -> tuple[DiffusionMechanism, Stand]:
    """Return a copy of a mechanism that replays on a CPU, and what captures it."""
    model, stand = copy.deepcopy(model), Stand()
    model.replay = Replay(stand, ("cpu",))
    return model, stand


def cut(parents: dict[str, Tensor], n: int) -> dict[str, Tensor]:
    """Take the first n."""
    return {name: value[:n] for name, value in parents.items()}


@pytest.mark.parametrize("settings", SETTINGS)
@torch.no_grad()
def test_a_replay_is_what_it_replays(settings: dict[str, Any]) -> None:
    """Bit for bit, for other images, parents and interventions, and for a batch that is padded."""
    eager = make().using(**USUAL | settings)
    model, stand = replaying(eager)
    for x, parents, changed in ((X, PARENTS, [1, 0] * 3), (-X, OTHERS, [0, 1] * 3), (X / 2, PARENTS, [0] * 6)):
        noise = eager.abduct(x, parents)
        got = model.abduct(x, parents)
        assert all(torch.equal(one, other) for one, other in zip(noise, got))
        where = {"digit": torch.tensor(changed).bool()}
        assert torch.equal(model.predict(got, OTHERS, where), eager.predict(noise, OTHERS, where))
    assert (stand.captured, stand.replayed) == (2, 6)
    few = model.abduct(X[:3], cut(PARENTS, 3))
    assert stand.replayed == 7 and len(few.u) == 3
    torch.testing.assert_close(few.u, model.abduct(X, PARENTS).u[:3])  # of another size other kernels are chosen


@torch.no_grad()
def test_what_is_captured_is_told_apart() -> None:
    """By settings, weights, sizes and the names of what is intervened on; a size of less than half runs as it is."""
    model, stand = replaying(make().using(steps=2, guidance="do=2"))

    def count(run: Callable[[], object]) -> int:
        before = stand.captured
        for _ in range(3):
            run()
        return stand.captured - before

    noise = model.abduct(X, PARENTS)
    assert count(lambda: model.predict(noise, OTHERS)) == 1
    assert count(lambda: model.predict(noise, PARENTS)) == 0
    assert count(lambda: model.predict(noise, OTHERS, {"digit": torch.tensor(True)})) == 1
    assert count(lambda: model.predict(noise, OTHERS, {"digit": torch.ones(6, dtype=torch.bool)})) == 0
    assert count(lambda: model.using(steps=3).predict(noise, OTHERS)) == 1
    part = ImageNoise(*(x[:2] for x in noise))
    before = stand.replayed
    model.predict(part, cut(OTHERS, 2))
    assert stand.replayed == before
    assert count(lambda: model.predict(part, cut(OTHERS, 2))) == 1
    model.null = torch.nn.Parameter(model.null.clone(), requires_grad=False)
    assert count(lambda: model.predict(noise, OTHERS)) == 1


@torch.no_grad()
def test_results_are_the_callers_and_weights_are_the_present_ones() -> None:
    """A later replay leaves earlier results alone, and what is learned in place counts."""
    model, stand = replaying(make().using(steps=2))
    before = [model.abduct(X, PARENTS).u for _ in range(2)][-1]
    kept = before.clone()
    model.abduct(-X, PARENTS)
    assert torch.equal(before, kept)
    next(model.unet.parameters()).mul_(1.5)
    after = model.abduct(X, PARENTS)
    assert stand.replayed == 4 and not torch.equal(after.u, kept)
    assert torch.equal(after.u, model._abduct(model.scaling(PARENTS), X, after.z).u)


def test_only_what_can_be_captured_is() -> None:
    """Nothing that needs gradients or clamps at every step, and nothing on a CPU unless a test says so."""
    model, stand = replaying(make().using(steps=1))
    for _ in range(2):
        model.abduct(X, PARENTS)
        with torch.no_grad():
            tokens = model.using(abduction="dynamic").abduct(X, PARENTS).tokens
            model.using(published=True, guidance=1.0)._run("nothing", torch.neg, X)
    assert tokens.numel() and not stand.captured and not model.replay.seen
    plain = make().using(steps=1)
    with torch.no_grad():
        plain.abduct(X, PARENTS)
    assert not plain.replay.seen


@torch.no_grad()
def test_memory_is_bounded_and_not_copied(monkeypatch: pytest.MonkeyPatch) -> None:
    """The least recently used capture goes; a copy of the model, whose weights lie elsewhere, begins anew."""
    monkeypatch.setattr(replay, "MOST", 3)
    model, stand = replaying(make())
    for steps in (1, 2, 3, 4):
        for _ in range(2):
            model.using(steps=steps).abduct(X, PARENTS)
    assert stand.captured == 4 and len(model.replay.seen) == 3
    model.using(steps=2).abduct(X, PARENTS)
    assert stand.replayed == 9 and len(model.replay.seen) == 3
    twin = copy.deepcopy(model)
    assert twin.replay is not model.replay and not twin.replay.seen


def refuse(function: Rerun, device: torch.device) -> Rerun:
    raise RuntimeError("operation not permitted when stream is capturing")


def freeze(function: Rerun, device: torch.device) -> Rerun:
    result = ImageNoise(*(part + 1 for part in function()))
    return lambda: result


@pytest.mark.parametrize(("capture", "reason"), [(refuse, "operation not permitted"), (freeze, "another result")])
@torch.no_grad()
def test_a_failed_capture_costs_speed_alone(capture: Capture, reason: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Whether it is refused or wrong: it is reported once, and everything runs as it is."""
    eager = make().using(steps=2)
    model, _ = replaying(eager)
    model.replay = Replay(capture, ("cpu",))
    for x in (X, -X, X, -X):
        assert torch.equal(model.abduct(x, PARENTS).u, eager.abduct(x, PARENTS).u)
    error = capsys.readouterr().err
    assert error.count("not replayed as CUDA graphs") == 1 and reason in error


class Border(TorchDispatchMode):
    """List the operations that move more than a number between host and device."""

    def __init__(self) -> None:
        super().__init__()
        self.crossed: list[str] = []

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = function(*args, **(kwargs or {}))
        tensors = [x for x in tree_leaves((args, kwargs, result)) if isinstance(x, Tensor) and x.dim() and x.numel()]
        if len({x.device.type for x in tensors}) > 1:
            self.crossed.append(str(function))
        return result


@pytest.mark.parametrize("settings", SETTINGS[1::2])
@torch.no_grad()
def test_no_trajectory_waits_for_the_device(settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """On the device ``meta``, whose tensors have no values, so that whatever reads one raises an error.

    After the warm-up nothing is copied there either.
    """
    monkeypatch.setattr(torch, "autocast", lambda *kinds, **options: contextlib.nullcontext())  # it has no such device
    model = make(4, "flow", "v").using(**{"guidance": 1.5, "steps": 2} | settings).to("meta")
    pa, x, z = (torch.zeros(6, *shape, device="meta").double() for shape in ((model.scaling.dim,), X.shape[1:], (4,)))
    changed = torch.ones(6, dtype=torch.bool, device="meta")

    def work() -> Tensor:
        noise = model._abduct(pa, x, z)
        return model._predict(("digit",), pa, *noise[:4], changed)

    with HostNumbers():
        work()
        with Border() as border:
            assert work().shape == X.shape
    assert border.crossed == []
