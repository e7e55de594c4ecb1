"""What the README says of the bundled checkpoints, on a few of the bundled digits."""

from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from dscm import assets, checkpoint
from dscm.causal.scm import SCM
from dscm.data.scaling import l1
from dscm.diffusion.mechanism import DiffusionMechanism
from dscm.evaluation.metrics import keep, reversals, to_8_bits
from dscm.graphs import get_graph
from dscm.oracle import Oracle, observe

N, CPU, GRAPH = 8, torch.device("cpu"), get_graph("morphomnist")
EXPLICIT = {"grid": "uniform", "sigma_min": 0.0, "solver": "ddim", "fixed_point": 0}  # as published


def restore(name: str) -> DiffusionMechanism:
    """Restore a bundled mechanism of the image."""
    return checkpoint.restore_image(assets.find(name, GRAPH), CPU).model


@pytest.fixture(scope="module")
def obs() -> dict[str, Tensor]:
    """The first bundled digits with their attributes."""
    return assets.read_observation(N)


@pytest.fixture(scope="module")
def oracle() -> Oracle:
    """The bundled digit classifier."""
    return checkpoint.restore_oracle(assets.find("oracle"), CPU).model


@pytest.fixture(scope="module", params=["spatial", "semantic"])
def scm(request: pytest.FixtureRequest) -> SCM:
    """A bundled model, at ω = 1.5 with 12 steps."""
    return GRAPH.scm(restore(request.param).using(guidance=1.5, steps=10))


@torch.no_grad()
def test_counterfactuals_obey_the_intervention_and_the_graph(scm: SCM, oracle: Oracle, obs: dict) -> None:
    noise = scm.abduct(obs)
    assert l1(scm.predict(noise)["image"], obs["image"]).mean() < 0.02
    thick = scm.predict(noise, {"thickness": 4.0})
    got = observe(thick["image"], GRAPH, oracle)
    assert (got["thickness"] - 4).abs().mean() < 0.3
    assert (got["intensity"] - thick["intensity"]).abs().mean() < 10  # the descendant follows
    assert (got["digit"] == obs["digit"]).float().mean() > 0.85  # what is no descendant stays
    threes = scm.predict(noise, {"digit": 3})
    got = observe(threes["image"], GRAPH, oracle)
    assert (got["digit"] == 3).float().mean() > 0.8
    assert (got["slant"] - threes["slant"]).abs().mean() < 0.08


@torch.no_grad()
def test_a_round_of_corrections_takes_a_third_of_what_is_missed(obs: dict) -> None:
    """Thickness, intensity and slant, each in standard deviations, of digits of other thicknesses and of threes."""
    plain = restore("semantic")
    for do in ({"thickness": obs["thickness"].roll(1)}, {"digit": 3}):
        missed = []
        for model in (plain, plain.using(corrections=1)):
            answer = GRAPH.scm(model).counterfactual(obs, do)
            read = observe(answer["image"], GRAPH, None, GRAPH.measured)
            each = [(read[k] - answer[k]).abs() / plain.scaling.spread(k) for k in GRAPH.measured]
            missed.append(torch.stack(each).mean().item())
        assert missed[1] < 0.67 * missed[0]


@torch.no_grad()
def test_composition_without_guidance_is_close_to_exact(scm: SCM, obs: dict) -> None:
    plain = GRAPH.scm(scm.mechanism("image").using(guidance=1.0, solver="ddim", fixed_point=3))
    assert l1(plain.counterfactual(obs, {})["image"], obs["image"]).max() < 0.01


