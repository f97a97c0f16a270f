"""Every container that a recording is saved as, read again by libsndfile, ffmpeg and SoX."""

from __future__ import annotations

import json
import re
import subprocess
from functools import partial
from pathlib import Path
from typing import Any, get_args

import cffi
import msgspec
import numpy as np
import numpy.typing as npt
import pytest
import soundfile
from keys import CrashingKeys
from recorded import Rotator, definition
from sequences import MIDI1

from chaos.cli.main import main
from chaos.export import save as export
from chaos.export.encoded import ENCODED, _storage_errors
from chaos.export.plain import PLAIN
from chaos.export.report import SaveReport
from chaos.protocol.requests import Slice
from chaos.read import recording as reader
from chaos.store.store import Store
from chaos.store.writer import RecordingWriter
from chaos.terms.containers import CONTAINERS, MIDI_CONTAINERS, SUBTYPES, Container, Subtype
from chaos.terms.errors import FormatUnsupported, InvalidRequest, StorageFailed
from chaos.terms.form import SampleFormat
from chaos.terms.ledger import Cause, Confidence, Gap

N = 10_000
GAP = (Cause.MISSED, Confidence.EXACT)
SFC_GET_CUE_COUNT = 0x10CD
save = partial(export.save, force=True)
SURROUND = ["FL", "RL", "FR", "RR", "FC", "LFE"]  # as ALSA has them; FLAC: FL FR FC LFE RL RR


def record(
    store: Path, sample_format: SampleFormat = "f32", channels: int = 2, positions: list[str] | None = None
) -> Rotator:
    shape = definition(channels=channels, chunk_frames=1024, sample_format=sample_format)
    if positions:
        shape = msgspec.structs.replace(shape, positions=positions)
    rotator = Rotator(RecordingWriter.create(Store(store), shape))
    rotator.write(3000)
    rotator.gap(1000)
    rotator.write(N - 4000)
    rotator.stop()
    return rotator


def run(*command: str | Path) -> bytes:
    return subprocess.run(command, check=True, capture_output=True, timeout=60).stdout


def by_ffmpeg(path: Path, channels: int) -> npt.NDArray[Any]:
    raw = run("ffmpeg", "-v", "error", "-i", path, "-f", "f64le", "-")
    return np.frombuffer(raw, "<f8").reshape(-1, channels)


def by_sox(path: Path, channels: int) -> npt.NDArray[Any]:
    kind = ["-t", "wav"] if path.suffix == ".rf64" else []
    raw = run("sox", *kind, path, "-t", "raw", "-e", "signed", "-b", "32", "-L", "-")
    return np.frombuffer(raw, "<i4").reshape(-1, channels) / 2.0**31


def as_float(model: npt.NDArray[Any]) -> npt.NDArray[Any]:
    return model.T.astype(np.float64) / (1.0 if model.dtype.kind == "f" else 2.0 ** (8 * model.dtype.itemsize - 1))


@pytest.mark.parametrize("sample_format", ["f32", "s16", "s32"])
@pytest.mark.parametrize("container", ["wav", "rf64", "w64", "caf"])
@pytest.mark.parametrize("channels", [1, 2, 6])
def test_lossless_containers_are_exact(
    tmp_path: Path, container: Container, sample_format: SampleFormat, channels: int
) -> None:
    rotator = record(tmp_path, sample_format, channels)
    out = tmp_path / f"out.{container}"
    report = save(reader.open(rotator.writer.path), out)
    assert report.is_exact
    assert (report.container, report.n_written) == (container, N)
    kind = {"f32": "float32", "s16": "int16", "s32": "int32"}[sample_format]
    np.testing.assert_array_equal(soundfile.read(out, dtype=kind, always_2d=True)[0].T, rotator.model)
    np.testing.assert_array_equal(by_ffmpeg(out, channels), as_float(rotator.model))
    # SoX reads w64 and caf through libsndfile, which scales floats to the peak.
    is_scaled = container in ("w64", "caf") and sample_format == "f32"
    allowed = 2.0**-15 if is_scaled else 2.0**-24
    np.testing.assert_allclose(by_sox(out, channels), as_float(rotator.model), atol=allowed, rtol=0)


