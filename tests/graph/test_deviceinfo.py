"""One device of many: how it is found by name, and what of a format is refused."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import pytest
from world import World, map_of

from chaos.graph.channels import choose_channels
from chaos.graph.deviceinfo import check_format
from chaos.graph.devices import DeviceMap
from chaos.protocol.requests import AudioFormat
from chaos.terms.errors import ChannelsMismatch, DeviceAmbiguous, DeviceNotFound, FormatUnsupported, RateMismatch

# -- finding


def a_desk() -> World:
    world = World()
    world.node("mic-a", description="Desk microphone", props={"device.serial": "AAA1"})
    world.node("mic-b", description="Desk microphone")
    world.node("name:mic-a", description="mic-b")
    world.node("line", description="Line in of the mixer")
    world.node("speakers", "Audio/Sink", monitor=True, description="Speakers")
    return world


@pytest.mark.parametrize(
    ("name", "identity"),
    [
        ("serial:AAA1", "serial:AAA1"),
        ("mic-a", "serial:AAA1"),
        ("mic-b", "name:mic-b"),
        ("Line in of the mixer", "name:line"),
        ("MIXER", "name:line"),
        ("speakers.monitor", "name:speakers:monitor"),
        ("speakers", "name:speakers:monitor"),
        ("name:speakers:output", "name:speakers:output"),
        ("Speakers", "name:speakers:output"),
        ("Monitor of", "name:speakers:monitor"),
    ],
)
def test_find_goes_by_identity_name_description_and_part(name: str, identity: str) -> None:
    assert map_of(a_desk()).find(name).identity == identity


def test_an_identity_that_no_longer_leads_still_finds_before_a_node_name_does() -> None:
    assert map_of(a_desk()).find("name:mic-a").identity == "serial:AAA1"


def test_find_among_inputs_takes_the_monitor_for_the_sink() -> None:
    assert map_of(a_desk()).find("Speakers", "input").identity == "name:speakers:monitor"


@pytest.mark.parametrize("name", ["Desk microphone", "desk", "M"])
def test_an_ambiguous_name_names_the_candidates(name: str) -> None:
    with pytest.raises(DeviceAmbiguous) as caught:
        map_of(a_desk()).find(name)
    candidates = caught.value.details["candidates"]
    assert {"serial:AAA1", "name:mic-b"} <= {candidate["identity"] for candidate in candidates}
    for candidate in candidates:
        assert map_of(a_desk()).find(candidate["identity"]).node_id == candidate["node_id"]
    assert caught.value.hint


@pytest.mark.parametrize("props", [{}, {"device.serial": "AAA1"}])
def test_two_nodes_of_one_name_are_told_apart_in_the_error_that_asks_to_choose(props: dict[str, str]) -> None:
    world = World()
    nodes = [world.node("twin", props=props) for _ in range(2)]
    with pytest.raises(DeviceAmbiguous) as caught:
        map_of(world).find("twin")
    _, _, listed = caught.value.message.partition(": ")
    texts = listed.split(", ")
    assert len(set(texts)) == 2
    chosen = [text.rpartition("(")[2].rstrip(")") for text in texts]
    assert sorted(map_of(world).find(each).node_id for each in chosen) == sorted(nodes)


def test_a_cards_source_is_meant_before_its_own_sink_but_not_before_another_cards() -> None:
    world = World()
    first, second = (
        {"device.id": str(world.device({"device.serial": serial}))} for serial in ("Card-1X", "Card-2X")
    )
    world.node("in", description="Card analog", props=first)
    world.node("out", "Audio/Sink", monitor=True, description="Card analog", props=first)
    assert map_of(world).find("Card").name == "in"
    world.node("out2", "Audio/Sink", monitor=True, description="Card digital", props=second)
    with pytest.raises(DeviceAmbiguous):
        map_of(world).find("Card")


@pytest.mark.parametrize(
    ("name", "hint"), [("speekers", "Speakers"), ("zzz", "Desk microphone"), ("", "Desk microphone")]
)
def test_a_name_that_nothing_has_is_told_what_there_is(name: str, hint: str) -> None:
    with pytest.raises(DeviceNotFound) as caught:
        map_of(a_desk()).find(name)
    assert hint in caught.value.hint


def test_where_there_is_nothing_nothing_is_found() -> None:
    with pytest.raises(DeviceNotFound, match="no device 'mic'"):
        DeviceMap().find("mic")


# -- refusing


@pytest.mark.parametrize("channels", [1, 2, 7, 8, 64])
def test_channels_never_mismatch_where_none_were_asked_for(channels: int) -> None:
    world = World()
    world.node("desk", channels=channels)
    device = map_of(world).find("desk")
    assert check_format(device, AudioFormat()) == []
    chosen = choose_channels(device, None)
    assert len(chosen) == device.channels == channels


def device_with(**fields: object) -> Callable[[AudioFormat, int | None], list[str]]:
    world = World()
    world.node("mic", description="Mic")
    device = msgspec.structs.replace(map_of(world).devices()[0], **fields)
    return lambda fmt, graph_rate: check_format(device, fmt, graph_rate)


@pytest.mark.parametrize(
    ("fields", "fmt", "graph_rate", "error", "figures"),
    [
        ({"channels": 2}, AudioFormat(channels=8), None, ChannelsMismatch, ("2", "8")),
        ({"channels": 8}, AudioFormat(channels=2), None, ChannelsMismatch, ("2", "8")),
        ({"sample_rate": 44100}, AudioFormat(sample_rate=48000), 48000, RateMismatch, ("44100", "48000")),
        ({"sample_rate": 44100}, AudioFormat(), 48000, RateMismatch, ("44100", "48000")),
        ({"sample_rate": None}, AudioFormat(sample_rate=44100), 48000, RateMismatch, ("44100", "48000")),
        (
            {"sample_rate": None, "rates": (48000, 96000)},
            AudioFormat(sample_rate=44100),
            None,
            RateMismatch,
            ("44100", "48000, 96000"),
        ),
        (
            {"sample_rate": None, "rates": (), "rate_range": (8000, 48000)},
            AudioFormat(sample_rate=96000),
            None,
            RateMismatch,
            ("96000", "8000 to 48000"),
        ),
        ({"kind": "midi"}, AudioFormat(), None, FormatUnsupported, ("MIDI",)),
        ({"role": "output"}, AudioFormat(), None, FormatUnsupported, ("plays",)),
    ],
)
def test_what_would_be_remixed_or_resampled_is_refused_with_both_figures(
    fields: dict[str, object],
    fmt: AudioFormat,
    graph_rate: int | None,
    error: type[Exception],
    figures: tuple[str, ...],
) -> None:
    with pytest.raises(error) as caught:
        device_with(**fields)(fmt, graph_rate)
    assert all(figure in str(caught.value) for figure in figures)
    assert getattr(caught.value, "hint", "")


@pytest.mark.parametrize(
    ("fields", "fmt", "graph_rate"),
    [
        ({}, AudioFormat(), None),
        ({}, AudioFormat(sample_rate=48000, channels=2), 48000),
        ({"sample_rate": None, "rate_range": (1, 192000)}, AudioFormat(sample_rate=48000), 48000),
        ({"sample_rate": None, "rates": (44100, 48000)}, AudioFormat(sample_rate=44100), None),
        ({"sample_rate": None, "rates": (), "rate_range": None}, AudioFormat(sample_rate=12345), None),
        ({"role": "monitor"}, AudioFormat(), 48000),
        ({"native_formats": ("S16LE",)}, AudioFormat(sample_format="s16"), None),
        ({"native_formats": ("S24_32LE",)}, AudioFormat(sample_format="f32"), None),
        ({"native_formats": ("S24LE", "S16LE")}, AudioFormat(sample_format="s16"), None),
    ],
)
def test_what_fits_is_let_through_without_a_word(
    fields: dict[str, object], fmt: AudioFormat, graph_rate: int | None
) -> None:
    assert device_with(**fields)(fmt, graph_rate) == []


@pytest.mark.parametrize(
    ("fields", "fmt", "word"),
    [
        ({"native_formats": ("S32LE",)}, AudioFormat(sample_format="f32"), "24 bits"),
        ({"native_formats": ("S24LE",)}, AudioFormat(sample_format="s16"), "16 bits"),
        ({"native_formats": ("F32P",)}, AudioFormat(sample_format="s32"), "clips"),
        ({"sample_gain": 0.5}, AudioFormat(), "multiplies its samples by 0.5"),
    ],
)
def test_what_costs_bits_is_said(fields: dict[str, object], fmt: AudioFormat, word: str) -> None:
    assert word in " ".join(device_with(**fields)(fmt, None))
