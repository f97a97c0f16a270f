"""Talking to a running chaosd from asyncio: `chaos.client` with `await`. Nothing else in chaos imports asyncio.

async with chaos.aio.Client() as chaosd:
    devices, streams = await asyncio.gather(chaosd.device_list(), chaosd.stream_list())
    async with await chaosd.events("stream_gap") as events:
        async for event in events:
            print(event["cause"], event["n_frames"])

Longer than others because it has a method for each op; they are those of `chaos.ops`, and a test compares them.
"""
# ruff: noqa: A002  the arguments have the names of the wire

from __future__ import annotations

import asyncio
import datetime as dt
import itertools
import math
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal, Self

import msgspec
import zmq
import zmq.asyncio

from chaos.client import (
    HANGS,
    SETTLED,
    DaemonUnreachable,
    curve_for,
    default_of,
    encoded,
    endpoints_for,
    listens,
    next_state,
    nobody_at,
    not_admitted,
    patience_for,
    result_of,
    settled_at_last,
    told_events,
    unanswered,
    went_away,
)
from chaos.ops import DevicesTold, DeviceTold, EventsHeld, RecordingsTold, Result, as_result, fields_of
from chaos.protocol.answers import (
    ChunkSwitched,
    Device,
    EngineStatus,
    Marked,
    Nothing,
    Pong,
    PortAccepted,
    SessionBegun,
    SessionEnded,
    SessionKept,
    SessionLine,
    SessionsListed,
    SessionStatus,
    StreamBegun,
    StreamEnded,
    StreamKept,
    StreamsListed,
    StreamStatus,
)
from chaos.protocol.config import check_default, is_remote, remote_endpoints
from chaos.protocol.heard import Answer, not_asked_for, read_answer, read_event
from chaos.protocol.recorded import RecordingLine, RetiredTold, Sliced, Verified
from chaos.protocol.requests import (
    DeviceFind,
    DeviceList,
    DeviceWait,
    EventsSince,
    Format,
    Levels,
    Ping,
    RecordingList,
    Request,
    Retire,
    SessionKeep,
    SessionList,
    SessionStart,
    SessionStatusOf,
    SessionStop,
    SessionStream,
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
    Time,
    Verify,
)
from chaos.system.watched import WATCHED, ConnectionLost, Curve, NotAdmitted, watch_name
from chaos.terms.containers import Container, GapFill, Subtype
from chaos.terms.errors import BadAnswer, ChaosError, TimedOut

__all__ = ["Client", "Events", "Hosts", "Ops"]


