"""MIDI ports: which are devices, what they are called, what they are known by and how they are found."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from world import World

from chaos.graph.deviceinfo import DeviceInfo, choose
from chaos.graph.devices import DeviceMap
from chaos.graph.followed import Followed
from chaos.graph.midiports import card_of
from chaos.graph.objects import Kind, Port
from chaos.protocol.answers import Device
from chaos.terms.errors import DeviceAmbiguous, DeviceNotFound

MIDI, UMP, CONTROL = "8 bit raw midi", "32 bit raw UMP", "8 bit raw control"
KEYSTATION = {
    "device.serial": "K49-7731",
    "device.bus-path": "pci0000:00/0000:00:14.0/2/2:1.0",
    "device.vendor.id": "0763",
    "device.product.id": "0192",
    "device.product.name": "Keystation 49",
    "alsa.id": "K49",
}
NAMELESS = {key: value for key, value in KEYSTATION.items() if key != "device.serial"}
CARDS = {2: KEYSTATION, 3: NAMELESS}


class Alsa:
    """ALSA's sequencer as PipeWire's bridge shows it, 0.3.65's ports or newer ones."""

    def __init__(self, cards: Mapping[int, Mapping[str, str]] = CARDS, *, is_new: bool = False) -> None:
        self.world = World()
        self.is_new = is_new
        self.cards = cards
        self.asked: list[int] = []
        self.map = DeviceMap(self.card_props)
        self.node = self.world.add(Kind.NODE, {"node.name": "Midi-Bridge", "media.class": "Midi/Bridge"})
        self.world.state(self.node, {"node.name": "Midi-Bridge", "media.class": "Midi/Bridge"}, {}, 0, 0)
        self._n_ports = {"out": 0, "in": 0}

    def card_props(self, number: int) -> Mapping[str, str]:
        self.asked.append(number)
        return self.cards.get(number, {})

    def port(self, client: int, name: str, number: int, port: str, direction: str = "out") -> int:
        way = "capture" if direction == "out" else "playback"
        index = self._n_ports[direction]
        self._n_ports[direction] += 1
        return self.world.port(
            self.node,
            index,
            direction,
            dsp=UMP if self.is_new else MIDI,
            name=f"[{client}:{number}] {name}: ({way})" if self.is_new else f"{name}:({way}_{number}) {port}",
            alias=f"{name}:{port}",
            path=f"alsa:seq:default:client_{client}:{way}_{number}",
        )

    def devices(self) -> list[DeviceInfo]:
        for event in self.world.events:
            self.map.apply(event)
        self.world.events.clear()
        return self.map.devices()


def keyboard(alsa: Alsa, client: int = 24) -> None:
    for number in range(2):
        alsa.port(client, "Keystation 49", number, f"Keystation 49 MIDI {number + 1}")
    alsa.port(client, "Keystation 49", 0, "Keystation 49 MIDI 1", "in")


@pytest.mark.parametrize("is_new", [False, True])
def test_each_port_of_a_bridge_is_a_device_with_its_makers_name(is_new: bool) -> None:
    alsa = Alsa(is_new=is_new)
    keyboard(alsa)
    assert [(d.description, d.direction, d.kind, d.identity, d.card, d.api) for d in alsa.devices()] == [
        ("Keystation 49 MIDI 1", "input", "midi", "serial:K49-7731/midi0", 2, "alsa"),
        ("Keystation 49 MIDI 2", "input", "midi", "serial:K49-7731/midi1", 2, "alsa"),
        ("Keystation 49 MIDI 1", "output", "midi", "serial:K49-7731/midi0:output", 2, "alsa"),
    ]
    assert [len(device.ports) for device in alsa.devices()] == [1, 1, 1]


def test_a_midi_device_is_as_the_protocol_has_it() -> None:
    alsa = Alsa()
    keyboard(alsa)
    for device in alsa.devices():
        wire = msgspec.convert(device.to_wire(), Device)
        assert msgspec.to_builtins(wire.format) == {"type": "midi"}


def test_an_identity_does_not_depend_on_numbers_that_alsa_gives_as_they_come() -> None:
    first, later = Alsa(), Alsa({5: KEYSTATION}, is_new=True)
    keyboard(first, client=24)
    later.port(14, "Midi Through", 0, "Midi Through Port-0")
    keyboard(later, client=16 + 4 * 5)
    names = [[rung.text for rung in device.rungs] for device in first.devices()]
    others = [d for d in later.devices() if d.card == 5]
    assert [[rung.text for rung in device.rungs] for device in others] == names


