"""Which of the devices that are there is the one that is recorded: its own frames, or none."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from world import World

from chaos.graph.devices import DeviceMap
from chaos.graph.followed import Followed

A = {"device.serial": "Maker_Thing_0001A", "device.bus-path": "usb-1"}
B = A | {"device.bus-path": "usb-2"}


class Desk:
    """A world, its map, and what is shared in it, as the registry keeps it."""

    def __init__(self) -> None:
        self.world = World()
        self.devices = DeviceMap()
        self.shared: set[str] = set()
        self._seen = 0

    def plug(self, name: str = "mic", props: Mapping[str, str] | None = None) -> int:
        node = self.world.node(name, props=props)
        self.look()
        return node

    def unplug(self, node: int) -> None:
        self.world.remove(node)
        self.look()

    def look(self) -> None:
        for event in self.world.events[self._seen :]:
            self.devices.apply(event)
        self._seen = len(self.world.events)
        self.shared |= self.devices.shared_serials()

    def node_of(self, followed: Followed) -> int | None:
        device = followed.locate(self.devices.devices(), self.shared).device
        return None if device is None else device.node_id

    def doubt(self, followed: Followed) -> str:
        return followed.locate(self.devices.devices(), self.shared).doubt

    def reason(self, followed: Followed) -> str:
        return followed.locate(self.devices.devices(), self.shared).reason


@pytest.fixture
def desk() -> Desk:
    return Desk()


def follow(desk: Desk, name: str = "mic", *, accepts_port_change: bool = False) -> Followed:
    device = desk.devices.find(name)
    return Followed(device.identity, device, accepts_port_change=accepts_port_change)


def left_beside(desk: Desk) -> tuple[Followed, int]:
    """A device that has gone, and the node of its name that was there beside it."""
    own = desk.plug()
    followed = follow(desk)
    second = desk.plug()
    assert desk.node_of(followed) == own
    desk.unplug(own)
    assert desk.node_of(followed) is None
    return followed, second


def test_a_second_node_of_the_same_name_changes_nothing(desk: Desk) -> None:
    own = desk.plug()
    followed = follow(desk)
    second = desk.plug()
    assert desk.node_of(followed) == own
    desk.unplug(second)
    assert desk.node_of(followed) == own


def test_one_that_was_beside_it_never_takes_its_place(desk: Desk) -> None:
    followed, second = left_beside(desk)
    assert desk.reason(followed).endswith(
        f"is away; node:{second} has the same name, but was there beside it; "
        "`chaosctl accept-port` takes it for the same"
    )
    again = desk.plug()
    assert desk.node_of(followed) == again
    assert again != second


def test_one_that_was_beside_it_is_taken_once_somebody_says_so(desk: Desk) -> None:
    followed, second = left_beside(desk)
    followed.accept()
    assert "taken for the same as before by accept-port" in desk.doubt(followed)
    assert desk.node_of(followed) == second


def test_one_that_comes_when_others_of_its_name_have_gone_is_taken_once_somebody_says_so(desk: Desk) -> None:
    """A device that is plugged in anew, fast, may be listed twice for a moment: then nobody knows which one left."""
    followed, second = left_beside(desk)
    desk.unplug(second)
    assert desk.node_of(followed) is None
    third = desk.plug()
    assert desk.reason(followed).endswith("`chaosctl accept-port` takes it for the same")
    fourth = desk.plug()
    followed.accept()
    assert desk.node_of(followed) is None, "two, and nobody said which"
    assert "accept-port" not in desk.reason(followed)
    desk.unplug(fourth)
    assert desk.node_of(followed) == third


@pytest.mark.parametrize("channels", [2, 1])
def test_a_cards_new_node_may_come_before_the_old_one_has_gone(desk: Desk, channels: int) -> None:
    """Its shape may be another: a headset takes a call. What is followed is that part of that card."""
    card = desk.world.device(A)
    part = {"device.id": str(card), "device.profile.name": "mic"}
    own = desk.plug(props=part)
    followed = follow(desk)
    assert desk.node_of(followed) == own
    new = desk.world.node("mic", channels=channels, props=part)
    desk.look()
    assert desk.node_of(followed) == own
    desk.unplug(own)
    assert desk.node_of(followed) == new
    assert desk.reason(followed) == ""


def test_two_equal_cards_stay_two(desk: Desk) -> None:
    cards = [desk.world.device(A) for _ in range(2)]
    own, other = (desk.plug(props={"device.id": str(card)}) for card in cards)
    device = desk.devices.find(f"node:{own}")
    followed = Followed(device.identity, device)
    assert desk.node_of(followed) == own
    desk.unplug(own)
    assert desk.node_of(followed) is None
    assert f"node:{other}" in desk.reason(followed)


def test_where_the_other_left_too_nobody_can_tell(desk: Desk) -> None:
    followed, second = left_beside(desk)
    desk.unplug(second)
    desk.plug()
    assert desk.node_of(followed) is None
    assert "can't be told" in desk.reason(followed)


def test_equal_serials_at_another_port_are_not_taken(desk: Desk) -> None:
    """A is recorded and unplugged, B with the same constant serial is plugged in elsewhere."""
    own = desk.plug(props=A)
    followed = follow(desk)
    assert desk.node_of(followed) == own
    desk.unplug(own)
    other = desk.plug(props=B)
    assert desk.node_of(followed) is None
    assert "another port" in desk.reason(followed)
    assert "usb-2" in desk.reason(followed)
    desk.unplug(other)
    assert "away" in desk.reason(followed)
    assert desk.node_of(followed) is None
    again = desk.plug(props=A)
    assert desk.node_of(followed) == again


def test_an_equal_serial_that_does_not_say_its_port_is_not_taken(desk: Desk) -> None:
    own = desk.plug(props=A)
    followed = follow(desk)
    desk.unplug(own)
    for silent in ({"device.serial": A["device.serial"]}, A | {"device.bus-path": ""}):
        other = desk.plug(props=silent)
        assert desk.node_of(followed) is None
        assert "does not say its port" in desk.reason(followed)
        desk.unplug(other)
    again = desk.plug(props=A)
    assert desk.node_of(followed) == again


def test_a_port_change_is_taken_where_that_was_asked_for(desk: Desk) -> None:
    own = desk.plug(props=A)
    followed = follow(desk, accepts_port_change=True)
    assert desk.node_of(followed) == own
    desk.unplug(own)
    moved = desk.plug(props=B)
    assert desk.node_of(followed) == moved


def test_a_port_change_may_be_accepted_later(desk: Desk) -> None:
    own = desk.plug(props=A)
    followed = follow(desk)
    assert desk.node_of(followed) == own
    desk.unplug(own)
    moved = desk.plug(props=B)
    assert desk.node_of(followed) is None
    assert "chaosctl accept-port" in desk.reason(followed)
    followed.accepts_port_change = True
    assert desk.node_of(followed) == moved


def test_a_serial_that_was_seen_twice_tells_nobody_apart(desk: Desk) -> None:
    own = desk.plug(props=A)
    followed = follow(desk, accepts_port_change=True)
    twin = desk.plug("twin", props=A | {"device.bus-path": "usb-3"})
    assert desk.node_of(followed) == own
    desk.unplug(twin)
    assert desk.node_of(followed) == own
    desk.unplug(own)
    desk.plug(props=B)
    assert desk.node_of(followed) is None


def test_a_new_pipewire_counts_its_serials_anew(desk: Desk) -> None:
    own = desk.plug()
    followed = follow(desk)
    assert desk.node_of(followed) == own
    desk.devices.reset()
    followed.lose()
    stranger = Desk()
    stranger.plug("other")
    assert stranger.node_of(followed) is None
    back = stranger.plug()
    assert stranger.node_of(followed) == back


def test_an_ambiguous_name_is_waited_for(desk: Desk) -> None:
    first = desk.plug("mic")
    second = desk.plug("mic")
    followed = Followed("mic")
    assert desk.node_of(followed) is None
    assert f"node:{first}" in desk.reason(followed)
    desk.unplug(second)
    assert desk.node_of(followed) == first


def test_a_node_id_or_an_object_serial_chooses_among_equal_names(desk: Desk) -> None:
    first, second = desk.plug("mic"), desk.plug("mic")
    assert desk.devices.find(f"node:{second}").node_id == second
    assert desk.devices.find(f"object:{desk.world.serial(first)}").node_id == first


ALIKE = [A, {"device.vendor.id": "1", "device.product.id": "2", "device.bus-path": "usb-1"}]
"""By a serial number that both have, and by the model where neither has one."""


def at(props: Mapping[str, str], port: str) -> dict[str, str]:
    return {**props, "device.bus-path": port}


@pytest.mark.parametrize("props", ALIKE, ids=["serial", "model"])
@pytest.mark.parametrize("left_first", [False, True])
def test_one_that_was_beside_it_is_not_taken_at_its_port(
    desk: Desk, props: Mapping[str, str], left_first: bool
) -> None:
    """It has its port then, and not its node's name."""
    own, other = desk.plug("usbA", props=props), desk.plug("usbB", props=at(props, "usb-2"))
    followed = follow(desk, "usbA")
    assert desk.node_of(followed) == own
    for node in (other, own) if left_first else (own, other):
        desk.unplug(node)
        desk.node_of(followed)
    moved = desk.plug("usbB", props=props)
    assert desk.node_of(followed) is None
    assert "usbB instead of usbA" in desk.reason(followed)
    desk.unplug(moved)
    back = desk.plug("usbA", props=props)
    assert desk.node_of(followed) == back


