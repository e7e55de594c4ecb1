"""The pieces of one training step: which images, which learning rate, which gradient."""

import torch
from torch import Tensor, distributed, nn

from dscm.data.scaling import to_signed
from dscm.presets import Preset


def schedule_rate(step: int, preset: Preset) -> float:
    """Return the learning rate at a step relative to its peak: a linear rise, then 1/√step once it cools."""
    rise = min(1.0, step / max(preset.warmup, 1))
    return rise * min(1.0, (preset.cooling / step) ** 0.5) if preset.cooling else rise


def backward(
    replica: nn.Module,
    data: dict[str, Tensor],
    index: Tensor,
    seed: int,
    arguments: dict[str, float],
    flip: bool,
    bfloat16: bool,
) -> dict[str, Tensor]:
    """Compute the objective on one batch and its gradients; weights and gradients stay float32."""
    device = data["image"].device
    torch.manual_seed(seed)  # dropout knows no other source
    generator = torch.Generator(device).manual_seed(seed)
    index = index.to(device)
    value = to_signed(data["image"][index])
    if flip:
        mirrored = torch.rand(len(value), generator=generator, device=device) < 0.5
        value = torch.where(mirrored[:, None, None, None], value.flip(-1), value)
    parents = {name: tensor[index] for name, tensor in data.items() if name not in ("image", "base")}
    if arguments:
        arguments = arguments | {"generator": generator}
    with torch.autocast(device.type, dtype=torch.bfloat16, enabled=bfloat16):
        terms = replica(value, parents, **arguments)
    # Losses summed over pixels are brought to the size that the gradient's clipping assumes.
    (terms["loss"] / (value[0].numel() if arguments else 1)).backward()
    return {name: term.detach() for name, term in terms.items()}


def draw_batch(n: int, batch: int, step: int, seed: int) -> Tensor:
    """Return the indices of a step: consecutive slices of one permutation per epoch, so nothing is remembered."""
    batch = min(batch, n)
    epoch, position = divmod(step - 1, n // batch)
    order = torch.randperm(n, generator=torch.Generator().manual_seed(step_seed(seed, epoch, 0)))
    return order[position * batch : (position + 1) * batch]


def step_seed(seed: int, step: int, rank: int) -> int:
    """Mix seed, step and rank into one, so that a resumed run draws what an uninterrupted one would."""
    return (seed * 0x9E3779B97F4A7C15 + step * 0xBF58476D1CE4E5B9 + rank * 0x94D049BB133111EB) % 2**63


def agree(seconds: float, device: torch.device) -> float:
    """Take rank 0's clock on every rank, so that all stop at the same step."""
    clock = torch.tensor([seconds], dtype=torch.float32, device=device)
    distributed.broadcast(clock, 0)
    return clock.item()
