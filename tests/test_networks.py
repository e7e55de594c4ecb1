"""Networks: shapes, conditions that matter, and scaling that loses nothing."""

import pytest
import torch

from dscm.data.scaling import ParentScaling, to_levels, to_signed
from dscm.encoder import LOG_STD_RANGE, Encoder
from dscm.graphs import get_graph
from dscm.oracles import DigitOracle
from dscm.unet import UNet


def scatter(model: torch.nn.Module, std: float = 0.1) -> torch.nn.Module:
    """Make every weight random, also those that start at zero."""
    torch.manual_seed(0)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=std)
    return model.eval()


@pytest.mark.parametrize(
    ("channels", "size", "options"),
    [
        (1, 28, {"multipliers": (1, 2), "patch": 2}),
        (3, 28, {"multipliers": (1, 2, 4), "patch": 1}),
        (1, 28, {"multipliers": (1, 2, 2), "patch": 2}),  # 14 → 7 → 4: odd sizes are met on the way up
        (1, 16, {"multipliers": (1, 2), "attention": (1,), "blocks": 2}),
    ],
)
def test_unet_keeps_the_shape_and_uses_time_and_condition(channels: int, size: int, options: dict) -> None:
    model = scatter(UNet(channels, 5, channels=8, **options))
    x, t, c = torch.randn(2, channels, size, size), torch.tensor([3.0, 700.0]), torch.randn(2, 5)
    y = model(x, t, c)
    assert y.shape == x.shape
    assert not torch.allclose(y, model(x, t + 50, c)) and not torch.allclose(y, model(x, t, c + 1))
    y.square().sum().backward()
    assert all(p.grad is not None and p.grad.any() for p in model.parameters())


def test_unet_starts_at_zero() -> None:
    assert not UNet(1, 5, channels=8, patch=2)(torch.randn(2, 1, 28, 28), torch.ones(2), torch.ones(2, 5)).any()


def test_encoder_returns_a_normal_whose_spread_is_bounded() -> None:
    q = scatter(Encoder(1, 4, channels=8, multipliers=(1, 2), patch=2), std=3.0)(torch.randn(5, 1, 28, 28) * 10)
    low, high = (torch.tensor(value).exp() for value in LOG_STD_RANGE)
    assert q.mean.shape == (5, 4) and (q.stddev >= low * 0.999).all() and (q.stddev <= high * 1.001).all()


def test_parents_are_standardised_one_hot_or_on_the_circle() -> None:
    scaling = ParentScaling(get_graph("colour-morphomnist").attributes)
    data = {
        "thickness": torch.tensor([1.0, 2.0, 3.0]),
        "digit": torch.tensor([0, 3, 9]),
        "slant": torch.tensor([-0.1, 0.0, 0.1]),
        "hue": torch.tensor([0.0, 0.25, 1.25]),
    }
    scaling.fit(data)
    encoded = scaling(data)
    assert encoded.shape == (3, scaling.dim) == (3, 1 + 10 + 1 + 2)
    torch.testing.assert_close(encoded[:, 0], torch.tensor([-1.0, 0.0, 1.0]))
    assert encoded[:, 1:11].argmax(dim=1).tolist() == [0, 3, 9]
    torch.testing.assert_close(encoded[1, -2:], encoded[2, -2:], rtol=0, atol=1e-6)  # a whole turn


def test_grey_levels_survive_scaling() -> None:
    levels = torch.arange(256, dtype=torch.uint8)
    assert torch.equal(to_levels(to_signed(levels)), levels)


def test_oracle_ignores_colour_and_brightness() -> None:
    oracle = scatter(DigitOracle(channels=8))
    x = torch.rand(4, 1, 28, 28)
    colour = torch.cat([x, x * 0.3, x * 0.1], dim=1)
    torch.testing.assert_close(oracle.logits(x * 2 - 1), oracle.logits(colour * 2 - 1))
    torch.testing.assert_close(oracle.logits(x * 2 - 1), oracle.logits(x * 0.5 * 2 - 1), rtol=1e-4, atol=1e-4)
