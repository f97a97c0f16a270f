"""How much room there is on the disks, and whether the store is where it was; a disk that doesn't answer is waited for
by nobody."""

from __future__ import annotations

import itertools
import logging
import shutil
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from chaos.engine.messages import settle
from chaos.protocol import events
from chaos.system.folders import folder_identity
from chaos.system.pump import Pump
from chaos.system.workers import Workers
from chaos.terms.errors import StorageFailed

__all__ = ["IDLE_LOOK_S", "LOOK_S", "Room", "Space", "StoreWatch"]

log = logging.getLogger(__name__)

WITHIN_S = 2.0
LOOK_S = 1.0
IDLE_LOOK_S = 60.0
"""So often somebody is to look whether the store is still where it was: while something is recorded, and while nothing
is."""


class Room(NamedTuple):
    """`store_free` and `staging_size` in bytes, None where they can't be had; `error` says why. `is_away`: the store's
    name leads to no folder, or to another one (`is_another`)."""

    store_free: int | None
    staging_size: int | None
    error: str | None
    is_another: bool = False
    is_away: bool = False


class Space:
    """Looks at the disks on a thread of its own, at most once at a time. `ask` from any thread, until `close`.

    The folder that the first look finds at `store` is the store.
    """

    def __init__(self, store: Path, staging: Path, pump: Pump) -> None:
        self._store = store
        self._staging = staging
        self._pump = pump
        self._workers = Workers(1, "space")
        self._numbers = itertools.count()
        self._lock = threading.Lock()
        self._waiting: list[Future[Room]] = []
        self._is_looking = False
        self._opened: tuple[int, int] | None = None

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
        is_another = is_away = False
        try:
            staging = shutil.disk_usage(self._staging).total
        except OSError as refused:
            error = f"{refused.filename}: {refused.strerror}"
        try:
            found = folder_identity(self._store)
        except OSError as refused:
            is_away = True
            error = f"{refused.filename}: {refused.strerror}"
        else:
            self._opened = self._opened or found
            if found != self._opened:
                is_another = is_away = True
                error = f"{self._store} is not the folder that chaosd opened: that was moved, replaced or unmounted"
            with suppress(OSError):
                free = shutil.disk_usage(self._store).free
        self._tell(Room(free, staging, error, is_another, is_away))

    def _tell(self, room: Room) -> None:
        with self._lock:
            waiting, self._waiting = self._waiting, []
            self._is_looking = False
        for future in waiting:
            settle(future, room)


class StoreWatch:
    """Says so where the store's name leads to no folder, or to another one, and once it leads to the store again.

    Nothing is stopped, since frames are worth more than their place: they go on into the files that are open. `reason`
    is what is to be said of each stream meanwhile. For one thread.
    """

    def __init__(self, store: Path, running: Iterable[str], emit: Callable[[events.Event, str], None]) -> None:
        self._store = store
        self._running = running
        self._emit = emit
        self._told = ""
        self.reason = ""

    def hear(self, room: Room, uri: str | None = None) -> None:
        """What a look found, after a take of the stream `uri` began. Every stream is told once, and each such take."""
        if room.is_away and room.error is not None:
            self._tell_away(room, room.error, uri)
        elif self._told and room.error is None:
            self._told = self.reason = ""
            log.warning("%s is back", self._store)
            for each in list(self._running):
                self._emit(events.StorageRestored(path=str(self._store)), each)

    def _tell_away(self, room: Room, message: str, uri: str | None) -> None:
        told = ([] if uri is None else [uri]) if self._told == message else list(self._running)
        hint = "what is recorded goes on into the files that are open: put the folder back, or mount it again"
        if room.is_another:
            hint = f"{hint}; takes that begin now lie in the folder that has its name"
        error = StorageFailed(message, hint=hint)
        if told or self._told != message:
            log.error("%s; %s", message, hint)
        self._told, self.reason = message, f"the store is away: {message}"
        for each in told:
            self._emit(events.StorageFailed(error=error.to_wire()), each)
