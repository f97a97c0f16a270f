"""Recordings and staging files of every released version are read by this one (see fixtures/make.py)."""

from __future__ import annotations

import importlib.util
import json
import struct
import tarfile
from pathlib import Path
from types import ModuleType
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import pytest
import soundfile
import zarr
from catalogued import agree
from click.testing import CliRunner

from chaos import _layout
from chaos.cli.main import main
from chaos.read import recording as reader
from chaos.staging.reader import StagingReader
from chaos.store import recovery
from chaos.store.catalog import Catalog
from chaos.store.info import load
from chaos.store.recovery import recover
from chaos.store.store import Store
from chaos.store.verify import verify
from chaos.terms.ledger import FIRST_CLOCK_COLUMNS, Cause, ClockState, Confidence, Gap

FIXTURES = Path(__file__).parent / "fixtures"
VERSIONS = sorted(path.name.removesuffix(".tar.gz") for path in FIXTURES.glob("[0-9]*.tar.gz"))
TAKES = sorted(path.name.removesuffix(".tar.gz") for path in FIXTURES.glob("takes-*.tar.gz"))


def _maker() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_fixtures", FIXTURES / "make.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


MAKE = _maker()


def unpacked(name: str, folder: Path) -> Path:
    with tarfile.open(FIXTURES / f"{name}.tar.gz") as archive:
        # Python 3.11.2 has no filters.
        archive.extraction_filter = getattr(tarfile, "tar_filter", lambda member, _: member)
        archive.extractall(folder)
    return folder


@pytest.fixture(params=VERSIONS)
def made(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A store as this version left it, and its staging folder beside it."""
    return unpacked(request.param, tmp_path)


@pytest.fixture(params=TAKES)
def taken(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """As `made`, with what came after the first recordings."""
    return unpacked(request.param, tmp_path)


def recording(made: Path, take: str) -> Path:
    return made / "store" / "recordings" / "mic" / f"{take}.zarr"


def expected(channels: int, sample_format: str, n_frames: int = 90) -> npt.NDArray[Any]:
    audio: npt.NDArray[Any] = MAKE.frames(channels, 0, n_frames, sample_format)
    for gap in MAKE.GAPS:
        audio[:, gap.first_frame : gap.end_frame] = 0
    return audio


def test_there_are_fixtures() -> None:
    assert {"0.1", "0.1-errors"} <= set(VERSIONS)
    assert "takes-0.1" in TAKES


def test_all_takes_are_sound_and_in_the_catalogue(taken: Path) -> None:
    store = Store(taken / "store")
    for name in ("rolled", "rolled.0001", "marked", "stepped", "away", "mostly-retired"):
        assert verify(recording(taken, name)).bad == []
    (store.root / "catalog.db").unlink(missing_ok=True)
    with Catalog(store) as catalog:
        agree(catalog, store.root)
    report = recover(store, taken / "staging")
    assert report.ok
    assert report.items == []


def test_a_stream_that_was_rolled_is_one(taken: Path) -> None:
    with reader.open("stream://mic/rolled", taken / "store") as opened:
        assert opened.n_frames >= 180
        np.testing.assert_array_equal(opened[:90], expected(2, "f32"))
    assert load(recording(taken, "rolled.0001")).definition.continues == "stream://mic/rolled"


def test_marks(taken: Path) -> None:
    with reader.open(recording(taken, "marked")) as opened:
        assert opened.marks == MAKE.MARKS


def test_steps_of_the_wall_clock(taken: Path) -> None:
    told = [anchor.row(FIRST_CLOCK_COLUMNS) for anchor in load(recording(taken, "stepped")).anchors]
    assert told == [anchor.row(FIRST_CLOCK_COLUMNS) for anchor in MAKE.STEPPED]
    with reader.open(recording(taken, "stepped")) as opened:
        np.testing.assert_array_equal(opened[:], MAKE.frames(2, 0, 90))


def test_a_gap_that_was_open_when_power_was_cut(taken: Path) -> None:
    info = load(recording(taken, "away"))
    assert (info.n_frames, info.clean) == (16, False)
    assert info.gaps == [Gap(10, 6, Cause.NO_DATA, Confidence.EXACT)]
    with reader.open(info.path) as opened:
        np.testing.assert_array_equal(opened[:10], MAKE.frames(2, 0, 10))
        assert not opened[10:].any()


def test_what_was_retired_up_to_the_last_chunk(taken: Path) -> None:
    path = recording(taken, "mostly-retired")
    assert [sealed.chunk for sealed in load(path).chunks if Path(sealed.path).exists()] == [5]
    audio = expected(2, "f32")
    audio[:, :80] = 0
    with reader.open(path) as opened:
        np.testing.assert_array_equal(opened[:], audio)


@pytest.mark.parametrize("made", ["0.1-errors"], indirect=True)
def test_a_signature_stays_good(made: Path) -> None:
    report = verify(recording(made, "signed"))
    assert (report.bad, report.proof) == ([], "signature")
    assert [each.public_key for each in report.signatures] == [MAKE.SIGNER.public]


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
        assert opened.anchors[0].row(FIRST_CLOCK_COLUMNS) == MAKE.anchor(0).row(FIRST_CLOCK_COLUMNS)
        if opened.definition.clock_errors:
            assert opened.anchors == [MAKE.anchor(frame) for frame in (0, *(gap.end_frame for gap in MAKE.GAPS))]
        else:
            assert {anchor.clock_state for anchor in opened.anchors} == {ClockState.UNKNOWN}
        assert opened.dtype == MAKE.DTYPES[sample_format]
    group: Any = zarr.open_group(path, mode="r")
    np.testing.assert_array_equal(group["audio"][:], audio)


def test_it_is_saved(made: Path, tmp_path: Path) -> None:
    """As `chaosctl save` does it, with its gaps in the report."""
    out = tmp_path / "saved.wav"
    done = CliRunner().invoke(main, ["save", str(recording(made, "clean")), str(out), "--json"])
    assert done.exit_code == 0, done.output
    samples, _ = soundfile.read(out, dtype="float32")
    np.testing.assert_array_equal(samples.T, expected(2, "f32"))
    assert json.loads(done.stdout)["missing_frames"] == sum(gap.n_frames for gap in MAKE.GAPS)


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
