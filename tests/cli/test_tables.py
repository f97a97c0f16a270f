"""Tables at the widths of terminals, and the board of chaosctl top."""

from __future__ import annotations

import re
from typing import Any

import pytest

from chaos.cli.board import Board
from chaos.cli.lines import shown_width
from chaos.cli.show import (
    DEVICE_HEADERS,
    RECORDING_HEADERS,
    STREAM_HEADERS,
    device_rows,
    recording_rows,
    stream_format,
    stream_rows,
)
from chaos.cli.tables import fitted, table


def device(**more: Any) -> dict[str, Any]:
    return {
        "description": "Scarlett 18i20 USB Analog Surround 7.1",
        "name": "alsa_input.usb-Focusrite_Scarlett_18i20_USB_P9XXXXXXXXXXX-00.analog-surround-71",
        "identity": "serial:Focusrite_Scarlett_18i20_USB_P9XXXXXXXXXXX/analog-surround-71/capture",
        "is_default": True, "is_monitor": False, "direction": "input",
        "format": {"type": "audio", "channels": 18, "sample_rate": None}, "rates": [44100, 48000, 88200, 96000],
        **more,
    }  # fmt: skip


def stream(uri: str = "stream://desk/take-9", **more: Any) -> dict[str, Any]:
    return {
        "uri": uri, "state": "streaming", "head_frame": 48000 * 3725,
        "format": {"type": "audio", "channels": 2, "sample_rate": 48000, "sample_format": "f32"},
        "n_chunks_sealed": 372, "n_gaps": 2, "lost_frames": 2048, "slots": {"total": 4, "free": 3, "full": 0},
        "levels": [{"peak_dbfs": -12.5, "rms_dbfs": -20.0}, {"peak_dbfs": None, "rms_dbfs": None}],
        "device": {"description": "Scarlett 18i20 USB Analog Surround 7.1"}, "recording": "", **more,
    }  # fmt: skip


def recording(**more: Any) -> dict[str, Any]:
    return {
        "uri": "stream://field-recorder/20261126T101500Z.0002", "started_wall_ns": 1_769_860_800_000_000_000,
        "n_frames": 480_000, "sample_rate": 48000, "n_bytes": 12_345_678, "n_gaps": 3, "lost_frames": 480,
        "retired_frames": 0, "state": "finished", "device": "録音機 USB 音声",
        "continues": "stream://field-recorder/20261126T101500Z", **more,
    }  # fmt: skip


TABLES = [
    (DEVICE_HEADERS, device_rows([device(), device(is_default=False, description="Mic")])),
    (STREAM_HEADERS, stream_rows([stream(), stream("stream://desk/take-10")])),
    (RECORDING_HEADERS, recording_rows([recording()])),
    (("URI", "STATE"), []),
]


@pytest.mark.parametrize("width", [20, 40, 80, 120, 300])
@pytest.mark.parametrize(("headers", "rows"), TABLES)
def test_a_table_fits_and_loses_nothing(headers: tuple[str, ...], rows: list[tuple[str, ...]], width: int) -> None:
    lines = fitted(headers, rows, width)
    assert max(map(shown_width, lines)) <= width
    said = "".join("".join(lines).split())
    for row in rows:
        assert all("".join(cell.split()) in said for cell in row if cell != "-")
        if width >= 80:
            assert all(any(cell in line for line in lines) for cell in row if shown_width(cell) <= 60 and cell != "-")


def test_a_device_takes_few_lines_of_a_terminal() -> None:
    assert len(fitted(DEVICE_HEADERS, device_rows([device()]), 80)) <= 5
    lines = fitted(STREAM_HEADERS, stream_rows([stream()]), 40)
    assert lines[0] == "stream://desk/take-9"  # no line is lost to headers that stand above nothing
    assert any("head 1:02:05.000" in line for line in lines)


def test_no_headers_stand_above_rows_that_are_no_columns(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "40")
    table(RECORDING_HEADERS, recording_rows([recording()]))
    assert "LENGTH" not in capsys.readouterr().out
    table(RECORDING_HEADERS, [])
    assert set(capsys.readouterr().out.replace(",", " ").split()) == set(RECORDING_HEADERS)
    table(("URI", "STATE"), [("a", "b")])
    assert "URI  STATE" in capsys.readouterr().out


@pytest.mark.parametrize(("headers", "rows"), TABLES)
def test_nothing_is_cut_or_broken_where_it_is_piped(
    headers: tuple[str, ...], rows: list[tuple[str, ...]], capsys: pytest.CaptureFixture[str]
) -> None:
    table(headers, rows)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 1 + len(rows)
    assert all(cell in line for row, line in zip(rows, lines[1:], strict=True) for cell in row)


