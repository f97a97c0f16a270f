"""Saved files as other programs read them: their samples, when they began, where their gaps are."""

from __future__ import annotations

import io
import json
import os
import struct
import subprocess
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import soundfile
from recorded import START_NS, Rotator, definition

from chaos.export import save as export
from chaos.export import wav
from chaos.read import recording as reader
from chaos.store.store import Store
from chaos.store.verify import verify
from chaos.store.writer import RecordingWriter
from chaos.terms.errors import FormatUnsupported, StorageFull
from chaos.terms.form import SampleFormat
from chaos.terms.ledger import Cause, ClockAnchor, Confidence, Gap

SECOND = 1_000_000_000
SFC_GET_CUE = 0x10CE
save = partial(export.save, force=True)


def record(store: Path, sample_format: SampleFormat = "f32", channels: int = 2) -> Rotator:
    """10,000 frames; gaps from 1,000 to 1,500 and from 4,000 to 8,000. It began 2.5 s after noon."""
    shape = definition(channels=channels, chunk_frames=1024, sample_format=sample_format)
    rotator = Rotator(RecordingWriter.create(Store(store), shape))
    rotator.writer.anchor(ClockAnchor(0, 0, 0, START_NS + 5 * SECOND // 2))
    rotator.write(1000)
    rotator.gap(500)
    rotator.write(2500)
    rotator.gap(4000, Cause.DEVICE_AWAY)
    rotator.write(2000)
    rotator.stop()
    return rotator


@pytest.fixture
def rotator(tmp_path: Path) -> Rotator:
    return record(tmp_path / "store")


@pytest.fixture
def recording(rotator: Rotator) -> reader.Recording:
    return reader.open(rotator.writer.path)


def run(*command: str | Path) -> bytes:
    return subprocess.run(command, check=True, capture_output=True, timeout=60).stdout


def probe(path: Path) -> dict[str, Any]:
    """What ffprobe says: the format's tags, the chapters, the stream."""
    told: dict[str, Any] = json.loads(
        run("ffprobe", "-v", "error", "-of", "json", "-show_format", "-show_chapters", "-show_streams", path)
    )
    return told


def chunks_of(path: Path) -> dict[str, int]:
    """The chunks of a RIFF file in their order, with their sizes; the sizes must add up."""
    data = path.read_bytes()
    assert data[8:12] == b"WAVE"
    is_rf64 = data[:4] == b"RF64"
    size = struct.unpack_from("<Q", data, 20)[0] if is_rf64 else struct.unpack_from("<I", data, 4)[0]
    assert size == len(data) - 8
    found, at = {}, 12
    while at < len(data):
        name, n_bytes = struct.unpack_from("<4sI", data, at)
        if name == b"data" and is_rf64:
            (n_bytes,) = struct.unpack_from("<Q", data, 28)
        found[name.decode()] = n_bytes
        at += 8 + n_bytes + n_bytes % 2
    assert at == len(data)
    return found


def cues_of(path: Path) -> list[tuple[int, str]]:
    """The cue points as libsndfile reads them: frame, label."""
    ffi = soundfile._ffi
    point = struct.Struct("<iI4s3I256s")
    with soundfile.SoundFile(path) as file:
        buffer = ffi.new("char[]", 4 + 100 * point.size)
        assert soundfile._snd.sf_command(file._file, SFC_GET_CUE, buffer, len(buffer))
        raw = ffi.buffer(buffer)[:]
    (n_points,) = struct.unpack_from("<I", raw)
    points = [point.unpack_from(raw, 4 + k * point.size) for k in range(n_points)]
    return [(each[5], each[6].split(b"\0")[0].decode()) for each in points]


def chapters_of(path: Path) -> list[tuple[int, str]]:
    """The cue points as ffmpeg reads them: frame, label."""
    chapters = probe(path)["chapters"]
    return [(round(float(each["start_time"]) * 48_000), each["tags"]["title"]) for each in chapters]


DECODERS = {
    "f32": ("f32le", "floating-point", "32"),
    "s16": ("s16le", "signed", "16"),
    "s32": ("s32le", "signed", "32"),
}


@pytest.mark.parametrize("sample_format", ["f32", "s16", "s32"])
@pytest.mark.parametrize("container", ["wav", "rf64"])
@pytest.mark.parametrize("channels", [1, 2, 6, 64])
def test_ffmpeg_and_sox_read_every_sample(
    tmp_path: Path, sample_format: SampleFormat, container: str, channels: int
) -> None:
    rotator = record(tmp_path, sample_format, channels)
    out = tmp_path / f"out.{container}"
    save(reader.open(rotator.writer.path), out, container=container)
    ffmpeg, encoding, bits = DECODERS[sample_format]
    expected = rotator.model.T
    read = run("ffmpeg", "-v", "error", "-i", out, "-f", ffmpeg, "-")
    np.testing.assert_array_equal(np.frombuffer(read, expected.dtype).reshape(-1, channels), expected)
    read = run("sox", "-t", "wav", out, "-t", "raw", "-e", encoding, "-b", bits, "-L", "-")
    of_sox: npt.NDArray[Any] = np.frombuffer(read, expected.dtype).reshape(-1, channels)
    if sample_format == "f32":  # sox goes through 32 bit integers
        np.testing.assert_allclose(of_sox, expected, atol=2.0**-24, rtol=0)
    else:
        np.testing.assert_array_equal(of_sox, expected)


@pytest.mark.parametrize(("container", "opening"), [("wav", ["bext"]), ("rf64", ["ds64", "bext"])])
def test_what_can_be_long_stands_behind_the_samples(
    tmp_path: Path, recording: reader.Recording, container: str, opening: list[str]
) -> None:
    out = tmp_path / "out.wav"
    save(recording, out, container=container)
    found = chunks_of(out)
    assert list(found) == [*opening, "iXML", "fmt ", "fact", "data", "cue ", "LIST"]
    assert found["data"] == 10_000 * 8


@pytest.mark.parametrize("container", ["wav", "rf64"])
def test_bext_says_when_and_of_what(
    tmp_path: Path, rotator: Rotator, recording: reader.Recording, container: str
) -> None:
    out = tmp_path / "out.wav"
    report = save(recording, out, container=container)
    tags = probe(out)["format"]["tags"]
    assert (tags["date"], tags["creation_time"]) == ("2026-01-31", "12:00:02")
    assert int(tags["time_reference"]) == (12 * 3600 * 2 + 5) * 24_000
    assert tags["comment"] == "stream://mic/take, frames 0 to 10000; A microphone"
    assert (tags["encoded_by"], tags["originator_reference"]) == ("chaosd test", "run")
    root = verify(rotator.writer.path).root_hash
    assert report.root_hash == root
    assert tags["coding_history"].startswith("A=PCM,F=48000,W=32,M=stereo,T=chaosd test; float; gaps zeros")
    assert f"BLAKE3 root of {report.n_chunks} chunks {root}" in tags["coding_history"]
    assert report.started_utc == "2026-01-31T12:00:02.500000000Z"


def test_bext_of_a_part_is_of_the_part(tmp_path: Path, recording: reader.Recording) -> None:
    out = tmp_path / "out.wav"
    report = save(recording, out, 5_000, 2)
    assert report.n_chunks == 0
    whole = save(recording, out, 24, 100)
    assert whole.n_chunks == 1
    assert whole.root_hash != report.root_hash
    assert int(probe(out)["format"]["tags"]["time_reference"]) == (12 * 3600 * 2 + 5) * 24_000 + 24
    cut = save(recording, out, 1_200, 1_000, gaps="cut")
    assert cut.n_written == 700
    assert int(probe(out)["format"]["tags"]["time_reference"]) == (12 * 3600 * 2 + 5) * 24_000 + 1_500


def test_the_time_of_day_follows_the_anchors(tmp_path: Path) -> None:
    """A device that is 1 % slow: between anchors time is interpolated, behind the last the nominal rate counts."""
    rotator = Rotator(RecordingWriter.create(Store(tmp_path), definition(chunk_frames=1024)))
    midnight = START_NS // (86_400 * SECOND) * 86_400 * SECOND
    rotator.writer.anchor(ClockAnchor(0, 0, 0, midnight))
    rotator.writer.anchor(ClockAnchor(4_800, 0, 0, midnight + 101_000_000))
    rotator.write(10_000)
    rotator.stop()
    recording = reader.open(rotator.writer.path)
    out = tmp_path / "out.wav"
    for first, ms in [(0, 0), (2_400, 50.5), (4_800, 101), (9_600, 201)]:
        report = save(recording, out, first, 10)
        assert int(probe(out)["format"]["tags"]["time_reference"]) == ms * 48
        moment = datetime.fromtimestamp(midnight / SECOND, UTC)
        assert report.started_utc == f"{moment:%Y-%m-%d}T00:00:00.{round(ms * 1_000_000):09d}Z"
        assert recording.frame_of(datetime.fromisoformat(report.started_utc)) == first


def test_gaps_are_cue_points(tmp_path: Path, recording: reader.Recording) -> None:
    out = tmp_path / "out.wav"
    labels = ["gap: 500 frames missed (exact)", "gap: 4000 frames device_away (exact)"]
    save(recording, out)
    assert cues_of(out) == chapters_of(out) == [(1000, labels[0]), (4000, labels[1])]
    save(recording, out, 1_200, 4_000, container="rf64")
    assert chapters_of(out) == [(0, labels[0]), (2_800, labels[1])]
    save(recording, out, gaps="cut")
    assert cues_of(out) == [(1000, f"{labels[0]}, cut out"), (3500, f"{labels[1]}, cut out")]
    save(recording, out, 1_500, 2_500)
    assert "cue " not in chunks_of(out)


def test_a_discontinuity_of_no_length_is_a_cue_point_too(tmp_path: Path) -> None:
    rotator = Rotator(RecordingWriter.create(Store(tmp_path), definition(chunk_frames=1024)))
    rotator.write(1000)
    rotator.gap(0, Cause.DRIVER_SWITCH)
    rotator.write(1000)
    rotator.stop()
    recording = reader.open(rotator.writer.path)
    out = tmp_path / "out.wav"
    label = "gap: 0 frames driver_switch (exact)"
    for first, end, cues in [(0, 2000, [(1000, label)]), (1000, 2000, [(0, label)]), (0, 1001, [(1000, label)])]:
        save(recording, out, first, end - first)
        assert cues_of(out) == cues
    assert save(recording, out, gaps="cut").n_written == 2000
    for first, end in [(0, 1000), (1001, 2000)]:
        assert save(recording, out, first, end - first).gaps == []


def test_flac_says_what_it_cost_and_what_it_is(tmp_path: Path, recording: reader.Recording) -> None:
    out = tmp_path / "out.flac"
    report = save(recording, out)
    assert not report.is_exact
    assert 2.0**-26 < report.max_error <= 2.0**-24
    tags = {name.lower(): text for name, text in probe(out)["format"]["tags"].items()}
    assert tags["title"] == "stream://mic/take"
    assert tags["date"] == "2026-01-31T12:00:02.500000000Z"
    assert report.root_hash in tags["comment"]
    read = run("ffmpeg", "-v", "error", "-i", out, "-f", "s32le", "-")
    np.testing.assert_array_equal(
        np.frombuffer(read, "<i4").reshape(-1, 2), soundfile.read(out, dtype="int32")[0]
    )


def test_a_stream_gets_the_same_bytes_as_a_file(tmp_path: Path, rotator: Rotator, recording: reader.Recording) -> None:
    raw = io.BytesIO()
    report = export.save_to(recording, raw)
    np.testing.assert_array_equal(np.frombuffer(raw.getvalue(), "<f4").reshape(-1, 2), rotator.model.T)
    assert (report.path, report.container, report.n_written) == ("-", "raw", 10_000)
    save(recording, tmp_path / "out.raw", 5, 500)
    assert (tmp_path / "out.raw").read_bytes() == raw.getvalue()[5 * 8 : 505 * 8]
    for container in ("wav", "rf64"):
        stream = io.BytesIO()
        export.save_to(recording, stream, 900, 3000, "cut", container)
        piped = tmp_path / "piped.wav"
        piped.write_bytes(stream.getvalue())
        save(recording, tmp_path / "out.wav", 900, 3000, "cut", container)
        chunks, of_pipe = chunks_of(tmp_path / "out.wav"), chunks_of(piped)
        assert of_pipe.pop("bext") < chunks.pop("bext")
        assert of_pipe == chunks
        assert chapters_of(piped) == chapters_of(tmp_path / "out.wav")
        np.testing.assert_array_equal(soundfile.read(piped)[0], soundfile.read(tmp_path / "out.wav")[0])
    with pytest.raises(FormatUnsupported, match="pipe"):
        export.save_to(recording, io.BytesIO(), container="flac")


def test_speakers_are_named_where_wav_can(tmp_path: Path) -> None:
    for positions, mask in [(["FL", "FR", "FC", "LFE"], 0xF), (["FR", "FL", "FC"], 0), (["AUX0"] * 3, 0)]:
        form = wav.WavFormat(len(positions), 48_000, 32, True, positions)
        blank = wav.Broadcast("", "", "", 0, "")
        head = wav.header(form, 0, blank)
        at = head.index(b"fmt ")
        assert struct.unpack_from("<H", head, at + 8) == (0xFFFE,)
        assert struct.unpack_from("<I", head, at + 8 + 20) == (mask,)


def test_sizes_beyond_4_gib_are_in_ds64(tmp_path: Path) -> None:
    """The file has a hole where its samples would be."""
    form = wav.WavFormat(2, 48_000, 32, True)
    n_frames = 600_000_000
    assert wav.needs_rf64(form, n_frames)
    assert not wav.needs_rf64(form, n_frames // 2)
    out = tmp_path / "out.rf64"
    tail = wav.trailer(form, n_frames, [wav.Cue(5, 1, "gap")])
    head = wav.header(form, n_frames, wav.Broadcast("", "", "", 0, "x"), "rf64", len(tail))
    with out.open("wb") as file:
        file.write(head)
        file.seek(len(head) + n_frames * 8)
        file.write(tail)
    with soundfile.SoundFile(out) as sound:
        assert (sound.frames, sound.format) == (n_frames, "RF64")
        sound.seek(n_frames - 5)
        assert len(sound.read()) == 5
    (stream,) = probe(out)["streams"]
    assert int(stream["duration_ts"]) == n_frames
    assert chapters_of(out) == [(5, "gap")]


@pytest.mark.parametrize(("channels", "sample_bits"), [(1, 16), (2, 32), (64, 32)])
@pytest.mark.parametrize("n_cues", [0, 100_000])
def test_the_largest_wav_still_has_room_for_its_header(channels: int, sample_bits: int, n_cues: int) -> None:
    """All that stands around the samples counts in the 32 bits of the file's size."""
    positions = [f"AUX{channel} ".ljust(128, "x") for channel in range(channels)]
    form = wav.WavFormat(channels, 48_000, sample_bits, sample_bits == 32, positions)
    tail = wav.trailer(form, 0, [wav.Cue(5, 1, "gap: 1 frames missed (exact)")] * n_cues)
    least, beyond = 0, 1 << 33
    while beyond - least > 1:
        middle = (least + beyond) // 2
        least, beyond = (least, middle) if wav.needs_rf64(form, middle, len(tail)) else (middle, beyond)
    broadcast = wav.Broadcast("d" * 300, "o" * 40, "r" * 40, 0, "x" * 4000)
    head = wav.header(form, least, broadcast, "wav", len(tail), 4096)
    (size,) = struct.unpack_from("<I", head, 4)
    n_bytes = least * form.frame_bytes
    assert size + 8 == len(head) + n_bytes + len(tail)
    assert n_bytes + len(tail) > (1 << 32) - (1 << 17), "and no more is given away than that"


def test_a_full_disk_is_told_before_anything_is_written(
    tmp_path: Path, recording: reader.Recording, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "statvfs", lambda _: type("Room", (), {"f_bavail": 19, "f_frsize": 4096}))
    with pytest.raises(StorageFull) as caught:
        save(recording, tmp_path / "out.wav")
    assert caught.value.details["needed_bytes"] == 80_000
    assert [path.name for path in tmp_path.iterdir()] == ["store"]


def test_what_overflows_wav_becomes_rf64_and_is_read_to_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A sparse recording: sound, a gap, sound. `just big` makes the gap so long that the file passes 4 GiB."""
    n_gap = int(os.environ.get("CHAOS_BIG_FRAMES", "300000"))
    if n_gap * 8 < 1 << 32:
        monkeypatch.setattr(wav, "_RIFF_LIMIT_BYTES", n_gap * 8)
    shape = definition(chunk_frames=1 << 16)
    writer = RecordingWriter.create(Store(tmp_path), shape)
    chunk = np.random.default_rng(3).uniform(-1, 1, (2, 1 << 16)).astype("<f4")
    n_gap -= n_gap % (1 << 16)
    n_frames = n_gap + (1 << 17)
    writer.seal(0, chunk.data, 0, 1 << 16)
    writer.gap(Gap(1 << 16, n_gap, Cause.DEVICE_AWAY, Confidence.CLOCK))
    writer.seal(n_gap // (1 << 16) + 1, chunk.data, n_gap + (1 << 16), 1 << 16)
    writer.finish(n_frames, True)
    out = tmp_path / "out.wav"
    steps: list[int] = []
    report = save(reader.open(writer.path), out, progress=lambda done, total: steps.append(done))
    assert (report.container, report.n_written) == ("rf64", n_frames)
    assert out.stat().st_size > n_frames * 8
    assert steps[-1] == n_frames
    assert len(steps) > n_frames // (1 << 17)
    with soundfile.SoundFile(out) as sound:
        assert (sound.frames, sound.format) == (n_frames, "RF64")
        np.testing.assert_array_equal(sound.read(1 << 16, dtype="float32").T, chunk)
        sound.seek(n_frames - (1 << 16) - 1)
        last = sound.read(dtype="float32").T
    np.testing.assert_array_equal(last[:, 1:], chunk)
    assert not last[:, 0].any()
    (stream,) = probe(out)["streams"]
    assert int(stream["duration_ts"]) == n_frames
    first = (n_frames - (1 << 16)) / 48_000
    read = run("ffmpeg", "-v", "error", "-ss", f"{first:.9f}", "-i", out, "-f", "f32le", "-")
    np.testing.assert_array_equal(np.frombuffer(read, "<f4").reshape(-1, 2).T[:, -1000:], chunk[:, -1000:])
    out.unlink()
