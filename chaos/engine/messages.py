"""What the actors tell each other. A `future` in a message is answered by whoever takes the message, or passed on."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

import msgspec
from pykka import ActorDeadError, ActorRef

from chaos.protocol.events import Event
from chaos.protocol.requests import Request
from chaos.store.info import SealedChunk
from chaos.store.lines import Definition
from chaos.terms.errors import ChaosError
from chaos.terms.latency import Latency
from chaos.terms.ledger import Cause, Confidence, Gap

if TYPE_CHECKING:
    from chaos._connection import Connection
    from chaos.engine.gate import Gate
    from chaos.graph.channels import Channel
    from chaos.graph.deviceinfo import DeviceKind
    from chaos.graph.devices import DeviceInfo

T = TypeVar("T")

Pairs: TypeAlias = tuple[tuple[int, int, int, int, int], ...]
"""Links to make, as `Capture.link` takes them."""


# ---- to the daemon

class Command(msgspec.Struct, frozen=True):
    """A request of a client; the future's result is the answer's."""

    request: Request
    future: Future[Any]


class Emit(msgspec.Struct, frozen=True):
    """An event, to be numbered, kept and published; `uri` is that of its stream."""

    event: Event
    uri: str | None = None


class StreamGone(msgspec.Struct, frozen=True):
    """A stream has ended, by request or by failure; its URI is free again, and its actor may be stopped."""

    uri: str


class HeadsWanted(msgspec.Struct, frozen=True):
    """Whether anybody listens for `stream_head_position`."""

    wanted: bool


class End(msgspec.Struct, frozen=True):
    """Stop every stream cleanly; when the last one has ended the future is settled with whether all is stored."""

    done: Future[bool]


class Call(msgspec.Struct, frozen=True):
    """Runs a function on the actor's own thread: how an answer comes back to whoever asked. `future` is refused where
    that fails."""

    function: Callable[[], object]
    future: Future[Any] | None = None


# ---- to the registry

class Drain(msgspec.Struct, frozen=True):
    """PipeWire has told something."""


class Reconnect(msgspec.Struct, frozen=True):
    """Try again to reach PipeWire."""


class AskDevices(msgspec.Struct, frozen=True):
    """A question that the map of devices answers: `question(map)`, run on the registry's thread."""

    question: Callable[[Any], Any]
    future: Future[Any]


class Wait(msgspec.Struct, frozen=True):
    """Answer as soon as a device of this name, and of that kind if one is given, is there; `timeout` when it
    is not within `timeout_s`."""

    name: str
    timeout_s: float
    future: Future[Any]
    kind: DeviceKind | None = None


class DropWait(msgspec.Struct, frozen=True):
    """The `number`-th wait is over: time is up, or whoever asked has gone."""

    number: int


class Quiet(msgspec.Struct, frozen=True):
    """A while ago a node had these ports and not as many as it says; are they still all?"""

    node_id: int
    ports: frozenset[int]


class Wanted(msgspec.Struct, frozen=True):
    """The device that a stream follows. `device`: as it was found at the start, where it was there then. `n_accepted`:
    how often a person has said that what is there now is the same."""

    identity: str
    device: DeviceInfo | None = None
    accept_port_change: bool = False
    kind: DeviceKind = "audio"
    n_accepted: int = 0


class Membership(msgspec.Struct, frozen=True):
    """The session that a stream belongs to: its name, its streams, and the gate at which they begin together."""

    session: str
    uris: tuple[str, ...]
    gate: Gate


class Follow(msgspec.Struct, frozen=True):
    """Keep a stream informed of its device and of its own node. A later one replaces the former; of `wanted` only
    `accept_port_change` may change.

    `channels` are those it records, none before its first take.
    """

    stream: ActorRef[Any]
    wanted: Wanted
    channels: tuple[Channel, ...] = ()
    handle: int | None = None
    node_id: int | None = None


class Unfollow(msgspec.Struct, frozen=True):
    stream: ActorRef[Any]


# ---- to a stream

class Target(msgspec.Struct, frozen=True):
    """How things stand for a stream: sent whenever any of it has changed.

    `connection` is None without PipeWire, `device` None while it is away or can't be told for sure, for `reason`.
    `pairs` are the links to make, once all ports on both sides are known and every channel has one. `graph_rate` is the
    rate at which the graph must run, where that is set. `has_lost_node`: the stream's own node, or a port of it, was
    taken out of the graph by somebody else. `doubt`: why the device may be another one than before.
    """

    connection: Connection | None
    device: DeviceInfo | None
    pairs: Pairs
    reason: str = ""
    graph_rate: int | None = None
    has_lost_node: bool = False
    doubt: str = ""


class Intruder(msgspec.Struct, frozen=True):
    """Somebody had linked the node of this name to the stream's; that link is gone."""

    source: str


class CaptureState(msgspec.Struct, frozen=True):
    """The state of the stream's node in the graph: a key of `chaos._rt.STATES`."""

    state: int
    error: str


class LinkState(msgspec.Struct, frozen=True):
    index: int
    state: int
    error: str


class PortLatency(msgspec.Struct, frozen=True):
    """What a port of a stream is told of the device's latency; and from the stream to the rotator what that makes."""

    latency: Latency
    port: int = 0


class SettleLatency(msgspec.Struct, frozen=True):
    """Time is up for a latency that may only have been told since links were gone."""


