"""Further training under an oracle: what it optimises."""

import pytest
import torch
from torch import Tensor

from dscm.diffusion.objective import counterfactual_in_short, predict_clean
from dscm.diffusion.process import EpsFn
from dscm.errors import InputError
from dscm.oracle import Oracle
from dscm.training.obedience import Keeping, Obedience, draw_interventions, encode, misread_code
from dscm.training.recipe import Recipe
from dscm.training.trainer import list_arguments
from tests.support.networks import GRAPH, PARENTS, X, make, randn

ARGUMENTS = {"p_null": 0.0, "beta": 0.1}


def start(weight: float = 0.3, code_dim: int = 4) -> Obedience:
    torch.manual_seed(1)
    oracle = Oracle(GRAPH.predicted, 1, channels=8).double()
    mechanism = make(code_dim).requires_grad_(True)
    return Obedience(mechanism, oracle, GRAPH.scm(), [*GRAPH.interventions.values()], weight).train()


def run(objective: Obedience, seed: int = 0) -> dict[str, Tensor]:
    return objective(X, PARENTS, torch.Generator().manual_seed(seed), **ARGUMENTS)


def test_the_same_condition_returns_the_image() -> None:
    """Exactly, whatever the network; another one does not, and only it has a gradient."""
    model = make().requires_grad_(True)
    old, new = (randn(6, model.unet.condition[0].in_features, seed=seed).requires_grad_() for seed in (1, 2))
    same = counterfactual_in_short(model.eps, old, old, X, model.schedule)
    torch.testing.assert_close(same, X, rtol=0, atol=1e-9)
    other = counterfactual_in_short(model.eps, old, new, X, model.schedule)
    assert (other - X).abs().mean() > 1e-3
    before, after = torch.autograd.grad(other.square().sum(), (old, new), allow_unused=True)
    assert before is None and after.any()


@pytest.mark.parametrize("code_dim", [0, 4])
def test_loss_is_the_mechanisms_and_the_oracles(code_dim: int) -> None:
    """The second weighed by η·D, about counterfactuals of a fourth of the batch, judged without dropout."""
    objective, seen = start(code_dim=code_dim), {}
    own = objective.mechanism(X, PARENTS, torch.Generator().manual_seed(0), **ARGUMENTS)
    judge = objective.judge
    objective.judge = lambda x, parents: seen.update(x=x, parents=parents) or judge(x, parents)  # type: ignore
    terms = run(objective)
    extra = terms["counterfactual"] + 10 * terms["change"] + terms["misread"]
    torch.testing.assert_close(terms["loss"], own["loss"] + 0.3 * 64 * extra)
    torch.testing.assert_close(terms["change"], (seen["x"] - X[:2]).abs().mean())
    torch.testing.assert_close(terms["counterfactual"], objective.oracle(seen["x"], seen["parents"])["loss"])
    assert seen["x"].shape == (2, 1, 8, 8) and seen["x"].abs().max() <= 1
    terms["loss"].backward()
    reached = {name for name, parameter in objective.named_parameters() if parameter.grad is not None}
    assert reached and all(name.startswith("mechanism.") for name in reached)
    assert not any(part in name for name in reached for part in ("encoder", "prior")), "codes keep their meaning"


def test_a_number_may_be_missed_by_a_twentieth_of_its_spread() -> None:
    """The Laplace distribution's nats of numbers, the cross-entropy of classes."""
    objective = start()
    objective.oracle = oracle = Oracle(GRAPH.attributes, 1, channels=8).double().eval()
    oracle.fit_scaling(PARENTS)
    nats, scores = 0.0, oracle.logits(X)
    for variable in GRAPH.attributes:
        if variable.real:
            missed = scores[variable.name][:, 0] - oracle.scaling.standardise(variable.name, PARENTS[variable.name])
            nats += (missed / 0.05).abs().mean()
        else:
            nats += torch.nn.functional.cross_entropy(scores[variable.name], PARENTS[variable.name])
    torch.testing.assert_close(objective.judge(X, PARENTS), nats)


