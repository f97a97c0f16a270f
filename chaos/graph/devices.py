"""All devices, live: what of PipeWire's graph can be captured from or played to. Pure.

`DeviceMap` takes the registry's events and keeps a `DeviceInfo` for each audio source, sink, sink's monitor
and MIDI port, and for each program's sound. A device is told of only when its node and all its ports are known, so
that links can be made at once.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from typing import Literal, TypeAlias

import msgspec

from chaos.graph.deviceinfo import DeviceInfo, DeviceKind, Direction, check_format, choose, other_kind
from chaos.graph.identity import Role, first, ladder
from chaos.graph.midiports import card_of, describe_midi, is_midi
from chaos.graph.nodeformat import node_format, node_volume
from chaos.graph.objects import (
    DSP_AUDIO,
    Decoder,
    Graph,
    Kind,
    MetadataEntry,
    ObjectAdded,
    ObjectRemoved,
    Port,
    RegistryEvent,
    number,
)
from chaos.graph.programs import describe_program, is_program, program_ports
from chaos.terms.errors import DeviceAmbiguous, DeviceNotFound

__all__ = ["GRAPH_RATE", "Change", "Decoder", "DeviceInfo", "DeviceMap", "Port", "RegistryEvent", "check_format"]

GRAPH_RATE = 48000
"""Hz, where nothing tells what the graph runs at."""

_ROLES: dict[str, tuple[Role, ...]] = {
    "Audio/Source": ("input",),
    "Audio/Source/Virtual": ("input",),
    "Audio/Duplex": ("input", "output"),
    "Audio/Sink": ("output", "monitor"),
    "Audio/Sink/Virtual": ("output", "monitor"),
}
_SESSION_MANAGERS = ("WirePlumber", "pipewire-media-session")
_CONTROL = ("midi", "UMP", "control")


class Change(msgspec.Struct, frozen=True):
    """`device` as it is afterwards; of a removed one, as it last was."""

    kind: Literal["added", "removed", "changed"]
    device: DeviceInfo


_Key: TypeAlias = tuple[int, Role]


class DeviceMap:
    """Give it every event; it says what that changed. Not thread-safe.

    `card_props` gives the properties of the ALSA card of that number, which PipeWire does not tell of one that has
    nothing but MIDI.
    """

    def __init__(self, card_props: Callable[[int], Mapping[str, str]] = lambda number: {}) -> None:
        self._card_props = card_props
        self._cards: dict[int, Mapping[str, str]] = {}
        self._graph = Graph()
        self._found: dict[int, list[DeviceInfo]] = {}
        self._devices: dict[_Key, DeviceInfo] = {}
        self._unsettled: dict[int, frozenset[int]] = {}
        self._settled: dict[int, frozenset[int]] = {}

    def apply(self, event: RegistryEvent) -> list[Change]:
        """Take in one event. The order in which events come does not change where this ends."""
        touched = self._nodes_of(event)
        if not self._graph.apply(event):
            return []
        if isinstance(event, ObjectRemoved):
            self._cards.pop(event.serial, None)
        return self._look_at(touched | self._nodes_of(event))

    def _look_at(self, nodes: set[int]) -> list[Change]:
        """Describes these nodes anew."""
        is_news = False
        for node_id in nodes:
            self._unsettled.pop(node_id, None)
            found = list(self._describe(node_id))
            if self._graph.kind(node_id) != Kind.NODE:
                self._settled.pop(node_id, None)
            if found == self._found.get(node_id, []):
                continue
            is_news = True
            self._found[node_id] = found
            if not found:
                del self._found[node_id]
        return self._renew() if is_news else []

    def reset(self) -> list[Change]:
        """Forget everything, as when PipeWire has gone: its successor counts its serials anew."""
        gone = [Change("removed", device) for device in self._devices.values()]
        self._graph, self._found, self._devices, self._cards = Graph(), {}, {}, {}
        self._unsettled, self._settled = {}, {}
        return gone

    def devices(
        self, direction: Direction | None = None, kind: DeviceKind | None = None, *, programs: bool = False
    ) -> list[DeviceInfo]:
        """Sources first, then monitors, then sinks, then `programs` if they are asked for; each by description."""
        found = [
            device
            for device in self._devices.values()
            if direction in (None, device.direction)
            and kind in (None, device.kind)
            and (programs or not device.is_program)
        ]
        return sorted(found, key=lambda device: device.sort_key)

    def find(self, name: str, direction: Direction | None = None, kind: DeviceKind | None = None) -> DeviceInfo:
        """`deviceinfo.choose` among what is there. Raises DeviceAmbiguous, DeviceNotFound: one that says so where a
        device of the other kind answers to the name."""
        try:
            return choose(name, self.devices(direction, kind, programs=True), kind)
        except DeviceNotFound as error:
            found = None
            if kind is not None:
                with suppress(DeviceNotFound, DeviceAmbiguous):
                    found = choose(name, self.devices(direction, "midi" if kind == "audio" else "audio"))
            raise error if found is None else other_kind(name, found) from None

    def shared_serials(self) -> set[str]:
        """The names of serial numbers that more than one device claims now."""
        claims = Counter(
            rung.text for device in self._devices.values() for rung in device.rungs if rung.basis == "serial"
        )
        return {text for text, n in claims.items() if n > 1}

    def is_there(self, port: Port) -> bool:
        """Whether this very port is still there."""
        found = self._graph.port(port.id)
        return found is not None and found.serial == port.serial

    @property
    def unsettled(self) -> Mapping[int, frozenset[int]]:
        """Nodes whose ports are not as many as they say, with the ids of those that are there.

        Once these have stood still for a while, `settle` takes them as they are.
        """
        return self._unsettled

    def settle(self, node_id: int) -> list[Change]:
        """The node is quiet: the ports that it has now are its ports."""
        if node_id not in self._unsettled:
            return []
        self._settled[node_id] = self._port_ids(node_id)
        return self._look_at({node_id})

    def ports(self, node_id: int, direction: Direction, monitor: bool | None = None) -> list[Port]:
        """Any node's ports in order. `direction` is PipeWire's: a source's ports are "output"."""
        return [
            port
            for port in self._graph.ports(node_id)
            if port.direction == direction and monitor in (None, port.monitor)
        ]

    def leader_of(self, device: DeviceInfo, clock_id: int) -> str | None:
        """Whose clock drives a device that has one of its own, where that is not its own: the node's description.

        A clock goes by the node that drives. Two nodes of one card run by one clock.
        """
        if not device.has_own_clock or clock_id == device.node_id:
            return None
        props = self.node_props(clock_id)
        hardware = self._hardware(props)
        if hardware is not None and hardware == device.hardware:
            return None
        return first(props, "node.description", "node.name") or f"node {clock_id}"

    def node_props(self, node_id: int) -> dict[str, str]:
        """What any node tells of itself; empty if there is none."""
        return self._graph.props(node_id) if self._graph.kind(node_id) == Kind.NODE else {}

    @property
    def has_session_manager(self) -> bool:
        clients = (self._graph.props(client) for client in self._graph.ids(Kind.CLIENT))
        return any(props.get("application.name", "").startswith(_SESSION_MANAGERS) for props in clients)

    @property
    def graph_rate(self) -> int | None:
        """The one rate at which PipeWire's settings let the graph run; None where it may choose."""
        forced = number(self._graph.metadata("settings", "clock.force-rate"))
        if forced:
            return forced
        rate = self._graph.metadata("settings", "clock.rate") or ""
        allowed = set((self._graph.metadata("settings", "clock.allowed-rates") or "").strip("[] ").split())
        return number(rate) if allowed <= {rate} else None

    def _nodes_of(self, event: RegistryEvent) -> set[int]:
        """The nodes of which this event may tell something, also by taking the id of another object."""
        nodes = self._nodes_behind(self._graph.kind(event.id), event)
        if isinstance(event, ObjectAdded):
            nodes |= self._nodes_behind(event.kind, event)
        return nodes

    def _nodes_behind(self, kind: Kind | None, event: RegistryEvent) -> set[int]:
        if kind == Kind.NODE:
            return {event.id}
        if kind == Kind.PORT:
            port = self._graph.port(event.id)
            return {port.node_id} if port is not None else set()
        if kind == Kind.DEVICE:
            return {n for n in self._graph.ids(Kind.NODE) if self._hardware(self._graph.props(n)) == event.id}
        if kind == Kind.CLIENT or (kind == Kind.METADATA and _is_of_default(event)):
            return set(self._graph.ids(Kind.NODE))
        return set()

    def _renew(self) -> list[Change]:
        """Settle the identities among all that were found, and tell what is different."""
        found = [device for devices in self._found.values() for device in devices]
        claims = Counter(rung.text for device in found for rung in device.rungs)
        before, self._devices = self._devices, {}
        for device in found:
            own = next((rung for rung in device.rungs if claims[rung.text] == 1), device.rungs[-1])
            settled = msgspec.structs.replace(device, identity=own.text, identity_basis=own.basis)
            self._devices[device.object_serial, device.role] = settled
        changes = [Change("removed", device) for key, device in before.items() if key not in self._devices]
        for key, device in self._devices.items():
            if key not in before:
                changes.append(Change("added", device))
            elif device != before[key]:
                changes.append(Change("changed", device))
        return changes

    def _describe(self, node_id: int) -> Iterator[DeviceInfo]:
        props = self.node_props(node_id)
        media_class = props.get("media.class", "")
        yield from self._describe_midi(node_id, props)
        roles = _ROLES.get(media_class, ())
        if is_program(props) and program_ports(self._graph.ports(node_id)):
            roles = ("input",)
        for role in roles:
            device = self._describe_audio(node_id, role, props)
            if device is not None:
                yield device

    def _describe_audio(self, node_id: int, role: Role, props: dict[str, str]) -> DeviceInfo | None:
        """None until all is known that must be; as it was before while its ports come and go."""
        state = self._graph.node_state(node_id)
        hardware = self._hardware(props)
        if state is None or (hardware is not None and self._graph.is_pending(hardware)):
            return None
        if hardware is not None:
            props = self._graph.props(hardware) | props
        there = self.ports(node_id, "input" if role == "output" else "output")
        form = node_format(state.params)
        ports = tuple(_audio_ports(there, role, props))
        # Only a port configuration says how many are due; a node's own count is that of some moment.
        is_portless = not (there or state.n_input_ports or state.n_output_ports)
        is_whole = is_portless if form.port_channels is None else len(ports) == form.port_channels
        if not is_whole and self._settled.get(node_id) != self._port_ids(node_id):
            self._unsettled[node_id] = self._port_ids(node_id)
            before = self._found.get(node_id, [])
            return next((d for d in before if d.ports and (d.object_serial, d.role) == (state.serial, role)), None)
        if not ports and (state.n_input_ports or state.n_output_ports or self.has_session_manager):
            return None
        is_dsp = bool(ports) and all(port.dsp == DSP_AUDIO for port in ports)
        channels = len(ports) if is_dsp else form.channels
        positions = tuple(port.channel for port in ports) if is_dsp else form.positions
        if not channels:
            return None
        name = props.get("node.name", "")
        description = first(props, "node.description", "device.description", "node.name")
        rungs = ladder(props, role)
        if is_program(props):
            description, rungs = describe_program(props)
        volume = node_volume(state.params, by_monitor=any(port.monitor for port in ports), props=props)
        return DeviceInfo(
            identity=rungs[0].text,
            identity_basis=rungs[0].basis,
            rungs=rungs,
            name=name,
            description=f"Monitor of {description}" if role == "monitor" else description,
            node_id=node_id,
            object_serial=state.serial,
            role=role,
            is_default=not is_program(props) and name == self._default("sink" if role == "output" else "source"),
            sample_rate=form.sample_rate,
            rates=form.rates,
            rate_range=form.rate_range,
            channels=channels,
            positions=positions if len(positions) == channels else ("UNK",) * channels,
            native_formats=form.native_formats,
            volume=volume.volume,
            sample_gain=volume.sample_gain,
            muted=volume.muted,
            api=_api(props),
            hardware=hardware,
            has_own_clock=role == "input" and _has_own_clock(props),
            card=number(first(props, "api.alsa.pcm.card", "alsa.card", "api.alsa.card")),
            pcm_device=number(first(props, "api.alsa.pcm.device", "alsa.device")),
            ports=ports,
        )

    def _port_ids(self, node_id: int) -> frozenset[int]:
        return frozenset(port.id for port in self._graph.ports(node_id))

    def _describe_midi(self, node_id: int, props: dict[str, str]) -> Iterator[DeviceInfo]:
        """Nothing of a MIDI node that has not told all of itself: its own address may be its ports' name."""
        media_class = props.get("media.class", "")
        ports = [port for port in self._graph.ports(node_id) if is_midi(port, media_class)]
        if not ports or (media_class.startswith("Midi/") and self._graph.node_state(node_id) is None):
            return
        ways = Counter(port.direction for port in ports)
        for port in ports:
            card = card_of(port)
            if card is not None and port.serial not in self._cards:
                self._cards[port.serial] = self._card_props(card)
            yield describe_midi(
                port,
                props,
                self._cards.get(port.serial, {}),
                is_alone=ways[port.direction] == 1,
                hardware=self._hardware(props) if card is None else self._hardware_of_card(card),
            )

    def _hardware_of_card(self, card: int) -> int | None:
        """The device object of an ALSA card, where there is one."""
        numbers = {number(self._graph.props(each).get("api.alsa.card")): each for each in self._graph.ids(Kind.DEVICE)}
        return numbers.get(card)

    def _hardware(self, props: Mapping[str, str]) -> int | None:
        """The device object behind a node, where there is one."""
        device_id = number(props.get("device.id"))
        return device_id if device_id is not None and self._graph.kind(device_id) == Kind.DEVICE else None

    def _default(self, direction: str) -> str | None:
        """The node name of the default source or sink."""
        told = self._graph.metadata("default", f"default.audio.{direction}")
        try:
            return msgspec.json.decode(told or "", type=dict[str, str]).get("name")
        except msgspec.DecodeError:
            return None


