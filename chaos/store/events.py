"""The events of a MIDI recording as Zarr arrays, which any program reads: a row per event, and their bytes.

    events/raw/       uint8: the sealed chunks one behind the other, as they are hashed; the truth of all else here
    events/frame/     int64: each event's frame, from the recording's first
    events/offset/    int64: where its bytes begin in `bytes`
    events/size/      uint32: how many they are
    events/kind/      uint8: 2 MIDI 1, 4 UMP; 0 where retention has removed it, and then all else of the row is 0, too
    events/bytes/     uint8: the bytes of all events, as they came

Rows are in the order in which events came: by cycle, and within one as the graph had them. They follow from the sealed
chunks, and are written when those are; the journal says how many events each chunk has.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Callable, Container, Iterable
from pathlib import Path
from typing import Any, Final, NamedTuple

from chaos.store.columns import SealedChunk
from chaos.system.files import MOST_BYTES, make_folders, read_regular, replace
from chaos.terms.form import Content, records

__all__ = [
    "COLUMNS",
    "Column",
    "EventColumns",
    "WrongColumn",
    "clear_events",
    "count_events",
    "event_arrays",
    "wrong_columns",
]


class Column(NamedTuple):
    """One of the arrays: `code` is its type for `array` and `n_items` how many are in one of its chunk files."""

    data_type: str
    code: str
    n_items: int
    dimension: str
    long_name: str


class WrongColumn(NamedTuple):
    """An array that does not say what was sealed, of `n_sealed` items. `is_short`: chunk files of it are missing or cut
    short (those of nothing but zeros may be missing, too)."""

    name: str
    n_sealed: int
    is_short: bool


_ROWS = 8192
COLUMNS: Final = {
    "frame": Column("int64", "q", _ROWS, "event", "frame of each event, from the recording's first"),
    "offset": Column("int64", "q", _ROWS, "event", "where each event's bytes begin"),
    "size": Column("uint32", "I", _ROWS, "event", "how many bytes each event has"),
    "kind": Column("uint8", "B", _ROWS, "event", "2: bytes of MIDI 1; 4: words of UMP; 0: removed by retention"),
    "bytes": Column("uint8", "B", 1 << 16, "byte", "the bytes of all events, as they came"),
}


def count_events(chunk: Content) -> tuple[int, int]:
    """How many events a chunk has, and how many bytes these have."""
    sizes = [record.size for record in records(chunk)]
    return len(sizes), sum(sizes)


def event_arrays(chunk: Content, first_frame: int, first_byte: int) -> dict[str, array[Any]]:
    """What a chunk whose first frame and byte are these adds to each array."""
    made = {name: array(column.code) for name, column in COLUMNS.items()}
    for record in records(chunk):
        made["frame"].append(first_frame + record.frame)
        made["offset"].append(first_byte)
        made["size"].append(record.size)
        made["kind"].append(record.kind)
        made["bytes"].frombytes(bytes(chunk[record.data]))
        first_byte += record.size
    return made


class _Tail:
    """One array: what is behind its last whole chunk file, and where that begins. `n` counts all its items."""

    def __init__(self, name: str, column: Column) -> None:
        self._name = name
        self._column = column
        self._first = 0
        self._items = array(column.code)
        self._n_stored = 0

    @property
    def n(self) -> int:
        return self._first + len(self._items)

    def append(self, items: array[Any]) -> None:
        self._items.extend(items)

    def store(self, folder: Path, *, durable: bool) -> None:
        """Replaces the chunk files that have become other ones. Raises OSError, and may be called again."""
        size = self._column.n_items
        if self._n_stored == self.n:
            return
        make_folders(folder / self._name / "c")
        while self._items:
            part = self._items[:size]
            self._replace(folder, self._first // size, part, durable=durable or len(part) == size)
            if len(part) < size:
                break
            del self._items[:size]
            self._first += size
        self._n_stored = self.n

    def clear(self, folder: Path, first: int, end: int) -> None:
        """Makes these items zeros. A chunk file that has no others is removed. Raises OSError."""
        size = self._column.n_items
        for index in range(first // size, -(-end // size)):
            begin, stop = max(first - index * size, 0), min(end - index * size, size)
            if index * size == self._first and self._items:
                stop = min(stop, len(self._items))
                self._items[begin:stop] = array(self._column.code, bytes((stop - begin) * self._items.itemsize))
                if self._n_stored > self._first:
                    self._replace(folder, index, self._items[: self._n_stored - self._first], durable=False)
                continue
            path = folder / self._name / "c" / str(index)
            if (begin, stop) == (0, size):
                path.unlink(missing_ok=True)
            elif path.exists():
                items = array(self._column.code, read_regular(path))
                items[begin:stop] = array(self._column.code, bytes((stop - begin) * items.itemsize))
                self._replace(folder, index, items, durable=True)

    def _replace(self, folder: Path, index: int, items: array[Any], *, durable: bool) -> None:
        path, content = folder / self._name / "c" / str(index), items.tobytes()
        if content.strip(b"\0"):
            replace(path, content.ljust(self._column.n_items * items.itemsize, b"\0"), durable=durable)
        else:
            path.unlink(missing_ok=True)


class EventColumns:
    """The arrays of one recording, in its folder `events`: sealed chunks are told in order, then `store` is called.

    It holds what is behind the last whole chunk file of each, and where each chunk's rows begin. A chunk file of
    nothing but zeros is not there: Zarr reads its fill value.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._tails = {name: _Tail(name, column) for name, column in COLUMNS.items()}
        self._chunks, self._rows, self._bytes = array("q"), array("q"), array("q")
        self.n_events = 0
        self.n_bytes = 0

    def know(self, sealed: SealedChunk) -> None:
        """A chunk whose events are on disk already."""
        if sealed.n_events:
            self._chunks.append(sealed.chunk)
            self._rows.append(self.n_events)
            self._bytes.append(self.n_bytes)
            self.n_events += sealed.n_events
            self.n_bytes += sealed.n_event_bytes

    def add(self, sealed: SealedChunk, content: Content | None) -> None:
        """A chunk that is sealed. Its rows are zeros without its content, and where that is not what was sealed."""
        is_sound = content is not None and count_events(content) == (sealed.n_events, sealed.n_event_bytes)
        made = event_arrays(content or b"", sealed.first_frame, self.n_bytes) if is_sound else _nothing(sealed)
        self.know(sealed)
        for name, items in made.items():
            self._tails[name].append(items)

    def store(self, *, durable: bool) -> None:
        """Brings to disk what was added. Raises OSError, and may be called again."""
        for tail in self._tails.values():
            tail.store(self._folder, durable=durable)

    def clear(self, chunks: Iterable[SealedChunk]) -> None:
        """Makes the rows and the bytes of these chunks zeros; what only they had is removed. Raises OSError."""
        for sealed in chunks:
            at = bisect_left(self._chunks, sealed.chunk)
            if at == len(self._chunks) or self._chunks[at] != sealed.chunk:
                continue
            for name, tail in self._tails.items():
                firsts, n = (self._bytes, sealed.n_event_bytes) if name == "bytes" else (self._rows, sealed.n_events)
                tail.clear(self._folder, firsts[at], firsts[at] + n)


