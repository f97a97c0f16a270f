"""A recording in one line, for lists."""

from __future__ import annotations

from typing import Self

import msgspec

from chaos.store.catalog import Entry
from chaos.terms.marks import Mark
from chaos.terms.moments import utc_text

__all__ = ["RecordingSummary"]


class RecordingSummary(msgspec.Struct, frozen=True):
    """A line of `recording_list`. A recording whose journal can't be read has the state "damaged".

    `gaps` has the frames that are missing by cause. `n_bytes` are those of the sealed chunks that are there;
    `retired_frames` were captured and have gone since. `ended_utc` of a recording that goes on is where it has come to.
    """

    uri: str
    recording: str
    state: str
    n_frames: int = 0
    n_chunks: int = 0
    n_gaps: int = 0
    lost_frames: int = 0
    sample_rate: int | None = None
    channels: int | None = None
    sample_format: str | None = None
    started_wall_ns: int | None = None
    started_utc: str | None = None
    clean: bool | None = None
    ended_wall_ns: int | None = None
    ended_utc: str | None = None
    device: str | None = None
    gaps: dict[str, int] = {}
    n_bytes: int = 0
    retired_frames: int = 0
    continues: str | None = None
    marks: list[Mark] = []

    @classmethod
    def of(cls, entry: Entry) -> Self:
        digest = entry.digest
        if digest is None:
            return cls(entry.uri, str(entry.path), entry.state)
        shape = digest.definition
        return cls(
            uri=entry.uri,
            recording=str(entry.path),
            state=entry.state,
            n_frames=digest.n_frames,
            n_chunks=digest.n_chunks,
            n_gaps=digest.n_gaps,
            lost_frames=digest.lost_frames,
            sample_rate=shape.sample_rate,
            channels=shape.channels,
            sample_format=shape.sample_format,
            started_wall_ns=shape.started_wall_ns,
            started_utc=_utc(shape.started_wall_ns),
            clean=digest.finish.clean if digest.finish else None,
            ended_wall_ns=digest.ended_wall_ns,
            ended_utc=_utc(digest.ended_wall_ns),
            device=shape.device.get("description") or shape.device.get("name"),
            gaps={cause: n_frames for cause, (_, n_frames) in digest.gaps.items()},
            n_bytes=digest.n_bytes,
            retired_frames=sum(end - first for first, end in digest.retired),
            continues=shape.continues,
            marks=digest.marks,
        )


def _utc(wall_ns: int) -> str | None:
    """None for what is in no calendar: a journal may say anything."""
    try:
        return utc_text(wall_ns)
    except (ValueError, OverflowError, OSError):
        return None
