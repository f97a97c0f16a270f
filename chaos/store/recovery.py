"""Recovery: what a dead daemon left, in staging and on disk, becomes a finished recording.

All frames that the callback had committed are sealed, down to the last one; what its notes tell of gaps and
clock goes into the ledger; the time since then is a gap of cause engine_down; the recording is finished, not
clean. A staging file is removed once all of it is durable, and never before. What a living daemon has is not
touched (it holds locks on its files), nor what belongs to another store, machine or version: that is told,
and left.
"""

from __future__ import annotations

import fcntl
import logging
import os
import platform
import shutil
import struct
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Literal

import msgspec

from chaos import _layout
from chaos.staging.file import MAGIC, SUFFIX, StagingReader, boot_id
from chaos.store.info import RecordingInfo, load, recording_path
from chaos.store.journal import Definition
from chaos.store.verify import wrong_metadata
from chaos.store.writer import RecordingWriter, rebuild_metadata
from chaos.terms.errors import ChaosError, InvalidRequest
from chaos.terms.ledger import Cause, ClockAnchor, Confidence, Gap

__all__ = ["Recovered", "RecoveryReport", "about", "recover"]

log = logging.getLogger(__name__)

HALF_MADE_AFTER_S = 60.0
_GAP = _layout.NOTE_KINDS["gap"]
_ANCHOR = _layout.NOTE_KINDS["anchor"]
_ABSURD = 1 << 62  # no frame, position or time of a real stream comes near
_EXACT = frozenset({Cause.MISSED, Cause.OVERRUN, Cause.NO_DATA, Cause.FOREIGN})
_Data = tuple[int, bytes]


class About(msgspec.Struct, frozen=True):
    """What a staging file says of the recording that its frames belong to, before there is one.

    The definition lacks what only the first frames tell. `wall_offset_ns`: wall clock minus CLOCK_MONOTONIC.
    """

    definition: Definition
    store: str
    machine: str
    wall_offset_ns: int


class Recovered(msgspec.Struct, frozen=True):
    """One recording or staging file that was found.

    `outcome`: "recovered"; "removed" (it held nothing that was not stored); "left" as it is; "foreign", so of
    another store or machine; "failed", and may be tried again. `text` says so in plain words. `n_frames` is
    the timeline's new length, `down_frames` of it passed since the engine died; `n_recovered` frames were not
    sealed before.
    """

    outcome: Literal["recovered", "removed", "left", "foreign", "failed"]
    text: str
    uri: str | None = None
    recording: str | None = None
    staging: str | None = None
    n_frames: int = 0
    n_recovered: int = 0
    down_frames: int = 0


class RecoveryReport(msgspec.Struct, frozen=True):
    """`ok` says that nothing failed."""

    ok: bool
    items: list[Recovered]


def about(definition: Definition, store: Path) -> bytes:
    """What to put into a staging file, so that its recording can be made after a crash."""
    offset_ns = time.time_ns() - time.monotonic_ns()
    return msgspec.json.encode(About(definition, str(store), _machine(), offset_ns))


def recover(store: Path, staging_dir: Path) -> RecoveryReport:
    """Brings in all that dead daemons left of this store. To be called twice is harmless, also at once.

    Raises nothing for what it finds: each item's outcome is in the report.
    """
    store = store.absolute()
    stagings = sorted(staging_dir.glob(f"*{SUFFIX}"))
    recordings = sorted((store / "recordings").glob("[!.]*/[!.]*.zarr"))
    left = _Left(store, frozenset(stagings), frozenset(_continued(stagings, recordings)))
    items = [_guarded(path, partial(_from_staging, left, path)) for path in stagings]
    items += [_guarded(path, partial(_from_disk, left, path)) for path in recordings]
    _sweep(store)
    found = [item for item in items if item is not None]
    return RecoveryReport(all(item.outcome != "failed" for item in found), found)


class _Left(msgspec.Struct, frozen=True):
    """What was left of a store: the staging files seen to first, and the takes that others went on from."""

    store: Path
    stagings: frozenset[Path]
    continued: frozenset[str]


def _continued(stagings: Iterable[Path], recordings: Iterable[Path]) -> Iterator[str]:
    """The URIs of takes that have a neighbour: for them the engine was not down after their last frame."""
    for path in stagings:
        with suppress(OSError, ValueError, ChaosError), StagingReader(path) as staging:
            definition = msgspec.json.decode(staging.about, type=About).definition
            if definition.continues is not None and staging.head_frame:
                yield definition.continues
    for path in recordings:
        with suppress(ChaosError):
            definition = load(path).definition
            if definition.continues is not None:
                yield definition.continues


