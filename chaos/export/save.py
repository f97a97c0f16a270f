"""Saving: a range of one recording, or of several side by side, as files or into a stream.

A file appears under its name when it is whole. What an interrupted save left (KILL, a power cut) the next one into the
same folder removes.
"""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from itertools import groupby
from pathlib import Path
from typing import BinaryIO, TypeAlias

import msgspec

from chaos.export.encoded import EncodedFile
from chaos.export.events import EventSource, JoinedEventSource
from chaos.export.file import OutFile, Wanted, checked_container
from chaos.export.hidden import appear, check_free, open_hidden, sweep
from chaos.export.joined import JoinedSource
from chaos.export.labels import label_track
from chaos.export.midifile import MidiFile
from chaos.export.padded import PaddedSource
from chaos.export.placing import Placed, aligned_frames
from chaos.export.plain import PLAIN, PlainFile
from chaos.export.report import SaveReport
from chaos.export.source import Source, checked_range
from chaos.read.recording import Recording, StreamRecording
from chaos.store.places import check_not_of_store
from chaos.store.store import name_and_take, store_around
from chaos.system.files import storage_errors, sync_folder, write_all
from chaos.terms.containers import MIDI_CONTAINERS, Container, GapFill, Subtype
from chaos.terms.errors import FormatUnsupported, InvalidRange, InvalidRequest, PathNotAllowed
from chaos.terms.form import MidiForm
from chaos.terms.latency import Latency
from chaos.terms.visible import visible

__all__ = ["SaveReport", "save", "save_aligned", "save_placed", "save_split", "save_to"]

Progress = Callable[[int, int], None]
AnyFile: TypeAlias = OutFile | MidiFile


def save(
    recording: Recording,
    out: Path,
    first_frame: int | None = None,
    n_frames: int | None = None,
    gaps: GapFill = "zeros",
    container: Container | None = None,
    progress: Progress | None = None,
    *,
    subtype: Subtype | None = None,
    labels: bool = False,
    force: bool = False,
    tempo: float | None = None,
) -> SaveReport:
    """Writes `n_frames` (None: up to the end) from `first_frame` (None: where audio begins) on into `out`.

    The container goes by the name's ending, else it is WAV, which becomes RF64 by itself where 4 GiB would overflow, or
    of a MIDI recording a Standard MIDI File; that has bars of `tempo` beats a minute, or without it a tick a frame.
    Gaps become zeros, NaN (float samples) or are cut out. The recording's marks and gaps
    become cue points, and with `labels`, if there are any, also a label track for Audacity: `take.txt` beside
    `take.wav`.
    `progress` is called with frames done and frames in all. A file that exists is refused, or with `force` replaced at
    the end; it stays as it was when anything fails.

    Raises InvalidRange, InvalidRequest, PathNotAllowed, FormatUnsupported, StorageFull or StorageFailed.
    """
    source = source_of(recording, *checked_range(recording, first_frame, n_frames), gaps)
    wanted = Wanted(container, subtype, tempo=tempo)
    (report,) = _write([_file(source, out.absolute(), wanted)], progress, force, labels)
    return report


def save_split(
    recording: Recording,
    out: Path,
    first_frame: int | None = None,
    n_frames: int | None = None,
    gaps: GapFill = "zeros",
    container: Container | None = None,
    progress: Progress | None = None,
    *,
    subtype: Subtype | None = None,
    labels: bool = False,
    force: bool = False,
) -> list[SaveReport]:
    """Like `save`, one file per channel: `take.wav` becomes `take-1-FL.wav`, `take-2-FR.wav` and so on."""
    if _is_midi(recording):
        raise InvalidRequest(f"{recording.uri} is MIDI and has no channels to split", hint="leave out --split-channels")
    source = source_of(recording, *checked_range(recording, first_frame, n_frames), gaps)
    wanted = Wanted(container, subtype)
    files = [_file(source, path, wanted, channel) for channel, path in _parts(recording, out.absolute(), wanted)]
    return _write(files, progress, force, labels)


def save_aligned(
    recordings: Sequence[Recording],
    folder: Path,
    first_frame: int | None = None,
    n_frames: int | None = None,
    gaps: GapFill = "zeros",
    container: Container | None = None,
    progress: Progress | None = None,
    *,
    subtype: Subtype | None = None,
    split: bool = False,
    labels: bool = False,
    force: bool = False,
    tempo: float | None = None,
) -> list[SaveReport]:
    """Writes the same moments of several recordings, one file each (NAME-TAKE.wav), all of equal length.
    `container` and `subtype` are for those that they fit: audio and MIDI recordings may be mixed.

    The range is of the first recording; what not all of them have is left out. A stream that has rolled is all its
    takes. The folder is made if need be. With `split` each becomes one file per channel. No file appears before all are
    whole. Gaps can't be cut, which would undo the alignment. They are aligned by the graph's clock: how late each
    device's port says that it is stands in its report, and moves nothing, since it is as good as the driver's word.
    Raises what `save` raises, and RateMismatch.
    """
    _check_gaps(gaps)
    if len({recording.path for recording in recordings}) != len(recordings):
        raise InvalidRequest("the same recording is listed twice", hint="list each recording once")
    first, end = checked_range(recordings[0], first_frame, n_frames)
    aligned = aligned_frames(recordings, first, end)
    placed = [
        Placed(recording, first, first + aligned.n_frames, 0, 0)
        for recording, first in zip(recordings, aligned.first_frames, strict=True)
    ]
    how = Wanted(container, subtype, aligned.by, tempo)
    return save_placed(placed, folder, gaps, how, progress, split=split, labels=labels, force=force)


