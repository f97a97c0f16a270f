"""What clients are answered, as PROTOCOL.md has it."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from chaos.protocol.requests import Format, MidiFormat

__all__ = [
    "RESULTS",
    "CallbackTimes",
    "Device",
    "DeviceAudioFormat",
    "Level",
    "Slots",
    "StreamStatus",
]


class DeviceAudioFormat(msgspec.Struct, frozen=True, tag_field="type", tag="audio"):
    """`sample_rate` is None where the device states none before it runs."""

    sample_rate: int | None
    channels: int
    positions: list[str]


class Device(msgspec.Struct, frozen=True):
    """One thing that can be captured from or played to. `volume` other than 1.0 changes samples."""

    identity: str
    name: str
    description: str
    node_id: int
    direction: Literal["input", "output"]
    format: DeviceAudioFormat | MidiFormat
    is_monitor: bool
    is_default: bool
    volume: float | None
    api: str | None


class Level(msgspec.Struct, frozen=True):
    """Of one channel since the last look; None is silence (minus infinity)."""

    peak_dbfs: float | None
    rms_dbfs: float | None


class Slots(msgspec.Struct, frozen=True):
    total: int
    free: int
    full: int


class CallbackTimes(msgspec.Struct, frozen=True):
    """Time that the process callback took, ns. `histogram[k]` counts those of 2^k to 2^(k+1) ns."""

    total: int
    longest: int
    histogram: list[int]


class StreamStatus(msgspec.Struct, frozen=True):
    """A stream as it stands. `device`: PROTOCOL's Device, None until it was there once; `drift_ppm`: the device's
    clock against the monotonic one, None until known.
    """

    uri: str
    state: Literal["waiting", "connecting", "paused", "streaming", "error", "stopped"]
    device: dict[str, Any] | None
    format: Format
    chunk_frames: int
    head_frame: int
    n_chunks_sealed: int
    n_gaps: int
    lost_frames: int
    overruns: int
    xruns: int
    callbacks: int
    slots: Slots
    quantum: int
    started_wall_ns: int
    drift_ppm: float | None
    levels: list[Level]
    recording: str
    callback_ns: CallbackTimes
    reason: str = ""  # of the state
    notes: list[str] = []  # what is done to the device's samples on their way, a sentence each


RESULTS: dict[str, tuple[str, ...]] = {
    "ping": ("name", "version", "protocol", "run_id", "pid", "uptime_s"),
    "status": ("pipewire", "streams", "staging", "store", "event_seq"),
    "device_list": ("devices",),
    "device_find": ("device",),
    "device_wait": ("device",),
    "stream_start": ("uri", "recording", "device", "format", "chunk_frames", "state"),
    "stream_switch_chunk": ("uri",),
    "stream_stop": ("uri", "recording", "n_frames", "n_chunks", "n_gaps", "lost_frames", "clean"),
    "stream_list": ("streams",),
    "stream_status": StreamStatus.__struct_fields__,
    "recording_list": ("recordings",),
    "slice": ("first_frame", "n_frames", "chunks", "gaps"),
    "verify": ("ok", "n_chunks", "n_frames", "bad", "gaps"),
    "events_since": ("events", "oldest_seq"),
    "shutdown": (),
    "retire": ("retired",),
}
"""The fields that an op's result always has; more may come."""
