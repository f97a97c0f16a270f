"""What all tests share: the rig in `tools`, importable, hypothesis' pace, and object stores."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

sys.path.insert(0, str(Path(__file__).parents[1] / "tools"))

# A busy machine makes an example slow, not wrong.
settings.register_profile("chaosd", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("chaosd")

# A shell has what it starts in the background ignore Ctrl-C, and all that is started by that does so as well: not the
# programs that are tried here.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# Buckets of real stores that are to be tried as well, by who has some: CHAOS_OBJECT_STORES="az://container ..."
_OTHERS = os.environ.get("CHAOS_OBJECT_STORES", "").split()


# What needs PipeWire or breaks things lies here, and is marked so: tools/test collects nothing else for it.
ALONE = {"live", "faults"}


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        is_alone = item.path.is_relative_to(here) and item.path.relative_to(here).parts[0] in ALONE
        if is_alone != any(item.get_closest_marker(mark) for mark in ALONE):
            raise pytest.UsageError(f"{item.nodeid}: tests marked {' or '.join(sorted(ALONE))} belong in those folders")


@pytest.fixture(scope="module")
def s3() -> Iterator[str]:
    """A bucket on an S3 of one's own."""
    from s3 import local_s3

    with local_s3() as url:
        yield url


@pytest.fixture(params=["memory", "file", "s3", *_OTHERS])
def object_store(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of an object store with nothing in it: in memory, in a folder, on an S3."""
    from uploading import memory_url

    return memory_url() if request.param == "memory" else _fresh(request, tmp_path)


@pytest.fixture(params=["file", "s3", *_OTHERS])
def indexed_store(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The same, of the kinds that can be indexed."""
    return _fresh(request, tmp_path)


def _fresh(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "file":
        return f"file://{tmp_path}/bucket"
    bucket = request.getfixturevalue("s3") if request.param == "s3" else request.param
    return f"{bucket}/{tmp_path.parent.name}-{tmp_path.name}"
