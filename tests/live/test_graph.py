"""What a stream may be started with, and a graph that changes beneath it: right, in the ledger, or a clear end."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from harness import Daemon, RawClient, RefusedError, SourceFactory
from rig import CountingSource, Session
from rig.counting import Samples, check, decode

from chaos.terms.ledger import Cause

AUDIO = {"type": "audio"}
JUMPS = (Cause.DRIVER_SWITCH, Cause.CLOCK_JUMP)
DUPLEX = (
    "factory.name=support.null-audio-sink node.name=both-ways media.class=Audio/Duplex audio.position=[FL FR]"
)


def start(client: RawClient, name: str, uri: str, **fields: Any) -> dict[str, Any]:
    client.call("device_wait", name=name, timeout_s=50)
    return client.call("stream_start", uri=uri, device_identity=name, format={**AUDIO, **fields})


def stop(client: RawClient, uri: str) -> tuple[Samples, list[list[int]]]:
    """The recording's samples, and its gaps as (first_frame, n_frames, cause, confidence)."""
    return recorded(client.call("stream_stop", uri=uri))


def recorded(stopped: dict[str, Any]) -> tuple[Samples, list[list[int]]]:
    samples = np.asarray(zarr.open_array(f"{stopped['recording']}/audio", mode="r")[:])
    gaps = np.asarray(zarr.open_array(f"{stopped['recording']}/gaps", mode="r")[:]).tolist()
    return samples, gaps


def await_frames(client: RawClient, uri: str, n_frames: int) -> None:
    """Waits until so many more frames than now are there."""
    until = client.call("stream_status", uri=uri)["head_frame"] + n_frames
    while client.event("stream_head_position", stream_uri=uri)["frame"] < until:
        pass


def assert_in_pieces(source: CountingSource, samples: Samples, gaps: list[list[int]]) -> None:
    """Between two discontinuities of the clock there is nothing but the source's frames, and gaps are silent.

    A source that follows the clock numbers a cycle's frames late where its own process was late.
    """
    at = 0
    for end in [*(gap[0] for gap in gaps if gap[2] in JUMPS), samples.shape[1]]:
        inner = [(max(gap[0], at) - at, gap[1]) for gap in gaps if at <= gap[0] < end]
        found = check(samples[:, at:end], source.source_id, gaps=inner)
        assert (found.silent, found.foreign) == (0, 0), (at, found, gaps)
        at = end


@pytest.fixture
def settings(session: Session) -> Iterator[Session]:
    """The session, with the graph at 48 kHz, whatever ran in it before, and free to choose afterwards."""
    set_rate(session, 48000)
    yield session
    set_rate(session, 48000)
    set_rate(session, 0)


def set_rate(session: Session, rate: int) -> None:
    session.run("pw-metadata", "-n", "settings", "0", "clock.force-rate", str(rate))


# ---- before the start


def test_a_device_at_another_rate_than_the_graphs_is_refused_with_both(
    settings: Session, counting_source: SourceFactory, client: RawClient
) -> None:
    source = counting_source("cd-rate", rate=44100)
    for fields in ({}, {"sample_rate": 44100}, {"sample_rate": 48000}):
        with pytest.raises(RefusedError) as refused:
            start(client, "cd-rate", "stream://cd/1", **fields)
        assert refused.value.code == "rate_mismatch"
        assert "44100" in refused.value.message
        assert "48000" in refused.value.message
        assert "nothing is resampled" in refused.value.hint
    assert client.call("stream_list")["streams"] == []
    source.stop()
    set_rate(settings, 44100)
    same = counting_source("cd-rate-driver", rate=44100, driver=True)
    start(client, same.name, "stream://cd/2", sample_rate=44100)
    await_frames(client, "stream://cd/2", 22_050)
    samples, gaps = stop(client, "stream://cd/2")
    assert same.check(samples).ok
    assert gaps == []


@pytest.mark.parametrize(("has", "asked"), [(2, 8), (8, 2)])
def test_another_number_of_channels_is_refused_with_both(
    counting_source: SourceFactory, client: RawClient, has: int, asked: int
) -> None:
    counting_source(f"has-{has}", channels=has)
    with pytest.raises(RefusedError) as refused:
        start(client, f"has-{has}", "stream://channels/1", channels=asked)
    assert refused.value.code == "channels_mismatch"
    assert f"has {has} channels" in refused.value.message
    assert f"not {asked} as asked for" in refused.value.message
    assert refused.value.details == {"device": has, "requested": asked}


def test_a_volume_is_in_the_status_the_events_and_the_recording(
    session: Session, counting_source: SourceFactory, client: RawClient
) -> None:
    source = counting_source("turned", driver=True)
    try:
        turn_down_and_up(session, source, client)
    finally:
        # The session manager remembers volumes; the next device must not begin with this one's.
        session.run("wpctl", "set-volume", str(source.node_id), "1.0")


