"""What is known of a stream: read by the daemon for its answers, written by the stream's actor."""

from __future__ import annotations

import functools
import math
import os
import time
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from chaos.engine.activity import activity_of
from chaos.engine.schedule import Schedule
from chaos.engine.trace import Trace
from chaos.engine.turn import Progress, Turn
from chaos.graph.devices import GRAPH_RATE, DeviceInfo
from chaos.protocol.answers import (
    CallbackTimes,
    Level,
    MidiActivity,
    MidiCounts,
    Slots,
    StreamStatus,
    TriggerStatus,
)
from chaos.protocol.config import IN_MEMORY, file_system_of
from chaos.protocol.requests import AudioFormat, Format, MidiFormat
from chaos.system.limits import memlock_advice
from chaos.terms.latency import Latency
from chaos.terms.moments import utc_text, wall_ns_of

if TYPE_CHECKING:
    from chaos.engine.commands import Commands
    from chaos.staging.owner import Staging

__all__ = ["StreamView"]

LEVEL_WINDOW_S = 0.3
DISTRUSTED_CYCLES = 20

_NO_STATS = dict.fromkeys(
    (
        *("head_frame", "lost_frames", "n_gaps", "overruns", "xruns", "callbacks", "quantum", "gap_first"),
        *("slots_total", "slots_free", "slots_full", "seen_rate", "first_ns", "busy_ns", "busy_max_ns"),
        *("distrusted", "freewheeled", "stands", "n_events", "n_at_zero", "n_beyond"),
    ),
    0,
)


@dataclass
class StreamView:
    """A stream as others may look at it, from any thread; only its actor writes here, but for `heard`.

    `staging` and `turn` may become None at any time: whoever looks reads them once.
    """

    uri: str
    asked: Format
    device: DeviceInfo | None = None
    state: str = "connecting"
    reason: str = ""
    staging: Staging | None = None
    turn: Turn | None = None  # what the rotator is at
    sample_rate: int | None = None
    started_wall_ns: int = 0
    recording: str = ""
    take: str | None = None
    continues: str | None = None
    heard: MidiActivity | None = None
    remarks: list[str] = field(default_factory=list)
    leader: str | None = None  # whose clock drives the device in place of its own
    priority: list[str] = field(default_factory=list)  # what is to be said of that of PipeWire's data thread
    trace: Trace = field(default_factory=Trace)
    latency: Latency | None = None
    standby_s: float | None = None  # in standby: how much it holds
    schedule: Schedule | None = None
    uploaded: tuple[str, int] = ("", 0)  # of which recording, and up to which frame; the daemon writes it
    trigger: TriggerStatus | None = None
    commands: Commands | None = None
    astray: str = ""  # that the store's folder is away; the daemon writes it

    def stats(self) -> dict[str, int]:
        """The callback's counters; all zero without a staging file."""
        staging = self.staging
        try:
            return staging.slots.stats() if staging is not None else _NO_STATS
        except ValueError:  # closed since we looked
            return _NO_STATS

    @property
    def progress(self) -> Progress:
        """What the rotator has done."""
        return self.turn.progress if self.turn is not None else Progress()

    def renew(self, staging: Staging, turn: Turn) -> None:
        """The stream goes on in a take that has not begun."""
        self.staging, self.turn, self.recording = staging, turn, ""
        self.take = self.continues = None
        self.sample_rate = None
        self.started_wall_ns = 0
        self.heard = None

    def keep(self) -> None:
        """What was in standby is a recording from here on: what was said of it counted from elsewhere."""
        self.standby_s = self.heard = None

    @property
    def has_begun(self) -> bool:
        """Whether frames have come, be it in standby."""
        return self.started_wall_ns != 0

    @property
    def notes(self) -> list[str]:
        """What is done to the device's samples on their way, a sentence each."""
        if self.leader is None:
            return self.remarks
        return [
            *self.remarks,
            f"the device runs by the clock of {self.leader}, not by its own: PipeWire matches its rate to that by"
            " resampling, and the drift is that clock's",
        ]

    def remarked(self) -> list[str]:
        """All that is to be said of it: those notes, what may cost it frames, and commands that take long."""
        costs = [*_of_its_clock(self.stats()), *self.priority, *_of_its_memory(self.staging)]
        return [*self.notes, *self._of_storage(), *costs, *(self.commands.notes if self.commands is not None else [])]

    def _of_storage(self) -> list[str]:
        turn, stats = self.turn, self.stats()
        if turn is None or not (hangs_s := turn.hangs_for_s(time.monotonic_ns())):
            return []
        free = f"{stats['slots_free']} of {stats['slots_total']} slots are free"
        return [f"storage has not answered for {hangs_s} s: frames wait in memory, {free}"]

    @property
    def told_reason(self) -> str:
        """Why it is in its state, or that the store is away, or while storage takes nothing that, and how much waits in
        memory for it."""
        turn, staging = self.turn, self.staging
        if turn is None or staging is None or (error := turn.refused) is None:
            return self.reason or self.astray
        stats = self.stats()
        room = (stats["slots_total"] - stats["slots_free"]) * staging.form.chunk_frames
        unsealed = stats["head_frame"] - self.progress.sealed_frame
        n_frames = min(unsealed, room)  # behind a gap more has come than there is room
        number = error.details.get("errno")
        why = os.strerror(number) if number else error.message
        held_s = n_frames / (self.sample_rate or GRAPH_RATE)
        return f"cannot be written: {why}; {held_s:.0f} s in memory"

    @property
    def head_frame(self) -> int:
        return self.stats()["head_frame"]

    def format(self) -> Format:
        """What is recorded, as far as it is known."""
        if isinstance(self.asked, MidiFormat):
            return self.asked
        staging = self.staging
        channels = staging.form.channels if staging is not None else self.asked.channels
        return AudioFormat(self.sample_rate or self.asked.sample_rate, channels, self.asked.sample_format)

    def levels(self) -> list[Level]:
        """Peak and RMS of the last moments, per channel."""
        staging = self.staging
        if staging is None or self.state != "streaming":
            return []
        try:
            found = staging.slots.levels(int(LEVEL_WINDOW_S * (self.sample_rate or GRAPH_RATE)))
        except ValueError:
            return []
        return [Level(_decibels(peak), _decibels(math.sqrt(square))) for peak, square in found]

    def activity(self) -> MidiActivity | None:
        """Of a MIDI stream, what it heard lately. Whoever looks keeps it for the next look: a chunk begins empty."""
        from chaos._midi import MidiSlots  # loaded with the first stream, like all that captures

        staging = self.staging
        if staging is None or not isinstance(staging.slots, MidiSlots):
            return None
        try:
            heard = staging.slots.heard()
        except ValueError:
            heard = None
        if heard is not None:
            rate = self.sample_rate or GRAPH_RATE
            self.heard = activity_of(*heard, staging.form.chunk_frames, rate, self.heard)
        return self.heard

    def status(self) -> StreamStatus:
        progress = self.progress
        stats, staging, device, started_ns = self.stats(), self.staging, self.device, self.started_wall_ns
        return StreamStatus(
            uri=self.uri,
            state=self.state,  # type: ignore[arg-type]
            device=device.to_wire() if device is not None else None,
            format=self.format(),
            chunk_frames=staging.form.chunk_frames if staging is not None else 0,
            head_frame=stats["head_frame"],
            n_chunks_sealed=progress.n_chunks_sealed,
            n_gaps=stats["n_gaps"],
            lost_frames=stats["lost_frames"],
            overruns=stats["overruns"],
            xruns=stats["xruns"],
            callbacks=stats["callbacks"],
            slots=Slots(stats["slots_total"], stats["slots_free"], stats["slots_full"]),
            quantum=stats["quantum"],
            started_wall_ns=started_ns,
            started_utc=utc_text(started_ns) if started_ns else None,
            drift_ppm=progress.drift_ppm,
            levels=self.levels(),
            activity=self.activity(),
            recording=self.recording,
            callback_ns=self.callback_ns(stats),
            reason=self.told_reason,
            midi=self.midi(stats),
            latency=self.latency,
            signal=progress.signal,
            standby_s=self.standby_s,
            take=self.take,
            continues=self.continues,
            begins_utc=_utc(self.schedule.begins() if self.schedule is not None else None),
            trigger=self.trigger,
            ends_utc=_utc(self.schedule.ends() if self.schedule is not None else None),
            notes=self.remarked(),
            sealed_frame=progress.sealed_frame,
            uploaded_frame=self.uploaded[1] if self.uploaded[0] == self.recording != "" else None,
        )

    def midi(self, stats: dict[str, int]) -> MidiCounts | None:
        """What was counted of the events; None of audio."""
        if not isinstance(self.asked, MidiFormat):
            return None
        return MidiCounts(stats["n_events"], stats["n_at_zero"], stats["n_beyond"], self.latency)

    def callback_ns(self, stats: dict[str, int]) -> CallbackTimes:
        """What the process callback has cost so far."""
        staging = self.staging
        try:
            histogram = staging.slots.busy_histogram() if staging is not None else []
        except ValueError:  # closed since we looked
            histogram = []
        return CallbackTimes(stats["busy_ns"], stats["busy_max_ns"], histogram)


