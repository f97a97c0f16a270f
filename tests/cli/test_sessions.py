"""`chaosctl session`: what it asks of the daemon and says of its answers, and what it makes of a store."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from click.testing import CliRunner, Result
from recorded import START_NS, Rotator, definition
from scripted import ScriptedDaemon

from chaos.cli.main import main
from chaos.protocol.requests import SessionStart, SessionStop
from chaos.store.removal import remove
from chaos.store.store import Store
from chaos.store.writer import RecordingWriter
from chaos.terms.errors import DeviceNotFound, SessionNotFound
from chaos.terms.ledger import ClockAnchor

MIC = {"identity": "usb-1", "name": "mic", "description": "Scarlett 2i2", "direction": "input"}
KEYS = {**MIC, "identity": "usb-2/midi0", "description": "Keystation 49 MIDI 1", "format": {"type": "midi"}}
THROUGH = {**KEYS, "identity": "name:Midi Through", "description": "Midi Through Port-0"}
MEMBER = {
    "uri": "stream://scarlett-2i2/jam", "state": "streaming", "recording": "/r", "device": "Scarlett 2i2",
    "n_frames": 480_000, "lost_frames": 0, "sample_rate": 48_000, "clock_id": 3, "offset_frames": 0,
    "related_by": "graph_clock",
}  # fmt: skip
OTHER = {**MEMBER, "uri": "stream://keys/jam", "offset_frames": -24, "related_by": "monotonic_clock"}
UNSEEN = {**MEMBER, "uri": "stream://away/jam", "state": "waiting", "offset_frames": None, "related_by": None}

Run = Callable[..., Result]


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[ScriptedDaemon]:
    script = {
        "device_find": lambda request: {"device": KEYS if request.format == "midi" else MIC},
        "device_list": {"devices": [THROUGH, KEYS]},
        "session_start": lambda request: {
            "session": request.session,
            "streams": [
                {"uri": each.uri, "recording": "", "device": MIC, "format": {"type": "audio"}, "chunk_frames": 1,
                 "state": "streaming"}
                for each in request.streams
            ],
        },
        "session_stop": lambda request: {
            "session": request.session,
            "streams": [
                {"uri": "stream://scarlett-2i2/jam", "recording": "/r", "n_frames": 9, "n_chunks": 1, "n_gaps": 1,
                 "lost_frames": 2, "clean": True}
            ],
        },
        "session_status": {"session": "jam", "running": True, "streams": [MEMBER, OTHER, UNSEEN]},
        "session_list": {
            "sessions": [{"session": "jam", "running": True, "uris": [MEMBER["uri"]],
                          "started_utc": "2026-01-31T12:00:00.000000000Z"}]
        },
    }  # fmt: skip
    with ScriptedDaemon(tmp_path, script) as daemon:
        yield daemon


@pytest.fixture
def run(tmp_path: Path) -> Run:
    def run(*arguments: object) -> Result:
        ends = ["--endpoint", f"ipc://{tmp_path}/command", "--events", f"ipc://{tmp_path}/events"]
        return CliRunner().invoke(main, [*ends, "session", *map(str, arguments)])

    return run


def test_status_of_a_session_says_what_waits_for_recovery(daemon: ScriptedDaemon, run: Run) -> None:
    left = {**MEMBER, "state": "interrupted"}
    daemon.script["session_status"] = {"session": "jam", "running": False, "streams": [left, OTHER]}
    told = run("status", "jam")
    assert told.exit_code == 0
    assert f"{MEMBER['uri']} is not all stored; what is left of it waits in memory: chaosctl recover" in told.stdout
    assert told.stdout.count("not all stored") == 1


def test_a_session_that_runs_and_has_recorded_nothing_is_not_said_to_be_missing(
    tmp_path: Path, daemon: ScriptedDaemon, run: Run
) -> None:
    Store(tmp_path / "store").share()
    daemon.script["status"] = {"store": {"path": str(tmp_path / "store"), "free_bytes": 1, "error": None}}
    daemon.script["stream_list"] = {"streams": []}
    held = {**MEMBER, "recording": "", "standby_s": 60.0}
    away = {**UNSEEN, "recording": "", "reason": "Keystation is away"}
    for streams, hint in (([held, away], "chaosctl session keep jam"), ([away], "waiting: Keystation is away")):
        status = {"session": "jam", "running": True, "streams": streams}
        daemon.script["session_status"] = lambda request, status=status: (
            status if request.session == "jam" else SessionNotFound("there is no session other")
        )
        for command in ("verify", "save"):
            told = run(command, "jam")
            assert told.exit_code == 6
            assert "nothing is recorded yet of session jam" in told.stderr
            assert hint in told.stderr
        assert "there is no session other" in run("verify", "other").stderr


def test_of_a_session_that_ended_without_a_recording_just_that_is_said(
    tmp_path: Path, daemon: ScriptedDaemon, run: Run
) -> None:
    Store(tmp_path / "store").share()
    daemon.script["status"] = {"store": {"path": str(tmp_path / "store"), "free_bytes": 1, "error": None}}
    daemon.script["stream_list"] = {"streams": []}
    ended = {**UNSEEN, "recording": "", "state": "missing"}
    daemon.script["session_status"] = {"session": "jam", "running": False, "streams": [ended]}
    told = run("status", "jam")
    assert (told.exit_code, told.stdout) == (0, f"jam: ended\nnothing was recorded\n  {UNSEEN['uri']}\n")
    for command in ("verify", "save"):
        told = run(command, "jam")
        assert (told.exit_code, "session jam has ended, and nothing was recorded" in told.stderr) == (6, True)


def test_a_stop_counts_all_takes_of_what_has_rolled(daemon: ScriptedDaemon, run: Run) -> None:
    total = {"n_takes": 3, "n_frames": 96_000, "n_gaps": 4, "lost_frames": 7}
    stream = {"uri": "stream://a/jam", "recording": "/r", "n_frames": 9, "n_chunks": 1, "n_gaps": 0,
              "lost_frames": 0, "clean": True, "sample_rate": 48_000, "total": total}  # fmt: skip
    daemon.script["session_stop"] = {"session": "jam", "streams": [stream]}
    done = run("stop", "jam", "--strict")
    assert "  stream://a/jam: 96000 frames in 3 takes, 4 gaps, 7 frames lost (0.146 ms)\n" in done.stdout
    assert done.exit_code == 5


def asked(daemon: ScriptedDaemon, kind: type[Any]) -> Any:
    [request] = [request for request in daemon.requests if isinstance(request, kind)]
    return request


def test_devices_become_streams_of_their_own_with_the_sessions_name(daemon: ScriptedDaemon, run: Run) -> None:
    done = run("start", "jam", "--audio", "Scarlett", "--midi", "Keystation", "--keep", "7d")
    assert done.exit_code == 0, done.output
    request = asked(daemon, SessionStart)
    assert [(each.uri, each.device_identity, each.keep) for each in request.streams] == [
        ("stream://scarlett-2i2/jam", "usb-1", "7d"),
        ("stream://keystation-49-midi-1/jam", "usb-2/midi0", "7d"),
    ]
    assert [type(each.format).__name__ for each in request.streams] == ["AudioFormat", "MidiFormat"]
    assert "chaosctl session stop jam" in done.stdout


def test_two_of_a_kind_have_two_uris(daemon: ScriptedDaemon, run: Run) -> None:
    assert run("start", "jam", "--audio", "node:3", "--audio", "node:4").exit_code == 0
    streams = asked(daemon, SessionStart).streams
    assert [(each.uri, each.device_identity) for each in streams] == [
        ("stream://scarlett-2i2/jam", "node:3"),
        ("stream://scarlett-2i2-2/jam", "node:4"),
    ]


def test_all_midi_is_every_instrument_once(daemon: ScriptedDaemon, run: Run) -> None:
    assert run("start", "jam", "--midi", "Keystation", "--all-midi").exit_code == 0
    assert [each.device_identity for each in asked(daemon, SessionStart).streams] == ["usb-2/midi0"]


def test_a_device_is_named_once(daemon: ScriptedDaemon, run: Run) -> None:
    daemon.script["device_find"] = {"device": {**MIC, "object_serial": 41}}
    done = run("start", "jam", "--audio", "Scarlett", "--audio", "usb-1")
    assert (done.exit_code, "'Scarlett' and 'usb-1' are the same device" in done.stderr) == (2, True), done.output
    done = run("start", "jam", "--audio", "Scarlett", "--audio", "Scarlett")
    assert (done.exit_code, "'Scarlett' is named twice" in done.stderr) == (2, True), done.output
    assert run("start", "jam", "--audio", "Scarlett", "--midi", "Scarlett").exit_code == 0, "that is two"


@pytest.mark.parametrize("option", ["--audio", "--midi"])
def test_a_device_has_a_name(run: Run, daemon: ScriptedDaemon, option: str) -> None:
    done = run("start", "jam", option, "")
    assert (done.exit_code, done.stderr) == (
        2, "chaosctl: the name of the device is empty\n  see what there is with: chaosctl devices\n"
    )  # fmt: skip
    assert daemon.requests == []


def test_a_device_that_is_away_is_waited_for_if_asked(daemon: ScriptedDaemon, run: Run) -> None:
    daemon.script["device_find"] = DeviceNotFound("there is no device 'x'")
    assert run("start", "jam", "--audio", "Scarlett").exit_code == 3
    assert run("start", "jam", "--audio", "Scarlett", "--wait").exit_code == 0
    request = asked(daemon, SessionStart)
    assert (request.wait, request.streams[0].device_identity) == (True, "Scarlett")


def test_a_start_says_who_waits_and_when_the_others_begin(daemon: ScriptedDaemon, run: Run) -> None:
    begun = {"recording": "", "format": {"type": "audio"}, "chunk_frames": 1}
    daemon.script["session_start"] = {
        "session": "jam",
        "streams": [{"uri": MEMBER["uri"], "device": MIC, "state": "connecting", **begun},
                    {"uri": UNSEEN["uri"], "device": None, "state": "waiting", **begun}],
        "waiting": [UNSEEN["uri"]], "begins_within_s": 3.0,
    }  # fmt: skip
    assert run("start", "jam", "--audio", "Scarlett", "--audio", "away", "--wait").stdout.splitlines()[1:] == [
        "  connecting: stream://scarlett-2i2/jam, Scarlett 2i2",
        "  waiting: stream://away/jam",
        "    its device is not there yet: it begins when that comes",
        "  the others begin together within 3 s, with it or without it",
        "  stop it with: chaosctl session stop jam",
    ]


def test_a_session_in_standby_shows_what_it_holds(daemon: ScriptedDaemon, run: Run) -> None:
    held = {**MEMBER, "recording": "", "n_frames": 0, "standby_s": 60.0, "offset_frames": None, "related_by": None}
    away = {**held, "uri": UNSEEN["uri"], "state": "waiting", "reason": "the device away is not there"}
    daemon.script["session_status"] = {
        "session": "jam", "running": True, "streams": [held, away], "began_utc": "2026-01-31T12:00:00.000000000Z"
    }  # fmt: skip
    first, _, one, other, *rest = run("status", "jam").stdout.splitlines()
    assert first.startswith("jam: running, since 2026-01-31 ")
    assert one.split()[1:5] == ["standby", "last", "60", "s"]
    assert "Scarlett 2i2" in one
    assert other.split()[1] == "waiting"
    assert "stream://away/jam is waiting: the device away is not there" in rest


def test_a_name_that_cannot_be_one_is_a_usage_error(daemon: ScriptedDaemon, run: Run) -> None:
    done = run("start", "../x", "--audio", "Scarlett")
    assert done.exit_code == 2
    assert "can't be the name of a session" in done.stderr


def test_stop_and_status_go_to_the_one_that_runs(daemon: ScriptedDaemon, run: Run) -> None:
    done = run("stop", "--strict")
    assert done.exit_code == 5
    assert asked(daemon, SessionStop).session == "jam"
    assert "2 frames lost" in done.stdout
    lines = run("status").stdout.splitlines()
    assert lines[0] == "jam: running"
    assert [line.split()[0] for line in lines[2:]] == [MEMBER["uri"], OTHER["uri"], UNSEEN["uri"]]
    assert "together" in lines[2]
    assert "+24 frames" in lines[3]
    assert "another driver's" in lines[3]
    assert json.loads(run("status", "--json").stdout)["session"] == "jam"
    assert "running" in run("list").stdout


def record(
    store: Path, uri: str, uris: list[str], position: int, n_frames: int, clock_id: int = 7, **more: Any
) -> np.ndarray[Any, Any]:
    """A recording of a session whose frame 0 is at that position of the graph's clock."""
    shape = definition(uri, channels=1, session="jam", session_uris=uris, **more)
    writer = RecordingWriter.create(Store(store), shape)
    rotator = Rotator(writer, seed=position)
    ns = position * 1_000_000_000 // 48_000
    writer.anchor(ClockAnchor(0, position, ns, START_NS + ns, clock_id))
    rotator.write(n_frames)
    rotator.stop()
    return rotator.model


