"""MIDI captured end to end: a device whose events and frames are known, the engine, a recording, its readers."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from harness import Daemon, RawClient, RefusedError
from rig import MIDI, UMP, Event, MidiSource, RigError, Session, as_ump, long_sysex, random_tune

import chaos
from chaos.store.verify import verify

QUANTA = [32, 64, 256, 1024, 8192]
FAST: dict[str, Any] = {"speed": 20}
SENSING = (b"\xfe", (0x10FE0000).to_bytes(4, "little"))

Record = Callable[..., tuple[list[Event], list[Event], dict[str, Any]]]
"""What was offered and what is in the recording, both at positions of the graph's clock, and how the stream ended."""


def start(client: RawClient, name: str, uri: str, **fields: Any) -> dict[str, Any]:
    client.call("device_wait", name=name, timeout_s=50, format="midi")
    return client.call("stream_start", uri=uri, device_identity=name, format={"type": "midi"}, **fields)


def stored(path: str | Path) -> list[Event]:
    """The events of a take at positions of the clock, by the anchor before each; without the active sensing."""
    with chaos.open(Path(path)) as recording:
        anchors = sorted(recording.anchors, key=lambda anchor: anchor.frame)
        found = []
        for row in recording.events[:]:
            before = [anchor for anchor in anchors if anchor.frame <= row.frame][-1]
            found.append(Event(int(row.frame) - before.frame + before.position, 0, int(row.kind), row.bytes))
        return [event for event in found if event.data not in SENSING]


def moved(script: Sequence[Event], first: int) -> list[Event]:
    return sorted(event.moved(first) for event in script)


def await_head(client: RawClient, uri: str, n_frames: int) -> None:
    while client.event("stream_head_position", stream_uri=uri)["frame"] < n_frames:
        pass


@pytest.fixture
def record(session: Session, client: RawClient) -> Iterator[Record]:
    """Records a device that plays a script, to its end."""
    with ExitStack() as stack:

        def recorded(
            script: Sequence[Event], quantum: int = 1024, **options: Any
        ) -> tuple[list[Event], list[Event], dict[str, Any]]:
            session.force_quantum(quantum)
            source = stack.enter_context(MidiSource(session, script, name="keys", **FAST, **options))
            begun = start(client, source.name, "stream://keys/1")
            assert begun["format"] == {"type": "midi"}
            first = source.play()
            assert source.await_end() == 0
            source.hold()
            stopped = client.call("stream_stop", uri="stream://keys/1")
            report = verify(Path(stopped["recording"]))
            assert report.ok, report.bad
            return moved(script, first), sorted(stored(stopped["recording"])), stopped

        yield recorded


def assert_whole(offered: list[Event], found: list[Event], stopped: dict[str, Any]) -> None:
    assert found == offered
    assert (stopped["lost_frames"], stopped["n_gaps"], stopped["clean"]) == (0, 0, True)


@pytest.mark.parametrize("quantum", QUANTA)
def test_every_event_is_at_its_frame(record: Record, quantum: int) -> None:
    """Also at the first and the last frame of cycles, also over chunks."""
    script = random_tune(quantum, 1000, 400_000)
    edges = [cycle * quantum + at for cycle in range(20) for at in (0, quantum - 1)]
    script += [Event(frame, 0, MIDI, bytes([0x90, number, 1])) for number, frame in enumerate(edges)]
    assert_whole(*record(script, quantum))


def test_midi_in_standby_is_kept_from_its_oldest_chunk_on(session: Session, client: RawClient) -> None:
    """Whole chunks of five seconds: what is held of the script is in the recording, each event at its frame."""
    session.force_quantum(1024)
    script = random_tune(1024, 1000, 1_500_000)
    with MidiSource(session, script, name="keys", **FAST) as source:
        assert start(client, source.name, "stream://keys/1", standby_s=1.0)["recording"] == ""
        first = source.play()
        assert source.await_end() == 0
        source.hold()
        kept = client.call("stream_keep", uri="stream://keys/1")
        stopped = client.call("stream_stop", uri="stream://keys/1")
    report = verify(Path(stopped["recording"]))
    assert (report.ok, stopped["recording"], stopped["lost_frames"]) == (True, kept["recording"], 0)
    with chaos.open(Path(stopped["recording"])) as recording:
        oldest = min(recording.anchors, key=lambda anchor: anchor.frame)
    begin = oldest.position - oldest.frame
    expected = [event for event in moved(script, first) if event.frame >= begin]
    assert sorted(stored(stopped["recording"])) == expected
    assert begin - first > 0


