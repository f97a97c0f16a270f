"""An imagined PipeWire: what happens in it, as the registry events that would tell of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from chaos.graph.deviceinfo import DeviceInfo
from chaos.graph.devices import DeviceMap
from chaos.graph.objects import DeviceState, Kind, MetadataEntry, NodeState, ObjectAdded, ObjectRemoved, RegistryEvent
from chaos.graph.pod import Choice, Object, Value

DSP = "32 bit float mono audio"
ENUM_FORMAT, FORMAT, PROPS, PORT_CONFIG = 3, 4, 2, 11
FL, FR = 3, 4


def audio_format(rate: Value = 48000, channels: int = 2, sample_format: Value = 0x206) -> Object:
    keys = {1: 1, 2: 1, 0x10001: sample_format, 0x10004: channels, 0x10005: (FL, FR)[:channels]}
    return Object(0x40003, ENUM_FORMAT, keys | ({0x10003: rate} if rate is not None else {}))


def port_config(channels: int) -> Object:
    """Ports of the graph's own format, one per channel."""
    return Object(0x40008, PORT_CONFIG, {1: 1, 2: 3, 5: audio_format(None, channels=channels)})


def volumes(channels: Sequence[float] = (1.0, 1.0), **others: Value) -> Object:
    keys = {
        "volume": 0x10003,
        "mute": 0x10004,
        "monitor_mute": 0x1000C,
        "monitor": 0x1000D,
        "soft_mute": 0x1000F,
        "soft": 0x10010,
        "extra": 0x80001,
    }
    props: dict[int, Any] = {0x10003: 1.0, 0x10008: tuple(channels)}
    return Object(0x40002, PROPS, props | {keys[name]: value for name, value in others.items()})


def rate_range(low: int, high: int) -> Choice:
    return Choice(1, (48000, low, high))


class World:
    """`events` is what has happened so far. Ids are the lowest free ones, serials go up: as in PipeWire."""

    def __init__(self) -> None:
        self.events: list[RegistryEvent] = []
        self._live: dict[int, tuple[int, int | None]] = {}
        self._serial = 30
        self._sequence = 0

    def add(self, kind: Kind, props: Mapping[str, str], node: int | None = None) -> int:
        object_id = next(i for i in range(20, 10000) if i not in self._live)
        self._serial += 1
        self._live[object_id] = (self._serial, node)
        told = {"object.serial": str(self._serial), **props}
        self.events.append(ObjectAdded(object_id, self._serial, kind, told))
        return object_id

    def remove(self, object_id: int) -> None:
        """With its ports, if it is a node; those go first."""
        for port_id in [i for i, (_, node) in self._live.items() if node == object_id]:
            self.remove(port_id)
        self.events.append(ObjectRemoved(object_id, self._live.pop(object_id)[0]))

    def session_manager(self) -> int:
        return self.add(Kind.CLIENT, {"application.name": "WirePlumber"})

    def device(self, props: Mapping[str, str]) -> int:
        device_id = self.add(Kind.DEVICE, {})
        self.tell_device(device_id, props)
        return device_id

    def tell_device(self, device_id: int, props: Mapping[str, str]) -> None:
        self.events.append(DeviceState(device_id, self.serial(device_id), self._next(), dict(props)))

    def node(
        self,
        name: str,
        media_class: str = "Audio/Source",
        *,
        channels: int = 2,
        monitor: bool = False,
        description: str = "",
        params: Mapping[int, tuple[Value, ...]] | None = None,
        props: Mapping[str, str] | None = None,
        names: Sequence[str] = (),
    ) -> int:
        """A node that first has no ports, then `channels` of them each way that its class has, named so."""
        channels = len(names) or channels
        told = {"node.name": name, "media.class": media_class, "node.description": description or name}
        node_id = self.add(Kind.NODE, told)
        full = told | dict(props or {})
        offered = params if params is not None else {ENUM_FORMAT: (audio_format(channels=channels),)}
        directions = {"out": not media_class.startswith("Audio/Sink") or monitor, "in": "Sink" in media_class}
        if media_class == "Audio/Duplex":
            directions = {"out": True, "in": True}
        self.state(node_id, full, offered, 0, 0)
        for direction, is_there in directions.items():
            for index in range(channels if is_there else 0):
                channel = names[index] if names else ""
                self.port(node_id, index, direction, monitor=monitor and direction == "out", channel=channel)
        n_input, n_output = (channels if directions[d] else 0 for d in ("in", "out"))
        configured = {PORT_CONFIG: (port_config(channels),), **offered} if channels else offered
        self.state(node_id, full, configured, n_input, n_output)
        return node_id

    def port(
        self,
        node_id: int,
        index: int,
        direction: str,
        *,
        monitor: bool = False,
        dsp: str = DSP,
        name: str = "",
        channel: str = "",
        alias: str = "",
        path: str = "",
    ) -> int:
        props = {
            "node.id": str(node_id),
            "port.id": str(index),
            "port.name": name or f"{direction}_{index}",
            "port.direction": direction,
            "audio.channel": channel or (("FL", "FR")[index] if index < 2 else f"AUX{index}"),
            "format.dsp": dsp,
            **({"port.alias": alias} if alias else {}),
            **({"object.path": path} if path else {}),
        }
        return self.add(Kind.PORT, props | ({"port.monitor": "true"} if monitor else {}), node_id)

    def state(
        self,
        node_id: int,
        props: Mapping[str, str],
        params: Mapping[int, tuple[Value, ...]],
        n_input: int,
        n_output: int,
    ) -> None:
        serial = self._live[node_id][0]
        state = NodeState(node_id, serial, self._next(), n_input, n_output, dict(props), dict(params))
        self.events.append(state)

    def metadata(self, name: str = "default") -> int:
        return self.add(Kind.METADATA, {"metadata.name": name})

    def entry(self, object_id: int, key: str | None, value: str | None) -> None:
        serial = self._live[object_id][0]
        self.events.append(MetadataEntry(object_id, serial, self._next(), 0, key, value))

    def serial(self, object_id: int) -> int:
        return self._live[object_id][0]

    def serials(self) -> set[int]:
        return {serial for serial, _ in self._live.values()}

    def _next(self) -> int:
        self._sequence += 1
        return self._sequence


def map_of(world: World) -> DeviceMap:
    devices = DeviceMap()
    for event in world.events:
        devices.apply(event)
    return devices


def names(devices: Sequence[DeviceInfo]) -> list[str]:
    return [device.identity for device in devices]
