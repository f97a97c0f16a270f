"""What the tests of recordings share: definitions, a small rotator with its model, and faults."""

from __future__ import annotations

import errno
import os
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import numpy.typing as npt

from chaos.store.lines import Definition
from chaos.store.store import Store
from chaos.store.writer import RecordingWriter
from chaos.terms.form import SampleFormat
from chaos.terms.ledger import Cause, ClockAnchor, Confidence, Gap

DTYPES: dict[str, str] = {"f32": "<f4", "s16": "<i2", "s32": "<i4"}
START_NS = 1_769_860_800_000_000_000


def definition(
    uri: str = "stream://mic/take",
    channels: int = 2,
    chunk_frames: int = 16,
    sample_format: SampleFormat = "f32",
    started_wall_ns: int = START_NS,
    **more: Any,
) -> Definition:
    return Definition(
        uri=uri,
        channels=channels,
        sample_rate=48000,
        sample_format=sample_format,
        chunk_frames=chunk_frames,
        device={"identity": "serial:1", "description": "A microphone"},
        positions=[f"AUX{channel}" for channel in range(channels)],
        started_wall_ns=started_wall_ns,
        started_monotonic_ns=1_000,
        software="chaosd test",
        run_id="run",
        **{"clock_errors": True, "overview": True, **more},
    )


def checked(body: bytes) -> bytes:
    """A line of a journal: the JSON object with its check, and the end of the line."""
    return b'{"check":"%08x",' % zlib.crc32(body) + body[1:] + b"\n"


class Rotator:
    """Feeds a writer frame by frame as the engine does, and keeps in `model` what must come out."""

    def __init__(self, writer: RecordingWriter, seed: int = 0) -> None:
        shape = writer.definition
        self.writer = writer
        self.frame = 0
        self.gaps: list[Gap] = []
        self.model = np.zeros((shape.channels, 0), DTYPES[shape.sample_format])
        self._slot = np.zeros((shape.channels, shape.chunk_frames), self.model.dtype)
        self._has_data = False
        self._random = np.random.default_rng(seed)

    @property
    def chunk(self) -> int:
        return self.frame // self.writer.definition.chunk_frames

    @property
    def offset(self) -> int:
        return self.frame % self.writer.definition.chunk_frames

    def noise(self, n_frames: int) -> npt.NDArray[Any]:
        shape = self._slot.shape[0], n_frames
        if self._slot.dtype.kind == "f":
            return self._random.uniform(-1, 1, shape).astype(self._slot.dtype)
        limits = np.iinfo(self._slot.dtype)
        return self._random.integers(limits.min, limits.max, shape, self._slot.dtype, endpoint=True)

    def write(self, n_frames: int) -> None:
        self._advance(self.noise(n_frames), is_data=True)

    def gap(self, n_frames: int, cause: Cause = Cause.MISSED) -> None:
        gap = Gap(self.frame, n_frames, cause, Confidence.EXACT)
        self.gaps.append(gap)
        self.writer.gap(gap)
        self._advance(np.zeros((self._slot.shape[0], n_frames), self._slot.dtype), is_data=False)

    def anchor(self) -> None:
        elapsed_ns = self.frame * 20_833
        self.writer.anchor(ClockAnchor(self.frame, self.frame + 7, elapsed_ns, START_NS + elapsed_ns))

    def _advance(self, frames: npt.NDArray[Any], is_data: bool) -> None:
        while frames.shape[1]:
            n = min(frames.shape[1], self._slot.shape[1] - self.offset)
            self._slot[:, self.offset : self.offset + n] = frames[:, :n]
            self._has_data = self._has_data or is_data
            self.model = np.concatenate([self.model, frames[:, :n]], axis=1)
            frames = frames[:, n:]
            if self.offset + n == self._slot.shape[1] and self._has_data:
                self.seal(self._slot.shape[1])
            if self.offset + n == self._slot.shape[1]:
                self._slot[:] = 0
                self._has_data = False
            self.frame += n

    def checkpoint(self) -> None:
        if self._has_data:
            self.writer.checkpoint(self.chunk, self._slot.data, self.offset)

    def seal(self, n_frames: int) -> None:
        chunk = self.chunk
        first_frame = chunk * self._slot.shape[1]
        self.writer.seal(chunk, self._slot.data, first_frame, n_frames)

    def stop(self, clean: bool = True) -> None:
        if self._has_data:
            self.seal(self.offset)
        self.writer.finish(self.frame, clean)

    def die_and_recover(self, store: Path) -> None:
        """The writer's process is gone, with it all that was not checkpointed; a new one takes over."""
        self.writer.close()
        self.writer = RecordingWriter.reopen(Store(store), self.writer.path)
        for chunk, n_frames, data in self.writer.unsealed():
            self.writer.seal(chunk, memoryview(data), chunk * self._slot.shape[1], n_frames)


_CALLS = ["fsync", "fdatasync", "pwrite", "ftruncate", "fchmod", "link", "open", "posix_fallocate", "mkdir"]
_PATH_CALLS = ["replace", "rename", "unlink"]


@contextmanager
def failing_call(number: int, error: Callable[[], BaseException]) -> Iterator[list[str]]:
    """Makes the `number`-th storage call (from 0) raise, once; the names of all calls are collected."""
    seen: list[str] = []

    def wrapped(name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            seen.append(name)
            if len(seen) - 1 == number:
                raise error()
            return real(*arguments, **options)

        return call

    of_os: dict[str, Any] = {name: wrapped(name, getattr(os, name)) for name in _CALLS}
    of_path: dict[str, Any] = {name: wrapped(name, getattr(Path, name)) for name in _PATH_CALLS}
    with mock.patch.multiple(os, **of_os), mock.patch.multiple(Path, **of_path):
        yield seen


def names(folder: Path) -> list[str]:
    """What is in a folder; nothing if there is none."""
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


def no_space() -> OSError:
    return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


class PulledPlug(BaseException):
    """Ends a writer's life in the middle of a call."""
