"""The daemon: takes commands, keeps the streams, numbers and keeps the events."""

from __future__ import annotations

import logging
import os
import shutil
import time
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from typing import Any

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
    RetireChunks,
    Stop,
    StreamGone,
    SwitchChunk,
    Wait,
    Wanted,
    refuse,
    settle,
    tell,
)
from chaos.engine.recordings import Recordings
from chaos.engine.registry import DeviceRegistryActor
from chaos.engine.stream import InputStreamActor
from chaos.engine.view import StreamView
from chaos.graph.channels import check_start
from chaos.graph.devices import DeviceInfo, DeviceMap
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
    Streams,
)
from chaos.protocol.codec import PROTOCOL_VERSION
from chaos.protocol.config import Config
from chaos.protocol.events import Published
from chaos.protocol.requests import (
    AudioFormat,
    DeviceFind,
    DeviceList,
    DeviceWait,
    EventsSince,
    Ping,
    RecordingList,
    Request,
    Retire,
    Shutdown,
    Slice,
    Status,
    StreamList,
    StreamStart,
    StreamStatusOf,
    StreamStop,
    StreamSwitchChunk,
    Verify,
)
from chaos.store.recovery import RecoveryReport, recover
from chaos.store.retention import Retired
from chaos.store.store import Store
from chaos.system.descriptors import check_room
from chaos.system.files import is_taken
from chaos.system.pump import Pump
from chaos.system.threads import data_thread
from chaos.terms.errors import (
    ChaosError,
    FormatUnsupported,
    InternalError,
    InvalidRequest,
    PathNotAllowed,
    StreamExists,
    StreamNotFound,
    UnknownOp,
)

__all__ = ["DaemonActor"]

log = logging.getLogger(__name__)

RETIRE_EVERY_S = 60.0
STOP_REGISTRY_S = 5.0


class _Stream:
    """A stream as the daemon keeps it."""

    def __init__(self, view: StreamView) -> None:
        self.view = view
        self.actor: pykka.ActorRef[Any] | None = None
        self.told_head = 0


