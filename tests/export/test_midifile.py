"""MIDI recordings as files: what is in the store is in the file, at its frame, with gaps, marks and damage told."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import mido
import msgspec
import pytest
from click.testing import CliRunner
from crashing import fast_folder
from hypothesis import given, settings
from hypothesis import strategies as st
from keys import CrashingKeys
from recorded import Rotator, definition
from sequences import MESSAGES, MIDI1, UMP

import chaos
from chaos.cli.main import main
from chaos.cli.saved import saved_lines
from chaos.export.jobs import Slicer
from chaos.export.save import save, save_aligned, save_split, save_to
from chaos.export.smf import TAG
from chaos.store.marking import mark_ended
from chaos.store.store import Store
from chaos.store.writer import RecordingWriter
from chaos.terms.errors import FormatUnsupported, InvalidRequest
from chaos.terms.ledger import ClockAnchor
from chaos.terms.marks import Mark

NOTE = b"\x90\x40\x7f"
cycles = st.lists(
    st.one_of(
        st.tuples(
            st.just("play"),
            st.integers(1, 40).flatmap(
                lambda n: st.tuples(st.just(n), st.lists(st.tuples(st.integers(0, n - 1), MESSAGES), max_size=5))
            ),
        ),
        st.tuples(st.just("miss"), st.integers(1, 100)),
        st.tuples(st.just("rotate"), st.none()),
    ),
    min_size=1,
    max_size=15,
)


def take(folder: Path, **options: Any) -> CrashingKeys:
    return CrashingKeys(folder / "store", folder / "slots", **options)


def read(path: Path) -> list[tuple[int, bytes]]:
    """What mido finds, also in the events that only chaosd reads."""
    found = []
    for track in mido.MidiFile(path).tracks[1:]:
        at = 0
        for message in track:
            at += message.time
            if message.type == "sequencer_specific":
                found.append((at, bytes(message.data)[len(TAG) + 1 :]))
            elif not message.is_meta:
                found.append((at, bytes(message.bytes())))
    return found


@settings(max_examples=60, deadline=None)
@given(cycles, st.integers(8, 60))
def test_every_event_of_the_store_is_in_the_file_at_its_frame(steps: list[tuple[str, Any]], chunk_frames: int) -> None:
    with fast_folder() as folder:
        keys = take(folder, chunk_frames=chunk_frames, n_slots=6)
        keys.play(4, [(0, MIDI1, NOTE)])
        for name, what in steps:
            if name == "play":
                keys.play(what[0], [(at, MIDI1, data) for at, data in sorted(what[1], key=lambda each: each[0])])
            elif name == "miss":
                keys.miss(what)
            else:
                keys.rotate()
        keys.stop()
        with chaos.open(keys.recording) as recording:
            report = save(recording, folder / "out.mid")
        assert read(folder / "out.mid") == [(frame, data) for frame, _, data in keys.offered]
        assert report.n_written == keys.n_frames
        assert report.midi is not None
        assert report.midi.invalid == 0


def a_tune(folder: Path) -> CrashingKeys:
    """Notes at 3, 18, 33, 48, a gap of 16 frames at 16 between the first and the second cycle, and a mark."""
    keys = take(folder)
    for number in range(4):
        keys.play(16, [(3, MIDI1, bytes([0x90, 60 + number, 100]))])
        keys.rotate()
    keys.miss(16)
    keys.play(16, [(0, UMP, (0x40903C00).to_bytes(4, "little") + (0x12345678).to_bytes(4, "little"))])
    keys.stop()
    mark_ended(keys.recording, Mark(20, "verse 2"))
    return keys


def test_gaps_marks_and_what_is_lost_are_told(tmp_path: Path) -> None:
    keys = a_tune(tmp_path)
    with chaos.open(keys.recording) as recording:
        report = save(recording, tmp_path / "out.mid", labels=True)
    first = mido.MidiFile(tmp_path / "out.mid").tracks[0]
    texts = [message.text for message in first if message.type == "text"]
    assert any("gap: 16 frames missed" in text for text in texts)
    assert [message.text for message in first if message.type == "marker"] == ["verse 2"]
    assert any(report.root_hash in text for text in texts)
    assert (report.missing_frames, len(report.gaps), report.is_exact) == (16, 1, False)
    assert report.midi is not None
    assert report.midi.rounded == {"note_on": 1}
    assert "verse 2" in (tmp_path / "out.txt").read_text()


def test_a_range_and_a_cut(tmp_path: Path) -> None:
    keys = a_tune(tmp_path)
    with chaos.open(keys.recording) as recording:
        save(recording, tmp_path / "part.mid", 16, 32)
        assert read(tmp_path / "part.mid") == [(3, b"\x90\x3d\x64"), (19, b"\x90\x3e\x64")]
        report = save(recording, tmp_path / "cut.mid", gaps="cut")
        assert [at for at, _ in read(tmp_path / "cut.mid")][-1] == 64
        assert report.n_written == keys.n_frames - 16
        with pytest.raises(InvalidRequest, match="no NaN"):
            save(recording, tmp_path / "nan.mid", gaps="nan")


def test_a_damaged_chunk_is_told(tmp_path: Path) -> None:
    keys = a_tune(tmp_path)
    chunk = keys.recording / "events" / "raw" / "c" / "1"
    data = bytearray(chunk.read_bytes())
    data[9] ^= 1
    chunk.unlink()
    chunk.write_bytes(data)
    with chaos.open(keys.recording) as recording:
        report = save(recording, tmp_path / "out.mid")
    assert [(damage.reason, damage.chunk) for damage in report.damaged] == [("hash_mismatch", 1)]
    assert not report.is_exact


def test_bars_and_clips_and_pipes(tmp_path: Path) -> None:
    keys = a_tune(tmp_path)
    with chaos.open(keys.recording) as recording:
        report = save(recording, tmp_path / "bars.mid", tempo=96)
        assert mido.tempo2bpm(mido.MidiFile(tmp_path / "bars.mid").tracks[0][1].tempo) == 96
        assert report.midi is not None
        assert report.midi.max_shift_frames > 0
        clip = save(recording, tmp_path / "clip.midi2")
        assert (tmp_path / "clip.midi2").read_bytes().startswith(b"SMF2CLIP")
        assert (clip.subtype, clip.is_exact) == ("UMP", True)
        assert clip.midi is not None
        assert saved_lines([clip])[0].count(f"midi2 UMP, {clip.midi.n_events} packets, ") == 1
        pipe = io.BytesIO()
        save_to(recording, pipe, container="mid")
        save(recording, tmp_path / "file.mid")
        assert pipe.getvalue() == (tmp_path / "file.mid").read_bytes()


def test_sound_and_midi_are_not_taken_for_each_other(tmp_path: Path) -> None:
    keys = a_tune(tmp_path)
    audio = a_sound(tmp_path / "store", keys, 0)
    with chaos.open(keys.recording) as recording, chaos.open(audio) as sound:
        with pytest.raises(FormatUnsupported, match="is MIDI"):
            save(recording, tmp_path / "out.wav")
        with pytest.raises(FormatUnsupported, match="is audio"):
            save(sound, tmp_path / "out.mid")
        with pytest.raises(InvalidRequest, match="no channels"):
            save_split(recording, tmp_path / "out.mid")
        with pytest.raises(InvalidRequest, match="no samples"):
            save(recording, tmp_path / "out.mid", subtype="PCM_16")
        with pytest.raises(InvalidRequest, match="no tempo"):
            save(sound, tmp_path / "out.wav", tempo=120)
    assert not list(tmp_path.glob("out*"))


def a_sound(store: Path, keys: CrashingKeys, n_behind: int) -> Path:
    """An audio recording of 64 frames of the same run and clock, that begins so many frames behind the keys'."""
    with chaos.open(keys.recording) as recording:
        here, shape = recording.anchors[0], recording.definition
    told = definition("stream://mic/sound", channels=1, started_wall_ns=shape.started_wall_ns)
    writer = RecordingWriter.create(Store(store), msgspec.structs.replace(told, run_id=shape.run_id))
    ns = n_behind * 1_000_000_000 // 48_000
    writer.anchor(
        ClockAnchor(0, here.position + n_behind, here.monotonic_ns + ns, here.wall_ns + ns, here.clock_id)
    )
    rotator = Rotator(writer, seed=3)
    rotator.write(64)
    rotator.stop()
    return writer.path


