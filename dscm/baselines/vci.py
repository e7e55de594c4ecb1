"""Variational causal inference (Wu, McConnell and Iriondo 2024): supervision of unobserved counterfactuals."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from dscm.baselines.autoencoder import CodeSampling, PixelNoise, Pyramid
from dscm.baselines.likelihood import gaussian_kl
from dscm.baselines.vae import VAE
from dscm.causal.mechanisms import Intervened, Parents
from dscm.causal.variables import Variable
from dscm.layers import mlp


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

    Trained on an image x and the parents pa' of another image of the batch:

        ``−log p(x | z, pa) + β·(KL(q ‖ N(0, I)) + γ·KL(q ‖ q(z | x', pa')) + λ·adversary(x', pa'))``,

    ``q = q(z | x, pa)``, z a sample of it, x' its decoding with pa'. The first term reconstructs; the second matches
    the codes to their prior; the third asks that the counterfactual, encoded with its parents, has the same code; the
    fourth that a critic takes x' for an observation with parents pa' (hinge loss). The last three are warmed up
    together with β: before the decoder uses the code, an uninformative code would minimise them. The critic learns from
    the same forward pass, with a separate loss.

    Args:
        parents, image_channels, size: as in `ImageMechanism`.
        code_dim: size of z.
        consistency: γ.
        adversary: λ.
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
        consistency: float = 0.1,
        adversary: float = 1.0,
        critic: Mapping[str, Any] = {},
        **rest: Any,
    ) -> None:
        super().__init__(parents, image_channels, size, code_dim, sampling=CodeSampling(), **rest)
        self.consistency, self.adversary = consistency, adversary
        self.critic = Critic(image_channels, self.scaling.dim, **critic)

    def predict(self, noise: PixelNoise, parents: Parents, intervened: Intervened = {}) -> Tensor:
        """Decode the code with the parents, each (B,), to images (B, C, H, W), approximately in [-1, 1]."""
        return self._decode(noise.latents, self.embed(self.scaling(parents)))[0]

    def forward(self, value: Tensor, parents: Parents, generator: torch.Generator, beta: float) -> dict[str, Tensor]:
        """Compute the objective of images in [-1, 1], (B, C, H, W).

        Args:
            value: the images.
            parents: each (B,).
            generator: source of the codes, and of the permutation of the parents.
            beta: β.

        Returns:
            Scalars: ``loss``; ``kl`` in nats; ``reconstruction``, ``consistency``, ``adversary`` and ``critic``.
        """
        pa = self.scaling(parents)
        other = pa[torch.rand(len(pa), generator=generator, device=pa.device).argsort()]
        embedding, other_embedding = self.embed(pa), self.embed(other)
        mean, log_std = self._encode(value, embedding)
        z, kl, reconstruction = self._bound(value, embedding, mean, log_std, generator)
        changed = self._decode(z, other_embedding)[0]
        consistency = gaussian_kl(mean, log_std, *self._encode(changed, other_embedding)).sum(dim=1).mean()
        # The adversary's gradient reaches the image but not the critic, and the critic's does not reach the image.
        frozen = {name: parameter.detach() for name, parameter in self.critic.named_parameters()}
        adversary = -functional_call(self.critic, frozen, (changed, other)).mean()
        real, fake = self.critic(value, pa.detach()), self.critic(changed.detach(), other.detach())
        critic = F.relu(1 - real).mean() + F.relu(1 + fake).mean()
        weight = value[0].numel() / 100  # losses are sums over pixels; this keeps λ of the order of 1 at any size
        regularisers = kl + self.consistency * consistency + weight * self.adversary * adversary
        loss = reconstruction + beta * regularisers + weight * critic
        terms = {"kl": kl, "reconstruction": reconstruction, "consistency": consistency}
        terms |= {"adversary": adversary, "critic": critic}
        return {"loss": loss} | {name: term.detach() for name, term in terms.items()}
