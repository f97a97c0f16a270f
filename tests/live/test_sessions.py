"""Sessions: streams that begin together, are one in lists and in recordings, and end together."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import mido
import numpy as np
import pytest
import soundfile
import zarr
from harness import Daemon, RawClient, RefusedError, SourceFactory
from rig import CLICK, MIDI, CountingSource, Event, MidiSource, Session

import chaos
from chaos.export.report import SaveReport
from chaos.export.session import save_session
from chaos.store.catalog import Catalog
from chaos.store.info import load
from chaos.store.members import members_of
from chaos.store.store import Store

AUDIO = {"type": "audio"}


def start(client: RawClient, session: str, *devices: str, **fields: Any) -> dict[str, Any]:
    for name in devices:
        client.call("device_wait", name=name, timeout_s=50, format="audio")
    streams = [{"uri": f"stream://{name}/{session}", "device_identity": name, "format": AUDIO} for name in devices]
    return client.call("session_start", session=session, streams=streams, **fields)


def await_frames(client: RawClient, uri: str, n_frames: int) -> None:
    while client.event("stream_head_position", stream_uri=uri)["frame"] < n_frames:
        pass


def test_streams_of_one_driver_begin_with_one_frame_and_others_say_how_they_are_related(
    counting_source: SourceFactory, client: RawClient
) -> None:
    source, other = counting_source("se-one", driver=True), counting_source("se-two", channels=1, driver=True)
    for name in ("se-one", "se-two"):
        client.call("device_wait", name=name, timeout_s=50, format="audio")
    uris = ["stream://left/jam", "stream://right/jam", "stream://two/jam"]
    streams = [
        {"uri": uris[0], "device_identity": "se-one", "format": AUDIO, "channel_map": ["1"]},
        {"uri": uris[1], "device_identity": "se-one", "format": AUDIO, "channel_map": ["2"]},
        {"uri": uris[2], "device_identity": "se-two", "format": AUDIO},
    ]
    begun = client.call("session_start", session="jam", streams=streams)["streams"]
    assert [stream["uri"] for stream in begun] == uris
    for uri in uris:
        await_frames(client, uri, 24_000)
    status = client.call("session_status", session="jam")
    ended = client.call("session_stop", session="jam")["streams"]
    assert [end["uri"] for end in ended] == uris
    after = client.call("session_status", session="jam")
    assert (status["running"], after["running"]) == (True, False)
    assert [stream["state"] for stream in after["streams"]] == ["finished"] * 3
    infos = [load(Path(end["recording"])) for end in ended]
    assert [(info.definition.session, info.definition.session_uris) for info in infos] == [("jam", uris)] * 3
    for told in (status["streams"], after["streams"]):
        assert [(stream["related_by"], stream["offset_frames"]) for stream in told[:2]] == [("graph_clock", 0)] * 2
        assert told[2]["clock_id"] != told[0]["clock_id"], "each of the two devices drives itself"
        assert told[2]["related_by"] == "monotonic_clock"
    assert infos[0].anchors[0].position == infos[1].anchors[0].position
    left, right, two = (np.asarray(zarr.open_array(f"{end['recording']}/audio", mode="r")[:]) for end in ended)
    n_frames = min(left.shape[1], right.shape[1])
    assert source.check(np.concatenate([left[:, :n_frames], right[:, :n_frames]])).ok
    assert other.check(two).ok
    [line] = [each for each in client.call("session_list")["sessions"] if each["session"] == "jam"]
    assert (line["uris"], line["running"]) == (uris, False)


def test_a_session_begins_and_ends_by_the_clock(counting_source: SourceFactory, client: RawClient) -> None:
    source = counting_source("se-clock", driver=True)
    client.call("device_wait", name=source.name, timeout_s=50, format="audio")
    streams = [
        {"uri": f"stream://clock/{number}", "device_identity": source.name, "format": AUDIO, "channel_map": [number]}
        for number in ("1", "2")
    ]
    begin = dt.datetime.now(dt.UTC) + dt.timedelta(seconds=1.5)
    at = {"start_at": f"{begin:%Y-%m-%dT%H:%M:%S.%fZ}", "stop_after_s": 0.5}
    client.call("session_start", session="clock", streams=streams, **at)
    began = client.event("session_began", session="clock")
    assert (began["uris"], began["waiting"]) == (["stream://clock/1", "stream://clock/2"], [])
    ended = client.event("session_stopped", session="clock")
    assert ended["monotonic_ns"] - began["begins_monotonic_ns"] >= 0.5e9
    found = [load(Path(each["recording"])) for each in client.call("session_status", session="clock")["streams"]]
    assert all(info.definition.started_wall_ns >= begin.timestamp() * 1e9 for info in found)
    assert [info.anchors[0].position for info in found] == [found[0].anchors[0].position] * 2
    # A device that waits for who captures it brings less than half a second in that time, where the machine is busy.
    assert [(info.n_frames > 0, info.clean) for info in found] == [(True, True)] * 2


def test_a_session_begins_whole_or_not_at_all(counting_source: SourceFactory, client: RawClient) -> None:
    counting_source("se-there")
    client.call("device_wait", name="se-there", timeout_s=50, format="audio")
    streams = [
        {"uri": "stream://se/there", "device_identity": "se-there", "format": AUDIO},
        {"uri": "stream://se/away", "device_identity": "se-away", "format": AUDIO},
    ]
    with pytest.raises(RefusedError) as refused:
        client.call("session_start", session="half", streams=streams)
    assert refused.value.code == "device_not_found"
    assert client.call("stream_list")["streams"] == []
    with pytest.raises(RefusedError) as refused:
        client.call("session_stop", session="half")
    assert refused.value.code == "session_not_found"


def test_a_name_is_used_once(counting_source: SourceFactory, client: RawClient) -> None:
    counting_source("se-name")
    start(client, "once", "se-name")
    for stop_first in (False, True):
        if stop_first:
            client.call("session_stop", session="once")
        with pytest.raises(RefusedError) as refused:
            start(client, "once", "se-name")
        assert refused.value.code == "session_exists"
    with pytest.raises(RefusedError) as refused:
        client.call("session_status", session="never")
    assert refused.value.code == "session_not_found"


def test_a_session_that_waits_goes_on_without_who_is_away(counting_source: SourceFactory, client: RawClient) -> None:
    counting_source("se-here")
    client.call("device_wait", name="se-here", timeout_s=50, format="audio")
    streams = [
        {"uri": "stream://se-here/w", "device_identity": "se-here", "format": AUDIO},
        {"uri": "stream://se-late/w", "device_identity": "se-late", "format": AUDIO},
    ]
    begun = client.call("session_start", session="w", streams=streams, wait=True)
    assert begun["waiting"] == ["stream://se-late/w"]
    began = client.event("session_began", session="w")
    assert (began["uris"], began["waiting"]) == (["stream://se-here/w"], ["stream://se-late/w"])
    await_frames(client, "stream://se-here/w", 4800)
    before = [each for each in client.call("events_since", seq=0)["events"] if each["seq"] < began["seq"]]
    states = [each["state"] for each in before if each["type"] == "stream_state"]
    assert "stalled" not in states, "it was waiting for the other one"
    status = client.call("stream_status", uri="stream://se-here/w")
    assert load(Path(status["recording"])).definition.started_monotonic_ns >= began["begins_monotonic_ns"]
    counting_source("se-late")
    await_frames(client, "stream://se-late/w", 4800)
    here, late = client.call("session_status", session="w")["streams"]
    assert here["offset_frames"] == 0
    assert late["offset_frames"] < 0, "it began later than the first"
    client.call("session_stop", session="w")


def test_a_click_and_a_note_stay_together_through_a_crash(
    session: Session, chaosd: Callable[..., Daemon], tmp_path: Path
) -> None:
    daemon = chaosd()
    client = daemon.client
    script = [Event(frame, port, kind, data) for number, frame in enumerate(range(0, 96_000, 4801))
              for port, kind, data in ((0, CLICK, b""), (1, MIDI, bytes([0x90, 30 + number, 97])))]  # fmt: skip
    with MidiSource(session, script, name="se-crash", channels=1, ports=["midi"], speed=5) as source:
        streams = [
            {
                "uri": f"stream://{kind}/crash",
                "device_identity": client.call("device_wait", name="se-crash", timeout_s=50, format=kind)["device"][
                    "identity"
                ],
                "format": {"type": kind},
            }
            for kind in ("audio", "midi")
        ]
        client.call("session_start", session="crash", streams=streams)
        source.play()
        source.await_end()
        source.hold()
        daemon.kill()
    daemon.start()
    # A stream of that name begins only once what was left of it is brought in, and is then refused.
    with pytest.raises(RefusedError, match="recorded already"):
        client.call("stream_start", uri="stream://midi/crash", device_identity="x", format={"type": "midi"})
    clicks: dict[int, None] = {}
    notes: dict[int, None] = {}
    for kind, found in (("audio", clicks), ("midi", notes)):
        assert client.call("verify", uri=f"stream://{kind}/crash")["state"] == "finished"
        with chaos.open(f"stream://{kind}/crash", daemon.store) as recording:
            begin = recording.anchors[0].position
            if kind == "audio":
                found |= {begin + int(frame): None for frame in np.flatnonzero(recording[:][0])}
            else:
                rows = recording.events[:]
                found |= {begin + int(row.frame): None for row in rows if row.bytes[:1] == b"\x90"}
    assert list(clicks) == list(notes)
    assert len(clicks) == len(script) // 2
    told = client.call("session_status", session="crash")
    assert [stream["offset_frames"] for stream in told["streams"]] == [0, 0]
    reports = offline_save(daemon.store, "crash", tmp_path / "out")
    assert {report.aligned_by for report in reports} == {"graph_clock"}


def offline_save(store: Path, name: str, folder: Path) -> list[SaveReport]:
    with ExitStack() as stack:
        recordings = [stack.enter_context(chaos.open(f"stream://{kind}/{name}", store)) for kind in ("audio", "midi")]
        return save_session(name, recordings, folder)


def test_a_click_and_a_note_at_one_frame_stay_there(
    session: Session, chaosd: Callable[..., Daemon], tmp_path: Path
) -> None:
    """One driver's audio and MIDI, through capture, store and files."""
    daemon = chaosd()
    client = daemon.client
    frames = [0, 1023, 1024, 5000, 9999, 30_000]
    script = [Event(frame, 0, CLICK, b"") for frame in frames]
    script += [Event(frame, 1, MIDI, bytes([0x90, 60 + number, 97])) for number, frame in enumerate(frames)]
    with MidiSource(session, sorted(script), name="se-stage", channels=1, ports=["midi"], speed=5) as source:
        audio = client.call("device_wait", name="se-stage", timeout_s=50, format="audio")["device"]
        midi = client.call("device_wait", name="se-stage", timeout_s=50, format="midi")["device"]
        streams = [
            {"uri": "stream://clicks/stage", "device_identity": audio["identity"], "format": AUDIO},
            {"uri": "stream://notes/stage", "device_identity": midi["identity"], "format": {"type": "midi"}},
        ]
        client.call("session_start", session="stage", streams=streams)
        first = source.play()
        source.await_end()
        heard = client.event("stream_activity", stream_uri="stream://notes/stage", last="note on F4 97, channel 1")
        assert heard["n_events"] >= len(frames)
        status = client.call("stream_status", uri="stream://notes/stage")
        assert status["activity"]["last"] == "note on F4 97, channel 1"
        told = client.call("session_status", session="stage")["streams"]
        source.hold()
        client.call("session_stop", session="stage")
    assert [stream["related_by"] for stream in told] == ["graph_clock", "graph_clock"]
    assert [stream["offset_frames"] for stream in told] == [0, 0]
    recordings = [chaos.open(f"stream://{name}/stage", daemon.store) for name in ("clicks", "notes")]
    try:
        assert recordings[0].anchors[0].position == recordings[1].anchors[0].position
        reports = save_session("stage", recordings, tmp_path / "out")
    finally:
        for recording in recordings:
            recording.close()
    begin = recordings[0].anchors[0].position + reports[0].first_frame
    samples, rate = soundfile.read(tmp_path / "out" / "clicks-stage.wav")
    clicks = np.flatnonzero(samples).tolist()
    tune = mido.MidiFile(tmp_path / "out" / "notes-stage.mid")
    at, notes = 0, []
    for message in tune.tracks[1]:
        at += message.time
        if message.type == "note_on":
            notes.append(at)
    assert clicks == notes == [first + frame - begin for frame in frames]
    assert tune.ticks_per_beat * 1_000_000 == rate * tune.tracks[0][1].tempo
    assert json.loads((tmp_path / "out" / "session.json").read_text())["session"] == "stage"


