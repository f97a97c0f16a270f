"""A stretch of a stream's timeline over its takes: which frames are meant, and the chunks and gaps that they are in."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from chaos.store.info import load
from chaos.store.slices import ChunkSpan, chunk_spans, gaps_in, within
from chaos.store.takes import Take
from chaos.store.timeline import frame_of_moment
from chaos.terms.ledger import Gap
from chaos.terms.moments import Moment, Time, wall_ns_of

__all__ = ["head_of", "resolve_in", "spans_in", "virtual_in"]


def head_of(takes: Sequence[Take]) -> int:
    """The end of what is sealed or in a gap."""
    return takes[-1].origin + takes[-1].digest.n_frames


def resolve_in(takes: Sequence[Take], first: Time, end: Time, head: int) -> tuple[int, int]:
    """As `chaos.store.slices.resolve`, on the timeline of these takes."""
    return within(_frame(takes, first, head), _frame(takes, end, head), head, "the stream")


def _frame(takes: Sequence[Take], place: Time, head: int) -> int:
    if not isinstance(place, Moment):
        return 0 if place == "start" else head
    if place.frame is not None:
        return place.frame
    if place.utc is None:
        return max(0, head - round((place.seconds_ago or 0) * takes[0].digest.definition.sample_rate))
    wall_ns = wall_ns_of(place.utc)
    began = [take for take in takes if take.digest.definition.started_wall_ns <= wall_ns]
    take = began[-1] if began else takes[0]
    following = takes[len(began)].origin if 0 < len(began) < len(takes) else head
    return min(max(take.origin + frame_of_moment(load(take.path), place.utc), 0), following, head)


def virtual_in(takes: Sequence[Take], first: Time, end: Time) -> dict[str, Any]:
    """The result of a virtual `slice`, on the timeline of these takes."""
    begin, stop = resolve_in(takes, first, end, head_of(takes))
    return {
        "first_frame": begin,
        "n_frames": stop - begin,
        "chunks": spans_in(takes, begin, stop),
        "gaps": [gap.to_wire() for gap in _gaps(takes, begin, stop)],
    }


def spans_in(takes: Sequence[Take], first: int, end: int) -> list[ChunkSpan]:
    """As `chaos.store.slices.chunk_spans`; frames are the stream's, `chunk` is the number in its take."""
    return [
        msgspec.structs.replace(span, first_frame=span.first_frame + take.origin)
        for take in _within(takes, first, end)
        for span in chunk_spans(load(take.path), first - take.origin, end - take.origin)
    ]


def _within(takes: Sequence[Take], first: int, end: int) -> list[Take]:
    ends = [*(take.origin for take in takes[1:]), end]
    return [take for take, stop in zip(takes, ends, strict=True) if take.origin - take.away < end and first < stop]


def _gaps(takes: Sequence[Take], first: int, end: int) -> Iterator[Gap]:
    for take in _within(takes, first, end):
        if (between := take.gap()) is not None:
            yield from gaps_in([between], first, end)
        for gap in gaps_in(load(take.path).gaps, first - take.origin, end - take.origin):
            yield msgspec.structs.replace(gap, first_frame=gap.first_frame + take.origin)
