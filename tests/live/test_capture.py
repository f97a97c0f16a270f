"""`chaos.capture`: a device as arrays while it is recorded, by the daemon that runs and without one."""

from __future__ import annotations

import datetime as dt
import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import numpy as np
import pytest
from harness import Daemon, SourceFactory, is_pipewire_from
from rig import MIDI, CountingSource, Event, MidiSource, Session

import chaos
from chaos.client import Client
from chaos.terms.errors import DeviceNotFound, InvalidRange, InvalidRequest, StreamExists, StreamNotFound, TimedOut
from chaos.terms.moments import Moment

PROGRAM = """
import json, os, sys, chaos
os.umask(0)
with chaos.capture(sys.argv[1], channel_map=["2"]) as stream:
    stream.wait(0.5)
    x = stream.last(0.25)
    marked = stream.mark("here")
again = stream.last(0.25)
print(json.dumps([x.shape, stream.ended.clean, stream.ended.lost_frames, marked.frame <= stream.n_frames,
                  again.shape, stream.uri, str(stream.recording.path)]))
"""


def capture_of(daemon: Daemon, device: str, **options: object) -> chaos.Capture:
    return chaos.capture(device, endpoint=daemon.command, events_endpoint=daemon.events, **options)  # type: ignore[arg-type]


def test_a_program_has_the_newest_frames_without_a_daemon(
    session: Session, counting_source: SourceFactory, tmp_path: Path
) -> None:
    counting_source("cap-alone", description="Cap desk", driver=True, speed=4)
    env = {**session.env, "XDG_DATA_HOME": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, "Cap desk"], env=env, stdout=subprocess.PIPE, text=True, timeout=60, check=True
    )
    shape, clean, lost, is_marked, after, uri, path = json.loads(done.stdout)
    assert (shape, clean, lost, is_marked, after) == ([1, 12_000], True, 0, True, [1, 12_000])
    assert uri.startswith("stream://cap-desk/")
    assert path.startswith(str(tmp_path))
    store = [tmp_path, *tmp_path.rglob("*")][1:]
    assert [each for each in store if each.stat().st_mode & 0o077] == [], "a microphone is private, whatever the umask"
    with chaos.open(Path(path)) as recording:
        assert [mark.label for mark in recording.marks] == ["here"]


def test_what_is_read_is_what_was_played(daemon: Daemon, counting_source: SourceFactory) -> None:
    source = counting_source("cap-desk", channels=3, driver=True, speed=4)
    daemon.client.call("device_wait", name=source.name, timeout_s=50)
    with capture_of(daemon, source.name, uri="stream://cap/1") as stream:
        assert (stream.channels, stream.sample_rate, stream.uri) == (3, 48_000, "stream://cap/1")
        stream.wait(0.5)
        found = source.check(stream.last(0.5))
        assert found.ok, found
        blocks = stream.blocks(0.1)
        found = source.check(np.concatenate([next(blocks) for _ in range(3)], axis=1))
        assert found.ok, found
        assert stream.gaps == []
        assert stream.status().state == "streaming"
        with pytest.raises(InvalidRequest, match="a capture runs once"):
            stream.__enter__()
    assert stream.ended is not None
    assert (stream.ended.clean, stream.lost_frames) == (True, 0)
    assert stream.ended.n_frames == stream.n_frames
    found = source.check(stream.last(1e6))
    assert found.ok, found
    with pytest.raises(InvalidRequest, match="doesn't run"):
        stream.status()


def test_frames_that_are_missing_are_never_silence(daemon: Daemon, session: Session) -> None:
    """Of a microphone that nobody feeds there is a gap from its first cycle on; also where it brings silence (PipeWire
    1.7), if that came through a converter."""
    layout = "interleaved" if is_pipewire_from(1, 7) else "planar"
    session.force_quantum(1024)
    daemon.client.call("device_wait", name="virtual-mic", timeout_s=50)
    floats, whole = (chaos.AudioFormat(sample_format=each, layout=layout) for each in ("f32", "s32"))
    with capture_of(daemon, "virtual-mic", uri="stream://cap/floats", format=floats) as stream:
        stream.wait(0.1)
        [gap] = stream.gaps
        assert (gap.first_frame, gap.cause.label) == (0, "no_data")
        assert stream.lost_frames >= 4800
        assert np.isnan(stream.last(0.05)).all()
        assert np.isnan(next(stream.blocks(0.05))).all()
        assert not stream.last(0.05, missing="zeros").any()
    with capture_of(daemon, "virtual-mic", uri="stream://cap/whole", format=whole) as stream:
        stream.wait(0.1)
        with pytest.raises(InvalidRange, match="gap"):
            stream.last(0.05)
        assert not stream.last(0.05, missing="zeros").any()


