"""Talking to a running chaosd from Python.

with Client() as chaosd:
    usb = chaosd.device_find("USB Mic")
    chaosd.start(uri="stream://desk/1", device_identity=usb.identity, format={"type": "audio"})
    for event in chaosd.events("stream_gap"):
        print(event["cause"], event["n_frames"], chaosd.stream_status("stream://desk/1").lost_frames)

`chaos.ops` has a method for each op, with its answer as a struct; `call` sends any op and gives plain JSON objects.
"""

from __future__ import annotations

import itertools
import math
import socket
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol, Self
from weakref import WeakSet

import msgspec
import zmq

from chaos.ops import Ops
from chaos.protocol.config import check_default, check_remote, default_endpoints, ipc_path, is_remote, next_port
from chaos.protocol.heard import Answer, Heard, not_asked_for, read_answer, read_event
from chaos.protocol.requests import checked_size
from chaos.system.keys import Keys
from chaos.system.watched import ConnectionLost, Curve, NotAdmitted, WatchedSocket, own_context
from chaos.terms.errors import (
    BadAnswer,
    ChaosError,
    DeviceNotFound,
    InvalidRequest,
    TimedOut,
    Unauthorized,
    error_from_code,
)
from chaos.terms.visible import visible

__all__ = [
    "HANGS",
    "SETTLED",
    "Asking",
    "Client",
    "DaemonUnreachable",
    "Events",
    "Told",
    "curve_for",
    "default_of",
    "encoded",
    "endpoints_for",
    "listens",
    "next_state",
    "nobody_at",
    "not_admitted",
    "patience_for",
    "result_of",
    "settled_at_last",
    "told_events",
    "unanswered",
    "went_away",
]

_PATIENCE_S = {
    "stream_start": 30.0,
    "session_start": 30.0,  # it waits for its devices
    "stream_stop": 300.0,
    "stream_keep": 300.0,
    "shutdown": 600.0,
    "verify": math.inf,
    "slice": math.inf,
}
SETTLED = ("streaming", "waiting", "stalled")
HANGS = "it may be suspended, or very busy"


class Told(Protocol):
    """Events, one after the other; see `Events`."""

    def __enter__(self) -> Self: ...
    def __iter__(self) -> Self: ...
    def __exit__(self, *exc: object) -> None: ...
    def __next__(self) -> dict[str, Any]: ...


class DaemonUnreachable(ChaosError):
    """No daemon listens, it went away, or it does not answer."""

    code = "timeout"
    exit_code = 7


class Asking(Ops):
    """What is the same for a daemon and for an engine of one's own (`chaos.local`): both have `call`, `events`, and a
    method for each op."""

    def events(self, *prefixes: str, timeout_s: float | None = None) -> Told:
        raise NotImplementedError

    def default_device(self) -> dict[str, Any]:
        """The `Device` that is recorded from where none is named. Raises DeviceNotFound."""
        return default_of(self.call("device_list", direction="input", format="audio"))

    def start(self, *, settle_s: float = 15.0, **fields: Any) -> dict[str, Any]:
        """`stream_start`, then wait until it streams, or waits for its device: the result's `state`, and its `reason`.

        Raises what `call` raises, the stream's own error, and TimedOut after `settle_s`, which stops nothing.
        """
        uri = fields["uri"]
        with self.events(f"stream_state {uri}", f"stream_error {uri}", timeout_s=settle_s) as events:
            started = self.call("stream_start", **fields)
            how = {name: str(started.get(name, "")) for name in ("state", "reason")}
            while how["state"] not in SETTLED:
                how = self._next_state(events, uri, how)
        return {**started, **how}

    def _next_state(self, events: Told, uri: str, how: dict[str, str]) -> dict[str, str]:
        try:
            event = next(events)
        except TimedOut:
            return settled_at_last(uri, self.call("stream_status", uri=uri))
        return next_state(uri, how, event)


def default_of(listed: dict[str, Any]) -> dict[str, Any]:
    """The default device among those of `device_list`. Raises DeviceNotFound."""
    for device in listed["devices"]:
        if device["is_default"] and not device["is_monitor"]:
            return dict(device)
    raise DeviceNotFound(
        "there is no default device to capture", hint="name one of those that `chaosctl devices` lists"
    )


def settled_at_last(uri: str, status: dict[str, Any]) -> dict[str, str]:
    """Its `state` and `reason`. Raises TimedOut where it has not settled."""
    how = {name: str(status.get(name, "")) for name in ("state", "reason")}
    if how["state"] in SETTLED:
        return how
    raise TimedOut(
        f"{uri} is still {how['state']}",
        hint=f"`chaosctl status {uri}` says why; `chaosctl stop {uri}` gives up",
    )


def next_state(uri: str, how: dict[str, str], event: dict[str, Any]) -> dict[str, str]:
    """`how` after an event. Raises the stream's own error."""
    if event["stream_uri"] != uri:
        return how
    if event["type"] == "stream_error" and not event["recoverable"]:
        raise error_from_code(event["error"]["code"], event["error"]["message"])
    return {name: str(event.get(name, how[name])) for name in how}


