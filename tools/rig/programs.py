"""The rig's C programs, compiled when they are first needed and again when they change."""

from __future__ import annotations

import hashlib
import os
import shlex
import subprocess
import tempfile
from pathlib import Path

__all__ = ["program"]

_SOURCES = Path(__file__).parent
_BUILT = _SOURCES.parents[1] / "build" / "rig"
_FLAGS = ["-std=gnu11", "-O2", "-Wall", "-Wextra", "-Wno-unused-parameter", "-Wno-missing-field-initializers"]


def program(name: str) -> Path:
    """The path of the compiled `<name>.c` of this folder.

    Raises `subprocess.CalledProcessError` when the compiler refuses it or libpipewire's headers are missing.
    """
    source = _SOURCES / f"{name}.c"
    libraries = subprocess.run(
        ["pkg-config", "--cflags", "--libs", "libpipewire-0.3"],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    key = hashlib.blake2b(source.read_bytes() + libraries.encode(), digest_size=6).hexdigest()
    built = _BUILT / f"{name}-{key}"
    if not built.exists():
        _BUILT.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=_BUILT) as folder:
            fresh = Path(folder) / name
            compiler = os.environ.get("CC", "cc")
            subprocess.run([compiler, *_FLAGS, source, "-o", fresh, *shlex.split(libraries)], check=True)
            fresh.rename(built)
    return built
