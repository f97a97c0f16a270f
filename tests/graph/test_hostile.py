"""Properties and params come from other programs: nothing in them may break the map of devices."""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from chaos.graph.deviceinfo import check_format
from chaos.graph.devices import DeviceMap
from chaos.graph.objects import RESET, Decoder, Kind, RecordKind
from chaos.terms.errors import ChaosError
from chaos.terms.formats import AudioFormat

NODE, DEVICE, PORT = 40, 41, 42
KEYS = (
    *("node.name", "node.description", "media.class", "device.id", "node.id", "port.id", "port.direction"),
    *("audio.channel", "format.dsp", "port.monitor", "api.alsa.card", "alsa.card", "api.alsa.pcm.card"),
    *("api.alsa.pcm.device", "alsa.device", "device.serial", "device.bus-path", "device.profile.name"),
    *("device.api", "factory.name", "api.bluez5.address", "card.profile.device", "object.serial"),
    *("device.vendor.id", "device.product.id", "alsa.long_card_name"),
)
LIKELY = ("9" * 5000, "-1", "40", "41", "true", "out", "in", "Audio/Source", "Audio/Duplex", "Midi/Bridge", "\u0661")
values = st.one_of(
    st.sampled_from(LIKELY), st.text(st.characters(exclude_characters="\0", exclude_categories=("Cs",)), max_size=12)
)
props = st.dictionaries(st.sampled_from(KEYS), values, max_size=8)

# What a pod may be made of: a scalar, or pods inside each other, with keys that mean something.
PARAM_KEYS = (1, 2, 5, 0x10001, 0x10003, 0x10004, 0x10005, 0x10008, 0x1000C, 0x1000D, 0x10010, 0x80001)


def pod(kind: int, body: bytes) -> bytes:
    return struct.pack("<II", len(body), kind) + body + b"\0" * (-len(body) % 8)


def bare(inner: bytes) -> bytes:
    """A pod's kind and body, as an array or a choice has them: one header for all of its elements."""
    size = struct.unpack_from("<I", inner)[0]
    return inner[: 8 + size]


scalars = st.one_of(
    st.sampled_from((0, 1, 2, 3, 48000, -1, 0x7FFFFFFF)).map(lambda n: pod(4, struct.pack("<i", n))),
    st.sampled_from((1, 3, 0x101, 0x206)).map(lambda n: pod(3, struct.pack("<I", n))),
    st.floats(width=32).map(lambda x: pod(6, struct.pack("<f", x))),
    st.floats().map(lambda x: pod(7, struct.pack("<d", x))),
    st.booleans().map(lambda x: pod(2, struct.pack("<i", x))),
    st.text(max_size=8).map(lambda s: pod(8, s.encode() + b"\0")),
)


def nested(inner: st.SearchStrategy[bytes]) -> st.SearchStrategy[bytes]:
    members = st.lists(st.tuples(st.sampled_from(PARAM_KEYS), inner), max_size=6)
    return st.one_of(
        st.lists(inner, max_size=4).map(lambda pods: pod(14, b"".join(pods))),
        inner.map(lambda one: pod(13, bare(one))),
        st.tuples(st.integers(0, 5), inner).map(lambda c: pod(19, struct.pack("<II", c[0], 0) + bare(c[1]))),
        members.map(
            lambda pairs: pod(
                15, struct.pack("<II", 0x40003, 3) + b"".join(struct.pack("<II", k, 0) + v for k, v in pairs)
            )
        ),
    )


pods = st.one_of(st.recursive(scalars, nested, max_leaves=12), st.binary(max_size=64))
audio = pod(
    15,
    struct.pack("<II", 0x40003, 3)
    + b"".join(struct.pack("<II", key, 0) + pod(3, struct.pack("<I", 1)) for key in (1, 2))
    + struct.pack("<II", 0x10001, 0)
    + pod(19, struct.pack("<II", 3, 0) + bare(pod(15, struct.pack("<II", 1, 1)))),
)


def dictionary(told: dict[str, str]) -> bytes:
    return b"".join(f"{key}\0{value}\0".encode() for key, value in told.items())


