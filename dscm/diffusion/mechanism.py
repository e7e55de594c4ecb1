"""The diffusion mechanism of an image, spatial or semantic."""

from collections.abc import Callable, Hashable, Mapping, Sequence
from functools import partial
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

from dscm.causal.draws import Source, draw_normal
from dscm.causal.image_mechanism import ImageMechanism
from dscm.causal.mechanisms import Intervened, Parents
from dscm.causal.variables import Variable
from dscm.diffusion import published
from dscm.diffusion.alignment import align, at_timestep, residuals
from dscm.diffusion.correction import Reader, correct
from dscm.diffusion.encoder import Encoder
from dscm.diffusion.guidance import check_names, guided, shifted, weigh
from dscm.diffusion.objective import choose_dropped, draw_noise, mean_where, reread, share
from dscm.diffusion.prior import PRIORS, FlowPrior
from dscm.diffusion.process import SCHEDULES, EpsFn, add_noise, eps_from_velocity, velocity
from dscm.diffusion.replay import Replay, Result, place
from dscm.diffusion.sampling import Sampling, default_interval
from dscm.diffusion.solvers import inversion_path, last, sample
from dscm.diffusion.unet import UNet
from dscm.errors import InputError, option

UNTRAINED = "trained without a null token (p_∅ = 0)"


class ImageNoise(NamedTuple):
    """The exogenous noise of an image.

    Spatial ``u`` (B, C, H, W); semantic ``z`` (B, code_dim), empty if the mechanism is spatial; the null ``tokens``
    (B, K, D) of dynamic abduction and the ``residuals`` (B, K, C, H, W) of residual abduction, empty otherwise;
    ``unsolved`` (B,), the last change in the worst implicit step of the inversion, root mean square of a pixel on
    [-1, 1], empty where no step was implicit.
    """

    u: Tensor
    z: Tensor
    tokens: Tensor = torch.empty(0)
    residuals: Tensor = torch.empty(0)
    unsolved: Tensor = torch.empty(0)


