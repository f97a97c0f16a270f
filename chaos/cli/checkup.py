"""What `chaosctl doctor` looks at: a trial recording, and what the machine gives to one that captures. No printing."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from chaos.terms.counting import counted
from chaos.terms.errors import ChaosError

if TYPE_CHECKING:
    from chaos.client import Asking

__all__ = ["Checkup", "Finding", "checked"]

TRIAL_S = 2.0
_SETTLE_S = 0.5
_PATIENCE_S = 10.0
_POLL_S = 0.05
_TEST_SOURCE = "chaosd-doctor"
_TEST_SOURCES = 5
_PROBE_BYTES = 16 << 20
_LEAST_SPEED = 4  # times what the device brings
_LEAST_ROOM_BYTES = 1 << 30
_SOUND = {"sample_format": "f32"}

State = Literal["ok", "missing", "unchecked"]


class Finding(NamedTuple):
    """One thing that was looked at; `command` is what mends it where it is missing."""

    name: str
    state: State
    text: str
    command: str = ""


@dataclass
class Checkup:
    """`account` is that of the trial recording: None where nothing could be recorded. The clock of PipeWire's test
    source stands still: what that costs before it is known is `unsettled_frames`, not in `lost_frames` and `n_gaps`."""

    findings: list[Finding] = field(default_factory=list)
    account: dict[str, Any] | None = None
    has_daemon: bool = False

    @property
    def missing(self) -> list[Finding]:
        return [each for each in self.findings if each.state == "missing"]

    @property
    def unchecked(self) -> list[Finding]:
        return [each for each in self.findings if each.state == "unchecked"]

    @property
    def is_ok(self) -> bool:
        """All was looked at, and all is well."""
        return self.account is not None and all(each.state == "ok" for each in self.findings)

    def add(self, name: str, state: State, text: str, command: str = "") -> None:
        self.findings.append(Finding(name, state, text, command))


def checked(chaosd: Asking, store: Path, pid: int | None) -> Checkup:
    """Looks at everything, in a moment more than two seconds. `store` is where recordings go for good; `pid` is of the
    daemon that runs, None where `chaosd` is an engine of our own."""
    found = Checkup(has_daemon=pid is not None)
    if not _await_pipewire(chaosd):
        start = "systemctl --user start pipewire wireplumber"
        command = start if shutil.which("pipewire") else "sudo apt-get install pipewire wireplumber"
        found.add("PipeWire", "missing", "it does not run, so nothing was recorded", command)
        for name in ("recording", "real-time priority", "memory lock", "session manager"):
            found.add(name, "unchecked", "needs PipeWire")
        rate = 48_000 * 2 * 4
    else:
        rate = _trial(chaosd, found)
    status = chaosd.call("status")
    _of_machine(found, status, store, rate, pid)
    return found


def _await_pipewire(chaosd: Asking) -> bool:
    """An engine that has just begun takes a moment to reach it."""
    deadline = time.monotonic() + _PATIENCE_S / 5
    while not chaosd.call("status")["pipewire"]["connected"]:
        if time.monotonic() > deadline:
            return False
        time.sleep(_POLL_S)
    return True


# ---- the trial

def _trial(chaosd: Asking, found: Checkup) -> int:
    """Records from a device, or where none is there or brings a frame, from PipeWire's own test source: the bytes a
    second that it brings."""
    device = _own_device(chaosd)
    rate = 48_000 * 2 * 4
    if device is not None:
        rate = _recorded(chaosd, device, found) or rate
    if found.account is None:
        if device is None:
            command = "chaosctl devices --all"
            found.add("device", "missing", "PipeWire has no device to record from: plug one in", command)
        rate = _of_test_source(chaosd, found) or rate
    else:
        found.add("device", "ok", found.account["device"])
    return rate


def _of_test_source(chaosd: Asking, found: Checkup) -> int | None:
    """Records from PipeWire's test source. It drives the graph, and stops for good where a cycle finds all its buffers
    in use, on a busy machine (1.4 and newer): that tells nothing of the recording, so another one is taken."""
    why = "PipeWire's test source can't be made here"
    for number in range(_TEST_SOURCES):
        with _test_source(chaosd, f"{_TEST_SOURCE}-{number}") as test:
            if test is None:
                break
            rate = _recorded(chaosd, test, found)
            if found.account is not None:
                return rate
        why = "PipeWire's test source stopped by itself, which it does on a busy machine"
    found.add("recording", "unchecked", f"no device brought a frame, and {why}")
    return None


def _own_device(chaosd: Asking) -> dict[str, Any] | None:
    devices = [each for each in chaosd.call("device_list", direction="input", format="audio")["devices"]
               if not each["is_monitor"] and not each["name"].startswith(_TEST_SOURCE)]  # fmt: skip
    return next((each for each in devices if each["is_default"]), devices[0] if devices else None)


def _recorded(chaosd: Asking, device: dict[str, Any], found: Checkup) -> int | None:
    """Records two seconds of it, verifies and deletes them; the bytes a second, None where nothing came."""
    uri = f"stream://doctor/{time.time_ns()}"
    name = str(device["description"] or device["name"])
    try:
        started = chaosd.start(uri=uri, device_identity=device["identity"], format={"type": "audio", **_SOUND})
        is_test_source = device["name"].startswith(_TEST_SOURCE)
        settled = _await_frames(chaosd, uri, _SETTLE_S) if is_test_source else {"lost_frames": 0, "n_gaps": 0}
        status = _await_frames(chaosd, uri, TRIAL_S)
        during = chaosd.call("status")
        stopped = chaosd.call("stream_stop", uri=uri)
    except ChaosError as error:
        with suppress(ChaosError):
            chaosd.call("stream_stop", uri=uri)
        found.add("device", "missing", f"{name} can't be recorded: {error.message}", error.hint)
        return None
    if is_test_source and status["state"] == "stalled":
        if stopped["recording"]:
            _remove(chaosd, uri)
        return None
    if not stopped["recording"] or stopped["lost_frames"] >= stopped["n_frames"]:
        if stopped["recording"]:
            _remove(chaosd, uri)
        reason = status["reason"] or started["reason"] or "no frame came"
        found.add("device", "missing", f"{name} brought nothing: {reason}", "chaosctl devices")
        return None
    n_lost, n_gaps = (stopped[each] - settled[each] for each in ("lost_frames", "n_gaps"))
    report = chaosd.call("verify", uri=uri)
    _remove(chaosd, uri)
    sample_rate, channels = stopped["sample_rate"], status["format"]["channels"]
    peaks = [each["peak_dbfs"] for each in (stopped["signal"] or {"channels": []})["channels"]]
    heard = [peak for peak in peaks if peak is not None]
    found.account = {
        "device": name,
        "is_test_source": is_test_source,
        "seconds": stopped["n_frames"] / sample_rate,
        "n_frames": stopped["n_frames"],
        "n_gaps": n_gaps,
        "lost_frames": n_lost,
        "unsettled_frames": settled["lost_frames"],
        "sample_rate": sample_rate,
        "channels": channels,
        "peak_dbfs": max(heard) if heard else None,
        "verified": report["ok"],
    }
    lost, gaps = counted(n_lost, "frame"), counted(n_gaps, "gap")
    if not report["ok"]:
        found.add("recording", "missing", "what was stored does not have its hashes: the disk or memory is at fault",
                  "sudo dmesg | tail")  # fmt: skip
    elif n_lost:
        found.add("recording", "missing", f"{lost} lost in {gaps}, within two seconds",
                  "chaosctl record --for 1m --strict")  # fmt: skip
    else:
        found.add("recording", "ok", f"{counted(stopped['n_frames'], 'frame')}, none lost, verified")
    _of_capture(found, during)
    return int(sample_rate * channels * 4)


def _await_frames(chaosd: Asking, uri: str, seconds: float) -> dict[str, Any]:
    """The stream's status once there is so much of it, or no more is to be expected."""
    deadline = time.monotonic() + _PATIENCE_S
    while True:
        status = chaosd.call("stream_status", uri=uri)
        rate = status["format"]["sample_rate"] or 48_000
        is_still = status["state"] in ("stalled", "waiting") and time.monotonic() > deadline - _PATIENCE_S + seconds
        if is_still or status["head_frame"] >= seconds * rate or time.monotonic() > deadline:
            return status
        time.sleep(_POLL_S)


