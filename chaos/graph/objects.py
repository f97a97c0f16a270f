"""PipeWire's object graph as its registry tells of it: what there is, by id, and what hangs on what. Pure.

The listener (`chaos._registry`) sends records; a `Decoder` makes events of them; a `Graph` takes events in any
order, late and repeated ones too, and ends up the same. That works because every object is named by its id
and its serial: ids are used again, serials never, and of two serials at one id the lower is the older object.
"""

from __future__ import annotations

import enum
import struct
from typing import Literal, TypeAlias

import msgspec

from chaos.graph.pod import PodError, Value, parse

__all__ = [
    "DSP_AUDIO",
    "Decoder",
    "DeviceState",
    "Graph",
    "Kind",
    "MetadataEntry",
    "NodeState",
    "ObjectAdded",
    "ObjectRemoved",
    "Port",
    "Record",
    "RecordKind",
    "RegistryEvent",
    "number",
]

MAX_DIGITS = 18
DSP_AUDIO = "32 bit float mono audio"
"""What flows through a port that carries one channel as the graph has it."""

Record: TypeAlias = tuple[int, int, int, int, bytes]
"""(kind, id, a, b, payload) as `Connection.drain()` gives it; a is the object's serial in all of ours."""


class RecordKind(enum.IntEnum):
    """What a record says, and its b and payload. A dict is key, NUL, value, NUL, ..."""

    ADDED = 100  # b: Kind; payload: the global's properties
    REMOVED = 101
    NODE_INFO = 102  # payload: _NODE_INFO, then the node's properties if they are new
    NODE_PARAM = 103  # b: param << 32 | index, or | RESET before a param is told anew; payload: the pod
    DEVICE_INFO = 104  # b: sequence; payload: the device's properties
    NODE_SYNCED = 105  # b: sequence; what came since the last one belongs together
    FOREIGN = 107  # b: its output node << 32 | our node: a link that was destroyed, as no capture of ours wanted it
    METADATA = 106  # b: sequence; payload: _METADATA, then key and value as far as there are any


class Kind(enum.IntEnum):
    NODE = 1
    PORT = 2
    LINK = 3
    DEVICE = 4
    CLIENT = 5
    METADATA = 6


RESET = 0xFFFFFFFF
_NODE_INFO = struct.Struct("<II?")  # n_input_ports, n_output_ports, properties follow
_METADATA = struct.Struct("<I??")  # subject, has a key, has a value


class ObjectAdded(msgspec.Struct, frozen=True):
    """A global and the few properties that the registry tells with it."""

    id: int
    serial: int
    kind: Kind
    props: dict[str, str]


class ObjectRemoved(msgspec.Struct, frozen=True):
    id: int
    serial: int


class NodeState(msgspec.Struct, frozen=True):
    """All that is known of a node at one moment; `params` by SPA param id, as far as they could be read."""

    id: int
    serial: int
    sequence: int
    n_input_ports: int
    n_output_ports: int
    props: dict[str, str]
    params: dict[int, tuple[Value, ...]]


class DeviceState(msgspec.Struct, frozen=True):
    """A device object's properties, all of them."""

    id: int
    serial: int
    sequence: int
    props: dict[str, str]


class MetadataEntry(msgspec.Struct, frozen=True):
    """`subject` is an object's id. No value: the entry is gone; no key: all of the subject's entries are."""

    id: int
    serial: int
    sequence: int
    subject: int
    key: str | None
    value: str | None


RegistryEvent: TypeAlias = ObjectAdded | ObjectRemoved | NodeState | DeviceState | MetadataEntry


class Port(msgspec.Struct, frozen=True, order=True):
    """A node's port. `index`: its place among those of its direction; `dsp`: what flows through it; `path`: where its
    maker has it ("alsa:seq:default:client_24:capture_0")."""

    index: int
    id: int
    serial: int
    node_id: int
    direction: Literal["input", "output"]
    channel: str
    monitor: bool
    name: str
    alias: str
    dsp: str
    path: str = ""


