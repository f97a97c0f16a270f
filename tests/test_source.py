"""What no compiler sees: the GIL in the RT modules, what the daemon imports, which way imports run."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from graphlib import TopologicalSorter
from importlib.util import find_spec
from pathlib import Path

import pytest

import chaos

PACKAGE = Path(chaos.__file__).parent
EXTENSIONS = ("_slots", "_connection", "_link", "_rt", "_registry")


@pytest.mark.parametrize("name", EXTENSIONS)
def test_no_extension_can_take_the_gil(name: str) -> None:
    spec = find_spec(f"chaos.{name}")
    assert spec is not None
    assert spec.origin is not None
    symbols = subprocess.run(["nm", "-D", "--undefined-only", spec.origin], capture_output=True, text=True, check=True)
    assert "PyEval" in symbols.stdout or "Py" in symbols.stdout, "nm read the module"
    assert "PyGILState" not in symbols.stdout
    assert "with gil" not in (PACKAGE / f"{name}.pyx").read_text()


@pytest.mark.parametrize("name", EXTENSIONS)
def test_every_extension_has_its_stub(name: str) -> None:
    assert (PACKAGE / f"{name}.pyi").exists()


def test_the_daemon_imports_nothing_heavy() -> None:
    script = "import sys, json, chaos.daemon; print(json.dumps(sorted(sys.modules)))"
    said = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    loaded = {name.partition(".")[0] for name in json.loads(said)}
    assert loaded.isdisjoint({"numpy", "zarr", "soundfile", "rich", "click"})
    assert "chaos" in loaded


# A module may import from its own row and those below it; actors only meet in chaos.daemon.
LAYERS = (
    ("daemon", "cli"),
    ("actors.daemon",),
    ("actors.registry", "actors.stream", "actors.streamview", "actors.rotator", "actors.recordings", "actors.messages"),
    ("bus", "client", "view", "pump", "config", "wire", "reader", "export", "verify", "recording"),
    ("answers",),
    ("requests",),
    ("staging", "journal", "devices"),
    ("errors",),
)


def _imports(module: str) -> set[str]:
    path = PACKAGE / f"{module.replace('.', '/')}.py"
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("chaos"):
            found.add((node.module or "").removeprefix("chaos").removeprefix("."))
    return found


def test_imports_run_one_way() -> None:
    rank = {module: row for row, modules in enumerate(LAYERS) for module in modules}
    for module, row in rank.items():
        upward = {name for name in _imports(module) if rank.get(name, row) < row}
        assert not upward, f"{module} imports {upward} from above it"


def _module(name: str) -> Path | None:
    """The file of a module of ours, its stub where it is an extension."""
    path = PACKAGE.parent / name.replace(".", "/")
    return next((found for end in (".py", ".pyi") if (found := path.with_suffix(end)).exists()), None)


def _imported(path: Path) -> set[str]:
    """The modules of ours that a file imports anywhere, in functions and for type checkers too."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return {name for name in found if name.startswith("chaos.") and _module(name)}


def test_no_imports_go_in_circles() -> None:
    files = [*PACKAGE.rglob("*.py"), *PACKAGE.rglob("*.pyi")]
    names = {".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts): path for path in files}
    TopologicalSorter({name: _imported(path) for name, path in names.items()}).prepare()


def test_only_the_daemon_knows_actors() -> None:
    for path in PACKAGE.glob("*.py"):
        if path.name not in ("daemon.py",):
            assert "chaos.actors" not in path.read_text(), f"{path.name} imports actors"
