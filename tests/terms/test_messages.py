"""What events say: every byte in one message, sysex put together, nothing that raises."""

from __future__ import annotations

import sys
from collections.abc import Iterator

from hypothesis import given
from hypothesis import strategies as st
from sequences import MESSAGES

from chaos.terms.messages import MIDI1, UMP, Message, messages_by_frame, messages_of


def words(*packet: int) -> bytes:
    return b"".join(word.to_bytes(4, sys.byteorder) for word in packet)


def said(*data: bytes, kind: int = MIDI1) -> list[tuple[int, str, bytes]]:
    found = messages_of((frame, kind, each) for frame, each in enumerate(data))
    return [(each.frame, each.type, each.data) for each in found]


def test_messages_of_midi_1() -> None:
    assert said(b"\x93\x40\x7f", b"\xc1\x05", b"\xf2\x01\x02", b"\xf8") == [
        (0, "note_on", b"\x93\x40\x7f"), (1, "program_change", b"\xc1\x05"), (2, "song_position", b"\xf2\x01\x02"),
        (3, "clock", b"\xf8"),
    ]  # fmt: skip
    assert next(messages_of([(7, MIDI1, b"\x93\x40\x7f")])) == Message(7, MIDI1, "note_on", b"\x93\x40\x7f", 3)


def test_a_sysex_over_events_with_clocks_between_is_one() -> None:
    assert said(b"\xf0\x01", b"\xf8", b"\x02\xf8\x03", b"\xf7") == [
        (1, "clock", b"\xf8"), (2, "clock", b"\xf8"), (0, "sysex", b"\xf0\x01\x02\x03\xf7"),
    ]  # fmt: skip


def test_a_sysex_that_breaks_off_is_a_part() -> None:
    assert said(b"\xf0\x01", b"\x90\x01\x02", b"\xf0\x05") == [
        (0, "sysex_part", b"\xf0\x01"), (1, "note_on", b"\x90\x01\x02"), (2, "sysex_part", b"\xf0\x05"),
    ]  # fmt: skip
    assert said(b"\x01\x02\xf7") == [(0, "sysex_part", b"\x01\x02\xf7")]


def test_what_makes_no_sense_is_kept_and_said_to_be() -> None:
    assert said(b"", b"\x40", b"\x90\x01", b"\xf4", b"\x90\x01\x02\x03") == [
        (0, "invalid", b""), (1, "invalid", b"\x40"), (2, "invalid", b"\x90\x01"), (3, "invalid", b"\xf4"),
        (4, "note_on", b"\x90\x01\x02"), (4, "invalid", b"\x03"),
    ]  # fmt: skip


def test_packets_of_ump() -> None:
    packets = [words(0x2A903C64), words(0x10F80000), words(0x40913C00, 0xFFFF0000), words(0x5)]
    found = list(messages_of((0, UMP, packet) for packet in packets))
    assert found == [
        Message(0, UMP, "note_on", b"\x90\x3c\x64", 0, 10),
        Message(0, UMP, "clock", b"\xf8", None, 0),
        Message(0, UMP, "note_on", b"\x40\x91\x3c\x00\xff\xff\x00\x00", 1, 0),
        Message(0, UMP, "utility", b"\x00\x00\x00\x05"),
    ]


def test_sysex_of_two_groups_is_put_together_for_each() -> None:
    packets = [
        words(0x30160001, 0x02030405), words(0x35020A0B, 0), words(0x30260607, 0x08090A0B), words(0x30320C0D, 0),
        words(0x31360101, 0x01010101),
    ]  # fmt: skip
    found = list(messages_of((frame, UMP, packet) for frame, packet in enumerate(packets)))
    assert [(each.frame, each.group, each.type) for each in found] == [
        (1, 5, "sysex"), (0, 0, "sysex"), (4, 1, "sysex_part"),
    ]  # fmt: skip
    assert found[0].data == b"\xf0\x0a\x0b\xf7"
    assert found[1].data == b"\xf0" + bytes(range(14)) + b"\xf7"


def test_a_sysex_of_packets_with_a_byte_that_none_can_have_is_invalid() -> None:
    (found,) = messages_of([(0, UMP, words(0x30030000, 0x80000000))])
    assert (found.type, found.data) == ("invalid", b"\xf0\x00\x00\x80\xf7")


@given(st.lists(MESSAGES))
def test_whole_messages_are_told_one_by_one(data: list[bytes]) -> None:
    found = list(messages_of(enumerate_events(data)))
    assert [(each.frame, each.data) for each in found] == list(enumerate(data))
    assert all(each.is_valid for each in found)


@given(st.lists(MESSAGES.filter(lambda data: data[0] < 0xF8)), st.data())
def test_however_a_sysex_is_cut_it_is_the_same(data: list[bytes], cuts: st.DataObject) -> None:
    pieces: list[bytes] = []
    for each in data:
        at = cuts.draw(st.integers(0, len(each))) if each[0] == 0xF0 else 0
        pieces += [piece for piece in (each[:at], each[at:]) if piece]
    assert [each.data for each in messages_of(enumerate_events(pieces))] == data


@given(st.lists(st.tuples(st.sampled_from([MIDI1, UMP]), st.binary(max_size=60))))
def test_any_bytes_are_in_messages_and_nothing_raises(events: list[tuple[int, bytes]]) -> None:
    found = list(messages_of((frame, kind, data) for frame, (kind, data) in enumerate(events)))
    n_bytes = sum(len(data) for kind, data in events if kind == MIDI1)
    assert sum(len(each.data) for each in found if each.kind == MIDI1) == n_bytes
    assert all(0 <= each.frame < len(events) for each in found)


def enumerate_events(data: list[bytes]) -> list[tuple[int, int, bytes]]:
    return [(frame, MIDI1, each) for frame, each in enumerate(data)]


def test_by_frame_a_sysex_stands_where_it_began() -> None:
    events = [(3, MIDI1, b"\xf0\x01"), (5, MIDI1, b"\xf8"), (6, UMP, words(0x20903C61)), (9, MIDI1, b"\x02\xf7"),
              (9, MIDI1, b"\x90\x40\x01"), (9, MIDI1, b"\x80\x40\x01")]  # fmt: skip
    said = [(each.frame, each.type) for each in messages_by_frame(events)]
    assert said == [(3, "sysex"), (5, "clock"), (6, "note_on"), (9, "note_on"), (9, "note_off")]
    assert [each.frame for each in messages_of(events)] == [5, 6, 3, 9, 9], "these are told as they end"


@given(st.lists(st.tuples(st.integers(0, 3), st.sampled_from([MIDI1, UMP]), st.binary(max_size=20))))
def test_by_frame_are_the_same_messages_in_a_stable_order(steps: list[tuple[int, int, bytes]]) -> None:
    frame, events = 0, []
    for step, kind, data in steps:
        frame += step
        events.append((frame, kind, data))
    assert list(messages_by_frame(events)) == sorted(messages_of(events), key=lambda message: message.frame)


def test_by_frame_nothing_waits_but_for_a_sysex() -> None:
    def events() -> Iterator[tuple[int, int, bytes]]:
        yield 0, MIDI1, b"\x90\x40\x01"
        raise AssertionError("the note was there already")

    assert next(messages_by_frame(events())).type == "note_on"