def save_placed(
    placed: Sequence[Placed],
    folder: Path,
    gaps: GapFill,
    wanted: Wanted,
    progress: Progress | None = None,
    *,
    split: bool = False,
    labels: bool = False,
    force: bool = False,
) -> list[SaveReport]:
    """Like `save_aligned`, of what the caller has aligned; frames that a recording doesn't have are silence."""
    _check_gaps(gaps)
    folder = folder.absolute()
    for each in placed:
        _check_place(each.recording, folder / _name_of(each.recording))
    with storage_errors("make the folder", folder):
        folder.mkdir(parents=True, exist_ok=True)
    files: list[AnyFile] = []
    for recording, first, end, before, after in placed:
        is_midi = _is_midi(recording)
        source = source_of(recording, first, end, "zeros" if is_midi else gaps)
        if before or after:
            source = PaddedSource(source, before, after)
        container = wanted.container
        is_fit = container is not None and (container in MIDI_CONTAINERS) == is_midi
        ending: Container | None = container if is_fit else "mid" if is_midi else "wav"
        subtype, tempo = (None, wanted.tempo) if is_midi else (wanted.subtype, None)
        own = Wanted(ending, subtype, wanted.aligned_by, tempo)
        out = folder / f"{_name_of(recording)}.{ending}"
        parts = _parts(recording, out, own) if split and not is_midi else [(None, out)]
        files += [_file(source, path, own, channel) for channel, path in parts]
    latencies = {each.recording.uri: _latency_of(each.recording, each.end) for each in placed}
    reports = _write(files, progress, force, labels)
    return [msgspec.structs.replace(report, latency=latencies[report.uri]) for report in reports]


def _latency_of(recording: Recording, end: int) -> Latency | None:
    """What its port said last before frame `end`."""
    return next((latency for frame, latency in reversed(recording.latencies) if frame < end), None)


def _check_gaps(gaps: GapFill) -> None:
    if gaps == "cut":
        message = "cutting gaps out would break the alignment of several recordings"
        raise InvalidRequest(message, hint="use --gaps zeros or --gaps nan")


def save_to(
    recording: Recording,
    stream: BinaryIO,
    first_frame: int | None = None,
    n_frames: int | None = None,
    gaps: GapFill = "zeros",
    container: Container = "raw",
    progress: Progress | None = None,
    *,
    subtype: Subtype | None = None,
    tempo: float | None = None,
) -> SaveReport:
    """Like `save`, into an open stream that need not seek: raw (interleaved, little-endian), WAV, RF64 or MIDI.

    Raises BrokenPipeError too, where its reader has gone.
    """
    container = checked_container(Path("-"), container)
    if container not in (*PLAIN, *MIDI_CONTAINERS):
        raise FormatUnsupported(
            f"{container} cannot be written to a pipe", hint=f"use {', '.join(PLAIN)}, or save to a file"
        )
    source = source_of(recording, *checked_range(recording, first_frame, n_frames), gaps)
    _check_any_left(source)
    wanted = Wanted(container, subtype, tempo=tempo)
    _check_kind(source, container, wanted)
    file: PlainFile | MidiFile
    if container in MIDI_CONTAINERS:
        file = MidiFile(source, Path("-"), container, wanted)
    else:
        file = PlainFile(source, Path("-"), container, wanted, None)
    advance = _total(progress, source.n_frames)
    with _told_errors(file.out):
        file.begin_pipe(stream)
    with source.held():
        for block in source.blocks():
            with _told_errors(file.out):
                file.write(block)
            advance(source.n_in(block))
    with _told_errors(file.out):
        file.end()
        stream.flush()
    return file.report()


@contextmanager
def _told_errors(out: Path) -> Iterator[None]:
    """As `storage_errors`; that a pipe's reader has gone is none of storage's."""
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError:
        with storage_errors("write", out):
            raise


def _name_of(recording: Recording) -> str:
    """Of the file that it becomes: `desk-take`, and of one take among several `desk-take.0001`."""
    name = recording.uri.removeprefix("stream://").replace("/", "-")
    later = f"{glob.escape(name_and_take(recording.path)[1])}.[0-9][0-9][0-9][0-9]*.zarr"
    return f"{name}.0001" if any(recording.path.parent.glob(later)) else name


def _parts(recording: Recording, out: Path, wanted: Wanted) -> list[tuple[int | None, Path]]:
    """The channel and the path of each file."""
    container = checked_container(out, wanted.container)
    positions = recording.definition.positions
    parts: list[tuple[int | None, Path]] = []
    for channel in range(recording.channels):
        position = positions[channel] if channel < len(positions) else ""
        name = re.sub(r"[^A-Za-z0-9_-]", "_", position)
        label = f"{channel + 1}-{name}" if name else str(channel + 1)
        parts.append((channel, out.with_name(f"{out.stem}-{label}{out.suffix or f'.{container}'}")))
    return parts