@pytest.mark.parametrize("container", ["wav", "rf64", "w64", "caf", "flac"])
@pytest.mark.parametrize("subtype", ["PCM_24", "PCM_16"])
@pytest.mark.parametrize("sample_format", ["f32", "s16", "s32"])
@pytest.mark.parametrize("n_frames", [N, 4001])
def test_subtypes_are_rounded_to_the_nearest_and_the_report_says_by_how_much(
    tmp_path: Path, container: Container, subtype: Subtype, sample_format: SampleFormat, n_frames: int
) -> None:
    """An odd count of 24 bit frames of one channel is an odd count of bytes."""
    rotator = record(tmp_path, sample_format, 1)
    out = tmp_path / f"out.{container}"
    report = save(reader.open(rotator.writer.path), out, 0, n_frames, subtype=subtype)
    assert soundfile.info(out).subtype == report.subtype == subtype
    truth = as_float(rotator.model)[:n_frames]
    full = 2.0 ** (int(subtype[-2:]) - 1)
    expected = np.rint(truth * full).clip(-full, full - 1) / full
    saved = soundfile.read(out, dtype="float64", always_2d=True)[0]
    np.testing.assert_allclose(saved, expected, atol=(1.0 / full if sample_format == "s32" else 0), rtol=0)
    assert report.max_error == pytest.approx(float(np.abs(saved - truth).max()), abs=2.0**-31)
    assert report.max_error is not None
    assert report.max_error <= (0.5 if not report.clipped else 1.0) / full
    assert report.is_exact == (report.max_error == 0) == bool(np.array_equal(saved, truth))
    np.testing.assert_array_equal(by_ffmpeg(out, 1), saved)
    np.testing.assert_array_equal(by_sox(out, 1), saved)


@pytest.mark.parametrize("container", ["wav", "rf64"])
@pytest.mark.parametrize("n_gaps", [900, 2000, 20_000])
def test_any_number_of_gaps_can_be_read(tmp_path: Path, container: Container, n_gaps: int) -> None:
    """libsndfile takes up to 2,500 cue points (and of RF64 none); before the samples 900 of them hid these."""
    writer = RecordingWriter.create(Store(tmp_path), definition(channels=1, chunk_frames=1 << 16))
    samples = np.random.default_rng(1).uniform(-1, 1, 1 << 16).astype("<f4")
    for k in range(n_gaps):
        writer.gap(Gap(3 * k, 1, *GAP))
        samples[3 * k] = 0
    writer.seal(0, samples.data, 0, 1 << 16)
    writer.finish(1 << 16, True)
    out = tmp_path / f"out.{container}"
    assert len(save(reader.open(writer.path), out).gaps) == n_gaps
    np.testing.assert_array_equal(soundfile.read(out, dtype="float32")[0], samples)
    np.testing.assert_array_equal(by_ffmpeg(out, 1)[:, 0], samples)
    np.testing.assert_allclose(by_sox(out, 1)[:, 0], samples, atol=2.0**-24, rtol=0)
    assert run("sox", "--i", "-s", out).strip() == b"65536"
    assert run("ffprobe", "-v", "error", "-of", "csv", "-show_chapters", out).count(b"chapter") == n_gaps
    if container == "wav" and n_gaps <= 2500:
        with soundfile.SoundFile(out) as file:
            count = soundfile._ffi.new("uint32_t *")
            assert soundfile._snd.sf_command(file._file, SFC_GET_CUE_COUNT, count, 4)
            assert count[0] == n_gaps


def layout_of(path: Path) -> str:
    told = json.loads(run("ffprobe", "-v", "error", "-of", "json", "-show_streams", path))
    return str(told["streams"][0].get("channel_layout", ""))


