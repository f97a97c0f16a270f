"""Chunks that retention took: which they are, what the ledger says of them, and the end of their files."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from pathlib import Path

import msgspec

from chaos.store.events import clear_events
from chaos.store.info import RecordingInfo, SealedChunk
from chaos.store.objects import ObjectStore
from chaos.store.overview import remove_overview
from chaos.system.files import storage_errors
from chaos.terms.form import MidiForm
from chaos.terms.ledger import Cause, Confidence, Gap

__all__ = [
    "RetiredChunks",
    "gaps_within",
    "gone_chunks",
    "remove_chunks",
    "remove_derived",
    "remove_left",
    "retired_gaps",
]


def retired_gaps(chunks: Iterable[SealedChunk | Gap], gaps: Iterable[Gap]) -> list[Gap]:
    """The ledger entries for chunks (or stretches, in order) that are retired: their frames that are in no gap yet."""
    known = sorted((gap.first_frame, gap.end_frame) for gap in gaps if gap.n_frames)
    spans: list[tuple[int, int]] = []
    for sealed in chunks:
        reached, end = sealed.first_frame, sealed.end_frame
        for first, last in [*(span for span in known if span[0] < end and reached < span[1]), (end, end)]:
            if first > reached:
                begin = spans.pop()[0] if spans and spans[-1][1] == reached else reached
                spans.append((begin, first))
            reached = max(reached, last)
    return [Gap(first, end - first, Cause.RETIRED, Confidence.EXACT) for first, end in spans]


def gone_chunks(info: RecordingInfo) -> list[SealedChunk]:
    """The chunks that retention took away. Where frames of one were missing before, its ledger entries leave those
    out: so any entry in it tells of the whole."""
    spans = iter(sorted((gap.first_frame, gap.end_frame) for gap in info.gaps if gap.cause is Cause.RETIRED))
    gone = []
    span = next(spans, None)
    for sealed in sorted(info.chunks, key=lambda sealed: sealed.first_frame):
        while span is not None and span[1] <= sealed.first_frame:
            span = next(spans, None)
        if span is not None and span[0] < sealed.end_frame:
            gone.append(sealed)
    return gone


class RetiredChunks:
    """The numbers of chunks that were retired; as small as the ledger, since they go by ranges."""

    def __init__(self) -> None:
        self._runs: list[list[int]] = []

    def __contains__(self, chunk: int) -> bool:
        at = bisect_right(self._runs, chunk, key=lambda run: run[0])
        return at > 0 and chunk < self._runs[at - 1][1]

    def add(self, chunks: Iterable[SealedChunk]) -> None:
        for chunk in sorted(sealed.chunk for sealed in chunks):
            if chunk in self:
                continue
            at = bisect_right(self._runs, chunk, key=lambda run: run[0])
            self._runs.insert(at, [chunk, chunk + 1])
            for left in (at, at - 1):
                if 0 <= left < len(self._runs) - 1 and self._runs[left][1] == self._runs[left + 1][0]:
                    self._runs[left][1] = self._runs.pop(left + 1)[1]


def gaps_within(gaps: Iterable[Gap], chunks: Iterable[SealedChunk]) -> list[Gap]:
    """The parts of these gaps (of one cause, in order) that lie in these chunks (in order); adjoining ones are one."""
    found: list[Gap] = []
    for gap in gaps:
        for sealed in chunks:
            first, end = max(gap.first_frame, sealed.first_frame), min(gap.end_frame, sealed.end_frame)
            if first < end and found and found[-1].end_frame == first:
                first = found.pop().first_frame
            if first < end:
                found.append(msgspec.structs.replace(gap, first_frame=first, n_frames=end - first))
    return found


def remove_chunks(objects: ObjectStore, chunks: Iterable[SealedChunk]) -> None:
    """Removes files of chunks that are retired, and their objects unless others have them."""
    for sealed in chunks:
        with storage_errors("remove", Path(sealed.path)):
            Path(sealed.path).unlink(missing_ok=True)
            objects.drop(sealed.hash)


def remove_derived(info: RecordingInfo, chunks: Sequence[SealedChunk]) -> None:
    """Removes what was made of chunks that are about to go, from a recording that nobody writes: rows of events, files
    of the overview. The ledger tells of the retirement already."""
    with storage_errors("remove what was made of chunks of", info.path):
        if isinstance(info.definition.form, MidiForm):
            clear_events(info.path, info.chunks, chunks)
        remove_overview(info.path / "overview", info.definition, info.n_frames, chunks, info.ledger)


def remove_left(objects: ObjectStore, info: RecordingInfo) -> int:
    """Removes what is left of retired chunks whose retirement was interrupted; how many files there were."""
    gone = gone_chunks(info)
    n_left = sum(Path(sealed.path).exists() for sealed in gone)
    if n_left:
        remove_derived(info, gone)
    remove_chunks(objects, gone)
    return n_left
