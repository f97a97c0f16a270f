"""A store has one daemon, whatever its endpoints are."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

CHAOSD = str(Path(sys.executable).with_name("chaosd"))


def begin(folder: Path, name: str, store: Path) -> subprocess.Popen[str]:
    """A chaosd with endpoints and staging of its own."""
    runtime = folder / name
    runtime.mkdir(mode=0o700)
    command = [CHAOSD, "--endpoint", f"ipc://{runtime}/c", "--events", f"ipc://{runtime}/e", "--store", str(store)]
    env = {**os.environ, "XDG_RUNTIME_DIR": str(runtime)}
    return subprocess.Popen(command, env=env, stderr=subprocess.PIPE, text=True)


def first_line(daemon: subprocess.Popen[str]) -> str:
    assert daemon.stderr is not None
    return daemon.stderr.readline()


def test_a_second_daemon_on_one_store_is_refused(tmp_path: Path) -> None:
    store = tmp_path / "store"
    one = begin(tmp_path, "1", store)
    elsewhere = None
    try:
        assert "commands at" in first_line(one)
        (tmp_path / "link").symlink_to(store)
        for name, named in (("2", store), ("3", tmp_path / "link")):
            two = begin(tmp_path, name, named)
            _, said = two.communicate(timeout=60)
            assert (two.returncode, "another chaosd records into" in said, "--store" in said) == (2, True, True), said
        elsewhere = begin(tmp_path, "4", tmp_path / "other")
        assert "commands at" in first_line(elsewhere)
        one.kill()
        one.communicate(timeout=60)
        one = begin(tmp_path, "5", store)
        assert "commands at" in first_line(one)
    finally:
        for daemon in (one, elsewhere):
            if daemon is not None:
                daemon.terminate()
                daemon.communicate(timeout=60)
