"""Which of a device's channels are captured, and where they are now. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import msgspec

from chaos.graph.deviceinfo import DeviceInfo, RequestedFormat, check_format
from chaos.graph.objects import Port
from chaos.terms.counting import counted
from chaos.terms.errors import ChannelsMismatch, FormatUnsupported
from chaos.terms.formats import MidiFormat

__all__ = ["Channel", "check_again", "check_start", "choose_channels", "find_ports"]

_NAMELESS = "UNK"
_NO_SERIAL = -1


class Channel(msgspec.Struct, frozen=True):
    """One channel of a device: its name ("FL", "AUX3", "UNK" for none) and its place among all, from 1.

    `alike`: the places of all channels that had this name when it was chosen; empty where it was the only one.
    """

    name: str
    number: int
    alike: tuple[int, ...] = ()


def choose_channels(device: DeviceInfo, chosen: Sequence[str] | None) -> tuple[Channel, ...]:
    """The channels to capture, in the order asked for: each by its name or its number. None: all of them.

    Raises ChannelsMismatch where one is not there, is there twice, or was named twice.
    """
    there = [
        Channel(name, number, places if len(places := _places(name, device.positions)) > 1 else ())
        for number, name in enumerate(device.positions, 1)
    ]
    if chosen is None:
        return tuple(there)
    found = [_find(device, there, each) for each in chosen]
    if len(set(found)) != len(found):
        twice = f"the channel map {','.join(chosen)} names a channel twice"
        raise ChannelsMismatch(twice, hint=_offer(device), details=_details(device, chosen))
    return tuple(found)


def check_start(
    device: DeviceInfo, form: RequestedFormat | MidiFormat, chosen: Sequence[str] | None, graph_rate: int | None = None
) -> tuple[Channel, ...]:
    """The channels that a stream of that format would capture; of a MIDI device its one port.

    Raises as `check_format` and `choose_channels`.
    """
    if isinstance(form, MidiFormat):
        return _check_midi(device)
    if chosen is None:
        check_format(device, form, graph_rate)
    else:
        check_format(device, _AnyChannels(form), graph_rate)
        if form.channels not in (None, len(chosen)):
            raise ChannelsMismatch(
                f"the channel map has {counted(len(chosen), 'channel')}, not {form.channels} as asked for",
                hint="leave the number of channels out",
                details={"device": list(device.positions), "requested": list(chosen)},
            )
    return choose_channels(device, chosen)


def check_again(device: DeviceInfo, form: RequestedFormat | MidiFormat, graph_rate: int | None = None) -> list[str]:
    """Whether a device that is recorded so still can be, however many channels it has now: their names are what counts.

    Gives what is worth knowing, and raises, as `check_format`.
    """
    if isinstance(form, MidiFormat):
        _check_midi(device)
        return []
    return check_format(device, _AnyChannels(form), graph_rate)


def _check_midi(device: DeviceInfo) -> tuple[Channel, ...]:
    if device.kind != "midi":
        hint = "chaosctl devices shows which are MIDI devices"
        raise FormatUnsupported(f"{device.description} is not a MIDI device", hint=hint)
    if device.direction == "output":
        raise FormatUnsupported(f"{device.description} takes MIDI and sends none", hint="choose one that sends")
    return tuple(Channel(port.channel, number) for number, port in enumerate(device.ports, 1))


class _AnyChannels:
    """A format but for how many channels it has."""

    channels = None

    def __init__(self, form: RequestedFormat) -> None:
        self.sample_rate = form.sample_rate
        self.sample_format = form.sample_format


def find_ports(
    channels: Sequence[Channel],
    ports: Sequence[Port],
    linked: Mapping[Channel, int] | None = None,
    beside: Collection[int] = (),
) -> tuple[Port, ...]:
    """The port of each channel: the one that it was `linked` to last, by its serial; else by its name; or where several
    had that name or none has one, by its place, if just those places have that name now. Never one that was another
    channel's, or was there `beside` that one with its name (serials).

    Raises ChannelsMismatch where one is not there (any more) or several could be it; none is taken in its place.
    """
    names = [port.channel for port in ports]
    by_serial = {port.serial: port for port in ports}
    linked = linked or {}
    others = {*linked.values(), *beside}
    found = []
    for channel in channels:
        port = by_serial.get(linked.get(channel, _NO_SERIAL))
        if port is None or port.channel != channel.name:
            port = _port_of(channel, ports, _places(channel.name, names))
            port = port if port is None or port.serial not in others else None
        if port is None:
            raise ChannelsMismatch(
                f"the device has the channels {', '.join(names)} now, "
                f"{', '.join(channel.name for channel in channels)} are recorded",
                hint="nothing is remixed: stop the stream and start another to record it as it is now",
            )
        found.append(port)
    return tuple(found)


def _port_of(channel: Channel, ports: Sequence[Port], places: tuple[int, ...]) -> Port | None:
    if channel.name != _NAMELESS and not channel.alike:
        return ports[places[0] - 1] if len(places) == 1 else None
    return ports[channel.number - 1] if places == (channel.alike or (channel.number,)) else None


def _places(name: str, names: Sequence[str]) -> tuple[int, ...]:
    return tuple(number for number, each in enumerate(names, 1) if each == name)


def _find(device: DeviceInfo, there: Sequence[Channel], wanted: str) -> Channel:
    same = [channel for channel in there if channel.name == wanted]
    if not same and wanted.isascii() and wanted.isdigit() and len(wanted) < 6:
        same = [channel for channel in there if channel.number == int(wanted)]
    if len(same) == 1:
        return same[0]
    what = f"{len(same)} channels {wanted}" if same else f"no channel {wanted}"
    raise ChannelsMismatch(f"{device.description} has {what}", hint=_offer(device), details=_details(device, [wanted]))


def _offer(device: DeviceInfo) -> str:
    names = ", ".join(f"{number} ({name})" for number, name in enumerate(device.positions[:32], 1))
    return f"its channels are {names}{', ...' if len(device.positions) > 32 else ''}"


def _details(device: DeviceInfo, chosen: Sequence[str]) -> dict[str, object]:
    return {"device": list(device.positions), "requested": list(chosen)}
