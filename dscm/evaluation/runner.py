"""An evaluation: measure every planned row on the same test images, and write records, tables and pictures."""

import hashlib
import math
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from dscm import settings
from dscm.causal.draws import make_streams
from dscm.data.cache import user_cache_dir
from dscm.data.scaling import l1
from dscm.data.sets import Source, get_data_set
from dscm.diffusion.mechanism import UNTRAINED
from dscm.diffusion.sampling import Sampling
from dscm.errors import InputError, option
from dscm.evaluation.configuration import Conditions
from dscm.evaluation.features import load_embeddings
from dscm.evaluation.foreign import detect_far, detect_foreign
from dscm.evaluation.foresight import foretell
from dscm.evaluation.lpips import load_lpips
from dscm.evaluation.particles import Subject
from dscm.evaluation.plan import (
    EvaluationSettings,
    Plan,
    check_alike,
    check_group,
    check_names,
    find_shared,
    find_unguided,
    plan_rows,
    vary,
)
from dscm.evaluation.protocol import Judge, PerImage, evaluate_batch
from dscm.evaluation.records import Records
from dscm.evaluation.report import write_reports
from dscm.evaluation.resemblance import compare_features, embed_images
from dscm.evaluation.support import rank_interventions, split_by_support
from dscm.evaluation.tables import SPLITS
from dscm.evaluation.task import Task, set_task
from dscm.files import remove_unfinished
from dscm.machine import Machine, choose_batch, first_process_first, gather, warn_of_emulation
from dscm.model import Model, load
from dscm.runs import find_data
from dscm.training.code_probe import Reading, probe
from dscm.training.probe import main_score, score_oracle

SHOWN = 12  # images in the pictures
FEATURES = "features"  # first part of the paths of features among the numbers of a batch


@torch.no_grad()
def evaluate(
    models: Model | Path | str | Sequence[Model | Path | str],
    out: Path | str,
    *,
    data_dir: Path | str | None = None,
    csv: Sequence[Path | str] = (),
    cache_dir: Path | str | None = None,
    skip_missing: bool = False,
    overwrite: bool = False,
    figures: bool = False,
    name: str | None = None,
    machine: Machine | None = None,
    **choices: Any,
) -> Records:
    """Measure the soundness of counterfactuals on test images.

    The folder gets one record for each model, guidance and abduction: composition, reversibility, effectiveness,
    identity and, where it is known, truth under an intervention on each variable. Records that it holds already are
    not measured again, so an interrupted evaluation continues, and another model or setting adds its rows.

    Args:
        models: models of the same graph, or their sources, as `dscm.load` takes them. Guidance and abduction are those
            of ``choices``, whatever a model's settings are.
        out: the folder of metrics.json, metrics.md, differences.csv, soundness.png and values/.
        data_dir: the folder of the data set; None downloads MNIST.
        csv: the one or two CSV files of EMBED; by default those at the top of its folder.
        cache_dir: the folder of decoded and generated images; None is the user's cache.
        skip_missing: skip any number of absent images instead of at most 1%.
        overwrite: start over in a folder that has content.
        figures: also draw the paper's panels and curves.
        name: of the setting that the models are trainings of; the tables then have their mean and spread.
        machine: the device and the processes; None is this process on the device of the models.
        choices: fields of `EvaluationSettings`, such as ``n``, ``guidance`` or ``abduction``, and settings of the
            mechanisms, such as ``steps`` or ``solver``, as `Model.using` takes them.

    Raises:
        InputError: the models are of different images, a setting is not allowed, the data are missing, the oracle is
            inaccurate on them, or the folder has other content.
    """
    several = [models] if isinstance(models, Model | Path | str) else models
    known, known_csv = _find_data(several) if data_dir is None else (None, ())
    loaded = [m if isinstance(m, Model) else load(m, machine.device if machine else "cpu") for m in several]
    source = Source(
        Path(data_dir) if data_dir is not None else known,
        Path(cache_dir) if cache_dir is not None else user_cache_dir(),
        tuple(map(Path, csv)) or known_csv,
        skip_missing=skip_missing,
        workers=os.cpu_count() or 1,
    )
    return Evaluation(loaded, choices, source, machine, name).run(Path(out), overwrite, figures)


def _find_data(models: Sequence[Model | Path | str]) -> tuple[Path | None, tuple[Path, ...]]:
    """Return the data set, and its CSV files, of the first of the models that is a run folder."""
    folders = [Path(source) for source in models if not isinstance(source, Model) and Path(source).is_dir()]
    return find_data(folders[0]) if folders else (None, ())


def find_mixture(models: Sequence[Model]) -> bool:
    """Return whether some values of the data that models were trained on do not follow the graph.

    Raises:
        InputError: the models differ in it.
    """
    found = {model.checkpoint.settings.get("mixture", True) for model in models}
    if len(found) > 1:
        raise InputError(f"{option('mixture')}: the models were trained with it on and off; choose the images' here")
    return found.pop()


