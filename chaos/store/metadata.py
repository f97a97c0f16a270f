"""A recording's metadata on disk: the Zarr documents and the tables, brought up to date by replacing files.

All of it can be made again from the journal.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from pathlib import Path

from chaos.store.columns import SealedChunk
from chaos.store.documents import (
    TABLE_ROWS,
    Lengths,
    clock_columns,
    form_documents,
    group_document,
    table_chunk,
    table_document,
    table_rows,
)
from chaos.store.events import EventColumns
from chaos.store.info import RecordingInfo, load
from chaos.store.lines import Definition, Finish
from chaos.store.overview import Overview, complete_overview, remove_overview
from chaos.store.retired import gone_chunks
from chaos.system.files import MOST_BYTES, make_folders, read_regular, replace, storage_errors
from chaos.terms.errors import StreamExists
from chaos.terms.form import AudioForm, Content, MidiForm
from chaos.terms.ledger import GAP_COLUMNS, ClockAnchor, Entries, Gap, Row

__all__ = ["Metadata", "Table", "fill", "rebuild_metadata", "write_metadata"]

_CLOCK_S = 5.0


class Table:
    """The rows of `gaps` or `clock`, and how much of them is on disk. Holds those of the last chunk only.

    `open_row` stands behind all others and may be replaced.
    """

    def __init__(self, columns: Sequence[str]) -> None:
        self.columns = columns
        self.open_row: Row | None = None
        self._rows: list[Row] = []
        self._changed: dict[int, Row] = {}
        self._is_stored = True
        self._first_row = 0
        self._stored: tuple[int, Row | None, bool] | None = None

    @property
    def n_rows(self) -> int:
        return self._first_row + len(self._rows)

    @property
    def n_stored(self) -> int:
        """How many of the rows `store` has brought to disk."""
        return self._stored[0] + (self._stored[1] is not None) if self._stored else 0

    def append(self, row: Row) -> None:
        self._rows.append(row)

    def change(self, at: int, row: Row) -> None:
        """Puts another row in the place of one that has been appended."""
        if at >= self._first_row:
            self._rows[at - self._first_row] = row
        else:
            self._changed[at] = row
        self._is_stored = False

    def store(self, folder: Path, *, durable: bool = True) -> None:
        """Brings the array in this folder up to date, if it isn't; raises OSError and may be called again.

        What is not `durable` a later call that is makes so.

        Chunks are replaced first, then the shape, so that a reader sees only rows that are there.
        """
        n_rows = self.n_rows
        if self._is_stored and self._stored in ((n_rows, self.open_row, True), (n_rows, self.open_row, durable)):
            return
        rows = [*self._rows, self.open_row] if self.open_row is not None else self._rows
        _make_folder(folder, durable=durable)
        self._store_changed(folder)
        for first in range(0, len(rows), TABLE_ROWS):
            chunk = folder / "c" / str((self._first_row + first) // TABLE_ROWS)
            make_folders(chunk)
            part = rows[first : first + TABLE_ROWS]
            replace(chunk / "0", table_chunk(self.columns, part), durable=durable or len(part) == TABLE_ROWS)
        n_shown = self._first_row + len(rows)
        replace(folder / "zarr.json", table_document(folder.name, n_shown, self.columns), durable=durable)
        self._stored, self._is_stored = (n_rows, self.open_row, durable), True
        kept = n_rows - n_rows % TABLE_ROWS
        del self._rows[: kept - self._first_row]
        self._first_row = kept

    def _store_changed(self, folder: Path) -> None:
        """Rows that changed in chunks which are on disk already, where these still are as they were written."""
        for number in sorted({at // TABLE_ROWS for at in self._changed}):
            path = folder / "c" / str(number) / "0"
            rows = table_rows(self.columns, read_regular(path))
            for at in [at for at in self._changed if at // TABLE_ROWS == number]:
                rows[at % TABLE_ROWS] = self._changed[at]
            replace(path, table_chunk(self.columns, rows))
            self._changed = {at: row for at, row in self._changed.items() if at // TABLE_ROWS != number}


class Metadata:
    """The metadata of one recording, in its `folder`.

    Only the last version is made durable: recovery makes the others again from the journal.
    """

    def __init__(self, folder: Path, definition: Definition) -> None:
        self._folder = folder
        self._definition = definition
        self._entries = Entries()
        self._gaps = Table(GAP_COLUMNS)
        self._clock = Table(clock_columns(definition))
        self._events = EventColumns(folder / "events")
        form, has_one = definition.form, definition.overview and not definition.external
        self._overview = Overview(folder / "overview", form) if has_one and isinstance(form, AudioForm) else None
        self._form: tuple[bool, Lengths] | None = None
        self._shown: dict[str, bytes] = {}
        self._clock_shown = -_CLOCK_S
        self._group: tuple[Finish | None, Lengths] | None = None

    def gap(self, gap: Gap) -> None:
        n_before = len(self._entries.gaps)
        at = self._entries.add(gap)
        row = self._entries.gaps[at].row()
        if at < n_before:
            self._gaps.change(at, row)
        else:
            self._gaps.append(row)
        if self._overview is not None:
            self._overview.gap(gap)

    def open_gap(self, gap: Gap | None) -> None:
        """The gap that has not ended, as far as it reaches; it is shown behind all others."""
        self._gaps.open_row = gap.row() if gap is not None else None
        if self._overview is not None:
            self._overview.open_gap(gap)

    def anchor(self, anchor: ClockAnchor) -> None:
        self._clock.append(anchor.row(self._clock.columns))

    def samples(self, sealed: SealedChunk, content: Content) -> None:
        """A sealed chunk of samples; its gaps have been told before."""
        if self._overview is not None:
            self._overview.chunk(sealed, content)

    def events(self, sealed: SealedChunk, content: Content | None) -> None:
        """A sealed chunk of events; without its content where retention has removed it."""
        self._events.add(sealed, content)

    def know_events(self, sealed: SealedChunk) -> None:
        """A sealed chunk whose events are in the arrays already, as they are to be."""
        self._events.know(sealed)

    def clear_events(self, chunks: Iterable[SealedChunk]) -> None:
        """Retention is about to remove these chunks: their events go first. Raises OSError."""
        self._events.clear(chunks)

    def clear_overview(self, n_frames: int, chunks: Sequence[SealedChunk]) -> None:
        """... and what the overview has of them, if nothing else is left of that. Raises OSError."""
        remove_overview(self._folder / "overview", self._definition, n_frames, chunks, self._entries.gaps)

    def resume_overview(self, info: RecordingInfo) -> None:
        """Goes on where a dead writer stopped. Raises OSError."""
        if self._overview is not None:
            self._overview.resume(info)

    def leave_overview(self) -> None:
        """Leaves the overview's files as they are."""
        self._overview = None

    def store(self, n_frames: int, finish: Finish | None, *, durable: bool = False) -> None:
        """Replaces what has changed: tables, then the form's arrays, then the group, which tells of all.

        With a finish it is all `durable`. The clock may lag by some seconds. Raises OSError, and may be called again.
        """
        last = finish is not None
        durable = durable or last
        self._gaps.store(self._folder / "gaps", durable=durable)
        if durable or not self._clock.n_stored or time.monotonic() - self._clock_shown >= _CLOCK_S:
            self._clock.store(self._folder / "clock", durable=durable)
            self._clock_shown = time.monotonic()
        self._events.store(durable=durable)
        if self._overview is not None:
            self._overview.store(n_frames, is_whole=last)
        of_form = Lengths(n_frames, 0, 0, self._events.n_events, self._events.n_bytes, last)
        if (last, of_form) != self._form:
            for name, document in form_documents(self._definition, of_form).items():
                if self._shown.get(name) != document or durable:
                    _make_folder(self._folder / name, durable=durable)
                    replace(self._folder / name / "zarr.json", document, durable=durable)
                    self._shown[name] = document
            self._form = last, of_form
        lengths = of_form._replace(n_gaps=self._gaps.n_stored, n_anchors=self._clock.n_stored)
        if (finish, lengths) != self._group:
            document = group_document(self._definition, finish, lengths)
            replace(self._folder / "zarr.json", document, durable=durable)
            self._group = finish, lengths


