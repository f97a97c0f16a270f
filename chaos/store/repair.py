"""A damaged journal made whole from all else that knows: chunk files, objects by their hash, and the Zarr metadata.

What a lost line told stands elsewhere, too: a chunk in its file, which its object's name proves; a gap or an anchor in
a table; the definition and the end in the group's document. The damaged journal stays beside the new one.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec

from chaos.store.chunks import chunk_number
from chaos.store.documents import clock_columns
from chaos.store.events import count_events
from chaos.store.info import RecordingInfo, load
from chaos.store.journal import JOURNAL_NAME, Journal, JournalReader
from chaos.store.lines import (
    AnchorLine,
    ChunkLine,
    Definition,
    Finish,
    GapLine,
    Header,
    LatencyLine,
    Line,
    MarkLine,
    OpenGapLine,
    Sealing,
)
from chaos.store.metadata import write_metadata
from chaos.store.objects import ObjectStore, hash_file
from chaos.store.retired import retired_gaps
from chaos.store.verify import read_table, stored_definition
from chaos.system.files import MOST_BYTES, read_regular, storage_errors, sync_folder
from chaos.terms.counting import counted
from chaos.terms.errors import StorageFailed
from chaos.terms.form import MidiForm
from chaos.terms.ledger import Cause, ClockAnchor, Gap

__all__ = ["load_repaired", "repair"]

_DAMAGED_NAME = "journal.damaged.jsonl"


def load_repaired(objects: ObjectStore, path: Path) -> tuple[RecordingInfo, list[str]]:
    """The recording in this folder, its journal repaired first if that is damaged and no writer has it; and what was
    done, in words. Raises what `load` does where nothing else tells what is missing."""
    journal = path / JOURNAL_NAME
    is_gone = _stand_in(path)
    reader = JournalReader(journal)
    first = next(reader.lines(), None)
    if isinstance(first, Header):
        info = load(path)
        if info.is_live or not _is_damaged(info):
            return info, []
    elif reader.is_locked():
        return load(path), []
    remarks = [*(["its journal was gone"] if is_gone else []), *repair(objects, path)]
    return load(path), remarks


def _stand_in(path: Path) -> bool:
    """Puts an empty journal where that of a finished recording is gone; whether it was. One that isn't finished may
    have a writer, whose journal has another name now."""
    if os.path.lexists(path / JOURNAL_NAME) or _attributes(path).get("state") != "finished":
        return False
    with storage_errors("repair", path / JOURNAL_NAME), suppress(FileExistsError):
        os.close(os.open(path / JOURNAL_NAME, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644))
    return True


def _is_damaged(info: RecordingInfo) -> bool:
    if info.finish is None:  # a last line that was taken out shows in no other
        return bool(info.bad_lines or info.missing_before) or _attributes(info.path).get("state") == "finished"
    return bool(info.bad_lines or info.missing_before or info.torn)


def repair(objects: ObjectStore, path: Path) -> list[str]:
    """Puts a whole journal in the place of a damaged one; what was done, in words.

    Raises StorageFailed where nothing says what the recording is of, StreamExists while a writer has it.
    """
    lock = Journal.lock(path / JOURNAL_NAME)
    try:
        reader = JournalReader(path / JOURNAL_NAME)
        known = reader.poll()
        new, remarks = _Repair(objects, path, known).lines()
        remarks = [*(f"line {line} of its journal was damaged" for line in reader.bad_lines), *remarks]
        if reader.missing_before:
            remarks.append(f"{len(reader.missing_before)} places of its journal had lost lines")
        _replace(path, new)
    finally:
        os.close(lock)
    info = load(path)
    if info.finish:
        write_metadata(info)
    return remarks


def _replace(path: Path, lines: list[Line]) -> None:
    journal, hidden, kept = path / JOURNAL_NAME, path / f".{JOURNAL_NAME}.new", path / _DAMAGED_NAME
    with storage_errors("repair", journal):
        hidden.unlink(missing_ok=True)
        header = lines[0]
        assert isinstance(header, Header)
        made = Journal.create(hidden, header.definition)
        try:
            for line in lines[1:]:
                made.append(line)
            made.flush()
        finally:
            made.close()
        if not kept.exists():
            os.link(journal, kept)
        hidden.replace(journal)
        sync_folder(path)


class _Repair:
    def __init__(self, objects: ObjectStore, path: Path, known: list[Line]) -> None:
        self._objects = objects
        self._path = path
        self._remarks: list[str] = []
        self._group = _attributes(path)
        self._definition = self._find_definition(known)
        self._known = known
        gaps = [line.gap() for line in known if isinstance(line, GapLine)]
        anchors = [line.anchor() for line in known if isinstance(line, AnchorLine)]
        self._finish = next((line for line in known if isinstance(line, Finish)), None) or self._find_finish()
        self._open = next((line for line in reversed(known) if isinstance(line, OpenGapLine)), None)
        self._gaps = [*gaps, *self._find_gaps(gaps)]
        self._anchors = sorted([*anchors, *self._find_anchors(anchors)], key=lambda anchor: anchor.frame)
        chunks = {line.chunk: line for line in known if isinstance(line, ChunkLine)}
        self._chunks = chunks | self._find_chunks(chunks)

    def lines(self) -> tuple[list[Line], list[str]]:
        """The whole journal, in the order in which things are."""
        ended = {gap.first_frame for gap in self._gaps if gap.n_frames}
        lines: list[Line] = [Header(0, self._definition)]
        lines += [AnchorLine.of(anchor) for anchor in self._anchors]
        lines += [GapLine.of(gap) for gap in self._gaps]
        lines += [self._chunks[chunk] for chunk in sorted(self._chunks)]
        lines += [line for line in self._known if isinstance(line, LatencyLine | MarkLine)]
        lines += [line for line in self._known if isinstance(line, Sealing)][-1:]
        if self._open is not None and self._open.first_frame not in ended and not self._finish:
            lines.append(self._open)
        if self._finish:
            lines.append(self._finish)
        return lines, self._remarks

    def _find_definition(self, known: list[Line]) -> Definition:
        if known and isinstance(known[0], Header):
            return known[0].definition
        try:
            definition = stored_definition(read_regular(self._path / "zarr.json"))
        except OSError:
            definition = None
        if definition is None:
            raise StorageFailed(
                f"the journal of {self._path} has no readable first line, and its zarr.json does not tell it either",
                hint=f"restore {JOURNAL_NAME} from a copy",
            )
        return definition

    def _find_finish(self) -> Finish | None:
        n_frames, clean = self._group.get("n_frames"), self._group.get("clean")
        if self._group.get("state") != "finished" or not isinstance(n_frames, int):
            return None
        self._remarks.append("its end came from zarr.json")
        return Finish(n_frames, bool(clean))

    def _find_gaps(self, known: list[Gap]) -> list[Gap]:
        """Those of the table that the journal does not tell, nor tells otherwise; the open one has no entry yet."""
        found: list[Gap] = []
        for row in read_table(self._path / "gaps") or []:
            try:
                gap = Gap.from_row(row)
            except ValueError:
                continue
            is_told = any(
                gap == each or (gap.n_frames and each.first_frame < gap.end_frame and gap.first_frame < each.end_frame)
                for each in [*known, *found]
            )
            is_open = self._open is not None and self._open.first_frame == gap.first_frame and not self._finish
            if gap.cause is Cause.RETIRED:  # one row for what several lines may tell
                found += retired_gaps([gap], [*known, *found])
            elif not is_told and not is_open:
                found.append(gap)
        if found:
            self._remarks.append(f"{counted(len(found), 'gap')} came from its table of gaps")
        return found

    def _find_anchors(self, known: list[ClockAnchor]) -> list[ClockAnchor]:
        columns = clock_columns(self._definition)
        rows = {anchor.row(columns) for anchor in known}
        found = []
        for row in read_table(self._path / "clock") or []:
            with suppress(ValueError):
                if row not in rows:
                    found.append(ClockAnchor.from_row(row))
        if found:
            self._remarks.append(f"{len(found)} clock anchors came from its table of the clock")
        return found

    def _find_chunks(self, known: dict[int, ChunkLine]) -> dict[int, ChunkLine]:
        """Chunk files that no line tells of. Of a recording that is not finished the newest are recovery's."""
        if self._definition.external:
            return {}
        form = self._definition.form
        newest = max(known, default=-1)
        found: dict[int, ChunkLine] = {}
        n_unproved = 0
        for path in sorted((self._path / form.folder).glob("[0-9]*")):
            chunk = chunk_number(path)
            is_wanted = chunk is not None and chunk not in known and (self._finish or chunk < newest)
            if not is_wanted or chunk is None or path.stat().st_size != form.chunk_bytes:
                continue
            digest, first = hash_file(path), chunk * form.chunk_frames
            end = self._finish.n_frames if self._finish else first + form.chunk_frames
            events = count_events(read_regular(path, MOST_BYTES)) if isinstance(form, MidiForm) else (0, 0)
            found[chunk] = ChunkLine(chunk, first, min(form.chunk_frames, end - first), digest, None, *events)
            n_unproved += not self._objects.path(digest).exists()
        if found:
            self._remarks.append(f"{counted(len(found), 'chunk')} came from files")
        if n_unproved:
            self._remarks.append(f"no object proves what is in {n_unproved} of them")
        return found


def _attributes(path: Path) -> dict[str, Any]:
    try:
        found = msgspec.json.decode(read_regular(path / "zarr.json"))["attributes"]
    except (OSError, ValueError, KeyError, TypeError):
        return {}
    return found if isinstance(found, dict) else {}
