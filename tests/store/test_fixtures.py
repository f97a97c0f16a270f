"""Recordings and staging files of every released version are read by this one (see fixtures/make.py)."""

from __future__ import annotations

import importlib.util
import struct
import tarfile
from pathlib import Path
from types import ModuleType
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import pytest
import zarr

from chaos import _layout
from chaos.read import recording as reader
from chaos.staging.reader import StagingReader
from chaos.store import recovery
from chaos.store.info import load
from chaos.store.recovery import recover
from chaos.store.store import Store
from chaos.store.verify import verify
from chaos.terms.ledger import Cause

FIXTURES = Path(__file__).parent / "fixtures"
VERSIONS = sorted(path.name.removesuffix(".tar.gz") for path in FIXTURES.glob("*.tar.gz"))


def _maker() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_fixtures", FIXTURES / "make.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


MAKE = _maker()


@pytest.fixture(params=VERSIONS)
def made(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A store as this version left it, and its staging folder beside it."""
    with tarfile.open(FIXTURES / f"{request.param}.tar.gz") as archive:
        archive.extractall(tmp_path, filter="tar")
    return tmp_path


def recording(made: Path, take: str) -> Path:
    return made / "store" / "recordings" / "mic" / f"{take}.zarr"


def expected(channels: int, sample_format: str, n_frames: int = 90) -> npt.NDArray[Any]:
    audio: npt.NDArray[Any] = MAKE.frames(channels, 0, n_frames, sample_format)
    for gap in MAKE.GAPS:
        audio[:, gap.first_frame : gap.end_frame] = 0
    return audio


def test_there_are_fixtures() -> None:
    assert "0.1" in VERSIONS


@pytest.mark.parametrize(
    ("take", "channels", "sample_format"), [("clean", 2, "f32"), ("s16", 3, "s16"), ("s32", 1, "s32")]
)
def test_finished_recordings(made: Path, take: str, channels: int, sample_format: str) -> None:
    path = recording(made, take)
    assert verify(path).bad == []
    audio = expected(channels, sample_format)
    with reader.open(path) as opened:
        np.testing.assert_array_equal(opened[:], audio)
        assert opened.gaps == MAKE.GAPS
        assert opened.anchors[0] == MAKE.anchor(0)
        assert opened.dtype == MAKE.DTYPES[sample_format]
    group: Any = zarr.open_group(path, mode="r")
    np.testing.assert_array_equal(group["audio"][:], audio)


def test_what_it_says_of_itself(made: Path) -> None:
    shape = load(recording(made, "s32")).definition
    assert (shape.continues, shape.keep, shape.device["identity"]) == ("stream://mic/s16", "7d", "serial:1")


def test_a_retired_recording(made: Path) -> None:
    path = recording(made, "retired")
    assert verify(path).bad == []
    audio = expected(2, "f32")
    audio[:, :32] = 0
    with reader.open(path) as opened:
        np.testing.assert_array_equal(opened[:], audio)
        assert sum(gap.n_frames for gap in opened.gaps if gap.cause is Cause.RETIRED) == 27


def test_an_interrupted_recording_is_recovered_from_its_part_file(made: Path) -> None:
    path = recording(made, "interrupted")
    (made / "staging" / "mic~crashed.staging").unlink()
    assert recover(Store(made / "store"), made / "staging").ok
    assert verify(path).bad == []
    with reader.open(path) as opened:
        np.testing.assert_array_equal(opened[:77], expected(2, "f32")[:, :77])


def _moved_here(staging: Path, store: Path) -> None:
    """Makes the file say that it was made for this store."""
    with StagingReader(staging) as found:
        about = msgspec.json.decode(found.about)
        at, size = found.state("about_offset"), found.state("about_bytes")
    new = msgspec.json.encode({**about, "store": str(store)}).ljust(size)
    data = bytearray(staging.read_bytes())
    data[at : at + size] = new
    assert struct.unpack_from("<Q", data, _layout.OFFSETS["about_bytes"])[0] == len(new)
    staging.write_bytes(data)


def test_a_staging_file_is_recovered(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, staging = recording(made, "crashed"), made / "staging" / "mic~crashed.staging"
    _moved_here(staging, made / "store")
    monkeypatch.setattr(recovery, "machine_id", lambda: "0" * 32)
    report = recover(Store(made / "store"), made / "staging")
    assert report.ok
    assert not staging.exists()
    assert verify(path).bad == []
    audio = MAKE.frames(2, 0, 58)
    audio[:, 20:25] = 0
    audio[:, 52:] = 0
    with reader.open(path) as opened:
        np.testing.assert_array_equal(opened[:58], audio)
        told = [(gap.first_frame, gap.n_frames, gap.cause) for gap in opened.gaps if gap.first_frame < 58]
        assert told == [(20, 5, Cause.MISSED), (52, 6, Cause.NO_DATA)]
