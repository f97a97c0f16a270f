"""What an abuse has in its hands: a chaosd that captures a source meanwhile, and a way to do things to both."""

from __future__ import annotations

import itertools
import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import zmq
from rig import CountingSource, RigError, Session, decode

from chaos.terms.errors import ChaosError
from proof.engine import Engine

__all__ = ["KEPT", "PATIENCE_MS", "SIDE_ID", "Abuse", "Scene", "Take", "of_beside"]

KEPT = "stream://abuse/kept"
PATIENCE_MS = 60_000
SIDE_ID = 7
IsOwn: TypeAlias = Callable[[npt.NDArray[np.float32]], npt.NDArray[np.bool_]]
_FIELDS = {"format": {"type": "audio"}, "chunk_size_bytes": 65536, "staging_seconds": 1}


@dataclass(frozen=True)
class Take:
    """A recording that came of a stream beside. `is_own(samples)` says of each frame whether it may be in there."""

    path: Path
    is_own: IsOwn


@dataclass
class Scene:
    """`source` is what the stream KEPT records. `corpus` are well-formed commands and what fuzzing made of them."""

    session: Session
    engine: Engine
    source: CountingSource
    folder: Path
    chance: random.Random
    corpus: list[bytes]
    takes: list[Take] = field(default_factory=list)
    _numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    @contextmanager
    def client(self, kind: int = zmq.DEALER, **options: int) -> Iterator[zmq.Socket[bytes]]:
        """A client of bare ZeroMQ, on the commands' or (SUB) the events' socket; at the end all of it is gone."""
        context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        made = context.socket(kind)
        for name, value in {"rcvhwm": 1000, "sndhwm": 1000, **options}.items():
            setattr(made, name, value)
        made.connect(self.engine.client.endpoint if kind == zmq.DEALER else self.engine.client.events_endpoint)
        try:
            yield made
        finally:
            context.destroy(linger=0)

    @contextmanager
    def device(self, name: str = "beside", **options: object) -> Iterator[CountingSource]:
        """A source beside the one that is kept; it follows the graph's clock, and chaosd knows of it."""
        with CountingSource(self.session, name=name, **{"source_id": SIDE_ID, **options}) as source:  # type: ignore[arg-type]
            self.engine.call("device_wait", name=f"node:{source.node_id}", timeout_s=50)
            yield source

    def await_device(self, name: str, n_channels: int) -> None:
        """Waits until it is listed with so many channels: a busy machine may list it with some of them first.

        Raises RigError when it is not.
        """
        self.engine.call("device_wait", name=name, timeout_s=50)
        deadline = time.monotonic() + 60
        while self.engine.call("device_find", name=name)["device"]["format"]["channels"] != n_channels:
            if time.monotonic() > deadline:
                raise RigError(f"{name} is not listed with {n_channels} channels")
            time.sleep(0.01)

    def await_told(self, seq: int, code: str) -> None:
        """Waits for the event of an error with that code, after the event `seq`. Raises RigError when none comes."""
        deadline = time.monotonic() + 60
        while True:
            for event in self.engine.call("events_since", seq=seq)["events"]:
                seq = event["seq"]
                if event["type"] == "stream_error" and event["error"]["code"] == code:
                    return
            if time.monotonic() > deadline:
                raise RigError(f"no event told of {code}")
            time.sleep(0.01)

    @contextmanager
    def stream(self, identity: str, *, is_own: IsOwn | None = None, **fields: object) -> Iterator[str]:
        """A stream beside, from when it captures; stopped at the end. With `is_own` its frames are looked at."""
        uri = self.start(identity, **fields)
        self.engine.await_state(uri, "streaming")
        yield uri
        stopped = self.engine.call("stream_stop", uri=uri)
        if is_own is not None and stopped["recording"]:
            self.takes.append(Take(Path(stopped["recording"]), is_own))

    def start(self, identity: str, **fields: object) -> str:
        """Starts a stream of a new name."""
        uri = f"stream://beside/{next(self._numbers)}"
        self.engine.call("stream_start", uri=uri, device_identity=identity, **{**_FIELDS, **fields})
        return uri

    def refused(self, op: str, *codes: str, **fields: object) -> None:
        """Asks for what must be refused, with one of these codes. Raises RigError where it is not."""
        try:
            self.engine.call(op, **fields)
        except ChaosError as error:
            if error.code in codes:
                return
            raise RigError(f"{op} was refused with {error.code}: {error.message}") from error
        raise RigError(f"{op} was done, with {str(fields)[:200]}")


@dataclass(frozen=True)
class Abuse:
    """`act(scene, n)` does it `n` times, at most `batch` of them at once. A long run does it `often`, and no shorter
    than `lasts_s`.
    """

    name: str
    often: int
    act: Callable[[Scene, int], None]
    batch: int = 1
    lasts_s: float = 0.0
    weight: int = 1  # of its share, where a run's time is limited


def of_beside(samples: npt.NDArray[np.float32]) -> npt.NDArray[np.bool_]:
    """Which frames are of the source that `Scene.device` makes."""
    return np.asarray(decode(samples, SIDE_ID) >= 0)
