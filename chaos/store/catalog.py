"""The catalogue: what a store holds, from a database instead of from ten thousand journals.

`catalog.db` has a row for each take: its digest, and what is searched for. It is a memory and nothing else: the
journals are the truth, and a catalogue that is missing, damaged or of another version is made again from them. It may
lag, and is brought up to date before it answers: folders that have changed are looked through, and takes that are not
finished are read on from where their digests have come to. A finished take's journal changes no more but by retention;
all of them are held against their rows by `audit`, which is due after each boot.

Several processes may use one: SQLite lets one write at a time, in transactions of milliseconds.

Over 400 lines, since what writes the rows and what searches them must agree on every column.
"""

from __future__ import annotations

import re
import sqlite3
import time
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self, TypeVar

import msgspec

from chaos.store.database import Database, transaction
from chaos.store.digest import Digest, read_digest
from chaos.store.journal import JOURNAL_NAME, JournalReader
from chaos.store.store import Store, name_and_take
from chaos.terms.errors import ChaosError, RecordingNotFound
from chaos.terms.uri import parse_uri

__all__ = ["CATALOG", "Catalog", "Entry", "Totals"]

CATALOG = "catalog.db"
_VERSION = 3
_BATCH = 500
_FRESH_NS = 1_000_000_000
_SCHEMA = """
CREATE TABLE take (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL,
    take TEXT NOT NULL,
    state TEXT NOT NULL,
    is_settled INTEGER NOT NULL,
    checked INTEGER NOT NULL,
    started_ns INTEGER NOT NULL,
    ended_ns INTEGER NOT NULL,
    oldest_ns INTEGER,
    oldest_monotonic_ns INTEGER,
    boot TEXT NOT NULL,
    least_stand_ns INTEGER,
    wait_ns INTEGER NOT NULL DEFAULT 0,
    root TEXT NOT NULL,
    keep TEXT,
    continues TEXT,
    session TEXT,
    n_held INTEGER NOT NULL,
    n_bytes INTEGER NOT NULL,
    device TEXT NOT NULL,
    digest BLOB,
    check_value INTEGER NOT NULL,
    UNIQUE (name, take)
);
CREATE INDEX by_start ON take (started_ns, ended_ns, device, n_held, n_bytes);
CREATE INDEX by_age ON take (oldest_ns, wait_ns, n_held, n_bytes) WHERE oldest_ns IS NOT NULL;
CREATE INDEX by_boot ON take (boot, oldest_monotonic_ns, wait_ns) WHERE oldest_ns IS NOT NULL;
CREATE INDEX by_stand ON take (boot, least_stand_ns);
CREATE INDEX by_keep ON take (keep, name, root, oldest_ns, n_bytes) WHERE keep IS NOT NULL AND oldest_ns IS NOT NULL;
CREATE INDEX by_continues ON take (continues) WHERE continues IS NOT NULL;
CREATE INDEX by_session ON take (session, started_ns) WHERE session IS NOT NULL;
CREATE INDEX unsettled ON take (id) WHERE NOT is_settled;
CREATE INDEX unchecked ON take (checked) WHERE checked != 1;
CREATE TABLE folder (name TEXT PRIMARY KEY, mtime_ns INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE note (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
"""
_COLUMNS = "id, name, take, state, is_settled, digest, check_value"
_FOREVER = (1 << 63) - 1
_RIGHT, _TOUCHED = 1, 2  # of `checked`; 0: nobody has looked
_ROLLED = re.compile(r"\.\d{4,}$")
_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Digest)
_T = TypeVar("_T")
_Row = tuple[int, str, str, str, int, bytes | None, int]


class Entry(NamedTuple):
    """A take as the catalogue has it. `digest` is None for a take that can't be read: its state is "damaged"."""

    name: str
    take: str
    path: Path
    state: str
    digest: Digest | None

    @property
    def uri(self) -> str:
        return f"stream://{self.name}/{self.take}"


class Totals(NamedTuple):
    """What a store holds in all; a chunk that several recordings share counts in each."""

    n_takes: int
    n_chunks: int
    n_bytes: int


