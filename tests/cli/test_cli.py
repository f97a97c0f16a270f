"""chaosctl against a scripted daemon over a real bus, and on a store where none runs."""

from __future__ import annotations

import datetime as dt
import json
import os
import pty
import re
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import click
import handmade
import msgspec
import numpy as np
import pytest
import soundfile
from click.testing import CliRunner, Result
from rolled import begin, three_takes
from scripted import ScriptedDaemon

import chaos
from chaos.cli.main import main
from chaos.protocol.requests import StreamStart
from chaos.store.lines import Definition
from chaos.store.retention import retire
from chaos.store.store import Store
from chaos.store.writer import RecordingWriter
from chaos.terms.errors import (
    ChannelsMismatch,
    DeviceAmbiguous,
    DeviceNotFound,
    InternalError,
    PipeWireUnavailable,
    Refused,
    StorageFull,
    StreamExists,
    UnknownOp,
)
from chaos.terms.ledger import Cause, Confidence, Gap
from chaos.terms.units import Keep

URI = "stream://desk/take"
RATE = 48000
CHUNK = 4800
MIC = {
    "identity": "usb-1",
    "name": "alsa_input.usb",
    "description": "USB Microphone (rev. 2)",
    "node_id": 41,
    "direction": "input",
    "format": {"type": "audio", "sample_rate": RATE, "channels": 2, "positions": ["FL", "FR"]},
    "is_monitor": False,
    "is_default": True,
    "volume": 1.0,
    "api": "alsa",
}
KEYBOARD = {**MIC, "description": "Keyboard", "is_default": False, "format": {"type": "midi"}, "name": "keys"}
STREAM = {
    "uri": URI,
    "state": "streaming",
    "device": MIC,
    "format": {"type": "audio", "sample_rate": RATE, "channels": 2, "sample_format": "f32"},
    "chunk_frames": CHUNK,
    "head_frame": 3723 * RATE + RATE // 2,
    "n_chunks_sealed": 7,
    "n_gaps": 1,
    "lost_frames": 96,
    "overruns": 0,
    "xruns": 0,
    "callbacks": 1000,
    "slots": {"total": 4, "free": 3, "full": 0},
    "quantum": 256,
    "started_wall_ns": 1,
    "drift_ppm": None,
    "levels": [{"peak_dbfs": -12.34, "rms_dbfs": -20.0}, {"peak_dbfs": None, "rms_dbfs": None}],
    "recording": "/store/recordings/desk/take.zarr",
}
STOPPED = {
    "uri": URI,
    "recording": "/r",
    "n_frames": 480000,
    "n_chunks": 100,
    "n_gaps": 0,
    "lost_frames": 0,
    "clean": True,
}
STATUS = {
    "pipewire": {
        "connected": True,
        "version": "1.4.2",
        "remote": None,
        "rt_policy": "fifo",
        "rt_priority": 88,
    },
    "streams": [STREAM],
    "staging": {"used_bytes": 1 << 20, "limit_bytes": 1 << 30, "locked_bytes": 0, "file_system": "tmpfs"},
    "store": {"path": "/store", "free_bytes": 1 << 40},
    "event_seq": 12,
}
PONG = {"name": "chaosd", "version": "9.9", "protocol": 1, "run_id": "abc", "pid": 7, "uptime_s": 61.2}

DEFINITION = Definition(
    uri=URI,
    channels=1,
    sample_rate=RATE,
    sample_format="f32",
    chunk_frames=CHUNK,
    device={"description": "mic"},
    positions=["MONO"],
    started_wall_ns=1_790_000_000_000_000_000,
    started_monotonic_ns=0,
    software="test",
    run_id="run",
    staging=None,
)

Run = Callable[..., Result]


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[ScriptedDaemon]:
    script = {
        "ping": PONG,
        "status": STATUS,
        "device_list": {"devices": [MIC, KEYBOARD]},
        "device_find": {"device": MIC},
        "stream_list": {"streams": [STREAM]},
        "stream_status": STREAM,
        "stream_stop": STOPPED,
        "stream_start": lambda request: {
            **{name: STREAM[name] for name in ("recording", "device", "format", "chunk_frames", "state")},
            "uri": request.uri,
        },
        "verify": {"ok": True, "n_chunks": 1, "n_frames": CHUNK, "bad": [], "gaps": []},
        "shutdown": {},
    }
    with ScriptedDaemon(tmp_path, script) as daemon:
        yield daemon


@pytest.fixture
def run(tmp_path: Path) -> Run:
    def run(*arguments: object) -> Result:
        ends = ["--endpoint", f"ipc://{tmp_path}/command", "--events", f"ipc://{tmp_path}/events"]
        return CliRunner().invoke(main, [*ends, *map(str, arguments)])

    return run


def requested(daemon: ScriptedDaemon) -> StreamStart:
    started = [request for request in daemon.requests if isinstance(request, StreamStart)]
    assert len(started) == 1
    return started[0]


def test_help_needs_no_heavy_import() -> None:
    code = (
        "import sys; from chaos.cli.main import main; main(['--help'], standalone_mode=False);"
        "print([m for m in ('zmq', 'msgspec', 'rich', 'numpy', 'soundfile', 'asyncio') if m in sys.modules])"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert "Exit codes: 0 success" in done.stdout
    assert done.stdout.splitlines()[-1] == "[]"


def leaves(group: click.Group, *path: str) -> list[tuple[str, ...]]:
    found = []
    for name, command in sorted(group.commands.items()):
        found += leaves(command, *path, name) if isinstance(command, click.Group) else [(*path, name)]
    return found


@pytest.mark.parametrize("command", leaves(main), ids=" ".join)
def test_every_command_explains_itself_and_has_json(run: Run, command: tuple[str, ...]) -> None:
    done = run(*command, "-h")
    assert done.exit_code == 0
    assert ("--json" in done.output) == (command != ("mcp",))  # whose output is a protocol's, which is JSON


@pytest.mark.parametrize(
    ("arguments", "op"),
    [
        (["ping"], "ping"),
        (["devices"], "device_list"),
        (["stop", URI], "stream_stop"),
        (["list", "--running"], "stream_list"),
        (["status"], "status"),
        (["status", URI], "stream_status"),
        (["verify", URI], "verify"),
        (["shutdown"], "shutdown"),
    ],
)
def test_json_is_the_daemons_own_result(daemon: ScriptedDaemon, run: Run, arguments: list[str], op: str) -> None:
    done = run(*arguments, "--json")
    assert done.exit_code == 0
    assert json.loads(done.stdout) == daemon.script[op]


def test_devices_asks_for_programs_only_when_told(daemon: ScriptedDaemon, run: Run) -> None:
    program = {**MIC, "description": "Player: Song", "identity_basis": "program", "is_default": False}
    daemon.script["device_list"] = lambda request: {"devices": [MIC, program] if request.all else [MIC]}
    assert "Player" not in run("devices").stdout
    done = run("devices", "--all")
    assert done.exit_code == 0
    assert re.search(r"Player: Song +program ", done.stdout)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ((), ["device_added mic", "device_removed speaker"]),
        (("--all",), ["program_added player", "device_added mic", "program_removed player", "device_removed speaker"]),
        (("--direction", "output"), ["device_removed speaker"]),
        (("--type", "midi"), []),
    ],
)
def test_watching_devices_tells_of_those_that_are_asked_for(
    daemon: ScriptedDaemon,
    run: Run,
    monkeypatch: pytest.MonkeyPatch,
    options: tuple[str, ...],
    expected: list[str],
) -> None:
    told = [
        ("program_added", {**MIC, "name": "player"}),
        ("device_added", {**MIC, "name": "mic"}),
        ("program_removed", {**MIC, "name": "player"}),
        ("device_removed", {**MIC, "name": "speaker", "direction": "output"}),
        ("device_changed", {**MIC, "name": "end", "direction": "output", "format": {"type": "midi"}}),
        ("device_changed", {**MIC, "name": "end", "direction": "output"}),
        ("device_changed", {**MIC, "name": "end", "format": {"type": "midi"}}),
    ]
    said = []

    def event_line(event: dict[str, Any]) -> str:
        if event["device"]["name"] == "end":
            raise KeyboardInterrupt
        said.append(f"{event['type']} {event['device']['name']}")
        return said[-1]

    def publish(request: Any) -> dict[str, Any]:
        """It is asked for once the client listens."""
        for kind, device in told:
            daemon.publish(kind, device=device)
        return {"name": "chaosd"}

    daemon.script["ping"] = publish
    monkeypatch.setattr("chaos.cli.show.event_line", event_line)
    assert run("devices", "--watch", *options).exit_code == 0
    assert said == expected


