"""What feeds a stream: its capture node in PipeWire's graph, the links from the device to it, and their state."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import pykka

from chaos._capture import Capture
from chaos._connection import Connection
from chaos._link import LINK_ACTIVE, LINK_GONE
from chaos._rt import STATES
from chaos._slots import Slots
from chaos.engine.messages import (
    Flow,
    Follow,
    Interrupted,
    Linked,
    Pairs,
    PortLatency,
    Relink,
    SettleLatency,
    Unfollow,
    Wanted,
    tell,
)
from chaos.engine.take import Take
from chaos.engine.view import StreamView
from chaos.graph.channels import Channel
from chaos.graph.devices import DeviceInfo
from chaos.protocol import events
from chaos.protocol.requests import MidiFormat, StreamStart
from chaos.system.pump import Pump
from chaos.terms.errors import ForeignLink, InternalError
from chaos.terms.latency import Latency
from chaos.terms.ledger import Cause, Confidence
from chaos.terms.marks import MAX_LABEL
from chaos.terms.uri import parse_uri

__all__ = ["Feed"]

RELINK_S = 0.25
LATENCY_HOLDS_S = 0.25


class Feed:
    """Belongs to one stream's actor. It has one capture at a time, on one connection, and says how that stands."""

    def __init__(
        self,
        stream: pykka.ActorRef[Any],
        view: StreamView,
        request: StreamStart,
        *,
        wanted: Wanted,
        pump: Pump,
        registry: pykka.ActorRef[Any],
        emit: Callable[[events.Event], None],
    ) -> None:
        self._stream = stream
        self._view = view
        self._request = request
        self._wanted = wanted
        self._channels: tuple[Channel, ...] = ()
        self._pump = pump
        self._registry = registry
        self._emit = emit
        self._connection: Connection | None = None
        self._capture: Capture | None = None
        self._node = "unconnected"  # what it was last told to be
        self._links: Pairs = ()
        self._doubted: int | None = None  # the node that was linked last: a doubt is told once of each
        self._active: set[int] = set()  # which of them PipeWire has made
        self._latencies: dict[int, Latency] = {}  # what each port was told last
        self._is_held = False  # whether it is *waiting* since its first frame is not due yet

    @property
    def is_open(self) -> bool:
        return self._capture is not None

    def is_on(self, connection: Connection | None) -> bool:
        return connection is self._connection

    def follow_channels(self, channels: tuple[Channel, ...]) -> None:
        """From now on these are recorded; asks how things stand for them."""
        self._channels = channels
        self.follow()

    def accept_port_change(self) -> None:
        """From now on the device is the same at any port; asks how things stand."""
        n_accepted = self._wanted.n_accepted + 1
        self._wanted = msgspec.structs.replace(self._wanted, accept_port_change=True, n_accepted=n_accepted)
        self.follow()

    def follow(self) -> None:
        """Has the registry tell how things stand, now and whenever that changes."""
        capture = self._capture
        handle, node_id = (None, None) if capture is None else (capture.handle, capture.node_id)
        tell(self._registry, Follow(self._stream, self._wanted, self._channels, handle, node_id))

    def attach(self, connection: Connection, device: DeviceInfo, pairs: Pairs, take: Take, doubt: str = "") -> None:
        """The device is there: makes the node if there is none, and these links; without any it waits for ports. Where
        there is a `doubt` that it is the same as before, the recording has that as a mark at its first frame.

        Raises as `Capture`.
        """
        if self._capture is None:
            self._capture = self._open(connection, device, take)
            self._connection = connection
            self._view.trace.note("node_made")
            self.follow_channels(take.channels)
        if pairs and pairs != self._links:
            take.staging.slots.set_own_clock(device.node_id if self._request.require_own_clock else 0)
            self._capture.link(pairs)
            self._links = pairs
            self._view.trace.note("links_asked")
            self._active.clear()
            is_news = doubt and self._view.has_begun and device.object_serial != self._doubted
            self._doubted = device.object_serial
            take.tell(Linked(f"from here: {doubt}"[:MAX_LABEL] if is_news else ""))

    def stand_by(self, reason: str, take: Take | None, cause: Cause = Cause.DEVICE_AWAY) -> None:
        """The device is away, or is not what is recorded, or PipeWire or our own node is not there."""
        if self._capture is not None and self._links:
            self._capture.unlink()
        self._links = ()
        self.pause(reason, take, cause)

    def pause(self, reason: str, take: Take | None, cause: Cause = Cause.DEVICE_AWAY) -> None:
        """Says *waiting*, and why; links stay as they are."""
        if take is not None and self._view.has_begun and self._view.state != "waiting":
            take.staging.slots.set_hint(cause)
            take.tell(Interrupted(cause, Confidence.CLOCK))
        self._say("waiting", reason)

    def hold(self, reason: str) -> None:
        """Says *waiting* of a device that is linked, and whose first frame is not due yet."""
        if self._links and self._view.state != "error":
            self._say("waiting", reason, is_held=True)

    def on_flow(self, flow: Flow, take: Take | None) -> None:
        """Says *stalled* where the device is linked and no frame comes, and *streaming* when they come again."""
        if not self._links or take is None:
            return
        if flow.flows and self._view.state != "error":
            self._say("streaming", "")
        elif not flow.flows and (self._is_held or self._view.state not in ("waiting", "error")):
            self._say("stalled", flow.reason)

    def retry(self) -> None:
        """Asks again how things stand, a little later."""
        self._pump.after((self._view.uri, "relink"), RELINK_S, lambda: tell(self._stream, Relink()))

    def on_capture_state(self, number: int, error: str) -> None:
        state = STATES.get(number, "error")
        if self._capture is None:
            return
        self._node = state
        if state == "error":
            self._say("error", error)
            return
        self.follow()
        if self._links and state != "unconnected" and self._view.state != "stalled":
            self._say(state, "")

    def on_link_state(self, index: int, state: int, error: str, take: Take | None) -> None:
        """Says *streaming* once all are made, where the node has been so all along: since PipeWire 1.6 it stays so
        without links. Has links made anew that have gone: at once, if both their ports are still there then."""
        if not self._links:
            return
        if state == LINK_ACTIVE:
            self._active.add(index)
            if len(self._active) == len(self._links):
                self._look_at_latency(take)
                if self._node == "streaming":
                    self._say("streaming", "")
        if state >= 0:
            return
        self._links = ()
        if take is not None:
            take.staging.slots.set_hint(Cause.DEVICE_AWAY)
        if state == LINK_GONE:
            self.follow()
            return
        failed = InternalError(f"a link to {self._wanted.identity} failed: {error}", hint="chaosd will try again")
        self._emit(events.StreamError.of(failed, recoverable=True))
        self.retry()

    def on_port_latency(self, port: int, latency: Latency, take: Take | None) -> None:
        """A port was told how late the device is: all of them are as late as the latest."""
        self._latencies[port] = latency
        self._look_at_latency(take)

    def settle_latency(self, take: Take | None) -> None:
        """It was told some time ago that the device isn't late any more: so it is, if its links stand."""
        if self._latencies and self._links and len(self._active) == len(self._links):
            self._take_latency(Latency.largest(self._latencies.values()), take)

    def relink(self) -> None:
        if not self._links:
            self.follow()

    def on_intruder(self, source: str) -> None:
        error = ForeignLink(
            f"{source} was linked to {self._view.uri}; that link was removed, and no frame kept while it was there",
            hint="what links everything to everything (a patchbay) should leave chaosd's ports alone",
        )
        self._emit(events.StreamError.of(error, recoverable=True))

    def go_on_with(self, following: Slots) -> None:
        """See `Capture.go_on_with`."""
        assert self._capture is not None
        self._capture.go_on_with(following)

    def detach(self) -> None:
        """Takes the node out of the graph: the callback has run for the last time."""
        for timer in ("relink", "latency"):
            self._pump.cancel((self._view.uri, timer))
        self._latencies.clear()
        if self._capture is not None:
            self._capture.close()
        self._capture = self._connection = None
        self._links = ()
        self._node = "unconnected"

    def close(self) -> None:
        """Detaches for good."""
        self.detach()
        tell(self._registry, Unfollow(self._stream))

    def _look_at_latency(self, take: Take | None) -> None:
        """Not late at all: that is also what a port is told whose link has gone, before the link itself says so."""
        latest = Latency.largest(self._latencies.values())
        if latest.is_late:
            self._take_latency(latest, take)
        elif self._view.latency is not None and self._view.latency.is_late:
            settle = SettleLatency()
            self._pump.after((self._view.uri, "latency"), LATENCY_HOLDS_S, lambda: tell(self._stream, settle))

    def _take_latency(self, latency: Latency, take: Take | None) -> None:
        if latency != self._view.latency:
            self._view.latency = latency
            if take is not None:
                take.tell(PortLatency(latency))

    def _open(self, connection: Connection, device: DeviceInfo, take: Take) -> Capture:
        asked = self._view.asked
        name, number = parse_uri(self._view.uri)
        node, label = f"chaosd.{name}.{number}", f"chaosd {name}/{number}"
        positions, latency = [channel.name for channel in take.channels], self._request.latency_frames
        if isinstance(asked, MidiFormat):
            return Capture(
                connection,
                take.staging.slots,
                name=node,
                description=label,
                positions=positions,
                latency_frames=latency,
            )
        return Capture(
            connection,
            take.staging.slots,
            name=node,
            description=label,
            positions=positions,
            sample_format=asked.sample_format,
            sample_rate=asked.sample_rate or device.sample_rate or 0,
            interleaved=asked.layout == "interleaved",
            latency_frames=latency,
        )

    def _say(self, state: str, reason: str, *, is_held: bool = False) -> None:
        self._is_held = is_held
        if (state, reason) != (self._view.state, self._view.reason):
            self._view.trace.note(state)
            self._view.state, self._view.reason = state, reason
            self._emit(events.StreamState(state=state, reason=reason))
