"""The loop of a training against a reference that spells every formula out, and what reaches the objective."""

import copy
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from dscm.errors import InputError
from dscm.training.schedule import Hyperparameters
from dscm.training.trainer import EMA, Trainer

CPU = torch.device("cpu")
N = 10
SETTINGS = Hyperparameters(4, 0.1, warmup=3, cooling=5, ema=0.8, beta=0.5, beta_warmup=4, p_null=0.2, focus=0.3)


def make_data() -> dict[str, Tensor]:
    """Draw images of 2×3 pixels, an attribute, and one that two of ten have."""
    generator = torch.Generator().manual_seed(0)
    image = torch.randint(256, (N, 1, 2, 3), generator=generator, dtype=torch.uint8)
    return {"image": image, "target": torch.randn(N, generator=generator), "rare": (torch.arange(N) < 2).long()}


class Regression(nn.Module):
    """Predict the attribute linearly; the loss is ``scale`` times the mean squared error, plus β‖w‖²."""

    def __init__(self, scale: float = 1.0) -> None:
        super().__init__()
        self.weight, self.scale = nn.Parameter(torch.linspace(-1, 1, 6)), scale
        self.seen: list[dict[str, Any]] = []

    def forward(
        self,
        value: Tensor,
        parents: dict[str, Tensor],
        generator: torch.Generator,
        p_null: float,
        beta: float,
        focus: float,
        apart: bool,
    ) -> dict[str, Tensor]:
        self.seen.append({"p_null": p_null, "beta": beta, "focus": focus, "apart": apart, "value": value})
        error = (value.flatten(1) @ self.weight - parents["target"]).square().mean()
        return {"loss": self.scale * error + beta * self.weight.square().sum(), "error": error}


def train(settings: Hyperparameters, steps: int, scale: float = 1.0) -> Trainer:
    trainer = Trainer(Regression(scale), make_data(), settings, CPU)
    for _ in trainer.run(steps):
        pass
    return trainer


def expect(trainer: Trainer, steps: int, scale: float) -> tuple[Tensor, Tensor]:
    """Return the weights after some steps, and their average: each formula by itself."""
    data, weight = make_data(), torch.linspace(-1, 1, 6)
    x, y = data["image"].flatten(1) / 127.5 - 1, data["target"]
    mean, square, average = torch.zeros(6), torch.zeros(6), weight.clone()
    for s in range(1, steps + 1):
        rate = 0.1 * min(1, s / 3) * min(1, (5 / s) ** 0.5)
        beta = 0.5 * min(1, s / 4)
        index = trainer.draw(s)
        error = x[index] @ weight - y[index]
        gradient = scale * 2 * (error[:, None] * x[index]).mean(dim=0) + 2 * beta * weight
        gradient = gradient / max(1.0, gradient.norm().item())
        mean, square = 0.9 * mean + 0.1 * gradient, 0.999 * square + 0.001 * gradient.square()
        weight = weight - rate * (mean / (1 - 0.9**s)) / ((square / (1 - 0.999**s)).sqrt() + 1e-8)
        decay = min(0.8, (1 + s) / (10 + s))
        average = decay * average + (1 - decay) * weight
    return weight, average


