"""When a start came to each of its steps: for whoever wants to know where its time goes."""

from __future__ import annotations

import time

__all__ = ["Trace"]


class Trace:
    """CLOCK_MONOTONIC (ns) of each step, as it was first come to. From any thread."""

    def __init__(self) -> None:
        self._reached: dict[str, int] = {}

    def note(self, step: str, at_ns: int | None = None) -> None:
        """The step is reached, now or at `at_ns`; what was noted of it before stays."""
        self._reached.setdefault(step, time.monotonic_ns() if at_ns is None else at_ns)

    def steps(self) -> dict[str, int]:
        """By step, in the order of their times."""
        return dict(sorted(self._reached.items(), key=lambda step: step[1]))
