"""Which key is what, below the URL that recorders upload to.

    <recorder>/recorder.json                           whose prefix this is (`Claim`); replaced by its owner alone
    <recorder>/takes/<started>.<name>.<take>.json      a take in short (`TakeEntry`)
    <recorder>/recordings/<name>/<take>.<started>.zarr/
        zarr.json, audio/, events/, gaps/, clock/      as on the recorder's own disk
        journal/000000000000.jsonl ...                 the journal so far, while it is recorded: pieces, each named by
                                                       its first byte
        journal.jsonl                                  the whole journal, once it has ended
        signatures.json                                where it has been signed

A recorder has a prefix of its own, and a take the moment of its start in its name: so no key is written by two, and a
URI that is used again after `chaosctl rm` overwrites nothing.
"""

from __future__ import annotations

from datetime import UTC, datetime

import msgspec

__all__ = [
    "CLAIM", "JOURNAL", "RECORDINGS", "TAKES", "Claim", "TakeEntry", "entry_key", "segment_key",
    "started_text", "take_key",
]  # fmt: skip

CLAIM = "recorder.json"
RECORDINGS = "recordings"
TAKES = "takes"
JOURNAL = "journal.jsonl"


class Claim(msgspec.Struct, frozen=True):
    """Whose prefix it is: `store_id` is the uploading store's own number, which its copies share, and `mark` tells
    which of them was the last to start; empty before 0.3."""

    recorder: str
    store_id: str
    software: str
    mark: str = ""


class TakeEntry(msgspec.Struct, frozen=True):
    """A take in short, as it was when this was written: at its first upload, and at its end. `key` is its folder,
    relative to the recorder's prefix; `gaps` has the frames that are missing by cause, `max_error_ns` the worst that
    the kernel told of the wall clock, None where any part of it is not known."""

    uri: str
    key: str
    recorder: str
    state: str
    started_wall_ns: int
    ended_wall_ns: int
    sample_rate: int
    channels: int
    sample_format: str
    chunk_frames: int
    n_frames: int
    n_chunks: int
    n_bytes: int
    device: str | None = None
    identity: str | None = None
    gaps: dict[str, int] = {}
    max_error_ns: int | None = None
    chunk_bytes: int = 0

    @property
    def lost_frames(self) -> int:
        """How many frames were lost; those that retention removed were not."""
        return sum(n_frames for cause, n_frames in self.gaps.items() if cause != "retired")


def started_text(wall_ns: int) -> str:
    """To the microsecond, sorted by time as text; 0 of what is in no calendar."""
    try:
        moment = datetime.fromtimestamp(wall_ns // 1_000_000_000, UTC).replace(microsecond=wall_ns // 1000 % 1_000_000)
    except (OverflowError, ValueError, OSError):
        moment = datetime.fromtimestamp(0, UTC)
    return f"{moment:%Y%m%dT%H%M%S.%fZ}"


def take_key(name: str, take: str, started_wall_ns: int) -> str:
    """The folder of a take, relative to the recorder's prefix."""
    return f"{RECORDINGS}/{name}/{take}.{started_text(started_wall_ns)}.zarr"


def entry_key(name: str, take: str, started_wall_ns: int) -> str:
    return f"{TAKES}/{started_text(started_wall_ns)}.{name}.{take}.json"


def segment_key(first_byte: int) -> str:
    """A piece of the journal, relative to the take's folder."""
    return f"journal/{first_byte:012d}.jsonl"