class Catalog:
    """The catalogue of one store; safe to be used by several threads. Alive until `close`, and again after it.

    Errors of the database stay in here: what it can't tell comes from the journals.
    """

    def __init__(self, store: Store) -> None:
        self.store = store
        self._base = Database(store.root / CATALOG, _SCHEMA, _VERSION)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._base.close()

    # ---- questions

    def entries(
        self,
        *,
        uri: str | None = None,
        name: str | None = None,
        device: str | None = None,
        session: str | None = None,
        since_ns: int | None = None,
        until_ns: int | None = None,
        limit: int | None = None,
    ) -> list[Entry]:
        """The takes that match, newest first; the newest `limit` of them.

        `uri` is a stream's or a take's: all takes of that stream, or that take. `device` is a part of the device's
        name or identity, `session` the name of what they were started in. `since_ns` and `until_ns` (wall clock): takes
        that have something in [since, until).
        """
        terms: list[tuple[str, str | int]] = []
        if uri is not None:
            of_name, take = parse_uri(uri)
            terms += [("name = ?", of_name), ("(take = ? OR take GLOB ? || '.[0-9]*')", take)]
        if name is not None:
            terms.append(("name = ?", name))
        if device is not None:
            terms.append(("instr(device, ?)", device.lower()))
        if session is not None:
            terms.append(("session = ?", session))
        if since_ns is not None:
            terms.append(("ended_ns > ?", _in_range(since_ns)))
        if until_ns is not None:
            terms.append(("started_ns < ?", _in_range(until_ns)))
        where = " AND ".join(term for term, _ in terms) or "1"
        values = [value for term, value in terms for _ in range(term.count("?"))]
        found = f"SELECT id FROM take WHERE {where} ORDER BY started_ns DESC, name, take DESC LIMIT ?"
        query = f"SELECT {_COLUMNS} FROM take WHERE id IN ({found}) ORDER BY started_ns DESC, name, take DESC"

        def work(base: sqlite3.Connection) -> list[Entry]:
            self._refresh(base)
            rows = _rows(base, query, *values, -1 if limit is None else limit)
            return self._entries(base, rows)

        return self._base.run(work)

    def totals(self) -> Totals:
        def work(base: sqlite3.Connection) -> Totals:
            self._refresh(base)
            query = "SELECT count(*), total(n_held), total(n_bytes) FROM take INDEXED BY by_start"
            n_takes, n_chunks, n_bytes = base.execute(query).fetchone()
            return Totals(n_takes, int(n_chunks), int(n_bytes))

        return self._base.run(work)

    def sessions(self) -> list[str]:
        """The names of all sessions, the newest first."""

        def work(base: sqlite3.Connection) -> list[str]:
            self._refresh(base)
            query = "SELECT session FROM take WHERE session IS NOT NULL GROUP BY session ORDER BY max(started_ns) DESC"
            return [str(name) for (name,) in base.execute(query)]

        return self._base.run(work)

    def unchecked(self) -> list[Entry]:
        """The takes that recovery has to look at: those not finished, and those that `check` was not called for."""

        def work(base: sqlite3.Connection) -> list[Entry]:
            self._refresh(base)
            rows = _rows(base, f"SELECT {_COLUMNS} FROM take WHERE checked != {_RIGHT:d}")
            return self._entries(base, rows)

        return self._base.run(work)

    def check(self, paths: Iterable[Path]) -> None:
        """Tells that the takes in these folders are finished and all in them agrees."""
        paths = list(paths)

        def work(base: sqlite3.Connection) -> None:
            self._look(base, paths)
            with transaction(base):
                query = f"UPDATE take SET checked = {_RIGHT:d} WHERE name = ? AND take = ? AND is_settled"
                base.executemany(query, [name_and_take(path) for path in paths])

        self.ask(work)

    def touch(self, path: Path) -> None:
        """Tells that something will now go of this take: until `check` is called, it is among the `touched`."""

        def work(base: sqlite3.Connection) -> None:
            with transaction(base):
                base.execute(f"UPDATE take SET checked = {_TOUCHED:d} WHERE name = ? AND take = ?", name_and_take(path))

        self.ask(work)

    def touched(self) -> list[Path]:
        """The takes that something was to go of when that was interrupted."""

        def work(base: sqlite3.Connection) -> list[Path]:
            query = f"SELECT name, take FROM take WHERE checked = {_TOUCHED:d} AND checked != {_RIGHT:d}"
            return [self.path(name, take) for name, take in base.execute(query)]

        return self.ask(work)

    def ask(self, work: Callable[[sqlite3.Connection], _T]) -> _T:
        """What `work` finds in the database, brought up to date; it may be called again (see `Database.run`)."""

        def asked(base: sqlite3.Connection) -> _T:
            self._refresh(base)
            return work(base)

        return self._base.run(asked)

    def oldest_ns(self) -> int | None:
        """When the oldest chunk of all that are there ended, by the wall clock."""

        def work(base: sqlite3.Connection) -> int | None:
            self._refresh(base)
            (oldest,) = base.execute("SELECT min(oldest_ns) FROM take WHERE oldest_ns IS NOT NULL").fetchone()
            return None if oldest is None else int(oldest)

        return self._base.run(work)

    def swept(self, is_done: bool | None = None) -> bool:
        """Whether no object can be without a recording, as far as is known; with `is_done` from now on."""

        def work(base: sqlite3.Connection) -> bool:
            self._refresh(base)
            if is_done is not None:
                base.execute("REPLACE INTO note VALUES ('swept', ?)", (str(int(is_done)),))
            return bool(base.execute("SELECT value FROM note WHERE name = 'swept'").fetchone() == ("1",))

        return self._base.run(work)

    def is_continued(self, uri: str) -> bool:
        """Whether a take is there that goes on from this one."""

        def work(base: sqlite3.Connection) -> bool:
            self._refresh(base)
            return base.execute("SELECT 1 FROM take WHERE continues = ?", (uri,)).fetchone() is not None

        return self._base.run(work)

    def look(self, paths: Iterable[Path]) -> None:
        """Reads these takes on: whoever has changed a finished one says so."""
        self._base.run(lambda base: self._look(base, list(paths)))

    def audit(self) -> int:
        """Holds every row against its journal's size and time, and the database against itself; how many takes had
        changed without its knowing."""

        def work(base: sqlite3.Connection) -> int:
            (told,) = base.execute("PRAGMA integrity_check(1)").fetchone()
            if told != "ok":
                raise sqlite3.DatabaseError(told)
            self._refresh(base)
            n_stale = last = 0
            query = f"SELECT {_COLUMNS} FROM take WHERE is_settled AND id > ? ORDER BY id LIMIT {_BATCH:d}"
            while rows := _rows(base, query, last):  # not all at once: their digests take a kilobyte each
                last = rows[-1][0]
                stale = [row for row in rows if not self._is_current(row)]
                n_stale += len(stale)
                self._update(base, stale)
            return n_stale

        return self._base.run(work)

    # ---- bringing it up to date

    def _refresh(self, base: sqlite3.Connection) -> None:
        known = dict(base.execute("SELECT name, mtime_ns FROM folder"))
        found = self.store.names()
        for name in known.keys() - found.keys():
            with transaction(base):
                base.execute("DELETE FROM take WHERE name = ?", (name,))
                base.execute("DELETE FROM folder WHERE name = ?", (name,))
                base.execute(_UNSWEPT)
        now_ns = time.time_ns()
        for name, mtime_ns in found.items():
            if known.get(name) == mtime_ns:
                continue
            self._look_through(base, name)
            is_sure = now_ns - mtime_ns > _FRESH_NS  # what comes in the same tick of the clock wouldn't show
            with transaction(base):
                base.execute("REPLACE INTO folder VALUES (?, ?)", (name, mtime_ns if is_sure else -1))
        rows = _rows(base, f"SELECT {_COLUMNS} FROM take WHERE NOT is_settled")
        self._update(base, rows)

    def _look_through(self, base: sqlite3.Connection, name: str) -> None:
        """Finds the takes of a name that have come, gone or been changed by hand."""
        there = set(self.store.takes(name))
        rows = _rows(base, f"SELECT {_COLUMNS} FROM take WHERE name = ?", name)
        gone = [row for row in rows if row[2] not in there]
        with transaction(base):
            base.executemany("DELETE FROM take WHERE id = ?", [(row[0],) for row in gone])
            if gone:
                base.execute(_UNSWEPT)
        known = [row for row in rows if row[2] in there]
        for batch in _batches([row for row in known if row[4] and not self._is_current(row)]):
            self._update(base, batch)
        new = sorted(there - {row[2] for row in known})
        for takes in _batches(new):
            self._update(base, [(0, name, take, "", 0, None, 0) for take in takes])

    def _look(self, base: sqlite3.Connection, paths: Sequence[Path]) -> None:
        for path in paths:
            name, take = name_and_take(path)
            query = f"SELECT {_COLUMNS} FROM take WHERE name = ? AND take = ?"
            self._update(base, _rows(base, query, name, take) or [(0, name, take, "", 0, None, 0)])

    def _is_current(self, row: _Row) -> bool:
        digest = _digest(row)
        try:
            found = (self._path(row) / JOURNAL_NAME).stat()
        except OSError:
            return digest is None
        told = found.st_ino, found.st_size, found.st_mtime_ns
        return digest is not None and told == (digest.inode, digest.size, digest.mtime_ns)

    def path(self, name: str, take: str) -> Path:
        return self.store.place(name, take)

    def _path(self, row: _Row) -> Path:
        return self.path(row[1], row[2])

    def _update(self, base: sqlite3.Connection, rows: Iterable[_Row]) -> list[Entry]:
        """Reads these takes on and keeps what has changed; what they are now, without those that are gone."""
        entries: list[Entry] = []
        changed: list[tuple[_Row, tuple[object, ...] | None]] = []
        for row in rows:
            entry, is_live = self._read(row)
            if entry is None:
                changed.append((row, None))
                continue
            entries.append(entry)
            new = self._values(entry, is_live)
            if (new[2], new[3], new[-2], new[-1]) != row[3:]:
                changed.append((row, new))
        if changed:
            with transaction(base):
                for row, values in changed:
                    if values is None:
                        base.execute("DELETE FROM take WHERE id = ?", (row[0],))
                        base.execute(_UNSWEPT)
                    else:
                        base.execute(_UPSERT, values)
        return entries

    def _read(self, row: _Row) -> tuple[Entry | None, bool]:
        path = self._path(row)
        journal = JournalReader(path / JOURNAL_NAME)
        is_live = journal.is_locked()  # before it is read: a writer that lets go of it has journalled its finish
        try:
            digest = read_digest(path, _digest(row))
        except RecordingNotFound:
            if not path.is_dir():
                return None, False
            return Entry(row[1], row[2], path, "damaged", None), False
        except ChaosError:
            return Entry(row[1], row[2], path, "damaged", None), is_live
        state = "finished" if digest.finish else "recording" if is_live else "interrupted"
        return Entry(row[1], row[2], path, state, digest), is_live

    def _values(self, entry: Entry, is_live: bool) -> tuple[object, ...]:
        digest = entry.digest
        if digest is None:
            place = (entry.name, entry.take)
            known = (0, 0, 0, 0, None, None, "", None, entry.take, None, None, None, 0, 0, "", None)
            return (*place, entry.state, *known, _check(entry.state, None))
        device = digest.definition.device
        names = "\n".join(str(device[key]) for key in ("description", "name", "identity") if key in device).lower()
        blob = _encoder.encode(digest)
        return (
            entry.name,
            entry.take,
            entry.state,
            digest.finish is not None and not is_live,
            0,
            _bounded(digest.definition.started_wall_ns),
            _FOREVER if is_live else _bounded(digest.ended_wall_ns),
            *(_oldest(digest) if digest.finish or is_live else (None, None)),
            digest.definition.boot_id,
            min((_bounded(stand) for stand in digest.stands), default=None),
            root_of(entry.take, digest),
            digest.definition.keep,
            digest.definition.continues,
            digest.definition.session,
            digest.n_held,
            digest.n_bytes,
            names,
            blob,
            _check(entry.state, blob),
        )

    def _entries(self, base: sqlite3.Connection, rows: Sequence[_Row]) -> list[Entry]:
        """The rows, each held against its journal's size and time, and read anew where these have changed."""
        entries = []
        for row in rows:
            if row[4] and not self._is_current(row):
                entries += self._update(base, [row])
            else:
                entries.append(Entry(row[1], row[2], self._path(row), row[3], _digest(row)))
        return entries


