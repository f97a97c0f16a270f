"""What a stream is told to link: its own channels, each by its name, once all of them and its own ports are there."""

from __future__ import annotations

from typing import Any

import pytest
from lone import Ear
from world import World

from chaos.engine.followers import Followers
from chaos.engine.messages import CaptureState, Follow, Intruder, Target, Wanted
from chaos.graph.channels import Channel, choose_channels
from chaos.graph.devices import DeviceMap


class Desk:
    """Devices, and one stream that follows `mic`."""

    def __init__(self) -> None:
        self.world, self.devices = World(), DeviceMap()
        self.followers = Followers(self.devices)
        self.stream: Any = Ear()
        self.connection: Any = object()
        self._seen = 0

    def look(self) -> None:
        for event in self.world.events[self._seen :]:
            self.devices.apply(event)
        self._seen = len(self.world.events)
        self.unported = self.followers.inform(self.connection)

    def follow(
        self, channels: tuple[Channel, ...] = (), node_id: int | None = None, *, n_accepted: int = 0
    ) -> Target:
        """As a stream does once it has a capture of these channels."""
        wanted = Wanted("name:mic", accept_port_change=n_accepted > 0, n_accepted=n_accepted)
        self.followers.follow(Follow(self.stream, wanted, channels, 1, node_id))
        self.look()
        return self.target

    @property
    def target(self) -> Target:
        told: Target = self.stream.of(Target)[-1]
        return told

    def ports(self, node_id: int, direction: str) -> dict[str, int]:
        return {port.channel: port.id for port in self.devices.ports(node_id, direction)}  # type: ignore[arg-type]


@pytest.fixture
def desk() -> Desk:
    return Desk()


@pytest.mark.parametrize("order", [("FL", "FR"), ("FR", "FL"), ("LFE", "FR", "FL")])
def test_channels_are_linked_by_name(desk: Desk, order: tuple[str, ...]) -> None:
    mic = desk.world.node("mic", names=order)
    ours = desk.world.node("ours", "Stream/Input/Audio/Sink", names=("FL", "FR"))
    target = desk.follow((Channel("FL", 1), Channel("FR", 2)), ours)
    out, to = desk.ports(mic, "output"), desk.ports(ours, "input")
    assert [pair[:4] for pair in target.pairs] == [(mic, out[name], ours, to[name]) for name in ("FL", "FR")]


def test_only_chosen_channels_are_linked(desk: Desk) -> None:
    mic = desk.world.node("mic", names=("FL", "FR", "LFE"))
    ours = desk.world.node("ours", "Stream/Input/Audio/Sink", names=("LFE",))
    desk.look()
    [pair] = desk.follow(choose_channels(desk.devices.find("mic"), ["3"]), ours).pairs
    assert pair[1] == desk.ports(mic, "output")["LFE"]


def test_other_channels_are_not_linked_and_neither_is_a_port_that_has_gone(desk: Desk) -> None:
    channels = (Channel("FL", 1), Channel("FR", 2))
    desk.world.node("mic", names=("AUX0", "AUX1"))
    ours = desk.world.node("ours", "Stream/Input/Audio/Sink", names=("FL", "FR"))
    target = desk.follow(channels, ours)
    assert target.device is not None
    assert target.pairs == ()


def test_a_port_that_goes_takes_the_links_along_until_it_is_back(desk: Desk) -> None:
    mic = desk.world.node("mic")
    ours = desk.world.node("ours", "Stream/Input/Audio/Sink")
    assert len(desk.follow((Channel("FL", 1), Channel("FR", 2)), ours).pairs) == 2
    desk.world.remove(desk.ports(mic, "output")["FR"])
    desk.look()
    assert desk.target.pairs == ()
    desk.world.port(mic, 1, "out")
    desk.look()
    assert len(desk.target.pairs) == 2


def test_another_port_of_the_same_name_leaves_the_links_as_they_are(desk: Desk) -> None:
    """What is linked is that very port, whatever comes beside it; and when it goes, the other is not it."""
    mic = desk.world.node("mic", names=("FL", "FR"))
    ours = desk.world.node("ours", "Stream/Input/Audio/Sink", names=("FL", "FR"))
    pairs = desk.follow((Channel("FL", 1), Channel("FR", 2)), ours).pairs
    linked = desk.ports(mic, "output")["FL"]
    desk.world.port(mic, 2, "out", channel="FL")
    desk.look()
    assert desk.target.pairs == pairs
    assert desk.follow((Channel("FL", 1), Channel("FR", 2)), ours).pairs == pairs
    desk.world.remove(linked)
    desk.look()
    assert desk.target.pairs == (), "the other FL was there beside it"
    desk.world.remove(mic)
    again = desk.world.node("mic", names=("FL", "FR"))
    desk.look()
    assert [pair[0] for pair in desk.target.pairs] == [again, again]


def test_of_two_ports_of_one_name_the_other_is_never_linked(desk: Desk) -> None:
    mic = desk.world.node("mic", names=("FL", "FL", "FR"))
    ours = desk.world.node("ours", "Stream/Input/Audio/Sink", names=("FL",))
    desk.look()
    channels = choose_channels(desk.devices.find("mic"), ["1"])
    [pair] = desk.follow(channels, ours).pairs
    desk.world.remove(pair[1])
    desk.look()
    assert [port.channel for port in desk.devices.ports(mic, "output")] == ["FL", "FR"]
    assert desk.target.pairs == ()


