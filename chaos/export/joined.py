"""The range of a stream that a save reads where it reaches over several takes: their sources, one after the other."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import Any

import msgspec
from blake3 import blake3

from chaos.export.report import Damage
from chaos.export.source import Source, not_a_number, without
from chaos.read.planes import Planes, silence
from chaos.read.recording import StreamRecording
from chaos.store.slices import gaps_in
from chaos.terms.containers import GapFill
from chaos.terms.ledger import Gap

__all__ = ["JoinedSource"]


class JoinedSource(Source):
    """As `Source`, of a stream. What it tells of chunks is of all takes, in order."""

    part_of = Source
    """What reads one take."""

    def __init__(self, recording: StreamRecording, first: int, end: int, fill: GapFill) -> None:
        self.recording = recording
        self.first = first
        self.end = end
        self.fill = fill
        self._parts: list[tuple[int, Source]] = []
        self._between: list[Gap] = []
        for take, part in recording.parts(first, end):
            begin, stop = max(first - take.origin, 0), min(end - take.origin, part.n_frames)
            if (gap := take.gap()) is not None:
                self._between += gaps_in([gap], first, end)
            if begin < stop:
                self._parts.append((take.origin, self.part_of(part, begin, stop, fill)))
        self.gaps = self._told()
        self.spans = list(without(self.gaps, first, end)) if fill == "cut" else [(first, end)]
        self.n_frames = sum(stop - begin for begin, stop in self.spans)

    @property
    def wall_ns(self) -> int:
        return self._parts[0][1].wall_ns if self._parts else self.recording.definition.started_wall_ns

    @property
    def damaged(self) -> list[Damage]:  # type: ignore[override]
        return [
            msgspec.structs.replace(damage, first_frame=damage.first_frame + origin)
            for origin, part in self._parts
            for damage in part.damaged
        ]

    def held(self) -> AbstractContextManager[bool]:
        return self._all_held()

    @contextmanager
    def _all_held(self) -> Iterator[bool]:
        with ExitStack() as stack:
            held = [stack.enter_context(part.held()) for _, part in self._parts]
            yield all(held)

    @property
    def n_chunks(self) -> int:
        return sum(part.n_chunks for _, part in self._parts)

    @property
    def hashes(self) -> list[str]:
        return [digest for _, part in self._parts for digest in part.hashes]

    @property
    def root_hash(self) -> str:
        return blake3(b"".join(bytes.fromhex(digest) for digest in self.hashes)).hexdigest()

    def blocks(self) -> Iterator[Any]:
        reached = self.first
        for origin, part in self._parts:
            yield from self._silence(origin + part.first - reached)
            yield from part.blocks()
            reached = origin + part.end
        yield from self._silence(self.end - reached)
        self.gaps = self._told()

    def _silence(self, n_frames: int) -> Iterator[Planes]:
        """The time between takes, unless it is cut out."""
        form = self.recording.definition.audio
        while n_frames > 0 and self.fill != "cut":
            n = min(n_frames, 1 << 16)
            yield [memoryview(not_a_number(n))] * form.channels if self.fill == "nan" else silence(form, n)
            n_frames -= n

    def _told(self) -> list[Gap]:
        told = [
            msgspec.structs.replace(gap, first_frame=gap.first_frame + origin)
            for origin, part in self._parts
            for gap in part.gaps
        ]
        return sorted([*told, *self._between], key=lambda gap: gap.first_frame)
