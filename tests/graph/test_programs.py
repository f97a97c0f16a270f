"""What programs play: how it is listed and found, and that devices are found as if no program were there."""

from __future__ import annotations

import pytest
from world import DSP, FORMAT, World, audio_format, map_of, names

from chaos.graph.channels import choose_channels, find_ports
from chaos.graph.deviceinfo import check_format
from chaos.graph.devices import DeviceMap
from chaos.graph.followed import Followed
from chaos.graph.objects import Kind
from chaos.protocol.requests import AudioFormat
from chaos.terms.errors import DeviceAmbiguous, DeviceNotFound, RateMismatch

PLAYS = "Stream/Output/Audio"


def play(world: World, program: str = "Player", title: str = "Song", *, channels: int = 2, rate: int = 48000) -> int:
    props = {"application.name": program, "media.name": title}
    params = {FORMAT: (audio_format(rate, channels),)}
    return world.node(program.lower(), PLAYS, channels=channels, props=props, params=params)


def jack_client(world: World, name: str, *dsp: str, application: str = "") -> int:
    """A node without a media class and without a configuration of its ports, as a JACK client's is."""
    props = {"node.name": name, "client.api": "jack", **({"application.name": application} if application else {})}
    node = world.add(Kind.NODE, props)
    for index, what in enumerate(dsp):
        world.port(node, index, "out", dsp=what, channel="UNK")
    world.port(node, 0, "in", channel="UNK")
    world.state(node, props, {}, 1, len(dsp))
    return node


def settled(world: World, node: int) -> DeviceMap:
    devices = map_of(world)
    devices.settle(node)
    return devices


def test_a_programs_sound_is_listed_only_for_who_asks() -> None:
    world = World()
    world.session_manager()
    world.node("mic")
    node = play(world)
    devices = map_of(world)
    assert names(devices.devices()) == ["name:mic"]
    assert names(devices.devices(programs=True)) == ["name:mic", "program:Player/Song"]
    program = devices.devices(programs=True)[1]
    assert (program.identity_basis, program.description, program.node_id) == ("program", "Player: Song", node)
    assert (program.direction, program.is_default, program.channels, program.sample_rate) == ("input", False, 2, 48000)
    assert [port.node_id for port in program.ports] == [node, node]
    world.remove(node)
    assert names(map_of(world).devices(programs=True)) == ["name:mic"]


def test_a_jack_clients_audio_ports_are_its_channels() -> None:
    world = World()
    node = jack_client(world, "synth", DSP, DSP, "8 bit raw midi", "32 bit float RGBA video", application="Synth")
    devices = settled(world, node)
    [program] = devices.devices(kind="audio", programs=True)
    assert (program.identity, program.description) == ("program:Synth/synth", "Synth: synth")
    assert (program.name, program.channels, program.positions) == ("synth", 2, ("UNK", "UNK"))
    assert find_ports(choose_channels(program, ["2"]), program.ports) == (program.ports[1],)
    [midi] = devices.devices(kind="midi")
    assert not midi.is_program


def test_what_sends_no_audio_is_no_program() -> None:
    world = World()
    quiet = jack_client(world, "meter")
    world.node("recorder", "Stream/Input/Audio")
    video = jack_client(world, "screen", "32 bit float RGBA video")
    tap = jack_client(world, "tap")
    world.port(tap, 1, "out", monitor=True)
    devices = map_of(world)
    for node in (quiet, video, tap):
        devices.settle(node)
    assert devices.devices(programs=True) == []
    assert devices.unsettled == {}


@pytest.mark.parametrize(
    ("program", "title", "description", "identity"),
    [
        ("Player", "Song", "Player: Song", "program:Player/Song"),
        ("Player", "Player", "Player", "program:Player"),
        ("Player", "", "Player: player", "program:Player/player"),
    ],
)
def test_it_is_called_by_its_program_and_its_title(program: str, title: str, description: str, identity: str) -> None:
    world = World()
    play(world, program, title)
    [found] = map_of(world).devices(programs=True)
    assert (found.description, found.identity) == (description, identity)


