"""The journal: a recording's truth, one JSON object per line (see `lines`), only ever appended to.

The first line is the `Header` with the format's version and the definition; then chunks, gaps and anchors
in the order in which they came, and the finish. All else in a recording's folder can be rebuilt from it. While a
writer lives it holds a lock (flock) on the file: that tells a running recording from a deserted one.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Self

from chaos.store.lines import (
    JOURNAL_VERSION,
    NOTHING,
    Definition,
    Header,
    Line,
    decode,
    decode_all,
    encode,
    link,
    told_before,
)
from chaos.system.files import is_locked, open_regular, storage_errors, write_all
from chaos.terms.errors import RecordingNotFound, StorageFailed, StreamExists

__all__ = ["JOURNAL_NAME", "Journal", "JournalReader"]

JOURNAL_NAME = "journal.jsonl"
_LOCK_TRIES = 10
_LOCK_PAUSE_S = 0.005
_BLOCK_BYTES = 1 << 20


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
        self._pending = bytearray()
        self._n_written = 0  # of what is pending: a line more costs no more where many wait for the disk
        self._first = _first_line(fd)

    @classmethod
    def empty(cls, path: Path) -> Self:
        """A new one without a line, locked, to be begun with; OSError goes to the caller."""
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return cls(path, fd, 0, NOTHING)

    @classmethod
    def create(cls, path: Path, definition: Definition) -> Self:
        """A new journal with its first line, locked; OSError goes to the caller."""
        journal = cls.empty(path)
        try:
            journal.begin(definition)
        except BaseException:
            journal.close()
            raise
        return journal

    def begin(self, definition: Definition) -> None:
        """Writes the first line, durably; to an empty journal. Raises StorageFull or StorageFailed."""
        self.append(Header(JOURNAL_VERSION, definition))
        self.flush()
        self._first = _first_line(self._fd)

    @staticmethod
    def lock(path: Path) -> int:
        """Takes the writer's lock without reading; a file descriptor, which holds it until it is closed.

        Raises StreamExists while a writer has it, StorageFailed.
        """
        with storage_errors("lock", path):
            fd = open_regular(path, os.O_RDWR)
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
        raw = encode(line, self._tail)
        self._pending += raw + b"\n"
        if self._tail is not None:
            self._tail = link(raw)
        with suppress(OSError):
            self._write()

    def _write(self) -> None:
        if (done := self._n_written) < len(self._pending):
            write_all(self._fd, bytes(self._pending[done:]), self._durable + done)
            self._n_written = len(self._pending)

    def flush(self) -> None:
        """Makes all lines durable; does nothing if they are."""
        if not self._pending:
            return
        with storage_errors("write the journal", self._path):
            try:
                self._write()
                os.fdatasync(self._fd)
            except OSError:
                self._n_written = 0
                self._renewed = self._open_anew() or self._renewed
                raise
        self._durable += len(self._pending)
        self._pending.clear()
        self._n_written = 0

    def is_at(self, path: Path) -> bool:
        """Whether this is the name of the file that is written, not of a link to it. Raises OSError."""
        there, ours = path.lstat(), os.fstat(self._fd)
        return (there.st_dev, there.st_ino) == (ours.st_dev, ours.st_ino)

    def look_again(self) -> bool:
        """Goes on in the file that has the name now, if it is another of the same recording: its filesystem may have
        gone and come back.

        Whether it has done so since the last call.
        """
        renewed, self._renewed = self._open_anew() or self._renewed, False
        return renewed

    def _open_anew(self) -> bool:
        is_ours = False
        with suppress(OSError):
            fd = open_regular(self._path, os.O_RDWR)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                is_ours = os.fstat(fd).st_size >= self._durable and _first_line(fd) == self._first
            except OSError:  # we hold the lock ourselves: it is the same file
                is_ours = False
            if is_ours:
                fd, self._fd = self._fd, fd
                self._n_written = 0
            os.close(fd)
        return is_ours

    def close(self) -> None:
        """Closes the file and so gives up its lock; what was not flushed stays as it is."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def _first_line(fd: int) -> bytes:
    """What tells one recording's journal from another's."""
    return os.pread(fd, _BLOCK_BYTES, 0).partition(b"\n")[0]


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
        self.torn = False
        self.sound_bytes = 0
        self._last = b""
        self.offset = offset
        self._path = path
        self._n_lines = 0

    def poll(self) -> list[Line]:
        return list(self.lines())

    def lines(self) -> Iterator[Line]:
        """What `poll` gives, line by line: a journal may be larger than memory."""
        try:
            with os.fdopen(open_regular(self._path), "rb") as file:
                file.seek(self.offset)
                rest = b""
                while block := file.read(_BLOCK_BYTES):
                    *whole, rest = (rest + block).split(b"\n")
                    yield from self._sound(whole)
                self.torn = bool(rest)
        except (FileNotFoundError, NotADirectoryError):
            hint = "chaosctl list shows what there is"
            raise RecordingNotFound(f"no recording at {self._path.parent}", hint=hint) from None
        except OSError as error:
            hint = f"see what lies there, and put the journal back: ls -l '{self._path}'"
            raise StorageFailed(f"could not read {self._path}: {error.strerror}", hint=hint) from error

    def _sound(self, whole: list[bytes]) -> Iterator[Line]:
        """The lines that make sense: of most blocks all of them."""
        try:
            lines = decode_all(whole)
        except ValueError:
            yield from self._sound_singly(whole)
            return
        if whole:
            self._n_lines += len(whole)
            self.offset += sum(map(len, whole)) + len(whole)
            self.sound_bytes = self.offset
            self._last = whole[-1]
        yield from lines

    def _sound_singly(self, whole: list[bytes]) -> Iterator[Line]:
        for raw in whole:
            self._n_lines += 1
            self.offset += len(raw) + 1
            try:
                line = decode(raw)
            except ValueError:
                self.bad_lines.append(self._n_lines)
                continue
            self._last = raw
            self.sound_bytes = self.offset
            yield line

    @property
    def tail(self) -> bytes | None:
        """What the next line is to say of the last sound one; None where that is not chained (version 1)."""
        return link(self._last) if told_before(self._last) is not None else None

    @property
    def missing_before(self) -> list[int]:
        """The numbers of lines that another line came before once, of those read so far. Reads them all once more:
        only verification and repair ask, and the chain costs as much as everything else."""
        missing: list[int] = []
        before: bytes | None = NOTHING
        with storage_errors("read", self._path), os.fdopen(open_regular(self._path), "rb") as file:
            for number, raw in enumerate(file.read(self.offset).split(b"\n")[:-1], 1):
                try:
                    decode(raw)
                except ValueError:
                    before = None
                    continue
                told = told_before(raw)
                if told is not None and before not in (None, told):
                    missing.append(number)
                before = link(raw)
        return missing

    def is_locked(self) -> bool:
        """Whether a writer has this journal now."""
        return is_locked(self._path)
