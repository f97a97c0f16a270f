"""How much room there is on the disks; one that doesn't answer is waited for by nobody."""

from __future__ import annotations

import itertools
import shutil
import threading
from concurrent.futures import Future
from pathlib import Path
from typing import NamedTuple

from chaos.engine.messages import settle
from chaos.system.pump import Pump
from chaos.system.workers import Workers

__all__ = ["Room", "Space"]

WITHIN_S = 2.0


class Room(NamedTuple):
    """`store_free` and `staging_size` in bytes, None where they can't be had; `error` says why."""

    store_free: int | None
    staging_size: int | None
    error: str | None


class Space:
    """Looks at the disks on a thread of its own, at most once at a time. `ask` from any thread, until `close`."""

    def __init__(self, store: Path, staging: Path, pump: Pump) -> None:
        self._store = store
        self._staging = staging
        self._pump = pump
        self._workers = Workers(1, "space")
        self._numbers = itertools.count()
        self._lock = threading.Lock()
        self._waiting: list[Future[Room]] = []
        self._is_looking = False

    def ask(self) -> Future[Room]:
        """Settled within `WITHIN_S`, whatever the disks do."""
        future: Future[Room] = Future()
        key = "space", next(self._numbers)
        hangs = Room(None, None, f"{self._store} has not answered for {WITHIN_S:g} s")
        self._pump.after(key, WITHIN_S, lambda: settle(future, hangs))
        future.add_done_callback(lambda _: self._pump.cancel(key))
        with self._lock:
            self._waiting.append(future)
            if self._is_looking:
                return future
            self._is_looking = True
        try:
            self._workers.submit(self._look)
        except RuntimeError as error:
            self._tell(Room(None, None, str(error)))
        return future

    def close(self) -> None:
        self._workers.close()

    def _look(self) -> None:
        staging = free = error = None
        try:
            staging = shutil.disk_usage(self._staging).total
            free = shutil.disk_usage(self._store).free
        except OSError as refused:
            error = f"{refused.filename}: {refused.strerror}"
        self._tell(Room(free, staging, error))

    def _tell(self, room: Room) -> None:
        with self._lock:
            waiting, self._waiting = self._waiting, []
            self._is_looking = False
        for future in waiting:
            settle(future, room)