def test_flac_has_its_channels_where_its_readers_look_for_them(tmp_path: Path) -> None:
    """5.1 in ALSA's order: the centre may not come out of a rear loudspeaker."""
    rotator = record(tmp_path, "s16", 6, SURROUND)
    out = tmp_path / "out.flac"
    report = save(reader.open(rotator.writer.path), out)
    assert report.positions == ["FL", "FR", "FC", "LFE", "RL", "RR"]
    saved = soundfile.read(out, dtype="int16")[0].T
    for channel, position in enumerate(report.positions):
        np.testing.assert_array_equal(saved[channel], rotator.model[SURROUND.index(position)])
    assert layout_of(out) == "5.1"


@pytest.mark.parametrize(
    ("positions", "layout"),
    [
        (["FL", "FR", "FC", "LFE"], "3.1"),
        (["SL", "SR", "FL", "FR"], "4.0|quad(side)"),
        (["FL", "FR", "LFE"], "2.1"),
        (["FR", "FL"], "stereo"),
    ],
)
def test_flac_names_other_speakers_in_its_mask(tmp_path: Path, positions: list[str], layout: str) -> None:
    rotator = record(tmp_path, "s16", len(positions), positions)
    out = tmp_path / "out.flac"
    report = save(reader.open(rotator.writer.path), out)
    assert layout_of(out) in layout.split("|")
    order = [positions.index(position) for position in report.positions]
    np.testing.assert_array_equal(soundfile.read(out, dtype="int16")[0].T, rotator.model[order])
    run("sox", out, "-n", "stat")


def test_flac_refuses_channels_that_are_no_speakers(tmp_path: Path) -> None:
    recording = reader.open(record(tmp_path, channels=4).writer.path)
    with pytest.raises(FormatUnsupported, match="AUX0") as caught:
        save(recording, tmp_path / "out.flac")
    assert "--split-channels" in caught.value.hint
    assert len(export.save_split(recording, tmp_path / "out.flac")) == 4


def test_one_file_per_channel(tmp_path: Path) -> None:
    rotator = record(tmp_path / "store", "s32", 3, ["FL", "FR", "AUX/7"])
    progress: list[tuple[int, int]] = []
    reports = export.save_split(
        reader.open(rotator.writer.path), tmp_path / "take.wav", progress=lambda *told: progress.append(told)
    )
    names = ["take-1-FL.wav", "take-2-FR.wav", "take-3-AUX_7.wav"]
    assert sorted(path.name for path in tmp_path.glob("*.wav")) == names
    assert progress[-1] == (N, N)
    for channel, (report, name) in enumerate(zip(reports, names, strict=True)):
        assert (report.channel, report.channels, Path(report.path).name) == (channel + 1, 1, name)
        np.testing.assert_array_equal(soundfile.read(tmp_path / name, dtype="int32")[0], rotator.model[channel])
    assert len({report.root_hash for report in reports}) == 1


def test_opus_is_lossy_and_says_so(tmp_path: Path) -> None:
    rotator = record(tmp_path)
    report = save(reader.open(rotator.writer.path), tmp_path / "out.opus")
    assert (report.is_exact, report.max_error, report.subtype) == (False, None, "OPUS")
    assert soundfile.info(tmp_path / "out.opus").frames == N
    told = json.loads(run("ffprobe", "-v", "error", "-of", "json", "-show_streams", tmp_path / "out.opus"))
    (stream,) = told["streams"]
    assert (stream["codec_name"], stream["channels"]) == ("opus", 2)
    many = reader.open(record(tmp_path / "many", channels=3).writer.path)
    with pytest.raises(FormatUnsupported, match="2 channels"):
        save(many, tmp_path / "many.opus")


def ixml_of(path: Path) -> str:
    return re.search(rb"<BWFXML>.*</BWFXML>", path.read_bytes(), re.DOTALL)[0].decode()  # type: ignore[index]


