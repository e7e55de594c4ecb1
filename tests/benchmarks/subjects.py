"""What the benchmarks measure on: bundled models, and test images with interventions and true counterfactuals."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

import torch
from torch import Tensor

from dscm import assets, checkpoint
from dscm.causal.graph import Graph
from dscm.causal.learned import LearnedAttributes
from dscm.data.cache import user_cache_dir
from dscm.data.scaling import to_levels
from dscm.data.sets import Source, get_data_set
from dscm.data.truth import Truth
from dscm.diffusion.mechanism import DiffusionMechanism
from dscm.evaluation.task import Task, set_task
from dscm.graphs import get_graph
from dscm.oracle import Oracle

DIGITS = get_graph("morphomnist")


@dataclass(frozen=True)
class Subject:
    """A bundled model, and images to ask it about.

    Args:
        graph: the causal graph.
        mechanism: the mechanism of the image, with the settings of its checkpoint.
        oracle, learned: the other parts of the model.
        task: the images, the interventions of an evaluation (values permuted within the images; binary ones flipped)
            and the true counterfactuals.
        asked: the interventions that are measured.
    """

    graph: Graph
    mechanism: DiffusionMechanism
    oracle: Oracle | None
    learned: LearnedAttributes | None
    task: Task
    asked: tuple[str, ...]


def restore(part: Literal["semantic", "spatial"], device: torch.device, graph: Graph = DIGITS) -> DiffusionMechanism:
    """Restore a bundled mechanism of the image, with the settings of its checkpoint."""
    return cast(DiffusionMechanism, checkpoint.restore_image(path_of(part, graph), device).model)


def path_of(part: Any, graph: Graph) -> Path:
    """Return the path of a bundled checkpoint."""
    path = assets.find(part, graph)
    assert path is not None
    return path


def read_digits(data_dir: Path | None, n: int, cache_dir: Path | None = None) -> tuple[dict[str, Tensor], Truth | None]:
    """Read the first test digits, uint8, and what draws their true counterfactuals; without MNIST the bundled ones."""
    if data_dir is None:
        obs = assets.read_observation(n)
        return obs | {"image": to_levels(obs["image"])}, None
    data_set = get_data_set(DIGITS, Source(data_dir, cache_dir or user_cache_dir()))
    return {name: value[:n] for name, value in data_set.load("test", 28).items()}, data_set.truth()


def take_digits(data_dir: Path | None, n: int, device: torch.device, cache_dir: Path | None = None) -> Subject:
    """Take the bundled semantic model of digits, and n test digits under do(thickness) and do(digit)."""
    data, truth = read_digits(data_dir, n, cache_dir)
    oracle = checkpoint.restore_oracle(path_of("oracle", DIGITS), device).model
    task = to_device(set_task(DIGITS, data, "marginal", 0, truth), device)
    return Subject(DIGITS, restore("semantic", device), oracle, None, task, ("thickness", "digit"))


def take_faces(folder: Path, n: int, device: torch.device) -> Subject:
    """Take the bundled model of faces, and n test faces of a drawn set in the layout of CelebAMask-HQ."""
    graph = get_graph("celebahq")
    data_set = get_data_set(graph, Source(folder))
    mechanism = restore("semantic", device, graph)
    data = {name: value[:n] for name, value in data_set.load("test", mechanism.shape[-1]).items()}
    oracle = checkpoint.restore_oracle(path_of("oracle", graph), device).model
    learned = checkpoint.restore_attributes(path_of("attributes", graph), torch.device("cpu")).model
    task = to_device(set_task(graph, data, "marginal", 0, data_set.truth(), learned), device)
    return Subject(graph, mechanism, oracle, learned.to(device), task, ("Smiling", "Eyeglasses"))


def to_device(task: Task, device: torch.device) -> Task:
    """Move the images and interventions of a task; true counterfactuals too."""
    obs, truths = ({name: value.to(device) for name, value in x.items()} for x in (task.obs, task.truths))
    interventions = {name: {k: v.to(device) for k, v in do.items()} for name, do in task.interventions.items()}
    return Task(obs, interventions, truths, {})
