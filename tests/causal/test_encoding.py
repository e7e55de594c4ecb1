"""Parents as the numbers that a network is given."""

import pytest
import torch
from torch.nn import functional as F

from dscm.causal.encoding import ParentScaling
from dscm.causal.learned import FlowMechanism
from dscm.causal.variables import Variable
from dscm.errors import InputError
from dscm.graphs import get_graph


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


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([3.0, 3.0, 3.0], r"a: the same in all training images, 3 \(3 images\); nothing can be learned of it"),
        ([3.0], "a: the same in all training images, 3"),
        ([3e38, -3e38], "a: standard deviation of .* in the training images; choose another unit"),
        ([1.0, float("nan")], "a: standard deviation of nan"),
    ],
)
def test_a_variable_that_tells_nothing_is_refused(values: list[float], message: str) -> None:
    """Divided by a deviation of zero, an intervention would be a number that no training has seen."""
    variable = Variable("a", "continuous", (), float("-inf"), float("inf"))
    for model in (ParentScaling([variable]), FlowMechanism(variable, [])):
        fit = model.fit if isinstance(model, ParentScaling) else model.fit_scaling
        with pytest.raises(InputError, match=message):
            fit({"a": torch.tensor(values)})


def test_small_units_are_standardised_too() -> None:
    """A diffusivity in m²/s differs by 1e-9, and counts as much as any other number."""
    variable = Variable("a", "continuous", (), float("-inf"), float("inf"))
    scaling, values = ParentScaling([variable]), 1e-9 * torch.linspace(1, 2, 50)
    scaling.fit({"a": values})
    assert scaling({"a": values}).std().item() == pytest.approx(1, abs=1e-4)
