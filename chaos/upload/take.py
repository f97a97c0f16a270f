"""One take on its way: chunks first, then the journal, then the tables, then the group's zarr.json, which tells of all.

So the tree over there is a valid recording at every moment, and the beginning of the one here. Its chunks are the same
bytes under the same hashes, each put only where none is yet. Its ledger tells what is missing there: a chunk that
retention took here after it was uploaded is no gap there, and one that it took before is. The overview is left out: it
follows from the samples.

Metadata is written by the store's own code into a folder of the uploader's, and what has changed of it goes up: at most
some tens of files a day.
"""

from __future__ import annotations

import shutil
from collections import deque
from collections.abc import Callable
from concurrent.futures import Executor, Future
from contextlib import suppress
from pathlib import Path
from typing import Literal, NamedTuple

import msgspec
from blake3 import blake3

from chaos.remote.bucket import Bucket, KeyTaken
from chaos.remote.layout import JOURNAL, TakeEntry, entry_key, segment_key, take_key
from chaos.store.columns import SealedChunk
from chaos.store.digest import Digest
from chaos.store.info import RecordingInfo, load
from chaos.store.journal import JOURNAL_NAME
from chaos.store.lines import AnchorLine, ChunkLine, Definition, Finish, GapLine, Header, Line, OpenGapLine
from chaos.store.metadata import Metadata
from chaos.store.retired import gaps_within
from chaos.store.signature import SIGNATURES_NAME
from chaos.store.store import name_and_take
from chaos.store.uploaded import Progress
from chaos.system.files import MOST_BYTES, read_regular, storage_errors
from chaos.terms.errors import RecordingNotFound, StorageFailed
from chaos.terms.form import MidiForm
from chaos.terms.ledger import Cause, Gap
from chaos.upload.journal import Chain, journal_lines
from chaos.upload.pace import Pace

__all__ = ["TakeUpload"]

_SEGMENT_BYTES = 1 << 16
_AHEAD_BYTES = 32 << 20
_MOST_AHEAD = 4
_RETIRED = Cause.RETIRED.label
_GROUP = "zarr.json"


class _Sent(NamedTuple):
    """What has become of a chunk: it is there, or why not. `content` of one of MIDI."""

    outcome: Literal["there", "retired", "damaged"]
    n_bytes: int
    content: bytes | None = None


class _Waiting(NamedTuple):
    raw: bytes
    line: Line | None
    end: int
    sent: Future[_Sent] | None