@pytest.fixture
def store(tmp_path: Path) -> tuple[Path, list[np.ndarray[Any, Any]]]:
    uris = ["stream://one/jam", "stream://two/jam", "stream://never/jam"]
    store = tmp_path / "store"
    return store, [record(store, uris[0], uris, 1000, 200), record(store, uris[1], uris, 1010, 200)]


def offline(store: Path, *arguments: object) -> Result:
    ends = ["--endpoint", "ipc:///nowhere", "--store", str(store)]
    return CliRunner().invoke(main, [*ends, "session", *map(str, arguments)])


def test_a_session_is_saved_as_a_folder_aligned_to_the_frame(
    tmp_path: Path, store: tuple[Path, list[np.ndarray[Any, Any]]]
) -> None:
    root, (one, two) = store
    out = tmp_path / "out"
    done = offline(root, "save", "jam", out)
    assert done.exit_code == 0, done.output
    assert "nothing was recorded of stream://never/jam" in done.stderr
    assert sorted(path.name for path in out.iterdir()) == ["one-jam.wav", "session.json", "two-jam.wav"]
    saved = [soundfile.read(out / f"{name}-jam.wav", dtype="float32")[0] for name in ("one", "two")]
    assert np.array_equal(saved[0], np.append(one[0], np.zeros(10)))
    assert np.array_equal(saved[1], np.append(np.zeros(10), two[0]))
    assert "began 0:00:00.000 (10 frames) after the session: silence there" in done.stdout
    assert "ended 0:00:00.000 (10 frames) before the session: silence there" in done.stdout
    told = json.loads((out / "session.json").read_text())
    assert (told["session"], told["n_frames"], told["not_recorded"]) == ("jam", 210, ["stream://never/jam"])
    assert [(each["frames_before"], each["frames_after"]) for each in told["streams"]] == [(0, 10), (10, 0)]
    assert [(each["file"], each["offset_frames"], each["related_by"]) for each in told["streams"]] == [
        ("one-jam.wav", 0, "graph_clock"),
        ("two-jam.wav", -10, "graph_clock"),
    ]
    assert offline(root, "save", "jam", out).exit_code == 2, "nothing is replaced unasked"
    assert offline(root, "save", "jam", out, "--force").exit_code == 0