class Client(Asking):
    """A connection to one daemon, for one thread at a time; made with the first call.

    `timeout_s` is how long a quick op may take. Slow ones (`verify`, `stream_stop`, ...) have longer; a
    daemon that dies is noticed at once. Endpoints left out are the default ones; events of a `tcp://` one are at the
    port above it, those of another `ipc://` one where its daemon says that they are. `tcp://` needs keys: one's own and
    the daemon's from the folder `keys` (`chaosctl keys`), or the daemon's public one as `server_key`.
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
        self._is_closed = False
        self._events: WeakSet[Events] = WeakSet()
        self._ids = itertools.count(1)
        self._commands: WatchedSocket | None = None
        self._owed: set[str] = set()  # ids of what was sent over it and not answered yet, also of what was given up
        self.heard = Heard()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Ends this client's events too. Closing twice is harmless."""
        if self._commands is not None:
            self._commands.close()
            self._commands = None
        for events in list(self._events):
            events.close()
        self._is_closed = True

    def reachable(self) -> bool:
        """Whether somebody listens at the endpoint; of another machine's that is not known. Sends nothing."""
        return is_remote(self.endpoint) or listens(self.endpoint)

    def call(self, op: str, /, **fields: Any) -> dict[str, Any]:
        """The result of an op. Raises the ChaosError that the daemon answers with, DaemonUnreachable, or BadAnswer."""
        patience_s = patience_for(op, fields, self._timeout_s)
        request_id = str(next(self._ids))
        request = encoded({"op": op, "id": request_id, **fields})
        if self._commands is None:
            self._commands = self._connect(zmq.DEALER, self.endpoint)
            self._owed.clear()
        self._owed.add(request_id)
        try:
            self._commands.socket.send(request)
            answer = self._answer(self._commands, request_id, time.monotonic() + patience_s)
        except (DaemonUnreachable, BadAnswer, KeyboardInterrupt):
            self._commands.close()
            self._commands = None
            raise
        if answer is None:
            raise unanswered(op, fields, patience_s)
        result = result_of(answer)
        self.heard.answer(op, result)
        return result

    def _connect(self, kind: int, endpoint: str) -> WatchedSocket:
        if self._is_closed:
            raise InvalidRequest("this client is closed", hint="make another one: Client()")
        if is_remote(endpoint):
            return self._connect_remote(kind, endpoint)
        check_default(endpoint)
        if not listens(endpoint):
            raise nobody_at(endpoint)
        return WatchedSocket(own_context(), kind, endpoint)

    def _connect_remote(self, kind: int, endpoint: str) -> WatchedSocket:
        curve = curve_for(endpoint, self._keys, self._server_key)
        link = WatchedSocket(own_context(), kind, endpoint, curve)
        try:
            if link.await_connection(time.monotonic() + self._timeout_s):
                return link
            raise nobody_at(endpoint)
        except NotAdmitted:
            link.close()
            raise not_admitted(endpoint, curve) from None
        except BaseException:
            link.close()
            raise

    def events(self, *prefixes: str, timeout_s: float | None = None) -> Events:
        """The events from now on whose topic begins with one of `prefixes`; all of them where none is given.

        What the daemon does for any later call is among them. `timeout_s`: how long a silence may last.
        """
        if self._asks_where:
            self.events_endpoint = told_events(self.call("ping"), self.events_endpoint)
            self._asks_where = False
        link = self._connect(zmq.SUB, self.events_endpoint)
        try:
            for prefix in prefixes or ("",):
                link.socket.subscribe(prefix)
            if not is_remote(self.events_endpoint) and not link.await_connection(time.monotonic() + self._timeout_s):
                raise DaemonUnreachable(f"chaosd does not answer at {self.events_endpoint}", hint=HANGS)
            self.call("ping")
        except BaseException:
            link.close()
            raise
        events = Events(link, self.events_endpoint, timeout_s, self.heard)
        self._events.add(events)
        return events

    def _answer(self, link: WatchedSocket, request_id: str, deadline: float) -> Answer | None:
        while frames := _receive(link, self.endpoint, deadline):
            answer = read_answer(frames[-1])
            if answer.id not in self._owed:
                raise not_asked_for(answer)
            self._owed.discard(answer.id)
            if answer.id == request_id:
                return answer
        return None


def endpoints_for(endpoint: str | None, events_endpoint: str | None) -> tuple[str, str]:
    """Both endpoints; those left out are the default ones, or events of a `tcp://` one at the port above it."""
    commands, events = default_endpoints()
    chosen = endpoint or commands
    return chosen, events_endpoint or (next_port(chosen) if is_remote(chosen) else events)


def told_events(pong: Mapping[str, Any], otherwise: str) -> str:
    """Where a daemon says that it tells events; `otherwise` of one up to 0.2.0, which doesn't say."""
    told = pong.get("events_endpoint")
    return told if isinstance(told, str) and told else otherwise


