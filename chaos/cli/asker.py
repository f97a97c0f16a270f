"""Asks chaosd on a thread of its own, so that a picture and its keys never wait for an answer."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from chaos.client import Asking

__all__ = ["Asker"]

Job = Callable[["Asking"], None]


class Asker:
    """Does jobs one after the other with `chaosd`, which is for its thread alone from then on. A job raises nothing."""

    def __init__(self, chaosd: Asking) -> None:
        self._chaosd = chaosd
        self._jobs: queue.SimpleQueue[Job] = queue.SimpleQueue()
        self._changed = threading.Condition()
        self._n_waiting = 0
        self._since = 0.0
        threading.Thread(target=self._run, name="chaosctl-asker", daemon=True).start()

    def submit(self, job: Job) -> None:
        with self._changed:
            if not self._n_waiting:
                self._since = time.monotonic()
            self._n_waiting += 1
        self._jobs.put(job)

    @property
    def waits_s(self) -> float:
        """How long the job that runs has taken so far; 0 where none does."""
        with self._changed:
            return time.monotonic() - self._since if self._n_waiting else 0.0

    def finish(self, within_s: float) -> None:
        """Returns once all is done, or that time has gone by. What has been sent by then chaosd does anyway."""
        with self._changed:
            self._changed.wait_for(lambda: not self._n_waiting, within_s)

    def _run(self) -> None:
        while True:
            job = self._jobs.get()
            job(self._chaosd)
            with self._changed:
                self._n_waiting -= 1
                self._since = time.monotonic()
                self._changed.notify_all()