class Ops:
    """`chaos.ops.Ops` with `await`: the same methods, arguments, answers and errors."""

    async def call(self, op: str, /, **fields: Any) -> dict[str, Any]:
        raise NotImplementedError

    async def ask(self, request: Request, kind: type[Result]) -> Result:
        """Sends any request and gives its answer as a `kind`."""
        op, fields = fields_of(request)
        return as_result(op, await self.call(op, **fields), kind)

    async def ping(self) -> Pong:
        """Who answers, and since when."""
        return await self.ask(Ping(), Pong)

    async def status(self) -> EngineStatus:
        """The engine as it stands: PipeWire, streams, staging, store, and what may cost frames."""
        return await self.ask(Status(), EngineStatus)

    async def device_list(
        self,
        *,
        direction: Literal["input", "output"] | None = None,
        format: Literal["audio", "midi"] | None = None,
        all: bool = False,
    ) -> list[Device]:
        """What can be captured or played to; with `all` also what programs play."""
        return (await self.ask(DeviceList(direction=direction, format=format, all=all), DevicesTold)).devices

    async def device_find(self, name: str, *, format: Literal["audio", "midi"] | None = None) -> Device:
        """The device of that name. Raises DeviceNotFound, DeviceAmbiguous."""
        return (await self.ask(DeviceFind(name=name, format=format), DeviceTold)).device

    async def device_wait(
        self, name: str, timeout_s: float, *, format: Literal["audio", "midi"] | None = None,
    ) -> Device:
        """The device of that name, once it is there. Raises TimedOut."""
        return (await self.ask(DeviceWait(name=name, timeout_s=timeout_s, format=format), DeviceTold)).device

    async def stream_start(
        self,
        uri: str,
        device_identity: str,
        format: Format,
        *,
        chunk_size_bytes: int | None = None,
        latency_frames: int | None = None,
        staging_seconds: float | None = None,
        wait: bool = False,
        chunk_path: str | None = None,
        keep: str | None = None,
        roll: str | None = None,
        align: Literal["clock"] | None = None,
        channel_map: list[str] | None = None,
        accept_port_change: bool = False,
        require_own_clock: bool = False,
        roll_on_format_change: bool = False,
        trace: bool = False,
        standby_s: float | None = None,
        silent_below_dbfs: float = -60.0,
        silent_after_s: float = 30.0,
        start_at: dt.datetime | None = None,
        stop_at: dt.datetime | None = None,
        stop_after_s: float | None = None,
        take_names: Literal["number", "time"] = "number",
        on_seal: str | None = None,
        on_roll: str | None = None,
        trigger: Levels | None = None,
    ) -> StreamBegun:
        """Begin a take; the options are those of its request. `start` also waits until it streams."""
        asked = StreamStart(
            uri=uri,
            device_identity=device_identity,
            format=format,
            chunk_size_bytes=chunk_size_bytes,
            latency_frames=latency_frames,
            staging_seconds=staging_seconds,
            wait=wait,
            chunk_path=chunk_path,
            keep=keep,
            roll=roll,
            align=align,
            channel_map=channel_map,
            accept_port_change=accept_port_change,
            require_own_clock=require_own_clock,
            roll_on_format_change=roll_on_format_change,
            trace=trace,
            standby_s=standby_s,
            silent_below_dbfs=silent_below_dbfs,
            silent_after_s=silent_after_s,
            start_at=start_at,
            stop_at=stop_at,
            stop_after_s=stop_after_s,
            take_names=take_names,
            on_seal=on_seal,
            on_roll=on_roll,
            trigger=trigger,
        )
        return await self.ask(asked, StreamBegun)

    async def stream_switch_chunk(self, uri: str, new_chunk_path: str) -> ChunkSwitched:
        """The file that the controller gives for the next chunk."""
        return await self.ask(StreamSwitchChunk(uri=uri, new_chunk_path=new_chunk_path), ChunkSwitched)

    async def mark(self, uri: str, label: str, *, frame: int | None = None) -> Marked:
        """Name a frame of the take that runs (left out: its head), or of a recording that has ended (its end)."""
        return await self.ask(SetMark(uri=uri, label=label, frame=frame), Marked)

    async def stream_stop(self, uri: str) -> StreamEnded:
        """End a stream; all that was captured is stored when this returns."""
        return await self.ask(StreamStop(uri=uri), StreamEnded)

    async def stream_keep(self, uri: str) -> StreamKept:
        """What a stream in standby holds becomes its recording, and it goes on."""
        return await self.ask(StreamKeep(uri=uri), StreamKept)

    async def stream_accept_port(self, uri: str) -> PortAccepted:
        """From now on the stream's device is the same at any port, where its serial number says so."""
        return await self.ask(StreamAcceptPort(uri=uri), PortAccepted)

    async def session_start(
        self,
        session: str,
        streams: Sequence[SessionStream],
        *,
        wait: bool = False,
        start_at: dt.datetime | None = None,
        stop_at: dt.datetime | None = None,
        stop_after_s: float | None = None,
    ) -> SessionBegun:
        """Start these streams together, or none of them."""
        request = SessionStart(
            session=session,
            streams=list(streams),
            wait=wait,
            start_at=start_at,
            stop_at=stop_at,
            stop_after_s=stop_after_s,
        )
        return await self.ask(request, SessionBegun)

    async def session_stop(self, session: str) -> SessionEnded:
        """End a session's streams."""
        return await self.ask(SessionStop(session=session), SessionEnded)

    async def session_keep(self, session: str) -> SessionKept:
        """What its streams in standby hold becomes their recordings, and they go on."""
        return await self.ask(SessionKeep(session=session), SessionKept)

    async def session_status(self, session: str) -> SessionStatus:
        """A session's streams, and how their clocks are related."""
        return await self.ask(SessionStatusOf(session=session), SessionStatus)

    async def session_list(self) -> list[SessionLine]:
        """All sessions, newest first."""
        return (await self.ask(SessionList(), SessionsListed)).sessions

    async def stream_list(self) -> list[StreamStatus]:
        """The streams that have not ended."""
        return (await self.ask(StreamList(), StreamsListed)).streams

    async def stream_status(self, uri: str) -> StreamStatus:
        """A stream as it stands. Raises StreamNotFound."""
        return await self.ask(StreamStatusOf(uri=uri), StreamStatus)

    async def recording_list(
        self,
        *,
        uri: str | None = None,
        device: str | None = None,
        since: dt.datetime | None = None,
        until: dt.datetime | None = None,
        limit: int | None = None,
    ) -> list[RecordingLine]:
        """Recordings, newest first; those that match all that is given."""
        asked = RecordingList(uri=uri, device=device, since=since, until=until, limit=limit)
        return (await self.ask(asked, RecordingsTold)).recordings

    async def slice(
        self,
        uri: str,
        from_: Time,
        to: Time,
        output: Literal["virtual", "materialize"],
        *,
        path: str | None = None,
        container: Container | None = None,
        subtype: Subtype | None = None,
        gaps: GapFill = "zeros",
    ) -> Sliced:
        """A range of a recording as a list of chunks ("virtual"), or as a file of chaosd's ("materialize")."""
        asked = Slice(
            uri=uri,
            from_=from_,
            to=to,
            output=output,
            path=path,
            container=container,
            subtype=subtype,
            gaps=gaps,
        )
        return await self.ask(asked, Sliced)

    async def verify(self, uri: str) -> Verified:
        """Hash a recording again, and compare all that it tells of itself."""
        return await self.ask(Verify(uri=uri), Verified)

    async def events_since(self, seq: int, *, limit: int = 1000) -> EventsHeld:
        """Events with a greater `seq` than this, oldest first."""
        return await self.ask(EventsSince(seq=seq, limit=limit), EventsHeld)

    async def retire(self, *, keep: str | None = None, dry_run: bool = False) -> RetiredTold:
        """Remove the oldest sealed chunks beyond `keep`; with `dry_run` only say what would go."""
        return await self.ask(Retire(keep=keep, dry_run=dry_run), RetiredTold)

    async def shutdown(self) -> Nothing:
        """Stop every stream cleanly, then the daemon."""
        return await self.ask(Shutdown(), Nothing)


