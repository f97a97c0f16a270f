"""Sessions: streams that are started and stopped together, under one name.

A session is a list of URIs, in the recordings themselves and so in the catalogue; nothing else is kept of it.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any

import pykka

from chaos.engine.gate import Gate
from chaos.engine.messages import Call, Membership, refuse, settle, tell, when_all
from chaos.engine.schedule import LOOK_S
from chaos.engine.streams import Streams
from chaos.engine.supervised import as_chaos_error
from chaos.engine.view import StreamView
from chaos.protocol.answers import (
    SessionBegun,
    SessionEnded,
    SessionKept,
    SessionLine,
    SessionMember,
    SessionsListed,
    SessionStatus,
    StreamBegun,
    StreamEnded,
    StreamKept,
)
from chaos.protocol.events import Event, SessionBegan, SessionStarted, SessionStopped
from chaos.protocol.requests import (
    SessionKeep,
    SessionList,
    SessionStart,
    SessionStatusOf,
    SessionStop,
    StreamKeep,
    StreamStart,
    StreamStop,
)
from chaos.store.info import RecordingInfo, load
from chaos.store.timeline import anchors_of, related
from chaos.system.pump import Pump
from chaos.terms.errors import (
    ChaosError,
    InvalidRequest,
    RecordingNotFound,
    SessionExists,
    SessionNotFound,
    StorageFailed,
    StorageFull,
)
from chaos.terms.moments import utc_text

if TYPE_CHECKING:
    from chaos.store.catalog import Catalog, Entry
    from chaos.store.takes import Take

__all__ = ["Sessions"]

log = logging.getLogger(__name__)

OPEN_WITHIN_S = 3.0  # less than a start waits for its answer
REMEMBERED = 100
BEGIN_IN_NS = 200_000_000  # after the last device is linked, so that all streams hear of it in time


class Sessions:
    """Belongs to the daemon's actor and is used on its thread. Each op answers its future once, or raises.

    `work(future, function)` has something done beside the daemon; `catalog` is called there.
    """

    def __init__(
        self,
        streams: Streams,
        pump: Pump,
        daemon: pykka.ActorRef[Any],
        work: Callable[[Future[Any], Callable[[], Any]], object],
        catalog: Callable[[], Catalog],
        emit: Callable[[Event], object],
    ) -> None:
        self._streams = streams
        self._pump = pump
        self._daemon = daemon
        self._work = work
        self._catalog = catalog
        self._emit = emit
        self._start_at: dict[str, datetime] = {}  # of those that begin by the clock
        self._told: set[str] = set()  # the sessions of which it was told that they have started
        self._running: dict[str, tuple[str, ...]] = {}
        self._ended: dict[str, tuple[str, ...]] = {}  # the last ones, of which maybe nothing was recorded
        self._looked_up: dict[str, tuple[Future[Any], list[tuple[SessionStop, Future[Any]]]]] = {}
        # sessions whose name is still being looked up: who waits for the start, and who wants it stopped already
        self._shut: dict[str, tuple[set[str], Gate]] = {}  # whose gate is shut, and whom it waits for
        self._began: dict[str, SessionBegan] = {}  # since when the others record, and who was not linked then

    def start(self, request: SessionStart, future: Future[Any], *, is_recovering: bool) -> None:
        name = request.session
        if self._is_running(name):
            raise SessionExists(f"a session {name} is running", hint=f"chaosctl session stop {name} ends it")
        uris = tuple(stream.uri for stream in request.streams)
        self._running[name] = uris
        self._looked_up[name] = future, []
        looked: Future[list[Entry]] = Future()

        def begin(done: Future[list[Entry]]) -> None:
            try:
                if done.result():
                    hint = "choose another name, for example with a number behind it"
                    raise SessionExists(f"a session {name} has been recorded already", hint=hint)
                self._begin(request, future, uris, is_recovering)
            except Exception as error:
                self.drop(future)
                refuse(future, as_chaos_error(error))
            _, stops = self._looked_up.pop(name, (future, []))
            for each, stopped in stops:
                self.stop(each, stopped)

        looked.add_done_callback(lambda done: tell(self._daemon, Call(lambda: begin(done), future)))
        self._work(looked, lambda: self._catalog().entries(session=name, limit=1))

    def _begin(self, request: SessionStart, future: Future[Any], uris: tuple[str, ...], is_recovering: bool) -> None:
        name, gate = request.session, Gate()
        self._shut[name] = set(uris), gate
        if request.start_at is not None:
            self._start_at[name] = request.start_at
        self._open_in_time(name)
        member = Membership(name, uris, gate)
        begun: list[Future[Any]] = []

        def shut_where_refused(done: Future[Any]) -> None:
            """One that can't begin ends the others: their gate stays shut, so that they record nothing."""
            if done.exception() is not None:
                tell(self._daemon, Call(lambda: self._keep_shut(name, gate)))

        for stream in request.streams:
            each: Future[Any] = Future()
            begun.append(each)
            start = StreamStart(
                uri=stream.uri,
                device_identity=stream.device_identity,
                format=stream.format,
                channel_map=stream.channel_map,
                keep=stream.keep,
                roll=stream.roll,
                align=stream.align,
                standby_s=stream.standby_s,
                wait=request.wait,
                start_at=request.start_at,
                stop_at=request.stop_at,
                stop_after_s=request.stop_after_s,
            )
            each.add_done_callback(shut_where_refused)
            try:
                self._streams.start(start, each, is_recovering=is_recovering, member=member)
            except ChaosError as error:
                refuse(each, error)
        self._when_all(begun, lambda: self._settle_start(name, begun, future))

    def _settle_start(self, name: str, begun: list[Future[Any]], future: Future[Any]) -> None:
        """Answers once all streams are; where one could not begin, those that did are stopped, and nothing stays of
        what they have recorded since."""
        errors = [error for each in begun if (error := each.exception()) is not None]
        if not errors:
            streams: list[StreamBegun] = [each.result() for each in begun]
            if name in self._running:  # else it was stopped meanwhile
                self._told.add(name)
                self._emit(SessionStarted(session=name, uris=list(self._running[name])))
                self._tell_began(name)
            is_early = self._early_for_s(name) is not None  # then nobody knows yet who will be there
            waiting = [each.uri for each in streams if each.device is None and not is_early]
            is_shut = name in self._shut and len(waiting) < len(streams) and not is_early
            settle(future, SessionBegun(name, streams, waiting, OPEN_WITHIN_S if is_shut else None))
            self._end_if_over(name)
            return
        there = [each.result().uri for each in begun if each.exception() is None]
        stopped = [self._stop_stream(uri) for uri in there if self._streams.view(uri) is not None]

        def refuse_all() -> None:
            self._forget(name)
            self._ended.pop(name, None)
            refuse(future, as_chaos_error(errors[0]))

        def clear() -> None:
            cleared: Future[None] = Future()
            cleared.add_done_callback(lambda _: tell(self._daemon, Call(refuse_all, future)))
            self._work(cleared, lambda: self._remove(there))

        self._when_all(stopped, clear)

    def _remove(self, uris: Sequence[str]) -> None:
        """What streams recorded in a start that is being refused; its client never heard that they had begun."""
        from chaos.store.removal import remove

        for uri in uris:
            try:
                remove(self._catalog().store, uri)
            except RecordingNotFound:
                continue
            except ChaosError as error:
                log.warning("%s: what was recorded before its session failed is still there: %s", uri, error.message)

    def drop(self, start: Future[Any]) -> None:
        """What was to be started has failed before it began: nothing stays of it."""
        for name, (waiting, stops) in list(self._looked_up.items()):
            if waiting is start:
                del self._looked_up[name], self._running[name]
                for _, each in stops:
                    refuse(each, _not_running(name))

    def on_state(self, uri: str, state: str) -> None:
        """A stream says how it stands: once all are linked their gate opens."""
        if state != "streaming":
            return
        for name, (awaited, _) in list(self._shut.items()):
            awaited.discard(uri)
            if not awaited:
                self._open(name)

    def _keep_shut(self, name: str, gate: Gate) -> None:
        shut = self._shut.get(name)
        if shut is not None and shut[1] is gate:
            self._pump.cancel(("session", name))
            del self._shut[name]
            for uri in self._running.get(name, ()):
                if self._streams.view(uri) is not None:
                    self._stop_stream(uri)  # behind the gate no frame comes, for which its start would wait

    def _release(self, name: str) -> tuple[set[str], int] | None:
        """Opens its gate: who is still awaited, and when the others begin (CLOCK_MONOTONIC); None if it is open."""
        self._pump.cancel(("session", name))
        shut = self._shut.pop(name, None)
        if shut is None:
            return None
        waiting, gate = shut
        begins_ns = time.monotonic_ns() + BEGIN_IN_NS
        gate.open_at(begins_ns)
        return waiting, begins_ns

    def _open_in_time(self, name: str) -> None:
        """Whoever isn't linked a while after the session begins, now or by the clock, is not awaited any longer."""
        early_s = self._early_for_s(name)
        if early_s is None:
            delay_s, then = OPEN_WITHIN_S, partial(self._open, name)
        else:
            delay_s, then = min(early_s, LOOK_S), partial(self._open_in_time, name)
        self._pump.after(("session", name), delay_s, lambda: tell(self._daemon, Call(then)))

    def _early_for_s(self, name: str) -> float | None:
        """How long it is until the moment at which it is to begin; None where that is over, or there is none."""
        begin, now = self._start_at.get(name), datetime.now(UTC)
        return None if begin is None or begin <= now else (begin - now).total_seconds()

    def _open(self, name: str) -> None:
        """Opens its gate, and tells who begins."""
        released = self._release(name)
        if released is None:
            return
        waiting, begins_ns = released
        uris = self._running.get(name, ())
        self._began[name] = SessionBegan(
            session=name,
            uris=[uri for uri in uris if uri not in waiting],
            waiting=[uri for uri in uris if uri in waiting],
            begins_utc=utc_text(time.time_ns() + BEGIN_IN_NS),
            begins_monotonic_ns=begins_ns,
        )
        self._tell_began(name)

    def _tell_began(self, name: str) -> None:
        """Once it has been told that the session has started, and some of its streams begin."""
        if name in self._told and name in self._began and self._began[name].uris:
            self._emit(self._began[name])

    def stop(self, request: SessionStop, future: Future[Any]) -> None:
        name = request.session
        if not self._is_running(name):
            raise _not_running(name)
        if name in self._looked_up:
            self._looked_up[name][1].append((request, future))
            return
        self._release(name)
        uris = [uri for uri in self._running[name] if self._streams.view(uri) is not None]
        stopped = [self._stop_stream(uri) for uri in uris]

        def answer() -> None:
            self._end_if_over(name)
            self._forget(name)
            errors = [None if (error := each.exception()) is None else as_chaos_error(error) for each in stopped]
            if any(errors):
                refuse(future, _not_all_ended(name, uris, errors))
                return
            streams: list[StreamEnded] = [each.result() for each in stopped]
            settle(future, SessionEnded(name, streams))

        self._when_all(stopped, answer)

    def keep(self, request: SessionKeep, future: Future[Any]) -> None:
        """All that is held in standby becomes recordings: each has a clock of its own, and is placed by that."""
        name = request.session
        if not self._is_running(name):
            raise _not_running(name)
        held = [uri for uri in self._running[name]
                if (view := self._streams.view(uri)) is not None and view.standby_s is not None]  # fmt: skip
        if not held:
            hint = "chaosctl session start --standby 60s holds the last minute until chaosctl session keep"
            raise InvalidRequest(f"no stream of the session {name} is in standby", hint=hint)
        kept: list[Future[Any]] = []
        for uri in held:
            each: Future[Any] = Future()
            kept.append(each)
            try:
                self._streams.keep(StreamKeep(uri=uri), each)
            except ChaosError as error:
                refuse(each, error)

        def answer() -> None:
            errors = [(uri, as_chaos_error(error)) for uri, each in zip(held, kept, strict=True)
                      if (error := each.exception()) is not None]  # fmt: skip
            streams: list[StreamKept] = [each.result() for each in kept if each.exception() is None]
            if not streams:
                refuse(future, errors[0][1])
                return
            refused = [{"uri": uri, "error": error.to_wire()} for uri, error in errors]
            settle(future, SessionKept(name, streams, refused))

        self._when_all(kept, answer)

    def _stop_stream(self, uri: str) -> Future[Any]:
        future: Future[Any] = Future()
        try:
            self._streams.stop(StreamStop(uri=uri), future)
        except ChaosError as error:
            refuse(future, error)
        return future

    def status(self, request: SessionStatusOf, future: Future[Any]) -> None:
        name, is_running = request.session, self._is_running(request.session)
        uris, began, ended = self._running.get(name, ()), self._began.get(name), self._ended.get(name, ())
        began_utc = began.begins_utc if began is not None and began.uris else None
        views = {uri: view for uri in uris if (view := self._streams.view(uri)) is not None}

        def found() -> SessionStatus:
            from chaos.store.members import members_in
            from chaos.store.takes import takes_of

            catalog = self._catalog()
            catalog.store.check()
            known = members_in(catalog.entries(session=name))
            if not known.recorded and not is_running:
                if not ended:
                    raise SessionNotFound(f"there is no session {name}", hint="chaosctl session list shows all")
                return SessionStatus(name, False, [SessionMember(uri, "missing") for uri in ended], None)
            ordered = list(uris) or known.uris
            takes = {uri: takes_of(catalog.store, uri, alike=False) for uri in ordered if uri in known.recorded}
            infos = {uri: load(of_uri[0].path) for uri, of_uri in takes.items()}
            first = next(iter(infos.values()), None)
            members = [_member(uri, views.get(uri), takes.get(uri, []), infos.get(uri), first) for uri in ordered]
            return SessionStatus(name, is_running, members, began_utc)

        self._work(future, found)

    def list_all(self, request: SessionList, future: Future[Any]) -> None:
        running = {name: uris for name, uris in self._running.items() if self._is_running(name)}

        def found() -> SessionsListed:
            from chaos.store.members import members_in

            catalog = self._catalog()
            catalog.store.check()
            lines = []
            for name in catalog.sessions():
                entries = catalog.entries(session=name)
                digests = [entry.digest for entry in entries if entry.digest is not None]
                started_ns = min((digest.definition.started_wall_ns for digest in digests), default=None)
                started = None if started_ns is None else utc_text(started_ns)
                lines.append(SessionLine(name, name in running, members_in(entries).uris, started))
            known = {line.session for line in lines}
            new = [SessionLine(name, True, list(uris), None) for name, uris in running.items() if name not in known]
            return SessionsListed([*new, *lines])

        self._work(future, found)

    def on_gone(self, uri: str) -> None:
        """A stream has ended. With its last one, ended by whomever, the session has."""
        for name, uris in list(self._running.items()):
            if uri in uris:
                self._end_if_over(name)

    def _end_if_over(self, name: str) -> None:
        uris = self._running.get(name, ())
        if name in self._told and not any(self._streams.view(uri) for uri in uris):
            self._told.discard(name)
            self._forget(name)
            self._emit(SessionStopped(session=name, uris=list(uris)))

    def _is_running(self, name: str) -> bool:
        """Whether any of its streams runs, or it is just being started."""
        return name in self._running

    def _forget(self, name: str) -> None:
        self._release(name)
        self._began.pop(name, None)
        self._start_at.pop(name, None)
        if uris := self._running.pop(name, None):
            self._ended = dict([*self._ended.items(), (name, uris)][-REMEMBERED:])

    def _when_all(self, futures: list[Future[Any]], then: Callable[[], object]) -> None:
        """Has `then` done on the daemon's thread once all are answered."""
        when_all(futures, lambda: tell(self._daemon, Call(then)))


