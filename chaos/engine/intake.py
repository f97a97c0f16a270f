"""What the callback hands over: full slots, gaps and anchors, in the order that they are to be stored in.

What the ledger is told of while it happens is here, too: a gap that is still open, a wall clock that was set, a graph
that stands or runs at another rate.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable
from typing import Any

import msgspec
import pykka

from chaos.engine.messages import Driven, WrongClock, WrongRate
from chaos.engine.standby import Entry
from chaos.engine.turn import Turn
from chaos.engine.watch import Watch
from chaos.protocol import events
from chaos.protocol.events import Event
from chaos.staging.owner import Staging
from chaos.system.kernelclock import ClockQuality, wall_offset_ns
from chaos.terms.errors import StagingFull
from chaos.terms.ledger import Cause, ClockAnchor, Confidence, Gap
from chaos.terms.marks import Mark
from chaos.terms.wallclock import is_step

__all__ = ["Intake"]

log = logging.getLogger(__name__)

_OFFSETS = 2  # a notice may come right after a tick has seen what it is of
_CLOCK_JUMPED = "the device's clock jumped here, and its frames went on"
_BY_TIME = "counted by time from here: the device's clock stands still"
_BY_POSITION = "counted by the device's clock from here"


class Intake:
    """Takes over from one take's `staging`. For its rotator's thread.

    `full` are full slots as (slot, chunk), the oldest first, and `ledger` what is to be written of them; who stores
    them takes them out. `emit` publishes an event of the stream, `stream` is told what is amiss with graph and clock,
    and `quality` says what is known of the wall clock's error.
    """

    def __init__(
        self,
        uri: str,
        staging: Staging,
        turn: Turn,
        stream: pykka.ActorRef[Any],
        emit: Callable[[Event], None],
        quality: Callable[[], ClockQuality],
    ) -> None:
        self.full: deque[tuple[int, int]] = deque()
        self.ledger: deque[Entry] = deque()
        self.closed = -1  # first frame of the gap that ended last
        self._uri = uri
        self._staging = staging
        self._slots = staging.slots
        self._turn = turn
        self._stream = stream
        self._emit = emit
        self._quality = quality
        self._watch = Watch()
        self._anchor: ClockAnchor | None = None  # the last one
        self._offsets: deque[tuple[int, int]] = deque(maxlen=_OFFSETS)  # of the wall clock, and when that was
        self._step_due = False  # the clock was set since the last anchor
        self._is_by_time = False  # what the last mark of it says
        self._stall: Gap | None = None  # told as an open gap, though it may turn out to be none
        self._owed_mark = ""  # of the frame that the next gap ends at

    @property
    def drift_ppm(self) -> float | None:
        """How fast the device's clock runs against CLOCK_MONOTONIC; None while that is not known."""
        return self._watch.drift_ppm

    # -- taking over

    def take_over(self) -> dict[str, int]:
        """Takes full slots and notes; the counters as they were before these, or after them where there were any."""
        while (full := self._slots.take_full()) is not None:
            self.full.append(full)
        offset_ns, quality = 0, None
        stats = self._slots.stats()  # before the notes: what they don't tell of has not happened by then
        for note in self._staging.notes():
            if quality is None:
                offset_ns, quality = wall_offset_ns(), self._quality()
            if note.is_gap:
                self._enter_gap(note.gap())
            else:
                self._enter_anchor(note.anchor(offset_ns), quality)
                if self._watch.new_clock(note.clock_id):
                    self._stream.tell(Driven(note.first_frame, note.clock_id))
                if note.is_by_time != self._is_by_time:
                    self._is_by_time = note.is_by_time
                    self._enter_mark(note.first_frame, _BY_TIME if note.is_by_time else _BY_POSITION)
                if note.has_jumped:
                    self._enter_jump(note.first_frame)
                self._watch.anchor(note.clock_id, note.position, note.monotonic_ns, note.rate)
        if self._stall is not None and stats["gap_first"] != self._stall.first_frame:
            self._close_stall()
        if quality is not None:
            stats = self._slots.stats()
        self.look_for_open_gap(stats)
        return stats

    def take_over_all(self) -> tuple[int, int, int] | None:
        """As `take_over`; gives the slot that was being filled before it, so that one that becomes full in between is
        in one of both."""
        filling = self._slots.filling()
        self.take_over()
        return filling

    def _enter_gap(self, gap: Gap) -> None:
        self.ledger.append(gap)
        self._watch.gap(gap)
        if self._stall is not None and self._stall.first_frame == gap.first_frame:
            self._stall = None  # the gap that it has been is told of as any other
        if gap.n_frames:
            self.closed = gap.first_frame
        self._emit(events.StreamGap.of(gap))
        self._enter_owed_mark(gap.end_frame)

    def _enter_anchor(self, anchor: ClockAnchor, quality: ClockQuality) -> None:
        """Enters an anchor with what is known of the clock's error, and whether the clock was set since the last."""
        step_ns, last = 0, self._anchor
        if self._step_due and last is not None:
            offset_ns, before_ns = (each.wall_ns - each.monotonic_ns for each in (anchor, last))
            if is_step(offset_ns, before_ns, anchor.monotonic_ns - last.monotonic_ns, was_set=True):
                step_ns = offset_ns - before_ns
        self._step_due = False
        state, max_error_ns, est_error_ns = quality
        self._anchor = msgspec.structs.replace(
            anchor, max_error_ns=max_error_ns, est_error_ns=est_error_ns, clock_state=state, step_ns=step_ns
        )
        self.ledger.append(self._anchor)

    def _enter_jump(self, frame: int) -> None:
        self._watch.measure_anew()
        self._enter_mark(frame, _CLOCK_JUMPED)

    def _enter_owed_mark(self, frame: int) -> None:
        label, self._owed_mark = self._owed_mark, ""
        if label:
            self._enter_mark(frame, label)

    def _enter_mark(self, frame: int, label: str) -> None:
        self.ledger.append(Mark(frame, label))
        self._emit(events.StreamMark(frame=frame, label=label))

    # -- gaps that have not ended

    def look_for_open_gap(self, stats: dict[str, int] | None = None) -> None:
        """Tells a gap while it is still open, once: its note only comes when it has ended."""
        stats = self._slots.stats() if stats is None else stats
        if stats["stalls"] and self._stall is None:
            self._stall = Gap(stats["head_frame"], 0, Cause(stats["gap_cause"]), Confidence.EXACT)
        if stats["gap_first"] >= 0:
            self._tell_open(Gap.open(stats["gap_first"], stats["gap_first"], Cause(stats["gap_cause"])))

    def interrupted(self, cause: Cause, confidence: Confidence) -> None:
        """No frame is to come for now: that is told before the clock can say how many are missing."""
        self.take_over()
        stats = self._slots.stats()
        self._watch.await_frames(stats, time.monotonic_ns())
        if stats["gap_first"] < 0 and stats["first_ns"]:
            self._tell_open(Gap(stats["head_frame"], 0, cause, confidence))
            self._slots.set_stalled()  # where the very next frame comes, it is told that this was no gap
            self.look_for_open_gap()

    def _close_stall(self) -> None:
        """The graph goes on with the very next frame: what was open is nothing."""
        assert self._stall is not None
        self._emit(events.StreamGap.of(self._stall))
        self._enter_owed_mark(self._stall.first_frame)
        self._stall = None

    def _tell_open(self, gap: Gap) -> None:
        if gap.first_frame == self._turn.told_open or not self._slots.stats()["first_ns"]:
            return
        self._turn.told_open = gap.first_frame
        self._emit(events.StreamGap.of(gap, is_open=True))
        if gap.cause is Cause.OVERRUN:
            full = StagingFull(
                f"no slot is free of {self._staging.n_slots}; frames are lost until one is stored",
                hint="a longer --staging-seconds rides out longer stalls",
            )
            self._emit(events.StreamError.of(full, recoverable=True))

    # -- the graph and the clocks

    def await_frames(self, mark: str = "") -> None:
        """Whether frames come is no longer known: the next ones are told, and so is a second without any. The first of
        them, where the gap ends, gets that mark."""
        self.take_over()  # what has ended by now is not that gap
        self._owed_mark = mark or self._owed_mark
        self._watch.await_frames(self._slots.stats(), time.monotonic_ns())

    def look_at_rate(self, stats: dict[str, int]) -> None:
        """Tells the stream, once, of a graph at another rate or by another clock than ours: nothing of it is kept."""
        found = self._watch.wrong_rate(stats)
        if found is not None:
            self._stream.tell(WrongRate(found))
        clock_id = self._watch.wrong_clock(stats)
        if clock_id is not None:
            self._stream.tell(WrongClock(clock_id))

    def look_at_flow(self) -> None:
        """Tells the stream when no frame has come for a second, and when they come again."""
        stats = self._slots.stats()
        flow = self._watch.flow(stats, time.monotonic_ns())
        if flow is None:
            return
        if flow.is_idle and stats["first_ns"] and stats["gap_first"] < 0:
            self._slots.set_stalled()
            self.look_for_open_gap()
        self._stream.tell(flow)

    def look_at_wall_clock(self, *, was_set: bool = False) -> None:
        """Enters an anchor where the wall clock was set, so that the ledger knows when that was: at once where the
        kernel tells, else to a second, and then only of steps that are none of a clock's own corrections."""
        now_ns, offset_ns, last = time.monotonic_ns(), wall_offset_ns(), self._anchor
        seen = self._offsets or [(offset_ns, now_ns)]
        before_ns, at_ns = seen[0 if was_set else -1]
        self._offsets.append((offset_ns, now_ns))
        if last is None or not is_step(offset_ns, before_ns, now_ns - at_ns, was_set=was_set):
            return
        self._offsets = deque([(offset_ns, now_ns)], maxlen=_OFFSETS)
        self._step_due = True
        stats = self._slots.stats()
        head, position, end_ns = stats["head_frame"], stats["position"], stats["end_ns"]
        if position - head == last.position - last.frame and stats["clock_id"] == last.clock_id and head > last.frame:
            anchor = ClockAnchor(head, position, end_ns, end_ns + offset_ns, last.clock_id)
            self._enter_anchor(anchor, self._quality())
        by_ns = offset_ns - before_ns
        log.warning("%s: the wall clock was set by %.3f s", self._uri, by_ns / 1e9)
        self._emit(events.ClockStepped(frame=head, by_ns=by_ns))

    # -- standby that is kept

    def count_from(self, first: int) -> None:
        """Frames count from `first` on from now on, as slots and ledger do already: what was told of them is told again
        as the recording has them."""
        self._turn.told_open, self.closed, self._stall = -1, self.closed - first, None
        if self._anchor is not None:
            self._anchor = msgspec.structs.replace(self._anchor, frame=self._anchor.frame - first)
        for entry in self.ledger:
            if isinstance(entry, Gap):
                self._emit(events.StreamGap.of(entry))
            elif isinstance(entry, Mark):
                self._emit(events.StreamMark(frame=entry.frame, label=entry.label))
        self.look_for_open_gap()