def clear_events(folder: Path, sealed: Iterable[SealedChunk], gone: Iterable[SealedChunk]) -> None:
    """Makes the events of chunks that go zeros in arrays that nobody writes; `sealed` are all. Raises OSError."""
    columns = EventColumns(folder / "events")
    for each in sealed:
        columns.know(each)
    columns.clear(gone)


def wrong_columns(
    folder: Path, sealed: Iterable[SealedChunk], gone: Container[int], bring: Callable[[SealedChunk], None]
) -> list[WrongColumn]:
    """The arrays that do not say what the chunks hold whose files are there, and zeros for those that are `gone`. Each
    is asked for by `bring` before."""
    wrong: set[str] = set()
    n_events = n_bytes = 0
    files = {name: _Reader(folder / "events" / name, column) for name, column in COLUMNS.items()}
    for each in sealed:
        if each.n_events and each.chunk not in gone:
            bring(each)
        if each.n_events and (each.chunk in gone or Path(each.path).exists()):
            if each.chunk in gone:
                made = _nothing(each)
            else:
                made = event_arrays(read_regular(Path(each.path), MOST_BYTES, follow=True), each.first_frame, n_bytes)
            for name, items in made.items():
                if files[name].read(n_bytes if name == "bytes" else n_events, len(items)) != items:
                    wrong.add(name)
        n_events += each.n_events
        n_bytes += each.n_event_bytes
    n_sealed = {name: n_bytes if name == "bytes" else n_events for name in COLUMNS}
    return [WrongColumn(name, n_sealed[name], files[name].is_short) for name in sorted(wrong)]


def _nothing(sealed: SealedChunk) -> dict[str, array[Any]]:
    return {
        name: array(column.code, [0]) * (sealed.n_event_bytes if name == "bytes" else sealed.n_events)
        for name, column in COLUMNS.items()
    }


class _Reader:
    """One array on disk, read in order. A chunk file of a wrong size is one of zeros, as one that is not there."""

    def __init__(self, folder: Path, column: Column) -> None:
        self._folder = folder
        self._column = column
        self._index = -1
        self._items = array(column.code)
        self.is_short = False

    def read(self, first: int, n_items: int) -> array[Any]:
        size = self._column.n_items
        found = array(self._column.code)
        while n_items > 0:
            if first // size != self._index:
                self._index = first // size
                path = self._folder / "c" / str(self._index)
                raw = read_regular(path) if path.exists() else b""
                n_bytes = size * self._items.itemsize
                self.is_short |= len(raw) < n_bytes
                self._items = array(self._column.code, raw if len(raw) == n_bytes else bytes(n_bytes))
            part = self._items[first % size : first % size + n_items]
            found += part
            first += len(part)
            n_items -= len(part)
        return found
