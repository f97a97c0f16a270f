"""What chaosd does for the upload: whom retention waits for, and that an engine of one's own changes nothing of it."""

from __future__ import annotations

from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest
from recorded import Rotator, definition

from chaos.engine.recordings import Recordings
from chaos.engine.uploading import Uploading, hold_for_upload
from chaos.protocol.config import Config
from chaos.store.kept import Kept
from chaos.store.store import Store
from chaos.store.uploaded import Uploads
from chaos.store.writer import RecordingWriter
from chaos.terms.errors import InvalidRequest


def test_retention_waits_for_what_chaosd_uploads_and_no_longer(tmp_path: Path) -> None:
    uploads = Uploads(Store(tmp_path))
    hold_for_upload(Config(store=tmp_path, upload="s3://bucket/prefix/", upload_as="rig1"))
    assert uploads.target == "s3://bucket/prefix/rig1"
    other = Uploading(Config(store=tmp_path), lambda told: None)
    other.start()
    other.close()
    assert uploads.target == "s3://bucket/prefix/rig1", "chaosctl record in a process of its own ends no hold"
    hold_for_upload(Config(store=tmp_path))
    assert uploads.target is None


@pytest.mark.parametrize("is_low", [False, True])
def test_where_the_disk_runs_low_it_is_said_what_waits_for_the_upload(tmp_path: Path, is_low: bool) -> None:
    rotator = Rotator(RecordingWriter.create(Store(tmp_path), definition()))
    rotator.write(64)
    rotator.stop()
    config = Config(store=tmp_path, upload="s3://bucket/prefix", upload_as="rig1", keep="1B",
                    free_margin_bytes=1 << 60 if is_low else 0)  # fmt: skip
    hold_for_upload(config)
    held: list[Kept] = []
    recordings, answer = Recordings(config, lambda _: None, lambda _: None, held.append), Future[dict[str, Any]]()
    try:
        recordings.retire_regularly(answer)
        assert answer.result(60)["retired"] == []
    finally:
        recordings.close()
    assert [(each.reason, each.recording) for each in held] == (
        [("not_uploaded", str(rotator.writer.path))] if is_low else []
    )


def test_what_was_not_reached_yet_is_not_called_idle(tmp_path: Path) -> None:
    config = Config(store=tmp_path, upload="s3://bucket/prefix", upload_as="rig1")
    status = Uploading(config, lambda told: None).status()
    assert status is not None
    assert (status.state, status.reason) == ("waiting", "the object store has not been reached yet")


def test_a_recorder_has_a_name_by_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.node", lambda: ".weird host\u00fc!")
    config = Config(store=tmp_path, upload="s3://bucket")
    assert config.upload_prefix == "s3://bucket/weird-host--"


@pytest.mark.parametrize(
    "how",
    [
        {"upload": "nonsense"},
        {"upload": "memory://x"},
        {"upload": "s3://key:secret@bucket"},
        {"upload_as": "rig1"},
        {"upload_as": "a/b"},
        {"upload_as": ".hidden"},
        {"upload_limit": 1},
    ],
)
def test_what_can_not_work_is_refused(tmp_path: Path, how: dict[str, str]) -> None:
    with pytest.raises(InvalidRequest) as refused:
        Config(store=tmp_path, **how)  # type: ignore[arg-type]
    assert refused.value.hint
    assert "secret" not in refused.value.message + refused.value.hint
