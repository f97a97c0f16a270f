"""The names under which files are written until they are whole and get their own; the end of those that a save left."""

from __future__ import annotations

import fcntl
import os
import re
import stat
from contextlib import ExitStack, suppress
from pathlib import Path

from chaos.system.files import storage_errors
from chaos.terms.errors import PathNotAllowed
from chaos.terms.visible import visible

__all__ = ["appear", "check_free", "open_hidden", "remove_hidden", "sweep"]

_HIDDEN = re.compile(r"\..+\.[0-9a-f]{8,16}\.part")


def open_hidden(out: Path, stack: ExitStack) -> tuple[Path, int]:
    """A new, empty file beside `out`, and a descriptor of it to read and write.

    The stack closes it, and removes what has not got its own name by then. It is locked, so that no `sweep` takes it
    for one that was left. Raises OSError.
    """
    while True:
        path = out.with_name(f".{out.name[:50]}.{os.urandom(8).hex()}.part")
        stack.callback(remove_hidden, path)  # before it is there: a signal may end us right after it was made
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
        stack.callback(os.close, fd)
        fcntl.flock(fd, fcntl.LOCK_EX)
        if os.fstat(fd).st_nlink:  # a sweep may have come between
            return path, fd


def remove_hidden(path: Path) -> None:
    """What can't be removed now the next save into this folder sweeps."""
    with suppress(OSError):
        path.unlink(missing_ok=True)


def sweep(folder: Path) -> None:
    """Removes what saves that have ended left unfinished in this folder; a running one has its file locked."""
    for path in folder.glob(".*.part"):
        if not _HIDDEN.fullmatch(path.name):
            continue
        with suppress(OSError):
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                path.unlink()
            finally:
                os.close(fd)


def check_free(out: Path, force: bool) -> None:
    """Raises PathNotAllowed where a file has the name; also with `force` where it is a device, a pipe or a folder."""
    try:
        kind = out.lstat().st_mode
    except FileNotFoundError:
        return
    except OSError:
        with storage_errors("write", out):
            raise
    shown = visible(str(out))
    if stat.S_ISDIR(kind):
        raise PathNotAllowed(f"{shown} is a folder", hint=f"name a file in it: {shown}/take.wav")
    if not stat.S_ISREG(kind) and not stat.S_ISLNK(kind):
        raise PathNotAllowed(f"{shown} is not a regular file", hint="use - and redirect standard output there")
    if not force:
        raise PathNotAllowed(f"{shown} exists already", hint="choose another name, or replace it with --force")


def appear(hidden: Path, out: Path, force: bool) -> None:
    """Gives the file its own name. Raises what `check_free` raises, and OSError."""
    if force:
        hidden.replace(out)
        return
    try:
        os.link(hidden, out)
    except FileExistsError:
        check_free(out, force)
    except OSError:  # a file system without hard links
        check_free(out, force)
        hidden.rename(out)
    remove_hidden(hidden)