def test_takes_that_rolled_are_one_file_at_its_place(
    tmp_path: Path, store: tuple[Path, list[np.ndarray[Any, Any]]]
) -> None:
    root, (one, two) = store
    uris = ["stream://one/jam", "stream://two/jam", "stream://never/jam"]
    second = record(root, "stream://two/jam.0002", uris, 1210, 300, continues="stream://two/jam")
    out = tmp_path / "out"
    assert offline(root, "save", "jam", out).exit_code == 0
    saved = [soundfile.read(out / f"{name}-jam.wav", dtype="float32")[0] for name in ("one", "two")]
    assert np.array_equal(saved[0], np.append(one[0], np.zeros(310)))
    assert np.array_equal(saved[1], np.concatenate([np.zeros(10), two[0], second[0]]))
    told = json.loads((out / "session.json").read_text())["streams"][1]
    assert (told["n_frames"], told["takes"]) == (500, ["stream://two/jam", "stream://two/jam.0002"])
    done = offline(root, "verify", "jam", "--json")
    assert (done.exit_code, [each["n_frames"] for each in json.loads(done.stdout)["recordings"]]) == (0, [200, 500])


def test_a_stream_whose_first_take_was_removed_is_still_of_the_session(
    tmp_path: Path, store: tuple[Path, list[np.ndarray[Any, Any]]]
) -> None:
    root, _ = store
    uris = ["stream://one/jam", "stream://two/jam", "stream://never/jam"]
    second = record(root, "stream://two/jam.0002", uris, 1210, 300, continues="stream://two/jam")
    remove(Store(root), "stream://two/jam")
    out = tmp_path / "out"
    done = offline(root, "save", "jam", out)
    assert done.exit_code == 0, done.output
    [saved] = [soundfile.read(path, dtype="float32")[0] for path in out.glob("two-jam*.wav")]
    assert np.array_equal(saved, np.append(np.zeros(210), second[0]))
    assert "2 recordings" in offline(root, "verify", "jam").stdout


