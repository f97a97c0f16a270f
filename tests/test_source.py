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
EXTENSIONS = tuple(path.stem for path in PACKAGE.glob("_*.pyx"))


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
    assert loaded.isdisjoint({"sqlite3", "numpy", "zarr", "soundfile", "rich", "click", "asyncio"})
    assert "chaos" in loaded


# Which rooms a room may import from, beside itself. DESIGN.md draws them; nothing else is allowed.
ROOMS: dict[str, set[str]] = {
    "terms": set(),
    "system": {"terms"},
    "hot": {"terms"},
    "graph": {"terms"},
    "protocol": {"terms"},
    "staging": {"hot", "system", "terms"},
    "store": {"staging", "hot", "system", "terms"},
    "read": {"store", "staging", "protocol", "terms"},
    "export": {"read", "store", "system", "terms"},
    "engine": {"export", "store", "staging", "graph", "hot", "protocol", "system", "terms"},
    "doors": {"engine", "protocol", "system", "terms"},
    "client": {"protocol", "system", "terms"},
    "cli": {"client", "export", "read", "store", "protocol", "system", "terms"},
    "daemon": {"doors", "engine", "protocol", "system", "terms"},
}


def _room(module: str) -> str:
    """The room of a module of ours: its folder, its own name for those that have none, "hot" for an extension."""
    first = module.split(".")[1]
    return "hot" if first.startswith("_") else first


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


def _modules() -> dict[str, Path]:
    files = [*PACKAGE.rglob("*.py"), *PACKAGE.rglob("*.pyi")]
    names = {".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts): path for path in files}
    return {name: path for name, path in names.items() if not name.endswith("__init__")}


def test_imports_run_one_way_through_the_rooms() -> None:
    wrong = [
        f"{module} imports {imported}"
        for module, path in _modules().items()
        for imported in _imported(path)
        if (here := _room(module)) != (there := _room(imported)) and there not in ROOMS[here]
    ]
    assert not wrong, "\n".join(sorted(wrong))


def test_no_room_is_entered_from_below() -> None:
    TopologicalSorter(ROOMS).prepare()


def test_no_door_knows_another() -> None:
    doors = {module: path for module, path in _modules().items() if _room(module) == "doors"}
    for module, path in doors.items():
        door = ".".join(module.split(".")[:3])
        assert not [name for name in _imported(path) & doors.keys() if not name.startswith(door)], module


def test_no_imports_go_in_circles() -> None:
    TopologicalSorter({name: _imported(path) for name, path in _modules().items()}).prepare()


def test_every_room_says_what_it_is() -> None:
    for folder in (path.parent for path in PACKAGE.glob("*/__init__.py")):
        assert ast.get_docstring(ast.parse((folder / "__init__.py").read_text())), folder.name
        assert folder.name in ROOMS


def test_chaosctl_prints_through_one_door() -> None:
    """There control characters in what others chose are made visible."""
    for path in (PACKAGE / "cli").glob("*.py"):
        calls = {ast.unparse(node.func) for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)}
        assert path.name == "out.py" or not calls & {"click.echo", "print", "click.secho"}, path.name
