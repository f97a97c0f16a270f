"""Devices: what becomes one, what it is called, how it is found and what is refused."""

from __future__ import annotations

import itertools

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from world import (
    ENUM_FORMAT,
    FORMAT,
    PORT_CONFIG,
    PROPS,
    World,
    audio_format,
    map_of,
    names,
    port_config,
    rate_range,
    volumes,
)

from chaos.client import default_of
from chaos.graph.deviceinfo import DeviceInfo, check_format
from chaos.graph.devices import Change, DeviceMap
from chaos.graph.followed import Followed
from chaos.graph.objects import Kind, RegistryEvent
from chaos.graph.pod import Choice, Object
from chaos.protocol.answers import Device
from chaos.protocol.requests import AudioFormat
from chaos.terms.errors import DeviceAmbiguous

SCARLETT = {
    "device.serial": "Focusrite_Scarlett_2i2_USB_Y8QKX",
    "device.bus-path": "pci-0000:00:14.0-usb-0:1:1.0",
    "device.bus": "usb",
    "device.vendor.name": "Focusrite-Novation",
    "device.product.name": "Scarlett 2i2 USB",
}
NAMELESS = {
    "device.serial": "C-Media_Electronics_Inc._USB_Audio_Device",
    "device.bus": "usb",
    "device.vendor.id": "0x0d8c",
    "device.product.id": "0x0014",
    "api.alsa.card.longname": "C-Media Electronics Inc. USB Audio Device at usb-0000:00:14.0-2, full speed",
}


def changes_of(devices: DeviceMap, events: list[RegistryEvent]) -> list[tuple[str, str]]:
    return [(change.kind, change.device.identity) for event in events for change in devices.apply(event)]


# -- what becomes a device


def test_a_source_is_told_of_once_and_whole() -> None:
    world = World()
    world.session_manager()
    node = world.node("mic", description="Desk microphone", params={ENUM_FORMAT: (audio_format(44100),)})
    devices = DeviceMap()
    changes = [change for event in world.events for change in devices.apply(event)]
    assert [change.kind for change in changes] == ["added"]
    mic = changes[0].device
    assert (mic.identity, mic.identity_basis, mic.name) == ("name:mic", "name", "mic")
    assert (mic.description, mic.node_id, mic.direction) == ("Desk microphone", node, "input")
    assert (mic.sample_rate, mic.channels, mic.positions) == (44100, 2, ("FL", "FR"))
    assert mic.native_formats == ("F32P",)
    assert [port.index for port in mic.ports] == [0, 1]
    assert mic.object_serial == world.serial(node)


def test_a_device_is_silent_until_its_ports_and_its_card_are_known() -> None:
    world = World()
    world.session_manager()
    card = world.add(Kind.DEVICE, {})
    node = world.node("mic", props={"device.id": str(card)})
    devices = map_of(world)
    seen = len(world.events)
    world.port(node, 2, "out")
    world.state(node, {"device.id": str(card)}, {PORT_CONFIG: (port_config(3),)}, 0, 3)
    assert changes_of(devices, world.events[seen:]) == []
    seen = len(world.events)
    world.tell_device(card, {"device.bus-path": "usb-1"})
    assert changes_of(devices, world.events[seen:]) == [("added", "port:@usb-1")]
    assert devices.unsettled == {}


def test_ports_that_come_and_go_are_taken_once_the_node_is_quiet() -> None:
    """No event of the node tells of them, and its own number of ports stays what it was."""
    world = World()
    world.session_manager()
    node = world.node("mic")
    devices = map_of(world)
    seen = len(world.events)
    third = world.port(node, 2, "out")
    assert changes_of(devices, world.events[seen:]) == []
    assert devices.find("mic").channels == 2
    assert third in devices.unsettled[node]
    assert [change.device.channels for change in devices.settle(node)] == [3]
    assert devices.unsettled == {}
    seen = len(world.events)
    world.remove(third)
    assert changes_of(devices, world.events[seen:]) == [("changed", "name:mic")]
    assert devices.find("mic").channels == 2
    seen = len(world.events)
    world.remove(devices.find("mic").ports[0].id)
    assert changes_of(devices, world.events[seen:]) == []
    devices.settle(node)
    assert devices.find("mic").positions == ("FR",)
    assert devices.settle(node) == []


