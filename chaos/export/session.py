"""A session as a folder: a file for each of its streams, aligned, and `session.json` that says what they are."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec

from chaos.export.file import Wanted
from chaos.export.placing import Stretch, frame_in
from chaos.export.report import SaveReport
from chaos.export.save import save_placed
from chaos.read.recording import Recording, StreamRecording
from chaos.store.store import name_and_take
from chaos.store.timeline import anchors_of
from chaos.system.files import replace, storage_errors
from chaos.terms.containers import Container, GapFill, Subtype
from chaos.terms.errors import ChaosError, InvalidRange, PathNotAllowed
from chaos.terms.moments import utc_text, wall_ns_of
from chaos.terms.visible import visible

__all__ = ["SESSION_FILE", "save_session", "stretch_of"]

SESSION_FILE = "session.json"


def stretch_of(name: str, recordings: Sequence[Recording]) -> Stretch:
    """The time that the session's recordings cover together. Raises InvalidRange where there are no frames."""
    with_frames = [recording for recording in recordings if recording.n_frames]
    if not with_frames:
        raise InvalidRange(f"the session {name} has no frames", hint="nothing was recorded in it")
    return Stretch(with_frames)


def save_session(
    name: str,
    recordings: Sequence[Recording],
    folder: Path,
    gaps: GapFill = "zeros",
    container: Container | None = None,
    progress: Callable[[int, int], None] | None = None,
    *,
    chosen: tuple[Stretch, int, int | None] | None = None,
    missing: Sequence[str] = (),
    subtype: Subtype | None = None,
    tempo: float | None = None,
    split: bool = False,
    labels: bool = False,
    force: bool = False,
) -> list[SaveReport]:
    """Writes all of the session, or frames [first, end) of its stretch where they are `chosen`: a file for each
    recording, all from the same moment on and equally long, and `session.json`.

    A stream that began later or ended earlier has silence there, and one with nothing in the range has no file: both
    are said in `session.json`, as are the `missing` streams, of which nothing was recorded. Streams of other rates are
    equally long but for less than a frame. Raises what `save_aligned` raises.
    """
    told = folder.absolute() / SESSION_FILE
    if told.exists() and not force:
        raise PathNotAllowed(f"{visible(str(told))} exists already", hint="choose another folder, or use --force")
    stretch, first, end = chosen or (stretch_of(name, recordings), 0, None)
    placed = stretch.placed(first, end)
    wanted = Wanted(container, subtype, stretch.way, tempo)
    reports = save_placed(placed, folder, gaps, wanted, progress, split=split, labels=labels, force=force)
    reference = next(each for each in recordings if each.n_frames)
    description = {
        "session": name,
        "started_utc": utc_text(wall_ns_of(stretch.moment_of(first))),
        "sample_rate": stretch.sample_rate,
        "first_frame": first,
        "n_frames": (stretch.n_frames if end is None else end) - first,
        "aligned_by": stretch.way,
        "streams": [_stream(each, reference, reports) for each in recordings],
        "not_recorded": list(missing),
    }
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
            offset, way = frame_in(recording, first, 0)
        except ChaosError:  # the wall clock alone could tell, and was set
            way = None
    paths = [take.path for take in recording.takes] if isinstance(recording, StreamRecording) else [recording.path]
    return {
        "uri": recording.uri,
        "file": Path(report.path).name if report is not None else None,
        "device": shape.device_name,
        "sample_rate": recording.sample_rate,
        "n_frames": recording.n_frames,
        "takes": ["stream://{}/{}".format(*name_and_take(path)) for path in paths],
        "clock_id": anchors_of(recording.take_at(0)[1])[0].clock_id,
        "offset_frames": offset,
        "related_by": way,
        "frames_before": report.frames_before if report is not None else None,
        "frames_after": report.frames_after if report is not None else None,
        "saved": None if report is None else msgspec.to_builtins(report),
    }
