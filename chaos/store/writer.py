"""Recordings: a Zarr v3 group per take, written so that no moment of its life leaves it unreadable.

The writer goes through the chunks in order: `checkpoint` while one fills, `seal` once it is full or the
stream ends. What it has sealed is immutable, listed in the journal with its hash and frames, and linked in
the object store. Timeline that lies wholly inside gaps has no chunk file and reads as zeros.
"""

from __future__ import annotations

import errno
import os
import secrets
import shutil
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Self

from blake3 import blake3

from chaos.store.info import (
    RecordingInfo,
    RecordingSummary,
    SealedChunk,
    list_recordings,
    load,
    recording_path,
)
from chaos.store.journal import (
    AnchorLine,
    ChunkLine,
    Definition,
    Finish,
    GapLine,
    Journal,
    SampleFormat,
    Sealing,
)
from chaos.store.metadata import Lengths, Table, anchor_row, audio_document, gap_row, group_document
from chaos.store.objects import ObjectStore
from chaos.store.part import Part, committed_frames
from chaos.system.files import FULL, make_folders, replace, storage_errors, sync_folder, write_new
from chaos.terms.errors import ChaosError, InvalidRequest, StreamExists
from chaos.terms.ledger import Cause, ClockAnchor, Confidence, Coverage, Gap

__all__ = [
    "Definition",
    "RecordingInfo",
    "RecordingSummary",
    "RecordingWriter",
    "SampleFormat",
    "SealedChunk",
    "list_recordings",
    "load",
    "rebuild_metadata",
    "recording_path",
    "remove_chunks",
    "retired_gaps",
]

_CLOCK_S = 5.0
_TAKEN = frozenset({errno.EEXIST, errno.ENOTEMPTY})


def rebuild_metadata(path: Path) -> None:
    """Writes all metadata of a recording anew from its journal. Raises StreamExists while a writer has it."""
    info = load(path)
    if info.is_live:
        raise StreamExists(f"{path} is being written", hint="stop that stream first")
    gaps, clock = Table(), Table()
    for gap in info.gaps:
        gaps.append(gap_row(gap))
    for anchor in info.anchors:
        clock.append(anchor_row(anchor))
    with storage_errors("rebuild the metadata of", path):
        gaps.store(path / "gaps")
        clock.store(path / "clock")
        if not info.definition.external:
            make_folders(path / "audio")
            replace(path / "audio" / "zarr.json", audio_document(info.definition, info.n_frames))
        n_frames = None if info.definition.external else info.n_frames
        lengths = Lengths(n_frames, gaps.n_rows, clock.n_rows)
        replace(path / "zarr.json", group_document(info.definition, info.finish, lengths))


def retired_gaps(chunks: Iterable[SealedChunk], gaps: Iterable[Gap]) -> list[Gap]:
    """The ledger entries for chunks (in order) that are retired: their frames which are in no gap so far."""
    known = sorted((gap.first_frame, gap.end_frame) for gap in gaps if gap.n_frames)
    spans: list[tuple[int, int]] = []
    for sealed in chunks:
        reached, end = sealed.first_frame, sealed.first_frame + sealed.n_frames
        for first, last in [*(span for span in known if span[0] < end and reached < span[1]), (end, end)]:
            if first > reached:
                begin = spans.pop()[0] if spans and spans[-1][1] == reached else reached
                spans.append((begin, first))
            reached = max(reached, last)
    return [Gap(first, end - first, Cause.RETIRED, Confidence.EXACT) for first, end in spans]


def remove_chunks(objects: ObjectStore, chunks: Iterable[SealedChunk]) -> None:
    """Removes files of chunks that are retired, and their objects unless others have them."""
    for sealed in chunks:
        with storage_errors("remove", Path(sealed.path)):
            Path(sealed.path).unlink(missing_ok=True)
            objects.drop(sealed.hash)


