"""The systemd user unit that runs chaosd: its text, where it lies, and the person's systemd, where one runs."""

from __future__ import annotations

import getpass
import itertools
import os
import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from chaos.terms.errors import InvalidRequest, TimedOut

__all__ = ["NAME", "Systemd", "has_linger", "is_ours", "linger_command", "options_of", "unit_path", "unit_text"]

NAME = "chaosd.service"
_MADE_BY = "# Written by: chaosctl service install"
_LINGER = Path("/var/lib/systemd/linger")
_PATIENCE_S = 120.0
_WORD = re.compile(r'"((?:[^"\\]|\\.)*)"')

_UNIT = f"""{_MADE_BY}
[Unit]
Description=chaosd, an audio capture engine for PipeWire
After=pipewire.service wireplumber.service
StartLimitIntervalSec=0

[Service]
Type=notify
NotifyAccess=main
ExecStart={{command}}
Restart=on-failure
RestartSec=5
WatchdogSec=60
TimeoutStopSec=90
KillMode=mixed

[Install]
WantedBy=default.target
"""


def unit_path() -> Path:
    """Where systemd looks for a user's own units."""
    config = os.environ.get("XDG_CONFIG_HOME", "")
    base = Path(config) if config.startswith("/") else Path.home() / ".config"
    return base / "systemd" / "user" / NAME


def unit_text(command: Sequence[str]) -> str:
    """The unit that runs this command; its first word is an absolute path. Raises InvalidRequest for what a unit can't
    hold."""
    return _UNIT.format(command=" ".join(map(_quoted, command)))


def is_ours(text: str) -> bool:
    """Whether `service install` wrote this, and may replace it."""
    return text.startswith(_MADE_BY)


def options_of(text: str) -> dict[str, str]:
    """The options of chaosd, each with its value, in a unit that `service install` wrote."""
    found = re.search(r"^ExecStart=(.*)$", text, re.MULTILINE)
    words = [re.sub(r"\\(.)|%(%)|\$(\$)", r"\1\2\3", each) for each in _WORD.findall(found[1] if found else "")]
    return {name: value for name, value in itertools.pairwise(words) if name.startswith("--")}


def has_linger() -> bool:
    """Whether the user's services run on without a login."""
    return (_LINGER / getpass.getuser()).exists()


def linger_command() -> str:
    return f"sudo loginctl enable-linger {getpass.getuser()}"


class Systemd(NamedTuple):
    """`systemctl --user`. Its methods raise TimedOut with what it said where it fails."""

    systemctl: str

    @classmethod
    def running(cls) -> Systemd | None:
        """The person's systemd; None where there is none, as in a container."""
        path = shutil.which("systemctl")
        if path is None:
            return None
        found = cls(path)
        return found if found._run("show-environment").returncode == 0 else None

    def call(self, *words: str) -> str:
        """What it prints."""
        done = self._run(*words)
        if done.returncode:
            said = (done.stderr or done.stdout).strip().splitlines() or ["it says nothing"]
            hint = f"see: journalctl --user -u {NAME}"
            raise TimedOut(f"systemctl --user {' '.join(words)} failed: {said[0]}", hint=hint)
        return done.stdout

    def properties(self) -> dict[str, str]:
        """How the unit stands: ActiveState, SubState, MainPID, UnitFileState, StatusText."""
        names = "ActiveState,SubState,MainPID,UnitFileState,StatusText"
        lines = self.call("show", NAME, f"--property={names}").splitlines()
        return {name: value for name, _, value in (line.partition("=") for line in lines)}

    def _run(self, *words: str) -> subprocess.CompletedProcess[str]:
        command = [self.systemctl, "--user", *words]
        try:
            return subprocess.run(command, capture_output=True, text=True, timeout=_PATIENCE_S, check=False)
        except (OSError, subprocess.TimeoutExpired) as error:
            return subprocess.CompletedProcess(command, 1, "", str(error))


def _quoted(word: str) -> str:
    """As systemd.service(5) and systemd.syntax(7) have it."""
    if any(ord(each) < 32 for each in word):
        raise InvalidRequest(f"{word!r} can't stand in a unit", hint="use a path without control characters")
    escaped = word.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%").replace("$", "$$")
    return f'"{escaped}"'
