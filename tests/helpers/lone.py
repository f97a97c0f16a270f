"""A stream's actor, a real one with real takes, without PipeWire: its messages are handed to it one by one."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Hashable
from concurrent.futures import Future
from pathlib import Path
from typing import Any, cast
from unittest import mock

import msgspec
from prepared import await_ready
from world import World, map_of

from chaos.engine.life import Life
from chaos.engine.messages import OfTake, Stop, Stored, SwitchChunk, Target, Wanted
from chaos.engine.stream import InputStreamActor
from chaos.engine.view import StreamView
from chaos.graph.devices import DeviceInfo
from chaos.protocol.config import Config
from chaos.protocol.requests import AudioFormat, StreamStart
from chaos.store.lines import Definition
from chaos.system.pump import Pump
from chaos.terms.errors import InvalidRequest

__all__ = ["Ear", "LoneStream", "StillPump", "microphone"]

URI = "stream://mic/1"
RATE = 48000
CYCLE = 256
AHEAD_NS = 3_600_000_000_000


def microphone(**options: Any) -> DeviceInfo:
    """A device that could be captured."""
    world = World()
    world.node("mic", **options)
    [device] = map_of(world).devices()
    return device


class Ear:
    """Stands for an actor: hears what it is told."""

    actor_urn = "ear"

    def __init__(self) -> None:
        self.heard: list[Any] = []

    def tell(self, message: Any) -> None:
        self.heard.append(message)

    def of(self, kind: type) -> list[Any]:
        return [message for message in self.heard if isinstance(message, kind)]


class StillPump:
    """A pump whose timers ring when a test says so; it watches nothing."""

    def __init__(self) -> None:
        self.timers: dict[Hashable, Callable[[], object]] = {}
        self.clocks: dict[Hashable, Callable[[], object]] = {}

    def after(self, key: Hashable, delay_s: float, callback: Callable[[], object]) -> None:
        self.timers[key] = callback

    every = after

    def cancel(self, key: Hashable) -> None:
        self.timers.pop(key, None)

    def watch(self, fd: int, callback: Callable[[], object], *, is_eventfd: bool = False) -> None:
        self.timers[fd] = callback

    def unwatch(self, fd: int) -> None:
        self.timers.pop(fd, None)

    def on_clock_set(self, key: Hashable, callback: Callable[[], object]) -> None:
        self.clocks[key] = callback

    def forget_clock(self, key: Hashable) -> None:
        self.clocks.pop(key, None)


class StillCapture:
    """Stands for a capture node: `cycle` is what the graph would bring. `links` are those asked for last.

    Cycles come as fast as the test has them, by a clock of that speed that is ahead of time: nothing is ever late.
    As with a real one, no cycle runs any more once `close` has come back.
    """

    def __init__(self, connection: object, writer: Any, **options: Any) -> None:
        self.options = options
        self.handle, self.node_id = 1, 99
        self.links: Any = ()
        self.is_closed = False
        self._lock = threading.Lock()
        self._writer, self._next = writer, None
        self._position = self._first = 1000
        self.began_ns = time.monotonic_ns() + AHEAD_NS

    def link(self, pairs: Any) -> None:
        self.links = pairs

    def unlink(self) -> None:
        self.links = ()

    def go_on_with(self, following: Any) -> None:
        self._next = following

    def close(self) -> None:
        with self._lock:
            self.is_closed = True

    def cycle(self, data: bytes) -> None:
        with self._lock:
            if not self.is_closed:
                self._cycle(data)

    def _cycle(self, data: bytes) -> None:
        for each in (self._writer, self._next):
            while each is not None and not (stats := each.stats())["callbacks"]:
                if stats["slots_free"] == stats["slots_total"]:
                    break
                time.sleep(0.001)  # slots are on their way, and these cycles come faster than any graph's
        if self._next is not None and self._writer.hands_over(self._next, self._position, CYCLE, rate=RATE):
            self._writer, self._next = self._next, None
        monotonic_ns = self.began_ns + (self._position - self._first) * 1_000_000_000 // RATE
        self._writer.cycle(self._position, CYCLE, data, rate=RATE, monotonic_ns=monotonic_ns)
        self._position += CYCLE


class LoneStream:
    """Not started: `give` hands it one message, `take_in` what its rotators have to tell.

    Its `daemon` and `registry` are ears; `events` is what it and its rotators emit.
    """

    def __init__(self, folder: Path, **request: Any) -> None:
        config = Config(
            endpoint=f"ipc://{folder}/c",
            events_endpoint=f"ipc://{folder}/e",
            store=folder / "store",
            staging_dir=folder / "staging",
        )
        config.prepare()
        self.daemon, self.registry, self.pump = Ear(), Ear(), StillPump()
        self.events: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self.start: Future[Any] = Future()
        self.connection: Any = object()
        form = AudioFormat(sample_format=request.pop("sample_format", "f32"))
        request = {"uri": URI, "device_identity": "mic", "chunk_size_bytes": 8192, **request}
        self.request = StreamStart(format=form, staging_seconds=0.1, **request)
        self.view = StreamView(URI, form)
        self.actor = InputStreamActor(
            config,
            self.request,
            self.view,
            "0" * 32,
            wanted=Wanted("name:mic"),
            pump=cast(Pump, self.pump),
            daemon=self.daemon,  # type: ignore[arg-type]
            registry=self.registry,  # type: ignore[arg-type]
            emit=lambda event: self.events.put((event.type, msgspec.structs.asdict(event))),
            start_future=self.start,
        )
        self._patch = mock.patch("chaos.engine.feed.Capture", self._open)
        self._patch.start()
        self.captures: list[StillCapture] = []

    def _open(self, *arguments: Any, **options: Any) -> StillCapture:
        self.captures.append(StillCapture(*arguments, **options))
        return self.captures[-1]

    @property
    def definition(self) -> Definition:
        """As a rotator would have it."""
        return Definition(
            uri=URI,
            channels=2,
            sample_rate=RATE,
            sample_format="f32",
            chunk_frames=1024,
            device={},
            positions=["FL", "FR"],
            started_wall_ns=1,
            started_monotonic_ns=1,
            software="chaosd test",
            run_id="0" * 32,
        )

    @property
    def life(self) -> Life:
        return self.actor._life

    @property
    def capture(self) -> StillCapture:
        return self.captures[-1]

    def give(self, message: Any) -> None:
        self.actor.on_receive(message)

    def plug(self, device: DeviceInfo | None = None) -> None:
        """The device is there, with all its ports; so are all slots, since cycles come faster here than any graph's."""
        device = device or microphone()
        pairs = tuple((device.node_id, port.id, 99, 200 + k, port.serial) for k, port in enumerate(device.ports))
        self.give(Target(self.connection, device, pairs))
        take = self.actor._takes.current
        if take is not None:
            await_ready(take.staging)

    def unplug(self) -> None:
        self.give(Target(self.connection, None, (), "name:mic is away"))

    def take_in(self, until: type, timeout_s: float = 60.0) -> Any:
        """Hands on what rotators tell, up to the first message of that type."""
        while True:
            message = self.actor.actor_inbox.get(timeout=timeout_s).message
            self.give(message)
            said = message.message if isinstance(message, OfTake) else message
            if isinstance(said, until):
                return said

    def run(self, n_cycles: int = 1) -> None:
        """Cycles of the graph, with the rotator woken."""
        data = b"\1" * (CYCLE * 4 * len(self.capture.options["positions"]))
        for _ in range(n_cycles):
            self.capture.cycle(data)
        for key, call in list(self.pump.timers.items()):
            if isinstance(key, int):
                call()

    def catch_up(self) -> None:
        """Returns once the rotator has done what it was woken for: it answers in turn."""
        self.run(0)
        take = self.actor._takes.current
        assert take is not None
        done: Future[Any] = Future()
        take.rotator.tell(SwitchChunk(Path("/nowhere"), done))
        assert isinstance(done.exception(20), InvalidRequest), "the stream rotates by itself"

    def stop(self) -> Any:
        """The answer to `stream_stop`."""
        future: Future[Any] = Future()
        self.give(Stop(future))
        self.take_in(Stored)
        return future.result(10)

    def close(self) -> None:
        self._patch.stop()
        self.actor._takes.abandon()
