"""The rotator: seals full slots into the recording, and keeps its ledger. It alone touches unsealed data.

Over 400 lines, since sealing, checkpoints, the ledger and the end of a take share one order of events, which would be
harder to follow in pieces. What the callback hands over is taken in by `chaos.engine.intake`; what is held in standby
is in `chaos.engine.holding`.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import pykka

from chaos.engine.commands import Commands
from chaos.engine.holding import Holding, started
from chaos.engine.intake import Intake
from chaos.engine.messages import (
    Began,
    Broken,
    ClockWasSet,
    Interrupted,
    KeepStandby,
    Linked,
    MarkFrame,
    PortLatency,
    RetireChunks,
    Rotate,
    Stored,
    StoreRest,
    SwitchChunk,
    Tick,
    refuse,
    settle,
)
from chaos.engine.signal import Signal
from chaos.engine.supervised import Supervised
from chaos.engine.triggered import Triggers
from chaos.engine.turn import Progress, Turn
from chaos.protocol import events
from chaos.protocol.answers import ChunkSwitched, Marked, StreamKept
from chaos.protocol.events import Event
from chaos.protocol.requests import Levels
from chaos.staging.owner import Staging
from chaos.store.halfmade import HalfMade
from chaos.store.info import SealedChunk
from chaos.store.lines import Definition, LatencyLine
from chaos.store.marking import check_mark
from chaos.store.store import Store
from chaos.store.succession import forget_note, succeed
from chaos.store.writer import Full, RecordingWriter
from chaos.system.files import is_taken
from chaos.system.kernelclock import ClockQuality, clock_quality
from chaos.terms.chunking import is_short
from chaos.terms.errors import ChaosError, InvalidRange, InvalidRequest, StorageFailed, StorageFull
from chaos.terms.form import MidiForm
from chaos.terms.ledger import ClockAnchor, Gap
from chaos.terms.marks import Mark
from chaos.terms.moments import utc_text

__all__ = ["ChunkRotatorActor", "RotatorPlan"]

log = logging.getLogger(__name__)

LARGE_BYTES = 1 << 20
_AT_ONCE = 4  # chunks that are stored together where the disk is behind
_GAP_STEPS = 64


@dataclass(frozen=True, slots=True)
class RotatorPlan:
    """What a rotator is to do. `definition` still lacks what only the first frames tell: rate, start, run.

    `emit` publishes an event of the stream. `chunk_path` is where the first chunk goes under external
    rotation, None under the engine's own. Below `margin_bytes` of free space a warning is due. `quality` says what is
    known of the wall clock's error. With `standby_s` there is no recording before it is asked for (`KeepStandby`):
    until then so many seconds are held in the slots. `commands` are told of what is sealed and what has ended.
    With `levels` takes are made of it where it is loud.
    """

    store: Store
    definition: Definition
    emit: Callable[[Event], None]
    chunk_path: Path | None
    margin_bytes: int = 0
    quality: Callable[[], ClockQuality] = clock_quality
    standby_s: float | None = None
    silent_below_dbfs: float = -60.0
    silent_after_s: float = 30.0
    commands: Commands | None = None
    levels: Levels | None = None


class ChunkRotatorActor(Supervised):
    """Seals what the callback hands over: hash, write, fsync, journal, broadcast, slot given back.

    Storage that refuses is tried again every second; meanwhile frames stay in their slots, and frames that find no free
    slot are an overrun in the ledger. External rotation is the same but for the place: each chunk waits for the path
    that the controller gives.
    """

    thread_name = "chaosd-rotator"

    def __init__(
        self, stream: pykka.ActorRef[Any], staging: Staging, plan: RotatorPlan, turn: Turn | None = None
    ) -> None:
        super().__init__()
        self._turn = turn or Turn(staging, plan.store.root, plan.emit)
        self._stream = stream
        self._staging = staging
        self._slots = staging.slots
        self._plan = plan
        self._path = plan.chunk_path
        self._intake = Intake(plan.definition.uri, staging, self._turn, stream, plan.emit, plan.quality)
        self._recording: RecordingWriter | None = None
        self._made: HalfMade | None = None
        self._n_sealed = self._sealed_frame = 0
        self._ticked = (-1, 0)
        self._refused = ""
        self._is_low = False
        self._has_failed = False
        self._signal: Signal | None = None  # from the first samples on
        self._holding: Holding | None = None  # in standby, until it is kept
        self._n_held = self._n_held_gaps = self._n_held_lost = 0  # frames that it was kept with; of those in gaps
        self._n_marks = self._n_marks_gone = 0  # of the time in standby: in the recording, and of frames before it
        if plan.standby_s is not None:
            self._holding = Holding(plan.standby_s, staging, self._intake)
        self._triggers: Triggers | None = None
        if plan.levels is not None:
            self._triggers = Triggers(
                plan.levels, staging, plan.store, self._intake, self._defined, plan.emit, stream.tell, plan.commands
            )

    def begin(self) -> None:
        """Makes what a recording needs before its first frame, while the links are made."""
        if self._holding is not None:
            return
        try:
            self._plan.store.check("record into")  # nothing is to come into being in its place
            self._made = RecordingWriter.half_made(self._plan.store, self._plan.definition)
        except ChaosError as error:
            log.info("%s: %s", self._plan.definition.uri, error.message)  # tried again, and told, with the first frame
            self._turn.refused = error

    def carry_out(self, message: Any) -> None:
        with self._turn.taken():
            self._carry_out(message)

    def _carry_out(self, message: Any) -> None:
        if self._has_failed:
            if isinstance(message, SwitchChunk | MarkFrame | KeepStandby):
                hint = f"chaosctl status {self._plan.definition.uri} tells how it is"
                refuse(message.future, StorageFailed("the rotator has failed", hint=hint))
            return
        match message:
            case Rotate():
                self._work()
            case Tick():
                self._work(checkpoint=True)
                self._listen()
                self._intake.look_at_flow()
                self._intake.look_at_wall_clock()
                self._look_for_space()
            case ClockWasSet():
                self._intake.take_over()
                self._intake.look_at_wall_clock(was_set=True)
                self._work()
            case SwitchChunk(path, future):
                self._switch(path, future)
            case MarkFrame(label, frame, future):
                self._mark(label, frame, future)
            case KeepStandby(future):
                self._keep(future)
            case PortLatency(latency):
                self._intake.ledger.append(LatencyLine(self._slots.stats()["head_frame"], latency))
            case RetireChunks(chunks, gaps):
                self._retire(chunks, gaps)
            case Interrupted(cause, confidence):
                self._intake.interrupted(cause, confidence)
            case Linked(mark):
                self._intake.await_frames(mark)
            case StoreRest(end_ns):
                self._finish(end_ns)

    def failed(self, message: Any, error: ChaosError) -> None:
        """It is told once; after it the actor only refuses, until its stream stops it."""
        if not self._has_failed:
            self._has_failed = True
            self._stream.tell(Broken(error))
            self._close()

    def on_stop(self) -> None:
        self._close()

    # -- the work

    def _work(self, *, checkpoint: bool = False) -> None:
        """Takes over what the callback has handed in and stores it, as far as storage allows.

        With `checkpoint` also what the slot being filled holds, so that a power cut costs at most a second.
        """
        self._intake.look_at_rate(self._intake.take_over())
        if self._recording is None:
            self._intake.look_at_flow()  # first of all: a take may begin without a frame
        if self._holding is not None:
            self._hold(self._holding, checkpoint=checkpoint)
            return
        try:
            if self._recording is None and not self._open():
                return
            self._write_ledger()
            while self._intake.full and self._seal():
                pass
            if checkpoint:
                self._checkpoint()
        except (StorageFull, StorageFailed) as error:
            self._tell_refusal(error)

    # -- standby

    def _hold(self, holding: Holding, *, checkpoint: bool) -> None:
        """Tells of the first frame, and makes room for the next ones."""
        stats = self._slots.stats()
        if not stats["first_ns"]:
            return
        if not holding.has_begun:
            holding.has_begun = True
            definition = self._defined(*started(stats))
            self._tell_standby(definition)
            self._stream.tell(Began(definition, None))
        self._listen_to_full()
        if self._triggers is None:
            holding.release()
            return
        try:
            self._trigger(self._triggers, checkpoint=checkpoint)
            self._turn.refused = None
            if self._refused:
                self._refused = ""
                self._plan.emit(events.StorageRestored(path=str(self._plan.store.root)))
        except (StorageFull, StorageFailed) as error:
            self._tell_refusal(error)
        holding.release(self._triggers.needs, self._triggers.wants)

    def _tell_standby(self, definition: Definition) -> None:
        levels, standby_s = self._plan.levels, self._plan.standby_s
        assert standby_s is not None
        self._plan.emit(
            events.StreamStandby(
                device=definition.device,
                sample_rate=definition.sample_rate,
                channels=definition.channels,
                sample_format=definition.sample_format,
                standby_s=standby_s,
                above_dbfs=levels.above_dbfs if levels is not None else None,
            )
        )

    def _trigger(self, triggers: Triggers, *, checkpoint: bool) -> None:
        """Has takes made of what has come, as far as the ledger tells all of it: up to a gap that has not ended."""
        stats, gap = self._slots.stats(), self._staging.open_gap()
        filling = self._intake.take_over_all()
        triggers.look(None if filling is None else filling[:2])
        limit = stats["head_frame"] if gap is None else min(stats["head_frame"], gap.first_frame)
        gaps = [each for each in self._intake.ledger if isinstance(each, Gap)]
        limit = min([limit, *(each.first_frame for each in gaps if each.first_frame < limit < each.end_frame)])
        origin = ClockAnchor(0, stats["first_position"], *started(stats))
        triggers.work(limit, stats["sample_rate"], origin, checkpoint=checkpoint)

    def _keep(self, future: Any) -> None:
        """Begins the recording with the oldest held frame, and goes on. Where storage refuses all is as before."""
        uri = self._plan.definition.uri
        if self._plan.standby_s is None:
            hint = "chaosctl start --standby 60s holds the last minute until chaosctl keep"
            refuse(future, InvalidRequest(f"{uri} has been recorded from its start: all of it is kept", hint=hint))
            return
        if self._triggers is not None:
            hint = "its takes are recordings by themselves: chaosctl list shows them"
            refuse(future, InvalidRequest(f"{uri} records by its trigger alone", hint=hint))
            return
        if self._holding is not None:
            try:
                self._begin_recording(self._holding)
            except ChaosError as error:
                self._staging.hold_on()
                refuse(future, error)
                return
        self._work()
        recording = str(self._recording.path) if self._recording is not None else ""
        rate = self._slots.stats()["sample_rate"]
        marks, missing = (self._n_marks, self._n_marks_gone), (self._n_held_gaps, self._n_held_lost)
        settle(future, StreamKept(uri, recording, self._n_held, rate, *marks, *missing))

    def _begin_recording(self, holding: Holding) -> None:
        begin = holding.keep()
        if begin is None:  # then it begins with the first frame
            self._holding = None
            return
        held = self._slots.stats()
        self._create(self._defined(begin.monotonic_ns, begin.wall_ns))
        self._holding, self._n_held, self._n_marks_gone = None, held["head_frame"], begin.n_marks
        self._n_held_gaps, self._n_held_lost = held["n_gaps"], held["lost_frames"]
        self._n_marks = sum(isinstance(entry, Mark) for entry in begin.entries)
        if begin.n_marks:
            log.info("%s: %d marks were of frames before the oldest held one", self._plan.definition.uri, begin.n_marks)
        holding.count_from(begin)
        self._signal = None  # what is held is measured as the recording has it
        self._tell_progress()
        self._intake.count_from(begin.chunk * self._staging.form.chunk_frames)

    # -- the recording

    def _open(self) -> bool:
        """Makes the recording once the first frames are there. False before."""
        stats = self._slots.stats()
        if not stats["first_ns"]:
            return False
        self._create(self._defined(*started(stats)))
        return True

    def _defined(self, started_ns: int, wall_ns: int) -> Definition:
        return msgspec.structs.replace(
            self._plan.definition,
            sample_rate=self._slots.stats()["sample_rate"],
            started_monotonic_ns=started_ns,
            started_wall_ns=wall_ns,
        )

    def _create(self, definition: Definition) -> None:
        self._plan.store.check("record into")
        definition = succeed(self._plan.store, definition)
        made, self._made = self._made, None
        self._recording = RecordingWriter.create(self._plan.store, definition, made)
        self._staging.set_recording(self._recording.path)
        self._plan.emit(
            events.StreamStarted(
                recording=str(self._recording.path),
                device=definition.device,
                sample_rate=definition.sample_rate,
                channels=definition.channels,
                sample_format=definition.sample_format,
                chunk_frames=definition.chunk_frames,
                started_wall_ns=definition.started_wall_ns,
                started_utc=utc_text(definition.started_wall_ns),
            )
        )
        self._stream.tell(Began(definition, self._recording.path))
        if definition.follows is not None:
            try:
                forget_note(self._plan.store, definition)
            except ChaosError as error:
                self._tell_refusal(error)

    def _write_ledger(self) -> None:
        assert self._recording is not None
        while self._intake.ledger:
            entry = self._intake.ledger[0]
            if isinstance(entry, Gap):
                self._recording.gap(entry)
            elif isinstance(entry, LatencyLine):
                self._recording.latency(entry)
            elif isinstance(entry, Mark):
                self._recording.mark(entry)
            else:
                self._recording.anchor(entry)
            self._intake.ledger.popleft()

    def _seal(self) -> bool:
        """Stores the oldest full chunk, and with it others that are full, and gives their slots back; False where a
        controller has not said where to."""
        assert self._recording is not None
        if self._plan.chunk_path is not None and self._path is None:
            return False
        n = 1 if self._path is not None or self._refused else min(len(self._intake.full), _AT_ONCE)
        with ExitStack() as views:
            full = [
                Full(chunk, views.enter_context(self._staging.slot(slot)), *self._extent(chunk))
                for slot, chunk in list(self._intake.full)[:n]
            ]
            try:
                sealed = self._stored(full)
            except InvalidRequest as taken:  # a file has come to lie there since the controller named it
                self._path = None
                self._plan.emit(events.StreamError.of(taken, recoverable=True))
                return False
        self._path = None
        for each in sealed:
            self._slots.give_back(self._intake.full.popleft()[0])
            self._n_sealed += 1
            self._tell_sealed(each)
            self._sealed_frame = each.end_frame
        self._tell_progress()
        return True

    def _stored(self, full: list[Full]) -> list[SealedChunk]:
        assert self._recording is not None

        def account() -> None:
            for (slot, _), each in zip(list(self._intake.full), full, strict=False):  # more may become full meanwhile
                self._account_for(each.first_frame + each.n_frames, is_sealed=True)
                self._measure(slot, each.chunk, each.n_frames)

        if self._path is None:
            return self._recording.seal_all(full, account)
        account()
        (each,) = full
        return [self._recording.seal_external(each.chunk, each.data, self._path, each.first_frame, each.n_frames)]

    def _tell_sealed(self, sealed: SealedChunk) -> None:
        chunk, path, first, n_frames = sealed.chunk, str(sealed.path), sealed.first_frame, sealed.n_frames
        n_bytes = self._staging.form.chunk_bytes
        self._plan.emit(
            events.StreamChunkFull(
                chunk=chunk, path=path, first_frame=first, frames_written=n_frames, bytes_written=n_bytes
            )
        )
        self._plan.emit(
            events.StreamChunkSealed(chunk=chunk, path=path, hash=sealed.hash, first_frame=first, n_frames=n_frames)
        )
        if self._plan.commands is not None:
            self._plan.commands.sealed(path, self._plan.definition.uri)

    def _extent(self, chunk: int) -> tuple[int, int]:
        """A full chunk's first frame and how many frames of it count."""
        return chunk * self._staging.form.chunk_frames, self._n_filled(chunk)

    def _n_filled(self, chunk: int) -> int:
        """How many frames of a chunk the callback is done with: all, or of the last one up to the head."""
        form = self._staging.form
        return min(form.chunk_frames, self._slots.stats()["head_frame"] - chunk * form.chunk_frames)

    # -- what the samples are like

    def _listen(self) -> None:
        """Measures what has come since the last time."""
        filling = self._intake.take_over_all()
        self._listen_to_full()
        if filling is not None:
            self._measure(*filling)
        if self._signal is not None:
            self._tell_progress()

    def _listen_to_full(self) -> None:
        for slot, chunk in self._intake.full:
            self._measure(slot, chunk, self._n_filled(chunk))

    def _measure(self, slot: int, chunk: int, n_frames: int) -> None:
        """Measures a slot's first frames, as far as that was not done."""
        if isinstance(self._staging.form, MidiForm):
            return
        if self._signal is None:
            rate, channels = self._slots.stats()["sample_rate"], self._staging.form.channels
            self._signal = Signal(rate, channels, self._plan.silent_below_dbfs, self._plan.silent_after_s)
        origin = chunk * self._staging.form.chunk_frames
        first, end = max(self._signal.frame, origin), origin + n_frames
        if end <= first:
            return
        found = self._slots.measure(slot, first - origin, end - origin, origin)
        for event in self._signal.take(first, end, found):
            self._plan.emit(event)

    def _tell_progress(self) -> None:
        signal = None if self._signal is None else self._signal.status()
        self._turn.progress = Progress(self._n_sealed, self._intake.drift_ppm, signal, self._sealed_frame)

    def _checkpoint(self) -> None:
        assert self._recording is not None
        filling = self._slots.filling()
        if filling is None:
            self._account_for(self._slots.stats()["head_frame"])
        if self._intake.full or filling is None:
            self._recording.flush()
        else:
            slot, chunk, n_frames = filling
            first = chunk * self._staging.form.chunk_frames
            n_frames = max(0, self._account_for(first + n_frames) - first)
            moved = (chunk, n_frames) != self._ticked
            self._ticked = chunk, n_frames
            if moved and self._is_soon_full():
                n_frames = 0
            with self._staging.slot(slot) as data:
                self._recording.checkpoint(chunk, data, n_frames)
        if not self._intake.full:
            self._turn.refused = None
            if self._refused:
                self._refused = ""
                self._plan.emit(events.StorageRestored(path=str(self._recording.path)))

    def _account_for(self, head: int, *, is_sealed: bool = False) -> int:
        """Has the ledger tell of a gap that has not ended, before its zeros are stored; up to where it then tells
        all, `head` at most. Unless these frames are being sealed, a long gap is told on in steps of a 64th."""
        assert self._recording is not None
        gap = self._staging.open_gap()
        self._intake.take_over()
        self._write_ledger()
        if gap is None or gap.first_frame >= head or gap.first_frame == self._intake.closed:
            return head
        gap = msgspec.structs.replace(gap, n_frames=head - gap.first_frame)
        told = self._recording.open_gap
        is_told = told is not None and told.first_frame == gap.first_frame and not is_sealed
        if is_told and (gap.n_frames - told.n_frames) * _GAP_STEPS < told.n_frames:  # type: ignore[union-attr]
            return min(told.end_frame, head)  # type: ignore[union-attr]
        self._recording.extend(gap)
        return head

    def _is_soon_full(self) -> bool:
        """Whether chunks are sealed before they are a second old: to write large ones twice would only cost."""
        assert self._recording is not None
        is_large = self._staging.form.chunk_bytes >= LARGE_BYTES
        return is_large and is_short(self._staging.form.chunk_frames, self._recording.definition.sample_rate)

    # -- the rest

    def _tell_refusal(self, error: ChaosError) -> None:
        """Says so once, and again where the reason has become another one."""
        self._turn.refused = error
        if self._refused != error.code:
            self._refused = error.code
            log.warning("%s: %s", self._plan.definition.uri, error.message)
            self._plan.emit(events.StreamError.of(error, recoverable=True))
            if isinstance(error, StorageFull):
                self._plan.emit(events.StorageFull(error=error.to_wire()))
            elif isinstance(error, StorageFailed):
                self._plan.emit(events.StorageFailed(error=error.to_wire()))

    def _look_for_space(self) -> None:
        """Warns before the disk is full, once per time that it falls below the margin."""
        store, margin = self._plan.store.root, self._plan.margin_bytes
        try:
            free = shutil.disk_usage(store).free
        except OSError:
            return
        if free < margin and not self._is_low:
            log.warning("only %d bytes are free in %s", free, store)
            self._plan.emit(events.StorageLow(path=str(store), free_bytes=free, margin_bytes=margin))
        self._is_low = free < margin

    def _retire(self, chunks: list[SealedChunk], gaps: list[Gap]) -> None:
        if self._recording is None:
            return
        try:
            for gap in self._recording.retire(chunks, gaps):
                self._plan.emit(events.StreamGap.of(gap))
        except (StorageFull, StorageFailed) as error:
            self._tell_refusal(error)

    def _switch(self, path: Path, future: Any) -> None:
        uri = self._plan.definition.uri
        if self._plan.chunk_path is None:
            hint = "chaosctl start --chunk-path FILE starts a stream that is rotated from outside"
            refuse(future, InvalidRequest(f"{uri} rotates by itself", hint=hint))
            return
        try:
            taken = is_taken(path)
        except ChaosError as error:
            refuse(future, error)
            return
        if taken:
            refuse(future, InvalidRequest(f"{path} already exists", hint="name a new file"))
            return
        self._path = path
        settle(future, ChunkSwitched(uri))
        self._work()

    def _mark(self, label: str, frame: int | None, future: Any) -> None:
        """Durable with the next checkpoint, within a second; in standby with the recording, if it has that frame."""
        self._work()
        uri, head = self._plan.definition.uri, self._slots.stats()["head_frame"]
        mark = Mark(head if frame is None else frame, label)
        is_held = self._holding is not None and self._holding.has_begun
        if self._recording is None and not is_held:
            refuse(future, InvalidRequest(f"nothing of {uri} has been recorded yet", hint="try again once frames come"))
            return
        try:
            check_mark(uri, mark, head)
            if self._holding is not None and mark.frame < (first := self._holding.first_frame):
                hint = f"mark one from {first} on, or leave the frame out: the newest one is marked then"
                raise InvalidRange(f"frame {mark.frame} of {uri} is no longer held", hint=hint)
        except ChaosError as error:
            refuse(future, error)
            return
        if self._recording is not None:
            self._recording.mark(mark)
        else:
            self._intake.ledger.append(mark)
        self._plan.emit(events.StreamMark(frame=mark.frame, label=label))
        take = self._triggers.running if self._triggers is not None else None
        if take is not None and mark.frame >= take.first:
            settle(future, Marked(take.uri, take.recording, mark.frame - take.first, label))
            return
        recording = str(self._recording.path) if self._recording is not None else ""
        settle(future, Marked(uri, recording, mark.frame, label, self._note_on_mark()))

    def _note_on_mark(self) -> str:
        """Of a stream by level: the takes that have ended, and the one that runs, don't have the frame."""
        if self._plan.levels is None:
            return ""
        return f"no take has this frame: the mark is kept only if one begins within {self._plan.levels.pre_s:g} s of it"

    def _finish(self, end_ns: int | None) -> None:
        """Stores the rest and closes the recording. What storage refuses stays in staging for another start; what was
        in standby goes."""
        if self._holding is not None and self._triggers is None:
            self._stream.tell(Stored(0, None))
            self.stop()
            return
        self._intake.take_over()
        n_frames, gap = self._staging.finish(end_ns)
        if gap is not None:
            self._intake.ledger.append(gap)
            self._plan.emit(events.StreamGap.of(gap))
        self._intake.take_over()
        error: ChaosError | None = None
        misplaced: ChaosError | None = None
        if self._triggers is not None:
            self._finish_triggered(self._triggers, n_frames)
            return
        try:
            if self._recording is not None or self._open():
                self._write_ledger()
                while self._intake.full:
                    self._find_place(self._intake.full[0][1])
                    self._seal()
                assert self._recording is not None
                self._recording.finish(n_frames, clean=True)
                if (misplaced := self._recording.misplaced) is not None:
                    log.warning("%s: %s", self._plan.definition.uri, misplaced.message)
                    self._plan.emit(events.StreamError.of(misplaced, recoverable=True))
                if self._plan.commands is not None:
                    self._plan.commands.rolled(str(self._recording.path), self._plan.definition.uri)
        except ChaosError as refused:
            self._tell_refusal(refused)
            error = refused
        self._close()
        self._stream.tell(Stored(n_frames, error, misplaced))
        self.stop()

    def _finish_triggered(self, triggers: Triggers, n_frames: int) -> None:
        error: ChaosError | None = None
        try:
            if self._slots.stats()["first_ns"]:
                self._listen()
                self._trigger(triggers, checkpoint=False)
                triggers.finish(n_frames)
        except ChaosError as refused:
            self._tell_refusal(refused)
            error = refused
        self._close()
        self._stream.tell(Stored(0, error, triggers.misplaced))
        self.stop()

    def _find_place(self, chunk: int) -> None:
        """At the end nobody answers any more: a controller's last chunks go into the recording's own folder."""
        if self._plan.chunk_path is not None and self._path is None:
            assert self._recording is not None
            self._path = self._recording.path / "unclaimed" / str(chunk)

    def _close(self) -> None:
        if self._made is not None:
            self._made.discard()
        if self._recording is not None:
            self._recording.close()
        if self._triggers is not None:
            self._triggers.close()
