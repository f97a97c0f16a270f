"""The journal: a recording's truth, one JSON object per line, only ever appended to.

The first line is the `Header` with the format's version and the definition; then chunks, gaps and anchors
in the order in which they came, and the finish. All else in a recording's folder can be rebuilt from it. Each
object begins with `check`: CRC-32 (8 hex digits) over the same object without that field, in compact form. From
version 2 on `after` follows: the first 8 bytes (hex) of BLAKE3 over the line before, so that a line that was taken
out shows; zeros in the first line.
While a writer lives it holds a lock (flock) on the file: so a running recording is told from a deserted one.
"""

from __future__ import annotations

import fcntl
import os
import time
import zlib
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any, Self

import msgspec
from blake3 import blake3

from chaos.system.files import storage_errors, write_all
from chaos.terms.errors import RecordingNotFound, StorageFailed, StreamExists
from chaos.terms.form import AudioForm
from chaos.terms.formats import SampleFormat
from chaos.terms.ledger import Cause, ClockAnchor, Confidence, Gap

__all__ = [
    "JOURNAL_NAME",
    "JOURNAL_VERSION",
    "AnchorLine",
    "ChunkLine",
    "Definition",
    "Finish",
    "GapLine",
    "Header",
    "Journal",
    "JournalReader",
    "Line",
    "OpenGapLine",
    "Sealing",
]

JOURNAL_VERSION = 2
_LOCK_TRIES = 10
_LOCK_PAUSE_S = 0.005
_BLOCK_BYTES = 1 << 20

JOURNAL_NAME = "journal.jsonl"


_MOST = (1 << 63) - 1
Count = Annotated[int, msgspec.Meta(ge=0, le=_MOST)]
Place = Annotated[int, msgspec.Meta(ge=-_MOST - 1, le=_MOST)]
Positive = Annotated[int, msgspec.Meta(ge=1, le=_MOST)]


class Definition(msgspec.Struct, frozen=True):
    """What a recording is of. Frames count from the stream's first; `device` is PROTOCOL.md's Device.

    `staging` is the path of the live staging file, for readers that follow the head; `external` recordings
    have their chunks in files of a controller's and hold no audio themselves. `boot_id` says which run of the
    kernel `monotonic_ns` count from; `keep` what retention leaves of it ("7d", "200GB");
    `continues` the URI of the take whose last frame came right before this one's first. `follows` is the URI of the
    take of this device that a crash ended before this one, and `away_ns` how long nothing was captured between them:
    by CLOCK_MONOTONIC in one run of the kernel, else by the wall clock.
    """

    uri: str
    channels: Positive
    sample_rate: Positive
    sample_format: SampleFormat
    chunk_frames: Positive
    device: dict[str, Any]
    positions: list[str]
    started_wall_ns: Place
    started_monotonic_ns: Place
    software: str
    run_id: str
    staging: str | None = None
    external: bool = False
    boot_id: str = ""
    keep: str | None = None
    continues: str | None = None
    follows: str | None = None
    away_ns: int | None = None

    @property
    def form(self) -> AudioForm:
        """How its frames lie in chunks."""
        return AudioForm(self.channels, self.chunk_frames, self.sample_format)


class Header(msgspec.Struct, frozen=True, tag_field="type", tag="recording"):
    version: int
    definition: Definition


Digest = Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")]


class ChunkLine(msgspec.Struct, frozen=True, tag_field="type", tag="chunk", omit_defaults=True):
    """A sealed chunk: `n_frames` of it belong to the timeline; `path` only where a controller chose it."""

    chunk: Count
    first_frame: Count
    n_frames: Count
    hash: Digest
    path: str | None = None


class Sealing(msgspec.Struct, frozen=True, tag_field="type", tag="sealing"):
    """Goes before the sealing of a chunk that is not full: its part file will no longer tell its frames."""

    chunk: Count
    n_frames: Count


class GapLine(msgspec.Struct, frozen=True, tag_field="type", tag="gap"):
    first_frame: Count
    n_frames: Count
    cause: str
    confidence: str

    @classmethod
    def of(cls, gap: Gap) -> Self:
        return cls(**gap.to_wire())

    def gap(self) -> Gap:
        cause, confidence = Cause.from_label(self.cause), Confidence.from_label(self.confidence)
        return Gap(self.first_frame, self.n_frames, cause, confidence)