class Stop(msgspec.Struct, frozen=True):
    future: Future[Any]


class AcceptPort(msgspec.Struct, frozen=True):
    """From now on the device is the same at any port."""

    future: Future[Any]


class Began(msgspec.Struct, frozen=True):
    """The first frames are there, and the recording for them; None in standby, and then it is told again."""

    definition: Definition
    recording: Path | None


class OfTake(msgspec.Struct, frozen=True):
    """What the rotator of a stream's `number`-th take has to tell."""

    number: int
    message: Any


class Rolled(msgspec.Struct, frozen=True):
    """The callback has come to the next take: its rotator has something to tell."""


class Triggered(msgspec.Struct, frozen=True):
    """How many takes a trigger has begun, and the one that runs, with how many frames it has so far; or that one has
    `ended`, with so many frames, gaps and lost frames."""

    n_takes: int
    take: str | None
    recording: str
    n_frames: int = 0
    ended: tuple[int, int, int] | None = None


class WrongRate(msgspec.Struct, frozen=True):
    """The graph runs at another rate than the one asked for; no frame was kept."""

    found: int


class Driven(msgspec.Struct, frozen=True):
    """From `frame` on the take's frames are of this clock."""

    frame: int
    clock_id: int


class Led(msgspec.Struct, frozen=True):
    """From `frame` of the `number`-th take on the device runs by the clock of the node `leader`; None: by its own."""

    number: int
    frame: int
    leader: str | None


class WrongClock(msgspec.Struct, frozen=True):
    """Another clock than the device's own drives it, and only that will do; no frame was kept."""

    clock_id: int


class Flow(msgspec.Struct, frozen=True):
    """Frames come again, or none has come for a second: `reason` says how that looks.

    `is_idle`: the graph runs no cycle, so that only its clock can tell what is missing, once it goes on.
    """

    flows: bool
    reason: str = ""
    is_idle: bool = False


class Broken(msgspec.Struct, frozen=True):
    """Whoever the stream needs can't go on: its rotator, or the registry with this one stream."""

    error: BaseException


class Stored(msgspec.Struct, frozen=True):
    """The rotator has stored all there was; `error` where it could not, `misplaced` where the recording isn't where it
    was said to be any more."""

    n_frames: int
    error: ChaosError | None
    misplaced: ChaosError | None = None


class PastStored(msgspec.Struct, frozen=True):
    """The rotator of a take that the stream has left is done, or has failed."""

    number: int
    end: Stored | Broken


class Roll(msgspec.Struct, frozen=True):
    """It is time for the next take."""


class Due(msgspec.Struct, frozen=True):
    """It may be time to begin, or to end."""


class Relink(msgspec.Struct, frozen=True):
    """A link has failed a while ago: try again."""


class AnswerStart(msgspec.Struct, frozen=True):
    """Time is up: answer the start with what there is."""


# ---- to a rotator

class Rotate(msgspec.Struct, frozen=True):
    """A slot is full, or capture has begun."""


class Tick(msgspec.Struct, frozen=True):
    """A second has passed: make a checkpoint, and try again what storage refused."""


class ClockWasSet(msgspec.Struct, frozen=True):
    """Somebody has set the wall clock just now."""


class Interrupted(msgspec.Struct, frozen=True):
    """No frame comes, for a reason that the callback can't see."""

    cause: Cause
    confidence: Confidence


class Linked(msgspec.Struct, frozen=True):
    """The device was linked anew: its frames may come, and `Flow` is due when they do. The first one gets that `mark`,
    if there is any."""

    mark: str = ""


class SwitchChunk(msgspec.Struct, frozen=True):
    path: Path
    future: Future[Any]


class MarkFrame(msgspec.Struct, frozen=True):
    """Mark a frame; None is the head."""

    label: str
    frame: int | None
    future: Future[Any]


class KeepStandby(msgspec.Struct, frozen=True):
    """Make a recording of what is held in standby, and go on."""

    future: Future[Any]


class RetireChunks(msgspec.Struct, frozen=True):
    """Remove these sealed chunks, of which these gaps come."""

    chunks: list[SealedChunk]
    gaps: list[Gap]


class StoreRest(msgspec.Struct, frozen=True):
    """The callback is detached: store the rest. `end_ns`: CLOCK_MONOTONIC when that was asked, if frames were due."""

    end_ns: int | None


def tell(actor: ActorRef[Any], message: Any) -> bool:
    """Tells an actor that may have ended meanwhile; False if it has."""
    try:
        actor.tell(message)
    except ActorDeadError:
        return False
    return True


def settle(future: Future[T], result: T) -> None:
    """Answers, unless whoever asked has gone or has been answered."""
    with suppress(InvalidStateError):
        future.set_result(result)


def refuse(future: Future[Any], error: BaseException) -> None:
    """Answers with an error, unless whoever asked has gone or has been answered."""
    with suppress(InvalidStateError):
        future.set_exception(error)


def when_all(futures: Iterable[Future[Any]], then: Callable[[], object]) -> None:
    """Calls `then` once, on whichever thread comes last, when all are settled."""
    left = len(waited := list(futures))
    lock = threading.Lock()

    def count(_: object) -> None:
        nonlocal left
        with lock:
            left -= 1
            is_last = left == 0
        if is_last:
            then()

    if not waited:
        then()
    for future in waited:
        future.add_done_callback(count)