def _has_own_clock(props: Mapping[str, str]) -> bool:
    """A node that can drive the graph, unless it only pretends to be a device: a null sink runs by any clock."""
    return props.get("node.driver") == "true" and props.get("factory.name") != "support.null-audio-sink"


def _audio_ports(ports: list[Port], role: Role, props: Mapping[str, str]) -> list[Port]:
    """Those that carry the device's audio: no control ports; of a duplex node's outputs not what it plays, unless it
    has no others: a virtual one's are all monitors of what is played into it."""
    if is_program(props):
        return program_ports(ports)
    audio = [port for port in ports if not any(word in port.dsp for word in _CONTROL)]
    if props.get("media.class") == "Audio/Duplex" and role == "input":
        return [port for port in audio if not port.monitor] or audio
    return audio


def _is_of_default(event: RegistryEvent) -> bool:
    """Of a metadata object's events: can it tell of a default device?"""
    return not isinstance(event, MetadataEntry) or event.key is None or event.key.startswith("default.")


def _api(props: Mapping[str, str]) -> str | None:
    """ "alsa", "bluez5", ... ; None for what has no hardware."""
    factory = props.get("factory.name", "").split(".")
    return props.get("device.api") or (factory[1] if factory[0] == "api" and len(factory) > 1 else None)
