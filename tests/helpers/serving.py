"""A door in a process of its own, whose limits and memory are those of nothing else."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Self

from chaos.client import Client

__all__ = ["Serving"]

SERVING = """
import pathlib, resource, sys
from scripted import ScriptedDaemon
resource.setrlimit(resource.RLIMIT_NOFILE, (int(sys.argv[2]), int(sys.argv[2])))
daemon = ScriptedDaemon(pathlib.Path(sys.argv[1]))
print("up", flush=True)
sys.stdin.readline()
with daemon:
    for line in sys.stdin:
        if line == "publish\\n":
            daemon.publish("daemon_stopping")
"""


class Serving:
    """A door in a process that may open `limit` files; it must live until the end. It waits for `go`."""

    def __init__(self, folder: Path, limit: int) -> None:
        env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
        command = [sys.executable, "-c", SERVING, str(folder), str(limit)]
        self.folder = folder
        self._process = subprocess.Popen(
            command, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == "up\n"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        _, said = self._process.communicate("\n")
        assert self._process.returncode == 0, said

    def go(self) -> None:
        self._say("")

    def publish(self) -> None:
        """An event `daemon_stopping`."""
        self._say("publish")

    def _say(self, line: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{line}\n")
        self._process.stdin.flush()

    def client(self) -> Client:
        return Client(f"ipc://{self.folder}/command", f"ipc://{self.folder}/events", timeout_s=60)

    def own_mib(self) -> int:
        """The memory that belongs to no file."""
        status = Path(f"/proc/{self._process.pid}/status").read_text()
        return int(status.split("RssAnon:")[1].split()[0]) >> 10

    def n_open(self) -> int:
        return sum(1 for _ in Path(f"/proc/{self._process.pid}/fd").iterdir())
