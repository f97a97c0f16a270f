"""What a MIDI stream has heard, as people are told."""

from __future__ import annotations

import struct

from hypothesis import given
from hypothesis import strategies as st

from chaos.engine.activity import activity_of
from chaos.protocol.answers import MidiActivity

RATE = 48_000
CHUNK = 10 * RATE


def record(frame: int, data: bytes, kind: int = 2) -> bytes:
    return struct.pack("<II", frame, len(data) | kind << 24) + data + bytes(-len(data) % 8)


def test_the_last_message_is_told_in_words_with_its_frame() -> None:
    raw = record(10, b"\x90\x3c\x61") + record(RATE, b"\x80\x3c\x00") + record(RATE + 5, b"\xfe")
    told = activity_of(raw, 2, 2 * RATE, CHUNK, RATE, None)
    assert told == MidiActivity(2.0, "note off C4 0, channel 1", 2 * CHUNK + RATE)


def test_what_was_heard_before_stays_until_something_else_is() -> None:
    before = MidiActivity(3.0, "note on C4 97, channel 1", 77)
    assert activity_of(b"", 3, 480, CHUNK, RATE, before) == MidiActivity(0.0, before.last, before.last_frame)
    assert activity_of(record(3, b"\xf8"), 3, 480, CHUNK, RATE, before).last == before.last
    assert activity_of(record(3, b"\xf8"), 3, 480, CHUNK, RATE, None).last == "clock"
    assert activity_of(b"", 0, 0, CHUNK, RATE, None) == MidiActivity(0.0, None, None)


def test_events_a_second_are_those_of_the_last_second_that_is_there() -> None:
    raw = b"".join(record(frame, b"\xfe") for frame in range(0, 3 * RATE, 4800))
    assert activity_of(raw, 0, 3 * RATE, CHUNK, RATE, None).events_per_s == 10
    assert activity_of(record(0, b"\xfe"), 0, RATE // 10, CHUNK, RATE, None).events_per_s == 10


@given(st.binary(max_size=200), st.integers(0, CHUNK))
def test_whatever_lies_in_the_slot_something_can_be_said(raw: bytes, filled: int) -> None:
    told = activity_of(raw, 1, filled, CHUNK, RATE, None)
    assert told.events_per_s >= 0
    assert (told.last is None) == (told.last_frame is None)
