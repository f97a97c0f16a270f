"""MIDI Clip Files: the packets that came, at their frames, and what a clip can't hold is told."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator

from hypothesis import given
from hypothesis import strategies as st

from chaos.export.clip import clip
from chaos.export.smf import MARK, NOTE, Label, Loss, Names, exact_ticks
from chaos.terms.messages import MIDI1, UMP, messages_of

NAMES = Names("stream://keys/1", "Keys", "Keys:Keys 1")
TICKS = exact_ticks(48000)
N_WORDS = dict(enumerate((1, 1, 1, 2, 2, 4, 1, 1, 2, 2, 2, 3, 3, 4, 4, 4)))

Event = tuple[int, int, bytes]


def ump(*words: int) -> bytes:
    return b"".join(word.to_bytes(4, sys.byteorder) for word in words)


def read(data: bytes) -> Iterator[tuple[int, tuple[int, ...]]]:
    """Tick and words of each packet that says something. A small reader of its own: the specification, told again."""
    assert data[:8] == b"SMF2CLIP"
    words = [int.from_bytes(data[at : at + 4], "big") for at in range(8, len(data), 4)]
    tick = at = 0
    while at < len(words):
        size = N_WORDS.get(words[at] >> 28, 1)
        packet = tuple(words[at : at + size])
        assert len(packet) == size
        at += size
        if packet[0] >> 20 == 0x004:
            tick += packet[0] & 0xFFFFF
        elif packet[0] != 0:
            yield tick, packet


def of_the_take(data: bytes) -> list[tuple[int, tuple[int, ...]]]:
    return [(tick, packet) for tick, packet in read(data) if packet[0] >> 28 in range(1, 6)]


def written(events: Iterable[Event], n_frames: int = 1 << 24, labels: Iterable[Label] = ()) -> tuple[bytes, Loss]:
    return clip(events, n_frames, TICKS, NAMES, list(labels))


packet = st.integers(1, 5).flatmap(
    lambda what: st.lists(st.integers(0, (1 << 32) - 1), min_size=N_WORDS[what], max_size=N_WORDS[what]).map(
        lambda words: (what << 28 | words[0] & 0x0FFFFFFF, *words[1:])
    )
)
frames = st.integers(0, 1 << 24)


@given(st.lists(st.tuples(frames, packet), max_size=40))
def test_every_packet_comes_back_at_its_frame_bit_for_bit(packets: list[tuple[int, tuple[int, ...]]]) -> None:
    packets.sort(key=lambda each: each[0])
    data, loss = written([(frame, UMP, ump(*words)) for frame, words in packets])
    assert of_the_take(data) == packets
    assert (loss.n_events, loss.is_exact) == (len(packets), True)


@given(st.lists(st.tuples(frames, st.sampled_from([MIDI1, UMP]), st.binary(max_size=40)), max_size=30))
def test_whatever_bytes_came_a_clip_can_be_read(events: list[Event]) -> None:
    data, loss = written(sorted(events, key=lambda event: event[0]))
    packets = list(read(data))
    assert packets[0][1] == (0x00300000 | TICKS.division,)
    assert packets[-1] == (1 << 24, (0xF0210000, 0, 0, 0))
    assert loss.n_events < len(packets)


sysex = st.binary(max_size=40).map(lambda data: b"\xf0" + bytes(byte & 0x7F for byte in data) + b"\xf7")
short = st.sampled_from([b"\x90\x40\x7f", b"\xc3\x05", b"\xf8", b"\xf2\x01\x02", b"\xe0\x00\x40"])


@given(st.lists(st.tuples(frames, short | sysex), max_size=30))
def test_midi_1_goes_in_as_the_packets_that_carry_it(tune: list[tuple[int, bytes]]) -> None:
    tune.sort(key=lambda each: each[0])
    data, loss = written([(frame, MIDI1, message) for frame, message in tune])
    told = messages_of((tick, UMP, ump(*packet)) for tick, packet in of_the_take(data))
    assert [(message.frame, message.data) for message in told] == tune
    assert loss.is_exact


def test_a_clock_of_the_takes_own_would_move_everything_and_is_left_out() -> None:
    events = [(5, UMP, ump(0x00400123)), (6, UMP, ump(0xF0210000, 0, 0, 0)), (9, UMP, ump(0x20904001))]
    data, loss = written(events)
    assert of_the_take(data) == [(9, (0x20904001,))]
    assert (loss.set_aside, loss.is_exact) == ({"utility": 2}, False)


def test_a_long_pause_is_bridged() -> None:
    data, _ = written([(5, UMP, ump(0x20904001)), (20_000_000, UMP, ump(0x20804001))], 20_000_001)
    assert [tick for tick, _ in of_the_take(data)] == [5, 20_000_000]


def test_names_tempo_gaps_and_marks_are_in_it() -> None:
    labels = [Label(480, NOTE, "gap: 48 frames missed (exact)"), Label(960, MARK, "verse 2: ü")]
    data, _ = written([], 5000, labels)
    packets = list(read(data))
    tempo = next(packet for _, packet in packets if packet[0] == 0xD0100000)
    assert tempo[1] == TICKS.tempo_us * 100
    texts: list[tuple[int, str]] = []
    so_far = b""
    for tick, packet in packets:
        if packet[0] >> 28 == 0xD and packet[0] >> 8 & 0xFF == 1:
            so_far += b"".join(word.to_bytes(4, "big") for word in packet[1:])
            if packet[0] >> 22 & 3 in (0, 3):
                texts.append((tick, so_far.rstrip(b"\0").decode()))
                so_far = b""
    named = [(0, text) for text in NAMES[:3]]
    assert texts == [*named, *((label.frame, label.text) for label in labels)]
