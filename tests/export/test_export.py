from __future__ import annotations

import os
import resource
import signal
from collections.abc import Iterator
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import soundfile
from recorded import Rotator, definition, failing_call, no_space

from chaos.export import save as export
from chaos.export import source, wav
from chaos.read import recording as reader
from chaos.store.store import Store
from chaos.store.writer import RecordingWriter
from chaos.terms.errors import FormatUnsupported, InvalidRange, InvalidRequest, StorageFailed, StorageFull
from chaos.terms.form import SampleFormat

save = partial(export.save, force=True)


def record(store: Path, sample_format: SampleFormat = "f32", channels: int = 2) -> Rotator:
    """10,000 frames, of which 1,000 to 1,500 and 4,000 to 8,000 are gaps."""
    shape = definition(channels=channels, chunk_frames=1024, sample_format=sample_format)
    rotator = Rotator(RecordingWriter.create(Store(store), shape))
    rotator.write(1000)
    rotator.gap(500)
    rotator.write(2500)
    rotator.gap(4000)
    rotator.write(2000)
    rotator.stop()
    return rotator


@pytest.fixture
def rotator(tmp_path: Path) -> Rotator:
    return record(tmp_path / "store")


@pytest.fixture
def recording(rotator: Rotator) -> reader.Recording:
    return reader.open(rotator.writer.path)


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source, "_BLOCK_SAMPLES", 2)


def test_a_pipe_in_place_of_a_chunk_is_damage_and_holds_nobody_up(recording: reader.Recording, tmp_path: Path) -> None:
    chunk = recording.path / "audio/c/0/0"
    chunk.unlink()
    os.mkfifo(chunk)
    report = save(recording, tmp_path / "out.wav")
    assert [damage.reason for damage in report.damaged] == ["unreadable"]


@pytest.mark.parametrize(
    ("sample_format", "subtype", "dtype"),
    [("f32", "FLOAT", "float32"), ("s16", "PCM_16", "int16"), ("s32", "PCM_32", "int32")],
)
@pytest.mark.parametrize("name", ["out.wav", "out.rf64", "out"])
@pytest.mark.parametrize("channels", [1, 2, 64])
def test_wav_is_sample_exact(
    tmp_path: Path, sample_format: SampleFormat, subtype: str, dtype: str, name: str, channels: int
) -> None:
    rotator = record(tmp_path, sample_format, channels)
    progress: list[tuple[int, int]] = []
    out = tmp_path / name
    report = save(
        reader.open(rotator.writer.path), out, progress=lambda done, total: progress.append((done, total))
    )
    with soundfile.SoundFile(out) as file:
        assert (file.samplerate, file.channels, file.subtype) == (48000, channels, subtype)
        is_plain = channels <= 2 and sample_format != "s32"
        assert file.format == ("RF64" if name.endswith("rf64") else "WAV" if is_plain else "WAVEX")
        samples = file.read(dtype=dtype, always_2d=True)
    np.testing.assert_array_equal(samples.T, rotator.model)
    assert (report.n_frames, report.n_written, report.lost_frames) == (10_000, 10_000, 4_500)
    assert report.is_exact
    assert report.path == str(out)
    assert progress[0] == (0, 10_000)
    assert progress[-1] == (10_000, 10_000)
    assert sorted(done for done, _ in progress) == [done for done, _ in progress]


def test_any_float_survives(tmp_path: Path) -> None:
    shape = definition(channels=1, chunk_frames=1024)
    writer = RecordingWriter.create(Store(tmp_path), shape)
    bits = np.random.default_rng(1).integers(0, 1 << 32, 1024, np.uint32)
    writer.seal(0, bits.data, 0, 1024)
    writer.finish(1024, True)
    save(reader.open(writer.path), tmp_path / "out.wav")
    samples, _ = soundfile.read(tmp_path / "out.wav", dtype="float32")
    np.testing.assert_array_equal(samples.view(np.uint32), bits)


@pytest.mark.parametrize(
    ("first", "n_frames"), [(0, 1), (1000, 500), (900, 3200), (9999, 1), (1023, 2)]
)
def test_a_range_is_exact(
    tmp_path: Path, rotator: Rotator, recording: reader.Recording, first: int, n_frames: int
) -> None:
    out = tmp_path / "out.wav"
    report = save(recording, out, first, n_frames)
    expected = rotator.model[:, first : first + n_frames]
    np.testing.assert_array_equal(soundfile.read(out, dtype="float32", always_2d=True)[0].T, expected)
    is_gap = np.zeros(10_000, bool)
    is_gap[1000:1500] = is_gap[4000:8000] = True
    assert report.lost_frames == is_gap[first : first + n_frames].sum()
    if is_gap[first : first + n_frames].all():
        with pytest.raises(InvalidRange, match="nothing is left"):
            save(recording, out, first, n_frames, gaps="cut")
        return
    report = save(recording, out, first, n_frames, gaps="cut")
    kept = expected[:, ~is_gap[first : first + n_frames]]
    np.testing.assert_array_equal(soundfile.read(out, dtype="float32", always_2d=True)[0].T, kept)
    assert report.n_written == kept.shape[1]
    save(recording, out, first, n_frames, gaps="nan")
    samples = soundfile.read(out, dtype="float32", always_2d=True)[0]
    np.testing.assert_array_equal(np.isnan(samples[:, 0]), is_gap[first : first + n_frames])


def test_flac_holds_24_bits(tmp_path: Path, rotator: Rotator, recording: reader.Recording) -> None:
    out = tmp_path / "out.flac"
    report = save(recording, out)
    assert (report.container, report.subtype, report.is_exact, report.clipped) == ("flac", "PCM_24", False, 0)
    samples, _ = soundfile.read(out, dtype="int32", always_2d=True)
    expected = np.rint(rotator.model.astype(np.float64) * (1 << 23)).clip(max=(1 << 23) - 1).astype(np.int32)
    np.testing.assert_array_equal(samples.T >> 8, expected)
    assert not np.any(samples & 0xFF)


