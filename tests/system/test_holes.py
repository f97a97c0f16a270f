"""Zeros without blocks: a file reads the same, and takes less."""

from __future__ import annotations

import itertools
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chaos.system.files import write_new
from chaos.system.holes import _zeros, punch_zeros

BLOCK = 1 << 16


@pytest.fixture
def can_punch(tmp_path: Path) -> bool:
    path = tmp_path / "probe"
    path.write_bytes(bytes(BLOCK))
    with path.open("r+b") as file:
        punch_zeros(file.fileno(), memoryview(bytes(BLOCK)))
    return path.stat().st_blocks == 0


def test_long_runs_of_zeros_take_no_space(tmp_path: Path, can_punch: bool) -> None:
    data = b"x" * 100 + bytes(4 * BLOCK) + b"y" + bytes(3 * BLOCK - 1)
    for is_sparse in (False, True):
        path = tmp_path / str(is_sparse)
        write_new(path, data, read_only=True, is_sparse=is_sparse)
        assert path.read_bytes() == data
        assert path.stat().st_size == len(data)
    if can_punch:
        taken = (tmp_path / "True").stat().st_blocks * 512
        assert 2 * 512 <= taken <= 2 * BLOCK + 8192, taken
    assert (tmp_path / "False").stat().st_blocks * 512 >= len(data)


def test_a_file_system_that_can_not_keeps_the_content(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(bytes(2 * BLOCK))
    fd = os.open(path, os.O_RDONLY)  # in which nothing can be punched
    try:
        punch_zeros(fd, memoryview(bytes(2 * BLOCK)))
    finally:
        os.close(fd)
    assert path.read_bytes() == bytes(2 * BLOCK)


@given(st.lists(st.tuples(st.booleans(), st.integers(1, 2 * BLOCK)), max_size=6))
def test_only_zeros_are_found(parts: list[tuple[bool, int]]) -> None:
    data = b"".join((b"\1" if is_loud else b"\0") * n for is_loud, n in parts)
    found = list(_zeros(memoryview(data)))
    assert all(not any(data[first:end]) and first % BLOCK == 0 for first, end in found)
    assert all(end < first for (_, end), (first, _) in itertools.pairwise(found))
    whole = [at for at in range(0, len(data), BLOCK) if not any(data[at : at + BLOCK])]
    assert whole == [at for first, end in found for at in range(first, end, BLOCK)]
