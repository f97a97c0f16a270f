"""Recordings: a Zarr v3 group per take, written so that no moment of its life leaves it unreadable.

The writer goes through the chunks in order: `checkpoint` while one fills, `seal` once it is full or the
stream ends. What it has sealed is immutable, listed in the journal with its hash and frames, and linked in
the object store. Timeline that lies wholly inside gaps has no chunk file and reads as zeros.
"""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path
from typing import NamedTuple, Self

from blake3 import blake3

from chaos.store.chunks import ChunkFiles, Put
from chaos.store.events import count_events
from chaos.store.halfmade import HalfMade
from chaos.store.info import RecordingInfo, SealedChunk, load
from chaos.store.journal import JOURNAL_NAME, Journal
from chaos.store.lines import (
    AnchorLine,
    ChunkLine,
    Definition,
    Finish,
    GapLine,
    LatencyLine,
    MarkLine,
    OpenGapLine,
    Sealing,
)
from chaos.store.metadata import Metadata, fill
from chaos.store.objects import ObjectStore
from chaos.store.retired import RetiredChunks, gaps_within, remove_chunks
from chaos.store.store import Store
from chaos.system.files import storage_errors, sync_folder, write_new
from chaos.system.folders import OpenFolder, held_folder
from chaos.terms.errors import ChaosError, InvalidRequest, StorageFailed, StorageFull, StreamExists
from chaos.terms.form import MidiForm
from chaos.terms.ledger import ClockAnchor, Coverage, Gap
from chaos.terms.marks import Mark
from chaos.terms.uri import next_free

__all__ = ["AHEAD_BYTES", "Full", "RecordingWriter"]

AHEAD_BYTES = 1 << 20
"""Chunks that large are hashed and written in threads of their own where several are full at once."""
_TAKEN = frozenset({errno.EEXIST, errno.ENOTEMPTY})


class Full(NamedTuple):
    """A chunk that is full: its slot's bytes, its first frame, and how many frames of it count."""

    chunk: int
    data: memoryview
    first_frame: int
    n_frames: int


class _Ahead(threading.Thread):
    """Writes one chunk ahead, from its making on; `digest` waits for the end and gives the hash, or raises what the
    writing did. A daemon: where storage hangs the process may end all the same."""

    def __init__(self, chunks: ChunkFiles, chunk: int, view: memoryview) -> None:
        super().__init__(name="chaosd-ahead", daemon=True)
        self._task: tuple[ChunkFiles, int, memoryview] | None = (chunks, chunk, view)
        self._digest = ""
        self._error: BaseException | None = None
        self.start()

    def run(self) -> None:
        assert self._task is not None
        (chunks, chunk, view), self._task = self._task, None
        try:
            self._digest = chunks.write_ahead(chunk, view)
        except BaseException as error:
            self._error = error

    def digest(self) -> str:
        self.join()
        if self._error is not None:
            raise self._error
        return self._digest


