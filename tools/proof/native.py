"""The proofs' C libraries, compiled when they are first needed and again when they change."""

from __future__ import annotations

import hashlib
import os
import shlex
import subprocess
import tempfile
from pathlib import Path

__all__ = ["library"]

_SOURCES = Path(__file__).parent
_ROOT = _SOURCES.parents[1]
_FLAGS = ["-std=gnu11", "-O3", "-fPIC", "-shared", "-Wall", "-Wextra", "-Wno-unused-parameter", "-Wno-unused-function"]


def library(name: str, *, pipewire: bool = False) -> Path:
    """The path of the compiled `<name>.c` of this folder. Raises `CalledProcessError` if the compiler refuses it."""
    source = _SOURCES / f"{name}.c"
    flags = list(_FLAGS)
    if pipewire:
        asked = ["pkg-config", "--cflags", "libpipewire-0.3"]
        flags += shlex.split(subprocess.run(asked, check=True, capture_output=True, text=True).stdout)
    headers = (_ROOT / "chaos").glob("*.h")
    parts = [source.read_bytes(), *(path.read_bytes() for path in sorted(headers))]
    key = hashlib.blake2b(b"".join(parts), digest_size=6).hexdigest()
    built = _ROOT / "build" / "proof" / f"{name}-{key}.so"
    if not built.exists():
        built.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=built.parent) as folder:
            fresh = Path(folder) / "fresh.so"
            compiler = os.environ.get("CC", "cc")
            command = [compiler, *flags, f"-I{_ROOT / 'chaos'}", str(source), "-o", str(fresh), "-ldl", "-lpthread"]
            subprocess.run(command, check=True)
            fresh.rename(built)
    return built
