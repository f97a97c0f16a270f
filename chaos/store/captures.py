"""Captures that run on this machine, whoever runs them: as their staging files show them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import msgspec

from chaos.staging.layout import SUFFIX
from chaos.staging.reader import StagingReader
from chaos.store.about import About
from chaos.system.files import is_locked
from chaos.terms.errors import ChaosError

__all__ = ["Captured", "captures", "is_in_use"]


class Captured(msgspec.Struct, frozen=True):
    """A capture of the process `pid`; `recording` is empty before its first frame."""

    uri: str
    pid: int
    device: str
    store: str
    recording: str
    n_frames: int
    sample_rate: int
    sample_format: str
    lost_frames: int


def captures(staging_dir: Path) -> list[Captured]:
    """Those whose staging files lie there and are in use, by URI. Nothing of them is touched."""
    found = [each for path in staging_dir.glob(f"*{SUFFIX}") for each in _captured(path)]
    return sorted(found, key=lambda each: each.uri)


def _captured(path: Path) -> Iterator[Captured]:
    """One at most: nothing of a file that goes while we look, or is not a staging file of this version."""
    with suppress(OSError, ValueError, ChaosError), StagingReader(path) as staging:
        if not is_in_use(path, staging.pid):
            return
        told = msgspec.json.decode(staging.about, type=About)
        definition, recording = told.definition, staging.recording
        yield Captured(
            uri=definition.uri,
            pid=staging.pid,
            device=str(definition.device_name or ""),
            store=told.store,
            recording="" if recording == Path() else str(recording),
            n_frames=staging.head_frame,
            sample_rate=staging.state("sample_rate"),
            sample_format=str(definition.sample_format),
            lost_frames=staging.state("lost_frames") - staging.state("base_lost"),
        )


def is_in_use(path: Path, pid: int) -> bool:
    """Whether who made it holds its lock. That of a dead process isn't tried: recovery may be about to take it."""
    return Path(f"/proc/{pid}").exists() and is_locked(path)
