"""The probe: what readers find in codes that are known, their scores, and the code of a mechanism."""

import math
from dataclasses import astuple

import pytest
import torch
from torch import Tensor

from dscm.causal.variables import Variable
from dscm.data.scaling import to_signed
from dscm.graphs import get_graph
from dscm.training import code_probe, probe
from dscm.training.code_probe import READERS, auc, complement, in_chunks, name_readings, probe_code
from tests.support import image_mechanisms
from tests.support.networks import F64, GRAPH, PARENTS, make, randn

NUMBERS = ("thickness", "intensity", "slant")
BINARY = Variable("glasses", "binary", (), 0, 1)
GRADE = Variable("grade", "categorical", (), 0, 2)


def sample(n: int) -> dict[str, Tensor]:
    """Draw attributes of digits."""
    return GRAPH.scm().sample(n, torch.Generator().manual_seed(0))


def test_nothing_is_found_in_an_independent_code() -> None:
    """Scored on the codes that were fitted, a reader would find some."""
    parents = sample(800)
    for found in probe_code(randn(800, 8, seed=1), GRAPH.attributes, parents).values():
        assert found["digit"].score == pytest.approx(found["digit"].chance, abs=0.04)
        assert all(-0.08 < found[name].score < 0.02 and found[name].chance == 0 for name in NUMBERS)


def test_both_find_what_is_linear() -> None:
    """A rotation of the encoded parents."""
    parents, scaling = sample(1500), make(0).scaling
    scaling.fit(parents)
    found = probe_code(scaling(parents) @ randn(13, 13), GRAPH.attributes, parents)
    assert all(found["linear"][name].score > 0.999 for name in (*NUMBERS, "digit"))
    assert all(found["perceptron"][name].score > 0.9 for name in (*NUMBERS, "digit"))


def test_the_perceptron_alone_finds_what_only_scales_the_code() -> None:
    """Whose mean is the same whatever the parents are: z ~ N(0, s(class)²); what both find of a rare value counts."""
    glasses = (torch.rand(1600, generator=torch.Generator().manual_seed(0)) < 0.1).long()
    grade = torch.randint(3, (1600,), generator=torch.Generator().manual_seed(1))
    spread = torch.stack([1 + glasses, 2**grade], dim=1).repeat_interleave(4, dim=1)
    code = randn(1600, 8) * spread
    found = probe_code(code, [BINARY, GRADE], {"glasses": glasses, "grade": grade})
    linear, perceptron = found["linear"], found["perceptron"]
    assert {reading.measure for reading in (linear["glasses"], perceptron["glasses"])} == {"AUC"}
    for name in ("glasses", "grade"):
        assert abs(linear[name].score - linear[name].chance) < 4 * linear[name].error + 0.02
        assert perceptron[name].score > perceptron[name].chance + 0.15


def test_half_the_variance_is_half_the_score_in_any_unit() -> None:
    """A standardised parent plus noise of equal variance."""
    n, parents = 1600, sample(1600)
    thickness = parents["thickness"].double()
    code = ((thickness - thickness.mean()) / thickness.std() + randn(n, seed=1))[:, None]
    for unit in (1.0, 1e6):
        found = probe_code(code, GRAPH.attributes[:1], {"thickness": unit * thickness + 3})
        for reader in READERS:
            assert found[reader]["thickness"].score == pytest.approx(0.5, abs=0.06)
            assert found[reader]["thickness"].error == pytest.approx(0.018, abs=0.004)


def test_an_angle_is_read_as_a_point_on_the_circle() -> None:
    """So nothing jumps where a turn is complete."""
    (hue,) = (variable for variable in get_graph("colour-morphomnist").attributes if variable.name == "hue")
    turn = torch.rand(400, generator=torch.Generator().manual_seed(0), dtype=F64)
    code = torch.stack([(2 * math.pi * turn).cos(), (2 * math.pi * turn).sin()], dim=1)
    assert probe_code(code, [hue], {"hue": turn + 5})["linear"]["hue"].score > 0.999


def test_the_same_codes_have_the_same_scores_and_other_draws_go_on() -> None:
    """PyTorch's own generator is not touched."""
    parents, code, state = sample(200), randn(200, 3), torch.get_rng_state()
    first, second = (probe_code(code, GRAPH.attributes, parents) for _ in range(2))
    assert first == second and torch.equal(torch.get_rng_state(), state)
    assert probe_code(code, GRAPH.attributes, parents, seed=1) != first