def offered(*names: str, **fields: Any) -> list[dict[str, Any]]:
    return [{"uri": f"stream://{name}/tour", "device_identity": name, "format": AUDIO, **fields} for name in names]


def await_recovered(client: RawClient) -> None:
    """A stream begins only once what was left is brought in."""
    with pytest.raises(RefusedError):
        client.call("stream_start", uri="stream://no/1", device_identity="?", format=AUDIO)


def saved(store: Path, name: str, folder: Path) -> dict[str, Any]:
    with ExitStack() as stack, Catalog(Store(store)) as catalog:
        uris = members_of(catalog, name).recorded
        save_session(name, [stack.enter_context(chaos.open(uri, store)) for uri in uris], folder)
    return dict(json.loads((folder / "session.json").read_text()))


def check_whole(source: CountingSource, stream: dict[str, Any], folder: Path) -> None:
    """The stream's file holds each frame that the source gave, over the seams of its takes, and silence around."""
    samples = soundfile.read(folder / stream["file"], dtype="float32", always_2d=True)[0]
    own = samples[stream["frames_before"] : len(samples) - stream["frames_after"]]
    assert len(own) == stream["n_frames"]
    gaps = [(gap["first_frame"], gap["n_frames"]) for gap in stream["saved"]["gaps"]]
    assert source.check(own.T, gaps=gaps).ok


