"""The programs in `examples/`, each run as a person runs it, by an engine of its own in a private PipeWire."""

from __future__ import annotations

import csv
import re
import subprocess
import sys
import wave
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from harness import Daemon
from rig import CLICK, MIDI, Event, MidiSource, Session

import chaos

EXAMPLES = Path(__file__).parents[2] / "examples"
RATE = 48_000


@pytest.fixture
def env(session: Session, tmp_path: Path) -> dict[str, str]:
    """That of somebody who runs no chaosd, with a store of their own."""
    return {**session.env, "XDG_DATA_HOME": str(tmp_path / "data")}


def run(name: str, env: dict[str, str], folder: Path, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "error", str(EXAMPLES / f"{name}.py"), *arguments],
        env=env, cwd=folder, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def written(path: Path, sound: npt.NDArray[np.float64]) -> Path:
    with wave.open(str(path), "wb") as file:
        file.setparams((2, 2, RATE, 0, "NONE", ""))
        file.writeframes(np.repeat((sound * 32767).astype("<i2"), 2).tobytes())
    return path


def voice(seconds: float) -> npt.NDArray[np.float64]:
    """A vowel that glides, as a throat makes it: 120 Hz and its harmonics, through three resonances."""
    at = np.arange(round(seconds * RATE)) / RATE
    pitch = 2 * np.pi * np.cumsum(120 + 15 * np.sin(2 * np.pi * 3 * at)) / RATE
    sound = np.zeros(at.size)
    for harmonic in range(1, 30):
        frequency = 120 * harmonic
        loud = sum(1 / (1 + ((frequency - formant) / 90) ** 2) for formant in (650, 1080, 2650))
        sound += loud * np.sin(harmonic * pitch)
    return 0.5 * sound / abs(sound).max() * (0.6 + 0.4 * np.sin(2 * np.pi * 4 * at))


def test_live_spectrum(session: Session, env: dict[str, str], tmp_path: Path) -> None:
    tone = written(tmp_path / "tone.wav", 0.5 * np.sin(2 * np.pi * 1000 * np.arange(RATE * 30) / RATE))
    player = session.play(tone)
    said = run("live_spectrum", env, tmp_path, "virtual-mic", "--for", "1")
    session.end(player)
    loudest = [float(found) for found in re.findall(r"([0-9]+) Hz  \|", said)]
    assert 1000 in loudest, said


def test_level_marks(session: Session, env: dict[str, str], tmp_path: Path) -> None:
    clicks = [10_000, 50_000, 50_100, 120_001]
    script = [Event(frame, 0, CLICK, b"") for frame in clicks]
    with MidiSource(session, script, name="ex-clicks", channels=1, ports=[], hold=True) as source:
        command = [sys.executable, "-W", "error", str(EXAMPLES / "level_marks.py"), "ex-clicks", "--marks", "3"]
        with subprocess.Popen(command, env=env, cwd=tmp_path, stdout=subprocess.PIPE, text=True) as running:
            source.begin()
            first = source.play()
            assert running.stdout is not None
            said = running.stdout.read()
        assert running.returncode == 0
    frames = [int(found) for found in re.findall(r"frame ([0-9]+)", said)]
    [path] = (tmp_path / "data" / "chaos" / "recordings").glob("*/*.zarr")
    with chaos.open(path) as recording:
        assert [mark.frame for mark in recording.marks] == frames
        begin = recording.anchors[0].position
        assert [begin + frame - first for frame in frames] == [10_000, 50_000, 120_001]


def test_speech_segments(session: Session, env: dict[str, str], tmp_path: Path) -> None:
    silence = np.zeros(RATE // 2)
    sound = np.concatenate([piece for _ in range(8) for piece in (silence, silence, voice(1.0), silence)])
    player = session.play(written(tmp_path / "voice.wav", sound))
    said = run("speech_segments", env, tmp_path, "virtual-mic", "--for", "4")
    session.end(player)
    found = [int(each) for each in re.findall(r"frame ([0-9]+)", said)]
    assert found, said
    [path] = (tmp_path / "data" / "chaos" / "recordings").glob("*/*.zarr")
    with chaos.open(path) as recording:
        assert [mark.frame for mark in recording.marks] == found
        loud = [float(abs(recording[frame : frame + RATE // 2]).max()) for frame in found]
    assert min(loud) > 0.05, (found, loud)


def test_session_tables(daemon: Daemon, session: Session, env: dict[str, str], tmp_path: Path) -> None:
    """Each click stands at its note's frame: the peak behind each is the click's."""
    frames = [0, 12_000, 30_001]
    script = [Event(frame, 0, CLICK, b"") for frame in frames]
    script += [Event(frame, 1, MIDI, bytes([0x90, 60 + number, 97])) for number, frame in enumerate(frames)]
    client = daemon.client
    with MidiSource(session, sorted(script), name="ex-stage", channels=1, ports=["midi"], speed=4) as source:
        streams = [
            {
                "uri": f"stream://{kind}/jam",
                "device_identity": client.call("device_wait", name="ex-stage", timeout_s=50, format=kind)["device"][
                    "identity"
                ],
                "format": {"type": kind},
            }
            for kind in ("audio", "midi")
        ]
        client.call("session_start", session="jam", streams=streams)
        source.play()
        source.await_end()
        client.event("stream_activity", stream_uri="stream://midi/jam", last="note on D4 97, channel 1")
        source.hold()
        client.call("session_stop", session="jam")
    run("session_tables", env, tmp_path, "jam", "--store", str(daemon.store), "--after", "0.01")
    with (tmp_path / "jam.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [int(row["note"]) for row in rows] == [60, 61, 62]
    assert [float(row["peak_dbfs"]) for row in rows] == [0.0] * 3, rows
    assert np.diff([int(row["frame"]) for row in rows]).tolist() == [12_000, 18_001]
    assert {row["missing"] for row in rows} == {"False"}
