"""Answer queries about a folder of images: abduct each batch once, then predict under every query."""

import os
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor
from tqdm import tqdm

from dscm import settings
from dscm.causal.draws import make_streams
from dscm.causal.image_mechanism import ImageMechanism
from dscm.causal.mechanisms import Noise
from dscm.causal.particles import average
from dscm.causal.scm import SCM, Effect, Intervention
from dscm.causal.values import find_failures
from dscm.checkpoint import Restored
from dscm.data.images import SUFFIXES
from dscm.data.listing import SHEET
from dscm.diffusion.sampling import Sampling
from dscm.errors import InputError, option
from dscm.files import __version__
from dscm.folder.ledger import COMMAND, FINISHED, Ledger
from dscm.folder.names import Layout
from dscm.folder.progress import Progress
from dscm.folder.queries import Query, parse_queries
from dscm.folder.reader import Batch, Reader
from dscm.folder.saved_noise import NoiseFiles, NoiseWriter, SavedNoise, describe
from dscm.folder.trust import TRUST, list_trust_columns
from dscm.folder.writer import TABLE, Writer, describe_particles, list_columns
from dscm.machine import AUTO, USUAL, Machine, choose_batch, gather
from dscm.trust.checks import Checks
from dscm.trust.inspection import Inspector

COMPOSITION = ""  # the name of the null intervention among the queries
Asked = Mapping[str, tuple[Query, Effect]]  # by name, each query along each of the paths