def test_scores_by_hand() -> None:
    """1 − Σa/Σb, with the binomial error where a is 0 or 1; and pairs in the right order, ties as half."""
    wrong = torch.tensor([1.0, 0, 0, 1, 0], dtype=F64)
    assert complement(wrong, torch.ones(5, dtype=F64)) == pytest.approx((0.6, math.sqrt(0.6 * 0.4 / 5)))
    assert all(map(math.isnan, complement(torch.zeros(0), torch.zeros(0))))
    score, positive = torch.tensor([1.0, 2, 3, 3, 4]), torch.tensor([False, True, False, True, True])
    assert auc(score, positive)[0] == pytest.approx((1 + 0 + 1 + 0.5 + 1 + 1) / 6)
    assert auc(torch.zeros(5), positive) == (0.5, 0.0)
    assert all(map(math.isnan, auc(score, torch.ones(5, dtype=torch.bool))))
    assert math.isnan(auc(score, score > 3)[1])


def test_standard_errors_are_those_of_repeated_samples() -> None:
    """Of R² and of the area, over 400 samples of 150."""
    x, noise = randn(400, 150), randn(400, 150, seed=1)
    truth = x + noise
    scores = torch.tensor([complement((t - p).square(), (t - t.mean()).square()) for t, p in zip(truth, x)])
    areas = torch.tensor([auc(t, p > 0) for t, p in zip(truth, x)])
    for found in (scores, areas):
        assert found[:, 1].mean() == pytest.approx(found[:, 0].std().item(), rel=0.1)


def test_what_no_image_tells_is_undefined() -> None:
    """Too few to divide, a single value, and no image at all."""
    parents = {name: value[:3] for name, value in PARENTS.items()}
    for n in (0, 1, 3):
        some = {name: value[:n] for name, value in parents.items()}
        for found in probe_code(torch.ones(n, 2), GRAPH.attributes, some).values():
            assert len(found) == 4 and all(math.isnan(reading.score) for reading in found.values())
    alike = {name: value[:1].expand(8) for name, value in PARENTS.items()}
    for found in probe_code(randn(8, 2), GRAPH.attributes, alike).values():
        assert math.isnan(found["slant"].score) and found["digit"].score == found["digit"].chance == 1


def test_a_mechanism_is_probed_by_the_code_that_it_carries_over(monkeypatch: pytest.MonkeyPatch) -> None:
    """In chunks, of so many images at most; those without a semantic code are not."""
    model, n = make(3).float(), 12
    image = torch.randint(256, (n, *model.shape), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    data = {"image": image} | sample(n)
    monkeypatch.setattr(code_probe, "CHUNK", 5)
    code = model.encode(to_signed(image), model.scaling(data))
    torch.testing.assert_close(in_chunks(model.encode, image, model.scaling(data)), code)
    expected = probe_code(code, GRAPH.attributes, data)
    for reader, found in code_probe.probe(model, data).items():
        for name, reading in found.items():
            assert astuple(reading)[1:] == pytest.approx(astuple(expected[reader][name])[1:], rel=1e-3)
    monkeypatch.setattr(code_probe, "PROBED", 3)
    assert math.isnan(code_probe.probe(model, data)["linear"]["digit"].score)
    assert not code_probe.probe(make(0), data)
    assert not code_probe.probe(image_mechanisms.make("vae"), data)
    assert probe.score(make(0), GRAPH, data) == {}


def test_the_report_names_reader_parent_and_measure() -> None:
    """Beside an accuracy stands that without a code; that of the other measures is known."""
    parents = {"glasses": torch.arange(8) % 2, "grade": torch.tensor([0, 1, 2, 2, 2, 2, 2, 1])}
    report = name_readings(probe_code(randn(8, 2), [BINARY, GRADE], parents))
    probes = [f"{reader} probe {rest}" for reader in READERS for rest in ("glasses AUC", "grade accuracy")]
    assert list(report) == [*probes, "chance grade accuracy"] and report["chance grade accuracy"] == 5 / 8
    assert name_readings({}) == {}
