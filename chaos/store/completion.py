"""Completing one recording whose engine died: from what its staging file holds, or from the disk alone.

Every frame before the head is accounted for: sealed, or in a gap. The head is where the take ends: it is finished, not
clean, and the next take of the device says how long nothing was captured (see `succession`).
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Literal

import msgspec

from chaos.staging.reader import StagingReader
from chaos.store import succession
from chaos.store.about import About
from chaos.store.info import RecordingInfo
from chaos.store.store import Store
from chaos.store.succession import leave_note
from chaos.store.writer import RecordingWriter
from chaos.system.machine import boot_id
from chaos.terms.counting import counted
from chaos.terms.ledger import Cause, ClockAnchor, Confidence, Gap

__all__ = ["Completion", "Recovered"]

_ABSURD = 1 << 62  # no frame, position or time of a real stream comes near
_Data = tuple[int, bytes]


class Recovered(msgspec.Struct, frozen=True):
    """One recording or staging file that was found.

    `outcome`: "recovered"; "removed" (it held nothing that was not stored); "left" as it is; "foreign", so of
    another store or machine; "failed", and may be tried again. `text` says so in plain words. `n_frames` is
    the timeline's length, `n_recovered` frames of it were not sealed before; `down_frames` would have come since
    the engine died, and are in no recording.
    """

    outcome: Literal["recovered", "removed", "left", "foreign", "failed"]
    text: str
    uri: str | None = None
    recording: str | None = None
    staging: str | None = None
    n_frames: int = 0
    n_recovered: int = 0
    down_frames: int = 0


class Completion:
    """Completes one recording through its reopened (or new) writer."""

    def __init__(self, store: Store, writer: RecordingWriter, info: RecordingInfo, is_continued: bool) -> None:
        self._store = store
        self._writer = writer
        self._is_continued = is_continued
        self._shape = writer.definition
        self._n_before = info.n_frames
        self._last_sealed = max((sealed.chunk for sealed in info.chunks), default=-1)
        self._spans = [(sealed.first_frame, sealed.first_frame + sealed.n_frames) for sealed in info.chunks]
        self._spans += [(gap.first_frame, gap.end_frame) for gap in info.gaps]
        self._open_gap = info.open_gap
        self._known_gaps = {(gap.first_frame, gap.n_frames, gap.cause) for gap in info.gaps}
        self._anchors = {(anchor.frame, anchor.position): anchor for anchor in info.anchors}
        self._remarks = [f"line {line} of its journal is damaged" for line in info.bad_lines]
        if writer.was_torn:
            self._remarks.append("the last line of its journal was torn and has been cut off")

    def from_staging(self, staging: StagingReader, told: About) -> Recovered:
        head = staging.head_frame
        offset_ns = time.time_ns() - time.monotonic_ns() if staging.same_boot else told.wall_offset_ns
        n_odd = 0
        for note in staging.notes_left():
            is_sound = max(note.first_frame, note.position, note.monotonic_ns) < _ABSURD
            try:
                if note.is_gap and note.first_frame + note.n_frames <= head:
                    self._gap(note.gap())
                elif note.is_anchor and is_sound:
                    self._anchor(note.anchor(offset_ns))
                elif not note.is_gap:
                    n_odd += 1
            except ValueError:
                n_odd += 1
        if n_odd:
            self._remarks.append(f"{n_odd} of its notes made no sense")
        if (gap := staging.open_gap()) is not None and head > gap[0]:
            self._gap(Gap.open(gap[0], head, Cause(gap[1]) if gap[1] in list(Cause) else Cause.ENGINE_DOWN))
        self._close_gap()
        left = self._parts()
        form = self._shape.form
        for chunk in staging.chunks():
            n_frames = min(form.chunk_frames, head - chunk * form.chunk_frames)
            data = staging.read_chunk(chunk, 0, form.chunk_frames)
            if n_frames > 0 and data is not None:
                left[chunk] = n_frames, form.whole(data, n_frames)  # a copy may have been under way behind these
        self._seal(left)
        self._end_anchor(staging, head, offset_ns)
        end_ns = staging.state("end_ns")
        ended = (end_ns, end_ns + offset_ns) if end_ns < _ABSURD else None
        return self._finish(head, ended, str(staging.path))

    def from_parts(self, remark: str) -> Recovered:
        self._remarks.append(remark)
        self._close_gap()
        self._seal(self._parts())
        return self._finish(max((end for _, end in self._spans), default=0), None, None)

    def _parts(self) -> dict[int, _Data]:
        return {chunk: (n_frames, data) for chunk, n_frames, data in self._writer.unsealed() if n_frames}

    def _gap(self, gap: Gap) -> None:
        key = gap.first_frame, gap.n_frames, gap.cause
        if key not in self._known_gaps:
            self._known_gaps.add(key)
            self._spans.append((gap.first_frame, gap.end_frame))
            self._writer.gap(gap)

    def _close_gap(self) -> None:
        """Ends the gap that was open, where nothing else has told of its end."""
        gap = self._open_gap
        if gap is not None and all(gap.first_frame != first or not n for first, n, _ in self._known_gaps):
            self._gap(gap)

    def _anchor(self, anchor: ClockAnchor) -> None:
        key = anchor.frame, anchor.position
        if key not in self._anchors:
            self._anchors[key] = anchor
            self._writer.anchor(anchor)

    def _seal(self, left: dict[int, _Data]) -> None:
        size = self._shape.chunk_frames
        for chunk in sorted(left):
            if chunk <= self._last_sealed:
                continue
            n_frames, data = left[chunk]
            with memoryview(data) as view:
                if self._shape.external:
                    self._writer.seal_external(chunk, view, self._unclaimed(chunk), chunk * size, n_frames)
                else:
                    self._writer.seal(chunk, view, chunk * size, n_frames)
            self._spans.append((chunk * size, chunk * size + n_frames))

    def _unclaimed(self, chunk: int) -> Path:
        """No controller is there to say where its chunk should go: into the recording's own folder."""
        folder = self._writer.path / "unclaimed"
        taken = len(list(folder.glob(f"{chunk}*"))) if folder.exists() else 0
        return folder / (f"{chunk}.{taken}" if taken else str(chunk))

    def _finish(self, head: int, ended: tuple[int, int] | None, staging: str | None) -> Recovered:
        """Accounts for every frame before the head, which is where the take ends. `ended` is that moment by
        CLOCK_MONOTONIC and the wall clock, where more is known of it than the anchors tell."""
        for first, end in list(_holes(self._spans, head)):
            self._gap(Gap(first, end - first, Cause.ENGINE_DOWN, Confidence.EXACT))
        head = max(head, self._writer.n_frames)
        monotonic_ns, wall_ns = ended or self._moment_of(head)
        if not self._is_continued:
            leave_note(self._store, succession.ended(self._shape, monotonic_ns, wall_ns))
        self._writer.finish(head, clean=False)
        is_same_boot = self._shape.boot_id == boot_id()
        down_ns = time.monotonic_ns() - monotonic_ns if is_same_boot else time.time_ns() - wall_ns
        down = 0 if self._is_continued else max(0, round(down_ns * self._shape.sample_rate / 1_000_000_000))
        n_recovered, uri = head - self._n_before, self._shape.uri
        what = f"{uri}: recovered {counted(n_recovered, 'frame')} that had not been sealed; it ends at frame {head}"
        since = f"nothing was captured in the {down / self._shape.sample_rate:.3f} s since"
        text = "; ".join([what, *([] if self._is_continued else [since]), *self._remarks])
        path = str(self._writer.path)
        return Recovered("recovered", text, uri, path, staging, head, n_recovered, down)

    def _moment_of(self, frame: int) -> tuple[int, int]:
        last = self._last_anchor()
        since_ns = (frame - last.frame) * 1_000_000_000 // self._shape.sample_rate
        return last.monotonic_ns + since_ns, last.wall_ns + since_ns

    def _end_anchor(self, staging: StagingReader, head: int, offset_ns: int) -> None:
        """Where the clock stood at the head, if the callback had come to the end of its cycle."""
        last, end_ns = self._last_anchor(), staging.state("end_ns")
        position = staging.state("position") % _ABSURD  # as the anchors have it
        is_whole = position - head == last.position - last.frame and staging.state("clock_id") == last.clock_id
        if is_whole and last.frame < head and end_ns < _ABSURD:
            self._anchor(ClockAnchor(head, position, end_ns, end_ns + offset_ns, last.clock_id))

    def _last_anchor(self) -> ClockAnchor:
        start = ClockAnchor(0, 0, self._shape.started_monotonic_ns, self._shape.started_wall_ns)
        return max(self._anchors.values(), key=lambda anchor: anchor.frame, default=start)


def _holes(spans: Iterable[tuple[int, int]], end: int) -> Iterator[tuple[int, int]]:
    reached = 0
    for first, last in [*sorted(spans), (end, end)]:
        if first > reached:
            yield reached, first
        reached = max(reached, last)
