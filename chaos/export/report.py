"""What a save answers with."""

from __future__ import annotations

from typing import Any

import msgspec

__all__ = ["SaveReport"]


class SaveReport(msgspec.Struct, frozen=True):
    """What was saved. `n_frames` of the recording from `first_frame` on became `n_written` in the file.

    `is_exact` is False where a sample's value had to change (float or 32 bit to FLAC): `max_error` is by how much at
    most (1.0 is full scale), `clipped` counts samples beyond full scale. `gaps` (as on the wire) reach into the range;
    `lost_frames` counts within it. `root_hash` is that of the `n_chunks` sealed chunks that the range touches.
    `aligned_by` says which clock aligned several recordings.
    """

    path: str
    uri: str
    container: str
    subtype: str
    sample_rate: int
    channels: int
    first_frame: int
    n_frames: int
    n_written: int
    started_utc: str
    gaps: list[dict[str, Any]]
    lost_frames: int
    is_exact: bool
    max_error: float
    clipped: int
    n_chunks: int
    root_hash: str
    aligned_by: str | None = None
