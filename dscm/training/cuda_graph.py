"""Replay of training steps as a CUDA graph: small networks are launch-bound, and one launch replaces hundreds."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

Terms = dict[str, Tensor]
WARM_UP = 3  # runs before the capture, in which libraries prepare and choose their kernels


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
        stream = torch.cuda.Stream(device)
        stream.wait_stream(torch.cuda.current_stream(device))
        with torch.cuda.stream(stream):
            for _ in range(WARM_UP):
                function(self.index, self.beta)
        torch.cuda.current_stream(device).wait_stream(stream)
        for parameter in parameters:
            parameter.grad = None
        self.graph = torch.cuda.CUDAGraph()
        self.graph.register_generator_state(generator)
        with torch.cuda.graph(self.graph):
            self.terms = function(self.index, self.beta)
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
