"""A chaosd of one's own in a private PipeWire session."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from rig import RigError, Session

from chaos.client import Client, DaemonUnreachable

__all__ = ["Engine", "data_thread"]

_PATIENCE_S = 15.0


class Engine:
    """A chaosd with store and endpoints in `folder`, answering once it is made; `client` talks to it.

    `variables` are added to its environment, `options` to its command line; `program` is the chaosd to start (None:
    this checkout's). Raises RigError where it does not come up.
    """

    def __init__(
        self,
        session: Session,
        folder: Path,
        *,
        options: Sequence[str] = (),
        variables: Mapping[str, str] | None = None,
        program: Path | None = None,
    ) -> None:
        self.session = session
        self.store = folder / "store"
        self.log_name = f"chaosd-{folder.name}"
        endpoints = [f"ipc://{session.runtime_dir}/{folder.name}.{kind}" for kind in "ce"]
        chaosd = [sys.executable, "-m", "chaos.daemon"] if program is None else [str(program)]
        command = [*chaosd, "--endpoint", endpoints[0], "--events", endpoints[1]]
        setting = [f"{key}={value}" for key, value in (variables or {}).items()]
        started = time.monotonic()
        self.process: subprocess.Popen[bytes] = session.spawn(
            "env", *setting, *command, "--store", str(self.store), *options, log=self.log_name
        )
        self.client = Client(*endpoints, timeout_s=_PATIENCE_S)
        while True:
            try:
                self.client.call("ping")
                break
            except DaemonUnreachable as error:
                if self.process.poll() is not None or time.monotonic() - started > _PATIENCE_S:
                    self.close()
                    raise RigError(f"chaosd does not answer: {session.log(self.log_name)}") from error
                time.sleep(0.005)  # its socket is not there yet; short, as `started_s` is a figure
        self.started_s = time.monotonic() - started

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def pid(self) -> int:
        return self.process.pid

    def call(self, op: str, /, **fields: Any) -> dict[str, Any]:
        return self.client.call(op, **fields)

    def await_state(self, uri: str, *states: str, timeout_s: float = 60.0) -> dict[str, Any]:
        """The stream's status once it is in one of these states. Raises RigError when it doesn't come to be."""
        return self.await_status(uri, lambda status: status["state"] in states, timeout_s=timeout_s)

    def await_status(self, uri: str, wanted: Any, *, timeout_s: float = 60.0) -> dict[str, Any]:
        """The stream's status once `wanted(status)` holds. Raises RigError when it doesn't come to be."""
        deadline = time.monotonic() + timeout_s
        while True:
            status = self.call("stream_status", uri=uri)
            if wanted(status):
                return status
            if time.monotonic() > deadline:
                raise RigError(f"{uri} stays as it is: {status}; {self.session.log(self.log_name)}")
            time.sleep(0.01)  # no event tells of every field

    def close(self) -> None:
        """Ends it cleanly; twice is harmless."""
        self.client.close()
        self.session.end(self.process, timeout_s=30.0)


def data_thread(pid: int) -> int:
    """The thread in which PipeWire runs a chaosd's callbacks. Raises RigError where there is none.

    Where a release of PipeWire gives it no name, it is the one made just before the loop's.
    """
    names = {}
    for task in Path(f"/proc/{pid}/task").iterdir():
        with suppress(FileNotFoundError, ProcessLookupError):  # a thread may end between the listing and the look
            names[int(task.name)] = (task / "comm").read_text().strip()
    found = [tid for tid, name in names.items() if "data-loop" in name]
    loops = [tid for tid, name in names.items() if name == "chaosd-pw"]
    if not found and loops:
        found = sorted(tid for tid in names if tid < min(loops))[-1:]
    if not found:
        raise RigError(f"process {pid} has no PipeWire data thread")
    return found[0]
