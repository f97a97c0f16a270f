"""A stream of several takes, read as one recording."""

from __future__ import annotations

import time
from bisect import bisect_right
from contextlib import suppress
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from chaos.read.content import Content, Piece
from chaos.read.take import Recording
from chaos.store.info import RecordingInfo
from chaos.store.lines import Definition
from chaos.store.store import Store
from chaos.terms.errors import InvalidRequest
from chaos.terms.latency import Latency
from chaos.terms.ledger import ClockAnchor, Gap
from chaos.terms.marks import Mark
from chaos.terms.moments import wall_ns_of

if TYPE_CHECKING:
    from chaos.read.overview import Part
    from chaos.store.takes import Take

__all__ = ["StreamRecording"]

_ROLL_WITHIN_S = 2.0


class StreamRecording(Recording):
    """All takes of a stream. Frames count from the first take's first; `takes` says where each begins."""

    def __init__(self, store: Store, uri: str) -> None:
        self._store = store
        self._stream_uri = uri
        self._takes = self._found()
        self._open: dict[Path, Recording] = {}
        self._ended_at = 0.0 if self._last.info.finish else None

    def _found(self) -> list[Take]:
        from chaos.store.takes import takes_of

        return takes_of(self._store, self._stream_uri)

    @property
    def takes(self) -> list[Take]:
        return list(self._takes)

    def parts(self, first: int, last: int) -> list[tuple[Take, Recording]]:
        """The takes that frames [first, last) lie in, or right before, each as a recording of its own."""
        return [(take, self._recording(take)) for take in self._between(first, last)]

    @property
    def _last(self) -> Recording:
        return self._recording(self._takes[-1])

    def _recording(self, take: Take) -> Recording:
        if take.path not in self._open:
            self._open[take.path] = Recording(take.path)
        return self._open[take.path]

    def _end(self, take: Take) -> int:
        if take is self._takes[-1]:
            return take.origin + self._last.n_frames
        return take.origin + take.digest.n_frames

    @property
    def info(self) -> RecordingInfo:
        """Of the newest take: what concerns the whole stream is in the recording's own properties."""
        return self._last.info

    def take_at(self, frame: int) -> tuple[int, RecordingInfo]:
        take = self._take_at(frame)
        return take.origin, self._recording(take).info

    def _take_at(self, frame: int) -> Take:
        return self._takes[max(bisect_right(self._takes, frame, key=lambda take: take.origin) - 1, 0)]

    @property
    def path(self) -> Path:
        """The newest take's folder."""
        return self._takes[-1].path

    @property
    def definition(self) -> Definition:
        """The first take's, which the others have in common but for their starts."""
        return msgspec.structs.replace(self._takes[0].digest.definition, uri=self._stream_uri)

    @property
    def state(self) -> str:
        """The newest take's; "recording" for a moment after its end, since the stream may roll."""
        state = self._last.state
        if state == "recording":
            self._ended_at = None
            return state
        if self._ended_at is None:
            self._ended_at = time.monotonic()
        if time.monotonic() - self._ended_at < _ROLL_WITHIN_S:
            self.refresh()
            return "recording"
        return state

    @property
    def n_frames(self) -> int:
        return self._end(self._takes[-1])

    def refresh(self) -> None:
        """Takes in what was sealed since, and the takes that the stream has gone on into."""
        self._last.refresh()
        if self._last.info.finish or not self._last.info.is_live:
            self._takes = self._found()

    def _ledger(self) -> list[Gap]:
        return self._gaps_of(self._takes)

    def _gaps_of(self, takes: list[Take]) -> list[Gap]:
        found: list[Gap] = []
        for take in takes:
            between = take.gap()
            if between is not None:
                found.append(between)
            found += [_moved(gap, take.origin) for gap in self._gaps_in(take)]
        return found

    def _gaps_in(self, take: Take) -> list[Gap]:
        """The ledger of one take. Of one that is finished its table has it: the journal of a day is long."""
        if take.path not in self._open and take is not self._takes[-1] and take.digest.finish is not None:
            from chaos.store.verify import read_table

            with suppress(ValueError):
                rows = read_table(take.path / "gaps")
                if rows is not None and len(rows) == take.digest.n_gaps:
                    return sorted(map(Gap.from_row, rows), key=lambda gap: gap.first_frame)
        return self._recording(take).gaps

    def gaps_between(self, first: int, last: int) -> list[Gap]:
        found = self._gaps_of(self._between(first, last))
        return [gap for gap in found if gap.n_frames and gap.first_frame < last and first < gap.end_frame]

    def _parts(self, first: int, last: int) -> list[Part]:
        from chaos.read.overview import Part

        takes = self._between(first, last) or self._takes[-1:]
        return [
            Part(
                take.origin,
                self._end(take) - take.origin,
                take is not self._takes[-1] or self._last.info.finish is not None,
                take.path,
                take.digest.definition,
                self._gaps_in(take),
                partial(self._recording, take),
            )
            for take in takes
        ]

    def _between(self, first: int, last: int) -> list[Take]:
        """The takes that frames [first, last) lie in, or right before."""
        return [take for take in self._takes if take.origin - take.away < last and first < self._end(take)]

    @property
    def anchors(self) -> list[ClockAnchor]:
        return [
            msgspec.structs.replace(anchor, frame=anchor.frame + take.origin)
            for take in self._takes
            for anchor in self._recording(take).anchors
        ]

    def _pieces(self, content: Content[Piece], first: int, last: int) -> list[Piece]:
        pieces: list[Piece] = []
        for take in self._between(first, last):
            if first < take.origin:
                pieces.append(content.nothing(min(take.origin, last) - max(take.origin - take.away, first)))
            begin, end = max(first, take.origin) - take.origin, min(last, self._end(take)) - take.origin
            if begin < end:
                found = self._recording(take)._pieces(content, begin, end)
                pieces += [content.moved(piece, take.origin) for piece in found]
        return pieces

    def frame_of(self, moment: float | datetime) -> int:
        """The frame at a moment; one between two takes is in the gap between them."""
        if not isinstance(moment, datetime):
            return round(moment * self.sample_rate)
        if moment.tzinfo is None:
            raise InvalidRequest(f"{moment} has no time zone", hint="use datetime.now(UTC) and the like")
        wall_ns = wall_ns_of(moment)
        at = bisect_right(self._takes, wall_ns, key=lambda take: take.digest.definition.started_wall_ns) - 1
        take = self._takes[max(at, 0)]
        frame = take.origin + self._recording(take).frame_of(moment)
        following = self._takes[at + 1] if 0 <= at < len(self._takes) - 1 else None
        return frame if following is None else min(frame, following.origin)

    def moment_of(self, frame: int) -> datetime:
        take = self._take_at(frame)
        return self._recording(take).moment_of(frame - take.origin)

    @property
    def marks(self) -> list[Mark]:
        return [
            msgspec.structs.replace(mark, frame=mark.frame + take.origin)
            for take in self._takes
            for mark in self._marks_in(take)
        ]

    def _marks_in(self, take: Take) -> list[Mark]:
        is_known = take.path not in self._open and take is not self._takes[-1]
        marks = take.digest.marks if is_known else self._recording(take).marks
        return sorted(marks, key=lambda mark: mark.frame)

    @property
    def latencies(self) -> list[tuple[int, Latency]]:
        return [
            (frame + take.origin, latency) for take in self._takes for frame, latency in self._recording(take).latencies
        ]

    @property
    def oldest_staged_frame(self) -> int:
        return self._takes[-1].origin + self._last.oldest_staged_frame

    def close(self) -> None:
        for recording in self._open.values():
            recording.close()


def _moved(gap: Gap, frames: int) -> Gap:
    return msgspec.structs.replace(gap, first_frame=gap.first_frame + frames)
