"""The end of a recording that still grows: the engine's slots and notes, seen from any process."""

from __future__ import annotations

from chaos import _layout
from chaos.staging.layout import N_NOTES, Note
from chaos.staging.reader import StagingReader
from chaos.terms.ledger import Cause, Gap

__all__ = ["LiveEnd"]


class LiveEnd:
    """The running end of a recording, read without a message to its engine. Alive until `close`.

    Attributes:
        version: grows whenever `closed_gaps` has new ones.
        missed_notes: whether notes were overwritten before `poll` came; the journal has those.
    """

    def __init__(self, staging: StagingReader) -> None:
        self._staging = staging
        self._n_notes = max(0, staging.state("note_write") - N_NOTES + 1)
        self.closed_gaps: dict[tuple[int, int, Cause], Gap] = {}
        self.open_gap: Gap | None = None
        self.version = 0
        self.missed_notes = False

    @property
    def head_frame(self) -> int:
        """Frames of the timeline so far; all before it are committed."""
        return self._staging.head_frame

    @property
    def oldest_frame(self) -> int:
        """The first frame that the slots, all in use, would still hold."""
        staging = self._staging
        newest = self.head_frame // staging.form.chunk_frames
        return max(0, newest - staging.n_slots + 1) * staging.form.chunk_frames

    def poll(self) -> int:
        """Takes in the gaps before the head, and gives that head. An open gap reaches up to it.

        The callback tells of a gap before the head moves on behind it, and opens one before the head moves
        into it: so the head is read first, the open gap next, the notes last.
        """
        head = self._staging.head_frame
        gap = self._staging.open_gap()
        for note in self._new_notes():
            if note.is_gap:
                closed = note.gap()
                self.closed_gaps[closed.first_frame, closed.n_frames, closed.cause] = closed
                self.version += 1
        self.open_gap = None
        if gap is not None and gap[0] <= head:
            self.open_gap = Gap.open(gap[0], head, Cause(gap[1]))
        return head

    def _new_notes(self) -> list[Note]:
        first = self._n_notes
        notes = list(self._staging.notes(first)) if self._staging.state("note_write") != first else []
        self._n_notes += len(notes)
        _layout.acquire_fence()  # before the second look: see `chaos/_cycle.pyx`
        overwritten = max(0, self._staging.state("note_write") - N_NOTES + 1 - first)
        self.missed_notes = self.missed_notes or overwritten > 0
        return notes[overwritten:]

    def read_chunk(self, chunk: int, first: int, last: int) -> bytes | None:
        """Frames [first, last) of a chunk, counted within it; None when no slot has them any more."""
        return self._staging.read_chunk(chunk, first, last)

    def close(self) -> None:
        """Closes the staging file. Calling it twice is harmless."""
        self._staging.close()
