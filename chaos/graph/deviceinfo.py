"""One device as a value: what it is, how the wire writes it, how it is chosen and what fits it. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches
from typing import Any, Literal, Protocol, TypeAlias

import msgspec

from chaos.graph.identity import Basis, Identity, Role
from chaos.graph.objects import Port
from chaos.terms.counting import counted
from chaos.terms.errors import ChannelsMismatch, DeviceAmbiguous, DeviceNotFound, FormatUnsupported, RateMismatch

__all__ = ["DeviceInfo", "DeviceKind", "Direction", "RequestedFormat", "check_format", "choose", "other_kind"]

Direction: TypeAlias = Literal["input", "output"]
DeviceKind: TypeAlias = Literal["audio", "midi"]

_PREFERENCE: tuple[Role, ...] = ("input", "monitor", "output")
_BITS = {"f32": 24, "s16": 16, "s32": 24}


class DeviceInfo(msgspec.Struct, frozen=True):
    """A device as it is now.

    `role`: "input" a source, "monitor" what a sink plays, "output" the sink itself. `rungs` are all the names
    that it can be known by (chaos.graph.identity), `identity` the one it goes by now. `sample_rate` is None where
    the node states none before it runs; `rates` and `rate_range` are what it offers then. `volume` and
    `muted` are what mixers show (linear; of several channels the one farthest from 1.0), `sample_gain` is
    what PipeWire multiplies on the captured samples: 1.0 leaves them bit for bit. `ports` in channel order
    are the ones to link; there are none where nobody has configured the node's ports, which is so without a
    session manager. `hardware` is the id of its device object. `has_own_clock`: its samples come by a clock
    of its own, so that they are resampled where another one drives the graph. A device of the kind "midi" is one
    port, and `object_serial` that port's.
    """

    identity: str
    identity_basis: Basis
    rungs: tuple[Identity, ...]
    name: str
    description: str
    node_id: int
    object_serial: int
    role: Role
    kind: DeviceKind = "audio"
    is_default: bool = False
    sample_rate: int | None = None
    rates: tuple[int, ...] = ()
    rate_range: tuple[int, int] | None = None
    channels: int = 0
    positions: tuple[str, ...] = ()
    native_formats: tuple[str, ...] = ()
    volume: float | None = None
    sample_gain: float = 1.0
    muted: bool = False
    api: str | None = None
    hardware: int | None = None
    has_own_clock: bool = False
    card: int | None = None
    pcm_device: int | None = None
    ports: tuple[Port, ...] = ()

    @property
    def is_monitor(self) -> bool:
        return self.role == "monitor"

    @property
    def is_program(self) -> bool:
        """Is it what a program plays, and no device?"""
        return self.identity_basis == "program"

    @property
    def direction(self) -> Direction:
        """Of the audio as a client sees it: what is "input" can be captured."""
        return "output" if self.role == "output" else "input"

    @property
    def sort_key(self) -> tuple[bool, int, str, str, int]:
        return (self.is_program, _PREFERENCE.index(self.role), self.description, self.name, self.object_serial)

    def to_wire(self) -> dict[str, Any]:
        """PROTOCOL's Device, and what we add to it."""
        form: dict[str, Any] = {"type": "midi"}
        if self.kind == "audio":
            form = {
                "type": "audio",
                "sample_rate": self.sample_rate,
                "channels": self.channels,
                "positions": list(self.positions),
            }
        return {
            "identity": self.identity,
            "identity_basis": self.identity_basis,
            "name": self.name,
            "description": self.description,
            "node_id": self.node_id,
            "object_serial": self.object_serial,
            "direction": self.direction,
            "format": form,
            "rates": list(self.rates),
            "rate_range": list(self.rate_range) if self.rate_range else None,
            "native_formats": list(self.native_formats),
            "is_monitor": self.is_monitor,
            "is_default": self.is_default,
            "volume": self.volume,
            "sample_gain": self.sample_gain,
            "muted": self.muted,
            "api": self.api,
            "card": self.card,
            "pcm_device": self.pcm_device,
            "has_own_clock": self.has_own_clock,
        }


class RequestedFormat(Protocol):
    """What `check_format` reads of a `requests.AudioFormat`."""

    @property
    def sample_rate(self) -> int | None: ...
    @property
    def channels(self) -> int | None: ...
    @property
    def sample_format(self) -> str: ...


