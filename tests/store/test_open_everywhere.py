"""What other people's tools make of a recording, running and finished; a warning of theirs fails the test."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import tensorstore
import xarray
import zarr
from recorded import START_NS, Rotator, definition

from chaos.store.metadata import rebuild_metadata
from chaos.store.store import Store
from chaos.store.verify import verify
from chaos.store.writer import RecordingWriter
from chaos.terms.form import SampleFormat
from chaos.terms.ledger import CLOCK_COLUMNS, GAP_COLUMNS, Cause

Samples = npt.NDArray[Any]


def begin(store: Path, sample_format: SampleFormat = "f32", channels: int = 3) -> Rotator:
    shape = definition(channels=channels, chunk_frames=1024, sample_format=sample_format)
    return Rotator(RecordingWriter.create(Store(store), shape))


def fill(rotator: Rotator) -> None:
    """Chunks 0 and 1, a gap over chunk 2, chunks 3 and 4; then 100 frames that nobody has sealed."""
    rotator.anchor()
    rotator.write(1500)
    rotator.gap(2000, Cause.DEVICE_AWAY)
    rotator.write(1720)
    rotator.anchor()


def with_zarr(path: Path) -> Samples:
    group = zarr.open_group(path, mode="r")
    assert sorted(name for name, _ in group.members()) == ["audio", "clock", "gaps", "overview"]
    audio = group["audio"]
    assert isinstance(audio, zarr.Array)
    assert audio.metadata.dimension_names == ("channel", "frame")  # type: ignore[union-attr]
    return np.asarray(audio[:])


def with_xarray(path: Path) -> Samples:
    return np.asarray(xarray.open_zarr(path)["audio"].values)


def with_tensorstore(path: Path) -> Samples:
    spec = {"driver": "zarr3", "kvstore": {"driver": "file", "path": f"{path}/audio/"}}
    array = tensorstore.open(spec, read=True).result()
    assert array.domain.labels == ("channel", "frame")
    return np.asarray(array.read().result())


@pytest.mark.parametrize("tool", [with_zarr, with_xarray, with_tensorstore])
@pytest.mark.parametrize("sample_format", ["f32", "s16", "s32"])
def test_it_opens_from_beginning_to_end(tmp_path: Path, sample_format: SampleFormat, tool: Any) -> None:
    rotator = begin(tmp_path, sample_format)
    path = rotator.writer.path
    assert tool(path).shape == (3, 0)
    fill(rotator)
    n_sealed = rotator.writer.n_frames
    assert n_sealed == 5120
    np.testing.assert_array_equal(tool(path), rotator.model[:, :n_sealed])
    rotator.stop()
    samples = tool(path)
    assert samples.dtype == rotator.model.dtype
    np.testing.assert_array_equal(samples, rotator.model)


@pytest.mark.parametrize("finished", [False, True])
def test_xarray_shows_what_a_researcher_asks_for(tmp_path: Path, finished: bool) -> None:
    rotator = begin(tmp_path)
    fill(rotator)
    if finished:
        rotator.stop()
    n_frames = 5220 if finished else 5120
    dataset = xarray.open_zarr(rotator.writer.path)
    sizes = {"channel": 3, "frame": n_frames, "gap": 1, "gap_column": 4, "clock_column": 8}
    assert dict(dataset.sizes) == {**sizes, "anchor": 2 if finished else 1}
    assert dataset.attrs["state"] == ("finished" if finished else "recording")
    assert dataset.attrs["title"] == "stream://mic/take, A microphone"
    assert (dataset.attrs["sample_rate"], dataset.attrs["sample_rate_units"]) == (48000, "Hz")
    start = np.datetime64(dataset.attrs["started_utc"].removesuffix("Z"), "ns")
    assert start == np.datetime64(START_NS, "ns")
    audio = dataset["audio"]
    assert audio.dims == ("channel", "frame")
    assert (audio.attrs["device"], audio.attrs["units"]) == ("A microphone", "1 = full scale")
    assert audio.attrs["positions"] == ["AUX0", "AUX1", "AUX2"]
    assert audio.chunks == ((3,), (1024,) * 5 + ((100,) if finished else ()))
    gaps = dataset["gaps"]
    assert tuple(gaps.attrs["columns"]) == GAP_COLUMNS
    first_frame, length, cause, _ = gaps.values[0].tolist()
    assert (first_frame, length, gaps.attrs["causes"][str(cause)]) == (1500, 2000, "device_away")
    clock = dataset["clock"]
    assert tuple(clock.attrs["columns"]) == CLOCK_COLUMNS
    assert clock.values[:, 3].tolist()[0] == START_NS


def test_dask_computes_on_it_chunk_by_chunk(tmp_path: Path) -> None:
    rotator = begin(tmp_path)
    fill(rotator)
    rotator.stop()
    audio = xarray.open_zarr(rotator.writer.path)["audio"]
    assert audio.data.npartitions == 6
    peak = np.abs(audio).max("frame").compute(scheduler="synchronous")
    np.testing.assert_array_equal(peak.values, np.abs(rotator.model).max(axis=1))
    part = audio.isel(frame=slice(1000, 4000))[1]
    np.testing.assert_array_equal(part.values, rotator.model[1, 1000:4000])


def test_an_external_recording_opens_without_audio(tmp_path: Path) -> None:
    shape = definition(external=True, chunk_frames=1024)
    with_no_audio = Rotator(RecordingWriter.create(Store(tmp_path), shape))
    with_no_audio.gap(100)
    with_no_audio.writer.finish(100, True)
    dataset = xarray.open_zarr(with_no_audio.writer.path)
    assert set(dataset) == {"gaps", "clock"}
    assert verify(with_no_audio.writer.path).ok


def test_the_group_says_what_its_arrays_say(tmp_path: Path) -> None:
    rotator = begin(tmp_path)
    path = rotator.writer.path
    fill(rotator)
    for _ in range(2):
        group = json.loads((path / "zarr.json").read_text())
        arrays = group["consolidated_metadata"]["metadata"]
        assert arrays == {name: json.loads((path / name / "zarr.json").read_text()) for name in arrays}
        assert sorted(arrays)[:4] == ["audio", "clock", "gaps", "overview"]
        if group["attributes"]["state"] == "recording":
            rotator.stop()
    before = (path / "zarr.json").read_bytes()
    (path / "zarr.json").unlink()
    rebuild_metadata(path)
    assert (path / "zarr.json").read_bytes() == before
    assert verify(path).ok
    arrays["audio"]["shape"][1] -= 1
    (path / "zarr.json").write_text(json.dumps(group))
    (bad,) = verify(path).bad
    assert (bad.reason, bad.found) == ("metadata_mismatch", "zarr.json")


def test_what_people_add_to_the_attributes_is_no_defect(tmp_path: Path) -> None:
    rotator = begin(tmp_path)
    fill(rotator)
    rotator.stop()
    path = rotator.writer.path
    zarr.open_group(path, mode="r+").attrs["note"] = {"by": "ear"}
    zarr.open_array(path / "audio", mode="r+").attrs["note"] = "loud"
    assert verify(path).ok
