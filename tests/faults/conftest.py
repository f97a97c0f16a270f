"""Faults are injected into real daemons on a private PipeWire, as in tests/live, and into real filesystems."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from disks import may_mount
from rig import Session

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if HERE in item.path.parents:
            item.add_marker("live")
            item.add_marker("faults")


# What needs to mount is not there for whoever may not.
collect_ignore = [] if may_mount() else ["test_disks.py", "test_full_upload.py"]


@pytest.fixture(scope="module")
def session() -> Iterator[Session]:
    """A private PipeWire, shared by the tests of one module."""
    with Session() as private:
        yield private
