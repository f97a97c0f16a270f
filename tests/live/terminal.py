"""A terminal as a person has it: tmux, with one window."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

__all__ = ["Terminal"]


class Terminal:
    """A tmux server of one window. `screen` is what a person sees."""

    def __init__(self, env: dict[str, str], columns: int, command: str, folder: Path) -> None:
        self._sockets = tempfile.mkdtemp(prefix="tmux-")  # one of tmp_path's may be too long a name for a socket
        self._tmux = ["tmux", "-S", f"{self._sockets}/socket", "-f", os.devnull]
        self._env = env
        ends = "echo END $?; stty -g > after; tmux wait-for -S over; read line"
        line = f"trap : INT; stty -g > before; {command}; {ends}"
        self._run("new-session", "-d", "-x", str(columns), "-y", "24", "-c", str(folder), "sh", "-c", line)

    def _run(self, *words: str) -> str:
        words = (*self._tmux, *words)
        return subprocess.run(words, env=self._env, capture_output=True, text=True, check=True, timeout=60).stdout

    def screen(self) -> list[str]:
        return self._run("capture-pane", "-p").splitlines()

    def until(self, is_there: Callable[[str], bool]) -> list[str]:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            lines = self.screen()
            if is_there("\n".join(lines)):
                return lines
        raise AssertionError("\n".join(self.screen()))

    def press(self, key: str) -> None:
        self._run("send-keys", key)

    def wait_for_end(self) -> None:
        self._run("wait-for", "over")

    def close(self) -> None:
        subprocess.run([*self._tmux, "kill-server"], env=self._env, capture_output=True, check=False)
        shutil.rmtree(self._sockets)
