"""Takes out of the standby ring: each a recording of its own, from `pre` before the first frame above a threshold on.

The ring goes on as if nothing were: what a take holds is copied out of the slots, with the part of the ledger that is
of it. What storage refuses is tried again with the next turn; until then its slots stay. A crash costs a take what has
come since its last checkpoint, up to a second: what is in the slots is a ring's, which nobody brings in.
"""

from __future__ import annotations

import datetime as dt
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

import msgspec

from chaos._audio import AudioSlots
from chaos.engine.commands import Commands
from chaos.engine.intake import Intake
from chaos.engine.messages import Triggered
from chaos.engine.standby import Entry, anchored_at, moved
from chaos.engine.trigger import Off, On, Trigger, first_above, last_above
from chaos.protocol import events
from chaos.protocol.events import Event
from chaos.protocol.requests import Levels
from chaos.staging.owner import Staging
from chaos.store.lines import Definition, LatencyLine
from chaos.store.store import Store
from chaos.store.writer import RecordingWriter
from chaos.terms.errors import ChaosError
from chaos.terms.ledger import ClockAnchor, Gap
from chaos.terms.marks import Mark
from chaos.terms.uri import of_free

__all__ = ["Triggers"]


class _Take:
    """One that runs: frames [first, copied) of the capture are in it."""

    def __init__(self, writer: RecordingWriter, first: int) -> None:
        self.writer = writer
        self.first = first
        self.copied = first
        self.n_sealed = 0  # frames of the chunks that are stored
        self.buffer = bytearray(writer.definition.form.chunk_bytes)
        self.written: set[Entry] = set()
        self.n_gaps = self.lost_frames = 0

    @property
    def room(self) -> int:
        """How many frames the chunk that fills has left; 0 where it is full and not stored yet."""
        return self.writer.definition.chunk_frames - self.n_filled

    @property
    def n_filled(self) -> int:
        """Frames of the chunk that fills."""
        return self.copied - self.first - self.n_sealed

    def seal(self) -> str:
        """Stores the chunk that fills, and begins the next one; the path of its file. Raises as the writer does."""
        size, n_frames = self.writer.definition.chunk_frames, self.n_filled
        chunk = self.n_sealed // size
        with memoryview(self.buffer) as view:
            sealed = self.writer.seal(chunk, view, chunk * size, n_frames)
        self.n_sealed += n_frames
        self.buffer[:] = bytes(len(self.buffer))
        return str(sealed.path)

    def checkpoint(self) -> None:
        """Makes what the chunk that fills has durable. Raises as the writer does."""
        with memoryview(self.buffer) as view:
            self.writer.checkpoint(self.n_sealed // self.writer.definition.chunk_frames, view, self.n_filled)


class Running(NamedTuple):
    """A take; `first` is its first frame, in frames of the capture."""

    uri: str
    recording: str
    first: int


class Triggers:
    """For the rotator's thread. What the `intake` has is the rotator's own, in frames of the capture.

    `define` gives a definition for a moment (CLOCK_MONOTONIC, wall clock), `tell` hears how it stands.
    """

    def __init__(
        self,
        levels: Levels,
        staging: Staging,
        store: Store,
        intake: Intake,
        define: Callable[[int, int], Definition],
        emit: Callable[[Event], object],
        tell: Callable[[Triggered], object],
        commands: Commands | None,
    ) -> None:
        self._levels = levels
        self._threshold = 10 ** (levels.above_dbfs / 20)
        self._staging = staging
        self._store = store
        self._intake = intake
        self._define = define
        self._emit = emit
        self._tell = tell
        self._commands = commands
        self._trigger: Trigger | None = None  # until the rate is known
        self._pre = 0
        self._due: deque[On | Off] = deque()
        self._take: _Take | None = None
        self._n_takes = 0
        self.misplaced: ChaosError | None = None
        """Of the take that ended last: that it isn't where it was made."""
        self._filling: tuple[int, int] | None = None

    # -- what the ring must keep

    @property
    def needs(self) -> int | None:
        """The first frame that must not go: of a take that runs, or is about to begin. None without one."""
        if self._take is not None:
            return self._take.copied
        return self._due[0].frame - self._pre if self._due else None

    @property
    def wants(self) -> int:
        """The first frame that a take might still begin with."""
        return max(0, self._trigger.frame - self._pre) if self._trigger is not None else 0

    @property
    def running(self) -> Running | None:
        """The take that runs."""
        if self._take is None:
            return None
        return Running(self._take.writer.definition.uri, str(self._take.writer.path), self._take.first)

    # -- a turn

    def work(self, limit: int, rate: int, origin: ClockAnchor, *, checkpoint: bool = False) -> None:
        """Takes in what has come up to frame `limit`, of which the ledger tells all. Raises as the writer does; then
        the next call goes on from there."""
        if self._trigger is None:
            self._pre = round(self._levels.pre_s * rate)
            self._trigger = Trigger(round(self._levels.hold_s * rate))
            self._trigger.frame = self._first_held()
        self._due.extend(self._trigger.scan(limit, self._find_first, self._find_last))
        while self._due:
            due = self._due[0]
            if isinstance(due, On):
                if self._take is None:
                    self._begin(due.frame, rate, origin)
            else:
                self._advance(due.frame)
                self._end(due.frame)
            self._due.popleft()
        if self._take is not None:
            self._advance(limit)
            if checkpoint:
                self._take.checkpoint()
            self._tell_take(self._take)

    def finish(self, limit: int) -> None:
        """The capture has ended: so does the take that runs, there."""
        self.misplaced = None
        if self._take is not None:
            self._advance(limit)
            self._end(limit)

    def close(self) -> None:
        """Leaves a take that runs as it is, for recovery."""
        if self._take is not None:
            self._take.writer.close()
            self._take = None

    # -- looking

    def _pieces(self, first: int, end: int) -> Iterable[tuple[int, int, int]]:
        """The slots that hold something of [first, end), in order: slot, and the part in frames of the capture. What is
        in none of them is in a gap."""
        size = self._staging.form.chunk_frames
        for slot, chunk in self._held():
            begin, stop = max(first, chunk * size), min(end, (chunk + 1) * size)
            if begin < stop:
                yield slot, begin, stop

    def look(self, filling: tuple[int, int] | None) -> None:
        """This slot (and its chunk) was being filled before the full ones were taken over."""
        self._filling = filling

    def _held(self) -> Iterator[tuple[int, int]]:
        """All slots that hold something, in order, with their chunks."""
        yield from self._intake.full
        if self._filling is not None and (not self._intake.full or self._filling[1] > self._intake.full[-1][1]):
            yield self._filling

    def _find_first(self, first: int, end: int) -> int | None:
        found = (first_above(self._looks_at(slot, a), a, b) for slot, a, b in self._pieces(first, end))
        return next((frame for frame in found if frame is not None), None)

    def _find_last(self, first: int, end: int) -> int | None:
        pieces = reversed(list(self._pieces(first, end)))
        found = (last_above(self._looks_at(slot, a), a, b) for slot, a, b in pieces)
        return next((frame for frame in found if frame is not None), None)

    def _looks_at(self, slot: int, frame: int) -> Callable[[int, int], bool]:
        """Whether some of a slot's frames are above; it has the one of this frame."""
        slots, size = self._staging.slots, self._staging.form.chunk_frames
        assert isinstance(slots, AudioSlots)
        origin = frame // size * size
        return lambda a, b: any(each[0] > self._threshold for each in slots.measure(slot, a - origin, b - origin))

    def _first_held(self) -> int:
        """The oldest frame that a slot holds."""
        return next((chunk for _, chunk in self._held()), 0) * self._staging.form.chunk_frames

    # -- a take

    def _begin(self, above: int, rate: int, origin: ClockAnchor) -> None:
        wanted = above - self._pre
        first = max(wanted, self._first_held())
        anchors = [entry for entry in self._intake.ledger if isinstance(entry, ClockAnchor)]
        before = [anchor for anchor in anchors if anchor.frame <= first]
        start = anchored_at(before[-1] if before else (anchors or [origin])[0], first, rate)
        writer = self._created(self._define(start.monotonic_ns, start.wall_ns))
        self._take = take = _Take(writer, first)
        self._n_takes += 1
        writer.anchor(msgspec.structs.replace(start, frame=0))
        take.written |= set(before)
        writer.mark(Mark(above - first, f"above {self._levels.above_dbfs:g} dBFS"))
        uri, path = writer.definition.uri, str(writer.path)
        self._emit(
            events.StreamTriggered(
                take=uri, recording=path, first_frame=first, n_before=above - first, is_short=first > wanted
            )
        )
        self._tell_take(take)

    def _tell_take(self, take: _Take) -> None:
        uri, path = take.writer.definition.uri, str(take.writer.path)
        self._tell(Triggered(self._n_takes, uri, path, take.copied - take.first))

    def _created(self, definition: Definition) -> RecordingWriter:
        """Named by the moment of its first frame, in UTC; with a number where somebody has that name. Raises as the
        writer does."""
        self._store.check("record into")
        moment = dt.datetime.fromtimestamp(definition.started_wall_ns // 1_000_000_000, dt.UTC)

        def create(uri: str) -> RecordingWriter:
            return RecordingWriter.create(self._store, msgspec.structs.replace(definition, uri=uri, staging=None))

        return of_free(f"{definition.uri}-{moment:%Y%m%dT%H%M%SZ}", create)

    def _advance(self, end: int) -> None:
        """Copies frames up to `end` into the take, and stores the chunks that are full."""
        take = self._take
        assert take is not None
        while take.copied < end:
            if not take.room:
                self._seal(take)
            stop = min(end, take.copied + take.room)
            self._copy(take, stop)
            self._enter(take, stop, end)
            take.copied = stop
        if not take.room:
            self._seal(take)

    def _seal(self, take: _Take) -> None:
        path = take.seal()
        if self._commands is not None:
            self._commands.sealed(path, take.writer.definition.uri)

    def _copy(self, take: _Take, end: int) -> None:
        form, size = take.writer.definition.audio, self._staging.form.chunk_frames
        width, into = form.sample_bytes, take.n_filled
        for slot, begin, stop in self._pieces(take.copied, end):
            at, n_frames = begin % size, stop - begin
            to = into + begin - take.copied
            with self._staging.slot(slot) as data:
                for channel in range(form.channels):
                    plane = channel * size
                    part = data[(plane + at) * width : (plane + at + n_frames) * width]
                    take.buffer[(plane + to) * width : (plane + to + n_frames) * width] = part

    def _enter(self, take: _Take, stop: int, end: int) -> None:
        """Enters what the ledger tells of the take's frames before `stop`; a gap is cut where the take may end."""
        for entry in list(self._intake.ledger):
            if entry in take.written:
                continue
            if isinstance(entry, Gap):
                if entry.first_frame < stop and entry.end_frame >= take.first:
                    self._gap(take, entry, end)
            elif take.first <= entry.frame < stop:
                shifted = moved(entry, take.first)
                if isinstance(shifted, LatencyLine):
                    take.writer.latency(shifted)
                elif isinstance(shifted, Mark):
                    take.writer.mark(shifted)
                elif isinstance(shifted, ClockAnchor):
                    take.writer.anchor(shifted)
                take.written.add(entry)

    def _gap(self, take: _Take, gap: Gap, end: int) -> None:
        first, last = max(gap.first_frame, take.first), min(gap.end_frame, end)
        if last < first or (gap.n_frames and last == first):
            return
        take.writer.gap(msgspec.structs.replace(gap, first_frame=first - take.first, n_frames=last - first))
        take.written.add(gap)
        take.n_gaps += bool(gap.n_frames)
        take.lost_frames += last - first

    def _end(self, frame: int) -> None:
        take = self._take
        assert take is not None
        if take.n_filled:
            self._seal(take)
        n_frames = frame - take.first
        take.writer.finish(n_frames, clean=True)
        self._take = None
        if (error := take.writer.misplaced) is not None:
            self.misplaced = error
            self._emit(events.StreamError.of(error, recoverable=True))
        uri, path = take.writer.definition.uri, str(take.writer.path)
        self._emit(
            events.StreamTriggerEnded(
                take=uri, recording=path, n_frames=n_frames, n_gaps=take.n_gaps, lost_frames=take.lost_frames
            )
        )
        self._tell(Triggered(self._n_takes, None, "", ended=(n_frames, take.n_gaps, take.lost_frames)))
        if self._commands is not None:
            self._commands.rolled(path, uri)
