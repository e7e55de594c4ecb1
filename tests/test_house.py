"""The architecture as rules: who may import whom, and what every file must and must not contain."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = sorted((ROOT / "dscm").rglob("*.py"))
SCRIPTS = [ROOT / name for name in ("train.py", "counterfactual.py", "evaluate.py")]
MAY_IMPORT = {
    "nn": set(),
    "diffusion": set(),
    "solvers": {"diffusion"},
    "guidance": set(),
    "morphometry": set(),
    "unet": {"nn"},
    "encoder": {"nn"},
    "oracles": {"data.scaling", "nn", "variables"},
    "variables": {"errors", "mechanisms"},
    "splines": set(),
    "learned": {"data.scaling", "mechanisms", "nn", "splines", "variables"},
    "mechanisms": {"errors", "nn"},
    "scm": {"errors", "mechanisms"},
    "graph": {"errors", "learned", "mechanisms", "scm", "variables"},
    "graphs": {"errors", "graph", "mechanisms", "scm", "variables"},
    "queries": {"data.folder", "data.table", "errors", "graph", "variables"},
    "paste": {"data.scaling"},
    "dynamic": {"diffusion", "guidance"},
    "statistics": set(),
    "perceptual": set(),
    "morphing": {"morphometry"},
}


def imported(path: Path) -> set[str]:
    """List the modules of this package that a file imports, without the package's name."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "dscm":
            inner = node.module.partition(".")[2]
            found |= {inner} if inner else {alias.name for alias in node.names}
        elif isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[2] for alias in node.names if alias.name.startswith("dscm.")}
    return found


@pytest.mark.parametrize("name", list(MAY_IMPORT))
def test_imports_point_one_way(name: str) -> None:
    assert imported(ROOT / "dscm" / f"{name}.py") <= MAY_IMPORT[name]


def test_the_package_never_imports_a_script_nor_data_the_image() -> None:
    for path in PACKAGE:
        names = {alias.name for node in ast.walk(ast.parse(path.read_text()))
                 if isinstance(node, ast.Import) for alias in node.names}  # fmt: skip
        assert not names & {"train", "counterfactual", "evaluate"}, path
    for path in (ROOT / "dscm" / "data").glob("*.py"):
        assert not imported(path) & {"image", "unet", "diffusion"}, path


def test_top_level_is_what_the_user_fixed() -> None:
    entries = [path for path in ROOT.iterdir() if not path.name.startswith(".")]
    shown = {path.name for path in entries if not (path / "pyvenv.cfg").exists()}  # a virtual environment is the user's
    generated = {"build", "runs", "out", "data-cache", "__pycache__", "dscm.egg-info"}
    expected = {"setup.py", "README.md", "dscm", "train.py", "counterfactual.py", "evaluate.py", "tests"}
    assert shown - generated == expected


@pytest.mark.parametrize("path", PACKAGE + SCRIPTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_files_are_short_documented_and_annotated(path: Path) -> None:
    text = path.read_text()
    assert len(text.splitlines()) <= 350
    assert not any(word in text for word in ("strict=False", "weights_only=False", 'device="cuda"'))
    tree = ast.parse(text)
    assert ast.get_docstring(tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef) or (isinstance(node, ast.FunctionDef) and node.name != "__init__"):
            nested = isinstance(node, ast.FunctionDef) and node not in public_functions(tree)
            assert nested or ast.get_docstring(node), f"{node.name} has no docstring"
        if isinstance(node, ast.FunctionDef):
            arguments = [a for a in node.args.args + node.args.kwonlyargs if a.arg not in ("self", "cls")]
            assert all(a.annotation for a in arguments), f"{node.name} has an argument without annotation"
            assert node.returns is not None, f"{node.name} does not say what it returns"


def public_functions(tree: ast.Module) -> list[ast.FunctionDef]:
    """List functions and methods, without those inside functions."""
    bodies = [tree.body] + [node.body for node in tree.body if isinstance(node, ast.ClassDef)]
    return [node for body in bodies for node in body if isinstance(node, ast.FunctionDef)]


def test_the_ddim_update_exists_once() -> None:
    definitions = [path for path in PACKAGE + SCRIPTS if "def ddim_step" in path.read_text()]
    assert [path.name for path in definitions] == ["diffusion.py"]
