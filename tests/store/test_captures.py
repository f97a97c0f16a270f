"""Captures of other processes, as their staging files show them; none is touched."""

from __future__ import annotations

import os
from pathlib import Path

from recorded import definition

from chaos.staging.owner import Staging
from chaos.store.about import about
from chaos.store.captures import captures
from chaos.store.store import Store


def staged(folder: Path, uri: str) -> Staging:
    shape = definition(uri)
    return Staging(
        folder / "a.staging", uri=uri, recording="", run_id="0" * 32, form=shape.form, n_slots=2,
        sample_rate=48000, wake_fd=-1, about=about(shape, Store(folder / "store")),
    )  # fmt: skip


def test_a_capture_is_found_while_its_owner_lives(tmp_path: Path) -> None:
    (tmp_path / "odd.staging").write_bytes(b"nothing")
    assert captures(tmp_path) == []
    staging = staged(tmp_path, "stream://own/1")
    try:
        [found] = captures(tmp_path)
        assert (found.uri, found.pid, found.recording, found.n_frames) == ("stream://own/1", os.getpid(), "", 0)
        assert found.store == str(tmp_path / "store")
    finally:
        staging.close(remove=False)
    assert captures(tmp_path) == [], "its lock is free: it waits for recovery"
