"""Which frame of one recording was at the same moment as a frame of another, between what bounds.

    relation = chaos.relate(here, there)
    relation.place(48_000)          # Place(frame=47_912.4, lower=47_890.1, upper=47_934.7)

Where one clock counted both (`graph_clock`) it is exact. On one machine in one run of the kernel CLOCK_MONOTONIC tells
(`monotonic_clock`). Between machines only the wall clocks do (`wall_clock`), and each anchor says how far its own may
have been off UTC, where the kernel knew: where it did not, there is an estimate and no bounds. Between anchors a clock
may be corrected by up to a thousandth, and that is in the bounds. They are those of the clocks: how late a device hands
over its samples is not in them.

Nothing that is stored is corrected, and nothing is told of what no anchor is near: InvalidRange.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple, Protocol

from chaos.read.recording import StreamRecording
from chaos.store.info import RecordingInfo
from chaos.store.lines import Definition
from chaos.store.timeline import Way, anchors_of
from chaos.terms.errors import InvalidRange, InvalidRequest
from chaos.terms.ledger import ClockAnchor
from chaos.terms.wallclock import is_step

__all__ = ["SLEW", "VALID_S", "Clock", "Place", "Relation", "has_step", "relate"]

VALID_S = 60.0
"""How far from its nearest anchor a frame may be; a recording has one at each chunk, every 10 s or so."""
_NS = 1_000_000_000
_SAME_COUNT_S = 1.0
SLEW = 1000  # a clock that is corrected gains or loses less than a thousandth


class Place(NamedTuple):
    """A frame, and between which frames it is sure to be; None, None where nobody knows."""

    frame: float
    lower: float | None
    upper: float | None

    @property
    def error(self) -> float | None:
        """How far it may be off, in frames."""
        return None if self.upper is None else self.upper - self.frame


class _Recording(Protocol):
    @property
    def info(self) -> RecordingInfo: ...


class _Moment(NamedTuple):
    ns: float
    error_ns: float | None


class Relation:
    """How the frames of `here` and `there` are related; `by` says what tells so. See `relate`."""

    def __init__(self, here: RecordingInfo, there: RecordingInfo) -> None:
        self._here, self._there = (Clock(each.definition, anchors_of(each)) for each in (here, there))
        one, other = here.definition, there.definition
        self.by: Way = "wall_clock"
        if one.boot_id and one.boot_id == other.boot_id:
            self.by = "monotonic_clock"
            ids = self._here.clock_ids | self._there.clock_ids
            is_one = (one.run_id, one.sample_rate) == (other.run_id, other.sample_rate)
            if is_one and len(ids) == 1 and None not in ids:
                self.by = "graph_clock"

    def place(self, frame: int) -> Place:
        """Where this frame of `here` is in `there`, also before its first frame or behind its last.

        Raises InvalidRange where no anchor of either is near, or the wall clock was set between two of them.
        """
        if self.by == "graph_clock":
            found = float(self._there.frame_at_position(self._here.position(frame)))
            by_time, _ = self._there.frame_at(self._here.moment(frame, is_wall=False).ns, is_wall=False)
            if abs(by_time - found) < _SAME_COUNT_S * self._there.rate:  # else it has begun anew between them
                return Place(found, found, found)
        is_wall = self.by == "wall_clock"
        moment = self._here.moment(frame, is_wall=is_wall)
        found, error_ns = self._there.frame_at(moment.ns, is_wall=is_wall)
        if moment.error_ns is None or error_ns is None:
            return Place(found, None, None)
        error = (moment.error_ns + error_ns) * self._there.rate / _NS
        return Place(found, found - error, found + error)

    def worst_error(self, first: int, last: int) -> float | None:
        """What none of the frames [first, last) is further off than, in frames of `there`; None where nobody knows.

        Raises as `place`.
        """
        ends = self.place(first), self.place(last - 1)
        if self.by == "graph_clock" and all(end.error == 0 for end in ends):
            return 0.0
        is_wall = self.by == "wall_clock"
        here = self._here.worst_ns(first, last - 1, is_wall=is_wall)
        there = self._there.worst_ns(ends[0].frame, ends[1].frame, is_wall=is_wall)
        return None if here is None or there is None else (here + there) * self._there.rate / _NS


def relate(here: _Recording, there: _Recording) -> Relation:
    """How the frames of two recordings (of `chaos.open`) are related. Raises InvalidRequest for a stream of several
    takes: each has clocks of its own."""
    for each in (here, there):
        if isinstance(each, StreamRecording):
            uris = [take.digest.definition.uri for take in each.takes]
            raise InvalidRequest(
                f"{each.uri} has {len(uris)} takes, each with clocks of its own",
                hint=f"open one of them, for example {uris[-1]}",
            )
    return Relation(here.info, there.info)


class Clock:
    """The clocks of one recording, by its anchors: those by frame, one at least."""

    def __init__(self, definition: Definition, anchors: Sequence[ClockAnchor]) -> None:
        self.rate = definition.sample_rate
        self.anchors = anchors
        self._uri = definition.uri
        self._frames = [anchor.frame for anchor in self.anchors]

    @property
    def clock_ids(self) -> set[int | None]:
        return {anchor.clock_id for anchor in self.anchors}

    def position(self, frame: int) -> int:
        before = self._before(frame)
        self.check_near(frame)
        return before.position + frame - before.frame

    def frame_at_position(self, position: int) -> int:
        at = max(0, bisect_right(self.anchors, position, key=lambda anchor: anchor.position) - 1)
        return self.anchors[at].frame + position - self.anchors[at].position

    def moment(self, frame: int, *, is_wall: bool) -> _Moment:
        self.check_near(frame)
        before, after = self._around(frame, is_wall=is_wall)
        at_before, at_after = _time(before, is_wall), _time(after, is_wall)
        if after.frame > before.frame:
            ns = at_before + (frame - before.frame) * (at_after - at_before) / (after.frame - before.frame)
        else:
            ns = at_before + (frame - before.frame) * _NS / self.rate
        return _Moment(ns, self._error_ns(frame, before, after, is_wall=is_wall))

    def frame_at(self, ns: float, *, is_wall: bool) -> tuple[float, float | None]:
        """The frame at a moment, and by how many ns that may be off."""
        at = max(0, bisect_right(self.anchors, ns, key=lambda anchor: _time(anchor, is_wall)) - 1)
        before = self.anchors[at]
        _, after = self._around(before.frame, is_wall=is_wall)
        if after.frame > before.frame and ns >= _time(before, is_wall):
            span_ns = _time(after, is_wall) - _time(before, is_wall)
            frame = before.frame + (ns - _time(before, is_wall)) * (after.frame - before.frame) / span_ns
        else:
            frame = before.frame + (ns - _time(before, is_wall)) * self.rate / _NS
        self.check_near(frame)
        return frame, self._error_ns(frame, before, after, is_wall=is_wall)

    def _before(self, frame: float) -> ClockAnchor:
        return self.anchors[max(0, bisect_right(self._frames, frame) - 1)]

    def _around(self, frame: float, *, is_wall: bool) -> tuple[ClockAnchor, ClockAnchor]:
        """The anchors before and behind it, or twice the same one at either end. Raises InvalidRange."""
        at = max(0, bisect_right(self._frames, frame) - 1)
        before, after = self.anchors[at], self.anchors[min(at + 1, len(self.anchors) - 1)]
        if is_wall and after is not before and has_step(before, after):
            raise InvalidRange(
                f"the wall clock was set while {self._uri} was recorded, between frames {before.frame} and"
                f" {after.frame}",
                hint="choose frames before or after that",
            )
        return (before, after) if frame >= before.frame else (before, before)

    def _error_ns(self, frame: float, before: ClockAnchor, after: ClockAnchor, *, is_wall: bool) -> float | None:
        off = min(abs(frame - before.frame), abs(frame - after.frame)) / self.rate * _NS / SLEW
        if not is_wall:
            return off
        if before.max_error_ns is None or after.max_error_ns is None:
            return None
        return max(before.max_error_ns, after.max_error_ns) + off

    def worst_ns(self, first: float, last: float, *, is_wall: bool) -> float | None:
        """What the moment of none of these frames is further off than; None where that is not known."""
        low = max(0, bisect_right(self._frames, first) - 1)
        high = min(bisect_right(self._frames, last), len(self._frames) - 1)
        anchors = self.anchors[low : high + 1]
        for anchor in anchors[:-1]:
            self._around(anchor.frame, is_wall=is_wall)
        places = [min(first, self._frames[low]), *self._frames[low : high + 1], max(last, self._frames[high])]
        widest = max(after - before for before, after in pairwise(places))
        if is_wall and any(anchor.max_error_ns is None for anchor in anchors):
            return None
        told = max(anchor.max_error_ns or 0 for anchor in anchors) if is_wall else 0
        return told + widest / self.rate * _NS / SLEW

    def check_near(self, frame: float) -> None:
        """Raises InvalidRange for a frame that no anchor is near."""
        at = bisect_right(self._frames, frame)
        near = min(abs(frame - self._frames[each]) for each in (max(0, at - 1), min(at, len(self._frames) - 1)))
        if near > VALID_S * self.rate:
            raise InvalidRange(
                f"no clock anchor of {self._uri} is within {VALID_S:g} s of frame {round(frame)}",
                hint=f"its anchors go from frame {self._frames[0]} to {self._frames[-1]}",
            )


def has_step(before: ClockAnchor, after: ClockAnchor) -> bool:
    """Whether the wall clock was set between two anchors."""
    elapsed_ns = after.monotonic_ns - before.monotonic_ns
    lead_ns, led_ns = (each.wall_ns - each.monotonic_ns for each in (after, before))
    return bool(after.step_ns) or is_step(lead_ns, led_ns, elapsed_ns)


def _time(anchor: ClockAnchor, is_wall: bool) -> int:
    return anchor.wall_ns if is_wall else anchor.monotonic_ns
