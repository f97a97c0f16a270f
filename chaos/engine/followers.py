"""The streams that follow a device: how things stand for each, and what it was last told."""

from __future__ import annotations

from collections import deque
from typing import Any

import msgspec
import pykka

from chaos._connection import Connection
from chaos.engine.messages import CaptureState, Follow, Intruder, LinkState, PortLatency, Target, tell
from chaos.graph.channels import Channel, find_ports
from chaos.graph.devices import DeviceInfo, DeviceMap
from chaos.graph.followed import Followed
from chaos.graph.objects import Port
from chaos.terms.errors import ChannelsMismatch

__all__ = ["Followers", "Unported"]

UNCLAIMED = 256
SHARED = 1024


class Unported(msgspec.Struct, frozen=True):
    """A device is there and not all ports that a stream needs of it: `node_id` is the stream's own node, where it
    lacks ports."""

    device: DeviceInfo
    node_id: int | None


class _Follower(msgspec.Struct):
    follow: Follow
    followed: Followed
    told: Target | None = None
    whole: tuple[str | None, int] | None = None  # its own node once that had all ports: the serial, and how many
    linked: dict[Channel, int] = {}  # the serial of the port that each channel was linked to last
    beside: frozenset[int] = frozenset()  # those of other ports with their names that were there then


class Followers:
    """Tells each stream its `Target` whenever that has changed, and passes on what its capture has to say."""

    def __init__(self, devices: DeviceMap) -> None:
        self._devices = devices
        self._followers: dict[str, _Follower] = {}
        self._shared: dict[str, None] = {}
        # What a capture tells before its stream has said which capture it has.
        self._unclaimed: deque[tuple[int, CaptureState | LinkState | PortLatency]] = deque(maxlen=UNCLAIMED)

    def follow(self, message: Follow) -> None:
        """Takes a stream in, or takes over what it says of its capture. `inform` is due then."""
        urn = message.stream.actor_urn
        known = self._followers.get(urn)
        wanted = message.wanted
        followed = known.followed if known else Followed(wanted.identity, wanted.device, kind=wanted.kind)
        followed.accepts_port_change = wanted.accept_port_change
        if known is not None and wanted.n_accepted > known.follow.wanted.n_accepted:
            followed.accept()
        self._followers[urn] = made = _Follower(message, followed)
        if known is not None and (known.follow.handle, known.follow.node_id) == (message.handle, message.node_id):
            made.whole = known.whole
        if known is not None:
            made.linked, made.beside = known.linked, known.beside
        if message.handle is not None:
            waiting = [said for owner, said in self._unclaimed if owner == message.handle]
            others = [each for each in self._unclaimed if each[0] != message.handle]
            self._unclaimed = deque(others, maxlen=UNCLAIMED)
            for said in waiting:
                tell(message.stream, said)

    def unfollow(self, stream: pykka.ActorRef[Any]) -> None:
        self._followers.pop(stream.actor_urn, None)

    def route(self, handle: int, message: CaptureState | LinkState | PortLatency) -> None:
        """Passes on what the capture of this handle tells."""
        for follower in self._followers.values():
            if follower.follow.handle == handle:
                tell(follower.follow.stream, message)
                return
        self._unclaimed.append((handle, message))

    def tell_of_intruder(self, source: int, node_id: int) -> None:
        """Node `source` was linked to a stream's node."""
        name = self._devices.node_props(source).get("node.name", f"node {source}")
        for follower in self._followers.values():
            if follower.follow.node_id == node_id:
                tell(follower.follow.stream, Intruder(name))

    def inform(self, connection: Connection | None, only: pykka.ActorRef[Any] | None = None) -> list[Unported]:
        """Tells all, or only one, whose target has changed; gives the devices that lack ports."""
        self._remember_shared()
        present = self._devices.devices(programs=True)
        unported = []
        concerned = self._followers.values() if only is None else [self._followers[only.actor_urn]]
        for follower in list(concerned):
            target, lacking = self._target(follower, connection, present)
            if lacking is not None:
                unported.append(lacking)
            if target != follower.told:
                follower.told = target
                tell(follower.follow.stream, target)
        return unported

    def _remember_shared(self) -> None:
        """A serial number that two devices had at once tells nobody apart from then on."""
        for text in self._devices.shared_serials():
            self._shared[text] = None
        while len(self._shared) > SHARED:
            del self._shared[next(iter(self._shared))]

    def _target(
        self, follower: _Follower, connection: Connection | None, present: list[DeviceInfo]
    ) -> tuple[Target, Unported | None]:
        if connection is None:
            follower.followed.lose()
            # Its node has gone with PipeWire, which gives the id to anybody's after a restart.
            follower.follow = msgspec.structs.replace(follower.follow, handle=None, node_id=None)
            follower.whole, follower.linked, follower.beside = None, {}, frozenset()
            return Target(None, None, ()), None
        found = follower.followed.locate(present, self._shared)
        device, follow = found.device, follower.follow
        if self._has_lost_node(follower):
            return Target(connection, device, (), found.reason, has_lost_node=True), None
        if device is None:
            return Target(connection, None, (), found.reason), None
        target = Target(connection, device, (), graph_rate=self._devices.graph_rate, doubt=found.doubt)
        try:
            outs = _ports_for(follower, device) if device.ports else ()
        except ChannelsMismatch:
            return target, None
        node_id = follow.node_id
        own = self._devices.ports(node_id, "input") if node_id is not None else []
        if node_id is None or not own or len(own) != len(outs):
            return target, Unported(device, node_id if not own else None)
        if not all(self._devices.is_there(out) for out in outs):
            return target, None
        pairs = tuple((device.node_id, out.id, node_id, to.id, out.serial) for out, to in zip(outs, own, strict=True))
        follower.whole = self._serial(node_id), len(own)
        follower.linked = dict(zip(follow.channels, (out.serial for out in outs), strict=True))
        follower.beside = frozenset(
            port.serial
            for port in self._devices.ports(device.node_id, "output")
            if port not in outs and any(port.channel == channel.name for channel in follow.channels)
        )
        return msgspec.structs.replace(target, pairs=pairs), None

    def _has_lost_node(self, follower: _Follower) -> bool:
        node_id = follower.follow.node_id
        if follower.whole is None or node_id is None:
            return False
        serial, n_ports = follower.whole
        return self._serial(node_id) != serial or len(self._devices.ports(node_id, "input")) < n_ports

    def _serial(self, node_id: int) -> str | None:
        return self._devices.node_props(node_id).get("object.serial")


def _ports_for(follower: _Follower, device: DeviceInfo) -> tuple[Port, ...]:
    return find_ports(follower.follow.channels, device.ports, follower.linked, follower.beside)