def test_without_a_serial_number_the_place_counts_and_without_a_card_the_alias() -> None:
    alsa = Alsa()
    alsa.port(28, "Keystation 49", 0, "Keystation 49 MIDI 1")
    alsa.port(14, "Midi Through", 0, "Midi Through Port-0")
    alsa.port(129, "FLUID Synth (812)", 0, "Synth input port (812:0)", "in")
    assert [(d.description, d.identity, d.card) for d in alsa.devices()] == [
        ("Keystation 49 MIDI 1", "port:0763:0192@pci0000:00/0000:00:14.0/2/2:1.0/midi0", 3),
        ("Midi Through Port-0", "name:Midi Through:Midi Through Port-0", None),
        (
            "FLUID Synth (812): Synth input port (812:0)",
            "name:FLUID Synth (812):Synth input port (812:0):output",
            None,
        ),
    ]


def test_two_that_nothing_tells_apart_are_ambiguous_and_chosen_by_their_objects() -> None:
    alsa = Alsa(cards={})
    for client in (24, 28):
        alsa.port(client, "Keys", 0, "Keys MIDI 1")
    first, second = alsa.devices()
    with pytest.raises(DeviceAmbiguous) as caught:
        alsa.map.find("Keys")
    assert f"object:{first.object_serial}" in caught.value.hint
    assert alsa.map.find(f"object:{second.object_serial}") == second


def test_a_part_of_the_name_finds_the_instrument_to_record_and_its_two_ports_are_two() -> None:
    alsa = Alsa()
    alsa.port(24, "Keystation 49", 0, "Keystation 49 MIDI 1")
    alsa.port(24, "Keystation 49", 0, "Keystation 49 MIDI 1", "in")
    alsa.devices()
    assert alsa.map.find("keystation").direction == "input"
    alsa.port(24, "Keystation 49", 1, "Keystation 49 MIDI 2")
    alsa.devices()
    with pytest.raises(DeviceAmbiguous):
        alsa.map.find("keystation")
    assert alsa.map.find("Keystation 49 MIDI 2").identity == "serial:K49-7731/midi1"


def test_where_audio_and_midi_have_a_name_in_common_audio_is_meant_unless_midi_is_asked_for() -> None:
    alsa = Alsa()
    mic = alsa.world.node("scarlett", description="Scarlett 18i20 USB")
    alsa.port(24, "Scarlett 18i20 USB", 0, "Scarlett 18i20 USB MIDI 1")
    alsa.devices()
    assert alsa.map.find("Scarlett").node_id == mic
    assert alsa.map.find("Scarlett", kind="midi").description == "Scarlett 18i20 USB MIDI 1"
    alsa.port(28, "Keystation 49", 0, "Keystation 49 MIDI 1")
    alsa.world.node("webcam", description="Webcam Pro")
    alsa.devices()
    for name, kind, what, hint in (
        ("webcam", "midi", "'webcam' (Webcam Pro) is an audio device, not MIDI", "--audio"),
        ("Keystation 49 MIDI 1", "audio", "'Keystation 49 MIDI 1' is a MIDI device, not audio", "use --midi"),
    ):
        with pytest.raises(DeviceNotFound) as raised:
            alsa.map.find(name, kind=kind)
        assert raised.value.message == what
        assert hint in raised.value.hint
    with pytest.raises(DeviceNotFound, match="there is no device"):
        alsa.map.find("Moog", kind="midi")
    waiting = Followed("Scarlett", kind="midi").locate(alsa.map.devices())
    assert waiting.device is not None
    assert waiting.device.kind == "midi"


def test_a_keyboard_that_is_plugged_in_again_is_the_same_one() -> None:
    alsa = Alsa(cards=dict(CARDS))
    port = alsa.port(24, "Keystation 49", 0, "Keystation 49 MIDI 1")
    [before] = alsa.devices()
    followed = Followed(before.identity, before)
    alsa.world.remove(port)
    assert alsa.devices() == []
    assert followed.locate(alsa.map.devices()).device is None
    other = alsa.port(28, "Keystation 49", 0, "Keystation 49 MIDI 1")
    alsa.cards = {3: {**KEYSTATION, "device.serial": "K49-0001"}}
    alsa.devices()
    assert followed.locate(alsa.map.devices()).device is None, "another of its model"
    alsa.world.remove(other)
    alsa.cards = {2: KEYSTATION}
    alsa.port(24, "Keystation 49", 0, "Keystation 49 MIDI 1")
    [again] = alsa.devices()
    assert followed.locate([again]).device == again
    assert again.object_serial != before.object_serial


