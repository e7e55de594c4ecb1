"""What a user of diffusers usually picks for the same task: DDIM inversion and DDIM, in 50 explicit steps.

The network, the code z and the parents are those of a mechanism here. Up, ``DDIMInverseScheduler`` goes from the image,
taken for ᾱ = 1, through timesteps 0, 20, …, 980 of its ``leading`` spacing (1, 21, …, 981 here, where 0 is the clean
image), unguided; the network is told the timestep that a step arrives at, where the paper's eq. 7 tells the one that it
leaves. Down, ``DDIMScheduler`` goes back through the same ones to ᾱ = 1, guided at every level. Both have
``clip_sample=False``: with their default, which clamps x̂_0, the inversion is far worse.

Where diffusers is installed its schedulers take the steps. Elsewhere they are taken here by the same formula, in which
x̂_0 and the direction towards x_t are one `ddim_step`.
"""

from collections.abc import Iterable

import torch
from torch import Tensor

from dscm.causal.draws import Source
from dscm.causal.mechanisms import Intervened, Mechanism, Parents
from dscm.diffusion.mechanism import DiffusionMechanism, ImageNoise
from dscm.diffusion.process import EpsFn, Schedule, ddim_step

try:
    from diffusers import DDIMInverseScheduler, DDIMScheduler
except ImportError:
    DDIMInverseScheduler = DDIMScheduler = None

STEPS = 50
EVERYWHERE = (0.0, 1000.0)


class UsualPick(Mechanism[ImageNoise]):
    """Answer with the network of a mechanism, guided as it is but at every level.

    Args:
        mechanism: its network, encoder, prior and guidance weight are used.
        steps: each way.
    """

    event_dims = 3

    def __init__(self, mechanism: DiffusionMechanism, steps: int = STEPS) -> None:
        super().__init__()
        self.mechanism, self.steps = mechanism.using(guidance_interval=EVERYWHERE), steps
        self.sampling = self.mechanism.sampling

    def abduct(self, value: Tensor, parents: Parents, generator: Source | None = None) -> ImageNoise:
        """Invert without guidance."""
        pa = self.mechanism.scaling(parents)
        z = self.mechanism.encode(value, pa)
        return ImageNoise(
            invert(self.mechanism.eps(self.mechanism.condition(z, pa)), value, self.schedule, self.steps), z
        )

    def predict(self, noise: ImageNoise, parents: Parents, intervened: Intervened = {}) -> Tensor:
        """Generate with guidance."""
        model = self.mechanism
        condition = model.condition(noise.z, model.scaling(parents))
        return generate(model.guide(condition, intervened=intervened), noise.u, self.schedule, self.steps)

    @property
    def schedule(self) -> Schedule:
        """Return the noise schedule."""
        return self.mechanism.schedule


def invert(eps_fn: EpsFn, x: Tensor, schedule: Schedule, steps: int) -> Tensor:
    """Go from images to noise; the network is told where a step arrives."""
    if DDIMInverseScheduler is not None:
        return walk(DDIMInverseScheduler, eps_fn, x, schedule, steps)
    levels = list_levels(schedule, steps)
    for here, there in zip(levels, levels[1:]):
        x = ddim_step(x, eps_fn(x, fill(there, x)), schedule.alpha_bar(here), schedule.alpha_bar(there))
    return x


def generate(eps_fn: EpsFn, x: Tensor, schedule: Schedule, steps: int) -> Tensor:
    """Go from noise to images; the network is told where a step begins."""
    if DDIMScheduler is not None:
        return walk(DDIMScheduler, eps_fn, x, schedule, steps)
    levels = list_levels(schedule, steps)[::-1]
    for here, there in zip(levels, levels[1:]):
        x = ddim_step(x, eps_fn(x, fill(here, x)), schedule.alpha_bar(here), schedule.alpha_bar(there))
    return x


def walk(kind: type, eps_fn: EpsFn, x: Tensor, schedule: Schedule, steps: int) -> Tensor:
    """Take the steps of a scheduler of diffusers, whose timestep t is t + 1 here."""
    betas = -schedule.log_alpha_bar.diff().expm1()
    scheduler = kind(num_train_timesteps=schedule.steps, trained_betas=betas.numpy(), clip_sample=False)
    scheduler.set_timesteps(steps)
    timesteps: Iterable[Tensor] = scheduler.timesteps
    for t in timesteps:
        x = scheduler.step(eps_fn(x, fill(t + 1, x)), int(t), x).prev_sample
    return x


def list_levels(schedule: Schedule, steps: int) -> list[Tensor]:
    """List the timesteps from the clean image upwards: 0, then 1, 1 + T/K, and so on."""
    return [*torch.cat([torch.zeros(1), 1 + torch.arange(steps) * (schedule.steps // steps)]).double()]


def fill(t: Tensor, x: Tensor) -> Tensor:
    """Repeat a timestep for each image."""
    return x.new_full((len(x),), float(t))