def _guarded(path: Path, work: Callable[[], Recovered | None]) -> Recovered | None:
    """One item's recovery: whatever is wrong with it stops no other."""
    try:
        return work()
    except ChaosError as error:
        why = f"{error.message}; {error.hint}"
    except OSError as error:
        why = f"could not read {error.filename or path}: {error.strerror}"
    except Exception as error:
        log.exception("recovery of %s failed", path)
        why = f"it is damaged in a way that is not understood ({error})"
    is_staging = path.suffix == SUFFIX
    return Recovered(
        "failed",
        f"{path} could not be recovered: {why}",
        recording=None if is_staging else str(path),
        staging=str(path) if is_staging else None,
    )


def _machine() -> str:
    try:
        return Path("/etc/machine-id").read_text().strip() or platform.node()
    except OSError:
        return platform.node()


# ---- from a staging file

@contextmanager
def _owned(path: Path) -> Iterator[bool]:
    """Holds the lock of a staging file; False where its daemon lives, or another recovery is at it."""
    fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield os.fstat(fd).st_nlink > 0
    except BlockingIOError:
        yield False
    finally:
        os.close(fd)


def _from_staging(left: _Left, path: Path) -> Recovered | None:
    try:
        staging = StagingReader(path)
    except FileNotFoundError:
        return None
    except ChaosError as error:
        return _unreadable(path, error)
    with staging:
        try:
            told = msgspec.json.decode(staging.about, type=About)
        except ValueError:
            return _left("left", staging, "it does not say what it belongs to")
        if told.machine != _machine():
            return _left("foreign", staging, "another machine made it; run chaosctl recover there")
        if Path(told.store).resolve() != left.store.resolve():
            lives = Path(f"/proc/{staging.pid}").exists()
            return None if lives else _left("foreign", staging, f"it belongs to the store {told.store}")
        with _owned(path) as owned:
            if not owned:
                return None
            item = _bring_in(left, staging, told)
            if item.outcome in ("recovered", "removed"):
                path.unlink()
            return item


def _is_damaged(path: Path) -> bool:
    """Whether no release of chaosd can read the file."""
    with path.open("rb") as file:
        magic, version = struct.unpack("<8sI", file.read(12).ljust(12, b"\0"))
    if magic == MAGIC and version != _layout.LAYOUT:
        return False
    try:
        StagingReader(path).close()
    except ChaosError:
        return True
    return False


def _unreadable(path: Path, error: ChaosError) -> Recovered | None:
    """A file that begins with nothing was being made; one of another version may hold frames."""
    with path.open("rb") as file:
        is_half_made = not file.read(8).strip(b"\0")
    if not is_half_made:
        return Recovered("left", f"{error.message}; {error.hint}", staging=str(path))
    with _owned(path) as owned:
        if not owned or time.time() - path.stat().st_mtime < HALF_MADE_AFTER_S:
            return None
        path.unlink()
    return Recovered("removed", f"{path} was never finished and held nothing", staging=str(path))


def _left(outcome: Literal["left", "foreign"], staging: StagingReader, why: str) -> Recovered:
    text = f"{staging.path} was left as it is: {why}"
    return Recovered(outcome, text, uri=staging.uri, staging=str(staging.path))


def _bring_in(left: _Left, staging: StagingReader, told: About) -> Recovered:
    store, uri, head, path = left.store, staging.uri, staging.head_frame, str(staging.path)
    stands = (staging.channels, staging.chunk_frames, staging.sample_format)
    meant = (told.definition.channels, told.definition.chunk_frames, told.definition.sample_format)
    if head >= _ABSURD:
        return _left("left", staging, f"its control block is damaged: it says that {head} frames were captured")
    if stands != meant:
        return _left("left", staging, f"its control block is damaged: it says {stands} where {meant} was made")
    target = recording_path(store, uri)
    if not target.exists():
        if not head:
            return Recovered("removed", f"{uri} had not captured a frame", uri, staging=path)
        writer = RecordingWriter.create(store, _definition(told, staging))
        info = load(target)
    else:
        info = load(target)
        if info.definition.run_id != staging.run_id:
            return _left("left", staging, f"another recording lies at {target}; move that away and try again")
        if info.finish:
            n_frames = info.n_frames
            if n_frames < head:
                return _left("left", staging, f"it has {head} frames, and {uri} is finished with {n_frames}")
            return Recovered("removed", f"all of {path} is in {target}", uri, str(target), path, n_frames)
        writer = RecordingWriter.reopen(store, target)
    try:
        return _Recovery(writer, info, uri in left.continued).from_staging(staging, told)
    finally:
        writer.close()


