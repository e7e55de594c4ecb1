"""Abducted noise in one file, so that later queries about the same images need no abduction.

The file is a zip archive. ``about.json`` describes the checkpoint, the images and the settings of the abduction; each
batch is a member of its own, so that only one is in memory. Until all batches are there, they lie in a hidden folder
beside the file.
"""

import hashlib
import io
import json
import shutil
import zipfile
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dscm.baselines.autoencoder import CodeSampling, PixelNoise
from dscm.baselines.hvae import LadderNoise
from dscm.causal.draws import Source
from dscm.causal.learned import FlowNoise
from dscm.causal.mechanisms import Noise, SigmoidNoise
from dscm.causal.particles import abduct_particles
from dscm.causal.scm import SCM
from dscm.checkpoint import load_plain
from dscm.data.scaling import to_levels
from dscm.diffusion.mechanism import ImageNoise
from dscm.diffusion.sampling import Sampling
from dscm.errors import InputError, option
from dscm.files import atomic_path, parse_json
from dscm.settings import check_integer

FORMAT = 5
DIGITS = {4: 3, 5: 5}  # of an attribute in a fingerprint, by format: fewer than differ between machines
DESCRIPTION = "about.json"
NAMED_TUPLES: Mapping[str, Callable[..., Noise]] = {
    kind.__name__: kind for kind in (ImageNoise, SigmoidNoise, FlowNoise, PixelNoise, LadderNoise)
}


def describe(parts: Mapping[str, str], images: Sequence[str], sampling: Any) -> dict[str, Any]:
    """Describe all that abducted noise depends on.

    Args:
        parts: hashes of the checkpoints: that of the image's mechanism, ``checkpoint``, and of ``attributes``.
        images: their names, in order.
        sampling: the mechanism's settings.
    """
    learned = {"attributes": parts["attributes"]} if "attributes" in parts else {}
    content = {"format": FORMAT, "checkpoint": parts["checkpoint"], **learned, "images": list(images)}
    return {**content, "sampling": _describe_sampling(sampling)}


def _describe_sampling(sampling: Any) -> dict[str, Any]:
    """Describe the settings on which abduction depends."""
    if isinstance(sampling, CodeSampling):
        chosen = {"no_pixel_noise": not getattr(sampling, "pixel_noise", True), "sample_code": sampling.sample_code}
        chosen["residuals"] = getattr(sampling, "residuals", False)
        return {name: True for name, value in chosen.items() if value}
    solver = sampling.ode_solver
    content: dict[str, Any] = {
        "steps": sampling.count,
        "grid": sampling.spacing,
        "sigma_min": sampling.lowest,
        "solver": {"kind": solver.kind, "evaluations": solver.evaluations},
        "precision": getattr(sampling, "precision", "float32"),
        "abduction": getattr(sampling, "abduction", "semantic"),
    }
    switches = ("clamp", "published", "sample_code")
    content |= {name: True for name in switches if getattr(sampling, name, False)}
    if isinstance(sampling, Sampling) and sampling.guides_abduction:
        interval = sampling.intervals.plain
        content |= {"guidance": str(sampling.weights)}
        content["interval"] = interval if isinstance(interval, str) else list(interval)
    if isinstance(sampling, Sampling) and sampling.abduction == "dynamic":
        names = ("rate", "steps", "optimiser", "tolerance")
        content["alignment"] = {name: getattr(sampling.alignment, name) for name in names}
    return content