def test_an_image_shows_the_code_that_it_has() -> None:
    """Under its parents; another image misses it by so many standard deviations, and a spatial one has none."""
    model = make(4)
    pa = model.scaling(PARENTS)
    z = model.encode(X, pa)
    torch.testing.assert_close(misread_code(model, X, pa, z), torch.zeros(len(X), dtype=X.dtype))
    missed = (model.encoder(-X).mean - model.encoder(X).mean) / model.encoder(-X).stddev
    torch.testing.assert_close(misread_code(model, -X, pa, z), missed.square().sum(dim=1).sqrt())
    assert not misread_code(make(0), X, pa, z[:, :0]).any()


@pytest.mark.parametrize("obeys", [False, True])
def test_a_prediction_under_other_parents_shows_its_code(obeys: bool) -> None:
    """The loss is the objective's and η·D of what a fourth of the batch loses, and teaches the network alone."""
    own = start() if obeys else make().requires_grad_(True)
    model = own.mechanism if isinstance(own, Obedience) else own
    objective = Keeping(own, model, GRAPH.scm(), [*GRAPH.interventions.values()], 0.3).train()
    terms = objective(X, PARENTS, torch.Generator().manual_seed(2), **ARGUMENTS)
    generator = torch.Generator().manual_seed(2)
    before = own(X, PARENTS, generator, **ARGUMENTS)
    value, obs, new = draw_interventions(objective.queries, GRAPH.scm(), X, PARENTS, generator)
    assert len(value) == 2 and any((new[name] != obs[name]).any() for name in obs)
    z, changed = model.encode(value, encode(model, obs)), encode(model, new)
    network = model.eps, [model.condition(z, changed)], value, model.schedule
    (image,) = predict_clean(*network, generator, (0.5, 5.0))
    lost = misread_code(model, image.clamp(-1, 1), changed, z).mean()
    torch.testing.assert_close(terms["lost"], lost)
    torch.testing.assert_close(terms["loss"], before["loss"] + 0.3 * 64 * lost)
    terms["loss"].backward()
    reached = {name for name, parameter in model.named_parameters() if parameter.grad is not None}
    assert reached and not any(part in name for name in reached for part in ("encoder", "prior"))
    assert list_arguments(objective) >= {"p_null", "beta", "like"}


@pytest.mark.parametrize("keeps", [False, True])
def test_the_encoder_reads_without_dropout(keeps: bool) -> None:
    """As nobody calls ``train`` in a training: what is held is in evaluation mode from the beginning."""
    model = make().train()
    queries = [*GRAPH.interventions.values()]
    oracle = Oracle(GRAPH.predicted, 1, channels=8)
    objective = (
        Keeping(model, model, GRAPH.scm(), queries, 0.3)
        if keeps
        else Obedience(model, oracle, GRAPH.scm(), queries, 0.3)
    )
    held = [*objective.mechanism.encoder.modules(), *objective.mechanism.prior.modules()]
    assert not any(module.training for module in held) and objective.mechanism.unet.training


def test_a_network_that_knows_the_image_predicts_it() -> None:
    """From every noise level at which something is decided, whatever the condition says."""
    model, seen = make(), []

    def knows(c: Tensor) -> EpsFn:
        def eps_fn(x: Tensor, t: Tensor) -> Tensor:
            a = model.schedule.alpha_bar(t)[:, None, None, None]
            seen.append(model.schedule.sigma(t))
            return (x - a.sqrt() * X) / (1 - a).sqrt()

        return eps_fn

    generator = torch.Generator().manual_seed(0)
    for image in predict_clean(knows, [X[:, 0, 0]] * 2, X, model.schedule, generator, (0.15, 40.0)):
        torch.testing.assert_close(image, X, rtol=0, atol=1e-9)
    assert torch.equal(*seen) and seen[0].min() >= 0.149 and seen[0].max() <= 40.1 and len(seen[0].unique()) == 6


def test_it_takes_what_its_mechanism_takes() -> None:
    objective = start()
    assert list_arguments(objective) >= list_arguments(objective.mechanism)


@pytest.mark.parametrize("choices", [{}, {"fine_tune": "x.pt", "prior": "flow", "only_prior": True}])
def test_it_needs_a_mechanism_to_tune(choices: dict[str, object]) -> None:
    for name in ("obey", "keep"):
        with pytest.raises(InputError, match=f"{name} 0.1: needs fine_tune"):
            Recipe(**{name: 0.1}, **choices)