class Decoder:
    """Records of one listener, in their order, to events. A new listener needs a new decoder."""

    def __init__(self) -> None:
        self._nodes: dict[int, _NodeRecords] = {}

    def decode(self, record: Record) -> RegistryEvent | None:
        """The event that this record completes, if it does. Records of others and broken ones give None."""
        kind, object_id, serial, b, payload = record
        if kind == RecordKind.ADDED:
            return ObjectAdded(object_id, serial, Kind(b), _dict(payload))
        if kind == RecordKind.REMOVED:
            self._nodes.pop(serial, None)
            return ObjectRemoved(object_id, serial)
        if kind == RecordKind.NODE_INFO:
            self._node(serial).take_info(payload)
        elif kind == RecordKind.NODE_PARAM:
            self._node(serial).take_param(b >> 32, b & RESET, payload)
        elif kind == RecordKind.NODE_SYNCED:
            return self._node(serial).state(object_id, serial, b)
        elif kind == RecordKind.DEVICE_INFO:
            return DeviceState(object_id, serial, b, _dict(payload))
        elif kind == RecordKind.METADATA:
            return _metadata(object_id, serial, b, payload)
        return None

    def _node(self, serial: int) -> _NodeRecords:
        return self._nodes.setdefault(serial, _NodeRecords())


class _NodeRecords:
    """What the records of one node have told so far."""

    def __init__(self) -> None:
        self._ports = (0, 0)
        self._props: dict[str, str] = {}
        self._params: dict[int, tuple[Value, ...]] = {}

    def take_info(self, payload: bytes) -> None:
        n_input, n_output, has_props = _NODE_INFO.unpack_from(payload)
        self._ports = (n_input, n_output)
        if has_props:
            self._props = _dict(payload[_NODE_INFO.size :])

    def take_param(self, param: int, index: int, payload: bytes) -> None:
        if index == RESET or index == 0:
            self._params[param] = ()
        if index == RESET:
            return
        try:
            told = parse(payload)
        except PodError:
            return
        self._params[param] = (*self._params.get(param, ()), told)

    def state(self, object_id: int, serial: int, sequence: int) -> NodeState:
        return NodeState(object_id, serial, sequence, *self._ports, self._props, dict(self._params))


def _dict(payload: bytes) -> dict[str, str]:
    words = payload.decode(errors="replace").split("\0")
    return dict(zip(words[0::2], words[1::2], strict=False))


def _metadata(object_id: int, serial: int, sequence: int, payload: bytes) -> MetadataEntry:
    subject, has_key, has_value = _METADATA.unpack_from(payload)
    words = payload[_METADATA.size :].decode(errors="replace").split("\0")
    key = words[0] if has_key else None
    value = words[1] if has_key and has_value else None
    return MetadataEntry(object_id, serial, sequence, subject, key, value)


class _Slot:
    """What is known of the object that now has an id; all but the serial may still be on its way."""

    __slots__ = ("added", "entries", "serial", "state")

    def __init__(self, serial: int) -> None:
        self.serial = serial
        self.added: ObjectAdded | None = None
        self.state: NodeState | DeviceState | None = None
        self.entries: dict[tuple[int, str | None], MetadataEntry] = {}


