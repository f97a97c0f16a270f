"""Recordings side by side: which frames of each lie in the same stretch of time, also of streams of several takes."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

from chaos.export.source import first_kept
from chaos.read.recording import Recording
from chaos.store.timeline import Aligned, Way, check_rates, loosest, overlapping, related
from chaos.terms.errors import InvalidRange

__all__ = ["Placed", "Stretch", "aligned_frames", "frame_in"]


class Placed(NamedTuple):
    """Frames [first, end) of a recording, and how many of the stretch's come `before` and `after` them."""

    recording: Recording
    first: int
    end: int
    before: int
    after: int


def frame_in(other: Recording, reference: Recording, frame: int) -> tuple[int, Way]:
    """The frame of `other` at a frame of the reference, and what tells so. Raises InvalidRange, as `related` does."""
    if other is reference:
        return frame, "graph_clock"
    origin, here = reference.take_at(frame)
    begin, there = other.take_at(0)
    while True:  # first by the first take, then by the one that it lies in, whose clock tells it exactly
        found, way = related(here, there, frame - origin)
        nearer, it = other.take_at(begin + found)
        if nearer <= begin:
            return begin + found, way
        begin, there = nearer, it


def aligned_frames(recordings: Sequence[Recording], first: int, end: int) -> Aligned:
    """The frames of all of them at the moments of frames [first, end) of the first one; what not all have is left out.

    Raises RateMismatch, or InvalidRange where they have no moment in common.
    """
    check_rates([each.definition for each in recordings])
    places = [frame_in(each, recordings[0], first) for each in recordings]
    return overlapping([each.uri for each in recordings], places, [each.n_frames for each in recordings], end - first)


class Stretch:
    """The time from the first frame that any of these recordings has to the last one, as they are now.

    Frames of it count at the rate of the first recording, from where the earliest of them begins (behind what retention
    removed there). `way` is what tells least exactly where they lie against each other.
    """

    def __init__(self, recordings: Sequence[Recording]) -> None:
        """At least one recording; each with frames. Raises InvalidRange where nothing tells where one of them lies."""
        self._reference = reference = recordings[0]
        self._recordings = list(recordings)
        self.sample_rate = rate = reference.sample_rate
        self._lengths = [each.n_frames for each in recordings]
        self._kept = [
            min(first_kept(each.gaps), n_frames) for each, n_frames in zip(recordings, self._lengths, strict=True)
        ]
        found = [frame_in(reference, each, kept) for each, kept in zip(recordings, self._kept, strict=True)]
        self.way = loosest(way for _, way in found)
        begins = [frame for frame, _ in found]
        self.origin = min(begins)
        self._before = [_scaled(begin - self.origin, each.sample_rate, rate)
                        for begin, each in zip(begins, recordings, strict=True)]  # fmt: skip
        ends = [
            begin + -_scaled(kept - n_frames, rate, each.sample_rate)
            for begin, each, kept, n_frames in zip(begins, recordings, self._kept, self._lengths, strict=True)
        ]
        self.n_frames = max(ends) - self.origin

    def frame_of(self, moment: float | datetime) -> int:
        if not isinstance(moment, datetime):
            return round(moment * self.sample_rate)
        return self._reference.frame_of(moment) - self.origin

    def moment_of(self, frame: int) -> datetime:
        return self._reference.moment_of(frame + self.origin)

    def placed(self, first: int = 0, end: int | None = None) -> list[Placed]:
        """What each has of frames [first, end) of the stretch; those that have nothing there are left out.

        All become equally long. Raises InvalidRange for a range that is empty or not in the stretch.
        """
        last = self.n_frames if end is None else end
        if not 0 <= first < last <= self.n_frames:
            raise InvalidRange(
                f"frames {first} to {last} are not all there: together they have {self.n_frames}",
                hint=f"choose a range between 0 and {self.n_frames}",
            )
        found = []
        for number, recording in enumerate(self._recordings):
            n_frames = -_scaled(first - last, recording.sample_rate, self.sample_rate)
            begin = self._begin(number, first)
            own, stop = max(begin, 0), min(begin + n_frames, self._lengths[number])
            if own < stop:
                found.append(Placed(recording, own, stop, own - begin, begin + n_frames - stop))
        if not found:
            raise InvalidRange("nothing was recorded in that range", hint="choose another one")
        return found

    def _begin(self, number: int, first: int) -> int:
        """The frame of a recording at a frame of the stretch. Its beginning is as it was found, so that none is cut."""
        if first == 0:
            return self._kept[number] - self._before[number]
        return frame_in(self._recordings[number], self._reference, first + self.origin)[0]


def _scaled(n_frames: int, to_rate: int, from_rate: int) -> int:
    """As many at another rate, rounded down."""
    return n_frames * to_rate // from_rate
