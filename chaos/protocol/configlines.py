"""Which line of a TOML file is meant: tomllib tells none of what it has read."""

from __future__ import annotations

import tomllib
from bisect import bisect_left
from typing import Any

__all__ = ["line_of", "line_of_giving_up", "number_in"]


def line_of_giving_up(text: str) -> int:
    """The first line with which tomllib can't go on, though what it reads may be TOML."""
    lines = text.split("\n")

    def gives_up(n_lines: int) -> bool:
        try:
            tomllib.loads("\n".join(lines[:n_lines]))
        except tomllib.TOMLDecodeError:
            return False
        except (RecursionError, ValueError):
            return True
        return False

    return bisect_left(range(1, len(lines)), True, key=gives_up) + 1


def number_in(place: str) -> int | None:
    """The line of tomllib's "line 3, column 5)"."""
    word = place.removeprefix("line ").partition(",")[0]
    return int(word) if word.isdecimal() else None


def line_of(text: str, place: tuple[str | int, ...]) -> int:
    """The line at which the statement begins that gives this place its value.

    tomllib tells no lines. But the first lines of a file, up to the end of a statement, are a file as well: the place
    is there from its own statement on.
    """
    lines = text.split("\n")
    begin = 0
    for end in range(1, len(lines) + 1):
        while begin < end - 1 and (not lines[begin].strip() or lines[begin].lstrip().startswith("#")):
            begin += 1
        try:
            document = tomllib.loads("\n".join(lines[:end]) + "\n")
        except tomllib.TOMLDecodeError:
            continue
        if _has(document, place):
            return begin + 1
        begin = end
    return 0


def _has(document: Any, place: tuple[str | int, ...]) -> bool:
    for step in place:
        try:
            document = document[step]
        except (LookupError, TypeError):
            return False
    return True
