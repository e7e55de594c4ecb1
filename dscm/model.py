"""A causal model for Python: load it, ask it, keep its answers."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import torch
from torch import Tensor

from dscm import runs
from dscm.causal.draws import make_streams
from dscm.causal.graph import Graph
from dscm.causal.image_mechanism import ImageMechanism
from dscm.causal.learned import LearnedAttributes
from dscm.causal.mechanisms import Noise
from dscm.causal.particles import sample_codes
from dscm.causal.scm import Effect, Intervention
from dscm.causal.values import Do, Values, find_failures, read_values, refuse
from dscm.checkpoint import Restored, restore_image
from dscm.data.framing import Fit, Framing
from dscm.data.pictures import UNIT, Picture, Pictures, read_pictures
from dscm.data.scaling import to_levels, to_signed
from dscm.data.sets import Source, get_data_set
from dscm.diffusion.mechanism import DiffusionMechanism
from dscm.diffusion.published import limit
from dscm.errors import InputError, option
from dscm.folder.answer import Answer, answer, read_intervention, read_signed, write_query
from dscm.folder.reader import TABLE, join_table
from dscm.machine import USUAL, choose_device
from dscm.oracle import Oracle, complete, find_faults, list_sources, no_oracle
from dscm.settings import check_integer, check_mapping
from dscm.trust.inspection import Inspector


def load(
    source: Path | str = "morphomnist",
    device: str | torch.device | None = "cpu",
    oracle: Path | str | None = None,
    attributes: Path | str | None = None,
    run: Path | str | None = None,
    fit: Fit | None = None,
    **settings: Any,
) -> "Model":
    """Load a causal model.

    Args:
        source: a run folder of ``train.py --run``; a checkpoint of an image's mechanism; or the name of a bundled
            model, such as ``morphomnist`` or ``morphomnist-spatial``.
        device: the device of the model; None is a GPU where there is one.
        oracle, attributes: checkpoints of the other parts; None takes the run's, or else the bundled ones.
        run: the run folder whose other parts complete a checkpoint.
        fit: how images become squares, ``stretch``, ``crop`` or ``pad``; None is as in the training.
        settings: as `Model.using` takes them.

    Raises:
        InputError: there is no such model, a checkpoint is damaged, or the parts do not belong together.

    >>> from dscm import assets
    >>> model = load("morphomnist")
    >>> answer = model.counterfactual(assets.DIGITS / "00000.png", {"thickness": 5.0})
    >>> answer["intensity"] > answer.obs["intensity"]
    tensor([True])
    """
    if not isinstance(source, str | Path):
        raise InputError(f"{option('source')} {source}: must be the path of a run or a checkpoint, or a model's name")
    place = device if isinstance(device, torch.device) else choose_device(device)
    path, home = runs.find_image(source, Path(run) if run else None)
    image = restore_image(path, place)
    learned = runs.find_learned(attributes, home, image.graph, place)
    model = Model(image, learned, runs.find_oracle(oracle, home, image.graph, place), fit=fit)
    return model.using(**settings) if settings else model


class Model:
    """Answer causal questions about images.

    Observations and answers are dicts of tensors with the batch as first dimension: attributes (B,) in raw units, a
    class as its number, and ``image`` uint8 (B, C, H, W).

    Args:
        checkpoint: the checkpoint of the mechanism of the image.
        attributes: the checkpoint of the learned mechanisms, where the graph has any.
        oracle: the checkpoint of the predictor of attributes that are neither observed nor measured.
        mechanism: a view of the mechanism of the image with other settings; None is the mechanism itself.
        fit: as `load` takes it.

    Raises:
        InputError: a mechanism of an attribute is learned, and ``attributes`` is None.
    """

    def __init__(
        self,
        checkpoint: Restored[ImageMechanism[Any]],
        attributes: Restored[LearnedAttributes] | None = None,
        oracle: Restored[Oracle] | None = None,
        mechanism: ImageMechanism[Any] | None = None,
        fit: Fit | None = None,
    ) -> None:
        if fit not in (None, *get_args(Fit)):
            raise InputError(f"{option('fit')} {fit}: must be one of {', '.join(get_args(Fit))}")
        self.fit = fit
        self.checkpoint, self.attributes_checkpoint, self.oracle_checkpoint = checkpoint, attributes, oracle
        self.mechanism = mechanism or checkpoint.model
        self.scm = self.graph.scm(self.mechanism, self.learned).to(self.device)
        self.data_set = get_data_set(self.graph, Source(framing=self.framing))

    def __repr__(self) -> str:
        """Name the mechanism, the graph and the settings."""
        return f"<Model {self.mechanism.kind} of {self.graph.name}: {self.mechanism.sampling}>"

    @property
    def graph(self) -> Graph:
        """Return the causal graph; by published settings, with the values of counterfactuals limited as they were."""
        return limit(self.checkpoint.graph, self.mechanism.sampling)

    @property
    def learned(self) -> LearnedAttributes | None:
        """Return the learned mechanisms of the attributes, where the graph has any."""
        return self.attributes_checkpoint.model if self.attributes_checkpoint else None

    @property
    def oracle(self) -> Oracle | None:
        """Return the predictor of attributes."""
        return self.oracle_checkpoint.model if self.oracle_checkpoint else None

    @property
    def hashes(self) -> dict[str, str]:
        """Return the hash of each checkpoint, by part."""
        parts = (self.checkpoint, self.attributes_checkpoint, self.oracle_checkpoint)
        return {name: part.sha256 for name, part in zip(("checkpoint", "attributes", "oracle"), parts) if part}

    @property
    def framing(self) -> Framing:
        """Return how images become squares: as in the training, unless another fit is chosen."""
        trained = Framing.of(self.checkpoint.settings, self.graph.data_set)
        return replace(trained, fit=self.fit) if self.fit else trained

    @property
    def device(self) -> torch.device:
        """Return where the model computes."""
        return next(self.checkpoint.model.parameters()).device

    def to(self, device: str | torch.device) -> "Model":
        """Move the model to a device, and return it."""
        place = device if isinstance(device, torch.device) else choose_device(device)
        self.scm.to(place)
        if self.oracle is not None:
            self.oracle.to(place)
        return self

    def using(self, **settings: Any) -> "Model":
        """Return this model with other settings; the weights are shared.

        Args:
            settings: fields of ``model.mechanism.sampling``, such as ``guidance``, ``abduction`` or ``steps``.

        Raises:
            InputError: there is no such setting, or a value is not allowed.
        """
        try:
            view = self.mechanism.using(**settings)
        except InputError as error:
            untrained = isinstance(self.mechanism, DiffusionMechanism) and not self.mechanism.null_trained
            raise InputError(f"{self.checkpoint.path}: {error.args[0]}" if untrained else error.args[0]) from error
        return Model(self.checkpoint, self.attributes_checkpoint, self.oracle_checkpoint, view, self.fit)

    def require_oracle(self) -> Oracle | None:
        """Return the oracle; None where every attribute is measured.

        Raises:
            InputError: there is none, and the graph needs one.
        """
        if self.oracle is None and self.graph.predicted:
            raise no_oracle(variable.name for variable in self.graph.predicted)
        return self.oracle

    @torch.no_grad()
    def observe(
        self,
        images: Picture | Sequence[Picture],
        attributes: Mapping[str, Values] = {},
        value_range: tuple[float, float] = UNIT,
        skip_missing: bool = False,
    ) -> dict[str, Tensor]:
        """Read images, and measure or predict the attributes that are not given.

        Args:
            images: as `read_pictures` takes them.
            attributes: values by name, in raw units, or labels of classes; one for all images, or one for each. They
                take precedence over an ``attributes.csv`` in a folder of images, which may hold some attributes.
            value_range: black and white in images of floating point numbers.
            skip_missing: whether to leave out images of a folder without a row or a value in its table, and rows
                without an image; values in ``attributes`` are of the images that are left.

        Returns:
            An observation.

        Raises:
            InputError: an image cannot be read, an attribute is unknown, has a value outside its domain, or can be
                neither measured nor predicted.
        """
        return self._observe(*self._read(images, attributes, value_range, skip_missing), attributes)

    @torch.no_grad()
    def abduct(self, obs: Mapping[str, Tensor], seed: int = 0) -> dict[str, Noise]:
        """Infer the noise of every variable.

        Args:
            obs: an observation, from `observe` or `sample`.
            seed: the seed of noise that an observation leaves undetermined.
        """
        placed = self._signed(obs)
        return self.scm.abduct(placed, make_streams(seed, range(len(placed["image"])), self.device))

    @torch.no_grad()
    def predict(
        self,
        noise: Mapping[str, Noise],
        do: Do = {},
        obs: Mapping[str, Tensor] | None = None,
    ) -> dict[str, Tensor]:
        """Compute every variable from its noise, and set those in ``do``.

        Args:
            noise: from `abduct`.
            do: values by name, in raw units, or labels of classes; one for all images, or one for each; or functions of
                the values (B,) that the mechanism gives, as in ``{"thickness": lambda x: x + 1}``.
            obs: the observation, if guidance by ``do`` shall leave images alone that an intervention does not change.

        Raises:
            InputError: a variable is unknown, or a value outside its domain.
        """
        signed = self._signed(obs) if obs else None
        return self._show(self.scm.predict(noise, self._intervention(do, signed), signed))

    @torch.no_grad()
    def effect(
        self, obs: Mapping[str, Tensor], noise: Mapping[str, Noise], do: Do, effect: Effect
    ) -> dict[str, Tensor]:
        """Compute every variable under an intervention that reaches the image along some paths only, as `SCM.along`.

        Args:
            obs, noise: the observation, and its noise from `abduct`.
            do: as in `predict`.
            effect: ``total``, ``direct`` or ``indirect``.

        Raises:
            InputError: as `predict`, or there is no such effect.
        """
        signed = self._signed(obs)
        along = self.scm.along(signed, noise, self._intervention(do, signed), effect, "image")
        return self._show(self.scm.predict(noise, along, signed))

    @torch.no_grad()
    def sample(self, n: int, seed: int = 0, do: Do = {}) -> dict[str, Tensor]:
        """Draw ``n`` samples of every variable, under ``do`` as in `predict`."""
        streams = make_streams(seed, range(check_integer("n", n, 1)), self.device)
        return self._show(self.scm.sample(n, streams, self._intervention(do)))

    @torch.no_grad()
    def counterfactual(
        self,
        images: Picture | Sequence[Picture],
        do: Do,
        effect: Effect = "total",
        attributes: Mapping[str, Values] = {},
        seed: int = 0,
        batch: int = USUAL,
        value_range: tuple[float, float] = UNIT,
        skip_missing: bool = False,
        particles: int = 1,
        **settings: Any,
    ) -> "Answer":
        """Answer what images would have been under an intervention: observe, abduct, intervene, predict.

        Args:
            images, attributes, value_range, skip_missing: as in `observe`.
            do: as in `predict`; or changes as text, of the observed value ``+1``, ``*0.8`` or ``flip``, of that which
                the mechanism gives ``soft:+1``, ``soft:*0.8`` or ``soft:flip``.
            effect: ``total``, or along some paths only: ``direct`` or ``indirect``.
            seed: the seed of noise that an observation leaves undetermined.
            batch: images at a time.
            particles: M. 1 takes the mean of the code; more sample it, for the mean and spread of M counterfactuals.
            settings: as in `using`.

        Raises:
            InputError: as `observe`, `using` and `effect`.
        """
        model = self.using(**choices) if (choices := sample_codes(self.mechanism, particles, settings)) else self
        pictures, table = self._read(images, attributes, value_range, skip_missing)
        obs = self._signed(self._observe(pictures, table, attributes))
        change = self._intervention(do, obs, pictures.names)
        asked, given = (change, effect, pictures.names, batch, seed, particles), {*attributes, *table}
        composed, values, spread, trust = answer(model.scm, obs, *asked, self.inspector, given)
        refuse(find_failures(self.graph.attributes, values), pictures.names)
        sources = list_sources(self.graph, {"given": attributes, f"from {TABLE}": table})
        query, names = write_query(do, effect), pictures.names
        return Answer(self.graph, self.oracle, names, query, obs, composed, values, sources, particles, spread, trust)

    @property
    def inspector(self) -> Inspector:
        """Return what checks the answers."""
        image, judge = self.checkpoint, self.oracle_checkpoint
        return Inspector(self.graph, self.oracle, image.support, image.reference, judge.reference if judge else None)

    def _read(
        self,
        images: Picture | Sequence[Picture],
        given: Collection[str],
        value_range: tuple[float, float],
        skip_missing: bool,
    ) -> tuple[Pictures, Mapping[str, Tensor]]:
        """Bring images to the model's size, and read the attributes that are not given from their folder's table."""
        pictures = read_pictures(images, self.data_set, self.mechanism.shape, value_range)
        return join_table(pictures, [v for v in self.graph.attributes if v.name not in given], skip_missing)

    def _observe(
        self, pictures: Pictures, table: Mapping[str, Tensor], attributes: Mapping[str, Values]
    ) -> dict[str, Tensor]:
        """Complete the attributes of images: given ones, those of the folder's table, measured and predicted ones."""
        n = len(pictures.names)
        check_mapping("attributes", attributes, "a dict of values by name")
        given = {name: read_values(self.graph.variable(name), value, n).expand(n) for name, value in attributes.items()}
        placed = {name: value.to(self.device) for name, value in {**table, **given}.items()}
        x = to_signed(levels := pictures.levels.to(self.device))
        obs = complete(x, placed, self.graph, self.oracle)
        refuse(find_faults(self.graph, obs | {"image": x}, placed), pictures.names)
        return obs | {"image": levels}

    def _signed(self, obs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Bring an observation to the device, its image to [-1, 1]."""
        return read_signed(self.graph, self.mechanism.shape, obs, self.device)

    def _intervention(self, do: Do, obs: Mapping[str, Tensor] | None = None, names: Sequence[str] = ()) -> Intervention:
        """Read the values of an intervention onto the device."""
        return read_intervention(self.graph, do, self.device, obs, names)

    def _show(self, values: dict[str, Tensor]) -> dict[str, Tensor]:
        """Turn the image of an answer into grey levels.

        Raises:
            InputError: a value is outside its domain, or the image is not finite.
        """
        refuse(find_failures(self.graph.attributes, values))
        return values | {"image": to_levels(values["image"])}
