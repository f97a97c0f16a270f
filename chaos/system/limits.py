"""What the machine refuses to a process that captures, and the command that changes that."""

from __future__ import annotations

import getpass
import os
import shutil
from pathlib import Path

__all__ = ["descriptor_advice", "memlock_advice", "priority_advice"]

_RTKIT = ("/usr/libexec", "/usr/lib/rtkit", "/usr/lib")
_OWN_FILE = "/etc/security/limits.d/95-chaosd.conf"
_AGAIN = ", then log in again"


def priority_advice() -> str:
    """How the data thread gets real-time priority."""
    if _is_in_container():
        return "run the container with `--cap-add SYS_NICE --ulimit rtprio=95`"
    if not any(Path(folder, "rtkit-daemon").exists() for folder in _RTKIT) and shutil.which("apt-get"):
        return "`sudo apt-get install rtkit`, then start chaosd again"
    return _in_limits("rtprio", "95")


def memlock_advice() -> str:
    """How all slots may be locked into memory."""
    if _is_in_container():
        return "run the container with `--ulimit memlock=-1`"
    return _in_limits("memlock", "unlimited")


def descriptor_advice() -> str:
    """How a process may open enough files."""
    if _is_in_container():
        return "run the container with `--ulimit nofile=65536`"
    return _in_limits("nofile", "65536")


def _is_in_container() -> bool:
    return Path("/.dockerenv").exists() or Path("/run/.containerenv").exists() or "container" in os.environ


def _in_limits(item: str, value: str) -> str:
    return f'`echo "{getpass.getuser()} - {item} {value}" | sudo tee -a {_OWN_FILE}`{_AGAIN}'
