"""Storage that is full or fails: people learn it at once, frames wait in their slots, and all is whole again."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import pytest
from crashing import CrashingStream, check_recording, fast_folder

from chaos.engine.messages import Stored
from chaos.engine.view import StreamView
from chaos.protocol.requests import AudioFormat
from chaos.store.info import load
from chaos.store.recovery import recover
from chaos.store.store import Store
from chaos.store.verify import verify
from chaos.terms.ledger import Cause


@pytest.fixture
def folder() -> Iterator[Path]:
    with fast_folder() as made:
        yield made


@contextmanager
def refusing(number: int) -> Iterator[None]:
    """Storage takes no byte more, as a full or a dying disk does: all calls that write fail."""

    def refuse(*arguments: Any, **options: Any) -> Any:
        raise OSError(number, os.strerror(number))

    calls = ("pwrite", "posix_fallocate", "fdatasync", "fsync", "link")
    with mock.patch.multiple(os, **dict.fromkeys(calls, refuse)):
        yield


TOLD = ("storage_full", "storage_failed", "storage_restored")


@pytest.mark.parametrize(("number", "kind"), [(errno.ENOSPC, "storage_full"), (errno.EIO, "storage_failed")])
def test_what_finds_no_slot_is_an_overrun_and_the_rest_is_stored(folder: Path, number: int, kind: str) -> None:
    stream = CrashingStream(folder / "store", folder / "slots", n_slots=4)
    stream.write(40)
    stream.tick()
    with refusing(number):
        stream.write(50)
        stream.rotate()
        stream.tick()
        assert stream.told(*TOLD) == [kind]
        stream.write(60)
        stream.tick()
        assert stream.told(*TOLD) == [kind]
    stream.write(10)
    stream.tick()
    assert stream.told(*TOLD) == [kind, "storage_restored"]
    stream.write(70)
    stream.rotate()
    stream.write(5)
    stream.stop()
    check_recording(stream)
    lost = [gap for gap in load(stream.recording).gaps if gap.cause is Cause.OVERRUN]
    assert sum(gap.n_frames for gap in lost) == (stream.causes == Cause.OVERRUN).sum() > 0
    assert load(stream.recording).clean


def test_the_status_says_that_nothing_can_be_written_while_it_is_so(folder: Path) -> None:
    stream = CrashingStream(folder / "store", folder / "slots", chunk_frames=48_000, n_slots=4)
    view = StreamView(stream.uri, AudioFormat(), state="streaming", staging=stream.staging, turn=stream.rotator._turn)
    with refusing(errno.ENOSPC):
        stream.rotator.begin()
        why = "cannot be written: No space left on device"
        assert view.status().reason == f"{why}; 0 s in memory"
        stream.write(48_000)
        stream.write(48_000)
        stream.write(47_990)
        stream.tick()
        assert (view.status().state, view.status().reason) == ("streaming", f"{why}; 3 s in memory")
    stream.tick()
    assert view.status().reason == ""
    stream.stop()
    check_recording(stream)


def test_a_checkpoint_tells_while_nothing_is_sealed(folder: Path) -> None:
    stream = CrashingStream(folder / "store", folder / "slots", chunk_frames=4096)
    stream.write(10)
    stream.tick()
    with refusing(errno.ENOSPC):
        stream.write(10)
        stream.tick()
        stream.rotate()
        stream.tick()
        assert stream.told(*TOLD, "stream_error") == ["stream_error", "storage_full"]
    stream.tick()
    assert stream.told(*TOLD) == ["storage_full", "storage_restored"]
    stream.stop()
    check_recording(stream)


def test_a_full_disk_that_fails_too_is_told_as_both(folder: Path) -> None:
    stream = CrashingStream(folder / "store", folder / "slots")
    stream.write(40)
    with refusing(errno.ENOSPC):
        stream.tick()
    with refusing(errno.EROFS):
        stream.tick()
    stream.tick()
    assert stream.told(*TOLD) == ["storage_full", "storage_failed", "storage_restored"]
    stream.stop()
    check_recording(stream)


def test_an_end_on_a_full_disk_leaves_everything_for_recovery(folder: Path) -> None:
    stream = CrashingStream(folder / "store", folder / "slots")
    stream.write(20)
    stream.tick()
    stream.write(30)
    with refusing(errno.ENOSPC):
        stream.finish()
    assert next(heard for heard in stream.stream.heard if isinstance(heard, Stored)).error is not None
    stream.crash()
    assert [item.outcome for item in recover(Store(folder / "store"), folder / "slots").items] == ["recovered"]
    check_recording(stream)


def test_a_crash_on_a_full_disk_loses_nothing_either(folder: Path) -> None:
    stream = CrashingStream(folder / "store", folder / "slots")
    stream.write(20)
    stream.tick()
    with refusing(errno.ENOSPC):
        stream.write(30)
        stream.miss(3)
        stream.write(40)
        stream.tick()
    stream.crash()
    assert [item.outcome for item in recover(Store(folder / "store"), folder / "slots").items] == ["recovered"]
    check_recording(stream)
    assert verify(stream.recording).ok


class _Usage(NamedTuple):
    total: int
    used: int
    free: int


def free(n_bytes: int) -> Callable[[Path], _Usage]:
    return lambda path: _Usage(1 << 40, 0, n_bytes)


def test_little_space_is_told_once_each_time(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stream = CrashingStream(folder / "store", folder / "slots", margin_bytes=1000)
    stream.write(20)
    for n_bytes in (1000, 999, 500, 1000, 10):
        monkeypatch.setattr(shutil, "disk_usage", free(n_bytes))
        stream.tick()
    told = [fields for kind, fields in stream.events if kind == "storage_low"]
    assert [(fields["free_bytes"], fields["margin_bytes"]) for fields in told] == [(999, 1000), (10, 1000)]
    assert {fields["path"] for fields in told} == {str(folder / "store")}
    stream.stop()
