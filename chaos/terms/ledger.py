"""The ledger: what a recording says of the frames it does not have, and of its clock.

Every frame of a recording's timeline is either stored or inside exactly one gap. Labels go over the wire and
into the journal, integers into arrays and shared memory; both are stable once released.
"""

from __future__ import annotations

import enum
import heapq
from collections.abc import Iterable, Sequence
from typing import Any, Self

import msgspec

__all__ = [
    "CLOCK_COLUMNS",
    "FIRST_CLOCK_COLUMNS",
    "GAP_COLUMNS",
    "Cause",
    "ClockAnchor",
    "ClockState",
    "Confidence",
    "Coverage",
    "Entries",
    "Gap",
    "Row",
    "lost_frames",
]

Row = tuple[int, ...]
"""A row of the `gaps` or the `clock` array of a recording: a number for each of its columns."""


class _Labelled(enum.IntEnum):
    @property
    def label(self) -> str:
        """The name on the wire: the member's own, in lower case."""
        return self.name.lower()

    @classmethod
    def from_label(cls, label: str) -> Self:
        """The member with this label; ValueError if there is none."""
        found = cls.__members__.get(label.upper())
        if found is None or label != found.label:
            raise ValueError(f"{label!r} is not a {cls.__name__.lower()}")
        return found


class Confidence(_Labelled):
    """How sure a gap's length is."""

    EXACT = 1
    CLOCK = 2  # from clocks: right to one quantum
    ESTIMATED = 3


class Cause(_Labelled):
    """Why frames are missing, and what is known of the length of such a gap before it has ended."""

    confidence: Confidence

    def __new__(cls, value: int, confidence: Confidence | None = None) -> Self:
        assert confidence is not None, "each cause says how sure the length of such a gap is"
        member = int.__new__(cls, value)
        member._value_ = value
        member.confidence = confidence
        return member

    MISSED = 1, Confidence.EXACT  # cycles that ran without us
    HARDWARE_XRUN = 2, Confidence.ESTIMATED  # the device's own buffer overflowed, as its driver estimates
    OVERRUN = 3, Confidence.EXACT  # we had no free slot
    DEVICE_AWAY = 4, Confidence.CLOCK
    DRIVER_SWITCH = 5, Confidence.CLOCK
    ENGINE_DOWN = 6, Confidence.CLOCK
    NO_DATA = 7, Confidence.EXACT  # cycles ran without the device's frames, or none ran for a second
    RETIRED = 8, Confidence.EXACT  # stored once, removed by retention
    FOREIGN = 9, Confidence.EXACT  # somebody had linked another source to our ports: not the device's audio alone
    MIDI_OVERFLOW = 10, Confidence.EXACT  # more events than a cycle's buffer or a chunk holds: none of these is kept
    CLOCK_JUMP = 11, Confidence.CLOCK  # the same driver's clock went on from elsewhere


class Gap(msgspec.Struct, frozen=True):
    """`n_frames` frames from `first_frame` on that the timeline has and the device's audio does not fill.

    They read as zeros. A discontinuity of unknown length (a driver switch) has `n_frames` 0.
    """

    first_frame: int
    n_frames: int
    cause: Cause
    confidence: Confidence

    @classmethod
    def open(cls, first_frame: int, head_frame: int, cause: Cause) -> Self:
        """A gap that has not ended, as far as it reaches now."""
        return cls(first_frame, head_frame - first_frame, cause, cause.confidence)

    @property
    def end_frame(self) -> int:
        return self.first_frame + self.n_frames

    def row(self) -> Row:
        """As a row of the recording's `gaps` array: GAP_COLUMNS."""
        return tuple(int(getattr(self, column)) for column in GAP_COLUMNS)

    @classmethod
    def from_row(cls, row: Row) -> Self:
        """The gap of such a row. ValueError if it is none."""
        values: dict[str, Any] = dict(zip(GAP_COLUMNS, row, strict=True))
        known = {"cause": Cause(values["cause"]), "confidence": Confidence(values["confidence"])}
        return cls(**values | known)

    def to_wire(self) -> dict[str, Any]:
        """As events, answers and the journal carry it: labels instead of integers."""
        return {**msgspec.structs.asdict(self), "cause": self.cause.label, "confidence": self.confidence.label}