@pytest.mark.parametrize(
    ("error", "exit_code"),
    [
        (InternalError("a"), 1),
        (UnknownOp("a"), 2),
        (StreamExists("a"), 2),
        (DeviceNotFound("a"), 3),
        (DeviceAmbiguous("a"), 3),
        (ChannelsMismatch("a"), 4),
        (StorageFull("a"), 6),
        (PipeWireUnavailable("a"), 7),
    ],
)
def test_errors_are_told_on_stderr_with_their_exit_code(
    daemon: ScriptedDaemon, run: Run, error: Exception, exit_code: int
) -> None:
    error.hint = "try b"
    daemon.script["status"] = error
    done = run("status")
    assert (done.exit_code, done.stdout, done.stderr) == (exit_code, "", "chaosctl: a\n  try b\n")


def test_no_daemon_is_exit_code_7(run: Run) -> None:
    done = run("ping")
    assert done.exit_code == 7
    assert "no chaosd answers" in done.stderr


@pytest.mark.parametrize("arguments", [[], ["--all"], ["--watch"]])
def test_without_a_daemon_devices_looks_at_pipewire_itself(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str]
) -> None:
    (tmp_path / "empty").mkdir(mode=0o700)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "empty"))
    monkeypatch.delenv("PIPEWIRE_RUNTIME_DIR", raising=False)
    done = run("devices", *arguments)
    assert (done.exit_code, done.stdout) == (7, "")
    assert done.stderr.startswith("chaosctl: PipeWire is not running\n")


@pytest.mark.parametrize(
    "arguments",
    [["nope"], ["start", "stream://../x"], ["save", "a", "b", "-"], ["start", "--chunk-size", "big"], ["stop", "x"]],
)
def test_wrong_usage_is_exit_code_2(daemon: ScriptedDaemon, run: Run, arguments: list[str]) -> None:
    assert run(*arguments).exit_code == 2


def test_align_needs_roll(daemon: ScriptedDaemon, run: Run) -> None:
    done = run("start", URI, "--align", "clock")
    assert (done.exit_code, "--align needs --roll" in done.stderr) == (2, True)
    assert run("start", URI, "--align", "clock", "--roll", "1h").exit_code == 0


@pytest.mark.parametrize("hosts", ["a,a", "a,a:47800", "a:47801,b,A:47801", "::1,[::1]:47800"])
def test_a_host_that_is_named_twice_is_refused(hosts: str) -> None:
    done = CliRunner().invoke(main, ["--host", hosts, "status"])
    assert (done.exit_code, "Name each host once" in done.stderr) == (2, True)


def test_a_command_that_chaosd_does_not_run_is_not_an_unreachable_chaosd(daemon: ScriptedDaemon, run: Run) -> None:
    daemon.script["stream_start"] = Refused("this chaosd runs no commands of clients", hint="--allow-commands")
    done = run("start", URI, "--on-roll", "/bin/true", "--json")
    assert (done.exit_code, json.loads(done.stdout)["error"]["code"]) == (2, "unauthorized")


def test_devices_are_a_table(daemon: ScriptedDaemon, run: Run) -> None:
    lines = run("devices").stdout.splitlines()
    assert re.fullmatch(r"\*  USB Microphone \(rev\. 2\)  input  2 ch 48000 Hz  alsa_input\.usb  usb-1", lines[1])
    assert lines[2].split() == ["Keyboard", "input", "midi", "keys", "usb-1"]


def test_start_takes_the_default_device_and_names_the_take(daemon: ScriptedDaemon, run: Run) -> None:
    done = run("start")
    assert done.exit_code == 0
    assert "default device, USB Microphone" in done.stderr
    request = requested(daemon)
    assert re.fullmatch(r"stream://usb-microphone-rev-2/\d{8}T\d{6}Z", request.uri)
    assert request.device_identity == "usb-1"
    assert request.uri in done.stdout


def test_start_passes_every_option_on(daemon: ScriptedDaemon, run: Run, tmp_path: Path) -> None:
    done = run(
        *[
            "start",
            URI,
            "--target",
            "usb",
            "--rate",
            RATE,
            "--channels",
            2,
            "--format",
            "s16",
            "--latency",
            "5ms",
        ],
        *[
            "--layout",
            "interleaved",
            "--chunk-size",
            "64k",
            "--staging-seconds",
            "3",
            "--chunk-path",
            tmp_path / "c",
        ],
        *["--wait", "--json"],
    )
    assert done.exit_code == 0, done.stderr
    assert json.loads(done.stdout)["state"] == "streaming"
    request = requested(daemon)
    assert request.id is not None
    assert json.loads(
        json.dumps({name: getattr(request.format, name) for name in request.format.__struct_fields__})
    ) == {
        "sample_rate": RATE,
        "channels": 2,
        "sample_format": "s16",
        "layout": "interleaved",
    }
    assert (request.uri, request.device_identity, request.latency_frames) == (URI, "usb-1", 240)
    assert (request.chunk_size_bytes, request.staging_seconds, request.wait) == (65536, 3.0, True)
    assert request.chunk_path == str(tmp_path / "c")


def test_start_by_level_and_by_the_clock(daemon: ScriptedDaemon, run: Run) -> None:
    level = ("--trigger", "-40dB", "--pre", "3s")
    done = run("start", URI, "--target", "usb", *level, "--at", "2099-01-31T18:00Z", "--for", "2h")
    assert done.exit_code == 0, done.stderr
    assert "louder than -40dB" in done.stdout
    request = requested(daemon)
    assert request.trigger is not None
    assert (request.trigger.above_dbfs, request.trigger.pre_s, request.trigger.hold_s) == (-40.0, 3.0, 5.0)
    at = dt.datetime(2099, 1, 31, 18, tzinfo=dt.UTC)
    assert (request.start_at, request.stop_at, request.stop_after_s) == (at, None, 7200.0)
    assert run("start", "--pre", "3s").exit_code == 2
    assert run("start", "--trigger", "loud").exit_code == 2


def test_start_records_a_midi_device(daemon: ScriptedDaemon, run: Run) -> None:
    daemon.script["device_list"] = {"devices": [{**KEYBOARD, "description": "Midi Through Port-0"}, KEYBOARD]}
    done = run("start", "--midi")
    assert done.exit_code == 0, done.output
    assert "the only MIDI device, Keyboard" in done.stderr
    request = requested(daemon)
    assert type(request.format).__name__ == "MidiFormat"
    assert request.uri.startswith("stream://keyboard/")
    assert run("start", "--midi", "--rate", RATE).exit_code == 2
    daemon.script["device_list"] = {"devices": [KEYBOARD, {**KEYBOARD, "description": "Organ"}]}
    done = run("start", "--midi")
    assert done.exit_code == 3
    assert '--target "Organ"' in done.stderr


def test_status_shows_what_a_midi_stream_hears(daemon: ScriptedDaemon, run: Run) -> None:
    heard = {"events_per_s": 3.5, "last": "note on C4 97, channel 1", "last_frame": 480}
    stream = {**STREAM, "format": {"type": "midi"}, "levels": [], "activity": heard}
    daemon.script["status"] = {**STATUS, "streams": [stream]}
    daemon.script["stream_status"] = stream
    assert "3.5/s note on C4 97, channel 1" in run("status").stdout
    assert "heard      note on C4 97, channel 1 at frame 480, 3.5 events a second" in run("status", URI).stdout


def test_start_can_wait_for_a_device_that_is_not_there(daemon: ScriptedDaemon, run: Run) -> None:
    daemon.script["device_find"] = DeviceNotFound("none")
    assert run("start", URI, "--target", "later").exit_code == 3
    assert run("start", URI, "--target", "later", "--wait").exit_code == 0
    assert requested(daemon).device_identity == "later"


@pytest.mark.parametrize("option", [("--keep", "30"), ("--roll", "0.5s"), ("--roll", "soon"), ("--for", "5")])
@pytest.mark.parametrize("command", [("start", URI), ("session", "start", "band")])
def test_what_can_t_be_meant_is_told_before_chaosd_is_asked(
    run: Run, command: tuple[str, ...], option: tuple[str, str]
) -> None:
    if command[0] == "session" and option[0] == "--for":
        option = ("--standby", "5")
    refused = run(*command, *option)
    assert refused.exit_code == 2, refused.output


@pytest.mark.parametrize(
    ("option", "value", "said"),
    [
        ("--on-roll", "", "'' is not a command"),
        ("--on-seal", "x" * 1025, "use 1 to 1024 characters"),
        ("--standby", "100d", "use a value from 1s to 3600s"),
        ("--latency", "0", "0 can't be used"),
        ("--channel-map", "", "use 1 to 256 names"),
        ("--staging-seconds", "1e12", "use a value from 0.1 to 3600"),
        ("--silent-below", "nan", "nan can't be used"),
        ("--silent-after", "0s", "use a value from 1s to 86400s"),
        ("--for", "0s", "use a value from 0.1s to"),
        ("--trigger", "-300dB", "use a value from -200dB to less than 0dB"),
        ("--pre", "2h", "use a value from 0s to 600s"),
        ("--hold", "0s", "use a value from 0.01s to 3600s"),
    ],
)
def test_what_no_stream_can_have_is_told_in_the_words_that_were_typed(
    daemon: ScriptedDaemon, run: Run, option: str, value: str, said: str
) -> None:
    trigger = ("--trigger", "-40dB") if option in ("--pre", "--hold") else ()
    refused = run("start", URI, "--target", "usb", *trigger, option, value)
    assert refused.exit_code == 2, refused.output
    assert f"{option}: " in refused.stderr
    assert said in refused.stderr
    assert "stream_start" not in refused.stderr


