"""A session as a folder: a file for each of its streams, aligned, and `session.json` that says what they are."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec

from chaos.export.report import SaveReport
from chaos.export.save import save_aligned
from chaos.read.recording import Recording
from chaos.store.timeline import anchors_of, related
from chaos.system.files import replace, storage_errors
from chaos.terms.containers import Container, GapFill, Subtype
from chaos.terms.errors import ChaosError, InvalidRange, PathNotAllowed
from chaos.terms.visible import visible

__all__ = ["SESSION_FILE", "save_session"]

SESSION_FILE = "session.json"


def save_session(
    name: str,
    recordings: Sequence[Recording],
    folder: Path,
    gaps: GapFill = "zeros",
    container: Container | None = None,
    progress: Callable[[int, int], None] | None = None,
    *,
    subtype: Subtype | None = None,
    force: bool = False,
) -> list[SaveReport]:
    """Writes the moments that all of the session's recordings have, a file each, and `session.json`.

    Recordings of different rates can't be aligned to the sample: then those of one rate are. What has no frames is
    left out, and said in `session.json`. Raises what `save_aligned` raises.
    """
    told = folder.absolute() / SESSION_FILE
    if told.exists() and not force:
        raise PathNotAllowed(f"{visible(str(told))} exists already", hint="choose another folder, or use --force")
    with_frames = [recording for recording in recordings if recording.n_frames]
    if not with_frames:
        raise InvalidRange(f"the session {name} has no frames", hint="nothing was recorded in it")
    reports: list[SaveReport] = []
    for rate in dict.fromkeys(recording.sample_rate for recording in with_frames):
        alike = [recording for recording in with_frames if recording.sample_rate == rate]
        reports += save_aligned(
            alike, folder, gaps=gaps, container=container, progress=progress, subtype=subtype, force=force
        )
    description = {"session": name, "streams": [_stream(each, with_frames[0], reports) for each in recordings]}
    with storage_errors("write", told):
        replace(told, msgspec.json.format(msgspec.json.encode(description), indent=2) + b"\n")
    return reports


def _stream(recording: Recording, first: Recording, reports: Sequence[SaveReport]) -> dict[str, Any]:
    """What the stream is, how its clock is related to the first one's, and the report of its file."""
    shape = recording.definition
    report = next((report for report in reports if report.uri == recording.uri), None)
    offset: int | None = None
    way: str | None = None
    if recording.n_frames:
        try:
            offset, way = related(first.info, recording.info)
        except ChaosError:  # the wall clock alone could tell, and was set
            way = None
    return {
        "uri": recording.uri,
        "file": Path(report.path).name if report is not None else None,
        "device": shape.device.get("description") or shape.device.get("name"),
        "sample_rate": recording.sample_rate,
        "n_frames": recording.n_frames,
        "clock_id": anchors_of(recording.info)[0].clock_id,
        "offset_frames": offset,
        "related_by": way,
        "saved": None if report is None else msgspec.to_builtins(report),
    }
