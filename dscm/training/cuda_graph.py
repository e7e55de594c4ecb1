"""Replay of training steps as a CUDA graph: small networks are launch-bound, and one launch replaces hundreds."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from dscm.diffusion.replay import record, warm_up

Terms = dict[str, Tensor]


def can_capture(device: torch.device) -> bool:
    """Tell whether the device has CUDA graphs that draw random numbers from a generator (PyTorch 2.4)."""
    return device.type == "cuda" and hasattr(torch.cuda.CUDAGraph, "register_generator_state")


class CapturedStep:
    """Capture a function that fills gradients, and replay it.

    Inputs, gradients and results keep their memory from call to call.

    Args:
        function: takes the indices of a batch, (B,), and β, fills the gradients and returns scalars. Its shapes are
            fixed, and it never waits for the device.
        parameters: the parameters whose gradients it fills.
        generator: source of its random numbers, on the device; the capture draws from it.
        index: the indices of any batch of the same size.
    """

    def __init__(
        self,
        function: Callable[[Tensor, Tensor], Terms],
        parameters: Sequence[nn.Parameter],
        generator: torch.Generator,
        index: Tensor,
    ) -> None:
        device = generator.device
        self.index, self.beta = index.to(device), torch.zeros((), device=device)

        def step() -> Terms:
            return function(self.index, self.beta)

        warm_up(step, device)
        for parameter in parameters:
            parameter.grad = None
        self.graph, self.terms = record(step, generator)
        self.gradients = [(parameter, parameter.grad) for parameter in parameters if parameter.grad is not None]
        for parameter in parameters:
            parameter.grad = None

    def __call__(self, index: Tensor, beta: float) -> Terms:
        """Replay the function at other indices, (B,) with the captured B, and another β; return its scalars."""
        self.index.copy_(index)
        self.beta.fill_(beta)
        self.graph.replay()
        for parameter, gradient in self.gradients:
            parameter.grad = gradient
        return {name: term.clone() for name, term in self.terms.items()}
