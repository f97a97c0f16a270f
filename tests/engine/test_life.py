"""The life of a stream: every message in every state does what the table says, and whoever asks is answered once."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any
from unittest import mock

import msgspec
import pytest
from lone import CYCLE, URI, LoneStream, microphone
from world import audio_format

from chaos._link import LINK_ACTIVE, LINK_GONE
from chaos.engine import messages as m
from chaos.engine.gate import Gate
from chaos.engine.life import TRANSITIONS, Life, may_lead_to
from chaos.engine.stream import HELD
from chaos.graph.channels import find_ports
from chaos.store.claims import Claim
from chaos.store.info import load
from chaos.store.store import Store
from chaos.terms.errors import (
    ChannelsMismatch,
    ChaosError,
    FormatUnsupported,
    InternalError,
    PipeWireUnavailable,
    StreamExists,
    StreamNotFound,
)
from chaos.terms.latency import Latency


@pytest.fixture
def stream(folder: Path) -> Iterator[LoneStream]:
    lone = LoneStream(folder)
    yield lone
    lone.close()


def bring_to(stream: LoneStream, life: Life) -> None:
    """The way a stream comes to stand there."""
    if life is Life.SEEKING:
        return
    stream.plug()
    stream.run(4)
    stream.take_in(m.Began)
    if life is Life.ROLLING:
        stream.give(m.Roll())
    if life in (Life.STORING, Life.ENDED):
        stream.give(m.Stop(Future()))
    if life is Life.ENDED:
        stream.take_in(m.Stored)
    assert stream.life is life


def message_of(kind: type, stream: LoneStream) -> Any:
    """One such message, as it would come."""
    device = microphone()
    made: dict[type, Callable[[], Any]] = {
        m.Target: lambda: m.Target(stream.connection, device, ()),
        m.CaptureState: lambda: m.CaptureState(3, ""),
        m.LinkState: lambda: m.LinkState(0, -2, "gone"),
        m.SettleLatency: m.SettleLatency,
        m.PortLatency: lambda: m.PortLatency(Latency(1.0, 0, 0)),
        m.Intruder: lambda: m.Intruder("loud"),
        m.SwitchChunk: lambda: m.SwitchChunk(Path("/nowhere/1"), Future()),
        m.MarkFrame: lambda: m.MarkFrame("here", None, Future()),
        m.KeepStandby: lambda: m.KeepStandby(Future()),
        m.RetireChunks: lambda: m.RetireChunks([], []),
        m.Stop: lambda: m.Stop(Future()),
        m.AcceptPort: lambda: m.AcceptPort(Future()),
        m.Began: lambda: m.Began(stream.definition, Path("/nowhere")),
        m.Triggered: lambda: m.Triggered(1, "stream://lone/1-a", "/nowhere"),
        m.WrongRate: lambda: m.WrongRate(44100),
        m.Driven: lambda: m.Driven(0, 5),
        m.Led: lambda: m.Led(1, 0, "loud"),
        m.WrongClock: lambda: m.WrongClock(5),
        m.Flow: lambda: m.Flow(False, "nothing comes"),
        m.Stored: lambda: m.Stored(5, None),
        m.Broken: lambda: m.Broken(RuntimeError("as a test has it")),
    }
    return made[kind]() if kind in made else kind()


WALK = [(life, kind) for kind in TRANSITIONS for life in Life]
OF_TAKES = (m.Began, m.Triggered, m.WrongRate, m.Flow, m.Stored, m.Broken)


@pytest.mark.parametrize(("life", "kind"), WALK, ids=lambda value: getattr(value, "value", None) or value.__name__)
def test_every_message_in_every_life(stream: LoneStream, life: Life, kind: type) -> None:
    bring_to(stream, life)
    if kind is m.Rolled:
        return  # it comes with the next take's first message: test_a_roll_is_settled_by_the_next_takes_voice
    if kind is m.PastStored:
        return  # so does a past take's: test_a_past_take_holds_the_end_up
    before = dict(vars(stream.view))
    message = message_of(kind, stream)
    is_of_take = kind in OF_TAKES and stream.actor._takes.current is not None
    stream.give(m.OfTake(1, message) if is_of_take else message)
    allowed = may_lead_to(message, life)
    assert stream.life in (allowed or {life})
    if not allowed:
        assert vars(stream.view) == before
    if life is Life.ENDED:
        assert stream.life is Life.ENDED
    future = getattr(message, "future", None)
    if future is not None:
        settle_end(stream)
        rotator = stream.actor._takes.current
        if rotator is not None:
            rotator.rotator.stop()
        assert future.done()
    assert stream.life is not Life.ENDED or stream.start.done()


def settle_end(stream: LoneStream) -> None:
    while stream.life is Life.STORING:
        stream.take_in(m.Stored)


def test_the_table_names_every_message_that_a_stream_gets() -> None:
    """Also that no life is left out by mistake: what asks for an answer counts everywhere."""
    for kind, lives in TRANSITIONS.items():
        assert lives, kind
        if "future" in getattr(kind, "__struct_fields__", ()):
            assert set(lives) == set(Life), kind
    for lives in TRANSITIONS.values():
        assert lives.get(Life.ENDED, frozenset()) <= {Life.ENDED}


def test_a_roll_is_settled_by_the_next_takes_voice(stream: LoneStream) -> None:
    bring_to(stream, Life.ROLLING)
    stream.run(3)
    while stream.life is Life.ROLLING:
        stream.take_in(object)
    assert stream.life is Life.CAPTURING
    assert stream.view.staging is stream.actor._takes.current.staging  # type: ignore[union-attr]
    stream.take_in(m.Stored)
    asked: Future[Any] = Future()
    stream.give(m.Stop(asked))
    stream.take_in(m.Stored)
    assert asked.result().clean is True


def test_a_past_take_holds_the_end_up(stream: LoneStream) -> None:
    bring_to(stream, Life.ROLLING)
    asked: Future[Any] = Future()
    stream.give(m.Stop(asked))
    assert stream.life is Life.STORING
    stream.take_in(m.Stored)
    assert not asked.done()
    stream.take_in(m.Stored)
    assert asked.result().n_frames == 4 * 256
    assert stream.life is Life.ENDED


def test_each_stop_is_answered_with_the_same_end(stream: LoneStream) -> None:
    """Also those that come while the first one works, and after it."""
    bring_to(stream, Life.CAPTURING)
    asked: list[Future[Any]] = [Future() for _ in range(5)]
    for future in asked[:3]:
        stream.give(m.Stop(future))
    stream.take_in(m.Stored)
    for future in asked[3:]:
        stream.give(m.Stop(future))
    assert {str(future.result(0)) for future in asked} == {str(asked[0].result(0))}
    assert asked[0].result().clean is True
    assert len(stream.daemon.of(m.StreamGone)) == 1


def test_a_switch_while_it_stops_is_refused(stream: LoneStream) -> None:
    bring_to(stream, Life.STORING)
    for _ in range(2):
        switch = m.SwitchChunk(Path("/nowhere/1"), Future())
        stream.give(switch)
        assert isinstance(switch.future.exception(0), StreamNotFound)
        settle_end(stream)


def test_a_defect_of_ours_ends_the_stream_and_answers_everybody(
    stream: LoneStream, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("a defect")

    stream.plug()
    monkeypatch.setattr(stream.actor, "_on_target", fail)
    stream.plug()
    assert stream.life is Life.ENDED
    with pytest.raises(InternalError, match="a defect"):
        stream.start.result(0)
    asked: Future[Any] = Future()
    stream.give(m.Stop(asked))
    assert isinstance(asked.exception(0), ChaosError)
    assert len(stream.daemon.of(m.StreamGone)) == 1


def test_a_rotator_that_fails_ends_the_stream(stream: LoneStream) -> None:
    bring_to(stream, Life.CAPTURING)
    take = stream.actor._takes.current
    assert take is not None
    switch = m.SwitchChunk(Path("/nowhere/1"), Future())
    take.rotator.tell(m.RetireChunks(None, None))  # type: ignore[arg-type]
    take.rotator.tell(switch)
    broken = stream.take_in(m.Broken)
    assert isinstance(broken.error, Exception)
    assert stream.life is Life.ENDED
    assert isinstance(switch.future.exception(1), ChaosError)


def test_the_answer_to_a_start_tells_what_there_is(stream: LoneStream) -> None:
    stream.actor.on_start()
    assert not stream.start.done()
    stream.pump.timers[stream.view.uri, "answer"]()
    stream.take_in(m.AnswerStart)
    assert stream.start.result(0).state == "connecting"


def test_a_start_that_waits_is_answered_at_once(folder: Path) -> None:
    stream = LoneStream(folder, wait=True)
    stream.unplug()
    assert stream.start.result(0).state == "waiting"
    assert stream.view.reason == "name:mic is away"
    stream.close()


# -- what the device does in mid-take


def running(folder: Path, **request: Any) -> LoneStream:
    stream = LoneStream(folder, **request)
    bring_to(stream, Life.CAPTURING)
    stream.give(m.CaptureState(3, ""))
    assert stream.view.state == "streaming"
    return stream


def tick_of(stream: LoneStream) -> Callable[[], object]:
    take = stream.actor._takes.current
    assert take is not None
    return stream.pump.timers["tick", take.staging.path]


def await_rotator(stream: LoneStream) -> None:
    """Comes back when it has heard all that it was told."""
    marked: Future[Any] = Future()
    stream.give(m.MarkFrame("here", 0, marked))
    marked.result(10)


def unlinked(stream: LoneStream, device: Any) -> m.Target:
    """What the registry tells of a device whose channels are others."""
    return m.Target(stream.connection, device, ())


def test_another_shape_is_waited_out(folder: Path) -> None:
    """A headset that takes a call: one channel at 16 kHz, and back."""
    stream = running(folder)
    mono = microphone(names=("MONO",), params={3: (audio_format(16000, channels=1),)})
    stream.give(unlinked(stream, mono))
    assert (stream.life, stream.view.state) == (Life.CAPTURING, "waiting")
    assert "MONO" in stream.view.reason
    assert stream.capture.links == ()
    stream.plug()
    stream.give(m.CaptureState(3, ""))
    assert stream.view.state == "streaming"
    assert len(stream.capture.links) == 2
    stream.close()


def test_another_rate_is_waited_out(folder: Path) -> None:
    stream = running(folder)
    stream.plug(microphone(params={3: (audio_format(16000),)}))
    assert (stream.life, stream.view.state) == (Life.CAPTURING, "waiting")
    assert "16000 Hz" in stream.view.reason
    stream.give(m.OfTake(1, m.WrongRate(44100)))
    assert "44100 Hz" in stream.view.reason
    stream.close()


def test_another_shape_before_the_first_frame_is_refused(folder: Path) -> None:
    stream = LoneStream(folder, channel_map=["LFE"])
    stream.plug()
    with pytest.raises(ChannelsMismatch, match="no channel LFE"):
        stream.start.result(0)
    assert stream.life is Life.ENDED
    stream.close()


def test_a_capture_that_cannot_be_made_is_a_clear_refusal(folder: Path) -> None:
    """Once the first take is there already."""
    stream = LoneStream(folder)
    with mock.patch("chaos.engine.feed.Capture", side_effect=FormatUnsupported("too many channels")):
        stream.plug()
    settle_end(stream)
    with pytest.raises(FormatUnsupported):
        stream.start.result(0)
    stream.close()


def test_the_next_take_has_a_name_that_nobody_else_is_about_to_take(folder: Path) -> None:
    store = Store(folder / "store")
    stream = running(folder, roll="1h")
    other = Claim(store, f"{URI}.0002")
    stream.give(m.Roll())
    following = stream.actor._takes.following
    assert following is not None
    assert following.uri == f"{URI}.0003"
    other.close()
    with pytest.raises(StreamExists):
        Claim(store, following.uri)
    stream.run(2)
    stream.take_in(m.Stored)
    stream.stop()
    Claim(store, f"{URI}.0003").close()
    assert sorted(path.name for path in (store.root / "recordings/mic").iterdir()) == ["1.0003.zarr", "1.zarr"]
    stream.close()


def test_another_shape_is_recorded_in_a_new_take_where_that_was_asked_for(folder: Path) -> None:
    stream = running(folder, roll_on_format_change=True)
    first = stream.actor._takes.current
    assert first is not None
    mono = microphone(names=("MONO",))
    stream.give(unlinked(stream, mono))
    take = stream.actor._takes.current
    assert take is not None
    assert (take.number, [channel.name for channel in take.channels]) == (2, ["MONO"])
    assert (stream.life, stream.view.recording) == (Life.CAPTURING, "")
    stream.give(unlinked(stream, mono))  # what the registry had on its way before it knew of the new take
    assert stream.life is Life.CAPTURING
    stream.plug(mono)
    assert stream.capture.options["positions"] == ["MONO"]
    stream.run(4)
    stream.take_in(m.Stored)
    while not stream.view.recording:
        stream.take_in(object)
    asked: Future[Any] = Future()
    stream.give(m.Stop(asked))
    stream.take_in(m.Stored)
    ended = asked.result(0)
    assert (ended.clean, ended.total.n_takes) == (True, 2)
    assert ended.total.n_frames == ended.n_frames + load(folder / "store/recordings/mic/1.zarr").n_frames
    recordings = sorted(path.name for path in (folder / "store" / "recordings" / "mic").iterdir())
    assert recordings == ["1.0002.zarr", "1.zarr"]
    info = load(folder / "store" / "recordings" / "mic" / "1.0002.zarr")
    assert (info.definition.channels, info.definition.positions, info.definition.continues) == (1, ["MONO"], None)
    assert info.definition.after_change == "stream://mic/1"
    stream.close()


def test_swapped_channels_are_linked_by_their_names(folder: Path) -> None:
    stream = running(folder)
    take = stream.actor._takes.current
    assert take is not None
    assert [port.channel for port in find_ports(take.channels, microphone(names=("FR", "FL")).ports)] == ["FL", "FR"]
    stream.close()


def test_chosen_channels_are_recorded_and_named(folder: Path) -> None:
    stream = LoneStream(folder, channel_map=["AUX2", "1"])
    device = microphone(channels=3)
    stream.plug(device)
    assert stream.capture.options["positions"] == ["AUX2", "FL"]
    stream.run(4)
    began = stream.take_in(m.Began)
    assert began.definition.positions == ["AUX2", "FL"]
    assert began.definition.device["captured_channels"] == [3, 1]
    assert began.definition.device["format"]["positions"] == ["FL", "FR", "AUX2"]
    stream.close()


def test_whose_clock_drives_the_device_is_told_and_marked_while_it_does(folder: Path) -> None:
    stream = running(folder)
    stream.give(m.OfTake(1, m.Driven(0, 7)))
    asked = stream.registry.of(m.AskDevices)[-1]
    with mock.patch("chaos.engine.take.Take.tell") as told:
        for frame, leader in ((0, None), (512, "loud"), (512, "loud"), (768, None)):
            stream.give(m.Led(1, frame, leader))
        stream.give(m.Led(2, 900, "loud"))
    assert asked.question(mock.Mock(leader_of=lambda device, clock_id: f"{device.name} by {clock_id}")) == "mic by 7"
    marks = [(call.args[0].frame, call.args[0].label) for call in told.call_args_list]
    assert marks == [(512, "resampled from here: runs by the clock of loud"), (768, "by its own clock from here")]
    assert "by the clock of loud" in stream.view.status().notes[0]
    stream.close()


@pytest.mark.parametrize("n_missing", [0, 3])
def test_a_doubt_whose_audio_it_is_is_told_and_marked_at_its_first_frame(folder: Path, n_missing: int) -> None:
    """Once, however often that node is linked; and also where its first frame is the very next one."""
    stream = running(folder)
    stream.catch_up()
    end = stream.actor._takes.current.staging.slots.stats()["head_frame"]  # type: ignore[union-attr]
    stream.unplug()
    stream.catch_up()
    device = microphone()
    device = msgspec.structs.replace(device, object_serial=device.object_serial + 100)
    pairs = tuple((device.node_id, port.id, 99, 200 + k, port.serial + 100) for k, port in enumerate(device.ports))
    ports = tuple(msgspec.structs.replace(port, serial=port.serial + 100) for port in device.ports)
    device = msgspec.structs.replace(device, ports=ports)
    doubt = "it may be another device than before"
    stream.give(m.Target(stream.connection, device, pairs, doubt=doubt))
    stream.catch_up()
    stream.capture._position += n_missing * CYCLE
    stream.run(4)
    stream.catch_up()
    stream.give(m.Target(stream.connection, device, (), doubt=doubt))
    stream.give(m.Target(stream.connection, device, pairs, doubt=doubt))
    stream.run(4)
    stream.catch_up()
    assert doubt in stream.view.status().notes
    told = []
    while not stream.events.empty():
        told.append(stream.events.get())
    marks = [(fields["frame"], fields["label"]) for kind, fields in told if kind == "stream_mark"]
    assert marks == [(end + n_missing * CYCLE, f"from here: {doubt}")]
    assert [kind for kind, fields in told if kind == "stream_notice" and doubt in fields["notes"]] == ["stream_notice"]
    stream.stop()
    assert [mark.frame for mark in load(Store(folder / "store").path(URI)).marks] == [end + n_missing * CYCLE]
    stream.close()


def test_a_port_that_is_not_late_any_more_is_believed_while_its_links_stand(folder: Path) -> None:
    """PipeWire tells the same of one whose link has gone, and that first."""
    stream, late, none = running(folder), Latency(0.0, 64, 0), Latency(0.0, 0, 0)
    timer = (stream.view.uri, "latency")

    def settled() -> Latency | None:
        stream.give(m.SettleLatency())
        return stream.view.latency

    assert settled() is None
    for port, latency in ((0, late), (1, none)):
        stream.give(m.PortLatency(latency, port))
    assert (stream.view.status().latency, timer in stream.pump.timers) == (late, False)
    stream.give(m.PortLatency(none))
    assert timer in stream.pump.timers
    assert settled() == late
    for port in range(2):
        stream.give(m.LinkState(port, LINK_ACTIVE, ""))
    assert settled() == none
    stream.close()


def test_another_clock_is_waited_out_where_only_its_own_will_do(folder: Path) -> None:
    stream = running(folder, require_own_clock=True)
    stream.give(m.OfTake(1, m.WrongClock(7)))
    assert (stream.life, stream.view.state) == (Life.CAPTURING, "waiting")
    assert "by the clock of node 7" in stream.view.reason
    stream.give(m.OfTake(1, m.Flow(True)))
    assert stream.view.state == "streaming"
    stream.close()


def test_a_stall_is_told_and_its_end_too(folder: Path) -> None:
    stream = running(folder)
    stalls, flows = m.OfTake(1, m.Flow(False, "no cycle")), m.OfTake(1, m.Flow(True))
    stream.give(stalls)
    assert (stream.view.state, stream.view.reason) == ("stalled", "no cycle")
    stream.give(m.CaptureState(3, ""))
    assert stream.view.state == "stalled", "its node runs, but no frame comes"
    stream.give(flows)
    assert (stream.view.state, stream.view.reason) == ("streaming", "")
    stream.unplug()
    stream.give(stalls)
    assert stream.view.state == "waiting"
    stream.close()


def test_before_its_session_begins_a_stream_waits_and_after_that_it_may_stall(folder: Path) -> None:
    stream, gate = LoneStream(folder), Gate()
    stream.actor._member = m.Membership("jam", (stream.view.uri, "stream://other/jam"), gate)
    stream.plug()
    stalls = m.OfTake(1, m.Flow(False, "no frame"))
    stream.give(stalls)
    assert (stream.view.state, stream.view.reason) == ("waiting", HELD)
    assert not stream.start.done()
    gate.open_at(time.monotonic_ns())
    stream.give(stalls)
    assert stream.view.state == "waiting", "its first frame has a second"
    gate.open_at(time.monotonic_ns() - 2_000_000_000)
    stream.give(stalls)
    assert (stream.view.state, stream.view.reason) == ("stalled", "no frame")
    assert stream.start.result(10).state == "stalled"
    stream.close()


def linked(stream: LoneStream, *, tells_of_links: bool) -> None:
    """The device is back, and PipeWire tells of the node's state nothing, of the links perhaps."""
    stream.plug()
    assert len(stream.capture.links) == 2
    if tells_of_links:
        for state in (2, LINK_ACTIVE):
            assert stream.view.state == "waiting"
            for index in range(2):
                stream.give(m.LinkState(index, state, ""))


