"""A person's own commands, run when a chunk is sealed or a take has ended: beside capture, never in its way.

Each is a process of its own, at low priority, in an environment with nothing of chaosd's. Python makes it by vfork: a
fork would have the kernel write-protect chaosd's pages, and the process callback fault on them.
"""

from __future__ import annotations

import logging
import os
import queue
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Literal, NamedTuple

from chaos.protocol.events import Event, StreamCommand
from chaos.system.bursts import Bursts
from chaos.terms.commands import command_for

__all__ = ["MOST_WAITING", "Commands", "clean_environment", "end_all"]

log = logging.getLogger(__name__)

MOST_WAITING = 64
GATHER_S = 60.0
WITHIN_S = 300.0
SLOW_S = 10.0  # from when on it is said that others wait for one
KILL_AFTER_S = 2.0
_NICE = 10
_KEPT = ("PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "LANGUAGE", "TZ", "TMPDIR", "XDG_RUNTIME_DIR")

When = Literal["seal", "roll"]
Outcome = Literal["failed", "timed_out", "skipped", "ended"]


class _Due(NamedTuple):
    when: When
    words: list[str]
    path: str
    uri: str


class Commands:
    """Those of one stream: one runs at a time, in order; at most `MOST_WAITING` wait, what comes beyond is skipped.

    `on_seal` and `on_roll` are the words of a command, None for none. What does not come to its good end is told by
    `emit`, each, and in the log, equal ones in sum. `sealed` and `rolled` never wait; from any thread. What waits is in
    memory alone: it is gone with a process that is killed.
    """

    def __init__(
        self,
        stream_uri: str,
        emit: Callable[[Event], object],
        on_seal: list[str] | None = None,
        on_roll: list[str] | None = None,
        within_s: float = WITHIN_S,
        gather_s: float = GATHER_S,
        slow_s: float = SLOW_S,
    ) -> None:
        self._slow_s = slow_s
        self._running: tuple[When, float] | None = None  # what runs, and since when (time.monotonic())
        self._stream_uri = stream_uri
        self._emit = emit
        self._on_seal = on_seal
        self._on_roll = on_roll
        self._within_s = within_s
        self._warnings = Bursts(gather_s)
        self._waiting: queue.Queue[_Due | None] = queue.Queue()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._child: subprocess.Popen[bytes] | None = None
        self._n_waiting = 0
        self._is_over = False

    def sealed(self, path: str, uri: str) -> None:
        """A chunk's file is there and will not change; `uri` is the take's."""
        if self._on_seal is not None:
            self._submit(_Due("seal", self._on_seal, path, uri))

    def rolled(self, path: str, uri: str) -> None:
        """A take has ended; `path` is its recording."""
        if self._on_roll is not None:
            self._submit(_Due("roll", self._on_roll, path, uri))

    def _submit(self, due: _Due) -> None:
        with self._lock:
            is_taken = not self._is_over and self._n_waiting < MOST_WAITING
            if is_taken:
                self._n_waiting += 1
                self._waiting.put(due)
                if self._thread is None:
                    self._thread = threading.Thread(target=self._run, name="chaosd-commands", daemon=True)
                    self._thread.start()
        if not is_taken:
            self._tell(due, "skipped", None, f"it was not run: {MOST_WAITING} others are waiting already")

    @property
    def is_busy(self) -> bool:
        """Whether one runs, or waits."""
        with self._lock:
            return self._n_waiting > 0

    @property
    def notes(self) -> list[str]:
        """That others wait for one that has run for long; nothing else is worth a word."""
        with self._lock:
            running, n_waiting = self._running, self._n_waiting - 1
        if running is None or n_waiting < 1 or (runs_s := time.monotonic() - running[1]) < self._slow_s:
            return []
        waits = "1 more waits" if n_waiting == 1 else f"{n_waiting} more wait"
        return [
            f"the command on {running[0]} has been running for {runs_s:.0f} s, and {waits} for it; it is ended after"
            f" {self._within_s:g} s"
        ]

    def finish(self) -> None:
        """Nothing more comes; what waits is run."""
        self._waiting.put(None)

    def end(self, deadline: float) -> None:
        """What waits may be run until `deadline` (time.monotonic()); then what runs is killed, and the rest skipped."""
        with self._lock:
            thread = self._thread
        if thread is None:
            self._tell_gathered(of_all=True)
            return
        self._waiting.put(None)
        thread.join(max(0.0, deadline - time.monotonic()))
        with self._lock:
            self._is_over = True
            child = self._child
        if child is not None:
            _kill(child)
        thread.join(2 * KILL_AFTER_S)
        self._tell_gathered(of_all=True)

    def _next(self) -> _Due | None:
        """Waits for the next one; warnings that were gathered are told meanwhile."""
        while (wait_s := self._warnings.wait_s) is not None:
            with suppress(queue.Empty):
                return self._waiting.get(timeout=wait_s)
            self._tell_gathered()
        return self._waiting.get()

    def _run(self) -> None:
        os.nice(_NICE)  # on Linux this is of the thread alone, and its commands have it from their first moment on
        while (due := self._next()) is not None:
            try:
                if self._is_over:
                    self._tell(due, "skipped", None, "it was not run: chaosd is stopping")
                else:
                    self._carry_out(due)
            except Exception:
                log.exception("a command of %s failed", self._stream_uri)
            with self._lock:
                self._n_waiting -= 1
        self._tell_gathered(of_all=True)

    def _carry_out(self, due: _Due) -> None:
        try:
            with self._lock:
                child = self._child = None if self._is_over else _begin(command_for(due.words, due.path, due.uri))
        except (OSError, ValueError) as error:
            self._tell(due, "failed", None, f"it could not be run: {error}")
            return
        if child is None:
            self._tell(due, "skipped", None, "it was not run: chaosd is stopping")
            return
        is_late = not self._waited_for(child, due)
        if is_late:
            _kill(child)
        with self._lock:
            self._child, self._running, is_over = None, None, self._is_over
        if is_late:
            self._tell(due, "timed_out", child.returncode, f"it took longer than {self._within_s:g} s and was ended")
        elif is_over and child.returncode:
            self._tell(due, "ended", child.returncode, "chaosd was stopping, and ended it")
        elif child.returncode:
            self._tell(due, "failed", child.returncode, f"its exit code was {child.returncode}")

    def _waited_for(self, child: subprocess.Popen[bytes], due: _Due) -> bool:
        """Whether it has ended in time; that it takes long is in the log."""
        begun = time.monotonic()
        with self._lock:
            self._running = due.when, begun
        with suppress(subprocess.TimeoutExpired):
            child.wait(min(self._slow_s, self._within_s))
            return True
        if self._slow_s < self._within_s:
            ended = f"what comes next waits for it; it is ended after {self._within_s:g} s"
            self._warn(f"{self._stream_uri}: the command on {due.when} takes long: {ended}", due.path)
            with suppress(subprocess.TimeoutExpired):
                child.wait(max(0.0, begun + self._within_s - time.monotonic()))
                return True
        return False

    def _warn(self, kind: str, path: str) -> None:
        """In the log: the first of equal warnings at once, those of the minute after it in one line."""
        self._tell_gathered()
        if self._warnings.begins(kind, path):
            log.warning("%s (%s)", kind, path)

    def _tell_gathered(self, *, of_all: bool = False) -> None:
        for more in self._warnings.over(of_all=of_all):
            log.warning("%s: %d more times, the last for %s", more.kind, more.n, more.latest)

    def _tell(self, due: _Due, outcome: Outcome, exit_code: int | None, text: str) -> None:
        self._warn(f"{self._stream_uri}: the command on {due.when}: {text}", due.path)
        told = StreamCommand(on=due.when, path=due.path, take=due.uri, outcome=outcome, exit_code=exit_code, text=text)
        self._emit(told)


def end_all(commands: list[Commands], grace_s: float) -> None:
    """Ends them all, with so much time for what still waits."""
    deadline = time.monotonic() + grace_s
    for each in commands:
        each.end(deadline)


def clean_environment(own: Mapping[str, str]) -> dict[str, str]:
    """What a command is given of `own`: where programs and the person's files are, and their language."""
    return {name: value for name, value in own.items() if name in _KEPT or name.startswith("LC_")}


def _begin(words: list[str]) -> subprocess.Popen[bytes]:
    nothing = subprocess.DEVNULL
    return subprocess.Popen(
        words,
        cwd=str(Path("/")),
        env=clean_environment(os.environ),
        stdin=nothing,
        stdout=nothing,
        stderr=nothing,
        start_new_session=True,
    )


def _kill(child: subprocess.Popen[bytes]) -> None:
    """Ends it and all that it has started, which are in one session."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with suppress(ProcessLookupError):
            os.killpg(child.pid, number)
        with suppress(subprocess.TimeoutExpired):
            child.wait(KILL_AFTER_S)
            return
