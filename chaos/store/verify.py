"""Verification: is a recording what its journal says, to the last bit?

Checked are each chunk against its hash, the metadata against the journal, the files against both, that each frame of
the timeline is in a sealed chunk or in a gap, and signatures if there are any. It only reads, and may run beside the
writer: then what is sealed is verified.

Over 400 lines, since all of it is one verdict, and what may lag beside a writer is judged in one way.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Container, Iterator, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
from blake3 import blake3

from chaos import __version__
from chaos.store.documents import (
    TABLE_ROWS,
    Lengths,
    clock_columns,
    columns_like,
    form_documents,
    group_document,
    table_document,
    table_rows,
)
from chaos.store.events import wrong_columns
from chaos.store.hashes import recording_hash, recording_hash_v3
from chaos.store.info import RecordingInfo, SealedChunk, load
from chaos.store.journal import JOURNAL_NAME
from chaos.store.levels import block_frames
from chaos.store.lines import Definition
from chaos.store.objects import hash_file
from chaos.store.overview import wrong_levels
from chaos.store.retired import gone_chunks
from chaos.store.signature import SIGNATURES_NAME, check_signatures
from chaos.store.store import Store
from chaos.store.timeline import wall_clock
from chaos.store.verdict import Absent, Defect, TakeVerdict, VerifyReport, joined, proof_of
from chaos.system.files import read_regular
from chaos.terms.counting import counted
from chaos.terms.errors import InvalidURI
from chaos.terms.form import AudioForm, MidiForm
from chaos.terms.ledger import Cause, Entries, Gap, Row, lost_frames
from chaos.terms.moments import utc_if_any

if TYPE_CHECKING:
    from chaos.store.takes import Take

__all__ = [
    "Defect",
    "TakeVerdict",
    "VerifyReport",
    "read_table",
    "stored_definition",
    "verify",
    "verify_uri",
    "wrong_metadata",
]


_OF_THE_WHOLE = frozenset({"journal_damaged", "overlap", "unaccounted_frames", "misplaced"})


def verify_uri(store: Store, uri: str, progress: Callable[[int, int], None] | None = None) -> VerifyReport:
    """Verifies what a URI stands for: a stream's is all its takes. Raises what `takes_of` and `verify` do."""
    from chaos.store.takes import takes_of

    takes = takes_of(store, uri, alike=False)
    absent = list(_absent(store, takes))
    if len(takes) == 1:
        return msgspec.structs.replace(verify(takes[0].path, progress), absent=absent)
    n_all, n_before = sum(take.digest.n_chunks for take in takes), 0
    reports: list[tuple[Take, VerifyReport]] = []
    for take in takes:
        advance = None if progress is None else partial(_advance, progress, n_before, n_all)
        reports.append((take, verify(take.path, advance)))
        n_before += reports[-1][1].n_chunks
    return msgspec.structs.replace(joined(uri, reports), absent=absent)


def _absent(store: Store, takes: Sequence[Take]) -> Iterator[Absent]:
    for take in takes:
        shape = take.digest.definition
        before = shape.continues or shape.follows or shape.after_change
        with suppress(InvalidURI):  # of another program's making
            if before is not None and not store.path(before).exists():
                yield Absent(shape.uri, before)


def _advance(progress: Callable[[int, int], None], n_before: int, n_all: int, n_done: int, _: int) -> None:
    progress(n_before + n_done, max(n_all, n_before + n_done))


