"""What the owner of a staging file and its readers in other processes agree on, beside `chaos/_layout.pxd`.

The first page is control, then come the slot table, three rings and the slots; each slot is one chunk, as its form
has it. `_layout.pxd` declares the layout once, for C and for Python (`chaos._layout.OFFSETS`).
"""

from __future__ import annotations

from typing import Final, NamedTuple

from chaos import _layout
from chaos.terms.ledger import Cause, ClockAnchor, Confidence, Gap

__all__ = ["MAGIC", "NONE", "NOTE", "N_NOTES", "SUFFIX", "Note", "slots_for"]

MAGIC: Final = b"CHAOSSTG"
SUFFIX: Final = ".staging"
N_NOTES: Final = 4096
NONE: Final = (1 << 64) - 1
NOTE: Final = "<4I5Q"
PAST: Final = 0  # the kind of a note of something before the recording; in the ring no note has it


class Note(NamedTuple):
    """What the callback tells: that a gap has ended, or a moment on all clocks. The fields are NOTE's.

    `position` and `monotonic_ns` are those of the cycle that ended the gap or that the anchor stands for.
    """

    kind: int
    cause: int
    confidence: int
    rate: int
    first_frame: int
    n_frames: int
    position: int
    monotonic_ns: int
    clock_id: int

    def since(self, base_frame: int) -> Note:
        """The note as a recording has it that begins at `base_frame`: a gap from there on, at most."""
        n_before = base_frame - self.first_frame
        if n_before <= 0:
            return self._replace(first_frame=-n_before)
        if self.is_gap and n_before < self.n_frames:
            return self._replace(first_frame=0, n_frames=self.n_frames - n_before)
        return self._replace(kind=PAST)

    @property
    def is_past(self) -> bool:
        """Whether it tells of what was before the recording."""
        return self.kind == PAST

    @property
    def is_gap(self) -> bool:
        return self.kind == _layout.NOTE_KINDS["gap"]

    @property
    def is_anchor(self) -> bool:
        return self.kind == _layout.NOTE_KINDS["anchor"]

    @property
    def has_jumped(self) -> bool:
        """Of an anchor: whether the clock jumped before it, and the frames go on all the same."""
        return self.is_anchor and self.cause == Cause.CLOCK_JUMP

    @property
    def is_by_time(self) -> bool:
        """Of an anchor: whether the clock stands still, so that its position is counted by time."""
        return self.is_anchor and self.confidence == Confidence.CLOCK

    def gap(self) -> Gap:
        """The gap of a note that is one. Raises ValueError where its numbers make no sense."""
        return Gap(self.first_frame, self.n_frames, Cause(self.cause), Confidence(self.confidence))

    def anchor(self, wall_offset_ns: int) -> ClockAnchor:
        """The anchor of a note that is one, with the wall clock that far ahead of CLOCK_MONOTONIC; of its error nothing
        is said."""
        wall_ns = self.monotonic_ns + wall_offset_ns
        return ClockAnchor(self.first_frame, self.position, self.monotonic_ns, wall_ns, self.clock_id)


def slots_for(staging_s: float, chunk_frames: int, sample_rate: int) -> int:
    """How many slots hold `staging_s` seconds while one more is being filled; at least three."""
    return max(3, -(-int(staging_s * sample_rate) // chunk_frames) + 1)
