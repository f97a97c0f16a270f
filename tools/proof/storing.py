"""What it costs to store: the recording's own work and the rotator's, without PipeWire or threads.

Each step finds its caches cold and the processor idle, as in a capture, where most of a second goes by between two.
"""

from __future__ import annotations

import mmap
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from blake3 import blake3

from chaos._audio import AudioSlots
from chaos.engine.messages import Rotate, Tick
from chaos.engine.rotator import ChunkRotatorActor, RotatorPlan
from chaos.engine.take import TICK_S
from chaos.staging.owner import Staging
from chaos.store.lines import Definition
from chaos.store.store import Store
from chaos.store.writer import Full, RecordingWriter
from chaos.terms.chunking import chunk_frames, is_short

__all__ = ["Storing", "measure_storing", "storing_speed"]

RATE = 48000
N_SLOTS = 8
AT_ONCE = 4
QUANTUM = 1024
_TICK_FRAMES = int(TICK_S * RATE)
_IDLE_S = 0.05
_OTHER = np.zeros(32 << 20, np.uint8)  # more than the caches of one processor hold


@dataclass(frozen=True)
class Storing:
    """CPU seconds per minute of audio: `all` to checkpoint, hash, write, sync and list it; `hashing` of its bytes
    once alone, which is a part of it. Beside it `levels`, to measure what the samples are like, and `clearing`, to make
    slots zero before the callback has them again. `turns` is all that a rotator does, these included."""

    channels: int
    all: float
    hashing: float
    levels: float
    clearing: float
    turns: float = 0.0


