"""The kinds of file that a recording can be saved as. Each is declared here, once.

Kept free of imports that take time: chaosctl's help lists them.
"""

from __future__ import annotations

from typing import Literal, TypeAlias, get_args

__all__ = [
    "AUDIO_CONTAINERS",
    "CONTAINERS",
    "GAP_FILLS",
    "MIDI_CONTAINERS",
    "SUBTYPES",
    "Container",
    "GapFill",
    "Subtype",
]

Container: TypeAlias = Literal["wav", "rf64", "w64", "caf", "flac", "opus", "raw", "mid", "midi2"]
"""Also the ending of a file's name that stands for it."""
CONTAINERS: tuple[Container, ...] = get_args(Container)
MIDI_CONTAINERS: tuple[Container, ...] = ("mid", "midi2")
"""Those of MIDI recordings: Standard MIDI Files, and MIDI Clip Files. The others are of audio."""
AUDIO_CONTAINERS: tuple[Container, ...] = tuple(each for each in CONTAINERS if each not in MIDI_CONTAINERS)

Subtype: TypeAlias = Literal["FLOAT", "PCM_32", "PCM_24", "PCM_16"]
"""How samples stand in a file, by libsndfile's names. (Opus has none of them.)"""
SUBTYPES: tuple[Subtype, ...] = get_args(Subtype)

GapFill: TypeAlias = Literal["zeros", "cut", "nan"]
"""What becomes of a gap in a file: zeros, nothing (what follows moves up), or NaN (float samples)."""
GAP_FILLS: tuple[GapFill, ...] = get_args(GapFill)
