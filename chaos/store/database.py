"""An SQLite database that is only a memory: what it holds can be made again, so no error of it reaches anybody.

One that is damaged or of another version is thrown away and begun anew. Where the file can't be read or written (a
folder that is read-only, a full disk, another process that keeps it busy), a copy in memory serves for a minute.
"""

from __future__ import annotations

import logging
import os
import sqlite3
import stat
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import TypeVar
from urllib.parse import quote

__all__ = ["Database", "transaction"]

log = logging.getLogger(__name__)

_BUSY_S = 2.0
_CACHE_KIB = 256
_IN_MEMORY_S = 60.0
_NOT_DAMAGE = frozenset(
    {
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_LOCKED,
        sqlite3.SQLITE_READONLY,
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_PERM,
    }
)
_T = TypeVar("_T")


class Database:
    """The database in this file, of this schema (SQL statements) and version. Safe to be used by several threads."""

    def __init__(self, path: Path, schema: str, version: int) -> None:
        self._path = path
        self._schema = schema
        self._version = version
        self._lock = threading.RLock()
        self._base: sqlite3.Connection | None = None
        self._inode = 0
        self._until = 0.0

    def run(self, work: Callable[[sqlite3.Connection], _T]) -> _T:
        """What `work` gives. It may be called again where the database fails in the middle, and then finds another
        one, perhaps empty; what else it raises is passed on."""
        with self._lock:
            for _ in range(3):
                try:
                    return work(self._open())
                except (sqlite3.Error, UnicodeDecodeError) as error:
                    log.warning("%s: %s", self._path, error)
                    if self._is_refused(error) and not self._until:
                        self._go_on_in_memory()
                    else:
                        self._throw_away()
            self._serve(_memory())
            return work(self._open())

    def _is_refused(self, error: Exception) -> bool:
        """Whether the file can't be had now; else it is damaged. A damaged header may also say "read-only"."""
        code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF
        is_writable = all(os.access(path, os.W_OK) for path in (self._path, self._path.parent))
        return code in _NOT_DAMAGE and not (code == sqlite3.SQLITE_READONLY and is_writable)

    def close(self) -> None:
        """Twice is harmless; `run` opens it again. It stays open where a thread that uses it hangs (on a dead disk)."""
        if self._lock.acquire(timeout=_BUSY_S):
            try:
                if self._base is not None:
                    self._base.close()
                self._base, self._until = None, 0.0
            finally:
                self._lock.release()

    def _open(self) -> sqlite3.Connection:
        """The connection, made anew where another file has the name now, or a copy in memory has served its time."""
        if self._base is not None:
            if time.monotonic() < self._until or (not self._until and _inode(self._path) == self._inode):
                return self._base
            self.close()
        base = _connect(self._path, "rwc")
        try:
            base.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
            base.execute("PRAGMA journal_mode = WAL")
            base.execute("PRAGMA synchronous = NORMAL")
            self._prepare(base)
        except BaseException:
            base.close()
            raise
        self._base, self._inode = base, _inode(self._path)
        return base

    def _prepare(self, base: sqlite3.Connection) -> None:
        with transaction(base):
            (version,) = base.execute("PRAGMA user_version").fetchone()
            if version == 0:
                for statement in self._schema.split(";"):
                    base.execute(statement)
                base.execute(f"PRAGMA user_version = {self._version:d}")
            elif version != self._version:
                raise sqlite3.DatabaseError(f"it is of version {version}, not {self._version}")

    def _throw_away(self) -> None:
        self.close()
        for end in ("", "-wal", "-shm"):
            with suppress(OSError):
                self._path.with_name(self._path.name + end).unlink()

    def _go_on_in_memory(self) -> None:
        for mode in ("ro", "ro&immutable=1"):
            with suppress(sqlite3.Error):
                self._serve(_copy(self._path, mode))
                return
        self._serve(_memory())

    def _serve(self, memory: sqlite3.Connection) -> None:
        try:
            self._prepare(memory)
        except BaseException:
            memory.close()
            raise
        self.close()
        self._base, self._until = memory, time.monotonic() + _IN_MEMORY_S


def _memory() -> sqlite3.Connection:
    return sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)


def _copy(path: Path, mode: str) -> sqlite3.Connection:
    with closing(_connect(path, mode)) as file:
        memory = _memory()
        try:
            file.backup(memory)
        except BaseException:
            memory.close()
            raise
        return memory


def _connect(path: Path, mode: str) -> sqlite3.Connection:
    _check(path)
    uri = f"file:{quote(str(path))}?mode={mode}"
    return sqlite3.connect(uri, uri=True, timeout=_BUSY_S, isolation_level=None, check_same_thread=False)


def _check(path: Path) -> None:
    """SQLite would wait for ever in a pipe: DatabaseError where one of its files is not a regular one."""
    for end in ("", "-wal", "-shm"):
        with suppress(OSError):
            if not stat.S_ISREG(path.with_name(path.name + end).stat().st_mode):
                raise sqlite3.DatabaseError(f"{path.name}{end} is not a regular file")


def _inode(path: Path) -> int:
    with suppress(OSError):
        return path.stat().st_ino
    return 0


@contextmanager
def transaction(base: sqlite3.Connection) -> Iterator[None]:
    """All of the body or nothing of it; no other process writes meanwhile."""
    base.execute("BEGIN IMMEDIATE")
    try:
        yield
        base.execute("COMMIT")
    except BaseException:
        with suppress(sqlite3.Error):
            base.execute("ROLLBACK")
        raise