def _remove(chaosd: Asking, uri: str) -> None:
    from chaos.store.removal import remove
    from chaos.store.store import Store

    remove(Store(Path(chaosd.call("status")["store"]["path"])), uri)


@contextmanager
def _test_source(chaosd: Asking, name: str) -> Iterator[dict[str, Any] | None]:
    """PipeWire's own test source, a sine, for as long as the body lasts; None where it can't be made."""
    program = shutil.which("pw-cli")
    if program is None:
        yield None
        return
    arguments = (
        f"factory.name=audiotestsrc library.name=audiotestsrc/libspa-audiotestsrc node.name={name}"
        ' node.description="PipeWire test source" media.class=Audio/Source priority.session=1 priority.driver=1'
    )
    nowhere = subprocess.DEVNULL
    with subprocess.Popen([program], stdin=subprocess.PIPE, stdout=nowhere, stderr=nowhere) as child:
        assert child.stdin is not None
        try:
            child.stdin.write(f"create-node adapter {{ {arguments} }}\n".encode())
            child.stdin.flush()
            yield dict(chaosd.call("device_wait", name=name, timeout_s=_PATIENCE_S / 2)["device"])
        except (OSError, ChaosError):
            yield None
        finally:
            child.kill()


# ---- the machine

def _of_capture(found: Checkup, status: dict[str, Any]) -> None:
    """What shows only while something is captured."""
    from chaos.system.limits import memlock_advice, priority_advice

    pipewire, staging = status["pipewire"], status["staging"]
    if priority := pipewire["rt_priority"]:
        found.add("real-time priority", "ok", f"{pipewire['rt_policy']} {priority}")
    else:
        found.add("real-time priority", "missing", "a busy machine may cost cycles", priority_advice())
    if staging["locked_bytes"] >= staging["used_bytes"]:
        found.add("memory lock", "ok", f"{staging['locked_bytes'] >> 10} KiB")
    else:
        locked = f"{staging['locked_bytes'] >> 10} of {staging['used_bytes'] >> 10} KiB of the slots are locked"
        found.add("memory lock", "missing", f"{locked}, the rest may be swapped", memlock_advice())
    if pipewire["session_manager"]:
        found.add("session manager", "ok", "runs")
    else:
        installed = shutil.which("wireplumber")
        command = "systemctl --user start wireplumber" if installed else "sudo apt-get install wireplumber"
        found.add("session manager", "missing", "no devices are set up without one", command)


