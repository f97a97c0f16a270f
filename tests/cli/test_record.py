"""What `chaosctl record` makes of its words, and what its line on the terminal shows."""

from __future__ import annotations

import datetime as dt
import json
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner
from crashing import CrashingStream, fast_folder

from chaos.cli.main import main
from chaos.cli.meter import Meter, bar, told_line
from chaos.cli.record import chosen_device, device_and_file
from chaos.cli.recorded import file_line, finish
from chaos.cli.recorder import Ending, Pipe, Take
from chaos.cli.show import signal_lines
from chaos.cli.when import Times, chosen_times, until_when, words
from chaos.client import Asking, DaemonUnreachable
from chaos.local import Local
from chaos.protocol.config import Config
from chaos.terms.errors import ChaosError, DeviceNotFound, InvalidRequest, StorageFull, StreamExists, TimedOut

URI = "stream://desk/1"
STOPPED: dict[str, Any] = {
    "uri": URI,
    "recording": "/r/1.zarr",
    "n_frames": 48_000,
    "n_chunks": 1,
    "n_gaps": 0,
    "lost_frames": 0,
    "clean": True,
}
NOW = dt.datetime(2026, 11, 26, 17, 0, tzinfo=dt.UTC).astimezone()
LOUD: dict[str, Any] = {
    "state": "streaming",
    "head_frame": 72_000,
    "lost_frames": 0,
    "format": {"type": "audio", "sample_rate": 48_000, "channels": 2, "sample_format": "f32"},
    "levels": [{"peak_dbfs": -6.0, "rms_dbfs": -12.0}, {"peak_dbfs": None, "rms_dbfs": None}],
}


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], (None, None)),
        (["USB Mic"], ("USB Mic", None)),
        (["take.flac"], (None, Path("take.flac"))),
        (["-"], (None, Path("-"))),
        (["alsa_input.usb"], ("alsa_input.usb", None)),
        (["USB Mic", "take"], ("USB Mic", Path("take"))),
    ],
)
def test_a_single_word_is_what_it_looks_like(arguments: list[str], expected: tuple[object, object]) -> None:
    assert device_and_file(arguments) == expected


def test_three_words_are_a_name_without_quotes() -> None:
    with pytest.raises(click.UsageError, match="quotes"):
        device_and_file(["USB", "Mic", "take.wav"])


def test_until_means_the_next_time_that_it_is() -> None:
    at = dt.time(NOW.hour, 30)
    assert until_when(f"{at:%H:%M}", NOW) == dt.datetime.combine(NOW.date(), at).astimezone()
    tomorrow = NOW.date() + dt.timedelta(days=1)
    assert until_when(f"{NOW:%H:%M}", NOW) == dt.datetime.combine(tomorrow, NOW.time()).astimezone()
    assert until_when("2027-01-31T18:00Z", NOW) == dt.datetime(2027, 1, 31, 18, tzinfo=dt.UTC)
    for text in ("soon", "25:00", "2026-11-26T16:00Z", "18", ""):
        with pytest.raises(InvalidRequest):
            until_when(text if text != "18" else "1 8", NOW)


def test_an_end_behind_the_last_day_is_told_as_that() -> None:
    last = dt.datetime(9999, 12, 31, 23, 59, tzinfo=dt.UTC)
    with pytest.raises(InvalidRequest, match="there is no 18:00 after 9999-12-31T23:59"):
        until_when("18:00", last)


def test_at_comes_first_and_until_counts_from_it() -> None:
    begin = NOW + dt.timedelta(hours=2)
    found = chosen_times(f"{begin:%H:%M}", None, f"{NOW + dt.timedelta(hours=1):%H:%M}", NOW)
    assert found.begin == begin
    assert found.end == NOW + dt.timedelta(days=1, hours=1), "the next one after the begin"
    assert chosen_times(None, "90m", None, NOW) == Times(None, None, 5400)
    with pytest.raises(click.UsageError):
        chosen_times(None, "10s", "18:00", NOW)


