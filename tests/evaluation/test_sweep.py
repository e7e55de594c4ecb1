"""Guidance that is compared on one abduction, and the choice among settings."""

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from dscm.causal.learned import LearnedAttributes
from dscm.checkpoint import Restored
from dscm.data.scaling import l1
from dscm.diffusion.mechanism import DiffusionMechanism
from dscm.errors import InputError
from dscm.evaluation.protocol import Judge
from dscm.evaluation.sweep import COMPOSITION, EFFECT, KEPT, Choice, Scores, Sweep, choose, combine, pick, tabulate
from dscm.evaluation.task import set_task
from dscm.graphs import get_graph
from dscm.model import Model
from dscm.oracle import Oracle
from tests.support.networks import scatter

GRAPH = get_graph("celebahq")
ALL, NONE = (0.0, 1000.0), (900.0, 1000.0)


@pytest.fixture(scope="module")
def faces() -> Sweep:
    """Five images of noise, whose smiles a random mechanism and a random oracle flip."""
    generator = torch.Generator().manual_seed(0)
    torch.manual_seed(0)  # of the weights
    n, parents = 5, [variable for variable in GRAPH.attributes if variable.name in GRAPH.image_parents]
    data: dict[str, Tensor] = {v.name: torch.randint(2, (n,), generator=generator) for v in GRAPH.attributes}
    data["image"] = torch.randint(256, (n, 3, 8, 8), generator=generator, dtype=torch.uint8)
    unet = {"channels": 4, "multipliers": [1], "patch": 2}
    mechanism = scatter(DiffusionMechanism(parents, 3, 8, unet=unet), std=0.05).float()
    learned, oracle = LearnedAttributes(GRAPH.attributes), Oracle(GRAPH.predicted, 3, channels=4).eval()
    for part in (mechanism, learned):
        part.requires_grad_(False)
    described = Path("x.pt"), GRAPH, {}, {}, 0, 0.0, ""
    model = Model(Restored(mechanism, *described), Restored(learned, *described)).using(levels=(2.0, 0.5, 0.1))
    task = set_task(GRAPH, data, "different", 0, None, learned)
    return Sweep(model, Judge(GRAPH, oracle, {"l1": l1}), task, "Smiling", {}, batch=3)


def test_settings_are_measured_as_a_query_is_answered(faces: Sweep) -> None:
    """The composition is guided by force; where the interval has no level, and at ω = 1, nothing is guided."""
    plain, none, guided = Choice(1.0, ALL), Choice(3.0, NONE), Choice(3.0, ALL)
    calls: list[int] = []
    found = faces.run([plain, none, guided], lambda: calls.append(1))
    assert len(calls) == 6 and found[plain] == found[none]
    obs = faces.task.obs
    for choice, settings in ((plain, {"guidance": 1.0}), (guided, {"guidance": "do=3", "guidance_interval": ALL})):
        scm = faces.model.using(**settings).scm
        with torch.no_grad():
            noise = scm.abduct(obs)
            null = {name: obs[name] for name in ("Smiling", "Mouth_Slightly_Open")}
            composed = scm.predict(noise, null)["image"]
            changed = scm.predict(noise, faces.task.interventions["Smiling"], obs)["image"]
        assert found[choice][COMPOSITION] == pytest.approx(l1(composed, obs["image"]).mean().item(), abs=1e-6)
        assert found[choice]["l1"] == pytest.approx(l1(changed, composed).mean().item(), abs=1e-6)
    assert abs(found[guided][COMPOSITION] - found[plain][COMPOSITION]) > 1e-4
    kept = {key.removeprefix(KEPT) for key in found[plain] if key.startswith(KEPT)}
    assert kept == {v.name for v in GRAPH.attributes} - {"Smiling", "Mouth_Slightly_Open"}


def test_one_abduction_serves_all_settings(faces: Sweep, monkeypatch: pytest.MonkeyPatch) -> None:
    """Besides that of each reversal, of an image that differs."""
    calls: list[int] = []
    abduct = DiffusionMechanism.abduct
    monkeypatch.setattr(
        DiffusionMechanism,
        "abduct",
        lambda self, value, *rest: (calls.append(len(value)), abduct(self, value, *rest))[1],
    )
    replace(faces, batch=5).run([Choice(weight, ALL) for weight in (2.0, 3.0, 4.0)])
    assert calls == 4 * [5]


def scores(effect: float, composition: float) -> Scores:
    return {"added": effect, "removed": effect, EFFECT: effect, COMPOSITION: composition, "l1": 0.1, "reversed": 0.2,
            KEPT + "Male": 0.9, KEPT + "Bald": 1.0}  # fmt: skip


A, B, C = (Choice(weight, (0.3, 20.0)) for weight in (2.0, 3.0, 4.0))


@pytest.mark.parametrize(
    ("effects", "target", "chosen"),
    [
        ((0.5, 0.89, 0.90), math.inf, B),
        ((0.5, 0.87, 0.90), math.inf, C),
        ((0.5, 0.87, 0.90), 0.86, B),
        ((0.5, 0.87, 0.90), 0.95, C),
        ((0.5, 0.87, math.nan), math.inf, B),
    ],
)
def test_the_least_composition_that_is_effective_enough(
    effects: tuple[float, ...], target: float, chosen: Choice
) -> None:
    found = {choice: scores(effect, choice.weight / 100) for choice, effect in zip((A, B, C), effects)}
    assert choose(found, target) == chosen
    lines = tabulate(found, chosen).splitlines()
    assert lines[0].startswith("| ω | σ | added % | removed % | mean % | others kept % | least kept % | composition |")
    assert [line.endswith("← |") for line in lines[2:]] == [choice == chosen for choice in found]
    assert "| 3 | 0.3 to 20 |" in lines[3] and "| 95.0 | 90.0 Male | 3.00 | 10.00 | 20.00 |" in lines[3]


def test_no_setting_may_be_usable() -> None:
    with pytest.raises(InputError, match="no setting gives images that are finite"):
        choose({A: scores(0.9, math.nan)})


def test_choices_become_settings() -> None:
    """One for all where they agree; what is set with a variable shares its choice."""
    other = Choice(4.0, (2.0, 40.0))
    assert combine({"Smiling": B, "Eyeglasses": B}, GRAPH) == {
        "guidance": "do=3,others=1", "guidance_interval": (0.3, 20.0)
    }  # fmt: skip
    assert combine({"Smiling": other, "Eyeglasses": B}, GRAPH)["guidance"] == "do=4,do.Eyeglasses=3,others=1"
    three = replace(GRAPH, evaluated=(("Smiling", "Mouth_Slightly_Open"), ("Eyeglasses",), ("Male",)))
    settings = combine({"Smiling": other, "Eyeglasses": B, "Male": B}, three)
    assert settings["guidance"] == "do=3,do.Smiling=4,do.Mouth_Slightly_Open=4,others=1"
    assert settings["guidance_interval"] == "Smiling=2:40,Mouth_Slightly_Open=2:40,others=0.3:20"


@pytest.mark.parametrize(("n", "wanted"), [(4, [0, 1, 3, 7]), (2, [0, 3]), (6, [0, 1, 2, 3, 4, 7]), (99, range(9))])
def test_half_of_the_images_have_a_binary_attribute_as_far_as_there_are_any(n: int, wanted: list[int]) -> None:
    values = torch.tensor([0, 0, 0, 1, 0, 0, 0, 1, 0])
    assert pick(GRAPH.variable("Eyeglasses"), values, n).tolist() == list(wanted)
    assert pick(get_graph("morphomnist").variable("digit"), values, n).tolist() == list(range(min(n, 9)))
