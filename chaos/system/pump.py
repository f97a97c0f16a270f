"""The one thread that waits: for the eventfds of all streams, for PipeWire's, and for what is due."""

from __future__ import annotations

import logging
import os
import select
import threading
import time
from collections.abc import Callable, Hashable

__all__ = ["Pump"]

log = logging.getLogger(__name__)

Callback = Callable[[], object]


class Pump:
    """Calls back when a file descriptor is readable or a time has come; without either it sleeps.

    Callbacks run on the pump's thread and must not wait: an actor's `tell` is what they are for. All methods may be
    called from any thread, also from callbacks. Once `unwatch` or `cancel` has returned, on another thread a callback
    that had begun may still be running.
    """

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._epoll.register(self._wake, select.EPOLLIN)
        self._watched: dict[int, Callback] = {}
        self._timers: dict[Hashable, tuple[float, float | None, Callback]] = {}
        self._lock = threading.Lock()
        self._open = True
        self._thread = threading.Thread(target=self._run, name="pump", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def watch(self, fd: int, callback: Callback, *, is_eventfd: bool = False) -> None:
        """Calls back whenever `fd` is readable; an eventfd is read (and so reset) first."""

        def reset_first() -> None:
            try:
                os.eventfd_read(fd)
            except BlockingIOError:
                return
            callback()

        with self._lock:
            self._watched[fd] = reset_first if is_eventfd else callback
            self._epoll.register(fd, select.EPOLLIN)

    def unwatch(self, fd: int) -> None:
        """Forgets `fd`, if it is watched; to be called before it is closed."""
        with self._lock:
            if self._watched.pop(fd, None) is not None:
                self._epoll.unregister(fd)

    def after(self, key: Hashable, delay_s: float, callback: Callback) -> None:
        """Calls back once, in `delay_s`; a timer of the same key is replaced."""
        self._set(key, delay_s, None, callback)

    def every(self, key: Hashable, period_s: float, callback: Callback) -> None:
        """Calls back every `period_s`; a timer of the same key is replaced."""
        self._set(key, period_s, period_s, callback)

    def cancel(self, key: Hashable) -> None:
        """Forgets the timer, if there is one."""
        with self._lock:
            self._timers.pop(key, None)

    def close(self) -> None:
        """Ends the thread. Twice is harmless."""
        with self._lock:
            if not self._open:
                return
            self._open = False
            os.eventfd_write(self._wake, 1)
        if self._thread.is_alive():
            self._thread.join()
        self._epoll.close()
        os.close(self._wake)

    def _set(self, key: Hashable, delay_s: float, period_s: float | None, callback: Callback) -> None:
        with self._lock:
            if self._open:
                self._timers[key] = (time.monotonic() + delay_s, period_s, callback)
                os.eventfd_write(self._wake, 1)

    def _run(self) -> None:
        while self._open:
            with self._lock:
                due = min((at for at, _, _ in self._timers.values()), default=None)
            for fd, _ in self._epoll.poll(None if due is None else max(0.0, due - time.monotonic())):
                if fd == self._wake:
                    os.eventfd_read(fd)
                else:
                    self._call(self._watched.get(fd))
            self._ring()

    def _ring(self) -> None:
        now = time.monotonic()
        ripe = []
        with self._lock:
            for key, (at, period_s, callback) in list(self._timers.items()):
                if at > now:
                    continue
                ripe.append(callback)
                if period_s is None:
                    del self._timers[key]
                else:
                    self._timers[key] = (max(at + period_s, now), period_s, callback)
        for callback in ripe:
            self._call(callback)

    def _call(self, callback: Callback | None) -> None:
        if callback is None:
            return
        try:
            callback()
        except Exception:
            log.exception("a callback of the pump failed")
