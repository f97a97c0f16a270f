"""`chaosctl mcp` as a command: without its library, on a chaosd elsewhere, and how little of it others load."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

COMMAND = [sys.executable, "-m", "chaos.cli.main"]


def run(*arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *arguments], env={**os.environ, **env}, stdin=subprocess.DEVNULL, capture_output=True, text=True,
        timeout=60, check=False,
    )  # fmt: skip


def test_without_its_library_it_says_what_to_install(tmp_path: Path) -> None:
    (tmp_path / "mcp.py").write_text("raise ModuleNotFoundError('gone', name='mcp')")
    done = run("mcp", PYTHONPATH=str(tmp_path))
    assert (done.returncode, done.stdout) == (2, "")
    assert "the library for agents is missing" in done.stderr
    assert "pip install 'chaosd[mcp]'" in done.stderr


def test_a_bug_is_not_taken_for_a_missing_library(tmp_path: Path) -> None:
    (tmp_path / "mcp.py").write_text("raise ModuleNotFoundError('gone', name='something_else')")
    done = run("mcp", PYTHONPATH=str(tmp_path))
    assert done.returncode == 1
    assert "something_else" in done.stderr or "gone" in done.stderr
    assert "pip install" not in done.stderr


def test_one_elsewhere_and_a_folder_that_is_none_are_refused(tmp_path: Path) -> None:
    done = run("--host", "elsewhere", "mcp")
    assert (done.returncode, "on this machine" in done.stderr) == (2, True)
    assert run("mcp", "--save-to", str(tmp_path / "none")).returncode == 2


def test_it_ends_when_the_client_does() -> None:
    done = run("mcp")
    assert (done.returncode, done.stdout) == (0, "")


def test_others_load_nothing_of_it() -> None:
    script = (
        "import sys; from chaos.cli.main import main\n"
        "try: main(['--help'])\nexcept SystemExit: pass\n"
        "print([m for m in sys.modules if m.partition('.')[0] in ('mcp', 'anyio', 'pydantic') or '.agents.' in m])"
    )
    said = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    assert said.splitlines()[-1] == "[]"
