"""A report of what all threads do, asked for while they do it."""

from __future__ import annotations

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
