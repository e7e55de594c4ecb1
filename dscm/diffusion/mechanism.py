"""The image's mechanism: a diffusion model, spatial or semantic, under the contract of every other mechanism."""

import math
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.distributions import kl_divergence

from dscm.diffusion.process import SCHEDULES, EpsFn, add_noise, eps_from_velocity, sample_timesteps, velocity
from dscm.diffusion.alignment import align, at_timestep, residuals
from dscm.diffusion.encoder import PRIORS, Encoder
from dscm.diffusion.guidance import Groups, Weights, guided, shifted
from dscm.causal.image_mechanism import ImageMechanism
from dscm.diffusion.sampling import Sampling, usual_interval
from dscm.diffusion.solvers import clipped, inversion_path, sample
from dscm.diffusion.unet import UNet
from dscm.causal.variables import Variable


class ImageNoise(NamedTuple):
    """The exogenous noise of an image.

    Spatial ``u`` (B, C, H, W); semantic ``z`` (B, code_dim), empty if the mechanism is spatial; the null ``tokens``
    (B, K, D) of dynamic abduction and the ``residuals`` (B, K, C, H, W) of residual abduction, empty otherwise;
    ``unsolved`` (B,), how far the worst step of the inversion still moved when its evaluations ran out, root mean
    square of a pixel on [-1, 1], empty where no step was implicit.
    """

    u: Tensor
    z: Tensor
    tokens: Tensor = torch.empty(0)
    residuals: Tensor = torch.empty(0)
    unsolved: Tensor = torch.empty(0)


