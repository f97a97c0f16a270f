"""Fault points: at which system call, at which time, what happens to it, and what a disk has left after that.

Calls that name or change something below a folder are counted. The one that a `Fault` names fails with an errno, once;
or the process dies there, before the call (KILL, power cut). A dead process changes nothing any more: each later call
dies, too, whoever catches the first. After a power cut `Faults.cut` leaves what a disk may have kept of the folder.

The folder is to be on tmpfs, where the number of an inode is never given to another file.
"""

from __future__ import annotations

import errno
import io
import os
import stat
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal
from unittest import mock

__all__ = ["CALLS", "Dead", "Fault", "Faults", "What", "faults"]

What = Literal["EIO", "ENOSPC", "kill", "cut", "cut_names"]
"""`cut`: all that was not synced is gone. `cut_names`: names came to the disk before the content that was not synced,
as happens where a filesystem logs its metadata."""

CALLS = (
    "open",
    "pwrite",
    "ftruncate",
    "posix_fallocate",
    "fchmod",
    "fsync",
    "fdatasync",
    "link",
    "rename",
    "replace",
    "unlink",
    "mkdir",
    "rmdir",
)
_OF_DESCRIPTORS = frozenset({"pwrite", "ftruncate", "posix_fallocate", "fchmod", "fsync", "fdatasync"})
_SYNCS = frozenset({"fsync", "fdatasync"})
_NOT_OURS = (".db", ".db-wal", ".db-shm")  # SQLite's, which makes its calls itself


class Dead(BaseException):
    """The process that ran is no more."""


@dataclass(frozen=True)
class Fault:
    """`what` happens at the `number`-th call (from 0), of those named `call` where that is given."""

    what: What
    number: int
    call: str | None = None