class OpenGapLine(msgspec.Struct, frozen=True, tag_field="type", tag="open"):
    """A gap that has not ended, as far as it reaches. A later line with this first frame replaces it, and the
    `GapLine` ends it."""

    first_frame: Count
    n_frames: Count
    cause: str
    confidence: str

    @classmethod
    def of(cls, gap: Gap) -> Self:
        return cls(**gap.to_wire())

    def gap(self) -> Gap:
        cause, confidence = Cause.from_label(self.cause), Confidence.from_label(self.confidence)
        return Gap(self.first_frame, self.n_frames, cause, confidence)


class AnchorLine(msgspec.Struct, frozen=True, tag_field="type", tag="anchor", omit_defaults=True):
    frame: Place
    position: Place
    monotonic_ns: Place
    wall_ns: Place
    clock_id: Count | None = None

    @classmethod
    def of(cls, anchor: ClockAnchor) -> Self:
        return cls(**msgspec.structs.asdict(anchor))

    def anchor(self) -> ClockAnchor:
        return ClockAnchor(**msgspec.structs.asdict(self))


class Finish(msgspec.Struct, frozen=True, tag_field="type", tag="finish"):
    """The end: the timeline has `n_frames`; `clean` if the stream was stopped and did not die."""

    n_frames: Count
    clean: bool


Line = Header | ChunkLine | Sealing | GapLine | OpenGapLine | AnchorLine | Finish
_decoder = msgspec.json.Decoder(Line)
_encoder = msgspec.json.Encoder()
_CHECK = b'{"check":"'
_CHECK_END = len(_CHECK) + 8
_BODY = _CHECK_END + 2
_BEGUN = zlib.crc32(b"{")
_AFTER = b'"after":"'
_AFTER_AT = _BODY + len(_AFTER)
_NOTHING = b"0" * 16


def _link(raw: bytes) -> bytes:
    """What the line after this one says of it."""
    return blake3(raw).hexdigest(length=8).encode()


def _encode(line: Line, after: bytes | None) -> bytes:
    """The line, without its end; chained to the one before unless `after` is None (version 1)."""
    body = _encoder.encode(line)
    if after is not None:
        body = b'{%b%b",%b' % (_AFTER, after, body[1:])
    return b'%b%08x",%b' % (_CHECK, zlib.crc32(body), body[1:])


def _decode(raw: bytes) -> Line:
    """The line that stands there; ValueError if none does."""
    told = raw[len(_CHECK) : _CHECK_END]
    if raw[: len(_CHECK)] != _CHECK or told != b"%08x" % zlib.crc32(raw[_BODY:], _BEGUN):
        raise ValueError("the line is damaged")
    line: Line = _decoder.decode(raw)
    if isinstance(line, GapLine | OpenGapLine):
        line.gap()
    return line


