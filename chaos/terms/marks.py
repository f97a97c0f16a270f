"""Marks: what somebody wanted to find again, at a frame of a recording."""

from __future__ import annotations

from typing import Annotated

import msgspec

from chaos.terms.errors import InvalidRequest

__all__ = ["MAX_LABEL", "Label", "Mark", "check_label"]

MAX_LABEL = 200

Label = Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_LABEL)]


class Mark(msgspec.Struct, frozen=True):
    """A frame, counted from the recording's first, and its name."""

    frame: int
    label: str


def check_label(label: str) -> None:
    """Raises InvalidRequest where nobody could see the label, or what marks are written to would cut it off."""
    if not 1 <= len(label) <= MAX_LABEL:
        wrong = f"1 to {MAX_LABEL} characters, not {len(label)}"
    elif not label.strip():
        wrong = "something other than spaces"
    elif "\0" in label:
        wrong = "no NUL character"
    else:
        return
    raise InvalidRequest(f"a mark's label has {wrong}", hint='name what is there, for example "verse 2"')
