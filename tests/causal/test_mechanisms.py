"""Each mechanism against its formula, and the round trips between value and noise."""

import math

import pytest
import torch

from dscm.causal.mechanisms import (
    AdditiveNoise,
    CategoricalRoot,
    GammaRoot,
    LinearGaussian,
    Mechanism,
    ScaledSigmoid,
    UniformRoot,
)

SLANT = LinearGaussian({"digit": math.radians(6)}, bias=math.radians(-27), scale=math.radians(3))
INTENSITY = ScaledSigmoid(64.0, 255.0, {"thickness": 2.0}, bias=-5.0, scale=0.5)
DIGIT = CategoricalRoot(10)
THICKNESS = GammaRoot(shift=0.5, shape=10, rate=5.0)
ANGLE = UniformRoot(-36.0, 38.7)
PRODUCT = AdditiveNoise(lambda a, b: a * b.square(), ["digit", "thickness"], scale=0.3)
PARENTS = {"digit": torch.tensor([0, 3, 9]), "thickness": torch.tensor([1.1, 2.5, 3.9]).double()}

MECHANISMS = {
    "slant": SLANT,
    "intensity": INTENSITY,
    "digit": DIGIT,
    "thickness": THICKNESS,
    "angle": ANGLE,
    "product": PRODUCT,
}
each_mechanism = pytest.mark.parametrize("mechanism", MECHANISMS.values(), ids=MECHANISMS)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def as_tuple(noise: torch.Tensor | tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
    return (noise,) if isinstance(noise, torch.Tensor) else tuple(noise)


def test_linear_gaussian_by_hand() -> None:
    eps = torch.tensor([1.0, -2.0, 0.0]).double()
    slant = SLANT.predict(eps, PARENTS)
    torch.testing.assert_close(torch.rad2deg(slant), torch.tensor([-24.0, -15.0, 27.0]).double())
    torch.testing.assert_close(SLANT.abduct(slant, PARENTS), eps)


def test_linear_gaussian_with_several_parents_and_with_none() -> None:
    eps = torch.tensor([1.0]).double()
    parents = {"a": torch.tensor([3]), "b": torch.tensor([0.5])}
    assert LinearGaussian({"a": 2.0, "b": -4.0}, bias=1.0, scale=10.0).predict(eps, parents).item() == 1 + 6 - 2 + 10
    assert LinearGaussian({}, bias=1.0, scale=10.0).predict(eps, {}).item() == 11


def test_scaled_sigmoid_by_hand() -> None:
    parents = {"thickness": torch.tensor([2.5, 2.5, 3.0]).double()}
    noise = INTENSITY.abduct(torch.tensor([159.5, 64 + 191 / (1 + math.e), 159.5]).double(), parents)
    torch.testing.assert_close(noise.eps, torch.tensor([0.0, -2.0, -2.0]).double())
    assert (noise.offset == 0).all()
    torch.testing.assert_close(
        INTENSITY.predict(noise, {"thickness": torch.full((3,), 3.0).double()}),
        torch.tensor([64 + 191 / (1 + 1 / math.e), 159.5, 159.5]).double(),
    )


def test_additive_noise_by_hand() -> None:
    """The function's arguments are the parents in the order of their names; noise is in the unit of the value."""
    noise = torch.tensor([0.5, -1.0, 0.0]).double()
    value = PRODUCT.predict(noise, PARENTS)
    torch.testing.assert_close(value, torch.tensor([0.5, 3 * 2.5**2 - 1, 9 * 3.9**2]).double())
    torch.testing.assert_close(PRODUCT.abduct(value, PARENTS), noise)
    assert PRODUCT.sample_noise(50_000, seeded()).std().item() == pytest.approx(0.3, abs=0.005)


def test_a_deterministic_equation_has_no_noise_and_keeps_the_distance_of_what_breaks_it() -> None:
    exact = AdditiveNoise(torch.sqrt, ["thickness"])
    parents = {"thickness": torch.tensor([4.0, 9.0]).double()}
    assert (exact.sample_noise(3, seeded()) == 0).all()
    noise = exact.abduct(torch.tensor([2.0, 5.0]).double(), parents)
    assert noise.tolist() == [0.0, 2.0]
    assert exact.predict(noise, {"thickness": torch.tensor([16.0, 16.0]).double()}).tolist() == [4.0, 6.0]


def test_an_interval_is_filled_evenly() -> None:
    angle = ANGLE.sample_noise(50_000, seeded())
    assert -36 <= angle.min() < -35.9 and 38.6 < angle.max() <= 38.7
    assert angle.mean().item() == pytest.approx((38.7 - 36) / 2, abs=0.3)
    density = ANGLE.log_prob(torch.tensor([-36.1, 0.0, 38.8]).double()).exp()
    torch.testing.assert_close(density, torch.tensor([0, 1 / 74.7, 0]).double())


@pytest.mark.parametrize("dtype, tolerance", [(torch.float64, 1e-11), (torch.float32, 1e-4)])
@pytest.mark.parametrize("thickness", [0.5, 2.5, 10.0])
def test_scaled_sigmoid_keeps_every_observed_value(dtype: torch.dtype, tolerance: float, thickness: float) -> None:
    value = torch.tensor([0.0, 40.0, 64.0, 64.2, 64.5, 100.0, 254.0, 254.9, 255.0, 260.0], dtype=dtype)
    parents = {"thickness": torch.full_like(value, thickness)}
    noise = INTENSITY.abduct(value, parents)
    assert noise.eps.isfinite().all() and noise.eps.dtype == dtype
    torch.testing.assert_close(INTENSITY.predict(noise, parents), value, atol=tolerance, rtol=0)


def test_scaled_sigmoid_reads_a_saturated_value_half_a_level_inside() -> None:
    value = torch.tensor([40.0, 64.0, 64.5, 64.2, 254.9, 254.5, 255.0])
    noise = INTENSITY.abduct(value, {"thickness": torch.full_like(value, 2.5)})
    assert noise.offset.tolist() == [-24.5, -0.5, 0.0, 0.0, 0.0, 0.0, 0.5]
    assert noise.eps[0] == noise.eps[1] == noise.eps[2] > noise.eps[3]
    assert noise.eps[6] == noise.eps[5] < noise.eps[4]


@each_mechanism
def test_abduction_returns_the_sampled_noise(mechanism: Mechanism) -> None:
    parents = {"digit": DIGIT.sample_noise(500, seeded(1)), "thickness": torch.linspace(1, 4, 500)}
    noise = mechanism.sample_noise(500, seeded())
    noise_again = mechanism.abduct(mechanism.predict(noise, parents), parents)
    for drawn, found in zip(as_tuple(noise), as_tuple(noise_again), strict=True):
        torch.testing.assert_close(found, drawn, atol=2e-4, rtol=0)


@each_mechanism
def test_sampling_depends_on_the_generator_alone(mechanism: Mechanism) -> None:
    torch.manual_seed(0)
    first = as_tuple(mechanism.sample_noise(50, seeded(3)))[0]
    torch.manual_seed(1)
    assert torch.equal(first, as_tuple(mechanism.sample_noise(50, seeded(3)))[0])
    assert not torch.equal(first, as_tuple(mechanism.sample_noise(50, seeded(4)))[0])


@each_mechanism
def test_inputs_are_not_mutated(mechanism: Mechanism) -> None:
    value = torch.tensor([40.0, 2.0, 255.0]).double()
    parents = {name: parent.clone() for name, parent in PARENTS.items()}
    noise = mechanism.abduct(value, parents)
    before = [part.clone() for part in as_tuple(noise)]
    mechanism.predict(noise, parents)
    assert value.tolist() == [40.0, 2.0, 255.0]
    assert all(torch.equal(parents[name], PARENTS[name]) for name in PARENTS)
    assert all(torch.equal(old, new) for old, new in zip(before, as_tuple(noise), strict=True))


def test_integer_parents_keep_double_precision() -> None:
    hue = LinearGaussian({"digit": 0.1}, bias=0.0, scale=1.0)
    value = hue.predict(torch.zeros(1).double(), {"digit": torch.tensor([7])})
    assert value.item() == 0.1 * 7


def test_digits_are_uniform_whole_numbers() -> None:
    digits = DIGIT.sample_noise(50_000, seeded())
    assert digits.dtype == torch.int64
    frequency = torch.bincount(digits, minlength=10) / len(digits)
    torch.testing.assert_close(frequency, torch.full((10,), 0.1), atol=0.006, rtol=0)


def test_gamma_moments() -> None:
    thickness = THICKNESS.sample_noise(50_000, seeded())
    assert thickness.min() > 0.5
    assert thickness.mean().item() == pytest.approx(0.5 + 10 / 5, abs=0.015)
    assert thickness.var().item() == pytest.approx(10 / 5**2, abs=0.015)


def test_gamma_log_prob_is_that_of_torch() -> None:
    value = torch.linspace(0.6, 8, 50).double()
    expected = torch.distributions.Gamma(torch.tensor(10.0).double(), torch.tensor(5.0).double()).log_prob(value - 0.5)
    torch.testing.assert_close(THICKNESS.log_prob(value), expected)
    assert THICKNESS.log_prob(torch.tensor([0.4])).item() == -math.inf


def test_categorical_log_prob() -> None:
    log_prob = DIGIT.log_prob(torch.tensor([0, 9, 10, -1]))
    torch.testing.assert_close(log_prob, torch.tensor([math.log(0.1), math.log(0.1), -math.inf, -math.inf]))