def turn_down_and_up(session: Session, source: CountingSource, client: RawClient) -> None:
    start(client, "turned", "stream://turned/1")
    await_frames(client, "stream://turned/1", 4800)
    assert not [note for note in client.call("stream_status", uri="stream://turned/1")["notes"] if "volume" in note]
    session.run("wpctl", "set-volume", str(source.node_id), "0.5")
    notice = client.event("stream_notice", stream_uri="stream://turned/1")
    assert notice["sample_gain"] == pytest.approx(0.125)
    status = client.call("stream_status", uri="stream://turned/1")
    assert "0.125" in status["notes"][0]
    assert status["device"]["sample_gain"] == pytest.approx(0.125)
    start(client, "turned", "stream://turned/2")
    began = client.event("stream_started", stream_uri="stream://turned/2")
    assert began["device"]["sample_gain"] == pytest.approx(0.125)
    await_frames(client, "stream://turned/2", 4800)
    stopped = client.call("stream_stop", uri="stream://turned/2")
    attributes = dict(zarr.open_group(stopped["recording"], mode="r").attrs)
    assert "0.125" in str(attributes)
    session.run("wpctl", "set-volume", str(source.node_id), "1.0")
    assert client.event("stream_notice", stream_uri="stream://turned/1")["notes"] == []
    client.call("stream_stop", uri="stream://turned/1")


# ---- in mid-take


def test_the_quantum_may_change(session: Session, counting_source: SourceFactory, client: RawClient) -> None:
    """Either the clock goes on, or, as PipeWire 1.4's own driver does, it starts anew: that is in the ledger."""
    source = counting_source("steps")
    start(client, "steps", "stream://steps/1")
    for quantum in (1024, 64, 8192, 256, 2048):
        session.force_quantum(quantum)
        while client.call("stream_status", uri="stream://steps/1")["quantum"] != quantum:
            client.event("stream_head_position", stream_uri="stream://steps/1")
        await_frames(client, "stream://steps/1", quantum)
    samples, gaps = stop(client, "stream://steps/1")
    assert_in_pieces(source, samples, gaps)


@pytest.mark.parametrize("layout", ["planar", "interleaved"])
def test_a_rate_change_is_waited_out(
    settings: Session, counting_source: SourceFactory, client: RawClient, layout: str
) -> None:
    source = counting_source(f"retuned-{layout}")
    uri = f"stream://retuned/{layout}"
    start(client, source.name, uri, layout=layout)
    await_frames(client, uri, 12_000)
    set_rate(settings, 44100)
    told = client.event("stream_state", stream_uri=uri, state="waiting")
    assert "44100" in told["reason"]
    assert "48000" in told["reason"]
    # The settings are told before the graph has followed them: set back at once, it would lose nothing, rightly. So
    # half a second of another recording passes at that rate.
    other = counting_source(f"at-44100-{layout}", rate=44100, driver=True)
    start(client, other.name, f"stream://other/{layout}")
    await_frames(client, f"stream://other/{layout}", 22_050)
    assert other.check(stop(client, f"stream://other/{layout}")[0]).ok
    other.stop()
    set_rate(settings, 48000)
    assert_waited_half_a_second(client, uri, source)


def assert_waited_half_a_second(client: RawClient, uri: str, source: CountingSource) -> None:
    """It goes on, and that time is in its ledger."""
    client.event("stream_state", stream_uri=uri, state="streaming")
    await_frames(client, uri, 12_000)
    stopped = client.call("stream_stop", uri=uri)
    assert stopped["clean"] is True
    samples, gaps = recorded(stopped)
    # What was read of the other recording came within a cycle or two of its time.
    assert sum(gap[1] for gap in gaps if gap[2] == Cause.DEVICE_AWAY) >= 24_000 - 4 * 1024, gaps
    found = source.check(samples[:, : gaps[0][0]])
    assert (found.silent, found.foreign) == (0, 0), (found, gaps)
    # Afterwards the source's own adapter may go on resampling, which is in its node and not between it and us.
    assert samples[:, gaps[-1][0] + gaps[-1][1] :].any()


@pytest.fixture
def two_rates(session: Session) -> Iterator[None]:
    """The graph may run at either rate, so that no setting tells which it is."""
    set_rate(session, 0)
    allow_rates(session, 44100, 48000)
    yield
    allow_rates(session, 48000)


def allow_rates(session: Session, *rates: int) -> None:
    allowed = " ".join(map(str, rates))
    session.run("pw-metadata", "-n", "settings", "0", "clock.allowed-rates", f"[ {allowed} ]")


