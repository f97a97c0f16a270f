"""An engine without PipeWire: a real staging file and a real recording, moved by hand."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from recorded import definition

from chaos.staging.owner import Staging
from chaos.store.store import Store
from chaos.store.writer import RecordingWriter
from chaos.terms.form import AudioForm

__all__ = ["Engine"]


class Engine:
    """A real staging file and a real recording, moved by hand."""

    def __init__(self, folder: Path, n_slots: int = 3) -> None:
        self.wake = os.eventfd(0, os.EFD_CLOEXEC)
        self.path = folder / "mic.staging"
        shape = definition(chunk_frames=1024, staging=str(self.path))
        self.writer = RecordingWriter.create(Store(folder), shape)
        self.staging = Staging(
            self.path,
            uri=shape.uri,
            recording=self.writer.path,
            run_id="0" * 32,
            form=AudioForm(2, 1024, "f32"),
            n_slots=n_slots,
            sample_rate=48000,
            wake_fd=self.wake,
        )
        self.model = np.zeros((2, 0), "<f4")
        self.position = 0

    def cycle(self, n_frames: int, skipped: int = 0) -> None:
        frames = np.random.default_rng(self.position).uniform(-1, 1, (2, n_frames)).astype("<f4")
        self.position += skipped
        self.staging.slots.cycle(self.position, n_frames, frames.data.cast("B"))
        self.position += n_frames
        self.model = np.concatenate([self.model, np.zeros((2, skipped), "<f4"), frames], axis=1)

    def rotate(self) -> None:
        """What the rotator does: takes notes, seals full slots and gives them back."""
        for note in self.staging.notes():
            if note.is_gap:
                self.writer.gap(note.gap())
        while full := self.staging.slots.take_full():
            slot, chunk = full
            view = self.staging.slot(slot)
            first = chunk * 1024
            self.writer.seal(chunk, view, first, min(1024, self.model.shape[1] - first))
            view.release()
            self.staging.slots.give_back(slot)

    def finish(self, *, clean: bool = True) -> None:
        n_frames, _ = self.staging.slots.finish(None)
        self.rotate()
        self.writer.finish(n_frames, clean=clean)

    def close(self) -> None:
        self.writer.close()
        self.staging.close()
        os.close(self.wake)
