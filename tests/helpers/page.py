"""README's blocks: what a newcomer reads and types, in the order of the page."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

__all__ = ["BLOCKS", "README", "Block", "Typed", "of_section"]

README = Path(__file__).parents[2] / "README.md"
_PART = re.compile(
    r"^#+ (?P<title>[^\n]+)$|(?:^<!-- (?P<mark>[^\n]*) -->\n)?^```(?P<kind>\w+)\n(?P<text>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)


class Typed(NamedTuple):
    """A command, and what the page shows that it says, lines put together; empty where it shows nothing."""

    command: str
    sample: str


class Block(NamedTuple):
    """`mark`: `not run: REASON`, `typed on its own: REASON` (by another test), `exit: CODES` or `file: NAME`, from the
    comment above it."""

    section: str
    mark: str
    kind: str
    text: str

    @property
    def codes(self) -> frozenset[int]:
        """How its commands may end."""
        codes = self.mark.removeprefix("exit: ").split() if self.mark.startswith("exit: ") else ["0"]
        return frozenset(map(int, codes))

    @property
    def typed(self) -> list[Typed]:
        """Of a console: what follows `$ `, each with the lines up to the next."""
        found = re.findall(r"^\$ ([^\n]+)\n((?:(?!\$ )[^\n]+\n)*)", self.text, re.MULTILINE)
        return [Typed(command, " ".join(sample.split())) for command, sample in found]


def _blocks() -> list[Block]:
    blocks: list[Block] = []
    section = ""
    for part in _PART.finditer(README.read_text()):
        if part["title"]:
            section = part["title"]
        else:
            blocks.append(Block(section, part["mark"] or "", part["kind"], part["text"]))
    return blocks


BLOCKS = _blocks()


def of_section(title: str) -> list[Block]:
    return [block for block in BLOCKS if block.section == title]
