"""Replay of pure functions as CUDA graphs: small networks are launch-bound, and one launch replaces thousands.

A trajectory is a function of tensors with fixed shapes, and which kernels it launches does not depend on their values.
So they are recorded once, on inputs that stay where they are, and replayed for others, which are copied there. What
crosses from host to device in a recording would be frozen into it, and what crosses back cannot be recorded: CUDA
refuses it. Hence timesteps stay on the host (`HostNumbers`, `place`), where the solvers decide on them.

On a CPU functions run as they are.
"""

import sys
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

Result = TypeVar("Result")  # a Tensor, or a NamedTuple of them
Rerun = Callable[[], Any]  # computes the result of the present inputs, in the same memory each time
Capture = Callable[[Rerun, torch.device], Rerun]
NEAR = 1e-2  # between a replay and what it replays; the kernels are the same
WARM_UP = 3  # runs before a recording, in which libraries prepare and choose their kernels
MOST = 16  # sizes and settings that are remembered; the least recently used one is forgotten


def warm_up(function: Callable[[], object], device: torch.device) -> None:
    """Run a function on a stream of its own, as it will be recorded."""
    stream = torch.cuda.Stream(device)
    stream.wait_stream(torch.cuda.current_stream(device))
    with torch.cuda.stream(stream):
        for _ in range(WARM_UP):
            function()
    torch.cuda.current_stream(device).wait_stream(stream)


def record(
    function: Callable[[], Result], generator: torch.Generator | None = None, **options: Any
) -> tuple[torch.cuda.CUDAGraph, Result]:
    """Record the kernels of a function that is warmed up.

    Args:
        function: launches them; it never waits for the device.
        generator: source of its random numbers, on the device.
        options: of `torch.cuda.graph`.

    Returns:
        The graph, and the result, which each replay overwrites.
    """
    graph = torch.cuda.CUDAGraph()
    if generator is not None:
        graph.register_generator_state(generator)
    with torch.cuda.graph(graph, **options):
        result = function()
    return graph, result


class Graphs:
    """Capture functions without random numbers as CUDA graphs, which share the memory of what they forget."""

    def __init__(self) -> None:
        self.pool: Any = None

    def __call__(self, function: Rerun, device: torch.device) -> Rerun:
        """Capture a function on a device."""

        def on_host() -> Any:
            with HostNumbers():
                return function()

        with torch.cuda.device(device):
            self.pool = self.pool or torch.cuda.graph_pool_handle()
            warm_up(on_host, device)
            # Other threads read and write files meanwhile, and may use the device.
            graph, result = record(on_host, pool=self.pool, capture_error_mode="thread_local")

        def run() -> Any:
            graph.replay()
            return result

        return run


class HostNumbers(TorchFunctionMode):
    """Leave single numbers on the host: kernels take them as arguments, while a copy makes the host wait."""

    def __torch_function__(
        self, function: Callable[..., Any], types: Sequence[type], args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Convert a number's dtype alone where it was to be moved, too."""
        if function is Tensor.to and args[0].device.type == "cpu" and not args[0].dim():
            named = [*args[1:], *(kwargs or {}).values()]
            return function(args[0], next((one for one in named if isinstance(one, torch.dtype)), args[0].dtype))
        return function(*args, **(kwargs or {}))


def place(t: Tensor, x: Tensor) -> Tensor:
    """Return timesteps (B,) on the device of ``x``; all are equal where they come from the host."""
    return t if t.device == x.device else x.new_full(t.shape, t[0].item())


class Replay:
    """Run functions of batches, and replay those that come again.

    The first call for a setting and a size runs as it is, the second one is captured. A batch that is smaller than a
    captured one, by half at most, is filled up with an earlier one. Where one cannot be captured, or its replay gives
    another result, all run as they are.

    Args:
        capture: captures a function without arguments on a device; None does as CUDA graphs.
        devices: the kinds of device on which functions are captured.
    """

    def __init__(self, capture: Capture | None = None, devices: Iterable[str] = ("cuda",)) -> None:
        self.capture, self.devices = capture or Graphs(), tuple(devices)
        self.seen: OrderedDict[tuple[Hashable, int], Captured | None] = OrderedDict()  # None: not captured yet

    def __reduce__(self) -> tuple[Any, ...]:
        """Copy as one that has seen nothing: a graph belongs to the memory of its model."""
        return Replay, (None if isinstance(self.capture, Graphs) else self.capture, self.devices)

    def __call__(
        self, function: Callable[..., Result], key: Hashable, inputs: Sequence[Tensor], network: nn.Module
    ) -> Result:
        """Return ``function(*inputs)``.

        Args:
            function: a pure function of tensors with the batch first, each element by itself.
            key: all that it depends on besides its inputs and weights.
            inputs: the first one has the size of the batch, as all have that are not empty.
            network: has the weights. A graph reads them where they lie, whatever they are by then.

        Returns:
            A tensor, or a NamedTuple of tensors, with the batch first, or empty.
        """
        if inputs[0].device.type not in self.devices or torch.is_grad_enabled():
            return function(*inputs)
        weights = (weight.data_ptr() for weight in (*network.parameters(), *network.buffers()))
        kind = (key, network.training, *weights, *((x.shape[1:], x.dtype, x.device) for x in inputs))
        n = len(inputs[0])
        larger = [m for (known, m), found in self.seen.items() if known == kind and found and n <= m <= 2 * n]
        place = kind, min(larger, default=n)
        found = self.seen.get(place)
        if place in self.seen and not found:
            found = self._capture(function, inputs)
        self.seen[place] = found
        self.seen.move_to_end(place)
        if len(self.seen) > MOST:
            self.seen.popitem(last=False)
        return found(inputs) if found else function(*inputs)

    def _capture(self, function: Callable[..., Any], inputs: Sequence[Tensor]) -> "Captured | None":
        """Capture a function and try it, or say why it cannot be replayed."""
        try:
            found = Captured(function, inputs, self.capture)
            pairs = zip(_parts(found(inputs)), _parts(function(*inputs)))
            if all(torch.allclose(one, other, NEAR, NEAR, equal_nan=True) for one, other in pairs):
                return found
            reason = "a replay gives another result"
        except RuntimeError as error:  # too little memory, or a kernel that waits
            reason = str(error)
        print(f"not replayed as CUDA graphs, and slower for it: {reason}", file=sys.stderr)
        self.devices = ()
        return None


class Captured:
    """A captured function of a batch.

    Args:
        function, inputs: as in `Replay`.
        capture: captures it.
    """

    def __init__(self, function: Callable[..., Any], inputs: Sequence[Tensor], capture: Capture) -> None:
        self.inputs = [x.clone() for x in inputs]
        self.run = capture(lambda: function(*self.inputs), inputs[0].device)

    def __call__(self, inputs: Sequence[Tensor]) -> Any:
        """Return the results of other inputs, of at most as many elements as were captured."""
        n = len(inputs[0])
        for own, x in zip(self.inputs, inputs):
            own[:n].copy_(x)
        result = self.run()
        parts = [part[:n].clone() for part in _parts(result)]
        return parts[0] if isinstance(result, Tensor) else type(result)(*parts)


def _parts(result: Any) -> Sequence[Tensor]:
    """List the tensors of a result."""
    return (result,) if isinstance(result, Tensor) else result
