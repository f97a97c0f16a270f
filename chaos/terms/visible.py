"""Text that others chose (a device's name, a path, an event) made safe to show."""

from __future__ import annotations

import unicodedata

__all__ = ["visible"]

_JOINER = "\u200d"  # holds emoji together, and does nothing else
_HIDDEN = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})


def visible(text: str) -> str:
    """`text` with all that a terminal would act on, or would not show, as escapes: `\\x1b`, `\\n`, `\\u202e`.

    So it can't move the cursor, set the window's title, reach the clipboard, begin a new line or turn the direction of
    what follows.
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(map(_shown, text))


def _shown(character: str) -> str:
    if character == _JOINER or unicodedata.category(character) not in _HIDDEN:
        return character
    return character.encode("unicode_escape").decode("ascii")
