"""A session whose PipeWire restarts: its members wait, go on, and one `session.json` tells of all."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from harness import Daemon, RawClient
from rig import CountingSource, MidiSource, Session, random_tune

import chaos
from chaos.export.session import save_session
from chaos.store.verify import verify

URIS = {"audio": "stream://reborn-mic/jam", "midi": "stream://reborn-keys/jam"}
SENSING = b"\xfe"
TUNE = random_tune(1024, 400, 200_000)


@pytest.fixture
def daemon(own_session: Session, tmp_path: Path) -> Iterator[Daemon]:
    with Daemon(own_session, tmp_path) as daemon:
        yield daemon


def plug_in(session: Session, client: RawClient, stack: ExitStack) -> MidiSource:
    stack.enter_context(CountingSource(session, name="reborn-mic", channels=1, source_id=3))
    keys = stack.enter_context(MidiSource(session, TUNE, name="reborn-keys", speed=10))
    for kind, uri in URIS.items():
        client.call("device_wait", name=uri.split("/")[2], timeout_s=50, format=kind)
    return keys


def play(keys: MidiSource) -> None:
    """Once it is held, what it played has gone through all callbacks: nothing more comes until it is let begin."""
    keys.play()
    assert keys.await_end() == 0
    keys.hold()


def await_kept(client: RawClient, uri: str) -> None:
    """Waits for a frame that is kept: the first cycles are not believed, and what they bring is a gap."""
    while True:
        status = client.call("stream_status", uri=uri)
        if status["head_frame"] > status["lost_frames"]:
            return
        client.event("stream_head_position", stream_uri=uri)


def test_the_members_of_a_session_go_on_when_pipewire_is_back(
    own_session: Session, daemon: Daemon, tmp_path: Path
) -> None:
    client = daemon.client
    with ExitStack() as stack:
        keys = plug_in(own_session, client, stack)
        streams = [
            {"uri": uri, "device_identity": uri.split("/")[2], "format": {"type": kind}} for kind, uri in URIS.items()
        ]
        client.call("session_start", session="jam", streams=streams)
        for uri in URIS.values():
            await_kept(client, uri)
        play(keys)
        own_session.kill_pipewire()
        client.all_of(*({"type": "stream_state", "stream_uri": uri, "state": "waiting"} for uri in URIS.values()))
        session = client.call("session_status", session="jam")
        assert (session["running"], [each["state"] for each in session["streams"]]) == (True, ["waiting"] * 2)
        stack.pop_all().close()
        own_session.start_pipewire()
        keys = plug_in(own_session, client, stack)
        # The gap has an end once the first frame behind it is kept.
        closed = {"type": "stream_gap", "cause": "device_away", "n_frames": lambda n_frames: n_frames is not None}
        client.all_of(*({"stream_uri": uri, **closed} for uri in URIS.values()))
        play(keys)
        ended: list[dict[str, Any]] = client.call("session_stop", session="jam")["streams"]
    assert [each["clean"] for each in ended] == [True, True]
    recordings = [chaos.open(Path(each["recording"])) for each in ended]
    save_session("jam", recordings, tmp_path / "out")
    told = json.loads((tmp_path / "out" / "session.json").read_text())
    assert [each["uri"] for each in told["streams"]] == list(URIS.values())
    for each, recording in zip(ended, recordings, strict=True):
        assert verify(Path(each["recording"])).ok
        assert [gap.cause.label for gap in recording.gaps].count("device_away") == 1
    found = [row.bytes for row in recordings[1].events[:] if row.bytes != SENSING]
    for recording in recordings:
        recording.close()
    assert found == [event.data for event in sorted(TUNE) * 2]
