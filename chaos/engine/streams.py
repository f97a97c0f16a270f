"""The streams of an engine: what a start goes through before there is an actor, and who is asked afterwards."""

from __future__ import annotations

import logging
import shutil
import threading
import weakref
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import pykka

from chaos.engine.commands import Commands, end_all
from chaos.engine.messages import (
    AcceptPort,
    AskDevices,
    Call,
    Emit,
    KeepStandby,
    MarkFrame,
    Membership,
    RetireChunks,
    Stop,
    SwitchChunk,
    Wanted,
    refuse,
    settle,
    tell,
)
from chaos.engine.schedule import check_moments
from chaos.engine.supervised import as_chaos_error
from chaos.engine.view import StreamView
from chaos.graph.channels import check_start
from chaos.graph.deviceinfo import DeviceKind
from chaos.graph.devices import DeviceInfo, DeviceMap
from chaos.protocol.answers import StreamsListed
from chaos.protocol.config import Config
from chaos.protocol.requests import (
    MidiFormat,
    SetMark,
    StreamAcceptPort,
    StreamKeep,
    StreamList,
    StreamStart,
    StreamStatusOf,
    StreamStop,
    StreamSwitchChunk,
)
from chaos.staging.layout import SUFFIX
from chaos.store.claims import Claim
from chaos.store.places import Places
from chaos.store.store import Store
from chaos.system.descriptors import check_room
from chaos.system.files import is_taken
from chaos.system.pump import Pump
from chaos.system.workers import Workers
from chaos.terms.commands import parse_command
from chaos.terms.errors import (
    ForeignClock,
    InvalidRequest,
    PathNotAllowed,
    Refused,
    StorageFailed,
    StorageFull,
    StreamExists,
    StreamNotFound,
)
from chaos.terms.uri import next_free, parse_uri

if TYPE_CHECKING:
    from chaos.store.retention import Retired

__all__ = ["Running", "Stream", "Streams", "are_stored", "stop_all"]

COMMANDS_GRACE_S = 10.0
_CLAIMS_S = 1.0  # for those that are given up at the end

log = logging.getLogger(__name__)

_ForActor = AcceptPort | KeepStandby | MarkFrame | Stop | SwitchChunk


class Stream:
    """A stream as the engine keeps it; `actor` is None until it has begun, and `early` what came for it by then.
    `start` is who waits for the beginning, `claim` keeps others from its URI."""

    def __init__(self, view: StreamView, start: Future[Any] | None = None) -> None:
        self.view = view
        self.start = start
        self.claim: Claim | None = None
        self.commands: Commands | None = None
        self.actor: pykka.ActorRef[Any] | None = None
        self.early: list[tuple[_ForActor, Future[Any]]] = []
        self.told_head = 0
        self.told_events = 0


Running = dict[str, Stream]
"""By URI. Written by the daemon alone; others look at a copy."""


