"""A store that is moved, or removed, while something is recorded into it: the take stays in one piece."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import zarr
from crashing import CrashingStream, fast_folder

from chaos.store.info import load
from chaos.store.verify import verify
from chaos.system.folders import OpenFolder


@pytest.fixture
def folder() -> Iterator[Path]:
    with fast_folder() as folder:
        yield folder


@pytest.mark.parametrize("n_before", [5, 20, 40])
def test_a_take_goes_on_in_the_store_that_was_moved(folder: Path, n_before: int) -> None:
    stream = CrashingStream(folder / "store", folder / "slots", n_slots=6)
    stream.write(n_before)
    stream.tick()
    (folder / "store").rename(folder / "elsewhere")
    stream.write(40)
    stream.tick()
    stream.no_data(5)
    stream.write(20)
    stream.tick()
    stream.stop()
    assert not (folder / "store").exists()
    path = folder / "elsewhere" / "recordings" / "mic" / "take.zarr"
    assert verify(path).bad == []
    assert (load(path).n_frames, load(path).clean) == (stream.n_frames, True)
    np.testing.assert_array_equal(zarr.open_group(path, mode="r")["audio"][:], stream.model)
    objects = [each for each in (folder / "elsewhere" / "objects").rglob("*") if each.is_file()]
    assert len(objects) == len(load(path).chunks)
    assert stream.told("storage_failed") == []


def test_events_name_the_file_where_it_is(folder: Path) -> None:
    stream = CrashingStream(folder / "store", folder / "slots")
    stream.write(20)
    stream.rotate()
    (folder / "store").rename(folder / "elsewhere")
    stream.write(20)
    stream.rotate()
    paths = [Path(fields["path"]) for kind, fields in stream.events if kind == "stream_chunk_sealed"]
    assert [path.exists() for path in paths] == [False, True]
    stream.stop()


def test_a_store_that_is_gone_is_a_failure_and_nothing_comes_in_its_place(folder: Path) -> None:
    stream = CrashingStream(folder / "store", folder / "slots", n_slots=6)
    stream.write(20)
    stream.tick()
    shutil.rmtree(folder / "store")
    stream.write(20)
    stream.tick()
    assert stream.told("storage_failed") == ["storage_failed"]
    stream.finish()
    assert not (folder / "store").exists()
    assert stream.staging.path.exists()
    stream.crash()


def test_an_open_folder_knows_its_name(tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    opened = OpenFolder(tmp_path / "one")
    (tmp_path / "one").rename(tmp_path / "two")
    assert opened.name == tmp_path / "two"
    (opened.path / "file").write_text("in two")
    assert (tmp_path / "two" / "file").exists()
    (tmp_path / "two").rename(tmp_path / "three")
    opened.close()
    opened.close()
    assert opened.name == tmp_path / "three"


def test_an_open_folder_that_has_no_name_any_more_keeps_the_one_it_had(tmp_path: Path) -> None:
    """So it can look there again: the name in /proc of what was unmounted begins at the mount and leads elsewhere."""
    (tmp_path / "one").mkdir()
    opened = OpenFolder(tmp_path / "one")
    (tmp_path / "one").rename(tmp_path / "two")
    assert opened.name == tmp_path / "two"
    (tmp_path / "two").rmdir()
    (tmp_path / "two").mkdir()
    with mock.patch.object(Path, "readlink", return_value=Path("/two")):
        assert opened.name == tmp_path / "two"
    opened.look_again()
    (opened.path / "file").write_text("in the new one")
    assert (tmp_path / "two" / "file").exists()
    opened.close()


def test_a_store_that_was_moved_is_found_again_when_its_filesystem_has_gone_and_come_back(folder: Path) -> None:
    """As after an unmount and a mount: what was open leads nowhere, and under the new name lies a copy."""
    stream = CrashingStream(folder / "store", folder / "slots", n_slots=8)
    stream.write(20)
    stream.tick()
    moved = folder / "elsewhere"
    (folder / "store").rename(moved)
    stream.write(20)
    stream.tick()
    shutil.copytree(moved, folder / "disk", symlinks=True)
    shutil.rmtree(moved)
    stream.write(20)
    stream.tick()
    assert stream.told("storage_failed", "storage_restored") == ["storage_failed"]
    (folder / "disk").rename(moved)
    for _ in range(3):  # it looks there when it is refused, and goes on at the next try
        stream.tick()
    assert stream.told("storage_failed", "storage_restored") == ["storage_failed", "storage_restored"]
    stream.write(20)
    stream.tick()
    stream.stop()
    assert not (folder / "store").exists()
    path = moved / "recordings" / "mic" / "take.zarr"
    assert verify(path).bad == []
    np.testing.assert_array_equal(zarr.open_group(path, mode="r")["audio"][:], stream.model)
