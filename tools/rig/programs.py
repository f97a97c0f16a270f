"""C that the rig and the proofs need, compiled when it is first needed and again when it changes."""

from __future__ import annotations

import functools
import hashlib
import os
import shlex
import subprocess
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path

__all__ = ["compiled", "pipewire_flags", "program"]

_SOURCES = Path(__file__).parent
_BUILT = _SOURCES.parents[1] / "build"
_FLAGS = ["-std=gnu11", "-O2", "-Wall", "-Wextra", "-Wno-unused-parameter", "-Wno-missing-field-initializers"]


def compiled(source: Path, flags: Sequence[str], headers: Iterable[Path], suffix: str = "") -> Path:
    """What the compiler makes of a C source, `headers` being what it may include.

    Raises `subprocess.CalledProcessError` when the compiler refuses it.
    """
    parts = [" ".join(flags).encode(), *(path.read_bytes() for path in (source, *sorted(headers)))]
    key = hashlib.blake2b(b"".join(parts), digest_size=6).hexdigest()
    built = _BUILT / source.parent.name / f"{source.stem}-{key}{suffix}"
    if not built.exists():
        built.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=built.parent) as folder:
            fresh = Path(folder) / "fresh"
            subprocess.run([os.environ.get("CC", "cc"), source, "-o", fresh, *flags], check=True)
            fresh.rename(built)
    return built


def pipewire_flags(*wanted: str) -> list[str]:
    """pkg-config's of libpipewire: `--cflags`, `--libs`. Raises `CalledProcessError` where its headers are missing."""
    asked = ["pkg-config", *wanted, "libpipewire-0.3"]
    return shlex.split(subprocess.run(asked, check=True, capture_output=True, text=True).stdout)


@functools.cache
def program(name: str) -> Path:
    """The path of the compiled `<name>.c` of this folder. Raises as `compiled` and `pipewire_flags` do."""
    flags = [*_FLAGS, *pipewire_flags("--cflags", "--libs")]
    return compiled(_SOURCES / f"{name}.c", flags, _SOURCES.glob("*.h"))