class DiffusionMechanism(ImageMechanism):
    """Generate an image from its parents, spatial noise u and, if ``code_dim`` > 0, a semantic code z.

    Abduction (paper, eq. 9 and 12): z is the mean of the encoder, then u is the DDIM inversion of x given
    ``c = (z, pa)``. Prediction (eq. 11 and 16): guided DDIM from u given ``(z, pa*)``. What is kept as z is the code
    standardised by its prior, ``(z − μ(pa))/σ(pa)``; with the standard prior that is z itself.

    Args:
        parents: the variables that cause the image, in order.
        image_channels: 1 or 3.
        size: height and width in pixels.
        code_dim: size of z; 0 makes the spatial mechanism.
        prior: ``standard`` for N(0, I), the paper's; ``conditional`` for a learned p(z | pa).
        schedule: a name in `SCHEDULES`.
        timesteps: T.
        prediction: what the network outputs: ``eps``, the paper's, or ``v``, turned into ε on the way out.
        unet, encoder: further arguments of `UNet` and `Encoder`.
    """

    def __init__(
        self,
        parents: Sequence[Variable],
        image_channels: int,
        size: int,
        code_dim: int = 0,
        prior: Literal["standard", "conditional"] = "standard",
        schedule: str = "linear",
        timesteps: int = 1000,
        prediction: Literal["eps", "v"] = "eps",
        unet: Mapping[str, Any] = {},
        encoder: Mapping[str, Any] = {},
    ) -> None:
        super().__init__(parents, image_channels, size)
        if prediction not in ("eps", "v"):
            raise ValueError(f"prediction '{prediction}': must be eps or v")
        self.code_dim, self.prediction = code_dim, prediction
        self.schedule = SCHEDULES[schedule](timesteps)
        self.sampling = Sampling(interval=usual_interval(size))
        self.watch: Callable[[float], None] = lambda loss: None  # is told the alignment loss after each timestep
        condition_dim = code_dim + self.scaling.dim
        self.unet = UNet(image_channels, condition_dim, **unet)
        self.null = nn.Parameter(torch.zeros(condition_dim))
        if code_dim:
            self.encoder = Encoder(image_channels, code_dim, **encoder)
            self.prior = PRIORS[prior](self.scaling.dim, code_dim)

    @property
    def kind(self) -> str:
        """Return ``semantic``, or ``spatial`` if there is no code."""
        return "semantic" if self.code_dim else "spatial"

    @property
    def widths(self) -> dict[str, int]:
        """Return how many entries of a condition the code and each parent take, in order."""
        return {"z": self.code_dim, **self.scaling.widths}

    def eps(self, c: Tensor) -> EpsFn:
        """Bind conditions ``c`` (B, D); returns what predicts the noise in x (B, C, H, W) at true timesteps t (B,)."""
        embedded, low = self.unet.embed(c), self.sampling.precision == "bfloat16"

        def eps_fn(x: Tensor, t: Tensor) -> Tensor:
            with torch.autocast(x.device.type, dtype=torch.bfloat16, enabled=low):
                output = self.unet(x, t, embedded).to(x.dtype)
            return output if self.prediction == "eps" else eps_from_velocity(output, x, self.schedule.alpha_bar(t))

        return eps_fn

    def abduct(
        self, value: Tensor, parents: Mapping[str, Tensor], generator: torch.Generator | None = None
    ) -> ImageNoise:
        """Infer the noise of images in [-1, 1], shape (B, C, H, W), given their parents, each (B,)."""
        how, grid = self.sampling, self.sampling.grid_of(self.schedule)
        pa = self.scaling(parents)
        z = self.encode(value, pa)
        condition = torch.cat([z, pa], dim=1)
        field = self._guided(condition, self.null) if how.abduction == "guided" else self.eps(condition)
        moved: list[Tensor] = []
        states = inversion_path(field, value, self.schedule, grid, how.walk, moved.append)
        if how.abduction in ("semantic", "guided") or how.weights.trivial:
            (u,) = deque(states, maxlen=1)
            noise = ImageNoise(u, z)
        else:
            path = [*states][::-1]
            noise = ImageNoise(path[0], z, **self._retrace(path, condition, grid))
        return noise._replace(unsolved=torch.stack(moved).amax(dim=0)) if moved else noise

    def _retrace(self, path: Sequence[Tensor], condition: Tensor, grid: Tensor) -> dict[str, Tensor]:
        """Return what makes guided generation follow a path, from noise to image: residuals, or null tokens."""
        how = self.sampling
        if how.abduction == "residual":
            return {"residuals": residuals(self._guided(condition, self.null), path, self.schedule, grid)}
        weight, along = how.weights.others, (path, self.schedule, grid)
        tokens = align(
            self.eps, condition, self.null, weight, *along, how.alignment, active=self._active, watch=self.watch
        )
        return {"tokens": tokens}

    def predict(self, noise: ImageNoise, parents: Mapping[str, Tensor]) -> Tensor:
        """Generate images (B, C, H, W), about in [-1, 1], from noise and parents, each (B,)."""
        how, grid = self.sampling, self.sampling.grid_of(self.schedule)
        condition = torch.cat([noise.z, self.scaling(parents)], dim=1)
        null = at_timestep(grid, noise.tokens) if noise.tokens.numel() else self.null
        eps_fn = self._guided(condition, null)
        if noise.residuals.numel():
            eps_fn = shifted(eps_fn, at_timestep(grid, noise.residuals))
        if how.clip:
            eps_fn = clipped(eps_fn, self.schedule)
        return sample(eps_fn, noise.u, self.schedule, grid, how.walk)

    def sample_noise(self, n: int, generator: torch.Generator) -> ImageNoise:
        """Draw u and z from N(0, I)."""
        device = generator.device
        u = torch.randn(n, *self.shape, generator=generator, device=device)
        return ImageNoise(u, torch.randn(n, self.code_dim, generator=generator, device=device))

    def encode(self, value: Tensor, pa: Tensor) -> Tensor:
        """Return the standardised mean code, (B, code_dim), of images given encoded parents (B, D)."""
        if not self.code_dim:
            return value.new_zeros(len(value), 0)
        q = self.encoder(value)
        p = self.prior(pa, q.mean)
        return (q.mean - p.mean) / p.stddev

    def kl(self, value: Tensor, pa: Tensor) -> Tensor:
        """Return ``KL(q(z | x) ‖ p(z | pa))`` in nats, (B,), of images given encoded parents (B, D)."""
        q = self.encoder(value)
        return kl_divergence(q, self.prior(pa, q.mean)).sum(dim=1)

    def forward(
        self,
        value: Tensor,
        parents: Mapping[str, Tensor],
        generator: torch.Generator,
        p_null: float,
        beta: float,
        focus: float = 0.0,
        apart: bool = False,
    ) -> dict[str, Tensor]:
        """Compute the training loss ``β·KL(q(z|x) ‖ p(z|pa)) + ‖ε − ε_θ(x_t, t, c)‖²`` (paper, eq. 13).

        Both terms are summed over dimensions and averaged over the batch. With probability ``p_null`` the whole
        condition is replaced by the null token. A v-predicting network is compared in v.

        Args:
            value: images in [-1, 1], shape (B, C, H, W).
            parents: each (B,).
            generator: of timesteps, noise, codes and dropped conditions.
            p_null: p_∅ in [0, 1).
            beta: weight of the KL term.
            focus: share of the timesteps drawn where detail is decided, as `sample_timesteps`; the paper's is 0.
            apart: with the same probability, drop also the code, and each parent, of the other images by itself, as
                guidance with a weight for each group of parents expects.

        Returns:
            Scalars: ``loss``; ``kl`` in nats; ``conditional`` and ``null``, the denoising loss of the images
            that kept their condition and of those that lost it (NaN where the batch has none).
        """
        b, device = len(value), value.device
        pa = self.scaling(parents)
        z, kl = value.new_zeros(b, 0), value.new_zeros(())
        if self.code_dim:
            q = self.encoder(value)
            p = self.prior(pa, q.mean)
            noise = torch.randn(q.mean.shape, generator=generator, device=device)
            # The prior learns from the KL alone. Were the denoiser to move it too, it would bend the residual
            # until the code repeats the parents, which the denoiser finds handy early in training.
            z = (q.mean + q.stddev * noise - p.mean.detach()) / p.stddev.detach()
            kl = kl_divergence(q, p).sum(dim=1).mean()
        dropped = torch.rand(b, generator=generator, device=device) < p_null
        gone = dropped[:, None]  # (B, 1) or (B, D)
        if apart:
            alone = torch.rand(b, len(self.widths), generator=generator, device=device) < p_null
            columns = zip(alone.split(1, dim=1), self.widths.values())
            gone = gone | torch.cat([column.expand(-1, width) for column, width in columns], dim=1)
        condition = torch.where(gone, self.null, torch.cat([z, pa], dim=1))

        t = sample_timesteps(b, self.schedule, generator, focus)
        a = self.schedule.alpha_bar(t)
        eps = torch.randn(value.shape, generator=generator, device=device)
        target = eps if self.prediction == "eps" else velocity(value, eps, a)
        output = self.unet(add_noise(value, eps, a), t.float(), self.unet.embed(condition))
        error = (output.float() - target).square().sum(dim=(1, 2, 3))  # (B,)
        return {
            "loss": error.mean() + beta * kl,
            "kl": kl.detach(),
            "conditional": mean_where(error.detach(), ~dropped),
            "null": mean_where(error.detach(), dropped),
        }

    def _guided(self, condition: Tensor, null: Tensor | Callable[[Tensor], Tensor]) -> EpsFn:
        """Guide from a null token, or from that of each timestep, to conditions (B, D), as told."""
        weights = self.sampling.weights
        weight = self._groups(weights) if weights.own else weights.others
        return guided(self.eps, condition, null, weight, self._active)

    def _active(self, t: Tensor) -> bool:
        """Say whether timesteps ``t`` (B,), all alike, lie in the interval that is guided."""
        low, high = self.sampling.interval
        return low <= math.sqrt(1 / self.schedule.alpha_bar(t[:1]).item() - 1) <= high

    def _groups(self, weights: Weights) -> Groups:
        """Say which entries of the condition have which ω; variables that do not cause the image have no say."""
        own, groups = dict(weights.own), []
        names = [name for name, width in self.widths.items() for _ in range(width)]
        for name in filter(self.widths.get, self.widths):
            entries = torch.tensor([entry == name for entry in names], device=self.null.device)
            changed = torch.as_tensor(self._emphasised(name), device=entries.device).reshape(-1, 1)
            groups += [(entries & changed, own.get(name, weights.others)), (entries & ~changed, weights.others)]
        return groups

    def _emphasised(self, name: str) -> Tensor | bool:
        """Say in which images, (B,), the weight of a variable counts: everywhere, unless it is due to ``do`` alone."""
        named = isinstance(self.sampling.guidance, Weights) and name in dict(self.sampling.guidance.own)
        return True if named else self.sampling.intervened.get(name, True)


def mean_where(values: Tensor, mask: Tensor) -> Tensor:
    """Average the ``values`` (B,) where ``mask`` (B,) holds; NaN where it never does. Nothing waits for a GPU."""
    return (values * mask).sum() / mask.sum()