def test_no_length_is_told_also_where_it_begins_later(daemon: ScriptedDaemon, run: Run) -> None:
    refused = run("start", URI, "--target", "usb", "--at", "00:01", "--for", "0s")
    assert refused.exit_code == 2, refused.output
    assert "--for: \"0s\" can't be used" in refused.stderr
    assert "stream_start" not in refused.stderr


@pytest.mark.parametrize(
    "words", [("--host", ""), ("--host", " "), ("--host", "a,,b"), ("--endpoint", ""), ("--events", "")]
)
def test_an_empty_place_is_not_taken_for_this_machine(words: tuple[str, str]) -> None:
    refused = CliRunner().invoke(main, [*words, "stop", URI])
    assert refused.exit_code == 2, refused.output
    assert f"{words[0]} " in refused.stderr
    assert "empty" in refused.stderr


def test_a_session_tells_it_in_those_words_too(daemon: ScriptedDaemon, run: Run) -> None:
    refused = run("session", "start", "band", "--standby", "100d")
    assert refused.exit_code == 2, refused.output
    assert "--standby: \"100d\" can't be used" in refused.stderr


def test_a_length_from_a_time_on_is_chaosds_to_count(daemon: ScriptedDaemon, run: Run) -> None:
    told = run("start", URI, "--target", "usb", "--at", "2099-01-31T18:00", "--for", "3s", "--standby", "10s").stdout
    request = requested(daemon)
    assert (request.stop_at, request.stop_after_s) == (None, 3.0)
    assert "for 3s from its first frame on" in told
    assert "without that nothing of it is left when it ends" in told


def test_status_says_what_is_wrong_with_the_store(daemon: ScriptedDaemon, run: Run) -> None:
    error = "/store is not the folder that chaosd opened"
    daemon.script["status"] = {**STATUS, "store": {"path": "/store", "free_bytes": None, "error": error}}
    assert error in run("status").stdout


def test_status_says_why_a_stream_is_in_its_state(daemon: ScriptedDaemon, run: Run) -> None:
    why = "cannot be written: No space left on device; 3 s in memory"
    told = {**STATUS["streams"][0], "reason": why}
    daemon.script |= {"status": {**STATUS, "streams": [told]}, "stream_status": told}
    assert f"{URI} is streaming: {why}\n" in run("status").stdout
    assert f"{URI}: streaming, {why}\n" in run("status", URI).stdout


def test_start_can_wait_for_pipewire(daemon: ScriptedDaemon, run: Run) -> None:
    daemon.script["device_find"] = PipeWireUnavailable("PipeWire is not running")
    assert run("start", URI, "--target", "later").exit_code == 7
    assert run("start", URI, "--target", "later", "--wait").exit_code == 0


def test_start_says_which_channels_and_what_may_change(daemon: ScriptedDaemon, run: Run) -> None:
    options = ("--channel-map", "FL, 7", "--accept-port-change", "--roll-on-format-change")
    assert run("start", URI, "--target", "usb", *options).exit_code == 0
    request = requested(daemon)
    assert request.channel_map == ["FL", "7"]
    assert (request.accept_port_change, request.roll_on_format_change) == (True, True)


def test_a_port_is_accepted_by_a_command(daemon: ScriptedDaemon, run: Run) -> None:
    daemon.script["stream_accept_port"] = {"uri": URI}
    assert run("accept-port", URI).stdout == f"{URI} takes the device for the same, at any port\n"
    assert json.loads(run("accept-port", URI, "--json").stdout) == {"uri": URI}


def test_a_node_that_was_chosen_by_its_id_is_passed_on_as_that(daemon: ScriptedDaemon, run: Run) -> None:
    """Its identity may be another's as well."""
    assert run("start", URI, "--target", "node:45").exit_code == 0
    assert requested(daemon).device_identity == "node:45"


def test_stop_finds_the_only_stream_and_is_strict_on_demand(daemon: ScriptedDaemon, run: Run) -> None:
    assert "480000 frames in 100 chunks, 0 gaps, 0 frames lost" in run("stop", "--strict").stdout
    daemon.script["stream_stop"] = {**STOPPED, "lost_frames": 5, "n_gaps": 1, "clean": False}
    assert run("stop", URI).exit_code == 0
    lost = run("stop", URI, "--strict", "--json")
    assert lost.exit_code == 5
    assert json.loads(lost.stdout)["lost_frames"] == 5
    total = {"n_takes": 2, "n_frames": 960, "n_gaps": 3, "lost_frames": 5}
    daemon.script["stream_stop"] = {**STOPPED, "lost_frames": 0, "n_gaps": 0, "total": total}
    rolled = run("stop", "--strict", URI)
    assert (rolled.exit_code, rolled.stdout.splitlines()[0]) == (
        5,
        "stopped: 960 frames in 2 takes, 3 gaps, 5 frames lost",
    )
    daemon.script["stream_list"] = {"streams": []}
    assert run("stop").exit_code == 2


def test_stop_of_a_stream_that_records_by_level_says_what_is_missing(daemon: ScriptedDaemon, run: Run) -> None:
    total = {"n_takes": 2, "n_frames": 96_000, "n_gaps": 1, "lost_frames": 4096, "n_clipped": 3, "n_not_finite": 0}
    ended = {**STOPPED, "recording": "", "n_frames": 0, "sample_rate": RATE, "n_takes": 2}
    daemon.script["stream_stop"] = {**ended, "total": total}
    stopped = run("stop", "--strict", URI)
    assert (stopped.exit_code, stopped.stdout.splitlines()) == (
        5,
        [
            "stopped: 96000 frames in 2 takes, 1 gap, 4096 frames lost (85.3 ms)",
            "  3 samples clipped",
            "  see them with: chaosctl list",
        ],
    )
    daemon.script["stream_stop"] = {**ended, "n_takes": 0}
    assert run("stop", URI).stdout.splitlines()[0] == "stopped: 0 takes"


def test_a_stream_that_records_by_level_is_shown_as_it_is(daemon: ScriptedDaemon, run: Run) -> None:
    trigger = {"above_dbfs": -40.0, "pre_s": 2.0, "hold_s": 5.0, "n_takes": 1, "take": f"{URI}-1", "recording": "/r/1"}
    runs = {**STREAM, "state": "streaming", "standby_s": 4.0, "trigger": {**trigger, "n_frames": 96_000}}
    rests = {**runs, "trigger": {**trigger, "take": None, "recording": "", "n_frames": 0}}
    for stream, state, more in (
        (runs, "recording", [f"1 take, now {URI}-1, 0:00:02.000 so far", "recording  /r/1"]),
        (rests, "standby", ["1 take", "none now: it holds the last 4 s, and records what is louder"]),
        ({**rests, "state": "waiting"}, "waiting", []),
    ):
        daemon.script["stream_status"] = stream
        said = run("status", URI).stdout
        assert said.startswith(f"{URI}: {state}")
        assert [each for each in more if each not in said] == []


def test_status_shows_heads_as_time_and_levels(daemon: ScriptedDaemon, run: Run) -> None:
    shown = run("status").stdout
    assert "1.4.2, fifo 88" in shown
    assert re.search(rf"{URI}  streaming  1:02:03\.500  7 +1 +96 +-12\.3 -inf +- +USB Microphone", shown)
    one = run("status", URI).stdout
    assert "1:02:03.500 (frame 178728000)" in one
    assert "3 free, 0 full, 4 in total" in one


def test_watching_ends_with_the_stream(daemon: ScriptedDaemon, run: Run) -> None:
    daemon.script["stream_list"] = {"streams": []}
    assert run("status", URI, "--watch").exit_code == 2


@pytest.mark.parametrize("as_json", [True, False])
def test_events_are_followed(daemon: ScriptedDaemon, run: Run, as_json: bool) -> None:
    listening = threading.Event()
    daemon.script["ping"] = lambda request: listening.set() or {"name": "chaosd"}

    def tell() -> None:
        assert listening.wait(60)
        daemon.publish("stream_state", URI, state="paused", reason="")
        for frame in (100, 200):
            daemon.publish("stream_gap", URI, first_frame=frame, n_frames=7, cause="missed", confidence="exact")

    teller = threading.Thread(target=tell)
    teller.start()
    done = run("events", "stream_gap", "--count", 2, *["--json"] * as_json)
    teller.join()
    assert done.exit_code == 0
    lines = done.stdout.splitlines()
    if as_json:
        assert [json.loads(line)["first_frame"] for line in lines] == [100, 200]
    else:
        assert re.fullmatch(
            rf"\d\d:\d\d:\d\d\.\d\d\d stream_gap {URI} first_frame=100 n_frames=7 cause=missed .*",
            lines[0],
        )


