"""How many files this process may have open, and who may take them: streams, clients, everything else."""

from __future__ import annotations

import resource
from contextlib import suppress
from pathlib import Path

from chaos.terms.errors import LimitReached

__all__ = ["GUARANTEED", "OF_STREAM", "check_clients_fit", "check_room", "max_connections", "n_open", "raise_limit"]

OF_STREAM = 13  # what a stream opens at most: six are PipeWire's, three the recording's, three ours, one now and then
GUARANTEED = 4096  # with so many, not even a burst of connections takes the last one (see `doors.zmq.connections`)
_MOST_CONNECTIONS = 1024
_MOST_SPARE = 128


def raise_limit() -> int:
    """Raises the soft limit to the hard one, and returns what holds now."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return _limit()


def check_clients_fit() -> None:
    """Raises LimitReached where a burst of connections could take the last descriptor."""
    if (limit := _limit()) < GUARANTEED:
        raise LimitReached(
            f"chaosd may open only {limit} files and needs {GUARANTEED}: with fewer, a burst of clients could end it",
            hint=f"raise the hard limit: `ulimit -Hn {GUARANTEED}` as root, LimitNOFILE= in a unit of systemd",
            details={"limit": limit, "needed": GUARANTEED},
        )


def n_open() -> int:
    """How many descriptors are open now."""
    return sum(1 for _ in Path("/proc/self/fd").iterdir()) - 1  # but for the one that lists them


def max_connections() -> int:
    """How many connections clients may have together: an eighth of the limit."""
    return min(_MOST_CONNECTIONS, _limit() // 8)


def check_room(n_starting: int) -> None:
    """Raises LimitReached unless one more stream may start beside `n_starting` that have not opened their files yet.

    All connections, and what is opened now and then, are taken into account.
    """
    limit, spare = _limit(), min(_MOST_SPARE, _limit() // 8)
    if limit - n_open() - max_connections() - spare < OF_STREAM * (n_starting + 1):
        raise LimitReached(
            f"chaosd may open {limit} files, and another stream could need more",
            hint="stop a stream, or raise the limit: `ulimit -n 65536`, LimitNOFILE= in a unit of systemd",
            details={"limit": limit, "open": n_open()},
        )


def _limit() -> int:
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]
