"""The journal as it is uploaded: the recorder's own lines, but for what retention took after it was uploaded.

As long as nothing is left out or put in, the lines are the same bytes. From there on they are chained anew; a chain
that is broken here is broken there at the same place, and a line that makes no sense goes as it is.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from chaos.store.lines import NOTHING, Line, decode, encode, link, told_before
from chaos.system.files import open_regular, storage_errors

__all__ = ["Chain", "journal_lines"]

_BLOCK_BYTES = 1 << 16


def journal_lines(path: Path, begin: int) -> Iterator[tuple[bytes, int]]:
    """The whole lines from there on, without their ends, each with the place behind it. Raises StorageFailed."""
    with storage_errors("read", path), os.fdopen(open_regular(path), "rb", buffering=0) as file:
        file.seek(begin)
        rest, at = b"", begin
        while block := file.read(_BLOCK_BYTES):
            *whole, rest = (rest + block).split(b"\n")
            for raw in whole:
                at += len(raw) + 1
                yield raw, at


class Chain:
    """Makes the uploaded lines of the recorder's: `take` each, or `drop` it; `put` is a line of our own between."""

    def __init__(self) -> None:
        self._here: bytes | None = NOTHING  # what the recorder's next line says of its last one; None where any will do
        self._there = NOTHING
        self._is_chained = True
        self._is_same = True

    def read(self, raw: bytes) -> Line | None:
        """What a line of the recorder's says; None where that makes no sense."""
        try:
            return decode(raw)
        except ValueError:
            return None

    def take(self, raw: bytes, line: Line | None) -> bytes:
        """The uploaded line for this one."""
        if line is None:
            self._here = None
            return raw
        told = told_before(raw)
        is_broken = told is not None and self._here not in (None, told)
        self._here = link(raw)
        self._is_chained = told is not None
        made = raw if self._is_same else encode(line, told if is_broken or told is None else self._there)
        self._there = link(made)
        return made

    def drop(self, raw: bytes) -> None:
        """This line is left out."""
        self._here = link(raw)
        self._is_same = False

    def change(self, raw: bytes, line: Line) -> bytes:
        """The uploaded line in this one's place."""
        self._here = link(raw)
        self._is_chained = told_before(raw) is not None
        return self.put(line)

    def put(self, line: Line) -> bytes:
        self._is_same = False
        made = encode(line, self._there if self._is_chained else None)
        self._there = link(made)
        return made
