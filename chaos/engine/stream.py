"""A stream: one device, one capture node, one take after another, from start to stop.

Over 400 lines, since every message of a stream changes the same few fields: what could stand alone (the feed, the life,
the take, the watch, the view) is in modules of its own.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from concurrent.futures import Future
from datetime import UTC, datetime
from typing import Any

import msgspec
import pykka

from chaos.engine.commands import Commands
from chaos.engine.feed import Feed
from chaos.engine.life import Life, may_lead_to
from chaos.engine.messages import (
    AcceptPort,
    AnswerStart,
    AskDevices,
    Began,
    Broken,
    CaptureState,
    Driven,
    Due,
    Flow,
    Intruder,
    KeepStandby,
    Led,
    LinkState,
    MarkFrame,
    Membership,
    OfTake,
    PastStored,
    PortLatency,
    Relink,
    RetireChunks,
    Roll,
    Rolled,
    SettleLatency,
    Stop,
    Stored,
    StreamGone,
    SwitchChunk,
    Target,
    Triggered,
    Wanted,
    WrongClock,
    WrongRate,
    refuse,
    settle,
    tell,
)
from chaos.engine.replies import Replies
from chaos.engine.rolling import next_roll_s, roll_period_s
from chaos.engine.schedule import Schedule
from chaos.engine.supervised import Supervised
from chaos.engine.take import Take, make_take, next_take_uri, uri_by_time
from chaos.engine.takes import Takes
from chaos.engine.view import StreamView
from chaos.graph.channels import Channel, check_again, check_start, find_ports
from chaos.graph.devices import DeviceInfo
from chaos.protocol import events
from chaos.protocol.answers import PortAccepted, StreamEnded, TriggerStatus
from chaos.protocol.config import Config
from chaos.protocol.requests import AudioFormat, StreamStart
from chaos.store.claims import Claim
from chaos.store.store import Store
from chaos.system.pump import Pump
from chaos.system.threads import priority_notes
from chaos.terms.errors import (
    ChaosError,
    ForeignClock,
    InternalError,
    InvalidRequest,
    PipeWireUnavailable,
    RateMismatch,
    StorageFailed,
    StorageFull,
    StreamExists,
    StreamNotFound,
)
from chaos.terms.ledger import Cause
from chaos.terms.marks import MAX_LABEL

__all__ = ["HELD", "InputStreamActor"]

log = logging.getLogger(__name__)

ANSWER_WITHIN_S = 5.0
HELD = "the other devices of its session are awaited for 3 s at most, to begin together"


class InputStreamActor(Supervised):
    """Follows one device and keeps its frames coming; leaves gaps, never another device's audio.

    `Target` messages from the registry say how things stand; the actor makes its capture node, links it to the device
    whenever all ports are there, and says *waiting* while they are not. `start_future` is answered once frames come,
    at once with `wait`, or after a few seconds with the state as it then is. What a message may do is in
    `chaos.engine.life`. Whatever goes wrong ends this stream and nothing else; once ended, the actor answers what
    still comes until the daemon has heard `StreamGone` and stops it.
    """

    thread_name = "chaosd-stream"

    def __init__(
        self,
        config: Config,
        request: StreamStart,
        view: StreamView,
        run_id: str,
        *,
        wanted: Wanted,
        pump: Pump,
        daemon: pykka.ActorRef[Any],
        registry: pykka.ActorRef[Any],
        emit: Callable[[events.Event], None],
        start_future: Future[Any],
        member: Membership | None = None,
        commands: Commands | None = None,
    ) -> None:
        super().__init__()
        self._config = config
        self._request = request
        self._view = view
        view.standby_s = request.ring_s
        if (levels := request.trigger) is not None:
            view.trigger = TriggerStatus(levels.above_dbfs, levels.pre_s, levels.hold_s, 0, None, "")
        self._run_id = run_id
        self._wanted = wanted
        self._pump = pump
        self._daemon = daemon
        self._registry = registry
        self._emit = emit
        self._member = member
        self._commands = view.commands = commands
        self._replies = Replies(start_future, with_trace=request.trace)
        self._life = Life.SEEKING
        self._feed = Feed(
            self.actor_ref, view, request, wanted=wanted, pump=pump, registry=registry, emit=emit
        )
        self._takes = Takes(self._make_take)
        self._schedule = view.schedule = Schedule(request, lambda: datetime.now(UTC), time.monotonic)
        self._is_early = self._schedule.is_early
        self._target: Target | None = None  # how things stand, while it is early
        self._led: dict[int, str | None] = {}  # what the current take's last mark says of it
        self._error: ChaosError | None = None  # why it ends, where nobody asked for that

    def begin(self) -> None:
        self._feed.follow()
        self._look_at_clock()
        if self._is_early:
            self._feed.pause(self._schedule.reason(), None)
            self._answer_start()
        elif not self._request.wait:
            self._pump.after(self._key("answer"), ANSWER_WITHIN_S, lambda: tell(self.actor_ref, AnswerStart()))

    def carry_out(self, message: Any) -> None:
        if isinstance(message, OfTake):
            self._hear(message)
        else:
            self._obey(message)

    def failed(self, message: Any, error: ChaosError) -> None:
        self._fail(error)

    def _hear(self, message: OfTake) -> None:
        """What a rotator tells. The next take's has something to tell as soon as the callback has come to it."""
        following = self._takes.following
        if following is not None and message.number == following.number:
            self._obey(Rolled())
        current = self._takes.current
        if current is not None and message.number == current.number:
            self._obey(message.message)
        elif isinstance(message.message, Stored | Broken) and self._takes.is_past(message.number):
            self._obey(PastStored(message.number, message.message))

    def _obey(self, message: Any) -> None:
        """Does what the message asks for, if it counts in this life."""
        before = self._life
        allowed = may_lead_to(message, before)
        if not allowed:
            return
        self._carry_out(message)
        if self._life not in allowed:
            raise InternalError(f"{type(message).__name__} led from {before.value} to {self._life.value}")

    def _carry_out(self, message: Any) -> None:
        match message:
            case Target():
                self._on_target(message)
                if self._request.wait and self._life in (Life.SEEKING, Life.CAPTURING, Life.ROLLING):
                    self._answer_start()
            case CaptureState(state, error):
                self._feed.on_capture_state(state, error)
            case LinkState(index, state, error):
                self._feed.on_link_state(index, state, error, self._takes.current)
            case PortLatency(latency, port):
                self._feed.on_port_latency(port, latency, self._takes.current)
            case SettleLatency():
                self._feed.settle_latency(self._takes.current)
            case Intruder(source):
                self._feed.on_intruder(source)
            case Relink():
                self._feed.relink()
            case Due():
                self._on_due()
            case Roll():
                self._roll()
            case Rolled():
                self._settle_roll()
            case Began(definition, recording):
                self._view.trace.note("first_frame", definition.started_monotonic_ns)
                self._view.sample_rate = definition.sample_rate
                self._view.started_wall_ns = definition.started_wall_ns
                if recording is not None:
                    self._on_recording(str(recording))
                self._view.take, self._view.continues = definition.uri, definition.continues
                self._schedule.has_begun()
                self._look_at_clock()
                self._answer_start()
            case Triggered():
                if (trigger := self._view.trigger) is not None:
                    told = msgspec.structs.asdict(message)
                    ended = told.pop("ended")
                    self._view.trigger = msgspec.structs.replace(trigger, **told)
                    if ended is not None:
                        self._takes.ended_by_level(*ended)
            case WrongRate(found):
                self._on_wrong_rate(found)
            case Driven(frame, clock_id):
                self._ask_leader(frame, clock_id)
            case Led(number, frame, leader):
                self._on_leader(number, frame, leader)
            case WrongClock(clock_id):
                self._on_wrong_clock(clock_id)
            case Flow():
                if not message.flows and self._is_held():
                    self._feed.hold(HELD)
                else:
                    self._feed.on_flow(message, self._takes.current)
                if self._view.state == "stalled":
                    self._answer_start()
            case SwitchChunk() | MarkFrame() | KeepStandby():
                self._pass_on(message)
            case RetireChunks():
                if self._takes.current is not None:
                    self._takes.current.tell(message)
            case AnswerStart():
                self._answer_start()
            case AcceptPort(future):
                self._accept_port(future)
            case Stop(future):
                self._replies.await_end(future)
                self._end()
            case Stored():
                self._takes.settle(message)
                self._finish_if_stored()
            case PastStored(number, end):
                self._takes.close_past(number, end)
                self._finish_if_stored()
            case Broken(error):
                self._fail(error)

    def _is_held(self) -> bool:
        """Whether no frame comes since its session has not begun."""
        member = self._member
        return member is not None and not self._view.has_begun and member.gate.holds(time.monotonic_ns())

    # -- begin and end by the clock

    def _look_at_clock(self) -> None:
        """Has itself told when it is time, or to look again."""
        if (delay_s := self._schedule.look_in_s()) is not None:
            self._pump.after(self._key("due"), delay_s, lambda: tell(self.actor_ref, Due()))

    def _on_due(self) -> None:
        if self._schedule.is_over:
            trigger = self._view.trigger
            if self._view.standby_s is not None and (trigger is None or not trigger.n_takes):
                log.warning("%s ends at its time: it was in standby to the end, so nothing is kept", self._view.uri)
            self._end()
            return
        self._look_at_clock()
        if self._is_early and not self._schedule.is_early:
            self._is_early = False
            if self._target is not None:
                self._on_target(self._target)

    # -- the device

    def _on_target(self, target: Target) -> None:
        if self._is_early:
            self._target, self._view.device = target, target.device
            return
        if self._feed.is_open and (target.has_lost_node or not self._feed.is_on(target.connection)):
            self._detach()
        take = self._takes.current
        if target.connection is None:
            self._feed.stand_by("PipeWire is not running", take)
        elif target.has_lost_node:
            reason = "another program removed chaosd's node from PipeWire: it is made anew"
            self._feed.stand_by(reason, take, Cause.MISSED)
            self._feed.retry()
        elif target.device is None:
            self._feed.stand_by(target.reason, take)
        else:
            self._try_to_attach(target, target.device)

    def _try_to_attach(self, target: Target, device: DeviceInfo) -> None:
        """A device that can't be recorded ends the stream before the first frame; later it is waited for as if it were
        away."""
        try:
            self._attach(target, device)
        except PipeWireUnavailable as error:
            self._feed.stand_by(error.message, self._takes.current)
            self._feed.retry()
        except ChaosError as error:
            take = self._takes.current
            if take is None or (take.number == 1 and not self._view.has_begun):
                self._refuse(error)
            elif not (self._request.roll_on_format_change and self._take_new_shape(device)):
                self._feed.stand_by(f"{device.description}: {error.message}", self._takes.current)

    def _attach(self, target: Target, device: DeviceInfo) -> None:
        assert target.connection is not None
        form = self._view.format()
        take = self._takes.current
        if take is None:
            take = self._begin_take(device, check_start(device, form, self._request.channel_map, target.graph_rate))
        elif device.ports:
            linked = {channel: pair[4] for channel, pair in zip(take.channels, target.pairs, strict=False)}
            find_ports(take.channels, device.ports, linked)
        remarks = check_again(device, form, target.graph_rate)
        self._tell_remarks(device, [*remarks, *([target.doubt] if target.doubt else [])])
        self._feed.attach(target.connection, device, target.pairs, take, target.doubt)

    def _begin_take(self, device: DeviceInfo, channels: tuple[Channel, ...]) -> Take:
        take = self._takes.begin(device, channels)
        self._view.staging, self._view.turn = take.staging, take.turn
        self._view.trace.note("take_made")
        if self._member is not None:
            self._member.gate.admit(take.staging.slots)
        self._life = Life.CAPTURING
        self._time_roll()
        return take

    def _time_roll(self) -> None:
        period_s = roll_period_s(self._request)
        if period_s is not None:
            delay_s = next_roll_s(period_s, self._request.align == "clock", datetime.now().astimezone())
            self._pump.after(self._key("roll"), delay_s, lambda: tell(self.actor_ref, Roll()))

    def _take_new_shape(self, device: DeviceInfo) -> bool:
        """Goes on in a new take with the device as it is now; False where that doesn't fit the request either."""
        self._detach()
        try:
            channels = check_start(device, self._view.asked, self._request.channel_map)
            take = self._takes.begin_anew(device, channels)
        except ChaosError as error:
            log.info("%s: no new take: %s", self._view.uri, error.message)
            return False
        self._view.renew(take.staging, take.turn)
        self._emit(events.StreamRolled(take=take.uri, continues=None))
        self._feed.follow_channels(take.channels)
        return True

    def _ask_leader(self, frame: int, clock_id: int) -> None:
        """Has itself told whose clock that is."""
        device, take, actor = self._view.device, self._takes.current, self.actor_ref
        if device is None or take is None:
            return
        number = take.number
        answer: Future[str | None] = Future()

        def found(done: Future[str | None]) -> None:
            if done.exception() is None:
                tell(actor, Led(number, frame, done.result()))

        answer.add_done_callback(found)
        tell(self._registry, AskDevices(lambda map_: map_.leader_of(device, clock_id), answer))

    def _on_leader(self, number: int, frame: int, leader: str | None) -> None:
        """Says whose clock the device runs by, where that is news; the recording has it as a mark at that frame."""
        is_news, self._view.leader = leader != self._view.leader, leader
        device, take = self._view.device, self._takes.current
        if is_news and device is not None:
            notes = self._view.notes
            self._emit(events.StreamNotice(notes=notes, sample_gain=device.sample_gain, muted=device.muted))
        if take is not None and take.number == number and self._led.get(number) != leader:
            self._led = {number: leader}
            label = f"resampled from here: runs by the clock of {leader}" if leader else "by its own clock from here"
            take.tell(MarkFrame(label[:MAX_LABEL], frame, Future()))

    def _on_wrong_clock(self, clock_id: int) -> None:
        error = ForeignClock(
            f"{self._wanted.identity} runs by the clock of node {clock_id}, not by its own; PipeWire would resample it",
            hint="end what joins the two (a call, a loopback, a common node.group), or leave --require-own-clock out",
            details={"clock_id": clock_id},
        )
        take = self._takes.current
        if self._view.has_begun or (take is not None and take.number > 1):
            self._feed.pause(error.message, take, Cause.DRIVER_SWITCH)  # until its own clock drives it again
        else:
            self._refuse(error)

    def _tell_remarks(self, device: DeviceInfo, remarks: list[str]) -> None:
        """Says what PipeWire does to the device's samples, where that has changed during a take."""
        is_news = self._view.has_begun and remarks != self._view.remarks
        self._view.device, self._view.remarks = device, remarks
        if is_news:
            notes = self._view.notes
            self._emit(events.StreamNotice(notes=notes, sample_gain=device.sample_gain, muted=device.muted))

    def _detach(self) -> None:
        self._feed.detach()
        if self._life is Life.ROLLING:
            self._settle_roll()

    def _accept_port(self, future: Future[Any]) -> None:
        if self._life in (Life.STORING, Life.ENDED):
            refuse(future, StreamNotFound(f"{self._view.uri} is stopping", hint="start another stream"))
            return
        self._feed.accept_port_change()
        settle(future, PortAccepted(self._view.uri))

    # -- takes

    def _make_take(
        self,
        device: DeviceInfo,
        channels: tuple[Channel, ...],
        number: int,
        continues: str | None,
        after_change: str | None,
    ) -> Take:
        uri, claim = (self._view.uri, None) if number == 1 else self._claimed(number, continues or after_change)
        try:
            return make_take(
                self.actor_ref,
                number,
                uri,
                config=self._config,
                request=self._request,
                asked=self._view.asked,
                device=device,
                channels=channels,
                run_id=self._run_id,
                pump=self._pump,
                emit=self._emit,
                continues=continues,
                after_change=after_change,
                member=self._member,
                standby_s=self._view.standby_s,
                commands=self._commands,
                claim=claim,
            )
        except BaseException:
            if claim is not None:
                claim.close()
            raise

    def _claimed(self, number: int, former: str | None) -> tuple[str, Claim | None]:
        """The next URI that nobody has, and what keeps it; without that where storage fails, which the take rides
        out."""
        store, claims = Store(self._config.store), list[Claim]()

        def is_free(uri: str) -> bool:
            try:
                claim = Claim(store, uri)
            except StreamExists:
                return False
            except (StorageFull, StorageFailed) as error:
                log.warning("%s: %s", uri, error.message)
                return not store.path(uri).exists()
            if store.path(uri).exists():
                claim.close()
                return False
            claims.append(claim)
            return True

        if former is not None and self._request.take_names == "time":
            uri = uri_by_time(self._view.uri, former, datetime.now(UTC), is_free)
        else:
            uri = next_take_uri(self._view.uri, number, is_free)
        return uri, claims[0] if claims else None

    def _on_recording(self, recording: str) -> None:
        self._view.trace.note("recording_made")
        self._view.recording = recording
        if self._view.standby_s is not None:  # takes are as long as was asked for from here on
            self._view.keep()
            self._time_roll()

    def _roll(self) -> None:
        """Prepares the next take; the callback goes over to it where the device's frames have no seam."""
        self._time_roll()
        device, current = self._view.device, self._takes.current
        if not self._feed.is_open or device is None or current is None or not current.has_begun:
            return
        if self._view.standby_s is not None:
            return
        try:
            following = self._takes.prepare(device)
        except ChaosError as error:
            self._emit(events.StreamError.of(error, recoverable=True))
            return
        if self._view.latency is not None:
            following.tell(PortLatency(self._view.latency))
        self._life = Life.ROLLING
        self._feed.go_on_with(following.staging.slots)

    def _settle_roll(self) -> None:
        """Goes over to the next take, or drops it where the callback will never come to it."""
        former = self._takes.roll()
        current = self._takes.current
        if former is not None and current is not None:
            self._view.staging, self._view.turn = current.staging, current.turn
            self._emit(events.StreamRolled(take=current.uri, continues=former.uri))
        self._life = Life.CAPTURING

    def _pass_on(self, message: SwitchChunk | MarkFrame | KeepStandby) -> None:
        """To the rotator, which answers."""
        current = self._takes.current
        if self._life in (Life.STORING, Life.ENDED):
            error: ChaosError = StreamNotFound(
                f"{self._view.uri} is stopping", hint="nothing more can be asked of it"
            )
        elif current is None:
            why = self._schedule.reason() if self._is_early else "the device has not been there yet"
            error = InvalidRequest(f"{self._view.uri} has no frames yet: {why}", hint="try again once frames come")
        elif current.tell(message):
            return
        else:
            error = InternalError("the rotator has failed", hint=f"chaosctl status {self._view.uri} tells how it is")
        refuse(message.future, error)

    # -- begin and end

    def _answer_start(self) -> None:
        self._pump.cancel(self._key("answer"))
        self._view.priority = priority_notes() if self._feed.is_open else []
        self._replies.started(self._view, self._takes.current)

    def _on_wrong_rate(self, found: int) -> None:
        form = self._view.format()
        wanted = form.sample_rate if isinstance(form, AudioFormat) else self._view.sample_rate
        why = "PipeWire would resample" if isinstance(form, AudioFormat) else "its frames would be others"
        error = RateMismatch(
            f"the graph runs at {found} Hz, {self._wanted.identity} is recorded at {wanted} Hz; {why}",
            hint=f"set PipeWire's clock to {wanted} Hz (pw-metadata -n settings 0 clock.force-rate {wanted})",
            details={"wanted": wanted, "found": found},
        )
        take = self._takes.current
        if self._view.has_begun or (take is not None and take.number > 1):
            self._feed.pause(error.message, self._takes.current)  # until frames of the right rate come again
        else:
            self._refuse(error)

    def _refuse(self, error: ChaosError) -> None:
        """Ends the stream with an error that people are told."""
        self._error = error
        if self._replies.has_started:
            self._emit(events.StreamError.of(error, recoverable=False))
        self._end()

    def _end(self) -> None:
        """Detaches the callback and lets the rotator store the rest; `Stored` goes on from there."""
        if self._life in (Life.STORING, Life.ENDED):
            return
        end_ns = time.monotonic_ns()
        self._detach()
        self._cancel_timers()
        if self._takes.current is None:
            self._finish(Stored(0, None))
            return
        self._life = Life.STORING
        self._takes.store_rest(end_ns)

    def _finish_if_stored(self) -> None:
        if self._life is Life.STORING and (stored := self._takes.stored) is not None:
            self._finish(stored)

    def _finish(self, stored: Stored) -> None:
        """Everything is stored, as far as storage took it: whoever waits is answered."""
        stats = self._view.stats()
        unsound = stored.error or stored.misplaced
        clean = unsound is None and self._error is None
        counts = self._view.standby_s is None  # what was in standby counts for nothing
        by_level = self._view.trigger is not None
        stopped = events.StreamStopped(
            recording=self._view.recording,
            n_frames=stored.n_frames,
            n_chunks=self._view.progress.n_chunks_sealed,
            n_gaps=stats["n_gaps"] if counts else 0,
            lost_frames=stats["lost_frames"] if counts else 0,
            clean=clean,
            total=self._takes.total(stats, by_level=by_level) if counts or by_level else None,
        )
        signal = self._view.progress.signal if counts else None
        told = msgspec.structs.asdict(stopped)
        n_takes = self._view.trigger.n_takes if self._view.trigger is not None else None
        if by_level and stopped.total is not None:
            n_takes = stopped.total.n_takes
        result = StreamEnded(
            uri=self._view.uri, signal=signal, **told, sample_rate=self._view.sample_rate, n_takes=n_takes
        )
        self._view.state = "stopped" if clean else "error"
        if self._error is None:
            self._answer_start()
        self._takes.close(keep_staging=stored.error is not None)
        self._emit(stopped)
        self._leave(unsound if unsound is not None else result)
        if self._error is not None:  # whoever hears it may use the URI again
            self._replies.refuse_start(self._error)

    def _leave(self, end: StreamEnded | ChaosError) -> None:
        """Nothing is left to do but to answer."""
        self._life = Life.ENDED
        self._view.staging = self._view.turn = None
        _try(self._feed.close)
        is_told = tell(self._daemon, StreamGone(self._view.uri))  # first: whoever is answered finds it gone
        self._replies.ended(end)
        if not is_told:
            self.stop()

    def _fail(self, error: BaseException) -> None:
        """A defect of ours, or of a thread below: the stream ends; what is in staging stays there for recovery."""
        if self._life is Life.ENDED:
            return
        log.error("%s failed: %s", self._view.uri, error)
        failure = _failure(error)
        _try(lambda: self._emit(events.StreamError.of(failure, recoverable=False)))
        for step in (self._cancel_timers, self._feed.detach, self._takes.abandon):
            _try(step)
        self._replies.refuse_start(failure)
        self._view.state = "error"
        self._leave(failure)

    def _cancel_timers(self) -> None:
        for name in ("answer", "roll", "due"):
            self._pump.cancel(self._key(name))

    def _key(self, timer: str) -> tuple[str, str]:
        return self._view.uri, timer


def _failure(error: BaseException | None) -> InternalError:
    return InternalError(f"the stream failed: {error}", hint="what was captured is in the recording or in staging")


def _try(step: Callable[[], object]) -> None:
    """Does what may fail without keeping the rest of an end from being done."""
    try:
        step()
    except Exception:
        log.exception("a step of a stream's end failed")