@pytest.mark.parametrize("name", ["program:Player/Song", "Player: Song", "player"])
def test_its_whole_names_find_it(name: str) -> None:
    world = World()
    node = play(world)
    devices = map_of(world)
    assert devices.find(name).node_id == node
    assert devices.find(f"object:{world.serial(node)}", "input", "audio").node_id == node


def test_a_part_of_a_title_finds_nothing_and_the_hint_names_it() -> None:
    world = World()
    play(world, title="USB Mic")
    devices = map_of(world)
    for part in ("USB Mic", "Player: USB"):
        with pytest.raises(DeviceNotFound):
            devices.find(part)
    with pytest.raises(DeviceNotFound) as caught:
        devices.find("Player: USB Mix")
    assert "did you mean 'Player: USB Mic'?" in caught.value.hint
    with pytest.raises(DeviceNotFound) as caught:
        devices.find("speakers")
    assert caught.value.hint == "PipeWire lists no devices; see what there is with: chaosctl devices --all"
    assert Followed("USB Mic").locate(devices.devices(programs=True)).device is None


@pytest.mark.parametrize("name", ["mic", "Desk mic", "desk", "name:mic"])
def test_a_program_never_stands_in_the_way_of_a_device(name: str) -> None:
    world = World()
    mic = world.node("mic", description="Desk mic")
    for program in ("mic", "Desk mic", "desk", "name:mic"):
        play(world, program, program)
    assert map_of(world).find(name).node_id == mic


def test_two_of_one_program_with_one_title_are_told_apart_by_their_objects() -> None:
    world = World()
    first, second = play(world), play(world)
    devices = map_of(world)
    with pytest.raises(DeviceAmbiguous) as caught:
        devices.find("program:Player/Song")
    serials = [f"object:{world.serial(node)}" for node in (first, second)]
    assert "2 programs answer to 'program:Player/Song'" in caught.value.message
    assert caught.value.hint == f"choose one by its object: {serials[0]}, {serials[1]}"
    assert [devices.find(serial).node_id for serial in serials] == [first, second]


def test_its_rate_is_held_to_as_a_devices_is() -> None:
    world = World()
    play(world, rate=44100)
    program = map_of(world).find("player")
    with pytest.raises(RateMismatch, match="would be resampled"):
        check_format(program, AudioFormat(), 48000)
    assert check_format(program, AudioFormat(), 44100) == []


def test_a_program_that_ends_is_away_until_it_plays_the_same_again() -> None:
    world = World()
    node = play(world)
    device = map_of(world).find("player")
    followed = Followed(device.identity, device)

    def located() -> tuple[int | None, str]:
        found = followed.locate(map_of(world).devices(programs=True))
        return found.device and found.device.node_id, found.reason

    assert located() == (node, "")
    world.remove(node)
    assert located() == (None, "program:Player/Song is away")
    other = play(world, title="Another")
    assert located() == (None, "program:Player/Song is away")
    again = play(world)
    assert located() == (again, "")
    assert again != other


def test_a_new_title_is_still_the_same_node_and_no_name_to_come_back_by() -> None:
    world = World()
    node = play(world)
    device = map_of(world).find("player")
    followed = Followed(device.identity, device)
    props = {"node.name": "player", "media.class": PLAYS, "application.name": "Player", "media.name": "Next"}
    world.state(node, props, {FORMAT: (audio_format(),)}, 0, 2)
    devices = map_of(world)
    devices.settle(node)
    found = followed.locate(devices.devices(programs=True)).device
    assert found is not None
    assert (found.node_id, found.identity) == (node, "program:Player/Next")
    world.remove(node)
    play(world, title="Next")
    assert followed.locate(map_of(world).devices(programs=True)).device is None
    again = play(world)
    assert followed.locate(map_of(world).devices(programs=True)).device == map_of(world).find(f"node:{again}")