class Evaluation:
    """An evaluation of models that are loaded.

    Args:
        models, choices, machine, name: as in `evaluate`.
        source: the place of the data set.

    Raises:
        InputError: as `evaluate`.
    """

    def __init__(
        self,
        models: Sequence[Model],
        choices: Mapping[str, Any],
        source: Source,
        machine: Machine | None = None,
        name: str | None = None,
    ) -> None:
        if not models:
            raise InputError("there is no model to evaluate")
        names = {field.name for field in fields(EvaluationSettings)}
        self.settings = EvaluationSettings(**{name: value for name, value in choices.items() if name in names})
        self.exact = "n" in choices  # take no fewer images than were chosen
        typed = {name: value for name, value in choices.items() if name not in names}
        changes = settings.complete(Sampling, typed)
        check_alike(models)
        if name is not None:
            check_group(models, name)
        check_names(models, [*typed, *(name for name in ("guidance", "abduction") if name in choices)])
        views = vary(models, self.settings, changes)
        self.shared, self.rows = find_shared(views, changes), plan_rows(views, name)
        self.model, self.machine = views[0], machine or Machine(models[0].device)
        mixture = find_mixture(models) if self.settings.mixture is None else self.settings.mixture
        source = replace(source, framing=self.model.framing, mixture=mixture)
        self.data_set = get_data_set(self.model.graph, source)
        self.data_set.check_source()
        self.split: Mapping[str, Tensor] = {}  # every image of the split, from `_load`
        self.probed: dict[str, PerImage] = {}  # by checkpoint
        if self.shared["precision"] == "bfloat16":
            warn_of_emulation(self.machine.device)
        for path in find_unguided(models, self.settings) if self.machine.first else ():
            print(f"{path}: {UNTRAINED}: measured at ω = 1 alone", file=sys.stderr)

    def run(self, out: Path, overwrite: bool = False, figures: bool = False) -> Records:
        """Measure the rows that have no record yet, then write the tables and pictures of all records.

        Args:
            out, overwrite, figures: as in `evaluate`.

        Raises:
            InputError: as `evaluate`.
        """
        data = self._load()
        check_oracle(self.model, data, self.settings.oracle_accuracy)
        records = Records(out, self._describe(data), overwrite)
        records.check_routes(row.configuration for row in self.rows)
        if self.machine.first:
            remove_unfinished(out)
            records.name_groups(row.configuration for row in self.rows)
        judge = self._appoint()
        truth, learned = self.data_set.truth(), self.model.learned
        task = set_task(self.model.graph, data, self.settings.sampler, self.settings.seed, truth, learned)
        batch = self._choose_batch(task)
        measured = records.measured(with_lpips="lpips" in judge.distances)
        for row in (row for row in self.rows if row.configuration not in measured):
            values, images = self.measure(row, judge, task, batch)
            if self.machine.first:
                records.add(replace(row.configuration, batch=batch), row.name, values, images)
        if self.machine.first:
            write_reports(records, self.model.graph, figures)
        return records

    def measure(self, row: Plan, judge: Judge, task: Task, batch: int) -> tuple[PerImage, dict[str, Tensor]]:
        """Measure one row on all images, the batches shared among the processes.

        Args:
            row: the row.
            judge, task: the instruments and the test images.
            batch: images at a time.

        Returns:
            The metrics of every image, and the first images.
        """
        machine, n = self.machine, len(task.obs["image"])
        by_target = bool(row.configuration.guidance and row.configuration.guidance.by_target)
        starts = range(machine.rank * batch, n, machine.world * batch)
        batches = {}
        for start in tqdm(starts, desc=row.name, unit="batch", disable=not machine.first):
            part = task.batch(slice(start, start + batch))
            count = len(part.obs["image"])
            source = make_streams(self.settings.seed, range(start, start + count), machine.device)
            subject = Subject(row.model.scm, self.settings.particles, source)
            cycles, inspector = self.settings.cycles, row.model.inspector
            values, images = evaluate_batch(subject, judge, part, cycles, by_target, inspector)
            features = embed_images(judge.embeddings, images, part)
            values |= {(FEATURES, *key): found for key, found in features.items()}
            shown = {label: image.cpu() for label, image in images.items()} if start < SHOWN else {}
            batches[start] = ({key: value.cpu() for key, value in values.items()}, shown)
        merged = gather(batches, machine)
        joined = {key: torch.cat([values[key] for values, _ in merged]) for key in merged[0][0]}
        features = {key[1:]: joined.pop(key) for key in list(joined) if key[0] == FEATURES}
        joined |= compare_features(features, judge.graph, task) | self._probe(row) | foretell(joined)
        if (support := row.model.checkpoint.support) is not None:
            chosen = judge.graph, task, self.settings.seed, row.model.learned
            joined |= split_by_support(joined, rank_interventions(support, *chosen), judge.graph, task)
            joined |= detect_far(support, *chosen)
        joined |= detect_foreign(row.model.scm, row.model.inspector, task, self.settings.seed)
        first = [images for _, images in merged if images]
        return joined, {label: torch.cat([images[label] for images in first])[:SHOWN] for label in first[0]}

    def _probe(self, row: Plan) -> PerImage:
        """Probe the code of a row's mechanism on all images of the split; once for each checkpoint."""
        sha256 = row.configuration.sha256
        if sha256 not in self.probed:
            self.probed[sha256] = list_readings(probe(row.model.mechanism, self.split, self.settings.seed))
        return self.probed[sha256]

    def _appoint(self) -> Judge:
        """Load the instruments whose weights can be had, and say which are missing."""
        device, model = self.machine.device, self.model
        with first_process_first(self.machine):  # it may download the weights
            lpips, reason = load_lpips(device)
        if lpips is None and self.machine.first:
            print(f"LPIPS is left out: the weights of AlexNet cannot be had ({reason})", file=sys.stderr)
        embeddings, _ = load_embeddings(model.oracle, device)
        return Judge(model.graph, model.oracle, {"l1": l1} | ({"lpips": lpips} if lpips else {}), embeddings)

    def _load(self) -> dict[str, Tensor]:
        """Load the first images of the split, uint8, and their attributes onto the device."""
        n, split = self.settings.n, SPLITS[self.settings.split]
        with first_process_first(self.machine):
            data = self.data_set.load(self.settings.split, self.model.mechanism.shape[-1])
        self.split, available = data, len(data["image"])
        if self.exact and n > available:
            raise InputError(f"{option('n')} {n}: the {split} split has {available} images")
        if n > available and self.machine.first:
            print(f"the {split} split has {available} images; all are taken", file=sys.stderr)
        return {name: tensor[:n].to(self.machine.device) for name, tensor in data.items()}

    def _describe(self, data: Mapping[str, Tensor]) -> Conditions:
        """Describe the conditions, with the hashes of the test images and of the parts that judge them."""
        content = hashlib.sha256(b"".join(data[name].cpu().numpy().tobytes() for name in sorted(data)))
        chosen, model = self.settings, self.model
        return Conditions(
            split=chosen.split,
            n=len(data["image"]),
            seed=chosen.seed,
            cycles=chosen.cycles,
            sampler=chosen.sampler,
            data_sha256=content.hexdigest(),
            oracle_sha256=model.oracle_checkpoint.sha256 if model.oracle_checkpoint else None,
            attributes_sha256=model.attributes_checkpoint.sha256 if model.attributes_checkpoint else None,
            particles=chosen.particles,
            **self.shared,
        )

    def _choose_batch(self, task: Task) -> int:
        """Choose the number of images at a time by the row that takes the most memory."""
        scm = max(self.rows, key=lambda row: row.cost).model.scm

        def work(n: int) -> None:
            obs = {name: value[:1].expand(n, *value.shape[1:]) for name, value in task.obs.items()}
            scm.predict(scm.abduct(obs), {name: obs[name] for name in self.model.graph.image_parents})  # all guided

        return choose_batch(self.settings.batch, work, self.machine)


