"""A range of a recording with silence around it, where its file is to be longer than what was recorded."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import Any

from chaos.export.source import Source, not_a_number
from chaos.read.content import content_of
from chaos.read.planes import silence
from chaos.terms.form import MidiForm

__all__ = ["PaddedSource"]

_STEP = 1 << 16


class PaddedSource(Source):
    """As `Source`: `before` frames, then those of `body`, then `after` frames. Its range may begin below 0."""

    def __init__(self, body: Source, before: int, after: int) -> None:
        self.recording = body.recording
        self.fill = body.fill
        self.first = body.first - before
        self.end = body.end + after
        self.spans = [(self.first, self.end)]
        self.n_frames = self.end - self.first
        self._body = body
        self._n_frames_read = 0
        self._take_account()

    def _take_account(self) -> None:
        self.gaps, self.damaged = self._body.gaps, self._body.damaged

    @property
    def recorded(self) -> tuple[int, int]:
        return self._body.recorded

    @property
    def wall_ns(self) -> int:
        before = self._body.first - self.first
        return self._body.wall_ns - before * 1_000_000_000 // self.recording.sample_rate

    def held(self) -> AbstractContextManager[bool]:
        return self._body.held()

    @property
    def n_chunks(self) -> int:
        return self._body.n_chunks

    @property
    def hashes(self) -> list[str]:
        return self._body.hashes

    @property
    def root_hash(self) -> str:
        return self._body.root_hash

    def n_in(self, block: Any) -> int:
        return self._n_frames_read

    def blocks(self) -> Iterator[Any]:
        yield from self._nothing(self._body.first - self.first)
        for block in self._body.blocks():
            self._n_frames_read = self._body.n_in(block)
            yield block
        yield from self._nothing(self.end - self._body.end)
        self._take_account()

    def _nothing(self, n_frames: int) -> Iterator[Any]:
        form = self.recording.definition.form
        while n_frames > 0:
            self._n_frames_read = n = min(n_frames, _STEP)
            if isinstance(form, MidiForm):
                yield content_of(form).nothing(n)
            elif self.fill == "nan":
                yield [memoryview(not_a_number(n))] * form.channels
            else:
                yield silence(form, n)
            n_frames -= n