def test_streaming_follows_from_links_where_the_node_tells_nothing(folder: Path) -> None:
    """As in PipeWire 1.6, where a filter whose links have gone stays *streaming*."""
    stream = running(folder)
    for _ in range(3):
        stream.give(m.LinkState(0, LINK_GONE, ""))
        stream.unplug()
        assert stream.view.state == "waiting"
        stream.give(m.LinkState(1, LINK_ACTIVE, ""))  # told before it went
        assert stream.view.state == "waiting"
        linked(stream, tells_of_links=True)
        assert (stream.view.state, stream.view.reason) == ("streaming", "")
    stream.close()


def test_streaming_follows_from_frames_where_nothing_else_is_told(folder: Path) -> None:
    stream = running(folder)
    stream.unplug()
    tick_of(stream)()
    linked(stream, tells_of_links=False)
    tick_of(stream)()
    await_rotator(stream)
    assert stream.view.state == "waiting"
    stream.run(2)
    tick_of(stream)()
    assert stream.take_in(m.Flow).flows
    assert (stream.view.state, stream.view.reason) == ("streaming", "")
    stream.close()


def test_a_graph_at_another_rate_for_a_moment_is_waited_out(folder: Path) -> None:
    """Links and node stay as they were, so only frames can tell of its end."""
    stream = running(folder)
    stream.give(m.OfTake(1, m.WrongRate(44100)))
    assert stream.view.state == "waiting"
    await_rotator(stream)
    stream.run(2)
    tick_of(stream)()
    assert stream.take_in(m.Flow).flows
    assert stream.view.state == "streaming"
    stream.close()


