"""What the actors tell each other. A `future` in a message is answered by whoever takes the message, or passed on."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

from pykka import ActorDeadError, ActorRef

from chaos.protocol.events import Event
from chaos.protocol.requests import Request
from chaos.store.info import SealedChunk
from chaos.store.lines import Definition
from chaos.terms.errors import ChaosError
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

@dataclass(frozen=True, slots=True)
class Command:
    """A request of a client; the future's result is the answer's."""

    request: Request
    future: Future[Any]


@dataclass(frozen=True, slots=True)
class Emit:
    """An event, to be numbered, kept and published; `uri` is that of its stream."""

    event: Event
    uri: str | None = None


@dataclass(frozen=True, slots=True)
class StreamGone:
    """A stream has ended, by request or by failure; its URI is free again, and its actor may be stopped."""

    uri: str


@dataclass(frozen=True, slots=True)
class HeadsWanted:
    """Whether anybody listens for `stream_head_position`."""

    wanted: bool


@dataclass(frozen=True, slots=True)
class End:
    """Stop every stream cleanly; the future is settled when the last one is stored."""

    done: Future[None]


@dataclass(frozen=True, slots=True)
class Call:
    """Runs a function on the actor's own thread: how an answer comes back to whoever asked. `future` is refused where
    that fails."""

    function: Callable[[], object]
    future: Future[Any] | None = None


# ---- to the registry

@dataclass(frozen=True, slots=True)
class Drain:
    """PipeWire has told something."""


@dataclass(frozen=True, slots=True)
class Reconnect:
    """Try again to reach PipeWire."""


@dataclass(frozen=True, slots=True)
class AskDevices:
    """A question that the map of devices answers: `question(map)`, run on the registry's thread."""

    question: Callable[[Any], Any]
    future: Future[Any]


@dataclass(frozen=True, slots=True)
class Wait:
    """Answer as soon as a device of this name, and of that kind if one is given, is there; `timeout` when it
    is not within `timeout_s`."""

    name: str
    timeout_s: float
    future: Future[Any]
    kind: DeviceKind | None = None


@dataclass(frozen=True, slots=True)
class DropWait:
    """The `number`-th wait is over: time is up, or whoever asked has gone."""

    number: int


@dataclass(frozen=True, slots=True)
class Quiet:
    """A while ago a node had these ports and not as many as it says; are they still all?"""

    node_id: int
    ports: frozenset[int]


@dataclass(frozen=True, slots=True)
class Wanted:
    """The device that a stream follows. `device`: as it was found at the start, where it was there then."""

    identity: str
    device: DeviceInfo | None = None
    accept_port_change: bool = False
    kind: DeviceKind = "audio"


@dataclass(frozen=True, slots=True)
class Membership:
    """The session that a stream belongs to: its name, its streams, and the gate at which they begin together."""

    session: str
    uris: tuple[str, ...]
    gate: Gate


@dataclass(frozen=True, slots=True)
class Follow:
    """Keep a stream informed of its device and of its own node. A later one replaces the former; of `wanted` only
    `accept_port_change` may change.

    `channels` are those it records, none before its first take.
    """

    stream: ActorRef[Any]
    wanted: Wanted
    channels: tuple[Channel, ...] = ()
    handle: int | None = None
    node_id: int | None = None


@dataclass(frozen=True, slots=True)
class Unfollow:
    stream: ActorRef[Any]


# ---- to a stream

@dataclass(frozen=True, slots=True)
class Target:
    """How things stand for a stream: sent whenever any of it has changed.

    `connection` is None without PipeWire, `device` None while it is away or can't be told for sure, for `reason`.
    `pairs` are the links to make, once all ports on both sides are known and every channel has one. `graph_rate` is the
    rate at which the graph must run, where that is set.
    """

    connection: Connection | None
    device: DeviceInfo | None
    pairs: Pairs
    reason: str = ""
    graph_rate: int | None = None


@dataclass(frozen=True, slots=True)
class Intruder:
    """Somebody had linked the node of this name to the stream's; that link is gone."""

    source: str


@dataclass(frozen=True, slots=True)
class CaptureState:
    """The state of the stream's node in the graph: a key of `chaos._rt.STATES`."""

    state: int
    error: str


@dataclass(frozen=True, slots=True)
class LinkState:
    index: int
    state: int
    error: str


@dataclass(frozen=True, slots=True)
class Stop:
    future: Future[Any]


@dataclass(frozen=True, slots=True)
class AcceptPort:
    """From now on the device is the same at any port."""

    future: Future[Any]


@dataclass(frozen=True, slots=True)
class Began:
    """The first frames are there, and the recording for them."""

    definition: Definition
    recording: Path


@dataclass(frozen=True, slots=True)
class OfTake:
    """What the rotator of a stream's `number`-th take has to tell."""

    number: int
    message: Any


@dataclass(frozen=True, slots=True)
class Rolled:
    """The callback has come to the next take: its rotator has something to tell."""


@dataclass(frozen=True, slots=True)
class WrongRate:
    """The graph runs at another rate than the one asked for; no frame was kept."""

    found: int


@dataclass(frozen=True, slots=True)
class Flow:
    """Frames come again, or none has come for a second: `reason` says how that looks.

    `is_idle`: the graph runs no cycle, so that only its clock can tell what is missing, once it goes on.
    """

    flows: bool
    reason: str = ""
    is_idle: bool = False


@dataclass(frozen=True, slots=True)
class Progress:
    """What the rotator has done so far."""

    n_chunks_sealed: int
    drift_ppm: float | None


@dataclass(frozen=True, slots=True)
class Broken:
    """Whoever the stream needs can't go on: its rotator, or the registry with this one stream."""

    error: BaseException


@dataclass(frozen=True, slots=True)
class Stored:
    """The rotator has stored all there was; `error` where it could not."""

    n_frames: int
    error: ChaosError | None


@dataclass(frozen=True, slots=True)
class PastStored:
    """The rotator of a take that the stream has left is done, or has failed."""

    number: int
    end: Stored | Broken


@dataclass(frozen=True, slots=True)
class Roll:
    """It is time for the next take."""


@dataclass(frozen=True, slots=True)
class Relink:
    """A link has failed a while ago: try again."""


@dataclass(frozen=True, slots=True)
class AnswerStart:
    """Time is up: answer the start with what there is."""


# ---- to a rotator

@dataclass(frozen=True, slots=True)
class Rotate:
    """A slot is full, or capture has begun."""


@dataclass(frozen=True, slots=True)
class Tick:
    """A second has passed: make a checkpoint, and try again what storage refused."""


@dataclass(frozen=True, slots=True)
class Interrupted:
    """No frame comes, for a reason that the callback can't see."""

    cause: Cause
    confidence: Confidence


@dataclass(frozen=True, slots=True)
class Linked:
    """The device was linked anew: its frames may come, and `Flow` is due when they do."""


@dataclass(frozen=True, slots=True)
class SwitchChunk:
    path: Path
    future: Future[Any]


@dataclass(frozen=True, slots=True)
class MarkFrame:
    """Mark a frame; None is the head."""

    label: str
    frame: int | None
    future: Future[Any]


@dataclass(frozen=True, slots=True)
class RetireChunks:
    """Remove these sealed chunks, of which these gaps come."""

    chunks: list[SealedChunk]
    gaps: list[Gap]


@dataclass(frozen=True, slots=True)
class StoreRest:
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
