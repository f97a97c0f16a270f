"""The one thread that waits: for the eventfds of all streams, for PipeWire's, and for what is due."""

from __future__ import annotations

import logging
import math
import os
import select
import threading
import time
from collections.abc import Callable, Hashable
from contextlib import suppress

from chaos.system.kernelclock import rearm_clock_watch, watch_clock
from chaos.system.threads import name_thread

__all__ = ["Pump"]

log = logging.getLogger(__name__)

Callback = Callable[[], object]

LONGEST_WAIT_S = 3600.0  # epoll counts milliseconds in an int: 30 days are too many
_AFTER_ERROR_S = 0.1


class Pump:
    """Calls back when a file descriptor is readable, a time has come or the wall clock was set; else it sleeps.

    Callbacks run on the pump's thread and must not wait: an actor's `tell` is what they are for. All methods may be
    called from any thread, also from callbacks. Once `unwatch` or `cancel` has returned, on another thread a callback
    that had begun may still be running. Whatever a callback raises is logged; nothing but `close` ends the thread.
    """

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._epoll.register(self._wake, select.EPOLLIN)
        self._watched: dict[int, Callback] = {}
        self._due = math.inf  # until when the thread sleeps
        self._timers: dict[Hashable, tuple[float, float | None, Callback]] = {}
        self._lock = threading.Lock()
        self._clock = -1
        self._clock_callbacks: dict[Hashable, Callback] = {}
        self._open = True
        self._thread = threading.Thread(target=self._run, name="pump", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def watch(self, fd: int, callback: Callback, *, is_eventfd: bool = False) -> None:
        """Calls back whenever `fd` is readable; an eventfd is read (and so reset) first.

        Raises OSError for a descriptor that can't be watched; nothing is changed then.
        """

        def reset_first() -> None:
            try:
                os.eventfd_read(fd)
            except BlockingIOError:
                return
            callback()

        with self._lock:
            self._epoll.register(fd, select.EPOLLIN)
            self._watched[fd] = reset_first if is_eventfd else callback

    def unwatch(self, fd: int) -> None:
        """Forgets `fd`, if it is watched; to be called before it is closed."""
        with self._lock:
            if self._watched.pop(fd, None) is not None:
                with suppress(OSError):  # closed already: the kernel has forgotten it by itself
                    self._epoll.unregister(fd)

    def after(self, key: Hashable, delay_s: float, callback: Callback) -> None:
        """Calls back once, in `delay_s`; a timer of the same key is replaced. Raises ValueError unless it is finite."""
        self._set(key, delay_s, None, callback)

    def every(self, key: Hashable, period_s: float, callback: Callback) -> None:
        """Calls back every `period_s`; a timer of the same key is replaced. Raises ValueError unless it is above 0."""
        if period_s <= 0:
            raise ValueError(f"a period of {period_s} s")
        self._set(key, period_s, period_s, callback)

    def cancel(self, key: Hashable) -> None:
        """Forgets the timer, if there is one; the thread doesn't wake up for it any more."""
        with self._lock:
            timer = self._timers.pop(key, None)
            if timer is not None and timer[0] <= self._due and self._open:
                os.eventfd_write(self._wake, 1)

    def on_clock_set(self, key: Hashable, callback: Callback) -> None:
        """Calls back each time that somebody sets the wall clock, until `forget_clock`. Where the kernel can't tell
        it never does."""
        with self._lock:
            self._clock_callbacks[key] = callback
            if self._clock < 0:
                with suppress(OSError):
                    self._clock = watch_clock()
                    self._epoll.register(self._clock, select.EPOLLIN)
                    self._watched[self._clock] = self._clock_was_set

    def forget_clock(self, key: Hashable) -> None:
        """Calls that back no more, if it did."""
        with self._lock:
            self._clock_callbacks.pop(key, None)

    def _clock_was_set(self) -> None:
        try:
            rearm_clock_watch(self._clock)
        except OSError as error:
            log.warning("the wall clock is no longer watched: %s", error)
            self.unwatch(self._clock)
        with self._lock:
            callbacks = list(self._clock_callbacks.values())
        for callback in callbacks:
            self._call(callback)

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
        if self._clock >= 0:
            os.close(self._clock)

    def _set(self, key: Hashable, delay_s: float, period_s: float | None, callback: Callback) -> None:
        if not math.isfinite(delay_s):
            raise ValueError(f"a timer in {delay_s} s")
        with self._lock:
            if self._open:
                self._timers[key] = (time.monotonic() + delay_s, period_s, callback)
                os.eventfd_write(self._wake, 1)

    def _run(self) -> None:
        name_thread("chaosd-pump")
        while self._open:
            try:
                self._wait()
                self._ring()
            except Exception:
                log.exception("the pump failed, and goes on")
                time.sleep(_AFTER_ERROR_S)

    def _wait(self) -> None:
        with self._lock:
            due = self._due = min((at for at, _, _ in self._timers.values()), default=math.inf)
        wait_s = None if due == math.inf else min(max(0.0, due - time.monotonic()), LONGEST_WAIT_S)
        for fd, _ in self._epoll.poll(wait_s):
            if fd == self._wake:
                os.eventfd_read(fd)
            else:
                self._call(self._watched.get(fd))

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
        except BaseException:  # SystemExit too: it would end this thread, and with it rotation and hot-plug
            log.exception("a callback of the pump failed")
