"""What no compiler sees: the GIL in the RT modules, what the daemon imports, which way imports run."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from collections.abc import Collection
from graphlib import TopologicalSorter
from importlib.util import find_spec
from pathlib import Path

import pytest

import chaos
from chaos.protocol.events import EVENTS
from chaos.protocol.requests import REQUESTS

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
    assert loaded.isdisjoint({"sqlite3", "nacl", "numpy", "zarr", "obstore", "soundfile", "rich", "click", "asyncio"})
    assert "chaos" in loaded


def test_asyncio_is_for_who_asks_for_it() -> None:
    """`chaos.aio` alone imports it; `chaos` itself nothing that takes long."""
    script = "import sys, json, chaos, chaos.client, chaos.ops; print(json.dumps(sorted(sys.modules)))"
    said = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    assert {"asyncio", "numpy", "mcp", "anyio"}.isdisjoint(name.partition(".")[0] for name in json.loads(said))
    bare = subprocess.run(
        [sys.executable, "-c", "import sys, chaos; print([m for m in sys.modules if m.startswith('chaos.')])"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert bare.stdout.strip() == "[]"
    outside = re.compile(r"^\s*(?:import|from) (asyncio|zmq\.asyncio|anyio|mcp)\b", re.MULTILINE)
    rooms = {_room(name) for name, paths in FILES.items() for path in paths if outside.search(path.read_text())}
    assert rooms <= {"aio", "agents"}


# Which rooms a room may import from, beside itself. DESIGN.md draws them; nothing else is allowed.
ROOMS: dict[str, set[str]] = {
    "chaos": {"recorders", "live", "client", "aio", "hosts", "read", "terms"},
    "terms": set(),
    "system": {"terms"},
    "hot": {"terms"},
    "graph": {"terms"},
    "protocol": {"terms"},
    "staging": {"hot", "system", "terms"},
    "store": {"staging", "hot", "system", "terms"},
    "remote": {"terms"},
    "upload": {"remote", "store", "protocol", "system", "terms"},
    "read": {"remote", "store", "staging", "protocol", "system", "terms"},
    "export": {"read", "store", "hot", "system", "terms"},
    "engine": {"export", "store", "staging", "graph", "hot", "protocol", "system", "terms"},
    "doors": {"engine", "protocol", "system", "terms"},
    "ops": {"protocol", "terms"},
    "client": {"ops", "protocol", "system", "terms"},
    "aio": {"client", "ops", "protocol", "system", "terms"},
    "hosts": {"client", "protocol", "terms"},
    "local": {"client", "engine", "protocol", "system", "terms"},
    "recorders": {"read", "remote", "store", "system", "terms"},
    "live": {"client", "local", "read", "protocol", "terms"},
    "agents": {"client", "ops", "export", "read", "store", "protocol", "system", "terms"},
    "cli": {"agents", "client", "hosts", "local", "export", "recorders", "read", "remote", "store", "protocol",
            "system", "terms"},
    "daemon": {"doors", "engine", "protocol", "system", "terms"},
}


def test_the_design_lists_what_each_room_may_import() -> None:
    lines = (PACKAGE.parent / "docs" / "DESIGN.md").read_text().splitlines()
    drawn = {room.strip(): set(imports.split()) - {"nothing"} for room, imports in
             (line.split("◀──") for line in lines if "◀──" in line)}  # fmt: skip
    assert drawn == ROOMS


def _files() -> dict[str, list[Path]]:
    """The files of each module of ours: of an extension there are several, of a package its __init__.py."""
    found: dict[str, list[Path]] = {}
    for path in (each for end in ("py", "pyi", "pyx", "pxd") for each in PACKAGE.rglob(f"*.{end}")):
        name = ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__")
        found.setdefault(name, []).append(path)
    return found


FILES = _files()


def _room(module: str) -> str:
    """The room of a module of ours: its folder, its own name for those that have none, "hot" for Cython's."""
    _, _, inner = module.partition(".")
    first = inner.partition(".")[0]
    is_hot = any(path.suffix in (".pyx", ".pxd") for path in FILES.get(f"chaos.{first}", []))
    return "hot" if is_hot else first or "chaos"


