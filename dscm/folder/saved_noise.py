"""Abducted noise in one file, so that later queries about the same images need no abduction.

The file is a zip archive. ``about.json`` describes the checkpoint, the images and the settings of the abduction; each
batch is a member of its own, so that only one is in memory.
"""

import hashlib
import io
import json
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dscm.baselines.autoencoder import CodeSampling, PixelNoise
from dscm.baselines.hvae import LadderNoise
from dscm.causal.learned import FlowNoise
from dscm.causal.mechanisms import Noise, SigmoidNoise
from dscm.data.scaling import to_levels
from dscm.diffusion.mechanism import ImageNoise
from dscm.diffusion.sampling import Sampling
from dscm.errors import InputError, option
from dscm.files import atomic_path

FORMAT = 4
DESCRIPTION = "about.json"
NAMED_TUPLES: Mapping[str, Callable[..., Noise]] = {
    kind.__name__: kind for kind in (ImageNoise, SigmoidNoise, FlowNoise, PixelNoise, LadderNoise)
}


def describe(sha256: str, images: Sequence[str], sampling: Any) -> dict[str, Any]:
    """Describe all that abducted noise depends on.

    Args:
        sha256: hash of the checkpoint of the image's mechanism.
        images: their names, in order.
        sampling: the mechanism's settings.
    """
    return {"format": FORMAT, "checkpoint": sha256, "images": list(images), "sampling": _describe_sampling(sampling)}


def _describe_sampling(sampling: Any) -> dict[str, Any]:
    """Describe the settings on which abduction depends."""
    if isinstance(sampling, CodeSampling):
        chosen = {"no_pixel_noise": not getattr(sampling, "pixel_noise", True), "sample_code": sampling.sample_code}
        return {name: True for name, value in chosen.items() if value}
    solver = sampling.ode_solver
    content: dict[str, Any] = {
        "steps": sampling.steps,
        "grid": sampling.grid,
        "sigma_min": sampling.sigma_min,
        "solver": {"kind": solver.kind, "evaluations": solver.evaluations},
        "precision": getattr(sampling, "precision", "float32"),
        "abduction": getattr(sampling, "abduction", "semantic"),
    }
    if isinstance(sampling, Sampling) and sampling.guides_abduction:
        content |= {"guidance": str(sampling.weights), "interval": list(sampling.guidance_interval)}
    if isinstance(sampling, Sampling) and sampling.abduction == "dynamic":
        names = ("rate", "steps", "optimiser", "tolerance")
        content["alignment"] = {name: getattr(sampling.alignment, name) for name in names}
    return content


@contextmanager
def write_noise(
    path: Path, description: Mapping[str, Any], batch: int
) -> Iterator[Callable[[Mapping[str, Tensor], Mapping[str, Noise]], None]]:
    """Yield a function that adds the noise abducted from an observation; the file is whole when the block ends.

    Args:
        path: the file.
        description: from `describe`.
        batch: number of images in a batch.
    """
    with atomic_path(path) as temporary, zipfile.ZipFile(temporary, "w") as archive:
        archive.writestr(DESCRIPTION, json.dumps({**description, "batch": batch}))

        def add(obs: Mapping[str, Tensor], noise: Mapping[str, Noise]) -> None:
            plain = {k: v if isinstance(v, Tensor) else (type(v).__name__, *v) for k, v in noise.items()}
            member = io.BytesIO()
            torch.save({"obs": fingerprint(obs), "noise": plain}, member)
            archive.writestr(f"{len(archive.namelist()) - 1:06d}.pt", member.getvalue())

        yield add


class SavedNoise:
    """Read a file of `write_noise` batch by batch.

    Args:
        path: the file.
        description: from `describe`, which the file must match.

    Raises:
        InputError: the file is missing, damaged or no noise, or it belongs to another checkpoint, to other images
            or to other settings.
    """

    def __init__(self, path: Path, description: Mapping[str, Any]) -> None:
        self.path = path
        if not path.is_file():
            raise InputError(f"{path}: no such file of noise")
        try:
            self.archive = zipfile.ZipFile(path)
            damaged = self.archive.testzip()
            stored = json.loads(self.archive.read(DESCRIPTION))
            if damaged or stored["format"] != FORMAT:
                raise ValueError
            self.batch = int(stored["batch"])
            self._compare(stored, description)
        except InputError:
            raise
        except Exception as error:  # damaged bytes make the readers raise nearly anything
            raise InputError(f"{path}: damaged, or not noise written by {option('save_noise')}") from error

    def check(self, observations: Iterable[Mapping[str, Tensor]]) -> None:
        """Compare the observations with those that the noise was abducted from, batch by batch.

        Raises:
            InputError: the noise is that of other images or attributes.
        """
        stored = [self._load(index)["obs"] for index in range(len(self.archive.namelist()) - 1)]
        if stored != [fingerprint(obs) for obs in observations]:
            raise InputError(f"{self.path}: noise of other images, or of other factual attributes")

    def read(self, index: int, device: torch.device) -> dict[str, Noise]:
        """Return the noise of batch ``index``, on a device."""
        content = self._load(index, device)
        return {k: v if isinstance(v, Tensor) else NAMED_TUPLES[v[0]](*v[1:]) for k, v in content["noise"].items()}

    def _load(self, index: int, device: torch.device | None = None) -> dict[str, Any]:
        """Read one member of the archive, whose checksums were compared before."""
        member = io.BytesIO(self.archive.read(f"{index:06d}.pt"))
        return torch.load(member, map_location=device or "cpu", weights_only=True)

    def _compare(self, stored: Mapping[str, Any], needed: Mapping[str, Any]) -> None:
        """Raise `InputError` where a stored description differs from the one that is needed."""
        if stored["checkpoint"] != needed["checkpoint"]:
            raise InputError(f"{self.path}: noise of another checkpoint")
        if stored["images"] != needed["images"]:
            raise InputError(f"{self.path}: noise of other images")
        one, other = _without_retired(stored["sampling"]), needed["sampling"]
        for name in sorted(one.keys() | other.keys()):
            if one.get(name) != other.get(name):
                raise InputError(f"{self.path}: noise abducted with {name} {one.get(name)}, not {other.get(name)}")


def _without_retired(sampling: Mapping[str, Any]) -> dict[str, Any]:
    """Leave out the solver's tolerance of earlier versions where it was 0, as it always is now."""
    solver = {k: v for k, v in sampling.get("solver", {}).items() if k != "tolerance" or v}
    return {**sampling, "solver": solver} if solver else dict(sampling)


def fingerprint(obs: Mapping[str, Tensor]) -> str:
    """Hash an observation: the image's 8 bits and three digits of each attribute, which every machine agrees on."""
    digest = hashlib.sha256()
    for name in sorted(obs):
        if name == "image":
            digest.update(to_levels(obs[name]).cpu().contiguous().numpy().tobytes())
        else:
            digest.update(f"{name} {[f'{value:.3g}' for value in obs[name].tolist()]}".encode())
    return digest.hexdigest()
