"""The daemon: takes commands, keeps the streams, numbers and keeps the events.

Over 400 lines, since every op passes here; what becomes of it is in streams, sessions and recordings.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

import msgspec
import pykka

from chaos import __version__
from chaos._connection import library_version
from chaos.engine.history import EventHistory
from chaos.engine.messages import (
    AskDevices,
    Call,
    Command,
    Emit,
    End,
    HeadsWanted,
    StreamGone,
    Wait,
    refuse,
    settle,
    tell,
    when_all,
)
from chaos.engine.recordings import Recordings
from chaos.engine.registry import DeviceRegistryActor
from chaos.engine.sessions import Sessions
from chaos.engine.space import IDLE_LOOK_S, LOOK_S, Room, Space, StoreWatch
from chaos.engine.streams import Running, Stream, Streams, are_stored
from chaos.engine.supervised import Supervised, as_chaos_error
from chaos.engine.uploading import Uploading
from chaos.graph.devices import DeviceMap
from chaos.protocol import events
from chaos.protocol.answers import (
    DeviceFound,
    Devices,
    EngineStatus,
    Nothing,
    PipeWireStatus,
    Pong,
    StagingStatus,
    StoreStatus,
)
from chaos.protocol.codec import PROTOCOL_VERSION
from chaos.protocol.config import IN_MEMORY, Config, file_system_of
from chaos.protocol.events import Published
from chaos.protocol.requests import (
    REQUESTS,
    DeviceFind,
    DeviceList,
    DeviceWait,
    EventsSince,
    Ping,
    RecordingList,
    Request,
    Retire,
    SessionKeep,
    SessionList,
    SessionStart,
    SessionStatusOf,
    SessionStop,
    SetMark,
    Shutdown,
    Slice,
    Status,
    StreamAcceptPort,
    StreamKeep,
    StreamList,
    StreamStart,
    StreamStatusOf,
    StreamStop,
    StreamSwitchChunk,
    Verify,
)
from chaos.protocol.uploads import Told, Uploaded
from chaos.system.pump import Pump
from chaos.system.threads import data_thread, priority_notes
from chaos.terms.counting import counted
from chaos.terms.errors import (
    ChaosError,
    InternalError,
    UnknownOp,
)

if TYPE_CHECKING:
    from chaos.store.kept import Kept
    from chaos.store.recovery import RecoveryReport
    from chaos.store.retention import Retired

__all__ = ["DaemonActor"]

log = logging.getLogger(__name__)

RETIRE_EVERY_S = 60.0
STOP_REGISTRY_S = 5.0
RECOVERY_WITHIN_S = 20.0
_FOLLOWING = (
    *(SetMark, StreamAcceptPort, StreamStatusOf, StreamStop, StreamSwitchChunk),
    *(SessionKeep, SessionStatusOf, SessionStop),
)  # take effect after a start of the same name that was sent before them


_WAKING = (events.StreamStarted, events.StreamChunkSealed, events.StreamMark, events.StreamStopped)
"""Events after which there may be something to upload."""


class DaemonActor(Supervised):
    """Every command comes here; one that takes long is passed on with its future, so that nobody waits for it.

    `publish` sends an event. `running` holds the streams, for whoever has to end them if this actor can't.
    `on_shutdown` is called when a client asks for the end, `on_defect` where the daemon can't go on.
    """

    thread_name = "chaosd-daemon"

    def __init__(
        self,
        config: Config,
        run_id: str,
        pump: Pump,
        publish: Callable[[Published], None],
        running: Running,
        on_shutdown: Callable[[], object],
        on_defect: Callable[[BaseException], object],
    ) -> None:
        super().__init__()
        self._config = config
        self._run_id = run_id
        self._pump = pump
        self._on_shutdown = on_shutdown
        self._on_defect = on_defect
        self._began = time.monotonic()
        self._history = EventHistory(run_id, config.event_history, config.event_history_bytes, publish)
        self._recordings = Recordings(config, lambda uri: self._streams.view(uri), self._on_retired, self._on_doubt)
        self._running = running
        self._streams = Streams(config, run_id, pump, self.actor_ref, self._recordings.work, running)
        self._sessions = Sessions(
            self._streams, pump, self.actor_ref, self._recordings.work, self._recordings.catalog, self._emit
        )
        self._space = Space(config.store, config.staging_dir, pump)
        self._store_watch = StoreWatch(config.store, running, self._emit)
        self._looks_often = False  # at the store's folder
        self._told_upload = ("", "")
        self._uploading = Uploading(config, lambda told: tell(self.actor_ref, Call(lambda: self._on_uploaded(told))))
        self._registry: pykka.ActorRef[Any] | None = None
        self._doubted: set[str] = set()
        self._ending: Future[bool] | None = None  # whether all is stored
        self._recovery: Future[RecoveryReport] = Future()
        self._may_start: Future[None] = Future()
        self._put_off: list[Command] | None = []  # starts, and what follows them, until `_may_start`; None after it
        self._ops: dict[type[Request], Callable[[Any, Future[Any]], object]] = {
            Ping: self._ping,
            Status: self._status,
            DeviceList: self._device_list,
            DeviceFind: self._device_find,
            DeviceWait: self._device_wait,
            StreamStart: self._stream_start,
            StreamSwitchChunk: self._streams.switch_chunk,
            SetMark: self._mark,
            StreamStop: self._streams.stop,
            StreamAcceptPort: self._streams.accept_port,
            StreamKeep: self._streams.keep,
            SessionStart: self._session_start,
            SessionStop: self._sessions.stop,
            SessionKeep: self._sessions.keep,
            SessionStatusOf: self._sessions.status,
            SessionList: self._sessions.list_all,
            StreamList: self._streams.list_all,
            StreamStatusOf: self._streams.status,
            RecordingList: self._recordings.list_all,
            Slice: self._recordings.slice,
            Verify: self._recordings.verify,
            Retire: self._recordings.retire,
            EventsSince: self._events_since,
            Shutdown: self._shutdown,
        }
        assert self._ops.keys() == set(REQUESTS.values()), "an op has no method here"

    def begin(self) -> None:
        self._emit(events.DaemonStarted(version=__version__, pid=os.getpid()))
        if (kind := file_system_of(self._config.staging_dir)) not in IN_MEMORY:
            log.warning("staging lies in %s on %s, not in memory: capture may stall", self._config.staging_dir, kind)
        self._registry = DeviceRegistryActor.start(self._config.remote, self._pump, self.actor_ref)
        self._streams.begin(self._registry)
        self._look_at_store()
        self._uploading.start()
        self._pump.after("recovery", RECOVERY_WITHIN_S, lambda: settle(self._may_start, None))
        self._may_start.add_done_callback(lambda _: self._pump.cancel("recovery"))
        self._may_start.add_done_callback(lambda _: tell(self.actor_ref, Call(self._begin_put_off)))
        self._recovery.add_done_callback(lambda _: settle(self._may_start, None))
        rechecked: Future[RecoveryReport] = Future()
        for future in (self._recovery, rechecked):
            future.add_done_callback(lambda done: tell(self.actor_ref, Call(lambda: self._tell_recovery(done))))
        if self._config.keep is not None:
            self._retire_regularly()
        self._recordings.recover(self._config.staging_dir, self._recovery, rechecked)

    def on_stop(self) -> None:
        self._uploading.close()
        self._recordings.close()
        self._space.close()
        self._streams.close()
        if self._registry is not None:
            try:
                self._registry.stop(timeout=STOP_REGISTRY_S)
            except pykka.Timeout:
                log.error("the registry hangs and is left behind")

    def carry_out(self, message: Any) -> None:
        match message:
            case Command(request, future):
                self._obey(request, future)
            case Emit(event, uri):
                self._emit(event, uri)
            case StreamGone(uri):
                self._streams.gone(uri)
                self._history.forget(uri)
                self._sessions.on_gone(uri)
            case HeadsWanted(wanted):
                self._on_heads(wanted)
            case End(done):
                self._end(done)
            case Call(function):
                function()

    def failed(self, message: Any, error: ChaosError) -> None:
        """A message that failed does not end it; a beginning that failed does: nothing works without a registry."""
        if message is None:
            self._on_defect(error)
        elif isinstance(message, StreamGone):
            self._streams.gone(message.uri)
            self._sessions.on_gone(message.uri)
        elif isinstance(message, Call | Command):
            if message.future is not None:
                self._streams.drop(message.future)
                self._sessions.drop(message.future)
            if self._may_start.done():
                self._begin_put_off()
        if message is None or not isinstance(message, Command | Emit):
            self._emit(events.DaemonError.of(error, recoverable=message is not None))

    def _obey(self, request: Request, future: Future[Any]) -> None:
        op = self._ops.get(type(request))
        try:
            if op is None:
                name = type(request).__struct_config__.tag
                raise UnknownOp(f"{name} is not served by this daemon", hint="it comes with a later release")
            if not self._is_put_off(request, future):
                op(request, future)
        except ChaosError as error:
            refuse(future, error)

    # -- events

    def _emit(self, event: events.Event, uri: str | None = None) -> None:
        self._history.add(event, uri)
        if isinstance(event, _WAKING):
            self._uploading.wake()
        if isinstance(event, events.StreamStarted):
            self._look_at_store(uri)
        elif uri in self._running and not self._looks_often:
            self._look_at_store()
        if uri is not None and isinstance(event, events.StreamState):
            self._sessions.on_state(uri, event.state)
        if uri is not None and uri not in self._running:
            self._history.forget(uri)

    def _look_at_store(self, uri: str | None = None) -> None:
        """Looks, and looks again: soon while something is recorded, so that nothing wakes an idle daemon."""

        def hear(done: Future[Room]) -> None:
            tell(self.actor_ref, Call(lambda: self._hear_of_store(done.result(), uri)))

        self._looks_often = bool(self._running)
        again_s = LOOK_S if self._looks_often else IDLE_LOOK_S
        self._pump.after("store", again_s, lambda: tell(self.actor_ref, Call(self._look_at_store)))
        self._space.ask().add_done_callback(hear)

    def _hear_of_store(self, room: Room, uri: str | None) -> None:
        self._store_watch.hear(room, uri)
        for stream in self._running.values():
            stream.view.astray = self._store_watch.reason

    def _on_heads(self, wanted: bool) -> None:
        """Heads are told only while somebody listens for them."""
        if wanted:
            period_s = 1 / self._config.head_position_hz
            self._pump.every("heads", period_s, lambda: tell(self.actor_ref, Call(self._tell_heads)))
        else:
            self._pump.cancel("heads")

    def _tell_heads(self) -> None:
        for uri, stream in self._running.items():
            head, staging = stream.view.head_frame, stream.view.staging
            if head == stream.told_head or staging is None:
                continue
            stream.told_head = head
            frame_bytes = staging.form.chunk_bytes // staging.form.chunk_frames
            self._emit(events.StreamHeadPosition(frame=head, byte_position=head * frame_bytes), uri)
            self._tell_activity(uri, stream)

    def _tell_activity(self, uri: str, stream: Stream) -> None:
        """Of a MIDI stream that has heard something."""
        n_events = stream.view.stats().get("n_events", 0)
        if n_events == stream.told_events or (heard := stream.view.activity()) is None:
            return
        stream.told_events = n_events
        self._emit(events.StreamActivity(n_events=n_events, **msgspec.structs.asdict(heard)), uri)

    def _on_uploaded(self, told: Told) -> None:
        """What the uploader tells becomes an event."""
        if isinstance(told, Uploaded):
            for stream in self._running.values():
                if stream.view.recording == told.recording:
                    stream.view.uploaded = told.recording, told.n_frames
            self._emit(
                events.StreamUploaded(recording=told.recording, n_frames=told.n_frames, ended=told.ended), told.uri
            )
        elif (status := self._uploading.status()) is not None and self._told_upload != (told.state, told.reason):
            self._told_upload = told.state, told.reason
            self._emit(events.UploadState(target=status.target, state=told.state, reason=told.reason))

    def _upload_notes(self, room: Room) -> list[str]:
        """What holds the disk while it runs low."""
        status, free = self._uploading.status(), room.store_free
        if status is None or free is None or free >= self._config.free_margin_bytes:
            return []
        if status.state == "idle" and not status.n_takes:
            return []
        waits = f"{counted(status.n_takes, 'recording')} wait" if status.n_takes else "it waits"
        return [
            f"only {free >> 20} MiB are free in {self._config.store}, and what is not uploaded to {status.target} yet"
            f" is not retired: {waits} ({status.reason or status.state})"
        ]

    def _events_since(self, request: EventsSince, future: Future[Any]) -> None:
        settle(future, self._history.since(request.seq, request.limit))

    def _tell_recovery(self, done: Future[RecoveryReport]) -> None:
        """Tells what dead daemons had left here; another store's concerns nobody who listens to us."""
        if (error := done.exception()) is not None:
            log.error("recovery failed", exc_info=error)
            return
        told = [item for item in done.result().items if item.outcome != "foreign"]
        for item in done.result().items:
            log.warning("recovery: %s", item.text)
        for item in told:
            fields = msgspec.structs.asdict(item)
            uri = fields.pop("uri")
            self._history.add(events.Recovery(**fields), uri)
        for item in told:
            if item.uri is not None and item.uri not in self._running:
                self._history.forget(item.uri)

    # -- the daemon itself

    def _ping(self, request: Ping, future: Future[Any]) -> None:
        uptime_s = time.monotonic() - self._began
        events_at = self._config.events_endpoint
        settle(future, Pong("chaosd", __version__, PROTOCOL_VERSION, self._run_id, os.getpid(), uptime_s, events_at))

    def _mark(self, request: SetMark, future: Future[Any]) -> None:
        running = self._streams.view(request.uri) is not None
        (self._streams if running else self._recordings).mark(request, future)

    def _status(self, request: Status, future: Future[Any]) -> None:
        """Asks the registry, then the disks; neither can hold up anybody else."""
        room = self._space.ask()
        manager = self._ask_devices(lambda devices: devices.has_session_manager)
        manager.add_done_callback(
            lambda _: room.add_done_callback(
                lambda _: tell(self.actor_ref, Call(lambda: self._tell_status(future, manager, room.result()), future))
            )
        )

    def _tell_status(self, future: Future[Any], manager: Future[bool], room: Room) -> None:
        connected = manager.exception() is None
        thread = data_thread() if connected else None
        views = [stream.view for stream in self._running.values()]
        stagings = [staging for view in views if (staging := view.staging) is not None]
        turns = [turn for view in views if (turn := view.turn) is not None]
        error = room.error or next((refused.message for turn in turns if (refused := turn.refused) is not None), None)
        status = EngineStatus(
            pipewire=PipeWireStatus(
                connected=connected,
                version=library_version(),
                remote=self._config.remote,
                rt_policy=thread.policy if thread else None,
                rt_priority=thread.priority if thread else None,
                session_manager=connected and manager.result(),
            ),
            streams=[view.status() for view in views],
            staging=StagingStatus(
                used_bytes=sum(staging.file_bytes for staging in stagings),
                limit_bytes=room.staging_size,
                locked_bytes=sum(staging.locked_bytes for staging in stagings),
                file_system=file_system_of(self._config.staging_dir),
            ),
            store=StoreStatus(str(self._config.store), room.store_free, error),
            event_seq=self._history.seq,
            notes=[*(priority_notes() if connected else []), *self._upload_notes(room)],
            upload=self._uploading.status(),
        )
        settle(future, status)

    def _shutdown(self, request: Shutdown, future: Future[Any]) -> None:
        ended: Future[bool] = Future()
        ended.add_done_callback(lambda _: settle(future, Nothing()))
        self._end(ended)
        self._on_shutdown()

    def _end(self, done: Future[bool]) -> None:
        """Stops every stream cleanly; when the last one has ended `done` is settled with whether all is stored. More
        than once is harmless."""
        if self._ending is None:
            ending: Future[bool] = Future()
            self._ending = ending
            self._emit(events.DaemonStopping())
            ended = self._streams.end()
            when_all(ended, lambda: self._streams.end_commands(lambda: settle(ending, are_stored(ended))))
            self._begin_put_off()  # they are refused
        self._ending.add_done_callback(lambda ending: settle(done, ending.result()))

    # -- devices

    def _ask_devices(self, question: Callable[[DeviceMap], Any], answer: Future[Any] | None = None) -> Future[Any]:
        """Has the registry answer; `answer` is settled on its thread."""
        answer = answer or Future()
        assert self._registry is not None
        if not tell(self._registry, AskDevices(question, answer)):
            refuse(answer, _no_registry())
        return answer

    def _device_list(self, request: DeviceList, future: Future[Any]) -> None:
        def question(devices: DeviceMap) -> Devices:
            found = devices.devices(request.direction, request.format, programs=request.all)
            return Devices([device.to_wire() for device in found])

        self._ask_devices(question, future)

    def _device_find(self, request: DeviceFind, future: Future[Any]) -> None:
        def question(devices: DeviceMap) -> DeviceFound:
            return DeviceFound(devices.find(request.name, kind=request.format).to_wire())

        self._ask_devices(question, future)

    def _device_wait(self, request: DeviceWait, future: Future[Any]) -> None:
        assert self._registry is not None
        if not tell(self._registry, Wait(request.name, request.timeout_s, future, request.format)):
            refuse(future, _no_registry())

    # -- streams and recordings

    def _stream_start(self, request: StreamStart, future: Future[Any]) -> None:
        self._streams.start(request, future, is_recovering=not self._recovery.done())
        if request.keep is not None:
            self._retire_regularly()

    def _session_start(self, request: SessionStart, future: Future[Any]) -> None:
        self._sessions.start(request, future, is_recovering=not self._recovery.done())
        if any(stream.keep is not None for stream in request.streams):
            self._retire_regularly()

    def _is_put_off(self, request: Request, future: Future[Any]) -> bool:
        """A start waits until what a dead daemon left is brought in: it may be of the same name. Where that takes long,
        or hangs, only those of that name wait on. What follows a start that waits, waits with it."""
        if self._put_off is None:
            return False
        follows = isinstance(request, _FOLLOWING) and any(
            _names(request) & _names(each.request) for each in self._put_off
        )
        if not follows and not isinstance(request, StreamStart | SessionStart):
            return False
        self._put_off.append(Command(request, future))
        return True

    def _begin_put_off(self) -> None:
        """More than once is harmless."""
        put_off, self._put_off = self._put_off or [], None
        for each in put_off:
            try:
                self._obey(each.request, each.future)
            except Exception as error:
                refuse(each.future, as_chaos_error(error))

    def _on_retired(self, retired: list[Retired]) -> None:
        tell(self.actor_ref, Call(lambda: self._streams.retire(retired)))

    def _on_doubt(self, doubt: Kept) -> None:
        tell(self.actor_ref, Call(lambda: self._tell_doubt(doubt)))

    def _tell_doubt(self, doubt: Kept) -> None:
        """Once for each recording: it is found anew at every pass."""
        if doubt.recording not in self._doubted:
            self._doubted.add(doubt.recording)
            log.warning("retention: %s", doubt.text)
            self._emit(events.RetentionHeld(recording=doubt.recording, text=doubt.text), doubt.uri)

    def _retire_regularly(self) -> None:
        def retire() -> None:
            self._recordings.retire_regularly(_told_in_the_log())

        self._pump.every("retention", RETIRE_EVERY_S, lambda: tell(self.actor_ref, Call(retire)))


def _names(request: Request) -> set[str]:
    """What a request is about: URIs, and the name of a session."""
    streams = request.streams if isinstance(request, SessionStart) else ()
    own = (getattr(request, name, None) for name in ("uri", "session"))
    return {*(stream.uri for stream in streams), *(name for name in own if name is not None)}


def _told_in_the_log() -> Future[Any]:
    """A future for what nobody waits for: its failure is worth a warning."""

    def warn(done: Future[Any]) -> None:
        if (error := done.exception()) is not None:
            log.warning("retention: %s", error)

    future: Future[Any] = Future()
    future.add_done_callback(warn)
    return future


def _no_registry() -> InternalError:
    return InternalError("the device list is not available", hint="chaosd is stopping, or its log says why")
