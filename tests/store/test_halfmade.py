"""A recording's folder before it has its name: made beforehand, given its name with the first frame, or discarded."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
from recorded import definition

from chaos.store.info import load
from chaos.store.recovery import HALF_MADE_AFTER_S, recover
from chaos.store.store import Store
from chaos.store.writer import RecordingWriter
from chaos.terms.errors import StorageFailed, StreamExists


def grow_old(path: Path) -> None:
    then = time.time() - 2 * HALF_MADE_AFTER_S
    os.utime(path, (then, then))


def test_a_recovery_leaves_what_is_being_made_and_removes_what_was_left(tmp_path: Path) -> None:
    store, shape = Store(tmp_path / "store"), definition()
    (tmp_path / "staging").mkdir()
    living, dead = (RecordingWriter.half_made(store, shape) for _ in range(2))
    dead.journal.close()
    for each in (living, dead):
        grow_old(each.path)
    recover(store, tmp_path / "staging")
    assert living.path.exists()
    assert not dead.path.exists()
    dead.discard()
    writer = RecordingWriter.create(store, shape, living)
    assert load(writer.path).definition == shape
    writer.close()


def test_one_that_is_not_needed_leaves_nothing(tmp_path: Path) -> None:
    store, shape = Store(tmp_path), definition()
    made = RecordingWriter.half_made(store, shape)
    assert list(store.half_made()) == [made.path]
    made.discard()
    made.discard()
    assert not list(store.half_made())


def test_a_name_that_was_taken_meanwhile_is_left_to_who_has_it(tmp_path: Path) -> None:
    store, shape = Store(tmp_path), definition()
    made = RecordingWriter.half_made(store, shape)
    RecordingWriter.create(store, shape).close()
    with pytest.raises(StreamExists):
        RecordingWriter.create(store, shape, made)
    assert not list(store.half_made())
    assert load(store.path(shape.uri)).definition == shape


def test_one_that_somebody_removed_is_an_error_and_the_next_try_works(tmp_path: Path) -> None:
    store, shape = Store(tmp_path), definition()
    made = RecordingWriter.half_made(store, shape)
    made.path.rename(tmp_path / "elsewhere")
    with pytest.raises(StorageFailed):
        RecordingWriter.create(store, shape, made)
    RecordingWriter.create(store, shape).close()