_UPSERT = """
INSERT INTO take (name, take, state, is_settled, checked, started_ns, ended_ns, oldest_ns,
    oldest_monotonic_ns, boot, least_stand_ns, root, keep, continues, session, n_held, n_bytes, device, digest,
    check_value)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (name, take) DO UPDATE SET state = excluded.state, is_settled = excluded.is_settled,
    checked = CASE checked WHEN 2 THEN 2 ELSE 0 END, started_ns = excluded.started_ns, ended_ns = excluded.ended_ns,
    oldest_ns = excluded.oldest_ns,
    oldest_monotonic_ns = excluded.oldest_monotonic_ns, boot = excluded.boot, wait_ns = 0,
    least_stand_ns = excluded.least_stand_ns, root = excluded.root, keep = excluded.keep,
    continues = excluded.continues, session = excluded.session, n_held = excluded.n_held, n_bytes = excluded.n_bytes,
    device = excluded.device, digest = excluded.digest, check_value = excluded.check_value
"""


_UNSWEPT = "DELETE FROM note WHERE name = 'swept'"


def _in_range(wall_ns: int) -> int:
    """The nearest that SQLite's integers reach: the years 1677 to 2262."""
    return min(max(wall_ns, -(2**63)), 2**63 - 1)


def _rows(base: sqlite3.Connection, query: str, *values: str | int) -> list[_Row]:
    try:
        return msgspec.convert(base.execute(query, values).fetchall(), list[_Row])
    except msgspec.ValidationError as error:
        raise sqlite3.DatabaseError(f"a row is damaged: {error}") from error