class NoiseWriter:
    """Write abducted noise batch by batch, so that a command that was stopped keeps what it has.

    Args:
        path: the file, which is there, whole, after `close`.
        description: from `describe`.
        batch: number of images in a batch.
    """

    def __init__(self, path: Path, description: Mapping[str, Any], batch: int) -> None:
        self.path, self.about = path, json.dumps({**description, "batch": batch})
        self.folder = path.with_name(f".{path.name}.parts")

    def open(self, resumed: bool) -> None:
        """Begin, or go on with the batches of an earlier command, whether it came to its end or not."""
        if not (resumed and self._begun):
            shutil.rmtree(self.folder, ignore_errors=True)
        if resumed and self._whole and not self._begun:
            try:
                with zipfile.ZipFile(self.path) as archive:
                    archive.extractall(self.folder)
            except (zipfile.BadZipFile, zlib.error, EOFError) as error:
                shutil.rmtree(self.folder, ignore_errors=True)
                raise InputError(f"{self.path}: damaged; remove it, and the same command writes it again") from error
        with atomic_path(self.folder / DESCRIPTION) as temporary:
            temporary.write_text(self.about, encoding="utf-8")

    def has(self, index: int) -> bool:
        """Tell whether an earlier command of the same description left batch ``index``."""
        return _member(index) in self._whole or (self._begun and self._part(index).is_file())

    def add(self, index: int, obs: Mapping[str, Tensor], noise: Mapping[str, Noise]) -> None:
        """Add the noise of batch ``index``, abducted from an observation."""
        plain = {k: v if isinstance(v, Tensor) else (type(v).__name__, *v) for k, v in noise.items()}
        member = io.BytesIO()
        torch.save({"obs": fingerprint(obs, DIGITS[FORMAT]), "noise": plain}, member)
        with atomic_path(self._part(index)) as temporary:
            temporary.write_bytes(member.getvalue())

    def close(self) -> None:
        """Make the file of all batches."""
        with atomic_path(self.path) as temporary, zipfile.ZipFile(temporary, "w") as archive:
            archive.writestr(zipfile.ZipInfo(DESCRIPTION), self.about)  # without a date: the same bytes every time
            for part in sorted(self.folder.glob("[0-9]*.pt")):
                archive.writestr(zipfile.ZipInfo(part.name), part.read_bytes())
        shutil.rmtree(self.folder)

    @cached_property
    def _whole(self) -> set[str]:
        """List the members of the file that an earlier command of the same description finished."""
        if not zipfile.is_zipfile(self.path):
            return set()
        with zipfile.ZipFile(self.path) as archive:
            names = {*archive.namelist()}
            same = DESCRIPTION in names and archive.read(DESCRIPTION) == self.about.encode()
        return names if same else set()

    @cached_property
    def _begun(self) -> bool:
        """Tell whether an earlier command of the same description has begun with the parts."""
        path = self.folder / DESCRIPTION
        return path.is_file() and path.read_bytes() == self.about.encode()

    def _part(self, index: int) -> Path:
        """Name the file of a batch."""
        return self.folder / _member(index)


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
            stored = parse_json(self.archive.read(DESCRIPTION).decode("utf-8"))
            if damaged:
                raise ValueError
            self.digits = DIGITS[stored["format"]]
            self.batch = check_integer("batch", stored["batch"], 1)
            self._compare(stored, description)
        except InputError:
            raise
        except Exception as error:  # damaged bytes make the readers raise nearly anything
            raise self._damaged() from error

    def check(self, observations: Iterable[tuple[int, Mapping[str, Tensor]]]) -> None:
        """Compare the observations, each with the number of its batch, with those that the noise was abducted from.

        Raises:
            InputError: the noise is that of other images or attributes.
        """
        members = {*self.archive.namelist()} - {DESCRIPTION}
        for index, obs in observations:
            stored, noise = self._load(_member(index)) if _member(index) in members else ("", {})
            if stored != fingerprint(obs, self.digits):
                raise self._of_others()
            if noise.keys() != obs.keys() or not all(_fits(part, len(obs["image"])) for part in noise.values()):
                raise self._damaged()
            members.remove(_member(index))
        if members:
            raise self._of_others()

    def read(self, index: int, device: torch.device) -> dict[str, Noise]:
        """Return the noise of batch ``index``, on a device."""
        return self._load(_member(index), device)[1]

    def _load(self, name: str, device: torch.device | None = None) -> tuple[str, dict[str, Noise]]:
        """Read the hash of the observation and the noise from one member of the archive."""
        try:
            content = load_plain(io.BytesIO(self.archive.read(name)), device or "cpu")
            plain = content["noise"].items()
            return content["obs"], {k: v if isinstance(v, Tensor) else NAMED_TUPLES[v[0]](*v[1:]) for k, v in plain}
        except Exception as error:  # as above
            raise self._damaged() from error

    def _of_others(self) -> InputError:
        """Make the error that the images are not those of the file."""
        return InputError(f"{self.path}: noise of other images, or of other factual attributes")

    def _damaged(self) -> InputError:
        """Make the error that the file cannot be read."""
        return InputError(f"{self.path}: damaged, or not noise written by {option('save_noise')}")

    def _compare(self, stored: Mapping[str, Any], needed: Mapping[str, Any]) -> None:
        """Raise `InputError` where a stored description differs from the one that is needed."""
        if stored["checkpoint"] != needed["checkpoint"]:
            raise InputError(f"{self.path}: noise of another checkpoint")
        if stored.get("attributes", needed.get("attributes")) != needed.get("attributes"):
            raise InputError(f"{self.path}: noise of other mechanisms of the attributes")
        if stored["images"] != needed["images"]:
            raise InputError(f"{self.path}: noise of other images")
        one, other = _without_retired(stored["sampling"]), needed["sampling"]
        for name in sorted(one.keys() | other.keys()):
            if one.get(name) != other.get(name):
                raise InputError(f"{self.path}: noise abducted with {name} {one.get(name)}, not {other.get(name)}")


