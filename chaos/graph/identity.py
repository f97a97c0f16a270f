"""What a device is called for good: names that survive replugging, rebooting and a new node id. Pure.

A device has a ladder of names, tried in this order; each rung that its properties allow is there, the surest
first:

1. ``serial:<serial>``         its own serial number (or Bluetooth address): the same device at whatever port.
   A udev "serial" that merely repeats vendor and model, or is all the same digit, is none.
2. ``port:<model>@<bus path>`` this model at this port: the best there is for two equal devices without
serials.
3. ``alsa:<card>``             the ALSA card's own id or name, or the PCM's path where no card is told.
4. ``name:<node name>``        the node's name: virtual devices have nothing else.

On rungs 1 to 3 ``/<profile>`` follows where the device says which of its parts the node is
(``/analog-stereo``, ``/pcm0``); last, ``:monitor`` for what a sink plays and ``:output`` for the sink itself.

A MIDI port has the ladder of its card, with ``/midi<ALSA's number of the port>`` behind it; last, and alone where there
is no card, ``name:<alias>``. ALSA's client numbers are in none of them: they are only for now.

A program's sound has one rung, ``program:<application name>/<media name>``: it is a program's own word, so it is shared
with whoever says the same.

A device's identity is its first rung that no other present device shares, so that two devices that claim the
same serial are told apart by their ports as long as both are there. All its rungs find it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Literal, TypeAlias

import msgspec

__all__ = ["Basis", "Identity", "Role", "first", "ladder", "midi_ladder", "program_ladder"]

Basis: TypeAlias = Literal["serial", "port", "path", "name", "program"]
Role: TypeAlias = Literal["input", "monitor", "output"]

_SUFFIX: dict[Role, str] = {"input": "", "monitor": ":monitor", "output": ":output"}
_ALL_DIGITS = "0123456789abcdef"


class Identity(msgspec.Struct, frozen=True):
    """One rung. `basis` says what it rests on: serial, port, path (of the ALSA card), name or program."""

    text: str
    basis: Basis


def ladder(props: Mapping[str, str], role: Role) -> tuple[Identity, ...]:
    """All rungs, at least the last. `props`: the node's, over those of its device object."""
    suffix = _SUFFIX[role]
    named = Identity(f"name:{props.get('node.name', '')}{suffix}", "name")
    return (*_hardware_rungs(props, f"{_part(props)}{suffix}"), named)


def midi_ladder(props: Mapping[str, str], number: int | None, alias: str, role: Role) -> tuple[Identity, ...]:
    """That of a MIDI port. `props`: its node's and its card's; `number`: ALSA's for the port, None for other ports."""
    suffix = _SUFFIX[role]
    part = "/midi" if number is None else f"/midi{number}"
    return (*_hardware_rungs(props, f"{part}{suffix}"), Identity(f"name:{alias}{suffix}", "name"))


def program_ladder(program: str, media: str) -> tuple[Identity, ...]:
    """That of a program's sound. `media` may be empty."""
    return (Identity(f"program:{program}{'/' if media else ''}{media}", "program"),)


def _hardware_rungs(props: Mapping[str, str], part: str) -> list[Identity]:
    rungs: list[Identity] = []
    serial = _serial(props)
    if serial:
        rungs.append(Identity(f"serial:{serial}{part}", "serial"))
    bus_path = props.get("device.bus-path")
    if bus_path:
        rungs.append(Identity(f"port:{_model(props)}@{bus_path}{part}", "port"))
    card = first(props, "alsa.id", "api.alsa.card.name", "alsa.card_name", "api.alsa.path")
    if card:
        rungs.append(Identity(f"alsa:{card}{part}", "path"))
    return rungs


def first(props: Mapping[str, str], *keys: str) -> str:
    """The first of these properties that says anything; empty if none does."""
    return next((props[key] for key in keys if props.get(key)), "")


def _part(props: Mapping[str, str]) -> str:
    profile = props.get("device.profile.name")
    if profile:
        return f"/{profile}"
    pcm = first(props, "api.alsa.pcm.device", "alsa.device")
    return f"/pcm{pcm}" if pcm else ""


def _model(props: Mapping[str, str]) -> str:
    """What sits at the port, so that another model plugged in there is not taken for it."""
    vendor, product = props.get("device.vendor.id"), props.get("device.product.id")
    if vendor and product:
        return f"{vendor}:{product}"
    return first(props, "device.product.name", "api.alsa.card.name", "device.serial", "device.name")


def _serial(props: Mapping[str, str]) -> str:
    """The serial number if it can tell one device from another of the same model, else nothing."""
    address = props.get("api.bluez5.address")
    if address:
        return address
    serial = props.get("device.serial", "")
    rest = _plain(serial)
    maker_and_model = first(props, "api.alsa.card.longname", "alsa.long_card_name").partition(" at ")[0]
    keys = ("device.vendor.name", "device.product.name", "api.alsa.card.name", "alsa.card_name")
    for words in (maker_and_model, *(props.get(key, "") for key in keys)):
        rest = rest.replace(_plain(words), "")
    if len(set(rest)) < 2 or rest in _ALL_DIGITS:
        return ""
    return serial


def _plain(text: str) -> str:
    return re.sub(r"[\W_]+", "", text.lower())