class Streams:
    """Belongs to the daemon's actor and is used on its thread. Each op answers its future once, or raises.

    `work(future, function)` has something done beside the daemon. `running` are the streams that there are.
    """

    def __init__(
        self,
        config: Config,
        run_id: str,
        pump: Pump,
        daemon: pykka.ActorRef[Any],
        work: Callable[[Future[Any], Callable[[], Any]], object],
        running: Running,
    ) -> None:
        self._config = config
        self._places = Places(Store(config.store), config.allow_paths)
        self._run_id = run_id
        self._pump = pump
        self._daemon = daemon
        self._work = work
        self._running = running
        self._paths = Workers(1, "paths")
        self._registry: pykka.ActorRef[Any] | None = None
        self._is_ending = False
        self._given_up: weakref.WeakValueDictionary[str, Claim] = weakref.WeakValueDictionary()  # until they are closed
        self._commands: list[Commands] = []  # also of streams that have ended, while theirs run

    def begin(self, registry: pykka.ActorRef[Any]) -> None:
        """`registry` is who knows the devices."""
        self._registry = registry

    def close(self) -> None:
        self._paths.close(_CLAIMS_S)

    # -- a start, step by step: what can be judged at once, the disk, the device, the actor

    def start(
        self,
        request: StreamStart,
        future: Future[Any],
        *,
        is_recovering: bool,
        member: Membership | None = None,
    ) -> None:
        """`member`: the session that the stream belongs to."""
        self._refuse_at_end()
        form = request.format
        if isinstance(form, MidiFormat):
            _check_midi(request)
        if request.uri in self._running:
            hint = f"stop it first: chaosctl stop {request.uri}"
            raise StreamExists(f"{request.uri} is running", hint=hint)
        if (request.on_seal or request.on_roll) and not self._config.allow_commands:
            raise Refused("this chaosd runs no commands of clients", hint="start it with: chaosd --allow-commands")
        check_moments(request, datetime.now(UTC))
        check_room(sum(not each.view.recording for each in self._running.values()))
        former = self._given_up.get(request.uri)
        self._running[request.uri] = Stream(StreamView(request.uri, form), future)
        self._running[request.uri].view.trace.note("asked")
        looked: Future[tuple[StreamStart, Claim | None]] = Future()
        self._go_on(request, future, looked, lambda found: self._find_device(found[0], found[1], future, member))
        self._work(looked, lambda: self._claim(request, former, is_recovering))

    def _commands_of(self, request: StreamStart) -> Commands | None:
        uri = request.uri
        on_seal, on_roll = (each and parse_command(each) for each in (request.on_seal, request.on_roll))
        if not (on_seal or on_roll):
            return None
        commands = Commands(uri, lambda event: tell(self._daemon, Emit(event, uri)), on_seal or None, on_roll or None)
        running = {id(each.commands) for each in self._running.values()}
        self._commands = [each for each in self._commands if id(each) in running or each.is_busy]
        self._commands.append(commands)
        return commands

    def end_commands(self, then: Callable[[], object]) -> None:
        """Ends what runs of them, with a grace, and calls `then`; beside the daemon's thread where there are any."""
        if not self._commands:
            then()
            return

        def end() -> None:
            try:
                end_all(self._commands, min(COMMANDS_GRACE_S, self._config.stop_within_s / 4))
            finally:
                then()

        threading.Thread(target=end, name="chaosd-commands-end", daemon=True).start()

    def _claim(
        self, request: StreamStart, former: Claim | None, is_recovering: bool
    ) -> tuple[StreamStart, Claim | None]:
        """`_look_at_paths` with the URI claimed, so that what it finds free stays free; where storage fails it isn't,
        and the stream rides that out. `former` is the claim of a stream of this URI that has just ended."""
        claim: Claim | None = None
        if former is not None:
            former.close()
        try:
            claim = Claim(Store(self._config.store), request.uri)
        except (StorageFull, StorageFailed) as error:
            log.warning("%s: %s", request.uri, error.message)
        try:
            return self._look_at_paths(request, is_recovering), claim
        except BaseException:
            if claim is not None:
                claim.close()
            raise

    def _look_at_paths(self, request: StreamStart, is_recovering: bool) -> StreamStart:
        """Gives the request with its path resolved; not on the daemon's thread, since a disk may hang."""
        if Store(self._config.store).path(request.uri).exists():
            raise StreamExists(f"{request.uri} has been recorded already", hint=self._next_free(request.uri))
        name, take = parse_uri(request.uri)
        if is_recovering and any(self._config.staging_dir.glob(f"{name}~{take}.*{SUFFIX}")):
            raise StreamExists(
                f"what a dead chaosd left of {request.uri} is still being brought in",
                hint="choose another take, or try again later",
            )
        for command in (request.on_seal, request.on_roll):
            if command is not None and shutil.which(program := parse_command(command)[0]) is None:
                raise InvalidRequest(f"there is no program {program}", hint="give the full path of one that can be run")
        if request.chunk_path is None:
            return request
        path = self._places.permit(request.chunk_path)
        if is_taken(path):
            raise PathNotAllowed(f"{path} already exists", hint="name a new file")
        return msgspec.structs.replace(request, chunk_path=str(path))

    def _next_free(self, uri: str) -> str:
        """The hint that names the take to record instead."""
        store = Store(self._config.store)
        free = next_free(uri, lambda each: each in self._running or store.path(each).exists())
        return "choose another take" if free is None else f"next free: {free}"

    def _find_device(
        self, request: StreamStart, claim: Claim | None, future: Future[Any], member: Membership | None
    ) -> None:
        assert self._registry is not None
        self._running[request.uri].claim = claim
        self._running[request.uri].view.trace.note("paths_checked")
        answer: Future[Any] = Future()
        awaited: Future[tuple[DeviceInfo, int | None] | None] = Future()

        def found(done: Future[Any]) -> None:
            """A start that waits for its device is not refused because the device isn't there yet."""
            if (error := done.exception()) is None:
                settle(awaited, done.result())
            elif request.wait or request.start_at is not None:
                settle(awaited, None)
            else:
                refuse(awaited, error)

        answer.add_done_callback(found)
        self._go_on(request, future, awaited, lambda device: self._begin(request, future, device, member))
        kind: DeviceKind | None = "midi" if isinstance(request.format, MidiFormat) else None

        def question(devices: DeviceMap) -> tuple[DeviceInfo, int | None]:
            return devices.find(request.device_identity, "input", kind), devices.graph_rate

        if not tell(self._registry, AskDevices(question, answer)):
            raise InvalidRequest("chaosd is stopping", hint="start it again first")

    def _begin(
        self,
        request: StreamStart,
        future: Future[Any],
        found: tuple[DeviceInfo, int | None] | None,
        member: Membership | None,
    ) -> None:
        self._refuse_at_end()
        from chaos.engine.stream import InputStreamActor  # loaded by then, see Recordings.recover

        assert self._registry is not None
        uri = request.uri
        stream = self._running[uri]
        stream.view.trace.note("device_found")
        kind: DeviceKind = "midi" if isinstance(request.format, MidiFormat) else "audio"
        wanted = Wanted(request.device_identity, None, request.accept_port_change, kind)
        if found is not None:
            device, graph_rate = found
            wanted = Wanted(device.identity, device, request.accept_port_change, device.kind)
            check_start(device, stream.view.asked, request.channel_map, graph_rate)
            if request.require_own_clock and not device.has_own_clock:
                raise ForeignClock(
                    f"{device.description} has no clock of its own: it runs by whichever drives the graph",
                    hint="leave --require-own-clock out",
                )
        stream.commands = self._commands_of(request)
        stream.actor = InputStreamActor.start(
            self._config,
            request,
            stream.view,
            self._run_id,
            wanted=wanted,
            pump=self._pump,
            daemon=self._daemon,
            registry=self._registry,
            emit=lambda event: tell(self._daemon, Emit(event, uri)),
            start_future=future,
            member=member,
            commands=stream.commands,
        )
        early, stream.early = stream.early, []
        for message, each in early:
            self._pass_on(uri, message, each)

    def _go_on(
        self, request: StreamStart, future: Future[Any], awaited: Future[Any], step: Callable[[Any], object]
    ) -> None:
        """Has `step` done on the daemon's thread with what is awaited. What goes wrong ends the start."""

        def carry_on(done: Future[Any]) -> None:
            try:
                step(done.result())
            except Exception as error:
                self.drop(future)
                refuse(future, as_chaos_error(error))

        awaited.add_done_callback(lambda done: tell(self._daemon, Call(lambda: carry_on(done), future)))

    def drop(self, start: Future[Any]) -> None:
        """What was to be started has failed before there was an actor: nothing stays of it."""
        for uri, stream in list(self._running.items()):
            if stream.start is start and stream.actor is None:
                del self._running[uri]
                self._give_up(stream)
                for _, each in stream.early:
                    refuse(each, _not_running(uri))

    def _give_up(self, stream: Stream) -> None:
        """Its claim; on another thread, since a disk may hang."""
        if stream.claim is not None:
            self._given_up[stream.view.uri] = stream.claim
            self._paths.submit(stream.claim.close)
            stream.claim = None

    def _refuse_at_end(self) -> None:
        if self._is_ending:
            raise InvalidRequest("chaosd is stopping", hint="start it again first")

    # -- streams that run

    def switch_chunk(self, request: StreamSwitchChunk, future: Future[Any]) -> None:
        """The path may lie on a disk that hangs: one thread looks at paths, so that switches keep their order."""
        self._existing(request.uri)

        def look() -> None:
            try:
                path = self._places.permit(request.new_chunk_path)
            except Exception as error:
                refuse(future, as_chaos_error(error))
            else:
                tell(self._daemon, Call(lambda: self._switch_to(path, request, future), future))

        self._paths.submit(look)

    def _switch_to(self, path: Path, request: StreamSwitchChunk, future: Future[Any]) -> None:
        """On the daemon's thread again, which alone has streams stopped: none is told after that."""
        try:
            self._pass_on(request.uri, SwitchChunk(path, future), future)
        except StreamNotFound as ended:
            refuse(future, ended)

    def mark(self, request: SetMark, future: Future[Any]) -> None:
        self._pass_on(request.uri, MarkFrame(request.label, request.frame, future), future)

    def keep(self, request: StreamKeep, future: Future[Any]) -> None:
        self._pass_on(request.uri, KeepStandby(future), future)

    def stop(self, request: StreamStop, future: Future[Any]) -> None:
        self._pass_on(request.uri, Stop(future), future)

    def accept_port(self, request: StreamAcceptPort, future: Future[Any]) -> None:
        self._pass_on(request.uri, AcceptPort(future), future)

    def list_all(self, request: StreamList, future: Future[Any]) -> None:
        settle(future, StreamsListed([stream.view.status() for stream in self._running.values()]))

    def status(self, request: StreamStatusOf, future: Future[Any]) -> None:
        settle(future, self._existing(request.uri).view.status())

    def view(self, uri: str) -> StreamView | None:
        stream = self._running.get(uri)
        return None if stream is None else stream.view

    def retire(self, retired: list[Retired]) -> None:
        """What is being written only its own rotator may retire."""
        writers = {stream.view.recording: stream.actor for stream in self._running.values()}
        for each in retired:
            actor = writers.get(each.recording)
            if each.live and actor is not None:
                tell(actor, RetireChunks(each.chunks, each.gaps))

    def gone(self, uri: str) -> None:
        """A stream says that it has ended."""
        stream = self._running.pop(uri, None)
        if stream is not None:
            self._give_up(stream)
        if stream is not None and stream.commands is not None:
            stream.commands.finish()
        if stream is not None and stream.actor is not None:
            stream.actor.stop(block=False)

    def end(self) -> list[Future[Any]]:
        """No stream begins any more; those that run are stopped. The futures are settled as each one is stored."""
        self._is_ending = True
        return stop_all(self._running)

    def _existing(self, uri: str) -> Stream:
        stream = self._running.get(uri)
        if stream is None:
            raise _not_running(uri)
        return stream

    def _pass_on(self, uri: str, message: _ForActor, future: Future[Any]) -> None:
        """Tells a stream's actor once there is one, so that a start and what follows it take effect in that order. It
        may have ended meanwhile; whoever waits for it then learns so."""
        stream = self._existing(uri)
        if stream.actor is None:
            stream.early.append((message, future))
        elif not tell(stream.actor, message):
            hint = "chaosctl list --running shows those that run"
            refuse(future, StreamNotFound("the stream has just ended", hint=hint))


def _not_running(uri: str) -> StreamNotFound:
    return StreamNotFound(f"no stream {uri} is running", hint="chaosctl list --running shows those that are")


def _check_midi(request: StreamStart) -> None:
    """Raises InvalidRequest for what only audio has."""
    if request.channel_map is not None:
        raise InvalidRequest("a MIDI device has no channels to choose from", hint="leave --channel-map out")
    if request.chunk_path is not None:
        raise InvalidRequest("MIDI can't be written to a controller's files", hint="leave --chunk-path out")


def stop_all(running: Running) -> list[Future[Any]]:
    """Stops every stream, from any thread. The futures are settled as each one is stored, or has failed."""
    futures = []
    for stream in list(running.values()):
        future: Future[Any] = Future()
        if stream.actor is not None and tell(stream.actor, Stop(future)):
            futures.append(future)
    return futures


def are_stored(ended: Iterable[Future[Any]]) -> bool:
    """Whether streams that `stop_all` has stopped, and which have ended, have all their frames in recordings."""
    return not any(isinstance(each.exception(), StorageFull | StorageFailed) for each in ended)
