"""What is not a regular file in a store costs the item that it stands for, and keeps nobody waiting."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from crashing import fast_folder
from recorded import Rotator, definition

from chaos.staging.layout import SUFFIX
from chaos.store.catalog import CATALOG, Catalog
from chaos.store.info import load
from chaos.store.pins import pin, pins
from chaos.store.recovery import recover
from chaos.store.retention import retire
from chaos.store.signature import SIGNATURES_NAME
from chaos.store.store import Store
from chaos.store.verify import verify
from chaos.store.writer import RecordingWriter
from chaos.system.files import open_regular, read_regular
from chaos.terms.errors import StorageFailed
from chaos.terms.units import Keep


def _link(path: Path) -> None:
    path.symlink_to("/dev/zero")


irregular = pytest.mark.parametrize("make", [os.mkfifo, _link, os.mkdir], ids=["pipe", "device", "folder"])
Make = Callable[[Path], None]


@pytest.fixture
def store() -> Iterator[Store]:
    with fast_folder() as folder:
        yield Store(folder / "store")


def record(store: Store, take: str) -> Path:
    stream = Rotator(RecordingWriter.create(store, definition(f"stream://mic/{take}")), len(take))
    stream.write(64)
    stream.stop()
    return stream.writer.path


def instead(path: Path, make: Make) -> None:
    path.unlink(missing_ok=True)
    make(path)


def states(store: Store) -> dict[str, str]:
    with Catalog(store) as catalog:
        return {entry.take: entry.state for entry in catalog.entries()}


@irregular
def test_of_a_journal(store: Store, make: Make) -> None:
    path, sound = record(store, "1"), record(store, "22")
    instead(path / "journal.jsonl", make)
    assert states(store) == {"1": "damaged", "22": "finished"}
    with pytest.raises(StorageFailed, match="could not read"):
        verify(path)
    assert verify(sound).ok
    retire(store, Keep(None, 0))
    assert load(sound).gaps


@irregular
@pytest.mark.parametrize("name", ["zarr.json", "gaps/zarr.json", "clock/zarr.json", SIGNATURES_NAME])
def test_of_metadata_and_signatures(store: Store, make: Make, name: str) -> None:
    path = record(store, "1")
    instead(path / name, make)
    report = verify(path)
    assert not report.ok
    assert {defect.reason for defect in report.bad} & {"metadata_mismatch", "signature_bad"}


@irregular
def test_of_a_chunk(store: Store, make: Make) -> None:
    path = record(store, "1")
    instead(Path(load(path).chunks[1].path), make)
    assert len(verify(path).bad) == 1


@irregular
def test_of_what_a_dead_daemon_left(store: Store, make: Make, tmp_path: Path) -> None:
    """Neither a staging file that is found nor one that a journal names keeps recovery waiting."""
    make(tmp_path / f"mic~2.00000000{SUFFIX}")
    named = tmp_path / "named"
    make(named)
    stream = Rotator(RecordingWriter.create(store, definition("stream://mic/1", staging=str(named))), 1)
    stream.write(64)
    stream.writer.close()
    report = recover(store, tmp_path)
    assert "regular file" in " ".join(item.text for item in report.items)
    assert load(stream.writer.path).finish is not None


def _nowhere(path: Path) -> None:
    path.symlink_to("nowhere")


def _huge(path: Path) -> None:
    path.touch()
    os.truncate(path, 2 << 30)


@pytest.mark.parametrize("make", [os.mkfifo, _link, os.mkdir, _nowhere, _huge])
def test_of_a_pin(store: Store, make: Make, caplog: pytest.LogCaptureFixture) -> None:
    """The others keep what they have, and what none has goes."""
    path = record(store, "1")
    pin(store, "good", load(path), 0, 16)
    make(store.pins / "p.json")
    assert [each.name for each in pins(store)] == ["good"]
    retire(store, Keep(None, 0))
    assert load(path).gaps
    assert "p.json keeps nothing" in caplog.text
    assert [chunk.chunk for chunk in load(path).chunks if Path(chunk.path).exists()] == [0]


def test_a_pin_that_is_a_link_to_one_keeps_what_it_says(store: Store) -> None:
    path = record(store, "1")
    pin(store, "good", load(path), 0, 64)
    (store.pins / "good.json").rename(store.root.parent / "moved")
    (store.pins / "good.json").symlink_to(store.root.parent / "moved")
    retire(store, Keep(None, 0))
    assert not load(path).gaps


@irregular
def test_a_hold_is_none(store: Store, make: Make) -> None:
    path = record(store, "1")
    store.pins.mkdir(exist_ok=True)
    make(store.pins / ".0.hold")
    retire(store, Keep(None, 0))
    assert load(path).gaps


@pytest.mark.parametrize("make", [os.mkfifo, _link], ids=["pipe", "device"])
@pytest.mark.parametrize("end", ["", "-wal", "-shm"])
def test_of_the_catalogue(store: Store, make: Make, end: str) -> None:
    record(store, "1")
    for each in store.root.glob(f"{CATALOG}*"):
        each.unlink()
    make(store.root / (CATALOG + end))
    assert states(store) == {"1": "finished"}


def test_a_file_is_read_up_to_its_bound(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"12345")
    assert read_regular(path, 5) == b"12345"
    with pytest.raises(OSError, match="more than 4 bytes"):
        read_regular(path, 4)
    (tmp_path / "link").symlink_to(path)
    with pytest.raises(OSError, match="a link, not a regular file"):
        open_regular(tmp_path / "link")
    assert read_regular(tmp_path / "link", follow=True) == b"12345"
