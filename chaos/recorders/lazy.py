"""What a selection is made of, as dask asks for it: things with a shape that are read block by block, by any worker.

They pickle, hold no samples and no credentials, and know a take's ledger and clock.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from chaos.recorders.days import lost_reference
from chaos.recorders.relate import SLEW, VALID_S, has_step
from chaos.terms.ledger import CLOCK_COLUMNS, GAP_COLUMNS, ClockAnchor

__all__ = ["Audio", "Causes", "Moments", "Timing", "anchors_near"]

_NS = 1_000_000_000
_NEVER = np.iinfo(np.int64).min  # numpy's NaT

Block = npt.NDArray[Any]


class Audio:
    """Frames [first, last) of a take's audio, (channel, frame)."""

    ndim = 2

    def __init__(self, array: Any, url: str, first: int, last: int) -> None:
        self._array = array
        self._url = url
        self._first = first
        self.shape = (array.shape[0], last - first)
        self.dtype = array.dtype

    def __getitem__(self, key: tuple[Any, Any]) -> Block:
        """Raises StorageFailed for an object that is not there."""
        channels, frames = key
        begin, end, rest = _covering(frames, self.shape[1])
        with lost_reference(self._url):
            block = np.asarray(self._array[:, self._first + begin : self._first + end])
        return np.asarray(block[:, rest][channels])


class Causes:
    """The number of the cause (`chaos.terms.ledger.Cause`) of each frame [first, last) that is missing, else 0."""

    ndim = 1
    dtype = np.dtype("u1")

    def __init__(self, rows: npt.NDArray[np.int64], first: int, last: int) -> None:
        """`rows` as in the take's `gaps`."""
        begin, n_frames, cause = (rows[:, GAP_COLUMNS.index(name)] for name in ("first_frame", "n_frames", "cause"))
        chosen = (begin < last) & (first < begin + n_frames)
        self._first = first
        self.shape = (last - first,)
        self._gaps = np.stack([begin, begin + n_frames, cause], axis=1)[chosen]

    def __getitem__(self, key: Any) -> Block:
        begin, end, rest = _covering(key[0] if isinstance(key, tuple) else key, self.shape[0])
        causes = np.zeros(end - begin, self.dtype)
        origin = self._first + begin
        for first, last, cause in self._gaps[(self._gaps[:, 1] > origin) & (self._gaps[:, 0] < self._first + end)]:
            causes[max(first - origin, 0) : last - origin] = cause
        return np.asarray(causes[rest])


def anchors_near(rows: npt.NDArray[np.int64], begin_ns: int, end_ns: int) -> list[ClockAnchor]:
    """Of a take's `clock` the anchors that tell of what was between two moments: those about it, by frame. A day has
    thousands."""
    rows = rows[np.argsort(rows[:, 0], kind="stable")]
    wall_ns = rows[:, CLOCK_COLUMNS.index("wall_ns")]
    if len(rows) > 2:
        low, high = np.minimum(wall_ns[:-1], wall_ns[1:]), np.maximum(wall_ns[:-1], wall_ns[1:])
        low[0], high[-1] = _NEVER, np.iinfo(np.int64).max
        (told,) = np.nonzero((low < end_ns) & (high >= begin_ns))
        rows = rows[max(0, told[0] - 1) : told[-1] + 3]
    return [ClockAnchor.from_row(tuple(map(int, row))) for row in rows]


