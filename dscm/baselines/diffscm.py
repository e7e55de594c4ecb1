"""DiffSCM (Sanchez and Tsaftaris 2022): an unconditional diffusion model, guided by an anti-causal classifier."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dscm.baselines.autoencoder import Pyramid
from dscm.causal.draws import Source, draw_normal
from dscm.causal.image_mechanism import ImageMechanism
from dscm.causal.mechanisms import Intervened, Parents
from dscm.causal.variables import Variable
from dscm.diffusion.process import SCHEDULES, EpsFn, add_noise, clamped, sample_timesteps
from dscm.diffusion.sampling import Trajectory
from dscm.diffusion.solvers import invert, sample
from dscm.diffusion.unet import UNet
from dscm.errors import InputError
from dscm.layers import mlp, sinusoidal_embedding
from dscm.settings import setting


class NoisyClassifier(nn.Module):
    """Predict a class from a noisy image and its timestep.

    Args:
        image_channels, channels, multipliers, patch: as in `Pyramid`.
        classes: number of classes.
    """

    def __init__(
        self, image_channels: int, classes: int, channels: int, multipliers: Sequence[int], patch: int
    ) -> None:
        super().__init__()
        self.channels = channels
        width = channels * multipliers[-1]
        self.time = mlp(channels, 4 * channels, 4 * channels)
        self.body = Pyramid(image_channels, 4 * channels, channels, multipliers, patch)
        self.head = nn.Linear(width, classes)

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        """Return logits, (B, classes), of noisy images (B, C, H, W) at timesteps (B,)."""
        embedding = self.time(sinusoidal_embedding(t, self.channels).to(x.dtype))
        return self.head(F.silu(self.body(x, embedding)[-1]).mean(dim=(2, 3)))


@dataclass(frozen=True)
class ClassifierSampling(Trajectory):
    """How DiffSCM abducts and predicts."""

    classifier_scale: float = setting(30.0, "s of DiffSCM: weight of the classifier's gradient.", low=0)
    clamp: bool = setting(True, "Of DiffSCM: clamp the clean image at every step, both ways, as its published code.")


class DiffSCM(ImageMechanism[Tensor]):
    """Invert an image without its parents, and generate it again under the guidance of a classifier.

    Abduction: u by DDIM inversion with ``ε(x_t)``. Prediction: DDIM from u with
    ``ε(x_t) − s·√(1 − ᾱ_t)·∇ log p(y* | x_t)`` (paper, algorithm 1), s the guidance scale, y* the new class. Unless
    ``clamp`` is off, ε is, both ways, that of the clean image clamped to [-1, 1], as in the published code; the
    classifier's gradient is added after the clamp. A clamped trajectory is inverted approximately.

    Unlike the published code, the inversion goes up to T by default, not to 3/4 of it, no clean image is rescaled to
    the 99th percentile of its values, and one training fits both networks.

    Args:
        parents: one variable, a class.
        image_channels, size: as in `ImageMechanism`.
        schedule: a name in `SCHEDULES`.
        timesteps: T.
        unet, classifier: further arguments of `UNet` and `NoisyClassifier`.

    Raises:
        InputError: the image has other parents.
    """

    kind = "diffscm"
    sampling: ClassifierSampling

    def __init__(
        self,
        parents: Sequence[Variable],
        image_channels: int,
        size: int,
        schedule: str = "linear",
        timesteps: int = 1000,
        unet: Mapping[str, Any] = {},
        classifier: Mapping[str, Any] = {},
    ) -> None:
        if len(parents) != 1 or not parents[0].discrete:
            names = ", ".join(variable.name for variable in parents)
            raise InputError(f"diffscm guides one class; the image's parents are {names}: take another graph")
        super().__init__(parents, image_channels, size, ClassifierSampling())
        (self.parent,) = parents
        self.schedule = SCHEDULES[schedule](timesteps)
        self.unet = UNet(image_channels, 0, **unet)
        self.classifier = NoisyClassifier(image_channels, self.parent.classes or 2, **classifier)

    def eps(self, x: Tensor, t: Tensor) -> Tensor:
        """Predict the noise in ``x`` (B, C, H, W) at timesteps ``t`` (B,)."""
        return self.unet(x, t, None)

    def abduct(self, value: Tensor, parents: Parents, generator: Source | None = None) -> Tensor:
        """Infer u, (B, C, H, W), of images in [-1, 1], independent of the parents."""
        grid = self.sampling.timesteps(self.schedule)
        return invert(self._free(), value, self.schedule, grid, self.sampling.ode_solver)

    def predict(self, noise: Tensor, parents: Parents, intervened: Intervened = {}) -> Tensor:
        """Generate images (B, C, H, W), approximately in [-1, 1], from u and the class, (B,)."""
        eps_fn = self._guided(parents[self.parent.name].long(), self.sampling.classifier_scale)
        return sample(eps_fn, noise, self.schedule, self.sampling.timesteps(self.schedule), self.sampling.ode_solver)

    def sample_noise(self, n: int, generator: Source) -> Tensor:
        """Draw u from N(0, I)."""
        return draw_normal((n, *self.shape), generator)

    def forward(
        self, value: Tensor, parents: Parents, generator: torch.Generator, focus: float = 0.0, shift: float = 1.0
    ) -> dict[str, Tensor]:
        """Compute the denoising loss and the classifier's, of the same noisy images.

        Args:
            value: images in [-1, 1], (B, C, H, W).
            parents: the class, (B,).
            generator: source of timesteps and noise.
            focus, shift: as in `sample_timesteps`.

        Returns:
            Scalars: ``loss``, the sum over pixels of the squared error plus as many times the cross-entropy;
            ``denoising``; ``cross_entropy``.
        """
        t = sample_timesteps(len(value), self.schedule, generator, focus, shift)
        eps = torch.randn(value.shape, generator=generator, device=value.device)
        noisy = add_noise(value, eps, self.schedule.alpha_bar(t))
        denoising = (self.eps(noisy, t.float()).float() - eps).square().sum(dim=(1, 2, 3)).mean()
        logits = self.classifier(noisy, t.float()).float()
        cross_entropy = F.cross_entropy(logits, parents[self.parent.name].long())
        loss = denoising + value[0].numel() * cross_entropy
        return {"loss": loss, "denoising": denoising.detach(), "cross_entropy": cross_entropy.detach()}

    def _free(self) -> EpsFn:
        """Return the unconditional noise function, clamped or not."""
        return clamped(self.eps, self.schedule) if self.sampling.clamp else self.eps

    def _guided(self, target: Tensor, scale: float) -> EpsFn:
        """Add the classifier's gradient towards the classes ``target``, (B,), to the predicted noise."""
        free = self._free()

        def eps_fn(x: Tensor, t: Tensor) -> Tensor:
            with torch.enable_grad():
                variable = x.detach().requires_grad_()
                log_prob = self.classifier(variable, t).log_softmax(dim=1).gather(1, target[:, None]).sum()
                (gradient,) = torch.autograd.grad(log_prob, variable)
            weight = scale * math.sqrt(1 - self.schedule.alpha_bar(t[:1]).item())
            return free(x, t) - weight * gradient

        return eps_fn
