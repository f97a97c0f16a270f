"""chaosctl keep, and `save` where the person names no stream or no file."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from click.testing import CliRunner, Result
from recorded import definition
from scripted import ScriptedDaemon

from chaos.cli.main import main
from chaos.cli.standby import named_by_itself, what_and_where
from chaos.protocol.requests import StreamKeep
from chaos.read.recording import open as open_recording
from chaos.store.store import Store
from chaos.store.writer import RecordingWriter
from chaos.terms.errors import StorageFull

URI = "stream://desk/1"
CHUNK = 4800
HELD = {"uri": URI, "state": "streaming", "standby_s": 60.0}
KEPT = {"uri": URI, "recording": "/r/1.zarr", "n_frames": 61 * 48000, "sample_rate": 48000}

JAM: dict[str, Any] = {"session": "jam", "session_uris": [URI, "stream://room/1", "stream://late/1"]}

Run = Callable[..., Result]


@pytest.fixture
def store(tmp_path: Path) -> Path:
    for uri in (URI, "stream://room/1"):
        made = definition(uri, 1, CHUNK, started_wall_ns=1_790_000_000_000_000_000, **JAM)
        made = msgspec.structs.replace(made, device={"description": "Desk Mic"})
        writer = RecordingWriter.create(Store(tmp_path / "store"), made)
        writer.seal(0, np.ones(CHUNK, "<f4").data, 0, CHUNK)
        writer.finish(CHUNK, clean=True)
    return tmp_path / "store"


@pytest.fixture
def daemon(tmp_path: Path, store: Path) -> Iterator[ScriptedDaemon]:
    script = {
        "status": {"store": {"path": str(store), "free_bytes": 1}},
        "session_list": {"sessions": []},
        "stream_list": {"streams": [HELD]},
        "stream_keep": KEPT,
    }
    with ScriptedDaemon(tmp_path, script) as daemon:
        yield daemon


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")

    def run(*arguments: object) -> Result:
        ends = ["--endpoint", f"ipc://{tmp_path}/command", "--events", f"ipc://{tmp_path}/events"]
        return CliRunner().invoke(main, [*ends, *map(str, arguments)])

    return run


def kept(daemon: ScriptedDaemon) -> list[str]:
    return [request.uri for request in daemon.requests if isinstance(request, StreamKeep)]


def test_keep_says_how_much_of_it_is_missing(daemon: ScriptedDaemon, run: Run) -> None:
    daemon.script["stream_keep"] = {**KEPT, "n_gaps": 2, "lost_frames": 4800}
    assert run("keep").stdout.splitlines()[1] == "  4800 frames (100 ms) of it are missing, in 2 gaps"
    daemon.script["stream_keep"] = {**KEPT, "n_gaps": 1, "lost_frames": KEPT["n_frames"]}
    assert run("keep").stdout.splitlines()[1] == "  all of it is missing: nothing but gaps was held"


def test_keep_finds_the_only_stream_and_says_how_much_it_kept(daemon: ScriptedDaemon, run: Run) -> None:
    said = run("keep")
    assert (said.exit_code, kept(daemon)) == (0, [URI])
    assert said.stdout.splitlines()[0] == "kept the last 0:01:01.000, and recording on"
    assert json.loads(run("keep", URI, "--json").stdout) == KEPT
    daemon.script["stream_keep"] = {**KEPT, "recording": "", "n_frames": 0}
    assert "from the first frame on" in run("keep").stdout
    daemon.script["stream_keep"] = StorageFull("no room", hint="make some")
    assert run("keep").exit_code == 6


def test_save_names_the_file_and_never_one_that_is_there(daemon: ScriptedDaemon, run: Run, tmp_path: Path) -> None:
    for _ in range(3):
        assert run("save").exit_code == 0
    files = list((tmp_path / "here").iterdir())
    assert len(files) == 3
    assert all(file.name.startswith("desk-mic-") and file.suffix == ".wav" for file in files)
    assert kept(daemon) == [URI] * 3


def test_the_name_has_the_time_of_the_first_frame_that_is_saved(
    daemon: ScriptedDaemon, run: Run, store: Path, tmp_path: Path
) -> None:
    def named(seconds: float) -> str:
        return f"desk-mic-{dt.datetime.fromtimestamp(1_790_000_000 + seconds).astimezone():%Y%m%d-%H%M%S}.wav"

    assert run("save").exit_code == 0
    assert [file.name for file in (tmp_path / "here").iterdir()] == [named(0)]
    with open_recording(URI, store) as recording:
        assert named_by_itself([recording], None, 7 * 48000) == Path(named(7))


def test_save_takes_one_name_for_what_it_is(daemon: ScriptedDaemon, run: Run, store: Path, tmp_path: Path) -> None:
    assert what_and_where([URI]) == ([URI], None)
    assert what_and_where([str(store / "recordings/desk/1.zarr")])[1] is None
    assert what_and_where(["take.flac"]) == ([], Path("take.flac"))
    assert what_and_where([URI, URI, "out"]) == ([URI, URI], Path("out"))
    assert run("save", "mine.wav").exit_code == 0
    assert (tmp_path / "here" / "mine.wav").exists()


def test_save_takes_the_session(daemon: ScriptedDaemon, run: Run, tmp_path: Path) -> None:
    uris = [URI, "stream://room/1"]
    daemon.script["stream_list"] = {"streams": [{"uri": uri, "state": "streaming"} for uri in uris]}
    assert run("save").exit_code == 2, "two streams, and no session: which?"
    daemon.script["session_list"] = {"sessions": [{"session": "jam", "running": True, "uris": uris}]}
    assert run("save", "-").exit_code == 2
    assert run("save").exit_code == 0
    [folder] = (tmp_path / "here").iterdir()
    assert folder.name.startswith("jam-")
    assert len(list(folder.glob("*.wav"))) == 2
    assert kept(daemon) == []


def test_without_a_daemon_save_says_what_to_name(run: Run) -> None:
    said = run("save")
    assert said.exit_code == 2
    assert "chaosctl list" in said.output


def test_what_is_not_in_standby_is_not_kept(daemon: ScriptedDaemon, run: Run) -> None:
    daemon.script["stream_list"] = {"streams": [{**HELD, "standby_s": None}]}
    assert run("save").exit_code == 0
    assert kept(daemon) == []


def test_keep_means_the_only_stream_in_standby(daemon: ScriptedDaemon, run: Run) -> None:
    other = {"uri": "stream://room/1", "state": "streaming", "standby_s": None}
    daemon.script["stream_list"] = {"streams": [other, HELD]}
    assert run("keep").exit_code == 0
    assert kept(daemon) == [URI]
    daemon.script["stream_list"] = {"streams": [other, {**other, "uri": URI}]}
    said = run("keep")
    assert (said.exit_code, "chaosctl start --standby 60s" in said.stderr) == (2, True)
    daemon.script["stream_list"] = {"streams": [{**HELD, "uri": "stream://room/1"}, HELD]}
    assert f"  chaosctl keep {URI} --json" in run("keep", "--json").stderr.splitlines()


def test_what_records_by_level_is_not_saved_under_its_own_name(daemon: ScriptedDaemon, run: Run) -> None:
    daemon.script["stream_list"] = {"streams": [{**HELD, "trigger": {"take": None}}]}
    daemon.script["session_list"] = {"sessions": []}
    for arguments in (("--last", "1s"), (URI, "out.wav")):
        said = run("save", *arguments)
        assert (said.exit_code, kept(daemon)) == (6, [])
        assert f"{URI} records by level: each take is a recording with a name of its own" in said.stderr
        assert "chaosctl list" in said.stderr


def test_a_second_keep_says_that_it_is_kept(daemon: ScriptedDaemon, run: Run) -> None:
    daemon.script["stream_list"] = {"streams": [{**HELD, "standby_s": None}]}
    assert "already kept" in run("keep").stdout


def test_save_leaves_out_what_has_not_begun_and_says_so(daemon: ScriptedDaemon, run: Run, tmp_path: Path) -> None:
    uris = [URI, "stream://late/1"]
    daemon.script["stream_list"] = {"streams": [{"uri": uri, "state": "streaming"} for uri in uris]}
    daemon.script["session_list"] = {"sessions": [{"session": "jam", "running": True, "uris": uris}]}
    done = run("save", "--last", "50ms")
    assert done.exit_code == 0, done.output
    assert "nothing was recorded of stream://late/1" in done.stderr
    assert len(list((tmp_path / "here").iterdir())) == 1
    assert run("save", *uris, "out").exit_code == 6, "what was named must be there"


def test_what_became_of_marks_is_told(daemon: ScriptedDaemon, run: Run) -> None:
    daemon.script["stream_keep"] = {**KEPT, "n_marks": 1, "n_marks_gone": 2}
    said = run("keep").stdout.splitlines()
    assert said[1:3] == ["  1 mark set in standby is in it", "  2 marks were of frames before that, and not kept"]


def test_a_place_in_standby_can_be_marked(daemon: ScriptedDaemon, run: Run) -> None:
    """Of which no recording is there to look it up in."""
    asked = []

    def mark(request: Any) -> dict[str, Any]:
        asked.append(request.frame)
        return {"uri": URI, "recording": "", "frame": request.frame, "label": request.label}

    form = {"type": "audio", "sample_rate": 48_000}
    held = {**HELD, "format": form, "head_frame": 480_000, "started_wall_ns": 10**18}
    daemon.script |= {"mark": mark, "stream_status": held}
    done = run("mark", "there", "--at", "-2s")
    assert done.exit_code == 0, done.output
    assert asked == [480_000 - 96_000]
    assert done.stdout.splitlines()[1].startswith("  nothing is recorded yet: the mark goes into the recording")
    told = {"uri": URI, "recording": "", "frame": 1, "label": "there", "note": "no take has this frame"}
    daemon.script["mark"] = lambda _: told
    assert run("mark", "there", "--at", "-2s").stdout.splitlines()[1] == "  no take has this frame"
