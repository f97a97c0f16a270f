"""The client that only copies: what no other can go below, run beside them (see rig/bare.c)."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from rig import CountingSource, RigError, Session, program

from proof.recorders import ports_of

__all__ = ["Bare", "bare"]


@dataclass
class Bare:
    """`copy_us` is the mean time of its memcpy per cycle, in its data thread, `callback_us` that of its whole callback;
    of `n_frames` of the graph's it missed `lost_frames`, `times` times. Only known once it has ended."""

    pid: int
    copy_us: float = 0.0
    callback_us: float = 0.0
    n_frames: int = 0
    lost_frames: int = 0
    times: int = 0


@contextmanager
def bare(session: Session, source: CountingSource) -> Iterator[Bare]:
    """Captures `source` for as long as the context lasts. Raises RigError where no cycle reaches it."""
    child = session.spawn(str(program("bare")), str(source.channels), log="bare", stdout=subprocess.PIPE)
    found = Bare(child.pid)
    assert child.stdout is not None
    try:
        if b"ready" not in child.stdout.readline():
            raise RigError(f"bare does not start: {session.log('bare')}")
        for number, port in enumerate(ports_of(source), 1):
            session.run("pw-link", f"{source.name}:{port}", f"bare:in_{number}")
        yield found
        child.terminate()
        said = json.loads(child.stdout.readline())
        if not said["cycles"]:
            raise RigError(f"no cycle reached bare: {session.log('bare')}")
        found.n_frames, found.lost_frames, found.times = said["frames"], said["lost"], said["times"]
        found.copy_us, found.callback_us = (said[name] / said["cycles"] / 1000 for name in ("copy_ns", "callback_ns"))
    finally:
        session.end(child)
