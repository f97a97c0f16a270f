"""What a read gives in place of frames that a gap stands for."""

from __future__ import annotations

from typing import Literal, get_args

__all__ = ["Missing", "check_missing"]

Missing = Literal["zeros", "nan", "error"]
"""What becomes of frames that a gap stands for: zeros, NaN (float recordings alone), or InvalidRange."""


def check_missing(missing: str) -> None:
    """Raises ValueError for what is not a `Missing`."""
    if missing not in get_args(Missing):
        raise ValueError(f'missing={missing!r}: use "zeros", "nan" or "error"')