def test_a_node_that_tells_no_number_of_ports_is_listed_once_it_is_quiet() -> None:
    world = World()
    world.session_manager()
    node = world.node("mic", channels=0)
    devices = map_of(world)
    seen = len(world.events)
    for index in range(3):
        world.port(node, index, "out")
    assert changes_of(devices, world.events[seen:]) == []
    [change] = devices.settle(node)
    assert (change.kind, change.device.channels) == ("added", 3)


def test_a_nodes_own_count_of_ports_is_not_trusted() -> None:
    """It is what there was when somebody looked, and ports may come one by one."""
    world = World()
    world.session_manager()
    node = world.node("mic", channels=0)
    world.port(node, 0, "out")
    world.state(node, {"node.name": "mic", "media.class": "Audio/Source"}, {}, 0, 1)
    devices = map_of(world)
    assert devices.devices() == []
    seen = len(world.events)
    world.port(node, 1, "out")
    assert changes_of(devices, world.events[seen:]) == []
    assert [change.device.channels for change in devices.settle(node)] == [2]


def test_a_node_that_goes_is_told_of_once() -> None:
    world = World()
    world.session_manager()
    node = world.node("mic", channels=4)
    devices = map_of(world)
    seen = len(world.events)
    world.remove(node)
    assert changes_of(devices, world.events[seen:]) == [("removed", "name:mic")]
    assert devices.unsettled == {}


def test_a_port_configuration_says_how_many_ports_to_wait_for() -> None:
    world = World()
    node = world.node("mic", channels=1, params={PORT_CONFIG: (port_config(2),), ENUM_FORMAT: (audio_format(),)})
    devices = map_of(world)
    assert devices.devices() == []
    seen = len(world.events)
    world.port(node, 1, "out")
    assert changes_of(devices, world.events[seen:]) == [("added", "name:mic")]


def test_without_a_session_manager_an_unconfigured_node_is_told_of_without_ports() -> None:
    world = World()
    manager = world.session_manager()
    world.node("mic", channels=0, params={ENUM_FORMAT: (audio_format(channels=2),)})
    devices = map_of(world)
    assert devices.has_session_manager
    assert devices.devices() == []
    seen = len(world.events)
    world.remove(manager)
    assert changes_of(devices, world.events[seen:]) == [("added", "name:mic")]
    assert not devices.has_session_manager
    [mic] = devices.devices()
    assert (mic.channels, mic.positions, mic.ports) == (2, ("FL", "FR"), ())


def test_a_sink_is_an_output_and_its_monitor_an_input() -> None:
    world = World()
    node = world.node("speakers", "Audio/Sink", monitor=True, description="Speakers")
    monitor, sink = map_of(world).devices()
    assert (monitor.identity, sink.identity) == ("name:speakers:monitor", "name:speakers:output")
    assert (monitor.direction, monitor.is_monitor) == ("input", True)
    assert (sink.direction, sink.is_monitor) == ("output", False)
    assert (monitor.description, sink.description) == ("Monitor of Speakers", "Speakers")
    assert monitor.name == sink.name == "speakers"
    assert {port.direction for port in monitor.ports} == {"output"}
    assert {port.direction for port in sink.ports} == {"input"}
    assert monitor.node_id == sink.node_id == node


def test_a_sink_without_monitor_ports_has_no_monitor() -> None:
    world = World()
    world.node("speakers", "Audio/Sink")
    assert names(map_of(world).devices()) == ["name:speakers:output"]


def test_a_duplex_node_is_two_devices() -> None:
    world = World()
    world.node("headset", "Audio/Duplex")
    assert names(map_of(world).devices()) == ["name:headset", "name:headset:output"]


def test_a_virtual_duplex_node_is_captured_from_its_monitor_ports() -> None:
    world = World()
    world.node("both-ways", "Audio/Duplex", monitor=True)
    source, sink = map_of(world).devices()
    assert (source.identity, sink.identity) == ("name:both-ways", "name:both-ways:output")
    assert [port.direction for port in source.ports] == ["output", "output"]
    assert [port.direction for port in sink.ports] == ["input", "input"]


