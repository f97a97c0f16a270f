"""Folders that somebody else may be changing: opened name by name, so that no link leads elsewhere."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from chaos.system.files import sync_folder

__all__ = ["check_writable", "held_folder"]

_STEP = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


@contextmanager
def held_folder(path: Path, *, make: bool = False) -> Iterator[Path]:
    """Another path of this folder, that leads to it whatever is put in its place meanwhile.

    `path` is absolute, without links and ".." (`Path.resolve`): a link that has come into it since is an OSError
    (ENOTDIR). Folders that are missing are made, durably, with `make`. The path given is good for this process, and
    for children that inherit the descriptor at its end, until the context is left.
    """
    fd = _open(path, make=make)
    try:
        yield Path(f"/proc/self/fd/{fd}")
    finally:
        os.close(fd)


def check_writable(path: Path) -> None:
    """Raises OSError unless files can be made in this folder or, if it is missing, in the nearest one above it."""
    while True:
        try:
            with held_folder(path) as held:
                if not os.access(held, os.W_OK | os.X_OK):
                    raise PermissionError(13, "Permission denied", str(path))
                return
        except FileNotFoundError:
            path = path.parent


def _open(path: Path, *, make: bool) -> int:
    fd = os.open("/", _STEP)
    try:
        for name in path.parts[1:]:
            try:
                inner = os.open(name, _STEP, dir_fd=fd)
            except FileNotFoundError:
                if not make:
                    raise
                os.mkdir(name, dir_fd=fd)
                sync_folder(Path(f"/proc/self/fd/{fd}"))
                inner = os.open(name, _STEP, dir_fd=fd)
            os.close(fd)
            fd = inner
    except BaseException:
        os.close(fd)
        raise
    return fd
