"""A stream's state, as people and agents are told it."""

from __future__ import annotations

__all__ = ["shown_state"]


def shown_state(state: str, *, is_held: bool, has_take: bool = False) -> str:
    """Its state; of one that holds its frames in memory `standby`, or `recording` while a take by level runs."""
    if not is_held or state != "streaming":
        return state
    return "recording" if has_take else "standby"
