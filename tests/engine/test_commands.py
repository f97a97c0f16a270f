"""A person's commands: one at a time, bounded, beside whoever asks for them; what had no good end is told."""

from __future__ import annotations

import os
import queue
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from chaos.engine.commands import MOST_WAITING, Commands, clean_environment, end_all
from chaos.protocol.events import StreamCommand
from chaos.terms.commands import command_for, parse_command
from chaos.terms.errors import InvalidRequest

URI = "stream://mic/1"
Told = queue.SimpleQueue[Any]
ALWAYS = 60.0


@pytest.fixture
def told() -> Told:
    return queue.SimpleQueue()


@pytest.fixture
def fifo(tmp_path: Path) -> Path:
    """What a command waits at until the test opens it."""
    path = tmp_path / "fifo"
    os.mkfifo(path)
    return path


def sh(text: str) -> list[str]:
    """Words that write to files, for a test to see."""
    return ["/bin/sh", "-c", text, "sh", "{path}", "{uri}"]


def read(fifo: Path) -> str:
    return fifo.read_text()


def drained(told: Told) -> list[StreamCommand]:
    found = []
    while not told.empty():
        found.append(told.get())
    return found


def test_a_command_is_given_the_path_and_a_clean_environment(told: Told, fifo: Path) -> None:
    os.environ["CHAOS_SECRET"] = "x"
    try:
        text = f"{{ echo $1 $2 $PWD; env; nice; cat; }} > {fifo}"
        commands = Commands(URI, told.put, on_roll=sh(text))
        commands.sealed("/nobody/asked", URI)
        commands.rolled("/store/1.zarr", URI)
        said = read(fifo).splitlines()
    finally:
        del os.environ["CHAOS_SECRET"]
        commands.end(time.monotonic() + ALWAYS)
    assert said[0] == f"/store/1.zarr {URI} /"
    assert not any(line.startswith("CHAOS") for line in said)
    assert said[-1] == str(min(19, os.nice(0) + 10)), "and it steps back, with no input to wait for"
    assert drained(told) == []


def test_they_run_one_after_the_other_in_order(told: Told, tmp_path: Path) -> None:
    out, lock = tmp_path / "out", tmp_path / "lock"
    commands = Commands(URI, told.put, on_seal=sh(f"mkdir {lock} && echo $1 >> {out} && rmdir {lock}"))
    for number in range(12):
        commands.sealed(f"/c/{number}", URI)
    commands.end(time.monotonic() + ALWAYS)
    assert out.read_text().split() == [f"/c/{number}" for number in range(12)]
    assert drained(told) == []


def test_what_fails_is_told_with_its_code_and_the_next_runs(told: Told, tmp_path: Path) -> None:
    commands = Commands(URI, told.put, on_seal=["/bin/false"], on_roll=["/no/such/program"])
    commands.sealed("/c/1", URI)
    commands.rolled("/r", URI)
    commands.end(time.monotonic() + ALWAYS)
    failed, absent = drained(told)
    assert (failed.on, failed.outcome, failed.exit_code, failed.path) == ("seal", "failed", 1, "/c/1")
    assert (absent.on, absent.outcome, absent.exit_code) == ("roll", "failed", None)
    assert "/no/such/program" in absent.text


def test_the_queue_is_bounded_and_nobody_waits(told: Told, fifo: Path) -> None:
    commands = Commands(URI, told.put, on_seal=sh(f"test $1 = /c/0 && cat {fifo}; true"))
    for number in range(MOST_WAITING + 3):
        commands.sealed(f"/c/{number}", URI)
    skipped = drained(told)
    assert [each.path for each in skipped] == [f"/c/{MOST_WAITING + k}" for k in range(3)]
    assert {each.outcome for each in skipped} == {"skipped"}
    fifo.write_text("go on")
    commands.end(time.monotonic() + ALWAYS)
    assert drained(told) == []


def is_gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
    except FileNotFoundError:
        return True


def await_true(condition: Callable[[], bool], timeout_s: float = 30.0) -> bool:
    deadline = time.monotonic() + timeout_s
    done = threading.Event()
    while not condition() and time.monotonic() < deadline:
        done.wait(0.01)
    return condition()


def test_what_takes_too_long_is_ended_with_all_it_started(told: Told, fifo: Path) -> None:
    commands = Commands(URI, told.put, on_seal=sh(f"sleep 1000 & echo $! > {fifo}; wait"), within_s=0.5)
    commands.sealed("/c/1", URI)
    grandchild = int(read(fifo))
    late = told.get(timeout=ALWAYS)
    assert (late.outcome, late.exit_code) == ("timed_out", -15)
    assert await_true(lambda: is_gone(grandchild))
    commands.end(time.monotonic() + ALWAYS)


