"""The range of a recording that a save reads: each sealed chunk is hashed again, and what was read is remembered.

So the report, `bext` and the cue points tell of the samples that are in the file, and not of what the journal promised.
"""

from __future__ import annotations

import os
from array import array
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import msgspec
from blake3 import blake3

from chaos.export.report import Damage
from chaos.read.planes import Planes, planes_of
from chaos.read.recording import Recording
from chaos.store.holds import hold
from chaos.store.info import SealedChunk
from chaos.store.objects import open_chunk
from chaos.store.retired import gone_chunks
from chaos.store.slices import gaps_in
from chaos.store.store import Store
from chaos.store.timeline import wall_ns_at
from chaos.terms.containers import GapFill
from chaos.terms.counting import counted
from chaos.terms.errors import InvalidRange
from chaos.terms.ledger import Cause, Gap

__all__ = ["Source", "checked_range", "first_kept", "not_a_number", "without"]

_BLOCK_SAMPLES = 1 << 18


def first_kept(gaps: Iterable[Gap]) -> int:
    """The first frame behind what retention removed at a recording's beginning; 0 where it removed nothing there."""
    reached, is_retired = 0, False
    for gap in gaps:
        if gap.first_frame > reached:
            break
        reached = max(reached, gap.end_frame)
        is_retired = is_retired or gap.cause is Cause.RETIRED
    return reached if is_retired else 0


def checked_range(recording: Recording, first_frame: int | None, n_frames: int | None) -> tuple[int, int]:
    """The range [first, end). It begins where audio is, and ends with the recording, where neither is given.

    Raises InvalidRange for frames that are not there, and for a range without any.
    """
    recording.refresh()
    length = recording.n_frames
    first = min(first_kept(recording.gaps), length) if first_frame is None else first_frame
    end = length if n_frames is None else first + n_frames
    if not 0 <= first <= end <= length:
        raise InvalidRange(
            f"{recording.uri} has {counted(length, 'frame')}; {first} to {end} reaches outside of it",
            hint=f"choose a range between 0 and {length}",
        )
    if not length and recording.state == "recording":
        chunk_s = recording.definition.chunk_frames / recording.sample_rate
        raise InvalidRange(
            f"nothing of {recording.uri} can be read yet: its first chunk is still being filled",
            hint=f"try again once that is full (it takes {chunk_s:.3g} s), or when the recording has ended",
        )
    if first == end:
        raise InvalidRange(
            f"the range is empty: it begins and ends at frame {first} of {recording.uri}",
            hint=f"choose a range between 0 and {length}" if length else "nothing can be read there yet",
        )
    return first, end


