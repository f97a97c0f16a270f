"""A slot that becomes full just while the rotator looks, as the callback may have it at any moment."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

from chaos.engine.intake import Intake
from chaos.engine.rotator import ChunkRotatorActor

__all__ = ["filling_within"]


@contextmanager
def filling_within(name: str, play: Callable[[int], None]) -> Iterator[list[int]]:
    """Within the rotator's method `name`, `play` is asked once for the frames that the slot being filled still has
    room for, right after the full slots were taken over. Yields a list that then has that number."""
    looked: Any = getattr(ChunkRotatorActor, name)
    take_over: Any = Intake.take_over
    played: list[int] = []
    within: list[str] = []

    def looking(self: Any, *arguments: Any, **options: Any) -> Any:
        within.append(name)
        try:
            return looked(self, *arguments, **options)
        finally:
            within.pop()

    def racing(self: Any) -> Any:
        result = take_over(self)
        if within and not played and (filling := self._slots.filling()) is not None:
            played.append(self._staging.form.chunk_frames - filling[2])
            play(played[0])
        return result

    with (
        mock.patch.object(ChunkRotatorActor, name, looking),
        mock.patch.object(Intake, "take_over", racing),
    ):
        yield played