@dataclass
class Faults:
    """What was called below the folder, and what of it is on the disk for certain."""

    root: Path
    fault: Fault | None = None
    seen: list[str] = field(default_factory=list)
    happened: str | None = None
    is_dead: bool = False
    _content: dict[int, bytes] = field(default_factory=dict)
    _times: dict[int, int] = field(default_factory=dict)
    _names: dict[int, dict[str, int]] = field(default_factory=dict)
    _folders: set[int] = field(default_factory=set)

    def settle(self) -> None:
        """All that is there now is on the disk."""
        for folder, _, files in os.walk(self.root):
            self._synced_folder(folder)
            for name in files:
                self._synced_file(os.path.join(folder, name))  # noqa: PTH118

    def cut(self) -> None:
        """What a disk may have kept of the folder when its power was cut; `kill` changes nothing."""
        assert self.fault is not None
        if self.fault.what not in ("cut", "cut_names"):
            return
        with tempfile.TemporaryDirectory(prefix="kept-", dir=self.root.parent) as name:
            kept = {}
            for path in self.root.rglob("*"):
                if path.is_file() and not path.name.endswith(_NOT_OURS) and path.stat().st_ino not in kept:
                    inode = path.stat().st_ino
                    kept[inode] = Path(name) / str(inode)
                    os.link(path, kept[inode])
                    self._restore(path, inode)
            if self.fault.what == "cut":
                self._bring_back(self.root, self.root.stat().st_ino, kept, Path(name))

    # -- the disk

    def _synced_folder(self, path: str | Path) -> None:
        inode = os.stat(path).st_ino  # noqa: PTH116
        self._folders.add(inode)
        self._names[inode] = {each.name: each.inode() for each in os.scandir(path)}
        self._folders |= {each.inode() for each in os.scandir(path) if each.is_dir(follow_symlinks=False)}

    def _synced_file(self, path: str | Path) -> None:
        fd = _real_open(path, os.O_RDONLY)
        try:
            found = os.fstat(fd)
            self._content[found.st_ino] = os.pread(fd, found.st_size, 0)
            self._times[found.st_ino] = found.st_mtime_ns
        finally:
            os.close(fd)

    def _bring_back(self, folder: Path, inode: int, kept: dict[int, Path], aside: Path) -> None:
        """Gives the folder the names that were synced; `kept` has the files that are still there, by their inodes."""
        wanted = self._names.get(inode, {})
        for path in list(folder.iterdir()):
            is_folder = path.is_dir()
            if not path.name.endswith(_NOT_OURS) and not (is_folder and wanted.get(path.name) == path.stat().st_ino):
                _remove(path)
        for name, inner in wanted.items():
            path = folder / name
            if inner in self._folders:
                path.mkdir(exist_ok=True)
                self._bring_back(path, inner, kept, aside)
            elif not name.endswith(_NOT_OURS):
                if inner not in kept:  # its last name went, and that is not so yet
                    kept[inner] = aside / str(inner)
                    kept[inner].write_bytes(self._content.get(inner, b""))
                os.link(kept[inner], path)

    def _restore(self, path: Path, inode: int) -> None:
        content = self._content.get(inode, b"")
        if path.read_bytes() != content:
            mode = stat.S_IMODE(path.stat().st_mode)
            path.chmod(0o600)
            path.write_bytes(content)
            path.chmod(mode)
            if inode in self._times:
                os.utime(path, ns=(self._times[inode], self._times[inode]))

    # -- the calls

    def wrapped(self, name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            if not self._is_ours(name, arguments, options):
                return real(*arguments, **options)
            self._meet(name, arguments)
            result = real(*arguments, **options)
            if name in _SYNCS:
                self._synced(arguments[0])
            return result

        return call

    def _meet(self, name: str, arguments: tuple[Any, ...]) -> None:
        if self.is_dead:
            raise Dead
        self.seen.append(name)
        fault = self.fault
        if fault is None or self.happened is not None or (fault.call is not None and fault.call != name):
            return
        n_before = len(self.seen) if fault.call is None else self.seen.count(name)
        if n_before - 1 < fault.number:
            return
        self.happened = f"{name} {arguments[0]}"
        if fault.what in ("EIO", "ENOSPC"):
            number = getattr(errno, fault.what)
            raise OSError(number, os.strerror(number))
        self.is_dead = True
        raise Dead

    def _is_ours(self, name: str, arguments: tuple[Any, ...], options: dict[str, Any]) -> bool:
        what = arguments[0]
        try:
            if isinstance(what, int):
                path = os.readlink(f"/proc/self/fd/{what}")  # noqa: PTH115
            elif options.get("dir_fd") is not None:
                path = os.path.join(os.readlink(f"/proc/self/fd/{options['dir_fd']}"), os.fspath(what))  # noqa: PTH115, PTH118
            else:
                head, tail = os.path.split(os.path.abspath(os.fspath(what)))  # noqa: PTH100
                path = os.path.join(os.path.realpath(head), tail)  # noqa: PTH118
        except OSError:
            return False
        return Path(path).is_relative_to(self.root) and not path.endswith(_NOT_OURS)

    def _synced(self, fd: int) -> None:
        path = f"/proc/self/fd/{fd}"
        if stat.S_ISDIR(os.fstat(fd).st_mode):
            self._synced_folder(path)
        else:
            self._synced_file(path)


_real_open = os.open


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        for each in path.iterdir():
            _remove(each)
        path.rmdir()
    else:
        path.unlink()


@contextmanager
def faults(root: Path, fault: Fault | None = None) -> Iterator[Faults]:
    """Within it calls below `root` meet the fault. What is there at first counts as synced. `Dead` ends it."""
    found = Faults(root.resolve(), fault)
    found.settle()
    with ExitStack() as patches:
        for name in CALLS:
            patches.enter_context(mock.patch.object(os, name, found.wrapped(name, getattr(os, name))))
        patches.enter_context(mock.patch.object(io, "open", found.wrapped("open", io.open)))
        with suppress(Dead):
            yield found