@pytest.mark.parametrize("name", ["spatial", "semantic"])
@torch.no_grad()
def test_reversal_is_exact_but_for_the_code(name: str, obs: dict, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not the paper's: two rounds of do(digit) and back at ω = 1.5, once that is inverted too.

    By 20 even steps: of 16, one is too long for the guided field of a digit here to be inverted. The code, if there is
    one, is held: that read off a counterfactual is another, and with it so is the image.
    """
    obs = {variable: value[:3] for variable, value in obs.items()}
    mechanism = restore(name).using(guidance=1.5, steps=20, abduction="guided", solver="trapezoid", fixed_point=3)
    code = mechanism.encode(obs["image"], mechanism.scaling(obs))
    monkeypatch.setattr(mechanism, "encode", lambda *arguments: code)
    scm, do = GRAPH.scm(mechanism), {"digit": obs["digit"].roll(1)}
    answer = scm.counterfactual(obs, do)
    assert l1(answer["image"], obs["image"]).mean() > 0.1
    *_, last = reversals(scm.counterfactual, obs, answer, do, 2)
    assert l1(last, obs["image"]).mean() < 1e-3


@torch.no_grad()
def test_exact_reversal_ends_where_images_are_saved(obs: dict) -> None:
    """Rounded to 8 bits, a counterfactual of the spatial model determines its noise less well, by an order."""
    mechanism = restore("spatial").using(guidance=1.0, steps=12, fixed_point=3)
    scm, do = GRAPH.scm(mechanism), {"digit": obs["digit"].roll(1)}
    answer = scm.counterfactual(obs, do)
    floats, saved = (
        l1(next(reversals(scm.counterfactual, obs, answer, do, 1, save)), obs["image"]).mean()
        for save in (keep, to_8_bits)
    )
    assert floats < 0.3 * saved


@torch.no_grad()
def test_oracle_reads_the_bundled_digits(oracle: Oracle, obs: dict) -> None:
    assert (oracle.predict(obs["image"])["digit"] == obs["digit"]).float().mean() > 0.95


# The paper's claims, as orderings


@dataclass(frozen=True)
class Soundness:
    """Means over the digits, by ω: L1 of the composition and of reversing do(digit), and how often it is obeyed."""

    composition: dict[float, float]
    reversibility: dict[float, float]
    effectiveness: dict[float, float]


@torch.no_grad()
def measure_soundness(name: str, oracle: Oracle, obs: dict[str, Tensor]) -> Soundness:
    """Evaluate a bundled mechanism under do(digit), the digits of the others in turn, by the paper's procedure.

    That is explicit inversion on a uniform grid, here of 8 steps, and guidance at every noise level.
    """
    mechanism, result = (
        restore(name).using(**EXPLICIT, guidance_interval=(0.0, 1000.0), steps=8),
        Soundness({}, {}, {}),
    )
    obs = {variable: value[:6] for variable, value in obs.items()}
    do = {"digit": obs["digit"].roll(5)}
    for guidance in (1.0, 1.5, 3.0):
        scm = GRAPH.scm(mechanism.using(guidance=guidance))
        noise = scm.abduct(obs)
        answer = scm.predict(noise, do)
        (back,) = reversals(scm.counterfactual, obs, answer, do, 1)
        result.composition[guidance] = l1(scm.predict(noise)["image"], obs["image"]).mean().item()
        result.reversibility[guidance] = l1(back, obs["image"]).mean().item()
        result.effectiveness[guidance] = (oracle.predict(answer["image"])["digit"] == do["digit"]).float().mean().item()
    return result


@pytest.fixture(scope="module")
def semantic(oracle: Oracle, obs: dict) -> Soundness:
    """The soundness of the bundled semantic mechanism."""
    return measure_soundness("semantic", oracle, obs)


@pytest.fixture(scope="module")
def spatial(oracle: Oracle, obs: dict) -> Soundness:
    """The soundness of the bundled spatial mechanism."""
    return measure_soundness("spatial", oracle, obs)


def check_identity(better: Soundness, worse: Soundness) -> None:
    """Assert that one mechanism keeps more of the observation than the other at every guided ω."""
    for guidance in (1.5, 3.0):
        assert better.composition[guidance] < worse.composition[guidance]
        assert better.reversibility[guidance] < worse.reversibility[guidance]


def test_semantic_keeps_more_than_spatial(semantic: Soundness, spatial: Soundness) -> None:
    check_identity(semantic, spatial)
    with pytest.raises(AssertionError):  # the check can fail: with the two checkpoints swapped it does
        check_identity(spatial, semantic)


@pytest.mark.parametrize("name", ["semantic", "spatial"])
def test_guidance_trades_identity_for_effectiveness(name: str, request: pytest.FixtureRequest) -> None:
    """One digit of the few may be read otherwise."""
    found: Soundness = request.getfixturevalue(name)
    assert found.composition[1.0] < found.composition[1.5] < found.composition[3.0]
    assert found.effectiveness[3.0] >= found.effectiveness[1.0] - 1.01 / 6


@pytest.mark.parametrize("abduction", ["dynamic", "residual"])
@torch.no_grad()
def test_dynamic_abduction_wins_identity_back(abduction: str, obs: dict) -> None:
    """At ω = 3, with the default step size, by 25 even steps as in results/digits.md."""
    steps = {"steps": 25, "grid": "log-sigma", "solver": "ddim"}
    mechanism, composition = restore("semantic").using(guidance=3.0, **steps), []
    obs = {variable: value[:6] for variable, value in obs.items()}
    for kind in ("semantic", abduction):
        scm = GRAPH.scm(mechanism.using(abduction=kind))
        composition.append(l1(scm.counterfactual(obs, {})["image"], obs["image"]).mean().item())
    assert composition[1] < composition[0]