def test_a_part_of_a_session_counts_from_its_first_frame(
    tmp_path: Path, store: tuple[Path, list[np.ndarray[Any, Any]]]
) -> None:
    root, (one, two) = store
    out = tmp_path / "out"
    assert offline(root, "save", "jam", out, "--from", "5", "--to", "205").exit_code == 0
    saved = [soundfile.read(out / f"{name}-jam.wav", dtype="float32")[0] for name in ("one", "two")]
    assert np.array_equal(saved[0], np.append(one[0, 5:], np.zeros(5)))
    assert np.array_equal(saved[1], np.append(np.zeros(5), two[0, :195]))
    done = offline(root, "save", "jam", tmp_path / "early", "--to", "10")
    assert "stream://two/jam has nothing in that range" in done.stderr
    assert [path.name for path in (tmp_path / "early").glob("*.wav")] == ["one-jam.wav"]
    told = json.loads((tmp_path / "early" / "session.json").read_text())
    assert [each["file"] for each in told["streams"]] == ["one-jam.wav", None]
    assert offline(root, "save", "jam", tmp_path / "cut", "--gaps", "cut").exit_code == 2


def test_streams_that_were_never_there_at_once_are_saved_all_the_same(tmp_path: Path) -> None:
    """The second began after the first had ended, and another driver runs it."""
    root, uris = tmp_path / "store", ["stream://one/jam", "stream://two/jam"]
    one, two = record(root, uris[0], uris, 1000, 200), record(root, uris[1], uris, 49_000, 100, clock_id=9)
    out = tmp_path / "out"
    done = offline(root, "save", "jam", out, "--gaps", "nan")
    assert done.exit_code == 0, done.output
    saved = [soundfile.read(out / f"{name}-jam.wav", dtype="float32")[0] for name in ("one", "two")]
    assert len(saved[0]) == len(saved[1])
    assert np.array_equal(saved[0][:200], one[0])
    assert np.isnan(saved[0][200:]).all()
    assert np.array_equal(saved[1][-100:], two[0]) or np.array_equal(saved[1][-101:-1], two[0])
    assert abs(len(saved[0]) - 48_100) <= 1
    told = json.loads((out / "session.json").read_text())
    assert (told["aligned_by"], told["streams"][1]["related_by"]) == ("monotonic_clock", "monotonic_clock")