@pytest.mark.parametrize("is_virtual", [False, True])
def test_a_duplex_node_that_is_the_default_is_one_that_start_takes(is_virtual: bool) -> None:
    world = World()
    world.node("both-ways", "Audio/Duplex", monitor=is_virtual)
    world.entry(world.metadata(), "default.audio.source", '{"name":"both-ways"}')
    devices = map_of(world)
    listed = [{"is_default": each.is_default, "is_monitor": each.is_monitor, "identity": each.identity}
              for each in devices.devices("input")]  # fmt: skip
    assert default_of({"devices": listed})["identity"] == "name:both-ways"
    device = devices.find("name:both-ways", "input")
    assert (device.direction, device.channels, check_format(device, AudioFormat())) == ("input", 2, [])


def test_a_real_duplex_nodes_monitors_are_left_out() -> None:
    world = World()
    node = world.node("headset", "Audio/Duplex")
    world.port(node, 2, "out", monitor=True, channel="FL")
    source = map_of(world).find("headset", "input")
    assert [port.monitor for port in source.ports] == [False, False]


def test_whose_clock_drives_a_device_that_has_its_own() -> None:
    world = World()
    mic = world.node("mic", props={"node.driver": "true"})
    other = world.node("other", props={"node.driver": "true"})
    null = world.node("null", props={"node.driver": "true", "factory.name": "support.null-audio-sink"})
    devices = map_of(world)
    device = devices.find("mic")
    assert device.has_own_clock
    assert devices.leader_of(device, mic) is None
    assert devices.leader_of(device, other) == "other"
    assert devices.leader_of(device, 4321) == "node 4321"
    virtual = devices.find("null")
    assert not virtual.has_own_clock
    assert devices.leader_of(virtual, other) is None
    assert null == virtual.node_id


def test_a_virtual_source_is_captured_from_its_monitor_ports() -> None:
    world = World()
    world.node("virtual", "Audio/Source/Virtual", monitor=True)
    [virtual] = map_of(world).devices()
    assert not virtual.is_monitor
    assert len(virtual.ports) == 2


def test_a_control_port_is_no_channel() -> None:
    world = World()
    node = world.node("mic")
    world.port(node, 2, "out", dsp="8 bit raw midi", name="control")
    world.state(node, {}, {}, 0, 3)
    [mic] = map_of(world).devices()
    assert mic.channels == 2


def test_streams_and_internal_nodes_are_no_devices() -> None:
    world = World()
    for media_class in ("Stream/Output/Audio", "Audio/Source/Internal", "Video/Source", ""):
        world.node("other", media_class)
    assert map_of(world).devices() == []


def test_the_default_follows_the_metadata() -> None:
    world = World()
    world.node("a")
    world.node("b")
    world.node("s", "Audio/Sink", monitor=True)
    metadata = world.metadata()
    world.entry(metadata, "default.audio.source", '{"name":"a"}')
    world.entry(metadata, "default.audio.sink", '{"name":"s"}')
    devices = map_of(world)
    defaults = [device.identity for device in devices.devices() if device.is_default]
    assert defaults == ["name:a", "name:s:output"]
    seen = len(world.events)
    world.entry(metadata, "default.audio.source", '{"name":"b"}')
    assert sorted(changes_of(devices, world.events[seen:])) == [("changed", "name:a"), ("changed", "name:b")]
    world.entry(metadata, "default.audio.source", '{"name":"s"}')
    assert [device.identity for device in map_of(world).devices("input") if device.is_default] == ["name:s:monitor"]
    world.entry(metadata, None, None)
    world.entry(metadata, "default.audio.source", "not JSON")
    assert not any(device.is_default for device in map_of(world).devices("input"))


def test_the_graphs_rate_is_the_settings() -> None:
    world = World()
    settings = world.metadata("settings")
    assert map_of(world).graph_rate is None
    world.entry(settings, "clock.rate", "48000")
    world.entry(settings, "clock.force-rate", "0")
    assert map_of(world).graph_rate == 48000
    world.entry(settings, "clock.allowed-rates", "[ 48000 ]")
    assert map_of(world).graph_rate == 48000
    world.entry(settings, "clock.allowed-rates", "[ 44100 48000 ]")
    assert map_of(world).graph_rate is None
    world.entry(settings, "clock.force-rate", "96000")
    assert map_of(world).graph_rate == 96000


def test_other_nodes_and_their_ports_are_told_too() -> None:
    world = World()
    mic = world.node("mic")
    ours = world.node("ours", "Stream/Input/Audio")
    ends = {"link.output.node": mic, "link.output.port": 5, "link.input.node": ours, "link.input.port": 7}
    link = world.add(Kind.LINK, {key: str(value) for key, value in ends.items()})
    devices = map_of(world)
    assert [port.channel for port in devices.ports(ours, "output")] == ["FL", "FR"]
    assert devices.ports(mic, "input") == []
    assert devices.node_props(ours)["node.name"] == "ours"
    assert devices.node_props(link) == {}