def test_a_device_that_lacks_ports_is_named(desk: Desk) -> None:
    desk.world.node("mic")
    assert desk.follow().pairs == ()
    [lacking] = desk.unported
    assert (lacking.device.name, lacking.node_id) == ("mic", None)


def test_what_a_capture_says_first_is_kept_until_its_stream_is_known(desk: Desk) -> None:
    desk.followers.route(7, CaptureState(3, ""))
    desk.followers.follow(Follow(desk.stream, Wanted("name:mic"), (), 7, None))
    assert desk.stream.of(CaptureState) == [CaptureState(3, "")]
    desk.followers.unfollow(desk.stream)
    desk.followers.route(7, CaptureState(2, ""))
    assert len(desk.stream.of(CaptureState)) == 1


def test_an_intruder_is_told_by_name(desk: Desk) -> None:
    loud = desk.world.node("loud")
    desk.look()
    desk.follow((), 99)
    desk.followers.tell_of_intruder(loud, 99)
    desk.followers.tell_of_intruder(12345, 99)
    assert [message.source for message in desk.stream.of(Intruder)] == ["loud", "node 12345"]


def test_without_pipewire_all_is_away(desk: Desk) -> None:
    desk.world.node("mic")
    desk.follow()
    desk.followers.inform(None)
    assert (desk.target.connection, desk.target.device) == (None, None)


def test_a_node_that_went_with_pipewire_is_not_lost_to_another_program(desk: Desk) -> None:
    """Nor is a node that has its id after the restart taken for it."""
    desk.world.node("mic")
    ours = desk.world.node("ours", "Stream/Input/Audio/Sink")
    channels = (Channel("FL", 1), Channel("FR", 2))
    assert desk.follow(channels, ours).pairs
    desk.connection = None
    desk.devices.reset()
    desk.look()
    desk.connection, desk.world, desk._seen = object(), World(), 0
    desk.world.node("mic")
    desk.look()
    assert not desk.target.has_lost_node
    assert desk.world.node("theirs", "Stream/Input/Audio/Sink") == ours
    desk.look()
    assert (desk.target.connection, desk.target.pairs) == (desk.connection, ())


def test_a_node_that_others_take_away_is_lost_until_there_is_another(desk: Desk) -> None:
    """Also where PipeWire has given its id to another, or one of its ports alone has gone."""
    desk.world.node("mic")
    channels = (Channel("FL", 1), Channel("FR", 2))
    for _ in range(2):
        ours = desk.world.node("ours", "Stream/Input/Audio/Sink")
        assert desk.follow(channels, ours).pairs
        desk.world.remove(ours)
        desk.look()
        assert desk.target.has_lost_node
        assert desk.world.node("theirs", "Stream/Input/Audio/Sink") == ours
        desk.look()
        assert desk.target.has_lost_node
        assert not desk.target.pairs
        assert not desk.follow(channels).has_lost_node
    ours = desk.world.node("ours", "Stream/Input/Audio/Sink")
    assert desk.follow(channels, ours).pairs
    desk.world.remove(desk.ports(ours, "input")["FR"])
    desk.look()
    assert desk.target.has_lost_node


def test_a_node_that_has_no_ports_yet_is_not_lost(desk: Desk) -> None:
    desk.world.node("mic")
    channels = (Channel("FL", 1), Channel("FR", 2))
    ours = desk.world.node("ours", "Stream/Input/Audio")
    assert not desk.follow(channels, ours).has_lost_node
    assert not desk.follow(channels, 9999).has_lost_node


def test_a_serial_number_that_two_devices_had_at_once_counts_for_nothing_from_then_on(desk: Desk) -> None:
    def plug(name: str, port: str) -> int:
        return desk.world.node(name, props={"device.serial": "Maker_Mic_00A1", "device.bus-path": port})

    own = plug("mic", "usb-1")
    desk.look()
    device = desk.devices.find("mic")
    desk.followers.follow(Follow(desk.stream, Wanted(device.identity, device, True), (), 1, None))
    twin = plug("twin", "usb-2")
    desk.look()
    assert desk.target.device is not None
    assert desk.target.device.node_id == own
    for gone in (twin, own):
        desk.world.remove(gone)
        desk.look()
    plug("mic", "usb-3")
    desk.look()
    assert desk.target.device is None
    assert "others with its serial number" in desk.target.reason


def test_each_time_that_somebody_says_so_one_that_was_beside_it_is_taken(desk: Desk) -> None:
    """Once for all would take whatever comes later."""
    nodes = [desk.world.node("mic")]
    desk.follow()
    for n_accepted in (1, 2):
        nodes.append(desk.world.node("mic"))
        desk.look()
        desk.world.remove(nodes[-2])
        desk.look()
        assert desk.target.device is None
        assert desk.follow(n_accepted=n_accepted - 1).device is None
        target = desk.follow(n_accepted=n_accepted)
        assert target.device is not None
        assert target.device.node_id == nodes[-1]
