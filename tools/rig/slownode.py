"""A node whose ports come and go when it is told so (ports.c)."""

from __future__ import annotations

import subprocess

from rig.programs import program
from rig.session import RigError, Session

__all__ = ["SlowNode"]


class SlowNode:
    """An Audio/Source without ports at first; a port's channel has a level of its own. `odd` as in ports.c.

    Raises RigError where the program fails.
    """

    def __init__(self, session: Session, name: str, *options: str) -> None:
        self._session = session
        self._child = session.spawn(
            str(program("ports")), name, *options, log="ports", stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        assert self._child.stdin is not None
        assert self._child.stdout is not None
        self._in, self._out = self._child.stdin, self._child.stdout

    def add(self, channel: str) -> None:
        self._say(f"add {channel}")

    def remove(self, channel: str) -> None:
        self._say(f"remove {channel}")

    def close(self) -> None:
        self._session.end(self._child)

    def _say(self, line: str) -> None:
        self._in.write(f"{line}\n".encode())
        self._in.flush()
        if self._out.readline() != b"done\n":
            raise RigError(f"ports: {self._session.log('ports')}")
