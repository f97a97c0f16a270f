"""A MIDI stream without PipeWire that may crash: as `CrashingStream`, and what must come out of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import zarr
from crashing import CrashingStream, causes_of
from sequences import MIDI1, UMP, sequence

import chaos
from chaos.store.info import load
from chaos.store.verify import verify
from chaos.terms.ledger import Cause

__all__ = ["CrashingKeys", "check_keys", "events_of", "rows_of"]

Event = tuple[int, int, bytes]


class CrashingKeys(CrashingStream):
    """`write` is a cycle with some events in it; those that must be in the recording are in `offered`."""

    def __init__(
        self, store: Path, staging_dir: Path, uri: str = "stream://mic/take", *, chunk_frames: int = 16,
        chunk_bytes: int = 1 << 14, n_slots: int = 4, seed: int = 0, **more: Any,
    ) -> None:  # fmt: skip
        super().__init__(
            store, staging_dir, uri, channels=1, sample_format="midi", chunk_frames=chunk_frames, n_slots=n_slots,
            seed=seed, chunk_bytes=chunk_bytes, **more,
        )  # fmt: skip
        self.offered: list[Event] = []

    def write(self, n_frames: int) -> None:
        offsets = sorted(self._random.integers(0, n_frames, self._random.integers(0, 6)).tolist())
        self.play(n_frames, [(at, self._random.choice([MIDI1, UMP]).item(), self._any_bytes()) for at in offsets])

    def play(self, n_frames: int, controls: list[tuple[int, int, bytes]]) -> None:
        """A cycle of these events, by their offsets."""
        slots = self.staging.slots
        before = slots.stats()
        self._cycle(n_frames, sequence(controls))
        after = slots.stats()
        n_captured = after["n_captured"] - before["n_captured"]
        causes = np.full(n_frames, int(Cause.OVERRUN))
        causes[:n_captured] = 0
        first = self.n_frames
        self.offered += [(first + at, kind, data) for at, kind, data in controls if at < n_captured]
        self._expect(np.zeros((1, n_frames), "u1"), causes)

    def _any_bytes(self) -> bytes:
        return self._random.bytes(int(self._random.integers(0, 40)))


def events_of(recording: Path) -> list[Event]:
    """All events, as our reader gives them."""
    with chaos.open(recording) as opened:
        return [(int(row.frame), int(row.kind), row.bytes) for row in opened.events[:]]


def rows_of(recording: Path) -> list[Event]:
    """All events, as zarr-python reads their arrays; rows that retention has removed are (0, 0, b"")."""
    group: Any = zarr.open_group(recording, mode="r")["events"]
    raw = group["bytes"][:].tobytes()
    columns = (group[name][:].tolist() for name in ("frame", "kind", "offset", "size"))
    return [(frame, kind, raw[at : at + size]) for frame, kind, at, size in zip(*columns, strict=True)]


def check_keys(stream: CrashingKeys) -> None:
    """The recording holds each event of the model and no other, and tells each gap; in every reader."""
    info = load(stream.recording)
    assert verify(stream.recording).bad == []
    assert info.n_frames == stream.n_frames
    assert events_of(stream.recording) == stream.offered
    assert rows_of(stream.recording) == stream.offered
    np.testing.assert_array_equal(causes_of(info.gaps, info.n_frames), stream.causes)