def verify(
    path: Path,
    progress: Callable[[int, int], None] | None = None,
    info: RecordingInfo | None = None,
    sample: Collection[int] | None = None,
) -> VerifyReport:
    """Verifies the recording in this folder; `progress` is called with chunks done and chunks in all. `info` is what is
    known of it already. With `sample` only the chunks of these numbers are read and hashed, and all else is checked;
    what follows from chunks (arrays of events, the overview) is not compared with them then.

    Defects are in the report. Raises RecordingNotFound, or StorageFailed if there is no readable journal.
    """
    info = info or load(path)
    bad = [
        *_journal_defects(info),
        *_timeline_defects(info),
        *_metadata_defects(info),
        *_stray_defects(info),
    ]
    gone = {sealed.chunk for sealed in gone_chunks(info)}
    if sample is None:
        bad += _event_defects(info, gone)
    root = blake3()
    for n_done, sealed in enumerate(info.chunks):
        if progress:
            progress(n_done, len(info.chunks))
        root.update(bytes.fromhex(sealed.hash))
        is_hashed = sample is None or sealed.chunk in sample
        bad.extend(_chunk_defects(info, sealed, is_retired=sealed.chunk in gone, is_hashed=is_hashed))
    if sample is None:
        bad += _overview_defects(info, gone, bad)
    if progress:
        progress(len(info.chunks), len(info.chunks))
    signatures = check_signatures(info)
    bad += [
        Defect("signature_bad", found=f"{SIGNATURES_NAME}, key {each.public_key}: {each.reason}")
        for each in signatures
        if each.state == "bad"
    ]
    return VerifyReport(
        ok=not bad,
        uri=info.definition.uri,
        recording=str(info.path),
        state=info.state,
        clean=info.clean,
        n_chunks=len(info.chunks),
        n_frames=info.n_frames,
        sample_rate=info.definition.sample_rate,
        channels=info.definition.channels,
        bad=bad,
        gaps=_told_gaps(info),
        lost_frames=lost_frames(info.gaps),
        root_hash=root.hexdigest(),
        recording_hash=recording_hash(info),
        recording_hash_v3=recording_hash_v3(info),
        chunks=[
            {"chunk": each.chunk, "first_frame": each.first_frame, "n_frames": each.n_frames, "hash": each.hash}
            for each in info.chunks
        ],
        device=info.definition.device_name,
        sample_format=info.definition.sample_format,
        started_utc=_utc(info.definition.started_wall_ns),
        verified_utc=_utc(time.time_ns()),
        software=f"chaosd {__version__}",
        all_checked=info.state == "finished" and sample is None,
        proof=proof_of(not bad, [signatures]) if sample is None else "nothing",
        signatures=signatures,
        sample=None if sample is None else sorted(sample),
    )


def _told_gaps(info: RecordingInfo) -> list[dict[str, Any]]:
    """As on the wire, each with its moment; None where that is in no calendar."""
    clock = wall_clock(info)
    return [{**gap.to_wire(), "utc": utc_if_any(clock.wall_ns(gap.first_frame))} for gap in info.gaps]


def _utc(wall_ns: int) -> str:
    return f"{datetime.fromtimestamp(wall_ns // 1_000_000_000, UTC):%Y-%m-%dT%H:%M:%SZ}"


def _chunk_defects(
    info: RecordingInfo, sealed: SealedChunk, *, is_retired: bool, is_hashed: bool
) -> Iterator[Defect]:
    def defect(reason: str, expected: str | None, found: str | None) -> Defect:
        return Defect(reason, sealed.chunk, sealed.first_frame, sealed.n_frames, expected, found)

    shape = info.definition
    begin = sealed.chunk * shape.chunk_frames
    if sealed.first_frame != begin or sealed.n_frames > shape.chunk_frames:
        expected = f"at most {shape.chunk_frames} frames from {begin} on"
        yield defect("misplaced", expected, f"{counted(sealed.n_frames, 'frame')} from {sealed.first_frame} on")
        return
    path = Path(sealed.path)
    if is_hashed:
        info.bring(sealed)
    try:
        size = path.stat().st_size
        if size != shape.form.chunk_bytes:
            yield defect("wrong_size", counted(shape.form.chunk_bytes, "byte"), counted(size, "byte"))
            return
        digest = hash_file(path) if is_hashed else sealed.hash
    except FileNotFoundError:
        if not is_retired:
            yield defect("missing", sealed.path, None)
    except OSError as error:
        yield defect("unreadable", sealed.path, error.strerror)
    else:
        if digest != sealed.hash:
            yield defect("hash_mismatch", sealed.hash, digest)


