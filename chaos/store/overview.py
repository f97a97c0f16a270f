"""The overview of an audio recording: what is drawn of it without reading its samples.

    overview/0/          (channel, block, value) f32: of every 256 frames the lowest and the highest sample, their rms,
                         and which share of the frames was there; full scale is 1.0
    overview/1/ ...      the same of 4 blocks of the level before, up to where 16 blocks or fewer are left

What is missing counts for nothing: a block without a frame has NaN, NaN, NaN, 0. So does what is not a number, but for
the share. A chunk file holds 1024 blocks of all channels and is written once, durably: when it is full, or at the end;
one of nothing but missing frames is not there, and reads as NaN. All of it follows from the sealed chunks and the
ledger. Retention removes a file once all frames of it have been retired.
"""

from __future__ import annotations

import errno
import mmap
from bisect import bisect_right
from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Protocol

from chaos._overview import Blocks, fold
from chaos.store.columns import SealedChunk
from chaos.store.info import RecordingInfo
from chaos.store.levels import BLOCK_FRAMES, FACTOR, FILE_BLOCKS, N_VALUES, block_frames, file_frames, level_lengths
from chaos.store.lines import Definition
from chaos.store.objects import open_chunk
from chaos.system.files import MOST_BYTES, make_folders, read_regular, replace
from chaos.terms.form import AudioForm, Content
from chaos.terms.ledger import Cause, Gap

__all__ = [
    "BlockFiles",
    "MissingSpans",
    "Overview",
    "Takes",
    "complete_overview",
    "feed",
    "remove_overview",
    "wrong_levels",
]

_MOST_CACHED = 64
_FOR_GOOD = (errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EINVAL, errno.ELOOP, errno.EACCES, errno.ENXIO)


class MissingSpans:
    """Which frames are missing, of a ledger."""

    def __init__(self, gaps: Iterable[Gap] = ()) -> None:
        self._spans: list[tuple[int, int]] = []
        for first, end in sorted((gap.first_frame, gap.end_frame) for gap in gaps):
            self.add(first, end)

    def add(self, first: int, end: int) -> None:
        """Frames [first, end) are missing; those added before begin no later."""
        if self._spans and first <= self._spans[-1][1]:
            self._spans[-1] = self._spans[-1][0], max(end, self._spans[-1][1])
        elif first < end:
            self._spans.append((first, end))

    def within(self, first: int, end: int) -> Iterator[tuple[int, int]]:
        """The missing spans in frames [first, end), in order."""
        for at in range(bisect_right(self._spans, first, key=lambda span: span[1]), len(self._spans)):
            begin, stop = self._spans[at]
            if begin >= end:
                return
            yield max(begin, first), min(stop, end)

    def is_all(self, first: int, end: int) -> bool:
        """Whether every one of these frames is missing."""
        return first >= end or next(self.within(first, end), None) == (first, end)

    @property
    def spans(self) -> list[tuple[int, int]]:
        """All of them, in order; none touches another."""
        return self._spans

    def is_any(self, first: int, end: int) -> bool:
        return next(self.within(first, end), None) is not None


class Takes(Protocol):
    """Whom frames are told, in order: those of `data` (whole planes), and how many are missing."""

    def take(self, data: Content, first: int, end: int) -> None: ...
    def skip(self, n_frames: int) -> None: ...


def feed(to: Takes, data: Content, origin: int, first: int, end: int, missing: MissingSpans) -> None:
    """Tells of frames [first, end) of a recording, which are in `data` (whole planes, from frame `origin` on)."""
    for begin, stop in [*missing.within(first, end), (end, end)]:
        if first < begin:
            to.take(data, first - origin, begin - origin)
        to.skip(stop - begin)
        first = stop