@pytest.mark.parametrize("state", ["waiting", "paused", "streaming"])
def test_a_stop_asks_no_clock_where_frames_flow(folder: Path, state: str) -> None:
    """Whatever the stream is said to be: the take ends with its last frame."""
    stream = running(folder)
    stream.run(4)
    stream.view.state = state
    asked: Future[Any] = Future()
    stream.give(m.Stop(asked))
    stream.take_in(m.Stored)
    assert (asked.result(0).n_frames, asked.result(0).n_gaps) == (8 * CYCLE, 0)
    stream.close()


@pytest.mark.parametrize("state", ["waiting", "paused", "connecting"])
def test_a_stop_has_the_gap_of_a_device_that_is_away_go_on_to_it(folder: Path, state: str) -> None:
    stream = LoneStream(folder)
    stream.plug()
    stream.capture.began_ns = time.monotonic_ns() - 5_000_000_000
    stream.run(4)
    stream.take_in(m.Began)
    stream.unplug()
    stream.view.state = state
    asked: Future[Any] = Future()
    stream.give(m.Stop(asked))
    stream.take_in(m.Stored)
    assert asked.result(0).n_gaps == 1
    assert asked.result(0).lost_frames > 4 * 48000
    stream.close()


def test_pipewire_that_goes_while_the_capture_is_made_is_waited_for(folder: Path) -> None:
    stream = LoneStream(folder)
    gone = PipeWireUnavailable("PipeWire has just gone")
    with mock.patch("chaos.engine.feed.Capture", side_effect=gone):
        stream.plug()
    assert (stream.life, stream.view.state) == (Life.CAPTURING, "waiting")
    assert "just gone" in stream.view.reason
    stream.pump.timers[stream.view.uri, "relink"]()
    stream.take_in(m.Relink)
    assert len(stream.registry.of(m.Follow)) == 1
    stream.plug()
    assert len(stream.capture.links) == 2
    stream.close()
