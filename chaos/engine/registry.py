"""The registry: PipeWire's connection, the live map of devices, and who has to know of what changes in it."""

from __future__ import annotations

import errno
import logging
from collections import deque
from dataclasses import dataclass
from typing import Any

import pykka

from chaos._connection import CORE_ERROR, Connection
from chaos._link import LINK_STATE
from chaos._registry import Registry
from chaos._rt import CAPTURE_STATE
from chaos.engine.messages import (
    Ask,
    CaptureState,
    Drain,
    Emit,
    Follow,
    Intruder,
    LinkState,
    Reconnect,
    Target,
    Unfollow,
    Wait,
    refuse,
    settle,
)
from chaos.graph.devices import Change, Decoder, DeviceInfo, DeviceMap
from chaos.graph.objects import NoteKind
from chaos.graph.portconfig import PORT_CONFIG, port_config
from chaos.system.pump import Pump
from chaos.terms.errors import ChaosError, DeviceAmbiguous, DeviceNotFound, PipeWireUnavailable, TimedOut

__all__ = ["DeviceRegistryActor"]

log = logging.getLogger(__name__)

RETRY_S = 0.25
DEFAULT_RATE = 48000
UNCLAIMED = 256


@dataclass(frozen=True, slots=True)
class _GiveUp:
    """A `Wait` has waited long enough."""

    wait: Wait


@dataclass(slots=True)
class _Follower:
    """A stream, what it follows and what it was last told. `device`: as it was when it was last there."""

    follow: Follow
    device: DeviceInfo | None = None
    told: Target | None = None