class Client(Ops):
    """A connection to one daemon, for one event loop; made with the first call. Any number of tasks may call at once.

    Arguments, answers and errors are those of `chaos.client.Client`. A task that is cancelled gives up its answer: what
    it asked for may be done all the same.
    """

    def __init__(
        self,
        endpoint: str | None = None,
        events_endpoint: str | None = None,
        *,
        timeout_s: float = 5.0,
        keys: Path | None = None,
        server_key: str | None = None,
    ) -> None:
        self.endpoint, self.events_endpoint = endpoints_for(endpoint, events_endpoint)
        self._asks_where = endpoint is not None and events_endpoint is None and not is_remote(endpoint)
        self._keys = keys
        self._server_key = server_key
        self._timeout_s = timeout_s
        self._context: zmq.asyncio.Context | None = None
        self._ids = itertools.count(1)
        self._connecting = asyncio.Lock()
        self._answers: _Answers | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Ends this client's events too. Closing twice is harmless."""
        if self._answers is not None:
            await self._answers.close()
            self._answers = None
        if self._context is not None:
            self._context.destroy(linger=0)
            self._context = None

    def reachable(self) -> bool:
        """Whether somebody listens at the endpoint; of another machine's that is not known. Sends nothing."""
        return is_remote(self.endpoint) or listens(self.endpoint)

    async def call(self, op: str, /, **fields: Any) -> dict[str, Any]:
        """The result of an op. Raises the ChaosError that the daemon answers with, or DaemonUnreachable."""
        patience_s = patience_for(op, fields, self._timeout_s)
        request_id = str(next(self._ids))
        request = encoded({"op": op, "id": request_id, **fields})
        async with self._connecting:
            if self._answers is None or self._answers.is_lost:
                if self._answers is not None:
                    await self._answers.close()
                    self._answers = None
                self._answers = _Answers(await self._connect(zmq.DEALER, self.endpoint), self.endpoint)
        try:
            async with asyncio.timeout(None if patience_s == math.inf else patience_s):
                answer = await self._answers.to(request_id, request)
        except TimeoutError:
            raise unanswered(op, fields, patience_s) from None
        return result_of(answer)

    async def default_device(self) -> Device:
        """The device that is recorded from where none is named. Raises DeviceNotFound."""
        return msgspec.convert(default_of(await self.call("device_list", direction="input", format="audio")), Device)

    async def start(self, *, settle_s: float = 15.0, **fields: Any) -> dict[str, Any]:
        """As `chaos.client.Client.start`: `stream_start`, then wait until it streams, or waits for its device."""
        uri = fields["uri"]
        topics = (f"stream_state {uri}", f"stream_error {uri}")
        async with await self.events(*topics, timeout_s=settle_s) as events:
            started = await self.call("stream_start", **fields)
            how = {name: str(started.get(name, "")) for name in ("state", "reason")}
            while how["state"] not in SETTLED:
                try:
                    how = next_state(uri, how, await anext(events))
                except TimedOut:
                    how = settled_at_last(uri, await self.call("stream_status", uri=uri))
        return {**started, **how}

    async def events(self, *prefixes: str, timeout_s: float | None = None) -> Events:
        """The events from now on whose topic begins with one of `prefixes`; all of them where none is given.

        What the daemon does for any later call is among them. `timeout_s`: how long a silence may last.
        """
        if self._asks_where:
            self.events_endpoint = told_events(await self.call("ping"), self.events_endpoint)
            self._asks_where = False
        link = await self._connect(zmq.SUB, self.events_endpoint)
        try:
            for prefix in prefixes or ("",):
                link.socket.subscribe(prefix)
            if not is_remote(self.events_endpoint) and not await link.made(self._timeout_s):
                raise DaemonUnreachable(f"chaosd does not answer at {self.events_endpoint}", hint=HANGS)
            await self.call("ping")
        except BaseException:
            await link.close()
            raise
        return Events(link, self.events_endpoint, timeout_s)

    async def _connect(self, kind: int, endpoint: str) -> _Link:
        if self._context is None:
            self._context = zmq.asyncio.Context()
        if not is_remote(endpoint):
            check_default(endpoint)
            if not listens(endpoint):
                raise nobody_at(endpoint)
            return _Link(self._context, kind, endpoint)
        curve = curve_for(endpoint, self._keys, self._server_key)
        link = _Link(self._context, kind, endpoint, curve)
        try:
            if await link.made(self._timeout_s):
                return link
            raise nobody_at(endpoint)
        except NotAdmitted:
            await link.close()
            raise not_admitted(endpoint, curve) from None
        except BaseException:
            await link.close()
            raise


