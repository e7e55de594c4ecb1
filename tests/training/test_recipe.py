"""The settings of a training: what a user chooses, and what presets make of it."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from dscm.errors import InputError
from dscm.graphs import get_graph
from dscm.machine import Machine
from dscm.training.place import Place
from dscm.training.recipe import ADDED, Recipe
from dscm.training.run import Training

CPU = torch.device("cpu")
DIGITS, FACES = get_graph("morphomnist"), get_graph("celebahq")


@pytest.mark.parametrize(
    ("preset", "mechanism"),
    [("tiny", "semantic"), ("small", "semantic"), ("paper", "semantic"), ("tiny", "vci"), ("paper", "diffscm")],
)
def test_patches_are_those_of_all_networks(preset: Any, mechanism: Any) -> None:
    """Whether the preset names their patches or not."""
    config = Recipe(mechanism=mechanism, preset=preset, patch=4).model_config(FACES)
    networks = [value for value in config.values() if isinstance(value, dict)]
    assert networks and all(network["patch"] == 4 for network in networks)
    assert "channels" not in config or config["patch"] == 4


def test_choices_come_before_presets() -> None:
    """And p_∅ is 0.1 unless the user says otherwise."""
    plain = Recipe().hyperparameters(DIGITS, CPU)
    assert (plain.p_null, plain.beta, plain.batch, plain.learning_rate) == (0.1, 0.3, 96, 2e-3)
    assert (plain.warmup, plain.cooling, plain.beta_warmup, plain.ema, plain.seed) == (200, 1500, 1000, 0.999, 0)
    chosen = Recipe(p_null=0.25, null_apart=True, beta=0.0, batch=7, learning_rate=0.5, seed=3)
    other = chosen.hyperparameters(DIGITS, CPU)
    assert (other.p_null, other.apart, other.beta, other.batch, other.learning_rate) == (0.25, True, 0.0, 7, 0.5)
    assert other.seed == 3 and (other.warmup, other.cooling, other.ema) == (200, 1500, 0.999)


def test_tuning_begins_with_the_whole_of_beta() -> None:
    tuning = Recipe(mechanism="vae", fine_tune="vae.pt").hyperparameters(DIGITS, CPU)
    assert tuning.beta_at(1) == tuning.beta > 0 and not tuning.static


def test_steps_end_a_training_unless_minutes_do() -> None:
    ends = [Recipe(steps=steps, minutes=minutes).last_step(DIGITS) for steps, minutes in ((5, None), (None, 3.0))]
    assert ends == [5, None] and Recipe().last_step(DIGITS) == 30_000


@pytest.mark.parametrize(("capability", "warned"), [("AVX2", True), ("AVX512", False)])
def test_emulated_precision_is_warned_of(
    capability: str, warned: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    """A CPU without instructions for bfloat16 needs ten times as long; the first of several processes says so."""
    monkeypatch.setattr("torch.backends.cpu.get_cpu_capability", lambda: capability)
    for recipe, chosen in (
        (Recipe(precision="bfloat16"), "bfloat16"),
        (Recipe(), "float32"),
        (Recipe(part="attributes", precision="bfloat16"), "float32"),
    ):
        assert recipe.hyperparameters(FACES, CPU).precision == chosen
        assert ("only emulates it" in capsys.readouterr().err) == (warned and chosen == "bfloat16")
        monkeypatch.setenv("RANK", "1")
        recipe.hyperparameters(FACES, CPU)
        assert not capsys.readouterr().err
        monkeypatch.delenv("RANK")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"part": "oracle", "patch": 4}, "patch 4: not known to part oracle; a setting of spatial, semantic, vae"),
        ({"mechanism": "vae", "fine_tune": "a.pt", "patch": 4}, "patch 4: is settled by the model of fine_tune"),
        ({"mechanism": "spatial", "likelihood": "gaussian"}, "likelihood gaussian: not known to spatial; a setting"),
        ({"mechanism": "vae", "prior": "conditional"}, "prior conditional: not known to vae; a setting of semantic"),
        ({"mechanism": "vae", "null_apart": True}, "null_apart: not known to vae; a setting of spatial, semantic"),
        ({"mechanism": "vci", "p_null": 0.2}, "p_null 0.2: not known to vci; a setting of spatial, semantic"),
        ({"mechanism": "spatial", "beta": 0.0}, "beta 0.0: not known to spatial; a setting of semantic, vae, hvae"),
        ({"mechanism": "vci", "fine_tune": "a.pt"}, "fine_tune a.pt: not known to vci; a setting of vae, hvae"),
        ({"fine_tune": "a.pt", "only_prior": True}, "only_prior: needs fine_tune, and prior flow"),
        ({"prior": "flow", "only_prior": True}, "only_prior: needs fine_tune, and prior flow"),
        ({"fine_tune": "a.pt", "prior": "flow", "patch": 4}, "patch 4: is settled by the model of fine_tune"),
        ({"every": True}, "every: not known to semantic; a setting of oracle"),
        ({"part": "oracle", "every": True, "fine_tune": "a.pt"}, "every: is settled by the model of fine_tune"),
        ({"mechanism": "vae", "pairs": True}, "pairs: not known to vae; a setting of spatial, semantic"),
        ({"mechanism": "spatial", "window": 48}, "window 48: needs pairs on"),
        ({"window": 48, "pairs": True}, "window 48: not known to semantic; a setting of spatial"),
        ({"mechanism": "vae", "shift": 2.0}, "shift 2.0: not known to vae; a setting of spatial, semantic, diffscm"),
        ({"shift": 0.5}, "shift 0.5: must be a number, at least 1"),
        ({"p_null": 1.0}, "p_null 1.0: must be a number, at least 0, at most 0.99"),
        ({"steps": 0}, "steps 0: must be an integer, at least 1"),
        ({"learning_rate": float("nan")}, "learning_rate nan: must be a number, more than 0"),
        (
            {"part": "attributes", "balance": "Bald"},
            "balance Bald: changes p(parents), on which what part attributes learns depends; p(image | parents) alone",
        ),
        ({"part": "oracle", "balance": "Bald"}, "learns depends; p(image | parents) alone stays the same: a setting"),
        ({"part": "attributes", "independent": True}, "independent on: has no effect on part attributes, whose"),
        ({"preset": "huge"}, "preset huge: must be one of tiny, small, paper"),
    ],
)
def test_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError) as error:
        Recipe(**settings)
    assert message in str(error.value)


def test_sizes_are_multiples_of_the_patches() -> None:
    with pytest.raises(InputError, match="size 30: must be a multiple of 4, the side of the model's patches"):
        Recipe(size=30).image_size(FACES)
    assert Recipe(size=32).image_size(FACES) == 32 and Recipe().image_size(FACES) == 64


@pytest.mark.parametrize("names", ["Bald,Hat", "Bald,Bald", "", "digit"])
def test_binary_parents_of_the_image_alone_are_balanced(names: str) -> None:
    """Others are refused by name: of an attribute that is no parent the image would depend on the weights."""
    assert Recipe(balance="Bald, Male").hyperparameters(FACES, CPU).balance == ("Bald", "Male")
    assert Recipe().hyperparameters(FACES, CPU).balance == ()
    with pytest.raises(InputError, match=f"^balance {names}: must name binary parents of the image, Smiling, Mouth"):
        Recipe(balance=names).hyperparameters(FACES, CPU)
    with pytest.raises(InputError, match="of the image, of which there are none, once each"):
        Recipe(balance="digit").hyperparameters(DIGITS, CPU)


@pytest.mark.parametrize("part", ["image", "oracle"])
def test_what_interventions_set_is_drawn_independently_where_that_is_wanted(part: Any) -> None:
    drawn = [Recipe(part=part, independent=on).hyperparameters(FACES, CPU).independent for on in (False, True)]
    assert drawn == [(), tuple(FACES.interventions.values())]


@pytest.mark.parametrize("choices", [{"independent": True}, {"obey": 0.1, "fine_tune": "x.pt"}])
def test_without_parents_of_the_image_there_is_nothing_to_intervene_on(choices: dict[str, Any]) -> None:
    alone = replace(DIGITS, variables=tuple(replace(variable, parents=()) for variable in DIGITS.variables))
    with pytest.raises(InputError, match="the image of morphomnist has no parents to intervene on"):
        Recipe(**choices).hyperparameters(alone, CPU)


def test_images_become_squares_as_is_usual_for_their_data(tmp_path: Path) -> None:
    """Unless the user says otherwise; the checkpoint records what was done."""
    for data, fit, expected in (("celeba", None, "crop"), ("celebahq", None, "stretch"), ("celeba", "pad", "pad")):
        place = Place(data=data, data_dir=tmp_path, out=tmp_path / "out")
        training = Training(Recipe(fit=fit), place, Machine(CPU))
        assert training.settings["fit"] == training.data_set.framing.fit == expected


@pytest.mark.parametrize(
    ("choices", "message"),
    [
        ({"oracle": "oracle.pt"}, "oracle oracle.pt: has no effect without fine_tune"),
        ({"attributes": "a.pt"}, "attributes a.pt: has no effect without fine_tune"),
        ({"part": "oracle", "sample_every": 5}, "sample_every 5: part oracle has no samples"),
        ({"part": "oracle", "fine_tune": "a.pt", "oracle": "b.pt"}, "oracle b.pt: has no effect without fine_tune of"),
    ],
)
def test_settings_without_effect_are_refused(choices: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Recipe(**choices)


def test_what_came_later_is_recorded_where_it_is_on() -> None:
    """So that the trainings of older versions, which do not know it, resume."""
    assert all(Recipe().record(DIGITS, 1).get(name) is None for name in (*ADDED, "balance"))
    kept = Recipe(prior="flow", gamma=0.3, null_apart=True).record(DIGITS, 1)
    assert kept["gamma"] == 0.3 and kept["null_apart"] is True and kept["kappa"] is None


def test_noise_levels_are_those_of_the_size_and_older_trainings_keep_theirs() -> None:
    """Of 192 pixels three times as high, except as published; what is not shifted is recorded as older versions did."""
    breasts = get_graph("embed")
    cases = (
        (Recipe(), DIGITS, 1.0),
        (Recipe(), FACES, 1.0),
        (Recipe(size=128), FACES, 2.0),
        (Recipe(), breasts, 3.0),
        (Recipe(preset="small", mechanism="spatial"), breasts, 3.0),
        (Recipe(shift=1.0), breasts, 1.0),
        (Recipe(preset="paper"), breasts, 1.0),
        (Recipe(mechanism="vae"), breasts, 1.0),
        (Recipe(part="oracle"), breasts, 1.0),
    )
    for recipe, graph, expected in cases:
        assert recipe.hyperparameters(graph, CPU).shift == expected
        kept = recipe.record(graph, 1)
        assert kept["shift"] == (None if expected == 1 else expected) and kept["pairs"] is None
        assert recipe.follow(graph, kept).record(graph, 1) == kept
        older = recipe.follow(graph, {})  # from before noise levels were shifted
        assert older.hyperparameters(graph, CPU).shift == 1.0 and older.record(graph, 1)["shift"] is None


@pytest.mark.parametrize("window", [45, 200])
def test_the_networks_must_see_windows(window: int) -> None:
    """Of whole patches, within the image."""
    recipe = Recipe(mechanism="spatial", pairs=True, window=window, preset="small")
    with pytest.raises(InputError, match=f"window {window}: must be a multiple of 2, and at most 192"):
        recipe.hyperparameters(get_graph("embed"), torch.device("cpu"))