class _Levels:
    """All levels of one recording: frames go in, in order, files of blocks come out, finest first.

    `emit` gets level, number of the file, content and how many blocks of it are meant.
    """

    def __init__(self, form: AudioForm, emit: Callable[[int, int, bytes, int], None]) -> None:
        self._channels = form.channels
        self._emit = emit
        self._finest = Blocks(form.channels, form.code, BLOCK_FRAMES, FILE_BLOCKS)
        self._empty = self._finest.content()
        self._has_any = [False]
        self._indices = [0]
        self._coarser: list[tuple[bytearray, int]] = []  # of levels 1 and up: the file, and how many blocks are in it
        self.frame = 0

    def begin_at(self, indices: Sequence[int], coarser: Sequence[tuple[bytearray, int, bool]]) -> None:
        """Goes on behind the files of these numbers; `coarser` is what levels 1 and up have in theirs."""
        self._indices = list(indices)
        self._has_any = [False, *(has_any for _, _, has_any in coarser)]
        self._coarser = [(content, n) for content, n, _ in coarser]
        self.frame = indices[0] * FILE_BLOCKS * BLOCK_FRAMES

    def take(self, data: Content, first: int, end: int) -> None:
        """Frames [first, end) of `data`."""
        self.frame += end - first
        while first < end:
            self._has_any[0] = True
            first += self._finest.take(data, first, end)
            self._end_file()

    def skip(self, n_frames: int) -> None:
        """So many frames are missing."""
        self.frame += n_frames
        whole = FILE_BLOCKS * BLOCK_FRAMES
        while n_frames:
            if not self._finest.n_blocks and not self._finest.n_over and n_frames >= whole:
                self._indices[0] += n_frames // whole
                self._add(1, None, n_frames // whole * (FILE_BLOCKS // FACTOR))
                n_frames %= whole
                continue
            n_frames -= self._finest.skip(n_frames)
            self._end_file()

    def _end_file(self) -> None:
        if self._finest.n_blocks == FILE_BLOCKS:
            self._close(0, self._finest.content(), FILE_BLOCKS)
            self._finest.clear()

    def _close(self, level: int, content: bytes, n_blocks: int, *, is_last: bool = False) -> None:
        """Gives away a level's file, and folds it into the next level."""
        is_there, self._has_any[level] = self._has_any[level], False
        if is_there:
            self._emit(level, self._indices[level], content, n_blocks)
        self._indices[level] += 1
        if not is_last:
            self._add(level + 1, content if is_there else None, -(-n_blocks // FACTOR), n_blocks)

    def _add(self, level: int, finer: bytes | None, n_blocks: int, n_finer: int = 0) -> None:
        """So many blocks of this level, which are those of the `finer` file; None: nothing was there."""
        if level > len(self._coarser):
            self._coarser.append((bytearray(self._empty), 0))
            self._has_any.append(False)
            self._indices.append(0)
        while n_blocks:
            content, n = self._coarser[level - 1]
            if finer is None and not n and n_blocks >= FILE_BLOCKS:
                n_files, n_blocks = divmod(n_blocks, FILE_BLOCKS)
                self._indices[level] += n_files
                self._add(level + 1, None, n_files * (FILE_BLOCKS // FACTOR))
                continue
            if finer is not None:
                fold(finer, self._channels, FILE_BLOCKS, n_finer, FACTOR, content, n)
                self._has_any[level] = True
            step = min(FILE_BLOCKS - n, n_blocks)
            n, n_blocks = n + step, n_blocks - step
            self._coarser[level - 1] = content, n
            if n == FILE_BLOCKS:
                self._coarser[level - 1] = bytearray(self._empty), 0
                self._close(level, bytes(content), n)

    def finish(self, n_frames: int) -> None:
        """Nothing comes behind `n_frames`."""
        self.skip(n_frames - self.frame)
        self._finest.close_block()
        last = len(level_lengths(n_frames, is_whole=True)) - 1
        if self._finest.n_blocks:
            self._close(0, self._finest.content(), self._finest.n_blocks, is_last=last == 0)
        for level in range(1, last + 1):
            content, n = self._coarser[level - 1]
            if n:
                self._close(level, bytes(content), n, is_last=level == last)


class BlockFiles:
    """The files of blocks of one recording: those that are there, and what the others would hold.

    `feed` has to tell of frames [first, end), and `missing` says which are. Behind frame `end` nothing is known.
    """

    def __init__(
        self, folder: Path, form: AudioForm, feed: Callable[[Takes, int, int], None], missing: MissingSpans, end: int
    ) -> None:
        self._folder = folder
        self._form = form
        self._feed = feed
        self._missing = missing
        self._end = end
        self._cache: dict[tuple[int, int], bytes | None] = {}

    def read(self, level: int, index: int) -> bytes | None:
        """A file's content, None where nothing was there. Raises what `feed` does."""
        key = level, index
        if key not in self._cache:
            if len(self._cache) >= _MOST_CACHED:
                self._cache.pop(next(iter(self._cache)))
            self._cache[key] = self._read(level, index)
        return self._cache[key]

    def _read(self, level: int, index: int) -> bytes | None:
        span = file_frames(level)
        first, end = index * span, min((index + 1) * span, self._end)
        if self._missing.is_all(first, end):
            return None
        if (stored := stored_file(self._folder, self._form, level, index)) is not None:
            return stored
        blocks = Blocks(self._form.channels, self._form.code, BLOCK_FRAMES, FILE_BLOCKS)
        if level == 0:
            self._feed(_Whole(blocks), first, end)
            blocks.close_block()
            return blocks.content()
        content, n_each = bytearray(blocks.content()), FILE_BLOCKS // FACTOR
        for k in range(FACTOR):
            if (finer := self.read(level - 1, index * FACTOR + k)) is not None:
                fold(finer, self._form.channels, FILE_BLOCKS, FILE_BLOCKS, FACTOR, content, k * n_each)
        return bytes(content)


class _Whole:
    """Blocks of which one file is all that is wanted."""

    def __init__(self, blocks: Blocks) -> None:
        self._blocks = blocks

    def take(self, data: Content, first: int, end: int) -> None:
        self._blocks.take(data, first, end)

    def skip(self, n_frames: int) -> None:
        self._blocks.skip(n_frames)


def _path(folder: Path, level: int, index: int) -> Path:
    return folder / str(level) / f"c.0.{index}.0"


def stored_file(folder: Path, form: AudioForm, level: int, index: int) -> bytes | None:
    """A file of the folder `overview`; None if it is not there, or has another size."""
    try:
        content = read_regular(_path(folder, level, index), MOST_BYTES)
    except OSError:
        return None
    return content if len(content) == form.channels * FILE_BLOCKS * N_VALUES * 4 else None


class Overview:
    """The overview of a recording that is written: told of gaps and sealed chunks, in order, then `store` is called."""

    def __init__(self, folder: Path, form: AudioForm) -> None:
        self._folder = folder
        self._form = form
        self._levels = _Levels(form, self._enqueue)
        self._queue: list[tuple[int, int, bytes]] = []
        self._gaps: list[Gap] = []
        self._open_gap: Gap | None = None
        self._is_finished = False

    def _enqueue(self, level: int, index: int, content: bytes, n_blocks: int) -> None:
        self._queue.append((level, index, content))

    def gap(self, gap: Gap) -> None:
        if gap.end_frame > self._levels.frame and gap.cause is not Cause.RETIRED:
            self._gaps.append(gap)

    def open_gap(self, gap: Gap | None) -> None:
        self._open_gap = gap

    def chunk(self, sealed: SealedChunk, data: Content) -> None:
        """A chunk that is sealed; its gaps have been told before."""
        levels, end = self._levels, sealed.end_frame
        levels.skip(sealed.first_frame - levels.frame)
        gaps = self._gaps if self._open_gap is None else [*self._gaps, self._open_gap]
        feed(levels, data, sealed.first_frame, sealed.first_frame, end, MissingSpans(gaps))
        self._gaps = [gap for gap in self._gaps if gap.end_frame > end]

    def resume(self, info: RecordingInfo) -> None:
        """Goes on behind the last sealed chunk of a recording whose writer died. What that did not come to write is
        queued. Raises OSError."""
        end = info.chunks[-1].end_frame if len(info.chunks) else 0
        files = _sealed_files(info, end)
        spans = [file_frames(level) for level in range(len(level_lengths(end, is_whole=True)))]
        indices = [end // span for span in spans]
        self._queue += _unwritten(self._folder, files, [(level, range(n)) for level, n in enumerate(indices)])
        empty = Blocks(self._form.channels, self._form.code, BLOCK_FRAMES, FILE_BLOCKS).content()
        coarser: list[tuple[bytearray, int, bool]] = []
        for level, index in list(enumerate(indices))[1:]:
            content, n, has_any = bytearray(empty), 0, False
            for finer in range(index * FACTOR, indices[level - 1]):
                if (found := files.read(level - 1, finer)) is not None:
                    fold(found, self._form.channels, FILE_BLOCKS, FILE_BLOCKS, FACTOR, content, n)
                    has_any = True
                n += FILE_BLOCKS // FACTOR
            coarser.append((content, n, has_any))
        self._levels.begin_at(indices, coarser)
        _feed_sealed(info, _lost(info), self._levels, self._levels.frame, end)

    def store(self, n_frames: int, *, is_whole: bool) -> None:
        """Writes the files that are full, and the others too if nothing comes behind `n_frames` (`is_whole`). Raises
        OSError, and may be called again."""
        if is_whole and not self._is_finished:
            self._levels.finish(n_frames)
            self._is_finished = True
        while self._queue:
            _write(self._folder, *self._queue[0])
            self._queue.pop(0)


def _write(folder: Path, level: int, index: int, content: bytes) -> None:
    path = _path(folder, level, index)
    make_folders(path.parent)
    replace(path, content)


def _unwritten(
    folder: Path, files: BlockFiles, wanted: Iterable[tuple[int, range]]
) -> Iterator[tuple[int, int, bytes]]:
    """The files that should be there and are not."""
    for level, indices in wanted:
        there = {path.name for path in (folder / str(level)).glob("c.0.*")}
        for index in indices:
            if _path(folder, level, index).name not in there and (content := files.read(level, index)) is not None:
                yield level, index, content


def complete_overview(info: RecordingInfo) -> None:
    """Writes what of a finished recording's overview is not there. Raises OSError."""
    form = _form_of(info.definition)
    if form is None or info.finish is None:
        return
    folder, lengths = info.path / "overview", level_lengths(info.n_frames, is_whole=True)
    wanted = [(level, range(-(-n // FILE_BLOCKS))) for level, n in enumerate(lengths)]
    for level, index, content in _unwritten(folder, _sealed_files(info, info.n_frames), wanted):
        _write(folder, level, index, content)


def remove_overview(
    folder: Path, definition: Definition, n_frames: int, chunks: Sequence[SealedChunk], gaps: Iterable[Gap]
) -> None:
    """Removes the files of whose frames none is left, now that these chunks have gone: `gaps` tell so already. Raises
    OSError."""
    if _form_of(definition) is None or not chunks:
        return
    missing = MissingSpans(gaps)
    for level in range(len(level_lengths(n_frames, is_whole=True))):
        span = file_frames(level)
        touched = {index for each in chunks for index in (each.first_frame // span, (each.end_frame - 1) // span)}
        for index in range(min(touched), max(touched) + 1):
            if missing.is_all(index * span, min((index + 1) * span, n_frames)):
                _path(folder, level, index).unlink(missing_ok=True)


def wrong_levels(info: RecordingInfo, not_sound: Container[int]) -> list[int]:
    """The levels of a finished recording that do not say what its chunks and its ledger do. What is of these chunks,
    which were retired or are damaged, is not looked at."""
    form = _form_of(info.definition)
    if form is None or info.finish is None:
        return []
    wrong: set[int] = set()
    unknown = MissingSpans()
    empty = Blocks(form.channels, form.code, BLOCK_FRAMES, FILE_BLOCKS).content()
    seen: set[tuple[int, int]] = set()

    def compare(level: int, index: int, content: bytes, n_blocks: int) -> None:
        seen.add((level, index))
        stored = stored_file(info.path / "overview", form, level, index)
        if stored == content:
            return
        size = block_frames(level)
        for block in range(n_blocks):
            begin = (index * FILE_BLOCKS + block) * size
            if unknown.is_any(begin, begin + size):
                continue
            for channel in range(form.channels):
                at = (channel * FILE_BLOCKS + block) * N_VALUES * 4
                if (stored or empty)[at : at + N_VALUES * 4] != content[at : at + N_VALUES * 4]:
                    wrong.add(level)
                    return

    levels, missing = _Levels(form, compare), _lost(info)
    for sealed in info.chunks:
        levels.skip(max(0, sealed.first_frame - levels.frame))
        data = None
        if sealed.chunk not in not_sound:
            with suppress(OSError):
                data = _mapped(sealed, form)
        if data is None:
            unknown.add(sealed.first_frame, sealed.end_frame)
            levels.skip(max(0, sealed.end_frame - levels.frame))
        else:
            feed(levels, data, sealed.first_frame, sealed.first_frame, sealed.end_frame, missing)
    levels.finish(max(info.n_frames, levels.frame))
    for path in (info.path / "overview").glob("*/c.0.*"):
        level, index = path.parent.name, path.name.split(".")[2]
        if level.isdecimal() and index.isdecimal() and (int(level), int(index)) not in seen:
            span = file_frames(int(level))
            if not unknown.is_any(int(index) * span, (int(index) + 1) * span):
                wrong.add(int(level))
    return sorted(wrong)


def _form_of(definition: Definition) -> AudioForm | None:
    """The form of what has an overview; None if this recording has none."""
    form = definition.form
    return form if definition.overview and not definition.external and isinstance(form, AudioForm) else None


def _lost(info: RecordingInfo) -> MissingSpans:
    """What no chunk has had; what retention took was there once."""
    return MissingSpans(gap for gap in info.ledger if gap.cause is not Cause.RETIRED)


def _mapped(sealed: SealedChunk, form: AudioForm) -> memoryview | None:
    """A sealed chunk's bytes; None if there is no such file. Raises OSError where that can't be told now."""
    try:
        with open_chunk(Path(sealed.path)) as file:
            return memoryview(mmap.mmap(file.fileno(), form.chunk_bytes, access=mmap.ACCESS_READ))
    except ValueError:
        return None
    except OSError as error:
        if error.errno in _FOR_GOOD:
            return None
        raise


def _sealed_files(info: RecordingInfo, end: int) -> BlockFiles:
    lost = _lost(info)

    def told(to: Takes, first: int, last: int) -> None:
        _feed_sealed(info, lost, to, first, last)

    return BlockFiles(info.path / "overview", info.definition.audio, told, MissingSpans(info.ledger), end)


def _feed_sealed(info: RecordingInfo, lost: MissingSpans, to: Takes, first: int, end: int) -> None:
    """Tells of frames [first, end) from the chunks' files, `lost` being all that none of them has; those of a file that
    is not there are missing. Raises OSError."""
    form, size = info.definition.audio, info.definition.chunk_frames
    while first < end:
        chunk = first // size
        stop = min(end, (chunk + 1) * size)
        sealed = info.chunks.find(chunk)
        data = None if sealed is None else _mapped(sealed, form)
        if sealed is None or data is None:
            to.skip(stop - first)
        else:
            there = max(first, min(stop, sealed.end_frame))
            feed(to, data, chunk * size, first, there, lost)
            to.skip(stop - there)
        first = stop
