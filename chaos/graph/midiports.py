"""A port that carries MIDI as a device. Pure.

One node may be a bridge to many instruments, so each of its ports is a device of its own: those of a node of the class
"Midi/..." (ALSA's sequencer, Bluetooth LE) either way, and whatever a program's node sends. What a program takes in is
not listed: other programs' inputs are nobody's instrument.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from chaos.graph.deviceinfo import DeviceInfo
from chaos.graph.identity import Role, first, midi_ladder
from chaos.graph.objects import Port

__all__ = ["card_of", "describe_midi", "is_midi"]

_KINDS = ("8 bit raw midi", "32 bit raw UMP", "8 bit raw control")
_CONTROLS = ("control", "notify")  # what turns a node's own knobs
_ALSA = re.compile(r"alsa:seq:.*client_(\d{1,4}):(?:capture|playback)_(\d{1,4})")
# The kernel numbers its clients so: those of card N begin with 16 + 4 N, programs' with 128.
_FIRST_CARD, _PER_CARD, _FIRST_PROGRAM = 16, 4, 128


def is_midi(port: Port, media_class: str) -> bool:
    """Is it a device of its own?"""
    if port.dsp not in _KINDS or port.monitor or port.name in _CONTROLS:
        return False
    return media_class.startswith("Midi/") or port.direction == "output"


def card_of(port: Port) -> int | None:
    """The number of the ALSA card behind a port of the sequencer's bridge; None for any other port."""
    place = _ALSA.fullmatch(port.path)
    client = int(place[1]) if place else 0
    return (client - _FIRST_CARD) // _PER_CARD if _FIRST_CARD <= client < _FIRST_PROGRAM else None


def describe_midi(
    port: Port, node: Mapping[str, str], card: Mapping[str, str], *, is_alone: bool, hardware: int | None
) -> DeviceInfo:
    """`node` and `card` are the properties of the port's node and of the card behind it; `is_alone`: no other port of
    the node goes that way."""
    role: Role = "input" if port.direction == "output" else "output"
    place = _ALSA.fullmatch(port.path)
    name = f"{node.get('node.name', '')}:{port.name}"
    alias = f"{first(node, 'node.description', 'node.name')}:{port.alias}" if ":" not in port.alias else port.alias
    rungs = midi_ladder({**node, **card}, int(place[2]) if place else None, alias or name, role)
    return DeviceInfo(
        identity=rungs[0].text,
        identity_basis=rungs[0].basis,
        rungs=rungs,
        name=name,
        description=_from_alias(port.alias) if place else _of_node(port, node, is_alone=is_alone),
        node_id=port.node_id,
        object_serial=port.serial,
        role=role,
        kind="midi",
        api="alsa" if place else node.get("device.api"),
        hardware=hardware,
        card=card_of(port),
        ports=(port,),
    )


def _from_alias(alias: str) -> str:
    """ALSA's "client:port", where most ports begin with the client's name already."""
    colons = [at for at, letter in enumerate(alias) if letter == ":"]
    for at in colons:
        client, port = alias[:at], alias[at + 1 :]
        if port.startswith(client):
            return port
    client, _, port = alias.partition(":")
    return f"{client}: {port}" if client and port else alias


def _of_node(port: Port, node: Mapping[str, str], *, is_alone: bool) -> str:
    description = first(node, "node.description", "node.nick", "node.name")
    if is_alone and node.get("media.class", "").startswith("Midi/") and description:
        return description
    return f"{description} {port.name}".strip()
