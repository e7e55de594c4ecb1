"""The learned mechanism of a binary variable against a table of probabilities."""

import pytest
import torch
from torch import Tensor

from dscm.causal.learned import BinaryMechanism, LearnedAttributes
from dscm.causal.variables import Variable
from dscm.graphs import get_graph

GRAPH = get_graph("celebahq")
SMILE, MOUTH = GRAPH.attributes[:2]
N = 20_000


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


class Table(BinaryMechanism):
    """P(1 | no smile) = ¼ and P(1 | smile) = ¾, in place of a network."""

    def __init__(self) -> None:
        super().__init__(MOUTH, [SMILE])

    def logits(self, parents: dict[str, Tensor], n: int) -> Tensor:
        return torch.where(parents["Smiling"] == 1, 1.0, -1.0) * torch.tensor(3.0).log()


def smiles_and_mouths() -> tuple[dict[str, Tensor], Tensor]:
    """Draw parents and values from the table."""
    parents = {"Smiling": torch.randint(2, (N,), generator=seeded(1))}
    return parents, Table().predict(Table().sample_noise(N, seeded(2)), parents)


def test_values_are_drawn_as_often_as_the_table_says() -> None:
    parents, value = smiles_and_mouths()
    for smile, share in ((0, 0.25), (1, 0.75)):
        assert value[parents["Smiling"] == smile].double().mean().item() == pytest.approx(share, abs=0.025)


@pytest.mark.parametrize("generator", [None, seeded(3)], ids=["median", "drawn"])
def test_composition_returns_every_observed_value(generator: torch.Generator | None) -> None:
    """Also the improbable ones, with probabilities as near to 0 and 1 as they get."""
    model = BinaryMechanism(MOUTH, [SMILE])
    for scale in (1.0, 1e6):
        torch.nn.init.normal_(model.net[2].weight, std=scale, generator=seeded(4))
        parents = {"Smiling": torch.randint(2, (N,), generator=seeded(1))}
        value = torch.randint(2, (N,), generator=seeded(5))
        assert torch.equal(model.predict(model.abduct(value, parents, generator), parents), value)


def test_posterior_noise_is_uniform() -> None:
    """Abducting what uniform noise made gives uniform noise again."""
    parents, value = smiles_and_mouths()
    u = Table().abduct(value, parents, seeded(6)).sort().values
    assert (u - (torch.arange(N) + 0.5) / N).abs().max() < 1.9 / N**0.5  # Kolmogorov and Smirnov, p < 0.001


def test_a_smile_opens_the_mouth_as_often_as_the_table_says() -> None:
    """Of the closed mouths without a smile, whose u is uniform above ¼, those with u < ¾ open: two thirds."""
    parents = {"Smiling": torch.zeros(N, dtype=torch.long)}
    u = Table().abduct(torch.zeros(N, dtype=torch.long), parents, seeded(7))
    smiling = {"Smiling": torch.ones(N, dtype=torch.long)}
    assert Table().predict(u, smiling).double().mean().item() == pytest.approx(2 / 3, abs=0.02)
    opened = Table().abduct(torch.ones(N, dtype=torch.long), parents, seeded(8))
    assert Table().predict(opened, smiling).all(), "an open mouth stays open"


def test_fitting_finds_the_table() -> None:
    """A few hundred steps on the likelihood reach the shares of the data."""
    torch.manual_seed(0)
    parents, value = smiles_and_mouths()
    model = LearnedAttributes(GRAPH.attributes)
    data = parents | {"Mouth_Slightly_Open": value}
    optimiser = torch.optim.Adam(model.parameters(), lr=3e-2)
    for _ in range(80):
        optimiser.zero_grad()
        terms = model(torch.empty(N, 0), data)
        terms["loss"].backward()
        optimiser.step()
    p = model.mechanisms["Mouth_Slightly_Open"].logits({"Smiling": torch.tensor([0, 1])}, 2).sigmoid()
    shares = torch.tensor([value[parents["Smiling"] == s].float().mean() for s in (0, 1)])
    torch.testing.assert_close(p, shares, rtol=0, atol=0.005)
    entropy = -(0.25 * torch.tensor(0.25).log() + 0.75 * torch.tensor(0.75).log())
    assert terms["nll Mouth_Slightly_Open"].item() == pytest.approx(entropy.item(), abs=0.02)


def test_interventions_take_the_type_of_the_value() -> None:
    """The noise is a float, the value a whole number."""
    scm = GRAPH.scm(learned=LearnedAttributes(GRAPH.attributes))
    obs = scm.sample(5, seeded())
    answer = scm.counterfactual(obs, {"Mouth_Slightly_Open": 1})
    assert answer["Mouth_Slightly_Open"].dtype == torch.int64 and answer["Mouth_Slightly_Open"].tolist() == [1] * 5


def test_other_kinds_cannot_be_learned() -> None:
    with pytest.raises(ValueError, match="no mechanism of kind circular"):
        LearnedAttributes([Variable("hue", "circular", (), 0, 1)])
