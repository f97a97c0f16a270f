"""Marks in recordings that have ended; those of a running one only its writer can enter."""

from __future__ import annotations

from pathlib import Path

from chaos.store.info import load
from chaos.store.journal import JOURNAL_NAME, Journal
from chaos.store.lines import MarkLine
from chaos.terms.errors import InvalidRange
from chaos.terms.marks import Mark

__all__ = ["check_mark", "mark_ended"]


def check_mark(uri: str, mark: Mark, head: int) -> None:
    """Raises InvalidRange where the recording has no such frame; its end can be marked too."""
    if not 0 <= mark.frame <= head:
        raise InvalidRange(f"{uri} has {head} frames; there is no frame {mark.frame} to mark", hint=f"use 0 to {head}")


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
