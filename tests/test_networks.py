"""Networks: blocks with known answers, independence of the images of a batch, and scaling that loses nothing."""

import math

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dscm.causal.encoding import ParentScaling
from dscm.data.scaling import to_levels, to_signed, to_unit
from dscm.diffusion.encoder import ConditionalPrior, Encoder, StandardPrior
from dscm.causal.graph_file import get_graph
from dscm.layers import Attention, ResBlock, group_norm, mlp, sinusoidal_embedding, zero_init
from dscm.oracle import Oracle
from dscm.diffusion.unet import UNet

F64 = torch.float64


def scatter(model: nn.Module, std: float = 0.1) -> nn.Module:
    """Move every weight at random, also those that start at zero, in float64 and evaluation mode."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(std * torch.randn(parameter.shape, generator=generator))
    return model.double().eval()


def randn(*shape: int, seed: int = 0) -> Tensor:
    """Draw float64 noise."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=F64)


# Blocks


def test_sinusoidal_embedding_has_known_values() -> None:
    """Cosines, then sines, of frequencies 1, 1/10, 1/100 and 1/1000 for a dimension of 8."""
    t = torch.tensor([0.0, 3.0, 999.5], dtype=F64)
    angles = [[time / 10**i for i in range(4)] for time in t.tolist()]
    expected = torch.tensor([[*map(math.cos, row), *map(math.sin, row)] for row in angles], dtype=F64)
    torch.testing.assert_close(sinusoidal_embedding(t, 8), expected, rtol=0, atol=1e-12)


def test_sinusoidal_embedding_of_whole_timesteps_is_float32() -> None:
    """Integers are embedded like the reals that they are."""
    t = torch.tensor([0, 7, 1000])
    assert torch.equal(sinusoidal_embedding(t, 16), sinusoidal_embedding(t.float(), 16))


@pytest.mark.parametrize(
    ("channels", "groups"), [(1, 1), (3, 1), (4, 1), (8, 2), (18, 2), (24, 2), (64, 16), (128, 32), (512, 32)]
)
def test_group_norm_has_groups_of_four_channels_or_more(channels: int, groups: int) -> None:
    """At most 32 groups, and never a group of fewer than four channels."""
    assert group_norm(channels).num_groups == groups


def test_zero_init_silences_a_layer() -> None:
    """Weights and bias are zero, and the same layer comes back."""
    layer = nn.Linear(3, 2)
    assert zero_init(layer) is layer and not layer(torch.ones(1, 3)).any()


def test_mlp_is_two_layers_around_silu() -> None:
    """Linear → SiLU → Linear."""
    net, x = mlp(3, 5, 2).double(), randn(4, 3)
    assert torch.equal(net(x), net[2](F.silu(net[0](x)))) and net(x).shape == (4, 2)


def test_residual_block_starts_as_the_identity() -> None:
    """The second convolution is zero at first, whatever the embedding."""
    x = randn(2, 8, 5, 5).float()
    assert torch.equal(ResBlock(8, 8, embedding=6)(x, torch.ones(2, 6)), x)


def test_residual_block_is_its_formula() -> None:
    """x + conv(silu(norm(conv(silu(norm(x))))·(1 + scale) + shift))."""
    block, x, embedding = scatter(ResBlock(8, 8, embedding=6)), randn(2, 8, 5, 5), randn(2, 6, seed=1)
    scale, shift = block.modulation(F.silu(embedding)).reshape(2, 2, 8, 1, 1).unbind(dim=1)
    h = block.norm2(block.conv1(F.silu(block.norm1(x)))) * (1 + scale) + shift
    torch.testing.assert_close(block(x, embedding), x + block.conv2(F.silu(h)), rtol=0, atol=1e-12)


def test_residual_block_changes_channels_and_drops_out_only_in_training() -> None:
    """A 1×1 convolution carries the input over; dropout is random in training and off in evaluation."""
    block, x = scatter(ResBlock(4, 12, dropout=0.5)), randn(2, 4, 5, 5)
    assert block(x).shape == (2, 12, 5, 5) and torch.equal(block(x), block(x))
    block.train()
    assert not torch.equal(block(x), block(x))


def test_attention_starts_as_the_identity() -> None:
    """The projection out is zero at first."""
    x = randn(2, 8, 3, 3).float()
    assert torch.equal(Attention(8)(x), x)


