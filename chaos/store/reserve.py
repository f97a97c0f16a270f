"""A little of the disk that is kept free for notes: where a store is full, what makes room again has to write first."""

from __future__ import annotations

import os
import shutil
from contextlib import suppress
from pathlib import Path

__all__ = ["Reserve"]

_N_PIECES = 8
_PIECE_BYTES = 1 << 19
_ENOUGH_BYTES = 1 << 18


class Reserve:
    """Files in `folder` that hold space and nothing else. Nothing here raises: without a reserve it goes without."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def keep(self) -> None:
        """Makes it whole, where the disk has room for many of them."""
        with suppress(OSError):
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            lost = [path for path in self._pieces() if not path.exists()]
            if not lost or _free(self._folder) < 8 * _N_PIECES * _PIECE_BYTES:
                return
            for path in lost:
                fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
                try:
                    os.posix_fallocate(fd, 0, _PIECE_BYTES)
                finally:
                    os.close(fd)

    def give_up(self) -> None:
        """Gives up a piece, where nothing may be written any more without it."""
        with suppress(OSError):
            if _free(self._folder) < _ENOUGH_BYTES and (left := [path for path in self._pieces() if path.exists()]):
                left[-1].unlink()

    def _pieces(self) -> list[Path]:
        return [self._folder / str(number) for number in range(_N_PIECES)]


def _free(folder: Path) -> int:
    return shutil.disk_usage(folder).free
