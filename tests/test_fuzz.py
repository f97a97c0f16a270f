"""A short form of what `just abuse` does for a million inputs: coverage-guided fuzzing of what others send."""

from __future__ import annotations

from pathlib import Path

import pytest
from proof.fuzz import TARGETS, fuzz

pytest.importorskip("atheris", reason="atheris is in the extra fuzz: tools/setup fuzz")


@pytest.mark.parametrize("target", TARGETS)
def test_whatever_comes_is_taken_or_refused(tmp_path: Path, target: str) -> None:
    found = fuzz(target, tmp_path / target, n_runs=20_000, seconds=10)
    assert found.defect is None, found.defect
    assert found.n_runs > 100
    assert found.covered > 50
    assert found.n_kept > 10
