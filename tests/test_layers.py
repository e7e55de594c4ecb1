"""The blocks of every network: each is its formula, and starts as the identity."""

import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from dscm.layers import Attention, ResBlock, group_norm, mlp, sinusoidal_embedding, zero_init
from tests.support.networks import F64, randn, scatter


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
    """The output is x + conv(silu(norm(conv(silu(norm(x))))·(1 + scale) + shift))."""
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
    attention, x, order = (
        scatter(Attention(16)),
        randn(2, 16, 3, 4),
        torch.randperm(12, generator=torch.Generator().manual_seed(0)),
    )
    shuffled = attention(x.flatten(2)[..., order].reshape(x.shape))
    torch.testing.assert_close(shuffled.flatten(2), attention(x).flatten(2)[..., order], rtol=0, atol=1e-12)