@pytest.mark.usefixtures("two_rates")
@pytest.mark.parametrize("layout", ["planar", "interleaved"])
def test_a_rate_that_only_the_graph_itself_shows_is_waited_out(
    counting_source: SourceFactory, client: RawClient, layout: str
) -> None:
    """Another device that takes the graph to its own rate: no setting changes, and the callback alone can tell."""
    source = counting_source(f"taken-along-{layout}")
    uri = f"stream://taken/{layout}"
    start(client, source.name, uri, layout=layout)
    await_frames(client, uri, 12_000)
    other = counting_source(
        f"forces-44100-{layout}", rate=44100, driver=True, properties={"node.force-rate": "44100"}
    )
    start(client, other.name, f"stream://forces/{layout}")
    told = client.event("stream_state", stream_uri=uri, state="waiting")
    assert told["reason"].startswith("the graph runs at 44100 Hz")
    assert "recorded at 48000 Hz" in told["reason"]
    await_frames(client, f"stream://forces/{layout}", 22_050)
    assert client.call("stream_status", uri=uri)["state"] == "waiting"
    assert other.check(stop(client, f"stream://forces/{layout}")[0]).ok
    other.stop()
    assert_waited_half_a_second(client, uri, source)


def test_a_driver_switch_is_in_the_ledger(
    session: Session, counting_source: SourceFactory, client: RawClient
) -> None:
    """A follower's numbers are those of the clock it runs by: another driver, other numbers."""
    follower = counting_source("led")
    start(client, "led", "stream://led/1")
    await_frames(client, "stream://led/1", 24_000)
    driver = counting_source("new-driver", driver=True, patience_ms=400)
    start(client, "new-driver", "stream://new/1")
    client.event("stream_gap", stream_uri="stream://led/1", cause="driver_switch")
    await_frames(client, "stream://led/1", 24_000)
    assert driver.check(stop(client, "stream://new/1")[0]).ok
    samples, gaps = stop(client, "stream://led/1")
    assert Cause.DRIVER_SWITCH in {gap[2] for gap in gaps}
    assert_in_pieces(follower, samples, gaps)


def test_a_suspended_device_leaves_a_gap(
    session: Session, counting_source: SourceFactory, client: RawClient
) -> None:
    counting_source("clock", driver=True, patience_ms=400)
    start(client, "clock", "stream://clock/1")
    source = counting_source("sleeper")
    start(client, "sleeper", "stream://sleeper/1")
    await_frames(client, "stream://sleeper/1", 12_000)
    session.run("pw-cli", "send-command", str(source.node_id), "Suspend")
    await_frames(client, "stream://sleeper/1", 24_000)
    samples, gaps = stop(client, "stream://sleeper/1")
    found = source.check(samples, gaps=[(gap[0], gap[1]) for gap in gaps])
    assert (found.silent, found.foreign) == (0, 0), (found, gaps)


@pytest.mark.parametrize(("layout", "channels"), [("planar", 2), ("interleaved", 8)])
def test_no_session_manager_is_no_hindrance(tmp_path: Path, layout: str, channels: int) -> None:
    """Nobody gives the device its ports: chaosd does."""
    uri = "stream://bare/1"
    with Session(wireplumber=False) as session, Daemon(session, tmp_path) as daemon:
        client = daemon.client
        assert client.call("status")["pipewire"]["session_manager"] is False
        bare = CountingSource(session, name="bare", driver=True, ports=False, source_id=3, channels=channels)
        with bare as source:
            start(client, "bare", uri, layout=layout)
            await_frames(client, uri, 24_000)
            samples, gaps = stop(client, uri)
    assert samples.shape[0] == channels
    assert source.check(samples, gaps=[(gap[0], gap[1]) for gap in gaps]).ok
    assert all(gap[2] == Cause.NO_DATA for gap in gaps)




def test_a_duplex_node_is_captured(session: Session, counting_source: SourceFactory, client: RawClient) -> None:
    """A null device of both ways: what is played to it is what it brings."""
    uri = "stream://duplex/1"
    source = counting_source("duplex-feed", driver=True)
    made = session.spawn("pw-cli", stdin=subprocess.PIPE)
    assert made.stdin is not None
    made.stdin.write(f"create-node adapter {{ {DUPLEX} }}\n".encode())
    made.stdin.flush()
    client.call("device_wait", name="both-ways", timeout_s=50)
    inputs = sorted(line for line in session.run("pw-link", "-i").split() if line.startswith("both-ways:"))
    for channel, port in zip(("FL", "FR"), inputs, strict=True):
        session.run("pw-link", f"duplex-feed:capture_{channel}", port)
    started = start(client, "both-ways", uri)
    assert started["device"]["direction"] == "input"
    await_frames(client, uri, 48_000)
    samples, _ = stop(client, uri)
    session.end(made)
    assert np.count_nonzero(decode(samples, source.source_id) >= 0) > 24_000
