"""One device over time: which of those that are there now it is, if any. Pure.

Whose audio goes into a recording is decided here, so in doubt it is none of them.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

import msgspec

from chaos.graph.deviceinfo import DeviceInfo, DeviceKind, choose
from chaos.graph.identity import Basis
from chaos.terms.errors import DeviceAmbiguous, DeviceNotFound

__all__ = ["Followed", "Whereabouts"]

_GONE = -1
_MAX_KIN = 256
_ACCEPT = "`chaosctl accept-port` takes it for the same"


class Whereabouts(msgspec.Struct, frozen=True):
    """The device as it is now; None while it is away or can't be told for sure, with the reason for people.

    `doubt`: why it may be another one than before, though nothing tells them apart; "" where nothing speaks for that.
    """

    device: DeviceInfo | None
    reason: str = ""
    doubt: str = ""


class Followed:
    """A device that is kept track of, from when it was found or from its first coming.

    While its node is there, the node's serial names it, whatever else appears. When it has gone, one that has all its
    names takes its place: not one that was there beside it, unless both are the same part of one piece of hardware,
    whose new node may come before the old one has gone; not one at another port of the machine unless it
    `accepts_port_change`, and never at another port where its serial number is not its own alone. One at its port that
    lacks some of its names is taken where its serial number is its own alone, and its node's name is not that of one
    like it. Where one like it has left another port meanwhile, that one may be what is at this port now: that is the
    `doubt`.
    """

    def __init__(
        self,
        identity: str,
        device: DeviceInfo | None = None,
        *,
        accepts_port_change: bool = False,
        kind: DeviceKind = "audio",
    ) -> None:
        self.identity = identity
        self.kind = device.kind if device is not None else kind
        self.accepts_port_change = accepts_port_change
        self._device = device
        self._node = device.object_serial if device is not None else None
        # Nodes beside it that have all its names, and whether one of them has left while it was away.
        self._twins: set[int] = set()
        self._lost_track = False
        # Devices like it at other ports, by bus path and node's name: which node it was when this one was last there.
        self._kin: dict[tuple[str, str], int | None] = {}
        self._doubt = ""
        self._is_accepted = False  # in spite of what was beside it

    def lose(self) -> None:
        """PipeWire has gone: its successor counts serials anew."""
        self._node = None
        self._lost_track = self._lost_track or bool(self._twins)
        self._twins = set()
        self._kin = {key: serial if serial == _GONE else None for key, serial in self._kin.items()}

    def accept(self) -> None:
        """Somebody who can see it says that the one with its names is the same, whatever was beside it."""
        self._is_accepted = self._is_accepted or bool(self._twins) or self._lost_track
        self._twins, self._lost_track = set(), False

    def locate(self, present: Sequence[DeviceInfo], shared: Collection[str] = ()) -> Whereabouts:
        """`present`: all devices; `shared`: serial numbers' names that several of them have had at once."""
        if self._device is None:
            return self._find_first(present)
        there = [device for device in present if _is_kind_of(self._device, device)]
        here = next((device for device in there if device.object_serial == self._node), None)
        self._watch_kin(self._device, there, is_here=here is not None)
        if here is not None:
            # A program says something else with each title: what it was called at first is in the recording.
            self._device = known = self._device if here.is_program else here
            twins = {each.object_serial for each in there if each.rungs == known.rungs and not _is_part_of(here, each)}
            self._twins, self._lost_track, self._is_accepted = twins - {here.object_serial}, False, False
            return Whereabouts(here, doubt=self._doubt)
        self._lost_track = self._lost_track or not self._twins <= {device.object_serial for device in there}
        others = [device for device in there if device.object_serial not in self._twins]
        found = self._find_again([device for device in others if _may_be(self._device, device)], shared)
        beside = [f"node:{device.node_id}" for device in there if device.object_serial in self._twins]
        if found.device is None and beside:
            taken = f"; {_ACCEPT}" if len(beside) == 1 else ""
            reason = f"{found.reason}; {' and '.join(beside)} has the same name, but was there beside it{taken}"
            return Whereabouts(None, reason)
        return found

    def _find_first(self, present: Sequence[DeviceInfo]) -> Whereabouts:
        try:
            kind = [device for device in present if (device.direction, device.kind) == ("input", self.kind)]
            device = choose(self.identity, kind)
        except DeviceNotFound:
            return Whereabouts(None, f"{self.identity} is away")
        except DeviceAmbiguous as error:
            return Whereabouts(None, error.message)
        self._device, self._node = device, device.object_serial
        return Whereabouts(device)

    def _find_again(self, alike: list[DeviceInfo], shared: Collection[str]) -> Whereabouts:
        assert self._device is not None
        here = [device for device in alike if not _has_moved(self._device, device)]
        exact = [device for device in here if device.rungs == self._device.rungs]
        found = exact or [device for device in here if self._is_sure_of(self._device, device, shared)]
        if len(found) > 1 or (found and self._lost_track):
            taken = f"; {_ACCEPT}" if len(found) == 1 else ""
            return Whereabouts(None, f"{self.identity} can't be told from another that had the same name{taken}")
        if here and not found:
            return Whereabouts(None, self._name_changed(self._device, here[0]))
        if not found and alike:
            found, reason = self._judge_moved(alike, shared)
            if reason:
                return Whereabouts(None, reason)
        if not found:
            return Whereabouts(None, f"{self.identity} is away")
        left = [bus for (bus, _), serial in self._kin.items() if serial == _GONE] if here else []
        self._doubt = f"it may be another device than before: one like it has left {_at(left[0])}" if left else ""
        if self._is_accepted:
            self._doubt = "it was taken for the same as before by accept-port: another of its name was beside that"
        self._device, self._node = found[0], found[0].object_serial
        self._kin = {key: serial for key, serial in self._kin.items() if key[0] != _bus(found[0])}
        return Whereabouts(found[0], doubt=self._doubt)

    def _watch_kin(self, known: DeviceInfo, there: Sequence[DeviceInfo], *, is_here: bool) -> None:
        for each in there:
            if _is_like(known, each) and not _is_part_of(known, each):
                key = _bus(each), each.name
                if is_here or self._kin.get(key) is None:
                    self._kin[key] = each.object_serial
        present = {each.object_serial for each in there}
        for key, serial in self._kin.items():
            if serial is not None and serial not in present:
                self._kin[key] = _GONE
        while len(self._kin) > _MAX_KIN:
            del self._kin[next(iter(self._kin))]

    def _is_sure_of(self, known: DeviceInfo, other: DeviceInfo, shared: Collection[str]) -> bool:
        """Whether one at its place that lacks some of its names is the same."""
        serial = _name(known, "serial")
        if serial in shared:
            return False
        is_kins = other.name != known.name and any(name == other.name for _, name in self._kin)
        return not is_kins or (serial is not None and self.accepts_port_change)

    def _name_changed(self, known: DeviceInfo, other: DeviceInfo) -> str:
        what = "the port" if _bus(known) else "the serial number"
        names = f"{other.name} instead of {known.name}" if other.name != known.name else "some of its names differ"
        return (
            f"a device with {what} of {self.identity} may be another one like it ({names}): "
            "stop the stream and start another to record it"
        )

    def _judge_moved(self, alike: list[DeviceInfo], shared: Collection[str]) -> tuple[list[DeviceInfo], str]:
        assert self._device is not None
        if len(alike) > 1 or _name(self._device, "serial") in shared:
            return [], f"{self.identity} is away; others with its serial number are there"
        if self.accepts_port_change:
            return alike, ""
        before, now = _name(self._device, "port"), _name(alike[0], "port")
        place = f"is at another port ({now} instead of {before})" if now else f"does not say its port ({before} before)"
        return [], (
            f"a device with the serial number of {self.identity} {place}; {_ACCEPT}"
        )


