"""What is said of the origin of a bundled part."""

import dataclasses

from dscm.cli.bundle import training_command
from dscm.cli.train import make_parser
from dscm.training.recipe import Recipe


def test_the_command_of_a_training_trains_it_again() -> None:
    """Parsed again it means the settings that were not the defaults; what is left out is a default."""
    recipe = Recipe(mechanism="spatial", beta=None, null_apart=True, mixture=False, fit="crop", p_null=0.2, steps=None)
    content = {"settings": dataclasses.asdict(recipe), "graph": "morphomnist", "step": 70}
    command = training_command(content)
    assert "--set null_apart=on --set mixture=off" in command and "clean_background" not in command
    again = make_parser().read(command.split()[2:])
    assert Recipe(**again.settings, seed=again.seed) == dataclasses.replace(recipe, steps=70)