def _event_defects(info: RecordingInfo, gone: Container[int]) -> list[Defect]:
    """Arrays of events that say other things than the chunks. Beside a writer they may lag behind."""
    if not isinstance(info.definition.form, MidiForm) or info.is_live or not info.finish:
        return []
    wrong = wrong_columns(info.path, info.chunks, gone, info.bring)
    return [
        Defect(
            "metadata_mismatch",
            expected=f"{counted(each.n_sealed, 'item')}, as sealed; chunk files of it are missing or cut short"
            if each.is_short
            else None,
            found=f"events/{each.name}",
        )
        for each in wrong
    ]


def _overview_defects(info: RecordingInfo, gone: Collection[int], bad: Sequence[Defect]) -> list[Defect]:
    """Levels of the overview that say other things than the chunks, where these and the ledger are sound."""
    if info.is_live or not info.finish or any(each.reason in _OF_THE_WHOLE for each in bad):
        return []
    damaged = {each.chunk for each in bad if each.chunk is not None}
    return [Defect("metadata_mismatch", found=f"overview/{level}") for level in wrong_levels(info, {*gone, *damaged})]


def _journal_defects(info: RecordingInfo) -> Iterator[Defect]:
    for line in info.bad_lines:
        yield Defect("journal_damaged", found=f"{JOURNAL_NAME}, line {line}")
    for line in info.missing_before:
        yield Defect("journal_damaged", found=f"{JOURNAL_NAME}, before line {line}: a line is missing")
    if info.torn and info.finish:
        yield Defect("journal_damaged", found=f"{JOURNAL_NAME}, end")


def _timeline_defects(info: RecordingInfo) -> Iterator[Defect]:
    """Chunks may hold gaps, since these read as zeros; but none may be twice, and nothing in neither."""
    chunks = sorted((sealed.first_frame, sealed.first_frame + sealed.n_frames) for sealed in info.chunks)
    gaps = sorted((gap.first_frame, gap.end_frame) for gap in info.ledger if gap.n_frames)
    for spans in (chunks, gaps):
        reached = 0
        for first, end in spans:
            if first < reached:
                yield Defect("overlap", first_frame=first, n_frames=min(end, reached) - first)
            reached = max(reached, end)
    if not info.finish:
        last_sealed = chunks[-1][0] if chunks and not info.is_live else 0
        gaps = [(first, end) for first, end in gaps if first <= last_sealed]
        chunks = [] if info.is_live else chunks
    reached = 0
    for first, end in sorted(chunks + gaps):
        if first > reached:
            yield Defect("unaccounted_frames", first_frame=reached, n_frames=first - reached)
        reached = max(reached, end)
    if info.finish and reached != info.n_frames:
        first, end = sorted((reached, info.n_frames))
        yield Defect("unaccounted_frames", first_frame=first, n_frames=end - first)


def _stray_defects(info: RecordingInfo) -> Iterator[Defect]:
    """Chunk files that no journal line knows would be read as audio."""
    known = {sealed.chunk for sealed in info.chunks}
    newest = max(known, default=-1)
    for path in sorted((info.path / info.definition.form.folder).glob("[0-9]*")):
        chunk = int(path.name) if path.name.isascii() and path.name.isdecimal() else None
        may_be_being_sealed = chunk is not None and chunk > newest and not info.finish
        if chunk not in known and not may_be_being_sealed:
            yield Defect("not_in_journal", chunk=chunk, found=str(path))


def _metadata_defects(info: RecordingInfo) -> Iterator[Defect]:
    for name in wrong_metadata(info):
        yield Defect("metadata_mismatch", found=name)


