"""Further training of diffusion mechanisms by their own counterfactuals: to obey interventions, and to keep codes."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from dscm.causal.scm import SCM
from dscm.diffusion.mechanism import DiffusionMechanism
from dscm.diffusion.objective import MIDDLE, counterfactual_in_short, predict_clean
from dscm.oracle import Oracle
from dscm.training.tuning import intervene

SHARE = 4  # one in so many images of a batch is intervened on, where an oracle judges
EXACT = 0.05  # of its standard deviation in the data, by which a number may be missed
CLOSE = 10.0  # ρ, nats that a change of every pixel by 1 costs, on [-1, 1]


class Obedience(nn.Module):
    """Add to a mechanism's loss what an oracle says of its counterfactuals: ``η·D·(−log p(pa* | x*) + ρ·|x* − x|)``.

    x* is the counterfactual of an image x, unguided and by `counterfactual_in_short`, under one of the interventions of
    the graph, with values of another image of the batch; pa* are the attributes then, p is the oracle (after De Sousa
    Ribeiro et al. 2023, who tune a hierarchical VAE so), D the number of pixel values. Of a number p is a Laplace
    distribution around what the oracle reads, `EXACT` its width, whose gradients are bounded: squares of what is missed
    most took over, and drove the loss up after 400 steps. The last term, a mean over pixels, keeps what need not change
    (after Wachter et al. 2018, eq. 1).

    A code is judged as one more attribute, by its encoder, and `misread_code` is added, so that what is read again is
    what went in, and reversal meets the same noise. The encoder and the prior stay as they are: an encoder that learned
    here, too, emptied the code, which is the easiest way not to contradict pa*.

    Whoever judges the result needs another oracle: one can be pleased without being right.

    Args:
        mechanism: trained.
        oracle: predicts attributes from images; its weights are fixed.
        attributes: the causal model of the attributes alone; its weights are fixed.
        queries: the interventions, each as the variables that it sets.
        weight: η.
    """

    def __init__(
        self,
        mechanism: DiffusionMechanism,
        oracle: Oracle,
        attributes: SCM,
        queries: Sequence[Sequence[str]],
        weight: float,
    ) -> None:
        super().__init__()
        self.mechanism = hold_codes(mechanism)
        self.oracle, self.attributes = oracle.eval().requires_grad_(False), attributes.requires_grad_(False)
        self.queries, self.weight = queries, weight

    def train(self, mode: bool = True) -> "Obedience":
        """Set the mode of the mechanism alone: the judges read without dropout."""
        self.mechanism.train(mode)
        if self.mechanism.has_code:
            self.mechanism.encoder.eval()
        return self

    def forward(
        self, value: Tensor, parents: Mapping[str, Tensor], generator: torch.Generator, **rest: Any
    ) -> dict[str, Tensor]:
        """Compute the objective of images in [-1, 1], (B, C, H, W).

        Args:
            value: the images.
            parents: every attribute, each (B,).
            generator: source of the mechanism's loss and of the interventions.
            rest: what else the loss of the mechanism takes.

        Returns:
            Scalars: ``loss``; ``counterfactual``, the oracle's loss; ``change``, ``|x* − x|``; ``misread``, of a code;
            and the mechanism's other terms.
        """
        terms = self.mechanism(value, parents, generator, **rest)
        value, obs, new = draw_interventions(self.queries, self.attributes, value, parents, generator)
        pa, changed = (encode(self.mechanism, attributes) for attributes in (obs, new))
        z = self.mechanism.encode(value, pa)
        own, other = (self.mechanism.condition(z, encoded) for encoded in (pa, changed))
        image = counterfactual_in_short(self.mechanism.eps, own, other, value, self.mechanism.schedule).clamp(-1, 1)
        judged, change = self.judge(image, new), (image - value).abs().mean()
        misread = misread_code(self.mechanism, image, changed, z).mean()
        nats = judged + CLOSE * change + misread
        seen = {"counterfactual": judged.detach(), "change": change.detach(), "misread": misread.detach()}
        return {**terms, **seen, "loss": terms["loss"] + self.weight * value[0].numel() * nats}

    def judge(self, image: Tensor, parents: Mapping[str, Tensor]) -> Tensor:
        """Compute the mean of ``−log p(pa* | x*)``, without constants, of images with the attributes of ``parents``."""
        scores = self.oracle.logits(image)
        losses = self.oracle.losses(scores, parents)
        for v in (v for v in self.oracle.variables if v.real and v.name in losses):
            missed = scores[v.name][:, 0] - self.oracle.scaling.standardise(v.name, parents[v.name])
            losses[v.name] = (missed / EXACT).abs().mean()
        return torch.stack([*losses.values()]).sum()


class Keeping(nn.Module):
    """Add to an objective how badly a mechanism's predictions show their codes under other parents: ``η·D·lost``.

    From a noised image x_t, at a middle noise level, the network predicts x̂₀ given the image's own code noise z and the
    parents pa* that an intervention of the graph leaves; `misread_code` says how far the code that the encoder reads of
    x̂₀ is from the one that z makes given pa*. Encoder and prior stay as they are: they define what a code is.

    Args:
        objective: the mechanism, or another objective of it, such as its `Obedience`.
        mechanism: trained, semantic.
        attributes: the causal model of the attributes alone; its weights are fixed.
        queries: the interventions, each as the variables that it sets.
        weight: η.
    """

    def __init__(
        self,
        objective: nn.Module,
        mechanism: DiffusionMechanism,
        attributes: SCM,
        queries: Sequence[Sequence[str]],
        weight: float,
    ) -> None:
        super().__init__()
        self.objective, self.mechanism = objective, hold_codes(mechanism)
        self.attributes, self.queries, self.weight = attributes.requires_grad_(False), queries, weight

    def train(self, mode: bool = True) -> "Keeping":
        """Set the mode of the objective: the encoder reads without dropout."""
        self.objective.train(mode)
        self.mechanism.encoder.eval()
        return self

    def forward(
        self, value: Tensor, parents: Mapping[str, Tensor], generator: torch.Generator, **rest: Any
    ) -> dict[str, Tensor]:
        """Compute the objective of images; arguments as in `Obedience`. Returns its terms, ``loss`` and ``lost``."""
        terms = self.objective(value, parents, generator, **rest)
        value, obs, new = draw_interventions(self.queries, self.attributes, value, parents, generator)
        pa, changed = (encode(self.mechanism, attributes) for attributes in (obs, new))
        z = self.mechanism.encode(value, pa)
        network = self.mechanism.eps, [self.mechanism.condition(z, changed)], value, self.mechanism.schedule
        (image,) = predict_clean(*network, generator, MIDDLE)
        lost = misread_code(self.mechanism, image.clamp(-1, 1), changed, z).mean()
        return {**terms, "lost": lost.detach(), "loss": terms["loss"] + self.weight * value[0].numel() * lost}


def hold_codes(mechanism: DiffusionMechanism) -> DiffusionMechanism:
    """Let the encoder and the prior of a mechanism stay as they are, without dropout; return the mechanism."""
    for settled in (mechanism.encoder, mechanism.prior) if mechanism.has_code else ():
        settled.requires_grad_(False).eval()
    return mechanism


def draw_interventions(
    queries: Sequence[Sequence[str]],
    attributes: SCM,
    value: Tensor,
    parents: Mapping[str, Tensor],
    generator: torch.Generator,
) -> tuple[Tensor, dict[str, Tensor], dict[str, Tensor]]:
    """Return a share of a batch: its images, their attributes, and these after interventions, as `intervene`."""
    value = value[: -(-len(value) // SHARE)]
    obs = {name: attribute[: len(value)] for name, attribute in parents.items()}
    return value, obs, intervene(queries, attributes, obs, generator)


def encode(mechanism: DiffusionMechanism, attributes: Mapping[str, Tensor]) -> Tensor:
    """Encode those attributes, each (B,), that are parents of the image, as (B, D)."""
    return mechanism.scaling({v.name: attributes[v.name] for v in mechanism.scaling.variables})


def misread_code(mechanism: DiffusionMechanism, image: Tensor, pa: Tensor, z: Tensor) -> Tensor:
    """Compute how badly images show their codes, ``‖(μ(x*) − e*)/σ(x*)‖`` of q(z | x*), (B,); 0 without codes.

    Args:
        mechanism: the mechanism.
        image: generated images in [-1, 1], (B, C, H, W).
        pa: their encoded parents, (B, D).
        z: the noise of the codes that they were generated with, (B, code_dim); e* is the code that it makes given pa.
    """
    if not mechanism.has_code:
        return image.new_zeros(len(image))
    q = mechanism.encoder(image)
    p = mechanism.prior(pa, q.mean)
    code = p.mean + p.stddev * mechanism.prior.from_noise(z, pa)
    return torch.linalg.vector_norm((q.mean - code) / q.stddev.detach(), dim=1)
