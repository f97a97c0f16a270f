"""The takes of one stream: the one that runs, the next one while it is on its way, past ones until they are stored."""

from __future__ import annotations

import time
from collections.abc import Callable

from chaos.engine.messages import Broken, Stored
from chaos.engine.take import Take
from chaos.graph.channels import Channel
from chaos.graph.devices import DeviceInfo
from chaos.protocol.events import TakesTotal

__all__ = ["Takes"]

MakeTake = Callable[[DeviceInfo, tuple[Channel, ...], int, str | None, str | None], Take]
"""Of the device, its channels, the take's number, and the URI of the take that it continues, or that ended before it as
the device changed its format."""


class Takes:
    """`current` is None before the first device; `following` is None unless a roll is on its way.

    A take has its rotator until that has stored the rest (`store_rest`, then `settle`).
    """

    def __init__(self, make: MakeTake) -> None:
        self._make = make
        self._past: dict[int, Take] = {}
        self._stored: Stored | None = None
        self._ended = [0, 0, 0, 0, 0, 0]  # the TakesTotal of those that are past and stored
        self._by_level = [0, 0, 0, 0]  # takes, frames, gaps and lost frames of those that a trigger made
        self.current: Take | None = None
        self.following: Take | None = None

    def begin(self, device: DeviceInfo, channels: tuple[Channel, ...]) -> Take:
        """Makes the first take. Raises as `make_take`."""
        self.current = self._make(device, channels, 1, None, None)
        return self.current

    def begin_anew(self, device: DeviceInfo, channels: tuple[Channel, ...]) -> Take:
        """Makes a take of another format than the current one, which is stored; the callback must be detached.

        Raises as `make_take`; then all is as before.
        """
        assert self.current is not None
        former = self.current
        self.current = self._make(device, channels, former.number + 1, None, former.uri)
        self._past[former.number] = former
        former.store_rest(time.monotonic_ns())
        return self.current

    def prepare(self, device: DeviceInfo) -> Take:
        """Makes the take that is to continue the current one. Raises as `make_take`."""
        assert self.current is not None
        self.following = self._make(device, self.current.channels, self.current.number + 1, self.current.uri, None)
        return self.following

    def roll(self) -> Take | None:
        """Goes over to the following take, or drops it where the callback has not come to it; what is left behind is
        stored. Gives the former take if it was left."""
        if self.following is None or self.current is None:
            return None
        former: Take | None = None
        dropped, self.following = self.following, None
        if dropped.has_begun:
            former = self.current
            dropped, self.current = self.current, dropped
        self._past[dropped.number] = dropped
        dropped.store_rest(None)
        return former

    def store_rest(self, end_ns: int | None) -> None:
        """Has the current take's rotator store what there is; the callback must be detached."""
        assert self.current is not None
        self.current.store_rest(end_ns)

    def settle(self, stored: Stored) -> None:
        """The current take is stored."""
        self._stored = stored

    def is_past(self, number: int) -> bool:
        return number in self._past

    def close_past(self, number: int, end: Stored | Broken) -> None:
        """A past take is stored, or its rotator has failed; then what it has stays in staging."""
        take = self._past.pop(number)
        stats = take.staging.slots.stats()
        if stats["head_frame"]:  # else it was made, and dropped before it began
            self._ended = _sum(self._ended, _counted(take, stats))
        take.close(keep_staging=end.error is not None)

    def ended_by_level(self, n_frames: int, n_gaps: int, lost_frames: int) -> None:
        """A trigger has ended a take."""
        self._by_level = _sum(self._by_level, [1, n_frames, n_gaps, lost_frames])

    def total(self, stats: dict[str, int], *, by_level: bool = False) -> TakesTotal | None:
        """All takes together, once the past ones are stored; `stats` are those of the current one. None where there
        was but one, or `by_level` none at all."""
        if not (self._by_level if by_level else self._ended)[0]:
            return None
        whole = self._ended
        if self.current is not None and stats["head_frame"]:
            whole = _sum(whole, _counted(self.current, stats))
        return TakesTotal(*(self._by_level + whole[4:] if by_level else whole))

    @property
    def stored(self) -> Stored | None:
        """How the current take was stored, once all are."""
        return None if self._past else self._stored

    def close(self, *, keep_staging: bool) -> None:
        """Closes the current take."""
        if self.current is not None:
            self.current.close(keep_staging=keep_staging)

    def abandon(self) -> None:
        """Ends all rotators as they are; staging files stay for recovery."""
        takes = (self.current, self.following, *self._past.values())
        self._past.clear()
        self.following = None
        for take in takes:
            if take is not None:
                take.abandon()


def _counted(take: Take, stats: dict[str, int]) -> list[int]:
    signal = take.turn.progress.signal
    samples = [0, 0] if signal is None else [signal.n_clipped, signal.n_not_finite]
    return [1, stats["head_frame"], stats["n_gaps"], stats["lost_frames"], *samples]


def _sum(one: list[int], other: list[int]) -> list[int]:
    return [a + b for a, b in zip(one, other, strict=True)]
