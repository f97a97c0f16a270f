"""Slices: a range of a recording as the list of the sealed chunks that hold it, without a copy of anything."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from chaos.store.info import RecordingInfo
from chaos.store.retired import gone_chunks
from chaos.store.timeline import frame_of_moment
from chaos.terms.errors import InvalidRange
from chaos.terms.ledger import Gap
from chaos.terms.moments import Moment, Time

__all__ = [
    "ChunkSpan",
    "chunk_spans",
    "gaps_in",
    "resolve",
    "virtual",
    "within",
]


class ChunkSpan(msgspec.Struct, frozen=True):
    """`n_frames` from `first_frame` of the recording on, which lie in this chunk."""

    chunk: int
    path: str
    hash: str
    first_frame: int
    n_frames: int


def virtual(info: RecordingInfo, first: Time, end: Time) -> dict[str, Any]:
    """The result of a virtual `slice`: what is sealed or in a gap; its head is the end of that. Raises InvalidRange."""
    begin, stop = resolve(info, first, end, info.n_frames)
    return {
        "first_frame": begin,
        "n_frames": stop - begin,
        "chunks": chunk_spans(info, begin, stop),
        "gaps": [gap.to_wire() for gap in gaps_in(info.gaps, begin, stop)],
    }


def resolve(info: RecordingInfo, first: Time, end: Time, head: int) -> tuple[int, int]:
    """The frames that are meant, in a recording with this head.

    Moments before the start are the start and moments after the head the head; frames are taken at their word. Raises
    InvalidRange for frames that are not there, and where the end comes before the beginning.
    """
    return within(_frame(info, first, head), _frame(info, end, head), head, info.definition.uri)


def within(begin: int, stop: int, head: int, whose: str) -> tuple[int, int]:
    """The range, if it is one of a timeline that ends at `head`. Raises InvalidRange."""
    if not begin <= stop <= head:
        raise InvalidRange(
            f"frames {begin} to {stop} are not all in {whose}, which has {head}",
            hint="ask for a range from 0 up to its head",
            details={"first_frame": begin, "end_frame": stop, "head_frame": head},
        )
    return begin, stop


def _frame(info: RecordingInfo, place: Time, head: int) -> int:
    if not isinstance(place, Moment):
        return 0 if place == "start" else head
    if place.frame is not None:
        return place.frame
    if place.utc is not None:
        return min(max(frame_of_moment(info, place.utc), 0), head)
    return max(0, head - round(min((place.seconds_ago or 0) * info.definition.sample_rate, head)))


def chunk_spans(info: RecordingInfo, first: int, end: int) -> list[ChunkSpan]:
    """The parts of sealed chunks that frames [first, end) are in; what is in none is in a gap, or not sealed yet."""
    gone = {sealed.chunk for sealed in gone_chunks(info)}
    spans = []
    for sealed in sorted(info.chunks, key=lambda sealed: sealed.first_frame):
        begin, stop = max(sealed.first_frame, first), min(sealed.first_frame + sealed.n_frames, end)
        if begin < stop and sealed.chunk not in gone:
            spans.append(ChunkSpan(sealed.chunk, sealed.path, sealed.hash, begin, stop - begin))
    return spans


def gaps_in(gaps: Iterable[Gap], first: int, end: int) -> list[Gap]:
    """Those of the gaps that reach into frames [first, end), whole, by first frame; also those of no length."""
    inside = [gap for gap in gaps if gap.first_frame < end and first < max(gap.end_frame, gap.first_frame + 1)]
    return sorted(inside, key=lambda gap: gap.first_frame)
