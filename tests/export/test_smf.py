"""Standard MIDI Files: what mido reads in them is what was recorded, at its frame; what they can't hold is told."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterable
from typing import Any

import mido
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from chaos.export.midi1 import as_midi1, scaled_up
from chaos.export.smf import MARK, NOTE, TAG, Label, Loss, Names, exact_ticks, musical_ticks, smf
from chaos.terms.messages import MIDI1, UMP, Message, messages_of

NAMES = Names("stream://keys/1", "Keys 49 MIDI 1", "Keys 49:Keys 49 MIDI 1", ["48000 frames a second"])
TICKS = exact_ticks(48000)

Event = tuple[int, int, bytes]


def ump(*words: int) -> bytes:
    return b"".join(word.to_bytes(4, sys.byteorder) for word in words)


def written(events: Iterable[Event], n_frames: int = 1 << 20, **options: Any) -> tuple[mido.MidiFile, Loss]:
    ticks, labels = options.pop("ticks", TICKS), options.pop("labels", ())
    data, loss = smf(messages_of(events), n_frames, ticks, NAMES, labels)
    return mido.MidiFile(file=io.BytesIO(data), charset="utf-8"), loss


def timed(track: Iterable[Any]) -> list[tuple[int, Any]]:
    at, found = 0, []
    for message in track:
        at += message.time
        found.append((at, message))
    return found


def read_back(file: mido.MidiFile) -> list[tuple[int, bytes]]:
    """Ticks and bytes of all that was recorded, in its order: also what stands in sequencer specific events."""
    found = []
    for track in file.tracks[1:]:
        for at, message in timed(track):
            if message.type == "sequencer_specific":
                data = bytes(message.data)
                assert data.startswith(TAG)
                found.append((at, data[len(TAG) + 1 :]))
            elif not message.is_meta:
                found.append((at, bytes(message.bytes())))
    return found


channel = st.tuples(st.integers(0x80, 0xEF), st.integers(0, 127), st.integers(0, 127)).map(
    lambda m: bytes(m[: 2 if m[0] >> 4 in (0xC, 0xD) else 3])
)
sysex = st.binary(max_size=300).map(lambda data: b"\xf0" + bytes(byte & 0x7F for byte in data) + b"\xf7")
alone = [bytes([status]) for status in b"\xf6\xf8\xfa\xfe\xff"]
system = st.sampled_from([b"\xf1\x05", b"\xf2\x01\x02", b"\xf3\x03", *alone])
frames = st.integers(0, 1 << 31) | st.integers(0, 1000)
tunes = st.lists(st.tuples(frames, channel | sysex | system), max_size=60).map(
    lambda tune: [(frame, MIDI1, data) for frame, data in sorted(tune, key=lambda each: each[0])]
)


@given(tunes)
@example([(0, MIDI1, b"\x90\x40\x7f"), ((1 << 28) - 1, MIDI1, b"\x80\x40\x00"), (1 << 31, MIDI1, b"\xfe")])
def test_every_message_comes_back_at_its_frame(tune: list[Event]) -> None:
    file, loss = written(tune, n_frames=1 << 31)
    assert read_back(file) == [(frame, data) for frame, _, data in tune]
    assert loss.n_events + sum(loss.set_aside.values()) == len(tune)
    assert loss.invalid == 0
    assert not loss.rounded


@given(st.lists(st.tuples(frames, st.sampled_from([MIDI1, UMP]), st.binary(max_size=40)), max_size=30))
def test_whatever_bytes_came_the_file_can_be_read_and_none_is_missing(events: list[Event]) -> None:
    events = sorted(events, key=lambda event: event[0])
    file, loss = written(events, n_frames=1 << 31)
    messages = list(messages_of(events))
    n_translated = sum(loss.translated.values())
    untouched = loss.n_events - sum(len(t.messages) for m in messages if (t := _translation(m)))
    assert untouched + n_translated + sum(loss.set_aside.values()) == len(messages)
    assert loss.invalid == sum(not message.is_valid for message in messages)
    assert file.tracks[-1][-1].type == "end_of_track"


def _translation(message: Message) -> Any:
    is_midi2 = message.kind == UMP and len(message.data) == 8 and message.data[0] >> 4 == 4
    return as_midi1(message) if is_midi2 and message.channel is not None else None


@pytest.mark.parametrize("gap", [(1 << 28) - 1, 1 << 28, (1 << 29) + 5, 3 * ((1 << 28) - 1)])
def test_a_pause_of_hours_is_bridged_by_empty_texts(gap: int) -> None:
    data, _ = smf(messages_of([(5, MIDI1, b"\x90\x40\x01"), (5 + gap, MIDI1, b"\x80\x40\x01")]), gap + 9, TICKS, NAMES)
    file = mido.MidiFile(file=io.BytesIO(data))
    assert read_back(file) == [(5, b"\x90\x40\x01"), (5 + gap, b"\x80\x40\x01")]
    assert all(message.time < 1 << 28 for track in file.tracks for message in track)
    fillers = [message for message in file.tracks[1] if message.type == "text"]
    assert [message.text for message in fillers] == [""] * ((gap - 1) // ((1 << 28) - 1))


@pytest.mark.parametrize(
    "rate", [8000, 11025, 16000, 22050, 32000, 44100, 48000, 88200, 96000, 176400, 192000, 384000, 768000]
)
def test_one_tick_is_one_frame_and_seconds_are_seconds(rate: int) -> None:
    ticks = exact_ticks(rate)
    assert ticks.are_frames
    assert ticks.division * 1_000_000 == rate * ticks.tempo_us
    assert 0 < ticks.division < 1 << 15
    file, loss = written([(rate * 3600, MIDI1, b"\x90\x40\x01")], rate * 7200, ticks=ticks)
    tempo = file.tracks[0][1].tempo
    seconds = [mido.tick2second(at, file.ticks_per_beat, tempo) for at, m in timed(file.tracks[1]) if not m.is_meta]
    assert seconds == [pytest.approx(3600, abs=1e-9)]
    assert file.length == pytest.approx(7200, abs=1e-6)
    assert (loss.is_exact, loss.drift_ppm) == (True, 0)


@pytest.mark.parametrize(
    ("rate", "tempo", "division"),
    [(48000, 500_000, 24000), (44100, 500_000, 22050), (96000, 250_000, 24000), (192000, 125_000, 24000)],
)
def test_ordinary_rates_are_a_hundred_and_twenty_beats_or_a_multiple(rate: int, tempo: int, division: int) -> None:
    assert exact_ticks(rate)[:2] == (division, tempo)


@given(st.integers(1000, 1_536_000))
def test_at_any_rate_ticks_are_frames_and_what_seconds_are_off_is_told(rate: int) -> None:
    ticks = exact_ticks(rate)
    assert ticks.are_frames
    assert 0 < ticks.division < 1 << 15
    assert 0 < ticks.tempo_us < 1 << 24
    assert abs(ticks.drift_ppm) < 20
    if ticks.drift_ppm == 0:
        assert ticks.division * 1_000_000 == rate * ticks.tempo_us
    else:
        _, loss = written([], ticks=ticks)
        assert not loss.is_exact


@given(st.integers(8000, 192_000), st.floats(20, 400), st.lists(st.integers(0, 1 << 28), min_size=1, max_size=20))
def test_bars_are_rounded_to_the_nearest_tick_and_it_is_said(rate: int, tempo: float, at: list[int]) -> None:
    ticks = musical_ticks(rate, tempo)
    tune = [(frame, MIDI1, b"\x90\x40\x01") for frame in sorted(at)]
    file, loss = written(tune, 1 << 28, ticks=ticks)
    frames_a_tick = ticks.tempo_us * rate / ticks.division / 1_000_000
    shifts = [
        abs(tick * frames_a_tick - frame) for (tick, _), (frame, _, _) in zip(read_back(file), tune, strict=True)
    ]
    assert max(shifts) <= frames_a_tick / 2 + 1e-6
    assert loss.max_shift_frames == pytest.approx(max(shifts), abs=1e-3)
    assert mido.tempo2bpm(file.tracks[0][1].tempo) == pytest.approx(tempo, rel=1e-4)


def test_port_device_gaps_and_marks_are_in_it() -> None:
    labels = [Label(480, NOTE, "gap: 48 frames missed (exact)"), Label(960, MARK, "verse 2: \u00fc")]
    file, _ = written([(7, MIDI1, b"\x90\x40\x01")], 5000, labels=labels)
    first, track = file.tracks
    assert [(m.type, m.name) for m in (first[0], track[0])] == [
        ("track_name", "stream://keys/1"),
        ("track_name", "Keys 49 MIDI 1"),
    ]
    assert (track[1].type, track[1].name) == ("device_name", "Keys 49:Keys 49 MIDI 1")
    found = [(at, m.type, m.text) for at, m in timed(first) if m.type in ("text", "marker")]
    assert found == [(0, "text", NAMES.texts[0]), (480, "text", labels[0].text), (960, "marker", labels[1].text)]
    assert [timed(each)[-1][0] for each in file.tracks] == [5000, 5000]


def test_each_group_of_packets_has_a_track_of_its_own() -> None:
    events = [(frame, UMP, ump(0x20900000 | group << 24 | 0x4001)) for frame, group in enumerate([3, 0, 3])]
    file, loss = written(events)
    assert [track[0].name for track in file.tracks[1:]] == [f"{NAMES.device}, group {n}" for n in (1, 4)]
    assert [at for at, m in timed(file.tracks[2]) if m.type == "note_on"] == [0, 2]
    assert loss.is_exact


def test_sysex_in_packets_is_one_message_where_it_began() -> None:
    events = [(5, UMP, ump(0x30160102, 0x03040506)), (6, UMP, ump(0x10F80000)), (9, UMP, ump(0x30310700, 0))]
    file, loss = written(events)
    assert read_back(file) == [(5, bytes((0xF0, *range(1, 8), 0xF7))), (6, b"\xf8")]
    assert loss.set_aside == {"clock": 1}


# -- MIDI 2


def midi2(status: int, index: int, value: int, second: int = 0) -> bytes:
    return ump(0x40000000 | status << 16 | index << 8 | second, value)


@pytest.mark.parametrize(
    ("packet", "expected", "is_exact"),
    [
        (midi2(0x93, 60, scaled_up(97, 7, 16) << 16), ["933c61"], True),
        (midi2(0x93, 60, 0x0001 << 16), ["933c01"], False),
        (midi2(0x93, 60, scaled_up(97, 7, 16) << 16 | 5, second=3), ["933c61"], False),
        (midi2(0x83, 60, 0), ["833c00"], True),
        (midi2(0xB0, 7, 0xFFFFFFFF), ["b0077f"], True),
        (midi2(0xB0, 7, 0x80000001), ["b00740"], False),
        (midi2(0xA2, 60, 0x80000000), ["a23c40"], True),
        (midi2(0xD2, 0, 0xFFFFFFFF), ["d27f"], True),
        (midi2(0xE1, 0, 0x80000000), ["e10040"], True),
        (midi2(0xC5, 0, 0x09000000), ["c509"], True),
        (midi2(0xC5, 0, 0x09000102, second=1), ["b50001", "b52002", "c509"], True),
        (midi2(0x20, 0, scaled_up(0x2040, 14, 32), second=1), ["b06500", "b06401", "b00640", "b02640"], True),
        (midi2(0x30, 2, 0, second=3), ["b06302", "b06203", "b00600", "b02600"], True),
    ],
)
def test_what_midi_2_says_in_midi_1(packet: bytes, expected: list[str], is_exact: bool) -> None:
    file, loss = written([(7, UMP, packet)])
    played = [(at, bytes(m.bytes()).hex()) for at, m in timed(file.tracks[1]) if not m.is_meta]
    assert played == [(7, data) for data in expected]
    assert (sum(loss.rounded.values()), loss.is_exact) == (int(not is_exact), is_exact)
    beside = [data for _, data in read_back(file) if len(data) == 8]
    assert beside == ([] if is_exact else [_big_endian(packet)]), "the packet itself stands beside it"


@pytest.mark.parametrize("status", [0x00, 0x10, 0x40, 0x50, 0x60, 0xF0])
def test_what_midi_1_has_not_is_set_aside_and_said(status: int) -> None:
    file, loss = written([(7, UMP, midi2(status, 60, 123))])
    assert read_back(file) == [(7, _big_endian(midi2(status, 60, 123)))]
    assert (loss.n_events, sum(loss.set_aside.values()), loss.is_exact) == (0, 1, False)


@given(st.integers(0, 127), st.sampled_from([16, 32]))
def test_a_value_of_midi_1_survives_the_way_through_midi_2(value: int, to_bits: int) -> None:
    assert scaled_up(value, 7, to_bits) >> (to_bits - 7) == value
    assert (scaled_up(0, 7, to_bits), scaled_up(64, 7, to_bits)) == (0, 1 << (to_bits - 1))
    assert scaled_up(127, 7, to_bits) == (1 << to_bits) - 1


def _big_endian(packet: bytes) -> bytes:
    words = [int.from_bytes(packet[at : at + 4], sys.byteorder) for at in range(0, len(packet), 4)]
    return b"".join(word.to_bytes(4, "big") for word in words)
