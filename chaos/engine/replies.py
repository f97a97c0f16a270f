"""Who waits for a stream's start or its end, and what they are told."""

from __future__ import annotations

from concurrent.futures import Future
from typing import Any

from chaos.engine.messages import refuse, settle
from chaos.engine.take import Take
from chaos.engine.view import StreamView
from chaos.protocol.answers import StreamBegun, StreamEnded
from chaos.terms.errors import ChaosError

__all__ = ["Replies"]


class Replies:
    """Each future is answered once; whoever asks for the end after it is told the same as those before."""

    def __init__(self, start: Future[Any], *, with_trace: bool = False) -> None:
        self._start = start
        self._with_trace = with_trace
        self._stops: list[Future[Any]] = []
        self._end: StreamEnded | ChaosError | None = None

    @property
    def has_started(self) -> bool:
        """Whether the start was answered."""
        return self._start.done()

    def started(self, view: StreamView, take: Take | None) -> None:
        """Answers the start with how things stand."""
        if self.has_started:
            return
        view.trace.note("answered")
        begun = StreamBegun(
            uri=view.uri,
            recording=view.recording,
            device=view.device.to_wire() if view.device is not None else None,
            format=view.format(),
            chunk_frames=take.staging.form.chunk_frames if take is not None else 0,
            state=view.state,
            reason=view.told_reason,
            trace=view.trace.steps() if self._with_trace else None,
            notes=view.remarked(),
        )
        settle(self._start, begun)

    def refuse_start(self, error: ChaosError) -> None:
        refuse(self._start, error)

    def await_end(self, future: Future[Any]) -> None:
        """Somebody asks for the end."""
        self._stops.append(future)
        self._tell_end()

    def ended(self, end: StreamEnded | ChaosError) -> None:
        """It has come, as asked for or with an error."""
        self._end = end
        self._tell_end()

    def _tell_end(self) -> None:
        if self._end is None:
            return
        futures, self._stops = self._stops, []
        for future in futures:
            if isinstance(self._end, ChaosError):
                refuse(future, self._end)
            else:
                settle(future, self._end)