# -- formats and volumes


@pytest.mark.parametrize(
    ("offered", "running", "rate", "rates", "span"),
    [
        ([44100], None, 44100, (44100,), None),
        ([rate_range(1, 192000)], None, None, (), (1, 192000)),
        ([rate_range(1, 192000)], 96000, 96000, (), (1, 192000)),
        ([Choice(3, (48000, 44100, 48000))], None, None, (44100, 48000), None),
        ([Choice(3, (48000, 44100, 48000))], 44100, 44100, (44100, 48000), None),
        ([48000, 48000], None, 48000, (48000,), None),
        ([44100, 48000], None, None, (44100, 48000), None),
        ([None], None, None, (), None),
        ([], None, None, (), None),
    ],
)
def test_the_rate_is_told_only_where_there_is_one(
    offered: list[object],
    running: int | None,
    rate: int | None,
    rates: tuple[int, ...],
    span: tuple[int, int] | None,
) -> None:
    world = World()
    params = {ENUM_FORMAT: tuple(audio_format(value) for value in offered)}
    if running:
        params[FORMAT] = (audio_format(running),)
    world.node("mic", params=params)
    [mic] = map_of(world).devices()
    assert (mic.sample_rate, mic.rates, mic.rate_range) == (rate, rates, span)


@pytest.mark.parametrize(
    ("told", "props", "monitor", "volume", "gain", "muted"),
    [
        (None, {}, False, None, 1.0, False),
        (volumes(), {}, False, 1.0, 1.0, False),
        (volumes((0.5, 1.0)), {}, False, 0.5, 0.5, False),
        (volumes((0.5, 3.0), volume=0.5), {}, False, 1.5, 1.5, False),
        (volumes(mute=True), {}, False, 1.0, 0.0, True),
        (volumes((0.5, 0.5)), {}, True, 0.5, 1.0, False),
        (volumes((0.5, 0.5), monitor=(0.25, 0.25)), {}, True, 0.5, 0.25, False),
        (volumes((0.5, 0.5), extra=("monitor.channel-volumes", True)), {}, True, 0.5, 0.5, False),
        (volumes((0.5, 0.5), soft=(1.0, 1.0)), {"card.profile.device": "0"}, False, 0.5, 1.0, False),
        (volumes((0.5, 0.5), soft=(0.75, 0.75)), {"card.profile.device": "0"}, False, 0.5, 0.75, False),
    ],
)
def test_volume_is_what_was_set_and_gain_what_samples_meet(
    told: Object | None, props: dict[str, str], monitor: bool, volume: float | None, gain: float, muted: bool
) -> None:
    world = World()
    params = {ENUM_FORMAT: (audio_format(),), PROPS: () if told is None else (told,)}
    world.node("mic", "Audio/Source/Virtual", monitor=monitor, params=params, props=props)
    [mic] = map_of(world).devices()
    assert (mic.volume, mic.sample_gain, mic.muted) == (volume, gain, muted)


def test_the_wire_has_all_that_the_protocol_names() -> None:
    world = World()
    alsa = {"api.alsa.pcm.card": "2", "api.alsa.pcm.device": "0", "device.api": "alsa"}
    world.node("mic", props=SCARLETT | alsa)
    wire = map_of(world).devices()[0].to_wire()
    told = msgspec.convert(wire, Device)
    assert set(Device.__struct_fields__) <= set(wire)
    assert (told.identity, told.is_default, told.volume, told.api) == (wire["identity"], False, None, "alsa")
    assert (wire["card"], wire["pcm_device"]) == (2, 0)
    assert msgspec.json.decode(msgspec.json.encode(wire)) == wire


# -- identity


