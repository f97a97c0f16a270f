"""Builds the Cython extensions; everything else about the package stands in pyproject.toml."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys

from Cython.Build import cythonize
from setuptools import Extension, setup

PIPEWIRE = "libpipewire-0.3"
MISSING = "chaosd needs the PipeWire headers: install libpipewire-0.3-dev (0.3.65 or newer) and pkg-config."


def pkg_config(*flags: str) -> list[str]:
    """What pkg-config says of libpipewire; ends the build with one sentence where it can't."""
    if not shutil.which("pkg-config"):
        sys.exit(MISSING)
    answer = subprocess.run(
        ["pkg-config", *flags, f"{PIPEWIRE} >= 0.3.65"], capture_output=True, text=True, check=False
    )
    if answer.returncode:
        sys.exit(MISSING)
    return shlex.split(answer.stdout)


PROCESSORS = len(os.sched_getaffinity(0))
C_FLAGS = ["-O3", "-fno-math-errno", "-Wall", "-Wno-unused-function", "-Wno-deprecated-declarations"]


def plain(name: str) -> Extension:
    return Extension(f"chaos.{name}", [f"chaos/{name}.pyx"], extra_compile_args=C_FLAGS)


def with_pipewire(name: str) -> Extension:
    return Extension(
        f"chaos.{name}",
        [f"chaos/{name}.pyx"],
        extra_compile_args=C_FLAGS + pkg_config("--cflags"),
        extra_link_args=pkg_config("--libs"),
    )


if __name__ == "__main__":  # the processes that compile import this file where they aren't forked
    setup(
        ext_modules=cythonize(
            [
                *map(plain, ("_memory", "_layout", "_cycle", "_slots", "_silence", "_audio", "_midi", "_overview")),
                *map(with_pipewire, ("_connection", "_link", "_tracked", "_registry", "_rt", "_capture")),
            ],
            compiler_directives={
                "language_level": 3,
                "boundscheck": False,
                "wraparound": False,
                "initializedcheck": False,
                "cdivision": True,
            },
            nthreads=PROCESSORS,
        ),
        options={"build_ext": {"parallel": PROCESSORS}},
    )
