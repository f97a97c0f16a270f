"""What chaosctl top shows: lines for a screen of a size. Pure."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from chaos.cli.lines import shown_width
from chaos.cli.meter import FLOOR_DB, bar
from chaos.cli.show import dbfs, duration, held_state, level, size
from chaos.terms.counting import counted

__all__ = ["Board"]

_HOLD_S = 1.5
_WIDE, _NARROW = 72, 48


class Board:
    """A head line, a line for each stream, a line for what has happened and one for the keys.

    Attributes:
        note: what has happened last.
        trouble: why nothing is known any more; "" while all is well.
    """

    def __init__(self, last_s: float) -> None:
        self.note = ""
        self.trouble = ""
        self._last_s = last_s
        self._streams: list[Mapping[str, Any]] = []
        self._free: int | None = None
        self._chosen = 0
        self._first = 0
        self._held: dict[str, tuple[float, float]] = {}

    @property
    def chosen(self) -> str | None:
        """The URI of the stream that keys are for."""
        return str(self._streams[self._chosen]["uri"]) if self._streams else None

    def take(self, streams: Sequence[Mapping[str, Any]], free_bytes: int | None) -> None:
        """How it all stands now (StreamStatus each). The chosen stream stays chosen while it is there."""
        chosen, self._free = self.chosen, free_bytes
        self._streams = sorted(streams, key=lambda stream: str(stream["uri"]))
        uris = [stream["uri"] for stream in self._streams]
        self._chosen = uris.index(chosen) if chosen in uris else max(0, min(self._chosen, len(uris) - 1))

    def move(self, by: int) -> None:
        """Chooses another stream."""
        self._chosen = max(0, min(self._chosen + by, len(self._streams) - 1))

    def lines(self, columns: int, rows: int) -> list[str]:
        """What fits: at most `rows` lines of `columns`."""
        n_shown = max(1, rows - 4)
        self._first = max(0, min(self._first, self._chosen), self._chosen - n_shown + 1)
        shown = list(enumerate(self._streams))[self._first : self._first + n_shown]
        free = "disk ?" if self._free is None else f"disk {size(self._free)} free"
        below = len(self._streams) - self._first - len(shown)
        now, n_streams = time.strftime("%H:%M:%S"), counted(len(self._streams), "stream")
        heads = (f"chaosd  {n_streams}  {free}  {now}", f"{n_streams}  {free}  {now}", f"{n_streams}  {now}")
        lines = [
            next((head for head in heads if len(head) <= columns), now),
            _head(columns),
            *(self._line(stream, columns, is_chosen=k == self._chosen) for k, stream in shown),
        ]
        if not self._streams:
            lines.append("nothing is being recorded; start with: chaosctl start")
        lines.append(self.trouble or self.note or (f"{below} more below" if below > 0 else ""))
        keys = f"j k: choose  m: mark  l: save the last {self._last_s:g} s  s: stop  q: quit"
        lines.append(keys if len(keys) <= columns else "j k, m mark, l save, s stop, q quit")
        return [_cut(line, columns) for line in lines[:rows]]

    def _line(self, stream: Mapping[str, Any], columns: int, *, is_chosen: bool) -> str:
        rate = stream["format"].get("sample_rate")
        slots, state = stream["slots"], held_state(stream)
        if self.trouble:
            state = "no answer"
        heard = " " * _meter_width(columns) if self.trouble else self._heard(stream, columns)
        cells = [f"{state:<9}"]
        if columns >= _NARROW:
            cells.append(f"{_short(duration(stream['head_frame'], rate)):>9}")
        cells.append(heard)
        if columns >= _WIDE:
            cells.append(f"{slots['total'] - slots['free']:>3}/{slots['total']:<3}")
        cells.append(f"{stream['n_gaps']:>4}")
        if columns >= _WIDE:
            cells.append(_warning(stream))
        rest = " ".join(cells)
        room = max(4, columns - len(rest) - 3)
        return f"{'>' if is_chosen else ' '} {_named(stream['uri'].removeprefix('stream://'), room)} {rest}"

    def _heard(self, stream: Mapping[str, Any], columns: int) -> str:
        width = _meter_width(columns)
        if stream["format"]["type"] != "audio":
            return f"{_cut(level(stream), width):<{width}}"
        peaks = [each["peak_dbfs"] for each in stream["levels"] if each["peak_dbfs"] is not None]
        peak = max(peaks, default=None)
        now, value = time.monotonic(), FLOOR_DB if peak is None else peak
        held, since = self._held.get(stream["uri"], (FLOOR_DB, now))
        if value >= held or now - since > _HOLD_S:
            self._held[stream["uri"]] = held, since = value, now
        number = f"{dbfs(peak):>5}"
        return number if width == len(number) else f"{bar(peak, held, width - 8)} {number}"


def _meter_width(columns: int) -> int:
    return 20 if columns >= _WIDE else 15 if columns >= _NARROW else 5


def _head(columns: int) -> str:
    cells = ["STATE    "]
    if columns >= _NARROW:
        cells.append("     HEAD")
    width = _meter_width(columns)
    cells.append(f"{'PEAK' if width == 5 else 'PEAK dBFS':>{width}}")
    if columns >= _WIDE:
        cells.append("  SLOTS")
    cells.append("GAPS")
    if columns >= _WIDE:
        cells.append("SIGNAL ")
    rest = " ".join(cells)
    return f"  {'STREAM':<{max(4, columns - len(rest) - 3)}} {rest}"


def _warning(stream: Mapping[str, Any]) -> str:
    signal = stream.get("signal") or {}
    for is_so, word in (
        (signal.get("n_not_finite"), "NaN"),
        (signal.get("silent_since_frame") is not None, "silent"),
        (signal.get("n_clipped"), "clipped"),
    ):
        if is_so:
            return f"{word:<7}"
    return " " * 7


def _short(text: str) -> str:
    """Without milliseconds."""
    return text.partition(".")[0]


def _named(text: str, width: int) -> str:
    """NAME/TAKE as it is, else the name and the end of the take, which tell streams apart."""
    if len(text) <= width:
        return text.ljust(width)
    name, _, take = text.partition("/")
    n_end = min(len(take), max(4, width - 1 - len(name)), width - 2)
    return f"{name[: width - 1 - n_end]}~{take[len(take) - n_end :]}"


def _cut(text: str, width: int) -> str:
    while shown_width(text) > width:
        text = text[:-1]
    return text
