"""Ctrl-C while a program of ours is loaded, and on its way out: it ends in one line, with exit code 130.

The programs import this before anything else of theirs; with other programs that import us it does nothing. What Python
itself does before our first line (about 15 ms) is its own.
"""

from __future__ import annotations

import os
import signal
import sys
from types import FrameType

__all__ = ["hand_over", "take_back"]

_OURS = ("chaosctl", "chaosd")


def _program() -> str:
    return sys.argv[0].rpartition("/")[2] if sys.argv else ""


def _end(number: int, _: FrameType | None) -> None:
    """At once: what is half loaded can't be asked to tidy up, and has nothing to."""
    os.write(2, f"{_program()}: interrupted\n".encode())
    os._exit(128 + number)


def take_back() -> None:
    """From now on Ctrl-C ends the program at once; one that is ignored (nohup) or that others handle stays so."""
    if _program() in _OURS and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _end)


def hand_over() -> None:
    """From now on Ctrl-C is a KeyboardInterrupt, as ever."""
    if signal.getsignal(signal.SIGINT) is _end:
        signal.signal(signal.SIGINT, signal.default_int_handler)


take_back()
