"""A training in a folder: it resumes, logs, saves, draws samples and reports."""

import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn
from tqdm import tqdm

from dscm import checkpoint, runs, settings
from dscm.causal.graph import Graph
from dscm.causal.image_mechanism import ImageMechanism
from dscm.causal.learned import LearnedAttributes
from dscm.causal.support import Support
from dscm.data.framing import Framing
from dscm.data.sets import DATA_SETS, Split, get_data_set
from dscm.errors import InputError, option, spell
from dscm.files import remove_unfinished
from dscm.machine import Machine, first_process_first, leave, set_up, wait
from dscm.plots.calibration import draw_calibration
from dscm.training.example import Example
from dscm.training.further import PriorFit, restore_judge, restore_trained
from dscm.training.levels import place_steps
from dscm.training.log import Log, check_state
from dscm.training.obedience import Keeping, Obedience
from dscm.training.pairs import find_groups
from dscm.training.place import Place
from dscm.training.probe import score
from dscm.training.recipe import Recipe
from dscm.training.resumption import check_settings, read_state
from dscm.training.samples import draw_samples
from dscm.training.stopping import stop_on_signal
from dscm.training.trainer import Trainer
from dscm.training.tuning import find_causes, find_judges, start_tuning
from dscm.trust.fit import refer

LOG_EVERY = 50  # steps
Splits = Mapping[Split, dict[str, Tensor]]


@dataclass(frozen=True)
class Trained:
    """The result of a training.

    Args:
        path: the checkpoint.
        report: scores of the averaged model on the test split, by name, and on the validation split, where there is
            one, as ``validation`` and the name; only in the first of several processes.
    """

    path: Path
    report: Mapping[str, float]

    @property
    def summary(self) -> str:
        """Return the scores as text, one a line."""
        undefined = "undefined: the test images it needs are too few, or their values all equal"
        known = {name: f"{value:.4g}" if math.isfinite(value) else undefined for name, value in self.report.items()}
        return "\n".join(f"{name}: {text}" for name, text in known.items())


def train(
    *,
    data: str | None = None,
    graph: Graph | Path | str | None = None,
    data_dir: Path | str | None = None,
    csv: Sequence[Path | str] = (),
    cache_dir: Path | str | None = None,
    out: Path | str | None = None,
    run: Path | str | None = None,
    resume: bool = False,
    overwrite: bool = False,
    device: str | None = None,
    **choices: Any,
) -> Trained:
    """Train one part of a causal model in a folder.

    Args:
        data: the name of a data set and its graph, or ``folder``; None is the graph of the run, or ``morphomnist``.
        graph: a causal graph or its file, for ``folder``.
        data_dir: the folder of the data set; None is that of the run, or downloads MNIST.
        csv: the one or two CSV files of EMBED; by default those at the top of its folder.
        cache_dir: the folder of decoded and generated images; None is the user's cache.
        out: the folder of the training.
        run: instead of ``out``, the folder of a whole model: the part goes to ``run/part``.
        resume: continue from the checkpoint in the folder.
        overwrite: write into a folder that has content.
        device: ``cpu``, ``cuda`` or ``cuda:N``; None is a GPU where there is one.
        choices: fields of `Recipe`, such as ``part``, ``mechanism``, ``preset``, ``steps`` or ``minutes``.

    Returns:
        The path of the checkpoint, and scores on the test and the validation split.

    Raises:
        InputError: a setting is not allowed, the data are missing or damaged, the folder has content, the training to
            resume had other settings, or the loss is not finite.
        KeyboardInterrupt: the user stopped it; the checkpoint holds the last step.
    """
    place = Place(data, graph, data_dir, csv, cache_dir, out, run)
    training = Training(settings.change(Recipe(), choices, "a training"), place, set_up(device), resume)
    for note in training.data_set.notes() if training.machine.first else ():
        warnings.warn(spell(note), stacklevel=2)
    with torch.random.fork_rng():  # a training seeds PyTorch's own generators
        trained = training.fit(overwrite, place.call(choices), place.call(choices | {"resume": True}))
    leave(training.machine)
    return trained


