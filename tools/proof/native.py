"""The proofs' C libraries."""

from __future__ import annotations

from pathlib import Path

from rig.programs import compiled, pipewire_flags

__all__ = ["library"]

_SOURCES = Path(__file__).parent
_ENGINE = _SOURCES.parents[1] / "chaos"
_FLAGS = ["-std=gnu11", "-O3", "-fPIC", "-shared", "-Wall", "-Wextra", "-Wno-unused-parameter", "-Wno-unused-function"]


def library(name: str, *, pipewire: bool = False) -> Path:
    """The path of the compiled `<name>.c` of this folder; it may include the engine's headers.

    Raises `subprocess.CalledProcessError` if the compiler refuses it.
    """
    flags = [*_FLAGS, f"-I{_ENGINE}", *(pipewire_flags("--cflags") if pipewire else []), "-ldl", "-lpthread"]
    return compiled(_SOURCES / f"{name}.c", flags, _ENGINE.glob("*.h"), ".so")
