"""WAV and RF64: what stands before the samples, and what stands behind them.

Before: ds64 (RF64 only), bext (EBU Tech 3285), iXML, fmt, fact. Behind: cue points and their labels; there may be any
number of them, and readers that have little room for a header (libsndfile: 100 KB) still find the samples. All sizes
are known before the first sample is written, so that it can go into a pipe.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Literal

import msgspec

from chaos.terms.visible import visible

__all__ = ["SPEAKERS", "Broadcast", "Cue", "WavFormat", "channel_mask", "header", "needs_rf64", "trailer"]

_RIFF_LIMIT_BYTES = (1 << 32) - (1 << 16)
_UNKNOWN = 0xFFFFFFFF
_PCM, _FLOAT, _EXTENSIBLE = 1, 3, 0xFFFE
_GUID_TAIL = bytes.fromhex("000000001000800000aa00389b71")
SPEAKERS = ("FL", "FR", "FC", "LFE", "RL", "RR", "FLC", "FRC", "RC", "SL", "SR")
"""By their bits in the channel mask of WAVE_FORMAT_EXTENSIBLE, in PipeWire's names."""
_BEXT = struct.Struct("<256s32s32s10s8sQH64s10s180s")
_CUE = struct.Struct("<II4sIII")
_REGION = struct.Struct("<II4sHHHH")


class WavFormat(msgspec.Struct, frozen=True):
    """How the samples stand in the file: interleaved, little-endian, `sample_bits` 16, 24 or 32.

    `positions` name the channels.
    """

    channels: int
    sample_rate: int
    sample_bits: int
    is_float: bool
    positions: Sequence[str] = ()

    @property
    def frame_bytes(self) -> int:
        return self.channels * self.sample_bits // 8


class Broadcast(msgspec.Struct, frozen=True):
    """The bext chunk. `wall_ns` is the moment of the file's first frame (ns since 1970-01-01 UTC).

    Texts that are longer than the chunk has room for (256, 32 and 32 bytes) are cut; `history` is not.
    """

    description: str
    originator: str
    reference: str
    wall_ns: int
    history: str


class Cue(msgspec.Struct, frozen=True):
    """A place in the file, with a length where it is a region. Frames count from the file's first."""

    frame: int
    n_frames: int
    label: str


def needs_rf64(wav: WavFormat, n_frames: int, n_behind: int = 0) -> bool:
    """Whether so many frames, and `n_behind` bytes behind them, overflow the 32 bits that WAV has for sizes."""
    return n_frames * wav.frame_bytes + n_behind > _RIFF_LIMIT_BYTES


def header(
    wav: WavFormat,
    n_frames: int,
    broadcast: Broadcast,
    container: Literal["wav", "rf64"] = "wav",
    n_behind: int = 0,
    history_bytes: int = 0,
) -> bytes:
    """The file up to its samples, of which `n_frames * frame_bytes` bytes follow, and then the trailer's `n_behind`.

    The history takes up at least `history_bytes`: a header with a shorter one can stand in its place.
    """
    n_bytes = n_frames * wav.frame_bytes
    chunks = _chunk(b"bext", _bext(broadcast, wav.sample_rate, history_bytes))
    chunks += _chunk(b"iXML", _ixml(wav))
    chunks += _chunk(b"fmt ", _fmt(wav))
    if wav.is_float:
        chunks += _chunk(b"fact", struct.pack("<I", min(n_frames, _UNKNOWN)))
    size = 4 + len(chunks) + 8 + n_bytes + n_behind
    if container == "wav":
        return b"RIFF" + struct.pack("<I", size) + b"WAVE" + chunks + b"data" + struct.pack("<I", n_bytes)
    sizes = struct.pack("<QQQI", size + 36, n_bytes, n_frames, 0)
    opening = b"RF64" + struct.pack("<I", _UNKNOWN) + b"WAVE" + _chunk(b"ds64", sizes)
    return opening + chunks + b"data" + struct.pack("<I", _UNKNOWN)


def trailer(wav: WavFormat, n_frames: int, cues: Sequence[Cue] = ()) -> bytes:
    """What follows the samples: the byte that makes them even, cue points and labels.

    Cues beyond the 32 bits of a cue point are left out.
    """
    filler = b"\0" * (n_frames * wav.frame_bytes % 2)
    placed = [cue for cue in cues if cue.frame < _UNKNOWN]
    if not placed:
        return filler
    return filler + _chunk(b"cue ", _cue_points(placed)) + _chunk(b"LIST", _labels(placed))


