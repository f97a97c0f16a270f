"""Where a signal is above a threshold: when a take begins and ends by it. Pure; positions are frames of the capture."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple, TypeAlias

__all__ = ["Off", "On", "Trigger", "first_above", "last_above"]

Finder: TypeAlias = Callable[[int, int], int | None]
"""Of frames [first, end) the first, or the last, that is above; None where none is."""


class On(NamedTuple):
    """A sample of this frame is above, and none was since the last take's end."""

    frame: int


class Off(NamedTuple):
    """From this frame on it has been quiet for as long as a take holds."""

    frame: int


class Trigger:
    """Takes in all frames once, in order. A take ends `hold_frames` after the last frame that is above."""

    def __init__(self, hold_frames: int) -> None:
        self._hold = hold_frames
        self._last: int | None = None  # that is above, of the take that runs
        self.frame = 0
        """Up to which frame it has seen all."""

    def scan(self, end: int, first_in: Finder, last_in: Finder) -> Iterator[On | Off]:
        """Takes in frames up to `end`: all that begins and ends in them."""
        while self.frame < end:
            if self._last is None:
                found = first_in(self.frame, end)
                self.frame = end if found is None else found + 1
                if found is not None:
                    self._last = found
                    yield On(found)
                continue
            over = self._last + 1 + self._hold
            until = min(end, over)
            found = last_in(self.frame, until)
            self.frame = until
            if found is not None:
                self._last = found
            elif until == over:
                self._last = None
                yield Off(over)


def first_above(is_above: Callable[[int, int], bool], first: int, end: int) -> int | None:
    """The first frame in [first, end) that is above, `is_above(a, b)` saying whether one of [a, b) is."""
    if first >= end or not is_above(first, end):
        return None
    while end - first > 1:
        middle = (first + end) // 2
        if is_above(first, middle):
            end = middle
        else:
            first = middle
    return first


def last_above(is_above: Callable[[int, int], bool], first: int, end: int) -> int | None:
    """The last one."""
    if first >= end or not is_above(first, end):
        return None
    while end - first > 1:
        middle = (first + end) // 2
        if is_above(middle, end):
            first = middle
        else:
            end = middle
    return first
