"""A take in standby: its full slots are held instead of sealed, until a recording begins with the oldest of them."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable
from typing import TypeVar

from chaos.engine.intake import Intake
from chaos.engine.standby import Begin, Standby
from chaos.staging.owner import Staging
from chaos.terms.ledger import ClockAnchor

__all__ = ["Holding", "started"]

Item = TypeVar("Item")


class Holding:
    """Holds at least the last `seconds` of what `staging` captures. For the rotator's thread.

    Full slots and ledger of the `intake` are changed in place.
    """

    def __init__(self, seconds: float, staging: Staging, intake: Intake) -> None:
        self.has_begun = False  # whether the first frame has been told of
        self._standby = Standby(seconds)
        self._staging = staging
        self._slots = staging.slots
        self._intake = intake
        staging.hold()

    def release(self, needs: int | None = None, wants: int | None = None) -> None:
        """Gives back slots that have nothing of the last seconds, and the oldest one rather than lose a new frame.

        Frames from `needs` on stay whatever comes, those from `wants` on while there is room.
        """
        full = self._intake.full
        is_ready, stats, size = self._staging.is_ready, self._slots.stats(), self._staging.form.chunk_frames
        head, rate = stats["head_frame"], stats["sample_rate"]
        is_short = is_ready and not stats["slots_free"]
        while full and (is_short or self._standby.is_over((full[0][1] + 1) * size, head, rate)):
            end = (full[0][1] + 1) * size
            if (needs is not None and end > needs) or (wants is not None and end > wants and not is_short):
                break
            self._slots.give_back(full.popleft()[0])
            is_short = False
        self._forget(self._first_held() * size)

    def keep(self) -> Begin | None:
        """Has the recording begin with the oldest held frame; None where none has come, so that it begins with the
        first. `Staging.hold_on` takes it back; once the recording is there, `count_from` is due."""
        stats = self._slots.stats()
        if not stats["first_ns"]:
            self._staging.keep(0, 0, n_lost=0, n_gaps=0)
            return None
        origin = ClockAnchor(0, stats["first_position"], *started(stats))
        size, chunk = self._staging.form.chunk_frames, self._first_held()
        open_gap = self._staging.open_gap()
        self._intake.take_over()  # what has ended since is in the ledger
        self._forget(chunk * size)
        begin = self._standby.begin(self._intake.ledger, chunk, size, stats["sample_rate"], open_gap, origin)
        self._staging.keep(begin.chunk, begin.monotonic_ns, n_lost=begin.n_lost, n_gaps=begin.n_gaps)
        return begin

    def count_from(self, begin: Begin) -> None:
        """From now on chunks and frames are the recording's, in the slots and in the ledger."""
        _replace(self._intake.full, [(slot, chunk - begin.chunk) for slot, chunk in self._intake.full])
        _replace(self._intake.ledger, begin.entries)

    @property
    def first_frame(self) -> int:
        """The oldest held frame."""
        return self._first_held() * self._staging.form.chunk_frames

    def _first_held(self) -> int:
        """The chunk that the oldest held frame lies in."""
        head = self._slots.stats()["head_frame"]
        filling = self._slots.filling()
        self._intake.take_over()  # what has become full since the two were read
        if self._intake.full:
            return self._intake.full[0][1]
        return head // self._staging.form.chunk_frames if filling is None else filling[1]

    def _forget(self, first: int) -> None:
        _replace(self._intake.ledger, self._standby.forget(self._intake.ledger, first))


def started(stats: dict[str, int]) -> tuple[int, int]:
    """When the first frame came, by CLOCK_MONOTONIC and the wall clock."""
    return stats["first_ns"], time.time_ns() - (time.monotonic_ns() - stats["first_ns"])


def _replace(old: deque[Item], new: Iterable[Item]) -> None:
    old.clear()
    old.extend(new)
