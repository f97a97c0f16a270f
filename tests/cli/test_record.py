"""What `chaosctl record` makes of its words, and what its line on the terminal shows."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner

from chaos.cli.main import main
from chaos.cli.meter import Meter, bar, told_line
from chaos.cli.record import chosen_device, device_and_file, until_when
from chaos.cli.show import signal_lines
from chaos.client import Asking
from chaos.terms.errors import InvalidRequest

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


def test_bars() -> None:
    assert bar(None, -60.0, 6) == "[------]"
    assert bar(-30.0, -30.0, 6) == "[###---]"
    assert bar(-30.0, -10.0, 6) == "[###-|-]"
    assert bar(3.0, 3.0, 6) == "[######]"
    assert bar(-200.0, -60.0, 6) == "[------]"


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
    assert told_line({**gap, "n_frames": None}, 48_000) == "gap at 0:00:01.000, not over yet (device away)"
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
