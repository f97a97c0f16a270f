"""What people install: the sdist is the tree, and it and its wheel record, in empty environments outside of this one.

Short form: the wheel is made of the sdist with the modules that this checkout has compiled, and installed beside the
libraries that these tests run with. CHAOS_RELEASE=full (`just release`) has pip compile both and fetch what they need.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from pathlib import Path
from typing import NamedTuple

import pytest
import soundfile
from harness import SourceFactory
from proof.installed import needed
from rig import Session

import chaos

ROOT = Path(__file__).parents[2]
IS_FULL = os.environ.get("CHAOS_RELEASE") == "full"
TAG = f"{sysconfig.get_platform()}-{sys.implementation.cache_tag}"  # of setuptools' folder of what is built
MADE = re.compile(  # also by the tests and what a reader tries: as .gitignore says
    r"(^|/)(\.venv|\.hypothesis|\.\w+_cache|__pycache__|build|demo|[^/]*\.egg-info)(/|$)"
    r"|\.(so|pyc)$|^chaos/_\w+\.c$|(^|/)(demo\.wav|nohup\.out)$"
)


class Built(NamedTuple):
    sdist: Path
    wheel: Path


def run(*command: object, cwd: Path, env: dict[str, str] | None = None) -> str:
    done = subprocess.run(list(map(str, command)), cwd=cwd, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command}:\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    return done.stdout


def hook(name: str, out: Path, tree: Path) -> Path:
    """What that hook of setuptools, `build_sdist` or `build_wheel`, makes of a tree."""
    code = f"import sys; from setuptools.build_meta import {name}; print({name}(sys.argv[1]))"
    return out / run(sys.executable, "-c", code, out, cwd=tree).splitlines()[-1]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    """Made of a copy of this tree, in which nothing was built."""
    tree, out = tmp_path_factory.mktemp("tree"), tmp_path_factory.mktemp("dist")
    for name in tracked():
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, tree / name)
    for path in (ROOT / "chaos").glob("_*.c"):
        shutil.copy2(path, tree / "chaos")  # Cython isn't asked again; none of them may be in the sdist
    sdist = hook("build_sdist", out, tree)
    if IS_FULL:
        run(sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--wheel-dir", out, sdist, cwd=out)
        return Built(sdist, next(out.glob("*.whl")))
    with tarfile.open(sdist) as archive:
        # Python 3.11.2 has no filters.
        archive.extraction_filter = getattr(tarfile, "data_filter", lambda member, _: member)
        archive.extractall(out)
    unpacked = out / sdist.name.removesuffix(".tar.gz")
    there = unpacked / "build" / f"lib.{TAG}" / "chaos"
    there.mkdir(parents=True)
    for path in (ROOT / "chaos").glob("_*.c"):
        shutil.copy(path, unpacked / "chaos")
    for path in (ROOT / "chaos").glob("_*.so"):
        shutil.copy(path, there)
    return Built(sdist, hook("build_wheel", out, unpacked))


def tracked() -> list[str]:
    """The files of this tree that git knows; of a tree without its history all that isn't made."""
    command = ["git", "-c", f"safe.directory={ROOT}", "ls-files", "--cached", "--others", "--exclude-standard"]
    if (ROOT / ".git").exists() and shutil.which("git"):
        names = run(*command, cwd=ROOT).splitlines()
    else:
        names = [str(path.relative_to(ROOT)) for path in ROOT.rglob("*")]
        names = [name for name in names if not MADE.search(name)]
    return [name for name in names if (ROOT / name).is_file()]


def test_the_sdist_is_the_tree(built: Built) -> None:
    with tarfile.open(built.sdist) as archive:
        packed = {name.partition("/")[2] for name in archive.getnames() if archive.getmember(name).isfile()}
    there = set(tracked())
    assert sorted(there - packed - {".gitignore"}) == []
    assert sorted(name for name in packed - there if ".egg-info/" not in name) == ["PKG-INFO"]


def test_the_wheel_is_the_package_with_its_types(built: Built) -> None:
    """Beside the modules their stubs and `py.typed`, a compiled module for each source of one, and nothing beside."""
    with zipfile.ZipFile(built.wheel) as archive:
        packed = set(archive.namelist())
    package = {name for name in tracked() if name.startswith("chaos/")}
    plain = {name for name in package if name.endswith((".py", ".pyi", "/py.typed"))}
    assert {"chaos/py.typed", "chaos/daemon.py", "chaos/_rt.pyi"} <= plain
    assert sorted(plain - packed) == []
    compiled = {name.partition(".")[0] for name in packed if name.endswith(".so")}
    assert compiled >= {name.removesuffix(".pyx") for name in package if name.endswith(".pyx")}
    assert {name.partition("/")[0] for name in packed} == {"chaos", f"chaosd-{chaos.__version__}.dist-info"}
    assert not [name for name in packed if name.endswith((".c", ".pyc"))]


def installed(what: Path, folder: Path) -> Path:
    """The folder of programs of an empty environment with it."""
    venv.create(folder, with_pip=IS_FULL, symlinks=True)
    python = folder / "bin" / "python"
    if IS_FULL:
        run(python, "-m", "pip", "install", "-q", "--disable-pip-version-check", what, cwd=folder)
    else:
        [packages] = (folder / "lib").glob("python*/site-packages")
        for path in set(needed()):
            (packages / path.name).symlink_to(path)
        options = ("-q", "--no-deps", "--no-index", "--no-compile", "--disable-pip-version-check")
        run(sys.executable, "-m", "pip", "--python", python, "install", *options, what, cwd=folder)
    return folder / "bin"


@pytest.mark.parametrize("kind", ["wheel", "sdist"] if IS_FULL else ["wheel"])
def test_what_is_installed_records(
    built: Built, session: Session, counting_source: SourceFactory, tmp_path: Path, kind: str
) -> None:
    programs = installed(getattr(built, kind), tmp_path / "venv")
    there = run(programs / "python", "-c", "import chaos._rt; print(chaos._rt.__file__)", cwd=tmp_path).strip()
    assert Path(there).is_relative_to(tmp_path), there
    for name in ("chaosd", "chaosctl"):
        assert chaos.__version__ in run(programs / name, "--version", cwd=tmp_path)
    source = counting_source("released", description="Released desk", driver=True)
    nowhere = {f"CHAOS_{name.upper()}": f"ipc://{tmp_path}/{name}" for name in ("endpoint", "events")}
    env = {**session.env, **nowhere, "CHAOS_STORE": str(tmp_path / "store")}
    command = (programs / "chaosctl", "record", "Released", "take.wav", "--for", "1s", "--json")
    told = json.loads(run(*command, cwd=tmp_path, env=env))
    assert (told["clean"], told["file"]["n_frames"]) == (True, 48_000)
    found = source.check(soundfile.read(tmp_path / "take.wav", dtype="float32")[0].T)
    assert found.ok, found
