"""A recording in characters: a waveform of audio, a profile of MIDI. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from chaos.cli.lines import broken
from chaos.cli.show import dbfs, duration
from chaos.terms.counting import counted
from chaos.terms.ledger import Cause

if TYPE_CHECKING:
    from chaos.read.overview import Overview

__all__ = ["overview_lines"]

_HALVES = {(False, False): " ", (True, False): "▀", (False, True): "▄", (True, True): "█"}
_PLAIN = {(False, False): " ", (True, False): "'", (False, True): ".", (True, True): "#"}
_BARS, _PLAIN_BARS = " ▁▂▃▄▅▆▇█", " .:-=+*#@"
_MOST_CHANNELS = 8
_MOST_TOLD = 8
_LOWEST = 1e-3


def overview_lines(found: Overview, names: Sequence[str], width: int, *, is_plain: bool) -> list[str]:
    """Lines for an overview, told in `width` columns; `names` are the channels'. Missing stretches are shown as such
    and told with their cause; marks and short gaps have a line of their own. Plain is ASCII."""
    lines = _waves(found, names, is_plain) if found.n_events is None else _notes(found, is_plain)
    marks = [_gap_sign(is_plain) if n else " " for n in found.missing.tolist()]
    for mark in found.marks:
        marks[min(int((found.edges <= mark.frame).sum()), found.n_points) - 1] = "^"
    lines += ["".join(marks).rstrip()] if found.marks or found.gaps else []
    lines.append(_axis(found))
    told = [f"^ {duration(mark.frame, found.sample_rate)} {mark.label}" for mark in found.marks]
    told += [
        f"{_gap_sign(is_plain)} {duration(gap.first_frame, found.sample_rate)}"
        f" {counted(gap.n_frames, 'frame')} missing: {gap.cause.label.replace('_', ' ')}"
        for gap in found.gaps
    ]
    n_more = len(told) - _MOST_TOLD
    told = [part for each in told[:_MOST_TOLD] for part in broken(each, width)]
    more = [f"and {n_more} more marks and gaps (--json has all)"] if n_more > 0 else []
    return [*lines, *told, *more]


def _gap_sign(is_plain: bool) -> str:
    return "x" if is_plain else "░"


def _waves(found: Overview, names: Sequence[str], is_plain: bool) -> list[str]:
    n_channels = len(found.min)
    values = [abs(float(value)) for side in (found.min, found.max) for value in side.ravel() if math.isfinite(value)]
    peak = max(values, default=0.0)
    scale = max(peak, _LOWEST)
    n_rows = 8 if n_channels == 1 else 6 if n_channels == 2 else 3
    lines = []
    for channel in range(min(n_channels, _MOST_CHANNELS)):
        lines.append(names[channel] if channel < len(names) else f"channel {channel + 1}")
        columns = [
            _column(float(low) / scale, float(high) / scale, bool(is_missing), n_rows, is_plain)
            for low, high, is_missing in zip(found.min[channel], found.max[channel], found.is_missing, strict=True)
        ]
        lines += ["".join(row).rstrip() for row in zip(*columns, strict=True)] if columns else []
    if n_channels > _MOST_CHANNELS:
        lines.append(f"and {n_channels - _MOST_CHANNELS} more channels")
    full = f"full height is {dbfs(20 * math.log10(scale))} dBFS"
    if peak == scale:
        return [*lines, f"{full}, the peak"]
    told = f"the peak is {dbfs(20 * math.log10(peak))} dBFS" if peak > 0 else "digital silence"
    return [*lines, f"{told}; {full}"]


def _column(low: float, high: float, is_missing: bool, n_rows: int, is_plain: bool) -> list[str]:
    """One point, from the top down."""
    if is_missing:
        return [_gap_sign(is_plain)] * n_rows
    if not (math.isfinite(low) and math.isfinite(high)):
        return ["!" if row == n_rows // 2 else " " for row in range(n_rows)]
    n = 2 * n_rows
    top = min(math.floor((1 - high) * n_rows + 0.5), n - 1)
    bottom = max(math.floor((1 - low) * n_rows + 0.5), top + 1)
    signs = _PLAIN if is_plain else _HALVES
    return [signs[top <= 2 * row < bottom, top <= 2 * row + 1 < bottom] for row in range(n_rows)]


def _notes(found: Overview, is_plain: bool) -> list[str]:
    assert found.n_events is not None
    bars, most, n_rows = _PLAIN_BARS if is_plain else _BARS, int(found.n_events.max(initial=0)), 4
    steps = len(bars) - 1
    columns = []
    for n, is_missing in zip(found.n_events.tolist(), found.is_missing.tolist(), strict=True):
        filled = math.ceil(n / most * n_rows * steps) if most else 0
        columns.append(
            [_gap_sign(is_plain)] * n_rows
            if is_missing
            else [bars[min(max(filled - row * steps, 0), steps)] for row in reversed(range(n_rows))]
        )
    rows = ["".join(row).rstrip() for row in zip(*columns, strict=True)] if columns else []
    return [*rows, f"{counted(int(found.n_events.sum()), 'event')}, at most {most} in a column"]


def _axis(found: Overview) -> str:
    first, last = (duration(int(found.edges[k]), found.sample_rate) for k in (0, -1))
    return first + last.rjust(max(found.n_points - len(first), len(last) + 1))


def cause_label(cause: int) -> str | None:
    """A cause by its name; None for 0."""
    return Cause(cause).label if cause else None
