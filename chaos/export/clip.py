"""A MIDI Clip File (SMF2CLIP): Universal MIDI Packets as they came, one tick a frame. Pure.

It holds one sequence of packets, each behind a delta clockstamp. MIDI 1 goes in as the packets that carry it.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

from chaos.export.smf import Label, Loss, Names, Ticks
from chaos.terms.messages import MIDI1, UMP, Message, messages_of

__all__ = ["clip"]

_MAX_DELTA = (1 << 20) - 1
_DELTA, _DIVISION, _NOTHING = 0x00400000, 0x00300000, 0
_TEMPO, _TEXT, _NAME = 0xD0100000, 0xD0100100, 0xD0100103
_START, _END = 0xF0200000, 0xF0210000
_TEXT_BYTES = 12
_N_WORDS = (1, 1, 1, 2, 2, 4, 1, 1, 2, 2, 2, 3, 3, 4, 4, 4)
"""Of a packet, by its first four bits."""


def clip(
    events: Iterable[tuple[int, int, bytes]], n_frames: int, ticks: Ticks, names: Names, labels: Sequence[Label] = ()
) -> tuple[bytes, Loss]:
    """The file's bytes. `events` are frame, kind and bytes as they were recorded; frames count from the file's begin.

    Left out, and told of: what is not a packet, what makes no sense as MIDI 1, and packets that would count as the
    file's own: its clockstamps, its begin and its end.
    """
    out = _Writer(ticks)
    out.put(0, _DIVISION | ticks.division)
    out.put(0, _START, 0, 0, 0)
    out.put(0, _TEMPO, ticks.tempo_us * 100, 0, 0)  # in units of 10 ns
    out.text(0, names.title, _NAME)
    for text in (names.device, names.port, *names.texts):
        out.text(0, text)
    left_out: Counter[str] = Counter()
    n_events = invalid = 0
    pieces = [*_packets(events), *((label.frame, label) for label in labels)]
    for frame, what in sorted(pieces, key=lambda piece: piece[0]):
        if isinstance(what, Label):
            out.text(frame, what.text)
        elif isinstance(what, str):
            left_out[what] += 1
            invalid += what == "invalid"
        else:
            out.put(frame, *what)
            n_events += 1
    out.put(n_frames, _END, 0, 0, 0)
    shift = out.max_shift_frames
    return b"SMF2CLIP" + bytes(out.data), Loss(n_events, {}, {}, dict(left_out), invalid, shift, ticks.drift_ppm)


def _packets(events: Iterable[tuple[int, int, bytes]]) -> Iterator[tuple[int, tuple[int, ...] | str]]:
    """Each packet's words at its frame, or in their place what kind of thing is left out."""
    midi1: list[tuple[int, int, bytes]] = []
    for frame, kind, data in events:
        if kind == UMP:
            for words in _split(data):
                is_cut = len(words) < _N_WORDS[words[0] >> 28]
                yield frame, "invalid" if is_cut else "utility" if _is_the_files(words) else words
            if not data or len(data) % 4:
                yield frame, "invalid"
        else:
            midi1.append((frame, kind, data))
    for message in messages_of(midi1):
        packets = _carried(message)
        if not packets:
            yield message.frame, message.type
        for words in packets:
            yield message.frame, words


def _split(data: bytes) -> Iterator[tuple[int, ...]]:
    """The packets in an event's words; the last may lack some of its words."""
    words = [int.from_bytes(data[at : at + 4], sys.byteorder) for at in range(0, len(data) // 4 * 4, 4)]
    while words:
        n_words = _N_WORDS[words[0] >> 28]
        yield tuple(words[:n_words])
        words = words[n_words:]


def _is_the_files(words: tuple[int, ...]) -> bool:
    """Division, clockstamp, begin and end of a clip, in whatever group."""
    first = words[0]
    return (first >> 28 == 0 and first >> 20 & 15 in (3, 4)) or first >> 16 in (0xF020, 0xF021)


def _carried(message: Message) -> list[tuple[int, ...]]:
    """The packets of group 1 that carry a message of MIDI 1; none where it makes no sense."""
    data = message.data
    if not message.is_valid or message.kind != MIDI1:
        return []
    if message.type != "sysex":
        kind = 0x1 if message.channel is None else 0x2
        return [(kind << 28 | int.from_bytes(data.ljust(3, b"\0"), "big"),)]
    body = data[1:-1]
    parts = [body[at : at + 6] for at in range(0, len(body), 6)] or [b""]
    packets: list[tuple[int, ...]] = []
    for number, part in enumerate(parts):
        status = 0 if len(parts) == 1 else 1 if number == 0 else 3 if number == len(parts) - 1 else 2
        padded = part.ljust(6, b"\0")
        first = 0x3 << 28 | status << 20 | len(part) << 16 | int.from_bytes(padded[:2], "big")
        packets.append((first, int.from_bytes(padded[2:], "big")))
    return packets


class _Writer:
    def __init__(self, ticks: Ticks) -> None:
        self._ticks = ticks
        self._tick = 0
        self.data = bytearray()
        self.max_shift_frames = 0.0

    def put(self, frame: int, *words: int) -> None:
        """Behind its delta clockstamp; where one is not enough, packets that say nothing stand between."""
        tick = max(self._ticks.at(frame), self._tick)
        self.max_shift_frames = max(self.max_shift_frames, self._ticks.shift(frame))
        while tick - self._tick > _MAX_DELTA:
            self._words(_DELTA | _MAX_DELTA, _NOTHING)
            self._tick += _MAX_DELTA
        self._words(_DELTA | tick - self._tick, *words)
        self._tick = tick

    def text(self, frame: int, text: str, kind: int = _TEXT) -> None:
        """As flex data: twelve bytes a packet, whether it is the first, one between or the last in bits 22 and 23."""
        encoded = text.encode("utf-8", "replace")
        parts = [encoded[at : at + _TEXT_BYTES] for at in range(0, len(encoded), _TEXT_BYTES)] or [b""]
        for number, part in enumerate(parts):
            form = 0 if len(parts) == 1 else 1 if number == 0 else 3 if number == len(parts) - 1 else 2
            padded = part.ljust(_TEXT_BYTES, b"\0")
            words = (int.from_bytes(padded[at : at + 4], "big") for at in range(0, _TEXT_BYTES, 4))
            self.put(frame, kind | form << 22, *words)

    def _words(self, *words: int) -> None:
        for word in words:
            self.data += word.to_bytes(4, "big")