def test_attention_is_its_formula() -> None:
    """Each head mixes its channels with softmax(q·k/√d) of its own."""
    attention, x = scatter(Attention(64), std=0.3), randn(2, 64, 3, 2)
    q, k, v = attention.qkv(attention.norm(x)).reshape(2, 3, 2, 32, 6).unbind(dim=1)  # (B, heads, C/heads, H·W)
    weights = torch.einsum("bhcq,bhck->bhqk", q, k).div(math.sqrt(32)).softmax(dim=-1)
    mixed = torch.einsum("bhqk,bhck->bhcq", weights, v).reshape(2, 64, 3, 2)
    torch.testing.assert_close(attention(x), x + attention.out(mixed), rtol=0, atol=1e-10)


def test_attention_does_not_know_positions() -> None:
    """Permuting the pixels permutes the result."""
    attention, x, order = scatter(Attention(16)), randn(2, 16, 3, 4), torch.randperm(12)
    shuffled = attention(x.flatten(2)[..., order].reshape(x.shape))
    torch.testing.assert_close(shuffled.flatten(2), attention(x).flatten(2)[..., order], rtol=0, atol=1e-12)


# UNet


@pytest.mark.parametrize(
    ("channels", "size", "options"),
    [
        (1, 7, {"multipliers": (1, 2)}),
        (1, 5, {"multipliers": (1, 2, 4)}),
        (1, 14, {"multipliers": (1, 2, 4)}),
        (3, 28, {"multipliers": (1, 2, 4)}),
        (1, 28, {"multipliers": (1, 2, 4), "patch": 2}),
        (3, 12, {"multipliers": (1,), "patch": 2, "blocks": 2}),
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


# Encoder and priors


@pytest.mark.parametrize(("channels", "size", "patch"), [(1, 28, 2), (3, 28, 1), (1, 8, 1)])
def test_encoder_returns_one_normal_per_image(channels: int, size: int, patch: int) -> None:
    """Batch shape (B, code_dim), and a gradient reaches every parameter."""
    torch.manual_seed(0)
    encoder = scatter(Encoder(channels, 4, channels=8, multipliers=(1, 2), patch=patch))
    q = encoder(randn(5, channels, size, size))
    assert q.mean.shape == q.stddev.shape == (5, 4)
    (q.mean.square().sum() + q.stddev.square().sum()).backward()
    assert [name for name, p in encoder.named_parameters() if p.grad is None or not p.grad.any()] == []


@pytest.mark.parametrize(("log_std", "clamped"), [(-50.0, -7.0), (-2.0, -2.0), (50.0, 2.0)])
def test_spread_of_code_and_prior_is_clamped(log_std: float, clamped: float) -> None:
    """log σ stays within [-7, 2], and is what the network says in between."""
    encoder, prior = Encoder(1, 3, channels=4, multipliers=(1,)), ConditionalPrior(2, 3)
    for head in (encoder.head, prior.net[-1]):
        zero_init(head)
        nn.init.constant_(head.bias[3:], log_std)
    for normal in (encoder(torch.ones(2, 1, 8, 8)), prior(torch.ones(2, 2), torch.ones(2, 3))):
        torch.testing.assert_close(normal.stddev, torch.full((2, 3), math.exp(clamped)))


def test_conditional_prior_starts_standard_and_then_depends_on_parents() -> None:
    """The last layer is zero at first; afterwards both mean and spread follow the parents."""
    prior, parents, like = ConditionalPrior(2, 3), randn(4, 2).float(), torch.zeros(4, 3)
    start, standard = prior(parents, like), StandardPrior()(parents, like)
    for normal in (start, standard):
        assert torch.equal(normal.mean, torch.zeros(4, 3)) and torch.equal(normal.stddev, torch.ones(4, 3))
    moved = scatter(prior)(parents.double(), like.double())
    assert moved.mean.shape == (4, 3) and moved.mean.std(0).min() > 0 and moved.stddev.std(0).min() > 0


# Scaling


def test_to_signed_and_to_unit_have_known_values() -> None:
    """0 and 255 are the ends of both ranges; values beyond are clamped, but only on the way out."""
    assert to_signed(torch.tensor([0, 255], dtype=torch.uint8)).tolist() == [-1, 1]
    assert to_unit(torch.tensor([-3.0, -1.0, 0.0, 1.0, 3.0])).tolist() == [0, 0, 0.5, 1, 1]
    assert to_levels(torch.tensor([-3.0, -1.0, 1.0, 3.0])).tolist() == [0, 0, 255, 255]
    assert to_levels(torch.tensor([0.999])).item() == 255  # rounded, not cut off


def test_parents_are_standardised_by_the_data_they_were_fitted_to() -> None:
    """Zero mean and unit deviation for continuous parents, classes and circles left as they are."""
    scaling, generator = ParentScaling(get_graph("colour-morphomnist").attributes), torch.Generator().manual_seed(0)
    data = get_graph("colour-morphomnist").scm().sample(500, generator)
    scaling.fit(data)
    encoded = scaling(data)  # thickness, ten digits, slant, two of hue
    for column in (0, 11):
        assert encoded[:, column].mean().item() == pytest.approx(0, abs=1e-5)
        assert encoded[:, column].std().item() == pytest.approx(1, abs=1e-5)
    assert torch.equal(encoded[:, 1:11], F.one_hot(data["digit"], 10).float())
    assert scaling.mean[[1, 3]].tolist() == [0, 0] and scaling.std[[1, 3]].tolist() == [1, 1]


def test_hue_is_a_point_on_the_circle() -> None:
    """A quarter turn is (0, 1), half a turn (−1, 0); the ends of the scale are the same colour."""
    scaling = ParentScaling([v for v in get_graph("colour-morphomnist").attributes if v.name == "hue"])
    encoded = scaling({"hue": torch.tensor([0.0, 0.25, 0.5, 1.0])})
    expected = torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0], [1.0, 0.0]])
    torch.testing.assert_close(encoded, expected, rtol=0, atol=1e-6)


