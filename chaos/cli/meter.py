"""The line that `chaosctl record` keeps up to date on a terminal: time, a meter per channel, what is wrong."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any, Self

from chaos.cli.lines import columns_of
from chaos.cli.out import say, show
from chaos.cli.show import dbfs, duration, level
from chaos.terms.counting import counted
from chaos.terms.visible import visible

__all__ = ["Meter", "bar", "told_line"]

FLOOR_DB = -60.0
HOLD_S = 1.5
_ECHOED = 3  # columns for the ^C that a terminal shows: it must not begin a line of its own
_CLEAR = "\r\x1b[K"


class Meter:
    """On standard error; where that is not a terminal only what happens is said, a line each."""

    def __init__(self) -> None:
        self._is_shown = sys.stderr.isatty()
        self._held: list[tuple[float, float]] = []  # of each channel the highest peak lately, and when that was
        self._has_clipped = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._clear()

    def show(self, status: Mapping[str, Any], sample_rate: int) -> None:
        """How the stream stands now."""
        if self._is_shown:
            width = columns_of(sys.stderr) - _ECHOED
            show(_CLEAR + visible(self.line(status, sample_rate, width, time.monotonic())))

    def line(self, status: Mapping[str, Any], sample_rate: int, width: int, now_s: float) -> str:
        """What fits into that many columns."""
        state = "" if status["state"] == "streaming" else f"  {status['state']}: {status.get('reason', '')}"
        lost = f"  {status['lost_frames']} lost" if status["lost_frames"] else ""
        head = duration(status["head_frame"], sample_rate) if sample_rate else "-:--:--"
        if status["format"]["type"] == "midi":
            return f"{head}  {level(status)}{lost}{state}"[:width]
        peaks = self._peaks(status["levels"], now_s)
        clip = "  CLIP" if self._has_clipped else ""
        rest = f"{clip}{lost}{state}"
        for size in (24, 12, 6):  # the widest bars that fit
            meters = "".join(
                f"  {bar(peak, held, size)} {dbfs(peak):>5}" for peak, held in peaks
            )
            if len(head) + len(meters) + len(rest) <= width:
                return head + meters + rest
        loudest = max((peak for peak, _ in peaks if peak is not None), default=None)
        return f"{head}  {dbfs(loudest):>5} dBFS{rest}"[:width]

    def _peaks(self, levels: Sequence[Mapping[str, Any]], now_s: float) -> list[tuple[float | None, float]]:
        """Of each channel the peak now, and the highest of the last moments."""
        if len(self._held) != len(levels):
            self._held = [(FLOOR_DB, now_s)] * len(levels)
        for k, each in enumerate(levels):
            peak, (held, since) = each["peak_dbfs"], self._held[k]
            value = FLOOR_DB if peak is None else peak
            self._has_clipped |= value >= 0
            if value >= held or now_s - since > HOLD_S:
                self._held[k] = value, now_s
        return [(each["peak_dbfs"], held) for each, (held, _) in zip(levels, self._held, strict=True)]

    def tell(self, event: Mapping[str, Any], sample_rate: int) -> None:
        """Says what has happened, above the line."""
        self._clear()
        say(told_line(event, sample_rate), err=True)

    def _clear(self) -> None:
        if self._is_shown:
            show(_CLEAR)


def bar(peak: float | None, held: float, size: int) -> str:
    """`[######--|---]`: up to the peak, and where the highest one lately was."""
    filled = _cells(peak, size)
    cells = ["#"] * filled + ["-"] * (size - filled)
    mark = _cells(held, size)
    if mark > filled:
        cells[mark - 1] = "|"
    return f"[{''.join(cells)}]"


def _cells(value: float | None, size: int) -> int:
    if value is None:
        return 0
    return round(min(max(value - FLOOR_DB, 0.0), -FLOOR_DB) / -FLOOR_DB * size)


def told_line(event: Mapping[str, Any], sample_rate: int) -> str:
    """An event in words."""
    kind = str(event["type"])
    if kind == "stream_gap":
        # Of a device from which nothing has come the rate is not known; the beginning is 0:00 at any.
        first = event["first_frame"]
        at, cause = duration(first, sample_rate if first else sample_rate or 1), str(event["cause"]).replace("_", " ")
        if event["n_frames"] is None:
            return f"gap since {at} ({cause}), still open"
        return f"gap at {at}: {counted(event['n_frames'], 'frame')} ({cause}, {event['confidence']})"
    if kind == "stream_error":
        return f"error: {event['error']['message']}"
    if kind == "stream_silent":
        at = duration(event["since_frame"], sample_rate)
        return f"silent since {at}" if event["silent"] else f"not silent any more, at {at}"
    for flag, word in (("clipping", "clipped"), ("not_finite", "NaN or infinite")):
        if kind == f"stream_{flag}":
            at, n = duration(event["first_frame"], sample_rate), event["n_samples"]
            since = f"samples are {word} since {at}"
            return since if event[flag] else f"no more samples are {word}: {n} were, from {at} on"
    return kind.removeprefix("stream_").replace("_", " ")
