"""Something to hear: a short piece for plucked strings over held chords."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import soundfile

__all__ = ["tune", "write_music"]

_CHORDS = ((57, 60, 64, 69), (53, 57, 60, 65), (48, 55, 60, 64), (55, 59, 62, 67))
_PATTERN = (0, 1, 2, 3, 2, 1, 2, 3)
_NOTE_S = 0.25
_LEVEL = 0.5


def tune(seconds: float, rate: int = 48000) -> list[tuple[int, int]]:
    """The plucked notes of so many seconds: frame and MIDI number of each."""
    return [(round(step * _NOTE_S * rate), _note(step)) for step in range(int(seconds / _NOTE_S))]


def _note(step: int) -> int:
    return _CHORDS[step // len(_PATTERN) % len(_CHORDS)][_PATTERN[step % len(_PATTERN)]] + 12


def write_music(path: Path, seconds: float, rate: int = 48000) -> None:
    """Writes so many seconds of stereo music as a float WAV; its peaks lie at about -6 dBFS."""
    total = int(seconds * rate)
    mix = np.zeros((total + 2 * rate, 2))
    for step in range(int(seconds / _NOTE_S)):
        chord = _CHORDS[step // len(_PATTERN) % len(_CHORDS)]
        at = int(step * _NOTE_S * rate)
        if step % len(_PATTERN) == 0:
            for held in chord:
                mix[at : at + 2 * rate] += 0.25 * _tone(held - 12, 2 * rate, rate, 0.5)[:, None]
        note = _tone(_note(step), rate, rate, 6.0)
        side = 0.5 + 0.35 * np.sin(step)
        mix[at : at + rate] += note[:, None] * (side, 1 - side)
    mix = mix[:total] * (_LEVEL / np.max(np.abs(mix)))
    soundfile.write(path, mix.astype(np.float32), rate, subtype="FLOAT")


def _tone(note: int, n_frames: int, rate: int, decay: float) -> npt.NDArray[np.float64]:
    t = np.arange(n_frames) / rate
    pitch = 440.0 * 2 ** ((note - 69) / 12)
    partials = sum(np.sin(2 * np.pi * pitch * k * t) * np.exp(-decay * k * t) / k for k in range(1, 6))
    fade = np.minimum(1.0, np.minimum(t, t[-1] - t) / 0.005)
    return np.asarray(partials * fade, dtype=np.float64)
