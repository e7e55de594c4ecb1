"""Several interventions on one observation, whose worlds are computed together."""

import pytest
import torch
from torch import Tensor

from dscm.causal.mechanisms import CategoricalRoot, Intervened, LinearGaussian, Mechanism, Parents
from dscm.causal.scm import SCM, Intervention
from dscm.errors import InputError


class Painter(Mechanism):
    """Paint ``x = noise + 2·brightness + 100·(where an intervention changes it)``, and count the images seen."""

    event_dims = 3

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[int] = []

    def abduct(self, value: Tensor, parents: Parents, generator: torch.Generator | None = None) -> Tensor:
        return value - 2 * parents["brightness"][:, None, None, None]

    def predict(self, noise: Tensor, parents: Parents, intervened: Intervened = {}) -> Tensor:
        self.seen.append(len(noise))
        marks = sum((changed.expand(len(noise)).double() for changed in intervened.values()), torch.zeros(len(noise)))
        return noise + (2 * parents["brightness"] + 100 * marks)[:, None, None, None]


GRAPH = {"brightness": ["age", "sex"], "image": ["brightness"]}
OBS = {
    "sex": torch.tensor([0, 1, 1]),
    "age": torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64),
    "brightness": torch.tensor([5.0, 4.0, 3.0], dtype=torch.float64),
    "image": torch.arange(12, dtype=torch.float64).reshape(3, 1, 2, 2),
}
DOS: list[Intervention] = [
    {},
    {"age": 2.0},
    {"brightness": lambda b: b * 2},
    {"sex": 1, "brightness": torch.tensor([5.0, 0.0, 3.0])},
    {"age": torch.tensor([7.0, 8.0, 9.0]), "sex": 0},
]


def build() -> SCM:
    brightness = LinearGaussian({"age": 3.0, "sex": -1.0}, 1.0, 2.0)
    mechanisms = {"sex": CategoricalRoot(2), "age": LinearGaussian({}, 0.0, 1.0), "brightness": brightness}
    return SCM({**mechanisms, "image": Painter()}, GRAPH, limits={"brightness": (-40.0, 40.0)})


@pytest.mark.parametrize("obs", [OBS, None], ids=["observed", "unobserved"])
@pytest.mark.parametrize("most", [None, 1, 3, 6, 7, 100])
def test_worlds_together_are_what_each_is_alone(most: int | None, obs: dict[str, Tensor] | None) -> None:
    scm = build()
    noise = scm.abduct(OBS)
    together = scm.predict_each(noise, DOS, obs, most)
    for do, values in zip(DOS, together, strict=True):
        alone = scm.predict(noise, do, obs)
        assert list(values) == list(alone) == list(scm.order)
        for name in alone:
            assert torch.equal(values[name], alone[name]), f"{name} under {do}"


@pytest.mark.parametrize(("most", "passes"), [(None, [15]), (1, [3] * 5), (7, [6, 6, 3]), (100, [15])])
def test_a_pass_takes_as_many_worlds_as_it_may(most: int | None, passes: list[int]) -> None:
    scm = build()
    painter = scm.mechanism("image")
    assert isinstance(painter, Painter)
    scm.predict_each(scm.abduct(OBS), DOS, OBS, most)
    assert painter.seen == passes


def test_what_an_intervention_sets_is_not_predicted() -> None:
    scm = build()
    painter = scm.mechanism("image")
    assert isinstance(painter, Painter)
    image = torch.zeros(3, 1, 2, 2)
    kept, _ = scm.predict_each(scm.abduct(OBS), [{"image": image}, {"age": 1.0}], OBS)
    assert painter.seen == [3] and torch.equal(kept["image"], image.double())


def test_no_intervention_has_no_answer_and_an_unknown_variable_is_named() -> None:
    scm = build()
    noise = scm.abduct(OBS)
    assert scm.predict_each(noise, []) == []
    with pytest.raises(InputError, match="unknown variable 'x' in do; known: "):
        scm.predict_each(noise, [{}, {"x": 1.0}])
