"""Which machine this is, and which run of its kernel."""

from __future__ import annotations

import platform
from pathlib import Path

__all__ = ["boot_id", "machine_id"]


def boot_id() -> str:
    """What tells this run of the kernel from all others: 32 hex digits."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip().replace("-", "")


def machine_id() -> str:
    """What tells this machine from others; its host name where it has no better."""
    try:
        return Path("/etc/machine-id").read_text().strip() or platform.node()
    except OSError:
        return platform.node()