def test_a_device_that_goes_away_is_told(daemon: Daemon, session: Session) -> None:
    with CountingSource(session, name="cap-away", driver=True, speed=4) as source:
        daemon.client.call("device_wait", name=source.name, timeout_s=50)
        stream = capture_of(daemon, source.name)
        stream.__enter__()
        stream.wait(0.1)
    with stream_of(stream):
        with pytest.raises(TimedOut, match="no new frame"):
            stream.wait(1e6, timeout_s=0.2)
        daemon.client.call("stream_stop", uri=stream.uri)
        with pytest.raises(StreamNotFound, match="ended while somebody waited"):
            stream.wait(1e6, timeout_s=50)
    assert stream.ended is None


@contextmanager
def stream_of(stream: chaos.Capture) -> Iterator[None]:
    """Ends one that was entered by hand."""
    try:
        yield
    finally:
        stream.__exit__(None, None, None)


def test_what_can_not_be_captured_is_refused_and_no_other_stream_is_touched(
    daemon: Daemon, counting_source: SourceFactory
) -> None:
    source = counting_source("cap-taken", driver=True, speed=4)
    daemon.client.call("device_wait", name=source.name, timeout_s=50)
    with pytest.raises(DeviceNotFound) as caught, capture_of(daemon, "no such thing"):
        pass
    assert caught.value.code == "device_not_found"
    with capture_of(daemon, source.name, uri="stream://cap/taken") as stream:
        with pytest.raises(StreamExists), capture_of(daemon, source.name, uri="stream://cap/taken"):
            pass
        stream.wait(0.1)
    assert stream.ended is not None
    with pytest.raises(InvalidRequest, match="on it"):
        chaos.capture(endpoint="tcp://elsewhere:47800")
    with pytest.raises(InvalidRequest, match="doesn't run"):
        chaos.capture().wait(1)


def test_midi_comes_as_events(daemon: Daemon, session: Session) -> None:
    script = [Event(frame, 0, MIDI, bytes([0x90, 60, 97])) for frame in range(0, 9600, 480)]
    with MidiSource(session, script, name="cap-keys", ports=["midi"], speed=4) as source:
        daemon.client.call("device_wait", name="cap-keys", timeout_s=50, format="midi")
        with capture_of(daemon, "cap-keys", format=chaos.MidiFormat()) as stream:
            source.play()
            source.await_end()
            daemon.client.event("stream_activity", stream_uri=stream.uri, last="note on C4 97, channel 1")
            source.hold()
        notes = [row for row in stream.last(1e6)["bytes"] if row != b"\xfe"]  # active sensing, which devices send
        assert len(notes) == len(script)


def test_the_client_has_typed_answers(daemon: Daemon, counting_source: SourceFactory) -> None:
    """Each op of a real chaosd is understood; what the scripted one can't show."""
    source = counting_source("cap-typed", driver=True, speed=4)
    uri = "stream://cap/typed"
    with Client(daemon.command, daemon.events, timeout_s=60) as chaosd:
        device = chaosd.device_wait(source.name, 50)
        found = chaosd.device_find(device.identity)
        # The session manager may make it the default meanwhile.
        assert msgspec.structs.replace(found, is_default=device.is_default) == device
        assert device.identity in [each.identity for each in chaosd.device_list(direction="input")]
        begun = chaosd.stream_start(uri, device.identity, chaos.AudioFormat(), keep="7d")
        assert begun.device is not None
        assert {**begun.device, "is_default": device.is_default} == msgspec.to_builtins(device)
        daemon.client.recording_of(uri)
        assert chaosd.mark(uri, "one", frame=0).frame == 0
        assert [each.uri for each in chaosd.stream_list()] == [uri] == [each.uri for each in chaosd.status().streams]
        assert chaosd.stream_status(uri).state == "streaming"
        ended = chaosd.stream_stop(uri)
        [line] = chaosd.recording_list(uri=uri, since=dt.datetime(2020, 1, 1, tzinfo=dt.UTC))
        assert (line.n_frames, line.marks[0].label, line.clean) == (ended.n_frames, "one", True)
        report = chaosd.verify(uri)
        assert (report.ok, report.n_frames, len(report.chunks)) == (True, ended.n_frames, ended.n_chunks)
        part = chaosd.slice(uri, "start", Moment(frame=10), "virtual")
        assert (part.n_frames, part.path) == (10, None)
        file = chaosd.slice(uri, "start", "head", "materialize", container="wav")
        assert (file.n_written, file.root_hash) == (ended.n_frames, report.root_hash)
        assert chaosd.retire(keep="1d", dry_run=True).retired == []
        assert chaosd.session_list() == []
        assert chaosd.events_since(0, limit=1).events[0]["seq"] == 1
        with pytest.raises(StreamNotFound):
            chaosd.stream_status(uri)
