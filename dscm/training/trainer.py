"""The pieces of one training step: which images, which learning rate, which gradient."""

from functools import lru_cache

import torch
from torch import Tensor, distributed, nn

from dscm.data.scaling import to_signed
from dscm.training.presets import Preset


def schedule_rate(step: int, preset: Preset) -> float:
    """Return the learning rate at a step relative to its peak: a linear rise, then 1/√step once it cools."""
    rise = min(1.0, step / max(preset.warmup, 1))
    return rise * min(1.0, (preset.cooling / step) ** 0.5) if preset.cooling else rise


class GradientStep:
    """Compute the objective, and its gradients, on one batch after another; weights and gradients stay float32.

    A GPU is done with the kernels of a small network sooner than Python asks for the next ones. Those of one step can
    be recorded and replayed for all later ones, as a CUDA graph: the same numbers, several times as fast. Then the
    objective must be of fixed shape, and never wait for the GPU.

    Args:
        objective: a module that returns ``loss`` and other scalars.
        data: the training set, on the device; images uint8.
        flip: mirror half of the images.
        bfloat16: the networks' precision.
        record: record the first step, after a few that warm up, and replay it.
    """

    def __init__(
        self, objective: nn.Module, data: dict[str, Tensor], flip: bool, bfloat16: bool, record: bool = False
    ) -> None:
        self.objective, self.data, self.flip, self.bfloat16, self.record = objective, data, flip, bfloat16, record
        self.device = data["image"].device
        self.generator = torch.Generator(self.device)
        self.graph: torch.cuda.CUDAGraph | None = None

    def __call__(self, index: Tensor, seed: int, arguments: dict[str, float]) -> dict[str, Tensor]:
        """Fill the gradients and return the terms of the objective.

        Args:
            index: of the batch's images, (B,); when recording, B must stay the same.
            seed: of everything random.
            arguments: of the objective; when recording, β alone may change.
        """
        if self.record and self.graph is None:
            self._record(index, arguments)
        torch.manual_seed(seed)  # dropout knows no other source
        self.generator.manual_seed(seed)
        if self.graph is None:
            return self._compute(index.to(self.device), arguments)
        self.index.copy_(index)
        for name, value in self.varying.items():
            value.fill_(arguments[name])
        self.graph.replay()
        for parameter, gradient in self.gradients:
            parameter.grad = gradient
        return self.terms

    def _compute(self, index: Tensor, arguments: dict[str, float | Tensor]) -> dict[str, Tensor]:
        """Run the objective forward and backward."""
        value = to_signed(self.data["image"][index])
        if self.flip:
            mirrored = torch.rand(len(value), generator=self.generator, device=self.device) < 0.5
            value = torch.where(mirrored[:, None, None, None], value.flip(-1), value)
        parents = {name: tensor[index] for name, tensor in self.data.items() if name not in ("image", "base")}
        random = {"generator": self.generator} if arguments else {}
        with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.bfloat16):
            terms = self.objective(value, parents, **arguments, **random)
        # Losses summed over pixels are brought to the size that the gradient's clipping assumes.
        (terms["loss"] / (value[0].numel() if arguments else 1)).backward()
        return {name: term.detach() for name, term in terms.items()}

    def _record(self, index: Tensor, arguments: dict[str, float]) -> None:
        """Record the kernels of a step. What they read, and the gradients that they write, stay where they are."""
        self.index = index.to(self.device)
        self.varying = {name: torch.tensor(arguments[name], device=self.device) for name in {"beta"} & {*arguments}}
        parameters = list(self.objective.parameters())
        stream = torch.cuda.Stream(self.device)
        stream.wait_stream(torch.cuda.current_stream(self.device))
        with torch.cuda.stream(stream):  # libraries prepare, and choose their kernels, on first use
            for _ in range(3):
                self._compute(self.index, arguments | self.varying)
        torch.cuda.current_stream(self.device).wait_stream(stream)
        for parameter in parameters:
            parameter.grad = None
        self.graph = torch.cuda.CUDAGraph()
        self.graph.register_generator_state(self.generator)
        with torch.cuda.graph(self.graph):
            self.terms = self._compute(self.index, arguments | self.varying)
        self.gradients = [(parameter, parameter.grad) for parameter in parameters if parameter.grad is not None]


def draw_batch(n: int, batch: int, step: int, seed: int) -> Tensor:
    """Return the indices of a step: consecutive slices of one permutation per epoch, so nothing is remembered."""
    batch = min(batch, n)
    epoch, position = divmod(step - 1, n // batch)
    return _draw_order(n, step_seed(seed, epoch, 0))[position * batch : (position + 1) * batch]


@lru_cache(maxsize=1)
def _draw_order(n: int, seed: int) -> Tensor:
    """Return the order of the images in an epoch; it serves all of its steps."""
    return torch.randperm(n, generator=torch.Generator().manual_seed(seed))


def step_seed(seed: int, step: int, rank: int) -> int:
    """Mix seed, step and rank into one, so that a resumed run draws what an uninterrupted one would."""
    return (seed * 0x9E3779B97F4A7C15 + step * 0xBF58476D1CE4E5B9 + rank * 0x94D049BB133111EB) % 2**63


def agree(seconds: float, device: torch.device) -> float:
    """Take rank 0's clock on every rank, so that all stop at the same step."""
    clock = torch.tensor([seconds], dtype=torch.float32, device=device)
    distributed.broadcast(clock, 0)
    return clock.item()