def test_a_session_is_verified_as_one(store: tuple[Path, list[np.ndarray[Any, Any]]]) -> None:
    root, _ = store
    done = offline(root, "verify", "jam")
    assert done.exit_code == 0, done.output
    assert "session jam: ok, 2 recordings" in done.stdout
    assert "stream://two/jam: ok: 200 frames" in done.stdout
    chunk = next((root / "recordings" / "two").glob("*.zarr/audio/c/0/0"))
    data = bytearray(chunk.read_bytes())
    data[0] ^= 1
    chunk.unlink()
    chunk.write_bytes(data)
    done = offline(root, "verify", "jam", "--json")
    assert done.exit_code == 8
    assert [each["ok"] for each in json.loads(done.stdout)["recordings"]] == [True, False]
    assert offline(root, "verify", "other").exit_code == 2


def test_a_session_of_which_one_has_not_ended_is_not_called_ok(
    store: tuple[Path, list[np.ndarray[Any, Any]]],
) -> None:
    root, _ = store
    uris = ["stream://one/jam", "stream://two/jam", "stream://never/jam"]
    shape = definition(uris[2], channels=1, session="jam", session_uris=uris)
    running = RecordingWriter.create(Store(root), shape)
    done = offline(root, "verify", "jam", "--strict")
    assert (done.exit_code, "session jam: not all of it checked, 3 recordings" in done.stdout) == (8, True), done.output
    assert offline(root, "verify", "jam").exit_code == 0
    running.close()


def test_what_a_session_holds_is_told_once_and_only_of_what_holds(daemon: ScriptedDaemon, run: Run) -> None:
    held = {**MEMBER, "recording": "", "standby_s": 60.0, "state": "streaming"}
    stalled = {**UNSEEN, "standby_s": 60.0, "state": "stalled", "reason": "the device has delivered nothing"}
    daemon.script["session_status"] = {"session": "jam", "running": True, "streams": [held, stalled]}
    said = run("status", "jam").stdout
    hint = "what is held in memory is not recorded; record it with: chaosctl session keep jam"
    assert (said.count(hint), said.count("stalled: the device has delivered nothing")) == (1, 1)
    daemon.script["session_status"] = {"session": "jam", "running": True, "streams": [stalled]}
    assert hint not in run("status", "jam").stdout


def test_a_session_by_the_clock_is_asked_for_and_told(daemon: ScriptedDaemon, run: Run) -> None:
    done = run("start", "jam", "--audio", "Scarlett", "--at", "18:00", "--for", "2h")
    assert done.exit_code == 0, done.output
    request = asked(daemon, SessionStart)
    assert request.start_at is not None
    assert (f"{request.start_at.astimezone():%H:%M}", request.stop_after_s) == ("18:00", 7200.0)
    assert re.search(r"^  records from \w{3} 18:00 \(in .*\), for 2h from its first frame on$", done.stdout, re.M)
    refused = run("start", "jam", "--audio", "Scarlett", "--for", "2h", "--until", "20:00")
    assert (refused.exit_code, "Use either --for or --until." in refused.stderr) == (2, True)
