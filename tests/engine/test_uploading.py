"""What chaosd does for the upload: whom retention waits for, and that an engine of one's own changes nothing of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from chaos.engine.uploading import Uploading, hold_for_upload
from chaos.protocol.config import Config
from chaos.store.store import Store
from chaos.store.uploaded import Uploads
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