def wrong_metadata(info: RecordingInfo) -> Iterator[str]:
    """The metadata files that the journal contradicts.

    Finished, each must say what the journal says. Before that they may lag behind the journal, and, beside a
    writer, `info` may lag behind both: then each must say what the journal said at some moment.
    """
    group = _read(info.path / "zarr.json")
    is_final = info.finish is not None and not info.is_live
    whole = _lengths_of(info)._replace(is_whole=True)
    names = set(form_documents(info.definition, whole)) if is_final else _told_names(info.definition, group)
    arrays = {name: _read(info.path / name / "zarr.json") for name in names}  # before the journal, which is ahead
    tables = {name: read_table(info.path / name) for name in ("gaps", "clock")}
    n_gap_rows, tables["gaps"] = _joined(tables["gaps"])
    if not is_final:
        info = load(info.path)  # which may have come further meanwhile
    possible = [info.finish] if is_final else [info.finish, None]
    known = _lengths_of(info)
    known = known._replace(n_gaps=max(known.n_gaps, n_gap_rows), is_whole=is_final)
    told = known if is_final else _told_lengths(info.definition, group, known)
    agrees = any(_agrees(group, group_document(info.definition, finish, told)) for finish in possible)
    if not agrees or stored_definition(group) != info.definition:
        yield "zarr.json"
    for name, document in arrays.items():
        lengths = known if is_final else _told_by_array(info.definition, name, document, known)
        expected = (
            form_documents(info.definition, lengths._replace(is_whole=finish is not None)).get(name, b"")
            for finish in possible
        )
        if not any(_agrees(document, each) for each in expected):
            yield f"{name}/zarr.json"
    columns = clock_columns(info.definition)
    truth = {"gaps": [gap.row() for gap in info.ledger], "clock": [anchor.row(columns) for anchor in info.anchors]}
    for name, rows in tables.items():
        is_true = rows is not None and (rows == truth[name] if is_final else _was_true(rows, truth[name]))
        if not is_true or _table_shape(info.path / name, in_common=False) is None:
            yield name


def _joined(rows: list[Row] | None) -> tuple[int, list[Row] | None]:
    """How many rows a table of gaps has, and the gaps in it as the ledger counts them: the first versions gave
    adjoining retired ones a row each."""
    entries = Entries()
    try:
        for row in rows or []:
            entries.add(Gap.from_row(row))
    except ValueError:
        return len(rows or []), rows
    return len(rows or []), None if rows is None else [gap.row() for gap in entries.gaps]


def _was_true(rows: list[Row], now: list[Row]) -> bool:
    """Whether a table could once have had these rows: the last gap may have been open, and so shorter, and so may
    those that retention has added to since."""
    if len(rows) > len(now):
        return False
    for number, (row, there) in enumerate(zip(rows, now, strict=False), 1):
        may_be_shorter = number == len(rows) or row[2:3] == there[2:3] == (Cause.RETIRED,)
        if row != there and not (may_be_shorter and row[0] == there[0] and row[1] <= there[1]):
            return False
    return True


def _read(path: Path) -> bytes:
    try:
        return read_regular(path)
    except OSError:
        return b""


def _agrees(stored: bytes, expected: bytes, *, in_common: bool = False) -> bool:
    """Whether a zarr.json says all that it should. What people have added to its attributes is theirs.

    With `in_common` attributes count only where both have them.
    """
    try:
        return _documents_agree(msgspec.json.decode(stored), msgspec.json.decode(expected), in_common)
    except (ValueError, KeyError, AttributeError, TypeError):
        return False


def _documents_agree(one: dict[str, Any], other: dict[str, Any], in_common: bool) -> bool:
    attributes = one.pop("attributes"), other.pop("attributes")
    if "consolidated_metadata" not in other:  # zarr gives one to a group within the group
        one.pop("consolidated_metadata", None)
    if "consolidated_metadata" in other:
        mine, yours = (document["consolidated_metadata"].pop("metadata") for document in (one, other))
        if mine.keys() != yours.keys() or not all(_documents_agree(mine[key], yours[key], in_common) for key in mine):
            return False
    if one.get("storage_transformers") == []:  # what zarr writes where somebody has added an attribute
        del one["storage_transformers"]
    is_whole = in_common or attributes[0].keys() >= attributes[1].keys()
    return one == other and is_whole and _attributes_agree(*attributes, in_common)


def _told_names(definition: Definition, group: bytes) -> set[str]:
    """The arrays of the recording's form, of the overview those levels that the group's document tells of."""
    names = set(form_documents(definition, Lengths(0, 0, 0)))
    try:
        told = msgspec.json.decode(group)["consolidated_metadata"]["metadata"].keys()
    except (ValueError, KeyError, AttributeError, TypeError):
        return names
    levels = (each for each in told if each.startswith("overview/") and each.partition("/")[2].isdecimal())
    return names | (set(levels) if definition.overview else set())