def root_of(take: str, digest: Digest) -> str:
    """The take that a stream began with, of which this one goes on."""
    shape = digest.definition
    went_on = any(before is not None for before in (shape.continues, shape.follows, shape.after_change))
    return _ROLLED.sub("", take) if went_on else take


def _oldest(digest: Digest) -> tuple[int | None, int | None]:
    """When the oldest chunk that is there ended, on both clocks: as early as the wall clock's stands make it."""
    if digest.definition.external or not digest.held:
        return None, None
    end = min((digest.held[0][0] + 1) * digest.definition.chunk_frames, digest.n_frames)
    monotonic_ns = digest.monotonic_ns(end)
    wall_ns = min([digest.wall_ns(end), *(monotonic_ns + stand for stand in digest.stands)])
    return _bounded(wall_ns), _bounded(monotonic_ns)


def _bounded(wall_ns: int) -> int:
    """A moment as SQLite can hold it: a journal may say anything."""
    return max(-_FOREVER, min(wall_ns, _FOREVER))


def _check(state: str, digest: bytes | None) -> int:
    return zlib.crc32(digest or b"", zlib.crc32(state.encode()))


def _digest(row: _Row) -> Digest | None:
    """The row's digest; None where it has none, or one that is damaged."""
    if row[5] is None or _check(row[3], row[5]) != row[6]:
        return None
    try:
        return _decoder.decode(row[5])
    except msgspec.DecodeError:
        return None


def _batches(items: Sequence[_T]) -> Iterator[Sequence[_T]]:
    for first in range(0, len(items), _BATCH):
        yield items[first : first + _BATCH]