def test_a_card_is_looked_at_once_a_port() -> None:
    alsa = Alsa()
    for number in range(50):
        alsa.port(24, "Matrix", number, f"Matrix MIDI {number + 1}")
        alsa.devices()
    assert alsa.asked == [2] * 50


def test_a_bluetooth_keyboard_is_known_by_its_address() -> None:
    world = World()
    props = {"node.name": "bluez_midi.C1", "media.class": "Midi/Bridge", "node.description": "Nano Key"}
    node = world.add(Kind.NODE, props)
    world.port(node, 0, "in", dsp=MIDI, name="in", alias="in")
    world.port(node, 0, "out", dsp=MIDI, name="out", alias="out")
    devices = DeviceMap()
    for event in world.events:
        assert devices.apply(event) == [], "its address is not known yet"
    seen = len(world.events)
    world.state(node, {**props, "api.bluez5.address": "C1:02", "device.api": "bluez5"}, {}, 1, 1)
    for event in world.events[seen:]:
        devices.apply(event)
    assert [(d.description, d.identity, d.api) for d in devices.devices()] == [
        ("Nano Key", "serial:C1:02/midi", "bluez5"),
        ("Nano Key", "serial:C1:02/midi:output", "bluez5"),
    ]


@pytest.mark.parametrize("dsp", [MIDI, UMP, CONTROL])
def test_what_a_program_sends_can_be_recorded(dsp: str) -> None:
    world = World()
    node = world.add(Kind.NODE, {"node.name": "seq", "node.description": "Sequencer"})
    world.port(node, 0, "out", dsp=dsp, name="midi_out", alias="Sequencer:midi_out")
    world.port(node, 0, "in", dsp=dsp, name="midi_in", alias="Sequencer:midi_in")
    world.port(node, 1, "out", dsp=dsp, name="control")
    devices = DeviceMap()
    for event in world.events:
        devices.apply(event)
    [found] = devices.devices()
    assert (found.description, found.identity) == ("Sequencer midi_out", "name:Sequencer:midi_out")


def test_a_node_may_have_audio_and_midi() -> None:
    world = World()
    node = world.node("stage", description="Stage piano")
    world.port(node, 2, "out", dsp=MIDI, name="keys", alias="Stage piano:keys")
    devices = DeviceMap()
    for event in world.events:
        devices.apply(event)
    audio, midi = devices.devices()
    assert (audio.kind, audio.channels, midi.kind, midi.description) == ("audio", 2, "midi", "Stage piano keys")
    assert choose("Stage piano", [audio, midi]) == audio


@pytest.mark.parametrize(
    ("path", "card"),
    [
        ("alsa:seq:default:client_16:capture_0", 0),
        ("alsa:seq:default:client_19:playback_1", 0),
        ("alsa:seq:default:client_127:capture_15", 27),
        ("alsa:seq:default:client_14:capture_0", None),
        ("alsa:seq:default:client_128:capture_0", None),
        ("alsa:seq:default:client_99999:capture_0", None),
        ("", None),
    ],
)
def test_the_kernel_numbers_clients_by_cards(path: str, card: int | None) -> None:
    assert card_of(_port(path=path)) == card


texts = st.text(max_size=20) | st.sampled_from(["Keys:Keys 1", ":", "a:", "alsa:seq:x:client_24:capture_0"])


@given(texts, texts, texts, st.sampled_from(["out", "in"]))
def test_whatever_a_port_says_it_is_described_or_left_out(name: str, alias: str, path: str, direction: str) -> None:
    alsa = Alsa()
    alsa.world.port(alsa.node, 0, direction, dsp=MIDI, name=name, alias=alias, path=path)
    for device in alsa.devices():
        assert device.rungs[-1].basis == "name"
        assert msgspec.json.encode(device.to_wire())


def _port(**fields: Any) -> Port:
    port = Port(0, 1, 1, 1, "output", "UNK", False, "", "", MIDI)
    return msgspec.structs.replace(port, **fields)