def test_what_could_not_be_saved_is_refused_before_the_recording(tmp_path: Path) -> None:
    (tmp_path / "there.wav").touch()
    for arguments, code in [
        (["mic", f"{tmp_path}/there.wav"], 2),
        (["mic", f"{tmp_path}/nowhere/take.wav"], 2),
        (["mic", f"{tmp_path}/take.doc"], 2),
        (["mic", f"{tmp_path}/take.mid"], 4),
        (["mic", f"{tmp_path}/take.wav", "--midi"], 4),
        (["mic", "--for", "10s", "--until", "18:00"], 2),
        (["mic", "--for", "10"], 2),
    ]:
        done = CliRunner().invoke(main, ["--endpoint", f"ipc://{tmp_path}/none", "record", *arguments])
        assert done.exit_code == code, (arguments, done.output)


@pytest.mark.parametrize("force", [[], ["--force"]])
def test_a_folder_is_refused_before_the_recording_and_never_to_be_replaced(force: list[str], tmp_path: Path) -> None:
    (tmp_path / "takes").mkdir()
    words = ["--endpoint", f"ipc://{tmp_path}/none", "record", "mic", f"{tmp_path}/takes", "--for", "1s", *force]
    done = CliRunner().invoke(main, words)
    assert (done.exit_code, f"{tmp_path}/takes is a folder" in done.output) == (2, True), done.output
    assert "--force" not in done.output


@pytest.mark.parametrize(("midi", "endings"), [([], ".wav, "), (["--midi"], ".mid, .midi2\n")])
def test_an_unknown_ending_is_told_with_those_that_work(midi: list[str], endings: str, tmp_path: Path) -> None:
    words = ["--endpoint", f"ipc://{tmp_path}/none", "record", "mic", f"{tmp_path}/x.xyz", *midi]
    done = CliRunner().invoke(main, words)
    assert (done.exit_code, f"use one of the endings {endings}" in done.output) == (2, True), done.output
    assert "--container" not in done.output
    assert (".mid" in done.output) == bool(midi)


def test_bars() -> None:
    assert bar(None, -60.0, 6) == "[------]"
    assert bar(-30.0, -30.0, 6) == "[###---]"
    assert bar(-30.0, -10.0, 6) == "[###-|-]"
    assert bar(3.0, 3.0, 6) == "[######]"
    assert bar(-200.0, -60.0, 6) == "[------]"


