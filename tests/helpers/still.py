"""A whole engine over a graph that a test moves by hand: every actor, take and recording is real, PipeWire is not."""

from __future__ import annotations

import os
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Self
from unittest import mock

from lone import CYCLE, StillCapture
from world import World

from chaos.protocol.config import Config
from chaos.protocol.requests import AudioFormat, StreamStart

__all__ = ["StillGraph", "config_in", "start_of"]

CHUNK_BYTES = 8192  # 1,024 frames of two channels


def config_in(folder: Path, **options: Any) -> Config:
    """`remote` names a PipeWire that isn't there."""
    return Config(
        endpoint=f"ipc://{folder}/c",
        events_endpoint=f"ipc://{folder}/e",
        store=folder / "store",
        staging_dir=folder / "staging",
        remote=f"{folder}/no-pipewire",
        **options,
    )


def start_of(uri: str = "stream://mic/1", **options: Any) -> StreamStart:
    return StreamStart(
        uri=uri,
        device_identity="mic",
        format=AudioFormat(),
        chunk_size_bytes=CHUNK_BYTES,
        staging_seconds=1.0,
        **options,
    )


class _Connection:
    """What happens in the world comes out of `drain`, as from PipeWire's loop."""

    def __init__(self, graph: StillGraph) -> None:
        self._graph = graph
        self._n_told = 0
        self.wake_fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)

    def drain(self) -> list[Any]:
        events = self._graph.world.events
        fresh, self._n_told = events[self._n_told :], len(events)
        return [(-1, 0, 0, 0, event) for event in fresh]


class _Listener:
    def __init__(self, connection: _Connection) -> None:
        pass

    def settle(self) -> None:
        pass

    def close(self) -> None:
        pass


class _Decoder:
    def decode(self, record: Any) -> Any:
        return record[4]


class StillGraph:
    """While it is entered, engines in this process find one microphone of two channels, `mic`.

    `captures` are the streams' nodes, in order; `run` lets the graph make cycles for all of them.
    """

    def __init__(self) -> None:
        self.world = World()
        self.world.session_manager()
        self.mic = self.world.node("mic")
        self.captures: list[StillCapture] = []
        self._connections: list[_Connection] = []
        self._patches = ExitStack()

    def __enter__(self) -> Self:
        for name, double in {
            "registry.Connection": lambda remote: self._connect(),
            "registry.Registry": _Listener,
            "registry.Decoder": _Decoder,
            "feed.Capture": self._open,
        }.items():
            self._patches.enter_context(mock.patch(f"chaos.engine.{name}", double))
        return self

    def __exit__(self, *exc: object) -> None:
        self._patches.close()
        for connection in self._connections:
            os.close(connection.wake_fd)

    def run(self, n_cycles: int = 1) -> None:
        for capture in self.captures:
            data = b"\1" * (CYCLE * 4 * len(capture.options["positions"]))
            for _ in range(n_cycles):
                if capture.links:
                    capture.cycle(data)

    def tell(self) -> None:
        """The world has changed."""
        for connection in self._connections:
            os.eventfd_write(connection.wake_fd, 1)

    def _connect(self) -> _Connection:
        self._connections.append(_Connection(self))
        return self._connections[-1]

    def _open(self, *arguments: Any, **options: Any) -> StillCapture:
        """The node's own ports come into the world with it."""
        capture = StillCapture(*arguments, **options)
        capture.handle = len(self.captures) + 1
        capture.node_id = self.world.node(options["name"], "Stream/Input/Audio/Sink")
        self.captures.append(capture)
        self.tell()
        return capture
