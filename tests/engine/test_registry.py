"""The registry's actor without PipeWire: it outlives whatever it is told, and asks again for what was quiet."""

from __future__ import annotations

import errno
import struct
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from typing import Any, cast
from unittest import mock

import pytest
from lone import Ear, StillPump

from chaos._connection import CORE_ERROR
from chaos.engine import messages as m
from chaos.engine.registry import DeviceRegistryActor
from chaos.graph.objects import Kind, Record, RecordKind
from chaos.protocol.events import DeviceAdded, DeviceChanged, DeviceRemoved
from chaos.system.pump import Pump
from chaos.terms.errors import DeviceNotFound, InternalError, PipeWireUnavailable


class StillConnection:
    """Stands for PipeWire's connection: `told` is what its next drain brings."""

    wake_fd = 5

    def __init__(self, remote: str | None) -> None:
        self.told: list[Record] = []

    def drain(self) -> list[Record]:
        told, self.told = self.told, []
        return told


class StillListener:
    def __init__(self, connection: StillConnection) -> None:
        pass

    def settle(self) -> None:
        pass

    def close(self) -> None:
        pass


class Lab:
    """An actor that is not started: `tell` hands it what PipeWire says."""

    def __init__(self) -> None:
        self.daemon, self.pump = Ear(), StillPump()
        self.actor = DeviceRegistryActor(None, cast(Pump, self.pump), self.daemon)  # type: ignore[arg-type]
        self.actor.on_start()

    @property
    def connection(self) -> StillConnection:
        return cast(StillConnection, self.actor._connection)

    def tell(self, *records: Record) -> None:
        self.connection.told += records
        self.actor.on_receive(m.Drain())

    def ask(self, question: Callable[[Any], Any]) -> Future[Any]:
        future: Future[Any] = Future()
        self.actor.on_receive(m.AskDevices(question, future))
        return future

    def ring(self, key: object) -> None:
        self.pump.timers.pop(key)()  # type: ignore[call-overload]
        self.actor.on_receive(self.actor.actor_inbox.get(timeout=60).message)

    def events(self, kind: type) -> list[Any]:
        return [emit.event for emit in self.daemon.of(m.Emit) if isinstance(emit.event, kind)]


@pytest.fixture
def lab() -> Iterator[Lab]:
    with (
        mock.patch("chaos.engine.registry.Connection", StillConnection),
        mock.patch("chaos.engine.registry.Registry", StillListener),
    ):
        yield Lab()


def dictionary(told: dict[str, str]) -> bytes:
    return b"".join(f"{key}\0{value}\0".encode() for key, value in told.items())


def node(node_id: int, name: str, n_ports: int, **props: str) -> list[Record]:
    told = {"node.name": name, "media.class": "Audio/Source", **{k.replace("_", "."): v for k, v in props.items()}}
    return [
        (RecordKind.ADDED, node_id, node_id, Kind.NODE, dictionary(told)),
        (RecordKind.NODE_INFO, node_id, node_id, 0, struct.pack("<II?", 0, n_ports, True) + dictionary(told)),
        (RecordKind.NODE_SYNCED, node_id, node_id, node_id, b""),
    ]


def settle(lab: Lab, *nodes: int) -> None:
    """Their ports are quiet."""
    for node_id in nodes:
        lab.ring(("quiet", node_id))


def port(node_id: int, index: int) -> Record:
    props = {
        "node.id": str(node_id),
        "port.id": str(index),
        "port.direction": "out",
        "audio.channel": f"AUX{index}",
        "format.dsp": "32 bit float mono audio",
    }
    return (RecordKind.ADDED, 1000 + node_id * 10 + index, 1000 + index, Kind.PORT, dictionary(props))


def session_manager() -> Record:
    return (RecordKind.ADDED, 10, 10, Kind.CLIENT, dictionary({"application.name": "WirePlumber"}))


def test_no_client_of_pipewires_ends_it(lab: Lab) -> None:
    """A card number of 5,000 digits; a record that makes no sense at all."""
    odd: Any = (RecordKind.ADDED, 7, 7, 12345, b"")
    lab.tell(session_manager(), *node(40, "odd", 1, api_alsa_card="9" * 5000), port(40, 0), odd)
    lab.tell(*node(41, "mic", 1), port(41, 0))
    settle(lab, 40, 41)
    found = lab.ask(lambda devices: [device.name for device in devices.devices()])
    assert found.result(0) == ["mic", "odd"]


def test_a_failing_question_is_answered_and_ends_nothing(lab: Lab) -> None:
    failed = lab.ask(lambda devices: 1 / 0)
    assert isinstance(failed.exception(0), InternalError)
    assert isinstance(lab.ask(lambda devices: devices.find("mic")).exception(0), DeviceNotFound)


def test_a_device_whose_ports_come_slowly_is_listed_once_it_is_quiet(lab: Lab) -> None:
    lab.tell(session_manager(), *node(40, "mic", 0), port(40, 0))
    assert lab.events(DeviceAdded) == []
    late = lab.pump.timers["quiet", 40]
    lab.tell(port(40, 1))
    assert lab.pump.timers["quiet", 40] is not late
    lab.ring(("quiet", 40))
    [added] = lab.events(DeviceAdded)
    assert added.device["format"]["channels"] == 2
    lab.tell(port(40, 2))
    lab.ring(("quiet", 40))
    [changed] = lab.events(DeviceChanged)
    assert changed.device["format"]["channels"] == 3


def test_a_node_that_goes_before_it_is_quiet_leaves_no_timer(lab: Lab) -> None:
    lab.tell(session_manager(), *node(40, "mic", 0), port(40, 0))
    lab.tell((RecordKind.REMOVED, 40, 40, 0, b""))
    assert ("quiet", 40) not in lab.pump.timers


def test_when_pipewire_goes_all_is_away_and_it_is_tried_again(lab: Lab) -> None:
    lab.tell(session_manager(), *node(40, "mic", 1), port(40, 0))
    settle(lab, 40)
    stream = Ear()
    lab.actor.on_receive(m.Follow(stream, m.Wanted("name:mic")))  # type: ignore[arg-type]
    lab.tell((CORE_ERROR, 0, -errno.EPIPE, 0, b""))
    assert [event.device["name"] for event in lab.events(DeviceRemoved)] == ["mic"]
    assert stream.heard[-1].connection is None
    assert isinstance(lab.ask(lambda devices: None).exception(0), PipeWireUnavailable)
    lab.ring("reconnect")
    lab.tell(session_manager(), *node(50, "mic", 1), port(50, 0))
    settle(lab, 50)
    assert stream.heard[-1].device.node_id == 50


def test_a_wait_ends_with_its_client(lab: Lab) -> None:
    futures: list[Future[Any]] = [Future() for _ in range(100)]
    for future in futures:
        lab.actor.on_receive(m.Wait("mic", 60, future))
    for future in futures[1:]:
        future.cancel()
        lab.actor.on_receive(lab.actor.actor_inbox.get(timeout=60).message)
    assert len(lab.actor._waits) == 1
    lab.tell(session_manager(), *node(40, "mic", 1), port(40, 0))
    settle(lab, 40)
    assert futures[0].result(0).device["name"] == "mic"
    assert len(lab.actor._waits) == 0