@pytest.mark.parametrize("quantum", [32, 1024])
def test_a_thousand_events_of_one_cycle(record: Record, quantum: int) -> None:
    script = [Event(quantum + n * quantum // 1000, 0, MIDI, bytes([0x90, n % 128, n // 128])) for n in range(1000)]
    assert_whole(*record(script, quantum))


@pytest.mark.parametrize(("n_bytes", "part"), [(1, 3), (12, 4), (1024, 2000), (1024, 256), (65536, 4096)])
def test_sysex_of_any_length_with_clocks_between_its_parts(record: Record, n_bytes: int, part: int) -> None:
    script = long_sysex(n_bytes, part=part, step=1024)
    offered, found, stopped = record(script)
    assert_whole(offered, found, stopped)
    with chaos.open(Path(stopped["recording"])) as recording:
        whole = [message for message in recording.messages() if message.type == "sysex"]
        assert [message.data for message in whole] == [b"".join(e.data for e in script if e.data != b"\xf8")]


def test_packets_of_ump(record: Record) -> None:
    tune = random_tune(8, 300, 50_000)
    packets = [packet for number, event in enumerate(tune) for packet in as_ump(event, group=number % 16)]
    script = [Event(40 * number, 0, UMP, packet.data) for number, packet in enumerate(packets)]
    offered, found, stopped = record(script, ports=["ump"])
    assert_whole(offered, found, stopped)
    assert {event.kind for event in found} == {UMP}
    with chaos.open(Path(stopped["recording"])) as recording:
        said = [message for message in recording.messages() if message.type != "active_sensing"]
        assert sorted(message.data for message in said) == sorted(event.data for event in tune)


def test_bytes_that_are_no_midi_are_kept_and_said_to_be(record: Record) -> None:
    script = [Event(n * 10, 0, MIDI, data) for n, data in enumerate([b"", b"\x40", b"\xff" * 9, b"\x90\x40"])]
    offered, found, stopped = record(script)
    assert_whole(offered, found, stopped)
    with chaos.open(Path(stopped["recording"])) as recording:
        said = [message.type for message in recording.messages() if message.type != "active_sensing"]
        assert sorted(said) == [*["invalid"] * 3, *["reset"] * 9]


def test_a_burst_beyond_the_buffer_is_a_gap_of_its_cycle(session: Session, client: RawClient) -> None:
    session.force_quantum(1024)
    script = [Event(0, 0, MIDI, b"\x90\x01\x01"), Event(5000, 0, MIDI, b"\x90\x02\x02")]
    script += [Event(2048 + n, 0, MIDI, b"\xf0" + bytes(1000) + b"\xf7") for n in range(100)]
    with MidiSource(session, script, name="burst", buffer_bytes=1 << 18, **FAST) as source:
        start(client, source.name, "stream://burst/1")
        first = source.play()
        source.await_end()
        gap = client.event("stream_gap", cause="midi_overflow", confidence="exact", n_frames=1024)
        stopped = client.call("stream_stop", uri="stream://burst/1")
    assert (stopped["lost_frames"], stopped["n_gaps"]) == (1024, 1)
    assert [event.frame - first for event in stored(stopped["recording"])] == [0, 5000]
    with chaos.open(Path(stopped["recording"])) as recording:
        begin = recording.anchors[0]
        assert gap["first_frame"] - begin.frame + begin.position == first + 2048


def test_a_device_that_goes_and_comes_back_is_recorded_on(session: Session, client: RawClient) -> None:
    uri, tune = "stream://replug/1", random_tune(3, 200, 50_000)
    with MidiSource(session, tune, name="replug", **FAST) as source:
        start(client, source.name, uri)
        offered = moved(tune, source.play())
        source.await_end()
    client.event("stream_state", state="waiting")
    with MidiSource(session, tune, name="replug", start=90_000_000, **FAST) as source:
        while client.event("stream_gap", cause="device_away")["n_frames"] is None:
            pass
        offered += moved(tune, source.play())
        source.await_end()
        source.hold()
        stopped = client.call("stream_stop", uri=uri)
    assert stored(stopped["recording"]) == offered
    report = verify(Path(stopped["recording"]))
    assert report.ok, report.bad
    assert {gap["cause"] for gap in report.gaps} == {"device_away"}


def test_somebody_elses_events_are_kept_out(session: Session, client: RawClient) -> None:
    mine = [Event(n * 5000, 0, MIDI, bytes([0x90, n, 1])) for n in range(100)]
    with (
        MidiSource(session, mine, name="mine", **FAST) as source,
        MidiSource(session, [], name="other", **FAST) as other,
    ):
        start(client, source.name, "stream://mine/1")
        first = source.play()
        ports = session.run("pw-link", "--output", "--input").split()
        ours, theirs = (next(port for port in ports if port.startswith(name)) for name in ("chaosd.mine", other.name))
        with contextlib.suppress(RigError):  # 1.4's waits until it is made, and it may have been removed by then
            session.run("pw-link", theirs, ours)
        error = client.event("stream_error")["error"]
        assert error["code"] == "foreign_link"
        source.await_end()
        source.hold()
        stopped = client.call("stream_stop", uri="stream://mine/1")
    found = stored(stopped["recording"])
    with chaos.open(Path(stopped["recording"])) as recording:
        begin, gaps = recording.anchors[0], recording.gaps
    assert {gap.cause.label for gap in gaps} <= {"foreign", "driver_switch", "clock_jump", "missed", "no_data"}
    assert set(found) <= set(moved(mine, first))
    if not gaps:
        assert found == moved(mine, first)
    for event in set(moved(mine, first)) - set(found):
        at = event.frame - begin.position + begin.frame
        assert any(gap.first_frame <= at < gap.end_frame for gap in gaps)


def test_a_take_rolls_and_no_event_is_lost(session: Session, client: RawClient, daemon: Daemon) -> None:
    uri = "stream://rolls/1"
    tune = sorted(random_tune(5, 2000, 3_000_000))
    with MidiSource(session, tune, name="rolls", **FAST) as source:
        start(client, source.name, uri, roll="1s")
        source.play()
        for _ in range(2):
            client.event("stream_rolled", stream_uri=uri)
        source.await_end()
        source.hold()
        client.call("stream_stop", uri=uri)
    with chaos.open(uri, daemon.store) as whole:
        found = [(int(row.frame), row.bytes) for row in whole.events[:] if row.bytes != b"\xfe"]
        assert whole.gaps == []
        assert len(whole.takes) >= 3  # type: ignore[attr-defined]
    first = found[0][0] - tune[0].frame
    assert found == [(event.frame + first, event.data) for event in tune if event.data != b"\xfe"]


def test_it_is_followed_while_it_is_played(session: Session, client: RawClient, daemon: Daemon) -> None:
    uri, tune = "stream://followed/1", sorted(random_tune(6, 500, 200_000))
    with MidiSource(session, tune, name="followed", speed=4) as source:
        start(client, source.name, uri)
        client.event("stream_started", stream_uri=uri)
        with chaos.open(uri, daemon.store) as recording:
            follower = recording.follow(4800, first_frame=0, timeout_s=60)
            source.play()
            seen: list[bytes] = []
            wanted = [event.data for event in tune if event.data != b"\xfe"]
            while len(seen) < len(wanted):
                seen += [row.bytes for row in next(follower) if row.bytes != b"\xfe"]
        client.call("stream_stop", uri=uri)
    assert seen == wanted


def test_the_status_counts_events_and_tells_the_devices_latency(session: Session, client: RawClient) -> None:
    uri = "stream://counted/1"
    session.force_quantum(1024)
    script = [Event(1024 * n, 0, MIDI, b"\x90\x01\x01") for n in range(40)]
    script += [Event(1024 * n + 3, 0, MIDI, b"\x80\x01\x01") for n in range(40)]
    with MidiSource(session, script, name="counted", **FAST) as source:
        start(client, source.name, uri)
        source.play()
        source.await_end()
        source.hold()
        told = client.call("stream_status", uri=uri)["midi"]
        stopped = client.call("stream_stop", uri=uri)
    with chaos.open(Path(stopped["recording"])) as recording:
        assert told["n_events"] == len(recording.events)
        assert told["n_at_zero"] == told["n_events"] - 40
        assert [(latency.quanta, latency.frames, latency.ns) for _, latency in recording.latencies] == [(1.0, 0, 0)]
    assert told["latency"] == {"quanta": 1.0, "frames": 0, "ns": 0}
    assert told["n_beyond"] == 0


def test_what_cannot_be_recorded_as_midi_is_refused(session: Session, client: RawClient, tmp_path: Path) -> None:
    with MidiSource(session, [], name="refused", **FAST) as source:
        client.call("device_wait", name=source.name, timeout_s=50, format="midi")
        for code, fields in [
            ("device_not_found", {"device_identity": "virtual-mic"}),
            ("invalid_request", {"channel_map": ["FL"]}),
            ("invalid_request", {"chunk_path": str(tmp_path / "x")}),
            ("invalid_chunk_size", {"chunk_size_bytes": 4096}),
        ]:
            wanted = {"uri": "stream://refused/1", "device_identity": source.name, "format": {"type": "midi"}}
            with pytest.raises(RefusedError) as refused:
                client.call("stream_start", **wanted | fields)
            assert refused.value.code == code
        with pytest.raises(RefusedError) as refused:
            client.call(
                "stream_start", uri="stream://refused/1", device_identity=source.name, format={"type": "audio"}
            )
        assert refused.value.code == "format_unsupported"