@pytest.mark.parametrize("scale", [0.01, 1.0, 100.0])
def test_training_is_its_formulas(scale: float) -> None:
    """Learning rate, β, a gradient of norm 1 at most, Adam, and the average; with small gradients and large ones."""
    trainer = train(SETTINGS, 12, scale)
    weight, average = expect(trainer, 12, scale)
    torch.testing.assert_close(trainer.model.weight.detach(), weight, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(trainer.average.weight, average, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(("scale", "clipped"), [(1e-3, False), (1e3, True)])
def test_the_gradient_has_a_norm_of_one_at_most(scale: float, clipped: bool) -> None:
    """As the moments of Adam show after the first step: a tenth of the gradient."""
    trainer = train(replace(SETTINGS, beta=0.0), 1, scale)
    (state,) = trainer.optimiser.state.values()
    norm = 10 * state["exp_avg"].norm().item()
    assert norm == pytest.approx(1, rel=1e-4) if clipped else 0 < norm < 0.1


def test_only_the_model_is_clipped() -> None:
    """A multiplier beside the model, as that of fine-tuning, keeps its whole gradient."""

    class Tuned(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model, self.multiplier = Regression(1e3), nn.Parameter(torch.zeros(()))

        def forward(self, value: Tensor, parents: dict[str, Tensor], generator: torch.Generator) -> dict[str, Tensor]:
            loss = self.model(value, parents, generator, 0.0, 0.0, 0.0, False)["loss"]
            return {"loss": loss - 7 * self.multiplier}

    tuned = Tuned()
    trainer = Trainer(tuned, make_data(), SETTINGS, CPU, model=tuned.model)
    trainer.advance()
    norms = {id(p): 10 * state["exp_avg"].norm().item() for p, state in trainer.optimiser.state.items()}
    assert norms[id(tuned.model.weight)] == pytest.approx(1, rel=1e-4)
    assert norms[id(tuned.multiplier)] == pytest.approx(7, rel=1e-4)
    assert isinstance(trainer.average, Regression)


def test_a_loss_that_sums_over_pixels_is_divided_by_their_number() -> None:
    """So that one bound on the gradient suits every size: here six pixels."""
    plain, summed = (train(replace(SETTINGS, beta=0.0, summed=summed), 1, 1e-3) for summed in (False, True))
    (one,), (other,) = (trainer.optimiser.state.values() for trainer in (plain, summed))
    torch.testing.assert_close(6 * other["exp_avg"], one["exp_avg"])


def test_the_objective_gets_what_its_settings_say() -> None:
    """p_∅ and the focus as they are, β as it rises, images in [-1, 1], and a fresh draw of everything random."""
    trainer = train(SETTINGS, 6)
    seen = trainer.objective.seen
    assert [call["beta"] for call in seen] == pytest.approx([0.125, 0.25, 0.375, 0.5, 0.5, 0.5])
    assert all((call["p_null"], call["focus"], call["apart"]) == (0.2, 0.3, False) for call in seen)
    values = torch.stack([call["value"] for call in seen])
    assert values.shape == (6, 4, 1, 2, 3) and -1 <= values.min() < -0.9 and 0.9 < values.max() <= 1


def test_an_objective_without_settings_gets_none() -> None:
    """As those of attributes and oracles."""

    class Plain(Regression):
        def forward(self, value: Tensor, parents: dict[str, Tensor]) -> dict[str, Tensor]:
            return {"loss": (value.flatten(1) @ self.weight - parents["target"]).square().mean()}

    assert Trainer(Plain(), make_data(), SETTINGS, CPU).advance().keys() == {"loss"}


def test_half_of_the_images_are_mirrored_where_asked() -> None:
    data = make_data()
    data = {name: value.repeat(50, *[1] * (value.dim() - 1)) for name, value in data.items()}
    trainer = Trainer(Regression(), data, replace(SETTINGS, batch=500, flip=True), CPU)
    trainer.advance()
    original = data["image"][trainer.draw(1)] / 127.5 - 1
    (value,) = (call["value"] for call in trainer.objective.seen)
    kept, mirrored = ((value - x).abs().amax(dim=(1, 2, 3)) < 1e-6 for x in (original, original.flip(-1)))
    assert (kept | mirrored).all() and mirrored.float().mean().item() == pytest.approx(0.5, abs=0.07)


@pytest.mark.parametrize("balance", [(), ("rare",)])
def test_a_training_resumes_bit_for_bit(balance: tuple[str, ...]) -> None:
    """From its state, in a fresh objective, at any step, also with balanced batches."""
    settings = replace(SETTINGS, balance=balance)
    whole, half = train(settings, 9), train(settings, 4)
    rest = Trainer(Regression(), make_data(), settings, CPU)
    rest.load_state_dict(copy.deepcopy(half.state_dict()))
    for _ in rest.run(9):
        pass
    assert rest.step == 9 and torch.equal(rest.model.weight, whole.model.weight)
    assert torch.equal(rest.average.weight, whole.average.weight)


def test_balanced_batches_hold_more_of_what_is_rare() -> None:
    """Three in ten images instead of two, and other weights come of it."""
    plain, balanced = (train(replace(SETTINGS, balance=balance), 9) for balance in ((), ("rare",)))
    shares = [torch.cat([trainer.draw(step) for step in range(1, 201)]).lt(2).double() for trainer in (plain, balanced)]
    assert shares[0].mean().item() == pytest.approx(0.2, abs=0.03)
    assert shares[1].mean().item() == pytest.approx(0.3, abs=0.03)
    assert not torch.equal(plain.model.weight, balanced.model.weight)


@pytest.mark.parametrize(
    "change",
    [
        lambda state: state.update(step="four"),
        lambda state: state.update(step=float("inf")),
        lambda state: state.update(raw={}),
        lambda state: state.pop("optimiser"),
        lambda state: state["model"].update(weight=torch.zeros(1, 6)),
        lambda state: state["optimiser"].update(state=[1]),
        lambda state: state["optimiser"]["state"][0].update(exp_avg=torch.zeros(5)),
        lambda state: state["optimiser"]["state"][0].update(exp_avg="zero"),
    ],
)
def test_a_state_that_does_not_fit_is_refused(change: Callable[[dict[str, Any]], object]) -> None:
    """When it is read, not some steps later."""
    state = copy.deepcopy(train(SETTINGS, 4).state_dict())
    change(state)
    with pytest.raises((RuntimeError, ValueError, TypeError, KeyError, AttributeError, OverflowError)):
        Trainer(Regression(), make_data(), SETTINGS, CPU).load_state_dict(state)


def test_a_loss_that_is_not_finite_ends_the_training_and_spares_the_weights() -> None:
    trainer = train(SETTINGS, 3)
    before = trainer.model.weight.detach().clone()
    trainer.objective.scale = float("inf")
    with pytest.raises(InputError, match="step 4: the loss is inf; lower learning_rate"):
        trainer.advance()
    assert trainer.step == 3 and torch.equal(trainer.model.weight, before)


def test_time_ends_a_training_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """A clock that moves two seconds each time it is read: after five minutes there were 150 steps."""
    clock = iter(range(0, 10**6, 2))
    monkeypatch.setattr("time.monotonic", lambda: next(clock))
    trainer = Trainer(Regression(), make_data(), SETTINGS, CPU)
    assert len(list(trainer.run(minutes=5))) == 150 and trainer.seconds == 300


def test_the_average_follows_its_formula_and_copies_buffers() -> None:
    """θ̄ ← d·θ̄ + (1 − d)·θ with d = min(decay, (1 + step)/(10 + step)); buffers are taken over as they are."""
    model = nn.BatchNorm1d(3)
    ema, expected = EMA(model, decay=0.5), model.weight.detach().clone()
    for step in range(1, 20):
        with torch.no_grad():
            model.weight.normal_(generator=torch.Generator().manual_seed(step))
            model.running_mean.fill_(step)
        decay = min(0.5, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * model.weight.detach()
        ema.update(model, step)
        torch.testing.assert_close(ema.average.weight, expected)
        assert torch.equal(ema.average.running_mean, model.running_mean)


def test_the_average_is_frozen_and_leaves_the_model_alone() -> None:
    """It is a copy in evaluation mode that takes no gradient; the model trains on."""
    model = nn.Sequential(nn.Linear(2, 2), nn.Dropout())
    before = model[0].weight.detach().clone()
    ema = EMA(model, decay=0.9)
    ema.update(model, 1)
    assert not ema.average.training and not any(p.requires_grad for p in ema.average.parameters())
    assert model.training and all(p.requires_grad for p in model.parameters())
    assert torch.equal(model[0].weight, before)