def source_of(recording: Recording, first: int, end: int, fill: GapFill) -> Source:
    """What reads frames [first, end), of one take or of a stream, audio or MIDI."""
    if isinstance(recording, StreamRecording):
        return (JoinedEventSource if _is_midi(recording) else JoinedSource)(recording, first, end, fill)
    return (EventSource if _is_midi(recording) else Source)(recording, first, end, fill)


def _is_midi(recording: Recording) -> bool:
    return isinstance(recording.definition.form, MidiForm)


def _check_kind(source: Source, container: Container, wanted: Wanted) -> None:
    """Raises FormatUnsupported for audio in a MIDI file and the like, InvalidRequest for a tempo of audio."""
    is_midi = _is_midi(source.recording)
    if is_midi != (container in MIDI_CONTAINERS):
        what, fits = ("MIDI", "as .mid or .midi2") if is_midi else ("audio", "as .wav")
        message = f"{source.recording.uri} is {what}, which no .{container} file holds"
        raise FormatUnsupported(message, hint=f"save it {fits}")
    if is_midi and wanted.subtype is not None:
        raise InvalidRequest("a MIDI file has no samples", hint="leave out --subtype")
    if not is_midi and wanted.tempo is not None:
        raise InvalidRequest("a sound file has no tempo", hint="leave out --tempo: it is for MIDI files")


def _file(source: Source, out: Path, wanted: Wanted, channel: int | None = None) -> AnyFile:
    _check_any_left(source)
    container = checked_container(out, wanted.container, "mid" if _is_midi(source.recording) else "wav")
    _check_kind(source, container, wanted)
    _check_place(source.recording, out)
    if not out.parent.is_dir():
        folder = visible(str(out.parent))
        raise InvalidRequest(f"the folder {folder} does not exist", hint=f"create it with: mkdir -p {folder}")
    if container in MIDI_CONTAINERS:
        return MidiFile(source, out, container, wanted)
    kind = PlainFile if container in PLAIN else EncodedFile
    return kind(source, out, container, wanted, channel)


def _check_any_left(source: Source) -> None:
    if not source.n_frames:
        raise InvalidRange(
            f"frames {source.first} to {source.end} of {source.recording.uri} are all missing: nothing is left",
            hint="use --gaps zeros, or choose another range",
        )


def _write(files: Sequence[AnyFile], progress: Progress | None, force: bool, labels: bool) -> list[SaveReport]:
    """Writes all under hidden names, then brings them under their own."""
    for file in files:
        check_free(file.out, force)
        if labels:
            check_free(_labels_of(file.out), force)
    for folder in {file.out.parent for file in files}:
        sweep(folder)
    groups = [list(group) for _, group in groupby(files, key=lambda file: id(file.source))]
    advance = _total(progress, sum(group[0].source.n_frames for group in groups))
    with ExitStack() as stack:
        for group in groups:
            stack.enter_context(group[0].source.held())
        hidden = {}
        tracks: dict[Path, Path] = {}
        for group in groups:
            source = group[0].source
            for file in group:
                with storage_errors("write", file.out):
                    hidden[file.out], file.fd = open_hidden(file.out, stack)
                    file.begin(file.fd)
            for block in source.blocks():
                for file in group:
                    with storage_errors("write", file.out):
                        file.write(block)
                advance(source.n_in(block))
            for file in group:
                with storage_errors("write", file.out):
                    file.end()
                    os.fsync(file.fd)
                if labels and (cues := file.account.cues()):
                    out = tracks[file.out] = _labels_of(file.out)
                    track = label_track(cues, source.recording.sample_rate)
                    with storage_errors("write", out):
                        hidden[out], fd = open_hidden(out, stack)
                        write_all(fd, track.encode(), 0)
                        os.fsync(fd)
        for out, path in hidden.items():
            with storage_errors("write", out):
                appear(path, out, force)
                sync_folder(out.parent)
        for file in files:
            if labels and force and file.out not in tracks:  # what stands there is of what was replaced
                with storage_errors("remove", _labels_of(file.out)):
                    _labels_of(file.out).unlink(missing_ok=True)
    reports = [file.report() for file in files]
    return [
        msgspec.structs.replace(report, labels=str(tracks[file.out]) if file.out in tracks else None)
        for file, report in zip(files, reports, strict=True)
    ]


def _labels_of(out: Path) -> Path:
    return out.with_suffix(".txt")


def _check_place(recording: Recording, out: Path) -> None:
    """Raises PathNotAllowed where the recording itself is, or what else its store is made of."""
    home = recording.path.resolve()
    store = store_around(home)
    if store is not None:
        check_not_of_store(store, out)
    elif home in (out.parent.resolve() / out.name).parents:
        raise PathNotAllowed(
            f"{visible(str(out))} is in the folder of the recording itself",
            hint=f"name a file in another folder, {visible(str(home.parent / out.name))} for example",
        )


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
