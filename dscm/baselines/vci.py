"""Variational causal inference (Wu, McConnell and Iriondo 2024): supervision of unobserved counterfactuals."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from dscm.baselines.autoencoder import CodeSampling, Pyramid
from dscm.baselines.likelihood import gaussian_kl, sample_gaussian
from dscm.baselines.vae import VAE
from dscm.causal.mechanisms import Parents
from dscm.causal.variables import Variable
from dscm.layers import mlp

CRITIC_SHARE = 0.01  # of the critic's loss, per pixel value, in the sum that is differentiated


class Critic(nn.Module):
    """Discriminate images with their observed parents from counterfactuals.

    The score is a linear function of the features plus their inner product with the parents' embedding (Miyato and
    Koyama 2018).

    Args:
        image_channels, channels, multipliers, patch: as in `Pyramid`.
        parents_dim: size of the encoded parents.
    """

    def __init__(
        self, image_channels: int, parents_dim: int, channels: int, multipliers: Sequence[int], patch: int
    ) -> None:
        super().__init__()
        width = channels * multipliers[-1]
        self.body = Pyramid(image_channels, width, channels, multipliers, patch)
        self.parents = mlp(parents_dim, width, width)
        self.score = nn.Linear(width, 1, bias=False)

    def forward(self, x: Tensor, pa: Tensor) -> Tensor:
        """Score images (B, C, H, W) with encoded parents (B, D); (B,), higher for observations."""
        embedding = self.parents(pa)
        features = F.silu(self.body(x, embedding)[-1]).mean(dim=(2, 3))
        return self.score(features)[:, 0] + (features * embedding).mean(dim=1)


class VCI(VAE):
    """Encode an image with its parents, and decode the code with other parents, without pixel noise.

    Trained on an image x of D pixel values and the parents pa' of another image of the batch, by

        ``−ω_0·log p(x | z, pa)/D + ω_1·softplus(−c(x', pa')) + ω_2·KL(q(z | x, pa) ‖ q(z | x', pa'))/L``,

    multiplied by ``D/ω_0``; z, of L dimensions, is sampled from q(z | x, pa), and x' is the mean of p(x | z, pa'). The
    first term reconstructs; the second asks that the critic c takes x' for an observation with parents pa'; the third
    that x', encoded with its parents, has the same code. The critic learns, from the same forward pass, by
    ``(softplus(−c(x, pa)) + softplus(c(x', pa')))/2`` (paper, the objective of the variational causal inference
    framework; its code, ``dist_mode="discriminate"``).

    No term pulls the code towards a prior, so the codes that `sample_noise` draws from N(0, I) are not those of images.
    Unlike the published model, the code is one vector instead of a ladder, the likelihood is not Bernoulli, the critic
    is trained at every step, at the learning rate of the rest, and its layers are not normalised spectrally.

    Args:
        parents, image_channels, size: as in `ImageMechanism`.
        code_dim: L.
        omega: ω_0, ω_1 and ω_2.
        critic: further arguments of `Critic`.
        rest: further arguments of `VAE`.
    """

    kind = "vci"

    def __init__(
        self,
        parents: Sequence[Variable],
        image_channels: int,
        size: int,
        code_dim: int = 32,
        *,
        omega: Sequence[float],
        critic: Mapping[str, Any] = {},
        **rest: Any,
    ) -> None:
        super().__init__(parents, image_channels, size, code_dim, sampling=CodeSampling(), **rest)
        self.omega = tuple(omega)
        self.critic = Critic(image_channels, self.scaling.dim, **critic)

    def forward(  # type: ignore[override]
        self, value: Tensor, parents: Parents, generator: torch.Generator
    ) -> dict[str, Tensor]:
        """Compute the objective of images in [-1, 1], (B, C, H, W).

        Args:
            value: the images.
            parents: each (B,).
            generator: source of the codes, and of the permutation of the parents.

        Returns:
            Scalars: ``loss``; ``reconstruction`` in nats; ``consistency``, the KL, in nats; ``adversary``; ``critic``.
        """
        pa = self.scaling(parents)
        other = pa[torch.rand(len(pa), generator=generator, device=pa.device).argsort()]
        embedding, other_embedding = self.embed(pa), self.embed(other)
        mean, log_std = self._encode(value, embedding)
        z = sample_gaussian(mean, log_std, generator)
        reconstruction = self._reconstruct(value, z, embedding)
        changed = self._decode(z, other_embedding)[0]
        consistency = gaussian_kl(mean, log_std, *self._encode(changed, other_embedding)).sum(dim=1).mean()
        # The adversary's gradient reaches the image but not the critic, and the critic's does not reach the image.
        frozen = {name: parameter.detach() for name, parameter in self.critic.named_parameters()}
        adversary = F.softplus(-functional_call(self.critic, frozen, (changed, other))).mean()
        real, fake = self.critic(value, pa.detach()), self.critic(changed.detach(), other.detach())
        critic = (F.softplus(-real).mean() + F.softplus(fake).mean()) / 2
        pixels, (likelihood, deception, divergence) = value[0].numel(), self.omega
        regularisers = deception * adversary + divergence * consistency / self.code_dim
        # Adam makes the critic's steps independent of its loss's scale, which here bounds its share of the gradient.
        loss = reconstruction + pixels / likelihood * regularisers + CRITIC_SHARE * pixels * critic
        terms = {"reconstruction": reconstruction, "consistency": consistency, "adversary": adversary, "critic": critic}
        return {"loss": loss} | {name: term.detach() for name, term in terms.items()}
