"""What a save answers with."""

from __future__ import annotations

from typing import Any

import msgspec

from chaos.export.smf import Loss
from chaos.terms.latency import Latency

__all__ = ["Damage", "SaveReport"]


class Damage(msgspec.Struct, frozen=True):
    """A sealed chunk that is not what was recorded, and the frames of it that were saved all the same.

    `reason` is one of `verify`'s: hash_mismatch, wrong_size, missing or unreadable. What could not be read is zeros.
    `take` is the URI of the take whose chunk it is; frames count in what was saved. `expected` and `found` are the
    hashes of one that does not match.
    """

    reason: str
    chunk: int
    first_frame: int
    n_frames: int
    take: str = ""
    expected: str | None = None
    found: str | None = None


class SaveReport(msgspec.Struct, frozen=True):
    """What was saved. `n_frames` of the recording from `first_frame` on became `n_written` in the file.

    All of it tells of what was read: `gaps` (as on the wire) reach into the range; `missing_frames` counts within it,
    of which retention removed `retired_frames` and `lost_frames` were lost; `root_hash` is made from the `n_chunks`
    sealed chunks that were read, hashed again. Those that did not match are in `damaged`.

    `is_exact` is False where the file can't be what was recorded: samples had to change (`max_error` is by how much at
    most, 1.0 is full scale, None where it was not measured; `clipped` counts samples beyond full scale), or chunks are
    damaged. `positions` are the channels in the file's order; `channel` (from 1) is the one that a file of one channel
    has. A session's files are equally long: `frames_before` and `frames_after` are what was put before and behind the
    recording's own, where it began later or ended earlier than others. `labels` is the path of the label track, if one
    was written. `aligned_by` says which clock aligned several recordings, `latency` what the device's port said then of
    how late it is, by which nothing was moved; `midi` what became of messages in a MIDI file, which has neither
    channels nor samples.
    """

    path: str
    uri: str
    container: str
    subtype: str
    sample_rate: int
    channels: int
    positions: list[str]
    first_frame: int
    n_frames: int
    n_written: int
    started_utc: str
    gaps: list[dict[str, Any]]
    missing_frames: int
    lost_frames: int
    retired_frames: int
    damaged: list[Damage]
    is_exact: bool
    max_error: float | None
    clipped: int
    n_chunks: int
    root_hash: str
    channel: int | None = None
    aligned_by: str | None = None
    latency: Latency | None = None
    midi: Loss | None = None
    labels: str | None = None
    frames_before: int = 0
    frames_after: int = 0