GAP_COLUMNS = Gap.__struct_fields__


class ClockState(_Labelled):
    """What disciplined the wall clock, and so what its error is worth."""

    UNKNOWN = 0
    UNSYNCHRONIZED = 1  # nobody has set it for so long that the kernel vouches for nothing
    SYNCHRONIZED = 2  # the errors are those that the kernel was told
    TIMESYNCD = 3  # synchronized by systemd-timesyncd, which does not say how well


class ClockAnchor(msgspec.Struct, frozen=True):
    """One moment on all clocks: the recording's frame, the graph's position (frames), two clocks (ns).

    Positions are of one count where the `clock_id` is the same: that of the driver, as the graph numbers it.
    `max_error_ns` bounds how far the wall clock was from UTC, `est_error_ns` is how far it likely was, as the kernel
    knew; None where it could not know, and `clock_state` says why. `step_ns`: somebody set the wall clock by so much
    after the anchor before and not later than this one.
    """

    frame: int
    position: int
    monotonic_ns: int
    wall_ns: int
    clock_id: int | None = None
    max_error_ns: int | None = None
    est_error_ns: int | None = None
    clock_state: ClockState = ClockState.UNKNOWN
    step_ns: int = 0

    def row(self, columns: Sequence[str] | None = None) -> Row:
        """As a row of the recording's `clock` array: CLOCK_COLUMNS, or those of an older recording; -1 for None."""
        values = (getattr(self, column) for column in columns or CLOCK_COLUMNS)
        return tuple(-1 if value is None else int(value) for value in values)

    @classmethod
    def from_row(cls, row: Row) -> Self:
        """The anchor of such a row, which names no clock. ValueError if it is none."""
        if len(row) not in (len(CLOCK_COLUMNS), len(FIRST_CLOCK_COLUMNS)):
            raise ValueError("not a row of the clock")
        values: dict[str, Any] = dict(zip(CLOCK_COLUMNS, row, strict=False))
        for name in ("max_error_ns", "est_error_ns"):
            if values.get(name) == -1:
                values[name] = None
        return cls(**values | {"clock_state": ClockState(values.get("clock_state", 0))})


CLOCK_COLUMNS = tuple(name for name in ClockAnchor.__struct_fields__ if name != "clock_id")
FIRST_CLOCK_COLUMNS = CLOCK_COLUMNS[:4]
"""Those of recordings whose definition does not say `clock_errors`."""


class Entries:
    """The gaps of a recording in order of entry, where what retention takes goes on: one that begins where the one that
    was `retired` before it ended is one with it, so that a year of retention is no longer a ledger than a day of it.
    """

    def __init__(self) -> None:
        self.gaps: list[Gap] = []
        self._retired: int | None = None

    def add(self, gap: Gap) -> int:
        """The place that the gap has; another one than the last where it has gone into an earlier one."""
        if gap.cause is Cause.RETIRED and gap.n_frames:
            if self._retired is not None and self.gaps[self._retired].end_frame == gap.first_frame:
                before = self.gaps[self._retired]
                self.gaps[self._retired] = msgspec.structs.replace(before, n_frames=before.n_frames + gap.n_frames)
                return self._retired
            self._retired = len(self.gaps)
        self.gaps.append(gap)
        return len(self.gaps) - 1


def lost_frames(gaps: Iterable[Gap]) -> int:
    """How many frames were lost; those that retention removed were not."""
    return sum(gap.n_frames for gap in gaps if gap.cause is not Cause.RETIRED)


class Coverage:
    """How far a timeline is accounted for without a hole, from spans added in any order.

    `to` is the first frame that no span reaches; it only grows.
    """

    def __init__(self) -> None:
        self.to = 0
        self._ahead: list[tuple[int, int]] = []

    def add(self, first_frame: int, n_frames: int) -> None:
        if first_frame == self.to and not self._ahead:  # as it is, but for gaps that were known before they ended
            self.to += n_frames
            return
        heapq.heappush(self._ahead, (first_frame, first_frame + n_frames))
        while self._ahead and self._ahead[0][0] <= self.to:
            self.to = max(self.to, heapq.heappop(self._ahead)[1])
