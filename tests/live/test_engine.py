"""The engine end to end: a device on a real PipeWire, commands over ZeroMQ, a recording right frame by frame."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import zarr
from harness import Daemon, RawClient, RefusedError, SourceFactory
from rig import CountingSource, Session

from chaos.protocol.events import COMMON_FIELDS, EVENTS
from chaos.store.verify import verify

DRIVE: dict[str, Any] = {"driver": True, "speed": 4}
AUDIO = {"type": "audio"}


def start(client: RawClient, source: str, uri: str, **fields: Any) -> dict[str, Any]:
    fields.setdefault("format", AUDIO)
    client.call("device_wait", name=source, timeout_s=50)
    return client.call("stream_start", uri=uri, device_identity=source, **fields)


def await_frames(client: RawClient, uri: str, n_frames: int) -> None:
    """Waits until the stream's head has passed `n_frames`."""
    while client.event("stream_head_position", stream_uri=uri)["frame"] < n_frames:
        pass


def samples_of(stopped: dict[str, Any]) -> npt.NDArray[Any]:
    """A finished recording's samples, as zarr-python reads them."""
    audio = zarr.open_array(f"{stopped['recording']}/audio", mode="r")[:]
    assert isinstance(audio, np.ndarray)
    return audio


def assert_whole(source: CountingSource, stopped: dict[str, Any]) -> None:
    """Every frame of the source in its place, bit for bit, none lost; every hash right."""
    assert stopped["clean"] is True
    assert (stopped["lost_frames"], stopped["n_gaps"]) == (0, 0)
    samples = samples_of(stopped)
    assert samples.shape == (source.channels, stopped["n_frames"])
    found = source.check(samples)
    assert found.ok, found
    report = verify(Path(stopped["recording"]))
    assert report.ok, report.bad
    assert (report.n_frames, report.n_chunks) == (stopped["n_frames"], stopped["n_chunks"])


@pytest.mark.parametrize("quantum", [64, 256, 1024, 8192])
@pytest.mark.parametrize("channels", [1, 2, 8, 64])
def test_every_frame_is_in_its_place(
    session: Session, counting_source: SourceFactory, client: RawClient, channels: int, quantum: int
) -> None:
    """Chunks of 1,027 frames: nearly every buffer crosses a boundary, and the large ones many."""
    session.force_quantum(quantum)
    source = counting_source(f"mic-{channels}-{quantum}", channels=channels, **DRIVE)
    uri = f"stream://mic/{channels}-{quantum}"
    start(client, source.name, uri, chunk_size_bytes=1027 * channels * 4)
    await_frames(client, uri, 48_000)
    assert client.call("stream_status", uri=uri)["quantum"] == quantum
    assert_whole(source, client.call("stream_stop", uri=uri))


@pytest.mark.parametrize(
    ("layout", "sample_format", "channels"),
    [
        *(("", *form) for form in (("s16", 1), ("s16", 8), ("s32", 2), ("s32", 64))),  # converted as they are copied
        *(("interleaved", *form) for form in (("f32", 2), ("f32", 64), ("s16", 1), ("s16", 8), ("s32", 2))),
    ],
)
def test_every_format_holds_the_same_frames(
    counting_source: SourceFactory, client: RawClient, layout: str, sample_format: str, channels: int
) -> None:
    """Planar, the default, but for f32: that has tests of its own above; and interleaved."""
    name = layout or "planar"
    source = counting_source(f"{name}-{sample_format}-{channels}", channels=channels, **DRIVE)
    uri = f"stream://{name}/{sample_format}-{channels}"
    form = {**AUDIO, "sample_format": sample_format, **({"layout": layout} if layout else {})}
    start(client, source.name, uri, format=form, chunk_size_bytes=1500 * channels * 4)
    await_frames(client, uri, 48_000)
    stopped = client.call("stream_stop", uri=uri)
    if sample_format == "s16" and channels == 1:
        # 24 bits of a lone channel's number do not fit; that no frame is missing still shows.
        assert (stopped["lost_frames"], samples_of(stopped).shape[1]) == (0, stopped["n_frames"])
    else:
        assert_whole(source, stopped)