class TakeUpload:
    """The upload of the take in `path`, as far as `known` says that it has come; alive until `close`.

    `folder` is the uploader's own for it, and is made anew; `bucket` may be replaced by another one of the same URL.
    `is_behind`: more of it is there than is known of; to tell of less would take that back.
    Methods raise StorageFailed, Unauthorized, or RecordingNotFound where the take has been removed; they may be called
    again.
    """

    def __init__(
        self, bucket: Bucket, recorder: str, path: Path, folder: Path, pace: Pace, known: Progress | None
    ) -> None:
        self.path = path
        self.bucket = bucket
        self._recorder = recorder
        self._folder = folder
        self._pace = pace
        self._journal = path / JOURNAL_NAME
        header = self._header()
        header = msgspec.structs.replace(header, definition=msgspec.structs.replace(header.definition, overview=False))
        self.definition: Definition = header.definition
        self.is_external = header.definition.external
        started_ns = header.definition.started_wall_ns
        if known is not None and known.started_wall_ns != started_ns:
            known = None  # of a take that had this name before
        self.progress = known if known is not None else Progress(started_ns)
        self._key = take_key(*name_and_take(path), started_ns)
        self._digest = Digest.begin(header)
        self._chain = Chain()
        self._absent = set(self.progress.absent)
        self._damaged: dict[int, int] = {}  # chunks that can't go up, each with its first frame
        self._read = 0
        self._next_chunk = 0
        self._n_bytes = self.progress.n_bytes
        self._worst_ns: int | None = 0
        self._open_from: int | None = None
        self._local: RecordingInfo | None = None
        self._finish: Finish | None = None
        self._is_new = known is None
        self.is_behind = known is None and bucket.find(f"{self._key}/{_GROUP}") is not None
        self._finish_at: int | None = None
        self._mtime_ns = 0
        self._looked_at = -1
        self._waiting: deque[_Waiting] = deque()
        self._put_marks: dict[str, tuple[int, int, int]] = {}
        shutil.rmtree(folder, ignore_errors=True)
        with storage_errors("make", folder):
            folder.mkdir(mode=0o700, parents=True)
        self._metadata = Metadata(folder, header.definition)
        self._replay()

    def _header(self) -> Header:
        try:
            for raw, _ in journal_lines(self._journal, 0):
                header = Chain().read(raw)
                if isinstance(header, Header):
                    return header
                break
        except StorageFailed:
            if not self._journal.exists():
                raise RecordingNotFound(f"no recording at {self.path}") from None
            raise
        raise StorageFailed(f"the journal of {self.path} has no readable first line", hint=f"restore {JOURNAL_NAME}")

    def _replay(self) -> None:
        """Takes in again what is known to be there."""
        until = self.progress.n_read
        for raw, end in journal_lines(self._journal, 0):
            if end > until:
                break
            line = self._chain.read(raw)
            content = None
            if isinstance(line, ChunkLine) and isinstance(self.definition.form, MidiForm) and line.n_events:
                content = self._content(line)
            sent = _Sent("there", 0, content)
            if isinstance(line, ChunkLine) and line.chunk in self.progress.damaged:
                sent = self._send_again(line)
            elif isinstance(line, ChunkLine) and line.chunk in self._absent:
                sent = _Sent("retired", 0, content)
            self._absorb(raw, line, end, sent)

    def _send_again(self, line: ChunkLine) -> _Sent:
        """A chunk that was damaged here: somebody may have put it right."""
        sent = self._send_chunk(line)
        if sent.outcome != "there":
            return _Sent("damaged", 0)
        self._absent.discard(line.chunk)
        self._n_bytes += sent.n_bytes
        return sent

    def _content(self, line: ChunkLine) -> bytes | None:
        """Of a chunk of events that was uploaded: retention may have taken it here."""
        with suppress(OSError):
            return read_regular(Path(self._sealed(line).path), MOST_BYTES, follow=True)
        return self.bucket.find(self._chunk_key(line.chunk))

    # ---- the way up

    @property
    def uri(self) -> str:
        return self.definition.uri

    @property
    def is_published(self) -> bool:
        """Whether all that was sent is told of over there."""
        return self.progress.n_read == self._read and set(self.progress.damaged) == self._damaged.keys()

    @property
    def n_frames(self) -> int:
        """Before which all was sent."""
        return self._digest.n_frames

    @property
    def has_ended(self) -> bool:
        """Whether the recording has, as far as it was sent."""
        return self._finish is not None

    def has_more(self) -> bool:
        """Whether the journal has grown since. Raises RecordingNotFound."""
        try:
            found = self._journal.stat()
        except FileNotFoundError:
            raise RecordingNotFound(f"no recording at {self.path}") from None
        self._mtime_ns = found.st_mtime_ns
        return found.st_size != self._looked_at  # its last line may be torn, and so never be read

    def send(self, pool: Executor, is_due: Callable[[], bool]) -> None:
        """Sends what is sealed, in order, until there is no more or `is_due` says that it is enough for now."""
        n_ahead = max(1, min(_MOST_AHEAD, _AHEAD_BYTES // self.definition.form.chunk_bytes))
        with storage_errors("read", self._journal):
            size = self._journal.stat().st_size
        try:
            for raw, end in journal_lines(self._journal, self._read):
                line = self._chain.read(raw)
                sent = pool.submit(self._send_chunk, line) if isinstance(line, ChunkLine) else None
                self._waiting.append(_Waiting(raw, line, end, sent))
                while sum(each.sent is not None for each in self._waiting) >= n_ahead:
                    self._settle()
                if is_due():
                    size = -1
                    break
            while self._waiting:
                self._settle()
            self._looked_at = size
        except BaseException:
            for each in self._waiting:
                if each.sent is not None:
                    each.sent.cancel()
            self._waiting.clear()
            raise

    def _settle(self) -> None:
        raw, line, end, sent = self._waiting[0]
        outcome = sent.result() if sent is not None else _Sent("there", 0)
        self._waiting.popleft()
        self._n_bytes += outcome.n_bytes
        self._absorb(raw, line, end, outcome)

    def _send_chunk(self, line: ChunkLine) -> _Sent:
        """On a thread of the pool."""
        sealed, key = self._sealed(line), self._chunk_key(line.chunk)
        is_midi = isinstance(self.definition.form, MidiForm)
        data: bytes | None = None
        with storage_errors("read", Path(sealed.path)), suppress(FileNotFoundError):
            data = read_regular(Path(sealed.path), MOST_BYTES, follow=True)
        if data is None or blake3(data).hexdigest() != sealed.hash:
            there = self.bucket.find(key)  # where what was known of the upload is lost, retention may have been here
            if there is not None and blake3(there).hexdigest() == sealed.hash:
                return _Sent("there", 0, there if is_midi else None)
            return _Sent("retired" if data is None else "damaged", 0)
        self._pace.ahead(len(data))
        n_bytes = len(data)
        try:
            self.bucket.put_new(key, data)
        except KeyTaken:
            n_bytes = 0
            there = self.bucket.get(key)
            if blake3(there).hexdigest() != sealed.hash:  # no store of ours wrote that: half an object, or decay
                self.bucket.put(key, data)
                n_bytes = len(data)
        return _Sent("there", n_bytes, data if is_midi else None)

    def _sealed(self, line: ChunkLine) -> SealedChunk:
        path = line.path or str(self.path / self.definition.form.folder / str(line.chunk))
        return SealedChunk(
            line.chunk, path, line.hash, line.first_frame, line.n_frames, line.n_events, line.n_event_bytes
        )

    def _chunk_key(self, chunk: int) -> str:
        return f"{self._key}/{self.definition.form.folder}/{chunk}"

    # ---- what is told of it

    def _absorb(self, raw: bytes, line: Line | None, end: int, sent: _Sent) -> None:
        """The line is part of the uploaded recording from now on."""
        self._read = end
        if isinstance(line, GapLine) and line.cause == _RETIRED:
            self._chain.drop(raw)
            return
        if isinstance(line, Header) and line.definition.overview:
            line = Header(line.version, self.definition)
            made = [self._chain.change(raw, line)]
        else:
            made = [self._chain.take(raw, line)]
        lines: list[Line] = [] if line is None else [line]
        match line:
            case ChunkLine():
                sealed = self._sealed(line)
                self._next_chunk = max(self._next_chunk, line.chunk + 1)
                if sent.outcome != "there":
                    self._absent.add(line.chunk)
                    gaps = self._retired_in(sealed)
                    if not gaps:  # nothing tells that it was to go
                        self._damaged[line.chunk] = sealed.first_frame
                    for gap in gaps:
                        told = GapLine.of(gap)
                        lines.append(told)
                        made.append(self._chain.put(told))
                        self._metadata.gap(gap)
                self._metadata.events(sealed, sent.content)
            case GapLine():
                self._metadata.gap(line.gap())
                if line.first_frame == self._open_from and line.n_frames:
                    self._open_from = None
                    self._metadata.open_gap(None)
            case OpenGapLine():
                self._open_from = line.first_frame
                self._metadata.open_gap(line.gap())
            case AnchorLine():
                self._metadata.anchor(line.anchor())
                if line.max_error_ns is None or self._worst_ns is None:
                    self._worst_ns = None
                else:
                    self._worst_ns = max(line.max_error_ns, self._worst_ns)
            case Finish():
                self._finish = line
                with storage_errors("read", self._folder / JOURNAL):
                    self._finish_at = (self._folder / JOURNAL).stat().st_size
        self._digest.absorb(lines)
        with storage_errors("write", self._folder), (self._folder / JOURNAL).open("ab") as file:
            file.write(b"".join(each + b"\n" for each in made))

    def _retired_in(self, sealed: SealedChunk) -> list[Gap]:
        """What the recorder's ledger says of a chunk that retention took before it was uploaded."""
        if self._local is None:
            self._local = load(self.path)
        else:
            self._local.refresh()
        return gaps_within([gap for gap in self._local.gaps if gap.cause is Cause.RETIRED], [sealed])

    def publish(self) -> Progress:
        """Tells of all that was sent; gives how far it has come."""
        with storage_errors("write the metadata of", self._folder):
            self._metadata.store(self._digest.n_frames, self._finish)
        changed = self._changed()
        segment_from = self._put_segment()
        for name in sorted(changed.keys() - {_GROUP}, key=lambda name: (name.endswith("zarr.json"), name)):
            self._put_file(name, changed[name])
        if self.has_ended:
            self._put_whole()
        if _GROUP in changed:
            self._put_file(_GROUP, changed[_GROUP])
        if self._is_new or self.has_ended:
            key = entry_key(*name_and_take(self.path), self.definition.started_wall_ns)
            self.bucket.put(key, msgspec.json.encode(self._entry()))
            self._is_new = False
        self.progress = Progress(
            self.definition.started_wall_ns,
            self._read,
            self._digest.n_frames,
            self._next_chunk,
            self._n_bytes,
            segment_from,
            sorted(self._absent),
            self.has_ended,
            self._mtime_ns,
            self.damaged,
            min(self._damaged.values(), default=None),
        )
        self.is_behind = False
        return self.progress

    def _changed(self) -> dict[str, tuple[int, int, int]]:
        """The files of metadata that are other ones than those that were put, each with what tells so."""
        found = {}
        with storage_errors("read", self._folder):
            for path in self._folder.rglob("[!.]*"):
                name = path.relative_to(self._folder).as_posix()
                if name != JOURNAL and path.is_file():
                    stat = path.stat()
                    mark = stat.st_ino, stat.st_mtime_ns, stat.st_size
                    if self._put_marks.get(name) != mark:
                        found[name] = mark
        return found

    def _put_file(self, name: str, mark: tuple[int, int, int]) -> None:
        with storage_errors("read", self._folder / name):
            data = read_regular(self._folder / name)
        self.bucket.put(f"{self._key}/{name}", data)
        self._put_marks[name] = mark

    def _put_segment(self) -> int:
        """Puts the piece of the journal that has grown, up to its end line, and gives where the next piece begins."""
        begin = self.progress.segment_from
        with storage_errors("read", self._folder / JOURNAL), (self._folder / JOURNAL).open("rb") as file:
            file.seek(begin)
            data = file.read() if self._finish_at is None else file.read(max(0, self._finish_at - begin))
        if data:
            self.bucket.put(f"{self._key}/{segment_key(begin)}", data)
        return begin + len(data) if len(data) >= _SEGMENT_BYTES else begin

    def _put_whole(self) -> None:
        """Puts the whole journal, and signatures if there are any. It counts once the group says that all has ended."""
        with storage_errors("read", self._folder / JOURNAL):
            data = (self._folder / JOURNAL).read_bytes()
        self.bucket.put(f"{self._key}/{JOURNAL}", data)
        path = self.path / SIGNATURES_NAME
        if path.exists():
            with storage_errors("read", path):
                signatures = read_regular(path)
            self.bucket.put(f"{self._key}/{SIGNATURES_NAME}", signatures)

    def _entry(self) -> TakeEntry:
        digest, shape = self._digest, self.definition
        return TakeEntry(
            uri=shape.uri,
            key=self._key,
            recorder=self._recorder,
            state="finished" if self.has_ended else "recording",
            started_wall_ns=shape.started_wall_ns,
            ended_wall_ns=digest.ended_wall_ns,
            sample_rate=shape.sample_rate,
            channels=shape.channels,
            sample_format=shape.sample_format,
            chunk_frames=shape.chunk_frames,
            n_frames=digest.n_frames,
            n_chunks=digest.n_chunks,
            n_bytes=digest.n_bytes,
            device=shape.device_name,
            identity=shape.device.get("identity"),
            gaps={cause: n_frames for cause, (_, n_frames) in digest.gaps.items() if n_frames},
            max_error_ns=self._worst_ns if digest.stamps else None,
            chunk_bytes=shape.form.chunk_bytes,
        )

    @property
    def n_absent(self) -> int:
        """How many chunks can't be uploaded: they were retired before, or are damaged."""
        return len(self._absent)

    @property
    def damaged(self) -> list[int]:
        """The chunks that can't be uploaded, as their bytes here are not those that were sealed."""
        return sorted(self._damaged)

    def close(self) -> None:
        """Removes the uploader's own files of it."""
        shutil.rmtree(self._folder, ignore_errors=True)
