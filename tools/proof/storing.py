"""What it costs to store: the recording's own work, without PipeWire, threads or messages."""

from __future__ import annotations

import mmap
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from blake3 import blake3

from chaos.engine.take import TICK_S
from chaos.store.lines import Definition
from chaos.store.store import Store
from chaos.store.writer import RecordingWriter
from chaos.terms.chunking import chunk_frames, is_short

__all__ = ["Storing", "measure_storing"]

RATE = 48000


@dataclass(frozen=True)
class Storing:
    """CPU seconds per minute of audio: `all` to checkpoint, hash, write, sync and list it; `hashing` of its bytes
    once alone, which is a part of it."""

    channels: int
    all: float
    hashing: float


def measure_storing(channels: int, audio_s: float) -> Storing:
    """Stores whole chunks of noise, at least `audio_s` of them, as the rotator would."""
    n_frames = chunk_frames(None, channels=channels, sample_rate=RATE)
    definition = Definition(
        uri="stream://bench/storing",
        channels=channels,
        sample_rate=RATE,
        sample_format="f32",
        chunk_frames=n_frames,
        device={"name": "noise"},
        positions=[f"AUX{k}" for k in range(channels)],
        started_wall_ns=time.time_ns(),
        started_monotonic_ns=time.monotonic_ns(),
        software="bench",
        run_id="0" * 32,
    )
    n_chunks = -(-int(audio_s * RATE) // n_frames)
    data = memoryview(mmap.mmap(-1, channels * n_frames * 4))  # begins with a page, as slots do
    noise = np.frombuffer(data, np.float32).reshape(channels, n_frames)
    np.random.default_rng(1).random(out=noise, dtype=np.float32)
    steps = [] if is_short(n_frames, RATE) else list(range(int(TICK_S * RATE), n_frames, int(TICK_S * RATE)))
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        writer = RecordingWriter.create(Store(Path(folder)), definition)
        stored_ns = hashed_ns = 0
        for chunk in range(n_chunks):
            noise[:, 0] = chunk  # no two alike, or the second would only be linked
            began = time.thread_time_ns()
            for reached in steps:
                writer.checkpoint(chunk, data, reached)
            writer.seal(chunk, data, chunk * n_frames, n_frames)
            stored_ns += time.thread_time_ns() - began
            began = time.thread_time_ns()
            blake3(data).hexdigest()
            hashed_ns += time.thread_time_ns() - began
        writer.finish(n_chunks * n_frames, clean=True)
    minutes = n_chunks * n_frames / RATE / 60
    return Storing(channels, stored_ns / 1e9 / minutes, hashed_ns / 1e9 / minutes)
