"""The loop that fits every part of a causal model: data, loss, gradient, clipping, step, average."""

import copy
import inspect
import time
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel

from dscm.data.group import GROUP
from dscm.data.scaling import to_signed
from dscm.diffusion.objective import share
from dscm.errors import InputError, option
from dscm.training.augment import augment, crop, place_windows
from dscm.training.balance import find_weights
from dscm.training.cuda_graph import CapturedStep, Terms, can_capture
from dscm.training.pairs import Pairs
from dscm.training.schedule import Hyperparameters, draw_batch, step_seed

MAX_NORM = 1.0  # of the gradient


class EMA:
    """Keep an exponential moving average of a model's parameters.

    ``θ̄ ← d·θ̄ + (1 − d)·θ`` with ``d = min(decay, (1 + step)/(10 + step))``, which forgets the start.

    Args:
        model: the model to average; ``average`` is a copy of it without gradients.
        decay: the greatest d, in [0, 1).
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.average = copy.deepcopy(model).eval().requires_grad_(False)
        self.decay = decay

    @torch.no_grad()
    def update(self, model: nn.Module, step: int) -> None:
        """Move the average towards the model after ``step`` steps; buffers are copied."""
        decay = min(self.decay, (1 + step) / (10 + step))
        torch._foreach_lerp_(list(self.average.parameters()), list(model.parameters()), 1 - decay)
        for mine, theirs in zip(self.average.buffers(), model.buffers()):
            mine.copy_(theirs)


class Trainer:
    """Minimise an objective over a data set by Adam, and average the weights.

    >>> trainer = Trainer(model, data, Hyperparameters(batch=64, learning_rate=1e-3), device)  # doctest: +SKIP
    >>> for terms in trainer.run(steps=1000):  # doctest: +SKIP
    ...     print(trainer.step, terms["loss"].item())
    >>> trainer.average  # doctest: +SKIP

    A step depends on the weights, the data, the hyperparameters and its number alone, so that a training may stop after
    any step and resume.

    Args:
        objective: a module whose ``forward(value, parents, …)`` returns scalars, with ``loss`` among them, of images in
            [-1, 1], (B, C, H, W), and the attributes, each (B,). It gets whichever of
            ``generator``, ``like`` and ``spread`` of `Pairs`, and `Hyperparameters.arguments` it has parameters for.
            Parameters without ``requires_grad`` stay.
        data: ``image`` uint8 (N, C, H, W), the attributes (N,), and with ``pairs`` ``group`` (N,), nothing else.
        settings: the hyperparameters.
        device: the device of the training; objective and data are moved there.
        model: what is averaged and whose gradients are clipped; None is the whole objective.
        rank, world: this process and how many there are; each computes its share of every batch.
    """

    def __init__(
        self,
        objective: nn.Module,
        data: Mapping[str, Tensor],
        settings: Hyperparameters,
        device: torch.device,
        model: nn.Module | None = None,
        rank: int = 0,
        world: int = 1,
    ) -> None:
        self.objective, self.settings, self.device = objective.to(device), settings, device
        self.data = {name: value.to(device) for name, value in data.items()}
        self.model = model or objective
        self.rank, self.world = rank, world
        self.names = [name for name in self.data if name not in ("image", GROUP if settings.pairs else "")]
        parents = {name: self.data[name] for name in self.names}
        weighing = parents, settings.balance, settings.independent
        self.weights = find_weights(*weighing) if settings.weighs else None
        self.pairs = Pairs(self.data[GROUP], parents) if settings.pairs else None
        self.step, self.seconds = 0, 0.0
        self.stopped = False
        self.parameters = [parameter for parameter in objective.parameters() if parameter.requires_grad]
        self.optimiser = torch.optim.Adam(self.parameters, settings.learning_rate, fused=device.type == "cuda")
        self.ema = EMA(self.model, settings.ema)
        self.generator = torch.Generator(device)
        self.accepted = list_arguments(objective)
        self.replica = DistributedDataParallel(objective) if world > 1 else objective
        self.captured: CapturedStep | None = None
        if settings.static and world == 1 and can_capture(device):
            self.captured = CapturedStep(self.backward, self.parameters, self.generator, self.draw(1))

    @property
    def average(self) -> nn.Module:
        """Return the model with averaged weights, in evaluation mode."""
        return self.ema.average

    def run(self, steps: int | None = None, minutes: float | None = None) -> Iterator[Terms]:
        """Train, and yield the scalars of the objective after every step.

        Args:
            steps: the last step; None has no end.
            minutes: the longest duration. Both count from the beginning of the training, over all resumptions.

        Raises:
            InputError: the loss is not finite; the weights stay those of the last step.
        """
        while (steps is None or self.step < steps) and (minutes is None or self.seconds < 60 * minutes):
            started = time.monotonic()
            terms = self.advance()
            self.seconds += time.monotonic() - started
            if minutes is not None and self.world > 1:
                self.seconds = self._first_clock()
            yield terms
            if self._agree_to_stop():
                return

    def stop(self) -> None:
        """Ask that `run` ends after the step that is under way, in all processes; ``stopped`` tells whether it did."""
        self.stopped = True

    def advance(self) -> Terms:
        """Take one step, and return the scalars of the objective."""
        step, settings = self.step + 1, self.settings
        for group in self.optimiser.param_groups:
            group["lr"] = settings.rate_at(step)
        seed = step_seed(settings.seed, step, self.rank)
        torch.manual_seed(seed)  # of dropout, which takes no generator
        self.generator.manual_seed(seed)
        terms = (self.captured or self.backward)(self.draw(step), settings.beta_at(step))
        if not torch.isfinite(terms["loss"]):
            raise InputError(f"step {step}: the loss is {terms['loss'].item()}; lower {option('learning_rate')}")
        norm = nn.utils.clip_grad_norm_(self.model.parameters(), MAX_NORM)  # of several processes, the same on all
        if not torch.isfinite(norm):
            raise InputError(f"step {step}: the gradient is not finite; lower {option('learning_rate')}")
        self.optimiser.step()
        self.optimiser.zero_grad(set_to_none=True)
        self.ema.update(self.model, step)
        self.step = step
        return terms

    def draw(self, step: int) -> Tensor:
        """Return the indices of this process's images in the batch of a step."""
        images = len(self.data["image"])
        drawn = draw_batch(images, self.settings.batch, step, self.settings.seed, self.weights)
        mine = drawn[self.rank :: self.world]
        return self.pairs.draw(mine, step_seed(self.settings.seed, step, self.rank)) if self.pairs else mine

    def show(self, index: Tensor) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """Return what the objective sees of images ``index``, (B,): these, and ``like`` and ``spread`` of pairs."""
        images, settings = self.data["image"], self.settings
        value = to_signed(images[index])
        like = self.pairs.like(index) if self.pairs else None
        if self.pairs is None or not (settings.window or "spread" in self.accepted):
            return augment(value, settings.flip, settings.move, self.generator, like), like, None
        spread = self.pairs.spread(index, images).to(value.dtype) * (2 / 255)
        both = torch.cat([value, spread], dim=1)
        if settings.window:
            places = share(place_windows(spread, settings.window, self.generator), like)
            both = crop(both, places, settings.window, settings.window)
        value, spread = augment(both, settings.flip, settings.move, self.generator, like).chunk(2, dim=1)
        return value, like, spread

    def backward(self, index: Tensor, beta: float | Tensor) -> Terms:
        """Fill the gradients of the loss of images ``index``, (B,), and return the scalars of the objective."""
        index = index.to(self.device)
        value, like, spread = self.show(index)
        parents = {name: self.data[name][index] for name in self.names}
        known = self.settings.arguments(beta) | {"generator": self.generator, "like": like, "spread": spread}
        arguments = {name: argument for name, argument in known.items() if name in self.accepted}
        with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.settings.precision == "bfloat16"):
            terms = self.replica(value, parents, **arguments)
        (terms["loss"] / (value[0].numel() if self.settings.summed else 1)).backward()
        return {name: term.detach() for name, term in terms.items()}

    def state_dict(self) -> dict[str, Any]:
        """Return all that resumes the training, apart from data and hyperparameters."""
        return {
            "step": self.step,
            "seconds": self.seconds,
            "raw": self.objective.state_dict(),
            "model": self.average.state_dict(),
            "optimiser": self.optimiser.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Resume from what `state_dict` returned, or from the content of a checkpoint.

        Raises:
            RuntimeError, ValueError, TypeError, KeyError, AttributeError, OverflowError: it is of another objective.
        """
        self.step, self.seconds = int(state["step"]), float(state["seconds"])
        self.objective.load_state_dict(state["raw"])
        self.average.load_state_dict(state["model"])
        own = self.optimiser.state_dict()  # its settings are those of this training and device
        self.optimiser.load_state_dict(own | {"state": state["optimiser"]["state"]})
        for parameter in self.parameters:
            if any(moment.shape not in (parameter.shape, ()) for moment in self.optimiser.state[parameter].values()):
                raise ValueError("a moment of another shape than its parameter")

    def _agree_to_stop(self) -> bool:
        """Tell whether any process was asked to stop, so that all stop after the same step."""
        if self.world > 1:
            asked = torch.tensor([self.stopped], dtype=torch.int32, device=self.device)
            distributed.all_reduce(asked, distributed.ReduceOp.MAX)
            self.stopped = bool(asked.item())
        return self.stopped

    def _first_clock(self) -> float:
        """Return the seconds of the first process, so that all stop after the same step."""
        clock = torch.tensor([self.seconds], dtype=torch.float32, device=self.device)
        distributed.broadcast(clock, 0)
        return clock.item()


def list_arguments(objective: nn.Module) -> set[str]:
    """Return the names of what an objective takes; one that hands on ``**rest`` takes what that takes."""
    parameters = inspect.signature(objective.forward).parameters.values()
    names = {parameter.name for parameter in parameters}
    handed_on = any(parameter.kind == parameter.VAR_KEYWORD for parameter in parameters)
    if not handed_on:
        return names
    inner = "objective" if hasattr(objective, "objective") else "mechanism"
    return names | list_arguments(objective.get_submodule(inner))