def _is_kind_of(known: DeviceInfo, other: DeviceInfo) -> bool:
    return (known.role, known.kind) == (other.role, other.kind)


def _is_part_of(known: DeviceInfo, other: DeviceInfo) -> bool:
    """Whether both are of one piece of hardware: with the same names too, one is the other made anew."""
    return known.hardware is not None and known.hardware == other.hardware


def _is_like(known: DeviceInfo, other: DeviceInfo) -> bool:
    """Whether the other, at another port, could be taken for it at its own: by the serial number, or where it has none,
    by the model."""
    if not _bus(known) or _bus(known) == _bus(other):
        return False
    serials = [(_name(each, "serial") or "").partition("/")[0] for each in (known, other)]
    models = [(_name(each, "port") or "").partition("@")[0] for each in (known, other)]
    return serials[0] == serials[1] and (serials[0] != "" or models[0] == models[1])


def _bus(device: DeviceInfo) -> str:
    """The path of its port; "" where it has none or doesn't say."""
    return (_name(device, "port") or "").partition("@")[2].partition("/")[0].partition(":monitor")[0]


def _at(bus: str) -> str:
    return f"port {bus}" if bus else "a port that it did not say"


def _may_be(known: DeviceInfo, other: DeviceInfo) -> bool:
    """Never where their serial numbers differ, nor where all that they share is less sure than what they don't."""
    same_serial = _name(known, "serial") == _name(other, "serial")
    return same_serial and any(rung.text == known.identity for rung in other.rungs)


def _has_moved(known: DeviceInfo, other: DeviceInfo) -> bool:
    """Also where the other does not say at which port it is: that may be any."""
    port = _name(known, "port")
    return port is not None and port != _name(other, "port")


def _name(device: DeviceInfo, basis: Basis) -> str | None:
    return next(_names(device, basis), None)


def _names(device: DeviceInfo, basis: Basis) -> Iterator[str]:
    return (rung.text for rung in device.rungs if rung.basis == basis)
