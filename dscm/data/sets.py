"""Data sets: each loads its images and attributes, converts a user's image to them, and maps results back."""

import contextlib
from abc import ABC, abstractmethod
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import ClassVar

import numpy as np
from torch import Tensor

from dscm.causal.graph import Graph
from dscm.data import celeba, celebahq, embed, mammogram, own
from dscm.data.cache import user_cache_dir
from dscm.data.framing import Fit, Framing
from dscm.data.images import fit, read_pixels
from dscm.data.listing import list_images
from dscm.data.morphomnist import dataset as morphomnist
from dscm.data.phantoms import pendulum
from dscm.data.phantoms.layouts import Recipe, read_recipe
from dscm.data.split import Split
from dscm.data.survey import survey
from dscm.data.truth import Truth, digit_truth, face_truth, mammogram_truth, pendulum_truth
from dscm.errors import EmptySplit, InputError, option

DIGIT_SIZE = 28


@dataclass(frozen=True)
class Source:
    """Where a data set is and how it is read.

    Args:
        data_dir: the folder of the data set; None downloads MNIST, the only set with a download.
        cache_dir: the folder of decoded and generated images.
        csv: the one or two CSV files of EMBED; by default those at the top of its folder.
        framing: how images become squares; None is as usual for the data set.
        skip_missing: whether to leave out any number of absent or broken images, and of the user's own
            data rows without an image or a value, and images without a row.
        workers: number of processes that decode or generate.
        mixture: of Morpho-MNIST, whether a fifth each of thickness, slant and intensity is uniform.
    """

    data_dir: Path | None = None
    cache_dir: Path = field(default_factory=user_cache_dir)
    csv: tuple[Path, ...] = ()
    framing: Framing | None = None
    skip_missing: bool = False
    workers: int = 1
    mixture: bool = True