class Training:
    """The training of one part of a causal model in a folder.

    The folder gets ``checkpoint.pt`` (the averaged weights, what rebuilds the model, and what resumes the training),
    ``log.jsonl`` and, for a mechanism of the image, ``samples/``.

    Args:
        recipe: the settings.
        place: the data set, the graph and the folder.
        machine: the device and the processes.
        resume: continue from the checkpoint in the folder.

    Raises:
        InputError: there is no such graph, an oracle of it has nothing to predict, the training to resume had other
            settings, or a batch is smaller than the number of processes.
    """

    def __init__(self, recipe: Recipe, place: Place, machine: Machine, resume: bool = False) -> None:
        self.graph, self.machine = place.choose_graph(), machine
        fit = recipe.fit or DATA_SETS[self.graph.data_set].usual_fit
        self.folder, self.run = place.folder(recipe.part), place.whole
        self.path = self.folder / runs.CHECKPOINT
        recipe = replace(recipe, fit=fit)
        self.state = read_state(self.path, recipe.part) if resume else None
        self.recipe = recipe = recipe.follow(self.graph, self.state["settings"]) if self.state else recipe
        if (recipe.part == "oracle" or recipe.judged) and not self.graph.predicted:
            raise InputError(f"{self.graph.name}: every attribute is measured; an oracle has nothing to predict")
        framing = Framing(fit, recipe.clean_background)
        self.source = place.find_source(framing, recipe.skip_missing, recipe.mixture)
        self.data_set = get_data_set(self.graph, self.source)
        self.data_set.check_source()
        for folder in (self.folder, self.run or self.folder):
            runs.check_apart(folder, self.source.data_dir)
        self.settings = recipe.record(self.graph, machine.world)
        self.hyperparameters = recipe.hyperparameters(self.graph, machine.device)
        if self.hyperparameters.batch < machine.world:
            batch = f"{option('batch')} {self.hyperparameters.batch}"
            raise InputError(f"{batch}: must be at least the number of processes, {machine.world}")
        self.config: Mapping[str, Any] = {}
        self.support: Support | None = None
        if self.state:
            check_settings(self.path, self.state, self.settings, self.graph)

    @property
    def last_step(self) -> int | None:
        """Return the step at which the training ends; None where time alone ends it."""
        return self.recipe.last_step(self.graph)

    def select(self, split: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Move the images and attributes of a split to the device; what else a data set holds is left out."""
        names = ["image", *(variable.name for variable in self.graph.attributes)]
        return {name: split[name].to(self.machine.device) for name in names}

    def select_training(self, split: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Do as `select` with the training split, and where pairs are asked for add what they are found by."""
        groups = find_groups(split, self.graph) if self.recipe.pairs else {}
        return self.select(split) | {name: value.to(self.machine.device) for name, value in groups.items()}

    def start(self, data: Mapping[str, Tensor]) -> Trainer:
        """Build the objective, afresh or from the checkpoint to resume, and its trainer.

        Args:
            data: the training split on the device, images uint8.
        """
        recipe, machine = self.recipe, self.machine
        torch.manual_seed(recipe.seed)
        objective: nn.Module
        model: nn.Module
        if recipe.tunes_diffusion:
            model, self.config = restore_trained(recipe, self.graph, machine.device)
            objective = PriorFit(model) if recipe.only_prior else model
            queries, place = [*self.graph.interventions.values()], (recipe, self.graph, self.run, machine.device)
            if recipe.judged:
                objective = Obedience(model, *find_judges(*place), queries, recipe.obey)
            elif recipe.obey:
                objective = Example(model, recipe.obey)
            if recipe.keep:
                objective = Keeping(objective, model, find_causes(*place), queries, recipe.keep)
        elif recipe.fine_tune and recipe.part == "oracle":
            objective, self.config = restore_judge(recipe, self.graph, machine.device)
            model = objective
        elif recipe.fine_tune:
            beta = self.hyperparameters.beta
            tuning, self.config = start_tuning(recipe, self.graph, self.run, data, beta, machine.device)
            objective, model = tuning, tuning.mechanism
        else:
            self.config = recipe.model_config(self.graph)
            objective = model = checkpoint.build(recipe.part, self.graph, self.config).to(machine.device)
            cast(Any, model).fit_scaling(data)
        trainer = Trainer(
            objective, data, self.hyperparameters, machine.device, model, rank=machine.rank, world=machine.world
        )
        if self.state:
            self._resume(trainer, self.state)
        return trainer

    def fit(self, overwrite: bool = False, command: str = "", resume: str = "") -> Trained:
        """Train until the last step or for the time of the recipe, and score the result.

        Args:
            overwrite: write into a folder that has content.
            command: what started the training, for the ``README.txt`` of a run.
            resume: what continues it, for the message of an interruption.

        Raises:
            InputError: as `train`.
            KeyboardInterrupt: Ctrl-C was typed, or the process was asked to end; the last step is saved.
        """
        if self.recipe.part == "attributes" and not self.graph.learned:
            raise InputError(f"{self.graph.name}: no mechanism of an attribute is learned; there is nothing to fit")
        if self.machine.first and not self.state:
            runs.check_output(self.folder, overwrite)
        splits = self._load()
        data, held_out = splits["train"], splits["test"]
        trainer = self.start(data)
        if self.machine.first:
            self._claim()
            remove_unfinished(self.folder)
            variables = checkpoint.list_supported(self.recipe.part, self.graph)
            generator = torch.Generator().manual_seed(self.recipe.seed)
            self.support = Support.fit(variables, data, generator) if variables else None
        log = Log(self.folder / "log.jsonl", trainer.step, self.state) if self.machine.first else None
        with stop_on_signal(trainer.stop, insist=self.machine.world == 1):
            self._run(trainer, log, held_out)
            if log:
                self.save(trainer, log)
            wait(self.machine)
        if trainer.stopped:
            raise KeyboardInterrupt(f"stopped; {self.path} holds step {trainer.step}; go on with: {resume}")
        report = self._finish(trainer, log, splits) if log else {}
        trained = Trained(self.path, report)
        if self.machine.first and self.run:
            runs.describe(self.run, self.recipe.part, f"{command}\n\n{trained.summary}")
        return trained

    def save(self, trainer: Trainer, log: Log, **more: Any) -> None:
        """Write the checkpoint, at the end with ``more`` entries; the last one stays until this one is whole."""
        rest = {name: value for name, value in trainer.state_dict().items() if name != "model"} | log.state()
        rest |= {"support": self.support, "test": None} | more
        checkpoint.save(self.path, self.recipe.part, trainer.average, self.graph, self.config, self.settings, **rest)

    def _run(self, trainer: Trainer, log: Log | None, held_out: Mapping[str, Tensor]) -> None:
        """Take the steps; the first process shows and records them."""
        steps = trainer.run(self.last_step, self.recipe.minutes)
        words = f"{self.recipe.part} {self.graph.name}"
        try:
            with tqdm(total=self.last_step, initial=trainer.step, desc=words, unit="step", disable=not log) as bar:
                for terms in steps:
                    if log:
                        bar.update()
                        log.add(terms)
                        self._record(trainer, log, bar, held_out)
        except InputError as error:
            kept = f"{self.path} holds an earlier step" if self.path.exists() else "nothing was saved yet"
            raise InputError(f"{error.args[0]}; {kept}") from error

    def _finish(self, trainer: Trainer, log: Log, splits: Splits) -> Mapping[str, float]:
        """Score the averaged model on the test split, and on that for validation, and complete the records."""
        report = score(trainer.average, self.graph, splits["test"])
        if "valid" in splits:
            scores = score(trainer.average, self.graph, splits["valid"])
            report |= {f"validation {name.removeprefix('test ')}": value for name, value in scores.items()}
        model, chosen = place_steps(self.recipe, trainer.average, splits.get("valid", {}))
        reference = refer(self.graph, model, splits, self.recipe.trust, self.recipe.seed)
        self.save(trainer, log, test=report, reference=reference, **chosen)
        if isinstance(trainer.average, LearnedAttributes):
            draw_calibration(self.folder / "calibration.png", trainer.average, splits["test"])
        log.finish(trainer.step, trainer.seconds, report)
        return report

    def _record(self, trainer: Trainer, log: Log, bar: tqdm, held_out: Mapping[str, Tensor]) -> None:
        """Write log, checkpoint and samples at the steps at which they are due."""
        step, recipe = trainer.step, self.recipe
        saving = step % recipe.save_every == 0
        if step % LOG_EVERY == 0 or saving:
            means = log.write(step, trainer.seconds)
            rate = self.hyperparameters.batch * (bar.format_dict["rate"] or 0)
            bar.set_postfix(loss=f"{means['loss']:.4g}", images_per_s=f"{rate:.0f}")
        if recipe.part == "image" and step % recipe.sample_every == 0:
            parents = {name: held_out[name] for name in self.graph.image_parents}
            mechanism = cast(ImageMechanism[Any], trainer.average)
            draw_samples(mechanism, parents, self.folder / "samples" / f"{step:06d}.png", self.machine.device)
        if saving:  # last, because a training that is killed goes on after this step
            self.save(trainer, log)

    def _load(self) -> Splits:
        """Load the splits onto the device, images uint8; the first process fills the cache."""
        with first_process_first(self.machine):
            loaded = self.data_set.load_all(self.recipe.image_size(self.graph))
        splits = {name: self.select(data) for name, data in loaded.items()}
        splits["train"] = self.select_training(loaded["train"])
        if self.recipe.part == "attributes":  # no pixels
            splits = {name: data | {"image": data["image"][:, :0]} for name, data in splits.items()}
        if self.recipe.sees_strokes(self.graph):  # the oracle also reads digits as written
            written, digit = (loaded["train"][name].to(self.machine.device) for name in ("base", "digit"))
            both = torch.cat([splits["train"]["image"].amax(dim=1, keepdim=True), written])
            splits["train"] = {"image": both, "digit": digit.repeat(2)}
        return splits

    def _claim(self) -> None:
        """Take the folder: no checkpoint of an earlier training stays, and a run gets its graph."""
        if not self.state:
            self.path.unlink(missing_ok=True)
        if self.run:
            runs.write_graph(self.run, self.graph)
            runs.write_data(self.run, self.source.data_dir, self.source.csv)

    def _resume(self, trainer: Trainer, state: Mapping[str, Any]) -> None:
        """Go on from the content of a checkpoint; refuse one that does not fit the model."""
        try:
            trainer.load_state_dict(state)
            check_state(state)
        except (RuntimeError, TypeError, KeyError, ValueError, AttributeError, IndexError, OverflowError) as error:
            raise InputError(f"{self.path}: damaged: its weights do not fit the model that is trained") from error