def test_twenty_streams_at_once_from_several_devices(counting_source: SourceFactory, client: RawClient) -> None:
    """Four devices, each with a clock of its own; five streams each, of 1, 2, 4 and 8 channels."""
    sources = [counting_source(f"clock-{n}", channels=1 << n, **DRIVE) for n in range(4)]
    streams = {f"stream://many/{n}": sources[n % 4] for n in range(20)}
    for uri, source in streams.items():
        start(client, source.name, uri, chunk_size_bytes=1 << 19)
    heads = dict.fromkeys(streams, 0)
    while min(heads.values()) < 96_000:
        event = client.event("stream_head_position")
        heads[event["stream_uri"]] = event["frame"]
    assert [stream["state"] for stream in client.call("stream_list")["streams"]] == ["streaming"] * 20
    asked = {uri: client.send("stream_stop", uri=uri) for uri in streams}
    for uri, request in asked.items():
        assert_whole(streams[uri], client.answer(request))


def test_many_starts_and_stops_leave_nothing_behind(
    counting_source: SourceFactory, daemon: Daemon, client: RawClient
) -> None:
    source = counting_source("again", **DRIVE)

    def held() -> int:
        """File descriptors, threads and mapped staging files."""
        process = Path(f"/proc/{daemon.pid}")
        maps = sum(".staging" in line for line in (process / "maps").read_text().splitlines())
        return len(list((process / "fd").iterdir())) + len(list((process / "task").iterdir())) + maps

    for n in range(20):
        uri = f"stream://again/{n}"
        start(client, source.name, uri, staging_seconds=8)  # of real time 2
        while not client.call("stream_status", uri=uri)["head_frame"]:  # before that is told
            pass
        stopped = client.call("stream_stop", uri=uri)
        assert (stopped["clean"], stopped["lost_frames"]) == (True, 0)
        if n == 4:
            settled = held()
    deadline = time.monotonic() + 60  # the last actor's thread may end a moment after its answer
    while held() > settled and time.monotonic() < deadline:
        client.call("ping")
    assert held() <= settled


def test_external_rotation_with_a_controller_that_answers_late(
    counting_source: SourceFactory, client: RawClient, daemon: Daemon
) -> None:
    """Each path comes only when three more chunks are full: the slots hold them meanwhile."""
    source = counting_source("outside", **DRIVE)
    uri, folder, frames = "stream://outside/1", daemon.store / "mine", 4800
    start(client, source.name, uri, chunk_size_bytes=frames * 8, chunk_path=str(folder / "0.raw"), staging_seconds=20)
    written = []
    for n in range(50):
        full = client.event("stream_chunk_full", stream_uri=uri)
        assert full["chunk"] == n
        assert full["path"] == str(folder / f"{n}.raw")
        assert (full["first_frame"], full["frames_written"]) == (n * frames, frames)
        assert Path(full["path"]).stat().st_size == full["bytes_written"] == frames * 8
        written.append(np.fromfile(full["path"], "<f4").reshape(2, frames))
        if n % 10 == 5:
            await_frames(client, uri, (n + 4) * frames)
        client.call("stream_switch_chunk", uri=uri, new_chunk_path=str(folder / f"{n + 1}.raw"))
    stopped = client.call("stream_stop", uri=uri)
    assert (stopped["lost_frames"], stopped["clean"]) == (0, True)
    found = source.check(np.concatenate(written, axis=1))
    assert found.ok, found
    report = verify(Path(stopped["recording"]))
    assert report.ok, report.bad


def test_a_path_is_never_written_over(counting_source: SourceFactory, client: RawClient, daemon: Daemon) -> None:
    source = counting_source("careful", **DRIVE)
    mine = daemon.store / "mine.raw"
    mine.write_bytes(b"precious")
    with pytest.raises(RefusedError) as refused:
        start(client, source.name, "stream://careful/1", chunk_path=str(mine))
    assert refused.value.code == "path_not_allowed"
    start(client, source.name, "stream://careful/1", chunk_path=str(daemon.store / "new.raw"))
    with pytest.raises(RefusedError):
        client.call("stream_switch_chunk", uri="stream://careful/1", new_chunk_path=str(mine))
    assert mine.read_bytes() == b"precious"


