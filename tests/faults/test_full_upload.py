"""A disk that is full while upload is on: what is there already is noted and retired, and so there is room again."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from disks import small_disk
from harness import Daemon
from rig import Session
from uploading import copied, memory_url, record, takes_in, tree, upload

from chaos.store.retention import retire
from chaos.store.store import Store
from chaos.store.uploaded import set_target
from chaos.store.verify import verify
from chaos.terms.units import parse_keep

DISK_BYTES = 64 << 20


def fill(disk: Path) -> None:
    """Until not a byte more fits."""
    with (disk / "filler").open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, shutil.disk_usage(disk).free)
    assert shutil.disk_usage(disk).free == 0


@pytest.mark.parametrize("is_begun", [False, True])
def test_a_full_disk_is_uploaded_and_emptied(tmp_path: Path, is_begun: bool) -> None:
    url = memory_url()
    with small_disk(tmp_path / "disk", DISK_BYTES) as disk:
        store = Store(disk / "store")
        set_target(store.root, f"{url}/rig1")
        rotator = record(store)
        rotator.write(64)
        upload(store, url)
        rotator.write(64)
        rotator.stop()
        other = record(store, "stream://other/take")
        other.write(64)
        other.stop()
        if not is_begun:
            for path in (disk / "store" / ".upload").glob("known.db*"):
                path.unlink()
        hashes = [verify(each.writer.path).recording_hash_v3 for each in (rotator, other)]
        fill(disk)
        set_target(store.root, f"{url}/rig1")
        upload(store, url)
        objects = tree(url)
        there = [verify(copied(objects, take, tmp_path / f"copy{take.count('other')}")) for take in takes_in(objects)]
        assert [each.recording_hash_v3 for each in there] == hashes
        assert len(retire(store, parse_keep("1B"))) == 2


def test_chaosd_starts_on_a_full_disk_and_makes_room(session: Session, tmp_path: Path) -> None:
    url = f"file://{tmp_path}/bucket"
    with small_disk(tmp_path / "disk", DISK_BYTES) as disk:
        store = Store(disk / "store")
        set_target(store.root, f"{url}/rig1")
        upload(store, url)
        rotator = record(store)
        rotator.write(64)
        rotator.stop()
        fill(disk)
        (tmp_path / "d").mkdir()
        options = ["--store", str(store.root), "--upload", url, "--upload-as", "rig1", "--keep", "1B"]
        with closing(Daemon(session, tmp_path / "d", *options)) as daemon:
            wait = [str(Path(sys.executable).with_name("chaosctl")), "wait", "--uploaded", "stream://mic/take"]
            env = {**session.env, "CHAOS_ENDPOINT": daemon.command, "CHAOS_EVENTS": daemon.events}
            subprocess.run([*wait, "--timeout", "60"], env=env, check=True)
            daemon.client.call("retire")
        assert not list((rotator.writer.path / "audio" / "c" / "0").glob("[0-9]*"))
