"""One program's sound, of a real program and of a node such as JACK clients have: listed, recorded, waited for."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import soundfile
import zarr
from harness import Daemon, RawClient, RefusedError
from rig import RigError, Session, SlowNode

import chaos

AUDIO = {"type": "audio"}
SCALE = 1 << 23


@pytest.fixture
def song(tmp_path: Path) -> Path:
    """A minute in which frame n is (n + 1) / 2**23: none of them is silent, and no two are alike."""
    path = tmp_path / "count.wav"
    ramp = np.arange(1, 60 * 48000 + 1, dtype=np.float32) / SCALE
    soundfile.write(path, np.stack([ramp, -ramp], axis=1), 48000, subtype="FLOAT")
    return path


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


@contextmanager
def playing(session: Session, song: Path) -> Iterator[None]:
    player = session.spawn("pw-cat", "--playback", "--target", "0", str(song))
    try:
        yield
    finally:
        session.end(player)


def is_player(device: dict[str, Any]) -> bool:
    return bool(device["name"] == "pw-cat")


def numbers_of(recording: str) -> list[npt.NDArray[Any]]:
    """The numbers of the song's frames in each stretch between two gaps; 0 where the program sent silence."""
    samples = np.asarray(zarr.open_array(f"{recording}/audio", mode="r")[:])
    np.testing.assert_array_equal(samples[0], -samples[1])
    gaps = np.asarray(zarr.open_array(f"{recording}/gaps", mode="r")[:])[:, :2]
    counted = np.rint(samples[0].astype(np.float64) * SCALE).astype(np.int64)
    ends = [*gaps[:, 0], len(counted)]
    starts = [0, *(gaps[:, 0] + gaps[:, 1])]
    return [counted[start:end] for start, end in zip(starts, ends, strict=True)]


def await_sound(daemon: Daemon, uri: str, first_frame: int) -> None:
    """Returns when something is kept, from that frame on, that isn't silence."""
    with chaos.open(uri, daemon.store) as recording:
        while not recording[first_frame:].any():
            daemon.client.event("stream_head_position", stream_uri=uri)


def test_a_players_sound_is_recorded_and_waited_for(
    session: Session, daemon: Daemon, client: RawClient, song: Path
) -> None:
    uri = "stream://song/1"
    with playing(session, song):
        client.all_of({"type": "program_added", "device": is_player})
        program = client.call("device_wait", name="pw-cat", timeout_s=50)["device"]
        assert program["identity_basis"] == "program"
        assert program["identity"].startswith("program:pw-cat/")
        assert program in client.call("device_list", all=True)["devices"]
        listed = client.call("device_list")["devices"]
        assert listed
        assert all(device["identity_basis"] != "program" for device in listed)
        client.call("stream_start", uri=uri, device_identity=program["identity"], format=AUDIO)
        await_sound(daemon, uri, 0)
    _, waiting = client.all_of(
        {"type": "program_removed", "device": is_player},
        {"type": "stream_state", "stream_uri": uri, "state": "waiting"},
    )
    assert program["identity"] in waiting["reason"]
    with playing(session, song):
        _, gap = client.all_of(
            {"type": "stream_state", "stream_uri": uri, "state": "streaming"},
            {"type": "stream_gap", "stream_uri": uri, "cause": "device_away", "n_frames": lambda n: n is not None},
        )
        await_sound(daemon, uri, gap["first_frame"] + gap["n_frames"])
        stopped = client.call("stream_stop", uri=uri)
    said = [event for event in client.events_so_far() if event["type"].startswith("device_")]
    assert all(event["device"]["name"] != "pw-cat" for event in said)
    heard = [stretch for stretch in numbers_of(stopped["recording"]) if stretch.any()]
    assert len(heard) >= 2
    for stretch in heard:
        both = (stretch[:-1] != 0) & (stretch[1:] != 0)
        assert (np.diff(stretch)[both] == 1).all()


def test_a_jack_clients_ports_are_recorded_and_nobody_elses(
    session: Session, chaosd: Callable[..., Daemon], stack: ExitStack
) -> None:
    """Its ports are there before chaosd is, which so sees all of them at once."""
    for name, *channels in (("jk-synth", "FL", "FR"), ("jk-synth", "FL", "FR"), ("jk-other", "AUX5")):
        node = SlowNode(session, name, "jack")
        stack.callback(node.close)
        for channel in channels:
            node.add(channel)
    nodes = [entry for entry in session.objects() if entry["type"].endswith(":Node")]
    props = [node["info"]["props"] for node in nodes]
    serials = sorted(each["object.serial"] for each in props if each["node.name"].startswith("jk-"))
    daemon, uri = chaosd(), "stream://synth/1"
    client = daemon.client
    for serial in serials:
        client.call("device_wait", name=f"object:{serial}", timeout_s=50)
    start = {"uri": uri, "format": {**AUDIO, "channels": 2}, "channel_map": ["2", "1"]}
    with pytest.raises(RefusedError, match="device_ambiguous") as caught:
        client.call("stream_start", device_identity="jk-synth", **start)
    twins = caught.value.details["candidates"]
    assert len({twin["identity"] for twin in twins}) == 1
    assert sorted(twin["object_serial"] for twin in twins) == serials[:2]
    chosen = f"object:{serials[0]}"
    assert chosen in caught.value.hint
    client.call("stream_start", device_identity=chosen, **start)
    await_sound(daemon, uri, 0)
    with contextlib.suppress(RigError):
        session.run("pw-link", "jk-other:capture_AUX5", "chaosd.synth.1:input_1")
    told = client.event("stream_error", stream_uri=uri)
    assert told["error"]["code"] == "foreign_link"
    client.event("stream_head_position", stream_uri=uri)
    stopped = client.call("stream_stop", uri=uri)
    samples = np.asarray(zarr.open_array(f"{stopped['recording']}/audio", mode="r")[:])
    assert [set(np.unique(channel)) - {0.0} for channel in samples] == [{0.5}, {0.25}]