def _not_all_ended(name: str, uris: Sequence[str], errors: Sequence[ChaosError | None]) -> ChaosError:
    """How each stream of a session has ended, as an error of the kind of the first that went wrong."""
    first = next(error for error in errors if error is not None)
    told = [f"{uri}: {'stored' if error is None else error.message}" for uri, error in zip(uris, errors, strict=True)]
    hint = first.hint
    if isinstance(first, StorageFull | StorageFailed):
        do = "free some space" if isinstance(first, StorageFull) else "mend the disk"
        hint = f"what was not stored waits in memory: {do}, then type: chaosctl recover"
    streams = [{"uri": uri, "error": error and error.to_wire()} for uri, error in zip(uris, errors, strict=True)]
    details = {**first.details, "streams": streams}
    message = f"session {name} ended, but not every stream cleanly: {'; '.join(told)}"
    return type(first)(message, hint=hint, details=details)


def _not_running(name: str) -> SessionNotFound:
    return SessionNotFound(f"no session {name} is running", hint="chaosctl session list shows those that are")


def _member(
    uri: str, view: StreamView | None, takes: Sequence[Take], info: RecordingInfo | None, first: RecordingInfo | None
) -> SessionMember:
    """`info` is the journal of the first of its takes, `first` that of the first stream's."""
    if info is None or first is None:
        if view is None:
            return SessionMember(uri, "missing")
        return SessionMember(
            uri,
            view.state,
            device=view.device.description if view.device is not None else None,
            sample_rate=view.sample_rate,
            standby_s=view.standby_s,
            reason=view.told_reason,
        )
    shape, last = info.definition, takes[-1]
    n_frames = last.digest.n_frames
    if view is not None and view.take == last.digest.definition.uri:
        n_frames = max(n_frames, view.head_frame)
    try:
        offset, way = related(first, info)
    except ChaosError:  # the wall clock alone could tell, and was set
        offset, way = None, None
    return SessionMember(
        uri=uri,
        state=view.state if view is not None else load(last.path).state if len(takes) > 1 else info.state,
        recording=str(info.path),
        device=shape.device_name,
        n_frames=last.origin + n_frames,
        lost_frames=sum(take.digest.lost_frames + take.away for take in takes),
        sample_rate=shape.sample_rate,
        clock_id=anchors_of(info)[0].clock_id,
        offset_frames=offset,
        related_by=way,
        n_takes=len(takes),
        reason=view.told_reason if view is not None else "",
    )
