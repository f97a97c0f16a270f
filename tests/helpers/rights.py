"""Root may read and write everything: what concerns the rights to a file is run again without that."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

__all__ = ["needs_limits", "passes_within_limits", "without_limits"]

_CAP_DAC_OVERRIDE = 1
_MAY_ALL = bool(
    int(Path("/proc/self/status").read_text().partition("CapEff:")[2].split()[0], 16) >> _CAP_DAC_OVERRIDE & 1
)
_GIVEN_UP = "-dac_override,-dac_read_search"

needs_limits = pytest.mark.skipif(_MAY_ALL, reason="root may do everything; run again without that beside it")
without_limits = pytest.mark.skipif(not _MAY_ALL, reason="rights hold here anyway")


def passes_within_limits(file: str, word: str) -> None:
    """Runs those tests of a file that have a word in their name, by a user whose files may be closed to him."""
    limits = ["setpriv", f"--bounding-set={_GIVEN_UP}", f"--inh-caps={_GIVEN_UP}", "--"]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    with tempfile.TemporaryDirectory() as folder:
        pytest_there = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--basetemp={folder}/t"]
        done = subprocess.run(
            [*limits, *pytest_there, file, "-k", word],
            cwd=Path(__file__).parents[2], env=environment, capture_output=True, text=True,
        )  # fmt: skip
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-2000:]
    assert " passed" in done.stdout
    assert "skipped" not in done.stdout
