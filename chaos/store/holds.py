"""Holds: what a process is reading now, and retention has to leave alone until it has done.

A hold is a pin without a name. It is a file of hashes beside the pins, locked by its process: a process that dies has
let go, and its file is removed by whoever comes across it.
"""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from chaos.store.store import Store
from chaos.system.files import make_folders, open_regular, storage_errors, write_all

__all__ = ["held", "hold"]

_SUFFIX = ".hold"
_DIGITS = 64
_NO_HOLD = frozenset(  # gone meanwhile, or none of ours
    {errno.ENOENT, errno.ELOOP, errno.EINVAL, errno.ENXIO, errno.EACCES, errno.EPERM}
)


@contextmanager
def hold(store: Store, digests: Iterable[str]) -> Iterator[bool]:
    """Keeps the chunks with these hashes during the body; gives False where the store can't be written to."""
    path = store.pins / f".{os.urandom(8).hex()}{_SUFFIX}"
    begun = path.with_suffix(".new")
    fd = -1
    try:
        with suppress(OSError):
            make_folders(path.parent)
            fd = os.open(begun, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            write_all(fd, "".join(f"{digest}\n" for digest in digests).encode(), 0)
            begun.rename(path)
        yield path.exists()
    finally:
        for each in (begun, path):
            with suppress(OSError):
                each.unlink()
        if fd >= 0:
            os.close(fd)


def held(store: Store) -> set[str]:
    """The hashes of all that is held now. Raises StorageFailed where a hold can't be read."""
    digests: set[str] = set()
    for path in store.pins.glob(f".*{_SUFFIX}"):
        try:
            digests |= _digests(path)
        except OSError as error:
            if error.errno not in _NO_HOLD:
                with storage_errors("read", path):
                    raise
    return digests


def _digests(path: Path) -> set[str]:
    fd = open_regular(path)
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        with os.fdopen(os.dup(fd)) as file:
            return {line.strip() for line in file if len(line) == _DIGITS + 1}
    else:
        path.unlink()
        return set()
    finally:
        os.close(fd)
