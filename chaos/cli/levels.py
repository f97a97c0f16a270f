"""The levels of streams, read from the memory that the engine captures into: without a message, at no cost to it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from chaos.terms.errors import ChaosError

if TYPE_CHECKING:
    from chaos.read.recording import Recording

__all__ = ["Levels"]

_WINDOW_S = 0.2
_FROM_SLOTS = frozenset({"streaming", "stalled"})


class Levels:
    """Alive until `close`. What can't be read (another machine, a stream in standby) is as the engine told it last."""

    def __init__(self) -> None:
        self._open: dict[str, Recording] = {}
        self._refused: set[str] = set()

    def of(self, stream: Mapping[str, Any]) -> Mapping[str, Any]:
        """A StreamStatus with its head and levels as they are now."""
        folder = stream["recording"]
        is_audio = stream["format"]["type"] == "audio"
        if not folder or folder in self._refused or not is_audio or stream["state"] not in _FROM_SLOTS:
            return stream
        try:
            recording = self._recording(folder)
            head = recording.n_frames
            samples = recording.read(max(0, head - round(_WINDOW_S * recording.sample_rate)), head)
        except (ChaosError, OSError):
            self._forget(folder)
            self._refused.add(folder)
            return stream
        full_scale = 1.0 if samples.dtype.kind == "f" else 2.0 ** (8 * samples.dtype.itemsize - 1)
        peaks = [float(max(-plane.min(), plane.max())) / full_scale if plane.size else 0.0
                 for plane in samples.astype("f8")]  # fmt: skip
        levels = [{"peak_dbfs": 20 * math.log10(peak) if 0 < peak < math.inf else None} for peak in peaks]
        return {**stream, "head_frame": head, "levels": levels}

    def _recording(self, folder: str) -> Recording:
        if folder not in self._open:
            from chaos.read.recording import open as open_recording

            for each in list(self._open):  # takes that have ended
                if self._open[each].state != "recording":
                    self._forget(each)
            self._open[folder] = open_recording(Path(folder))
        return self._open[folder]

    def _forget(self, folder: str) -> None:
        with suppress(KeyError):
            self._open.pop(folder).close()

    def close(self) -> None:
        for folder in list(self._open):
            self._forget(folder)
