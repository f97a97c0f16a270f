"""A method for each op, with typed answers: what `Client`, `Local` and, as `await`, `chaos.aio.Client` have.

A test (tests/protocol/test_ops.py) compares the methods with the requests, and both classes with each other: an op that
is added needs its method here and in `chaos.aio`.
"""
# ruff: noqa: A002  the arguments have the names of the wire

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from typing import Any, Literal, TypeVar

import msgspec

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
from chaos.terms.containers import Container, GapFill, Subtype
from chaos.terms.errors import BadAnswer

__all__ = [
    "DeviceTold",
    "DevicesTold",
    "EventsHeld",
    "Ops",
    "RecordingsTold",
    "Result",
    "as_result",
    "fields_of",
]

Result = TypeVar("Result", bound=msgspec.Struct)


class DevicesTold(msgspec.Struct, frozen=True):
    devices: list[Device]


class DeviceTold(msgspec.Struct, frozen=True):
    device: Device


class RecordingsTold(msgspec.Struct, frozen=True):
    recordings: list[RecordingLine]


class EventsHeld(msgspec.Struct, frozen=True):
    """`events` are as `Client.events` gives them; `oldest_seq` is the oldest one that is kept."""

    events: list[dict[str, Any]]
    oldest_seq: int


def fields_of(request: Request) -> tuple[str, dict[str, Any]]:
    """The op and its fields as they go over the wire, without those that are left out."""
    fields: dict[str, Any] = msgspec.to_builtins(request)
    return str(fields.pop("op")), fields


def as_result(op: str, answer: dict[str, Any], kind: type[Result]) -> Result:
    """The answer as a struct; fields that it doesn't have are passed over. Raises BadAnswer where one is wrong."""
    try:
        return msgspec.convert(answer, kind)
    except msgspec.ValidationError as e:
        raise BadAnswer(
            f"what chaosd answered to {op} is not understood: {e}",
            hint="chaosd and this client may be of different versions: compare `chaosd --version`",
        ) from None


class Ops:
    """A method for each op. Each raises the ChaosError that it is answered with (`code`, `message`, `hint`,
    `details`), and what `call` raises; requests that can't be right are refused before they are sent."""

    def call(self, op: str, /, **fields: Any) -> dict[str, Any]:
        raise NotImplementedError

    def ask(self, request: Request, kind: type[Result]) -> Result:
        """Sends any request and gives its answer as a `kind`."""
        op, fields = fields_of(request)
        return as_result(op, self.call(op, **fields), kind)

    def ping(self) -> Pong:
        """Who answers, and since when."""
        return self.ask(Ping(), Pong)

    def status(self) -> EngineStatus:
        """The engine as it stands: PipeWire, streams, staging, store, and what may cost frames."""
        return self.ask(Status(), EngineStatus)

    def device_list(
        self,
        *,
        direction: Literal["input", "output"] | None = None,
        format: Literal["audio", "midi"] | None = None,
        all: bool = False,
    ) -> list[Device]:
        """What can be captured or played to; with `all` also what programs play."""
        return self.ask(DeviceList(direction=direction, format=format, all=all), DevicesTold).devices

    def device_find(self, name: str, *, format: Literal["audio", "midi"] | None = None) -> Device:
        """The device of that name. Raises DeviceNotFound, DeviceAmbiguous."""
        return self.ask(DeviceFind(name=name, format=format), DeviceTold).device

    def device_wait(self, name: str, timeout_s: float, *, format: Literal["audio", "midi"] | None = None) -> Device:
        """The device of that name, once it is there. Raises TimedOut."""
        return self.ask(DeviceWait(name=name, timeout_s=timeout_s, format=format), DeviceTold).device

    def stream_start(
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
        return self.ask(asked, StreamBegun)

    def stream_switch_chunk(self, uri: str, new_chunk_path: str) -> ChunkSwitched:
        """The file that the controller gives for the next chunk."""
        return self.ask(StreamSwitchChunk(uri=uri, new_chunk_path=new_chunk_path), ChunkSwitched)

    def mark(self, uri: str, label: str, *, frame: int | None = None) -> Marked:
        """Name a frame of the take that runs (left out: its head), or of a recording that has ended (its end)."""
        return self.ask(SetMark(uri=uri, label=label, frame=frame), Marked)

    def stream_stop(self, uri: str) -> StreamEnded:
        """End a stream; all that was captured is stored when this returns."""
        return self.ask(StreamStop(uri=uri), StreamEnded)

    def stream_keep(self, uri: str) -> StreamKept:
        """What a stream in standby holds becomes its recording, and it goes on."""
        return self.ask(StreamKeep(uri=uri), StreamKept)

    def stream_accept_port(self, uri: str) -> PortAccepted:
        """From now on the stream's device is the same at any port, where its serial number says so."""
        return self.ask(StreamAcceptPort(uri=uri), PortAccepted)

    def session_start(
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
        return self.ask(request, SessionBegun)

    def session_stop(self, session: str) -> SessionEnded:
        """End a session's streams."""
        return self.ask(SessionStop(session=session), SessionEnded)

    def session_keep(self, session: str) -> SessionKept:
        """What its streams in standby hold becomes their recordings, and they go on."""
        return self.ask(SessionKeep(session=session), SessionKept)

    def session_status(self, session: str) -> SessionStatus:
        """A session's streams, and how their clocks are related."""
        return self.ask(SessionStatusOf(session=session), SessionStatus)

    def session_list(self) -> list[SessionLine]:
        """All sessions, newest first."""
        return self.ask(SessionList(), SessionsListed).sessions

    def stream_list(self) -> list[StreamStatus]:
        """The streams that have not ended."""
        return self.ask(StreamList(), StreamsListed).streams

    def stream_status(self, uri: str) -> StreamStatus:
        """A stream as it stands. Raises StreamNotFound."""
        return self.ask(StreamStatusOf(uri=uri), StreamStatus)

    def recording_list(
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
        return self.ask(asked, RecordingsTold).recordings

    def slice(
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
        return self.ask(asked, Sliced)

    def verify(self, uri: str) -> Verified:
        """Hash a recording again, and compare all that it tells of itself."""
        return self.ask(Verify(uri=uri), Verified)

    def events_since(self, seq: int, *, limit: int = 1000) -> EventsHeld:
        """Events with a greater `seq` than this, oldest first."""
        return self.ask(EventsSince(seq=seq, limit=limit), EventsHeld)

    def retire(self, *, keep: str | None = None, dry_run: bool = False) -> RetiredTold:
        """Remove the oldest sealed chunks beyond `keep`; with `dry_run` only say what would go."""
        return self.ask(Retire(keep=keep, dry_run=dry_run), RetiredTold)

    def shutdown(self) -> Nothing:
        """Stop every stream cleanly, then the daemon."""
        return self.ask(Shutdown(), Nothing)
