"""What of a store has been uploaded: told by who uploads, asked by retention, lists and the uploader's next start.

    .upload/target       where it goes; there while upload is on: then nothing is retired that is not there yet
    .upload/id           the store's own number, by which its prefix over there is known
    .upload/marks        by which this copy of the store is told from others, by target
    .upload/known.db     how far each take has come, by target
    .upload/takes/       metadata on its way (`chaos.upload`)
    .upload/reserve/     space that is given up for these notes once the disk is full

Like the catalogue it is a memory: where it is lost, takes are uploaded once more, and what is there already stays.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from chaos.store.reserve import Reserve
from chaos.store.store import Store, name_and_take
from chaos.system.files import read_regular, replace, storage_errors

if TYPE_CHECKING:
    import sqlite3

    from chaos.store.database import Database

__all__ = ["Progress", "Uploads", "set_target"]

_FOLDER = ".upload"
_MARKS = "marks"
_VERSION = 1
_SCHEMA = """
CREATE TABLE upload (
    target TEXT NOT NULL,
    name TEXT NOT NULL,
    take TEXT NOT NULL,
    progress BLOB NOT NULL,
    PRIMARY KEY (target, name, take)
) WITHOUT ROWID
"""


class Progress(msgspec.Struct, frozen=True):
    """How far a take is there. All before `n_frames` was sent: chunks, ledger and clock; `n_read` bytes of its journal
    say so, and `next_chunk` is behind the last chunk in them.

    `absent` are chunks that are not: retention had taken them before, or they are `damaged`: their bytes here are not
    those that were sealed, or are missing, which the ledger doesn't know. `damaged_frame` is where the first of these
    begins: from there on nothing is claimed of the take. The piece of the remote journal that is written next begins
    with its byte `segment_from`. `ended`: all of it was sent, for a journal of `n_read` bytes that was last written to
    at `mtime_ns`.
    """

    started_wall_ns: int
    n_read: int = 0
    n_frames: int = 0
    next_chunk: int = 0
    n_bytes: int = 0
    segment_from: int = 0
    absent: list[int] = []
    ended: bool = False
    mtime_ns: int = 0
    damaged: list[int] = []
    damaged_frame: int | None = None

    @property
    def sure_frame(self) -> int:
        """All before this frame is there."""
        return self.n_frames if self.damaged_frame is None else min(self.n_frames, self.damaged_frame)

    @property
    def is_complete(self) -> bool:
        """The recording has ended, and all of it is there."""
        return self.ended and not self.damaged

    def awaits(self, chunk: int) -> bool:
        """Whether this chunk is not there, and may still come."""
        return chunk >= self.next_chunk or chunk in self.damaged


def set_target(store: Path, target: str | None) -> None:
    """Upload of the store in this folder is on from now on, or off. Raises StorageFull or StorageFailed."""
    path = store / _FOLDER / "target"
    with suppress(OSError):
        if target is not None and read_regular(path) == f"{target}\n".encode():
            return  # a full disk takes nothing, and is to be emptied
    if target is not None:
        Reserve(path.parent / "reserve").give_up()
    with storage_errors("write", path):
        if target is not None:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            replace(path, f"{target}\n".encode())
        else:
            path.unlink(missing_ok=True)


class Uploads:
    """The uploads of one store; safe to be used by several threads and processes. Alive until `close`."""

    def __init__(self, store: Store) -> None:
        self.folder = store.root / _FOLDER
        self.takes = self.folder / "takes"
        self.reserve = Reserve(self.folder / "reserve")
        self._base: Database | None = None

    def close(self) -> None:
        if self._base is not None:
            self._base.close()

    @property
    def target(self) -> str | None:
        """Where this store's recordings go; None while upload is off."""
        with suppress(OSError, UnicodeDecodeError):
            return read_regular(self.folder / "target").decode().strip() or None
        return None

    def store_id(self) -> str:
        """The store's own number, made with the first question. Raises StorageFull or StorageFailed."""
        path = self.folder / "id"
        with suppress(OSError, UnicodeDecodeError):
            if found := read_regular(path).decode().strip():
                return found
        made = os.urandom(8).hex()
        with storage_errors("write", path):
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            replace(path, f"{made}\n".encode())
        return made

    def marks(self, target: str) -> list[str]:
        """The marks of which one is over there, as far as this copy of the store was the last to start."""
        return self._marks().get(target, [])

    def set_marks(self, target: str, marks: list[str]) -> None:
        """Raises StorageFull or StorageFailed."""
        path = self.folder / _MARKS
        with storage_errors("write", path):
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            replace(path, msgspec.json.encode({**self._marks(), target: marks}))

    def _marks(self) -> dict[str, list[str]]:
        with suppress(OSError, msgspec.DecodeError):
            return msgspec.json.decode(read_regular(self.folder / _MARKS), type=dict[str, list[str]])
        return {}

    def progress(self, target: str, path: Path, started_wall_ns: int | None = None) -> Progress | None:
        """Of the take in this folder; None where nothing is known, or of another one that had its name before."""
        if not self.folder.is_dir():
            return None

        def work(base: sqlite3.Connection) -> Progress | None:
            query = "SELECT progress FROM upload WHERE target = ? AND name = ? AND take = ?"
            found = base.execute(query, (target, *name_and_take(path))).fetchone()
            try:
                return None if found is None else msgspec.msgpack.decode(found[0], type=Progress)
            except (msgspec.DecodeError, TypeError) as error:
                import sqlite3

                raise sqlite3.DatabaseError(f"a row is damaged: {error}") from error

        known = self._database().run(work)
        is_other = known is not None and started_wall_ns not in (None, known.started_wall_ns)
        return None if is_other else known

    def note(self, target: str, path: Path, progress: Progress) -> None:
        def work(base: sqlite3.Connection) -> None:
            row = (target, *name_and_take(path), msgspec.msgpack.encode(progress))
            base.execute("REPLACE INTO upload VALUES (?, ?, ?, ?)", row)

        self.reserve.give_up()
        self._database().run(work)

    def forget(self, target: str, path: Path) -> None:
        """The take has been removed."""

        def work(base: sqlite3.Connection) -> None:
            query = "DELETE FROM upload WHERE target = ? AND name = ? AND take = ?"
            base.execute(query, (target, *name_and_take(path)))

        self._database().run(work)

    def _database(self) -> Database:
        from chaos.store.database import Database  # SQLite is loaded where it is used

        if self._base is None:
            with storage_errors("make", self.folder):
                self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self.reserve.give_up()
            self._base = Database(self.folder / "known.db", _SCHEMA, _VERSION)
        return self._base
