"""What is said to be durable was synced: each file before its name, each name's folder after it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
from recorded import definition

from chaos.store.store import Store
from chaos.store.writer import RecordingWriter
from chaos.system.files import write_new
from chaos.terms.ledger import Cause, ClockAnchor, Confidence, Gap


class Disk:
    """What would be there after a power cut: files as they were last synced, names as their folders were."""

    def __init__(self) -> None:
        self.size: dict[int, int] = {}
        self.names: dict[int, dict[str, int]] = {}
        self.n_syncs = 0

    def sync(self, fd: int) -> None:
        self.n_syncs += 1
        found = os.fstat(fd)
        path = Path(f"/proc/self/fd/{fd}")
        if path.is_dir():
            self.names[found.st_ino] = {each.name: each.inode() for each in os.scandir(path)}
        else:
            self.size[found.st_ino] = found.st_size

    def has(self, path: Path, *, named: bool = True) -> bool:
        """Whether the file is whole, under this name."""
        is_whole = self.size.get(path.stat().st_ino) == path.stat().st_size
        return is_whole and (not named or self.has_folder(path))

    def has_folder(self, path: Path) -> bool:
        """Whether the folder (or file) has this name."""
        return self.names.get(path.parent.stat().st_ino, {}).get(path.name) == path.stat().st_ino


@contextmanager
def watched() -> Iterator[Disk]:
    disk = Disk()
    reals = {name: getattr(os, name) for name in ("fsync", "fdatasync")}

    def syncing(name: str) -> mock.Mock:
        def call(fd: int) -> None:
            reals[name](fd)
            disk.sync(fd)

        return mock.Mock(side_effect=call)

    with mock.patch.multiple(os, **{name: syncing(name) for name in reals}):
        yield disk


def test_a_new_file_is_synced(tmp_path: Path) -> None:
    with watched() as disk:
        write_new(tmp_path / "new", b"content")
        write_new(tmp_path / "passing", b"content", durable=False)
    assert disk.size == {(tmp_path / "new").stat().st_ino: 7}


@pytest.mark.parametrize("beforehand", [False, True])
def test_a_new_recording_is_durable_by_its_journal(tmp_path: Path, beforehand: bool) -> None:
    """What a start is answered with outlives a power cut; all else recovery makes of it."""
    store, shape = Store(tmp_path), definition(chunk_frames=64)
    with watched() as disk:
        made = RecordingWriter.half_made(store, shape) if beforehand else None
        syncs = disk.n_syncs
        writer = RecordingWriter.create(store, shape, made)
        assert disk.has(writer.path / "journal.jsonl")
        below = [writer.path, *(tmp_path / "recordings").glob("*"), *writer.path.rglob("audio/**/")]
        assert all(disk.has_folder(each) for each in below)
        if beforehand:
            assert disk.n_syncs - syncs == 2, "its journal, and its name"
        writer.close()


def test_the_metadata_of_a_finished_recording_is_durable(tmp_path: Path) -> None:
    with watched() as disk:
        writer = RecordingWriter.create(Store(tmp_path), definition(chunk_frames=64))
        writer.seal(0, memoryview(np.random.default_rng(1).bytes(writer.definition.form.chunk_bytes)), 0, 64)
        writer.anchor(ClockAnchor(0, 0, 1, 1, 1))
        writer.gap(Gap(64, 10, Cause.MISSED, Confidence.EXACT))
        path = writer.path.resolve()
        writer.finish(74, clean=True)
        assert all(disk.has(each) for each in path.rglob("*") if each.is_file() and "audio/c" not in str(each))
        assert all(disk.has_folder(each) for each in path.rglob("*") if each.is_dir())


@pytest.mark.parametrize("checkpointed", [False, True])
def test_a_sealed_chunk_is_durable_under_its_name(tmp_path: Path, checkpointed: bool) -> None:
    with watched() as disk:
        writer = RecordingWriter.create(Store(tmp_path), definition(chunk_frames=64))
        slot = memoryview(np.random.default_rng(1).bytes(writer.definition.form.chunk_bytes))
        if checkpointed:
            writer.checkpoint(0, slot, 20)
        writer.seal(0, slot, 0, 64)
        chunks = writer.path / "audio" / "c" / "0"
        assert disk.has(chunks / "0")
        digest = next(path for path in (tmp_path / "objects").rglob("*") if path.is_file())
        assert disk.has(digest)
        assert disk.has(writer.path / "journal.jsonl") or disk.size[(writer.path / "journal.jsonl").stat().st_ino]
        writer.close()


def test_a_checkpoint_is_durable_when_it_returns(tmp_path: Path) -> None:
    with watched() as disk:
        writer = RecordingWriter.create(Store(tmp_path), definition(chunk_frames=64))
        slot = memoryview(np.random.default_rng(1).bytes(writer.definition.form.chunk_bytes))
        part = writer.path / "audio" / "c" / "0" / ".0.part"
        for n_frames in (20, 40):
            writer.checkpoint(0, slot, n_frames)
            assert disk.has(part)
        writer.close()


def test_the_journal_tells_of_a_chunk_only_when_its_file_is_durable(tmp_path: Path) -> None:
    with watched() as disk:
        writer = RecordingWriter.create(Store(tmp_path), definition(chunk_frames=64))
        slot = memoryview(np.random.default_rng(1).bytes(writer.definition.form.chunk_bytes))
        chunk = writer.path / "audio" / "c" / "0" / "0"
        real = os.pwrite

        def pwrite(fd: int, data: bytes, offset: int) -> int:
            if b'"type":"chunk"' in bytes(data):
                assert disk.has(chunk)
            return real(fd, data, offset)

        with mock.patch.object(os, "pwrite", pwrite):
            writer.seal(0, slot, 0, 64)
        writer.close()


def test_a_gap_is_durable_before_the_chunk_that_it_reaches_into(tmp_path: Path) -> None:
    """Else recovery finds a whole chunk, and nothing that tells of its zeros."""
    with watched() as disk:
        writer = RecordingWriter.create(Store(tmp_path), definition(chunk_frames=64))
        slot = memoryview(np.random.default_rng(1).bytes(writer.definition.form.chunk_bytes))
        writer.gap(Gap(60, 4, Cause.MISSED, Confidence.EXACT))
        real = Path.replace

        def replace(path: Path, target: Path) -> Path:
            if target.name == "0" and target.parent.name == "0" and target.parent.parent.name == "c":
                assert disk.has(writer.path / "journal.jsonl", named=False)
            return real(path, target)

        with mock.patch.object(Path, "replace", replace):
            writer.seal(0, slot, 0, 64)
        writer.close()


def test_a_controllers_chunk_is_durable_under_its_name(tmp_path: Path) -> None:
    with watched() as disk:
        writer = RecordingWriter.create(Store(tmp_path / "store"), definition(chunk_frames=64, external=True))
        slot = memoryview(np.random.default_rng(1).bytes(writer.definition.form.chunk_bytes))
        out = tmp_path / "made" / "for" / "us" / "one.raw"
        writer.seal_external(0, slot, out, 0, 64)
        assert disk.has(out)
        assert all(disk.has_folder(folder) for folder in out.parents if tmp_path in folder.parents)
        writer.close()


def test_a_new_take_is_durable_under_its_name(tmp_path: Path) -> None:
    with watched() as disk:
        writer = RecordingWriter.create(Store(tmp_path), definition(chunk_frames=64))
        chunks = writer.path / "audio" / "c" / "0"
        assert all(disk.has_folder(folder) for folder in (chunks, *chunks.parents) if tmp_path in folder.parents)
        assert disk.has(writer.path / "journal.jsonl", named=False)
        writer.close()