def test_streams_that_have_rolled_are_one_in_status_verify_and_save(
    counting_source: SourceFactory, daemon: Daemon, client: RawClient, tmp_path: Path
) -> None:
    source = counting_source("se-roll", driver=True, speed=4)
    client.call("device_wait", name="se-roll", timeout_s=50, format="audio")
    uri = "stream://se-roll/tour"
    client.call("session_start", session="tour", streams=offered("se-roll", roll="1s"))
    assert client.event("session_started")["uris"] == [uri]
    for _ in range(2):
        client.event("stream_rolled", stream_uri=uri)
    n_frames = 0
    while n_frames < 2 * 48_000:
        [told] = client.call("session_status", session="tour")["streams"]
        n_frames = told["n_frames"]
    assert (told["n_takes"] >= 2, told["state"]) == (True, "streaming")
    [ended] = client.call("session_stop", session="tour")["streams"]
    assert client.event("session_stopped")["session"] == "tour"
    after = client.call("session_status", session="tour")
    [stream] = after["streams"]
    assert (after["running"], stream["state"], stream["offset_frames"]) == (False, "finished", 0)
    assert stream["n_frames"] > ended["n_frames"], "all takes count, not the last one alone"
    total = {key: stream[key] for key in ("n_takes", "n_frames", "lost_frames")}
    assert {key: ended["total"][key] for key in total} == total
    assert client.call("verify", uri=uri)["n_frames"] == stream["n_frames"]
    told = saved(daemon.store, "tour", tmp_path / "out")
    assert (told["n_frames"], len(told["streams"][0]["takes"])) == (stream["n_frames"], stream["n_takes"])
    check_whole(source, told["streams"][0], tmp_path / "out")


