"""A defect in any message of any actor: everybody who asked is answered, the other stream loses nothing, and the engine
ends in time. The engine is whole and real, over a graph that the test moves (`still.StillGraph`)."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from unittest import mock

import pykka
import pytest
from crashing import fast_folder
from still import StillGraph, config_in, start_of

from chaos.engine import messages as m
from chaos.engine.daemon import DaemonActor
from chaos.engine.engine import Engine
from chaos.engine.life import TRANSITIONS
from chaos.engine.registry import DeviceRegistryActor
from chaos.engine.rotator import ChunkRotatorActor
from chaos.engine.stream import InputStreamActor
from chaos.engine.supervised import Supervised
from chaos.protocol import requests as r
from chaos.store.info import load
from chaos.store.store import Store
from chaos.store.verify import verify
from chaos.terms.errors import ChaosError, InternalError
from chaos.terms.latency import Latency
from chaos.terms.ledger import Cause, Confidence

HURT, OTHER = "stream://mic/hurt", "stream://mic/other"
WITHIN_S = 60.0

MESSAGES: dict[type[Supervised], tuple[type, ...]] = {
    DaemonActor: (m.Command, m.Emit, m.StreamGone, m.HeadsWanted, m.End, m.Call),
    DeviceRegistryActor: (m.Drain, m.Reconnect, m.AskDevices, m.Wait, m.DropWait, m.Quiet, m.Follow, m.Unfollow),
    InputStreamActor: tuple(TRANSITIONS),
    ChunkRotatorActor: (
        *(m.Rotate, m.Tick, m.ClockWasSet, m.Interrupted, m.Linked),
        *(m.SwitchChunk, m.MarkFrame, m.KeepStandby, m.RetireChunks, m.StoreRest),
    ),
}
EVERY = [(actor, kind) for actor, kinds in MESSAGES.items() for kind in kinds]


def test_no_kind_of_message_is_left_out() -> None:
    not_alone = {m.OfTake, m.Wanted, m.Membership}  # one brings the others, two are parts
    declared = {each for each in vars(m).values() if isinstance(each, type) and each.__module__ == m.__name__}
    assert {kind for _, kind in EVERY} == declared - not_alone


class Injected(Exception):
    """A defect, as the test has it."""


class Fault:
    """Raises when an actor of this class (the hurt stream's, if it is a stream's) is given such a message.

    That is once, before or after it has done what the message asks for, or always.
    """

    def __init__(self, actor: type[Supervised], kind: type, when: str) -> None:
        self.hit = threading.Event()
        self._actor, self._kind, self._when = actor, kind, when
        # A stream's own word for a message that only exists inside it.
        self._name = "_carry_out" if kind in (m.Rolled, m.PastStored) else "carry_out"
        self._original = getattr(actor, self._name)

    def armed(self) -> Any:
        return mock.patch.object(self._actor, self._name, lambda actor, message: self._carry_out(actor, message))

    def _carry_out(self, actor: Any, message: Any) -> None:
        said = message.message if isinstance(message, m.OfTake) else message
        is_it = isinstance(said, self._kind) and self._concerns(actor)
        is_it = is_it and (self._when == "always" or not self.hit.is_set())
        if is_it and self._when != "after":
            self.hit.set()
            raise Injected(self._kind.__name__)
        self._original(actor, message)
        if is_it:
            self.hit.set()
            raise Injected(self._kind.__name__)

    @staticmethod
    def _concerns(actor: Any) -> bool:
        if isinstance(actor, InputStreamActor):
            return actor._view.uri == HURT
        if isinstance(actor, ChunkRotatorActor):
            return actor._plan.definition.uri.startswith(HURT)
        return True


class Scene:
    """Two streams of one device in one engine, and whoever asks for something."""

    def __init__(self, folder: Path) -> None:
        self.stack = ExitStack()
        self.graph = self.stack.enter_context(StillGraph())
        self.actors: list[Supervised] = []
        begin = Supervised.on_start
        self.stack.enter_context(
            mock.patch.object(Supervised, "on_start", lambda actor: (self.actors.append(actor), begin(actor)))
        )
        self.config = config_in(folder)
        self.folder = folder
        self.engine = Engine(self.config)
        self.engine.start()
        self.asked: dict[Future[Any], object] = {}  # what each was asked for

    def ask(self, request: r.Request) -> Future[Any]:
        self.asked[future := self.engine.submit(request)] = request
        return future

    @property
    def unanswered(self) -> list[object]:
        return [asked for future, asked in self.asked.items() if not future.done()]

    def run_until(self, is_so: Callable[[], bool], within_s: float = 60.0) -> bool:
        deadline, moment = time.monotonic() + within_s, threading.Event()
        while not is_so() and time.monotonic() < deadline:
            self.graph.run()
            moment.wait(0.002)
        return is_so()

    def begin(self, uri: str, **options: Any) -> Future[Any]:
        begun = self.ask(start_of(uri, **options))
        self.run_until(begun.done)
        return begun

    def actor(self, kind: type[Supervised]) -> pykka.ActorRef[Any] | None:
        """The one that is to be hurt, if it lives."""
        lives = [each.actor_ref for each in self.actors if type(each) is kind and Fault._concerns(each)]
        return next((ref for ref in lives if ref.is_alive()), None)

    def send(self, kind: type[Supervised], message: Any) -> None:
        """As another actor would."""
        for name in getattr(message, "__struct_fields__", ()):
            if isinstance(future := getattr(message, name), Future):
                self.asked[future] = message
        ref = self.actor(kind)
        if ref is None or not m.tell(ref, message):
            for name in getattr(message, "__struct_fields__", ()):
                if isinstance(future := getattr(message, name), Future):
                    m.refuse(future, InternalError("there is no such actor"))


@pytest.fixture
def scene() -> Iterator[Scene]:
    with fast_folder() as folder:
        scene = Scene(folder)
        try:
            yield scene
        finally:
            scene.engine.close(1)
            scene.stack.close()


def direct(kind: type, scene: Scene) -> Any:
    """Such a message, as it could come to the hurt stream, its rotator, the registry or the daemon."""
    stream = scene.actor(InputStreamActor)
    made: dict[type, Callable[[], Any]] = {
        m.Command: lambda: m.Command(r.Ping(), Future()),
        m.Emit: lambda: m.Emit(m.Event()),
        m.StreamGone: lambda: m.StreamGone("stream://nobody/1"),
        m.HeadsWanted: lambda: m.HeadsWanted(True),
        m.End: lambda: m.End(Future()),
        m.Call: lambda: m.Call(lambda: None),
        m.AskDevices: lambda: m.AskDevices(lambda devices: 1, Future()),
        m.Wait: lambda: m.Wait("mic", 5, Future()),
        m.DropWait: lambda: m.DropWait(0),
        m.Quiet: lambda: m.Quiet(scene.graph.mic, frozenset()),
        m.Follow: lambda: m.Follow(stream, m.Wanted("name:mic")),  # type: ignore[arg-type]
        m.Unfollow: lambda: m.Unfollow(stream),  # type: ignore[arg-type]
        m.Target: lambda: m.Target(None, None, ()),
        m.CaptureState: lambda: m.CaptureState(3, ""),
        m.LinkState: lambda: m.LinkState(0, -1, "gone"),
        m.Intruder: lambda: m.Intruder("loud"),
        m.SwitchChunk: lambda: m.SwitchChunk(Path("/nowhere/1"), Future()),
        m.MarkFrame: lambda: m.MarkFrame("here", None, Future()),
        m.KeepStandby: lambda: m.KeepStandby(Future()),
        m.RetireChunks: lambda: m.RetireChunks([], []),
        m.Stop: lambda: m.Stop(Future()),
        m.AcceptPort: lambda: m.AcceptPort(Future()),
        m.WrongRate: lambda: m.OfTake(1, m.WrongRate(44100)),
        m.Driven: lambda: m.OfTake(1, m.Driven(0, 5)),
        m.Led: lambda: m.Led(1, 0, "loud"),
        m.WrongClock: lambda: m.OfTake(1, m.WrongClock(5)),
        m.Flow: lambda: m.OfTake(1, m.Flow(True)),
        m.Triggered: lambda: m.OfTake(1, m.Triggered(1, None, "")),
        m.Broken: lambda: m.OfTake(1, m.Broken(RuntimeError("as a test has it"))),
        m.PortLatency: lambda: m.PortLatency(Latency(1.0, 0, 0)),
        m.Interrupted: lambda: m.Interrupted(Cause.DEVICE_AWAY, Confidence.CLOCK),
        m.StoreRest: lambda: m.StoreRest(None),
    }
    return made[kind]() if kind in made else kind()


@pytest.mark.parametrize("when", ["before", "after", "always"])
@pytest.mark.parametrize(("actor", "kind"), EVERY, ids=lambda each: each.__name__)
def test_a_defect_in_any_message(scene: Scene, actor: type[Supervised], kind: type, when: str) -> None:
    scene.begin(OTHER).result(0)
    other = scene.graph.captures[0]
    fault = Fault(actor, kind, when)
    with fault.armed():
        scene.begin(HURT, chunk_path=str(scene.folder / "store" / "chunk0"))
        scene.graph.run(40)
        if kind in (m.Roll, m.Rolled, m.PastStored):
            scene.send(InputStreamActor, m.Roll())
            scene.run_until(fault.hit.is_set)
        elif not fault.hit.is_set() and kind not in (m.Stored, m.StoreRest):
            scene.send(actor, direct(kind, scene))
            scene.run_until(fault.hit.is_set)
        for request in (
            r.Status(),
            r.StreamList(),
            r.StreamStatusOf(uri=HURT),
            r.StreamSwitchChunk(uri=HURT, new_chunk_path=str(scene.folder / "store" / "chunk1")),
            r.DeviceList(),
            r.DeviceWait(name="mic", timeout_s=5),
            r.DeviceWait(name="none", timeout_s=0.05),
            r.Verify(uri=HURT),
            r.Retire(),
            r.EventsSince(seq=0),
            start_of("stream://mic/third", wait=True),
            r.StreamStop(uri=HURT),
            r.StreamStop(uri=HURT),
        ):
            scene.ask(request)
        scene.run_until(lambda: all(future.done() for future in scene.asked))
        assert not scene.unanswered, "also without the engine's end"
        began = time.monotonic()
        scene.engine.close(WITHIN_S)
        took_s = time.monotonic() - began
        assert fault.hit.is_set()
    assert not scene.unanswered
    for future in scene.asked:
        assert isinstance(future.exception(0), ChaosError | None)
    assert took_s < WITHIN_S
    recording = Store(scene.config.store).path(OTHER)
    info = load(recording)
    assert info.finish is not None
    assert info.finish.clean
    if kind not in (m.Drain, m.Reconnect):  # they cost the connection, and so a gap
        assert info.n_frames == other._position - 1000
    report = verify(recording)
    assert report.ok, report.bad
