"""The form of the house: which room may know which, how long a file is, and what lies at the top."""

import ast
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGE = sorted((ROOT / "dscm").rglob("*.py"))
SCRIPTS = [ROOT / name for name in ("train.py", "counterfactual.py", "evaluate.py")]
FLOORS = [  # a room imports its own floor and those before it
    {"errors", "files", "layers", "settings", "machine"},
    {"causal"},
    {"graphs"},
    {"data", "diffusion"},
    {"oracle", "baselines"},
    {"trust"},
    {"checkpoint"},
    {"assets", "runs"},
    {"plots"},
    {"training", "folder"},
    {"model"},
    {"evaluation"},
    {"dscm"},
    {"cli"},
    {"train", "counterfactual", "evaluate"},
]
BLIND = {"causal": {"data"}, "data": {"oracle", "diffusion", "baselines"}}  # on the same floor, or pixels
FLOOR = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}


def module_name(path: Path) -> str:
    """Return the dotted name of a file."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


NAMES = {module_name(path): path for path in PACKAGE + SCRIPTS}


def room(module: str) -> str:
    """Return the room of a module: the first name below the package's."""
    return module.removeprefix("dscm.").partition(".")[0]


def imports(module: str) -> set[str]:
    """List the modules of the package that a module imports, anywhere in it."""
    named = set()
    for node in ast.walk(ast.parse(NAMES[module].read_text())):
        if isinstance(node, ast.Import):
            named |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{module}: a relative import"
            inner = {f"{node.module}.{alias.name}" for alias in node.names}
            named |= {name if name in NAMES else str(node.module) for name in inner}
    return named & NAMES.keys() - {module}


def assert_no_circle(needs: dict[str, set[str]]) -> None:
    """Check that everything can be put in an order in which each needs only earlier ones."""
    waiting = dict(needs)
    while ready := [name for name, others in waiting.items() if not others & waiting.keys() - {name}]:
        for name in ready:
            del waiting[name]
    assert not waiting, f"in a circle: {', '.join(waiting)}"


def test_imports_never_run_back_up() -> None:
    """A room knows its own floor and those below, and data neither networks nor the causal model pixels."""
    for module in NAMES:
        for other in imports(module):
            mine, its = room(module), room(other)
            assert FLOOR[its] <= FLOOR[mine] and its not in BLIND.get(mine, ()), f"{module} imports {other}"


def test_imports_make_no_circle() -> None:
    """Neither of modules nor of rooms."""
    needs = {module: imports(module) for module in NAMES}
    assert_no_circle(needs)
    assert_no_circle(
        {mine: {room(other) for module in needs if room(module) == mine for other in needs[module]} for mine in FLOOR}
    )


def test_files_and_functions_are_short() -> None:
    """At most 350 lines a file, and 50 a function with its docstring."""
    for path in [*PACKAGE, *SCRIPTS, *(ROOT / "tests").rglob("*.py")]:
        text = path.read_text()
        assert len(text.splitlines()) <= 350, path
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef):
                assert node.end_lineno - node.lineno < 50, f"{path}: {node.name}"


def test_only_the_command_line_parses_arguments() -> None:
    """Outside of dscm/cli nothing knows of argparse, the scripts included."""
    for module, path in NAMES.items():
        nodes = [*ast.walk(ast.parse(path.read_text()))]
        named = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
        named |= {str(node.module) for node in nodes if isinstance(node, ast.ImportFrom)}
        assert "argparse" not in named or room(module) == "cli", module


def test_the_top_is_small() -> None:
    """Ten modules at the top of the package, and at that of the repository only what the user fixed."""
    assert len(list((ROOT / "dscm").glob("*.py"))) <= 10
    entries = [path for path in ROOT.iterdir() if not path.name.startswith(".")]
    shown = {path.name for path in entries if not (path / "pyvenv.cfg").exists()}  # a virtual environment is the user's
    made = {"build", "runs", "out", "data-cache", "__pycache__", "dscm.egg-info"}
    expected = {"setup.py", "README.md", "dscm", "train.py", "counterfactual.py", "evaluate.py", "tests"}
    assert shown - made == expected


def test_the_rules_can_fail() -> None:
    """The helpers see what there is to see."""
    assert "dscm.layers" in imports("dscm.diffusion.unet") and room("dscm.diffusion.unet") == "diffusion"
    assert {module for module in NAMES if room(module) not in FLOOR} == set()
