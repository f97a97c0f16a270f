"""How lines fit a terminal: how wide it is, how wide a text is shown, and where a line is broken."""

from __future__ import annotations

import os
import re
import shutil
import sys
import unicodedata
from typing import TextIO

__all__ = ["broken", "columns_of", "shown_width", "wrapped"]

_INDENT = 2
# What is to be typed stays in one piece: a terminal folds it where it must, and gives it back whole to who copies it.
_PIECE = re.compile(r"(?:sudo|systemctl|chaosctl|chaosd) (?:[a-z]|--)[^;,`]*|[^ ]+|(?<= )(?= )")


def columns_of(stream: TextIO | None = None) -> int:
    """How many columns the terminal has that `stream` writes to (standard output); COLUMNS comes first."""
    stream = sys.stdout if stream is None else stream
    try:
        own = os.get_terminal_size(stream.fileno()).columns
    except (OSError, ValueError):
        own = 0
    told = os.environ.get("COLUMNS", "")
    return int(told) if told.isdecimal() and int(told) else own or shutil.get_terminal_size().columns


def wrapped(line: str, width: int) -> list[str]:
    """A line of prose, broken at spaces to that many columns; what follows is indented. No word and no command that is
    to be typed is broken, however long."""
    if shown_width(line) <= width:
        return [line]
    margin = line[: len(line) - len(line.lstrip(" "))]
    indent = f"{margin}{' ' * _INDENT}"
    lines: list[str] = []
    current = ""
    for piece in _PIECE.findall(line[len(margin) :]):
        before = indent if lines else margin
        if current and shown_width(f"{before}{current} {piece}") > width:
            lines.append(f"{before}{current}".rstrip())
            current = piece
        else:
            current = f"{current} {piece}" if current else piece
    return [*lines, f"{indent if lines else margin}{current}".rstrip()]


def broken(text: str, width: int) -> list[str]:
    """Broken at spaces, and within words that are longer than a line."""
    lines, line = [], ""
    for word in text.split(" "):
        joined = f"{line} {word}" if line else word
        if shown_width(joined) <= width:
            line = joined
            continue
        if line:
            lines.append(line)
        line = word
        while shown_width(line) > width:
            part = line
            while shown_width(part) > width and len(part) > 1:
                part = part[:-1]
            lines.append(part)
            line = line[len(part) :]
    return [*lines, line]


def shown_width(text: str) -> int:
    """How many columns of a terminal it takes."""
    if text.isascii():
        return len(text)
    return sum(
        0 if unicodedata.combining(each) else 2 if unicodedata.east_asian_width(each) in "WF" else 1 for each in text
    )