def test_a_silence_of_events_is_exit_code_7(daemon: ScriptedDaemon, run: Run) -> None:
    assert run("events", "--timeout", "0.01").exit_code == 7


def test_verify_through_the_daemon(daemon: ScriptedDaemon, run: Run) -> None:
    assert run("verify", URI).stdout.startswith("ok: 4800 frames in 1 chunk, 0 gaps, 0 frames missing")
    gap = {"first_frame": 5, "n_frames": 3, "cause": "missed", "confidence": "exact"}
    daemon.script["verify"] = {**daemon.script["verify"], "gaps": [gap]}
    assert run("verify", URI).exit_code == 0
    assert run("verify", URI, "--strict").exit_code == 5
    bad = {
        "chunk": 3,
        "first_frame": 14400,
        "n_frames": 4800,
        "reason": "hash_mismatch",
        "expected": "aa",
        "found": "bb",
    }
    daemon.script["verify"] = {**daemon.script["verify"], "ok": False, "bad": [bad]}
    done = run("verify", URI, "--strict")
    assert done.exit_code == 8
    assert "hash_mismatch in chunk 3, frames 14400 to 19200; expected aa; found bb" in done.stdout


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """A finished recording of 3 chunks, mono, the second one a gap; sample k is k."""
    writer = RecordingWriter.create(Store(tmp_path / "store"), DEFINITION)
    samples = np.arange(3 * CHUNK, dtype="<f4")
    for chunk in (0, 2):
        if chunk:
            writer.gap(Gap(CHUNK, CHUNK, Cause.MISSED, Confidence.EXACT))
        first = chunk * CHUNK
        writer.seal(chunk, memoryview(samples[first : first + CHUNK].tobytes()), first, CHUNK)
    writer.finish(3 * CHUNK, clean=True)
    return tmp_path / "store"


@pytest.mark.parametrize("by_path", [True, False])
def test_verify_without_a_daemon(run: Run, store: Path, by_path: bool) -> None:
    what = store / "recordings" / "desk" / "take.zarr" if by_path else URI
    done = run("--store", store, "verify", what, "--json")
    assert done.exit_code == 0
    report = json.loads(done.stdout)
    assert (report["ok"], report["n_frames"], report["lost_frames"]) == (True, 3 * CHUNK, CHUNK)
    assert run("--store", store, "verify", what, "--strict").exit_code == 5