_CYTHON_IMPORT = re.compile(
    r"^[ \t]*((?:from[ \t]+[\w.]+[ \t]+c?import\b|c?import\b)[ \t]*(?:\([^)]*\)|(?:\\\n|[^\n#])+))", re.MULTILINE
)


def _parsed(path: Path, source: str) -> ast.Module:
    """The source as Python; of Cython's, its import and cimport statements."""
    if path.suffix in (".pyx", ".pxd"):
        source = "\n".join(re.sub(r"\bcimport\b", "import", found) for found in _CYTHON_IMPORT.findall(source))
    return ast.parse(source)


def _imported(module: str, path: Path, source: str, ours: Collection[str] = FILES.keys()) -> set[str]:
    """The modules of ours that a file imports anywhere, in functions and for type checkers too.

    `from chaos import __version__` is not counted: everybody may, and nothing is loaded for it.
    """
    package = module.split(".") if path.stem == "__init__" else module.split(".")[:-1]
    found = set()
    for node in ast.walk(_parsed(path, source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            names = {alias.name for alias in node.names} - ({"__version__"} if base == "chaos" else set())
            found |= {full if (full := f"{base}.{name}") in ours else base for name in names}
    return {name for name in found if name in ours and name != module}


def _is_wrong_way(module: str, imported: str) -> bool:
    here, there = _room(module), _room(imported)
    return here != there and there not in ROOMS[here]


def _door(module: str) -> str | None:
    return module.split(".")[2] if module.startswith("chaos.doors.") else None


def _is_other_door(module: str, imported: str) -> bool:
    return None not in (_door(module), _door(imported)) and _door(module) != _door(imported)


def _graph() -> dict[str, set[str]]:
    return {
        module: {name for path in paths for name in _imported(module, path, path.read_text())}
        for module, paths in FILES.items()
    }


@pytest.mark.parametrize(
    ("module", "file", "source", "imported"),
    [
        ("chaos.store.info", "info.py", "from chaos.engine.life import Life", "chaos.engine.life"),
        ("chaos.store.info", "info.py", "from chaos.engine import life", "chaos.engine.life"),
        ("chaos.store.info", "info.py", "def f():\n    import os, chaos.engine.life as x", "chaos.engine.life"),
        ("chaos.store.info", "info.py", "from ..engine import life", "chaos.engine.life"),
        ("chaos.store.info", "info.py", "from ..engine.life import Life", "chaos.engine.life"),
        ("chaos.store.info", "info.py", "from .. import engine", "chaos.engine"),
        ("chaos.store.info", "info.py", "from chaos.doors.zmq import Bus", "chaos.doors.zmq"),
        ("chaos.store.info", "info.py", "from chaos.engine import *", "chaos.engine"),
        ("chaos.store.info", "info.py", "from chaos import open", "chaos"),
        ("chaos.store", "__init__.py", "from ..engine import life", "chaos.engine.life"),
        ("chaos.store", "__init__.py", "import chaos.engine", "chaos.engine"),
        ("chaos", "__init__.py", "from .engine.life import Life", "chaos.engine.life"),
        ("chaos._slots", "_slots.pyi", "from chaos.staging.layout import SLOTS", "chaos.staging.layout"),
        ("chaos._slots", "_slots.pyx", "cdef int x\nfrom chaos.engine.life import Life", "chaos.engine.life"),
        ("chaos._slots", "_slots.pyx", "from chaos.engine.life import (\n    Life,\n)  # why", "chaos.engine.life"),
        ("chaos._slots", "_slots.pyx", "def f():\n    import chaos.engine.life", "chaos.engine.life"),
        ("chaos.clock", "clock.pxd", "from chaos.engine.life cimport x, y", "chaos.engine.life"),
        ("chaos.clock", "clock.pxd", "cimport chaos.engine.life as x", "chaos.engine.life"),
        ("chaos.terms.uri", "uri.py", "from chaos import clock", "chaos.clock"),
    ],
)
def test_an_import_against_the_rooms_is_seen(module: str, file: str, source: str, imported: str) -> None:
    assert _imported(module, Path(file), source) == {imported}
    assert _is_wrong_way(module, imported)


@pytest.mark.parametrize(
    "source", ["import chaos.doors.zmq2.bus", "from ..zmq2 import bus", "from chaos.doors.zmq2.bus import Bus"]
)
def test_an_import_of_another_door_is_seen(source: str) -> None:
    other = "chaos.doors.zmq2.bus"
    assert _imported("chaos.doors.zmq.bus", Path("bus.py"), source, {other}) == {other}
    assert _is_other_door("chaos.doors.zmq.bus", other)
    assert not _is_other_door("chaos.doors.zmq", "chaos.doors.zmq.bus")


def test_cimports_are_read() -> None:
    assert "chaos._cycle" in _graph()["chaos._audio"]


def test_nothing_is_imported_by_a_name_that_is_made_at_run_time() -> None:
    """The tests below read import statements; `importlib` and `__import__` would go past them."""
    found = [
        f"{path}: {line.strip()}"
        for paths in FILES.values()
        for path in paths
        for line in path.read_text().splitlines()
        if re.search(r"\bimportlib\b|\b__import__\b", line)
    ]
    assert not found, "\n".join(found)


def test_imports_run_one_way_through_the_rooms() -> None:
    graph = _graph()
    wrong = [f"{here} imports {there}" for here in graph for there in graph[here] if _is_wrong_way(here, there)]
    assert not wrong, "\n".join(sorted(wrong))


def test_no_room_is_entered_from_below() -> None:
    TopologicalSorter(ROOMS).prepare()


def test_no_door_knows_another() -> None:
    graph = _graph()
    assert not [(here, there) for here in graph for there in graph[here] if _is_other_door(here, there)]


def test_no_imports_go_in_circles() -> None:
    TopologicalSorter(_graph()).prepare()


def test_every_package_is_installed() -> None:
    """A folder of Python without __init__.py would be left out of the wheel."""
    for folder in {path.parent for paths in FILES.values() for path in paths}:
        assert (folder / "__init__.py").exists(), folder.name


# What is only on the wire: ops, events, and requests' fields, those that can't be taken for a word.
WIRE = {
    name
    for name in (*REQUESTS, *EVENTS, *(field for request in REQUESTS.values() for field in request.__struct_fields__))
    if "_" in name
}


def _wire_names_in_hints(source: str) -> set[str]:
    """The names of the wire in what is given as a `hint`, also by the name of a variable or constant of that file."""
    nodes = list(ast.walk(ast.parse(source)))
    values = [node.value for node in nodes if isinstance(node, ast.keyword) and node.arg == "hint"]
    given = {value.id.lower() for value in values if isinstance(value, ast.Name)}
    for node in nodes:
        if isinstance(node, ast.Assign):
            names = {name.id.lower() for each in node.targets for name in ast.walk(each) if isinstance(name, ast.Name)}
            values += [node.value] if any(name in given or name.endswith("hint") for name in names) else []
    strings = [node.value for value in values for node in ast.walk(value) if isinstance(node, ast.Constant)]
    return {word for text in strings if isinstance(text, str) for word in re.findall(r"\w+", text)} & WIRE


def test_hints_name_what_a_person_can_type() -> None:
    for path in PACKAGE.rglob("*.py"):
        assert not _wire_names_in_hints(path.read_text()), path.name


@pytest.mark.parametrize(
    "source",
    [
        'f(hint="see stream_list")',
        'hint = f"stream_error of {x}"',
        '_A_HINT = "fewer staging_seconds"',
        '_HANGS = "see stream_status"\nf(hint=_HANGS)',
    ],
)
def test_a_hint_from_the_wire_is_seen(source: str) -> None:
    assert _wire_names_in_hints(source)


def test_every_room_says_what_it_is() -> None:
    for folder in (path.parent for path in PACKAGE.glob("*/__init__.py")):
        assert ast.get_docstring(ast.parse((folder / "__init__.py").read_text())), folder.name
        assert folder.name in ROOMS


def test_chaosctl_prints_through_one_door() -> None:
    """There control characters in what others chose are made visible."""
    for path in (PACKAGE / "cli").glob("*.py"):
        calls = {ast.unparse(node.func) for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)}
        assert path.name == "out.py" or not calls & {"click.echo", "print", "click.secho"}, path.name