def choose(name: str, present: Sequence[DeviceInfo], kind: DeviceKind | None = None) -> DeviceInfo:
    """The device of that identity, else of that node name (a sink's monitor also as "<name>.monitor"), else
    of that description, else with `name` as a part (in any case) of its description. "node:45" is the device of that
    node id, "object:812" of that object serial: how one is chosen where two have the same name.

    Where a source and others have one node name, the source is meant, and before a sink its monitor; so it is where
    parts of the same hardware have one description. Where audio and MIDI devices answer to it, audio is meant.

    A program is meant only where no device is, and never by a part of its description: whoever makes a web page
    chooses what it says.

    Raises:
        DeviceAmbiguous: more than one; `details["candidates"]` has them.
        DeviceNotFound: none; the hint names what there is.
    """
    part = name.casefold()
    devices = [d for d in present if not d.is_program]
    partly = [d for d in devices if part and part in d.description.casefold()]
    for matching in (*_by_name(name, devices), partly, *_by_name(name, [d for d in present if d.is_program])):
        chosen = _one_per_hardware([d for d in matching if d.kind == "audio"] or matching)
        if len(chosen) == 1:
            return chosen[0]
        if chosen:
            raise _ambiguous(name, chosen)
    raise _not_found(name, present, kind)


def _by_name(name: str, present: list[DeviceInfo]) -> tuple[list[DeviceInfo], ...]:
    """Those that have exactly this name, of one kind of name after the other."""
    return (
        _best_role([d for d in present if name in (f"node:{d.node_id}", f"object:{d.object_serial}")]),
        [d for d in present if d.identity == name],
        [d for d in present if any(rung.text == name for rung in d.rungs)],
        _best_role([d for d in present if d.name == name or (d.is_monitor and f"{d.name}.monitor" == name)]),
        [d for d in present if d.description == name],
    )


def check_format(device: DeviceInfo, fmt: RequestedFormat, graph_rate: int | None = None) -> list[str]:
    """Can `device` be captured so, with nothing resampled or remixed? Gives what is worth knowing, as
    sentences.

    What is left out of `fmt` is the device's own. `graph_rate` is that of PipeWire's graph, where it is
    known.

    Raises:
        RateMismatch, ChannelsMismatch: both figures are in the message and in `details`.
        FormatUnsupported: nothing can be captured from it at all.
    """
    if device.kind == "midi":
        raise FormatUnsupported(f"{device.description} is a MIDI device", hint="choose an audio device")
    if device.direction == "output":
        raise FormatUnsupported(
            f"{device.description} plays and can't be captured",
            hint=f"its monitor can: {device.name}.monitor",
        )
    if fmt.channels not in (None, device.channels):
        raise ChannelsMismatch(
            f"{device.description} has {counted(device.channels, 'channel')}, not {fmt.channels} as asked for",
            hint=f"leave the channels out, or give {device.channels}: nothing is remixed",
            details={"device": device.channels, "requested": fmt.channels},
        )
    _check_rate(device, fmt.sample_rate, graph_rate)
    return _costs(device, fmt.sample_format)


def _check_rate(device: DeviceInfo, asked: int | None, graph_rate: int | None) -> None:
    own = device.sample_rate
    if asked is not None and own is not None and asked != own:
        what = f"runs at {own} Hz, {asked} Hz were asked for"
        raise _rate_mismatch(device, what, own, asked, f"leave the rate out, or give {own}")
    low, high = device.rate_range or (0, 0)
    if asked is not None and own is None and (device.rates or device.rate_range):
        offered = ", ".join([*map(str, device.rates), *([f"{low} to {high}"] if high else [])])
        if asked not in device.rates and not low <= asked <= high:
            what = f"offers {offered} Hz, {asked} Hz were asked for"
            raise _rate_mismatch(device, what, own, asked, "give one of those")
    wanted = asked or own
    if graph_rate is not None and wanted is not None and wanted != graph_rate:
        raise _rate_mismatch(
            device,
            f"would be resampled: PipeWire's graph runs at {graph_rate} Hz, {wanted} Hz is "
            + ("what was asked for" if asked else "the device's rate"),
            graph_rate,
            wanted,
            f"set the graph's rate: pw-metadata -n settings 0 clock.force-rate {wanted}",
        )


def _rate_mismatch(device: DeviceInfo, what: str, own: int | None, asked: int, hint: str) -> RateMismatch:
    return RateMismatch(
        f"{device.description} {what}",
        hint=f"{hint}: nothing is resampled",
        details={"device": own, "requested": asked, "offered": list(device.rates)},
    )


