"""What is said of the data thread's priority is what the kernel says; where it has none, what gives it one."""

from __future__ import annotations

import os
import time
from contextlib import suppress
from pathlib import Path

from harness import Daemon
from rig import Session

TIMEOUT_S = 50
URI = "stream://priority/1"
POLICIES = {os.SCHED_FIFO: "fifo", os.SCHED_RR: "rr"}


def granted(pid: int) -> set[tuple[str, int]]:
    """The real-time policies and priorities of the process's threads."""
    found = set()
    for task in Path(f"/proc/{pid}/task").iterdir():
        tid = int(task.name)
        with suppress(ProcessLookupError):  # a thread may end between the listing and the question
            policy = os.sched_getscheduler(tid) & ~os.SCHED_RESET_ON_FORK
            if policy in POLICIES:
                found.add((POLICIES[policy], os.sched_getparam(tid).sched_priority))
    return found


def test_the_status_says_what_the_kernel_granted(session: Session, daemon: Daemon) -> None:
    client = daemon.client
    client.call("device_wait", name="virtual-mic", timeout_s=50)
    started = client.call("stream_start", uri=URI, device_identity="virtual-mic", format={"type": "audio"})
    status = client.call("status")
    client.call("stream_stop", uri=URI)
    pipewire = status["pipewire"]
    said = (pipewire["rt_policy"], pipewire["rt_priority"])
    assert said in (granted(daemon.pid) or {("other", 0)})
    for notes in (status["notes"], started["notes"]):
        assert any("real-time priority" in note for note in notes) == (said == ("other", 0))


def test_without_a_priority_it_is_told_at_once_and_how_to_get_it(session: Session, tmp_path: Path) -> None:
    refused = ["env", "DBUS_SYSTEM_BUS_ADDRESS=unix:path=/nowhere", "prlimit", "--rtprio=0:0", "--"]
    if os.geteuid() == 0:
        refused += ["setpriv", "--bounding-set=-sys_nice", "--inh-caps=-sys_nice", "--"]
    with Daemon(session, tmp_path, under=refused) as daemon:
        client = daemon.client
        client.call("device_wait", name="virtual-mic", timeout_s=50)
        started = client.call("stream_start", uri=URI, device_identity="virtual-mic", format={"type": "audio"})
        status = client.call("status")
        client.call("stream_stop", uri=URI)
        assert granted(daemon.pid) == set()
        assert (status["pipewire"]["rt_policy"], status["pipewire"]["rt_priority"]) == ("other", 0)
        [note] = [note for note in status["notes"] if "real-time priority" in note]
        assert note in started["notes"]
        assert "`" in note
        deadline = time.monotonic() + TIMEOUT_S
        while note not in daemon.log:
            assert time.monotonic() < deadline, daemon.log
            client.call("ping")
    assert f"commands at {daemon.command}" in daemon.log
    assert str(daemon.store) in daemon.log