def _told_lengths(definition: Definition, group: bytes, known: Lengths) -> Lengths:
    """The lengths that the group's document tells of, as far as the journal can have them; else `known`."""
    try:
        arrays = msgspec.json.decode(group)["consolidated_metadata"]["metadata"]
        told = known
        for name in ("audio", *(f"events/{name}" for name in ("raw", "frame", "bytes"))):
            if name in arrays:
                told = _told_by_array(definition, name, msgspec.json.encode(arrays[name]), told)
        told = told._replace(n_gaps=int(arrays["gaps"]["shape"][0]), n_anchors=int(arrays["clock"]["shape"][0]))
    except (ValueError, KeyError, IndexError, TypeError):
        return known
    is_possible = all(0 <= length <= most for length, most in zip(told, known, strict=True))
    return told if is_possible else known


def stored_definition(document: bytes) -> Definition | None:
    """The definition that a group's document has; None if that makes no sense."""
    try:
        return msgspec.convert(msgspec.json.decode(document)["attributes"]["definition"], Definition)
    except (msgspec.ValidationError, KeyError, TypeError):
        return None


def _attributes_agree(one: Any, other: Any, in_common: bool) -> bool:
    """Within an attribute an earlier version has the first of our keys, in their order; a later one adds some."""
    if not isinstance(one, dict) or not isinstance(other, dict):
        return bool(one == other)
    both = one.keys() & other.keys()
    if not all(_attributes_agree(one[key], other[key], in_common) for key in both):
        return False
    is_of_a_version = both == other.keys() or one.keys() == set(list(other)[: len(one)])
    return in_common or is_of_a_version


def _length(document: bytes, axis: int) -> int:
    """The length of an array's axis, as its zarr.json has it; -1 if that makes no sense."""
    try:
        return int(msgspec.json.decode(document)["shape"][axis])
    except (ValueError, KeyError, IndexError, TypeError):
        return -1


def _lengths_of(info: RecordingInfo) -> Lengths:
    """The lengths that the journal tells of."""
    n_events = sum(sealed.n_events for sealed in info.chunks)
    n_bytes = sum(sealed.n_event_bytes for sealed in info.chunks)
    return Lengths(info.n_frames, len(info.ledger), len(info.anchors), n_events, n_bytes)


def _told_by_array(definition: Definition, name: str, document: bytes, known: Lengths) -> Lengths:
    """The lengths of which this array tells one, as far as the journal can have it; else `known`."""
    form = definition.form
    if name.startswith("overview"):
        level = name.partition("/")[2]
        n_frames = _length(document, 1) * block_frames(int(level)) if level else known.n_frames
        told = known._replace(n_frames=min(n_frames, known.n_frames))
    elif isinstance(form, AudioForm):
        told = known._replace(n_frames=_length(document, 1))
    elif name == "events/raw":
        n_chunks = _length(document, 0) // form.chunk_bytes
        told = known._replace(n_frames=min(n_chunks * form.chunk_frames, known.n_frames))
    elif name == "events/bytes":
        told = known._replace(n_event_bytes=_length(document, 0))
    else:
        told = known._replace(n_events=_length(document, 0) if name != "events" else 0)
    return told if all(0 <= length <= most for length, most in zip(told, known, strict=True)) else known


def _table_shape(folder: Path, *, in_common: bool) -> tuple[int, Sequence[str]] | None:
    """How many rows `gaps` or `clock` has, and its columns; None where its document is none that some version of this
    program makes."""
    document = _read(folder / "zarr.json")
    n_rows, columns = _length(document, 0), columns_like(folder.name, _length(document, 1))
    if n_rows < 0 or columns is None:
        return None
    agrees = _agrees(document, table_document(folder.name, n_rows, columns), in_common=in_common)
    return (n_rows, columns) if agrees else None


def read_table(folder: Path) -> list[Row] | None:
    """The rows of a table on disk, or None if it makes no sense."""
    shape = _table_shape(folder, in_common=True)
    if shape is None:
        return None
    n_rows, columns = shape
    rows: list[Row] = []
    try:
        for chunk in range(-(-n_rows // TABLE_ROWS)):
            rows += table_rows(columns, _read(folder / "c" / str(chunk) / "0"))
    except ValueError:
        return None
    return rows[:n_rows]
