"""A take: one staging file, one recording, one rotator. A stream has one after the other, without a seam."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import pykka

from chaos import __version__
from chaos.engine.commands import Commands
from chaos.engine.messages import (
    ClockWasSet,
    Interrupted,
    KeepStandby,
    Linked,
    MarkFrame,
    Membership,
    OfTake,
    PortLatency,
    RetireChunks,
    Rotate,
    StoreRest,
    SwitchChunk,
    Tick,
    tell,
)
from chaos.engine.rotator import ChunkRotatorActor, RotatorPlan
from chaos.engine.turn import Turn
from chaos.graph.channels import Channel
from chaos.graph.devices import GRAPH_RATE, DeviceInfo
from chaos.protocol.config import Config
from chaos.protocol.events import Event
from chaos.protocol.requests import Format, MidiFormat, StreamStart
from chaos.staging.layout import SUFFIX, slots_for
from chaos.staging.owner import Staging
from chaos.store.about import about
from chaos.store.claims import Claim
from chaos.store.lines import Definition
from chaos.store.store import Store
from chaos.system.machine import boot_id
from chaos.system.pump import Pump
from chaos.terms.chunking import MIDI_CHUNK_S, chunk_frames, midi_chunk_bytes
from chaos.terms.formats import MIDI, RecordedFormat
from chaos.terms.uri import parse_uri

__all__ = ["Take", "make_take", "next_take_uri", "uri_by_time"]

TICK_S = 0.8  # with the checkpoint's own time, less than the second that a power cut may cost
ABANDON_WITHIN_S = 5.0

log = logging.getLogger(__name__)


class _Voice:
    """What a rotator talks to its stream through, so that the stream knows which of its takes speaks."""

    def __init__(self, stream: pykka.ActorRef[Any], number: int) -> None:
        self._stream = stream
        self._number = number

    def tell(self, message: Any) -> None:
        tell(self._stream, OfTake(self._number, message))


@dataclass
class Take:
    """Alive until `close`. `listen` lets the rotator work, `hush` ends that; both may be called twice. `claim` keeps
    others from the URI of one that the stream has rolled into; that of the first is the stream's."""

    number: int
    uri: str
    channels: tuple[Channel, ...]
    staging: Staging
    rotator: pykka.ActorRef[Any]
    wake: int
    pump: Pump
    turn: Turn
    claim: Claim | None = None

    def listen(self) -> None:
        rotator = self.rotator
        self.pump.watch(self.wake, lambda: tell(rotator, Rotate()), is_eventfd=True)
        self.pump.every(("tick", self.staging.path), TICK_S, self._tick)
        self.pump.on_clock_set(("clock", self.staging.path), lambda: tell(rotator, ClockWasSet()))

    def _tick(self) -> None:
        tell(self.rotator, Tick())
        self.turn.look(time.monotonic_ns())

    def hush(self) -> None:
        if self.wake >= 0:
            self.pump.unwatch(self.wake)
        self.pump.cancel(("tick", self.staging.path))
        self.pump.forget_clock(("clock", self.staging.path))

    def tell(
        self, message: Interrupted | KeepStandby | Linked | MarkFrame | PortLatency | RetireChunks | SwitchChunk
    ) -> bool:
        """Passes it on to the rotator; False if that has ended."""
        return tell(self.rotator, message)

    def store_rest(self, end_ns: int | None) -> None:
        """Has the rotator store what there is and end; it tells `Stored`."""
        self.hush()
        tell(self.rotator, StoreRest(end_ns))

    def abandon(self) -> None:
        """Ends the rotator as it is. What is in staging stays there, and where the rotator hangs in storage it stays
        open as well."""
        self.hush()
        try:
            self.rotator.stop(timeout=ABANDON_WITHIN_S)
        except pykka.Timeout:
            log.error("the rotator of %s hangs; its staging file is left as it is", self.uri)
            return
        self.close(keep_staging=True)

    @property
    def has_begun(self) -> bool:
        """Whether the callback has come to this take."""
        return self.staging.slots.stats()["first_ns"] != 0

    def close(self, *, keep_staging: bool) -> None:
        self.hush()
        self.staging.close(remove=not keep_staging)
        if self.claim is not None:
            self.claim.close()
        if self.wake >= 0:
            os.close(self.wake)
            self.wake = -1


def next_take_uri(stream_uri: str, number: int, is_free: Callable[[str], bool]) -> str:
    """The URI of a stream's `number`-th take (from 2), or of a later one where that is taken."""
    while not is_free(uri := f"{stream_uri}.{number:04}"):
        number += 1
    return uri