@pytest.mark.parametrize(
    "words",
    [
        ["list"],
        ["list", "--json"],
        ["verify", URI],
        ["save", URI, "x.wav"],
        ["show", URI],
        ["rm", URI],
        ["retire", "--keep", "1d"],
        ["recover"],
        ["pin", "x", URI],
        ["unpin", "x"],
        ["mark", "here", "--uri", URI],
        ["session", "save", "jam", "x"],
        ["session", "verify", "jam"],
    ],
)
def test_a_store_that_is_not_there_does_not_pass_for_an_empty_one(
    tmp_path: Path, words: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A mistyped folder."""
    ends = ["--endpoint", f"ipc://{tmp_path}/nobody"]
    for store, what in ((tmp_path / "mistyped", "is not there"), (tmp_path / "file", "is not a folder")):
        (tmp_path / "file").touch()
        done = CliRunner().invoke(main, [*ends, "--store", str(store), *words])
        assert (done.exit_code, f"the store {store} {what}" in done.output) == (6, True), done.output
    assert not (tmp_path / "mistyped").exists()


def test_several_are_verified_one_after_the_other(run: Run, store: Path) -> None:
    path = store / "recordings" / "desk" / "take.zarr"
    done = run("--store", store, "verify", URI, path)
    assert done.exit_code == 0, done.output
    assert [line for line in done.stdout.splitlines() if line.endswith(":")] == [f"{URI}:", f"{path}:"]
    assert done.stdout.count("ok: ") == 2
    assert run("--store", store, "verify", URI, path, "--strict").exit_code == 5
    done = run("--store", store, "verify", "stream://desk/none", URI, "--json")
    missing, found = map(json.loads, done.stdout.splitlines())
    assert (missing["uri"], missing["error"]["code"]) == ("stream://desk/none", "recording_not_found")
    assert (found["uri"], found["ok"]) == (URI, True)
    assert done.exit_code == 3 or done.exit_code == 6, done.exit_code
    assert len(done.stderr.splitlines()) == 2
    (path / "audio" / "c" / "0" / "0").unlink()
    assert run("--store", store, "verify", URI, "stream://desk/none").exit_code == 8


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["show", "a", "b"], "show takes URI|PATH: b is too much. What has spaces needs quotes."),
        (["status", "a", "b", "c"], "status takes [URI]: b c is too much. What has spaces needs quotes."),
        (["ping", "a"], "ping takes no argument: a is too much."),
        (["ping", "\x1b[2J"], "ping takes no argument: \\x1b[2J is too much."),
    ],
)
def test_of_too_many_words_it_is_said_what_would_work(run: Run, arguments: list[str], told: str) -> None:
    done = run(*arguments)
    assert (done.exit_code, done.stderr.splitlines()[-1]) == (2, f"Error: main {told}")


def test_verify_names_the_gaps(run: Run, store: Path) -> None:
    said = run("--store", store, "verify", URI).stdout
    assert f"1 gap, {CHUNK} frames missing (100 ms)\n" in said
    (line,) = (line for line in said.splitlines() if "gap at" in line)
    assert line.startswith(f"  gap at 0:00:00.100 (frame {CHUNK}), ")
    assert line.endswith(f": {CHUNK} frames (100 ms) missed")


def test_many_gaps_are_named_up_to_some(run: Run, tmp_path: Path) -> None:
    writer = RecordingWriter.create(Store(tmp_path / "store"), DEFINITION)
    for first in range(0, 75, 3):
        writer.gap(Gap(first, 2, Cause.MISSED, Confidence.EXACT))
    writer.seal(0, memoryview(np.zeros(CHUNK, "<f4").tobytes()), 0, CHUNK)
    writer.finish(CHUNK, clean=True)
    said = run("--store", tmp_path / "store", "verify", URI).stdout
    assert (said.count("gap at"), "  and 5 more gaps (--json has all)\n" in said) == (20, True)


def test_a_running_take_is_listed_as_long_as_it_is(run: Run, tmp_path: Path) -> None:
    engine = handmade.Engine(tmp_path)
    try:
        engine.cycle(700)
        (found,) = json.loads(run("--store", tmp_path, "list", "--json").stdout)["recordings"]
        assert (found["state"], found["n_frames"], found["n_bytes"]) == ("recording", 700, 700 * 8)
        engine.cycle(700)
        engine.rotate()
        (found,) = json.loads(run("--store", tmp_path, "list", "--json").stdout)["recordings"]
        assert (found["n_frames"], found["n_bytes"]) == (1400, 1400 * 8)
        assert "0:00:00.029" in run("--store", tmp_path, "list").stdout
    finally:
        engine.close()


def test_list_says_what_a_take_came_after(run: Run, tmp_path: Path) -> None:
    three_takes(tmp_path)[2].stop()
    said = run("--store", tmp_path, "list").stdout
    assert "stream://mic/1.0002  (continues stream://mic/1)\n" in said
    assert "stream://mic/1.0003  (after stream://mic/1.0002, which did not end cleanly)\n" in said


def test_no_label_track_is_written_where_nothing_is_to_be_in_it(run: Run, store: Path, tmp_path: Path) -> None:
    out, track = tmp_path / "o.wav", tmp_path / "o.txt"
    done = run("--store", store, "save", URI, out, "--to", CHUNK, "--labels")
    assert (done.exit_code, track.exists()) == (0, False)
    assert "no label track was written: there are neither marks nor gaps in that range" in done.stderr
    track.write_text("of another save")
    done = run("--store", store, "save", URI, out, "--to", CHUNK, "--labels", "--force")
    assert (done.exit_code, track.exists()) == (0, False)
    done = run("--store", store, "save", URI, out, "--labels", "--force", "--json")
    assert (json.loads(done.stdout)["labels"], track.read_text().count("\n")) == (str(track), 1)


def test_takes_of_one_stream_are_saved_under_names_of_their_own(run: Run, tmp_path: Path) -> None:
    for take in ("1", "1.0002"):
        stream = begin(tmp_path, take, 0, 1, **({"continues": "stream://mic/1"} if take != "1" else {}))
        stream.anchor()
        stream.write(40)
        stream.stop()
    done = run("--store", tmp_path, "save", "stream://mic/1.0001", "stream://mic/1.0002", tmp_path / "both")
    assert done.exit_code == 0, done.stderr
    assert sorted(path.name for path in (tmp_path / "both").iterdir()) == ["mic-1.0001.wav", "mic-1.0002.wav"]


def flip_a_bit(chunk: Path) -> None:
    data = bytearray(chunk.read_bytes())
    data[17] ^= 4
    chunk.chmod(0o644)
    chunk.write_bytes(data)


def test_a_flipped_bit_is_exit_code_8(run: Run, store: Path) -> None:
    chunk = store / "recordings" / "desk" / "take.zarr" / "audio" / "c" / "0" / "2"
    flip_a_bit(chunk)
    done = run("--store", store, "verify", URI)
    assert done.exit_code == 8
    assert f"chunk 2, frames {2 * CHUNK} to {3 * CHUNK}" in done.stdout


def test_what_is_not_recorded_is_exit_code_6(run: Run, store: Path, tmp_path: Path) -> None:
    assert run("--store", store, "verify", "stream://desk/other").exit_code == 6
    assert run("--store", store, "save", "stream://desk/other", tmp_path / "o.wav").exit_code == 6
    assert not (tmp_path / "o.wav").exists()


@pytest.mark.parametrize(
    ("options", "first", "end"),
    [
        ([], 0, 3 * CHUNK),
        (["--last", "100ms"], 2 * CHUNK, 3 * CHUNK),
        (["--last", "1h"], 0, 3 * CHUNK),
        (["--from", "50ms", "--to", "12000"], 2400, 12000),
        (["--from", "-50ms"], 12000, 3 * CHUNK),
    ],
)
def test_save_writes_the_asked_frames(
    run: Run, store: Path, tmp_path: Path, options: list[str], first: int, end: int
) -> None:
    expected = np.arange(3 * CHUNK, dtype=np.float32)
    expected[CHUNK : 2 * CHUNK] = 0
    done = run("--store", store, "save", URI, tmp_path / "o.wav", *options)
    assert done.exit_code == 0, done.stderr
    saved, rate = soundfile.read(tmp_path / "o.wav", dtype="float32")
    assert rate == RATE
    assert np.array_equal(saved, expected[first:end])


def test_samples_that_stay_as_they_are_are_saved_without_numpy(store: Path, tmp_path: Path) -> None:
    where = ["--endpoint", f"ipc://{tmp_path}/none", "--store", str(store)]
    command = [*where, "save", URI, str(tmp_path / "o.wav"), "--last", "0.1s"]
    code = (
        f"import sys; from chaos.cli.main import main; main({command!r}, standalone_mode=False);"
        "print([m for m in ('numpy', 'soundfile', 'rich', 'ssl', 'http', 'asyncio') if m in sys.modules])"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
    assert soundfile.info(tmp_path / "o.wav").frames == RATE // 10


def test_save_has_json_strict_and_cuts(run: Run, store: Path, tmp_path: Path) -> None:
    done = run("--store", store, "save", URI, tmp_path / "o.wav", "--gaps", "cut", "--json", "--strict")
    assert done.exit_code == 5
    report = json.loads(done.stdout)
    assert (report["n_frames"], report["n_written"], report["lost_frames"]) == (3 * CHUNK, 2 * CHUNK, CHUNK)


def test_save_and_verify_ask_a_running_daemon_for_its_store(
    daemon: ScriptedDaemon, run: Run, store: Path, tmp_path: Path
) -> None:
    daemon.script["status"] = {**STATUS, "store": {"path": str(store), "free_bytes": 1}}
    assert run("save", URI, tmp_path / "o.wav").exit_code == 0
    assert soundfile.info(tmp_path / "o.wav").frames == 3 * CHUNK


def test_last_goes_alone(run: Run, store: Path, tmp_path: Path) -> None:
    done = run("--store", store, "save", URI, tmp_path / "o.wav", "--last", "1s", "--from", "start", "--to", "0")
    assert done.exit_code == 2


def test_save_to_a_pipe_gives_samples_alone(run: Run, store: Path) -> None:
    expected = np.arange(3 * CHUNK, dtype="<f4")
    expected[CHUNK : 2 * CHUNK] = 0
    done = run("--store", store, "save", URI, "-", "--from", "100", "--to", "9000", "--strict")
    assert done.exit_code == 5
    assert done.stdout_bytes == expected[100:9000].tobytes()
    assert "frames missing" in done.stderr
    assert run("--store", store, "save", URI, "-", "--container", "wav").stdout_bytes[:4] == b"RIFF"
    assert run("--store", store, "save", URI, "-", "--container", "flac").exit_code == 4


def test_save_says_what_flac_costs(run: Run, store: Path, tmp_path: Path) -> None:
    done = run("--store", store, "save", URI, tmp_path / "o.flac", "--to", "2")
    assert "not exact: converted to PCM_24, largest error -138.5 dBFS, 1 sample clipped" in done.stdout


def test_save_of_several_needs_a_folder(run: Run, store: Path, tmp_path: Path) -> None:
    assert run("--store", store, "save", URI, URI, "-").exit_code == 2
    done = run("--store", store, "save", URI, URI, tmp_path / "out")
    assert done.exit_code == 2
    assert "twice" in done.stderr


def test_save_wants_the_range_in_order(run: Run, store: Path, tmp_path: Path) -> None:
    done = run("--store", store, "save", URI, tmp_path / "o.wav", "--from", "200", "--to", "100")
    assert done.exit_code == 2
    assert "--from must not be after --to" in done.stderr
    moment = "2026-09-21T14:13:20.05Z"
    done = run("--store", store, "save", URI, tmp_path / "o.wav", "--from", moment, "--json")
    assert json.loads(done.stdout)["first_frame"] == 2400


def test_retired_frames_are_missing_to_strict(run: Run, store: Path, tmp_path: Path) -> None:
    retire(Store(store), Keep(None, CHUNK * 4))
    assert run("--store", store, "verify", URI).exit_code == 0
    assert run("--store", store, "verify", URI, "--strict").exit_code == 5
    done = run("--store", store, "save", URI, tmp_path / "o.wav", "--strict")
    assert done.exit_code == 0, done.output
    assert f"audio before frame {2 * CHUNK} was retired" in done.stderr
    done = run("--store", store, "save", URI, tmp_path / "p.wav", "--from", "start", "--strict")
    assert done.exit_code == 5
    assert f"{CHUNK} of the missing frames were retired" in done.stdout


def test_damage_has_its_own_exit_code(run: Run, store: Path, tmp_path: Path) -> None:
    flip_a_bit(store / "recordings" / "desk" / "take.zarr" / "audio" / "c" / "0" / "2")
    done = run("--store", store, "save", URI, tmp_path / "o.wav")
    assert done.exit_code == 8
    assert f"DAMAGED: chunk 2 of {URI} (hash_mismatch), frames {2 * CHUNK} to {3 * CHUNK}" in done.stdout
    assert (tmp_path / "o.wav").exists()
    assert run("--store", store, "save", URI, tmp_path / "p.wav", "--to", str(2 * CHUNK)).exit_code == 0


def test_files_that_exist_are_kept(run: Run, store: Path, tmp_path: Path) -> None:
    out = tmp_path / "o.wav"
    out.write_bytes(b"before")
    done = run("--store", store, "save", URI, out)
    assert done.exit_code == 2
    assert "--force" in done.stderr
    assert out.read_bytes() == b"before"
    assert run("--store", store, "save", URI, out, "--force").exit_code == 0
    assert soundfile.info(out).frames == 3 * CHUNK
    assert run("--store", store, "save", URI, "/dev/null", "--container", "raw", "--force").exit_code == 2
    assert run("--store", store, "save", URI, tmp_path, "--container", "raw", "--force").exit_code == 2


@pytest.mark.parametrize("name", ["o.mp3", "o.ogg", "o.aiff", "o.2026-11-24"])
def test_unknown_endings_are_refused(run: Run, store: Path, tmp_path: Path, name: str) -> None:
    done = run("--store", store, "save", URI, tmp_path / name)
    assert done.exit_code == 2
    assert ".flac" in done.stderr
    assert not (tmp_path / name).exists()
    assert run("--store", store, "save", URI, tmp_path / name, "--container", "wav").exit_code == 0


def test_samples_are_not_printed_on_a_terminal(store: Path) -> None:
    main_end, terminal = pty.openpty()
    command = [sys.executable, "-m", "chaos.cli.main", "--store", str(store), "save", URI, "-"]
    done = subprocess.run(command, stdout=terminal, stderr=subprocess.PIPE, timeout=60)
    os.close(terminal)
    os.close(main_end)
    assert done.returncode == 2
    assert b"terminal" in done.stderr


def test_a_closed_pipe_is_no_disk_error(store: Path) -> None:
    command = [sys.executable, "-m", "chaos.cli.main", "--store", str(store), "save", URI, "-"]
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(command, stdout=writing, stderr=subprocess.PIPE, timeout=60)
    os.close(writing)
    assert (done.returncode, done.stderr) == (141, b"")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGKILL])
def test_an_interrupted_save_leaves_nothing(tmp_path: Path, run: Run, number: signal.Signals) -> None:
    """It would be a file of a gigabyte. What KILL leaves, the next save into that folder removes."""
    definition = msgspec.structs.replace(DEFINITION, uri="stream://long/gap", chunk_frames=1 << 16)
    writer = RecordingWriter.create(Store(tmp_path / "store"), definition)
    writer.gap(Gap(0, 1 << 28, Cause.DEVICE_AWAY, Confidence.EXACT))
    writer.finish(1 << 28, clean=True)
    folder = tmp_path / "out"
    folder.mkdir()
    (folder / ".mine.part").touch()
    command = [sys.executable, "-m", "chaos.cli.main", "--store", str(tmp_path / "store"), "save", "stream://long/gap"]
    child = subprocess.Popen([*command, str(folder / "o.wav")])
    while len(list(folder.iterdir())) < 2:
        assert child.poll() is None
    child.send_signal(number)
    assert child.wait(60) == (-9 if number == signal.SIGKILL else 128 + number)
    assert len(list(folder.iterdir())) == (2 if number == signal.SIGKILL else 1)
    done = run("--store", tmp_path / "store", "save", "stream://long/gap", folder / "p.wav", "--to", "10")
    assert done.exit_code == 0
    assert sorted(path.name for path in folder.iterdir()) == [".mine.part", "p.wav"]


def test_a_save_that_is_interrupted_right_after_it_made_its_file_leaves_nothing(
    run: Run, store: Path, tmp_path: Path
) -> None:
    real = os.open

    def interrupted(path: Any, *options: Any, **more: Any) -> int:
        fd = real(path, *options, **more)
        if str(path).endswith(".part"):
            os.close(fd)
            raise SystemExit(143)
        return fd

    folder = tmp_path / "out"
    folder.mkdir()
    with mock.patch("os.open", interrupted):
        assert run("--store", store, "save", URI, folder / "o.wav").exit_code == 143
    assert list(folder.iterdir()) == []


def on_terminal(*arguments: object, answer: str) -> tuple[int, str]:
    """Exit code and output of a command whose terminal answers its question."""
    main_end, terminal = pty.openpty()
    command = [sys.executable, "-m", "chaos.cli.main", *map(str, arguments)]
    child = subprocess.Popen(command, stdin=terminal, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    os.write(main_end, f"{answer}\n".encode())
    said, _ = child.communicate(timeout=60)
    os.close(terminal)
    os.close(main_end)
    return child.returncode, said


def test_retire_shows_what_would_go_and_asks(run: Run, store: Path) -> None:
    keep = ("--store", store, "retire", "--keep", f"{CHUNK * 4}B")
    done = run(*keep, "--dry-run")
    assert f"{URI}: 1 chunk, {CHUNK} frames, 18.8 KiB" in done.stdout
    assert "would delete 1 chunk, 18.8 KiB in all" in done.stdout
    code, said = on_terminal(*keep, answer="n")
    assert (code, "Delete this audio?" in said, f"{CHUNK} frames" in said) == (1, True, True)
    assert json.loads(run("--store", store, "verify", URI, "--json").stdout)["lost_frames"] == CHUNK
    assert run(*keep, "--dry-run").stdout == done.stdout
    code, said = on_terminal(*keep, answer="y")
    assert (code, "deleted 1 chunk, 18.8 KiB in all" in said) == (0, True)
    assert f"Nothing to retire: all audio is within what is to be kept ({CHUNK * 4}B)." in run(*keep).stdout
    gaps = json.loads(run("--store", store, "verify", URI, "--json").stdout)["gaps"]
    assert [gap["cause"] for gap in gaps] == ["missed", "retired"]


def test_retire_says_why_nothing_goes_and_what_to_type(run: Run, store: Path) -> None:
    assert "no limit is set. Say what to keep, for example: chaosctl retire --keep 7d" in run(
        "--store", store, "retire"
    ).stdout
    assert run("--store", store, "pin", "interview", URI).exit_code == 0
    said = run("--store", store, "retire", "--keep", "1B").stdout
    assert said.splitlines() == [
        "Nothing to retire (to keep: 1B), but some is kept beyond that:",
        f"  some of {URI} is pinned: interview",
        "    chaosctl unpin interview",
    ]


def test_damage_of_chunks_that_share_a_file_is_told_once(run: Run, tmp_path: Path) -> None:
    store = tmp_path / "silent"
    writer = RecordingWriter.create(Store(store), msgspec.structs.replace(DEFINITION, uri="stream://silent/1"))
    for chunk in range(50):
        writer.seal(chunk, np.zeros(CHUNK, "<f4").data, chunk * CHUNK, CHUNK)
    writer.seal(50, np.ones(CHUNK, "<f4").data, 50 * CHUNK, CHUNK)
    writer.finish(51 * CHUNK, clean=True)
    for chunk in (7, 50):
        path = writer.path / "audio" / "c" / "0" / str(chunk)
        path.chmod(0o644)
        with path.open("r+b") as file:
            file.write(b"\1")
    done = run("--store", store, "verify", "stream://silent/1")
    said = [line for line in done.stdout.splitlines() if "hash" in line and "chunk" in line]
    assert [line.split("; ")[0].strip() for line in said] == [
        f"hash_mismatch in chunk 0, frames 0 to {CHUNK}",
        f"hash_mismatch in chunk 50, frames {50 * CHUNK} to {51 * CHUNK}",
    ]
    assert "and so in 49 more chunks: their content was the same" in done.stdout
    report = json.loads(run("--store", store, "verify", "stream://silent/1", "--json").stdout)
    assert (done.exit_code, len(report["bad"])) == (8, 51)


def own_files(store: Path) -> dict[Path, bytes]:
    """What each holds; of the catalogue, which whoever reads may bring up to date, only that it is a database."""
    files = (path for path in store.rglob("*") if path.is_file() and path.suffix != ".lock")
    return {path: path.read_bytes()[: 16 if path.name == "catalog.db" else None]
            for path in files if not path.name.startswith("catalog.db-")}  # fmt: skip


@pytest.mark.parametrize("by_path", [True, False])
@pytest.mark.parametrize(
    "place",
    [
        "recordings/desk/take.zarr/audio/c/0/0",
        "recordings/desk/take.zarr/audio/new.wav",
        "recordings/new.wav",
        "objects/new.wav",
        "pins/new.wav",
        "catalog.db",
        "../link/desk/take.zarr/zarr.json",
    ],
)
@pytest.mark.parametrize("options", [[], ["--labels"], ["--split-channels"]])
def test_a_save_leaves_the_stores_own_files_alone(
    run: Run, store: Path, place: str, options: list[str], by_path: bool
) -> None:
    (store.parent / "link").symlink_to(store / "recordings")
    what = store / "recordings" / "desk" / "take.zarr" if by_path else URI
    run("--store", store, "list")
    before = own_files(store)
    done = run("--store", store, "save", what, store / place, "--force", "--container", "wav", *options)
    assert done.exit_code == 2, done.stderr
    assert "the store keeps its own files" in done.stderr
    assert "in another folder" in done.stderr
    assert own_files(store) == before
    done = run("--store", store, "save", what, store / "mine.wav", "--force", *options)
    assert done.exit_code == 0, done.stderr


def test_a_folder_of_files_is_not_saved_among_the_stores_own(run: Run, store: Path) -> None:
    other = RecordingWriter.create(Store(store), msgspec.structs.replace(DEFINITION, uri="stream://desk/other"))
    other.seal(0, np.ones(CHUNK, "<f4").data, 0, CHUNK)
    other.finish(CHUNK, clean=True)
    run("--store", store, "list")
    before = own_files(store)
    for place in ("recordings/both", "recordings/desk/take.zarr/audio"):
        done = run("--store", store, "save", URI, "stream://desk/other", store / place, "--force")
        assert (done.exit_code, "the store keeps its own files" in done.stderr) == (2, True), done.stderr
    assert own_files(store) == before
    assert not (store / "recordings" / "both").exists()
    done = run("--store", store, "save", URI, "stream://desk/other", store / "both", "--force")
    assert done.exit_code == 0, done.stderr


def test_a_copy_of_a_recording_is_not_saved_into_itself_nor_into_the_store(run: Run, store: Path) -> None:
    copy = store.parent / "copy.zarr"
    shutil.copytree(store / "recordings" / "desk" / "take.zarr", copy)
    for place in (copy / "audio" / "c" / "0" / "0", copy / "x.wav", store / "objects" / "x.wav"):
        done = run("--store", store, "save", copy, place, "--force", "--container", "wav")
        assert (done.exit_code, "name a file in another folder" in done.stderr) == (2, True), done.stderr
    assert run("--store", store, "verify", copy).exit_code == 0
    assert run("--store", store, "save", copy, store.parent / "copy.wav").exit_code == 0


CHAOSCTL = str(Path(sys.executable).with_name("chaosctl"))


@pytest.mark.parametrize("buffered", ["", "1"])
@pytest.mark.parametrize(
    "arguments",
    [["list"], ["--help"], ["verify", URI, "--json"], ["save", URI, "-"], ["save", URI, "out.wav"], ["mcp"]],
)
def test_output_that_can_not_be_written_is_told_in_a_line(store: Path, arguments: list[str], buffered: str) -> None:
    env = {**os.environ, "PYTHONUNBUFFERED": buffered}
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            [CHAOSCTL, "--store", store, *arguments],
            stdout=full, stderr=subprocess.PIPE, env=env, text=True, cwd=store.parent, check=False,
            input="what is no JSON is answered, too",
        )  # fmt: skip
    said = done.stderr.splitlines()
    assert (done.returncode, len(said)) == (6, 2), done.stderr
    assert said[0].startswith("chaosctl: could not write ")
    assert said[0].endswith("No space left on device")


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["--check", "--config", "chaosd.toml"]])
def test_chaosd_s_output_that_can_not_be_written_is_told(tmp_path: Path, arguments: list[str]) -> None:
    (tmp_path / "chaosd.toml").write_text('endpoint = "ipc:///nowhere/command"\n')
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            [str(Path(CHAOSCTL).with_name("chaosd")), *arguments],
            stdout=full, stderr=subprocess.PIPE, text=True, cwd=tmp_path, check=False,
        )  # fmt: skip
    assert done.returncode == 6
    assert done.stderr.splitlines()[0] == "chaosd: could not write the output: No space left on device"


@pytest.mark.parametrize(
    ("arguments", "code"), [("save {} -", 6), ("list", 0), ("save {} out.wav", 0), ("status", 7), ("record x -", 6)]
)
def test_a_closed_output_is_no_traceback(store: Path, arguments: str, code: int) -> None:
    command = f"exec {CHAOSCTL} --store {store} --endpoint ipc://{store}/none {arguments.format(URI)}"
    for closed in (">&-", ">&- 2>&-"):
        done = subprocess.run(
            ["sh", "-c", f"{command} {closed} --force" if "out.wav" in command else f"{command} {closed}"],
            stderr=subprocess.PIPE, text=True, cwd=store.parent, check=False,
        )  # fmt: skip
        assert done.returncode == code, done.stderr
        if code == 6 and "2>" not in closed:
            assert done.stderr.splitlines()[0] == "chaosctl: standard output is closed"
        assert "Traceback" not in done.stderr


def test_saved_damage_of_chunks_that_share_a_file_is_told_once(run: Run, tmp_path: Path) -> None:
    writer = RecordingWriter.create(Store(tmp_path / "silent"), DEFINITION)
    for chunk in range(50):
        writer.seal(chunk, np.zeros(CHUNK, "<f4").data, chunk * CHUNK, CHUNK)
    writer.finish(50 * CHUNK, clean=True)
    path = writer.path / "audio" / "c" / "0" / "7"
    path.chmod(0o644)
    with path.open("r+b") as file:
        file.write(b"\1")
    done = run("--store", tmp_path / "silent", "save", URI, tmp_path / "out.wav")
    said = [line for line in done.stdout.splitlines() if "DAMAGED" in line]
    assert said == [f"  DAMAGED: chunk 0 of {URI} (hash_mismatch), frames 0 to {CHUNK}"]
    assert "and so in 49 more chunks: their content was the same" in done.stdout
    done = run("--store", tmp_path / "silent", "save", URI, tmp_path / "out.wav", "--force", "--json")
    assert (done.exit_code, len(json.loads(done.stdout)["damaged"])) == (8, 50)


def test_retire_without_the_daemon_says_what_only_the_writer_may_delete(run: Run, tmp_path: Path) -> None:
    store = tmp_path / "running"
    writer = RecordingWriter.create(Store(store), msgspec.structs.replace(DEFINITION, uri="stream://live/1"))
    for chunk in range(3):
        frames = np.full((DEFINITION.channels, DEFINITION.chunk_frames), chunk + 1, "<f4")
        writer.seal(chunk, frames.data, chunk * DEFINITION.chunk_frames, DEFINITION.chunk_frames)
    said = run("--store", store, "retire", "--keep", "1B").stdout
    told = json.loads(run("--store", store, "retire", "--keep", "1B", "--json").stdout)
    writer.finish(3 * DEFINITION.chunk_frames, clean=True)
    assert said.splitlines() == [
        "Nothing to retire (to keep: 1B), but some is kept beyond that:",
        "  stream://live/1 is being recorded: only the chaosd that does can retire what is due of it",
        "    ask that one (chaosctl retire, without --store), or stop it first",
    ]
    assert [(each["uri"], each["reason"]) for each in told["kept"]] == [("stream://live/1", "running")]
    assert told["retired"] == []


@pytest.mark.parametrize("keep", ["30", "500m", "7"])
def test_what_to_keep_needs_its_unit(run: Run, store: Path, keep: str) -> None:
    assert run("--store", store, "retire", "--keep", keep).exit_code == 2
    assert run("--store", store, "verify", URI).exit_code == 0


def test_a_streams_uri_means_all_its_takes(run: Run, store: Path) -> None:
    begun = dt.datetime.fromtimestamp(DEFINITION.started_wall_ns / 1e9).astimezone()
    record(store, f"{URI}.0002", "desk", begun + dt.timedelta(seconds=0.3), continues=URI)
    n_frames = 13 * CHUNK
    report = json.loads(run("--store", store, "verify", URI, "--json").stdout)
    assert (report["n_frames"], [take["uri"] for take in report["takes"]]) == (n_frames, [URI, f"{URI}.0002"])
    assert f"ok: {URI}.0002, {10 * CHUNK} frames from {3 * CHUNK} on" in run("--store", store, "verify", URI).stdout
    assert json.loads(run("--store", store, "verify", f"{URI}.0001", "--json").stdout)["n_frames"] == 3 * CHUNK
    marked = json.loads(run("--store", store, "mark", "here", "--uri", URI, "--at", 4 * CHUNK, "--json").stdout)
    assert (marked["recording"][-9:], marked["frame"]) == ("0002.zarr", CHUNK)
    said = run("--store", store, "mark", "there", "--uri", URI, "--at", 4 * CHUNK).stdout
    assert f"{URI}.0002: frame {CHUNK} is marked 'there'" in said
    assert f"{URI}: frame 5 is" in run("--store", store, "mark", "early", "--uri", URI, "--at", 5).stdout
    pinned = json.loads(run("--store", store, "pin", "mine", URI, "--from", 2 * CHUNK, "--json").stdout)
    assert (pinned["first_frame"], pinned["n_frames"], len(pinned["chunks"])) == (2 * CHUNK, 11 * CHUNK, 11)
    assert run("--store", store, "rm", URI, "--yes").exit_code == 2
    run("--store", store, "unpin", "mine")
    done = run("--store", store, "rm", URI, "--yes")
    assert (done.exit_code, done.stdout.count("frames, ")) == (0, 2)
    assert "\ndeleted 2 recordings, " in done.stdout
    assert run("--store", store, "verify", URI).exit_code == 6


def test_rm_says_what_goes_and_wants_a_word(run: Run, store: Path) -> None:
    done = run("--store", store, "rm", URI)
    assert done.exit_code == 2
    assert "--yes" in done.stderr
    assert f"{URI}: {3 * CHUNK} frames, 2 chunks, 37.5 KiB" in done.stdout
    done = run("--store", store, "rm", URI, "--dry-run")
    assert (done.exit_code, "would delete 1 recording, 37.5 KiB in all" in done.stdout) == (0, True)
    assert on_terminal("--store", store, "rm", URI, answer="n")[0] == 1
    assert run("--store", store, "verify", URI).exit_code == 0
    run("--store", store, "pin", "mine", URI)
    done = run("--store", store, "rm", URI, "--yes")
    assert (done.exit_code, "unpin mine" in done.stderr) == (2, True)
    run("--store", store, "unpin", "mine")
    assert on_terminal("--store", store, "rm", URI, answer="y")[0] == 0
    assert run("--store", store, "verify", URI).exit_code == 6


def record(store: Path, uri: str, device: str, begun: dt.datetime, **more: Any) -> None:
    """A second of sound that began at this local time."""
    definition = msgspec.structs.replace(
        DEFINITION, uri=uri, device={"description": device}, started_wall_ns=int(begun.timestamp()) * 10**9, **more
    )
    writer = RecordingWriter.create(Store(store), definition)
    samples = np.ones(CHUNK, "<f4")
    for chunk in range(10):
        writer.seal(chunk, samples.data, chunk * CHUNK, CHUNK)
    writer.finish(10 * CHUNK, clean=True)


@pytest.fixture
def days(tmp_path: Path) -> Path:
    """Three days' recordings, made in another order."""
    noon = dt.datetime.combine(dt.date(2026, 11, 24), dt.time(12)).astimezone()
    day = dt.timedelta(days=1)
    for uri, device, begun in [
        ("stream://desk/tue", "USB Desk", noon),
        ("stream://room/mon", "Room pair", noon - day),
        ("stream://desk/wed", "USB Desk", noon + day),
    ]:
        record(tmp_path / "store", uri, device, begun)
    return tmp_path / "store"


def listed(run: Run, store: Path, *options: object) -> list[str]:
    found = json.loads(run("--store", store, "list", *options, "--json").stdout)["recordings"]
    return [each["uri"].removeprefix("stream://") for each in found]


def test_list_finds_recordings_without_a_daemon(run: Run, days: Path) -> None:
    assert listed(run, days) == ["room/mon", "desk/tue", "desk/wed"]
    assert listed(run, days, "--on", "2026-11-24") == ["desk/tue"]
    assert listed(run, days, "--on", "2026-11-22") == []
    assert listed(run, days, "--device", "usb") == ["desk/tue", "desk/wed"]
    assert listed(run, days, "--limit", 2) == ["desk/tue", "desk/wed"]
    assert listed(run, days, "stream://room/mon") == ["room/mon"]
    assert run("--store", days, "list", "--on", "Tuesday").exit_code == 2
    done = run("--store", days, "list", "--limit", 1)
    assert re.search(
        r"2026-11-25 12:00:00 \S+ +0:00:01\.000 +187\.5 KiB +0 +0 +finished +USB Desk +stream://desk/wed", done.stdout
    )
    assert "--all" in done.stderr


def test_list_of_nothing(run: Run, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert listed(run, tmp_path / "empty") == []
    assert f"No recordings in {tmp_path}/empty." in run("--store", tmp_path / "empty", "list").stderr


def test_marks_are_kept_listed_and_saved(run: Run, days: Path, tmp_path: Path) -> None:
    uri = "stream://desk/tue"
    assert run("--store", days, "mark", "verse 2", "--uri", uri, "--at", "500ms").exit_code == 0
    assert run("--store", days, "mark", "the end", "--uri", uri).exit_code == 0
    assert run("--store", days, "mark", "nowhere", "--uri", uri, "--at", "here").exit_code == 2
    for label in ("", "  ", "x" * 201, "verse\0two"):
        refused = run("--store", days, "mark", label, "--uri", uri)
        assert (refused.exit_code, "a mark's label has" in refused.stderr) == (2, True)
    shown = run("--store", days, "list", uri).stdout
    assert f"0:00:00.500  verse 2  ({uri}, frame 24000)" in shown
    assert "0:00:01.000  the end" in shown
    assert json.loads(run("--store", days, "verify", uri, "--json").stdout)["ok"]
    out = tmp_path / "o.wav"
    done = run("--store", days, "save", uri, out, "--from", "250ms", "--labels")
    assert done.exit_code == 0, done.output
    assert (tmp_path / "o.txt").read_text() == "0.250000000\t0.250000000\tverse 2\n"
    told = subprocess.run(
        ["ffprobe", "-v", "error", "-of", "json", "-show_chapters", out], capture_output=True, check=True
    )
    (chapter,) = json.loads(told.stdout)["chapters"]
    assert (chapter["tags"]["title"], float(chapter["start_time"])) == ("verse 2", 0.25)
    with chaos.open(uri, days) as recording:
        assert [(mark.frame, mark.label) for mark in recording.marks] == [(24000, "verse 2"), (48000, "the end")]
    before = (tmp_path / "o.txt").read_text()
    assert run("--store", days, "save", uri, tmp_path / "o.flac", "--labels").exit_code == 2
    assert (tmp_path / "o.txt").read_text() == before
    assert not (tmp_path / "o.flac").exists()


def test_local_times_choose_a_part(run: Run, days: Path, tmp_path: Path) -> None:
    begin, end = "12:00:00.25", "2026-11-24T12:00:00.75"
    done = run("--store", days, "save", "stream://desk/tue", tmp_path / "o.wav", "--from", begin, "--to", end)
    assert done.exit_code == 0, done.output
    assert soundfile.info(tmp_path / "o.wav").frames == 24000
    assert re.search(r"12:00:00\.25 is 2026-11-24 12:00:00 \S+", done.stderr)


def texts(value: Any) -> set[str]:
    """All strings in a JSON value."""
    if isinstance(value, dict):
        value = list(value.values())
    return set().union(*map(texts, value)) if isinstance(value, list) else {value} if isinstance(value, str) else set()


EVIL = "Mic\x1b]0;owned\x07\x1b[2J\n\x9b31m\u202eevil"


@pytest.mark.parametrize("as_json", [True, False])
@pytest.mark.parametrize(
    "command", [["devices"], ["status"], ["status", URI], ["start", URI], ["list"], ["list", "--running"]]
)
def test_what_others_chose_cannot_act_on_the_terminal(
    daemon: ScriptedDaemon, run: Run, tmp_path: Path, command: list[str], as_json: bool
) -> None:
    device = {**MIC, "description": EVIL, "name": EVIL}
    stream = {**STREAM, "device": device}
    daemon.script |= {
        "device_list": {"devices": [device]},
        "stream_status": stream,
        "stream_list": {"streams": [stream]},
        "stream_start": {**STREAM, "device": device},
        "device_find": {"device": device},
        "status": {**STATUS, "streams": [stream], "store": {"path": str(tmp_path / "store"), "free_bytes": 1}},
    }
    record(tmp_path / "store", "stream://evil/1", EVIL, dt.datetime.now().astimezone())
    done = run(*command, *["--json"] * as_json)
    assert done.exit_code == 0, done.output
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e]", done.output)
    assert "\\u001b]0;owned" in done.output if as_json else "\\x1b]0;owned" in done.output
    if as_json:
        assert EVIL in texts(json.loads(done.stdout))


def test_errors_show_what_others_chose(daemon: ScriptedDaemon, run: Run) -> None:
    daemon.script["status"] = DeviceNotFound(f"no {EVIL}", hint=EVIL)
    assert run("status").stderr.count("\n") == 2
    assert "\x1b" not in run("status").stderr


def test_the_overview_notes_silence_and_clipping(daemon: ScriptedDaemon, run: Run) -> None:
    signal = {"silent_since_frame": 0, "n_clipped": 3, "first_clipped_frame": RATE, "n_not_finite": 0,
              "first_not_finite_frame": None}  # fmt: skip
    daemon.script["status"] = {**STATUS, "streams": [{**STREAM, "signal": signal}]}
    said = run("status").stdout
    assert "SIGNAL" in said
    assert "silent, clipped" in said
    daemon.script["stream_stop"] = {**STOPPED, "signal": signal, "sample_rate": RATE}
    said = run("stop").stdout
    assert "silent since 0:00:00.000" in said
    assert "the first at 0:00:01.000" in said


def test_stop_of_what_was_never_kept_says_so(daemon: ScriptedDaemon, run: Run) -> None:
    daemon.script["stream_stop"] = {**STOPPED, "recording": "", "n_frames": 0, "n_chunks": 0}
    assert run("stop").stdout == "stopped; nothing was kept\n"


def test_start_prints_no_empty_line_for_a_recording_that_is_not_there(daemon: ScriptedDaemon, run: Run) -> None:
    answer = daemon.script["stream_start"]
    daemon.script["stream_start"] = lambda request: {**answer(request), "recording": "", "state": "stalled"}
    assert all(line.strip() for line in run("start", URI).stdout.splitlines())


def test_two_streams_are_offered_with_what_was_typed(daemon: ScriptedDaemon, run: Run) -> None:
    other = "stream://room/take"
    daemon.script["stream_list"] = {"streams": [STREAM, {**STREAM, "uri": other}]}
    assert run("stop", "--strict").stderr.splitlines() == [
        "chaosctl: 2 streams are running; pick one:",
        f"  chaosctl stop {URI} --strict",
        f"  chaosctl stop {other} --strict",
    ]
    assert f"  chaosctl mark 'verse 2' --uri {other}" in run("mark", "verse 2").stderr.splitlines()


def test_a_device_of_any_rate_says_so(daemon: ScriptedDaemon, run: Run) -> None:
    anything = {"type": "audio", "sample_rate": None, "channels": 2}
    daemon.script["device_list"] = {"devices": [{**MIC, "format": anything, "rate_range": [1, 2147483647]}]}
    assert "2 ch any rate" in run("devices").stdout


def test_verify_and_sign_call_one_hash_by_one_name(run: Run, store: Path) -> None:
    report = json.loads(run("--store", store, "verify", URI, "--json").stdout)
    said = run("--store", store, "verify", URI).stdout
    assert f"recording hash {report['recording_hash_v3']}" in said
    assert f"without marks  {report['recording_hash']}" in said


def test_a_pin_of_nothing_says_so(run: Run, tmp_path: Path) -> None:
    RecordingWriter.create(Store(tmp_path / "store"), DEFINITION).close()
    said = run("--store", tmp_path / "store", "pin", "mine", URI).stdout
    assert "mine: 0 frames" in said
    assert "nothing is protected yet" in said