def records(
    node: dict[str, str], device: dict[str, str], port: dict[str, str], params: Sequence[tuple[int, bytes]]
) -> list[tuple[int, int, int, int, bytes]]:
    """A node with one port and a card, as the listener would tell of them."""
    base = {"node.name": "mic", "media.class": "Audio/Source"} | node
    of_port = {"node.id": str(NODE), "port.direction": "out", "port.id": "0"} | port
    told = [
        (RecordKind.ADDED, DEVICE, 7, Kind.DEVICE, b""),
        (RecordKind.DEVICE_INFO, DEVICE, 7, 1, dictionary(device)),
        (RecordKind.ADDED, NODE, 8, Kind.NODE, dictionary(base)),
        (RecordKind.NODE_INFO, NODE, 8, 0, struct.pack("<II?", 0, 1, True) + dictionary(base)),
        *((RecordKind.NODE_PARAM, NODE, 8, param << 32 | RESET, b"") for param, _ in params),
        *((RecordKind.NODE_PARAM, NODE, 8, param << 32 | 1, body) for param, body in params),
        (RecordKind.NODE_SYNCED, NODE, 8, 2, b""),
        (RecordKind.ADDED, PORT, 9, Kind.PORT, dictionary(of_port)),
    ]
    return [(int(kind), object_id, serial, int(b), payload) for kind, object_id, serial, b, payload in told]


@given(props, props, props, st.lists(st.tuples(st.sampled_from((2, 3, 4, 11)), pods), max_size=4))
@example({"api.alsa.card": "9" * 5000}, {}, {}, [(3, audio)])
@example({"device.id": "9" * 5000}, {"api.alsa.card": "9" * 5000}, {"node.id": "9" * 5000}, [])
def test_whatever_it_says_a_node_is_described_or_left_out(
    node: dict[str, str], device: dict[str, str], port: dict[str, str], params: list[tuple[int, bytes]]
) -> None:
    decoder, devices = Decoder(), DeviceMap()
    for record in records(node, device, port, params):
        event = decoder.decode(record)
        if event is not None:
            devices.apply(event)
    for node_id in list(devices.unsettled):
        devices.settle(node_id)
    for found in devices.devices():
        look_at(found)
    assert devices.graph_rate is None
    first = devices.devices()
    assert devices.devices() == first  # and equal to itself: no NaN in it


def look_at(device: Any) -> None:
    assert msgspec.json.decode(msgspec.json.encode(device.to_wire()))["name"] == device.name
    assert math.isfinite(device.sample_gain)
    for form in (AudioFormat(), AudioFormat(sample_rate=48000, channels=2, sample_format="s16")):
        with suppress(ChaosError):
            check_format(device, form)


def test_a_param_that_nobody_asked_for_is_taken_as_it_comes() -> None:
    """Found by fuzzing: its index is not the first, and no reset came before it."""
    decoder = Decoder()
    assert decoder.decode((int(RecordKind.NODE_PARAM), NODE, 8, 3 << 32 | 5, pod(4, struct.pack("<i", 7)))) is None
    state: Any = decoder.decode((int(RecordKind.NODE_SYNCED), NODE, 8, 1, b""))
    assert state.params == {3: (7,)}


@pytest.mark.parametrize("value", ["9" * 5000, "", "x", "-3", "[ ]"])
def test_settings_that_make_no_sense_are_left_out(value: str) -> None:
    decoder, devices = Decoder(), DeviceMap()
    told = struct.pack("<I??", 0, True, True)
    for record in [
        (int(RecordKind.ADDED), 30, 5, int(Kind.METADATA), dictionary({"metadata.name": "settings"})),
        (int(RecordKind.METADATA), 30, 5, 1, told + f"clock.force-rate\0{value}\0".encode()),
        (int(RecordKind.METADATA), 30, 5, 2, told + f"clock.rate\0{value}\0".encode()),
    ]:
        event = decoder.decode(record)
        assert event is not None
        devices.apply(event)
    assert devices.graph_rate is None