def _costs(device: DeviceInfo, sample_format: str) -> list[str]:
    """What the way through the graph's floats and into `sample_format` can do to the device's own samples."""
    notes = []
    wide = [f for f in device.native_formats if _bits(f) > _BITS[sample_format]]
    if wide and len(wide) == len(device.native_formats):
        notes.append(
            f"the device's samples are {wide[0]}, of which {sample_format} keeps {_BITS[sample_format]} bits"
        )
    if sample_format != "f32" and any(f.startswith("F") for f in device.native_formats):
        notes.append(f"the device's samples are floats: {sample_format} clips what is beyond full scale")
    if device.sample_gain != 1.0:
        notes.append(f"the device's volume multiplies its samples by {device.sample_gain:g}")
    return notes


def _bits(native: str) -> int:
    """How many bits of a sample the format can tell apart; a float's mantissa."""
    digits = "".join(c for c in native.partition("_")[0] if c.isdigit())
    if native.startswith("F"):
        return 24 if digits == "32" else 53
    return int(digits) if digits else 16


def _best_role(matching: list[DeviceInfo]) -> list[DeviceInfo]:
    best = min((_PREFERENCE.index(d.role) for d in matching), default=0)
    return [d for d in matching if d.role == _PREFERENCE[best]]


def _one_per_hardware(matching: list[DeviceInfo]) -> list[DeviceInfo]:
    """Of each hardware its sources, or else its monitors, or else its sinks."""
    best: dict[tuple[str, int], int] = {}
    for device in matching:
        place = _PREFERENCE.index(device.role)
        best[_hardware(device)] = min(place, best.get(_hardware(device), place))
    return [d for d in matching if _PREFERENCE.index(d.role) == best[_hardware(d)]]


def _hardware(device: DeviceInfo) -> tuple[str, int]:
    if device.hardware is not None:
        return "device", device.hardware
    return ("card", device.card) if device.kind == "midi" and device.card is not None else ("node", device.node_id)


def other_kind(name: str, found: DeviceInfo) -> DeviceNotFound:
    """What is raised where MIDI was asked for and `found`, an audio device, is what answers; or the reverse."""
    is_audio = found.kind == "audio"
    is_one, is_not = ("an audio device", "MIDI") if is_audio else ("a MIDI device", "audio")
    called = "" if name == found.description else f" ({found.description})"
    option = "leave out --midi, or in a session use --audio" if is_audio else "use --midi"
    return DeviceNotFound(f"{name!r}{called} is {is_one}, not {is_not}", hint=f"to record it {option}")


def _ambiguous(name: str, candidates: list[DeviceInfo]) -> DeviceAmbiguous:
    fields = ("identity", "identity_basis", "name", "description", "node_id", "object_serial", "direction")
    identities = [d.identity for d in candidates]
    if len(set(identities)) == len(identities):
        texts, hint = identities, "give one of these identities"
    else:
        # Several ports may be of one node, and a program's node id is soon another's.
        by_object = len({d.node_id for d in candidates}) < len(candidates) or any(d.is_program for d in candidates)
        numbers = [f"object:{d.object_serial}" if by_object else f"node:{d.node_id}" for d in candidates]
        texts = [f"{d.identity} ({number})" for d, number in zip(candidates, numbers, strict=True)]
        hint = f"choose one by its {'object' if by_object else 'node'}: {', '.join(numbers)}"
    what = "programs" if candidates[0].is_program else "devices"
    return DeviceAmbiguous(
        f"{len(candidates)} {what} answer to {name!r}: {', '.join(texts)}",
        hint=hint,
        details={"candidates": [{f: getattr(d, f) for f in (*fields, "is_monitor")} for d in candidates]},
    )


_LISTED = "see what there is with: chaosctl devices"
_NONE: dict[DeviceKind | None, str] = {
    None: f"PipeWire lists no devices; {_LISTED} --all",
    "audio": f"PipeWire lists no audio devices; {_LISTED}",
    "midi": f"PipeWire lists no MIDI devices; {_LISTED}",
}


def _not_found(name: str, present: Sequence[DeviceInfo], kind: DeviceKind | None) -> DeviceNotFound:
    devices = [d for d in present if not d.is_program]
    words = {word: d for d in present for word in (d.identity, d.name, d.description)}
    near = get_close_matches(name, words, n=3, cutoff=0.6)
    if not near and not devices:
        return DeviceNotFound(f"there is no device {name!r}", hint=_NONE[kind])
    known = dict.fromkeys(words[word].description for word in near) or [d.description for d in devices[:5]]
    quoted = ", ".join(repr(text) for text in known)
    more = ", ..." if len(devices) > 5 else ""
    hint = f"did you mean {quoted}?" if near else f"there are {quoted}{more}"
    return DeviceNotFound(f"there is no device {name!r}", hint=hint)
