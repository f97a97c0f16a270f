"""Credentials that are replaced while an uploader runs: it waits, says so, and goes on with the new ones."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path
from queue import Queue

import pytest
from proof.faultystore import FaultyStore
from uploading import copied, record, takes_in, tree

from chaos.protocol.uploads import Told, Uploaded, UploadState
from chaos.store.store import Store
from chaos.store.verify import verify
from chaos.upload.uploader import Uploader

FOUND_WITHIN_S = 60


def is_state(state: str) -> Callable[[Told], bool]:
    return lambda told: isinstance(told, UploadState) and told.state == state


def await_told(told: Queue[Told], is_it: Callable[[Told], bool]) -> Told:
    while not is_it(each := told.get(timeout=FOUND_WITHIN_S)):
        pass
    return each


def is_all_there(told: Told) -> bool:
    return isinstance(told, Uploaded) and told.ended


@pytest.mark.parametrize(("status", "code"), [(403, "InvalidAccessKeyId"), (400, "ExpiredToken")])
def test_new_ones_are_found_where_the_aws_tools_keep_them(
    tmp_path: Path, s3: str, monkeypatch: pytest.MonkeyPatch, status: int, code: str
) -> None:
    """Through a proxy that takes the old ones no more: as S3 answers for a key that is gone, or a session over."""
    profile = tmp_path / "credentials"

    def renew(key: str) -> None:
        (tmp_path / "new").write_text(f"[default]\naws_access_key_id = {key}\naws_secret_access_key = hush\n")
        (tmp_path / "new").rename(profile)

    renew("OLDKEY")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(profile))
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    proxy = FaultyStore(int(os.environ["AWS_ENDPOINT_URL"].rpartition(":")[2]), 0.0, 1)
    monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.endpoint)
    store, url, told = Store(tmp_path / "store"), f"{s3}/{tmp_path.name}", Queue[Told]()
    rotator = record(store)
    rotator.write(40)
    uploader = Uploader(store, url, "rig1", told.put)
    thread = threading.Thread(target=uploader.run)
    thread.start()
    try:
        await_told(told, is_state("idle"))
        proxy.refuse("OLDKEY", status, code)
        rotator.write(60)
        rotator.stop()
        uploader.wake()
        waiting = await_told(told, is_state("waiting"))
        assert isinstance(waiting, UploadState)
        assert "refuses these credentials" in waiting.reason
        assert "OLDKEY" not in waiting.reason
        renew("NEWKEY")
        await_told(told, is_all_there)
        await_told(told, is_state("idle"))
    finally:
        uploader.stop()
        thread.join(FOUND_WITHIN_S)
        n_refused = proxy.injected[code]
        objects = tree(url)
        proxy.close()
    assert n_refused > 0
    (take,) = takes_in(objects)
    there = verify(copied(objects, take, tmp_path / "copy"))
    assert there.ok, there.bad
    assert there.recording_hash_v3 == verify(rotator.writer.path).recording_hash_v3
