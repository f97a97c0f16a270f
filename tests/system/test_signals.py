"""A report of what all threads do, asked for while they do it."""

from __future__ import annotations

import signal
import subprocess
import sys

ASKED = """
import os, signal, sys, threading
from chaos.system.signals import hear_signals

def busy():
    while True:
        sum(range(10))

reports = threading.Semaphore(0)
hear_signals(lambda: None, reports.release)
threading.Thread(target=busy, daemon=True).start()
for _ in range(5):
    os.kill(os.getpid(), signal.SIGUSR1)
    assert reports.acquire(timeout=30)
sys.stderr.flush()
os._exit(0)
"""


def test_the_stacks_are_written_by_a_thread_that_keeps_the_others_from_running() -> None:
    """faulthandler's own handler has no GIL: it walked frames that were just gone, and chaosd ended with SIGSEGV."""
    done = subprocess.run([sys.executable, "-c", ASKED], capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    writers = [said.splitlines()[1] for said in done.stderr.split("Current thread")[1:]]
    assert len(writers) == 5
    assert all("signals.py" in writer and "in hear" in writer for writer in writers), writers
    assert "in busy" in done.stderr


HEARD = """
import signal
from pathlib import Path
from chaos.system.signals import hear_signals, ignore_signals

def show():
    lines = dict(line.split(":\\t") for line in Path("/proc/self/status").read_text().splitlines())
    print(lines["SigCgt"], lines["SigIgn"])

hear_signals(lambda: None, lambda: None)
show()
ignore_signals()
show()
"""

DEFECTS = {signal.SIGILL, signal.SIGTRAP, signal.SIGABRT, signal.SIGBUS, signal.SIGFPE, signal.SIGSEGV, signal.SIGSYS}
HARMLESS = {signal.SIGCHLD, signal.SIGCONT, signal.SIGURG, signal.SIGWINCH}
STOPS = {signal.SIGSTOP, signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU}


def test_no_signal_ends_the_process_by_its_default() -> None:
    """The kernel's own list: whatever others may send is caught, then ignored; but for what nobody can catch."""
    done = subprocess.run([sys.executable, "-c", HEARD], capture_output=True, text=True, timeout=100, check=True)
    deadly = signal.valid_signals() - DEFECTS - HARMLESS - STOPS - {signal.SIGKILL}
    assert signal.SIGRTMAX in deadly
    for line in done.stdout.splitlines():
        caught, ignored = (int(mask, 16) for mask in line.split())
        assert [number for number in deadly if not (caught | ignored) >> (number - 1) & 1] == []