def test_identity_prefers_the_serial_and_survives_port_and_node_id() -> None:
    world = World()
    world.session_manager()
    first = world.node("alsa_input.usb-a", props=SCARLETT | {"device.profile.name": "analog-stereo"})
    devices = map_of(world)
    [before] = devices.devices()
    assert before.identity == "serial:Focusrite_Scarlett_2i2_USB_Y8QKX/analog-stereo"
    assert before.identity_basis == "serial"
    seen = len(world.events)
    world.remove(first)
    world.node("filler", "Stream/Input/Audio")
    elsewhere = SCARLETT | {"device.bus-path": "pci-0000:00:14.0-usb-0:9:1.0"}
    again = world.node("alsa_input.usb-a.2", props=elsewhere | {"device.profile.name": "analog-stereo"})
    changes = changes_of(devices, world.events[seen:])
    assert changes == [("removed", before.identity), ("added", before.identity)]
    after = Followed(before.identity, before, accepts_port_change=True).locate(devices.devices()).device
    assert after is not None
    assert (after.identity, after.node_id) == (before.identity, again)
    assert again != first


def test_equal_devices_without_serials_are_told_apart_by_their_ports() -> None:
    world = World()
    for port in ("usb-0:1", "usb-0:2"):
        card = world.device(NAMELESS | {"device.bus-path": port})
        world.node("alsa_input.usb-C-Media", description="USB Audio", props={"device.id": str(card)})
    found = map_of(world).devices()
    assert names(found) == ["port:0x0d8c:0x0014@usb-0:1", "port:0x0d8c:0x0014@usb-0:2"]
    assert {device.identity_basis for device in found} == {"port"}


def test_devices_that_claim_one_serial_fall_back_to_their_ports_while_both_are_there() -> None:
    world = World()
    world.session_manager()
    world.node("a", props={"device.serial": "Maker_Thing_0001A", "device.bus-path": "usb-1"})
    devices = map_of(world)
    assert names(devices.devices()) == ["serial:Maker_Thing_0001A"]
    seen = len(world.events)
    other = world.node("b", props={"device.serial": "Maker_Thing_0001A", "device.bus-path": "usb-2"})
    assert sorted(changes_of(devices, world.events[seen:])) == [
        ("added", "port:Maker_Thing_0001A@usb-2"),
        ("changed", "port:Maker_Thing_0001A@usb-1"),
    ]
    with pytest.raises(DeviceAmbiguous):
        devices.find("serial:Maker_Thing_0001A")
    first = devices.find("port:Maker_Thing_0001A@usb-1")
    seen = len(world.events)
    world.remove(other)
    assert changes_of(devices, world.events[seen:])[-1] == ("changed", "serial:Maker_Thing_0001A")
    assert devices.find("port:Maker_Thing_0001A@usb-1").object_serial == first.object_serial


@pytest.mark.parametrize(
    ("props", "identity", "basis"),
    [
        ({"api.bluez5.address": "AA:BB:CC:00:11:22"}, "serial:AA:BB:CC:00:11:22", "serial"),
        ({"device.serial": "00000000", "device.bus-path": "usb-1"}, "port:00000000@usb-1", "port"),
        ({"device.serial": "A B", "device.product.name": "B", "device.vendor.name": "A"}, "name:n", "name"),
        ({"api.alsa.card.name": "Loopback", "api.alsa.pcm.device": "1"}, "alsa:Loopback/pcm1", "path"),
        ({"api.alsa.path": "hw:1,0"}, "alsa:hw:1,0", "path"),
        ({}, "name:n", "name"),
    ],
)
def test_identity_rests_on_the_best_there_is(props: dict[str, str], identity: str, basis: str) -> None:
    world = World()
    world.node("n", props=props)
    [device] = map_of(world).devices()
    assert (device.identity, device.identity_basis) == (identity, basis)


@pytest.mark.parametrize(
    ("known", "other"),
    [
        ({"device.serial": "AAA1"}, {"device.serial": "BBB2"}),
        ({"device.serial": "AAA1"}, {}),
        ({}, {"device.serial": "AAA1"}),
        (NAMELESS | {"device.bus-path": "usb-1"}, NAMELESS | {"device.bus-path": "usb-2"}),
        (
            NAMELESS | {"device.bus-path": "usb-1"},
            NAMELESS | {"device.bus-path": "usb-1", "device.product.id": "0x0099"},
        ),
    ],
)
def test_another_of_the_same_name_is_not_followed(known: dict[str, str], other: dict[str, str]) -> None:
    world = World()
    node = world.node("mic", description="Microphone", props=known)
    devices = map_of(world)
    [device] = devices.devices()
    followed = Followed(device.identity, device)
    assert followed.locate(devices.devices()).device == device
    seen = len(world.events)
    world.remove(node)
    world.node("mic", description="Microphone", props=other)
    changes_of(devices, world.events[seen:])
    assert len(devices.devices()) == 1
    assert followed.locate(devices.devices()).device is None


