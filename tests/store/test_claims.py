"""Who is about to record a URI keeps others from it: in this process, and in another one that dies."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from chaos.store.claims import Claim
from chaos.store.store import Store
from chaos.terms.errors import StorageFailed, StreamExists

URI = "stream://desk/1"
HOLDER = """
import sys, pathlib
from chaos.store.claims import Claim
from chaos.store.store import Store
claim = Claim(Store(pathlib.Path(sys.argv[1])), sys.argv[2])
print("held", flush=True)
sys.stdin.read()
"""


def test_one_has_it_until_the_end(tmp_path: Path) -> None:
    store = Store(tmp_path)
    first, beside = Claim(store, URI), Claim(store, "stream://desk/2")
    with pytest.raises(StreamExists, match="stream://desk/1 is being recorded already"):
        Claim(store, URI)
    first.close()
    first.close()
    Claim(store, URI).close()
    beside.close()
    assert [path.stat().st_size for path in tmp_path.iterdir()] == [0]


def test_a_process_that_dies_gives_it_up(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path), URI], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(StreamExists):
            Claim(Store(tmp_path), URI)
        holder.kill()
    Claim(Store(tmp_path), URI).close()


def test_where_there_is_no_store_storage_has_failed(tmp_path: Path) -> None:
    with pytest.raises(StorageFailed):
        Claim(Store(tmp_path / "gone"), URI)


def test_who_shares_the_store_can_claim_in_it(tmp_path: Path) -> None:
    before = os.umask(0o007)
    try:
        Claim(Store(tmp_path), URI).close()
    finally:
        os.umask(before)
    assert [path.stat().st_mode & 0o777 for path in tmp_path.iterdir()] == [0o660]
