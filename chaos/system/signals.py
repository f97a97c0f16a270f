"""Signals, heard by a thread of their own: those that end the process, and the one that asks how it stands."""

from __future__ import annotations

import faulthandler
import logging
import signal
import socket
import threading
from collections.abc import Callable

__all__ = ["hear_signals", "ignore_signals"]

log = logging.getLogger(__name__)

ENDING: frozenset[int] = frozenset(
    {
        *(signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP, signal.SIGPWR),
        signal.SIGXCPU,  # also of a real-time thread that has run for longer than RLIMIT_RTTIME; SIGKILL would follow
        *(signal.SIGUSR2, signal.SIGALRM, signal.SIGVTALRM, signal.SIGPROF, signal.SIGIO, signal.SIGSTKFLT),
        *range(signal.SIGRTMIN, signal.SIGRTMAX + 1),
    }
)
"""All whose default is to end the process, but for SIGKILL and those of a defect of the process itself."""
REPORT = signal.SIGUSR1


def hear_signals(on_end: Callable[[], object], on_report: Callable[[], object]) -> None:
    """Calls back on a thread: a main thread that waits for a lock is not woken by a signal that another one was given.

    Every signal that would kill ends cleanly instead; a SIGHUP that is ignored (nohup) stays so. SIGUSR1 first writes
    the stacks of all threads to stderr, whatever they hang in beside the GIL. To be called on the main thread.
    """
    told, tell = socket.socketpair()
    tell.setblocking(False)
    signal.set_wakeup_fd(tell.detach(), warn_on_full_buffer=False)
    for number in (*ENDING, REPORT):
        if number != signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, lambda *_: None)

    def hear() -> None:
        while numbers := told.recv(64):
            for number in numbers:
                try:
                    if number == REPORT:
                        faulthandler.dump_traceback(all_threads=True)  # not in a handler: others would run meanwhile
                        on_report()
                    elif number in ENDING:
                        log.info("%s: stopping", signal.strsignal(number))
                        on_end()
                except Exception:
                    log.exception("a signal could not be obeyed")

    threading.Thread(target=hear, name="signals", daemon=True).start()


def ignore_signals() -> None:
    """All is stored; a late signal must not turn a clean end into a killed one while Python takes itself down."""
    for number in (*ENDING, REPORT):
        signal.signal(number, signal.SIG_IGN)
