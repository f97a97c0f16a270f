"""Recordings that are removed as a whole: what goes with them, what stays, and what is refused."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import pytest
from recorded import Rotator, definition, failing_call, no_space

from chaos.read import recording as reader
from chaos.store.holds import hold
from chaos.store.pins import pin, unpin
from chaos.store.removal import removable, remove
from chaos.store.store import Store
from chaos.store.verify import verify
from chaos.store.writer import RecordingWriter
from chaos.terms.errors import InvalidRequest, RecordingNotFound, StorageFailed, StorageFull, StreamExists

ONE, OTHER = "stream://mic/one", "stream://mic/other"


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path)


def record(store: Store, uri: str, seed: int = 0) -> Rotator:
    rotator = Rotator(RecordingWriter.create(store, definition(uri, chunk_frames=1024)), seed)
    rotator.write(5000)
    return rotator


def n_objects(store: Store) -> int:
    return sum(1 for path in store.objects.root.glob("*/*") if path.is_file())


def test_a_recording_goes_with_its_objects_and_others_stay(store: Store) -> None:
    record(store, ONE).stop()
    record(store, OTHER, seed=1).stop()
    assert n_objects(store) == 10
    told = removable(store, ONE)
    assert (told.n_frames, told.n_chunks, told.n_bytes) == (5000, 5, 5 * 2 * 1024 * 4)
    assert store.existing(ONE).exists()
    assert remove(store, ONE) == told
    assert [path.name for path in store.paths()] == ["other.zarr"]
    assert n_objects(store) == 5
    assert verify(store.existing(OTHER)).ok
    with pytest.raises(RecordingNotFound):
        remove(store, ONE)
    record(store, ONE).stop()


def test_chunks_that_others_share_stay(store: Store) -> None:
    record(store, ONE).stop()
    record(store, OTHER).stop()
    assert n_objects(store) == 5
    remove(store, ONE)
    assert n_objects(store) == 5
    assert verify(store.existing(OTHER)).ok


def test_what_is_recorded_pinned_or_read_is_refused(store: Store) -> None:
    rotator = record(store, ONE)
    with pytest.raises(StreamExists, match="being recorded"):
        remove(store, ONE)
    rotator.stop()
    info = reader.open(store.path(ONE)).info
    pin(store, "keep-it", info, 0, 10)
    with pytest.raises(InvalidRequest, match="keep-it") as caught:
        remove(store, ONE)
    assert "chaosctl unpin keep-it" in caught.value.hint
    unpin(store, "keep-it")
    with hold(store, [info.chunks[0].hash]), pytest.raises(InvalidRequest, match="being saved"):
        remove(store, ONE)
    assert verify(store.path(ONE)).ok
    remove(store, ONE)


def test_what_waits_for_recovery_is_refused(store: Store) -> None:
    record(store, ONE).writer.close()
    with pytest.raises(InvalidRequest, match="not recovered"):
        remove(store, ONE)


def test_a_removal_that_fails_leaves_a_whole_recording_or_none(store: Store) -> None:
    for call in range(20):
        record(store, ONE).stop()
        with failing_call(call, no_space) as calls, suppress(StorageFull, StorageFailed, StreamExists):
            remove(store, ONE)
        if len(calls) <= call:
            break
        if store.paths():
            assert verify(store.path(ONE)).ok
            remove(store, ONE)
    else:
        pytest.fail("it never went through")
    assert store.paths() == []