def _definition(told: About, staging: StagingReader) -> Definition:
    first_ns = staging.state("first_ns")
    return msgspec.structs.replace(
        told.definition,
        sample_rate=staging.state("seen_rate"),
        started_monotonic_ns=first_ns,
        started_wall_ns=first_ns + told.wall_offset_ns,
    )


# ---- from the disk alone

def _from_disk(left: _Left, path: Path) -> Recovered | None:
    info = load(path)
    if info.is_live:
        return None
    if info.finish:
        return _rebuilt(path, info) if any(wrong_metadata(info)) else None
    staging = Path(info.definition.staging) if info.definition.staging else None
    if staging is not None and staging.exists():
        if not _is_damaged(staging):
            return None if staging in left.stagings else _from_staging(left, staging)
        remark = "its staging file can't be read, so what came after the last checkpoint is lost"
    else:
        remark = "its staging file is gone, so what came after the last checkpoint is lost"
    try:
        writer = RecordingWriter.reopen(left.store, path)
    except InvalidRequest:  # another recovery is at it, or has just finished it
        return None
    try:
        return _Recovery(writer, info, info.definition.uri in left.continued).from_parts(remark)
    finally:
        writer.close()


def _rebuilt(path: Path, info: RecordingInfo) -> Recovered:
    rebuild_metadata(path)
    text = f"{info.definition.uri}: its metadata lagged behind its journal, and was written anew from that"
    return Recovered("recovered", text, info.definition.uri, str(path), n_frames=info.n_frames)


def _sweep(store: Path) -> None:
    """Removes recordings that were never finished being made: they have no name yet and no frame."""
    for path in (store / "recordings").glob("*/.*.zarr.*"):
        with suppress(OSError):
            if time.time() - path.stat().st_mtime > HALF_MADE_AFTER_S:
                shutil.rmtree(path)


# ---- what both have in common