def test_one_of_two_that_claim_one_serial_is_followed_only_at_its_port() -> None:
    world = World()
    a = world.node("a", props={"device.serial": "Maker_Thing_0001A", "device.bus-path": "usb-1"})
    world.node("b", props={"device.serial": "Maker_Thing_0001A", "device.bus-path": "usb-2"})
    devices = map_of(world)
    known = next(device for device in devices.devices() if device.node_id == a)
    seen = len(world.events)
    world.remove(a)
    changes_of(devices, world.events[seen:])
    followed = Followed(known.identity, known)
    assert followed.locate(devices.devices()).device is None
    seen = len(world.events)
    again = world.node("a", props={"device.serial": "Maker_Thing_0001A", "device.bus-path": "usb-1"})
    changes_of(devices, world.events[seen:])
    found = followed.locate(devices.devices()).device
    assert found is not None
    assert found.node_id == again


# -- any order of events


@st.composite
def histories(draw: st.DrawFn) -> tuple[World, list[int]]:
    """A world in which things came, changed and went, and the ids of the nodes that are left."""
    world = World()
    manager = world.session_manager() if draw(st.booleans()) else None
    metadata = world.metadata()
    nodes: list[int] = []
    for _ in range(draw(st.integers(1, 8))):
        step = draw(st.sampled_from(("source", "sink", "carded", "remove", "remove", "default", "manager")))
        name = f"n{draw(st.integers(0, 3))}"
        if step in ("source", "sink"):
            channels = draw(st.integers(1, 3))
            nodes.append(world.node(name, f"Audio/{step.title()}", channels=channels, monitor=step == "sink"))
        elif step == "carded":
            serial = f"Serial-{draw(st.integers(0, 1))}X"
            card = world.device({"device.serial": serial, "device.bus-path": f"usb-{name}"})
            nodes.append(world.node(name, props={"device.id": str(card)}))
        elif step == "remove" and nodes:
            world.remove(nodes.pop(draw(st.integers(0, len(nodes) - 1))))
        elif step == "default":
            world.entry(metadata, "default.audio.source", f'{{"name":"{name}"}}')
        elif step == "manager" and manager is not None:
            world.remove(manager)
            manager = None
    return world, nodes


def content(devices: DeviceMap) -> object:
    return (devices.devices(), devices.has_session_manager, devices.graph_rate)


@given(histories(), st.data())
def test_any_order_and_repetition_of_events_ends_the_same(
    history: tuple[World, list[int]], data: st.DataObject
) -> None:
    world, nodes = history
    straight = map_of(world)
    again = data.draw(st.lists(st.sampled_from(world.events), max_size=10))
    shuffled = DeviceMap()
    for event in data.draw(st.permutations(world.events + again)):
        shuffled.apply(event)
    assert content(shuffled) == content(straight)
    assert {device.node_id for device in shuffled.devices()} <= set(nodes)
    assert {device.object_serial for device in shuffled.devices()} <= world.serials()


@given(histories(), st.data())
def test_changes_add_up_to_what_is_there(history: tuple[World, list[int]], data: st.DataObject) -> None:
    world, _ = history
    devices = DeviceMap()
    told: dict[tuple[int, str], DeviceInfo] = {}

    def take(changes: list[Change]) -> None:
        for change in changes:
            key = (change.device.object_serial, change.device.role)
            assert (key in told) == (change.kind != "added")
            if change.kind == "removed":
                del told[key]
            else:
                assert told.get(key) != change.device
                told[key] = change.device

    for event in data.draw(st.permutations(world.events)):
        take(devices.apply(event))
        assert told == {(device.object_serial, device.role): device for device in devices.devices()}
    take(devices.reset())
    assert not told
    assert devices.devices() == []


@given(histories())
def test_identities_are_never_shared_but_by_equal_names(history: tuple[World, list[int]]) -> None:
    world, _ = history
    found = map_of(world).devices()
    for one, other in itertools.combinations(found, 2):
        if one.identity == other.identity:
            assert one.identity_basis == other.identity_basis == "name"
            assert one.name == other.name


@given(histories())
def test_when_all_has_gone_nothing_is_left(history: tuple[World, list[int]]) -> None:
    world, nodes = history
    for node in nodes:
        world.remove(node)
    assert map_of(world).devices() == []