class Timing:
    """A take's wall clock by its anchors, for many frames at once: as `chaos.recorders.relate.Clock` has it for one."""

    def __init__(self, anchors: Sequence[ClockAnchor], rate: int) -> None:
        self._rate = rate
        self._frames = np.array([anchor.frame for anchor in anchors], "i8")
        self._wall_ns = np.array([anchor.wall_ns for anchor in anchors], "i8")
        self._error_ns = np.array([-1 if a.max_error_ns is None else a.max_error_ns for a in anchors], "i8")
        self._is_set = np.array([has_step(*pair) for pair in pairwise(anchors)] + [False])

    def span(self, begin_ns: int, end_ns: int, n_frames: int) -> tuple[int, int]:
        """The frames, of `n_frames`, among which all are that the wall clock had between these moments; where it was
        set meanwhile, others as well."""
        ends = np.append(self._frames[1:], max(n_frames, int(self._frames[-1])))
        begins = self._frames.copy()
        begins[0] = min(0, int(begins[0]))
        first, last = n_frames, 0
        for at, (begin, end) in enumerate(zip(begins, ends, strict=True)):
            slope = self._slope(at)
            low, high = (
                self._frames[at] + (moment - int(self._wall_ns[at])) * slope for moment in (begin_ns, end_ns)
            )
            low, high = max(begin, int(np.ceil(low))), min(end, int(np.ceil(high)))
            if low < high:
                first, last = min(first, low), max(last, high)
        return (max(0, int(first)), min(n_frames, int(last))) if first < last else (0, 0)

    def _slope(self, at: int) -> float:
        """Frames per ns behind this anchor."""
        if at + 1 < len(self._frames) and not self._is_set[at]:
            n_frames, ns = self._frames[at + 1] - self._frames[at], self._wall_ns[at + 1] - self._wall_ns[at]
            if n_frames > 0 and ns > 0:
                return float(n_frames) / float(ns)
        return self._rate / _NS

    def moments(self, frames: npt.NDArray[np.int64]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """When these frames were (ns since 1970-01-01 UTC) and how far off that may be (ns; -1: not known). NaT where
        no anchor is within `VALID_S`, and between two of which the clock was set."""
        at = np.clip(np.searchsorted(self._frames, frames, "right") - 1, 0, len(self._frames) - 1)
        after = np.minimum(at + 1, len(self._frames) - 1)
        after = np.where(frames < self._frames[at], at, after)
        n_frames, ns = self._frames[after] - self._frames[at], self._wall_ns[after] - self._wall_ns[at]
        per_frame = np.where(n_frames > 0, ns / np.maximum(n_frames, 1), _NS / self._rate)
        wall_ns = self._wall_ns[at] + np.rint((frames - self._frames[at]) * per_frame).astype("i8")
        off = np.minimum(np.abs(frames - self._frames[at]), np.abs(frames - self._frames[after]))
        told = np.maximum(self._error_ns[at], self._error_ns[after])
        is_known = (self._error_ns[at] >= 0) & (self._error_ns[after] >= 0)
        error_ns = np.where(is_known, told + np.ceil(off / self._rate * _NS / SLEW).astype("i8"), -1)
        is_placed = (off <= VALID_S * self._rate) & ~self._is_set[at]
        return np.where(is_placed, wall_ns, _NEVER), np.where(is_placed, error_ns, -1)


class Moments:
    """The times of frames [first, last), or with `bounds` the earliest and the latest that each may have been, (frame,
    2): datetime64[ns], NaT where that is not known."""

    dtype = np.dtype("M8[ns]")

    def __init__(self, timing: Timing, first: int, last: int, *, bounds: bool = False) -> None:
        self._timing = timing
        self._first = first
        self._bounds = bounds
        self.shape = (last - first, 2) if bounds else (last - first,)
        self.ndim = len(self.shape)

    def __getitem__(self, key: Any) -> Block:
        frames, *others = key if isinstance(key, tuple) else (key,)
        begin, end, rest = _covering(frames, self.shape[0])
        wall_ns, error_ns = self._timing.moments(np.arange(self._first + begin, self._first + end))
        if not self._bounds:
            return np.asarray(wall_ns.view(self.dtype)[rest])
        both = np.stack([wall_ns - error_ns, wall_ns + error_ns], axis=1)
        both[(error_ns < 0) | (wall_ns == _NEVER)] = _NEVER
        block = both.view(self.dtype)
        return np.asarray((block[:, others[0]] if others else block)[rest])


def _covering(key: Any, n_frames: int) -> tuple[int, int, Any]:
    """The run of frames that has all that an index along them asks for, and the index within it: dask passes on what
    people ask for, one frame, every tenth, a list."""
    if isinstance(key, slice):
        chosen = range(*key.indices(n_frames))
        if not chosen:
            return 0, 0, slice(None)
        step = None if chosen.step == 1 else chosen.step
        return min(chosen[0], chosen[-1]), max(chosen[0], chosen[-1]) + 1, slice(None, None, step)
    if isinstance(key, int | np.integer):
        at = int(key) % n_frames
        return at, at + 1, 0
    some = np.asarray(key)
    some = np.flatnonzero(some) if some.dtype == bool else np.where(some < 0, some + n_frames, some)
    if not some.size:
        return 0, 0, some
    return int(some.min()), int(some.max()) + 1, some - some.min()