@pytest.mark.parametrize("props", ALIKE, ids=["serial", "model"])
def test_where_one_like_it_has_left_its_port_there_is_a_doubt(desk: Desk, props: Mapping[str, str]) -> None:
    """All names are the same: it may be either."""
    own, other = desk.plug(props=props), desk.plug(props=at(props, "usb-2"))
    followed = follow(desk, f"node:{own}")
    assert (desk.node_of(followed), desk.doubt(followed)) == (own, "")
    desk.unplug(own)
    assert desk.node_of(followed) is None
    desk.unplug(other)
    assert desk.node_of(followed) is None
    back = desk.plug(props=props)
    assert desk.node_of(followed) == back
    assert desk.doubt(followed) == "it may be another device than before: one like it has left port usb-2"
    desk.plug(props=at(props, "usb-2"))
    assert desk.node_of(followed) == back
    desk.unplug(back)
    assert desk.node_of(followed) is None
    again = desk.plug(props=props)
    assert (desk.node_of(followed), desk.doubt(followed)) == (again, "")


@pytest.mark.parametrize("props", ALIKE, ids=["serial", "model"])
def test_two_that_may_have_changed_places_are_doubted(desk: Desk, props: Mapping[str, str]) -> None:
    own, other = desk.plug(props=props), desk.plug(props=at(props, "usb-2"))
    followed = follow(desk, f"node:{own}")
    for node in (own, other):
        desk.node_of(followed)
        desk.unplug(node)
    desk.node_of(followed)
    desk.plug(props=at(props, "usb-2"))
    desk.node_of(followed)
    assert desk.node_of(followed) is None
    back = desk.plug(props=props)
    assert desk.node_of(followed) == back
    assert "usb-2" in desk.doubt(followed)


