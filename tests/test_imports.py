"""Rules of the layout that test_layout.py does not check yet."""

import ast
import re
from pathlib import Path

import pytest

import dscm

ROOT = Path(dscm.__file__).parent.parent
PACKAGE = sorted((ROOT / "dscm").rglob("*.py"))
SCRIPTS = [ROOT / name for name in ("train.py", "counterfactual.py", "evaluate.py")]


def module_name(path: Path) -> str:
    """Return the dotted name of a file of the package."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(path: Path) -> set[str]:
    """List every module that a file imports, anywhere in it; relative ones in full, `from a import b` also as a.b."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            package = module_name(path).split(".")[: -node.level or None] if node.level else []
            base = ".".join([*package, *([node.module] if node.module else [])])
            found |= {base} | {f"{base}.{alias.name}" for alias in node.names}
    return found


def test_imports_have_no_cycle() -> None:
    """The modules of the package can be put in an order in which each imports only earlier ones."""
    names = {module_name(path) for path in PACKAGE}
    waiting = {module_name(path): imports(path) & names - {"dscm", module_name(path)} for path in PACKAGE}
    while ready := [name for name, needs in waiting.items() if not needs & waiting.keys()]:
        for name in ready:
            del waiting[name]
    assert not waiting


@pytest.mark.parametrize("path", PACKAGE + SCRIPTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_file_imports_a_script_or_a_test(path: Path) -> None:
    """Neither `import train` nor `from train import …`."""
    assert not {name.split(".")[0] for name in imports(path)} & {
        "train",
        "counterfactual",
        "evaluate",
        "tests",
        "setup",
    }


@pytest.mark.parametrize("path", PACKAGE + SCRIPTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_file_loads_loosely_or_names_a_device(path: Path) -> None:
    """Weights fit exactly and are only data; the device is the user's, however the code is spaced or quoted."""
    text = path.read_text()
    for forbidden in (r"strict\s*=\s*False", r"weights_only\s*=\s*False", r"device\s*=\s*['\"]cuda", r"\.cuda\(\)"):
        assert not re.search(forbidden, text), forbidden


@pytest.mark.parametrize(
    "name", ["nn", "diffusion", "guidance", "morphometry", "files", "errors", "mechanisms", "presets"]
)
def test_foundations_import_nothing_of_the_package(name: str) -> None:
    """Not even in the relative form, nor the package itself."""
    assert not {other for other in imports(ROOT / "dscm" / f"{name}.py") if other.split(".")[0] == "dscm"}


@pytest.mark.parametrize("path", PACKAGE + SCRIPTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_argument_is_annotated(path: Path) -> None:
    """Also positional-only ones, *args and **kwargs, and those of coroutines."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            listed = node.args.posonlyargs + node.args.args + node.args.kwonlyargs
            listed += [argument for argument in (node.args.vararg, node.args.kwarg) if argument]
            bare = [argument.arg for argument in listed if not argument.annotation]
            assert not set(bare) - {"self", "cls"} and node.returns is not None, node.name


def test_imports_see_every_form() -> None:
    """The helper is not blind to one of the ways to import."""
    assert "dscm.nn" in imports(ROOT / "dscm" / "unet.py") and "dscm.checkpoint" in imports(ROOT / "train.py")
