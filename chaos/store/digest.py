"""A take's digest: what lists, finds and retention need of its journal, small, and taken further line by line.

It is made of the journal's lines alone. Of a journal that has grown only what is new is read: a digest says how far it
has come. What it tells is what `RecordingInfo` tells; that one holds every chunk and anchor, this one counts.
"""

from __future__ import annotations

import heapq
import os
from bisect import bisect_right
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Self

import msgspec

from chaos.store.journal import JOURNAL_NAME, JournalReader
from chaos.store.lines import (
    JOURNAL_VERSION,
    AnchorLine,
    ChunkLine,
    Definition,
    Finish,
    GapLine,
    Header,
    Line,
    MarkLine,
    OpenGapLine,
)
from chaos.terms.errors import StorageFailed
from chaos.terms.ledger import Cause
from chaos.terms.marks import Mark

__all__ = ["Digest", "Stamp", "read_digest"]

_STAMP_CHUNKS = 64
_STEP_NS = 500_000_000
_RETIRED = Cause.RETIRED.label


class Stamp(msgspec.Struct, frozen=True, array_like=True):
    """A clock anchor that was kept: one for every 64 chunks, and one after each step of the wall clock."""

    frame: int
    monotonic_ns: int
    wall_ns: int


class Digest(msgspec.Struct):
    """Of the journal `n_read` bytes are in it; `inode`, `size` and `mtime_ns` say which file that was, and how it was.

    `held` are the sealed chunks that retention has not taken: runs of [first chunk, how many]. `retired` are the frames
    that it has, as [first, end), by first frame, adjoining ones in one. `gaps` has for each cause how many and how many
    frames.
    """

    definition: Definition
    n_read: int = 0
    inode: int = 0
    size: int = 0
    mtime_ns: int = 0
    n_bad_lines: int = 0
    n_chunks: int = 0
    held: list[list[int]] = []
    retired: list[list[int]] = []
    gaps: dict[str, list[int]] = {}
    stamps: list[Stamp] = []
    last: Stamp | None = None
    finish: Finish | None = None
    marks: list[Mark] = []
    reached: int = 0
    ahead: list[list[int]] = []

    @property
    def n_frames(self) -> int:
        """The timeline's length: at the end as stated, before it as far as it is accounted for."""
        return self.finish.n_frames if self.finish else self.reached

    @property
    def n_held(self) -> int:
        """Sealed chunks that are there."""
        return sum(n for _, n in self.held)

    @property
    def n_bytes(self) -> int:
        """What those take on disk; nothing of an external recording's, whose files are a controller's."""
        return 0 if self.definition.external else self.n_held * self.definition.form.chunk_bytes

    @property
    def n_gaps(self) -> int:
        return sum(n for n, _ in self.gaps.values())

    @property
    def lost_frames(self) -> int:
        """How many frames were lost; those that retention removed were not."""
        return sum(n_frames for cause, (_, n_frames) in self.gaps.items() if cause != _RETIRED)

    @property
    def ended_wall_ns(self) -> int:
        """The moment of the end so far, by the last anchor."""
        shape = self.definition
        last = self.last or Stamp(0, shape.started_monotonic_ns, shape.started_wall_ns)
        return last.wall_ns + (self.n_frames - last.frame) * 1_000_000_000 // shape.sample_rate

    def wall_ns(self, frame: int) -> int:
        """The moment of a frame, to within what a clock drifts in 64 chunks."""
        before = self._stamp(frame)
        return before.wall_ns + (frame - before.frame) * 1_000_000_000 // self.definition.sample_rate

    @property
    def stands(self) -> list[int]:
        """Wall clock minus CLOCK_MONOTONIC (ns) at each stamp: how the wall clock stood."""
        return [stamp.wall_ns - stamp.monotonic_ns for stamp in self.stamps]

    def monotonic_ns(self, frame: int) -> int:
        """CLOCK_MONOTONIC at a frame, as `wall_ns`."""
        before = self._stamp(frame)
        return before.monotonic_ns + (frame - before.frame) * 1_000_000_000 // self.definition.sample_rate

    def _stamp(self, frame: int) -> Stamp:
        shape = self.definition
        at = bisect_right(self.stamps, frame, key=lambda stamp: stamp.frame) - 1
        return self.stamps[at] if at >= 0 else Stamp(0, shape.started_monotonic_ns, shape.started_wall_ns)

    def absorb(self, lines: Iterable[Line]) -> None:
        for line in lines:
            match line:
                case AnchorLine():
                    self._anchor(Stamp(line.frame, line.monotonic_ns, line.wall_ns))
                case ChunkLine():
                    self.n_chunks += 1
                    self._hold(line.chunk)
                    self._cover(line.first_frame, line.n_frames)
                case GapLine():
                    self._gap(line)
                    self._cover(line.first_frame, line.n_frames)
                case OpenGapLine():
                    self._cover(line.first_frame, line.n_frames)
                case MarkLine():
                    self.marks.append(line.mark())
                case Finish():
                    self.finish = line

    def _anchor(self, stamp: Stamp) -> None:
        last, self.last = self.last, stamp
        far = not self.stamps or stamp.frame - self.stamps[-1].frame >= _STAMP_CHUNKS * self.definition.chunk_frames
        if not far and last is not None:
            step_ns = (stamp.wall_ns - stamp.monotonic_ns) - (last.wall_ns - last.monotonic_ns)
            far = abs(step_ns) >= _STEP_NS
        if far and not (self.stamps and stamp.frame < self.stamps[-1].frame):
            self.stamps.append(stamp)

    def _hold(self, chunk: int) -> None:
        at = bisect_right(self.held, chunk, key=lambda run: run[0])
        if at and self.held[at - 1][0] + self.held[at - 1][1] == chunk:
            self.held[at - 1][1] += 1
        elif not at or self.held[at - 1][0] + self.held[at - 1][1] < chunk:
            self.held.insert(at, [chunk, 1])

    def _gap(self, line: GapLine) -> None:
        if line.cause == _RETIRED and line.n_frames:
            self._retire(line.first_frame, line.first_frame + line.n_frames)
            self.gaps[_RETIRED] = [len(self.retired), sum(end - first for first, end in self.retired)]
            return
        told = self.gaps.setdefault(line.cause, [0, 0])
        told[0] += 1
        told[1] += line.n_frames

    def _retire(self, first: int, end: int) -> None:
        size = self.definition.chunk_frames
        gone_first, gone_end = first // size, -(-end // size)
        held = []
        for begin, n in self.held:
            for left, right in ((begin, min(begin + n, gone_first)), (max(begin, gone_end), begin + n)):
                if left < right:
                    held.append([left, right - left])
        self.held = held
        at = bisect_right(self.retired, first, key=lambda span: span[0])
        if at and self.retired[at - 1][1] >= first:
            at -= 1
            self.retired[at][1] = max(self.retired[at][1], end)
        else:
            self.retired.insert(at, [first, end])
        while at + 1 < len(self.retired) and self.retired[at + 1][0] <= self.retired[at][1]:
            self.retired[at][1] = max(self.retired[at][1], self.retired.pop(at + 1)[1])

    def _cover(self, first: int, n_frames: int) -> None:
        heapq.heappush(self.ahead, [first, first + n_frames])
        while self.ahead and self.ahead[0][0] <= self.reached:
            self.reached = max(self.reached, heapq.heappop(self.ahead)[1])

    @classmethod
    def begin(cls, header: Header) -> Self:
        """The digest of a journal that has its first line only; the device's ports and formats are left out."""
        device = {key: header.definition.device.get(key) for key in ("identity", "name", "description")}
        slim = msgspec.structs.replace(header.definition, device={k: v for k, v in device.items() if v})
        return cls(slim, held=[], retired=[], gaps={}, stamps=[], ahead=[], marks=[])


