"""What drawing reads: as much of a year as of an hour."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from recorded import definition

from chaos.read.overview import Part, overview_of
from chaos.read.samples import Samples
from chaos.store.levels import FILE_BLOCKS

RATE = 48_000
POINTS = 2000


class Counted:
    """A recording that is endless and silent; counts what is read of it."""

    def __init__(self) -> None:
        self.n_frames = 0
        self.n_files = 0

    def read(self, first: int, last: int) -> Samples:
        self.n_frames += last - first
        return np.zeros((2, last - first), np.float32)


@pytest.mark.parametrize("seconds", [600, 3600, 86_400, 366 * 86_400])
@pytest.mark.parametrize("cut", [0, 1, 12_345])
def test_a_year_is_drawn_from_as_few_blocks_as_an_hour(
    seconds: int, cut: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    counted = Counted()

    def read(*_: object) -> None:
        counted.n_files += 1

    monkeypatch.setattr("chaos.store.overview.BlockFiles.read", read)
    n = seconds * RATE
    part = Part(0, n, True, tmp_path, definition(chunk_frames=480_000), [], lambda: counted)
    found = overview_of([part], cut, n - cut, POINTS, [], [])
    assert found.n_points <= POINTS
    n_ends = 4 * 20  # of each finer level some
    assert counted.n_files <= 4 * POINTS / FILE_BLOCKS + n_ends
    assert counted.n_frames <= 2 * 256, "less than a block at each end"
