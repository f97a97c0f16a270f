"""Saving: a range of one recording, or of several side by side, as files or into a stream.

A file appears under its name when it is whole.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import BinaryIO

from chaos.export.file import OutFile, checked_range
from chaos.export.report import SaveReport
from chaos.read.recording import Recording
from chaos.store.timeline import align
from chaos.system.files import storage_errors, sync_folder
from chaos.terms.containers import Container, GapFill
from chaos.terms.errors import FormatUnsupported, InvalidRequest

__all__ = ["SaveReport", "save", "save_aligned", "save_to"]

Progress = Callable[[int, int], None]


def save(
    recording: Recording,
    out: Path,
    first_frame: int = 0,
    n_frames: int | None = None,
    gaps: GapFill = "zeros",
    container: Container | None = None,
    progress: Progress | None = None,
) -> SaveReport:
    """Writes `n_frames` (None: up to the end) from `first_frame` on, block by block, into `out`.

    The container goes by the name's ending (.wav, .rf64, .flac, .raw), else WAV; WAV becomes RF64 by itself where 4 GiB
    would overflow. Gaps become zeros, NaN (float containers) or are cut out. `progress` is called with frames done and
    frames in all. A file of that name is replaced at the end, and stays as it was when anything fails.

    Raises InvalidRange, InvalidRequest, FormatUnsupported, StorageFull or StorageFailed.
    """
    task = OutFile(recording, out.absolute(), first_frame, n_frames, gaps, container)
    (report,) = _save_all([task], progress)
    return report


def save_aligned(
    recordings: Sequence[Recording],
    folder: Path,
    first_frame: int = 0,
    n_frames: int | None = None,
    gaps: GapFill = "zeros",
    container: Container | None = None,
    progress: Progress | None = None,
) -> list[SaveReport]:
    """Writes the same moments of several recordings, one file each (NAME-TAKE.wav), all of equal length.

    The range is of the first recording; what not all of them have is left out. The folder is made if need be. No file
    appears before all are whole. Gaps can't be cut, which would undo the alignment. Raises what `save` raises, and
    RateMismatch.
    """
    if gaps == "cut":
        raise InvalidRequest(
            "cutting gaps out would break the alignment of several recordings", hint="use --gaps zeros or --gaps nan"
        )
    first, end = checked_range(recordings[0], first_frame, n_frames)
    lengths = [recording.n_frames for recording in recordings]
    aligned = align([recording.info for recording in recordings], lengths, first, end)
    folder = folder.absolute()
    with storage_errors("make the folder", folder):
        folder.mkdir(parents=True, exist_ok=True)
    tasks = []
    for recording, first in zip(recordings, aligned.first_frames, strict=True):
        stem = recording.uri.removeprefix("stream://").replace("/", "-")
        out = folder / f"{stem}.{container or 'wav'}"
        tasks.append(OutFile(recording, out, first, aligned.n_frames, gaps, container, aligned.by))
    if len({task.out for task in tasks}) != len(tasks):
        raise InvalidRequest("the same recording is listed twice", hint="list each recording once")
    return _save_all(tasks, progress)


def save_to(
    recording: Recording,
    stream: BinaryIO,
    first_frame: int = 0,
    n_frames: int | None = None,
    gaps: GapFill = "zeros",
    container: Container = "raw",
    progress: Progress | None = None,
) -> SaveReport:
    """Like `save`, into an open stream that need not seek: raw (interleaved, little-endian), WAV or RF64."""
    if container == "flac":
        raise FormatUnsupported("FLAC cannot be written to a pipe", hint="use raw, wav or rf64, or save to a file")
    task = OutFile(recording, Path("-"), first_frame, n_frames, gaps, container)
    with storage_errors("write", task.out):
        task.write_plain(stream, _total(progress, task.n_written))
        stream.flush()
    return task.report()


def _save_all(tasks: Sequence[OutFile], progress: Progress | None) -> list[SaveReport]:
    """Writes all under hidden names, then brings them under their own."""
    advance = _total(progress, sum(task.n_written for task in tasks))
    with ExitStack() as stack:
        written = []
        for task in tasks:
            hidden = task.out.with_name(f".{task.out.name}.{secrets.token_hex(4)}.part")
            stack.callback(hidden.unlink, missing_ok=True)
            with storage_errors("write", task.out):
                task.write(hidden, advance)
            written.append(hidden)
        for task, hidden in zip(tasks, written, strict=True):
            with storage_errors("write", task.out):
                hidden.replace(task.out)
                sync_folder(task.out.parent)
    return [task.report() for task in tasks]


def _total(progress: Progress | None, n_all: int) -> Callable[[int], None]:
    """From frames done since the last call to frames done of all."""
    n_done = 0

    def advance(n_frames: int) -> None:
        nonlocal n_done
        n_done += n_frames
        if progress:
            progress(n_done, n_all)

    advance(0)
    return advance
