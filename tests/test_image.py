"""The diffusion mechanism under the contract, with small random networks."""

import copy

import pytest
import torch
from torch import Tensor

from dscm.graphs import get_graph
from dscm.image import DiffusionMechanism, Sampling
from dscm.probe import probe_code

UNET = {"channels": 8, "multipliers": [1, 2], "blocks": 1, "patch": 2}
ENCODER = {"channels": 8, "multipliers": [1, 2], "patch": 2, "dropout": 0.0}


def make(code_dim: int = 4, prior: str = "conditional", prediction: str = "v") -> DiffusionMechanism:
    """Build a mechanism for 8×8 images whose every weight is random, in float64."""
    torch.manual_seed(0)
    model = DiffusionMechanism(get_graph("morphomnist").attributes, 1, 8, code_dim, prior,
                               prediction=prediction, unet=UNET, encoder=ENCODER)  # fmt: skip
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.05)
    return model.double().eval()


def observation(n: int = 6, seed: int = 0) -> tuple[Tensor, dict[str, Tensor]]:
    """Draw images in [-1, 1] and parents."""
    generator = torch.Generator().manual_seed(seed)
    parents = get_graph("morphomnist").scm().sample(n, generator)
    value = torch.rand(n, 1, 8, 8, generator=generator, dtype=torch.float64) * 2 - 1
    return value, {k: v.double() if v.is_floating_point() else v for k, v in parents.items()}


@pytest.mark.parametrize("prediction", ["eps", "v"])
@pytest.mark.parametrize("code_dim", [0, 4])
def test_composition_is_exact_when_inversion_is_solved(code_dim: int, prediction: str) -> None:
    model = make(code_dim, prediction=prediction)
    model.sampling = Sampling(guidance=1.0, steps=8, fixed_point=80)
    x, pa = observation()
    torch.testing.assert_close(model.predict(model.abduct(x, pa), pa), x, rtol=0, atol=1e-8)


def test_spatial_noise_has_an_empty_code_and_shapes_fit() -> None:
    x, pa = observation()
    for code_dim in (0, 4):
        noise = make(code_dim).abduct(x, pa)
        assert noise.u.shape == x.shape and noise.z.shape == (6, code_dim)


def test_parents_move_the_image_and_guidance_moves_it_further() -> None:
    model, (x, pa) = make(), observation()
    other = {**pa, "thickness": pa["thickness"] + 3}
    changes = []
    for weight in (1.0, 3.0):
        model.sampling = Sampling(guidance=weight, steps=8)
        noise = model.abduct(x, pa)
        changes.append((model.predict(noise, other) - model.predict(noise, pa)).abs().mean().item())
    assert 0 < changes[0] < changes[1]


def loss(model: DiffusionMechanism, p_null: float = 0.5, beta: float = 0.1, seed: int = 0) -> dict[str, Tensor]:
    """Compute the training terms with a fixed seed."""
    x, pa = observation()
    return model(x, pa, torch.Generator().manual_seed(seed), p_null, beta)


def test_beta_weighs_the_kl_term_and_seeds_decide() -> None:
    model = make()
    low, high = loss(model, beta=0.1), loss(model, beta=0.3)
    torch.testing.assert_close(high["loss"] - low["loss"], 0.2 * low["kl"])
    assert low["loss"] == loss(model)["loss"] != loss(model, seed=1)["loss"]


def test_null_loss_is_missing_where_nothing_is_dropped() -> None:
    terms = loss(make(), p_null=0.0)
    assert terms["null"].isnan() and terms["conditional"].isfinite()


def test_a_gradient_reaches_every_parameter() -> None:
    model = make()
    loss(model)["loss"].backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.parameters())


def test_the_denoiser_does_not_move_the_prior() -> None:
    model = make()
    loss(model, beta=0.0)["loss"].backward()
    assert all(p.grad is None or not p.grad.any() for p in model.prior.parameters())
    assert any(p.grad.any() for p in model.encoder.parameters())


def test_kl_equals_the_closed_form_with_the_standard_prior() -> None:
    model, (x, pa) = make(prior="standard"), observation()
    q = model.encoder(x)
    closed = (q.variance + q.mean**2 - 1 - q.variance.log()).sum(dim=1) / 2
    torch.testing.assert_close(model.kl(x, model.scaling(pa)), closed)
    assert torch.equal(model.encode(x, model.scaling(pa)), q.mean)


def test_inputs_are_not_changed() -> None:
    model, (x, pa) = make(), observation()
    kept, kept_pa = x.clone(), copy.deepcopy(pa)
    model.predict(model.abduct(x, pa), pa)
    assert torch.equal(x, kept) and all(torch.equal(pa[k], kept_pa[k]) for k in pa)


def test_probe_finds_a_planted_code_and_reads_nothing_from_noise(monkeypatch: pytest.MonkeyPatch) -> None:
    model = make()
    x, pa = observation(2000)
    encoded = model.scaling(pa)
    noise = torch.randn(2000, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    rows = {"planted": encoded, "noise": noise}
    scores = {}
    for name, code in rows.items():
        parts = iter(code.split(500))
        monkeypatch.setattr(model, "encode", lambda value, pa, parts=parts: next(parts))
        scores[name] = probe_code(model, x, pa)
    assert scores["planted"]["digit"] == 1 and scores["planted"]["thickness"] > 0.999
    assert scores["noise"]["digit"] < 0.2 and abs(scores["noise"]["slant"]) < 0.05
