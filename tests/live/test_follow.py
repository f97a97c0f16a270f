"""Readers in other processes, who follow a recording while it grows."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from harness import Daemon, RawClient, SourceFactory

SECONDS = int(os.environ.get("CHAOS_FOLLOW_SECONDS", "4"))
RATE = 48_000


class Follower:
    """The process of follower.py."""

    def __init__(self, recording: str, source_id: int, block_frames: int, n_frames: int) -> None:
        script = Path(__file__).with_name("follower.py")
        command = [sys.executable, str(script), recording, *map(str, (source_id, block_frames, n_frames))]
        self.child = subprocess.Popen(command, stdout=subprocess.PIPE)

    def said(self, what: str) -> dict[str, Any]:
        """The next line that says this; others before it are passed over."""
        assert self.child.stdout is not None
        for line in self.child.stdout:
            told: dict[str, Any] = json.loads(line)
            if what in told:
                return told
        raise AssertionError(f"the follower ended, and never said {what!r}")

    def close(self) -> None:
        self.child.kill()
        self.child.communicate()


@pytest.fixture
def follow() -> Iterator[Callable[..., Follower]]:
    followers: list[Follower] = []

    def begin(*arguments: Any) -> Follower:
        followers.append(Follower(*arguments))
        return followers[-1]

    yield begin
    for follower in followers:
        follower.close()


def start(client: RawClient, source: str, uri: str, **fields: Any) -> str:
    """The path of the recording that now runs."""
    client.call("device_wait", name=source, timeout_s=50)
    form = {"type": "audio"}
    client.call("stream_start", uri=uri, device_identity=source, format=form, **fields)
    return client.recording_of(uri)


def await_frames(client: RawClient, uri: str, n_frames: int) -> None:
    while client.event("stream_head_position", stream_uri=uri)["frame"] < n_frames:
        pass


def test_another_process_sees_every_frame_of_64_channels(
    counting_source: SourceFactory, client: RawClient, follow: Callable[..., Follower]
) -> None:
    """In blocks that are as long as nothing else here; `just follow` has it go on for a minute."""
    uri = "stream://wall/1"
    source = counting_source("wall-64", channels=64, driver=True)
    recording = start(client, source.name, uri, chunk_size_bytes=64 * 30_000 * 4)
    follower = follow(recording, source.source_id, 2311, SECONDS * RATE)
    told = follower.said("n_frames")
    assert told["right"] == told["n_frames"] >= SECONDS * RATE
    assert (told["lost"], told["n_laps"]) == (0, 0)
    assert client.call("stream_stop", uri=uri)["lost_frames"] == 0


def test_one_that_was_stopped_learns_that_it_was_lapped(
    counting_source: SourceFactory, client: RawClient, follow: Callable[..., Follower]
) -> None:
    """Then it reads on where it stood: not one frame is wrong, and none is left out.

    With so few slots the engine itself may lose some on a busy machine: then they are in the ledger.
    """
    uri = "stream://lapped/1"
    source = counting_source("lapped", driver=True, speed=4)
    recording = start(client, source.name, uri, chunk_size_bytes=4800 * 8, staging_seconds=0.5)
    follower = follow(recording, source.source_id, 480, 4 * RATE)
    stopped_at = follower.said("began")["began"]
    os.kill(follower.child.pid, signal.SIGSTOP)
    await_frames(client, uri, stopped_at + 2 * RATE)
    os.kill(follower.child.pid, signal.SIGCONT)
    lapped = follower.said("lapped")["lapped"]
    assert stopped_at <= lapped["frame"] < lapped["oldest_frame"] <= lapped["head"]
    told = follower.said("n_frames")
    assert told["right"] == told["n_frames"] >= 4 * RATE
    assert told["n_laps"] >= 1
    assert told["lost"] < told["n_frames"]
    client.call("stream_stop", uri=uri)


def test_a_follower_ends_with_the_stream(
    counting_source: SourceFactory, client: RawClient, follow: Callable[..., Follower]
) -> None:
    """The last frames, which were in no full block, are among those it got."""
    uri = "stream://ends/1"
    source = counting_source("ends", driver=True, speed=4)
    recording = start(client, source.name, uri)
    follower = follow(recording, source.source_id, 1000, 1_000_000)
    began = follower.said("began")["began"]
    await_frames(client, uri, began + RATE)
    n_frames = client.call("stream_stop", uri=uri)["n_frames"]
    told = follower.said("n_frames")
    assert told["right"] == told["n_frames"] == n_frames - began


def test_a_killed_daemon_ends_its_followers(
    counting_source: SourceFactory, chaosd: Callable[..., Daemon], follow: Callable[..., Follower]
) -> None:
    """What the callback had committed is read to the last frame, though nobody has sealed it."""
    uri = "stream://killed/1"
    daemon = chaosd()
    source = counting_source("killed", driver=True, speed=4)
    recording = start(daemon.client, source.name, uri)
    follower = follow(recording, source.source_id, 1000, 1_000_000)
    began = follower.said("began")["began"]
    await_frames(daemon.client, uri, began + RATE)
    daemon.kill()
    told = follower.said("n_frames")
    assert told["interrupted"]
    assert told["right"] == told["n_frames"] >= RATE