class Events:
    """An asynchronous iterator of events (the JSON object of each), as `chaos.client.Events`; `close` it when done."""

    def __init__(self, link: _Link, endpoint: str, timeout_s: float | None) -> None:
        self._link = link
        self._endpoint = endpoint
        self.timeout_s = timeout_s

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.close()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> dict[str, Any]:
        try:
            frames = await self._link.receive(self.timeout_s)
        except ConnectionLost:
            raise went_away(self._endpoint) from None
        if frames is None:
            raise TimedOut(f"no event within {self.timeout_s:g} s")
        return read_event(frames[-1])

    async def close(self) -> None:
        """Closing twice is harmless."""
        await self._link.close()


class _Link:
    """A socket connected to one endpoint, and a watch over that connection: `chaos.system.watched` for asyncio."""

    def __init__(self, context: zmq.asyncio.Context, kind: int, endpoint: str, curve: Curve | None = None) -> None:
        self.socket = context.socket(kind)
        self.socket.linger = 0
        if curve is not None:
            self.socket.curve_publickey = curve.public.encode()
            self.socket.curve_secretkey = curve.secret.encode()
            self.socket.curve_serverkey = curve.server.encode()
        self._watch = self.socket.get_monitor_socket(WATCHED, watch_name())
        loop = asyncio.get_running_loop()
        self._made: asyncio.Future[bool] = loop.create_future()  # False: refused
        self._lost: asyncio.Future[None] = loop.create_future()
        self._next: asyncio.Future[list[bytes]] | None = None
        self._watching = asyncio.ensure_future(self._look())
        self.socket.connect(endpoint)

    async def _look(self) -> None:
        while not self._lost.done():
            told = (await self._watch.recv_multipart())[0]
            event = int.from_bytes(told[:2], sys.byteorder)
            if event == zmq.EVENT_DISCONNECTED:
                self._lost.set_result(None)
            elif not self._made.done():
                self._made.set_result(event == zmq.EVENT_HANDSHAKE_SUCCEEDED)

    async def made(self, timeout_s: float) -> bool:
        """Whether the connection was made in that time. Raises NotAdmitted where the other side refuses our key."""
        await asyncio.wait({self._made}, timeout=timeout_s)
        if self._made.done() and not self._made.result():
            raise NotAdmitted
        return self._made.done()

    async def receive(self, timeout_s: float | None) -> list[bytes] | None:
        """The next message, None if none came in that time; for one task at a time. Raises ConnectionLost.

        What is awaited stays so where this is cancelled or nothing came: no message is lost between two calls.
        """
        if self._next is None:
            self._next = asyncio.ensure_future(self.socket.recv_multipart())
        either: set[asyncio.Future[Any]] = {self._next, self._lost}
        await asyncio.wait(either, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
        if not self._next.done():
            if not self._lost.done():
                return None
            if not int(self.socket.get(zmq.EVENTS)) & zmq.POLLIN:
                raise ConnectionLost
            await asyncio.wait({self._next})  # what came before the end is given out first
        received, self._next = self._next.result(), None
        return received

    async def close(self) -> None:
        """Closing twice is harmless."""
        for task in (self._watching, self._next):
            if task is not None and not task.done():
                task.cancel()
                with suppress(asyncio.CancelledError):
                    await task
        if not self.socket.closed:
            self.socket.disable_monitor()
            self.socket.close()
            self._watch.close()


class _Answers:
    """Commands over one link: whoever waits for an answer gets it, in whatever order they come."""

    def __init__(self, link: _Link, endpoint: str) -> None:
        self._link = link
        self._endpoint = endpoint
        self._waiting: dict[str, asyncio.Future[Answer]] = {}
        self._owed: set[str] = set()  # ids of what was sent and not answered, also where nobody waits for it any more
        self._reading = asyncio.ensure_future(self._read())

    @property
    def is_lost(self) -> bool:
        return self._reading.done()

    async def to(self, request_id: str, request: bytes) -> Answer:
        """Sends it; the answer. Raises DaemonUnreachable, BadAnswer."""
        answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._waiting[request_id] = answer
        self._owed.add(request_id)
        try:
            if self.is_lost:
                raise went_away(self._endpoint)
            await self._link.socket.send(request)
            return await answer
        finally:
            del self._waiting[request_id]

    async def _read(self) -> None:
        try:
            while (frames := await self._link.receive(None)) is not None:
                answer = read_answer(frames[-1])
                if answer.id not in self._owed:
                    raise not_asked_for(answer)
                self._owed.discard(answer.id)
                waits = self._waiting.get(answer.id)
                if waits is not None and not waits.done():
                    waits.set_result(answer)
        except ConnectionLost:
            self._refuse_all()
        except BadAnswer as e:  # whose it is can't be told
            self._refuse_all(e)
        finally:
            self._refuse_all()

    def _refuse_all(self, error: ChaosError | None = None) -> None:
        for waits in self._waiting.values():
            if not waits.done():
                waits.set_exception(error or went_away(self._endpoint))

    async def close(self) -> None:
        """Whoever still waits is told that the connection is gone."""
        self._reading.cancel()
        with suppress(asyncio.CancelledError):
            await self._reading
        await self._link.close()


class Hosts:
    """`chaos.hosts.Hosts` with `await`: a client for each host; what one answers says nothing of another."""

    def __init__(self, hosts: Sequence[str], *, timeout_s: float = 5.0, keys: Path | None = None) -> None:
        named = remote_endpoints(hosts)
        self._clients = {host: Client(endpoint, timeout_s=timeout_s, keys=keys) for host, endpoint in named.items()}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Closing twice is harmless."""
        for client in self._clients.values():
            await client.close()

    async def call(self, op: str, /, **fields: Any) -> dict[str, dict[str, Any] | ChaosError]:
        """What each answers to an op, in the order of the hosts; an error is that host's, and is not raised."""

        async def asked(client: Client) -> dict[str, Any] | ChaosError:
            try:
                return await client.call(op, **fields)
            except ChaosError as error:
                return error

        answers = await asyncio.gather(*map(asked, self._clients.values()))
        return dict(zip(self._clients, answers, strict=True))