class DeviceRegistryActor(pykka.ThreadingActor):
    """Owns the connection and makes it anew when PipeWire comes back; between, all devices are away."""

    use_daemon_thread = True

    def __init__(self, remote: str | None, pump: Pump, daemon: pykka.ActorRef[Any]) -> None:
        super().__init__()
        self._remote = remote
        self._pump = pump
        self._daemon = daemon
        self._connection: Connection | None = None
        self._listener: Registry | None = None
        self._decoder = Decoder()
        self._map = DeviceMap()
        self._followers: dict[str, _Follower] = {}
        self._waits: list[Wait] = []
        self._configured: dict[int, str | None] = {}
        # What a capture tells before its stream has said which capture it has.
        self._unclaimed: deque[tuple[int, CaptureState | LinkState]] = deque(maxlen=UNCLAIMED)

    def on_start(self) -> None:
        self._connect()

    def on_stop(self) -> None:
        self._disconnect()
        for wait in self._waits:
            refuse(wait.future, TimedOut("chaosd stopped before the device came"))

    def on_failure(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        log.error("the registry failed", exc_info=error)
        self._disconnect()

    def on_receive(self, message: Any) -> None:
        match message:
            case Drain():
                self._drain()
            case Reconnect():
                self._connect()
            case Ask(question, future):
                self._answer(question, future)
            case Wait():
                self._wait(message)
            case _GiveUp(wait):
                if wait in self._waits:
                    self._waits.remove(wait)
                    refuse(wait.future, TimedOut(f"no device {wait.name!r} within {wait.timeout_s:g} s"))
            case Follow(stream):
                known = self._followers.get(stream.actor_urn)
                follower = _Follower(message, known.device if known else None)
                self._followers[stream.actor_urn] = follower
                self._deliver_unclaimed(message.handle)
                self._inform(follower)
            case Unfollow(stream):
                self._followers.pop(stream.actor_urn, None)

    # -- the connection

    def _connect(self) -> None:
        """Connects, and learns what is there before it answers the first question; else tries again soon."""
        try:
            connection = Connection(self._remote)
            self._listener = Registry(connection)
            self._listener.settle()
        except PipeWireUnavailable as error:
            log.info("%s", error.message)
            self._listener = None
            self._pump.after("reconnect", RETRY_S, lambda: self.actor_ref.tell(Reconnect()))
            return
        self._connection = connection
        self._configured = {}
        self._decoder = Decoder()
        self._pump.watch(connection.wake_fd, lambda: self.actor_ref.tell(Drain()), is_eventfd=True)
        self._drain()

    def _disconnect(self) -> None:
        """Lets the connection go; it closes when the last stream has closed its capture on it."""
        self._pump.cancel("reconnect")
        if self._connection is None:
            return
        self._pump.unwatch(self._connection.wake_fd)
        if self._listener is not None:
            self._listener.close()
            self._listener = None
        self._connection = None
        self._tell(self._map.reset())
        self._inform_all()

    # -- what PipeWire tells

    def _drain(self) -> None:
        if self._connection is None:
            return
        changes: list[Change] = []
        for note in self._connection.drain():
            kind, id_, a, b, payload = note
            if kind == CORE_ERROR and id_ == 0 and a == -errno.EPIPE:
                log.warning("PipeWire has gone")
                self._tell(changes)
                self._disconnect()
                self._pump.after("reconnect", RETRY_S, lambda: self.actor_ref.tell(Reconnect()))
                return
            if kind == CAPTURE_STATE:
                self._route(id_, CaptureState(b, payload.decode(errors="replace")))
            elif kind == LINK_STATE:
                self._route(id_, LinkState(a, b, payload.decode(errors="replace")))
            elif kind == NoteKind.FOREIGN:
                self._tell_of_intruder(b >> 32, b & 0xFFFFFFFF)
            elif (event := self._decoder.decode(note)) is not None:
                changes += self._map.apply(event)
        self._tell(changes)
        self._inform_all()

    def _route(self, handle: int, message: CaptureState | LinkState) -> None:
        for follower in self._followers.values():
            if follower.follow.handle == handle:
                _tell(follower.follow.stream, message)
                return
        self._unclaimed.append((handle, message))

    def _deliver_unclaimed(self, handle: int | None) -> None:
        waiting = [message for owner, message in self._unclaimed if owner == handle]
        if handle is not None and waiting:
            others = [each for each in self._unclaimed if each[0] != handle]
            self._unclaimed = deque(others, maxlen=UNCLAIMED)
            for message in waiting:
                self._route(handle, message)

    def _tell_of_intruder(self, source: int, node_id: int) -> None:
        name = self._map.node_props(source).get("node.name", f"node {source}")
        for follower in self._followers.values():
            if follower.follow.node_id == node_id:
                _tell(follower.follow.stream, Intruder(name))

    def _tell(self, changes: list[Change]) -> None:
        for change in changes:
            _tell(self._daemon, Emit(f"device_{change.kind}", None, {"device": change.device.to_wire()}))
        if changes:
            self._look_for_awaited()

    # -- questions

    def _answer(self, question: Any, future: Any) -> None:
        if self._connection is None:
            hint = "start it, or see `systemctl --user status pipewire`; chaosd connects by itself"
            refuse(future, PipeWireUnavailable("PipeWire is not running", hint=hint))
            return
        try:
            settle(future, question(self._map))
        except ChaosError as error:
            refuse(future, error)

    def _wait(self, wait: Wait) -> None:
        self._waits.append(wait)
        self._look_for_awaited()
        if wait in self._waits:
            self._pump.after(id(wait), wait.timeout_s, lambda: self.actor_ref.tell(_GiveUp(wait)))

    def _look_for_awaited(self) -> None:
        for wait in list(self._waits):
            try:
                device = self._map.find(wait.name)
            except DeviceNotFound:
                continue
            except DeviceAmbiguous as error:
                refuse(wait.future, error)
            else:
                settle(wait.future, {"device": device.to_wire()})
            self._waits.remove(wait)
            self._pump.cancel(id(wait))

    # -- streams

    def _inform_all(self) -> None:
        for follower in list(self._followers.values()):
            self._inform(follower)

    def _inform(self, follower: _Follower) -> None:
        target = self._target(follower)
        if target != follower.told:
            follower.told = target
            _tell(follower.follow.stream, target)

    def _target(self, follower: _Follower) -> Target:
        if self._connection is None:
            return Target(None, None, ())
        device = self._locate(follower)
        if device is None:
            return Target(self._connection, None, ())
        follower.device = device
        node_id = follower.follow.node_id
        own = self._map.ports(node_id, "input") if node_id is not None else []
        if node_id is None or not own or len(own) != len(device.ports):
            if not self._map.has_session_manager:
                self._give_ports(device, node_id if not own else None)
            return Target(self._connection, device, ())
        pairs = tuple(
            (device.node_id, out.id, node_id, to.id, out.serial)
            for out, to in zip(device.ports, own, strict=True)
        )
        return Target(self._connection, device, pairs)

    def _give_ports(self, device: DeviceInfo, node_id: int | None) -> None:
        """Does what a session manager would: gives the device its ports, and an interleaved stream of ours (a planar
        one makes its own), once each."""
        assert self._listener is not None
        rate = device.sample_rate or self._map.graph_rate or DEFAULT_RATE
        monitor = device.is_monitor
        if not device.ports and self._is_first(device.node_id):
            config = port_config(device.positions, rate, is_input=monitor, monitor=monitor)
            self._listener.set_node_param(device.node_id, PORT_CONFIG, config)
        if node_id is None or self._map.node_props(node_id).get("media.class") != "Stream/Input/Audio":
            return
        if self._is_first(node_id):
            self._configure_from_outside(node_id, port_config(device.positions, rate, is_input=True))

    def _is_first(self, node_id: int) -> bool:
        """Not asked before of the node that has this id now."""
        serial = self._map.node_props(node_id).get("object.serial")
        if self._configured.get(node_id) == serial:
            return False
        self._configured[node_id] = serial
        return True

    def _configure_from_outside(self, node_id: int, config: bytes) -> None:
        """PipeWire listens to no client that waits for a param of its own node: here another connection waits."""
        try:
            other = Connection(self._remote)
        except PipeWireUnavailable as error:
            log.warning("%s", error.message)
            return
        try:
            Registry(other).set_node_param(node_id, PORT_CONFIG, config)
            other.sync()
        except PipeWireUnavailable as error:
            log.warning("%s", error.message)
        finally:
            other.close()

    def _locate(self, follower: _Follower) -> DeviceInfo | None:
        if follower.device is not None:
            return self._map.follow(follower.device)
        try:
            return self._map.find(follower.follow.identity, "input")
        except (DeviceNotFound, DeviceAmbiguous):
            return None


def _tell(actor: pykka.ActorRef[Any], message: Any) -> None:
    """Tells an actor that may have ended meanwhile."""
    try:
        actor.tell(message)
    except pykka.ActorDeadError:
        log.debug("%s ended before it was told", actor)
