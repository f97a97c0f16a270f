"""A recording in one line, for lists."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import Self

import msgspec

from chaos.store.catalog import Entry
from chaos.store.chunks import part_path
from chaos.store.digest import Digest
from chaos.store.part import checkpointed_frames
from chaos.store.store import Store
from chaos.store.uploaded import Progress, Uploads
from chaos.terms.errors import ChaosError
from chaos.terms.form import AudioForm
from chaos.terms.marks import Mark
from chaos.terms.moments import utc_if_any

__all__ = ["RecordingSummary", "summaries"]


class RecordingSummary(msgspec.Struct, frozen=True):
    """A line of `recording_list`. A recording whose journal can't be read has the state "damaged".

    `gaps` has the frames that are missing by cause. `n_bytes` are those of the sealed chunks that are there;
    `retired_frames` were captured and have gone since. A recording that goes on has the frames and bytes that its slots
    hold, too; its `ended_utc` is that of what is stored. `uploaded_frame` is the frame before which all is in the
    object store (None: nothing of it, or no upload), `is_uploaded`: it has ended, and all of it is there;
    `upload_damaged` are chunks that can't be uploaded, as they are damaged or missing here. `continues` is the take
    that it went on from without a seam, `follows` the one that a crash ended before it, `after_change` the one that
    ended as the device changed its format.
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
    follows: str | None = None
    after_change: str | None = None
    uploaded_frame: int | None = None
    is_uploaded: bool = False
    upload_damaged: list[int] = []

    @classmethod
    def of(cls, entry: Entry, uploaded: Progress | None = None) -> Self:
        digest = entry.digest
        if digest is None:
            return cls(entry.uri, str(entry.path), entry.state)
        shape = digest.definition
        head = _head(entry.path, digest) if entry.state == "recording" else digest.n_frames
        return cls(
            uri=entry.uri,
            recording=str(entry.path),
            state=entry.state,
            n_frames=head,
            n_chunks=digest.n_chunks,
            n_gaps=digest.n_gaps,
            lost_frames=digest.lost_frames,
            sample_rate=shape.sample_rate,
            channels=shape.channels,
            sample_format=shape.sample_format,
            started_wall_ns=shape.started_wall_ns,
            started_utc=utc_if_any(shape.started_wall_ns),
            clean=digest.finish.clean if digest.finish else None,
            ended_wall_ns=digest.ended_wall_ns,
            ended_utc=utc_if_any(digest.ended_wall_ns),
            device=shape.device_name,
            gaps={cause: n_frames for cause, (_, n_frames) in digest.gaps.items()},
            n_bytes=digest.n_bytes + _unsealed_bytes(digest, head),
            retired_frames=sum(end - first for first, end in digest.retired),
            continues=shape.continues,
            marks=digest.marks,
            follows=shape.follows,
            after_change=shape.after_change,
            uploaded_frame=None if uploaded is None else uploaded.sure_frame,
            is_uploaded=uploaded is not None and uploaded.is_complete,
            upload_damaged=[] if uploaded is None else uploaded.damaged,
        )


def summaries(store: Store, entries: Sequence[Entry]) -> list[RecordingSummary]:
    """A line for each."""
    with closing(Uploads(store)) as uploads:
        target, found = uploads.target, []
        for entry in entries:
            known = None
            if target is not None and entry.digest is not None:
                known = uploads.progress(target, entry.path, entry.digest.definition.started_wall_ns)
            found.append(RecordingSummary.of(entry, known))
        return found


def _head(path: Path, digest: Digest) -> int:
    """Where a take that runs has come to: its journal tells no more than a second's worth, and of a chunk that is not
    sealed nothing. A take by level is as long as its last checkpoint says."""
    shape = digest.definition
    if shape.staging is None:
        return max(digest.n_frames, _checkpointed(path, digest))
    from chaos.staging.reader import StagingReader  # only running takes have one

    with suppress(OSError, ChaosError), StagingReader(Path(shape.staging)) as staging:
        if staging.uri == shape.uri:
            return max(digest.n_frames, staging.head_frame)
    return digest.n_frames


def _checkpointed(path: Path, digest: Digest) -> int:
    """Where the last checkpoint of the chunk that fills has come to; 0 where none is there."""
    form, chunk = digest.definition.form, digest.n_chunks
    with suppress(OSError):
        return chunk * form.chunk_frames + checkpointed_frames(part_path(path / form.folder, chunk), form)
    return 0


def _unsealed_bytes(digest: Digest, head: int) -> int:
    """What the frames behind the last sealed chunk take, of audio that the store holds."""
    form = digest.definition.form
    if digest.definition.external or not isinstance(form, AudioForm) or digest.finish:
        return 0
    n_sealed = digest.held[-1][0] + digest.held[-1][1] if digest.held else 0
    return max(0, head - n_sealed * form.chunk_frames) * (form.chunk_bytes // form.chunk_frames)
