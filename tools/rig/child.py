"""A program of the rig that runs in a session and tells what happens to it, one JSON object per line."""

from __future__ import annotations

import json
import os
import select
import subprocess
import time
from types import TracebackType
from typing import Any, Self

from rig.session import RigError, Session

__all__ = ["Child"]


class Child:
    """Started when it is made; ends with the session at the latest. `name` is the session's log for its stderr."""

    def __init__(self, session: Session, name: str, *command: str) -> None:
        self.session = session
        self.name = name
        self._child = session.spawn(*command, log=name, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self._unread = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def pid(self) -> int:
        return self._child.pid

    def say(self, line: str) -> None:
        """Sends it a line."""
        assert self._child.stdin is not None
        self._child.stdin.write(line.encode() + b"\n")
        self._child.stdin.flush()

    def wait_for(self, event: str, timeout_s: float = 60.0, **fields: Any) -> dict[str, Any]:
        """The next such event that has these values; those before it are passed over. Raises `RigError`."""
        deadline = time.monotonic() + timeout_s
        while True:
            said = self._next_event(deadline)
            if said["event"] == event and all(said.get(key) == value for key, value in fields.items()):
                return said
            if said["event"] == "error":
                raise RigError(f"{self.name}: {said['message']}")

    def stop(self) -> None:
        """Ends it; may be called twice."""
        self.session.end(self._child)

    def finish(self, event: str = "stopped") -> dict[str, Any]:
        """Ends it and returns the last that it tells."""
        self._child.terminate()
        said = self.wait_for(event)
        self.stop()
        return said

    def _next_event(self, deadline: float) -> dict[str, Any]:
        assert self._child.stdout is not None
        fd = self._child.stdout.fileno()
        while b"\n" not in self._unread:
            readable, _, _ = select.select([fd], [], [], max(0.0, deadline - time.monotonic()))
            more = os.read(fd, 65536) if readable else b""
            if not more:
                why = "ended" if readable else "did not report in time"
                raise RigError(f"{self.name} {why}: {self.session.log(self.name)}")
            self._unread += more
        line, self._unread = self._unread.split(b"\n", 1)
        event: dict[str, Any] = json.loads(line)
        return event
