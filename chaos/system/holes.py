"""Files without blocks where they hold nothing but zeros: they read the same, and take no space there."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator

__all__ = ["punch_zeros"]

_KEEP_SIZE, _PUNCH_HOLE = 1, 2  # of fallocate(2)
_BLOCK = 1 << 16

_fallocate = getattr(ctypes.CDLL(None, use_errno=True), "fallocate", None)
if _fallocate is not None:
    _fallocate.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64)


def punch_zeros(fd: int, data: memoryview) -> None:
    """Gives back the blocks of a file whose content is `data` where that is zero, 64 KiB or more in a row.

    A file system that can't do so keeps them: nobody is told, since the content is the same.
    """
    if _fallocate is None:
        return
    for first, end in _zeros(data):
        if _fallocate(fd, _KEEP_SIZE | _PUNCH_HOLE, first, end - first):
            return


def _zeros(data: memoryview) -> Iterator[tuple[int, int]]:
    """Runs of whole blocks of zeros; the last block may be a short one."""
    nothing = bytes(_BLOCK)
    begin: int | None = None
    for at in range(0, len(data), _BLOCK):
        with data[at : at + _BLOCK] as block:
            is_zero = block.tobytes() == nothing[: len(block)]
        if is_zero and begin is None:
            begin = at
        elif not is_zero and begin is not None:
            yield begin, at
            begin = None
    if begin is not None:
        yield begin, len(data)
