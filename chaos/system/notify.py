"""What a service manager is told of us, as `sd_notify(3)` has it: ready, how it goes, stopping, still alive."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Mapping

__all__ = ["Notify"]

log = logging.getLogger(__name__)


class Notify:
    """Writes to the socket that NOTIFY_SOCKET names; without one it does nothing.

    `watchdog_s`: within which time the manager wants to hear of us again and again; None where it doesn't.
    """

    def __init__(self, environment: Mapping[str, str] = os.environ) -> None:
        named = environment.get("NOTIFY_SOCKET", "")
        self._address = f"\0{named[1:]}" if named.startswith("@") else named
        self.watchdog_s = _watchdog_s(environment) if named else None

    @property
    def is_wanted(self) -> bool:
        return bool(self._address)

    def tell(self, **values: str) -> None:
        """`tell(READY="1", STATUS="2 streams")`. What can't be told is logged, and harms nothing."""
        if not self._address:
            return
        lines = "\n".join(f"{name}={' '.join(value.split())}" for name, value in values.items())
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
                sock.setblocking(False)
                sock.sendto(lines.encode(errors="replace"), self._address)
        except OSError as error:
            log.warning("the service manager can't be told: %s", error.strerror)


def _watchdog_s(environment: Mapping[str, str]) -> float | None:
    """Only where it is meant for this very process."""
    if environment.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return None
    asked = environment.get("WATCHDOG_USEC", "")
    return int(asked) / 1e6 if asked.isdecimal() and int(asked) else None
