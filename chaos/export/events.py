"""The range of a MIDI recording that a save reads: as `chaos.export.source`, with events in place of samples."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from chaos.export.joined import JoinedSource
from chaos.export.source import Source
from chaos.read.content import content_of

if TYPE_CHECKING:
    from chaos.read.samples import Samples

__all__ = ["EventSource", "JoinedEventSource"]


class EventSource(Source):
    """Blocks are arrays of `chaos.read.events.EVENT`; their frames are the recording's."""

    _n_frames_read = 0

    def n_in(self, block: Any) -> int:
        return self._n_frames_read

    def _decoded(self, chunk: int) -> Samples:
        form = self._shape.form
        found: Samples = content_of(form).of_slot(bytes(self._buffer), chunk, 0, form.chunk_frames)
        return found

    def _block(self, first: int, last: int) -> Samples:
        self._n_frames_read = last - first
        if self._data is None:
            return self.recording.read(first, last)
        block: Samples = self._data
        frames = block["frame"]
        return block[(frames >= first) & (frames < last)]


class JoinedEventSource(JoinedSource):
    """As `EventSource`, of a stream of several takes; frames are the stream's."""

    part_of = EventSource
    _part: Source | None = None

    def n_in(self, block: Any) -> int:
        return self._part.n_in(block) if self._part is not None else 0

    def blocks(self) -> Iterator[Samples]:
        content = content_of(self.recording.definition.form)
        for origin, part in self._parts:
            self._part = part
            for block in part.blocks():
                yield content.moved(block, origin)
        self.gaps = self._told()