def test_at_the_end_what_runs_is_killed_and_the_rest_skipped(told: Told, fifo: Path) -> None:
    commands = Commands(URI, told.put, on_seal=sh(f"echo $$ > {fifo}; exec sleep 1000"))
    commands.sealed("/c/1", URI)
    commands.sealed("/c/2", URI)
    child = int(read(fifo))
    end_all([commands], 0.0)
    assert is_gone(child)
    assert [(each.path, each.outcome) for each in drained(told)] == [("/c/1", "ended"), ("/c/2", "skipped")]
    commands.sealed("/c/3", URI)
    assert told.get(timeout=ALWAYS).outcome == "skipped"
    assert not commands.is_busy


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("archive", ["archive", "/p a"]),
        ("archive '{path}' --uri={uri}", ["archive", "/p a", f"--uri={URI}"]),
        ("archive ; rm -rf '$HOME'", ["archive", ";", "rm", "-rf", "$HOME", "/p a"]),
        ("sh -c 'x ${other} {}' {path}", ["sh", "-c", "x ${other} {}", "/p a"]),
    ],
)
def test_a_command_is_words_and_never_a_shell_s(text: str, expected: list[str]) -> None:
    assert command_for(parse_command(text), "/p a", URI) == expected


def test_what_is_filled_in_is_not_looked_at_again() -> None:
    assert command_for(["a", "{path}"], "/{uri}", URI) == ["a", "/{uri}"]


@pytest.mark.parametrize("text", ["archive {bogus}", "archive --to={PATH} {path}", "{path}", "{uri} {path}"])
def test_a_place_that_is_never_filled_in_is_refused(text: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        parse_command(text)
    assert "{path}" in refused.value.hint


def test_that_others_wait_for_one_that_hangs_is_in_status_and_log(
    told: Told, fifo: Path, caplog: pytest.LogCaptureFixture
) -> None:
    commands = Commands(URI, told.put, on_roll=sh(f"echo $$ > {fifo}; exec sleep 1000"), slow_s=0.0)
    commands.rolled("/r/1", URI)
    read(fifo)
    assert commands.notes == []
    commands.rolled("/r/2", URI)
    commands.rolled("/r/3", URI)
    assert await_true(lambda: bool(commands.notes))
    assert "the command on roll has been running for 0 s, and 2 more wait for it" in commands.notes[0]
    assert await_true(lambda: "takes long" in caplog.text)
    commands.end(time.monotonic())
    assert [each.text for each in drained(told)][1:] == ["it was not run: chaosd is stopping"] * 2
    assert commands.notes == []


@pytest.mark.parametrize("text", ["", "  ", "'", "./here", "bin/x", "a\0b"])
def test_what_is_no_command_is_refused(text: str) -> None:
    with pytest.raises(InvalidRequest):
        parse_command(text)


def test_the_environment_is_the_person_s_and_not_chaosd_s() -> None:
    own = {"PATH": "/bin", "HOME": "/h", "LC_ALL": "C", "NOTIFY_SOCKET": "/n", "LD_PRELOAD": "x", "PYTHONPATH": "y"}
    assert clean_environment(own) == {"PATH": "/bin", "HOME": "/h", "LC_ALL": "C"}


def test_equal_warnings_are_one_line_with_their_number(told: Told, caplog: pytest.LogCaptureFixture) -> None:
    commands = Commands(URI, told.put, on_seal=["/bin/false"], on_roll=["/bin/false"], gather_s=ALWAYS)
    for number in range(20):
        commands.sealed(f"/c/{number}", URI)
    commands.rolled("/store/1.zarr", URI)
    commands.end(time.monotonic() + ALWAYS)
    assert len(drained(told)) == 21, "each is an event of its own"
    assert [each.getMessage() for each in caplog.records] == [
        f"{URI}: the command on seal: its exit code was 1 (/c/0)",
        f"{URI}: the command on roll: its exit code was 1 (/store/1.zarr)",
        f"{URI}: the command on seal: its exit code was 1: 19 more times, the last for /c/19",
    ]


def test_what_was_gathered_is_told_though_nothing_more_comes(
    told: Told, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    commands = Commands(URI, told.put, on_seal=["/bin/false"], gather_s=0.01)
    said: queue.SimpleQueue[str] = queue.SimpleQueue()
    # pytest has one handler for all tests: what is put in its way must go again.
    monkeypatch.setattr(caplog.handler, "emit", lambda record: said.put(record.getMessage()))
    found = 0
    for number in range(4):
        commands.sealed(f"/c/{number}", URI)
    while found < 4:  # whichever of them fall into one minute
        line = said.get(timeout=ALWAYS)
        found += int(line.split(" more times")[0].rpartition(" ")[2]) if "more times" in line else 1
    commands.end(time.monotonic() + ALWAYS)