@dataclass(frozen=True)
class DataSet(ABC):
    """Images with the attributes of a causal graph.

    Args:
        graph: the causal graph.
        source: where the data are and how they are read.

    Attributes:
        takes: the settings of `Source` that change how the data set is loaded.
        usual_fit: how its images become squares unless the user says otherwise.
        expects: a sentence on the images of a user that suit a model of it; empty where any do.
    """

    takes: ClassVar[tuple[str, ...]] = ()
    usual_fit: ClassVar[Fit] = "stretch"
    expects: ClassVar[str] = ""

    graph: Graph
    source: Source = field(default_factory=Source)

    def check_source(self) -> None:
        """Check that every setting of how the data are read has an effect on this data set.

        Raises:
            InputError: one has none.
        """
        source, framing = self.source, self.framing
        given = {
            "csv": source.csv,
            "fit": framing.fit != self.usual_fit,
            "clean_background": framing.clean_background,
            "skip_missing": source.skip_missing,
            "mixture": not source.mixture,
        }
        for name in (name for name, value in given.items() if value and name not in self.takes):
            owners = [owner for owner, kind in DATA_SETS.items() if name in kind.takes]
            data = f"{option('data')} {self.graph.data_set}"
            raise InputError(f"{option(name)}: has no effect on {data}; it is a setting of {', '.join(owners)}")

    @abstractmethod
    def load(self, split: Split, size: int) -> dict[str, Tensor]:
        """Load a split.

        Args:
            split: ``train``, ``valid`` or ``test``.
            size: height and width of the images in pixels.

        Returns:
            ``image`` uint8 (N, C, size, size), one tensor (N,) for each attribute, and either ``base``, the MNIST
            digits that were redrawn, or ``index``, the number of each image in the set.

        Raises:
            InputError: the data are missing or damaged, or the size does not suit them.
        """

    def load_all(self, size: int) -> dict[Split, dict[str, Tensor]]:
        """Load every split as `load` does; the validation split is left out if it has no images."""
        splits: dict[Split, dict[str, Tensor]] = {"train": self.load("train", size)}
        with contextlib.suppress(EmptySplit):
            splits["valid"] = self.load("valid", size)
        return splits | {"test": self.load("test", size)}

    def read(self, path: Path, shape: tuple[int, int, int]) -> Tensor:
        """Read an image file as the data set would.

        Args:
            path: the file.
            shape: the image shape of the model, (C, size, size).

        Returns:
            uint8 of ``shape``.

        Raises:
            UnreadableImage: the file cannot be used.
        """
        return self.fit(read_pixels(path), shape)

    def fit(self, pixels: np.ndarray, shape: tuple[int, int, int]) -> Tensor:
        """Convert an image to the form in which models see the data set.

        Args:
            pixels: uint8 or uint16, (H, W) or (H, W, 3).
            shape: the image shape of the model, (C, size, size).

        Returns:
            uint8 of ``shape``.
        """
        return fit(pixels, shape[1], shape[0], self.framing)

    def place_back(self, square: Tensor, pixels: np.ndarray) -> Tensor:
        """Transform a model's image, or a layer over it, back to the frame of the original image.

        Args:
            square: float (C, size, size).
            pixels: the original image, uint8 or uint16, (H, W) or (H, W, 3).

        Returns:
            float (C, H, W).
        """
        height, width = pixels.shape[:2]
        return self.framing.window(height, width).place(square, height, width)

    def notes(self) -> list[str]:
        """Say, in a sentence each, what happens to the data that a user may not expect.

        Raises:
            InputError: the data are missing.
        """
        return []

    def truth(self) -> Truth | None:
        """Return the generator of true counterfactuals; None if they are unknown, as for photographs.

        Raises:
            InputError: the recipe of a synthetic data set is damaged.
        """
        return None

    def measure(self, image: Tensor, names: list[str]) -> dict[str, Tensor]:
        """Measure attributes of images, by the morphometry of digits unless the data set has its own.

        Args:
            image: uint8 (N, C, H, W).
            names: those to measure, among the measured ones of the graph.

        Returns:
            Each by name, float32 (N,), in raw units.
        """
        return morphomnist.measure_attributes(image, names)

    @property
    def framing(self) -> Framing:
        """Return how images become squares."""
        return self.source.framing or Framing(self.usual_fit)

    @property
    def folder(self) -> Path:
        """Return the folder of the data set.

        Raises:
            InputError: the source names none.
        """
        if self.source.data_dir is None:
            name = f"{option('data')} {self.graph.name}"
            raise InputError(f"{name}: give the folder of the data set with {option('data_dir')}")
        return self.source.data_dir

    @property
    def names(self) -> list[str]:
        """List the names of the attributes."""
        return [variable.name for variable in self.graph.attributes]

    @property
    def recipe(self) -> Recipe | None:
        """Read the recipe of a synthetic data set; None for real images."""
        return read_recipe(self.source.data_dir) if self.source.data_dir else None


class MorphoMNIST(DataSet):
    """MNIST digits, redrawn with the attributes of the graph."""

    takes = ("mixture",)

    def load(self, split: Split, size: int) -> dict[str, Tensor]:
        """Load a split as `DataSet.load`; digits have 28×28 pixels."""
        if size != DIGIT_SIZE:
            raise InputError(f"{option('size')} {size}: digits are {DIGIT_SIZE} pixels a side")
        source = self.source
        return morphomnist.load(self.graph, source.data_dir, split, source.cache_dir, source.workers, source.mixture)

    def load_all(self, size: int) -> dict[Split, dict[str, Tensor]]:
        """Load every split as `DataSet.load_all`, and the file of which two are parts once."""
        test, source = self.load("test", size), self.source
        place = (source.data_dir, source.cache_dir, source.workers, source.mixture)
        return {**morphomnist.load_training(self.graph, *place), "test": test}

    def truth(self) -> Truth | None:
        """Return the generator of true digits under interventions on the measured attributes."""
        return digit_truth(self.graph.measured) if self.graph.measured else None


