"""What a take in standby holds: the last seconds in its slots, and what the ledger has to say of them. Pure.

Frames count from the begin of the capture until the take is kept, and from its oldest slot then. What was overwritten
before that was promised to nobody.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import NamedTuple, TypeAlias

import msgspec

from chaos.store.lines import LatencyLine
from chaos.terms.ledger import ClockAnchor, Gap
from chaos.terms.marks import Mark

__all__ = ["Begin", "Entry", "Standby", "anchored_at", "moved"]

Entry: TypeAlias = Gap | ClockAnchor | LatencyLine | Mark


class Begin(NamedTuple):
    """Where a recording begins that was in standby: its first chunk, and that moment by CLOCK_MONOTONIC and the wall
    clock. `n_lost` frames in gaps, `n_gaps` gaps and `n_marks` marks came before it; `entries` is the ledger from there
    on."""

    chunk: int
    monotonic_ns: int
    wall_ns: int
    n_lost: int
    n_gaps: int
    n_marks: int
    entries: deque[Entry]


class Standby:
    """Holds `seconds` at least, once they have gone by."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._n_lost = self._n_gaps = self._n_marks = 0

    def is_over(self, end_frame: int, head: int, rate: int) -> bool:
        """Whether a slot that ends there has nothing of the last seconds."""
        return head - end_frame >= self.seconds * rate

    def forget(self, ledger: deque[Entry], first: int) -> deque[Entry]:
        """The ledger without what lies before frame `first`, but for what holds on from there: the last word of the
        clock and of the latency."""
        last: dict[type, Entry] = {}
        kept: deque[Entry] = deque()
        for entry in ledger:
            if isinstance(entry, Gap):
                if _is_before(entry, first):
                    self._n_lost += entry.n_frames
                    self._n_gaps += 1
                else:
                    kept.append(entry)
            elif entry.frame > first or (isinstance(entry, Mark) and entry.frame == first):
                kept.append(entry)
            elif isinstance(entry, Mark):
                self._n_marks += 1
            else:
                last[type(entry)] = entry
        return deque([*last.values(), *kept])

    def begin(
        self, ledger: deque[Entry], chunk: int, chunk_frames: int, rate: int, open_gap: Gap | None, origin: ClockAnchor
    ) -> Begin:
        """Where the recording begins if this chunk is its first: the ledger has forgotten what lies before that.
        `open_gap` has not ended, and `origin` is where the capture began."""
        first = chunk * chunk_frames
        gaps = [entry for entry in ledger if isinstance(entry, Gap)]
        if open_gap is not None and all(gap.first_frame != open_gap.first_frame for gap in gaps):
            gaps.append(open_gap)
        n_before = sum(max(0, first - gap.first_frame) for gap in gaps)
        anchors = [entry for entry in ledger if isinstance(entry, ClockAnchor)]
        if n_before:  # over a gap the clock may have been another one
            anchors = [anchor for anchor in anchors if anchor.frame >= first] or anchors
        start = anchored_at(anchors[0] if anchors else origin, first, rate)
        entries = deque(_from(first, ledger, None if n_before else start))
        n_lost = self._n_lost + n_before
        return Begin(chunk, start.monotonic_ns, start.wall_ns, n_lost, self._n_gaps, self._n_marks, entries)


def _is_before(gap: Gap, first: int) -> bool:
    return gap.first_frame < first and gap.end_frame <= first


def anchored_at(anchor: ClockAnchor, frame: int, rate: int) -> ClockAnchor:
    """The same clocks at another frame."""
    n_frames = frame - anchor.frame
    by_ns = n_frames * 1_000_000_000 // rate
    return msgspec.structs.replace(
        anchor,
        frame=frame,
        position=anchor.position + n_frames,
        monotonic_ns=anchor.monotonic_ns + by_ns,
        wall_ns=anchor.wall_ns + by_ns,
        step_ns=0,
    )


def _from(first: int, ledger: deque[Entry], start: ClockAnchor | None) -> Iterator[Entry]:
    """The ledger in frames from `first` on. An anchor before that becomes `start`, if that is known."""
    for entry in ledger:
        if isinstance(entry, Gap):
            begin = max(entry.first_frame, first)
            yield msgspec.structs.replace(entry, first_frame=begin - first, n_frames=entry.end_frame - begin)
        elif isinstance(entry, ClockAnchor) and entry.frame < first:
            if start is not None:
                yield msgspec.structs.replace(start, frame=0)
        else:
            yield moved(entry, first)


def moved(entry: ClockAnchor | LatencyLine | Mark, first: int) -> ClockAnchor | LatencyLine | Mark:
    """The same in frames from `first` on."""
    return msgspec.structs.replace(entry, frame=max(0, entry.frame - first))
