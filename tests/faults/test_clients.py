"""What clients, devices and other programs do beside a capture: a few times here, many times with `just abuse`."""

from __future__ import annotations

import resource
from pathlib import Path

import pytest
from harness import Daemon, RefusedError
from proof.abuse import ABUSES, run
from proof.clients import IDLE, a_hundred, crowd
from proof.scene import Abuse, Scene
from rig import CountingSource, Session

from chaos.doors.zmq.arrivals import MAX_UNFINISHED_BYTES
from chaos.system.descriptors import OF_STREAM

FEW = 2000  # a long run does it so many times as often
N_STREAMS = 25  # more files than SOFT_LIMIT; a long run has a hundred streams under 1,024
SOFT_LIMIT = 256
SOON = [abuse for abuse in ABUSES if abuse.act is not a_hundred]


def each_a_few_times(scene: Scene, n: int) -> None:
    for abuse in SOON:
        abuse.act(scene, max(1, abuse.often // FEW))


def test_all_of_it_costs_no_frame_and_nothing_is_kept(session: Session, tmp_path: Path) -> None:
    row = run(session, tmp_path, Abuse("each a few times", 1, each_a_few_times), often=1)
    assert row.ok, row
    before, after = row.descriptors
    assert after - before <= 2, row
    before, after = row.memory_kib
    assert (after - before) << 10 < 2 * MAX_UNFINISHED_BYTES, row  # the allocator may keep what was given back to it


def limited(session: Session, folder: Path, soft: int, hard: int) -> Daemon:
    """A chaosd that may open `soft` files when it starts, and never more than `hard`."""
    return Daemon(session, folder, under=["prlimit", f"--nofile={soft}:{hard}", "--"])


def start(daemon: Daemon, number: int, source: CountingSource) -> None:
    daemon.client.call(
        "stream_start",
        uri=f"stream://many/{number}",
        device_identity=source.name,
        format={"type": "audio"},
        chunk_size_bytes=768_000,
        staging_seconds=6,
    )


def refused(daemon: Daemon, number: int, source: CountingSource) -> RefusedError | None:
    try:
        start(daemon, number, source)
    except RefusedError as error:
        return error
    return None


def stop(daemon: Daemon, n_streams: int) -> None:
    asked = [daemon.client.send("stream_stop", uri=f"stream://many/{number}") for number in range(n_streams)]
    for request in asked:
        assert daemon.client.answer(request)["clean"]


def n_open(daemon: Daemon) -> int:
    return sum(1 for _ in Path(f"/proc/{daemon.pid}/fd").iterdir())


def test_more_streams_than_the_soft_limit_has_room_for_and_a_client(session: Session, tmp_path: Path) -> None:
    """As under the 1,024 of most systems: chaosd raises it."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    with limited(session, tmp_path, SOFT_LIMIT, hard) as daemon, CountingSource(session, driver=True) as source:
        daemon.client.call("device_wait", name=source.name, timeout_s=50)
        before = n_open(daemon)
        for number in range(N_STREAMS):
            start(daemon, number, source)
        assert SOFT_LIMIT < n_open(daemon) < before + OF_STREAM * N_STREAMS
        assert daemon.new_client().call("ping")
        stop(daemon, N_STREAMS)


@pytest.mark.parametrize("limit", [64, 128])
def test_where_few_files_may_be_open_streams_are_refused_and_what_runs_goes_on(
    session: Session, tmp_path: Path, limit: int
) -> None:
    """`ulimit -n 64`, hard and soft."""
    with limited(session, tmp_path, limit, limit) as daemon, CountingSource(session, driver=True) as source:
        daemon.client.call("device_wait", name=source.name, timeout_s=50)
        n_started = 0
        while (refusal := refused(daemon, n_started, source)) is None:
            n_started += 1
        assert refusal.code == "limit_reached"
        assert "ulimit" in refusal.hint
        assert n_open(daemon) < limit
        assert daemon.new_client().call("ping")
        stop(daemon, n_started)


def test_more_idle_connections_than_may_come_cost_a_capture_nothing(session: Session, tmp_path: Path) -> None:
    with Daemon(session, tmp_path) as daemon, CountingSource(session, driver=True) as source:
        daemon.client.call("device_wait", name=source.name, timeout_s=50)
        start(daemon, 0, source)
        for endpoint in (daemon.command, daemon.events):
            with crowd(endpoint.removeprefix("ipc://"), IDLE):
                assert daemon.client.call("ping")
        stopped = daemon.client.call("stream_stop", uri="stream://many/0")
        assert (stopped["clean"], stopped["lost_frames"]) == (True, 0)
