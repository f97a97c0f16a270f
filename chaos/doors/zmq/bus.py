"""The two sockets: commands in and answers out (ROUTER), events out (XPUB).

One thread owns each and waits without a timeout; whatever other threads hand in wakes it through an eventfd.
None waits for a command to be done, so a slow one holds up nobody.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, NamedTuple, Self

import zmq

from chaos.doors.zmq.arrivals import Arrivals
from chaos.doors.zmq.claim import Claim
from chaos.doors.zmq.clients import Clients
from chaos.doors.zmq.connections import Connection, Connections
from chaos.doors.zmq.curve import Gate
from chaos.doors.zmq.listeners import Listeners
from chaos.doors.zmq.subscriptions import MAX_PREFIX_BYTES
from chaos.protocol.codec import MAX_MESSAGE_BYTES, decode_request, encode_error, encode_ok, request_id
from chaos.protocol.config import Config, ipc_path, is_remote
from chaos.protocol.requests import DeviceWait, Request
from chaos.system.descriptors import max_connections
from chaos.system.keys import Keys
from chaos.terms.errors import ChaosError, InternalError, InvalidRequest, StorageFailed, TimedOut

__all__ = ["MAX_ENVELOPE_BYTES", "MAX_FRAMES", "MAX_WAITS", "Bus"]

log = logging.getLogger(__name__)

MAX_WAITS = 64
MAX_FRAMES = 16
MAX_ENVELOPE_BYTES = 1024  # it is kept until the answer, for each command under way
_LINGER_MS = 500
_LAST_ANSWERS_S = 5.0
_RETRY_MS = 10
_SILENT_OF_ALL = 4  # on either socket one connection in four
_QUEUED_COMMANDS = 16
_QUEUED_ANSWERS = 1  # they may be large, and ZeroMQ counts no bytes: `Clients` queues the others
_QUEUED_EVENTS = 4096
_QUEUED_PREFIXES = 4  # of each subscriber: `Inflow` can take back only what ZeroMQ has not read


class _Pending(NamedTuple):
    """A command under way; `n_bytes` are those of its message."""

    envelope: list[bytes]
    request: str | None
    connection: Connection | None
    n_bytes: int


class Bus:
    """The sockets of one daemon: unborn until `start`, alive until `close`.

    The constructor claims both endpoints (`Config.prepare` has made their folders), so that a second daemon
    ends there: it raises InvalidRequest with the other's process id, and StorageFailed where a socket cannot
    be made; with `tcp://`, Unauthorized as `Gate` has it. Until `start`, commands wait.

    `submit(request)` is called on the bus thread, must not wait, and gives a future of the result, which is
    JSON-serialisable. A ChaosError that it or its future raises is the answer's error; any other exception is
    answered as `internal` and logged. The future of a `device_wait` is cancelled when its client goes.
    `on_heads(wanted)` is called on another thread whenever the first client begins to listen for
    `stream_head_position`, and when the last one has stopped.
    """

    def __init__(
        self, config: Config, submit: Callable[[Request], Future[Any]], on_heads: Callable[[bool], object]
    ) -> None:
        self._submit = submit
        self._pending: dict[object, _Pending] = {}
        self._outbox: deque[Callable[[], object]] = deque()
        self._lock = threading.Lock()
        self._closed = False
        self._stopping = False
        self._thread: threading.Thread | None = None
        self._claims: list[Claim] = []
        self._gate: Gate | None = None
        self._watched: tuple[zmq.Socket[bytes], ...] = ()
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._arrivals, self._said = Arrivals(), Arrivals()
        self._max_connections = max_connections()
        try:
            for endpoint in (config.endpoint, config.events_endpoint):
                if not is_remote(endpoint):
                    self._claims.append(Claim(ipc_path(endpoint)))
            if is_remote(config.endpoint) or is_remote(config.events_endpoint):
                self._gate = Gate(self._context, Keys(config.keys))
            self._commands = self._socket(zmq.ROUTER)
            self._events = self._socket(zmq.XPUB)
            self._asking = Connections(self._commands, "asking", self._may_open, self._arrivals)
            self._listening = Connections(self._events, "listening", self._may_open, self._said)
            self._watched = (self._commands, self._events)
            self._bind(self._commands, config.endpoint, self._asking)
            self._bind(self._events, config.events_endpoint, self._listening)
        except BaseException:
            self._release()
            raise
        self._clients = Clients(self._commands, self._asking)
        self._arrivals.ours = self._kept_bytes
        self._said.ours = lambda: self._latest_kept_bytes
        self._latest_kept_bytes = 0
        self._n_taken = 0  # in this round of the clients, of whom ZeroMQ gives a command of each in turn
        trim_soon = self._arrivals.trim_soon
        self._listeners = Listeners(
            self._events, self._listening, self._said, self._gate, on_heads, on_freed=lambda: self._post(trim_soon)
        )

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def start(self) -> None:
        """Begin to answer. Once only."""
        if self._thread is not None or self._closed:
            raise RuntimeError("a bus can be started only once")
        self._thread = threading.Thread(target=self._run, name="bus", daemon=True)
        self._thread.start()
        self._listeners.start()

    def publish(self, topic: bytes, payload: bytes) -> None:
        """Send an event; from any thread, never waiting. Events leave in the order of these calls."""
        self._listeners.publish(topic, payload)

    def close(self) -> None:
        """Send what was handed in, tell clients who still wait that it is over, and give the endpoints back.

        Waits for clients while they read, five seconds at most, and half a second where none does. Closing twice is
        harmless.
        """
        self._post(self._stop)
        with self._lock:
            if self._closed:
                return
            self._closed = True
        self._listeners.close()
        if self._thread is not None:
            self._thread.join()
        self._release()

    def _post(self, action: Callable[[], object]) -> None:
        with self._lock:
            if not self._closed:
                self._outbox.append(action)
                os.eventfd_write(self._wake, 1)

    def _stop(self) -> None:
        self._stopping = True

    def _socket(self, kind: int) -> zmq.Socket[bytes]:
        made = self._context.socket(kind)
        made.linger = _LINGER_MS
        if kind == zmq.ROUTER:
            made.set(zmq.MAXMSGSIZE, MAX_MESSAGE_BYTES)
            made.set(zmq.RCVHWM, _QUEUED_COMMANDS)
            made.set(zmq.SNDHWM, _QUEUED_ANSWERS)
            made.set(zmq.ROUTER_HANDOVER, 1)
            made.set(zmq.ROUTER_MANDATORY, 1)  # sending says whether the client is there and has room
        else:
            made.set(zmq.MAXMSGSIZE, MAX_PREFIX_BYTES)
            made.set(zmq.RCVHWM, _QUEUED_PREFIXES)
            made.set(zmq.SNDHWM, _QUEUED_EVENTS)
            made.set(zmq.XPUB_VERBOSER, 1)  # each subscriber's prefixes are told, not only the first one's
        return made

    def _bind(self, unbound: zmq.Socket[bytes], endpoint: str, connections: Connections) -> None:
        if is_remote(endpoint):
            assert self._gate is not None
            self._gate.guard(unbound)
            connections.admits = self._gate.admits
            connections.max_silent = max(1, self._max_connections // _SILENT_OF_ALL)
        before = os.umask(0o177)
        try:
            unbound.bind(endpoint)
        except zmq.ZMQError as e:
            raise StorageFailed(
                f"cannot listen on {endpoint}: {e.strerror}", hint="choose another with --endpoint and --events"
            ) from e
        finally:
            os.umask(before)

    def _kept_bytes(self) -> int:
        self._latest_kept_bytes = self._clients.kept_bytes
        return self._latest_kept_bytes

    def _may_open(self) -> bool:
        return len(self._asking) + len(self._listening) < self._max_connections

    def _release(self) -> None:
        if self._gate is not None:
            self._gate.close()
        for watched in self._watched:  # first of all: ZeroMQ's thread waits for whoever is told, and would for ever
            watched.disable_monitor()
        self._context.destroy()
        self._arrivals.close()
        self._said.close()
        os.close(self._wake)
        for claim in reversed(self._claims):
            claim.release()

    def _run(self) -> None:
        poller, poller_behind = zmq.Poller(), zmq.Poller()
        for waited in (self._wake, self._arrivals.watch, self._asking.watch, self._commands):
            poller.register(waited, zmq.POLLIN)
            poller_behind.register(waited, zmq.POLLIN)
        poller_behind.register(int(self._commands.get(zmq.FD)), zmq.POLLIN)  # also wakes when a client has room again
        while not self._stopping:
            try:
                if self._clients.is_behind:
                    self._turn(dict(poller_behind.poll(_RETRY_MS)))
                else:
                    self._turn(dict(poller.poll(self._asking.wait_ms)))
            except Exception:
                log.exception("the bus failed, and goes on")
        for each in self._pending.values():
            error = encode_error(each.request, TimedOut("chaosd stopped before this was done"))
            self._clients.send(each.envelope, error, each.connection)
        self._send_the_last()
        self._asking.end()

    def _send_the_last(self) -> None:
        """Goes on while clients take what is queued for them."""
        has_room = zmq.Poller()
        has_room.register(int(self._commands.get(zmq.FD)), zmq.POLLIN)
        now = time.monotonic()
        give_up_at, at_the_latest = now + _LINGER_MS / 1000, now + _LAST_ANSWERS_S
        while self._clients.is_behind and now < min(give_up_at, at_the_latest):
            is_moving = self._clients.retry()
            now = time.monotonic()
            if is_moving:
                give_up_at = now + _LINGER_MS / 1000
            else:
                has_room.poll(_RETRY_MS)

    def _turn(self, ready: dict[Any, int]) -> None:
        self._asking.read()
        if self._gate is not None:
            self._gate.look(self._asking)
        self._clients.retry()
        if self._wake in ready:
            self._drain()
        is_round = self._commands not in ready
        if not is_round:
            self._n_taken += 1
            self._accept()
            is_round = self._n_taken > len(self._asking)
        if is_round:
            self._n_taken = 0
            self._arrivals.round()

    def _drain(self) -> None:
        os.eventfd_read(self._wake)
        while self._outbox and not self._stopping:
            try:
                self._outbox.popleft()()
            except Exception:
                log.exception("the bus could not do what it was handed")

    def _accept(self) -> None:
        """Take one command and pass it on, or answer why not."""
        frames = self._receive()
        connection = self._asking.of(frames[0])
        if connection is not None:
            self._asking.finished(connection.fd)
        if connection is None and not self._asking.is_admitted(frames[0]):
            return
        if connection is not None and not connection.is_open:
            return
        if (why := _beyond_bounds(frames)) is not None:
            if connection is not None:
                self._asking.drop(connection, why)
            self._arrivals.trim_soon()
            return
        *envelope, raw = (frame.bytes for frame in frames)
        client = envelope[0]
        try:
            request = decode_request(raw)
            is_wait = isinstance(request, DeviceWait)
            if is_wait and (connection is None or len(connection.waits) >= MAX_WAITS):
                raise InvalidRequest(
                    f"{MAX_WAITS} device_waits of this client have not been answered yet",
                    hint="wait for their answers; chaosctl devices lists what is there",
                )
            self._clients.asks(client, connection)
        except Exception as e:
            self._clients.send(envelope, encode_error(request_id(raw), _as_chaos_error(e)), connection)
            return
        try:
            future = self._submit(request)
        except Exception as e:
            self._clients.answered(client)
            self._clients.send(envelope, encode_error(request.id, _as_chaos_error(e)), connection)
            return
        token = object()
        self._pending[token] = _Pending(envelope, request.id, connection, sum(map(len, frames)))
        waits = connection.waits if is_wait and connection is not None else set()
        waits.add(future)

        def finish(done: Future[Any]) -> None:
            waits.discard(done)
            self._finish(token, done, has_gone=connection is None or not connection.is_open)

        future.add_done_callback(lambda done: self._post(lambda: finish(done)))

    def _receive(self) -> list[zmq.Frame]:
        """The frames of one message, with the routing id; of more than MAX_FRAMES beside it, one too many."""
        frames = [frame := self._commands.recv(copy=False)]
        while frame.more:
            frame = self._commands.recv(copy=False)
            if len(frames) <= MAX_FRAMES + 1:
                frames.append(frame)
        return frames

    def _finish(self, token: object, done: Future[Any], *, has_gone: bool) -> None:
        envelope, request, connection, n_bytes = self._pending.pop(token)
        self._clients.answered(envelope[0])
        if has_gone:
            self._asking.forgot(n_bytes)
            if done.cancelled():
                return
        try:
            answer = encode_ok(request, done.result())
        except BaseException as e:
            answer = encode_error(request, _as_chaos_error(e))
        self._clients.send(envelope, answer, connection)


def _beyond_bounds(frames: list[zmq.Frame]) -> str | None:
    """Why a message is not answered, if it isn't. Its answer would have to bring the envelope back."""
    _, *envelope, _ = frames
    if len(frames) > MAX_FRAMES + 1:
        return f"it sent a message of more than {MAX_FRAMES} frames"
    if sum(map(len, frames)) > MAX_MESSAGE_BYTES:
        return f"it sent a message of more than {MAX_MESSAGE_BYTES} bytes"
    if sum(map(len, envelope)) > MAX_ENVELOPE_BYTES:
        return f"it sent an envelope of more than {MAX_ENVELOPE_BYTES} bytes"
    return None


def _as_chaos_error(error: BaseException) -> ChaosError:
    if isinstance(error, ChaosError):
        return error
    log.error("a command failed", exc_info=error)
    return InternalError(f"{type(error).__name__}: {error}", hint="this is a bug in chaosd; its log has more")
