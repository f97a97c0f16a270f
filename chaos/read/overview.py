"""A recording's overview as numpy arrays: what is drawn of any stretch of it, read from its levels.

Each point tells of exactly its own frames: inner ones are whole blocks of one level, and what is left at both ends
comes from finer levels and at last from samples. Where levels are missing (recordings of older versions, what is not
written yet) they are made of the samples while reading.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from chaos.read.samples import Samples
from chaos.store.levels import FILE_BLOCKS, N_VALUES, block_frames, level_lengths
from chaos.store.lines import Definition
from chaos.store.overview import BlockFiles, MissingSpans, Takes, feed
from chaos.terms.errors import InvalidRange
from chaos.terms.form import AudioForm, MidiForm
from chaos.terms.formats import SAMPLES
from chaos.terms.ledger import Gap
from chaos.terms.marks import Mark

__all__ = ["Overview", "Part", "check_range", "overview_of"]

Floats = npt.NDArray[np.float32]
Frames = npt.NDArray[np.int64]
_FEED_FRAMES = 1 << 16


@dataclass(frozen=True)
class Overview:
    """What frames `edges[0]` to `edges[-1]` are like, in `len(edges) - 1` points; point k is of frames [edges[k],
    edges[k + 1]). Points have about one length.

    Of audio `min`, `max` and `rms` are (channels, points) f32, full scale being 1.0; of MIDI `n_events` is (points,)
    and there are no channels. Frames that are missing count for nothing, nor does what is not a number: a point without
    a frame has NaN. `missing` says how many frames of each point are, and `cause` why most of them are (a `Cause`, 0
    where none is). `gaps` and `marks` are those of the stretch.
    """

    sample_rate: int
    edges: Frames
    min: Floats
    max: Floats
    rms: Floats
    n_events: Frames | None
    missing: Frames
    cause: Frames
    gaps: list[Gap]
    marks: list[Mark]

    @property
    def n_points(self) -> int:
        return len(self.edges) - 1

    @property
    def is_missing(self) -> npt.NDArray[np.bool_]:
        """The points of which no frame is there."""
        return self.missing >= np.diff(self.edges)


class _Source(Protocol):
    """What a recording gives; the contract is that of `chaos.read.take.Recording`."""

    def read(self, first: int, last: int) -> Samples: ...


@dataclass
class Part:
    """One take on a timeline: its frame 0 is that of `origin`. `opened` gives it as a recording."""

    origin: int
    n_frames: int
    is_finished: bool
    path: Path
    definition: Definition
    gaps: list[Gap]
    opened: Callable[[], _Source]

    @cached_property
    def _missing(self) -> MissingSpans:
        return MissingSpans(self.gaps)

    @cached_property
    def _files(self) -> BlockFiles:
        return BlockFiles(self.path / "overview", self._form, self._feed, self._missing, self.n_frames)

    @property
    def _form(self) -> AudioForm:
        return self.definition.audio

    def _feed(self, to: Takes, first: int, end: int) -> None:
        recording = self.opened()
        for begin in range(first, end, _FEED_FRAMES):
            stop = min(begin + _FEED_FRAMES, end)
            data = np.ascontiguousarray(recording.read(begin, stop)).data.cast("B")
            feed(to, data, begin, begin, stop, self._missing)

    def pieces(self, level: int, first: int, end: int, edges: Frames) -> list[_Pieces]:
        """Frames [first, end) in pieces, whole blocks of the level as far as can be, none across an edge."""
        if first >= end:
            return []
        if level < 0:
            return [self._of_samples(first, end, edges)]
        size = block_frames(level)
        begin, stop = -(-first // size), end // size
        if end == self.n_frames and self.is_finished:
            stop = -(-end // size)
        if begin >= stop:
            return self.pieces(level - 1, first, end, edges)
        return [
            *self.pieces(level - 1, first, begin * size, edges),
            self._of_blocks(level, begin, stop),
            *self.pieces(level - 1, stop * size, end, edges),
        ]

    def _of_blocks(self, level: int, begin: int, stop: int) -> _Pieces:
        size, channels = block_frames(level), self._form.channels
        values = np.full((channels, stop - begin, N_VALUES), np.nan, np.float32)
        values[:, :, 3] = 0
        for index in range(begin // FILE_BLOCKS, -(-stop // FILE_BLOCKS)):
            content = self._files.read(level, index)
            if content is None:
                continue
            first, last = max(begin, index * FILE_BLOCKS), min(stop, (index + 1) * FILE_BLOCKS)
            blocks = np.frombuffer(content, "<f4").reshape(channels, FILE_BLOCKS, N_VALUES)
            at = index * FILE_BLOCKS
            values[:, first - begin : last - begin] = blocks[:, first - at : last - at]
        starts = np.arange(begin, stop, dtype=np.int64) * size
        weights = values[:, :, 3].astype(np.float64) * size
        return _Pieces(starts, values[:, :, 0], values[:, :, 1], values[:, :, 2].astype(np.float64) ** 2, weights)

    def _of_samples(self, first: int, end: int, edges: Frames) -> _Pieces:
        """A piece for what lies between two edges."""
        form = self._form
        samples = self.opened().read(first, end).astype(np.float64) / float(SAMPLES[form.sample_format].full_scale)
        for begin, stop in self._missing.within(first, end):
            samples[:, begin - first : stop - first] = np.nan
        samples[~np.isfinite(samples)] = np.nan
        inner = edges[(edges > first) & (edges < end)]
        starts = np.concatenate([[first], inner]).astype(np.int64)
        at = starts - first
        weights = np.add.reduceat((~np.isnan(samples)).astype(np.float64), at, axis=1)
        squares = np.add.reduceat(np.nan_to_num(samples, nan=0.0) ** 2, at, axis=1)
        with np.errstate(invalid="ignore", divide="ignore"):
            squares = squares / weights
        low, high = (each.reduceat(samples, at, axis=1).astype(np.float32) for each in (np.fmin, np.fmax))
        return _Pieces(starts, low, high, squares, weights)


@dataclass
class _Pieces:
    """What stretches are like that begin at `starts`: (channels, n) each; `squares` are means, by `weights` frames."""

    starts: Frames
    low: npt.NDArray[Any]
    high: npt.NDArray[Any]
    squares: npt.NDArray[Any]
    weights: npt.NDArray[Any]


def overview_of(
    parts: Sequence[Part], first: int, last: int, points: int, gaps: list[Gap], marks: Iterable[Mark]
) -> Overview:
    """The overview of frames [first, last) of a timeline whose parts are these, in order, and whose gaps."""
    definition = parts[0].definition
    edges = _edges(first, last, points)
    if isinstance(definition.form, MidiForm):
        low = high = rms = np.zeros((0, len(edges) - 1), np.float32)
        n_events = np.zeros(len(edges) - 1, np.int64)
        for part in parts:
            begin, stop = max(first - part.origin, 0), min(last - part.origin, part.n_frames)
            if begin < stop:
                n_events += np.histogram(part.opened().read(begin, stop)["frame"] + part.origin, edges)[0]
    else:
        n_events = None
        level = _level((last - first) // max(1, len(edges) - 1))
        edges = _snapped(edges, parts, level)
        low, high, rms = _joined(parts, level, edges, definition.channels)
    missing, cause = _missing(edges, gaps)
    is_gone = missing >= np.diff(edges)
    if n_events is None:
        for each in (low, high, rms):
            each[:, is_gone] = np.nan
    marks = [mark for mark in marks if first <= mark.frame < last]
    return Overview(definition.sample_rate, edges, low, high, rms, n_events, missing, cause, gaps, marks)


def _edges(first: int, last: int, points: int) -> Frames:
    n = min(points, last - first)
    if n <= 0:
        return np.array([first], np.int64)
    return np.array([first + (last - first) * k // n for k in range(n + 1)], np.int64)


def _level(n_frames: int) -> int:
    """The coarsest level whose blocks are no longer than that; -1: samples."""
    level = -1
    while block_frames(level + 1) <= n_frames:
        level += 1
    return level


def _snapped(edges: Frames, parts: Sequence[Part], level: int) -> Frames:
    """Edges within a part moved to the nearest beginning of a block, but for the first and the last."""
    if level < 0 or len(edges) < 3:
        return edges
    inner = edges[1:-1].copy()
    for part in parts:
        is_in = (edges[1:-1] > part.origin) & (edges[1:-1] < part.origin + part.n_frames)
        size = block_frames(_own_level(part, level))
        moved = part.origin + (edges[1:-1][is_in] - part.origin + size // 2) // size * size
        inner[is_in] = np.minimum(moved, part.origin + part.n_frames)
    return np.unique(np.concatenate([edges[:1], np.clip(inner, edges[0], edges[-1]), edges[-1:]]))


def _own_level(part: Part, level: int) -> int:
    return min(level, len(level_lengths(part.n_frames, is_whole=True)) - 1)


def _joined(
    parts: Sequence[Part], level: int, edges: Frames, channels: int
) -> tuple[Floats, Floats, Floats]:
    n_points = max(0, len(edges) - 1)
    found: list[_Pieces] = []
    for part in parts:
        first, end = (int(min(max(edge - part.origin, 0), part.n_frames)) for edge in (edges[0], edges[-1]))
        own = level if level < 0 else _own_level(part, level)
        for piece in part.pieces(own, first, end, edges - part.origin):
            piece.starts = piece.starts + part.origin
            found.append(piece)
    low, high, rms = (np.full((channels, n_points), np.nan, np.float32) for _ in range(3))
    if not found:
        return low, high, rms
    starts = np.concatenate([each.starts for each in found])
    points, at = np.unique(np.searchsorted(edges, starts, "right") - 1, return_index=True)
    squares = np.concatenate([each.squares for each in found], axis=1)
    weights = np.concatenate([each.weights for each in found], axis=1)
    weights[np.isnan(squares)] = 0
    low[:, points] = np.fmin.reduceat(np.concatenate([each.low for each in found], axis=1), at, axis=1)
    high[:, points] = np.fmax.reduceat(np.concatenate([each.high for each in found], axis=1), at, axis=1)
    weight = np.add.reduceat(weights, at, axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        rms[:, points] = np.sqrt(np.add.reduceat(np.nan_to_num(squares) * weights, at, axis=1) / weight)
    return low, high, rms


def _missing(edges: Frames, gaps: Sequence[Gap]) -> tuple[Frames, Frames]:
    """How many frames of each point are missing, and the cause of most of them."""
    causes = sorted({gap.cause for gap in gaps if gap.n_frames})
    n_points = max(0, len(edges) - 1)
    if not causes or not n_points:
        return np.zeros(n_points, np.int64), np.zeros(n_points, np.int64)
    by_cause = np.array([_covered(edges, [gap for gap in gaps if gap.cause is cause]) for cause in causes])
    missing = _covered(edges, gaps)
    cause = np.array(causes, np.int64)[by_cause.argmax(axis=0)]
    cause[missing == 0] = 0
    return missing, cause


def _covered(edges: Frames, gaps: Sequence[Gap]) -> Frames:
    """How many frames of each point lie in these gaps."""
    firsts, ends = np.array(MissingSpans(gaps).spans, np.int64).reshape(-1, 2).T
    before = np.concatenate([[0], np.cumsum(ends - firsts)])
    at = np.searchsorted(firsts, edges, "right")
    over = np.where(at > 0, np.maximum(ends[at - 1] - edges, 0), 0) if len(ends) else np.zeros_like(edges)
    found: Frames = np.diff(before[at] - over)
    return found


def check_range(uri: str, n_frames: int, first: int, last: int, points: int) -> None:
    """Raises InvalidRange for frames that are not there, ValueError for points that are none."""
    if points < 1:
        raise ValueError(f"{points} points: use 1 or more")
    if not 0 <= first <= last <= n_frames:
        raise InvalidRange(
            f"frames {first} to {last} are not all in {uri}, which has {n_frames}",
            hint="ask for a range from 0 up to its end",
        )