class DaemonActor(pykka.ThreadingActor):
    """Every command comes here; one that takes long is passed on with its future, so that nobody waits for it.

    `publish` sends an event; `on_shutdown()` is called when a client asks for the end.
    """

    use_daemon_thread = True

    def __init__(
        self,
        config: Config,
        run_id: str,
        pump: Pump,
        publish: Callable[[Published], None],
        on_shutdown: Callable[[], object],
    ) -> None:
        super().__init__()
        self._config = config
        self._run_id = run_id
        self._pump = pump
        self._on_shutdown = on_shutdown
        self._began = time.monotonic()
        self._history = EventHistory(run_id, config.event_history, config.event_history_bytes, publish)
        self._streams: dict[str, _Stream] = {}
        self._registry: pykka.ActorRef[Any] | None = None
        self._recordings = Recordings(config, self._view, self._on_retired)
        self._ending: Future[None] | None = None
        self._recovery: Future[RecoveryReport] = Future()
        self._ops: dict[type[Request], Callable[[Any, Future[Any]], object]] = {
            Ping: self._ping,
            Status: self._status,
            DeviceList: self._device_list,
            DeviceFind: self._device_find,
            DeviceWait: self._device_wait,
            StreamStart: self._stream_start,
            StreamSwitchChunk: self._stream_switch_chunk,
            StreamStop: self._stream_stop,
            StreamList: self._stream_list,
            StreamStatusOf: self._stream_status,
            RecordingList: self._recordings.list_all,
            Slice: self._recordings.slice,
            Verify: self._recordings.verify,
            Retire: self._recordings.retire,
            EventsSince: self._events_since,
            Shutdown: self._shutdown,
        }

    def on_start(self) -> None:
        self._emit(events.DaemonStarted(version=__version__, pid=os.getpid()))
        self._registry = DeviceRegistryActor.start(self._config.remote, self._pump, self.actor_ref)
        self._recovery.add_done_callback(
            lambda done: self._pass_on(self.actor_ref, Call(lambda: self._tell_recovery(done)))
        )
        if self._config.keep is not None:
            self._retire_regularly()
        self._recordings.work(self._recovery, lambda: recover(Store(self._config.store), self._config.staging_dir))

    def on_stop(self) -> None:
        self._recordings.close()
        if self._registry is not None:
            try:
                self._registry.stop(timeout=STOP_REGISTRY_S)
            except pykka.Timeout:
                log.error("the registry hangs and is left behind")

    def on_receive(self, message: Any) -> None:
        match message:
            case Command(request, future):
                self._carry_out(request, future)
            case Emit(event, uri):
                self._emit(event, uri)
            case StreamGone(uri):
                stream = self._streams.pop(uri, None)
                if stream is not None and stream.actor is not None:
                    stream.actor.stop(block=False)
                self._history.forget(uri)
                self._look_for_end()
            case HeadsWanted(wanted):
                self._on_heads(wanted)
            case End(done):
                self._end(done, None)
            case Call(function):
                function()

    def _carry_out(self, request: Request, future: Future[Any]) -> None:
        """A bad command becomes an error answer, never a dead actor."""
        try:
            op = self._ops.get(type(request))
            if op is None:
                name = type(request).__struct_config__.tag
                raise UnknownOp(f"{name} is not served by this daemon", hint="it comes with a later release")
            op(request, future)
        except ChaosError as error:
            refuse(future, error)
        except Exception as error:
            log.exception("an op failed")
            refuse(future, InternalError(f"{type(error).__name__}: {error}", hint="the daemon's log has more"))

    # -- events

    def _emit(self, event: events.Event, uri: str | None = None) -> None:
        self._history.add(event, uri)
        if uri is not None and uri not in self._streams:
            self._history.forget(uri)

    def _on_heads(self, wanted: bool) -> None:
        """Heads are told only while somebody listens for them."""
        if wanted:
            period_s = 1 / self._config.head_position_hz
            self._pump.every("heads", period_s, lambda: tell(self.actor_ref, Call(self._tell_heads)))
        else:
            self._pump.cancel("heads")

    def _tell_heads(self) -> None:
        for uri, stream in self._streams.items():
            head, staging = stream.view.head_frame, stream.view.staging
            if head == stream.told_head or staging is None:
                continue
            stream.told_head = head
            frame_bytes = staging.form.chunk_bytes // staging.form.chunk_frames
            self._emit(events.StreamHeadPosition(frame=head, byte_position=head * frame_bytes), uri)

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
            if item.uri is not None and item.uri not in self._streams:
                self._history.forget(item.uri)

    # -- the daemon itself

    def _ping(self, request: Ping, future: Future[Any]) -> None:
        uptime_s = time.monotonic() - self._began
        settle(future, Pong("chaosd", __version__, PROTOCOL_VERSION, self._run_id, os.getpid(), uptime_s))

    def _status(self, request: Status, future: Future[Any]) -> None:
        self._ask_devices(lambda devices: devices.has_session_manager, partial(self._tell_status, future))

    def _tell_status(self, future: Future[Any], answer: Future[bool]) -> None:
        connected = answer.exception() is None
        thread = data_thread() if connected else None
        views = [stream.view for stream in self._streams.values()]
        stagings = [staging for view in views if (staging := view.staging) is not None]
        status = EngineStatus(
            pipewire=PipeWireStatus(
                connected=connected,
                version=library_version(),
                remote=self._config.remote,
                rt_policy=thread.policy if thread else None,
                rt_priority=thread.priority if thread else None,
                session_manager=connected and answer.result(),
            ),
            streams=[view.status() for view in views],
            staging=StagingStatus(
                used_bytes=sum(staging.file_bytes for staging in stagings),
                limit_bytes=shutil.disk_usage(self._config.staging_dir).total,
                locked_bytes=sum(staging.locked_bytes for staging in stagings),
            ),
            store=StoreStatus(str(self._config.store), shutil.disk_usage(self._config.store).free),
            event_seq=self._history.seq,
        )
        settle(future, status)

    def _shutdown(self, request: Shutdown, future: Future[Any]) -> None:
        self._end(future, Nothing())
        self._on_shutdown()

    def _end(self, done: Future[Any], result: Any) -> None:
        """Stops every stream cleanly; `done` is settled when the last one is stored. More than once is harmless."""
        if self._ending is None:
            self._ending = Future()
            self._emit(events.DaemonStopping())
            for stream in list(self._streams.values()):
                if stream.actor is not None:
                    self._pass_on(stream.actor, Stop(Future()))
        self._ending.add_done_callback(lambda _: settle(done, result))
        self._look_for_end()

    def _look_for_end(self) -> None:
        if self._ending is not None and not self._streams:
            settle(self._ending, None)

    # -- devices

    def _ask_devices(self, question: Callable[[DeviceMap], Any], then: Callable[[Future[Any]], object]) -> None:
        """Has the registry answer, and goes on with the answer on this actor's thread."""
        assert self._registry is not None
        answer: Future[Any] = Future()
        answer.add_done_callback(lambda done: self._pass_on(self.actor_ref, Call(lambda: then(done))))
        self._registry.tell(AskDevices(question, answer))

    def _device_list(self, request: DeviceList, future: Future[Any]) -> None:
        assert self._registry is not None

        def question(devices: DeviceMap) -> Devices:
            return Devices([device.to_wire() for device in devices.devices(request.direction, request.format)])

        self._registry.tell(AskDevices(question, future))

    def _device_find(self, request: DeviceFind, future: Future[Any]) -> None:
        assert self._registry is not None
        self._registry.tell(AskDevices(lambda devices: DeviceFound(devices.find(request.name).to_wire()), future))

    def _device_wait(self, request: DeviceWait, future: Future[Any]) -> None:
        assert self._registry is not None
        self._registry.tell(Wait(request.name, request.timeout_s, future))

    # -- streams

    def _stream_start(self, request: StreamStart, future: Future[Any]) -> None:
        if self._ending is not None:
            raise InvalidRequest("chaosd is stopping", hint="start it again first")
        if not self._recovery.done():
            again = Command(request, future)
            self._recovery.add_done_callback(lambda _: self._pass_on(self.actor_ref, again))
            return
        form = request.format
        if not isinstance(form, AudioFormat):
            raise FormatUnsupported("MIDI can't be captured yet", hint="ask for audio")
        if form.layout == "planar" and form.sample_format != "f32":
            hint = "planar is f32; leave layout out for s16 and s32"
            raise FormatUnsupported(f"planar {form.sample_format}", hint=hint)
        if request.uri in self._streams:
            raise StreamExists(f"{request.uri} is running", hint="choose another take, or stop it first")
        if Store(self._config.store).path(request.uri).exists():
            raise StreamExists(f"{request.uri} has been recorded already", hint="choose another take")
        if request.chunk_path is not None:
            path = self._config.permit(request.chunk_path)
            if is_taken(path):
                raise PathNotAllowed(f"{path} exists and is left as it is", hint="name a new file")
            request = msgspec.structs.replace(request, chunk_path=str(path))
        if request.keep is not None:
            self._retire_regularly()
        check_room(sum(not each.view.recording for each in self._streams.values()))
        self._streams[request.uri] = stream = _Stream(StreamView(request.uri, form))
        self._ask_devices(
            lambda devices: (devices.find(request.device_identity, "input"), devices.graph_rate),
            lambda answer: self._begin(request, stream, future, answer),
        )

    def _begin(
        self, request: StreamStart, stream: _Stream, future: Future[Any], answer: Future[tuple[DeviceInfo, int | None]]
    ) -> None:
        """Goes on with a start once the registry has looked for the device."""
        wanted = Wanted(request.device_identity, None, request.accept_port_change)
        try:
            if answer.exception() is None:
                device, graph_rate = answer.result()
                wanted = Wanted(device.identity, device, request.accept_port_change)
                check_start(device, stream.view.asked, request.channel_map, graph_rate)
            elif not request.wait:
                raise answer.exception()  # type: ignore[misc]
            if self._ending is not None:
                raise InvalidRequest("chaosd is stopping", hint="start it again first")
        except Exception as error:
            del self._streams[request.uri]
            refuse(future, error)
            self._look_for_end()
            return
        assert self._registry is not None
        uri = request.uri
        stream.actor = InputStreamActor.start(
            self._config,
            request,
            stream.view,
            self._run_id,
            wanted=wanted,
            pump=self._pump,
            daemon=self.actor_ref,
            registry=self._registry,
            emit=lambda event: self._pass_on(self.actor_ref, Emit(event, uri)),
            start_future=future,
        )

    def _running(self, uri: str) -> _Stream:
        stream = self._streams.get(uri)
        if stream is None:
            raise StreamNotFound(f"no stream {uri} is running", hint="stream_list names those that are")
        return stream

    def _stream_switch_chunk(self, request: StreamSwitchChunk, future: Future[Any]) -> None:
        stream = self._running(request.uri)
        path = self._config.permit(request.new_chunk_path)
        if stream.actor is None:
            raise StreamNotFound(f"{request.uri} has not begun", hint="wait for stream_start's answer")
        self._pass_on(stream.actor, SwitchChunk(path, future), future)

    def _stream_stop(self, request: StreamStop, future: Future[Any]) -> None:
        stream = self._running(request.uri)
        if stream.actor is None:
            raise StreamNotFound(f"{request.uri} has not begun", hint="wait for stream_start's answer")
        self._pass_on(stream.actor, Stop(future), future)

    def _stream_list(self, request: StreamList, future: Future[Any]) -> None:
        settle(future, Streams([stream.view.status() for stream in self._streams.values()]))

    def _stream_status(self, request: StreamStatusOf, future: Future[Any]) -> None:
        settle(future, self._running(request.uri).view.status())

    def _pass_on(self, actor: pykka.ActorRef[Any], message: Any, future: Future[Any] | None = None) -> None:
        """Tells an actor that may have ended meanwhile; whoever waits for it then learns so."""
        try:
            actor.tell(message)
        except pykka.ActorDeadError:
            if future is not None:
                refuse(future, StreamNotFound("the stream has just ended", hint="stream_list names those that run"))

    # -- recordings

    def _view(self, uri: str) -> StreamView | None:
        stream = self._streams.get(uri)
        return None if stream is None else stream.view

    def _on_retired(self, retired: list[Retired]) -> None:
        self._pass_on(self.actor_ref, Call(lambda: self._retire_live(retired)))

    def _retire_live(self, retired: list[Retired]) -> None:
        """What is being written only its own rotator may retire."""
        writers = {stream.view.recording: stream.actor for stream in self._streams.values()}
        for each in retired:
            actor = writers.get(each.recording)
            if each.live and actor is not None:
                self._pass_on(actor, RetireChunks(each.chunks, each.gaps))

    def _retire_regularly(self) -> None:
        self._pump.every(
            "retention", RETIRE_EVERY_S, lambda: self.actor_ref.tell(Command(Retire(), _told_in_the_log()))
        )


def _told_in_the_log() -> Future[Any]:
    """A future for what nobody waits for: its failure is worth a warning."""

    def tell(done: Future[Any]) -> None:
        if (error := done.exception()) is not None:
            log.warning("retention: %s", error)

    future: Future[Any] = Future()
    future.add_done_callback(tell)
    return future
