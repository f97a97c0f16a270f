"""Raw connections to a door of `serving`, and what it holds meanwhile."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Self

from serving import Serving

from chaos.client import Client

__all__ = ["Most", "await_given_back", "frame", "peer"]

GREETING = b"\xff" + bytes(8) + b"\x7f\x03\x00" + b"NULL" + bytes(16) + bytes(32)


def ready(kind: bytes) -> bytes:
    return b"\x05READY\x0bSocket-Type" + len(kind).to_bytes(4, "big") + kind


def frame(body: bytes, flags: int = 0) -> bytes:
    head = bytes([flags, len(body)]) if len(body) < 256 else bytes([flags | 2]) + len(body).to_bytes(8, "big")
    return head + body


@contextmanager
def peer(path: Path, kind: bytes) -> Iterator[socket.socket]:
    """A connection that has said which kind of socket it is, without a library of its own."""
    with socket.socket(socket.AF_UNIX) as raw:
        raw.settimeout(60)
        raw.connect(str(path))
        raw.sendall(GREETING + frame(ready(kind), 4))
        told = b""
        while b"READY" not in told:
            told += raw.recv(4096)
        yield raw


class Most:
    """The most memory of its own that a door has had since; looked at often."""

    def __init__(self, serving: Serving) -> None:
        self._serving = serving
        self._over = threading.Event()
        self.mib = serving.own_mib()
        self._thread = threading.Thread(target=self._watch)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._over.wait(0.01):
            self.mib = max(self.mib, self._serving.own_mib())


def await_given_back(serving: Serving, client: Client, before: int) -> None:
    deadline = time.monotonic() + 60
    while (held := serving.own_mib()) > before + 8:
        assert time.monotonic() < deadline, f"{before} MiB before, {held} after"
        assert client.call("ping")
