"""What chaosctl says where there is nothing, or a value that can't be: plain words, and nothing empty."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result
from recorded import Rotator, definition
from scripted import ScriptedDaemon

from chaos.cli.board import Board
from chaos.cli.limits import check_options
from chaos.cli.main import main
from chaos.cli.numbers import Number, WholeNumber
from chaos.cli.show import stream_lines
from chaos.protocol.fields import check_field
from chaos.store.store import Store
from chaos.store.writer import RecordingWriter
from chaos.terms.errors import InvalidRequest

URI = "stream://desk/1"
DEVICE = {"name": "mic", "description": "Mic", "format": {"type": "audio"}}
PLANNED: dict[str, Any] = {
    "uri": URI, "state": "waiting", "reason": "it is to begin at 18:00", "device": None, "format": {"type": "audio"},
    "chunk_frames": 0, "head_frame": 0, "n_chunks_sealed": 0, "n_gaps": 0, "lost_frames": 0, "overruns": 0, "xruns": 0,
    "callbacks": 0, "slots": {"total": 0, "free": 0, "full": 0}, "quantum": 0, "drift_ppm": None, "levels": [],
    "recording": "",
}  # fmt: skip
STARTED = {"uri": URI, "recording": "", "device": DEVICE, "format": {"type": "audio"}, "chunk_frames": 1,
           "state": "streaming", "reason": ""}  # fmt: skip

Run = Callable[..., Result]


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[ScriptedDaemon]:
    device = {**DEVICE, "identity": "usb-1", "object_serial": 1, "direction": "input", "is_monitor": False}
    script = {
        "stream_list": {"streams": []},
        "session_list": {"sessions": []},
        "device_find": {"device": device},
        "stream_start": STARTED,
        "session_start": {"session": "jam", "streams": [STARTED]},
    }
    with ScriptedDaemon(tmp_path, script) as daemon:
        yield daemon


@pytest.fixture
def run(tmp_path: Path, daemon: ScriptedDaemon) -> Run:
    def run(*arguments: object) -> Result:
        ends = ["--endpoint", f"ipc://{tmp_path}/command", "--events", f"ipc://{tmp_path}/events"]
        return CliRunner().invoke(main, [*ends, *map(str, arguments)])

    return run


@pytest.mark.parametrize("words", [["list", "--running"], ["session", "list"]])
def test_where_nothing_runs_it_is_said_and_no_heading_is_left_alone(run: Run, words: list[str]) -> None:
    done = run(*words)
    assert (done.exit_code, done.stdout) == (0, "")
    assert done.stderr.startswith("No s")


@pytest.mark.parametrize("how", [["--standby", "60s"], ["--trigger", "-40dB"]])
def test_a_start_that_records_nothing_yet_says_standby(run: Run, how: list[str]) -> None:
    assert run("start", "--target", "Mic", *how).stdout.startswith("standby: Mic")


def test_so_does_the_start_of_a_session(run: Run) -> None:
    assert f"  standby: {URI}" in run("session", "start", "jam", "--audio", "Mic", "--standby", "60s").stdout
    assert f"  streaming: {URI}" in run("session", "start", "jam", "--audio", "Mic").stdout


def test_the_status_of_a_planned_stream_has_nothing_empty() -> None:
    lines = stream_lines(PLANNED)
    assert not [line for line in lines if line != line.rstrip() or len(line.split()) < 2]
    assert not [line for line in lines if "of 0 frames" in line or "0 in total" in line or "quantum 0" in line]
    assert "  recording  none yet: no frame has come" in lines


@pytest.mark.parametrize("kind", [WholeNumber(1, 3), Number(1, 3)])
def test_what_is_no_number_is_called_so(kind: WholeNumber | Number) -> None:
    with pytest.raises(click.BadParameter) as refused:
        kind.convert("abc", None, None)
    assert refused.value.message in ("'abc' is not a valid whole number.", "'abc' is not a valid number.")


def test_limits_are_told_as_people_write_them() -> None:
    with pytest.raises(InvalidRequest) as refused:
        check_options({"stop_after_s": 99_999 * 3600.0})
    assert (refused.value.message, refused.value.hint) == (
        '--for: "99999h" can\'t be used',
        "use a value from 0.1s to 366d",
    )
    with pytest.raises(InvalidRequest) as refused:
        check_field("align", "foo", "foo")
    assert refused.value.hint == "use clock, or leave it out"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('[stream]\ndevice = "x"\n[stream]\ndevice = "y"\n', "[stream] is there twice"),
        ('free_margin = "9999999T"\n', "use a size from 0 to 1048576T"),
    ],
)
def test_a_configuration_is_refused_in_words(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "chaosd.toml").write_text(text)
    done = CliRunner().invoke(main, ["config", "check", str(tmp_path / "chaosd.toml")])
    assert said in done.output
    assert "Cannot" not in done.output
    assert "e+" not in done.output


def test_a_session_makes_no_folders_above_its_own(tmp_path: Path) -> None:
    shape = definition("stream://one/jam", channels=1, session="jam", session_uris=["stream://one/jam"])
    rotator = Rotator(RecordingWriter.create(Store(tmp_path / "store"), shape))
    rotator.write(200)
    rotator.stop()
    words = ["--endpoint", f"ipc://{tmp_path}/none", "--store", str(tmp_path / "store"), "session", "save", "jam"]
    done = CliRunner().invoke(main, [*words, str(tmp_path / "nowhere" / "x")])
    assert (done.exit_code, f"there is no folder {tmp_path}/nowhere" in done.output) == (2, True)
    assert not (tmp_path / "nowhere").exists()
    assert CliRunner().invoke(main, [*words, str(tmp_path / "x")]).exit_code == 0


def test_the_sample_formats_are_offered() -> None:
    asked = {"_CHAOSCTL_COMPLETE": "bash_complete", "COMP_LINE": "chaosctl start --format ", "COMP_BREAKS": ""}
    program = Path(sys.executable).with_name("chaosctl")
    done = subprocess.run([program], env={**os.environ, **asked}, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["plain,f32", "plain,s16", "plain,s32"]


@pytest.mark.parametrize("columns", [20, 40, 60, 100])
def test_the_head_of_top_is_never_cut(columns: int) -> None:
    board = Board(30)
    board.take([], 1 << 40)
    head = board.lines(columns, 10)[0]
    assert len(head) <= columns
    assert head[-3] == head[-6] == ":"
    assert head[-2:].isdecimal()
