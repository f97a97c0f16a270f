"""The registry: the connection to PipeWire and what it tells, for all who have to know of it."""

from __future__ import annotations

import errno
import logging
from functools import partial
from typing import Any

import pykka

from chaos._connection import CORE_ERROR, Connection
from chaos._link import LINK_STATE
from chaos._registry import Registry
from chaos._rt import CAPTURE_STATE, PORT_LATENCY
from chaos.engine.followers import Followers
from chaos.engine.messages import (
    AskDevices,
    Broken,
    CaptureState,
    Drain,
    DropWait,
    Emit,
    Follow,
    LinkState,
    PortLatency,
    Quiet,
    Reconnect,
    Unfollow,
    Wait,
    refuse,
    settle,
    tell,
)
from chaos.engine.porting import Porting
from chaos.engine.supervised import Supervised
from chaos.engine.waits import Waits
from chaos.graph.devices import Change, Decoder, DeviceMap
from chaos.graph.objects import Record, RecordKind
from chaos.protocol.events import DEVICE_EVENTS, PROGRAM_EVENTS, DaemonError
from chaos.system.cards import card_props
from chaos.system.pump import Pump
from chaos.terms.errors import ChaosError, PipeWireUnavailable
from chaos.terms.latency import Latency

__all__ = ["DeviceRegistryActor"]

log = logging.getLogger(__name__)

RETRY_S = 0.25
QUIET_S = 0.5  # longer than a device takes from one port to the next


class DeviceRegistryActor(Supervised):
    """Owns the connection and makes it anew when PipeWire comes back; between, all devices are away.

    Nothing that a client of PipeWire's says ends it: what can't be made sense of is logged and left out.
    """

    thread_name = "chaosd-registry"

    def __init__(self, remote: str | None, pump: Pump, daemon: pykka.ActorRef[Any]) -> None:
        super().__init__()
        self._remote = remote
        self._pump = pump
        self._daemon = daemon
        self._connection: Connection | None = None
        self._listener: Registry | None = None
        self._porting: Porting | None = None
        self._decoder = Decoder()
        self._map = DeviceMap(card_props)
        self._awaited: dict[int, frozenset[int]] = {}
        self._followers = Followers(self._map)
        self._waits = Waits(pump, lambda number: tell(self.actor_ref, DropWait(number)))

    def begin(self) -> None:
        self._connect()

    def on_stop(self) -> None:
        self._disconnect()
        self._waits.close()

    def failed(self, message: Any, error: ChaosError) -> None:
        """What it knows of PipeWire may be half taken in: it begins anew, with a new connection."""
        if message is None or isinstance(message, Drain | Reconnect):
            tell(self._daemon, Emit(DaemonError.of(error, recoverable=True)))
            self._disconnect()
            self._retry()
        elif isinstance(message, Follow):
            tell(message.stream, Broken(error))
        elif isinstance(message, DropWait):
            self._waits.drop(message.number)

    def carry_out(self, message: Any) -> None:
        match message:
            case Drain():
                self._drain()
            case Reconnect():
                self._connect()
            case AskDevices(question, future):
                self._answer(question, future)
            case Wait():
                self._waits.add(message, self._map)
            case DropWait(number):
                self._waits.drop(number)
            case Follow():
                self._followers.follow(message)
                self._inform(message.stream)
            case Quiet(node_id, ports):
                self._take_as_is(node_id, ports)
            case Unfollow(stream):
                self._followers.unfollow(stream)

    # -- the connection

    def _connect(self) -> None:
        """Connects, and learns what is there before it answers the first question; else tries again soon."""
        try:
            connection = Connection(self._remote)
            listener = Registry(connection)
            listener.settle()
        except PipeWireUnavailable as error:
            log.info("%s", error.message)
            self._retry()
            return
        self._connection = connection
        self._listener = listener
        self._porting = Porting(self._remote, self._map, listener)
        self._decoder = Decoder()
        self._pump.watch(connection.wake_fd, lambda: tell(self.actor_ref, Drain()), is_eventfd=True)
        self._drain()

    def _retry(self) -> None:
        self._pump.after("reconnect", RETRY_S, lambda: tell(self.actor_ref, Reconnect()))

    def _disconnect(self) -> None:
        """Gives the connection up; it closes when the last stream has closed its capture on it."""
        self._pump.cancel("reconnect")
        if self._connection is None:
            return
        self._pump.unwatch(self._connection.wake_fd)
        if self._listener is not None:
            self._listener.close()
        self._connection = self._listener = self._porting = None
        self._tell(self._map.reset())
        self._await_quiet()
        self._inform()

    # -- what PipeWire tells

    def _drain(self) -> None:
        if self._connection is None:
            return
        changes: list[Change] = []
        for record in self._connection.drain():
            kind, id_, a, _, _ = record
            if kind == CORE_ERROR and id_ == 0 and a == -errno.EPIPE:
                log.warning("PipeWire has gone")
                self._tell(changes)
                self._disconnect()
                self._retry()
                return
            try:
                changes += self._take_in(record)
            except Exception:
                log.exception("record %d of object %d makes no sense", kind, id_)
        self._tell(changes)
        self._inform()
        self._await_quiet()

    def _await_quiet(self) -> None:
        """Gives nodes whose ports come and go time to be done with it."""
        unsettled = self._map.unsettled
        for node_id, ports in unsettled.items():
            if self._awaited.get(node_id) != ports:
                self._pump.after(("quiet", node_id), QUIET_S, partial(tell, self.actor_ref, Quiet(node_id, ports)))
        for node_id in self._awaited.keys() - unsettled.keys():
            self._pump.cancel(("quiet", node_id))
        self._awaited = dict(unsettled)

    def _take_as_is(self, node_id: int, ports: frozenset[int]) -> None:
        if self._map.unsettled.get(node_id) == ports:
            self._tell(self._map.settle(node_id))
            self._inform()
            self._awaited.pop(node_id, None)

    def _take_in(self, record: Record) -> list[Change]:
        kind, id_, a, b, payload = record
        if kind == CAPTURE_STATE:
            self._followers.route(id_, CaptureState(b, payload.decode(errors="replace")))
        elif kind == LINK_STATE:
            self._followers.route(id_, LinkState(a, b, payload.decode(errors="replace")))
        elif kind == PORT_LATENCY:
            self._followers.route(id_, PortLatency(Latency.from_text(payload.decode()), a))
        elif kind == RecordKind.FOREIGN:
            self._followers.tell_of_intruder(b >> 32, b & 0xFFFFFFFF)
        elif (event := self._decoder.decode(record)) is not None:
            return self._map.apply(event)
        return []

    def _tell(self, changes: list[Change]) -> None:
        for change in changes:
            kinds = PROGRAM_EVENTS if change.device.is_program else DEVICE_EVENTS
            tell(self._daemon, Emit(kinds[change.kind](device=change.device.to_wire())))
        if changes:
            self._waits.look(self._map)

    def _inform(self, only: pykka.ActorRef[Any] | None = None) -> None:
        unported = self._followers.inform(self._connection, only)
        if self._porting is not None and not self._map.has_session_manager:
            for each in unported:
                self._porting.give(each)

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