def channel_mask(positions: Sequence[str]) -> int:
    """The speakers as WAVE_FORMAT_EXTENSIBLE has them; 0 where it can't name them in the order they come."""
    if not all(position in SPEAKERS for position in positions):
        return 0
    bits = [SPEAKERS.index(position) for position in positions]
    return sum(1 << bit for bit in bits) if bits == sorted(set(bits)) else 0


def _chunk(name: bytes, content: bytes) -> bytes:
    return name + struct.pack("<I", len(content)) + content + b"\0" * (len(content) % 2)


def _bext(broadcast: Broadcast, sample_rate: int, history_bytes: int) -> bytes:
    """Of even length: some readers of RF64 don't expect the byte that would fill it up."""
    seconds, rest_ns = divmod(broadcast.wall_ns, 1_000_000_000)
    moment = datetime.fromtimestamp(seconds, UTC)
    since_midnight = seconds % 86_400 * sample_rate + rest_ns * sample_rate // 1_000_000_000
    history = _ascii(broadcast.history).ljust(history_bytes, b"\0")
    fixed = _BEXT.pack(
        _ascii(broadcast.description),
        _ascii(broadcast.originator),
        _ascii(broadcast.reference),
        f"{moment:%Y-%m-%d}".encode(),
        f"{moment:%H:%M:%S}".encode(),
        since_midnight,
        1,
        bytes(64),
        bytes(10),
        bytes(180),
    )
    return fixed + history + b"\0" * (len(history) % 2)


def _ixml(wav: WavFormat) -> bytes:
    """The channels' names (iXML 1.61), of even length."""
    tracks = "".join(
        f"<TRACK><CHANNEL_INDEX>{number}</CHANNEL_INDEX><INTERLEAVE_INDEX>{number}</INTERLEAVE_INDEX>"
        f"<NAME>{_escaped(visible(name))}</NAME></TRACK>"
        for number, name in enumerate(wav.positions, 1)
    )
    text = (
        '<?xml version="1.0" encoding="UTF-8"?>\n<BWFXML><IXML_VERSION>1.61</IXML_VERSION>'
        f"<TRACK_LIST><TRACK_COUNT>{len(wav.positions)}</TRACK_COUNT>{tracks}</TRACK_LIST></BWFXML>\n"
    ).encode()
    return text + b" " * (len(text) % 2)


def _escaped(text: str) -> str:
    """For XML. (xml.sax.saxutils, which has the same three replacements, loads an HTTP client.)"""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _fmt(wav: WavFormat) -> bytes:
    tag = _FLOAT if wav.is_float else _PCM
    is_plain = wav.channels <= 2 and (wav.is_float or wav.sample_bits == 16)
    common = struct.pack(
        "<HHIIHH",
        tag if is_plain else _EXTENSIBLE,
        wav.channels,
        wav.sample_rate,
        min(wav.sample_rate * wav.frame_bytes, _UNKNOWN),
        wav.frame_bytes,
        wav.sample_bits,
    )
    if is_plain:
        return common + (struct.pack("<H", 0) if wav.is_float else b"")
    return common + struct.pack("<HHIH", 22, wav.sample_bits, channel_mask(wav.positions), tag) + _GUID_TAIL


def _cue_points(cues: Sequence[Cue]) -> bytes:
    points = (_CUE.pack(number, cue.frame, b"data", 0, 0, cue.frame) for number, cue in enumerate(cues, 1))
    return struct.pack("<I", len(cues)) + b"".join(points)


def _labels(cues: Sequence[Cue]) -> bytes:
    """All labels, then all lengths: some readers look for no label behind a length."""
    labels, regions = [b"adtl"], []
    for number, cue in enumerate(cues, 1):
        labels.append(_chunk(b"labl", struct.pack("<I", number) + _ascii(cue.label) + b"\0"))
        if cue.n_frames:
            region = _REGION.pack(number, min(cue.n_frames, _UNKNOWN), b"rgn ", 0, 0, 0, 0)
            regions.append(_chunk(b"ltxt", region))
    return b"".join(labels + regions)


def _ascii(text: str) -> bytes:
    return text.encode("ascii", "replace")
