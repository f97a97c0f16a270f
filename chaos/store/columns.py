"""What a journal has by the million, kept in columns: a take of a year takes tens of megabytes and not a gigabyte.

Both are sequences that are only appended to; each access makes the item anew.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Generic, TypeVar, overload

import msgspec

from chaos.store.lines import AnchorLine
from chaos.terms.ledger import ClockAnchor, ClockState

__all__ = ["Anchors", "SealedChunk", "SealedChunks"]

_DIGEST_BYTES = 32
_STATES = tuple(ClockState)
_T = TypeVar("_T")


class SealedChunk(msgspec.Struct, frozen=True):
    """A chunk that is immutable and durable: its file, BLAKE3-256 (hex) and the `n_frames` that count; of MIDI also how
    many events it has, and how many bytes these."""

    chunk: int
    path: str
    hash: str
    first_frame: int
    n_frames: int
    n_events: int = 0
    n_event_bytes: int = 0

    @property
    def end_frame(self) -> int:
        return self.first_frame + self.n_frames


class _Column(Sequence[_T], Generic[_T]):
    """A sequence by `_at`, which is asked for indices that are there."""

    def _at(self, index: int) -> _T:
        raise NotImplementedError

    @overload
    def __getitem__(self, index: int) -> _T: ...
    @overload
    def __getitem__(self, index: slice) -> list[_T]: ...
    def __getitem__(self, index: int | slice) -> _T | list[_T]:
        if isinstance(index, slice):
            return [self._at(at) for at in range(*index.indices(len(self)))]
        at = index + len(self) if index < 0 else index
        if not 0 <= at < len(self):
            raise IndexError(index)
        return self._at(at)

    def __iter__(self) -> Iterator[_T]:
        return map(self._at, range(len(self)))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and list(self) == list(other)

    __hash__ = None  # type: ignore[assignment]


class SealedChunks(_Column[SealedChunk]):
    """The sealed chunks of a recording, in order; their files lie in `folder` but where they were placed elsewhere."""

    def __init__(self, folder: Path) -> None:
        self._folder = str(folder)
        self._chunks = array("q")
        self._first_frames = array("q")
        self._n_frames = array("q")
        self._events: dict[int, tuple[int, int]] = {}
        self._digests = bytearray()
        self._placed: dict[int, str] = {}
        self._is_sorted = True

    def append(
        self,
        chunk: int,
        first_frame: int,
        n_frames: int,
        digest: str,
        path: str | None = None,
        events: tuple[int, int] = (0, 0),
    ) -> None:
        if self._chunks and chunk <= self._chunks[-1]:
            self._is_sorted = False
        if path is not None:
            self._placed[len(self._chunks)] = path
        if events[0]:
            self._events[len(self._chunks)] = events
        self._chunks.append(chunk)
        self._first_frames.append(first_frame)
        self._n_frames.append(n_frames)
        self._digests += bytes.fromhex(digest)

    def find(self, chunk: int) -> SealedChunk | None:
        """The chunk of this number; the last one where a journal has it twice."""
        if self._is_sorted:
            at = bisect_left(self._chunks, chunk)
            return self._at(at) if at < len(self._chunks) and self._chunks[at] == chunk else None
        return next((self._at(at) for at in reversed(range(len(self))) if self._chunks[at] == chunk), None)

    def __len__(self) -> int:
        return len(self._chunks)

    def _at(self, index: int) -> SealedChunk:
        chunk = self._chunks[index]
        path = self._placed.get(index) or f"{self._folder}/{chunk}"
        digest = self._digests[index * _DIGEST_BYTES : (index + 1) * _DIGEST_BYTES].hex()
        n_events, n_event_bytes = self._events.get(index, (0, 0))
        return SealedChunk(
            chunk, path, digest, self._first_frames[index], self._n_frames[index], n_events, n_event_bytes
        )


class Anchors(_Column[ClockAnchor]):
    """The clock anchors of a recording, in order of entry. What an older one doesn't tell of errors takes no room."""

    def __init__(self) -> None:
        self._values = array("q")
        self._errors = array("q")
        self._n_plain = 0  # those before the first that tells of errors

    def append(self, line: AnchorLine) -> None:
        clock_id, most, likely = line.clock_id, line.max_error_ns, line.est_error_ns
        self._values.extend(
            (line.frame, line.position, line.monotonic_ns, line.wall_ns, -1 if clock_id is None else clock_id)
        )
        if self._errors or line.clock_state or line.step_ns or most is not None or likely is not None:
            self._errors.extend(
                (-1 if most is None else most, -1 if likely is None else likely, line.clock_state, line.step_ns)
            )
        else:
            self._n_plain += 1

    def __len__(self) -> int:
        return len(self._values) // 5

    def _at(self, index: int) -> ClockAnchor:
        frame, position, monotonic_ns, wall_ns, number = self._values[index * 5 : index * 5 + 5]
        plain = ClockAnchor(frame, position, monotonic_ns, wall_ns, None if number < 0 else number)
        at = (index - self._n_plain) * 4
        if at < 0:
            return plain
        most, likely, state, step_ns = self._errors[at : at + 4]
        max_error_ns, est_error_ns = (None if value < 0 else value for value in (most, likely))
        return msgspec.structs.replace(
            plain, max_error_ns=max_error_ns, est_error_ns=est_error_ns, clock_state=_STATES[state], step_ns=step_ns
        )
