"""What a take's samples are like, second by second: levels, silence, clipping, samples that are not numbers. Pure.

It sees every frame that was stored, once, off the real-time thread. Frames in gaps read as zeros, and count as silence.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from chaos.protocol import events
from chaos.protocol.answers import ChannelSignal, SignalStatus
from chaos.protocol.events import Event

__all__ = ["Measure", "Signal"]

Measure = tuple[float, float, float, int, int, int, int]
"""Of one channel, as `AudioSlots.measure` gives it; what is first are frames of the take here."""


@dataclass(slots=True)
class _Channel:
    """Sums over the second that runs, and what the last one was."""

    peak: float = 0.0
    squares: float = 0.0
    total: float = 0.0
    n_clipped: int = 0  # of the whole take
    last: ChannelSignal = field(default_factory=lambda: ChannelSignal(None, None, 0.0, 0))


class _Spell:
    """A time with samples of one kind, over when a second has gone by without any."""

    def __init__(self) -> None:
        self.n_samples = 0  # of the whole take
        self.first: int | None = None
        self.last: int | None = None  # up to where some came
        self.is_on = False
        self.begin = 0
        self.n_before = 0

    def take(self, n_samples: int, first: int, end: int, rate: int) -> bool:
        """Whether it has begun or ended."""
        if n_samples:
            if not self.is_on:
                self.begin, self.n_before = first, self.n_samples
            is_news, self.is_on = not self.is_on, True
            self.n_samples += n_samples
            self.first = first if self.first is None else self.first
            self.last = end
            return is_news
        if self.is_on and self.last is not None and end - self.last >= rate:
            self.is_on = False
            return True
        return False

    @property
    def n_now(self) -> int:
        """Of the spell alone."""
        return self.n_samples - self.n_before


class Signal:
    """Takes in what comes, in order, and tells each change once. Silent is a take in which no sample of any channel has
    been above `below_dbfs` for `after_s`."""

    def __init__(self, rate: int, n_channels: int, below_dbfs: float, after_s: float) -> None:
        self._rate = rate
        self._below_dbfs = below_dbfs
        self._threshold = 10 ** (below_dbfs / 20)
        self._after_frames = after_s * rate
        self._channels = [_Channel() for _ in range(n_channels)]
        self._n_frames = 0  # of the second that runs
        self._quiet_since = 0
        self._is_silent = False
        self._clipping, self._odd = _Spell(), _Spell()
        self._told = [each.last for each in self._channels]
        self.frame = 0
        """Up to which frame of the take it has seen all."""

    def take(self, first: int, end: int, found: Sequence[Measure]) -> list[Event]:
        """Takes in frames [first, end); the events that are due."""
        told: list[Event] = []
        top, n_clipped, clipped, n_odd, odd = 0.0, 0, end, 0, end
        for channel, (peak, squares, total, clips, clipped_at, odds, odd_at) in zip(self._channels, found, strict=True):
            if peak > channel.peak:
                channel.peak = peak
            if peak > top:
                top = peak
            channel.squares += squares
            channel.total += total
            if clips:
                channel.n_clipped += clips
                n_clipped, clipped = n_clipped + clips, min(clipped, clipped_at)
            if odds:
                n_odd, odd = n_odd + odds, min(odd, odd_at)
        self.frame = end
        self._n_frames += end - first
        if self._n_frames >= self._rate:
            self._end_second()
        if n_clipped:
            self._tell_channels()
        if top > self._threshold or n_odd:
            self._quiet_since = end
            if self._is_silent:
                self._is_silent = False
                told.append(events.StreamSilent(silent=False, since_frame=first, below_dbfs=self._below_dbfs))
        elif not self._is_silent and end - self._quiet_since >= self._after_frames:
            self._is_silent = True
            told.append(
                events.StreamSilent(silent=True, since_frame=self._quiet_since, below_dbfs=self._below_dbfs)
            )
        if self._clipping.take(n_clipped, clipped, end, self._rate):
            spell = self._clipping
            told.append(
                events.StreamClipping(clipping=spell.is_on, first_frame=spell.begin, n_samples=spell.n_now)
            )
        if self._odd.take(n_odd, odd, end, self._rate):
            spell = self._odd
            told.append(
                events.StreamNotFinite(not_finite=spell.is_on, first_frame=spell.begin, n_samples=spell.n_now)
            )
        return told

    def _end_second(self) -> None:
        for channel in self._channels:
            mean = channel.total / self._n_frames
            rms = math.sqrt(channel.squares / self._n_frames)
            channel.last = ChannelSignal(_decibels(channel.peak), _decibels(rms), mean, channel.n_clipped)
            channel.peak = channel.squares = channel.total = 0.0
        self._n_frames = 0
        self._tell_channels()

    def _tell_channels(self) -> None:
        """Makes what `status` gives, which is asked for far more often than it changes."""
        self._told = [
            ChannelSignal(each.last.peak_dbfs, each.last.rms_dbfs, each.last.dc, each.n_clipped)
            for each in self._channels
        ]

    def status(self) -> SignalStatus:
        """How it stands."""
        return SignalStatus(
            frame=self.frame,
            channels=self._told,
            silent_since_frame=self._quiet_since if self._is_silent else None,
            n_clipped=self._clipping.n_samples,
            first_clipped_frame=self._clipping.first,
            n_not_finite=self._odd.n_samples,
            first_not_finite_frame=self._odd.first,
        )


def _decibels(value: float) -> float | None:
    return 20 * math.log10(value) if value > 0 else None
