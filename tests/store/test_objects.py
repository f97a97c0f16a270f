from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
from blake3 import blake3

from chaos.store.objects import BLOCK_BYTES, ObjectStore, hash_file

CONTENT = b"sealed" * 1000
DIGEST = blake3(CONTENT).hexdigest()


@pytest.fixture
def chunk(tmp_path: Path) -> Path:
    path = tmp_path / "chunk"
    path.write_bytes(CONTENT)
    path.chmod(0o444)
    return path


@pytest.fixture
def store(tmp_path: Path) -> ObjectStore:
    return ObjectStore(tmp_path / "objects")


@pytest.mark.parametrize("size", [0, 1, BLOCK_BYTES - 1, BLOCK_BYTES, 2 * BLOCK_BYTES + 3])
def test_a_file_hashes_as_its_bytes(tmp_path: Path, size: int) -> None:
    content = os.urandom(size)
    (tmp_path / "file").write_bytes(content)
    assert hash_file(tmp_path / "file") == blake3(content).hexdigest()


def test_an_object_is_the_file_itself(store: ObjectStore, chunk: Path) -> None:
    path = store.add(DIGEST, chunk)
    assert path == store.root / DIGEST[:2] / DIGEST[2:]
    assert path.samefile(chunk)
    assert path.stat().st_mode & 0o777 == 0o444
    assert store.add(DIGEST, chunk) == path


def test_the_same_content_is_stored_once(store: ObjectStore, chunk: Path, tmp_path: Path) -> None:
    store.add(DIGEST, chunk)
    assert store.link(DIGEST, tmp_path / "again")
    assert (tmp_path / "again").samefile(chunk)


def test_what_is_not_there_is_not_linked(store: ObjectStore, tmp_path: Path) -> None:
    assert not store.link(DIGEST, tmp_path / "again")
    assert not (tmp_path / "again").exists()


def test_a_decayed_object_is_not_trusted_and_gives_way(
    store: ObjectStore, chunk: Path, tmp_path: Path
) -> None:
    path = store.add(DIGEST, chunk)
    chunk.chmod(0o644)
    chunk.write_bytes(CONTENT.replace(b"s", b"z", 1))
    assert not store.link(DIGEST, tmp_path / "again")
    good = tmp_path / "good"
    good.write_bytes(CONTENT)
    store.add(DIGEST, good)
    assert path.read_bytes() == CONTENT


def test_too_many_links_count_as_none(
    store: ObjectStore, chunk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.add(DIGEST, chunk)

    def refuse(source: Path, target: Path) -> None:
        raise OSError(errno.EMLINK, os.strerror(errno.EMLINK))

    monkeypatch.setattr(os, "link", refuse)
    assert not store.link(DIGEST, tmp_path / "again")


@pytest.mark.parametrize("digest", ["", "ab", "../" + "a" * 61, "A" * 64, "g" * 64])
def test_only_hashes_name_objects(store: ObjectStore, digest: str) -> None:
    with pytest.raises(ValueError, match="hash"):
        store.path(digest)
