"""Hashes over whole recordings: of their chunks alone, of all that makes them what they are, of streams.

Each is taken over what stands in PROTOCOL.md, so that others can work it out for themselves; a version that was told
once is told for good.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import msgspec
from blake3 import blake3

from chaos.store.info import RecordingInfo, SealedChunk
from chaos.terms.ledger import CLOCK_COLUMNS, FIRST_CLOCK_COLUMNS, Cause, Gap

if TYPE_CHECKING:
    from chaos.store.slices import ChunkSpan

__all__ = ["recording_hash", "recording_hash_v3", "root_hash", "stream_hash"]

_Line = tuple[Any, ...]


def root_hash(chunks: Iterable[SealedChunk | ChunkSpan]) -> str:
    """BLAKE3-256 over the hashes (32 bytes each) of these chunks in order; over all of a recording `verify`'s."""
    return blake3(b"".join(bytes.fromhex(each.hash) for each in chunks)).hexdigest()


def recording_hash(info: RecordingInfo) -> str:
    """Version 2: BLAKE3-256 over length, ledger, start, device and clock, beside the chunks.

    Retired gaps are not among them, so that retention does not change it.
    """
    return _over([("chaosd recording", 2), *_lines(info, FIRST_CLOCK_COLUMNS)])


def recording_hash_v3(info: RecordingInfo, n_marks: int | None = None) -> str:
    """Version 3: besides what version 2 covers, all columns of the clock, the names of the channels, the takes before
    this one, the session, what the device said of its latency, and the marks: the first `n_marks` that were set, or
    all. Whoever signed it can so say which marks there were, and more may be set later."""
    shape = info.definition
    marks = info.marks if n_marks is None else info.marks[:n_marks]
    return _over(
        [
            ("chaosd recording", 3),
            *_lines(info, CLOCK_COLUMNS),
            ("positions", *shape.positions),
            ("after", shape.continues, shape.follows, shape.away_ns, shape.after_change),
            ("session", shape.session, *shape.session_uris),
            *(("latency", frame, each.quanta, each.frames, each.ns) for frame, each in info.latencies),
            *(("mark", mark.frame, mark.label) for mark in marks),
        ]
    )


def stream_hash(uri: str, takes: Iterable[tuple[str, int, str]], version: int = 1) -> str:
    """BLAKE3-256 over the takes of a stream: of each its URI, its place on the timeline and its recording hash, of
    version 2, or with version 2 of this one of version 3."""
    return _over([("chaosd stream", version), ("uri", uri), *(("take", *take) for take in takes)])


def _lines(info: RecordingInfo, columns: tuple[str, ...]) -> list[_Line]:
    shape = info.definition
    gaps = sorted((gap for gap in info.gaps if gap.cause is not Cause.RETIRED), key=Gap.row)
    return [
        ("uri", shape.uri),
        ("device", shape.device.get("identity")),
        ("form", shape.channels, shape.sample_rate, shape.sample_format, shape.chunk_frames),
        ("started", shape.started_wall_ns),
        ("length", info.n_frames, info.clean),
        *(("chunk", each.chunk, each.first_frame, each.n_frames, each.hash) for each in info.chunks),
        *(("gap", gap.first_frame, gap.n_frames, gap.cause.label, gap.confidence.label) for gap in gaps),
        *(("anchor", *row) for row in sorted(anchor.row(columns) for anchor in info.anchors)),
    ]


def _over(lines: Iterable[_Line]) -> str:
    """Of JSON arrays in compact form, each with a line feed behind it."""
    hasher = blake3()
    for line in lines:
        hasher.update(msgspec.json.encode(line) + b"\n")
    return hasher.hexdigest()
