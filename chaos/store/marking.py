"""Marks in recordings that have ended; those of a running one only its writer can enter."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from chaos.store.info import load
from chaos.store.journal import JOURNAL_NAME, Journal
from chaos.store.lines import MarkLine
from chaos.store.store import Store
from chaos.terms.counting import counted
from chaos.terms.errors import InvalidRange
from chaos.terms.marks import Mark

if TYPE_CHECKING:
    from chaos.store.takes import Take

__all__ = ["check_mark", "mark_ended", "mark_in", "take_at"]


def check_mark(uri: str, mark: Mark, head: int) -> None:
    """Raises InvalidRange where the recording has no such frame; its end can be marked too."""
    if not 0 <= mark.frame <= head:
        message = f"{uri} has {counted(head, 'frame')}; there is no frame {mark.frame} to mark"
        raise InvalidRange(message, hint=f"use 0 to {head}")


def mark_in(store: Store, uri: str, frame: int | None, label: str) -> tuple[Path, Mark]:
    """Marks a frame of what a URI stands for (None: its end), a stream's being all its takes: which take was marked,
    and where in it. Raises what `takes_of` and `mark_ended` do."""
    from chaos.store.takes import takes_of

    takes = takes_of(store, uri)
    end = takes[-1].origin + takes[-1].digest.n_frames
    mark = Mark(end if frame is None else frame, label)
    check_mark(uri, mark, end)
    take, frame = take_at(takes, mark.frame)
    mark = Mark(frame, label)
    mark_ended(take.path, mark)
    return take.path, mark


def take_at(takes: Sequence[Take], frame: int) -> tuple[Take, int]:
    """The take that a frame of their timeline lies in, and its frame there; of one between two takes the end of the
    earlier one."""
    take = [take for take in takes if take.origin <= frame or take is takes[0]][-1]
    frame -= take.origin
    return take, frame if take is takes[-1] else min(frame, take.digest.n_frames)


def mark_ended(path: Path, mark: Mark) -> None:
    """Enters a mark, durably.

    Raises RecordingNotFound, InvalidRange, StreamExists while the recording is being written, StorageFull or
    StorageFailed.
    """
    info = load(path)
    check_mark(info.definition.uri, mark, info.n_frames)
    journal = Journal.reopen(path / JOURNAL_NAME)
    try:
        journal.append(MarkLine(mark.frame, mark.label))
        journal.flush()
    finally:
        journal.close()