class _Recovery:
    """Completes one recording through its reopened (or new) writer."""

    def __init__(self, writer: RecordingWriter, info: RecordingInfo, is_continued: bool) -> None:
        self._writer = writer
        self._is_continued = is_continued
        self._shape = writer.definition
        self._n_before = info.n_frames
        self._last_sealed = max((sealed.chunk for sealed in info.chunks), default=-1)
        self._spans = [(sealed.first_frame, sealed.first_frame + sealed.n_frames) for sealed in info.chunks]
        self._spans += [(gap.first_frame, gap.end_frame) for gap in info.gaps]
        self._known_gaps = {(gap.first_frame, gap.n_frames, gap.cause) for gap in info.gaps}
        self._anchors = {(anchor.frame, anchor.position): anchor for anchor in info.anchors}
        self._remarks = [f"line {line} of its journal is damaged" for line in info.bad_lines]
        if info.torn:
            self._remarks.append("the last line of its journal was torn and has been cut off")

    def from_staging(self, staging: StagingReader, told: About) -> Recovered:
        head = staging.head_frame
        offset_ns = time.time_ns() - time.monotonic_ns() if staging.same_boot else told.wall_offset_ns
        n_odd = 0
        for note in staging.notes_left():
            kind, cause, confidence, _, first, n_frames, position, monotonic_ns, clock_id = note
            is_sound = max(first, position, monotonic_ns) < _ABSURD
            try:
                if kind == _GAP and first + n_frames <= head:
                    self._gap(Gap(first, n_frames, Cause(cause), Confidence(confidence)))
                elif kind == _ANCHOR and is_sound:
                    wall_ns = monotonic_ns + offset_ns
                    self._anchor(ClockAnchor(first, position, monotonic_ns, wall_ns, clock_id))
                elif kind != _GAP:
                    n_odd += 1
            except ValueError:
                n_odd += 1
        if n_odd:
            self._remarks.append(f"{n_odd} of its notes made no sense")
        if (gap := staging.open_gap) is not None and head > gap[0]:
            cause = Cause(gap[1]) if gap[1] in list(Cause) else Cause.ENGINE_DOWN
            confidence = Confidence.EXACT if cause in _EXACT else Confidence.CLOCK
            self._gap(Gap(gap[0], head - gap[0], cause, confidence))
        left = self._parts()
        for chunk in staging.chunks():
            n_frames = min(self._shape.chunk_frames, head - chunk * self._shape.chunk_frames)
            data = staging.read_chunk(chunk, 0, self._shape.chunk_frames)
            if n_frames > 0 and data is not None:
                left[chunk] = n_frames, self._cleared(data, n_frames)
        self._seal(left)
        ended_ns = staging.state("end_ns") if staging.same_boot else None
        return self._finish(head, ended_ns, str(staging.path))

    def from_parts(self, remark: str) -> Recovered:
        self._remarks.append(remark)
        self._seal(self._parts())
        return self._finish(max((end for _, end in self._spans), default=0), None, None)

    def _parts(self) -> dict[int, _Data]:
        return {chunk: (n_frames, data) for chunk, n_frames, data in self._writer.unsealed() if n_frames}

    def _cleared(self, data: bytes, n_frames: int) -> bytes:
        """The chunk with zeros behind its committed frames: a copy may have been under way there."""
        kept, plane = n_frames * self._shape.item_size, self._shape.chunk_frames * self._shape.item_size
        if kept == plane:
            return data
        return b"".join(data[at : at + kept].ljust(plane, b"\0") for at in range(0, len(data), plane))

    def _gap(self, gap: Gap) -> None:
        key = gap.first_frame, gap.n_frames, gap.cause
        if key not in self._known_gaps:
            self._known_gaps.add(key)
            self._spans.append((gap.first_frame, gap.end_frame))
            self._writer.gap(gap)

    def _anchor(self, anchor: ClockAnchor) -> None:
        key = anchor.frame, anchor.position
        if key not in self._anchors:
            self._anchors[key] = anchor
            self._writer.anchor(anchor)

    def _seal(self, left: dict[int, _Data]) -> None:
        size = self._shape.chunk_frames
        for chunk in sorted(left):
            if chunk <= self._last_sealed:
                continue
            n_frames, data = left[chunk]
            with memoryview(data) as view:
                if self._shape.external:
                    self._writer.seal_external(chunk, view, self._unclaimed(chunk), chunk * size, n_frames)
                else:
                    self._writer.seal(chunk, view, chunk * size, n_frames)
            self._spans.append((chunk * size, chunk * size + n_frames))

    def _unclaimed(self, chunk: int) -> Path:
        """Nobody says any more where a controller's chunk should go: into the recording's own folder."""
        folder = self._writer.path / "unclaimed"
        taken = len(list(folder.glob(f"{chunk}*"))) if folder.exists() else 0
        return folder / (f"{chunk}.{taken}" if taken else str(chunk))

    def _finish(self, head: int, ended_ns: int | None, staging: str | None) -> Recovered:
        """Accounts for every frame before the head, and for the time since then."""
        for first, end in list(_holes(self._spans, head)):
            self._gap(Gap(first, end - first, Cause.ENGINE_DOWN, Confidence.EXACT))
        until = head if self._is_continued else head + self._frames_until_now(head, ended_ns)
        head = max(head, self._writer.n_frames)
        down = max(0, until - head)
        if down:
            self._gap(Gap(head, down, Cause.ENGINE_DOWN, Confidence.CLOCK))
            self._anchor(self._now(head + down))
        n_recovered = head - self._n_before
        self._writer.finish(head + down, clean=False)
        rate, uri = self._shape.sample_rate, self._shape.uri
        what = f"{uri}: {n_recovered} frames that were not sealed yet are in the recording now"
        text = "; ".join([what, f"it was down for {down / rate:.3f} s", *self._remarks])
        path = str(self._writer.path)
        return Recovered("recovered", text, uri, path, staging, head + down, n_recovered, down)

    def _now(self, frame: int) -> ClockAnchor:
        """This moment, as the end of the timeline; the graph's position is what it was, gone on."""
        last = self._last_anchor()
        position = last.position + frame - last.frame
        return ClockAnchor(frame, position, time.monotonic_ns(), time.time_ns(), last.clock_id)

    def _last_anchor(self) -> ClockAnchor:
        start = ClockAnchor(0, 0, self._shape.started_monotonic_ns, self._shape.started_wall_ns)
        return max(self._anchors.values(), key=lambda anchor: anchor.frame, default=start)

    def _frames_until_now(self, head: int, ended_ns: int | None) -> int:
        """How many frames would have come since frame `head`: by CLOCK_MONOTONIC where the boot is the same,
        else by the wall clock."""
        rate, last = self._shape.sample_rate, self._last_anchor()
        since_anchor_ns = (head - last.frame) * 1_000_000_000 // rate
        if ended_ns is None and self._shape.boot_id == boot_id():
            ended_ns = last.monotonic_ns + since_anchor_ns
        if ended_ns is not None:
            down_ns = time.monotonic_ns() - ended_ns
        else:
            down_ns = time.time_ns() - last.wall_ns - since_anchor_ns
        return max(0, round(down_ns * rate / 1_000_000_000))


def _holes(spans: Iterable[tuple[int, int]], end: int) -> Iterator[tuple[int, int]]:
    reached = 0
    for first, last in [*sorted(spans), (end, end)]:
        if first > reached:
            yield reached, first
        reached = max(reached, last)
