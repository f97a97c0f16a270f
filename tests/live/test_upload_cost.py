"""What an upload costs a capture is measured: each process is there, and something went up."""

from __future__ import annotations

from pathlib import Path

from proof.uploadcost import measure_upload_cost, table
from rig import Session


def test_capture_and_uploader_are_measured_apart(session: Session, tmp_path: Path) -> None:
    found = measure_upload_cost(session, tmp_path, 1, 0.5, 0.5)
    assert len(found.without) == len(found.beside) == len(found.uploader) == 1
    assert found.n_bytes > 0
    assert "CPU seconds a minute" in table(found)
