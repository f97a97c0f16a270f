"""Who may read recordings: only their owner, whatever the umask, unless chaosd is told otherwise."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from harness import Daemon, SourceFactory

Start = Callable[..., Daemon]


@pytest.fixture
def open_umask() -> Iterator[None]:
    """The umask of a careless parent: everybody may do everything."""
    before = os.umask(0)
    yield
    os.umask(before)


def _modes(store: Path) -> tuple[set[int], set[int]]:
    """The modes of all folders and of all files of a store."""
    paths = [store, *store.rglob("*")]
    folders = {stat.S_IMODE(path.stat().st_mode) for path in paths if path.is_dir()}
    return folders, {stat.S_IMODE(path.stat().st_mode) for path in paths if path.is_file()}


def _record(daemon: Daemon, counting_source: SourceFactory) -> None:
    source = counting_source("private-source", driver=True)
    client, uri = daemon.client, "stream://mic/1"
    client.call("device_wait", name=source.name, timeout_s=50)
    form = {"type": "audio"}
    client.call("stream_start", uri=uri, device_identity=source.name, format=form, chunk_size_bytes=65536)
    client.event("stream_chunk_sealed", chunk=1)
    client.call("slice", uri=uri, output="materialize", **{"from": "start", "to": "head"})
    client.call("stream_stop", uri=uri)


@pytest.mark.usefixtures("open_umask")
def test_a_recording_is_its_owners_alone(chaosd: Start, counting_source: SourceFactory, tmp_path: Path) -> None:
    store = tmp_path / "made before"
    store.mkdir(mode=0o755)
    _record(chaosd("--store", str(store)), counting_source)
    assert _modes(store) == ({0o700}, {0o600, 0o400})


@pytest.mark.usefixtures("open_umask")
def test_a_group_may_read_where_chaosd_is_told_so(chaosd: Start, counting_source: SourceFactory) -> None:
    daemon = chaosd("--store-mode", "750")
    _record(daemon, counting_source)
    assert _modes(daemon.store) == ({0o750}, {0o640, 0o440})