class DiffusionMechanism(ImageMechanism[ImageNoise]):
    """Generate an image from its parents, spatial noise u and, if ``code_dim`` > 0, a semantic code z.

    Abduction (paper, eq. 9 and 12): z is the mean of the encoder, or with ``sample_code`` a sample of q(z | x), then u
    is the DDIM inversion of x given ``c = (z, pa)``. Prediction (eq. 11 and 16): guided DDIM from u given ``(z, pa*)``.
    The noise z is the exogenous part of the code, ``ε = T(e; pa)``, where ``e = (z − μ(pa))/σ(pa)`` is the code as its
    prior standardises it and the network sees it. With the standard prior that is the code itself, with the conditional
    one it is e.

    Args:
        parents: the variables that cause the image, in order.
        image_channels: 1 or 3.
        size: height and width in pixels.
        code_dim: size of z; 0 makes the spatial mechanism.
        prior: ``standard`` for N(0, I), the paper's; ``conditional`` for a learned Gaussian p(z | pa), ``flow`` for a
            flow.
        schedule: a name in `SCHEDULES`.
        timesteps: T.
        prediction: output of the network: ``eps``, the paper's, or ``v``, which is converted to ε.
        unet, encoder: further arguments of `UNet` and `Encoder`.
    """

    sampling: Sampling
    null_trained = True  # whether conditions were dropped in training
    read: Reader | None = None  # what measures parents on images, where that can be

    def __init__(
        self,
        parents: Sequence[Variable],
        image_channels: int,
        size: int,
        code_dim: int = 0,
        prior: Literal["standard", "conditional", "flow"] = "standard",
        schedule: str = "linear",
        timesteps: int = 1000,
        prediction: Literal["eps", "v"] = "eps",
        unet: Mapping[str, Any] = {},
        encoder: Mapping[str, Any] = {},
    ) -> None:
        super().__init__(parents, image_channels, size, Sampling(guidance_interval=default_interval(size)))
        if prediction not in ("eps", "v"):
            raise ValueError(f"prediction '{prediction}': must be eps or v")
        self.code_dim, self.prediction = code_dim, prediction
        self.schedule = SCHEDULES[schedule](timesteps)
        condition_dim = code_dim + self.scaling.dim
        self.unet = UNet(image_channels, condition_dim, **unet)
        self.null = nn.Parameter(torch.zeros(condition_dim))
        if code_dim:
            self.encoder = Encoder(image_channels, code_dim, **encoder)
        self.prior = PRIORS[prior if code_dim else "standard"](self.scaling.dim, code_dim)
        self.replay = Replay()

    @property
    def kind(self) -> str:
        """Return ``semantic``, or ``spatial`` if there is no code."""
        return "semantic" if self.code_dim else "spatial"

    @property
    def has_code(self) -> bool:
        """Tell whether there is a z."""
        return self.code_dim > 0

    def using(self, **changes: Any) -> "DiffusionMechanism":
        """Return this mechanism with other settings; guidance weights must name parents of the image.

        Args:
            changes: fields of `Sampling`.

        Raises:
            InputError: there is no such setting, a value is not allowed, or the null token or the code that it needs
                is missing.
        """
        view = super().using(**changes)
        view.check_guidance()
        if view.sampling.corrections and self.read is None:
            raise InputError(f"{option('corrections')}: needs parents of the image that are measured on it")
        if view.sampling.sample_code and not view.has_code:
            raise InputError(f"{option('sample_code')} on: a {self.kind} mechanism has no code to sample")
        return view

    def check_guidance(self) -> None:
        """Check that this mechanism can be guided as its settings ask.

        Raises:
            InputError: a weight or an interval names no parent of the image, or the null token was never trained.
        """
        check_names(self.sampling.weights, self.sampling.intervals, [v.name for v in self.scaling.variables])
        if not self.null_trained and self.sampling.abduction != "semantic":
            raise InputError(f"{UNTRAINED}; {option('abduction')} must be semantic")
        if not self.null_trained and not self.sampling.weights.trivial:
            raise InputError(f"{UNTRAINED}; {option('guidance')} must be 1")

    @property
    def widths(self) -> dict[str, int]:
        """Return how many entries of the condition the code and each parent take, in order."""
        return {"z": self.code_dim, **self.scaling.widths}

    def eps(self, c: Tensor) -> EpsFn:
        """Bind conditions ``c`` (B, D): return ``eps_fn(x, t)``, with x (B, C, H, W) and true timesteps t (B,)."""
        embedded, low = self.unet.embed(c), self.sampling.precision == "bfloat16"

        def eps_fn(x: Tensor, t: Tensor) -> Tensor:
            t = place(t, x)
            with torch.autocast(x.device.type, dtype=torch.bfloat16, enabled=low):
                output = self.unet(x, t, embedded).to(x.dtype)
            return output if self.prediction == "eps" else eps_from_velocity(output, x, self.schedule.alpha_bar(t))

        return eps_fn

    def abduct(self, value: Tensor, parents: Parents, generator: Source | None = None) -> ImageNoise:
        """Infer the noise of images in [-1, 1], shape (B, C, H, W), given their parents, each (B,).

        With ``sample_code`` and a generator, z is a sample of q(z | x), and u that of this z.
        """
        pa = self.scaling(parents)
        z = self.encode(value, pa, generator if self.sampling.sample_code else None)
        return self._run("abduct", self._abduct, pa, value, z)

    def _abduct(self, pa: Tensor, value: Tensor, z: Tensor) -> ImageNoise:
        """Infer the noise of images, given their encoded parents and the noise of their codes."""
        sampling, grid = self.sampling, self.sampling.timesteps(self.schedule)
        condition = self.condition(z, pa)
        if sampling.published:
            return ImageNoise(published.abduct(self.eps(condition), value, self.schedule, grid), z)
        field = self.guide(condition) if sampling.abduction == "guided" else self.eps(condition)
        moved: list[Tensor] = []
        states = inversion_path(field, value, self.schedule, grid, sampling.ode_solver, moved.append)
        if sampling.abduction in ("semantic", "guided") or sampling.weights.trivial:
            noise = ImageNoise(last(states), z)
        else:
            path = [*states][::-1]
            noise = ImageNoise(path[0], z, **self._retrace(path, condition, grid))
        return noise._replace(unsolved=torch.stack(moved).amax(dim=0)) if moved else noise

    def _retrace(self, path: Sequence[Tensor], condition: Tensor, grid: Tensor) -> dict[str, Tensor]:
        """Return the residuals, or null tokens, that make guided generation follow a path from noise to image."""
        if self.sampling.abduction == "residual":
            return {"residuals": residuals(self.guide(condition), path, self.schedule, grid)}
        weight, along = self.sampling.weights.others, (path, self.schedule, grid)
        low, high = self.sampling.intervals.others
        within = (self.sampling.alignment, lambda t: low <= self._level(t) <= high)
        tokens = align(self.eps, condition, self.null, weight, *along, *within)
        return {"tokens": tokens}

    def predict(self, noise: ImageNoise, parents: Parents, intervened: Intervened = {}) -> Tensor:
        """Generate images (B, C, H, W), approximately in [-1, 1].

        Args:
            noise: from `abduct` or `sample_noise`.
            parents: each (B,).
            intervened: the variables that an intervention sets, each with the images in which it changes them, bool
                (B,) or (); guidance weights for ``do``, and corrections, apply there.
        """
        self.check_guidance()
        chosen = intervened if self.sampling.weights.by_target else {}
        parts = [*noise[:4], *(x.to(noise.u.device).expand(len(noise.u)) for x in chosen.values())]

        def generate(told: Parents) -> Tensor:
            return self._run(("predict", *chosen), partial(self._predict, [*chosen]), self.scaling(told), *parts)

        if not (self.read and intervened and self.sampling.corrections):
            return generate(parents)
        return correct(generate, self.read, parents, intervened, self.sampling.corrections, self.scaling)

    def _predict(self, names: Sequence[str], pa: Tensor, *parts: Tensor) -> Tensor:
        """Generate images given encoded parents, from noise, and where an intervention changes the named variables."""
        u, z, tokens, residuals, *changed = parts
        sampling, grid = self.sampling, self.sampling.timesteps(self.schedule)
        null = at_timestep(grid, tokens) if tokens.numel() else None
        eps_fn = self.guide(self.condition(z, pa), null, dict(zip(names, changed)))
        eps_fn = shifted(eps_fn, at_timestep(grid, residuals)) if residuals.numel() else eps_fn
        if sampling.published:
            return published.predict(eps_fn, u, self.schedule, grid)
        return sample(eps_fn, u, self.schedule, grid, sampling.ode_solver)

    def _run(self, key: Hashable, function: Callable[..., Result], *inputs: Tensor) -> Result:
        """Run a pure function of a batch, replayed unless it clamps, or optimises, at every step."""
        alone = self.sampling.published or self.sampling.abduction == "dynamic"
        return function(*inputs) if alone else self.replay(function, (key, repr(self.sampling)), inputs, self)

    def sample_noise(self, n: int, generator: Source) -> ImageNoise:
        """Draw u and z from N(0, I)."""
        return ImageNoise(draw_normal((n, *self.shape), generator), draw_normal((n, self.code_dim), generator))

    def drawing(self) -> "DiffusionMechanism":
        """Return this mechanism without fitted levels: at their end a drawn image would keep the grain of its noise."""
        return self.using(grid="log-sigma") if self.sampling.levels else self

    def encode(self, value: Tensor, pa: Tensor, generator: Source | None = None) -> Tensor:
        """Return the exogenous noise of the code, (B, code_dim), of images given encoded parents (B, D).

        It is that of the mean of q(z | x) or, with a generator, of a sample.
        """
        if not self.code_dim:
            return value.new_zeros(len(value), 0)
        q = self.encoder(value)
        p = self.prior(pa, q.mean)
        z = q.mean if generator is None else q.mean + q.stddev * draw_normal(q.mean.shape, generator, q.mean.dtype)
        return self.prior.to_noise((z - p.mean) / p.stddev, pa)

    def condition(self, z: Tensor, pa: Tensor) -> Tensor:
        """Return what the network is shown, (B, code_dim + D): the code of noise z given encoded parents, and these."""
        return torch.cat([self.prior.from_noise(z, pa), pa], dim=1)

    def kl(self, value: Tensor, pa: Tensor, generator: Source) -> Tensor:
        """Return ``KL(q(z | x) ‖ p(z | pa))`` in nats, (B,), given encoded parents (B, D); a flow's by one sample."""
        q = self.encoder(value)
        return self.prior.kl(q, q.mean + q.stddev * draw_normal(q.mean.shape, generator, q.mean.dtype), pa)

    def forward(
        self,
        value: Tensor,
        parents: Parents,
        generator: torch.Generator,
        p_null: float,
        beta: float,
        focus: float = 0.0,
        apart: bool = False,
        gamma: float = 0.0,
        kappa: float = 0.0,
        shift: float = 1.0,
        like: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """Compute the training loss ``β·KL(q(z|x) ‖ p(z|pa)) + ‖ε − ε_θ(x_t, t, c)‖²`` (paper, eq. 13).

        All terms are summed over dimensions and averaged over the batch; v-predictions are compared in v.

        Args:
            value: images in [-1, 1], shape (B, C, H, W).
            parents: each (B,).
            generator: source of timesteps, noise, codes and dropped conditions.
            p_null, beta: p_∅ in [0, 1), the probability of replacing the whole condition by the null token; and β.
            focus, shift: share of log-normal noise levels, and factor, as in `sample_timesteps`; 0 and 1 in the paper.
            apart: with the same probability also drop the code, and each parent, by itself, for weights of groups.
            gamma, kappa: the weights γ of `FlowPrior.divergence` and κ of `reread`, of a fourth of the images.
            like: the image whose timestep, noise, code's noise and dropped conditions each has, as in `share`.

        Returns:
            Scalars: ``loss``; ``kl`` in nats; ``conditional`` and ``null``, the denoising loss of the images that kept
            their condition and of those that lost it (NaN where there are none); the terms that have a weight.
        """
        pa = self.scaling(parents)
        e, terms = self._sample_code(value, pa, generator, gamma, like)
        hidden, dropped = choose_dropped(self.widths, len(value), p_null, apart, generator, like)
        condition = torch.where(hidden, self.null, torch.cat([e, pa], dim=1))
        t, eps = draw_noise(value, self.schedule, generator, focus, shift, like)
        a = self.schedule.alpha_bar(t)
        target = eps if self.prediction == "eps" else velocity(value, eps, a)
        output = self.unet(add_noise(value, eps, a), t.float(), self.unet.embed(condition))
        error = (output.float() - target).square().sum(dim=(1, 2, 3))  # (B,)
        terms |= {"reread": self._reread(e, pa, generator).mean()} if kappa else {}
        weights = {"kl": beta, "divergence": gamma, "reread": kappa}
        return {
            "loss": error.mean() + sum(weights[name] * term for name, term in terms.items()),
            "conditional": mean_where(error.detach(), ~dropped),
            "null": mean_where(error.detach(), dropped),
            **{name: term.detach() for name, term in terms.items()},
        }

    def _reread(self, e: Tensor, pa: Tensor, generator: torch.Generator) -> Tensor:
        """Return the change of codes that are read again under the parents of another image, of a fourth of a batch."""
        n = -(-len(e) // 4)
        order = torch.randperm(n, generator=generator, device=e.device)
        new = pa[:n][order]
        code = self.prior.from_noise(self.prior.to_noise(e[:n], pa[:n]), new).detach()
        u = torch.randn((n, *self.shape), generator=generator, device=e.device, dtype=e.dtype)

        def read(image: Tensor) -> Tensor:
            z = self.encoder(image).mean
            p = self.prior(new, z)
            return (z - p.mean.detach()) / p.stddev.detach()

        return reread(self.eps(torch.cat([code, new], dim=1)), read, code, u, self.schedule)

    def _sample_code(
        self, value: Tensor, pa: Tensor, generator: torch.Generator, gamma: float, like: Tensor | None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Sample standardised codes, (B, code_dim), of images given encoded parents; return them and their terms."""
        if not self.code_dim:
            return value.new_zeros(len(value), 0), {"kl": value.new_zeros(())}
        q = self.encoder(value)
        p = self.prior(pa, q.mean)
        noise = share(torch.randn(q.mean.shape, generator=generator, device=value.device), like)
        # The prior learns from the KL alone. Gradients of the denoiser would shape it until the code repeats the
        # parents, which lowers the denoising loss early in training.
        z = q.mean + q.stddev * noise
        e = (z - p.mean.detach()) / p.stddev.detach()
        terms = {"kl": self.prior.kl(q, z, pa).mean()}
        if gamma and isinstance(self.prior, FlowPrior):
            terms["divergence"] = self.prior.divergence(e, pa).mean()
        return e, terms

    def guide(
        self, condition: Tensor, null: Tensor | Callable[[Tensor], Tensor] | None = None, intervened: Intervened = {}
    ) -> EpsFn:
        """Guide from the null token, another one, or that of each timestep, to conditions (B, D)."""
        sampling = self.sampling
        groups = weigh(sampling.weights, sampling.intervals, self.widths, intervened, condition)
        return guided(self.eps, condition, self.null if null is None else null, groups, self._level)

    def _level(self, t: Tensor) -> float:
        """Return σ at timesteps ``t`` (B,), all equal."""
        return self.schedule.sigma(t[:1]).item()