def patience_for(op: str, fields: Mapping[str, Any], timeout_s: float) -> float:
    """How many seconds an answer to this may take."""
    asked = fields.get("timeout_s", 0.0)  # what is not a number is refused by who is asked
    return max(timeout_s, _PATIENCE_S.get(op, 0.0)) + (float(asked) if isinstance(asked, int | float) else 0.0)


def result_of(answer: Answer) -> dict[str, Any]:
    """The result of an answer. Raises the ChaosError that it holds."""
    if (refusal := answer.refusal()) is not None:
        raise refusal
    assert answer.result is not None
    return answer.result


def curve_for(endpoint: str, keys_folder: Path | None, server_key: str | None) -> Curve:
    """The keys for a `tcp://` endpoint. Raises Unauthorized where the daemon's is not known."""
    host, _ = check_remote(endpoint)
    keys = Keys(keys_folder)
    own = keys.own()
    server = server_key or keys.host(host.strip("[]"))
    if server is None:
        raise Unauthorized(
            f"the key of {host} is not known",
            hint=f"on {host} run `chaosctl keys list`, then here `chaosctl keys add --host {host} KEY`",
        )
    return Curve(own.public, own.secret, server)


def nobody_at(endpoint: str) -> DaemonUnreachable:
    if not is_remote(endpoint):
        return DaemonUnreachable(f"no chaosd answers at {endpoint}", hint="start it: chaosd")
    host, _ = check_remote(endpoint)
    return DaemonUnreachable(
        f"no chaosd answers at {endpoint}, or it has another key than the one that is known",
        hint=f"compare `chaosctl keys list` on {host} and here, and look at chaosd's --endpoint",
    )


def not_admitted(endpoint: str, curve: Curve) -> Unauthorized:
    host, _ = check_remote(endpoint)
    return Unauthorized(
        f"chaosd at {endpoint} does not let this key in", hint=f"on {host}: chaosctl keys add NAME {curve.public}"
    )


def unanswered(op: str, fields: Mapping[str, Any], patience_s: float) -> DaemonUnreachable:
    hint = _may_have_started(op, fields) or HANGS
    return DaemonUnreachable(f"chaosd did not answer {op} within {patience_s:g} s", hint=hint)


def went_away(endpoint: str) -> DaemonUnreachable:
    return DaemonUnreachable(f"chaosd at {endpoint} went away", hint="its log says why; start it again: chaosd")


def _may_have_started(op: str, fields: Mapping[str, Any]) -> str:
    """What to type where the answer to a start did not come: the start itself may have been done all the same."""
    if op == "session_start":
        return f"{fields['session']} may have started anyway; check: chaosctl session status {fields['session']}"
    if op == "stream_start":
        return f"{fields['uri']} may have started anyway; check: chaosctl status {fields['uri']}"
    return ""


class Events:
    """An iterator of events (the JSON object of each); `close` it when done.

    Raises TimedOut after a silence of `timeout_s` and DaemonUnreachable when the daemon goes away; what came
    before either is given out first. A hole in `seq` means that this reader was too slow: ask `events_since`.
    """

    def __init__(self, link: WatchedSocket, endpoint: str, timeout_s: float | None, heard: Heard) -> None:
        self._link = link
        self._heard = heard
        self._endpoint = endpoint
        self.timeout_s = timeout_s

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> dict[str, Any]:
        silence_s = math.inf if self.timeout_s is None else self.timeout_s
        frames = _receive(self._link, self._endpoint, time.monotonic() + silence_s)
        if frames is None:
            raise TimedOut(f"no event within {silence_s:g} s")
        event = read_event(frames[-1])
        self._heard.event(event)
        return event

    def close(self) -> None:
        """Closing twice is harmless."""
        self._link.close()


def _receive(link: WatchedSocket, endpoint: str, deadline: float) -> list[bytes] | None:
    try:
        return link.receive(deadline)
    except ConnectionLost:
        raise went_away(endpoint) from None


def encoded(request: dict[str, Any]) -> bytes:
    """A request's bytes. Raises InvalidRequest for text that is none, for what JSON has no form for, and for more than
    a request may have: what is far beyond that costs the connection, and nobody is told why."""
    try:
        return checked_size(msgspec.json.encode(request))
    except UnicodeEncodeError as e:
        raise InvalidRequest(
            f"{visible(str(e.object))} is not text in this locale", hint="use a UTF-8 locale: LC_ALL=C.UTF-8"
        ) from None
    except (TypeError, ValueError, OverflowError, RecursionError) as e:
        raise InvalidRequest(
            f"a field of the request can't be sent: {visible(str(e))}", hint="use text, numbers, lists and dicts"
        ) from None


def listens(endpoint: str) -> bool:
    """Whether somebody listens at an `ipc://` endpoint."""
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.setblocking(False)
            probe.connect(str(ipc_path(endpoint)))
        except BlockingIOError:
            return True
        except OSError:
            return False
        return True