def test_flac_tells_what_it_cost(tmp_path: Path) -> None:
    def flac(uri: str, frames: npt.NDArray[Any], sample_format: SampleFormat) -> export.SaveReport:
        shape = definition(uri, channels=1, chunk_frames=frames.size, sample_format=sample_format)
        writer = RecordingWriter.create(Store(tmp_path), shape)
        writer.seal(0, frames.data, 0, frames.size)
        writer.finish(frames.size, True)
        return save(reader.open(writer.path), tmp_path / "out.flac")

    loud = np.full(1024, 0.25, "<f4")
    assert flac("stream://a/1", loud, "f32").is_exact
    loud[:6] = [1.0, -1.0, 1.5, -1.5, np.nan, np.inf]
    report = flac("stream://a/2", loud, "f32")
    assert not report.is_exact
    assert report.clipped == 4
    samples, _ = soundfile.read(tmp_path / "out.flac", dtype="int32")
    top, bottom = ((1 << 23) - 1) << 8, -(1 << 31)
    assert samples[:6].tolist() == [top, bottom, top, bottom, 0, top]
    of_24 = np.random.default_rng(2).integers(-(1 << 23), 1 << 23, 1024, "<i4") << 8
    assert flac("stream://a/3", of_24, "s32").is_exact
    np.testing.assert_array_equal(soundfile.read(tmp_path / "out.flac", dtype="int32")[0], of_24)
    assert not flac("stream://a/4", of_24 + 1, "s32").is_exact
    of_16 = (of_24 >> 16).astype("<i2")
    report = flac("stream://a/5", of_16, "s16")
    assert (report.is_exact, report.subtype) == (True, "PCM_16")
    np.testing.assert_array_equal(soundfile.read(tmp_path / "out.flac", dtype="int16")[0], of_16)


def test_wav_becomes_rf64_where_it_must(
    tmp_path: Path, rotator: Rotator, recording: reader.Recording, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out.wav"
    save(recording, out)
    n_behind = out.read_bytes()[::-1].rindex(b"atad") - 80_004  # cue points count too
    assert n_behind > 100
    monkeypatch.setattr(wav, "_RIFF_LIMIT_BYTES", 80_000 + n_behind)
    assert save(recording, out).container == "wav"
    monkeypatch.setattr(wav, "_RIFF_LIMIT_BYTES", 79_999 + n_behind)
    assert save(recording, out).container == "rf64"
    assert soundfile.info(out).format == "RF64"
    np.testing.assert_array_equal(soundfile.read(out, dtype="float32")[0].T, rotator.model)
    assert save(recording, out, gaps="cut").container == "wav"
    assert save(recording, out, container="flac").container == "flac"


@pytest.mark.parametrize(
    ("options", "error", "says"),
    [
        ({"first_frame": -1}, InvalidRange, "10000"),
        ({"first_frame": 10_001}, InvalidRange, "10000"),
        ({"n_frames": 10_001}, InvalidRange, "10000"),
        ({"first_frame": 5, "n_frames": -1}, InvalidRange, "10000"),
        ({"container": "mp3"}, InvalidRequest, "mp3"),
        ({"container": "flac", "gaps": "nan"}, InvalidRequest, "NaN"),
        ({"out": "no/such/out.wav"}, InvalidRequest, "does not exist"),
    ],
)
def test_what_cannot_be_is_refused(
    tmp_path: Path, recording: reader.Recording, options: dict[str, object], error: type[Exception], says: str
) -> None:
    out = tmp_path / str(options.pop("out", "out.wav"))
    before = sorted(tmp_path.iterdir())
    with pytest.raises(error, match=says):
        save(recording, out, **options)  # type: ignore[arg-type]
    assert sorted(tmp_path.iterdir()) == before


def test_flac_has_eight_channels(tmp_path: Path) -> None:
    rotator = record(tmp_path, channels=9)
    with pytest.raises(FormatUnsupported, match="8 channels"):
        save(reader.open(rotator.writer.path), tmp_path / "out.flac")


def test_an_interrupted_export_leaves_the_old_file(
    tmp_path: Path, recording: reader.Recording, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(source, "hold", lambda *_: nullcontext(True))  # which storage may refuse
    out = tmp_path / "out.wav"
    out.write_bytes(b"before")
    names = sorted(tmp_path.iterdir())

    def stop(done: int, total: int) -> None:
        if done:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        save(recording, out, progress=stop)
    assert out.read_bytes() == b"before"
    assert sorted(tmp_path.iterdir()) == names
    with failing_call(1000, no_space) as calls:
        save(recording, tmp_path / "store" / "other.wav")
    opened = 2  # the first two only read
    assert calls[: opened + 1] == ["open"] * 3
    for call in (opened, calls.index("fsync"), calls.index("replace")):
        with failing_call(call, no_space), pytest.raises(StorageFull):
            save(recording, out)
        assert out.read_bytes() == b"before"
    assert sorted(tmp_path.iterdir()) == names


@pytest.fixture
def small_files() -> Iterator[None]:
    """No file may grow beyond 8 KiB: a write then fails as on a bad disk."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (8192, limits[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    signal.signal(signal.SIGXFSZ, handler)


@pytest.mark.parametrize("name", ["out.wav", "out.flac"])
def test_storage_that_fails_is_told(
    tmp_path: Path, recording: reader.Recording, small_files: None, name: str
) -> None:
    with pytest.raises(StorageFailed):
        save(recording, tmp_path / name)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["store"]