def _of_its_clock(stats: dict[str, int]) -> list[str]:
    """What is odd about the clock that the frames are counted by, a sentence each."""
    remarks = []
    if stats["stands"]:
        remarks.append("the device's clock stands still: its frames are counted by time")
    if stats["freewheeled"]:
        remarks.append("the graph ran faster or slower than time (freewheel): its moments are not those of a clock")
    if not stats["callbacks"] and stats["distrusted"] > DISTRUSTED_CYCLES:
        remarks.append("the device's clock never runs on steadily: nothing can be kept")
    return remarks


@functools.cache
def _lies_in_memory(folder: Path) -> bool:
    return file_system_of(folder) in IN_MEMORY


def _of_its_memory(staging: Staging | None) -> list[str]:
    """Why the callback might have to wait for its slots, a sentence each."""
    if staging is None:
        return []
    remarks = []
    if not _lies_in_memory(staging.path.parent):
        where = staging.path.parent
        remarks.append(f"its capture buffers are in {where}, which is not in memory: the callback may wait for it")
    if staging.is_ready and staging.locked_bytes < staging.file_bytes:
        remarks.append(
            f"{staging.locked_bytes >> 10} of {staging.file_bytes >> 10} KiB of its slots are locked into memory,"
            f" the rest may be swapped: {memlock_advice()}"
        )
    return remarks


def _utc(moment: datetime | None) -> str | None:
    return None if moment is None else utc_text(wall_ns_of(moment))


def _decibels(value: float) -> float | None:
    return 20 * math.log10(value) if value > 0 else None
