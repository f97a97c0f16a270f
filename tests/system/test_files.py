"""Durable files: the same bytes whichever way they take, and whole or not there."""

from __future__ import annotations

import errno
import mmap
import os
from pathlib import Path

import pytest

from chaos.system.files import write_new

MIB = 1 << 20


def noise(n_bytes: int) -> mmap.mmap:
    """Memory as a slot has it: it begins with a page."""
    memory = mmap.mmap(-1, n_bytes)
    memory[:] = os.urandom(n_bytes)
    return memory


@pytest.mark.parametrize("n_bytes", [1, 4096, MIB - 1, MIB, MIB + 1, 2 * MIB + 4095, 3 * MIB])
def test_a_slot_is_written_whole(tmp_path: Path, n_bytes: int) -> None:
    memory = noise(n_bytes)
    with memoryview(memory) as view:
        write_new(tmp_path / "chunk", view, read_only=True)
    assert (tmp_path / "chunk").read_bytes() == memory[:]
    assert not (tmp_path / "chunk").stat().st_mode & 0o222
    memory.close()


def test_memory_that_does_not_begin_with_a_page_is_written_too(tmp_path: Path) -> None:
    memory = noise(2 * MIB)
    with memoryview(memory) as view, view[1:] as odd:
        write_new(tmp_path / "chunk", odd)
    assert (tmp_path / "chunk").read_bytes() == memory[1:]
    memory.close()


@pytest.mark.parametrize("folder", ["/dev/shm", None])
def test_large_chunks_go_past_the_page_cache_where_the_disk_allows_it(
    tmp_path: Path, folder: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[tuple[int, bool]] = []
    pwrite = os.pwrite

    def watched(fd: int, data: memoryview, offset: int) -> int:
        flags = int(Path(f"/proc/self/fdinfo/{fd}").read_text().split("flags:")[1].split()[0], 8)
        n = pwrite(fd, data, offset)
        written.append((n, bool(flags & os.O_DIRECT)))
        return n

    monkeypatch.setattr(os, "pwrite", watched)
    memory = noise(2 * MIB + 77)
    path = Path(folder or tmp_path) / f"chunk-{os.getpid()}"
    try:
        with memoryview(memory) as view:
            write_new(path, view)
        assert path.read_bytes() == memory[:]
        assert sum(n for n, _ in written) == 2 * MIB + 77
        assert not written[-1][1], "what is less than a block goes the usual way"
    finally:
        path.unlink()
        memory.close()


def test_a_write_that_fails_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(fd: int, data: memoryview, offset: int) -> int:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "pwrite", refuse)
    memory = noise(2 * MIB)
    with memoryview(memory) as view, pytest.raises(OSError, match="Input/output error"):
        write_new(tmp_path / "chunk", view)
    assert list(tmp_path.iterdir()) == []
    memory.close()
