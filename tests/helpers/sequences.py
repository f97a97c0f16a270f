"""A cycle's events as PipeWire wraps them: pods made by hand, since nothing of PipeWire is needed for them."""

from __future__ import annotations

import struct
from collections.abc import Iterable

from hypothesis import strategies as st

__all__ = ["EVENTS_AT", "MESSAGES", "MIDI1", "UMP", "sequence"]

MIDI1, UMP = 2, 4
_SEQUENCE, _BYTES = 16, 14

Control = tuple[int, int, bytes]
"""An event of a cycle: its offset in frames, its kind, its bytes."""


def sequence(controls: Iterable[Control]) -> bytes:
    """A `spa_pod_sequence`."""
    body = bytes(8)
    for offset, kind, data in controls:
        body += struct.pack("<IIII", offset, kind, len(data), _BYTES) + data + bytes(-len(data) % 8)
    return struct.pack("<II", len(body), _SEQUENCE) + body


def _message(status: int, data: bytes) -> bytes:
    n_data = {0xC: 1, 0xD: 1, 0xF: {0xF1: 1, 0xF2: 2, 0xF3: 1}.get(status, 0)}.get(status >> 4, 2)
    return bytes([status, *(byte & 0x7F for byte in data[:n_data])])


_STATUS = st.sampled_from([*range(0x80, 0xF0), 0xF1, 0xF2, 0xF3, 0xF6, 0xF8, 0xFA, 0xFB, 0xFC, 0xFE, 0xFF])
_SYSEX = st.binary(max_size=80).map(lambda data: bytes([0xF0, *(byte & 0x7F for byte in data), 0xF7]))
MESSAGES = st.one_of(st.builds(_message, _STATUS, st.binary(min_size=2, max_size=2)), _SYSEX)
"""Any valid message of MIDI 1, whole."""

_EVENT = st.one_of(st.tuples(st.just(MIDI1), MESSAGES), st.tuples(st.just(UMP), st.binary()))
EVENTS_AT = st.lists(st.tuples(st.integers(0, 500), _EVENT))
"""Events by frame: valid messages of MIDI 1, and any words, whole or not, as UMP."""
