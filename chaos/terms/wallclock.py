"""The wall clock of a recording: which moment a frame was, and which frames a moment was.

Between anchors CLOCK_MONOTONIC counts. Where the wall clock was set the map from frames to moments breaks: a moment may
have occurred twice, or not at all.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

from chaos.terms.ledger import ClockAnchor

__all__ = ["Step", "WallClock", "is_step"]

_NS = 1_000_000_000
_STEP_NS = _NS // 2
_SET_NS = _NS // 1000
_SLEW = 1000  # a clock that is being corrected gains or loses less than a thousandth


class Step(NamedTuple):
    """The wall clock was set by so much, before this frame and after the anchor before it."""

    frame: int
    by_ns: int


def is_step(offset_ns: int, before_ns: int, elapsed_ns: int, *, was_set: bool = False) -> bool:
    """Whether the wall clock's lead over CLOCK_MONOTONIC changed by more than drift and correction make it; where it is
    known that somebody set it, by more than is lost in reading it, too."""
    return abs(offset_ns - before_ns) > max(_SET_NS if was_set else _STEP_NS, elapsed_ns // _SLEW)


class WallClock:
    """Of `anchors` (ordered by frame; ValueError if none) of a timeline of `n_frames`, at a nominal `rate`.

    Before the first anchor and after the last the nominal rate counts.
    """

    def __init__(self, anchors: Sequence[ClockAnchor], rate: int, n_frames: int) -> None:
        if not anchors:
            raise ValueError("no clock anchors")
        self._rate = rate
        self._n_frames = n_frames
        self._runs: list[list[ClockAnchor]] = [[anchors[0]]]
        self.steps: list[Step] = []
        for before, anchor in pairwise(anchors):
            by_ns = _offset(anchor) - _offset(before)
            elapsed_ns = anchor.monotonic_ns - before.monotonic_ns
            if anchor.step_ns or is_step(_offset(anchor), _offset(before), elapsed_ns):
                self.steps.append(Step(anchor.frame, by_ns))
                self._runs.append([])
            self._runs[-1].append(anchor)

    def wall_ns(self, frame: int) -> int:
        """The moment of a frame."""
        run = self._runs[max(0, bisect_right(self._runs, frame, key=lambda run: run[0].frame) - 1)]
        at = max(0, bisect_right(run, frame, key=lambda anchor: anchor.frame) - 1)
        before, elapsed = run[at], frame - run[at].frame
        if elapsed > 0 and at + 1 < len(run) and run[at + 1].frame > before.frame:
            following = run[at + 1]
            return before.wall_ns + elapsed * (following.wall_ns - before.wall_ns) // (following.frame - before.frame)
        return before.wall_ns + elapsed * _NS // self._rate

    def frames(self, wall_ns: int) -> list[int]:
        """All frames that were at this moment: none where the clock jumped over it, two where it was set back.

        What lies before the beginning or after the end is one frame outside of the timeline.
        """
        spans = [(run[0].wall_ns, self._end_ns(number)) for number, run in enumerate(self._runs)]
        if wall_ns < min(begin for begin, _ in spans) == spans[0][0]:
            return [self._frame_in(self._runs[0], wall_ns)]
        if wall_ns >= max(end for _, end in spans) == spans[-1][1]:
            return [self._frame_in(self._runs[-1], wall_ns)]
        runs = zip(self._runs, spans, strict=True)
        return [self._frame_in(run, wall_ns) for run, (begin, end) in runs if begin <= wall_ns < end]

    def _end_ns(self, number: int) -> int:
        """Where a run ends by its own clock: at the next one's first anchor, or with the timeline."""
        last = self._runs[number][-1]
        if number + 1 < len(self._runs):
            return last.wall_ns + self._runs[number + 1][0].monotonic_ns - last.monotonic_ns
        return last.wall_ns + max(0, self._n_frames - last.frame) * _NS // self._rate

    def _frame_in(self, run: list[ClockAnchor], wall_ns: int) -> int:
        at = max(0, bisect_right(run, wall_ns, key=lambda anchor: anchor.wall_ns) - 1)
        before, elapsed_ns = run[at], wall_ns - run[at].wall_ns
        if elapsed_ns > 0 and at + 1 < len(run) and run[at + 1].wall_ns > before.wall_ns:
            following = run[at + 1]
            span_ns = following.wall_ns - before.wall_ns
            return before.frame + round(elapsed_ns * (following.frame - before.frame) / span_ns)
        return before.frame + round(elapsed_ns * self._rate / _NS)


def _offset(anchor: ClockAnchor) -> int:
    return anchor.wall_ns - anchor.monotonic_ns
