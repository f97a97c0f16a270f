"""Messages in words."""

from __future__ import annotations

import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chaos.terms.messages import MIDI1, UMP, messages_of
from chaos.terms.midiwords import in_words, note_name


def said(kind: int, data: bytes) -> list[str]:
    return [in_words(message) for message in messages_of([(0, kind, data)])]


def ump(*words: int) -> bytes:
    return b"".join(word.to_bytes(4, sys.byteorder) for word in words)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ("903c61", "note on C4 97, channel 1"),
        ("8f4500", "note off A4 0, channel 16"),
        ("a03c05", "poly pressure C4 5, channel 1"),
        ("b0407f", "controller 64 (sustain pedal) 127, channel 1"),
        ("b01405", "controller 20 5, channel 1"),
        ("c105", "program 5, channel 2"),
        ("d040", "channel pressure 64, channel 1"),
        ("e00040", "pitch bend +0%, channel 1"),
        ("e00000", "pitch bend -100%, channel 1"),
        ("f8", "clock"),
        ("fe", "active sensing"),
        ("f20102", "song position"),
        ("f07e7f0901f7", "system exclusive, 6 bytes"),
        ("f07e", "part of a system exclusive, 2 bytes"),
        ("90ff", "not MIDI: 90"),
        ("", "not MIDI: no bytes"),
    ],
)
def test_midi_1(data: str, words: str) -> None:
    assert said(MIDI1, bytes.fromhex(data))[0] == words


@pytest.mark.parametrize(
    ("packet", "words"),
    [
        (ump(0x20903C61), "note on C4 97, channel 1"),
        (ump(0x25903C61), "note on C4 97, channel 1, group 6"),
        (ump(0x10F80000), "clock"),
        (ump(0x40913C00, 0xC3000000), "note on C4 97.5, channel 2"),
        (ump(0x40B00700, 0xFFFFFFFF), "controller 7 (volume) 127, channel 1"),
        (ump(0x40E00000, 0x80000000), "pitch bend +0%, channel 1"),
        (ump(0x40C00000, 0x05000000), "program 5, channel 1"),
        (ump(0x40003C00, 0x06000000), "registered controller 0 of note C4 3, channel 1"),
        (ump(0x40013C0A, 0x80000000), "registered controller 10 (pan) of note C4 64, channel 2"),
        (ump(0x40103C0A, 0x80000000), "assignable controller 10 of note C4 64, channel 1"),
        (ump(0x40200000, 0x04000000), "registered controller 0/0 (pitch bend range) 2, channel 1"),
        (ump(0x40230509, 0x04000000), "registered controller 5/9 2, channel 4"),
        (ump(0x40300001, 0xFFFFFFFF), "assignable controller 0/1 127, channel 1"),
        (ump(0x40400001, 0x04000000), "relative registered controller 0/1 +2, channel 1"),
        (ump(0x40500001, 0xFC000000), "relative assignable controller 0/1 -2, channel 1"),
        (ump(0x40603C00, 0xC0000000), "pitch bend of note C4 +50%, channel 1"),
        (ump(0x40F03C01, 0x00000000), "controllers of note C4: reset, channel 1"),
        (ump(0x40F03C03, 0x00000000), "controllers of note C4: detach and reset, channel 1"),
    ],
)
def test_packets(packet: bytes, words: str) -> None:
    assert said(UMP, packet) == [words]


def test_middle_c_is_c4_and_all_notes_have_a_name() -> None:
    assert [note_name(number) for number in (0, 60, 61, 127)] == ["C-1", "C4", "C#4", "G9"]
    assert len({note_name(number) for number in range(128)}) == 128


@given(st.lists(st.tuples(st.integers(0, 9), st.sampled_from([MIDI1, UMP]), st.binary(max_size=24)), max_size=8))
def test_whatever_came_can_be_said_in_one_short_line(events: list[tuple[int, int, bytes]]) -> None:
    for message in messages_of(events):
        words = in_words(message)
        assert 0 < len(words) < 120
        assert words.isprintable()
