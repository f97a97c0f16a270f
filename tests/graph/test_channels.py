"""Which channels are captured, and that each stays itself in whatever order they come."""

from __future__ import annotations

import itertools

import pytest
from world import World, map_of

from chaos.graph.channels import Channel, check_start, choose_channels, find_ports
from chaos.graph.deviceinfo import DeviceInfo
from chaos.terms.errors import ChannelsMismatch
from chaos.terms.formats import AudioFormat


def device(*names: str) -> DeviceInfo:
    world = World()
    world.node("desk", names=names)
    [found] = map_of(world).devices()
    return found


def test_all_channels_unless_some_are_named() -> None:
    desk = device("FL", "FR", "AUX0")
    assert choose_channels(desk, None) == (Channel("FL", 1), Channel("FR", 2), Channel("AUX0", 3))
    assert choose_channels(desk, ["AUX0", "1"]) == (Channel("AUX0", 3), Channel("FL", 1))


@pytest.mark.parametrize("chosen", [["FC"], ["4"], ["0"], ["FL", "1"], ["9" * 5000], ["-1"], ["UNK"]])
def test_what_is_not_there_or_named_twice_is_refused(chosen: list[str]) -> None:
    with pytest.raises(ChannelsMismatch) as caught:
        choose_channels(device("FL", "FR", "AUX0"), chosen)
    assert "1 (FL), 2 (FR), 3 (AUX0)" in caught.value.hint


def test_nameless_channels_are_chosen_by_number() -> None:
    desk = device("UNK", "UNK", "UNK")
    assert choose_channels(desk, ["3"]) == (Channel("UNK", 3, (1, 2, 3)),)
    with pytest.raises(ChannelsMismatch, match="3 channels UNK"):
        choose_channels(desk, ["UNK"])


@pytest.mark.parametrize("order", list(itertools.permutations(("FL", "FR", "LFE"))))
def test_channels_are_found_by_name_in_any_order(order: tuple[str, ...]) -> None:
    channels = choose_channels(device("FL", "FR", "LFE"), None)
    ports = find_ports(channels, device(*order).ports)
    assert [port.channel for port in ports] == ["FL", "FR", "LFE"]


def test_another_channel_beside_them_changes_nothing() -> None:
    channels = choose_channels(device("FL", "FR"), None)
    ports = find_ports(channels, device("LFE", "FR", "FL").ports)
    assert [port.channel for port in ports] == ["FL", "FR"]


@pytest.mark.parametrize("now", [("MONO",), ("AUX0", "AUX1"), ("FL",), ("FL", "FL"), ("UNK", "UNK")])
def test_where_names_differ_none_is_taken(now: tuple[str, ...]) -> None:
    channels = choose_channels(device("FL", "FR"), None)
    with pytest.raises(ChannelsMismatch, match="FL, FR are recorded"):
        find_ports(channels, device(*now).ports)


def test_nameless_channels_are_found_by_their_place() -> None:
    channels = choose_channels(device("UNK", "UNK", "FL"), ["2", "FL"])
    ports = find_ports(channels, device("UNK", "UNK", "FL").ports)
    assert [port.index for port in ports] == [1, 2]
    with pytest.raises(ChannelsMismatch):
        find_ports(channels, device("UNK", "FL").ports)


@pytest.mark.parametrize(
    ("before", "chosen", "now"),
    [
        (("FL", "FR", "LFE"), None, ("FL", "FL", "FR", "LFE")),
        (("FL", "FR", "LFE"), ["1"], ("FL", "FL", "FR", "LFE")),
        (("FL", "FL", "FR"), None, ("FL", "FR")),
        (("FL", "FL", "FR"), ["1"], ("FL", "FR")),
        (("FL", "FL", "FR"), ["2"], ("FR", "FL", "FL")),
        (("FL", "FL", "FR"), ["2"], ("FL", "FL", "FL", "FR")),
        (("UNK", "FL"), ["1"], ("UNK", "UNK", "FL")),
        (("UNK", "UNK"), ["2"], ("UNK", "UNK", "UNK")),
    ],
)
def test_of_several_that_could_be_it_none_is_taken(
    before: tuple[str, ...], chosen: list[str] | None, now: tuple[str, ...]
) -> None:
    channels = choose_channels(device(*before), chosen)
    with pytest.raises(ChannelsMismatch, match=f"the device has the channels {', '.join(now)} now"):
        find_ports(channels, device(*now).ports)


def test_one_of_two_alike_goes_on_by_its_number_where_both_are_where_they_were() -> None:
    channels = choose_channels(device("FL", "FL", "FR"), ["2", "FR"])
    for now in (("FL", "FL", "FR"), ("FL", "FL", "LFE", "FR")):
        ports = find_ports(channels, device(*now).ports)
        assert [port.index for port in ports] == [1, now.index("FR")]


def test_a_start_with_a_channel_map_needs_no_number_of_channels() -> None:
    desk = device("FL", "FR", "AUX0")
    assert check_start(desk, AudioFormat(), ["FL"]) == (Channel("FL", 1),)
    assert len(check_start(desk, AudioFormat(channels=2), ["FL", "FR"])) == 2
    with pytest.raises(ChannelsMismatch, match="the channel map has 2 channels, not 3 as asked for"):
        check_start(desk, AudioFormat(channels=3), ["FL", "FR"])
    with pytest.raises(ChannelsMismatch):
        check_start(desk, AudioFormat(channels=2), None)