def test_a_session_that_has_rolled_and_joined_late_is_whole_after_a_crash(
    counting_source: SourceFactory, chaosd: Callable[..., Daemon], tmp_path: Path
) -> None:
    daemon = chaosd()
    client = daemon.client
    early = counting_source("se-early", driver=True)
    client.call("device_wait", name="se-early", timeout_s=50, format="audio")
    client.call("session_start", session="tour", streams=offered("se-early", "se-tardy", roll="1s"), wait=True)
    client.event("stream_rolled", stream_uri="stream://se-early/tour")
    tardy = counting_source("se-tardy", driver=True)
    client.event("stream_rolled", stream_uri="stream://se-tardy/tour")
    while min(each["n_takes"] for each in client.call("session_status", session="tour")["streams"]) < 2:
        pass
    daemon.kill()
    daemon.start()
    await_recovered(client)
    [line] = [each for each in client.call("session_list")["sessions"] if each["session"] == "tour"]
    assert (line["running"], line["uris"]) == (False, ["stream://se-early/tour", "stream://se-tardy/tour"])
    status = client.call("session_status", session="tour")
    assert status["running"] is False
    told = saved(daemon.store, "tour", tmp_path / "out")
    for stream, known in zip(told["streams"], status["streams"], strict=True):
        assert (known["state"], known["n_takes"] >= 2) == ("finished", True)
        assert client.call("verify", uri=stream["uri"])["n_frames"] == stream["n_frames"] == known["n_frames"]
    assert told["streams"][1]["frames_before"] > 24_000, "it joined late, and its file says so"
    for source, stream in zip((early, tardy), told["streams"], strict=True):
        check_whole(source, stream, tmp_path / "out")
    with pytest.raises(RefusedError) as refused:
        client.call("session_start", session="tour", streams=offered("se-early"))
    assert refused.value.code == "session_exists"