class CelebA(DataSet):
    """Aligned faces of CelebA."""

    takes = ("fit", "skip_missing")
    usual_fit = "crop"
    expects = (
        "faces are to be upright and framed as CelebA's aligned ones: of a portrait a square is taken, as wide as it, "
        f"{celeba.ANCHOR[0]:.0%} down the height that is left over (rows 30 to 208 of 218), in which the eyes lie "
        f"level, just above the middle, at 3/8 and 5/8 of the width; {option('fit')}=stretch or pad takes all of it"
    )

    @property
    def framing(self) -> Framing:
        """Return how faces become squares: a crop lies where the faces are in aligned images."""
        return replace(super().framing, anchor=celeba.ANCHOR)

    def load(self, split: Split, size: int) -> dict[str, Tensor]:
        """Load a split as `DataSet.load`, with ``identity``, the number of the person, where it is known."""
        source = self.source
        return celeba.load(
            self.folder, split, self.names, size, source.cache_dir, source.workers, source.skip_missing, self.framing
        )


class CelebAHQ(DataSet):
    """Faces of CelebAMask-HQ, or synthetic ones in its layout."""

    takes = ("fit", "skip_missing")

    def load(self, split: Split, size: int) -> dict[str, Tensor]:
        """Load a split as `DataSet.load`."""
        source = self.source
        return celebahq.load(
            self.folder, split, self.names, size, source.cache_dir, source.workers, source.skip_missing, self.framing
        )

    def truth(self) -> Truth | None:
        """Return the generator of true faces if they are synthetic."""
        recipe = self.recipe
        return face_truth(recipe, self.names) if recipe else None


class EMBED(DataSet):
    """Mammograms of EMBED, or synthetic ones in its layout."""

    takes = ("csv", "fit", "clean_background", "skip_missing")

    def load(self, split: Split, size: int) -> dict[str, Tensor]:
        """Load a split as `DataSet.load`."""
        source = self.source
        csvs, where = source.csv or sorted(self.folder.glob("*.csv")), (source.cache_dir, source.workers, self.framing)
        return embed.load(self.folder, csvs, split, self.names, size, *where, skip_missing=source.skip_missing)

    def fit(self, pixels: np.ndarray, shape: tuple[int, int, int]) -> Tensor:
        """Convert a mammogram as `DataSet.fit`, with the breast on the left."""
        return mammogram.prepare(mammogram.to_grey(pixels), shape[1], self.framing)

    def place_back(self, square: Tensor, pixels: np.ndarray) -> Tensor:
        """Transform a square as `DataSet.place_back`."""
        return mammogram.place_back(square, mammogram.to_grey(pixels), self.framing)

    def truth(self) -> Truth | None:
        """Return the generator of true mammograms if they are synthetic."""
        recipe = self.recipe
        return mammogram_truth(self.folder, recipe, self.framing) if recipe else None


class ImageFolder(DataSet):
    """The user's own images with an ``attributes.csv``."""

    takes = ("fit", "skip_missing")

    def load(self, split: Split, size: int) -> dict[str, Tensor]:
        """Load a split as `DataSet.load`."""
        source = self.source
        return own.load(
            self.folder, self.graph, split, size, source.cache_dir, source.workers, source.skip_missing, self.framing
        )

    def notes(self) -> list[str]:
        """Say what is passed over in the folder, and what happens to its images."""
        listing = list_images(self.folder)
        return listing.notes + survey([self.folder / name for name in listing.images], self.framing)


class Pendulum(ImageFolder):
    """Pendulums as in CausalVAE's data set: drawn ones, or the published images in a folder with ``attributes.csv``."""

    def measure(self, image: Tensor, names: list[str]) -> dict[str, Tensor]:
        """Measure attributes as `DataSet.measure`, by the places of colours."""
        return pendulum.measure(image, names)

    def truth(self) -> Truth | None:
        """Return the generator of true pendulums if they were drawn here."""
        return pendulum_truth() if self.recipe else None


DATA_SETS: dict[str, type[DataSet]] = {
    "morphomnist": MorphoMNIST,
    "celeba": CelebA,
    "celebahq": CelebAHQ,
    "embed": EMBED,
    "pendulum": Pendulum,
    "folder": ImageFolder,
}


def get_data_set(graph: Graph, source: Source | None = None) -> DataSet:
    """Return the data set of a graph; nothing is read before it is used.

    Args:
        graph: the causal graph.
        source: where the data are; the default suffices to read, fit and place back single images.
    """
    return DATA_SETS[graph.data_set](graph, source or Source())