def test_scaling_travels_with_the_weights() -> None:
    """Means and deviations are part of the state."""
    attributes = get_graph("morphomnist").attributes
    fitted, fresh = ParentScaling(attributes), ParentScaling(attributes)
    data = get_graph("morphomnist").scm().sample(50, torch.Generator().manual_seed(0))
    fitted.fit(data)
    assert not torch.equal(fitted(data), fresh(data))
    fresh.load_state_dict(fitted.state_dict())
    assert torch.equal(fitted(data), fresh(data))


# Oracle

DIGIT = next(variable for variable in get_graph("morphomnist").attributes if variable.name == "digit")


def test_oracle_sees_the_brightest_channel_relative_to_its_maximum() -> None:
    """Tint and brightness drop out to rounding; a black image is no division by zero."""
    torch.manual_seed(0)
    oracle = scatter(Oracle([DIGIT], 3, channels=8, strokes=True))
    drawing = torch.rand(4, 1, 28, 28, generator=torch.Generator().manual_seed(0), dtype=F64)
    expected = oracle.logits(2 * drawing - 1)["digit"]
    tints = torch.tensor([[1.0, 0.4, 0.0], [0.4, 0.0, 1.0], [0.0, 1.0, 0.4], [1.0, 1.0, 0.0]], dtype=F64)
    tints = tints[:, :, None, None]
    motley = torch.stack([drawing[:, 0], drawing[:, 0] * drawing[:, 0].flip(-1), drawing[:, 0] ** 2], dim=1)
    for other in (0.1 * drawing, 0.7 * drawing, tints * drawing, 0.5 * tints * drawing, motley):
        torch.testing.assert_close(oracle.logits(2 * other - 1)["digit"], expected, rtol=0, atol=1e-9)
    assert expected.std(0).min() > 0, "different drawings have different scores"
    assert oracle.logits(-torch.ones(1, 1, 28, 28, dtype=F64))["digit"].isfinite().all()


def test_oracle_reports_cross_entropy_and_accuracy() -> None:
    """Both by their definitions."""
    torch.manual_seed(0)
    oracle, x = scatter(Oracle([DIGIT], 3, channels=8, strokes=True)), randn(4, 1, 28, 28).clamp(-1, 1)
    guess = oracle.predict(x)["digit"]
    digit = torch.where(torch.arange(4) < 3, guess, (guess + 1) % 10)
    terms = oracle(x, {"digit": digit})
    assert terms["accuracy"].item() == 0.75
    log_probability = oracle.logits(x)["digit"].log_softmax(1)[torch.arange(4), digit]
    torch.testing.assert_close(terms["loss"], -log_probability.mean())


def test_unet_starts_at_zero() -> None:
    """A new network predicts nothing, whatever it sees."""
    for bypass in (False, True):
        model = UNet(1, 5, channels=8, patch=2, bypass=bypass)
        assert not model(torch.randn(2, 1, 28, 28), torch.ones(2), model.embed(torch.ones(2, 5))).any()
