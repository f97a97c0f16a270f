"""How large a chunk is: bytes of all channels together, always whole frames."""

from __future__ import annotations

from chaos.terms.counting import counted
from chaos.terms.errors import InvalidChunkSize
from chaos.terms.formats import SAMPLE_BYTES

__all__ = [
    "MAX_CHUNK_BYTES",
    "MIDI_CHUNK_S",
    "MIN_CHUNK_FRAMES",
    "MIN_MIDI_CHUNK_BYTES",
    "check_chunk_size",
    "check_midi_chunk_size",
    "chunk_frames",
    "is_short",
    "midi_chunk_bytes",
]

MIN_CHUNK_FRAMES = 1024
MAX_CHUNK_BYTES = 256 << 20
MIDI_CHUNK_S = 5
MIN_MIDI_CHUNK_BYTES = 128 << 10  # twice what one cycle of the graph can bring
_MIDI_CHUNK_BYTES = 256 << 10
_DEFAULT_BYTES = 16 << 20
_DEFAULT_S = 10
_MEDIUM_S = 4
_SHORT_S = 0.9


def chunk_frames(chunk_size_bytes: int | None, *, channels: int, sample_rate: int, sample_format: str = "f32") -> int:
    """Frames of a chunk: the whole ones that fit into `chunk_size_bytes`.

    Left out it is about 10 s, at most 16 MiB; where these hold less than 4 s, it is 0.9 s: such chunks need no
    checkpoints. Raises InvalidChunkSize with the smallest that works.
    """
    frame_bytes = channels * SAMPLE_BYTES[sample_format]
    if chunk_size_bytes is None:
        fit = _DEFAULT_BYTES // frame_bytes
        wanted = min(_DEFAULT_S * sample_rate, fit)
        if wanted < _MEDIUM_S * sample_rate:
            wanted = min(int(_SHORT_S * sample_rate), fit)
        return max(MIN_CHUNK_FRAMES, wanted)
    check_chunk_size(chunk_size_bytes, channels, SAMPLE_BYTES[sample_format])
    return chunk_size_bytes // frame_bytes


def midi_chunk_bytes(chunk_size_bytes: int | None) -> int:
    """Bytes of a chunk of events, which lasts MIDI_CHUNK_S; left out, room for three times as many notes as a MIDI
    cable can carry. Raises InvalidChunkSize."""
    if chunk_size_bytes is None:
        return _MIDI_CHUNK_BYTES
    check_midi_chunk_size(chunk_size_bytes)
    return chunk_size_bytes // 4096 * 4096


def check_midi_chunk_size(n_bytes: int) -> None:
    """Raises InvalidChunkSize where such chunks are too small or too large to work with."""
    if not MIN_MIDI_CHUNK_BYTES <= n_bytes <= MAX_CHUNK_BYTES:
        raise InvalidChunkSize(
            f"a chunk of events can't have {n_bytes} bytes",
            hint=f"{MIN_MIDI_CHUNK_BYTES} to {MAX_CHUNK_BYTES} work; it is for {MIDI_CHUNK_S} seconds, of any size",
            details={"smallest": MIN_MIDI_CHUNK_BYTES, "largest": MAX_CHUNK_BYTES},
        )


def is_short(n_frames: int, sample_rate: int) -> bool:
    """Whether chunks of so many frames are full, and so stored, before a second has gone by."""
    return n_frames <= _SHORT_S * sample_rate


def check_chunk_size(n_bytes: int, channels: int, sample_bytes: int) -> None:
    """Raises InvalidChunkSize where such chunks are too small or too large to work with."""
    smallest = MIN_CHUNK_FRAMES * channels * sample_bytes
    limits = {"smallest": smallest, "largest": MAX_CHUNK_BYTES}
    if n_bytes < smallest:
        raise InvalidChunkSize(
            f"a chunk of {n_bytes} bytes is too small: it must hold {MIN_CHUNK_FRAMES} frames",
            hint=f"the smallest size for {counted(channels, 'channel')} is {smallest} bytes",
            details=limits,
        )
    if n_bytes > MAX_CHUNK_BYTES:
        raise InvalidChunkSize(
            f"a chunk of {n_bytes} bytes is too large",
            hint=f"the largest size is {MAX_CHUNK_BYTES} bytes",
            details=limits,
        )
