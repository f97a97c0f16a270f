"""A stream that begins and ends by the clock, whose takes are named by it, and what runs when they have ended."""

from __future__ import annotations

import datetime as dt
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from harness import Daemon, RawClient, RefusedError, SourceFactory
from rig import CountingSource

import chaos
from chaos.store.info import load
from chaos.store.store import Store
from chaos.store.takes import takes_of

URI = "stream://clocked/air"
Start = Callable[..., Daemon]


def begin(client: RawClient, source: CountingSource, **more: Any) -> dict[str, Any]:
    client.call("device_wait", name=source.name, timeout_s=50)
    return client.call("stream_start", uri=URI, device_identity=source.name, format={"type": "audio"}, **more)


def test_it_begins_and_ends_by_itself(daemon: Daemon, client: RawClient, counting_source: SourceFactory) -> None:
    source = counting_source("clocked", driver=True)
    at = dt.datetime.now(dt.UTC) + dt.timedelta(seconds=1)
    begun = begin(client, source, start_at=f"{at:%Y-%m-%dT%H:%M:%S.%fZ}", stop_after_s=1.0)
    assert begun["recording"] == ""
    stopped = client.event("stream_stopped", stream_uri=URI)
    assert (stopped["clean"], stopped["lost_frames"]) == (True, 0)
    info = load(Path(stopped["recording"]))
    assert info.definition.started_wall_ns / 1e9 >= at.timestamp()
    assert info.n_frames > 0
    with chaos.open(URI, daemon.store) as recording:
        found = source.check(np.asarray(recording[:]))
    assert found.ok, found


def test_takes_are_named_by_time_and_a_command_is_given_each(
    chaosd: Start, counting_source: SourceFactory, tmp_path: Path
) -> None:
    daemon = chaosd("--allow-commands")
    client, source, out = daemon.client, counting_source("named", driver=True), tmp_path / "ended"
    begin(
        client, source, roll="1s", take_names="time", staging_seconds=10,
        chunk_size_bytes=65_536, on_roll=f"/bin/sh -c 'echo \"$1\" >> {out}' sh {{path}}",
        on_seal=f"/bin/sh -c 'test -f \"$1\" && echo \"$1\" >> {out}.chunks' sh {{path}}",
    )  # fmt: skip
    for _ in range(2):
        client.event("stream_rolled", stream_uri=URI)
    client.call("stream_stop", uri=URI)
    takes = takes_of(Store(daemon.store), URI)
    assert len(takes) >= 3
    assert [take.away for take in takes] == [0] * len(takes), "each goes on from the one before"
    assert all(re.fullmatch(re.escape(URI) + r"\.\d{14}", take.digest.definition.uri) for take in takes[1:])
    with chaos.open(URI, daemon.store) as recording:
        found = source.check(np.asarray(recording[:]))
    assert found.ok, found
    client.call("shutdown")  # which waits for the commands
    assert sorted(out.read_text().split()) == sorted(str(take.path) for take in takes)
    chunks = Path(f"{out}.chunks").read_text().split()
    assert len(chunks) == len(set(chunks)) == sum(take.digest.n_chunks for take in takes)


def test_commands_are_off_and_must_be_there(
    chaosd: Start, daemon: Daemon, client: RawClient, counting_source: SourceFactory
) -> None:
    source = counting_source("mute", driver=True)
    with pytest.raises(RefusedError) as refused:
        begin(client, source, on_roll="/bin/true")
    assert (refused.value.code, "--allow-commands" in refused.value.hint) == ("unauthorized", True)
    open_one = chaosd("--allow-commands").client
    with pytest.raises(RefusedError, match="there is no program") as absent:
        begin(open_one, source, on_seal="/no/such/program")
    assert absent.value.code == "invalid_request"


def test_chaosctl_says_when(daemon: Daemon, client: RawClient, counting_source: SourceFactory) -> None:
    source = counting_source("spoken", description="Spoken desk", driver=True)
    client.call("device_wait", name=source.name, timeout_s=50)
    env = {**os.environ, **daemon.session.env, "CHAOS_ENDPOINT": daemon.command, "CHAOS_EVENTS": daemon.events}
    ctl = str(Path(sys.executable).with_name("chaosctl"))

    def run(*arguments: str) -> str:
        done = subprocess.run([ctl, *arguments], env=env, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    year = dt.datetime.now().year + 1
    said = run("start", URI, "--target", "Spoken", "--at", f"{year}-07-01T18:00", "--for", "2h")
    assert re.search(rf"waiting: Spoken desk.*\n  it is to begin at {year}-07-01 18:00:00 ", said)
    assert re.search(r"records from \w+ \d{4}-07-01 18:00 .*, for 2h from its first frame on\n", said)
    shown = run("status", URI)
    assert re.search(rf"  begins +{year}-07-01 18:00:00 ", shown)
    assert "nothing was kept" in run("stop")