class Graph:
    """Everything that is there now. Not thread-safe."""

    def __init__(self) -> None:
        self._slots: dict[int, _Slot] = {}
        self._gone: dict[int, int] = {}
        self._ids: dict[Kind, set[int]] = {kind: set() for kind in Kind}
        self._ports: dict[int, dict[int, Port]] = {}

    def apply(self, event: RegistryEvent) -> bool:
        """Take in one event; False if it is old news and changed nothing."""
        if event.serial <= self._gone.get(event.id, -1):
            return False
        slot = self._slots.get(event.id)
        if slot is not None and event.serial < slot.serial:
            return False
        if isinstance(event, ObjectRemoved):
            self._gone[event.id] = event.serial
            self._forget(event.id)
            return slot is not None
        if slot is None or event.serial > slot.serial:
            self._forget(event.id)
            slot = self._slots[event.id] = _Slot(event.serial)
        return self._fill(slot, event)

    def _fill(self, slot: _Slot, event: ObjectAdded | NodeState | DeviceState | MetadataEntry) -> bool:
        if isinstance(event, ObjectAdded):
            if slot.added is not None:
                return False
            slot.added = event
            self._ids[event.kind].add(event.id)
            if event.kind == Kind.PORT:
                port = _port(event)
                self._ports.setdefault(port.node_id, {})[port.id] = port
            return True
        if isinstance(event, MetadataEntry):
            place = (event.subject, event.key)
            known = slot.entries.get(place)
            if known is not None and known.sequence >= event.sequence:
                return False
            slot.entries[place] = event
            return True
        if slot.state is not None and slot.state.sequence >= event.sequence:
            return False
        slot.state = event
        return True

    def _forget(self, object_id: int) -> None:
        slot = self._slots.pop(object_id, None)
        if slot is None or slot.added is None:
            return
        self._ids[slot.added.kind].discard(object_id)
        if slot.added.kind == Kind.PORT:
            node_id = _port(slot.added).node_id
            ports = self._ports[node_id]
            del ports[object_id]
            if not ports:
                del self._ports[node_id]

    def kind(self, object_id: int) -> Kind | None:
        slot = self._slots.get(object_id)
        return slot.added.kind if slot is not None and slot.added is not None else None

    def ids(self, kind: Kind) -> list[int]:
        return sorted(self._ids[kind])

    def props(self, object_id: int) -> dict[str, str]:
        """A global's properties, over them the object's own where they have come; empty if there is none."""
        slot = self._slots.get(object_id)
        if slot is None or slot.added is None:
            return {}
        return slot.added.props | (slot.state.props if slot.state is not None else {})

    def node_state(self, node_id: int) -> NodeState | None:
        """None until the node is there and has told all of itself."""
        slot = self._slots.get(node_id)
        if slot is None or slot.added is None or not isinstance(slot.state, NodeState):
            return None
        return slot.state

    def is_pending(self, device_id: int) -> bool:
        """Is there such a device object that has not yet told its properties?"""
        return self.kind(device_id) == Kind.DEVICE and self._slots[device_id].state is None

    def port(self, port_id: int) -> Port | None:
        slot = self._slots.get(port_id)
        return _port(slot.added) if slot is not None and slot.added is not None else None

    def ports(self, node_id: int) -> list[Port]:
        """All ports of a node by their index."""
        return sorted(self._ports.get(node_id, {}).values())

    def metadata(self, name: str, key: str, subject: int = 0) -> str | None:
        """The value in the metadata object of that name; of several the oldest object that has one."""
        for object_id in self.ids(Kind.METADATA):
            if self.props(object_id).get("metadata.name") != name:
                continue
            entries = self._slots[object_id].entries
            entry = entries.get((subject, key))
            cleared = entries.get((subject, None))
            if entry is not None and (cleared is None or cleared.sequence < entry.sequence):
                return entry.value
        return None


def _port(added: ObjectAdded) -> Port:
    props = added.props
    name = props.get("port.name", "")
    return Port(
        index=_integer(props.get("port.id")),
        id=added.id,
        serial=added.serial,
        node_id=_integer(props.get("node.id")),
        direction="output" if props.get("port.direction") == "out" else "input",
        channel=props.get("audio.channel", "UNK"),
        monitor=props.get("port.monitor") == "true",
        name=name,
        alias=props.get("port.alias", name),
        dsp=props.get("format.dsp", ""),
        path=props.get("object.path", ""),
    )


def number(text: str | None) -> int | None:
    """The number that a property holds; None where it is missing, or is not one that fits into 63 bits."""
    is_number = text is not None and len(text) <= MAX_DIGITS and text.isascii() and text.isdigit()
    return int(text) if is_number else None  # type: ignore[arg-type]


def _integer(text: str | None) -> int:
    """-1 where a property is missing or not a number."""
    found = number(text)
    return -1 if found is None else found
