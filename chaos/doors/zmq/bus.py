"""The two sockets: commands in and answers out (ROUTER), events out (XPUB).

One thread owns both and waits without a timeout; whatever other threads hand in wakes it through an eventfd.
It never waits for a command to be done, so a slow one holds up nobody.
"""

from __future__ import annotations

import logging
import os
import threading
from collections import Counter, deque
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, Self

import zmq

from chaos.doors.zmq.claim import Claim
from chaos.protocol.codec import MAX_MESSAGE_BYTES, decode_request, encode_error, encode_ok, request_id
from chaos.protocol.config import Config, ipc_path
from chaos.protocol.requests import Request
from chaos.terms.errors import ChaosError, InternalError, InvalidRequest, StorageFailed, TimedOut

__all__ = ["Bus"]

log = logging.getLogger(__name__)

MAX_PENDING_PER_CLIENT = 1024
_LINGER_MS = 500
_MAX_SUBSCRIPTION_BYTES = 64 << 10
_QUEUED_COMMANDS = 64
_QUEUED_ANSWERS = 8192
_QUEUED_EVENTS = 4096


class Bus:
    """The sockets of one daemon: unborn until `start`, alive until `close`.

    The constructor claims both endpoints (`Config.prepare` has made their folders), so that a second daemon
    ends there: it raises InvalidRequest with the other's process id, and StorageFailed where a socket cannot
    be made. Until `start`, commands wait.

    `submit(request)` is called on the bus thread, must not wait, and gives a future of the result, which is
    JSON-serialisable. A ChaosError that it or its future raises is the answer's error; any other exception is
    answered as `internal` and logged. `on_subscriptions(prefixes)` is called on the bus thread whenever the
    set of subscribed prefixes changes; the empty prefix is everything.
    """

    def __init__(
        self,
        config: Config,
        submit: Callable[[Request], Future[Any]],
        on_subscriptions: Callable[[frozenset[bytes]], None],
    ) -> None:
        self._submit = submit
        self._on_subscriptions = on_subscriptions
        self._subscriptions: frozenset[bytes] = frozenset()
        self._pending: dict[object, tuple[list[bytes], str | None]] = {}
        self._pending_of: Counter[bytes] = Counter()
        self._outbox: deque[Callable[[], object]] = deque()
        self._lock = threading.Lock()
        self._closed = False
        self._stopping = False
        self._thread: threading.Thread | None = None
        self._claims: list[Claim] = []
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        try:
            for endpoint in (config.endpoint, config.events_endpoint):
                self._claims.append(Claim(ipc_path(endpoint)))
            self._commands = self._bind(zmq.ROUTER, config.endpoint)
            self._events = self._bind(zmq.XPUB, config.events_endpoint)
        except BaseException:
            self._release()
            raise

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

    def publish(self, topic: bytes, payload: bytes) -> None:
        """Send an event; from any thread, never waiting. Events leave in the order of these calls."""
        self._post(lambda: self._events.send_multipart([topic, payload]))

    def close(self) -> None:
        """Send what was handed in, tell clients who still wait that it is over, and give the endpoints back.

        Waits at most half a second for clients that don't read. Closing twice is harmless.
        """
        self._post(self._stop)
        with self._lock:
            if self._closed:
                return
            self._closed = True
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

    def _bind(self, kind: int, endpoint: str) -> zmq.Socket[bytes]:
        bound = self._context.socket(kind)
        bound.linger = _LINGER_MS
        if kind == zmq.ROUTER:
            bound.set(zmq.MAXMSGSIZE, MAX_MESSAGE_BYTES)
            bound.set(zmq.RCVHWM, _QUEUED_COMMANDS)
            bound.set(zmq.SNDHWM, _QUEUED_ANSWERS)
            bound.set(zmq.ROUTER_HANDOVER, 1)
        else:
            bound.set(zmq.MAXMSGSIZE, _MAX_SUBSCRIPTION_BYTES)
            bound.set(zmq.SNDHWM, _QUEUED_EVENTS)
        before = os.umask(0o177)
        try:
            bound.bind(endpoint)
        except zmq.ZMQError as e:
            raise StorageFailed(
                f"cannot listen on {endpoint}: {e.strerror}",
                hint="choose another with --endpoint and --events",
            ) from e
        finally:
            os.umask(before)
        return bound

    def _release(self) -> None:
        self._context.destroy()
        os.close(self._wake)
        for claim in reversed(self._claims):
            claim.release()

    def _run(self) -> None:
        poller = zmq.Poller()
        for waited in (self._wake, self._events, self._commands):
            poller.register(waited, zmq.POLLIN)
        while not self._stopping:
            ready = dict(poller.poll())
            if self._wake in ready:
                self._drain()
            if self._events in ready:
                self._listen()
            if self._commands in ready:
                self._accept()
        for envelope, request in self._pending.values():
            self._answer(envelope, encode_error(request, TimedOut("chaosd stopped before this was done")))

    def _drain(self) -> None:
        os.eventfd_read(self._wake)
        while self._outbox and not self._stopping:
            self._outbox.popleft()()

    def _listen(self) -> None:
        """Take one word of the subscribers; what is none is ignored."""
        word = self._events.recv_multipart()[0]
        if word[:1] == b"\1":
            now = self._subscriptions | {word[1:]}
        elif word[:1] == b"\0":
            now = self._subscriptions - {word[1:]}
        else:
            return
        if now != self._subscriptions:
            self._subscriptions = now
            try:
                self._on_subscriptions(now)
            except Exception:
                log.exception("the engine could not be told of subscriptions")

    def _accept(self) -> None:
        """Take one command and pass it on, or answer why not."""
        *envelope, raw = self._commands.recv_multipart()
        client = envelope[0]
        try:
            if self._pending_of[client] >= MAX_PENDING_PER_CLIENT:
                raise InvalidRequest(
                    f"{MAX_PENDING_PER_CLIENT} commands of this client have not been answered yet",
                    hint="read the answers first",
                )
            request = decode_request(raw)
            future = self._submit(request)
        except Exception as e:
            self._answer(envelope, encode_error(request_id(raw), _as_chaos_error(e)))
            return
        token = object()
        self._pending[token] = (envelope, request.id)
        self._pending_of[client] += 1
        future.add_done_callback(lambda done: self._post(lambda: self._finish(token, done)))

    def _finish(self, token: object, done: Future[Any]) -> None:
        envelope, request = self._pending.pop(token)
        self._pending_of[envelope[0]] -= 1
        if not self._pending_of[envelope[0]]:
            del self._pending_of[envelope[0]]
        try:
            answer = encode_ok(request, done.result())
        except BaseException as e:
            answer = encode_error(request, _as_chaos_error(e))
        self._answer(envelope, answer)

    def _answer(self, envelope: list[bytes], answer: bytes) -> None:
        self._commands.send_multipart([*envelope, answer])


def _as_chaos_error(error: BaseException) -> ChaosError:
    if isinstance(error, ChaosError):
        return error
    log.error("a command failed", exc_info=error)
    return InternalError(f"{type(error).__name__}: {error}", hint="this is a bug in chaosd; its log has more")