class Journal:
    """The writing end. Alive until `close`, which may be called twice.

    `append` never fails: the line is written at once and, if storage doesn't take it, again by `flush`, which
    makes everything durable or raises StorageFull or StorageFailed and may be called again. `was_torn` says that a
    broken end was cut off when it was reopened.
    """

    def __init__(self, path: Path, fd: int, size: int, tail: bytes | None) -> None:
        self.was_torn = False
        self._renewed = False
        self._path = path
        self._fd = fd
        self._durable = size
        self._tail = tail
        self._pending = b""
        self._written = True

    @classmethod
    def create(cls, path: Path, definition: Definition) -> Self:
        """A new journal with its first line, locked; OSError goes to the caller."""
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        journal = cls(path, fd, 0, _NOTHING)
        try:
            journal.append(Header(JOURNAL_VERSION, definition))
            journal.flush()
        except BaseException:
            journal.close()
            raise
        return journal

    @staticmethod
    def lock(path: Path) -> int:
        """Takes the writer's lock without reading; a file descriptor, which holds it until it is closed.

        Raises StreamExists while a writer has it, StorageFailed.
        """
        with storage_errors("lock", path):
            fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
            try:
                _lock(fd)
            except BlockingIOError:
                os.close(fd)
                hint = "stop that stream first"
                raise StreamExists(f"{path.parent} is being written", hint=hint) from None
            except BaseException:
                os.close(fd)
                raise
            return fd

    @classmethod
    def reopen(cls, path: Path) -> Self:
        """Goes on with a deserted journal, a torn end cut off. StreamExists while another writer has it.

        Where it ends is read under the lock: until then its last writer may still add to it. Raises
        RecordingNotFound if there is none.
        """
        reader = JournalReader(path)
        if not path.exists():
            reader.poll()
        fd = cls.lock(path)
        try:
            reader.poll()
            with storage_errors("reopen", path):
                os.ftruncate(fd, reader.sound_bytes)
                os.fsync(fd)
        except BaseException:
            os.close(fd)
            raise
        journal = cls(path, fd, reader.sound_bytes, reader.tail)
        journal.was_torn = reader.torn
        return journal

    def moved(self, path: Path) -> None:
        """Tells that the folder was renamed."""
        self._path = path

    def append(self, line: Line) -> None:
        raw = _encode(line, self._tail)
        self._pending += raw + b"\n"
        if self._tail is not None:
            self._tail = _link(raw)
        self._written = False
        with suppress(OSError):
            self._write()

    def _write(self) -> None:
        if not self._written:
            write_all(self._fd, self._pending, self._durable)
            self._written = True

    def flush(self) -> None:
        """Makes all lines durable; does nothing if they are."""
        if not self._pending:
            return
        with storage_errors("write the journal", self._path):
            try:
                self._write()
                os.fdatasync(self._fd)
            except OSError:
                self._written = False
                self._renewed = self._open_anew() or self._renewed
                raise
        self._durable += len(self._pending)
        self._pending = b""

    def look_again(self) -> bool:
        """Goes on in the file that has the name now, if it is another: its filesystem may have gone and come back.

        Whether it has done so since the last call.
        """
        renewed, self._renewed = self._open_anew() or self._renewed, False
        return renewed

    def _open_anew(self) -> bool:
        is_ours = False
        with suppress(OSError):
            fd = os.open(self._path, os.O_RDWR | os.O_CLOEXEC)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                is_ours = os.fstat(fd).st_size >= self._durable
            except OSError:  # we hold the lock ourselves: it is the same file
                is_ours = False
            if is_ours:
                fd, self._fd = self._fd, fd
                self._written = not self._pending
            os.close(fd)
        return is_ours

    def close(self) -> None:
        """Closes the file and so gives up its lock; what was not flushed stays as it is."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def _lock(fd: int) -> None:
    """Takes the writer's lock. BlockingIOError if a writer has it; a reader that looks for one does for an instant."""
    for _ in range(_LOCK_TRIES):
        with suppress(BlockingIOError):
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        time.sleep(_LOCK_PAUSE_S)
    fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)


class JournalReader:
    """The reading end: `poll` gives the lines that came since the last call, also while a writer goes on.

    Lines that make no sense are counted in `bad_lines` (numbers from 1) and passed over; `missing_before` has the
    numbers of those that another line came before once. `torn` says that the file ends in the middle of a line,
    `sound_bytes` up to where the last good line reaches, and `tail` what the next line is to say of that. Raises
    RecordingNotFound if there is no journal, StorageFailed if it can't be read. `offset` is where it reads on: the
    begin of a line.
    """

    def __init__(self, path: Path, offset: int = 0) -> None:
        self.bad_lines: list[int] = []
        self.missing_before: list[int] = []
        self.torn = False
        self.sound_bytes = 0
        self.tail: bytes | None = None
        self.offset = offset
        self._before: bytes | None = None if offset else _NOTHING
        self._path = path
        self._n_lines = 0

    def poll(self) -> list[Line]:
        return list(self.lines())

    def lines(self) -> Iterator[Line]:
        """What `poll` gives, line by line: a journal may be larger than memory."""
        try:
            with self._path.open("rb") as file:
                file.seek(self.offset)
                rest = b""
                while block := file.read(_BLOCK_BYTES):
                    *whole, rest = (rest + block).split(b"\n")
                    yield from self._sound(whole)
                self.torn = bool(rest)
        except (FileNotFoundError, NotADirectoryError):
            hint = "chaosctl list --recordings shows what there is"
            raise RecordingNotFound(f"no recording at {self._path.parent}", hint=hint) from None
        except OSError as error:
            raise StorageFailed(f"could not read {self._path}: {error.strerror}") from error

    def _sound(self, whole: list[bytes]) -> Iterator[Line]:
        for raw in whole:
            self._n_lines += 1
            self.offset += len(raw) + 1
            try:
                line = _decode(raw)
            except ValueError:
                self.bad_lines.append(self._n_lines)
                self._before = None
                continue
            chained = raw[_BODY:_AFTER_AT] == _AFTER
            if chained and self._before not in (None, raw[_AFTER_AT : _AFTER_AT + 16]):
                self.missing_before.append(self._n_lines)
            self._before = _link(raw)
            self.tail = self._before if chained else None
            self.sound_bytes = self.offset
            yield line

    def is_locked(self) -> bool:
        """Whether a writer has this journal now."""
        try:
            fd = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return False
        try:
            fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(fd)
        return False
