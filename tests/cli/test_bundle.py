"""What is said of the origin of a bundled part."""

import dataclasses
from pathlib import Path

from dscm.cli.bundle import describe_data, training_command
from dscm.cli.train import make_parser
from dscm.data.phantoms import layouts
from dscm.training.recipe import Recipe


def test_the_command_of_a_training_trains_it_again() -> None:
    """Parsed again it means the settings that were not the defaults; what is left out is a default."""
    recipe = Recipe(mechanism="spatial", beta=None, null_apart=True, mixture=False, fit="crop", p_null=0.2, steps=None)
    content = {"settings": dataclasses.asdict(recipe), "graph": "morphomnist", "step": 70}
    command = training_command(content)
    assert "--set null_apart=on --set mixture=off" in command and "clean_background" not in command
    again = make_parser().read(command.split()[2:])
    assert Recipe(**again.settings, seed=again.seed) == dataclasses.replace(recipe, steps=70)


def test_the_command_of_drawn_data_draws_them_again(tmp_path: Path) -> None:
    """Versions of one drawing are said, too."""
    with layouts.new_folder(tmp_path / "D") as folder:
        layouts.write_set(folder, layouts.Recipe("embed", 2, 3, drawn_versions=2))
    command = "python -m dscm.cli.phantoms embed --n 2 --drawn-versions 2 --seed 3 --out D"
    assert describe_data("embed", tmp_path / "D") == command