def uri_by_time(stream_uri: str, former: str, now: datetime, is_free: Callable[[str], bool]) -> str:
    """The URI of a stream's take that begins `now` (UTC), to the nearest second, after the take `former`: by that time,
    or a later second where that is taken, or would come before `former` as somebody has set the clock."""
    moment = now + timedelta(seconds=0.5)
    number = former.removeprefix(stream_uri).removeprefix(".")
    while f"{moment:%Y%m%d%H%M%S}" <= number or not is_free(uri := f"{stream_uri}.{moment:%Y%m%d%H%M%S}"):
        moment += timedelta(seconds=1)
    return uri


class _Shape(NamedTuple):
    """What a take holds. `sample_rate` is 0 where only the graph will tell."""

    sample_format: RecordedFormat
    sample_rate: int
    chunk_frames: int
    positions: list[str]
    chunk_bytes: int | None = None


def _shape_of(asked: Format, request: StreamStart, device: DeviceInfo, channels: tuple[Channel, ...]) -> _Shape:
    if isinstance(asked, MidiFormat):
        return _Shape(MIDI, 0, MIDI_CHUNK_S * GRAPH_RATE, [], midi_chunk_bytes(request.chunk_size_bytes))
    rate = asked.sample_rate or device.sample_rate or 0
    per_chunk = chunk_frames(
        request.chunk_size_bytes,
        channels=len(channels),
        sample_rate=rate or GRAPH_RATE,
        sample_format=asked.sample_format,
    )
    positions = [channel.name for channel in channels]
    return _Shape(asked.sample_format, rate, per_chunk, positions)  # type: ignore[arg-type]


def make_take(
    stream: pykka.ActorRef[Any],
    number: int,
    uri: str,
    *,
    config: Config,
    request: StreamStart,
    asked: Format,
    device: DeviceInfo,
    channels: tuple[Channel, ...],
    run_id: str,
    pump: Pump,
    emit: Callable[[Event], None],
    continues: str | None = None,
    after_change: str | None = None,
    member: Membership | None = None,
    standby_s: float | None = None,
    commands: Commands | None = None,
    claim: Claim | None = None,
) -> Take:
    """Slots for these channels of the device, as the request has it, and a rotator that listens to them.

    `continues` is the URI of the take whose last frame is the neighbour of this one's first, `after_change` that of the
    one before, of another format, `member` the session that the stream belongs to. With `standby_s` it holds so much,
    and is not a recording yet.

    Raises StagingFull, StorageFailed, InvalidChunkSize.
    """
    shape = _shape_of(asked, request, device, channels)
    rate, per_chunk = shape.sample_rate, shape.chunk_frames
    store = Store(config.store)
    name, take = parse_uri(uri)
    path = config.staging_dir / f"{name}~{take}.{os.urandom(4).hex()}{SUFFIX}"
    definition = Definition(
        uri=uri,
        channels=len(channels),
        sample_rate=rate or GRAPH_RATE,
        sample_format=shape.sample_format,
        chunk_frames=per_chunk,
        device={**device.to_wire(), "captured_channels": [channel.number for channel in channels]},
        positions=shape.positions,
        started_wall_ns=0,
        started_monotonic_ns=0,
        software=f"chaosd {__version__}",
        run_id=run_id,
        staging=str(path),
        external=request.chunk_path is not None,
        boot_id=boot_id(),
        keep=request.keep,
        continues=continues,
        after_change=after_change,
        session=member.session if member is not None else None,
        session_uris=list(member.uris) if member is not None else [],
        chunk_bytes=shape.chunk_bytes,
        clock_errors=True,
        overview=shape.chunk_bytes is None and request.chunk_path is None,
    )
    n_slots = slots_for(request.staging_seconds or config.staging_seconds, per_chunk, rate or GRAPH_RATE)
    if standby_s is not None:  # held beside those that ride out a slow disk
        n_slots += slots_for(standby_s, per_chunk, rate or GRAPH_RATE)
    wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
    try:
        staging = Staging(
            path,
            uri=uri,
            recording="",
            run_id=run_id,
            form=definition.form,
            n_slots=n_slots,
            sample_rate=rate,
            wake_fd=wake,
            about=about(definition, store, by_level=request.trigger is not None),
            behind=True,
        )
    except BaseException:
        os.close(wake)
        raise
    chunk_path = Path(request.chunk_path) if request.chunk_path else None
    plan = RotatorPlan(store, definition, emit, chunk_path, config.free_margin_bytes, standby_s=standby_s)
    plan = replace(plan, commands=commands, levels=request.trigger)
    plan = replace(plan, silent_below_dbfs=request.silent_below_dbfs, silent_after_s=request.silent_after_s)
    turn = Turn(staging, config.store, emit)
    rotator = ChunkRotatorActor.start(_Voice(stream, number), staging, plan, turn)
    made = Take(number, uri, channels, staging, rotator, wake, pump, turn, claim)
    made.listen()
    return made