class Source:
    """Frames [first, end) of a recording, to be read once, in order, with `blocks`.

    After that `gaps`, `damaged`, `n_chunks` and `root_hash` tell of what was read; before it of what is to be.
    """

    def __init__(self, recording: Recording, first: int, end: int, fill: GapFill) -> None:
        self.recording = recording
        self.first = first
        self.end = end
        self.fill = fill
        self.gaps = gaps_in(recording.gaps, first, end)
        self.damaged: list[Damage] = []
        self.spans = list(without(self.gaps, first, end)) if fill == "cut" else [(first, end)]
        self.n_frames = sum(stop - begin for begin, stop in self.spans)
        self._shape = recording.definition
        self._hashes: dict[int, str] = {}
        self._sealed: dict[int, SealedChunk] = {}
        self._gone: set[int] = set()
        self._n_known = 0
        self._chunk = -1
        self._data: Any = None
        self._buffer = bytearray()
        self._look()

    @property
    def recorded(self) -> tuple[int, int]:
        """The range that is the recording's own."""
        return self.first, self.end

    def held(self) -> AbstractContextManager[bool]:
        """Has retention leave the range's sealed chunks alone during the body."""
        store = Store(self.recording.path.parents[2])
        return hold(store, [sealed.hash for sealed in self._sealed.values()])

    @property
    def n_chunks(self) -> int:
        return len(self._hashes or self._sealed)

    @property
    def wall_ns(self) -> int:
        """When the first frame that is read was captured."""
        return wall_ns_at(self.recording.info, self.spans[0][0])

    @property
    def hashes(self) -> list[str]:
        """The hashes of the chunks that were read, as they were read."""
        return list(self._hashes.values())

    @property
    def root_hash(self) -> str:
        """BLAKE3-256 over the hashes (32 bytes each) of the chunks that were read, as they were read."""
        return blake3(b"".join(bytes.fromhex(digest) for digest in self.hashes)).hexdigest()

    def place(self, frame: int) -> int:
        """Where a frame of the recording stands among those that are read; one that is cut out: where it would be."""
        return sum(max(0, min(stop, frame) - begin) for begin, stop in self.spans)

    def blocks(self) -> Iterator[Any]:
        """The samples, block by block, as `Planes`; each is good until the next one is asked for.

        Gaps are zeros, or NaN where `fill` says so. A damaged chunk is given as it is, and zeros where it can't be
        read. Raises InvalidRange for frames that are neither stored nor in a gap.
        """
        size = self._shape.chunk_frames
        step = max(1024, _BLOCK_SAMPLES // self._shape.channels)
        for first, last in self.spans:
            for chunk in range(first // size, -(-last // size)):
                self._enter(chunk)
                begin, stop = max(first, chunk * size), min(last, (chunk + 1) * size)
                for at in range(begin, stop, step):
                    yield self._block(at, min(at + step, stop))
        self.gaps = self._told()

    def _block(self, first: int, last: int) -> Any:
        if self._data is None:
            planes = self.recording.planes(first, last)
        else:
            origin = self._chunk * self._shape.chunk_frames
            planes = [plane[first - origin : last - origin] for plane in self._data]
        gaps = self.recording.gaps_between(first, last) if self.fill == "nan" else []
        return _with_nan(planes, first, gaps) if gaps else planes

    def n_in(self, block: Any) -> int:
        """How many frames the block is of that `blocks` gave last."""
        return len(block[0])

    def _decoded(self, chunk: int) -> Any:
        """What lies in the buffer, which holds that chunk."""
        return planes_of(self._shape.audio, self._buffer)

    def _look(self) -> None:
        """Takes in what the journal knows of chunks in the range."""
        info = self.recording.info
        for sealed in info.chunks[self._n_known :]:
            if sealed.first_frame < self.end and self.first < sealed.first_frame + sealed.n_frames:
                self._sealed[sealed.chunk] = sealed
        self._n_known = len(info.chunks)
        self._gone = {sealed.chunk for sealed in gone_chunks(info)}
        for chunk in self._gone & self._sealed.keys() - self._hashes.keys():
            del self._sealed[chunk]

    def _enter(self, chunk: int) -> None:
        """Reads a sealed chunk as a whole; one that is not sealed (yet) is read from where it is, block by block."""
        if chunk == self._chunk:
            return
        self._chunk, self._data = chunk, None
        if chunk not in self._sealed and not self.recording.info.finish:
            self.recording.refresh()
            self._look()
        sealed = self._sealed.get(chunk)
        if sealed is None:
            return
        if len(self._buffer) != self._shape.form.chunk_bytes:
            self._buffer = bytearray(self._shape.form.chunk_bytes)
        reason = self._load(sealed)
        if reason == "missing":
            self.recording.refresh()
            self._look()
            if chunk in self._gone:
                return
        digest = blake3(self._buffer).hexdigest()
        if not reason and digest != sealed.hash:
            reason = "hash_mismatch"
        if reason:
            begin = max(sealed.first_frame, self.first)
            stop = min(sealed.first_frame + sealed.n_frames, self.end)
            hashes = (sealed.hash, digest) if reason == "hash_mismatch" else (None, None)
            self.damaged.append(Damage(reason, chunk, begin, stop - begin, self._shape.uri, *hashes))
        self._hashes[chunk] = digest
        self._data = self._decoded(chunk)

    def _load(self, sealed: SealedChunk) -> str:
        """Reads the chunk's file into the buffer; what is wrong with it, "" for nothing. What is not there is zeros."""
        n_read = 0
        reason = ""
        self.recording.info.bring(sealed)
        try:
            with open_chunk(Path(sealed.path)) as file, memoryview(self._buffer) as view:
                while n_read < len(view) and (n := file.readinto(view[n_read:])):
                    n_read += n
                if os.fstat(file.fileno()).st_size != len(view):
                    reason = "wrong_size"
        except FileNotFoundError:
            reason = "missing"
        except OSError:
            reason = "unreadable"
        self._buffer[n_read:] = bytes(len(self._buffer) - n_read)
        return reason

    def _told(self) -> list[Gap]:
        """The gaps of what was read: a chunk that was retired after it had been read is in the file."""
        self.recording.refresh()
        size = self._shape.chunk_frames
        told: list[Gap] = []
        for gap in gaps_in(self.recording.gaps, self.first, self.end):
            if gap.cause is not Cause.RETIRED:
                told.append(gap)
                continue
            begin, stop = max(gap.first_frame, self.first), min(gap.end_frame, self.end)
            read = [chunk for chunk in range(begin // size, -(-stop // size)) if chunk in self._hashes]
            if not read:
                told.append(gap)
                continue
            kept = [Gap(chunk * size, size, gap.cause, gap.confidence) for chunk in read]
            told += [_spanning(gap, first, last) for first, last in without(kept, begin, stop)]
        return sorted(told, key=lambda gap: gap.first_frame)


def _with_nan(planes: Planes, first: int, gaps: Iterable[Gap]) -> Planes:
    """Copies of planes of floats, which begin at frame `first`, with NaN in the gaps."""
    filled = [array("f", plane.tobytes()) for plane in planes]
    for gap in gaps:
        begin, end = max(gap.first_frame - first, 0), min(gap.end_frame - first, len(planes[0]))
        for plane in filled:
            plane[begin:end] = not_a_number(end - begin)
    return [memoryview(plane) for plane in filled]


def not_a_number(n_frames: int) -> array[float]:
    """So many NaN."""
    return array("f", [float("nan")]) * n_frames


def _spanning(gap: Gap, first: int, end: int) -> Gap:
    return msgspec.structs.replace(gap, first_frame=first, n_frames=end - first)


def without(gaps: Iterable[Gap], first: int, end: int) -> Iterator[tuple[int, int]]:
    """The range without its gaps."""
    for gap in gaps:
        if first < gap.first_frame:
            yield first, min(gap.first_frame, end)
        first = max(first, gap.end_frame)
    if first < end:
        yield first, end
