"""The UNet: shapes, gradients, and independence of the images of a batch."""

import pytest
import torch

from dscm.diffusion.unet import UNet
from dscm.layers import Attention
from tests.support.networks import F64, randn, scatter


@pytest.mark.parametrize(
    ("channels", "size", "options"),
    [
        (1, 7, {"multipliers": (1, 2)}),
        (1, 5, {"multipliers": (1, 2, 4)}),
        (1, 14, {"multipliers": (1, 2, 4)}),
        (3, 28, {"multipliers": (1, 2, 4)}),
        (1, 28, {"multipliers": (1, 2, 4), "patch": 2}),
        (3, 12, {"multipliers": (1,), "patch": 2, "blocks": 2}),
        (1, 12, {"multipliers": (0.5, 1, 2), "blocks": 2}),
        (3, 12, {"multipliers": (1, 2), "patch": 4, "bypass": True}),
        (1, 9, {"multipliers": (1, 1, 2), "attention": (0, 2)}),
    ],
)
def test_unet_keeps_odd_even_and_colour_shapes_and_trains_whole(channels: int, size: int, options: dict) -> None:
    """The output has the input's shape, and a gradient reaches every parameter."""
    torch.manual_seed(0)
    model = scatter(UNet(channels, 5, channels=8, **options))
    y = model(randn(2, channels, size, size), torch.tensor([3.0, 700.0], dtype=F64), model.embed(randn(2, 5)))
    assert y.shape == (2, channels, size, size)
    y.square().sum().backward()
    assert [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()] == []


def test_unet_treats_each_image_on_its_own() -> None:
    """Image, timestep and condition of one row say nothing about another row."""
    torch.manual_seed(0)
    model = scatter(UNet(1, 5, channels=8, multipliers=(1, 2), attention=(1,)))
    x, t, c = randn(3, 1, 8, 8), torch.tensor([3.0, 700.0, 40.0], dtype=F64), randn(3, 5)
    rows = [slice(i, i + 1) for i in range(3)]
    apart = torch.cat([model(x[row], t[row], model.embed(c[row])) for row in rows])
    torch.testing.assert_close(model(x, t, model.embed(c)), apart, rtol=0, atol=1e-10)


def test_unet_attends_where_it_was_asked_to() -> None:
    """Attention is in every block of the listed levels, and in the middle."""
    model = UNet(1, 5, channels=8, multipliers=(1, 2), blocks=2, attention=(1,))
    stages = [module for module in model.modules() if isinstance(module, Attention)]
    assert len(stages) == 2 + 1 + 3  # two down, the middle, three up
    assert not any(isinstance(module, Attention) for module in UNet(1, 5, channels=8).modules())


@pytest.mark.parametrize("bypass", [False, True])
def test_only_a_bypass_passes_on_noise_in_every_pixel_of_large_blocks(bypass: bool) -> None:
    """A block of 16 pixels on 4 channels: how its output depends on its pixels has rank 4, or 16 with it."""
    torch.manual_seed(0)
    model = scatter(UNet(1, 5, channels=4, multipliers=(1,), patch=4, bypass=bypass))
    x, t, c = randn(1, 1, 4, 4), torch.tensor([40.0], dtype=F64), model.embed(randn(1, 5))  # one block alone
    jacobian = torch.autograd.functional.jacobian(lambda pixels: model(pixels, t, c), x).reshape(16, 16)
    rank = torch.linalg.matrix_rank(jacobian, rtol=1e-9)
    assert rank == 16 if bypass else rank <= 4


def test_unet_starts_at_zero() -> None:
    """A new network predicts nothing, whatever it sees."""
    for bypass in (False, True):
        model = UNet(1, 5, channels=8, patch=2, bypass=bypass)
        assert not model(randn(2, 1, 28, 28).float(), torch.ones(2), model.embed(torch.ones(2, 5))).any()