def test_a_session_in_standby_is_kept_as_one(
    counting_source: SourceFactory, daemon: Daemon, client: RawClient, tmp_path: Path
) -> None:
    sources = [counting_source(name, driver=True) for name in ("se-idea", "se-whim")]
    for source in sources:
        client.call("device_wait", name=source.name, timeout_s=50, format="audio")
    client.call("session_start", session="tour", streams=offered("se-idea", "se-whim", standby_s=60.0))
    for uri in ("stream://se-idea/tour", "stream://se-whim/tour"):
        await_frames(client, uri, 24_000)
    status = client.call("session_status", session="tour")
    assert [(each["standby_s"], each["recording"]) for each in status["streams"]] == [(60.0, "")] * 2
    kept = client.call("session_keep", session="tour")
    assert (kept["refused"], all(each["n_frames"] >= 24_000 for each in kept["streams"])) == ([], True)
    with pytest.raises(RefusedError, match="no stream of the session tour is in standby"):
        client.call("session_keep", session="tour")
    client.call("session_stop", session="tour")
    told = saved(daemon.store, "tour", tmp_path / "out")
    for source, stream in zip(sources, told["streams"], strict=True):
        check_whole(source, stream, tmp_path / "out")
    with pytest.raises(RefusedError) as refused:
        client.call("session_keep", session="tour")
    assert refused.value.code == "session_not_found"
    client.call("session_start", session="unkept", streams=[offered("se-idea", standby_s=60.0)[0] | {"uri": "stream://se-idea/unkept"}])
    client.call("session_stop", session="unkept")
    after = client.call("session_status", session="unkept")
    assert (after["running"], [each["state"] for each in after["streams"]]) == (False, ["missing"]), "it was there"


def test_a_name_whose_start_was_refused_can_be_used_again(counting_source: SourceFactory, client: RawClient) -> None:
    counting_source("se-again")
    client.call("device_wait", name="se-again", timeout_s=50, format="audio")
    wrong = [*offered("se-again"), *offered("se-nowhere")]
    for _ in range(2):
        with pytest.raises(RefusedError) as refused:
            client.call("session_start", session="tour", streams=wrong)
        assert refused.value.code == "device_not_found"
        with pytest.raises(RefusedError, match="there is no session tour"):
            client.call("session_status", session="tour")
    assert client.call("recording_list")["recordings"] == []
    client.call("session_start", session="tour", streams=offered("se-again"))
    await_frames(client, "stream://se-again/tour", 4800)
    client.call("stream_stop", uri="stream://se-again/tour")
    assert client.event("session_stopped")["uris"] == ["stream://se-again/tour"], "its last stream has ended"
    assert client.call("session_status", session="tour")["running"] is False
