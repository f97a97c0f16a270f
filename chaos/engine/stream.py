"""A stream: one device, one capture node, one staging file, one rotator, from start to stop."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

import pykka

from chaos._connection import Connection
from chaos._link import LINK_GONE
from chaos._rt import STATES, Capture
from chaos.engine.messages import (
    Began,
    Broken,
    CaptureState,
    Finish,
    Finished,
    Follow,
    Intruder,
    LinkState,
    OfTake,
    Pairs,
    Progress,
    RetireChunks,
    Stop,
    StreamGone,
    SwitchChunk,
    Target,
    Unfollow,
    WrongRate,
    refuse,
    settle,
)
from chaos.engine.take import Take, make_take, next_take_uri
from chaos.engine.view import StreamView
from chaos.graph.devices import DeviceInfo, check_format
from chaos.protocol.config import Config
from chaos.protocol.requests import StreamStart
from chaos.system.pump import Pump
from chaos.terms.errors import ChaosError, ForeignLink, InternalError, RateMismatch
from chaos.terms.ledger import Cause, Confidence, Gap
from chaos.terms.units import parse_duration_s
from chaos.terms.uri import parse_uri

__all__ = ["InputStreamActor"]

log = logging.getLogger(__name__)

ANSWER_WITHIN_S = 5.0
RELINK_S = 0.25


class InputStreamActor(pykka.ThreadingActor):
    """Follows one device and keeps its frames coming; leaves gaps, never another device's audio.

    `Target` messages from the registry say how things stand; the actor makes its capture node, links it to the device
    whenever all ports are there, and says *waiting* while they are not. `start_future` is answered once frames come,
    at once with `wait`, or after a few seconds with the state as it then is.
    """

    use_daemon_thread = True

    def __init__(
        self,
        config: Config,
        request: StreamStart,
        view: StreamView,
        run_id: str,
        *,
        identity: str,
        pump: Pump,
        daemon: pykka.ActorRef[Any],
        registry: pykka.ActorRef[Any],
        emit: Callable[[str, dict[str, Any]], None],
        start_future: Future[Any],
    ) -> None:
        super().__init__()
        self._config = config
        self._request = request
        self._view = view
        self._run_id = run_id
        self._identity = identity
        self._pump = pump
        self._daemon = daemon
        self._registry = registry
        self._emit = emit
        self._start_future = start_future
        self._stop_futures: list[Future[Any]] = []
        self._connection: Connection | None = None
        self._capture: Capture | None = None
        self._links: Pairs = ()
        self._take: Take | None = None
        self._next: Take | None = None
        self._past: dict[int, Take] = {}
        self._last: Finished | None = None
        self._ending = False
        self._error: ChaosError | None = None

    def on_start(self) -> None:
        self._registry.tell(Follow(self.actor_ref, self._identity))
        if not self._request.wait:
            self._pump.after((self._view.uri, "answer"), ANSWER_WITHIN_S, lambda: self.actor_ref.tell(_AnswerStart()))

    def on_receive(self, message: Any) -> None:
        match message:
            case Target():
                self._on_target(message)
                if self._request.wait and not self._ending:
                    self._answer_start()
            case CaptureState(state, error):
                self._on_capture_state(STATES.get(state, "error"), error)
            case LinkState(_, state, error):
                self._on_link_state(state, error)
            case Intruder(source):
                self._tell_of_intruder(source)
            case OfTake(number, said):
                self._on_take(number, said)
            case _Roll():
                self._roll()
            case Progress(n_chunks, drift_ppm):
                self._view.n_chunks_sealed = n_chunks
                self._view.drift_ppm = drift_ppm
            case Began(definition, recording):
                self._view.sample_rate = definition.sample_rate
                self._view.started_wall_ns = definition.started_wall_ns
                self._view.recording = str(recording)
                self._answer_start()
            case WrongRate(found):
                self._on_wrong_rate(found)
            case SwitchChunk(_, future):
                if self._take is None:
                    refuse(future, InternalError("the stream has no rotator yet", hint="try again"))
                else:
                    self._take.rotator.tell(message)
            case RetireChunks():
                if self._take is not None:
                    self._take.retire(message)
            case Stop(future):
                self._stop_futures.append(future)
                self._end()
            case _AnswerStart():
                self._answer_start()
            case _Relink():
                if self._capture is not None and not self._links:
                    self._follow()
            case Finished(n_frames, error):
                self._last = message
                if not self._past:
                    self._on_finished(n_frames, error)
            case Broken(error):
                self._fail(error)
                self.stop()

    def on_failure(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        self._fail(error or InternalError("the stream failed"))

    # -- the device and the graph

    def _on_target(self, target: Target) -> None:
        if self._ending:
            return
        if target.connection is not self._connection:
            self._drop_capture()
            self._connection = target.connection
        if target.connection is None:
            self._wait("PipeWire is not running")
        elif target.device is None:
            self._wait(f"{self._identity} is away")
        else:
            try:
                self._attach(target.connection, target.device, target.pairs)
            except ChaosError as error:
                self._refuse(error)

    def _attach(self, connection: Connection, device: DeviceInfo, pairs: Pairs) -> None:
        self._take_note(device, check_format(device, self._view.format()))
        if self._take is None:
            self._take = self._make_take(device, 1)
            self._view.staging = self._take.staging
            if self._request.roll is not None:
                period_s = parse_duration_s(self._request.roll)
                self._pump.every((self._view.uri, "roll"), period_s, lambda: self.actor_ref.tell(_Roll()))
        if self._capture is None:
            self._make_capture(connection, device)
        assert self._capture is not None
        if pairs and pairs != self._links:
            self._capture.link(pairs)
            self._links = pairs

    def _take_note(self, device: DeviceInfo, notes: list[str]) -> None:
        """Says what PipeWire does to the device's samples, where that has changed in mid-take."""
        if self._view.recording and notes != self._view.notes:
            self._emit(
                "stream_notice", {"notes": notes, "sample_gain": device.sample_gain, "muted": device.muted}
            )
        self._view.device, self._view.notes = device, notes

    def _wait(self, reason: str) -> None:
        if self._capture is not None and self._links:
            self._capture.unlink()
        self._links = ()
        if self._take is not None and self._view.recording and self._view.state != "waiting":
            self._take.staging.writer.set_hint(Cause.DEVICE_AWAY)
            gap = Gap(self._view.head_frame, 0, Cause.DEVICE_AWAY, Confidence.CLOCK)
            self._emit("stream_gap", {**gap.to_wire(), "n_frames": None})
        self._say("waiting", reason)

    def _make_take(self, device: DeviceInfo, number: int, continues: str | None = None) -> Take:
        return make_take(
            self.actor_ref,
            number,
            next_take_uri(self._config.store, self._view.uri, number),
            config=self._config,
            request=self._request,
            asked=self._view.asked,
            device=device,
            run_id=self._run_id,
            pump=self._pump,
            emit=self._emit,
            continues=continues,
        )

    def _make_capture(self, connection: Connection, device: DeviceInfo) -> None:
        assert self._take is not None
        asked = self._view.asked
        name, take = parse_uri(self._view.uri)
        self._capture = Capture(
            connection,
            self._take.staging.writer,
            name=f"chaosd.{name}.{take}",
            description=f"chaosd {name}/{take}",
            positions=list(device.positions),
            sample_format=asked.sample_format,
            sample_rate=asked.sample_rate or device.sample_rate or 0,
            interleaved=asked.layout == "interleaved" or asked.sample_format != "f32",
            latency_frames=self._request.latency_frames,
        )
        self._follow()

    def _follow(self) -> None:
        assert self._capture is not None
        self._registry.tell(Follow(self.actor_ref, self._identity, self._capture.handle, self._capture.node_id))

    def _on_capture_state(self, state: str, error: str) -> None:
        if self._capture is None or self._ending:
            return
        if state == "error":
            self._say("error", error)
            return
        self._follow()
        if self._links and state != "unconnected":
            self._say(state, "")

    def _on_link_state(self, state: int, error: str) -> None:
        """Has links made anew that have gone: at once, if both their ports are still there then."""
        if state >= 0 or self._ending or not self._links:
            return
        self._links = ()
        if self._take is not None:
            self._take.staging.writer.set_hint(Cause.DEVICE_AWAY)
        if state == LINK_GONE:
            self._follow()
            return
        failed = InternalError(f"a link to {self._identity} failed: {error}", hint="it is tried again")
        self._emit("stream_error", {"error": failed.to_wire(), "recoverable": True})
        self._pump.after((self._view.uri, "relink"), RELINK_S, lambda: self.actor_ref.tell(_Relink()))

    def _tell_of_intruder(self, source: str) -> None:
        error = ForeignLink(
            f"{source} was linked to {self._view.uri}; that link was removed, and no frame kept while it was there",
            hint="what links everything to everything (a patchbay) should leave chaosd's ports alone",
        )
        self._emit("stream_error", {"error": error.to_wire(), "recoverable": True})

    def _say(self, state: str, reason: str) -> None:
        if (state, reason) != (self._view.state, self._view.reason):
            self._view.state, self._view.reason = state, reason
            self._emit("stream_state", {"state": state, "reason": reason})

    # -- takes

    def _on_take(self, number: int, said: Any) -> None:
        """What a rotator tells. The next take's has something to tell as soon as the callback has come to it."""
        if self._next is not None and number == self._next.number:
            self._settle_roll()
        if self._take is not None and number == self._take.number:
            self.on_receive(said)
        elif isinstance(said, Finished | Broken) and number in self._past:
            self._past.pop(number).close(keep_staging=said.error is not None)
            if self._last is not None and not self._past:
                self._on_finished(self._last.n_frames, self._last.error)

    def _roll(self) -> None:
        """Prepares the next take; the callback goes over to it where the device's frames have no seam."""
        device = self._view.device
        if self._ending or self._next is not None or self._capture is None or device is None:
            return
        if self._take is None or not self._take.has_begun:
            return
        try:
            self._next = self._make_take(device, self._take.number + 1, self._take.uri)
        except ChaosError as error:
            self._emit("stream_error", {"error": error.to_wire(), "recoverable": True})
            return
        self._capture.go_on_with(self._next.staging.writer)

    def _settle_roll(self) -> None:
        """Goes over to the next take, or drops it where the callback will never come to it."""
        if self._next is None or self._take is None:
            return
        old, self._next = self._next, None
        if old.has_begun:
            old, self._take = self._take, old
            self._view.staging = self._take.staging
            self._emit("stream_rolled", {"take": self._take.uri, "continues": old.uri})
        self._past[old.number] = old
        old.hush()
        old.rotator.tell(Finish(None))

    # -- begin and end

    def _answer_start(self) -> None:
        view = self._view
        self._pump.cancel((view.uri, "answer"))
        settle(
            self._start_future,
            {
                "uri": view.uri,
                "recording": view.recording,
                "device": view.device.to_wire() if view.device is not None else None,
                "format": view.format(),
                "chunk_frames": self._take.staging.chunk_frames if self._take is not None else 0,
                "state": view.state,
            },
        )

    def _on_wrong_rate(self, found: int) -> None:
        wanted = self._view.format().sample_rate
        self._refuse(
            RateMismatch(
                f"the graph runs at {found} Hz, {self._identity} at {wanted} Hz; PipeWire would resample",
                hint=f"set PipeWire's clock to {wanted} Hz (pw-metadata -n settings 0 clock.force-rate {wanted})",
                details={"wanted": wanted, "found": found},
            )
        )

    def _refuse(self, error: ChaosError) -> None:
        """Ends the stream with an error that people are told."""
        self._error = error
        if self._start_future.done():
            self._emit("stream_error", {"error": error.to_wire(), "recoverable": False})
        self._end()

    def _drop_capture(self) -> None:
        self._pump.cancel((self._view.uri, "relink"))
        if self._capture is not None:
            self._capture.close()
            self._capture = None
            self._settle_roll()
        self._links = ()

    def _end(self) -> None:
        """Detaches the callback and lets the rotator store the rest; `Finished` goes on from there."""
        if self._ending:
            return
        self._ending = True
        self._pump.cancel((self._view.uri, "answer"))
        self._drop_capture()
        end_ns = time.monotonic_ns() if self._view.state == "waiting" else None
        self._pump.cancel((self._view.uri, "roll"))
        if self._take is None:
            self._on_finished(0, None)
            return
        self._take.hush()
        self._take.rotator.tell(Finish(end_ns))

    def _on_finished(self, n_frames: int, error: BaseException | None) -> None:
        stats = self._view.stats()
        result = {
            "uri": self._view.uri,
            "recording": self._view.recording,
            "n_frames": n_frames,
            "n_chunks": self._view.n_chunks_sealed,
            "n_gaps": stats["n_gaps"],
            "lost_frames": stats["lost_frames"],
            "clean": error is None and self._error is None,
        }
        self._view.state = "stopped" if self._error is None and error is None else "error"
        self._close(keep_staging=error is not None)
        self._emit("stream_stopped", {k: v for k, v in result.items() if k != "uri"})
        if self._error is not None:
            refuse(self._start_future, self._error)
        settle(self._start_future, {**result, "state": "stopped"})
        for future in self._stop_futures:
            if error is not None:
                refuse(future, error)
            else:
                settle(future, result)
        self.stop()

    def _close(self, *, keep_staging: bool) -> None:
        self._registry.tell(Unfollow(self.actor_ref))
        self._view.staging = None
        if self._take is not None:
            self._take.close(keep_staging=keep_staging)
        self._daemon.tell(StreamGone(self._view.uri))

    def _fail(self, error: BaseException) -> None:
        """A defect of ours, or of a thread below: the stream ends; what is in staging stays there for recovery."""
        log.error("%s failed", self._view.uri, exc_info=error)
        wire = InternalError(f"the stream failed: {error}", hint="what was captured is in the recording or in staging")
        self._emit("stream_error", {"error": wire.to_wire(), "recoverable": False})
        self._pump.cancel((self._view.uri, "answer"))
        self._pump.cancel((self._view.uri, "roll"))
        self._drop_capture()
        for take in (*self._past.values(), *([self._take] if self._take else [])):
            take.hush()
            take.rotator.stop()
        for take in self._past.values():
            take.close(keep_staging=True)
        self._ending = True
        for future in (self._start_future, *self._stop_futures):
            refuse(future, wire)
        self._view.state = "error"
        self._close(keep_staging=True)


@dataclass(frozen=True, slots=True)
class _Relink:
    """A link has failed a while ago: try again."""


@dataclass(frozen=True, slots=True)
class _Roll:
    """It is time for the next take."""


@dataclass(frozen=True, slots=True)
class _AnswerStart:
    """Time is up: answer the start with what there is."""
