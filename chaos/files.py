"""Durable files: what is written here is whole or not there, also after a power cut.

`storage_errors` is the one door through which an OSError becomes an error that people see.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from chaos.errors import StorageFailed, StorageFull

__all__ = ["FULL", "make_folders", "replace", "storage_errors", "sync_folder", "write_all", "write_new"]

FULL = frozenset({errno.ENOSPC, errno.EDQUOT})


@contextmanager
def storage_errors(doing: str, path: Path) -> Iterator[None]:
    """Turns an OSError of the body into StorageFull or StorageFailed; `details` keep errno and path."""
    try:
        yield
    except OSError as error:
        number = error.errno or 0
        details = {"errno": number, "errno_name": errno.errorcode.get(number, ""), "path": str(path)}
        message = f"could not {doing} {path}: {error.strerror or error}"
        if number in FULL:
            hint = "free some space there; what was sealed is safe"
            raise StorageFull(message, hint=hint, details=details) from error
        hint = "check the disk, its mount and its permissions; what was sealed is safe"
        raise StorageFailed(message, hint=hint, details=details) from error


def write_all(fd: int, data: bytes | memoryview, offset: int) -> None:
    """Writes all bytes of `data` (contiguous, of format B) at `offset`.

    No view of it outlives the call, also where an exception keeps the frame.
    """
    n_written = 0
    with memoryview(data) as view:
        while n_written < view.nbytes:
            with view[n_written:] as rest:
                n_written += os.pwrite(fd, rest, offset + n_written)


def sync_folder(path: Path) -> None:
    """Makes the names in this folder durable."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def make_folders(path: Path) -> None:
    """Makes the folder and those above it that are missing, durably."""
    if path.is_dir():
        return
    make_folders(path.parent)
    path.mkdir(exist_ok=True)
    sync_folder(path.parent)


def write_new(path: Path, data: bytes | memoryview, mode: int = 0o644) -> None:
    """Writes a file of this content and syncs it; what stood there under the name is dropped first.

    For names that only we use. On an error nothing stays. The folder is not synced.
    """
    path.unlink(missing_ok=True)
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
    try:
        write_all(fd, data, 0)
        if mode != 0o644:
            os.fchmod(fd, mode)
        os.fsync(fd)
    except BaseException:
        with suppress(OSError):
            path.unlink()
        raise
    finally:
        os.close(fd)


def replace(path: Path, data: bytes) -> None:
    """Puts a new content under the name: a reader sees the old or the new one, whole."""
    temporary = path.with_name(f".{path.name}.new")
    write_new(temporary, data)
    try:
        temporary.replace(path)
    except OSError:
        temporary.unlink()
        raise
    sync_folder(path.parent)
