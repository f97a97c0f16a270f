"""An object store that fails: a proxy before a local S3 that drops, delays, refuses, doubles and swallows requests.

It counts what came by, and can be away for some recorders. What it does is drawn from a seed.
"""

from __future__ import annotations

import http.client
import random
import socket
import threading
import time
from collections import Counter
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Literal, get_args

__all__ = ["FAULTS", "Fault", "FaultyStore"]

Fault = Literal["dropped", "answer lost", "doubled", "slow", "500", "503"]
FAULTS: tuple[Fault, ...] = get_args(Fault)
_SLOW_S = 0.2
_OURS = ("connection", "transfer-encoding", "content-length")


class FaultyStore:
    """The proxy, on threads of this process: every request to `endpoint` fails with a chance of `rate`, in one of
    FAULTS.

    `requests` counts by method what came, `injected` what was done to it, `got` by path what was read, `n_bytes` are
    those of bodies that were put. With `link` bodies go through at so many bytes a second. `refuse` has credentials
    that it doesn't take any more.
    """

    def __init__(self, port: int, rate: float, seed: int, link: int | None = None) -> None:
        self.requests: Counter[str] = Counter()
        self.injected: Counter[str] = Counter()
        self.got: Counter[str] = Counter()
        self.n_bytes = 0
        self._away: set[str] = set()
        self._refused: dict[str, tuple[int, str]] = {}
        self._behind = port
        self._link = link
        self._free_at = 0.0
        self._rate = rate
        self._random = random.Random(seed)
        self._lock = threading.Lock()
        self._local = threading.local()
        store = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle_one_request(self) -> None:
                with suppress(ConnectionError, http.client.HTTPException, TimeoutError):
                    super().handle_one_request()
                    return
                self.close_connection = True

            def log_message(self, *_: object) -> None:
                """Nothing: the figures tell."""

            def _any(self) -> None:
                store._serve(self)

            do_GET = do_PUT = do_HEAD = do_POST = do_DELETE = _any  # noqa: N815

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 128

            def handle_error(self, *_: object) -> None:
                """A client that was killed leaves broken connections."""

        self._server = Server(("127.0.0.1", 0), Handler)
        self.endpoint = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=lambda: self._server.serve_forever(0.02), name="proxy", daemon=True)
        self._thread.start()

    def set_away(self, recorder: str, *, is_away: bool) -> None:
        """For what this recorder puts and gets."""
        with self._lock:
            (self._away.add if is_away else self._away.discard)(recorder)

    def refuse(self, key: str, status: int, code: str) -> None:
        """From now on for what is signed with this access key; S3 has 403 InvalidAccessKeyId for one that is gone, and
        400 ExpiredToken for one of a session that is over."""
        with self._lock:
            self._refused[key] = (status, code)

    def _refusal(self, handler: BaseHTTPRequestHandler) -> tuple[int, str] | None:
        signed = handler.headers.get("Authorization", "")
        with self._lock:
            return next((how for key, how in self._refused.items() if f"Credential={key}/" in signed), None)

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def _fault(self) -> Fault | None:
        with self._lock:
            return self._random.choice(FAULTS) if self._random.random() < self._rate else None

    def _count(self, handler: BaseHTTPRequestHandler, n_bytes: int, fault: str | None) -> None:
        with self._lock:
            self.requests[handler.command] += 1
            if handler.command == "GET":
                self.got[handler.path.partition("?")[0]] += 1
            self.n_bytes += n_bytes if handler.command == "PUT" else 0
            if fault is not None:
                self.injected[fault] += 1

    def _serve(self, handler: BaseHTTPRequestHandler) -> None:
        body = handler.rfile.read(int(handler.headers.get("Content-Length") or 0))
        if (refusal := self._refusal(handler)) is not None:
            self._count(handler, len(body), refusal[1])
            self._answer(handler, refusal[0], [], f"<Error><Code>{refusal[1]}</Code></Error>".encode())
            return
        fault = "away" if self._away.intersection(handler.path.split("/")) else self._fault()
        self._count(handler, len(body), fault)
        self._carry(len(body))
        if fault in ("dropped", "away"):
            self._drop(handler)
        elif fault in ("500", "503"):
            code = "SlowDown" if fault == "503" else "InternalError"
            self._answer(handler, int(fault), [], f"<Error><Code>{code}</Code></Error>".encode())
        else:
            if fault == "slow":
                time.sleep(_SLOW_S)
            status, headers, answer = self._behind_it(handler, body)
            if fault == "doubled":
                status, headers, answer = self._behind_it(handler, body)
            if fault == "answer lost":
                self._drop(handler)
            else:
                self._answer(handler, status, headers, answer)

    def _carry(self, n_bytes: int) -> None:
        """As long as the link takes for it, all requests together."""
        if self._link is None:
            return
        with self._lock:
            now = time.monotonic()
            self._free_at = max(now, self._free_at) + n_bytes / self._link
            wait_s = self._free_at - now
        time.sleep(wait_s)

    def _behind_it(self, handler: BaseHTTPRequestHandler, body: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
        link: http.client.HTTPConnection | None = getattr(self._local, "link", None)
        if link is None:
            link = self._local.link = http.client.HTTPConnection("127.0.0.1", self._behind, timeout=60)
        link.request(handler.command, handler.path, body, dict(handler.headers.items()))
        answer = link.getresponse()
        return answer.status, answer.getheaders(), answer.read()

    def _answer(
        self, handler: BaseHTTPRequestHandler, status: int, headers: list[tuple[str, str]], body: bytes
    ) -> None:
        handler.send_response_only(status)
        is_head = handler.command == "HEAD"
        for name, value in headers:
            if name.lower() not in _OURS or (is_head and name.lower() == "content-length"):
                handler.send_header(name, value)
        if not is_head:
            handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        if not is_head:
            handler.wfile.write(body)

    def _drop(self, handler: BaseHTTPRequestHandler) -> None:
        handler.close_connection = True
        with suppress(OSError):
            handler.connection.shutdown(socket.SHUT_RDWR)
