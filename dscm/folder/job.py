"""Answer queries about a folder of images: abduct each batch once, then predict under every query."""

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor
from tqdm import tqdm

from dscm.causal.image_mechanism import ImageMechanism
from dscm.causal.mechanisms import Noise
from dscm.causal.scm import SCM, Effect
from dscm.checkpoint import Restored
from dscm.diffusion.sampling import Sampling
from dscm.errors import InputError, option
from dscm.folder.queries import Query, parse_query
from dscm.folder.reader import Batch, Reader
from dscm.folder.saved_noise import SavedNoise, describe, write_noise
from dscm.folder.writer import Writer
from dscm.machine import AUTO, Machine, choose_batch, first_process_first, gather, seed_batch
from dscm.runs import check_output


@dataclass(frozen=True)
class Job:
    """Queries about a folder of images, and the files that answer them.

    Args:
        queries: as `parse_query` reads them.
        effects: the paths along which each query acts.
        out: the folder to write.
        overwrite: allow a folder that has content.
        paste: also blend the changes into the images themselves.
        save_noise: a file for the abducted noise.
        load_noise: such a file of the same images, whose noise replaces abduction.
        batch: number of images at a time, or ``auto``; a file of noise has its own.
        seed: the seed of noise that an observation leaves undetermined.
    """

    queries: Sequence[str]
    effects: Sequence[Effect]
    out: Path
    overwrite: bool = False
    paste: bool = False
    save_noise: Path | None = None
    load_noise: Path | None = None
    batch: int | Literal["auto"] = 64
    seed: int = 0


@dataclass(frozen=True)
class Report:
    """The outcome of a job.

    Args:
        images: number of images in the folder.
        unreadable: those that could not be read, each with the reason, in order.
        unsolved: the last change in the worst implicit step of any inversion, root mean square of a pixel on [-1, 1].
    """

    images: int
    unreadable: Mapping[Path, str]
    unsolved: float


@torch.no_grad()
def answer_folder(scm: SCM, image: Restored[ImageMechanism[Any]], reader: Reader, job: Job, machine: Machine) -> Report:
    """Answer queries about a folder of images; processes share the batches.

    Args:
        scm: the model.
        image: the checkpoint of its mechanism of the image.
        reader: the reader of the images.
        job: the queries and the files to write.
        machine: this process.

    Returns:
        The same report in every process.

    Raises:
        InputError: a query, a file of noise or an output is refused, before anything is written.
    """
    queries = _parse_queries(scm, reader, job)
    with first_process_first(machine):
        if machine.first:
            _check_outputs(job)
    sampling = scm.mechanism("image").sampling
    noise_key = describe(image.sha256, reader.names, sampling)
    saved = SavedNoise(job.load_noise, noise_key) if job.load_noise else None
    size = saved.batch if saved else _choose_size(scm, reader, job, machine)
    if saved:
        saved.check(batch.obs for _, batch in reader.batches(size))
    title, originals = write_title(image.path, sampling), reader.folder if job.paste else None
    unsolved = 0.0
    with ExitStack() as files:
        save = files.enter_context(write_noise(job.save_noise, noise_key, size)) if job.save_noise else None
        writer = Writer(job.out, reader.paths, reader.data_set, reader.oracle, title, originals, machine)
        files.enter_context(writer)
        bar = tqdm(total=len(reader.paths), unit="image", desc="counterfactuals", disable=not machine.first)
        files.enter_context(bar)
        for count, (index, batch) in enumerate(reader.batches(size, machine.rank, machine.world)):
            generator = seed_batch(job.seed, index * size, machine.device)
            noise = saved.read(count, machine.device) if saved else scm.abduct(batch.obs, generator)
            if save:
                save(batch.obs, noise)
            unsolved = max([unsolved, *getattr(noise["image"], "unsolved", torch.empty(0)).tolist()])
            answers = predict_queries(scm, batch, noise, queries, job.effects)
            writer.add(index, batch, scm.predict(noise)["image"], answers)
            bar.update(min(machine.world * size, len(reader.paths) - bar.n))
    return _gather_report(reader, unsolved, machine)


def predict_queries(
    scm: SCM, batch: Batch, noise: Mapping[str, Noise], queries: Sequence[Query], effects: Sequence[Effect]
) -> dict[str, dict[str, Tensor]]:
    """Return every variable of a batch under each query, along each of the paths, by the name of the query."""
    answers = {}
    for query in queries:
        target = query.resolve(batch.obs, batch.names)
        for effect in effects:
            do = scm.along(batch.obs, noise, target, effect, "image")
            name = query.text if effect == "total" else f"{query.text}__{effect}"
            answers[name] = scm.predict(noise, do, batch.obs)
    return answers


def write_title(checkpoint: Path, sampling: Any) -> str:
    """Write the title of a contact sheet: the model, its guidance if it has any, and the colours."""
    guidance = f", guidance {sampling.weights}" if isinstance(sampling, Sampling) else ""
    colours = "Under each counterfactual what it changed in the composition: red is brighter, blue darker."
    return f"{checkpoint.stem}{guidance}. {colours}"


def _parse_queries(scm: SCM, reader: Reader, job: Job) -> list[Query]:
    """Read the queries, and check as much of them as is possible before any image is read."""
    queries = [parse_query(text, reader.data_set.graph, reader) for text in job.queries]
    for query in queries:
        scm.check_upstream(query.changes, "image")
        if query.changes.keys() <= reader.attributes.keys():
            query.resolve(reader.attributes, reader.names)
    return queries


def _check_outputs(job: Job) -> None:
    """Refuse an output folder, or a file of noise, that exists already, unless it may be replaced."""
    check_output(job.out, job.overwrite)
    path = job.save_noise
    if path and path.exists() and (path.is_dir() or not job.overwrite):
        raise InputError(
            f"{option('save_noise')} {path}: exists; name another file, or replace it with {option('overwrite')}"
        )


def _choose_size(scm: SCM, reader: Reader, job: Job, machine: Machine) -> int:
    """Return the number of images in a batch; ``auto`` tries a counterfactual of copies of the first image."""
    first = next((batch.obs for _, batch in reader.batches(1)), None) if job.batch == AUTO else None

    def work(n: int) -> None:
        obs = first or {}
        scm.counterfactual({name: value.expand(n, *value.shape[1:]) for name, value in obs.items()}, {})

    return choose_batch(job.batch, work if first else None, machine)


def _gather_report(reader: Reader, unsolved: float, machine: Machine) -> Report:
    """Merge the reports of all processes."""
    shares = gather({machine.rank: (reader.unreadable, unsolved)}, machine)
    reasons = {path: reason for unreadable, _ in shares for path, reason in unreadable.items()}
    in_order = {path: reasons[path] for path in reader.paths if path in reasons}
    return Report(len(reader.paths), in_order, max(share for _, share in shares))
