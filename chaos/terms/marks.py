"""Marks: what somebody wanted to find again, at a frame of a recording."""

from __future__ import annotations

from typing import Annotated

import msgspec

__all__ = ["MAX_LABEL", "Label", "Mark"]

MAX_LABEL = 200

Label = Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_LABEL)]


class Mark(msgspec.Struct, frozen=True):
    """A frame, counted from the recording's first, and its name."""

    frame: int
    label: str