def fill(metadata: Metadata, info: RecordingInfo, *, with_events: bool = True) -> None:
    """Tells it all that a journal does, and what sealed chunks of MIDI hold, which reads every one that has an event:
    after a crash, or for a repair. Raises OSError."""
    for gap in info.gaps:
        metadata.gap(gap)
    metadata.open_gap(info.open_gap)
    for anchor in info.anchors:
        metadata.anchor(anchor)
    if not isinstance(info.definition.form, MidiForm):
        return
    gone = {sealed.chunk for sealed in gone_chunks(info)}
    for sealed in info.chunks:
        if not with_events:
            metadata.know_events(sealed)
        elif sealed.n_events:
            path = Path(sealed.path)
            is_there = sealed.chunk not in gone and path.exists()
            metadata.events(sealed, read_regular(path, MOST_BYTES, follow=True) if is_there else None)


def rebuild_metadata(path: Path) -> None:
    """Writes all metadata of a recording anew from its journal. Raises StreamExists while a writer has it."""
    info = load(path)
    if info.is_live:
        raise StreamExists(f"{path} is being written", hint="stop that stream first")
    write_metadata(info)


def write_metadata(info: RecordingInfo, *, with_events: bool = True) -> None:
    """Writes all metadata of a recording anew; for whoever has its journal. Raises StorageFull or StorageFailed.

    Without events their arrays stay as they are. Of the overview what is not there is made.
    """
    metadata = Metadata(info.path, info.definition)
    metadata.leave_overview()
    with storage_errors("rebuild the metadata of", info.path):
        complete_overview(info)
        fill(metadata, info, with_events=with_events)
        metadata.store(info.n_frames, info.finish, durable=True)


def _make_folder(path: Path, *, durable: bool) -> None:
    """One in a folder that is there; a new recording's are made durable with its name."""
    if durable:
        make_folders(path)
    elif not path.is_dir():
        path.mkdir()
