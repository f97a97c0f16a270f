"""How old what was captured is, by all that the clocks tell; where they contradict one another, between which bounds.

CLOCK_MONOTONIC is never wrong, but counts from the boot and stands still while the machine is suspended. The wall clock
can be anything: 1970 without a battery, a future date, set during a take. Retention takes nothing that one of them
still calls young.
"""

from __future__ import annotations

import time
from bisect import bisect_right
from collections.abc import Iterable
from typing import NamedTuple, Self

from chaos.store.info import RecordingInfo
from chaos.store.timeline import anchors_of
from chaos.system.machine import boot_id

__all__ = ["SAME_NS", "Age", "Clocks", "Now", "RecordingAge"]

_NS = 1_000_000_000
_EARLIEST_NS = 1_704_067_200 * _NS  # 2024-01-01: before it no chaosd was there to capture anything
_FOREVER_NS = 1 << 62
SAME_NS = 60 * _NS


class Now(NamedTuple):
    """This moment: both clocks, how long the machine has been suspended since it booted, and which boot that was."""

    wall_ns: int
    monotonic_ns: int
    suspended_ns: int
    boot_id: str

    @classmethod
    def read(cls) -> Self:
        monotonic_ns = time.monotonic_ns()
        suspended_ns = time.clock_gettime_ns(time.CLOCK_BOOTTIME) - monotonic_ns
        return cls(time.time_ns(), monotonic_ns, max(0, suspended_ns), boot_id())


class Age(NamedTuple):
    """Between these two (ns). `doubt` says in words why they differ, where clocks contradict one another."""

    least_ns: int
    most_ns: int
    doubt: str = ""


class Clocks:
    """The clocks of these recordings at one moment. What the takes of this boot say of the wall clock bounds it.

    `stands`: wall clock minus CLOCK_MONOTONIC (ns), as they stood once in other takes of this boot.
    """

    def __init__(self, infos: Iterable[RecordingInfo], now: Now, stands: Iterable[int] = ()) -> None:
        self._now = now
        walls = [now.wall_ns]
        for stand_ns in stands:
            wall_ns = stand_ns + now.monotonic_ns
            if wall_ns >= _EARLIEST_NS and wall_ns + now.suspended_ns + SAME_NS < now.wall_ns:
                walls.append(wall_ns)
        for info in infos:
            if info.definition.boot_id == now.boot_id:
                for anchor in anchors_of(info):
                    wall_ns = anchor.wall_ns - anchor.monotonic_ns + now.monotonic_ns
                    if anchor.wall_ns >= _EARLIEST_NS and wall_ns + now.suspended_ns + SAME_NS < now.wall_ns:
                        walls.append(wall_ns)
        self._wall_ns = min(walls)

    def of(self, info: RecordingInfo) -> RecordingAge:
        return RecordingAge(info, self._now, self._wall_ns)


class RecordingAge:
    """The age of a recording's frames. `wall_ns` is the earliest that the present moment may be."""

    def __init__(self, info: RecordingInfo, now: Now, wall_ns: int) -> None:
        self._anchors = anchors_of(info)
        self._rate = info.definition.sample_rate
        self._now = now
        self._wall_ns = wall_ns
        self._is_this_boot = info.definition.boot_id == now.boot_id
        offsets = [anchor.wall_ns - anchor.monotonic_ns for anchor in self._anchors]
        self._first_offset, self._last_offset = min(offsets), max(offsets)

    def wall_ns(self, frame: int) -> int:
        """When the frame was captured, by the wall clock as it last stood in that take: to order chunks by."""
        return self._monotonic_ns(frame) + self._last_offset

    def at(self, frame: int) -> Age:
        monotonic_ns = self._monotonic_ns(frame)
        youngest = self._wall_ns - (monotonic_ns + self._last_offset)
        oldest = self._now.wall_ns - (monotonic_ns + self._first_offset)
        if self._is_this_boot:
            awake = self._now.monotonic_ns - monotonic_ns
            elapsed = awake + self._now.suspended_ns
            is_told = awake - SAME_NS <= youngest and oldest <= elapsed + SAME_NS
            if is_told:
                return Age(youngest, oldest)
            return Age(awake, max(oldest, elapsed), "the wall clock was set since")
        if monotonic_ns + self._last_offset < _EARLIEST_NS:
            return Age(0, oldest, "the wall clock stood before 2024 when it was captured")
        if youngest < -SAME_NS:
            return Age(0, _FOREVER_NS, "it was captured at a moment that is still to come")
        if oldest - youngest > SAME_NS:
            return Age(max(0, youngest), oldest, "the wall clock was set meanwhile")
        return Age(youngest, oldest)

    def _monotonic_ns(self, frame: int) -> int:
        before = self._anchors[max(0, bisect_right(self._anchors, frame, key=lambda anchor: anchor.frame) - 1)]
        return before.monotonic_ns + (frame - before.frame) * _NS // self._rate
