"""chaosctl show and plot: recordings drawn in the terminal and as pictures."""

from __future__ import annotations

import builtins
import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from crashing import CrashingStream
from keys import CrashingKeys
from recorded import Rotator, definition
from sequences import MIDI1

from chaos.cli.main import main
from chaos.store.store import Store
from chaos.store.writer import RecordingWriter
from chaos.terms.ledger import Cause
from chaos.terms.marks import Mark

URI = "stream://mic/take"


@pytest.fixture
def take(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Rotator:
    """Of two channels: noise, a gap, noise, with two marks."""
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    rotator = Rotator(RecordingWriter.create(Store(tmp_path), definition(chunk_frames=4800)))
    rotator.write(48_000)
    rotator.gap(24_000, Cause.DEVICE_AWAY)
    rotator.write(48_000)
    rotator.writer.mark(Mark(24_000, "chorus"))
    rotator.writer.mark(Mark(110_000, "costs $5 and $6"))
    rotator.stop()
    return rotator


def run(store: Path, *arguments: str, **env: str) -> Any:
    return CliRunner().invoke(main, ["--store", str(store), *arguments], env=env)


def test_a_gap_is_drawn_apart_from_silence(tmp_path: Path, take: Rotator) -> None:
    done = run(tmp_path, "show", URI, "--points", "50")
    assert done.exit_code == 0, done.output
    lines = done.output.splitlines()
    assert lines[0] == f"{URI}, A microphone, 48000 Hz, finished"
    assert max(map(len, lines[1:])) <= 60
    waves = [line for line in lines if "█" in line]
    assert len(waves) >= 8
    assert all("░" * 10 in line for line in waves)
    assert any(line.startswith("░ 0:00:01.000 24000 frames missing: device away") for line in lines)
    assert "^ 0:00:00.500 chorus" in lines
    assert any("full height is 0.0 dBFS, the peak" in line for line in lines)


def test_numbers_of_what_is_drawn(tmp_path: Path, take: Rotator) -> None:
    found = json.loads(run(tmp_path, "show", URI, "--points", "10", "--json").output)
    assert found["edges"][0] == 0
    assert found["edges"][-1] == 120_000
    assert {"device_away", None} == set(found["causes"])
    gone = [k for k, missing in enumerate(found["missing_frames"]) if found["min"][0][k] is None]
    assert gone
    assert all(found["edges"][k] >= 48_000 and found["edges"][k + 1] <= 72_000 for k in gone)
    assert found["marks"][0] == {"frame": 24_000, "label": "chorus"}
    one = json.loads(run(tmp_path, "show", URI, "--from", "1.5s", "--json").output)
    assert one["edges"][0] == 72_000


def test_characters_of_ascii_where_the_locale_has_no_others() -> None:
    import numpy as np

    from chaos.cli.waveform import overview_lines
    from chaos.read.overview import Overview

    nan = float("nan")
    values = np.array([[-1.0, -0.5, nan, 0.0, nan]], "f4")
    edges = np.arange(6, dtype=np.int64) * 100
    missing, cause = np.array([0, 0, 100, 0, 0]), np.array([0, 0, 3, 0, 0])
    lines = overview_lines(
        Overview(48000, edges, values, -values, abs(values), None, missing, cause, [], []), ["FL"], 40, is_plain=True
    )
    assert all(line.isascii() for line in lines)
    assert lines[1] == "# x"
    assert lines[5] == "##x'!"
    assert lines[0] == "FL"


@pytest.mark.parametrize("ending", ["png", "svg", "pdf"])
@pytest.mark.parametrize("more", [(), ("--spectrogram",)])
def test_a_picture_is_made(tmp_path: Path, take: Rotator, ending: str, more: tuple[str, ...]) -> None:
    out = tmp_path / f"take.{ending}"
    done = run(tmp_path, "plot", URI, str(out), *more)
    assert done.exit_code == 0, done.output
    content = out.read_bytes()
    assert content.startswith({"png": b"\x89PNG", "svg": b"<?xml", "pdf": b"%PDF"}[ending])
    assert len(content) > 5000
    if ending == "svg":
        assert b"device away" in content
        assert b"chorus" in content
    again = run(tmp_path, "plot", URI, str(out))
    assert again.exit_code == 2
    assert "--force" in again.output


def test_what_is_refused_before_anything_is_read(
    tmp_path: Path, take: Rotator, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert ".png, .svg, .pdf" in run(tmp_path, "plot", URI, str(tmp_path / "take.gif")).output
    real = builtins.__import__

    def without(name: str, *arguments: Any, **options: Any) -> Any:
        if name.startswith("matplotlib"):
            raise ImportError(name)
        return real(name, *arguments, **options)

    monkeypatch.setattr(builtins, "__import__", without)
    done = run(tmp_path, "plot", URI, str(tmp_path / "take.png"))
    assert done.exit_code != 0
    assert "pip install 'chaosd[plot]'" in done.output
    assert not (tmp_path / "take.png").exists()


def test_midi_is_drawn(tmp_path: Path) -> None:
    stream = CrashingKeys(tmp_path, tmp_path, chunk_frames=48_000, n_slots=6)
    for k in range(24):
        notes = [(0, MIDI1, bytes([0x90, 60 + k, 100])), (900, MIDI1, bytes([0x80, 60 + k, 0]))]
        stream.play(1000, notes)
    stream.stop()
    done = run(tmp_path, "show", URI, "--points", "24")
    assert "48 events, at most 2 in a column" in done.output, done.output
    assert "█" * 20 in done.output
    found = json.loads(run(tmp_path, "show", URI, "--points", "24", "--json").output)
    assert found["n_events"] == [2] * 24
    assert run(tmp_path, "plot", URI, str(tmp_path / "keys.png")).exit_code == 0


def test_a_take_of_nothing_is_told(tmp_path: Path) -> None:
    stream = CrashingStream(tmp_path, tmp_path)
    stream.write(3)
    stream.stop()
    assert "3 frames" not in run(tmp_path, "show", URI).output
    assert run(tmp_path, "show", URI, "--from", "1", "--to", "2").exit_code == 0
    assert run(tmp_path, "show", "stream://no/such").exit_code != 0


def test_nothing_is_not_drawn_as_silence(tmp_path: Path, take: Rotator) -> None:
    for words in (("show", URI), ("plot", URI, str(tmp_path / "p.png"))):
        done = run(tmp_path, *words, "--last", "0s")
        assert done.exit_code == 2, done.output
        assert "the range is empty: it begins and ends at frame" in done.stderr
    assert not (tmp_path / "p.png").exists()