def test_what_is_not_known_of_a_format_is_left_out() -> None:
    assert stream_format({"type": "audio", "sample_format": "f32"}) == "audio f32"
    assert stream_format({"type": "audio", "channels": 2, "sample_format": "f32"}) == "2 ch f32"
    assert stream_format({"type": "midi"}) == "midi"


def board(*streams: dict[str, Any]) -> Board:
    made = Board(30)
    made.take(streams, 12 << 30)
    return made


MIDI = {"format": {"type": "midi"}, "levels": [],
        "activity": {"events_per_s": 12.5, "last": "note on C4 97, channel 1", "last_frame": 5}}  # fmt: skip
SEVERAL = [
    stream("stream://a/1"),
    stream("stream://b/1", state="waiting", levels=[]),
    stream("stream://c/1", standby_s=60.0),
    stream("stream://d/1", state="stalled"),
    stream("stream://keys/1", **MIDI),
    stream("stream://a-name-that-is-much-too-long-for-a-narrow-terminal/20261126T101500Z"),
]


@pytest.mark.parametrize(("columns", "rows"), [(80, 24), (40, 24), (40, 6), (120, 50), (20, 5)])
def test_a_line_for_each_stream_at_any_size(columns: int, rows: int) -> None:
    lines = board(*SEVERAL).lines(columns, rows)
    assert len(lines) <= rows
    assert max(map(shown_width, lines)) <= columns
    if rows >= 24:
        assert len(lines) == len(SEVERAL) + 4
        for state in ("streaming", "waiting", "standby", "stalled"):
            assert any(state in line for line in lines)


def test_what_a_line_says() -> None:
    lines = board(*SEVERAL).lines(80, 24)
    assert lines[0].startswith("chaosd  6 streams  disk 12.0 GiB free")
    assert "1:02:05" in lines[2]
    assert "-12.5" in lines[2]
    assert "#" in lines[2]
    assert "1/4" in lines[2]
    keys = next(line for line in lines if "keys/1" in line)
    assert "12.5/s note on C4 97" in keys
    signal = {"n_not_finite": 0, "silent_since_frame": 5, "n_clipped": 3}
    assert "silent" in board(stream(signal=signal)).lines(80, 24)[2]


@pytest.mark.parametrize(
    ("uri", "columns", "shown"),
    [
        ("stream://usb-mic/20261126T101500Z", 80, "> usb-mic~T101500Z streaming"),
        ("stream://usb-mic/20261126T101500Z", 100, "> usb-mic/20261126T101500Z "),
        ("stream://scarlett-18i20-usb/20261126T101500Z", 80, "> scarlett-18~500Z streaming"),
        ("stream://scarlett-18i20-usb/1", 80, "> scarlett-18i20~1 streaming"),
    ],
)
def test_a_long_name_keeps_its_beginning(uri: str, columns: int, shown: str) -> None:
    assert board(stream(uri)).lines(columns, 24)[2].startswith(shown)


def test_without_an_answer_no_row_says_that_it_streams() -> None:
    made = board(*SEVERAL)
    made.trouble = "no chaosd answers"
    rows = made.lines(80, 24)[2:-2]
    assert len(rows) == len(SEVERAL)
    assert all("no answer" in row and "dBFS" not in row and "#" not in row for row in rows)
    assert not any(state in row for row in rows for state in ("streaming", "-12.5"))
    made.trouble = ""
    assert "streaming" in made.lines(80, 24)[2]


def test_the_table_says_when_a_stream_is_to_begin() -> None:
    [row] = stream_rows([stream(state="waiting", begins_utc="2099-01-31T18:00:00.000000Z")])
    assert re.fullmatch(r"waiting, from \w+ 2099-0[12]-\d\d \d\d:\d\d \(in \d+ h \d+ min\)", row[1])


def test_the_chosen_stream_stays_chosen_and_in_sight() -> None:
    made = board(*(stream(f"stream://s/{k:02}") for k in range(50)))
    made.move(40)
    assert made.chosen == "stream://s/40"
    assert any(line.startswith("> s/40") for line in made.lines(80, 24))
    made.take([stream(f"stream://s/{k:02}") for k in range(30, 50)], None)
    assert made.chosen == "stream://s/40"
    made.take([], None)
    assert made.chosen is None
    assert any("nothing is being recorded" in line for line in made.lines(80, 24))
