"""How fine the levels of an overview are, and how long: see `chaos.store.overview`."""

from __future__ import annotations

from typing import Final

__all__ = [
    "BLOCK_FRAMES",
    "FACTOR",
    "FILE_BLOCKS",
    "N_VALUES",
    "VALUES",
    "block_frames",
    "file_frames",
    "level_lengths",
]

BLOCK_FRAMES: Final = 256
FACTOR: Final = 4
FILE_BLOCKS: Final = 1024
VALUES: Final = ("min", "max", "rms", "share")
N_VALUES: Final = len(VALUES)
_FEW_BLOCKS = 16


def block_frames(level: int) -> int:
    """How many frames a block of this level stands for."""
    return int(BLOCK_FRAMES * FACTOR**level)


def file_frames(level: int) -> int:
    """How many frames a file of this level stands for."""
    return block_frames(level) * FILE_BLOCKS


def level_lengths(n_frames: int, *, is_whole: bool) -> list[int]:
    """How many blocks each level has: while it grows only those of files that are full."""
    lengths: list[int] = []
    while not lengths or (is_whole and lengths[-1] > _FEW_BLOCKS) or (not is_whole and lengths[-1]):
        size = block_frames(len(lengths))
        lengths.append(-(-n_frames // size) if is_whole else n_frames // (size * FILE_BLOCKS) * FILE_BLOCKS)
    return lengths if is_whole else lengths[: max(1, len(lengths) - 1)]
