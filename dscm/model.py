"""A whole causal model for a notebook: attributes in raw units, images as paths, pictures or arrays."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from dscm import assets, checkpoint, runs
from dscm.data.images import UnreadableImage, decode
from dscm.data.mammogram import Framing
from dscm.data.scaling import to_levels, to_signed
from dscm.data.sets import fit_pixels, read_file
from dscm.errors import InputError
from dscm.causal.graph import Graph
from dscm.causal.graph_file import GRAPHS, get_graph
from dscm.diffusion.mechanism import DiffusionMechanism
from dscm.causal.learned import LearnedAttributes
from dscm.causal.mechanisms import Noise
from dscm.evaluation.metrics import observe
from dscm.oracle import Oracle
from dscm.diffusion.sampling import intervening
from dscm.causal.scm import Intervention

Picture = Path | str | Image.Image | np.ndarray | Tensor


def load(source: Path | str, device: str | torch.device = "cpu") -> "Model":
    """Load a model.

    Args:
        source: a run folder, as ``train.py --run`` makes; or a built-in graph's name, for its bundled model.
        device: where it computes.

    Returns:
        The model, without gradients.

    Raises:
        InputError: there is no such run or bundled model, or a checkpoint is damaged.

    >>> model = load("morphomnist")
    >>> obs = model.observe([assets.DIGITS / "00000.png"])
    >>> noise = model.abduct(obs)
    >>> model.predict(noise, {"thickness": 5.0})["intensity"] > obs["intensity"]
    tensor([True])
    """
    device, name = torch.device(device), str(source)
    run = None if name in GRAPHS and not Path(source).exists() else Path(source)
    if run:
        image = runs.find_part(run, "image")
    else:
        image = assets.find("semantic", GRAPHS[name]) or assets.find("spatial", GRAPHS[name])
    if image is None:
        raise InputError(f"{source}: has no trained mechanism of the image")
    mechanism, content = checkpoint.restore(image, "image", device)
    graph = get_graph(content["graph"])
    attributes, oracle = (runs.find_other(run, part, graph) for part in ("attributes", "oracle"))
    return Model(
        graph,
        mechanism,
        checkpoint.restore(attributes, "attributes", device)[0] if attributes else None,
        checkpoint.restore(oracle, "oracle", device)[0] if oracle else None,
        Framing.of(content.get("settings", {})),
    )


class Model:
    """Answer causal questions about images.

    Observations and answers are dicts of tensors with the batch as first dimension: attributes (B,) in raw units, a
    class as its number, and ``image`` uint8 (B, C, H, W).

    Args:
        graph: the causal graph.
        mechanism: of the image; ``sampling`` says how it abducts and predicts, and may be set.
        learned: the fitted mechanisms of the attributes, where there are any.
        oracle: predicts attributes that are neither given nor measured; None predicts nothing.
        framing: how mammograms are brought to a square.
    """

    def __init__(
        self,
        graph: Graph,
        mechanism: DiffusionMechanism,
        learned: LearnedAttributes | None,
        oracle: Oracle | None,
        framing: Framing,
    ) -> None:
        self.graph, self.mechanism, self.oracle, self.framing = graph, mechanism, oracle, framing
        self.device = next(mechanism.parameters()).device
        self.scm = graph.scm(mechanism, learned).to(self.device)

    @torch.no_grad()
    def observe(
        self, images: Sequence[Picture] | Tensor, attributes: Mapping[str, Sequence[float] | Tensor] = {}
    ) -> dict[str, Tensor]:
        """Read images, and measure or predict those of their attributes that are not given.

        Args:
            images: files, pictures, or arrays: uint8 or float in [0, 1], of shape (H, W), (C, H, W) or (H, W, C).
            attributes: values by name, in raw units, one for each image.

        Returns:
            An observation.

        Raises:
            InputError: an image cannot be read, or an attribute can be neither measured nor predicted.
        """
        levels = torch.stack([self._read(image) for image in images]).to(self.device)
        given = {name: torch.as_tensor(value, device=self.device) for name, value in attributes.items()}
        missing = {variable.name for variable in self.graph.attributes} - given.keys()
        unknown = missing.intersection(variable.name for variable in self.graph.predicted)
        if unknown and self.oracle is None:
            raise InputError(f"there is no oracle to predict {', '.join(sorted(unknown))}: give them")
        found = observe(to_signed(levels), self.graph, self.oracle) if missing else {}
        return found | given | {"image": levels}

    @torch.no_grad()
    def abduct(self, obs: Mapping[str, Tensor], seed: int = 0) -> dict[str, Noise]:
        """Infer the noise of every variable.

        Args:
            obs: an observation, as `observe` or `sample` returns it.
            seed: of the noise that an observation leaves open.
        """
        generator = torch.Generator(self.device).manual_seed(seed)
        return self.scm.abduct({**obs, "image": to_signed(obs["image"])}, generator)

    @torch.no_grad()
    def predict(self, noise: Mapping[str, Noise], do: Intervention = {}) -> dict[str, Tensor]:
        """Compute every variable from its noise, except those in ``do``, which are set.

        Args:
            noise: from `abduct`.
            do: values by name, in raw units; a number, or one for each image. Guidance by ``do`` amplifies them in all
                images; `effect`, which knows the observation, in those that they change.
        """
        self._check(do)
        with intervening(self.mechanism, do):
            return self._show(self.scm.predict(noise, do))

    @torch.no_grad()
    def effect(
        self,
        obs: Mapping[str, Tensor],
        noise: Mapping[str, Noise],
        do: Intervention,
        kind: Literal["total", "direct", "indirect"],
    ) -> dict[str, Tensor]:
        """Compute every variable under an intervention that reaches the image along some paths only, as `SCM.along`.

        Args:
            obs, noise: the observation, and what `abduct` found.
            do: as in `predict`.
            kind: which paths.
        """
        self._check(do)
        do = self.scm.along(obs, noise, do, kind, "image")
        with intervening(self.mechanism, do, obs):
            return self._show(self.scm.predict(noise, do))

    @torch.no_grad()
    def sample(self, n: int, seed: int = 0, do: Intervention = {}) -> dict[str, Tensor]:
        """Draw ``n`` samples of every variable, under ``do``."""
        self._check(do)
        with intervening(self.mechanism, do):
            return self._show(self.scm.sample(n, torch.Generator(self.device).manual_seed(seed), do))

    def _check(self, do: Intervention) -> None:
        """Refuse a value outside its variable's domain."""
        for name, value in do.items():
            for number in torch.as_tensor(value).unique().tolist():
                self.graph.check_do({name: number})

    def _show(self, values: dict[str, Tensor]) -> dict[str, Tensor]:
        """Turn the image of an answer into grey levels."""
        return values | {"image": to_levels(values["image"])}

    def _read(self, image: Picture) -> Tensor:
        """Bring one image to the model's size, uint8 (C, H, W)."""
        if isinstance(image, str | Path):
            try:
                return read_file(self.graph, Path(image), self.mechanism.shape, self.framing)
            except UnreadableImage as error:
                raise InputError(f"{image}: {error}") from error
        pixels = decode(image) if isinstance(image, Image.Image) else np.asarray(image)
        if pixels.ndim == 3 and pixels.shape[0] in (1, 3):
            pixels = pixels.transpose(1, 2, 0)
        if pixels.dtype.kind == "f":
            pixels = np.rint(pixels.clip(0, 1) * 255)
        if pixels.ndim == 3 and pixels.shape[2] == 1:
            pixels = pixels[:, :, 0]
        whole = pixels if pixels.dtype == np.uint16 else pixels.astype(np.uint8)
        return fit_pixels(self.graph, whole, self.mechanism.shape, self.framing)
