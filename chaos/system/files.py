"""Durable files: what is written here is whole or not there, also after a power cut.

`storage_errors` is the one door through which an OSError becomes an error that people see. Who may read a file is left
to the process's umask, which `share_as` sets.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from chaos.system.holes import punch_zeros
from chaos.terms.errors import StorageFailed, StorageFull

__all__ = [
    "FULL",
    "IRREGULAR",
    "MOST_BYTES",
    "is_locked",
    "is_taken",
    "make_folders",
    "make_read_only",
    "open_regular",
    "read_regular",
    "replace",
    "share_as",
    "storage_errors",
    "sync_folder",
    "write_all",
    "write_new",
]

FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
_GONE = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ESTALE})
_DIRECT_BYTES = 1 << 20
_BLOCK = 4096
_SMALL_BYTES = 64 << 20
MOST_BYTES = 1 << 32
IRREGULAR = (errno.EINVAL, errno.ELOOP, errno.ENXIO)
"""What `open_regular` fails with where there is something else: a folder or pipe, a link, a socket."""
"""More than any chunk file has."""


@contextmanager
def storage_errors(doing: str, path: Path, *, of_recordings: bool = True) -> Iterator[None]:
    """Turns an OSError of the body into StorageFull or StorageFailed; `details` keep errno and path. Unless it is one
    `of_recordings`, or what was there has gone, nothing is said of what was sealed."""
    try:
        yield
    except OSError as error:
        number = error.errno or 0
        safe = "; what was sealed is safe" if of_recordings and number not in _GONE else ""
        details = {"errno": number, "errno_name": errno.errorcode.get(number, ""), "path": str(path)}
        message = f"could not {doing} {path}: {error.strerror or error}"
        if number in FULL:
            hint = f"free some space there{safe}"
            raise StorageFull(message, hint=hint, details=details) from error
        hint = f"check the disk, its mount and its permissions{safe}"
        if number in _GONE:
            hint = "look whether the folder was moved, removed or unmounted, and put it back"
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


def _write_direct(fd: int, data: bytes | memoryview) -> int:
    """Writes the whole blocks of a large `data` past the page cache: they are not copied, nor is anything else
    driven out of the cache. Returns how many bytes were written: 0 where the file system or `data` is not fit."""
    n_written = 0
    whole = len(data) // _BLOCK * _BLOCK
    if whole < _DIRECT_BYTES:
        return 0
    flags = fcntl.fcntl(fd, fcntl.F_GETFL)
    try:
        fcntl.fcntl(fd, fcntl.F_SETFL, flags | os.O_DIRECT)
        with memoryview(data) as view:
            while n_written < whole and n_written % _BLOCK == 0:
                with view[n_written:whole] as rest:
                    n_written += os.pwrite(fd, rest, n_written)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
    finally:
        fcntl.fcntl(fd, fcntl.F_SETFL, flags)
    return n_written


def open_regular(path: Path, flags: int = os.O_RDONLY, *, follow: bool = False) -> int:
    """A file descriptor of a regular file that is there; OSError for anything else: a pipe would have the caller wait
    for ever, a device may never end. A link is refused, too, unless `follow`."""
    flags |= os.O_NONBLOCK | os.O_CLOEXEC | (0 if follow else os.O_NOFOLLOW)
    try:
        fd = os.open(path, flags)
    except OSError as error:
        if error.errno == errno.ELOOP and not follow:
            raise OSError(errno.ELOOP, "it is a link, not a regular file", str(path)) from None
        raise
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise OSError(errno.EINVAL, "it is not a regular file", str(path))
    except BaseException:
        os.close(fd)
        raise
    return fd


def read_regular(path: Path, most: int = _SMALL_BYTES, *, follow: bool = False) -> bytes:
    """What a regular file holds, by `open_regular`; OSError for one of more than `most` bytes."""
    with os.fdopen(open_regular(path, follow=follow), "rb", buffering=0) as file:
        if os.fstat(file.fileno()).st_size > most:
            raise OSError(errno.EFBIG, f"it has more than {most} bytes", str(path))
        return file.readall()


def is_locked(path: Path) -> bool:
    """Whether somebody holds a lock of this regular file; False also where there is none, or it can't be opened."""
    try:
        fd = open_regular(path)
    except OSError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(fd)
    return False


def sync_folder(path: Path) -> None:
    """Makes the names in this folder durable."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def make_folders(path: Path) -> None:
    """Makes the folder and those above it that are missing, durably."""
    missing = []
    while not path.is_dir():
        missing.append(path)
        path = path.parent
    for folder in reversed(missing):
        folder.mkdir(exist_ok=True)
        sync_folder(folder.parent)


def share_as(mode: int) -> int:
    """Has this process make folders with `mode` (0o700, say), and files with as much of it as files need. The umask
    that it had."""
    return os.umask(0o777 & ~mode)


def make_read_only(fd: int) -> None:
    """Nobody may write to the file from now on; who may read it stays as it is."""
    os.fchmod(fd, stat.S_IMODE(os.fstat(fd).st_mode) & 0o444)


def is_taken(path: Path) -> bool:
    """Whether something has this name, a dangling link too. Raises StorageFailed where that can't be told."""
    with storage_errors("look at", path):
        try:
            path.lstat()
        except (FileNotFoundError, NotADirectoryError):
            return False
        return True


def write_new(
    path: Path,
    data: bytes | memoryview,
    *,
    read_only: bool = False,
    durable: bool = True,
    is_sparse: bool = False,
) -> None:
    """Writes a file of this content and syncs it (if `durable`); what stood there under the name is dropped first.

    For names that only we use. On an error nothing stays. The folder is not synced. With `is_sparse` long runs of zeros
    take no space.
    """
    path.unlink(missing_ok=True)
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
    try:
        done = _write_direct(fd, data)
        with memoryview(data) as view, view[done:] as rest:
            write_all(fd, rest, done)
            if is_sparse:
                punch_zeros(fd, view)
        if read_only:
            make_read_only(fd)
        if durable:
            os.fsync(fd)
    except BaseException:
        with suppress(OSError):
            path.unlink()
        raise
    finally:
        os.close(fd)


def replace(path: Path, data: bytes, *, durable: bool = True) -> None:
    """Puts a new content under the name: a reader sees the old or the new one, whole.

    What is not `durable` a power cut may spoil: for what can be made again, and often is.
    """
    temporary = path.with_name(f".{path.name}.new")
    write_new(temporary, data, durable=durable)
    try:
        temporary.replace(path)
    except OSError:
        temporary.unlink()
        raise
    if durable:
        sync_folder(path.parent)