@pytest.mark.parametrize("columns", [40, 80])
def test_the_line_leaves_room_for_what_the_terminal_echoes(
    columns: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`^C` that begins on one line and ends on the next leaves the first one behind."""
    shown: list[str] = []
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setattr("chaos.cli.meter.show", shown.append)
    meter = Meter()
    long = {**LOUD, "state": "stalled", "reason": "nothing comes " * 20}
    meter.show(long, 48_000)
    [line] = [each.removeprefix("\r\x1b[K") for each in shown]
    assert len(line) + len("^C") < columns


@pytest.mark.parametrize("width", [20, 40, 79, 200])
def test_the_line_fits_the_terminal(width: int) -> None:
    meter = Meter()
    line = meter.line(LOUD, 48_000, width, 0.0)
    assert len(line) <= width
    assert line.startswith("0:00:01.500")
    many = {**LOUD, "levels": LOUD["levels"] * 32}
    assert len(meter.line(many, 48_000, width, 0.0)) <= width


def test_a_peak_is_held_and_clipping_stays_lit() -> None:
    meter = Meter()
    over = {**LOUD, "levels": [{"peak_dbfs": 0.0, "rms_dbfs": -3.0}]}
    quiet = {**LOUD, "levels": [{"peak_dbfs": -50.0, "rms_dbfs": -60.0}]}
    assert "CLIP" in meter.line(over, 48_000, 79, 0.0)
    assert "|" in meter.line(quiet, 48_000, 79, 1.0)
    later = meter.line(quiet, 48_000, 79, 5.0)
    assert "|" not in later
    assert "CLIP" in later
    assert "96 lost" in meter.line({**quiet, "lost_frames": 96}, 48_000, 79, 5.0)
    assert "stalled: nothing comes" in meter.line({**quiet, "state": "stalled", "reason": "nothing comes"}, 1, 79, 6.0)


def test_what_is_wrong_with_the_samples_in_words() -> None:
    fine: dict[str, Any] = {
        "silent_since_frame": None,
        "n_clipped": 0,
        "first_clipped_frame": None,
        "n_not_finite": 0,
        "first_not_finite_frame": None,
    }
    assert signal_lines(None, 48_000) == signal_lines(fine, 48_000) == []
    bad = {**fine, "silent_since_frame": 0, "n_clipped": 112, "first_clipped_frame": 48_000, "n_not_finite": 1}
    assert signal_lines({**bad, "first_not_finite_frame": 24_000}, 48_000) == [
        "silent since 0:00:00.000",
        "112 samples clipped, the first at 0:00:01.000",
        "1 sample NaN or infinite, the first at 0:00:00.500",
    ]


def test_events_in_words() -> None:
    gap = {"type": "stream_gap", "first_frame": 48_000, "n_frames": 256, "cause": "device_away", "confidence": "clock"}
    assert told_line(gap, 48_000) == "gap at 0:00:01.000: 256 frames (device away, clock)"
    assert told_line({**gap, "n_frames": None}, 48_000) == "gap since 0:00:01.000 (device away), still open"
    nothing = {**gap, "first_frame": 0, "n_frames": None, "cause": "no_data"}
    assert told_line(nothing, 0) == "gap since 0:00:00.000 (no data), still open"
    silent = {"type": "stream_silent", "silent": True, "since_frame": 96_000}
    assert told_line(silent, 48_000) == "silent since 0:00:02.000"
    assert told_line({**silent, "silent": False}, 48_000) == "not silent any more, at 0:00:02.000"
    clipping = {"type": "stream_clipping", "clipping": True, "first_frame": 48_000, "n_samples": 3}
    assert told_line(clipping, 48_000) == "samples are clipped since 0:00:01.000"
    over = {**clipping, "clipping": False, "n_samples": 112}
    assert told_line(over, 48_000) == "no more samples are clipped: 112 were, from 0:00:01.000 on"
    assert told_line({"type": "stream_error", "error": {"message": "no room"}}, 48_000) == "error: no room"


def test_without_a_device_a_person_is_asked_which(monkeypatch: pytest.MonkeyPatch) -> None:
    """The default one is offered; Enter takes it."""
    form = {"type": "audio", "sample_rate": 48_000, "channels": 2, "positions": ["FL", "FR"]}
    devices = [
        {"description": name, "identity": name, "format": form, "is_default": name == "Desk", "is_monitor": False}
        for name in ("Room", "Desk")
    ]

    class Scripted(Asking):
        def call(self, op: str, /, **fields: Any) -> dict[str, Any]:
            assert (op, fields) == ("device_list", {"direction": "input", "format": "audio"})
            return {"devices": devices}

    for answer, chosen in (("\n", "Desk"), ("1\n", "Room"), ("7\n1\n", "Room")):

        @click.command()
        def ask(chosen: str = chosen) -> None:
            with monkeypatch.context() as patched:
                patched.setattr("sys.stdin.isatty", lambda: True)
                patched.setattr("sys.stderr.isatty", lambda: True)
                assert chosen_device(Scripted(), None, "audio")["identity"] == chosen

        done = CliRunner().invoke(ask, input=answer)
        assert done.exit_code == 0, (done.output, done.exception)
        assert "  2  Desk  (2 ch 48000 Hz)" in done.output


def test_it_says_until_when(monkeypatch: pytest.MonkeyPatch) -> None:
    now = dt.datetime(2026, 11, 26, 10, 33, tzinfo=dt.UTC)
    assert words("until", now + dt.timedelta(hours=23, minutes=47), now) == "until Fri 10:20 (in 23 h 47 min)"
    assert words("until", now + dt.timedelta(minutes=12), now) == "until Thu 10:45 (in 12 min)"
    assert words("until", now + dt.timedelta(seconds=30), now) == "until Thu 10:33:30 (in 30 s)"
    assert words("until", now + dt.timedelta(days=7), now) == "until Thu 2026-12-03 10:33 (in 168 h 0 min)"


class NoDevice(Asking):
    """Takes a start, and has no stream after it."""

    def call(self, op: str, /, **fields: Any) -> dict[str, Any]:
        assert op == "stream_stop"
        return STOPPED

    def start(self, **fields: Any) -> dict[str, Any]:
        return {"state": "streaming", "device": {"description": "Desk"}}

    def events(self, *prefixes: str, timeout_s: float | None = None) -> Any:
        class Silence:
            def __enter__(self) -> Silence:
                return self

            def __exit__(self, *exc: object) -> None: ...

        return Silence()


def take(ending: Ending | None = None, end_at: dt.datetime | None = None) -> Take:
    made = Take(NoDevice(), Path("/nowhere"), URI, ending or Ending(), Times(None, end_at, None))
    made.sample_rate = 48_000
    return made


def test_the_first_line_says_until_when(capsys: pytest.CaptureFixture[str]) -> None:
    ending = Ending()
    ending.set()
    take(ending, dt.datetime.now().astimezone() + dt.timedelta(hours=2, seconds=30)).run({}, pipes=False)
    said = capsys.readouterr().err
    assert said.startswith("streaming: Desk, recording until ")
    assert "(in 2 h " in said
    assert said.endswith("; Ctrl-C ends it\n")


def finished(of: Take, ending: Ending, *, stopped: dict[str, Any] = STOPPED, as_json: bool = False) -> Any:
    @click.command()
    def run() -> None:
        finish(of, stopped, Path("take.wav"), ending.breakable, force=False, strict=False, as_json=as_json)

    return CliRunner().invoke(run)


@pytest.fixture
def asked() -> Any:
    """An Ending that Ctrl-C asks, and a Ctrl-C."""
    ending = Ending()
    before = signal.signal(signal.SIGINT, ending.ask)
    yield ending, lambda: os.kill(os.getpid(), signal.SIGINT)
    signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize("refused", [StorageFull("the disk is full", hint="make room"), OSError(5, "no luck")])
def test_where_the_file_fails_the_last_lines_name_the_recording(
    refused: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise refused

    monkeypatch.setattr("chaos.cli.recorded._saved", fail)
    done = finished(take(), Ending())
    assert done.exit_code == 6
    error, hint, there, how = done.stderr.splitlines()
    assert error.startswith("chaosctl: ")
    assert hint.startswith("  ")
    assert (there, how) == (f"the recording is there: {URI}", f"  save it with: chaosctl save {URI} FILE")


@pytest.mark.parametrize("when", ["while it ends", "while it saves"])
def test_a_second_ctrl_c_breaks_off_the_export_and_says_so(
    when: str, asked: tuple[Ending, Callable[[], None]], monkeypatch: pytest.MonkeyPatch
) -> None:
    ending, ctrl_c = asked
    saved: list[str] = []

    def save(*_: object) -> dict[str, Any]:
        ctrl_c()
        saved.append("whole")
        return {}

    monkeypatch.setattr("chaos.cli.recorded._saved", save)
    ctrl_c()
    assert ending.is_set()
    if when == "while it ends":
        ctrl_c()
    done = finished(take(ending), ending)
    assert (done.exit_code, saved) == (130, [])
    assert f"not saved; the recording is kept: {URI}" in done.output
    assert f"chaosctl save {URI}" in done.output


class Leaving(NoDevice):
    """Tells that the stream has begun, and is gone."""

    def __init__(self, error: ChaosError) -> None:
        self.error = error

    def call(self, op: str, /, **fields: Any) -> dict[str, Any]:
        raise self.error

    def events(self, *prefixes: str, timeout_s: float | None = None) -> Any:
        begun = {"type": "stream_started", "stream_uri": URI, "sample_rate": 48_000}
        return nullcontext(iter([begun]))


@pytest.mark.parametrize("is_shut_down", [True, False])
@pytest.mark.parametrize("kind", [DaemonUnreachable, TimedOut])
def test_where_chaosd_goes_meanwhile_a_finished_recording_is_named(
    is_shut_down: bool, kind: type[ChaosError], monkeypatch: pytest.MonkeyPatch
) -> None:
    device, gone = {"identity": "name:mic", "description": "Mic"}, Leaving(kind("chaosd went away"))
    with fast_folder() as folder:
        (folder / "slots").mkdir(mode=0o700)
        stream = CrashingStream(folder / "store", folder / "slots", URI, channels=1, seed=1)
        stream.write(40)
        stream.rotate()
        (stream.stop if is_shut_down else stream.crash)()
        monkeypatch.setattr("chaos.cli.record._asked", lambda _: nullcontext((gone, folder / "store")))
        monkeypatch.setattr("chaos.cli.record.chosen_device", lambda *_: device)
        monkeypatch.setattr("chaos.cli.record.uri_for", lambda _: URI)
        words = ["--endpoint", f"ipc://{folder}/none", "--store", str(folder / "store"), "record", "mic"]
        done = CliRunner().invoke(main, [*words, str(folder / "k2.wav")])
    assert (done.exit_code, "chaosd went away" in done.output) == (7, True), done.output
    said = f"the recording is there: {URI}\n  save it with: chaosctl save {URI} FILE\n"
    assert done.output.endswith(said) == is_shut_down, "what is there comes last"


def test_a_third_ctrl_c_ends_it_anywhere(asked: tuple[Ending, Callable[[], None]]) -> None:
    _, ctrl_c = asked
    ctrl_c()
    ctrl_c()
    with pytest.raises(KeyboardInterrupt):
        ctrl_c()


class Starting(NoDevice):
    """Interrupted while it starts; `wrote` is made when it ends. What it was asked for is in `calls`."""

    def __init__(self, presses: int, wrote: Callable[[], object] = lambda: None) -> None:
        self.presses, self.wrote, self.calls = presses, wrote, [""]

    def call(self, op: str, /, **fields: Any) -> dict[str, Any]:
        self.calls.append(op)
        self.wrote()
        return STOPPED

    def start(self, **fields: Any) -> dict[str, Any]:
        for _ in range(self.presses):
            os.kill(os.getpid(), signal.SIGINT)
        return super().start(**fields)


def recorded_by(chaosd: Asking, store: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """`chaosctl record` of a device, by this one."""
    monkeypatch.setattr("chaos.cli.record._asked", lambda _: nullcontext((chaosd, store)))
    monkeypatch.setattr("chaos.cli.record.chosen_device", lambda *_: {"identity": "name:mic", "description": "Mic"})
    monkeypatch.setattr("chaos.cli.record.uri_for", lambda _: URI)
    words = ["--endpoint", f"ipc://{store.parent}/none", "--store", str(store), "record", "mic"]
    return CliRunner().invoke(main, [*words, str(store.parent / "take.wav")])


@pytest.mark.parametrize("has_frames", [True, False])
def test_a_third_ctrl_c_while_it_starts_leaves_no_stream_and_names_what_is_there(
    has_frames: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    with fast_folder() as folder:
        (folder / "slots").mkdir(mode=0o700)

        def record() -> None:
            stream = CrashingStream(folder / "store", folder / "slots", URI, channels=1, seed=1)
            stream.write(40)
            stream.stop()

        chaosd = Starting(3, record if has_frames else lambda: None)
        done = recorded_by(chaosd, folder / "store", monkeypatch)
    kept = f"not saved; the recording is kept: {URI}\n  save it with: chaosctl save {URI}\n"
    assert (done.exit_code, chaosd.calls[1:]) == (130, ["stream_stop"])
    assert done.stderr == (kept if has_frames else "interrupted: nothing was recorded\n")


def test_where_a_start_is_broken_off_by_force_it_is_told_what_may_run(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(Take, "has_daemon", True)
    done = recorded_by(chaosd := Starting(4), tmp_path / "store", monkeypatch)
    assert (done.exit_code, chaosd.calls[1:]) == (130, []), "it may be somebody else's"
    assert done.stderr.endswith(f"  if it still runs, end it with: chaosctl stop {URI}\n")


def test_ctrl_c_before_anything_is_asked_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def press(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("chaos.cli.record.chosen_times", press)
    done = CliRunner().invoke(main, ["record", "mic", f"{tmp_path}/take.wav"])
    assert (done.exit_code, done.stderr) == (130, "interrupted: nothing was recorded\n")


def test_a_start_that_does_not_settle_is_not_left_running(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    class Unsettled(Starting):
        def start(self, **fields: Any) -> dict[str, Any]:
            raise TimedOut("it is still linking", hint=f"chaosctl stop {URI}")

    done = recorded_by(chaosd := Unsettled(0), tmp_path / "store", monkeypatch)
    assert (done.exit_code, chaosd.calls[1:]) == (7, ["stream_stop"])
    assert done.stderr == "chaosctl: it is still linking\n  it was stopped; see: chaosctl doctor\n"


@pytest.mark.parametrize("hangs", [True, False])
def test_a_chaosd_that_does_not_answer_is_waited_for(
    hangs: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    class Suspended(NoDevice):
        def call(self, op: str, /, **fields: Any) -> dict[str, Any]:
            if op == "stream_status":
                raise DaemonUnreachable("chaosd did not answer")
            return {**STOPPED, "recording": ""}

        def events(self, *prefixes: str, timeout_s: float | None = None) -> Any:
            return nullcontext(iter([{"type": "stream_started", "stream_uri": URI, "sample_rate": 48_000}]))

    monkeypatch.setattr("chaos.cli.recorder._hangs", lambda *_: hangs)
    done = recorded_by(Suspended(), tmp_path / "store", monkeypatch)
    assert done.exit_code == (5 if hangs else 7)
    assert ("waiting for it to end the recording: a third Ctrl-C gives up" in done.stderr) == hangs


def test_where_storage_refuses_the_end_what_waits_for_recovery_comes_last(monkeypatch: pytest.MonkeyPatch) -> None:
    class Full(NoDevice):
        def call(self, op: str, /, **fields: Any) -> dict[str, Any]:
            raise StorageFull("the disk is full", hint="make room")

    with fast_folder() as folder:
        monkeypatch.setenv("XDG_RUNTIME_DIR", str(folder / "run"))
        slots = folder / "run" / "chaos" / "staging"
        slots.mkdir(mode=0o700, parents=True)
        (folder / "run").chmod(0o700)
        (folder / "run" / "chaos").chmod(0o700)
        stream = CrashingStream(folder / "store", slots, URI, channels=1, seed=1)
        stream.write(40)
        stream.crash()
        monkeypatch.setattr("chaos.protocol.config._staging", lambda: slots)
        done = recorded_by(Full(), folder / "store", monkeypatch)
    assert done.exit_code == 6
    error, hint, left, how = done.stderr.splitlines()[-4:]
    assert (error, hint) == ("chaosctl: the disk is full", "  make room")
    assert left.startswith(f"not recovered yet: {URI}, 40 frames")
    assert "chaosctl recover" in how


def test_a_pipe_is_told_of_the_gaps_that_went_through_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """The recording goes on a little, and may lose something there."""
    with fast_folder() as folder:
        (folder / "slots").mkdir(mode=0o700)
        stream = CrashingStream(folder / "store", folder / "slots", URI, channels=1, seed=1)
        stream.write(40)
        stream.miss(8)
        stream.write(16)
        stream.stop()
        of = Take(NoDevice(), folder / "store", URI, Ending(), Times(None, None, None))
        of.sample_rate = 48_000
        for n_written, told in ((40, "0 gaps, 0 frames"), (45, "1 gap, 5 frames"), (64, "1 gap, 8 frames")):
            of.pipe = Pipe(URI, folder / "store", None, Ending())
            of.pipe.n_written = n_written
            monkeypatch.setattr(of.pipe, "join", lambda: None)

            @click.command()
            def run() -> None:
                stopped = {**STOPPED, "n_frames": 64, "n_gaps": 1, "lost_frames": 8}
                finish(of, stopped, Path("-"), nullcontext, force=False, strict=False, as_json=False)

            assert f"({n_written} frames), {told} lost" in CliRunner().invoke(run).stderr

        @click.command()
        def as_json() -> None:
            stopped = {**STOPPED, "n_frames": 64, "n_gaps": 1, "lost_frames": 8}
            finish(of, stopped, Path("-"), nullcontext, force=False, strict=False, as_json=True)

        assert of.pipe is not None
        of.pipe.n_written = 45
        told_json = json.loads(CliRunner().invoke(as_json).stderr)
        file = told_json["file"]
        assert (file["path"], file["n_frames"], file["lost_frames"], len(file["gaps"])) == ("-", 45, 5, 1)
        assert (told_json["n_frames"], told_json["lost_frames"]) == (64, 8)
        of.pipe.error = BrokenPipeError()
        said = CliRunner().invoke(as_json).stderr
        why = "standard output is closed, which ended the recording: 0:00:00.001 (64 frames), 1 gap, 8 frames lost"
        assert said.startswith(f"{why}\nthe recording is there: {URI}\n")


@pytest.mark.parametrize("as_json", [False, True])
def test_where_nothing_was_captured_it_says_so(as_json: bool) -> None:
    lost = {**STOPPED, "n_gaps": 1, "lost_frames": 48_000}
    for causes, why in (({"no_data"}, "the device delivered no data"), ({"device_away"}, "every frame was lost")):
        of = take()
        of.causes = causes
        done = finished(of, Ending(), stopped=lost, as_json=as_json)
        assert done.exit_code == 5
        assert f"nothing was captured: {why}" in done.stderr
        assert (json.loads(done.stdout)["file"] is None) if as_json else not done.stdout


def test_the_last_line_tells_of_the_samples_and_of_midi_events() -> None:
    account = {"n_frames": 48_000, "gaps": [], "lost_frames": 0, "root_hash": "ab", "path": "k.mid"}
    heard: dict[str, Any] = {
        "silent_since_frame": 0,
        "n_clipped": 2,
        "first_clipped_frame": 24_000,
        "n_not_finite": 0,
        "first_not_finite_frame": None,
    }
    assert file_line(take(), account, heard) == (
        "k.mid: 0:00:01.000 (48000 frames), 0 gaps, 0 frames lost, hash ab, silent throughout,"
        f" 2 samples clipped, the first at 0:00:00.500, recording {URI}"
    )
    late = {**heard, "silent_since_frame": 24_000, "n_clipped": 0}
    assert ", hash ab, silent since 0:00:00.500, recording" in file_line(take(), account, late)
    assert "(48000 frames), 20 events, 0 gaps" in file_line(take(), {**account, "midi": {"n_events": 20}}, None)
    assert "(48000 frames), 1 event, 0 gaps" in file_line(take(), {**account, "midi": {"n_events": 1}}, None)
    early = take()
    early.sample_rate = 0
    assert file_line(early, account, None).startswith("k.mid: 48000 frames, 0 gaps")


def test_its_hints_are_what_one_types_after_record(capsys: pytest.CaptureFixture[str]) -> None:
    found = [{"description": name} for name in ("Keys", "Pads")]

    class Scripted(Asking):
        def call(self, op: str, /, **fields: Any) -> dict[str, Any]:
            return {"devices": found}

        def default_device(self) -> dict[str, Any]:
            return {"description": "Desk"}

    chosen_device(Scripted(), None, "audio")
    assert "(choose another with chaosctl record DEVICE FILE)" in capsys.readouterr().err
    with pytest.raises(DeviceNotFound) as refused:
        chosen_device(Scripted(), None, "midi")
    assert refused.value.hint == 'chaosctl record --midi "Keys" FILE; chaosctl record --midi "Pads" FILE'


def test_what_counts_as_silent_can_be_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    started: list[dict[str, Any]] = []

    class Refusing(NoDevice):
        def call(self, op: str, /, **fields: Any) -> dict[str, Any]:
            return {"device": {"description": "Desk", "identity": "desk"}}

        def start(self, **fields: Any) -> dict[str, Any]:
            started.append(fields)
            raise DeviceNotFound("it is gone")

    monkeypatch.setattr("chaos.cli.record._asked", lambda _: nullcontext((Refusing(), tmp_path)))
    words = ["record", "Desk", f"{tmp_path}/take.wav", "--silent-below", "-50"]
    assert CliRunner().invoke(main, [*words, "--silent-after", "soon"]).exit_code == 2
    assert started == []
    assert CliRunner().invoke(main, [*words, "--silent-after", "10s"]).exit_code == 3
    assert (started[0]["silent_below_dbfs"], started[0]["silent_after_s"]) == (-50.0, 10.0)


def test_a_name_that_somebody_else_has_got_meanwhile_is_counted_up() -> None:
    asked: list[str] = []

    class Taken(NoDevice):
        def start(self, **fields: Any) -> dict[str, Any]:
            asked.append(fields["uri"])
            if len(asked) < 3:
                raise StreamExists("somebody was quicker")
            return super().start(**fields)

    ending = Ending()
    ending.set()
    made = Take(Taken(), Path("/nowhere"), "stream://desk/20261126T170000Z", ending, Times(None, None, None))
    made.run({}, pipes=False)
    assert [uri.removeprefix("stream://desk/20261126T170000Z") for uri in asked] == ["", "-2", "-3"]
    assert made.uri == asked[-1]


@pytest.mark.parametrize("length", ["0s", "0.0001s"])
def test_no_length_is_refused_before_anything_is_recorded(length: str, tmp_path: Path) -> None:
    refused = CliRunner().invoke(main, ["record", "Desk", f"{tmp_path}/take.wav", "--for", length])
    assert refused.exit_code == 2
    assert f"--for: '{length}' can't be used" in refused.stderr
    assert "use 0.001s or more" in refused.stderr


def test_the_file_is_written_as_the_persons_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Not with the umask of the store, which an engine of our own has while it runs."""

    class Own(NoDevice):
        def call(self, op: str, /, **fields: Any) -> dict[str, Any]:
            return {"device": {"description": "Desk", "identity": "desk"}} if op == "device_find" else STOPPED

        def start(self, **fields: Any) -> dict[str, Any]:
            os.kill(os.getpid(), signal.SIGINT)  # ends it at once
            return super().start(**fields)

    @contextmanager
    def asked(session: object) -> Iterator[tuple[Asking, Path]]:
        before = os.umask(0o077)
        try:
            yield Own(), tmp_path
        finally:
            os.umask(before)

    modes: list[int] = []

    def finish(*_: object, **__: object) -> None:
        (tmp_path / "take.wav").touch()
        modes.append((tmp_path / "take.wav").stat().st_mode & 0o777)

    monkeypatch.setattr("chaos.cli.record._asked", asked)
    monkeypatch.setattr("chaos.cli.record.finish", finish)
    before = os.umask(0o022)
    try:
        done = CliRunner().invoke(main, ["record", "Desk", f"{tmp_path}/take.wav"])
    finally:
        os.umask(before)
    assert (done.exit_code, modes) == (0, [0o644]), done.output


def test_an_engine_of_our_own_gives_the_umask_back(tmp_path: Path) -> None:
    config = Config(store=tmp_path / "store", staging_dir=tmp_path / "staging", remote=f"{tmp_path}/no-pipewire")
    before = os.umask(0o022)
    try:
        with Local(config):
            assert os.umask(0o077) == 0o077
        assert os.umask(0o022) == 0o022
    finally:
        os.umask(before)