def test_audio_and_midi_are_saved_side_by_side_aligned_to_the_frame(tmp_path: Path) -> None:
    keys = a_tune(tmp_path)
    sound_path = a_sound(tmp_path / "store", keys, 10)
    with chaos.open(keys.recording) as recording, chaos.open(sound_path) as sound:
        reports = save_aligned([sound, recording], tmp_path / "both", tempo=None)
        assert [report.first_frame for report in reports] == [0, 10]
        assert [report.aligned_by for report in reports] == ["graph_clock"] * 2
        assert [report.n_written for report in reports] == [64, 64]
    assert sorted(path.name for path in (tmp_path / "both").iterdir()) == ["mic-sound.wav", "mic-take.mid"]
    expected = [(frame - 10, data) for frame, kind, data in keys.offered if kind == MIDI1 and 10 <= frame < 74]
    assert read(tmp_path / "both" / "mic-take.mid") == expected


def test_the_daemons_slices_are_midi_files_too(tmp_path: Path) -> None:
    keys = a_tune(tmp_path)
    slicer = Slicer(tmp_path / "slices")
    try:
        made = slicer.materialize(keys.recording, "start", "head")
    finally:
        slicer.close()
    assert made["path"].endswith(f"-0-{keys.n_frames}.mid")
    assert [at for at, _ in read(Path(made["path"]))][:4] == [3, 19, 35, 51]
    assert made["midi"]["n_events"] == 5
    assert len(made["chunks"]) == made["n_chunks"]


def test_chaosctl_saves_and_says_what_a_file_cannot_hold(tmp_path: Path) -> None:
    keys = a_tune(tmp_path)
    done = CliRunner().invoke(main, ["save", str(keys.recording), str(tmp_path / "a.mid")])
    assert done.exit_code == 0, done.output
    assert "mid MIDI, 5 events, 1 gap, 16 frames missing" in done.stdout
    assert "1 note-on message" in done.stdout
    done = CliRunner().invoke(main, ["save", str(keys.recording), str(tmp_path / "b.mid"), "--tempo", "97", "--json"])
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["midi"]["max_shift_frames"] > 0
