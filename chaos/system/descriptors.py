"""How many files this process may have open, and who may take them: streams, clients, everything else."""

from __future__ import annotations

import resource
from pathlib import Path

__all__ = ["OF_STREAM", "max_connections", "n_open", "raise_limit", "room_for_streams"]

OF_STREAM = 10  # what a stream opens at most, PipeWire's share of it included
_MOST_CONNECTIONS = 1024
_MOST_SPARE = 128


def raise_limit() -> int:
    """Raises the soft limit to the hard one, as far as that can be, and returns what holds now."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        except (OSError, ValueError):
            return soft
    return hard


def n_open() -> int:
    """How many descriptors are open now."""
    return sum(1 for _ in Path("/proc/self/fd").iterdir()) - 1  # but for the one that lists them


def max_connections() -> int:
    """How many connections clients may have together: an eighth of the limit."""
    return min(_MOST_CONNECTIONS, _limit() // 8)


def room_for_streams() -> int:
    """How many more streams may start, all connections and what else is opened now and then taken into account."""
    spare = min(_MOST_SPARE, _limit() // 8)
    return max(0, (_limit() - n_open() - max_connections() - spare) // OF_STREAM)


def _limit() -> int:
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]
