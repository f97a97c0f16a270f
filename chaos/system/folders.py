"""Folders held by descriptor: what is done in them is done there, whatever becomes of their names meanwhile."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from chaos.system.files import sync_folder

__all__ = ["OpenFolder", "check_writable", "folder_identity", "held_folder", "sole_use"]

_STEP = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class OpenFolder:
    """What is done below `path` is done in the folder that was opened, under whatever name it has now; once it has been
    removed it fails with ENOENT, and nothing comes into being in its place. Alive until `close`; raises OSError.
    """

    def __init__(self, path: Path) -> None:
        self._name = path
        self._text = str(path)  # it is looked for by every checkpoint, and a Path takes its time
        self._fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self._identity = _identity(os.fstat(self._fd))
        self.path = Path(f"/proc/self/fd/{self._fd}")

    @property
    def name(self) -> Path:
        """Where it is now: the name it was opened by (or `renamed` to), as long as that leads to it."""
        if self._fd >= 0 and not self._leads_here(self._text):
            found = str(self.path.readlink()).removesuffix(" (deleted)")
            if self._leads_here(found):  # not so where its filesystem was unmounted
                self.renamed(Path(found))
        return self._name

    def refresh(self) -> None:
        """Remembers where it is now, for `look_again`: who asks only then may ask too late."""
        _ = self.name

    def is_at(self, path: Path) -> bool:
        """Whether this name leads to it."""
        return self._leads_here(str(path))

    def _leads_here(self, path: str) -> bool:
        try:
            return _identity(os.stat(path)) == self._identity  # noqa: PTH116
        except OSError:
            return False

    def renamed(self, path: Path) -> None:
        """Tells which of its names is the one to show."""
        self._name, self._text = path, str(path)

    def look_again(self) -> None:
        """Takes the folder that its name leads to now: its filesystem may have gone and come back."""
        fd = os.open(self._name, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.dup2(fd, self._fd, inheritable=False)
            self._identity = _identity(os.fstat(fd))
        finally:
            os.close(fd)

    def close(self) -> None:
        """Calling it twice is harmless."""
        if self._fd >= 0:
            name = self.name
            os.close(self._fd)
            self._fd = -1
            self.renamed(name)


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


@contextmanager
def sole_use(path: Path) -> Iterator[bool]:
    """Whether this process alone asks for the folder so, which it does until the context is left or it dies.

    True too where the filesystem can't tell: one without locks, or one that locks only what can be written. Raises
    OSError where the folder can't be opened.
    """
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        except OSError:
            pass
        yield True
    finally:
        os.close(fd)


def _identity(found: os.stat_result) -> tuple[int, int]:
    return found.st_dev, found.st_ino


def folder_identity(path: Path) -> tuple[int, int]:
    """What tells the folder that has this name now from any other: its device and inode.

    Raises OSError, NotADirectoryError where something else has the name.
    """
    found = path.stat()
    if not stat.S_ISDIR(found.st_mode):
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(path))
    return _identity(found)


def check_writable(path: Path) -> None:
    """Raises OSError unless files can be made in this folder or, if it is missing, in the nearest one above it. To be
    made durable, a folder must be readable, too.
    """
    while True:
        try:
            with held_folder(path) as held:
                if not os.access(held, os.R_OK | os.W_OK | os.X_OK):
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