@dataclass(frozen=True)
class Job:
    """Queries about a folder of images, and the files that answer them.

    Args:
        queries: as `parse_query` reads them.
        effects: the paths along which each query acts.
        out: the folder to write.
        overwrite: start over in a folder that has content.
        paste: also blend the changes into the images themselves.
        save_noise: a file for the abducted noise.
        load_noise: such a file of the same images, whose noise replaces abduction.
        batch: number of images at a time, or ``auto``; a file of noise has its own.
        seed: the seed of noise that an observation leaves undetermined.
        particles: M, samples of the code whose counterfactuals are averaged; the model has the settings of
            `sample_codes`.
        strict: keep doubtful answers apart.
        explain: draw a page of every image, too.
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
    particles: int = 1
    strict: bool = False
    explain: bool = False


@dataclass(frozen=True)
class Answers:
    """The answers about a batch, of particles their means.

    Args:
        composition: the images under the null intervention, in [-1, 1], (B, C, H, W).
        values: by the name of the query, every variable.
        spreads: by query, of several particles, the standard deviation of each pixel on [0, 1], (B, C, H, W).
        refused: by image, the queries that it has no answer to, with the reasons. Such an image keeps what was
            observed, so that the others are computed as if it were one of them.
        unsolved: as in `Report`.
        checks: by query, how far to trust them.
    """

    composition: Tensor
    values: Mapping[str, Mapping[str, Tensor]]
    spreads: Mapping[str, Tensor]
    refused: Mapping[str, Mapping[str, str]]
    unsolved: float
    checks: Mapping[str, Checks]

    @property
    def written(self) -> tuple[Any, ...]:
        """Return what `Writer.add` takes, in its order."""
        return self.composition, self.values, self.refused, self.spreads, self.checks


@dataclass(frozen=True)
class Report:
    """The outcome of a job.

    Args:
        images: number of images in the folder.
        earlier: of these, the ones that an earlier command had answered.
        unreadable: those that could not be read, each with the reason, in order.
        refused: by image, the queries that it has no answer to, each with the reason, in order.
        unsolved: the last change in the worst implicit step of any inversion, root mean square of a pixel on [-1, 1].
    """

    images: int
    earlier: int
    unreadable: Mapping[Path, str]
    refused: Mapping[str, Mapping[str, str]]
    unsolved: float


@torch.no_grad()
def answer_folder(
    scm: SCM,
    image: Restored[ImageMechanism[Any]],
    reader: Reader,
    job: Job,
    machine: Machine,
    parts: Mapping[str, str],
    inspector: Inspector,
) -> Report:
    """Answer queries about a folder of images; processes share the batches.

    A job that was stopped, and is started again, goes on with the images that have no answer yet.

    Args:
        scm, image, reader: the model, the checkpoint of its mechanism of the image, and what reads the images.
        job: the queries and the files to write.
        machine, inspector: this process, and what checks the answers.
        parts: the hash of each checkpoint of the model, by part.

    Returns:
        The same report in every process.

    Raises:
        InputError: a query, a file of noise or an output is refused, before anything is written.
    """
    asked, sampling = _ask(scm, reader, job), scm.mechanism("image").sampling
    files, unsolved = _open_noise(scm, reader, job, machine, parts), 0.0
    layout, about = Layout(job.out, reader.paths, [*asked], job.strict), (reader.data_set.graph, job.particles)
    progress = Progress(reader, [query for query, _ in asked.values()], layout, job.paste, files, job.explain)
    command = describe_command(job, [*asked], reader, sampling, parts)
    chosen = (progress.select, job.overwrite, machine, {TRUST: list_trust_columns(*about)})
    ledger = Ledger(job.out, TABLE, list_columns(*about), command, progress.keys(), *chosen)
    files.open(ledger.resumed)
    title, originals = write_title(image.path, sampling, job.particles), reader.folder if job.paste else None
    known = reader.attributes, job.particles > 1, files.batch
    with (
        ledger.going_on(),
        Writer(ledger, layout, reader.data_set, reader.oracle, title, originals, job.explain) as writer,
        tqdm(total=len(reader.paths), unit="image", desc="counterfactuals", disable=not machine.first) as bar,
    ):
        bar.update(ledger.earlier)
        for index, batch in reader.batches(files.batch, machine.rank, machine.world, ledger.finished):
            source = make_streams(job.seed, batch.names, machine.device)
            particles = files.abduct(scm, index, batch.obs, source, job.particles)
            answers = answer_queries(scm, batch, particles, asked, inspector, *known)
            unsolved = max(unsolved, answers.unsolved)
            written = writer.add(index, batch, *answers.written)
            bar.update(min(machine.world * written, len(reader.paths) - bar.n))
    files.close()
    return _gather_report(reader, ledger, unsolved, machine)


def answer_queries(
    scm: SCM,
    batch: Batch,
    particles: Iterable[Mapping[str, Noise]],
    asked: Asked,
    inspector: Inspector,
    given: Collection[str],
    several: bool = False,
    most: int = USUAL,
) -> Answers:
    """Predict a batch under the null intervention and under each query.

    Args:
        scm: the model.
        batch: the images.
        particles: their noise, one or several times.
        asked: the queries.
        inspector: checks the answers.
        given: the attributes that were not read off the images.
        several: whether there are several particles.
        most: images at a time, over all queries, if the batch is smaller.
    """
    queries = {name: (query.variables, effect) for name, (query, effect) in asked.items()}
    watch = inspector.watch(scm, batch.obs, given, queries, several)
    refused: dict[str, dict[str, str]] = {}
    unsolved = [0.0]
    targets = {}
    for name, (query, _) in asked.items():
        targets[name], reasons = query.resolve(batch.obs, batch.names)
        for image, reason in reasons.items():
            refused.setdefault(image, {})[name] = reason

    def ask(noise: Mapping[str, Noise]) -> dict[str, dict[str, Tensor]]:
        unsolved.extend(getattr(noise["image"], "unsolved", torch.empty(0)).tolist())
        dos: dict[str, Intervention] = {COMPOSITION: {}}
        for name, (_, effect) in asked.items():
            dos[name] = scm.along(batch.obs, noise, targets[name], effect, "image")
        answers = dict(zip(dos, scm.predict_each(noise, [*dos.values()], batch.obs, most)))
        for name in asked:
            for i, reason in find_failures(inspector.graph.attributes, answers[name]).items():
                refused.setdefault(batch.names[i], {}).setdefault(name, reason)
        watch.see(noise, answers)
        return answers

    values, spreads = average(particles, ask)
    composition = values.pop(COMPOSITION)["image"]
    return Answers(composition, values, spreads, refused, max(unsolved), watch.conclude(composition, values))


def describe_command(
    job: Job, asked: Sequence[str], reader: Reader, sampling: Any, parts: Mapping[str, str]
) -> dict[str, Any]:
    """Describe all that the answers to a job depend on, besides each image by itself."""
    return {
        "dscm": __version__,
        "images": str(reader.folder.resolve()),
        "do": list(asked),
        "seed": job.seed,
        "particles": job.particles,
        "fit": reader.data_set.framing.fit,
        "paste": job.paste,
        **{name: True for name in ("strict", "explain") if getattr(job, name)},
        "save_noise": str(job.save_noise),
        "load_noise": str(job.load_noise),
        **parts,
        **settings.show(sampling),
    }


def write_title(checkpoint: Path, sampling: Any, particles: int) -> str:
    """Write the title of a contact sheet: the model, its guidance if it has any, and the colours."""
    guidance = f", guidance {sampling.weights}" if isinstance(sampling, Sampling) else ""
    colours = "Under each counterfactual what it changed in the composition: red is brighter, blue darker."
    return f"{checkpoint.stem}{guidance}. {colours if particles == 1 else describe_particles(particles)}"


def _ask(scm: SCM, reader: Reader, job: Job) -> Asked:
    """Read the queries, and refuse as much as is possible before any image is read."""
    queries = parse_queries(job.queries, reader.data_set.graph, reader)
    for query in queries:
        scm.check_upstream(query.variables, "image")
        if query.changes.keys() <= reader.attributes.keys():
            _, refused = query.resolve(reader.attributes, reader.names)
            if len(refused) == len(reader.names):
                name, reason = next(iter(refused.items()))
                raise InputError(f"{option('do')} {query.text}: {reason} ({name}, and every other image)")
    names = {"total": "{}", "direct": "{}__direct", "indirect": "{}__indirect"}
    asked = [(names[effect].format(query.text), (query, effect)) for query in queries for effect in job.effects]
    for i, (name, _) in enumerate(asked):
        if any(name == other for other, _ in asked[:i]):
            raise InputError(f"{option('do')}: two queries are called {name}; ask them one after the other")
    return dict(asked)


def _open_noise(scm: SCM, reader: Reader, job: Job, machine: Machine, parts: Mapping[str, str]) -> NoiseFiles:
    """Open the files of noise, where there are any, and choose the number of images in a batch."""
    for name in ("save_noise", "load_noise"):
        if job.particles > 1 and getattr(job, name):
            raise InputError(
                f"{option(name)}: a file keeps one particle of each image; leave {option('particles')} out"
            )
    about = describe(parts, reader.names, scm.mechanism("image").sampling)
    saved = SavedNoise(job.load_noise, about) if job.load_noise else None
    size = saved.batch if saved else _choose_size(scm, reader, job, machine)
    if saved:
        saved.check((index, batch.obs) for index, batch in reader.batches(size))
    path = job.save_noise
    if path and os.path.realpath(path) == os.path.realpath(job.out):
        raise InputError(f"{option('save_noise')} {path}: is the folder of the answers; name a file")
    if path and (path.name in (TABLE, SHEET, COMMAND, FINISHED) or path.suffix.lower() in SUFFIXES):
        raise InputError(f"{option('save_noise')} {path}: is the name of a result or of an image; choose another")
    if path and path.exists() and (path.is_dir() or not (job.overwrite or Ledger.is_in(job.out))):
        words = f"exists; name another file, or replace it with {option('overwrite')}"
        raise InputError(f"{option('save_noise')} {path}: {words}")
    return NoiseFiles(size, saved, NoiseWriter(path, about, size) if path else None)


def _choose_size(scm: SCM, reader: Reader, job: Job, machine: Machine) -> int:
    """Return the number of images in a batch; ``auto`` tries a counterfactual of copies of the first image."""
    first = next((batch.obs for _, batch in reader.batches(1)), None) if job.batch == AUTO else None

    def work(n: int) -> None:
        obs = {name: value.expand(n, *value.shape[1:]) for name, value in (first or {}).items()}
        scm.predict(scm.abduct(obs), {name: obs[name] for name in scm.parents["image"]})  # all of it guided

    return choose_batch(job.batch, work if first else None, machine)


def _gather_report(reader: Reader, ledger: Ledger, unsolved: float, machine: Machine) -> Report:
    """Merge the reports of all processes."""
    shares = gather({machine.rank: (reader.unreadable, ledger.finished, unsolved)}, machine)
    reasons = {path: reason for unreadable, _, _ in shares for path, reason in unreadable.items()}
    without = {name: queries for _, some, _ in shares for name, queries in some.items() if queries}
    return Report(
        len(reader.paths),
        ledger.earlier,
        {path: reasons[path] for path in reader.paths if path in reasons},
        {name: without[name] for name in reader.names if name in without},
        max(worst for _, _, worst in shares),
    )
