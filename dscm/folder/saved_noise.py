"""Abducted noise in one file, so that later queries on the same images need not abduct again.

The file is a zip archive: ``about.json`` says which checkpoint, images and settings it belongs to, and each batch is
a member of its own, so that neither writing nor reading ever holds more than one.
"""

import hashlib
import io
import json
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dscm.baselines.autoencoder import PixelNoise
from dscm.baselines.hvae import LadderNoise
from dscm.data.scaling import to_levels
from dscm.errors import InputError
from dscm.files import atomic_path
from dscm.diffusion.mechanism import ImageNoise
from dscm.causal.learned import FlowNoise
from dscm.causal.mechanisms import Noise, SigmoidNoise
from dscm.diffusion.sampling import Sampling

FORMAT = 4
ABOUT = "about.json"
KINDS = {
    kind.__name__: kind for kind in (ImageNoise, SigmoidNoise, FlowNoise, PixelNoise, LadderNoise)
}  # of noise that is more than one tensor


def describe(
    checkpoint: Path, images: list[str], sampling: Sampling | None, own: Mapping[str, Any] = {}
) -> dict[str, Any]:
    """Say what noise depends on: the checkpoint's bytes, the names of the images, and how it is abducted.

    Args:
        checkpoint: the file of the image's mechanism.
        images: their names, in order.
        sampling: the settings, if the mechanism has any; guidance counts only where the abduction depends on it.
        own: further ones, of an autoencoder.
    """
    settings = asdict(sampling) | {"guidance": str(sampling.guidance)} if sampling else dict(own)
    for name in ("clip", "intervened"):
        settings.pop(name, None)
    if settings.get("abduction") == "semantic":
        del settings["guidance"], settings["interval"]
    if settings.get("abduction") != "dynamic":
        settings.pop("alignment", None)
    digest = hashlib.sha256(Path(checkpoint).read_bytes()).hexdigest()
    return {"format": FORMAT, "checkpoint": digest, "images": images, "sampling": settings}


@contextmanager
def write_noise(
    path: Path, about: Mapping[str, Any], batch: int
) -> Iterator[Callable[[Mapping[str, Tensor], Mapping[str, Noise]], None]]:
    """Yield a function that adds the noise abducted from an observation; the file is whole when the block ends.

    Args:
        path: the file.
        about: from `describe`.
        batch: images in a batch.
    """
    with atomic_path(path) as temporary:
        with zipfile.ZipFile(temporary, "w") as archive:
            archive.writestr(ABOUT, json.dumps({**about, "batch": batch}))

            def add(obs: Mapping[str, Tensor], noise: Mapping[str, Noise]) -> None:
                plain = {k: v if isinstance(v, Tensor) else (type(v).__name__, *v) for k, v in noise.items()}
                member = io.BytesIO()
                torch.save({"obs": fingerprint(obs), "noise": plain}, member)
                archive.writestr(f"{len(archive.namelist()) - 1:06d}.pt", member.getvalue())

            yield add


class SavedNoise:
    """Read what `write_noise` wrote, batch by batch.

    Args:
        path: the file.
        about: from `describe`, which the file must match.

    Raises:
        InputError: the file is missing, damaged or no noise, or it belongs to another checkpoint, to other images
            or to other settings.
    """

    def __init__(self, path: Path, about: Mapping[str, Any]) -> None:
        self.path = Path(path)
        if not self.path.is_file():
            raise InputError(f"{path}: no such file of noise")
        try:
            self.archive = zipfile.ZipFile(self.path)
            damaged = self.archive.testzip()
            found = json.loads(self.archive.read(ABOUT))
            if damaged or found["format"] != FORMAT:
                raise ValueError
            self.batch = int(found["batch"])
            self._compare(found, about)
        except InputError:
            raise
        except Exception as error:  # damaged bytes make the readers raise nearly anything
            raise InputError(f"{path}: damaged, or not noise that --save-noise of this program wrote") from error

    def check(self, observations: Iterable[Mapping[str, Tensor]]) -> None:
        """Compare what the noise was abducted from with the observations, batch by batch.

        Raises:
            InputError: the noise is that of other images or attributes.
        """
        found = [self._load(index)["obs"] for index in range(len(self.archive.namelist()) - 1)]
        if found != [fingerprint(obs) for obs in observations]:
            raise InputError(f"{self.path}: noise of other images, or of other factual attributes")

    def read(self, index: int, device: torch.device) -> dict[str, Noise]:
        """Return the noise of batch ``index``, on a device."""
        content = self._load(index, device)
        return {k: v if isinstance(v, Tensor) else KINDS[v[0]](*v[1:]) for k, v in content["noise"].items()}

    def _load(self, index: int, device: torch.device | None = None) -> dict[str, Any]:
        """Read one member of the archive; the checksums of all were compared before."""
        member = io.BytesIO(self.archive.read(f"{index:06d}.pt"))
        return torch.load(member, map_location=device or "cpu", weights_only=True)

    def _compare(self, found: Mapping[str, Any], about: Mapping[str, Any]) -> None:
        """Raise `InputError` where what was found differs from what is wanted."""
        if found["checkpoint"] != about["checkpoint"]:
            raise InputError(f"{self.path}: noise of another checkpoint")
        if found["images"] != about["images"]:
            raise InputError(f"{self.path}: noise of other images")
        wanted = json.loads(json.dumps(about["sampling"]))
        for name in sorted(found["sampling"].keys() | wanted.keys()):
            mine, theirs = found["sampling"].get(name), wanted.get(name)
            if mine != theirs:
                raise InputError(f"{self.path}: noise abducted with {name} {mine}; asked for is {theirs}")


def fingerprint(obs: Mapping[str, Tensor]) -> str:
    """Hash an observation: the image's 8 bits and three digits of each attribute, which every machine agrees on."""
    digest = hashlib.sha256()
    for name in sorted(obs):
        if name == "image":
            digest.update(to_levels(obs[name]).cpu().contiguous().numpy().tobytes())
        else:
            digest.update(f"{name} {[f'{value:.3g}' for value in obs[name].tolist()]}".encode())
    return digest.hexdigest()
