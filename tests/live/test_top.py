"""chaosctl top on a terminal: the real command in tmux, at 80 and at 40 columns, against a chaosd that records."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from harness import Daemon, RawClient, SourceFactory
from terminal import Terminal

pytestmark = [pytest.mark.live, pytest.mark.skipif(not shutil.which("tmux"), reason="tmux is not installed")]

CTL = str(Path(sys.executable).with_name("chaosctl"))


@pytest.fixture
def terminal(daemon: Daemon, tmp_path: Path) -> Iterator[Callable[..., Terminal]]:
    made: list[Terminal] = []
    env = {
        **daemon.session.env, "CHAOS_ENDPOINT": daemon.command, "CHAOS_EVENTS": daemon.events,
        "CHAOS_STORE": str(daemon.store), "LC_ALL": "C.UTF-8", "TERM": "xterm",
    }  # fmt: skip
    env.pop("TMUX", None)

    def make(columns: int, command: str = f"{shlex.quote(CTL)} top") -> Terminal:
        made.append(Terminal(env, columns, command, tmp_path))
        return made[-1]

    yield make
    for each in made:
        each.close()


@pytest.fixture
def streams(counting_source: SourceFactory, client: RawClient) -> list[str]:
    source = counting_source("desk-mic", description="Desk microphone", driver=True)
    client.call("device_wait", name=source.name, timeout_s=50)
    uris = ["stream://desk/1", "stream://desk/2"]
    for uri in uris:
        client.call("stream_start", uri=uri, device_identity=source.name, format={"type": "audio"})
    return uris


def restored(folder: Path) -> bool:
    return (folder / "before").read_text() == (folder / "after").read_text()


def test_marks_saves_and_stops_at_a_key(
    terminal: Any, streams: list[str], client: RawClient, tmp_path: Path
) -> None:
    seen = terminal(80)
    lines = seen.until(lambda text: "> desk/1" in text and "  desk/2" in text and "0:00:0" in text)
    assert max(map(len, lines)) <= 80
    assert sum("streaming" in line for line in lines) == 2
    seen.press("m")
    seen.until(lambda text: "marked frame" in text and "of stream://desk/1" in text)
    seen.press("l")
    seen.until(lambda text: "saved " in text)
    assert len(list(tmp_path.glob("*.wav"))) == 1
    seen.press("j")
    seen.until(lambda text: "> desk/2" in text)
    seen.press("s")
    seen.until(lambda text: "stop stream://desk/2? y" in text)
    seen.press("n")
    seen.until(lambda text: "stream://desk/2 goes on" in text)
    seen.press("s")
    seen.until(lambda text: "stop stream://desk/2? y" in text)
    seen.press("y")
    seen.until(lambda text: "stopped:" in text and "> desk/1" in text)
    assert [each["uri"] for each in client.call("stream_list")["streams"] if each["state"] != "stopped"] == streams[:1]
    seen.press("q")
    seen.wait_for_end()
    assert "END 0" in seen.screen()
    assert restored(tmp_path)


@pytest.mark.parametrize("how", ["C-c", "TERM"])
def test_forty_columns_and_other_ends(terminal: Any, streams: list[str], tmp_path: Path, how: str) -> None:
    command = f"sh -c 'echo $$ > pid; exec {shlex.quote(CTL)} top'"
    seen = terminal(40, command)
    lines = seen.until(lambda text: "> desk/1" in text)
    assert max(map(len, lines)) <= 40
    assert sum("streaming" in line for line in lines) == 2
    if how == "C-c":
        seen.press(how)
    else:
        os.kill(int((tmp_path / "pid").read_text()), 15)
    seen.wait_for_end()
    seen.until(lambda text: "END " in text)
    assert restored(tmp_path)


def test_a_terminal_that_can_do_nothing(terminal: Any, streams: list[str], tmp_path: Path) -> None:
    seen = terminal(80, f"TERM=dumb {shlex.quote(CTL)} top > out")
    seen.until(lambda text: "needs a terminal" in text)
    seen = terminal(80, f"TERM=dumb {shlex.quote(CTL)} top")
    seen.until(lambda text: "desk/1" in text)
    seen.press("q")
    seen.wait_for_end()
    assert restored(tmp_path)


def test_rows_say_that_chaosd_died(terminal: Any, streams: list[str], daemon: Daemon) -> None:
    seen = terminal(80)
    seen.until(lambda text: text.count("streaming") == 2)
    daemon.kill()
    seen.until(lambda text: text.count("no answer") == 2 and "streaming" not in text)