class RecordingWriter:
    """The one writer of a recording; alive until `finish` or `close`.

    All methods raise StorageFull or StorageFailed when storage does; the same call may then be made again and
    leaves no half file. Chunks come in order; `data` is the slot: channels x chunk_frames samples, planar. No
    view of it is kept, not even by an exception.
    """

    def __init__(self, store: Path, path: Path, definition: Definition, journal: Journal) -> None:
        self.path = path
        self.definition = definition
        self._objects = ObjectStore(store / "objects")
        self._journal = journal
        self._coverage = Coverage()
        self._gaps = Table()
        self._clock = Table()
        self._audio = (-1, False)
        self._clock_shown = -_CLOCK_S
        self._group: tuple[Finish | None, Lengths] | None = None
        self._parts: dict[int, Part] = {}
        self._last: SealedChunk | None = None
        self._sealing: Sealing | None = None
        self._placed: tuple[int, Path] | None = None
        self._finish: Finish | None = None
        self._finished = False

    @classmethod
    def create(cls, store: Path, definition: Definition) -> Self:
        """A new, empty recording, laid out under a hidden name and then renamed.

        Raises StreamExists if there is one of this URI, InvalidURI, StorageFull or StorageFailed.
        """
        store = store.absolute()
        path = recording_path(store, definition.uri)
        message, details = f"{definition.uri} has been recorded already", {"path": str(path)}
        exists = StreamExists(message, hint="choose another take", details=details)
        if path.exists():
            raise exists
        with storage_errors("create", path):
            make_folders(path.parent)
        made = hidden = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
        journal: Journal | None = None
        try:
            with storage_errors("create", path):
                hidden.mkdir()
                journal = Journal.create(hidden / "journal.jsonl", definition)
                writer = cls(store, hidden, definition, journal)
                writer._store_metadata()
                hidden.rename(path)
                made = writer.path = path
                journal.moved(path / "journal.jsonl")
                sync_folder(path.parent)
        except BaseException as error:
            if journal:
                journal.close()
            shutil.rmtree(made, ignore_errors=True)
            if isinstance(error, ChaosError) and error.details.get("errno") in _TAKEN:
                raise exists from None
            raise
        return writer

    @classmethod
    def reopen(cls, store: Path, path: Path) -> Self:
        """Goes on with a recording whose writer died; `unsealed` tells what that had saved of open chunks.

        Raises RecordingNotFound, StorageFailed, InvalidRequest if it is finished, StreamExists if its writer
        lives.
        """
        info = load(path)
        if info.finish and not info.is_live:
            raise InvalidRequest(f"{info.definition.uri} is finished", hint="record under another take")
        journal = Journal.reopen(info.path / "journal.jsonl")
        writer = cls(store.absolute(), info.path, info.definition, journal)
        for gap in info.gaps:
            writer._gaps.append(gap_row(gap))
            writer._coverage.add(gap.first_frame, gap.n_frames)
        for anchor in info.anchors:
            writer._clock.append(anchor_row(anchor))
        for sealed in info.chunks:
            writer._coverage.add(sealed.first_frame, sealed.n_frames)
            writer._last = sealed
        writer._sealing = info.sealing
        writer._sweep()
        return writer

    def _sweep(self) -> None:
        """Removes what a dead writer left that holds no frame which is not elsewhere."""
        shape = self.definition
        with storage_errors("tidy", self._chunks):
            for path in self._chunks.glob(".*"):
                chunk = path.name.removeprefix(".").removesuffix(".part")
                if not (
                    chunk.isdecimal()
                    and not self._is_sealed(int(chunk))
                    and committed_frames(path, shape.channels, shape.chunk_frames, shape.item_size)
                ):
                    path.unlink()

    def unsealed(self) -> list[tuple[int, int, bytes]]:
        """The chunks that a dead writer left unsealed: number, whole frames, bytes as `seal` takes them.

        Frames behind the whole ones are zeros. Seal them, as they are or with what staging has more, before
        anything else.
        """
        shape = self.definition
        left: dict[int, tuple[int, bytes]] = {}
        with storage_errors("read what was left in", self._chunks):
            for path in sorted(self._chunks.glob("*")):
                name = path.name.removeprefix(".").removesuffix(".part")
                if not name.isdecimal() or self._is_sealed(int(name)):
                    continue
                n_frames = committed_frames(path, shape.channels, shape.chunk_frames, shape.item_size)
                if n_frames == shape.chunk_frames and self._sealing and self._sealing.chunk == int(name):
                    n_frames = self._sealing.n_frames
                left[int(name)] = n_frames, self._whole_frames(path, n_frames)
        return [(chunk, *left[chunk]) for chunk in sorted(left)]

    def _whole_frames(self, path: Path, n_frames: int) -> bytes:
        data = path.read_bytes()[: self.definition.chunk_bytes]
        plane = self.definition.chunk_frames * self.definition.item_size
        kept = n_frames * self.definition.item_size
        planes = (data[begin : begin + kept] for begin in range(0, len(data), plane))
        return b"".join(whole.ljust(plane, b"\0") for whole in planes)

    @property
    def n_frames(self) -> int:
        """How far the timeline is accounted for: sealed or in a gap, from frame 0 on without a hole."""
        return self._coverage.to

    def checkpoint(self, chunk: int, data: memoryview, n_frames: int) -> None:
        """Makes the chunk's first `n_frames` durable in a hidden part file, writing only what is new.

        The frames given before must not have changed. An external recording keeps no audio, only its journal
        is made durable.
        """
        self._journal.flush()
        if self._is_sealed(chunk) or self.definition.external or not n_frames:
            return
        view = self._checked(chunk, data, chunk * self.definition.chunk_frames, n_frames)
        with view, storage_errors("checkpoint", self._chunks / str(chunk)):
            if chunk not in self._parts:
                shape = self.definition
                self._parts[chunk] = Part(
                    self._part_path(chunk), shape.channels, shape.chunk_frames, shape.item_size
                )
            try:
                self._parts[chunk].commit(view, n_frames)
            except OSError as error:
                self._give_up_part(chunk, error)
                raise

    def seal(self, chunk: int, data: memoryview, first_frame: int, n_frames: int) -> SealedChunk:
        """Makes the chunk immutable, durable, hashed, listed and visible; `n_frames` of it count.

        The file has the chunk's full size, with what the slot holds behind the last frame (zeros). Sealing
        the chunk that was sealed last again gives the same answer.
        """
        if self.definition.external:
            raise ValueError("an external recording seals with seal_external")
        if not (self._last and self._last.chunk == chunk):
            path = self._chunks / str(chunk)
            with self._checked(chunk, data, first_frame, n_frames) as view, storage_errors("seal", path):
                digest = blake3(view).hexdigest()
                self._put(chunk, view, n_frames, digest)
            self._sealed(SealedChunk(chunk, str(path), digest, first_frame, n_frames))
        return self._commit()

    def seal_external(
        self, chunk: int, data: memoryview, path: Path, first_frame: int, n_frames: int
    ) -> SealedChunk:
        """Writes the full chunk to a controller's new file, durably, and lists it.

        Missing folders are made. Raises InvalidRequest if the name is taken: nothing is overwritten.
        """
        if not self.definition.external:
            raise ValueError("only an external recording seals with seal_external")
        if not (self._last and self._last.chunk == chunk):
            path = path.absolute()
            with self._checked(chunk, data, first_frame, n_frames) as view, storage_errors("write", path):
                digest = blake3(view).hexdigest()
                self._place(chunk, view, path)
                sync_folder(path.parent)
            self._sealed(SealedChunk(chunk, str(path), digest, first_frame, n_frames))
        return self._commit()

    def gap(self, gap: Gap) -> None:
        """Enters a closed gap into the ledger; it is durable with the next checkpoint, seal or flush."""
        if gap.first_frame < 0 or gap.n_frames < 0:
            raise ValueError(f"no gap can be {gap}")
        self._journal.append(GapLine.of(gap))
        self._gaps.append(gap_row(gap))
        self._coverage.add(gap.first_frame, gap.n_frames)

    def anchor(self, anchor: ClockAnchor) -> None:
        """Enters a clock anchor; it is durable with the next checkpoint, seal or flush.

        While the recording goes on, the Zarr table may lag some seconds behind the journal, which has all.
        """
        self._journal.append(AnchorLine.of(anchor))
        self._clock.append(anchor_row(anchor))

    def flush(self) -> None:
        """Makes gaps and anchors durable and visible."""
        self._journal.flush()
        self._store_metadata()

    def retire(self, chunks: Iterable[SealedChunk], gaps: Iterable[Gap]) -> None:
        """Removes sealed chunks, once the ledger durably says that these gaps have come of them."""
        for gap in gaps:
            self.gap(gap)
        self.flush()
        remove_chunks(self._objects, chunks)

    def finish(self, n_frames: int, clean: bool) -> None:
        """Ends the recording, with a timeline of `n_frames`; harmless if it has come through already."""
        if self._finished:
            return
        if self._finish is None:
            if n_frames < self._coverage.to:
                raise ValueError(f"{n_frames} frames are fewer than the {self._coverage.to} that are stored")
            self._finish = Finish(n_frames, clean)
            self._journal.append(self._finish)
        self.flush()
        self._finished = True
        self.close()

    def close(self) -> None:
        """Lets go of files and lock. A recording that was not finished is then "interrupted"; what its part
        file holds stays."""
        for part in self._parts.values():
            part.close()
        self._parts.clear()
        self._journal.close()

    @property
    def _chunks(self) -> Path:
        return self.path / "audio" / "c" / "0"

    def _part_path(self, chunk: int) -> Path:
        return self._chunks / f".{chunk}.part"

    def _is_sealed(self, chunk: int) -> bool:
        return self._last is not None and chunk <= self._last.chunk

    def _checked(self, chunk: int, data: memoryview, first_frame: int, n_frames: int) -> memoryview:
        """A view of the slot as bytes, to be released. A caller's mistake is a ValueError, before anything is
        written."""
        shape = self.definition
        if self._is_sealed(chunk):
            raise ValueError(f"chunk {chunk} comes after chunk {self._last.chunk if self._last else None}")
        if first_frame != chunk * shape.chunk_frames:
            raise ValueError(f"chunk {chunk} begins at frame {chunk * shape.chunk_frames}, not {first_frame}")
        if not 0 < n_frames <= shape.chunk_frames:
            raise ValueError(f"{n_frames} frames of a chunk of {shape.chunk_frames}")
        if data.nbytes != shape.chunk_bytes:
            raise ValueError(f"a chunk has {shape.chunk_bytes} bytes, not {data.nbytes}")
        return data.cast("B")

    def _put(self, chunk: int, view: memoryview, n_frames: int, digest: str) -> None:
        """Brings the chunk under its name, from the object store if that has it, else from the part file
        if there is one, else in one go. Until then a part holds all that was committed."""
        path, part_path = self._chunks / str(chunk), self._part_path(chunk)
        fresh = path.with_name(f".{chunk}.new")
        fresh.unlink(missing_ok=True)
        self._announce_partial(chunk, n_frames)
        part = self._parts.get(chunk)
        ready = fresh
        if not self._objects.link(digest, fresh):
            if part:
                try:
                    part.commit(view, n_frames)
                    part.finish(view)
                except OSError as error:
                    self._give_up_part(chunk, error)
                    raise
                ready = part_path
            else:
                write_new(fresh, view, 0o444)
            self._objects.add(digest, ready)
        ready.replace(path)
        if part:
            del self._parts[chunk]
            part.close()
        for left_over in (fresh, part_path):
            left_over.unlink(missing_ok=True)
        sync_folder(self._chunks)

    def _give_up_part(self, chunk: int, error: OSError) -> None:
        """A part that can't be written is made anew next time, unless all it wants is space."""
        if error.errno not in FULL:
            self._parts.pop(chunk).close()

    def _announce_partial(self, chunk: int, n_frames: int) -> None:
        line = Sealing(chunk, n_frames)
        if n_frames < self.definition.chunk_frames and self._sealing != line:
            self._journal.append(line)
            self._sealing = line
        if self._sealing == line:
            self._journal.flush()

    def _place(self, chunk: int, view: memoryview, path: Path) -> None:
        hidden = path.with_name(f".{path.name}.new")
        if self._placed != (chunk, path):
            make_folders(path.parent)
            write_new(hidden, view)
            try:
                os.link(hidden, path)
            except FileExistsError:
                hidden.unlink()
                hint = "name a file that does not exist yet"
                raise InvalidRequest(f"{path} exists and is left as it is", hint=hint) from None
            self._placed = chunk, path
        hidden.unlink(missing_ok=True)

    def _sealed(self, sealed: SealedChunk) -> None:
        path = sealed.path if self.definition.external else None
        self._journal.append(ChunkLine(sealed.chunk, sealed.first_frame, sealed.n_frames, sealed.hash, path))
        self._coverage.add(sealed.first_frame, sealed.n_frames)
        self._last = sealed

    def _commit(self) -> SealedChunk:
        assert self._last is not None
        self.flush()
        return self._last

    def _store_metadata(self) -> None:
        """Replaces what has changed: tables, then the audio's shape, then the group, which tells of all.

        Only the last version, and the first, is made durable: recovery makes it all again from the journal.
        """
        last = self._finish is not None
        durable = last or self._group is None
        with storage_errors("write the metadata of", self.path):
            self._gaps.store(self.path / "gaps", durable=durable)
            if durable or not self._clock.n_stored or time.monotonic() - self._clock_shown >= _CLOCK_S:
                self._clock.store(self.path / "clock", durable=durable)
                self._clock_shown = time.monotonic()
            n_frames = self._finish.n_frames if self._finish else self._coverage.to
            if (n_frames, last) != self._audio and not self.definition.external:
                make_folders(self._chunks)
                document = audio_document(self.definition, n_frames)
                replace(self.path / "audio" / "zarr.json", document, durable=durable)
                self._audio = n_frames, last
            length = None if self.definition.external else n_frames
            lengths = Lengths(length, self._gaps.n_stored, self._clock.n_stored)
            if (self._finish, lengths) != self._group:
                document = group_document(self.definition, self._finish, lengths)
                replace(self.path / "zarr.json", document, durable=durable)
                self._group = self._finish, lengths