def test_wav_names_its_channels(tmp_path: Path) -> None:
    rotator = record(tmp_path, "f32", 2, ["FL", "<R>\x1b"])
    save(reader.open(rotator.writer.path), tmp_path / "out.wav")
    names = re.findall("<NAME>(.*?)</NAME>", ixml_of(tmp_path / "out.wav"))
    assert names == ["FL", "&lt;R&gt;\\x1b"]


@pytest.mark.parametrize(
    ("name", "options", "error"),
    [
        ("o.mp3", {}, InvalidRequest),
        ("o.ogg", {}, InvalidRequest),
        ("o.opus", {"subtype": "PCM_16"}, InvalidRequest),
        ("o.opus", {"gaps": "nan"}, InvalidRequest),
        ("o.wav", {"gaps": "nan", "subtype": "PCM_24"}, InvalidRequest),
        ("o.flac", {"subtype": "FLOAT"}, FormatUnsupported),
        ("o.flac", {"subtype": "PCM_32"}, FormatUnsupported),
    ],
)
def test_what_cannot_be_written_is_refused(
    tmp_path: Path, name: str, options: dict[str, Any], error: type[Exception]
) -> None:
    recording = reader.open(record(tmp_path).writer.path)
    with pytest.raises(error):
        save(recording, tmp_path / name, **options)
    assert not (tmp_path / name).exists()
    assert not list(tmp_path.glob(".*"))


def test_integers_are_not_made_floats(tmp_path: Path) -> None:
    with pytest.raises(FormatUnsupported, match="integer"):
        save(reader.open(record(tmp_path, "s16").writer.path), tmp_path / "o.wav", subtype="FLOAT")


def a_tune(folder: Path) -> Path:
    keys = CrashingKeys(folder / "store", folder / "slots")
    keys.play(16, [(3, MIDI1, b"\x90\x40\x7f")])
    keys.stop()
    return keys.recording


def test_each_container_has_one_way_of_being_written() -> None:
    assert sorted([*PLAIN, *ENCODED, *MIDI_CONTAINERS]) == sorted(CONTAINERS)


@pytest.mark.parametrize("container", CONTAINERS)
def test_each_container_is_known_wherever_it_is_named(tmp_path: Path, container: Container) -> None:
    """A new one is declared in `terms`, and must be written, asked for and documented."""
    taken = a_tune(tmp_path) if container in MIDI_CONTAINERS else record(tmp_path).writer.path
    report = save(reader.open(taken), tmp_path / f"out.{container}")
    assert isinstance(report, SaveReport)
    assert report.container == container
    slice_ = msgspec.convert(
        {"op": "slice", "uri": "stream://a/b", "from": "start", "to": "head", "output": "materialize"}
        | {"container": container},
        Slice,
    )
    assert slice_.container == container
    options = {option.name: option for option in main.commands["save"].params}
    assert container in options["container"].type.choices  # type: ignore[attr-defined]
    root = Path(__file__).parents[2]
    assert f"`{container}`" in (root / "docs" / "PROTOCOL.md").read_text()
    assert f"`.{container}`" in (root / "README.md").read_text()


def test_the_lists_are_those_of_the_types() -> None:
    assert get_args(Container) == CONTAINERS
    assert get_args(Subtype) == SUBTYPES


def test_what_could_not_be_written_is_not_held_by_the_error(tmp_path: Path) -> None:
    """Else Python before 3.12.7 may crash when it collects the error."""
    frames = memoryview(bytearray(16))

    def write() -> None:
        held = cffi.FFI().from_buffer(frames)  # as soundfile does
        raise soundfile.SoundFileRuntimeError(f"no room for {len(held)} bytes")

    with pytest.raises(StorageFailed, match="no room for 16 bytes") as caught, _storage_errors(tmp_path / "out.flac"):
        write()
    frames.release()  # which is refused while anything holds it
    assert isinstance(caught.value.__cause__, soundfile.SoundFileRuntimeError)
