"""The staging file: its layout on disk, its readers in other processes, its refusals."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from chaos import _layout
from chaos.staging.layout import slots_for
from chaos.staging.owner import Staging
from chaos.staging.reader import StagingReader
from chaos.terms.errors import StagingFull, StorageFailed
from chaos.terms.form import AudioForm

# Written down once more by hand: a reader in another language, or of another build, relies on these.
LAYOUT_1 = {
    "magic": 0, "version": 8, "channels": 12, "sample_bytes": 16, "sample_format": 20, "n_slots": 24,
    "ring_size": 28, "n_notes": 32, "pid": 36, "chunk_frames": 40, "slot_bytes": 48, "table_offset": 56,
    "free_offset": 64, "full_offset": 72, "notes_offset": 80, "data_offset": 88, "file_bytes": 96,
    "sample_rate": 104, "run_id": 112, "boot_id": 128, "uri": 144, "recording": 336, "about_offset": 1360,
    "about_bytes": 1368, "chunk_bytes": 1376, "standby": 1384, "base_chunk": 1392, "base_ns": 1400, "base_lost": 1408,
    "base_gaps": 1416,
    "head_frame": 2048, "n_captured": 2056, "lost_frames": 2064, "seen_rate": 2136,
    "clock_id": 2152, "position": 2160, "end_ns": 2168, "gap_first": 2176, "gap_cause": 2184, "filling": 2192,
    "first_ns": 2200, "first_position": 2208, "busy_histogram": 2232,
    "freewheeled": 2488, "stands": 2496, "n_events": 2504, "n_at_zero": 2512, "n_beyond": 2520,
    "free_write": 3072, "free_read": 3136,
    "full_write": 3200, "full_read": 3264, "note_write": 3328, "note_read": 3392, "hint": 3456, "stalled": 3520,
}  # fmt: skip


@pytest.fixture
def wake() -> Iterator[int]:
    fd = os.eventfd(0, os.EFD_NONBLOCK)
    yield fd
    os.close(fd)


def make(path: Path, wake: int, **changed: object) -> Staging:
    options: dict[str, object] = {
        "uri": "stream://mic/1", "recording": "/store/x.zarr", "run_id": "ab" * 16,
        "form": AudioForm(2, 100, "f32"), "n_slots": 3, "sample_rate": 48000, "wake_fd": wake,
    }  # fmt: skip
    return Staging(path, **{**options, **changed})  # type: ignore[arg-type]


def test_the_layout_is_the_one_written_down() -> None:
    assert _layout.LAYOUT == 1
    assert _layout.OFFSETS == LAYOUT_1
    assert _layout.CONTROL == 4096
    assert (_layout.ENTRY_BYTES, _layout.NOTE_BYTES) == (64, 64)
    assert 2048 + _layout.RT_BYTES <= 3072, "the callback's part ends before the rings begin"


def test_another_process_reads_what_is_committed(tmp_path: Path, wake: int) -> None:
    staging = make(tmp_path / "s", wake)
    samples = np.arange(2 * 150, dtype="<f4").reshape(2, 150)
    staging.slots.cycle(0, 150, samples.tobytes())
    script = (
        "import sys; from pathlib import Path; from chaos.staging.reader import StagingReader\n"
        "with StagingReader(Path(sys.argv[1])) as r:\n"
        "    print(r.uri, r.recording, r.head_frame, r.form.channels, r.run_id == 'ab' * 16, r.same_boot)\n"
        "    sys.stdout.flush(); sys.stdout.buffer.write(r.read_chunk(1, 10, 50))\n"
    )
    said = subprocess.run([sys.executable, "-c", script, staging.path], capture_output=True, check=True).stdout
    line, raw = said.split(b"\n", 1)
    assert line.decode() == "stream://mic/1 /store/x.zarr 150 2 True True"
    assert raw == samples[:, 110:150].tobytes()
    staging.close()


def test_a_reader_that_was_lapped_finds_out(tmp_path: Path, wake: int) -> None:
    staging = make(tmp_path / "s", wake)
    staging.slots.cycle(0, 250, np.ones((2, 250), "<f4").tobytes())
    with StagingReader(staging.path) as reader:
        assert sorted(reader.chunks()) == [0, 1, 2]
        assert reader.read_chunk(0, 0, 100) is not None
        full = staging.slots.take_full()
        assert full is not None
        staging.slots.give_back(full[0])
        assert reader.read_chunk(0, 0, 100) is None
    staging.close()


def test_what_is_no_staging_file_is_refused_and_left_alone(tmp_path: Path, wake: int) -> None:
    for name, content in (("short", b"x"), ("zeros", bytes(8192)), ("text", b"CHAOSSTG" + bytes(8192))):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(StorageFailed):
            StagingReader(tmp_path / name)
        assert (tmp_path / name).read_bytes() == content
    staging = make(tmp_path / "s", wake)
    with staging.path.open("r+b") as file:
        file.truncate(4096)
    with pytest.raises(StorageFailed):
        StagingReader(staging.path)
    staging.close()


def test_an_existing_file_is_not_taken_over(tmp_path: Path, wake: int) -> None:
    (tmp_path / "s").write_bytes(b"of somebody")
    with pytest.raises(StorageFailed):
        make(tmp_path / "s", wake)
    assert (tmp_path / "s").read_bytes() == b"of somebody"


def test_no_room_is_an_error_and_leaves_no_file(tmp_path: Path, wake: int) -> None:
    with pytest.raises(StagingFull) as caught:
        make(tmp_path / "s", wake, form=AudioForm(2, 1 << 44, "f32"))
    assert caught.value.details["needed_bytes"] > 1 << 44
    assert not (tmp_path / "s").exists()


def test_closing_removes_the_file_unless_it_is_still_needed(tmp_path: Path, wake: int) -> None:
    kept, gone = make(tmp_path / "kept", wake), make(tmp_path / "gone", wake)
    kept.close(remove=False)
    gone.close()
    assert kept.path.exists()
    assert not gone.path.exists()


@pytest.mark.parametrize(
    ("staging_s", "chunk_frames", "n_slots"), [(30, 480_000, 4), (0.1, 480_000, 3), (30, 48_000, 31)]
)
def test_slots_hold_the_seconds_asked_for_while_one_more_fills(
    staging_s: float, chunk_frames: int, n_slots: int
) -> None:
    assert slots_for(staging_s, chunk_frames, 48000) == n_slots
