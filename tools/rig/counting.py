"""The source whose frames carry their own number, and what reads the numbers back.

The number of a frame is the position of the graph's clock at that frame. Channels 2k and 2k+1 carry its low
and its high 15 bits, each as value / 2^15; a last channel without partner carries the low 24 bits, as
(value - 2^23) / 2^23. Both are exact in f32, s32 and 24 bits, the pairs in s16 too. Before that the number is
XORed with a mask made of the source's id and the pair's place, so that another source's frames, or swapped
channels, don't read as numbers of this one. Numbers wrap at `modulus(channels)`: 2^30, or 2^24 for one
channel.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from rig.child import Child
from rig.programs import program
from rig.session import Session

__all__ = ["CountingSource", "Findings", "check", "decode", "encode", "leading_silence", "modulus"]

Samples = npt.NDArray[np.float32] | npt.NDArray[np.int16] | npt.NDArray[np.int32]

_PAIR_BITS = 15
_LONE_BITS = 24
_LOW = (1 << _PAIR_BITS) - 1
_MAX_PAIRS = 32
_NO_NUMBER = -1

PATIENCE_MS = 1000


def modulus(channels: int) -> int:
    """Where the numbers of a source with so many channels wrap."""
    return 1 << (_LONE_BITS if channels == 1 else 2 * _PAIR_BITS)


def encode(numbers: npt.ArrayLike, channels: int, source_id: int = 0) -> npt.NDArray[np.float32]:
    """The samples, (channels, frames), of the frames with these numbers."""
    wanted = np.asarray(numbers, dtype=np.int64)
    samples = np.empty((channels, wanted.size), dtype=np.float32)
    for pair in range(channels // 2):
        masked = (wanted ^ _mask(source_id, pair)) % modulus(2)
        samples[2 * pair] = (masked & _LOW) / 32768.0
        samples[2 * pair + 1] = (masked >> _PAIR_BITS) / 32768.0
    if channels % 2:
        masked = (wanted ^ _mask(source_id, channels // 2)) % modulus(1)
        samples[-1] = (masked - (1 << (_LONE_BITS - 1))) / 8388608.0
    return samples


def decode(samples: Samples, source_id: int = 0) -> npt.NDArray[np.int64]:
    """The numbers of the frames in samples (channels, frames); -1 where a frame carries none of this source.

    A frame carries one only if all its channels agree. Takes f32, s16 and s32; raises `ValueError` for a lone
    channel in s16, which can't hold it.
    """
    channels = samples.shape[0]
    numbers: list[npt.NDArray[np.int64]] = []
    for pair in range(channels // 2):
        low = _integers(samples[2 * pair], _PAIR_BITS)
        high = _integers(samples[2 * pair + 1], _PAIR_BITS)
        valid = (low >= 0) & (low <= _LOW) & (high >= 0) & (high <= _LOW)
        number = (low | (high << _PAIR_BITS)) ^ _mask(source_id, pair)
        numbers.append(np.where(valid, number, _NO_NUMBER))
    if channels % 2:
        lone = _integers(samples[-1], _LONE_BITS - 1) + (1 << (_LONE_BITS - 1))
        valid = (lone >= 0) & (lone < modulus(1))
        number = (lone ^ _mask(source_id, channels // 2)) % modulus(1)
        numbers.append(np.where(valid, number, _NO_NUMBER))
    first = numbers[0]
    for other in numbers[1:]:
        shared = (1 << _LONE_BITS) - 1 if channels % 2 and other is numbers[-1] else -1
        first = np.where((other >= 0) & (first & shared == other), first, _NO_NUMBER)
    return first


@dataclass(frozen=True)
class Findings:
    """What `check` found in `n_frames` frames; each frame is one of right, silent, moved or foreign.

    `silent` are all-zero frames where none should be, `moved` carry a number of this source that belongs
    elsewhere, `foreign` none that is near (another source's, changed samples, sound inside a gap). `first` is
    the number of frame 0, `first_bad` the index of the first frame that isn't right, or None.
    """

    n_frames: int
    right: int
    silent: int
    moved: int
    foreign: int
    first: int
    first_bad: int | None

    @property
    def ok(self) -> bool:
        return self.n_frames > 0 and self.right == self.n_frames


def check(
    samples: Samples, source_id: int = 0, *, first: int | None = None, gaps: Sequence[tuple[int, int]] = ()
) -> Findings:
    """Whether each frame k of the samples (channels, frames) carries the number first + k.

    Without `first` it is what the first readable frame outside gaps says. `gaps` are (first_frame, n_frames),
    in which all samples must be zero.
    """
    n_frames = samples.shape[1]
    places = np.arange(n_frames, dtype=np.int64)
    in_gap = np.zeros(n_frames, dtype=bool)
    for start, length in gaps:
        in_gap[start : start + length] = True
    zero = ~np.any(samples, axis=0)
    numbers = decode(samples, source_id)
    wrap = modulus(samples.shape[0])
    if first is None:
        readable = np.flatnonzero(~in_gap & ~zero & (numbers >= 0))
        first = int(numbers[readable[0]] - readable[0]) % wrap if readable.size else 0
    away = (numbers - first - places) % wrap
    right = np.where(in_gap, zero, (numbers >= 0) & (away == 0))
    silent = ~right & zero
    near = wrap // 1024
    moved = ~right & ~silent & ~in_gap & (numbers >= 0) & ((away < near) | (away > wrap - near))
    bad = np.flatnonzero(~right)
    counted = [int(np.count_nonzero(what)) for what in (right, silent, moved)]
    return Findings(
        n_frames=n_frames,
        right=counted[0],
        silent=counted[1],
        moved=counted[2],
        foreign=n_frames - sum(counted),
        first=first,
        first_bad=int(bad[0]) if bad.size else None,
    )


def leading_silence(samples: Samples) -> int:
    """How many all-zero frames come before the first other: a follower's first cycle may bring nothing."""
    heard = np.flatnonzero(np.any(samples, axis=0))
    return int(heard[0]) if heard.size else int(samples.shape[1])


class CountingSource(Child):
    """A counting source that runs in a session; ready to be linked once made.

    With `driver` it drives the graph itself, as a sound card does, and no cycle begins before all that
    capture it have finished the last: nothing is missed on a busy machine. `patience_ms` limits that wait, and
    then a slow follower misses cycles; left out, it is a second, so that a cycle which some follower was never
    run in does not hold up everybody for ever. With `catch_up` it makes up for time that it was late. `speed` is
    how many times faster than real time it runs, 0 for as fast as the followers finish. `hold` waits with the
    first cycle for `begin()`. Without `driver` it follows the session's clock; where the machine is too busy to
    run it in time, PipeWire itself misplaces its frames by a cycle.

    Without a session manager nobody gives the node its ports: `ports=False`. Raises `RigError`.
    """

    def __init__(
        self,
        session: Session,
        *,
        name: str = "counting-source",
        description: str | None = None,
        channels: int = 2,
        rate: int = 48000,
        source_id: int = 0,
        properties: dict[str, str] | None = None,
        driver: bool = False,
        speed: float = 1,
        patience_ms: int | None = None,
        catch_up: bool = False,
        hold: bool = False,
        ports: bool = True,
        timeout_s: float = 60.0,
    ) -> None:
        self.channels = channels
        self.source_id = source_id
        command = [str(program("counting-source")), "--name", name, "--description", description or name]
        command += ["--channels", str(channels), "--rate", str(rate), "--id", str(source_id)]
        if driver:
            command += ["--driver", "--speed", str(speed)]
            command += ["--patience-ms", str(PATIENCE_MS if patience_ms is None else patience_ms)]
            command += ["--hold"] if hold else []
            command += ["--catch-up"] if catch_up else []
        for key, value in (properties or {}).items():
            command += ["--property", f"{key}={value}"]
        super().__init__(session, name, *command)
        self.node_id = int(self.wait_for("ready" if ports else "node", timeout_s)["node_id"])

    def begin(self) -> None:
        """Lets a held driver begin; what captures it should be linked by now."""
        os.kill(self.pid, signal.SIGUSR1)

    def hold(self) -> None:
        """Lets a driver finish its cycle and begin no other before `begin`. Raises `RigError` if it doesn't end."""
        os.kill(self.pid, signal.SIGUSR2)
        self.wait_for("held")

    def check(
        self, samples: Samples, *, first: int | None = None, gaps: Sequence[tuple[int, int]] = ()
    ) -> Findings:
        return check(samples, self.source_id, first=first, gaps=gaps)


def _mask(source_id: int, pair: int) -> int:
    x = (source_id * _MAX_PAIRS + pair + 1) * 0x9E3779B1 & 0xFFFFFFFF
    x ^= x >> 15
    x = x * 0x85EBCA77 & 0xFFFFFFFF
    x ^= x >> 13
    return x & (modulus(2) - 1)


def _integers(samples: npt.NDArray[Any], bits: int) -> npt.NDArray[np.int64]:
    """Samples as integers of value * 2^bits; what is none becomes a value outside every valid range."""
    if samples.dtype == np.float32:
        scaled = samples.astype(np.float64) * (1 << bits)
        whole = np.rint(np.nan_to_num(scaled, nan=-4e9, posinf=-4e9, neginf=-4e9))
        return np.where(whole == scaled, np.clip(whole, -4e9, 4e9), -4e9).astype(np.int64)
    width = 8 * samples.dtype.itemsize - 1
    if width < bits:
        raise ValueError(f"{samples.dtype} samples cannot hold a lone channel's {bits + 1} bits")
    wide = samples.astype(np.int64)
    kept = wide >> (width - bits)
    return np.where(kept << (width - bits) == wide, kept, -(1 << 32))