class RecordingWriter:
    """The one writer of a recording; alive until `finish` or `close`.

    All methods raise StorageFull or StorageFailed when storage does; the same call may then be made again and
    leaves no half file. Chunks come in order; `data` is the slot: channels x chunk_frames samples, planar. No
    view of it is kept, not even by an exception.
    """

    def __init__(
        self, store: Store, folder: OpenFolder, root: OpenFolder, definition: Definition, journal: Journal
    ) -> None:
        self._folder = folder
        self._root = root
        self.definition = definition
        self._form = definition.form
        self._named: Path | None = None  # where the journal thinks it is
        self._said = folder.name  # where people were told it is
        self.misplaced: StorageFailed | None = None
        """Once it is finished: that it isn't where it was made, and what to do."""
        self.found: RecordingInfo | None = None
        self.open_gap: Gap | None = None
        self._objects = ObjectStore(root.path / store.objects.root.relative_to(store.root))
        self._journal = journal
        self._coverage = Coverage()
        self._chunks = ChunkFiles(folder.path / self._form.folder, self._form, self._objects)
        self._metadata = Metadata(folder.path, definition)
        self._last: SealedChunk | None = None
        self._together: dict[int, SealedChunk] = {}  # what was sealed last
        self._retired = RetiredChunks()
        self._sealing: Sealing | None = None
        self._placed: tuple[int, Path] | None = None
        self._finish: Finish | None = None
        self._finished = False
        self._has_new_gaps = False

    @classmethod
    def create(cls, store: Store, definition: Definition, made: HalfMade | None = None) -> Self:
        """A new, empty recording, laid out under a hidden name and then renamed: in the folder that was `made` for it,
        if one was.

        Its journal is durable then, and its name; of the rest recovery makes what a power cut takes.

        Raises StreamExists if there is one of this URI, InvalidURI, StorageFull or StorageFailed; then nothing is left.
        """
        path = store.path(definition.uri)
        message, details = f"{definition.uri} has been recorded already", {"path": str(path)}
        free = next_free(definition.uri, lambda each: store.path(each).exists()) if path.exists() else None
        hint = "choose another take" if free is None else f"next free: {free}"
        exists = StreamExists(message, hint=hint, details=details)
        made = made or cls.half_made(store, definition)
        try:
            with storage_errors("create", path):
                if path.exists():
                    raise exists
                made.journal.begin(definition)
                writer = cls(store, made.folder, made.root, definition, made.journal)
                writer._metadata.store(0, None)
                made.named(path)
                writer._said = path
        except BaseException as error:
            made.discard()
            if isinstance(error, ChaosError) and error.details.get("errno") in _TAKEN:
                raise exists from None
            raise
        return writer

    @staticmethod
    def half_made(store: Store, definition: Definition) -> HalfMade:
        """What `create` can have beforehand: only the definition's URI and form count. Raises as `HalfMade`."""
        return HalfMade(store, definition.uri, None if definition.external else definition.form.folder)

    @classmethod
    def reopen(cls, store: Store, path: Path) -> Self:
        """Goes on with a recording whose writer died: `found` is what that left in the journal, and `unsealed` tells
        what it had saved of open chunks.

        Raises RecordingNotFound, StorageFailed, InvalidRequest if it is finished, StreamExists if its writer
        lives.
        """
        with ExitStack() as opened:
            journal = opened.enter_context(closing(Journal.reopen(path / JOURNAL_NAME)))
            info = load(path)
            if info.finish:
                raise InvalidRequest(f"{info.definition.uri} is finished", hint="record under another take")
            with storage_errors("open", path):
                folder = opened.enter_context(closing(OpenFolder(info.path)))
                root = opened.enter_context(closing(OpenFolder(store.root)))
            writer = cls(store, folder, root, info.definition, journal)
            writer.found = info
            with storage_errors("read", writer.path):
                fill(writer._metadata, info)
                writer._metadata.resume_overview(info)
            for gap in info.gaps:
                writer._coverage.add(gap.first_frame, gap.n_frames)
            for sealed in info.chunks:
                writer._coverage.add(sealed.first_frame, sealed.n_frames)
                writer._last, writer._together = sealed, {sealed.chunk: sealed}
            writer._sealing = info.sealing
            writer.open_gap = info.open_gap
            if info.open_gap is not None:
                writer._coverage.add(info.open_gap.first_frame, info.open_gap.n_frames)
            with storage_errors("tidy", writer.path):
                writer._chunks.tidy(writer._is_sealed)
            opened.pop_all()
        return writer

    def unsealed(self) -> list[tuple[int, int, bytes]]:
        """The chunks that a dead writer left unsealed: number, whole frames, bytes as `seal` takes them.

        Frames behind the whole ones are zeros. Seal them, as they are or with what staging has more, before
        anything else.
        """
        with storage_errors("read what was left in", self.path):
            left = self._chunks.left(self._is_sealed)
        begun = self._sealing
        if begun and begun.chunk in left and left[begun.chunk][0] == self.definition.chunk_frames:
            whole = self._form.whole(left[begun.chunk][1], begun.n_frames)
            left[begun.chunk] = begun.n_frames, whole
        return [(chunk, *left[chunk]) for chunk in sorted(left)]

    @property
    def path(self) -> Path:
        """Where the recording is: somebody may move the store while it is written."""
        return self._folder.name

    def _chunk_path(self, chunk: int) -> Path:
        return self.path / self._form.folder / str(chunk)

    @property
    def was_torn(self) -> bool:
        """Whether the journal's end was broken when it was reopened, and has been cut off."""
        return self._journal.was_torn

    @property
    def n_frames(self) -> int:
        """How far the timeline is accounted for: sealed or in a gap, from frame 0 on without a hole."""
        return self._coverage.to

    def checkpoint(self, chunk: int, data: memoryview, n_frames: int) -> None:
        """Makes the chunk's first `n_frames` durable in a hidden part file, writing only what is new.

        The frames given before must not have changed. An external recording keeps no audio, only its journal
        is made durable.
        """
        self._flush_journal()
        if self._is_sealed(chunk) or self.definition.external or not n_frames:
            return
        view = self._checked(chunk, data, chunk * self.definition.chunk_frames, n_frames)
        with view, self._storage("checkpoint", chunk):
            self._chunks.commit(chunk, view, n_frames)

    def seal(self, chunk: int, data: memoryview, first_frame: int, n_frames: int) -> SealedChunk:
        """Makes the chunk immutable, durable, hashed, listed and visible; `n_frames` of it count.

        The file has the chunk's full size, with what the slot holds behind the last frame (zeros). Sealing
        the chunk that was sealed last again gives the same answer.
        """
        return self.seal_all([Full(chunk, data, first_frame, n_frames)])[0]

    def seal_all(self, full: Sequence[Full], meanwhile: Callable[[], None] = lambda: None) -> list[SealedChunk]:
        """`seal` of chunks that are full at once, in their order: where that pays they are hashed and written side by
        side, while `meanwhile` runs, and what makes names durable is done once for all.

        What `meanwhile` enters into the ledger is durable before the chunks are.
        """
        if self.definition.external:
            raise ValueError("an external recording seals with seal_external")
        new = [each for each in full if each.chunk not in self._together]
        if not new:
            meanwhile()
            return self._commit(full)
        with ExitStack() as stack:
            views = [stack.enter_context(self._checked(*each)) for each in new]
            stack.enter_context(self._storage("seal", new[0].chunk))
            put = self._hashed(new, views, meanwhile)
            for each in new:
                self._announce_partial(each.chunk, each.n_frames)
            if self._has_new_gaps:  # else a power cut leaves the chunks' zeros without them
                self._flush_journal()
            self._chunks.put(put)
            is_midi = isinstance(self._form, MidiForm)
            tell = self._metadata.events if is_midi else self._metadata.samples
            self._together = {each.chunk: self._together[each.chunk] for each in full if each not in new}
            for each, (chunk, view, n_frames, digest, _) in zip(new, put, strict=True):
                events = count_events(view) if is_midi else (0, 0)
                sealed = SealedChunk(chunk, str(self._chunk_path(chunk)), digest, each.first_frame, n_frames, *events)
                tell(sealed, view)
                self._sealed(sealed)
        return self._commit(full)

    def _hashed(self, new: Sequence[Full], views: Sequence[memoryview], meanwhile: Callable[[], None]) -> list[Put]:
        """The chunks with their hashes; where several are large their files are there, too."""
        pairs = list(zip(new, views, strict=True))
        if len(new) == 1 or self._form.chunk_bytes < AHEAD_BYTES:
            meanwhile()
            return [Put(each.chunk, view, each.n_frames, blake3(view).hexdigest()) for each, view in pairs]
        begun = {
            each.chunk: _Ahead(self._chunks, each.chunk, view)
            for each, view in pairs
            if not self._chunks.has_part(each.chunk)
        }
        try:
            meanwhile()
            return [
                Put(each.chunk, view, each.n_frames, begun[each.chunk].digest(), is_ahead=True)
                if each.chunk in begun
                else Put(each.chunk, view, each.n_frames, blake3(view).hexdigest())
                for each, view in pairs
            ]
        finally:
            for writing in begun.values():  # none has a view of a slot when this ends
                writing.join()

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
                if self._has_new_gaps:  # else a power cut leaves the chunk's zeros without them
                    self._flush_journal()
                self._place(chunk, view, path)
            self._together = {}
            self._sealed(SealedChunk(chunk, str(path), digest, first_frame, n_frames))
        self.flush()
        assert self._last is not None
        return self._last

    def gap(self, gap: Gap) -> None:
        """Enters a closed gap into the ledger; it is durable with the next checkpoint, seal or flush."""
        if gap.first_frame < 0 or gap.n_frames < 0:
            raise ValueError(f"{gap} is not a gap")
        self._journal.append(GapLine.of(gap))
        self._has_new_gaps = True
        self._metadata.gap(gap)
        self._coverage.add(gap.first_frame, gap.n_frames)
        if self.open_gap is not None and self.open_gap.first_frame == gap.first_frame and gap.n_frames:
            self.open_gap = None
            self._metadata.open_gap(None)

    def extend(self, gap: Gap) -> None:
        """Tells of a gap that has not ended, as far as it reaches: `open_gap` from then on, until `gap` is called
        with what has become of it. Durable with the next checkpoint, seal or flush, and before anything in it is."""
        if self.open_gap != gap:
            self._journal.append(OpenGapLine.of(gap))
            self._has_new_gaps = True
            self._metadata.open_gap(gap)
            self._coverage.add(gap.first_frame, gap.n_frames)
            self.open_gap = gap

    def anchor(self, anchor: ClockAnchor) -> None:
        """Enters a clock anchor; it is durable with the next checkpoint, seal or flush.

        While the recording goes on, the Zarr table may lag some seconds behind the journal, which has all.
        """
        self._journal.append(AnchorLine.of(anchor))
        self._metadata.anchor(anchor)

    def latency(self, line: LatencyLine) -> None:
        """Enters what the device says of its latency; it is durable with the next checkpoint, seal or flush."""
        self._journal.append(line)

    def mark(self, mark: Mark) -> None:
        """Enters a mark; it is durable with the next checkpoint, seal or flush."""
        self._journal.append(MarkLine(mark.frame, mark.label))

    def flush(self) -> None:
        """Makes gaps, marks and anchors durable and visible."""
        self._flush_journal()
        self._store_metadata()

    def _flush_journal(self) -> None:
        """Also remembers where all lies now: where its filesystem goes and comes back it is looked for there, and
        somebody may have moved the store since it was opened."""
        name = self._folder.name
        if name is not self._named:
            self._journal.moved(name / JOURNAL_NAME)
            self._named = name
        self._root.refresh()
        self._journal.flush()
        self._has_new_gaps = False

    def retire(self, chunks: Iterable[SealedChunk], gaps: Iterable[Gap]) -> list[Gap]:
        """Removes sealed chunks, once the ledger durably says which gaps have come of them, and gives these.

        `gaps` are what was planned for all the chunks. What was retired already, is the newest, or is another
        recording's (the stream may have rolled since), is left out.
        """
        mine = [each for each in chunks if self._may_go(each)]
        left = gaps_within(gaps, mine)
        for gap in left:
            self.gap(gap)
        self._retired.add(mine)
        self.flush()
        with self._storage("remove events from"):
            self._metadata.clear_events(mine)
            self._metadata.clear_overview(self.n_frames, mine)
        remove_chunks(self._objects, mine)
        return left

    def _may_go(self, sealed: SealedChunk) -> bool:
        is_mine = self._last is not None and Path(sealed.path) == self._chunk_path(sealed.chunk)
        return is_mine and sealed.chunk < self._last.chunk and sealed.chunk not in self._retired  # type: ignore[union-attr]

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
        self.misplaced = self._missed()
        self.close()

    def _missed(self) -> StorageFailed | None:
        """Whether the folder and the journal that were written have their names."""
        said, found = self._said, self.path
        with suppress(OSError):
            if found == said and self._folder.is_at(said) and self._journal.is_at(said / JOURNAL_NAME):
                return None
        details = {"path": str(said), "found": str(found)}
        if found != said:
            hint = f"move it back to where it was, or read it where it is: chaosctl verify '{found}'"
            return StorageFailed(f"the recording is not at {said} any more, but at {found}", hint=hint, details=details)
        message = f"what lies at {said} is not what was recorded: that was moved, replaced or unmounted"
        hint = f"put it back, or mount it again, as it was, and then type: chaosctl verify '{said}'"
        return StorageFailed(message, hint=hint, details=details)

    def close(self) -> None:
        """Closes all files and gives up the lock. A recording that was not finished is then "interrupted"; what its
        part files hold stays."""
        self._chunks.close()
        self._journal.close()
        self._folder.close()
        self._root.close()

    @contextmanager
    def _storage(self, doing: str, chunk: int | None = None) -> Iterator[None]:
        """Turns an OSError into a storage error, of a chunk or of the recording; the next try is made in the folders
        that have their names then, if the journal has found its own: their filesystem may have come back."""
        try:
            try:
                yield
            except OSError:
                with storage_errors(doing, self.path if chunk is None else self._chunk_path(chunk)):
                    raise
        except (StorageFull, StorageFailed):
            if self._journal.look_again():
                with suppress(OSError):
                    self._folder.look_again()
                    self._root.look_again()
            raise

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
        if data.nbytes != self._form.chunk_bytes:
            raise ValueError(f"a chunk has {self._form.chunk_bytes} bytes, not {data.nbytes}")
        return data.cast("B")

    def _announce_partial(self, chunk: int, n_frames: int) -> None:
        line = Sealing(chunk, n_frames)
        if n_frames < self.definition.chunk_frames and self._sealing != line:
            self._journal.append(line)
            self._sealing = line
        if self._sealing == line:
            self._flush_journal()

    def _place(self, chunk: int, view: memoryview, path: Path) -> None:
        with held_folder(path.parent, make=True) as folder:
            hidden = folder / f".{path.name}.new"
            if self._placed != (chunk, path):
                write_new(hidden, view)
                try:
                    os.link(hidden, folder / path.name)
                except FileExistsError:
                    hidden.unlink()
                    hint = "name a file that does not exist yet"
                    raise InvalidRequest(f"{path} already exists", hint=hint) from None
                self._placed = chunk, path
            hidden.unlink(missing_ok=True)
            sync_folder(folder)

    def _sealed(self, sealed: SealedChunk) -> None:
        path = sealed.path if self.definition.external else None
        events = sealed.n_events, sealed.n_event_bytes
        self._journal.append(ChunkLine(sealed.chunk, sealed.first_frame, sealed.n_frames, sealed.hash, path, *events))
        self._coverage.add(sealed.first_frame, sealed.n_frames)
        self._last = sealed
        self._together[sealed.chunk] = sealed

    def _commit(self, full: Sequence[Full]) -> list[SealedChunk]:
        self.flush()
        return [self._together[each.chunk] for each in full]

    def _store_metadata(self) -> None:
        with self._storage("write the metadata of"):
            self._metadata.store(self._finish.n_frames if self._finish else self._coverage.to, self._finish)
