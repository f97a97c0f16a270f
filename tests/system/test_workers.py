"""Workers: tasks side by side, failures that end nothing, and no wait for what hangs."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path
from unittest import mock

import pytest

from chaos.system.workers import Workers

HANGING = """
import os, sys
from chaos.system.workers import Workers
os.mkfifo(sys.argv[1])
workers = Workers(1, "stuck")
begun = __import__("threading").Event()
workers.submit(lambda: (begun.set(), open(sys.argv[1])))
begun.wait()
workers.close()
"""


def test_tasks_are_done_side_by_side_up_to_the_limit() -> None:
    workers, meet, done = Workers(2, "two"), threading.Barrier(2, timeout=60), threading.Semaphore(0)
    for _ in range(6):
        workers.submit(lambda: (meet.wait(), done.release()))
    for _ in range(6):
        assert done.acquire(timeout=60)
    workers.close()


def test_a_task_that_fails_ends_no_thread(caplog: pytest.LogCaptureFixture) -> None:
    workers, done = Workers(1, "one"), threading.Event()
    workers.submit(lambda: 1 // 0)
    workers.submit(done.set)
    assert done.wait(60)
    assert "a task of one failed" in caplog.text
    workers.close()


def test_nothing_begins_after_the_end() -> None:
    workers, begun, go_on, late = Workers(1, "one"), threading.Event(), threading.Event(), threading.Event()
    workers.submit(lambda: (begun.set(), go_on.wait(60)))
    workers.submit(late.set)
    assert begun.wait(60)
    workers.close()
    workers.submit(late.set)
    go_on.set()
    assert not late.is_set()


def test_at_the_end_what_is_under_way_has_a_moment(caplog: pytest.LogCaptureFixture) -> None:
    workers, begun, closing = Workers(1, "one"), threading.Event(), threading.Event()
    late: list[str] = []
    workers.submit(lambda: (begun.set(), closing.wait(60)))
    workers.submit(lambda: late.append("begun after the end"))
    assert begun.wait(60)
    wait_for = workers._idle.wait_for
    with mock.patch.object(workers._idle, "wait_for", lambda *how: (closing.set(), wait_for(*how))[1]):
        workers.close(60)
    assert (workers.n_open, late, caplog.text) == (0, [], "")


def test_what_hangs_at_the_end_is_named(caplog: pytest.LogCaptureFixture) -> None:
    workers, begun, go_on = Workers(1, "one"), threading.Event(), threading.Event()
    workers.submit(lambda: (begun.set(), go_on.wait(60)))
    assert begun.wait(60)
    workers.close()
    workers.close()
    go_on.set()
    assert caplog.text.count("1 task of one did not end within 0 s: left behind") == 1


def test_without_any_thread_it_says_so() -> None:
    workers = Workers(1, "one")
    no_thread = mock.patch.object(threading.Thread, "start", side_effect=RuntimeError("can't start new thread"))
    with no_thread, pytest.raises(RuntimeError, match="new thread"):
        workers.submit(lambda: None)
    assert workers.n_open == 0
    done = threading.Event()
    workers.submit(done.set)
    assert done.wait(60)
    workers.close()


def test_python_ends_while_one_hangs(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-c", HANGING, f"{tmp_path}/fifo"], timeout=30, check=True)