def test_a_file_that_comes_in_between_is_left_alone_and_its_chunk_waits(
    counting_source: SourceFactory, client: RawClient, daemon: Daemon
) -> None:
    source = counting_source("between", driver=True)
    uri, first, second = "stream://between/1", daemon.store / "1.raw", daemon.store / "2.raw"
    start(client, source.name, uri, chunk_path=str(first), chunk_size_bytes=48_000 * 8)
    first.write_bytes(b"precious")
    refused = client.event("stream_error", stream_uri=uri)
    assert (refused["error"]["code"], refused["recoverable"]) == ("invalid_request", True)
    client.call("stream_switch_chunk", uri=uri, new_chunk_path=str(second))
    assert client.event("stream_chunk_full", stream_uri=uri)["chunk"] == 0
    assert first.read_bytes() == b"precious"
    stopped = client.call("stream_stop", uri=uri)
    assert (stopped["clean"], stopped["lost_frames"]) == (True, 0)
    unclaimed = Path(stopped["recording"]) / "unclaimed" / "1"
    both = [np.fromfile(path, "<f4").reshape(2, -1) for path in (second, unclaimed)]
    found = source.check(np.concatenate(both, axis=1)[:, : stopped["n_frames"]])
    assert found.ok, found


BAD: list[tuple[bytes, str]] = [
    (b"\xff\xfe no json", "invalid_request"),
    (b"[1, 2]", "invalid_request"),
    (b"{}", "invalid_request"),
    (b'{"op": "stream_strat"}', "unknown_op"),
    (b'{"op": "ping", "colour": 1}', "invalid_request"),
    (b'{"op": "device_wait", "name": "x", "timeout_s": "long"}', "invalid_request"),
    (b'{"op": "stream_stop", "uri": "file:///etc/passwd"}', "invalid_uri"),
    (b'{"op": "stream_stop", "uri": "stream://../../etc/1"}', "invalid_uri"),
    (b'{"op": "stream_stop", "uri": "stream://nobody/1"}', "stream_not_found"),
    (b'{"op": "verify", "uri": "stream://nobody/1"}', "recording_not_found"),
    (b'{"op": "device_find", "name": "no such thing"}', "device_not_found"),
    (b'{"op": "ping", "id": "' + b"x" * (2 << 20) + b'"}', "invalid_request"),
]
BAD_STARTS: list[tuple[dict[str, Any], str]] = [
    ({"chunk_size_bytes": 1 << 30}, "invalid_chunk_size"),
    ({"chunk_size_bytes": 1}, "invalid_chunk_size"),
    ({"chunk_size_bytes": -4}, "invalid_chunk_size"),
    ({"uri": "stream://held/1"}, "stream_exists"),
    ({"uri": "stream://a/.."}, "invalid_uri"),
    ({"chunk_path": "/etc/chunk"}, "path_not_allowed"),
    ({"chunk_path": "relative"}, "path_not_allowed"),
    ({"device_identity": "no such device"}, "device_not_found"),
    ({"format": {"type": "video"}}, "invalid_format"),
    ({"format": {"type": "audio", "sample_format": "f64"}}, "invalid_format"),
    ({"format": {"type": "audio", "channels": 8}}, "channels_mismatch"),
    ({"format": {"type": "audio", "sample_rate": 44100}}, "rate_mismatch"),
    ({"format": {"type": "midi"}}, "device_not_found"),
]


def test_bad_input_gets_a_stable_code_and_costs_no_frame(
    counting_source: SourceFactory, client: RawClient, daemon: Daemon
) -> None:
    source = counting_source("held", **DRIVE)
    start(client, source.name, "stream://held/1")
    for raw, code in BAD:
        answer = client.send_bytes(raw)
        assert answer["ok"] is False
        assert answer["error"]["code"] == code, raw[:80]
        assert answer["error"]["message"]
        assert answer["error"]["hint"], raw[:80]
    good = {"op": "stream_start", "uri": "stream://bad/1", "device_identity": source.name, "format": AUDIO}
    for wrong, code in BAD_STARTS:
        answer = client.send_bytes(json.dumps(good | wrong).encode())
        assert answer["ok"] is False, wrong
        assert answer["error"]["code"] == code, (wrong, answer)
        assert answer["error"]["hint"], wrong
    assert [stream["uri"] for stream in client.call("stream_list")["streams"]] == ["stream://held/1"]
    assert not (daemon.store / "recordings" / "bad").exists()
    await_frames(client, "stream://held/1", 48_000)
    assert_whole(source, client.call("stream_stop", uri="stream://held/1"))


