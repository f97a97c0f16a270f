"""Threads for what takes long, or hangs for ever: nobody waits for them, not even the process's end."""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable

from chaos.terms.counting import counted

__all__ = ["Workers"]

log = logging.getLogger(__name__)


class Workers:
    """At most `most` daemon threads, made as they are needed. What a `ThreadPoolExecutor` starts, Python waits for at
    its end, and so for a disk that never answers."""

    def __init__(self, most: int, name: str) -> None:
        self._most = most
        self._name = name
        self._lock = threading.Lock()
        self._idle = threading.Condition(self._lock)
        self._tasks: queue.SimpleQueue[Callable[[], object] | None] = queue.SimpleQueue()
        self._n_threads = 0
        self._n_open = 0  # waiting or being done
        self._closed = False

    @property
    def n_open(self) -> int:
        """How many tasks wait or are being done."""
        return self._n_open

    def submit(self, task: Callable[[], object]) -> None:
        """Has `task` done when a thread is free; what it raises is logged. Nothing is done any more after `close`.

        Raises RuntimeError where there is no thread and none can be started.
        """
        with self._lock:
            if self._closed:
                return
            if self._n_threads < self._most and self._n_open >= self._n_threads:
                self._start()
            self._n_open += 1
        self._tasks.put(task)

    def close(self, within_s: float = 0.0) -> None:
        """What has not begun is dropped; what has may take so long, then it is left behind and that is logged.

        Twice is harmless.
        """
        with self._lock:
            was_closed, self._closed = self._closed, True
            for _ in range(self._n_threads):
                self._tasks.put(None)
            if not self._idle.wait_for(lambda: not self._n_open, within_s) and not was_closed:
                left = counted(self._n_open, "task")
                log.warning("%s of %s did not end within %g s: left behind", left, self._name, within_s)

    def _start(self) -> None:
        thread = threading.Thread(target=self._run, name=f"{self._name}-{self._n_threads}", daemon=True)
        try:
            thread.start()
        except RuntimeError:
            if not self._n_threads:
                raise
        else:
            self._n_threads += 1

    def _run(self) -> None:
        while (task := self._tasks.get()) is not None:
            try:
                if not self._closed:
                    task()
            except Exception:
                log.exception("a task of %s failed", self._name)
            with self._lock:
                self._n_open -= 1
                if not self._n_open:
                    self._idle.notify_all()