def test_while_one_like_it_stays_where_it_is_nothing_is_doubted(desk: Desk) -> None:
    own = desk.plug(props=A)
    desk.plug(props=B)
    followed = follow(desk, f"node:{own}")
    for _ in range(3):
        assert (desk.node_of(followed), desk.doubt(followed)) == (own, "")
        desk.unplug(own)
        assert desk.node_of(followed) is None
        own = desk.plug(props=A)
    assert (desk.node_of(followed), desk.doubt(followed)) == (own, "")


def test_a_restart_of_pipewire_alone_is_no_doubt(desk: Desk) -> None:
    own = desk.plug(props=A)
    desk.plug(props=B)
    followed = follow(desk, f"node:{own}")
    assert desk.node_of(followed) == own
    followed.lose()
    after = Desk()
    after.shared = desk.shared
    back = after.plug(props=A)
    assert (after.node_of(followed), after.doubt(followed)) == (back, "")


def test_one_that_sat_elsewhere_meanwhile_is_doubted(desk: Desk) -> None:
    own = desk.plug(props=A)
    followed = follow(desk)
    assert desk.node_of(followed) == own
    desk.unplug(own)
    moved = desk.plug(props=B)
    assert desk.node_of(followed) is None
    desk.unplug(moved)
    assert desk.node_of(followed) is None
    back = desk.plug(props=A)
    assert desk.node_of(followed) == back
    assert desk.doubt(followed)


def test_its_own_serial_number_at_its_port_is_enough(desk: Desk) -> None:
    """An ALSA card may get another name when it comes back."""
    own = desk.plug("usbA", props=A)
    followed = follow(desk, "usbA")
    assert desk.node_of(followed) == own
    desk.unplug(own)
    back = desk.plug("usbA.2", props=A | {"alsa.id": "Thing_1"})
    assert (desk.node_of(followed), desk.doubt(followed)) == (back, "")
