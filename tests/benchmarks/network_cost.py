"""What the noise predictor alone costs: the share of the peak of matrix products it reaches, and the rest."""

from collections.abc import Callable
from functools import partial
from typing import Any, cast

import torch
from timing import clock, fastest, show
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

from dscm import checkpoint
from dscm.diffusion.mechanism import DiffusionMechanism
from dscm.graphs import get_graph
from dscm.training.presets import get_preset


def compare_networks(device: torch.device) -> list[dict[str, Any]]:
    """Time the noise predictor alone: the share of the peak of matrix products it reaches, and where the rest goes."""
    rows = []
    sizes = [("morphomnist", "tiny", 28, 64), ("morphomnist", "tiny", 28, 1024)]
    if device.type == "cuda":
        sizes += [("morphomnist", "paper", 28, 128), ("celebahq", "paper", 64, 128), ("embed", "paper", 192, 32)]
    for data_set, preset, size, batch in sizes:
        graph = get_graph(data_set)
        config = {**get_preset("image", graph, preset, "spatial").model, "size": size}
        model = cast(DiffusionMechanism, checkpoint.build("image", graph, config)).to(device).eval()
        x = torch.randn(batch, *model.shape, device=device)
        t, c = torch.full((batch,), 500.0, device=device), torch.randn(batch, model.scaling.dim, device=device)
        for dtype in (torch.float32, torch.bfloat16):
            row = {"network": f"{data_set} {preset}", "batch": batch, "precision": str(dtype).removeprefix("torch.")}
            rows.append(row | measure_network(partial(run, model, x, t, c), dtype, device))
    return show("one pass of the noise predictor", rows)


@torch.no_grad()
def compare_with_products(
    mechanism: DiffusionMechanism, device: torch.device, batch: int = 64, repeats: int = 5
) -> list[dict[str, Any]]:
    """Compare a pass with matrix products of as many operations: at the shapes of its layers, and of square matrices.

    A convolution is a product of ``im2col`` of its input, (B·H·W, C·k²), with its weights, (C·k², C'). Copying the
    input into that form, norms, activations and attention are not in the products.
    """
    x = torch.randn(batch, *mechanism.shape, device=device)
    t = torch.full((batch,), 500.0, device=device)
    c = torch.randn(batch, mechanism.widths["z"] + mechanism.scaling.dim, device=device)
    work = partial(run, mechanism, x, t, c)
    shapes = list_products(mechanism.unet, work)
    pairs = [(torch.randn(m, k, device=device), torch.randn(k, n, device=device)) for m, k, n in shapes]
    with FlopCounterMode(display=False) as counter:
        work()
    flops = counter.get_total_flops()

    def multiply() -> Tensor:
        return [a @ b for a, b in pairs][-1]

    whole, _ = fastest(work, x, repeats)
    products, _ = fastest(multiply, x, repeats)
    rate, square = flops / whole / 1e12, peak(torch.float32, device)
    in_products = sum(2 * m * k * n for m, k, n in shapes) / products / 1e12
    row = {"batch": batch, "ms": 1e3 * whole, "GFLOP": flops / 1e9, "TFLOP/s": rate}
    row |= {"products, TFLOP/s": in_products, "square, TFLOP/s": square}
    return [row | {"share of products": rate / in_products, "share of square": rate / square}]


def list_products(network: nn.Module, work: Callable[[], Any]) -> list[tuple[int, int, int]]:
    """List the matrix products (m, k) × (k, n) of the convolutions and linear layers of a network as it works."""
    shapes: list[tuple[int, int, int]] = []

    def note(layer: nn.Module, given: tuple[Tensor, ...], output: Tensor) -> None:
        rows = output.numel() // output.shape[1]
        weight = cast(Tensor, layer.weight)
        shapes.append((rows, weight[0].numel(), len(weight)))

    layers = [layer for layer in network.modules() if isinstance(layer, nn.Conv2d | nn.Linear)]
    handles = [layer.register_forward_hook(note) for layer in layers]
    work()
    for handle in handles:
        handle.remove()
    return shapes


def run(model: DiffusionMechanism, x: Tensor, t: Tensor, c: Tensor) -> Tensor:
    """Pass images, (B, C, H, W), once through the noise predictor."""
    return model.unet(x, t, model.unet.embed(c))


@torch.no_grad()
def measure_network(run: Callable[[], Tensor], dtype: torch.dtype, device: torch.device) -> dict[str, Any]:
    """Return milliseconds, TFLOP/s, share of peak, the device's busy share, and kinds of kernel by their time."""

    def work() -> Tensor:
        with torch.autocast(device.type, dtype=dtype, enabled=dtype == torch.bfloat16):
            return run()

    with FlopCounterMode(display=False) as counter:
        work()
    repeats = 20 if device.type == "cuda" else 2
    began = clock(work())
    for _ in range(repeats):
        out = work()
    seconds = (clock(out) - began) / repeats
    rate = counter.get_total_flops() / seconds / 1e12
    row = {"ms": 1e3 * seconds, "TFLOP/s": rate, "share of peak": rate / peak(dtype, device)}
    if device.type == "cuda":
        with profile(activities=[ProfilerActivity.CUDA]) as record:
            clock(work())
        kernels = [(event.key, event.self_device_time_total) for event in record.key_averages()]
        busy = sum(spent for _, spent in kernels)
        kinds = {"matrix": ("gemm", "conv", "xmma", "cutlass"), "norm": ("norm", "Moments")}
        shares = {
            kind: sum(spent for key, spent in kernels if any(word in key for word in words)) / busy
            for kind, words in kinds.items()
        }
        row |= {"busy": busy / 1e6 / seconds, **shares, "other": 1 - sum(shares.values())}
    return row


def peak(dtype: torch.dtype, device: torch.device) -> float:
    """Return the TFLOP/s of a large product of square matrices."""
    n = 8192 if device.type == "cuda" else 1024
    a, b = torch.randn(2, n, n, dtype=dtype, device=device)
    began = clock(a @ b)
    for _ in range(10):
        out = a @ b
    return 10 * 2 * n**3 / (clock(out) - began) / 1e12