def measure_storing(channels: int, audio_s: float) -> Storing:
    """Stores whole chunks of noise, at least `audio_s` of them, as the rotator would."""
    definition = _definition(channels)
    n_frames = definition.chunk_frames
    n_chunks = -(-int(audio_s * RATE) // n_frames)
    data = memoryview(mmap.mmap(-1, channels * n_frames * 4))  # begins with a page, as slots do
    noise = np.frombuffer(data, np.float32).reshape(channels, n_frames)
    np.random.default_rng(1).random(out=noise, dtype=np.float32)
    steps = [] if is_short(n_frames, RATE) else list(range(_TICK_FRAMES, n_frames, _TICK_FRAMES))
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        writer = RecordingWriter.create(Store(Path(folder)), definition)
        stored_ns = hashed_ns = 0
        for chunk in range(n_chunks):
            noise[:, 0] = chunk  # no two alike, or the second would only be linked
            for reached in steps:
                stored_ns += _cold(writer.checkpoint, chunk, data, reached)
            stored_ns += _cold(writer.seal, chunk, data, chunk * n_frames, n_frames)
            hashed_ns += _cold(lambda: blake3(data).hexdigest())
        writer.finish(n_chunks * n_frames, clean=True)
    per_minute = 60e-9 * RATE / (n_chunks * n_frames)
    levels, clearing = _in_slots(definition, noise, n_chunks)
    turns = _turns(definition, noise, n_chunks)
    return Storing(channels, stored_ns * per_minute, hashed_ns * per_minute, levels, clearing, turns)


def _cold(work: Callable[..., object], *arguments: object) -> int:
    """The CPU nanoseconds that it takes where its caches are taken by something else and the processor has idled."""
    _OTHER.sum()
    time.sleep(_IDLE_S)
    began = time.thread_time_ns()
    work(*arguments)
    return time.thread_time_ns() - began


def _definition(channels: int) -> Definition:
    return Definition(
        uri="stream://bench/storing",
        channels=channels,
        sample_rate=RATE,
        sample_format="f32",
        chunk_frames=chunk_frames(None, channels=channels, sample_rate=RATE),
        device={"name": "noise"},
        positions=[f"AUX{k}" for k in range(channels)],
        started_wall_ns=time.time_ns(),
        started_monotonic_ns=time.monotonic_ns(),
        software="bench",
        run_id="0" * 32,
        clock_errors=True,
        overview=True,
    )


def storing_speed(channels: int, window_s: float, shares: dict[str, list[float]] | None = None) -> float:
    """Seconds of audio per second that a recording's writer stores, several chunks at once, as a rotator does that is
    behind, with nothing beside it. Which share of its time each step takes is added to `shares`."""
    definition = _definition(channels)
    n_frames, n_bytes = definition.chunk_frames, definition.form.chunk_bytes
    slots = [memoryview(mmap.mmap(-1, n_bytes)) for _ in range(AT_ONCE)]
    for number, data in enumerate(slots):
        noise = np.frombuffer(data, np.float32)
        np.random.default_rng(number).random(out=noise, dtype=np.float32)
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        writer = RecordingWriter.create(Store(Path(folder)), definition)
        steps = _timed(writer)
        n_chunks, began = 0, time.monotonic()
        while (seconds := time.monotonic() - began) < window_s:
            for number, data in enumerate(slots):
                np.frombuffer(data, np.float32)[:: 1 << 16] = n_chunks + number  # no two alike
            chunks = enumerate(slots, n_chunks)
            writer.seal_all([Full(chunk, data, chunk * n_frames, n_frames) for chunk, data in chunks])
            n_chunks += AT_ONCE
        for step, took_s in steps.items():
            if shares is not None:
                shares.setdefault(step, []).append(took_s / seconds)
        writer.finish(n_chunks * n_frames, clean=True)
    return n_chunks * n_frames / RATE / seconds


def _timed(writer: RecordingWriter) -> dict[str, float]:
    """Seconds of each step of the writer's, from now on."""
    seconds = dict.fromkeys(("hashes and files", "names", "overview", "journal", "metadata"), 0.0)
    places = (writer, "_hashed"), (writer._chunks, "put"), (writer._metadata, "samples"), (writer, "_flush_journal")
    for step, (where, name) in zip(seconds, (*places, (writer._metadata, "store")), strict=True):
        setattr(where, name, _counting(seconds, step, getattr(where, name)))
    return seconds


def _counting(seconds: dict[str, float], step: str, work: Callable[..., Any]) -> Callable[..., Any]:
    def counted(*arguments: Any, **options: Any) -> Any:
        began = time.monotonic()
        try:
            return work(*arguments, **options)
        finally:
            seconds[step] += time.monotonic() - began

    return counted


@contextmanager
def _slots(definition: Definition) -> Iterator[Staging]:
    """A staging file for such a recording."""
    wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
    with tempfile.TemporaryDirectory(prefix="bench-", dir="/dev/shm") as folder:
        staging = Staging(
            Path(folder) / "slots",
            uri=definition.uri,
            recording="",
            run_id=definition.run_id,
            form=definition.form,
            n_slots=N_SLOTS,
            sample_rate=RATE,
            wake_fd=wake,
        )
        try:
            yield staging
        finally:
            staging.close(remove=True)
            os.close(wake)


class _Nobody:
    """The stream that a rotator tells how it gets on."""

    def tell(self, message: Any) -> None:
        pass


def _turns(definition: Definition, noise: npt.NDArray[np.float32], n_chunks: int) -> float:
    """CPU seconds per minute of a rotator's turns, ticks and full slots, for so many chunks."""
    n_frames = n_chunks * definition.chunk_frames // QUANTUM * QUANTUM
    cycle = np.ascontiguousarray(noise[:, :QUANTUM])
    spent_ns = ticked = 0
    with tempfile.TemporaryDirectory(prefix="bench-") as folder, _slots(definition) as staging:
        assert isinstance(staging.slots, AudioSlots)
        plan = RotatorPlan(Store(Path(folder)), definition, lambda event: None, None)
        rotator = ChunkRotatorActor(_Nobody(), staging, plan)  # type: ignore[arg-type]
        for at in range(0, n_frames, QUANTUM):
            cycle[:, 0] = at / n_frames
            staging.slots.cycle(at, QUANTUM, cycle.data, monotonic_ns=time.monotonic_ns())
            if staging.slots.stats()["slots_full"]:
                spent_ns += _cold(rotator.on_receive, Rotate())
            if at - ticked >= _TICK_FRAMES:
                ticked = at
                spent_ns += _cold(rotator.on_receive, Tick())
        rotator.on_stop()
    return spent_ns * 60e-9 * RATE / n_frames


def _in_slots(definition: Definition, noise: npt.NDArray[np.float32], n_chunks: int) -> tuple[float, float]:
    """CPU seconds per minute to measure so many chunks of a staging file, and to clear their slots."""
    n_frames = noise.shape[1]
    measured_ns = cleared_ns = 0
    with _slots(definition) as staging:
        assert isinstance(staging.slots, AudioSlots)
        for chunk in range(n_chunks):
            staging.slots.cycle(chunk * n_frames, n_frames, noise.data)
            full = staging.slots.take_full()
            assert full is not None
            slot = full[0]
            staging.slots.take_notes()
            for first in range(0, n_frames, _TICK_FRAMES):
                measured_ns += _cold(staging.slots.measure, slot, first, min(first + _TICK_FRAMES, n_frames))
            cleared_ns += _cold(staging.slots.give_back, slot)
    per_minute = 60e-9 * RATE / (n_chunks * n_frames)
    return measured_ns * per_minute, cleared_ns * per_minute
