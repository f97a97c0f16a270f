"""What `chaosctl record` makes of a take that has ended: a file of each kind, and the exit code of what is missing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import mido
import numpy as np
import pytest
import soundfile
from click.testing import CliRunner
from crashing import fast_folder
from keys import CrashingKeys
from recorded import Rotator, definition
from sequences import MIDI1

from chaos.cli.recorded import finish
from chaos.cli.recorder import Ending, Take
from chaos.cli.when import Times
from chaos.client import Asking
from chaos.store.info import load
from chaos.store.store import Store
from chaos.store.writer import RecordingWriter

URI = "stream://mic/take"


def ended(store: Path, out: Path, *, strict: bool = False) -> Any:
    """What is said, and the exit code, where the take of that URI in the store has ended."""
    info = load(Store(store).path(URI))
    take = Take(Asking(), store, URI, ending := Ending(), Times(None, None, None))
    take.sample_rate = info.definition.sample_rate
    lost = sum(gap.n_frames for gap in info.gaps)
    stopped = {"uri": URI, "recording": str(info.path), "n_frames": info.n_frames, "lost_frames": lost}

    @click.command()
    def run() -> None:
        finish(take, stopped, out, ending.breakable, force=False, strict=strict, as_json=False)

    return CliRunner().invoke(run)


@pytest.fixture
def take(tmp_path: Path) -> Rotator:
    rotator = Rotator(RecordingWriter.create(Store(tmp_path / "store"), definition(sample_format="s16")))
    rotator.write(40)
    return rotator


@pytest.mark.parametrize("ending", ["wav", "flac"])
def test_strict_is_exit_code_5_where_frames_are_missing_and_the_file_is_there(
    ending: str, take: Rotator, tmp_path: Path
) -> None:
    take.gap(8)
    take.write(16)
    take.stop()
    for strict, code in ((False, 0), (True, 5)):
        out = tmp_path / f"{strict}.{ending}"
        done = ended(tmp_path / "store", out, strict=strict)
        assert done.exit_code == code, done.output
        assert f"{out}: 0:00:00.001 (64 frames), 1 gap, 8 frames lost, hash " in done.stdout
        assert np.array_equal(soundfile.read(out, dtype="int16")[0].T, take.model)


def test_strict_is_0_where_none_is_missing(take: Rotator, tmp_path: Path) -> None:
    take.stop()
    done = ended(tmp_path / "store", tmp_path / "take.flac", strict=True)
    assert (done.exit_code, "0 gaps, 0 frames lost" in done.stdout) == (0, True), done.output


def test_midi_becomes_a_file_that_counts_its_events(tmp_path: Path) -> None:
    with fast_folder() as folder:
        (folder / "slots").mkdir(mode=0o700)
        keys = CrashingKeys(folder / "store", folder / "slots", URI)
        keys.play(16, [(3, MIDI1, b"\x90\x3c\x40"), (9, MIDI1, b"\x80\x3c\x40")])
        keys.stop()
        done = ended(folder / "store", tmp_path / "keys.mid", strict=True)
    assert (done.exit_code, "(16 frames), 2 events, 0 gaps, 0 frames lost" in done.stdout) == (0, True), done.output
    heard = [each for track in mido.MidiFile(tmp_path / "keys.mid").tracks for each in track if not each.is_meta]
    assert [(each.type, each.note) for each in heard] == [("note_on", 60), ("note_off", 60)]
