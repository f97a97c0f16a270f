"""What a stream's status says that may have cost it frames, or their moments."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import pytest
from lone import LoneStream

from chaos.engine import view


@pytest.fixture
def stream(folder: Path) -> Iterator[LoneStream]:
    lone = LoneStream(folder)
    lone.plug()
    lone.run(4)
    yield lone
    lone.close()


@pytest.fixture
def on_ext4() -> Iterator[None]:
    view._lies_in_memory.cache_clear()
    with mock.patch("chaos.engine.view.file_system_of", return_value="ext4"):
        yield
    view._lies_in_memory.cache_clear()


def test_slots_on_a_disk_are_told(stream: LoneStream, on_ext4: None) -> None:
    assert stream.view.staging is not None
    folder = stream.view.staging.path.parent
    remark = f"its capture buffers are in {folder}, which is not in memory: the callback may wait for it"
    assert remark in stream.view.status().notes


def test_slots_in_memory_are_not(stream: LoneStream) -> None:
    assert not any("not in memory" in note for note in stream.view.status().notes)


def test_slots_that_may_be_swapped_are_told_with_how_to_lock_them(stream: LoneStream) -> None:
    staging = stream.view.staging
    assert staging is not None
    staging.locked_bytes = staging.file_bytes
    assert not any("swapped" in note for note in stream.view.status().notes)
    staging.locked_bytes = staging.file_bytes // 2
    (told,) = [note for note in stream.view.status().notes if "swapped" in note]
    assert told.startswith(f"{staging.locked_bytes >> 10} of {staging.file_bytes >> 10} KiB of its slots are locked")
    assert "memlock" in told


@pytest.mark.parametrize(
    ("counts", "told"),
    [
        ({"stands": 1}, "the device's clock stands still"),
        ({"freewheeled": 3}, "(freewheel): its moments are not those of a clock"),
        ({"callbacks": 0, "distrusted": 10**6}, "nothing can be kept"),
    ],
)
def test_an_odd_clock_is_told(stream: LoneStream, counts: dict[str, int], told: str) -> None:
    stats = stream.view.stats()
    assert not any(told in note for note in stream.view.status().notes)
    with mock.patch.object(view.StreamView, "stats", return_value={**stats, **counts}):
        assert any(told in note for note in stream.view.status().notes)