@dataclass(frozen=True)
class NoiseFiles:
    """The files of noise of a job about a folder.

    Args:
        batch: number of images in a batch.
        saved: noise of an earlier job, which replaces abduction; None abducts.
        saving: keeps the noise; None does not.
    """

    batch: int
    saved: SavedNoise | None = None
    saving: NoiseWriter | None = None

    @property
    def by_batch(self) -> bool:
        """Tell whether images belong to their batch, whose noise is in one piece."""
        return self.saved is not None or self.saving is not None

    def has(self, index: int) -> bool:
        """Tell whether nothing is to be kept of batch ``index`` that an earlier command did not."""
        return self.saving is None or self.saving.has(index)

    def open(self, resumed: bool) -> None:
        """Begin to write, or go on with what an earlier command left."""
        if self.saving:
            self.saving.open(resumed)

    def abduct(
        self, scm: SCM, index: int, obs: Mapping[str, Tensor], source: Source, particles: int = 1
    ) -> Iterable[dict[str, Noise]]:
        """Read or abduct the noise of batch ``index``, and keep it; or abduct that of particles, which no file holds.

        Args:
            scm: the model.
            index: the number of the batch.
            obs: its observation, the image in [-1, 1].
            source: of noise that the observation leaves undetermined.
            particles: M.

        Returns:
            The noise of each particle.
        """
        if particles > 1:
            return abduct_particles(scm, obs, particles, source)
        noise = self.saved.read(index, obs["image"].device) if self.saved else scm.abduct(obs, source)
        if self.saving:
            self.saving.add(index, obs, noise)
        return [noise]

    def close(self) -> None:
        """Make the file of all batches."""
        if self.saving:
            self.saving.close()


def _member(index: int) -> str:
    """Name the member of a batch."""
    return f"{index:06d}.pt"


def _fits(noise: Noise, n: int) -> bool:
    """Tell whether every tensor of a variable's noise is empty, or holds numbers of n images."""
    parts = (noise,) if isinstance(noise, Tensor) else noise
    return all(
        isinstance(part, Tensor)
        and (part.dtype in (torch.float32, torch.int64) and part.layout is torch.strided)
        and (part.numel() == 0 or (part.dim() > 0 and len(part) == n and not part.isnan().any()))
        for part in parts
    )


def _without_retired(sampling: Mapping[str, Any]) -> dict[str, Any]:
    """Leave out the solver's tolerance of earlier versions where it was 0, as it always is now."""
    solver = {k: v for k, v in sampling.get("solver", {}).items() if k != "tolerance" or v}
    return {**sampling, "solver": solver} if solver else dict(sampling)


def fingerprint(obs: Mapping[str, Tensor], digits: int) -> str:
    """Hash an observation: the image's 8 bits and the first digits of each attribute, on which machines agree."""
    digest = hashlib.sha256()
    for name in sorted(obs):
        if name == "image":
            digest.update(to_levels(obs[name]).cpu().contiguous().numpy().tobytes())
        else:
            digest.update(f"{name} {[f'{value:.{digits}g}' for value in obs[name].tolist()]}".encode())
    return digest.hexdigest()
