"""What clients, devices and other programs do beside a capture: a few times here, many times with `just abuse`."""

from __future__ import annotations

import resource
import subprocess
import sys
import time
from pathlib import Path

import pytest
from harness import TIMEOUT_S, Daemon, RefusedError
from proof.abuse import ABUSES, run
from proof.clients import IDLE, a_hundred, crowd
from proof.scene import Abuse, Scene
from rig import CountingSource, Session

from chaos.doors.zmq.arrivals import MAX_UNFINISHED_BYTES
from chaos.system.descriptors import GUARANTEED, OF_STREAM
from chaos.terms.errors import LimitReached

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
        assert n_open(daemon) > SOFT_LIMIT
        deadline = time.monotonic() + TIMEOUT_S
        while n_open(daemon) >= before + OF_STREAM * N_STREAMS:  # files that are written and closed, of many at once
            assert time.monotonic() < deadline
            daemon.client.call("ping")
        assert daemon.new_client().call("ping")
        stop(daemon, N_STREAMS)


def test_streams_are_refused_before_files_run_out_and_what_runs_goes_on(session: Session, tmp_path: Path) -> None:
    """Where others have taken most of them already: what they could open is open, and counted."""
    with limited(session, tmp_path, GUARANTEED, GUARANTEED) as daemon, CountingSource(session, driver=True) as source:
        daemon.client.call("device_wait", name=source.name, timeout_s=50)
        start(daemon, 0, source)
        lower = (n_open(daemon) + 3 * OF_STREAM) * 4 // 3  # a quarter of it is not for streams
        subprocess.run(["prlimit", f"--pid={daemon.pid}", f"--nofile={lower}:{lower}"], check=True)
        n_started = 1
        while (refusal := refused(daemon, n_started, source)) is None:
            n_started += 1
        assert refusal.code == "limit_reached"
        assert "ulimit" in refusal.hint
        assert n_started > 1
        assert n_open(daemon) < lower
        assert daemon.new_client().call("ping")
        stop(daemon, n_started)


@pytest.mark.parametrize("limit", [64, GUARANTEED - 1])
def test_with_too_few_files_it_says_so_and_does_not_begin(session: Session, tmp_path: Path, limit: int) -> None:
    """`ulimit -n 64`, hard and soft: libzmq would end the process when a burst of clients takes the last one."""
    chaosd = str(Path(sys.executable).with_name("chaosd"))
    command = ["prlimit", f"--nofile={limit}:{limit}", "--", chaosd, "--store", str(tmp_path / "store")]
    done = subprocess.run(command, env=session.env, capture_output=True, text=True, timeout=50)
    assert done.returncode == LimitReached.exit_code
    assert f"only {limit} files" in done.stderr
    assert "ulimit" in done.stderr
    assert "Traceback" not in done.stderr


def test_more_idle_connections_than_may_come_cost_a_capture_nothing(session: Session, tmp_path: Path) -> None:
    with Daemon(session, tmp_path) as daemon, CountingSource(session, driver=True) as source:
        daemon.client.call("device_wait", name=source.name, timeout_s=50)
        start(daemon, 0, source)
        for endpoint in (daemon.command, daemon.events):
            with crowd(endpoint.removeprefix("ipc://"), IDLE):
                assert daemon.client.call("ping")
        stopped = daemon.client.call("stream_stop", uri="stream://many/0")
        assert (stopped["clean"], stopped["lost_frames"]) == (True, 0)