def test_a_long_wait_holds_up_nobody(
    counting_source: SourceFactory, client: RawClient, daemon: Daemon
) -> None:
    waiting = client.send("device_wait", name="late-mic", timeout_s=60)
    other = daemon.new_client()
    assert other.call("ping")["protocol"] == 1
    late = counting_source("late-mic")
    assert client.answer(waiting)["device"]["name"] == late.name
    with pytest.raises(RefusedError) as refused:
        other.call("device_wait", name="never-mic", timeout_s=0.05)
    assert refused.value.code == "timeout"


@pytest.mark.parametrize("second", [None, signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_every_stream_cleanly(
    counting_source: SourceFactory, chaosd: Callable[..., Daemon], second: signal.Signals | None
) -> None:
    """The last partial chunk is sealed; a second signal doesn't lose it."""
    source = counting_source("ending", **DRIVE)
    daemon = chaosd()
    start(daemon.client, source.name, "stream://ending/1")
    recording = daemon.client.recording_of("stream://ending/1")
    await_frames(daemon.client, "stream://ending/1", 10_000)
    if second is not None:
        os.kill(daemon.pid, second)
    assert daemon.stop() == 0
    stopped = daemon.client.event("stream_stopped", stream_uri="stream://ending/1")
    assert stopped["recording"] == recording
    assert stopped["n_frames"] >= 10_000
    assert_whole(source, stopped)


def test_shutdown_stops_cleanly(counting_source: SourceFactory, chaosd: Callable[..., Daemon]) -> None:
    source = counting_source("ending", **DRIVE)
    daemon = chaosd()
    start(daemon.client, source.name, "stream://ending/1")
    assert daemon.client.call("shutdown") == {}
    assert_whole(source, daemon.client.event("stream_stopped", stream_uri="stream://ending/1"))


def test_a_second_daemon_ends_at_once_and_harms_nothing(
    session: Session, counting_source: SourceFactory, daemon: Daemon, client: RawClient
) -> None:
    source = counting_source("mine", **DRIVE)
    start(client, source.name, "stream://mine/1")
    child = session.spawn(
        str(Path(sys.executable).with_name("chaosd")), "--endpoint", daemon.command, "--events", daemon.events,
        "--store", str(daemon.store), log="second",
    )  # fmt: skip
    assert child.wait(60) == 2
    assert str(daemon.pid) in session.log("second")
    await_frames(client, "stream://mine/1", 10_000)
    assert_whole(source, client.call("stream_stop", uri="stream://mine/1"))


def test_events_number_up_and_can_be_asked_for_again(counting_source: SourceFactory, client: RawClient) -> None:
    source = counting_source("told", **DRIVE)
    since = client.call("status")["event_seq"]
    start(client, source.name, "stream://told/1", chunk_size_bytes=8192)
    await_frames(client, "stream://told/1", 20_000)
    stopped = client.call("stream_stop", uri="stream://told/1")
    again = client.call("events_since", seq=since)["events"]
    assert [event["seq"] for event in again] == list(range(since + 1, since + 1 + len(again)))
    mine = [event for event in again if event.get("stream_uri") == "stream://told/1"]
    kinds = [event["type"] for event in mine]
    assert kinds[-1] == "stream_stopped"
    assert kinds.index("stream_started") < kinds.index("stream_chunk_full") < kinds.index("stream_chunk_sealed")
    sealed = [event for event in mine if event["type"] == "stream_chunk_sealed"]
    assert [event["chunk"] for event in sealed] == list(range(stopped["n_chunks"]))
    assert [event["topic_seq"] for event in sealed] == list(range(1, 1 + len(sealed)))
    for event in mine:
        assert set(event) == {*COMMON_FIELDS, "stream_uri", *EVENTS[event["type"]].__struct_fields__}
    assert sum(event["n_frames"] for event in sealed) == stopped["n_frames"]
    report = client.call("verify", uri="stream://told/1")
    assert (report["ok"], report["n_frames"], report["bad"]) == (True, stopped["n_frames"], [])


def test_a_stream_costs_little_memory_beyond_its_slots(
    counting_source: SourceFactory, daemon: Daemon, client: RawClient
) -> None:
    source = counting_source("small", **DRIVE)
    start(client, source.name, "stream://small/1")
    await_frames(client, "stream://small/1", 480_000)
    status = dict(
        line.split(":\t", 1) for line in Path(f"/proc/{daemon.pid}/status").read_text().splitlines() if ":\t" in line
    )
    resident = int(status["VmRSS"].split()[0]) - int(status["RssShmem"].split()[0])
    assert resident < 45 * 1024, f"{resident} KiB beyond the slots"