def _of_machine(found: Checkup, status: dict[str, Any], store: Path, rate: int, pid: int | None) -> None:
    if status["pipewire"]["connected"]:
        found.add("PipeWire", "ok", str(status["pipewire"]["version"]))
    _of_staging(found, status)
    _of_disk(found, store, rate)
    _of_clock(found)
    _of_descriptors(found, pid)
    _of_service(found)


def _of_staging(found: Checkup, status: dict[str, Any]) -> None:
    from chaos.protocol.config import IN_MEMORY

    kind = status["staging"]["file_system"]
    if kind in IN_MEMORY:
        found.add("capture buffers", "ok", f"in memory ({kind})")
    else:
        command = f"chaosd --staging-dir /dev/shm/chaos-{os.getuid()}"
        found.add("capture buffers", "missing", f"they lie in {kind or 'an unknown file system'}, and the capture may "
                  "wait for a disk", command)  # fmt: skip


def _of_disk(found: Checkup, store: Path, rate: int) -> None:
    folder = next(each for each in (store, *store.parents) if each.is_dir())
    free = shutil.disk_usage(folder).free
    hours = free / rate / 3600
    text = f"{free / (1 << 30):.1f} GiB free, {hours:.0f} hours of this device"
    if free >= _LEAST_ROOM_BYTES:
        found.add("disk space", "ok", text)
    else:
        found.add("disk space", "missing", text, "chaosctl retire --keep 7d")
    try:
        speed = _write_speed(folder)
    except OSError as error:
        found.add("disk speed", "missing", f"can't write to {folder}: {error.strerror}", f"ls -ld {folder}")
        return
    text = f"{speed / 1e6:.0f} MB/s with fsync, {speed / rate:.0f} times what this device brings"
    if speed >= _LEAST_SPEED * rate:
        found.add("disk speed", "ok", text)
    else:
        found.add("disk speed", "missing", text, "chaosd --store FOLDER-ON-A-FASTER-DISK")


def _write_speed(folder: Path) -> float:
    """Bytes a second that reach the disk there, fsync included. Raises OSError."""
    block = os.urandom(1 << 20)
    with tempfile.TemporaryFile(dir=folder) as file:
        begun = time.monotonic()
        for _ in range(_PROBE_BYTES // len(block)):
            file.write(block)
        file.flush()
        os.fsync(file.fileno())
        return _PROBE_BYTES / (time.monotonic() - begun)


def _of_clock(found: Checkup) -> None:
    from chaos.system.kernelclock import clock_quality
    from chaos.terms.ledger import ClockState

    quality = clock_quality()
    if quality.state is ClockState.SYNCHRONIZED:
        found.add("clock", "ok", f"synchronized, within {(quality.max_error_ns or 0) / 1e6:.0f} ms of UTC")
    elif quality.state is ClockState.TIMESYNCD:
        found.add("clock", "ok", "synchronized by systemd-timesyncd, which does not say how well")
    elif quality.state is ClockState.UNSYNCHRONIZED:
        has_systemd = Path("/run/systemd/system").exists()
        command = "sudo timedatectl set-ntp true" if has_systemd else "sudo apt-get install chrony"
        found.add("clock", "missing", "nothing sets it, so it isn't known how far times are from UTC", command)
    else:
        found.add("clock", "unchecked", "the kernel does not tell how it is set")


def _of_descriptors(found: Checkup, pid: int | None) -> None:
    from chaos.system.descriptors import GUARANTEED
    from chaos.system.limits import descriptor_advice

    try:
        told = Path(f"/proc/{'self' if pid is None else pid}/limits").read_text()
    except OSError as error:
        found.add("open files", "unchecked", f"the limits of process {pid} can't be read: {error.strerror}")
        return
    match = re.search(r"^Max open files +\S+ +(\S+)", told, re.MULTILINE)
    limit = match[1] if match else "unknown"
    if limit == "unlimited" or (limit.isdecimal() and int(limit) >= GUARANTEED):
        found.add("open files", "ok", limit)
    else:
        found.add("open files", "missing", f"at most {limit}, and chaosd needs {GUARANTEED}", descriptor_advice())


def _of_service(found: Checkup) -> None:
    """Only of somebody who has one."""
    from chaos.system.unit import has_linger, linger_command, unit_path

    if not unit_path().is_file():
        return
    if has_linger():
        found.add("linger", "ok", "the service runs without a login")
    else:
        found.add("linger", "missing", "the service ends when you log out", linger_command())
