"""Numbers with their noun, as people read them."""

from __future__ import annotations

__all__ = ["counted"]


def counted(n: int, noun: str) -> str:
    """`1 gap`, `2 gaps`; `noun` is the singular, and takes an s."""
    return f"{n} {noun}" if n == 1 else f"{n} {noun}s"
