"""Following a recording: blocks of frames as they come, from the engine's slots, without a message to it.

    with chaos.open("stream://mic/take") as recording:
        for block in recording.follow(n_frames=4800):
            print(abs(block).max())

What was sealed meanwhile is read from its chunk file, so that a follower which is late by less than the slots
hold notices nothing. One that the slots went round without is *lapped*, and is told.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Literal, Protocol, Self

from chaos.read.missing import Missing, check_missing
from chaos.terms.counting import counted
from chaos.terms.errors import InvalidRange, InvalidRequest, StreamNotFound, TimedOut

if TYPE_CHECKING:
    from chaos.read.samples import Samples

__all__ = ["Follower", "Interrupted", "Lapped", "WhenLapped", "await_frames"]

WhenLapped = Literal["error", "catch_up", "skip"]

_LONGEST_NAP_S = 0.1
_SHORTEST_NAP_S = 0.0005
_REFRESH_S = 0.25


class Lapped(InvalidRange):
    """The slots went round without the follower. `details`: its `frame`, their `oldest_frame`, the `head`."""


class Interrupted(StreamNotFound):
    """What was followed ended without being stopped: chaosd died, or the stream failed. `details`: the `frame` behind
    the last one that is there."""


class Followed(Protocol):
    """What a follower asks of a recording; the contracts are those of `chaos.read.recording.Recording`."""

    @property
    def uri(self) -> str: ...
    @property
    def state(self) -> str: ...
    @property
    def clean(self) -> bool | None: ...
    @property
    def sample_rate(self) -> int: ...
    @property
    def n_frames(self) -> int: ...
    @property
    def oldest_staged_frame(self) -> int: ...
    def refresh(self) -> None: ...
    def read(self, first: int, last: int, missing: Missing) -> Samples: ...


class Follower:
    """An iterator over blocks (channels, n_frames) of a recording; the last one may be shorter.

    It ends when the recording is stopped; of a finished one it gives all there is. Where chaosd dies meanwhile, or had
    died and the take is not recovered yet, it gives what is there and then raises Interrupted. `frame` is
    the first frame of the next block, `n_laps` counts how often it was lapped. What then happens goes by `lapped`:

    "error": Lapped is raised, once per lap; asked again it goes on with the frame that was next.
    "catch_up": it goes on so without a word, and misses nothing: the sealed chunks have it.
    "skip": it goes on at the head.

    Raises TimedOut when no frame comes for `timeout_s`, and what `Recording.read` raises; ValueError at once for
    an unknown `missing`.
    """

    def __init__(
        self,
        recording: Followed,
        n_frames: int,
        first_frame: int,
        missing: Missing = "zeros",
        lapped: WhenLapped = "error",
        timeout_s: float | None = None,
    ) -> None:
        check_missing(missing)
        if n_frames < 1 or first_frame < 0:
            raise InvalidRequest(
                f"blocks of {counted(n_frames, 'frame')} from frame {first_frame} on",
                hint="give at least 1 frame, and begin at 0 or later",
            )
        self.frame = first_frame
        self.n_laps = 0
        self._recording = recording
        self._n_frames = n_frames
        self._missing = missing
        self._when_lapped = lapped
        self._timeout_s = timeout_s
        self._was_near = False
        self._was_live = recording.state == "recording"

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Samples:
        self._look_for_lap()
        end = await_frames(self._recording, self.frame + self._n_frames, self._timeout_s)
        if end <= self.frame:
            if self._recording.state == "interrupted" or (self._was_live and self._recording.clean is False):
                raise self._interrupted()
            raise StopIteration
        block = self._recording.read(self.frame, end, self._missing)
        self.frame = end
        return block

    def _interrupted(self) -> Interrupted:
        uri = self._recording.uri
        return Interrupted(
            f"{uri} ended without being stopped: chaosd died, or the stream failed; it ends at frame {self.frame}",
            hint=f"start chaosd again, or run chaosctl recover; chaosctl list {uri} tells how it stands",
            details={"frame": self.frame},
        )

    def _look_for_lap(self) -> None:
        oldest, head = self._recording.oldest_staged_frame, self._recording.n_frames
        if self.frame >= oldest:
            self._was_near = True
        elif self._was_near:
            self._was_near = False
            self.n_laps += 1
            if self._when_lapped == "error":
                raise Lapped(
                    f"this follower of {self._recording.uri} was lapped: it stands at frame {self.frame},"
                    f" and the slots begin at {oldest}",
                    hint='read on (sealed chunks have it), or follow with lapped="catch_up" or "skip"',
                    details={"frame": self.frame, "oldest_frame": oldest, "head": head},
                )
            if self._when_lapped == "skip":
                self.frame = head


def await_frames(recording: Followed, wanted: int, timeout_s: float | None = None) -> int:
    """Waits until the head has reached `wanted`; gives that, or where the recording ends before it.

    Raises TimedOut when no frame comes for `timeout_s`.
    """
    began = refreshed = time.monotonic()
    last_head = recording.n_frames
    while (head := recording.n_frames) < wanted:
        now = time.monotonic()
        if head != last_head:
            last_head, began = head, now
        elif timeout_s is not None and now - began > timeout_s:
            raise TimedOut(
                f"no new frame of {recording.uri} within {timeout_s:g} s",
                hint=f"its device may be away: see chaosctl status {recording.uri}",
            )
        if recording.state != "recording":
            return recording.n_frames
        if now - refreshed > _REFRESH_S:
            recording.refresh()
            refreshed = now
            continue
        nap_s = (wanted - head) / recording.sample_rate
        time.sleep(min(max(nap_s, _SHORTEST_NAP_S), _LONGEST_NAP_S))
    return wanted
