"""Probes: how much a code says of each parent, and encoding in chunks."""

import math

import pytest
import torch

from dscm.data.scaling import to_signed
from dscm.training.probe import encode_all, probe_code, r_squared
from tests.support.networks import F64, GRAPH, PARENTS, make


def test_probe_finds_a_linear_code_and_scores_chance_otherwise() -> None:
    """With one fair half to score on, an independent code of many dimensions explains nothing."""
    scaling, n = make(0).scaling, 1100
    generator = torch.Generator().manual_seed(0)
    parents = GRAPH.scm().sample(n, generator)
    scaling.fit(parents)
    pa = scaling(parents)
    found = probe_code(pa @ torch.randn(13, 13, generator=generator, dtype=F64), scaling.variables, parents)
    assert found["digit"] > 0.999 and min(found[name] for name in ("thickness", "intensity", "slant")) > 0.999
    noise = torch.randn(n, 64, generator=generator, dtype=F64)
    chance = probe_code(noise, scaling.variables, parents)  # an unheld-out half would be fitted with R² of 0.12
    assert chance["digit"] < 0.2 and max(chance[name] for name in ("thickness", "intensity", "slant")) < 0.05


def test_probe_scores_a_code_that_says_half() -> None:
    """A standardised parent plus noise of equal variance explains R² = ½ of it, about its mean."""
    n = 2000
    parents = GRAPH.scm().sample(n, torch.Generator().manual_seed(0))
    thickness = parents["thickness"].double()
    noise = torch.randn(n, generator=torch.Generator().manual_seed(1), dtype=F64)
    code = (thickness - thickness.mean()) / thickness.std() + noise
    score = probe_code(code[:, None], make(0).scaling.variables, parents)
    assert score["thickness"] == pytest.approx(0.5, abs=0.06)


def test_encoding_in_chunks_is_encoding_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Code and KL of five images, two at a time."""
    model = make(3).float()
    images = torch.randint(0, 256, (5, *model.shape), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    pa = model.scaling({name: value[:1].expand(5) for name, value in PARENTS.items()})
    monkeypatch.setattr("dscm.training.probe.CHUNK", 2)
    code, kl = encode_all(model, images, pa.float())
    torch.testing.assert_close(code, model.encode(to_signed(images), pa.float()))
    torch.testing.assert_close(kl, model.kl(to_signed(images), pa.float()))


def test_what_no_image_tells_is_undefined() -> None:
    """R² of a constant, and every score of a single image, whose other half is empty."""
    assert math.isnan(r_squared(torch.tensor([1.0, 2.0]), torch.tensor([3.0, 3.0])))
    assert r_squared(torch.tensor([1.0, 2.0]), torch.tensor([1.0, 3.0])) == 0.5
    parents = {name: value[:1] for name, value in PARENTS.items()}
    scores = probe_code(torch.ones(1, 2), make(0).scaling.variables, parents)
    assert len(scores) == 4 and all(map(math.isnan, scores.values()))
