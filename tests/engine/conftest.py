"""What tests of the engine share: a folder that costs no disk, and a graph that runs when it is told to."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from crashing import fast_folder
from still import StillGraph


@pytest.fixture
def folder() -> Iterator[Path]:
    with fast_folder() as made:
        yield made


@pytest.fixture
def graph() -> Iterator[StillGraph]:
    with StillGraph() as graph:
        yield graph
