"""Lines on a terminal: broken at spaces, and what is to be typed stays in one piece."""

from __future__ import annotations

import os
import pty
import sys
import termios
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from chaos.cli.doctor import _account
from chaos.cli.lines import columns_of, shown_width, wrapped
from chaos.cli.out import say, say_json
from chaos.cli.show import dbfs

SAVED = (
    "take.wav: 0:00:05.000 (240000 frames), 0 gaps, 0 frames lost, hash 4d1c7f0e3a9b5d6c8e2f1a0b, "
    "2 samples clipped, the first at 0:00:00.243, recording stream://usb-mic/20261126T101500Z"
)


@pytest.mark.parametrize("width", [40, 80])
def test_no_word_is_broken_and_what_follows_is_indented(width: int) -> None:
    lines = wrapped(SAVED, width)
    assert len(lines) > 1
    assert all(shown_width(line) <= width for line in lines)
    assert all(line.startswith("  ") for line in lines[1:])
    assert " ".join(line.strip() for line in lines) == SAVED
    assert wrapped(SAVED, 400) == [SAVED]


def test_a_command_stays_in_one_piece() -> None:
    command = "chaosctl save stream://usb-mic/20261126T101500Z FILE"
    assert wrapped(f"  save it with: {command}", 40) == ["  save it with:", f"    {command}"]
    assert wrapped("  sudo apt-get install pipewire wireplumber rtkit", 20) == [
        "  sudo apt-get install pipewire wireplumber rtkit"
    ]
    name = "x" * 50
    assert wrapped(f"the file is {name}", 40) == ["the file is", f"  {name}"]


@contextmanager
def narrow(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """Standard error is a terminal of 40 columns, standard output is not; its other end."""
    monkeypatch.delenv("COLUMNS", raising=False)
    main_end, terminal = pty.openpty()
    termios.tcsetwinsize(terminal, (24, 40))
    with os.fdopen(terminal, "w") as stream, monkeypatch.context() as patched:
        patched.setattr("sys.stderr", stream)
        yield main_end


def test_what_is_said_on_a_terminal_fits_it(monkeypatch: pytest.MonkeyPatch) -> None:
    with narrow(monkeypatch) as other_end:
        width = columns_of(sys.stderr)
        say(SAVED, err=True)
        shown = os.read(other_end, 65536).decode().split("\r\n")
        say(SAVED, err=True, whole=True)
        whole = os.read(other_end, 65536).decode()
        os.close(other_end)
    assert width == 40, "of the stream that is written to"
    assert shown == [*wrapped(SAVED, 40), ""]
    assert whole == f"{SAVED}\r\n"


def test_a_terminal_that_is_closed_ends_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    with narrow(monkeypatch) as other_end:
        os.close(other_end)
        with pytest.raises(OSError, match="Input"):
            os.write(sys.stderr.fileno(), b"?")
        say_json({"n_frames": 1}, err=True)
        say("gap at 0:00:01.000", err=True)
        say("and again", err=True)


def test_a_level_near_full_scale_is_not_minus_zero() -> None:
    account = {
        "device": "Mic", "seconds": 2.0, "sample_rate": 48_000, "n_frames": 96_000, "n_gaps": 0, "lost_frames": 0,
        "unsettled_frames": 0, "verified": True, "peak_dbfs": -0.0003,
    }  # fmt: skip
    assert _account(account).endswith("peak 0.0 dBFS")
    assert dbfs(-18.04) == "-18.0"