def list_readings(readings: Mapping[str, Mapping[str, Reading]]) -> PerImage:
    """List, by parent, what every reader finds in a code, its standard error, and the score of chance; each (1,)."""
    result: PerImage = {}
    for reader, found in readings.items():
        for parent, reading in found.items():
            name = f"{parent} {reading.measure}"
            numbers = {reader: reading.score, f"{reader}_error": reading.error, "chance": reading.chance}
            result |= {("probe", name, key): torch.tensor([number]) for key, number in numbers.items()}
    return result


def check_oracle(model: Model, data: Mapping[str, Tensor], least: float) -> None:
    """Check the oracle on the test images themselves.

    Raises:
        InputError: there is none, or its accuracy is below ``least``.
    """
    oracle = model.require_oracle()
    scores = score_oracle(oracle, data) if oracle and model.graph.predicted else {}
    for variable in model.graph.predicted:
        measure = main_score(variable)
        score = scores[f"test {measure} {variable.name}"]
        if least and math.isnan(score) and int(os.environ.get("RANK", 0)) == 0:
            print(f"{variable.name} is constant on these images: the oracle's {measure} is unknown", file=sys.stderr)
        if least and score < least:
            path = model.oracle_checkpoint.path if model.oracle_checkpoint else ""
            raise InputError(
                f"{option('oracle')} {path}: its {measure} of {variable.name} on these {len(data['image'])} images is "
                f"{score:.3f}; {option('oracle_accuracy')} asks for {least:g}"
            )