def read_digest(path: Path, former: Digest | None = None) -> Digest:
    """The digest of the recording in this folder; `former` is taken further where it is of the same journal.

    Raises RecordingNotFound, or StorageFailed where the journal can't be read or its first line is damaged.
    """
    journal = path / JOURNAL_NAME
    found = _stat(journal)
    if former is not None and found is not None and found.st_ino == former.inode and found.st_size >= former.size:
        reader = JournalReader(journal, former.n_read)
        new = reader.poll()
        if not reader.bad_lines:  # else it may be another file after all
            former.absorb(new)
            return _stamped(former, reader, found)
    reader = JournalReader(journal)
    lines = reader.lines()
    first = next(lines, None)
    if not isinstance(first, Header):
        raise StorageFailed(f"the journal of {path} has no readable first line", hint=f"restore {JOURNAL_NAME}")
    if first.version > JOURNAL_VERSION:
        raise StorageFailed(f"{path} was written by a newer chaosd", hint="update chaosd")
    digest = Digest.begin(first)
    digest.absorb(lines)
    return _stamped(digest, reader, found)


def _stat(journal: Path) -> os.stat_result | None:
    with suppress(OSError):
        return journal.stat()
    return None


def _stamped(digest: Digest, reader: JournalReader, found: os.stat_result | None) -> Digest:
    digest.n_read = reader.offset
    digest.n_bad_lines += len(reader.bad_lines)
    if found is not None:
        digest.inode, digest.size, digest.mtime_ns = found.st_ino, found.st_size, found.st_mtime_ns
    return digest
