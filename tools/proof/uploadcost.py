"""What an upload costs beside the capture: one chaosd with it and one without, capturing the same source side by side.

The processes of chaosd are two: the capture's, and the uploader's, its child. Both are told: the aim is the capture's,
in whose process nothing is sent; the sum is what the machine has to do. The S3 is moto on the same machine, whose own
work is not counted.
"""

from __future__ import annotations

import datetime as dt
import os
import time
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

from rig import CountingSource, RigError, Session

from proof.engine import Engine
from proof.report import machine_line
from proof.s3 import local_s3

__all__ = ["AIM", "MARKS", "UploadCost", "measure_upload_cost", "table"]

MARKS = ("<!-- capture: written by tools/fleet --capture -->", "<!-- end of capture -->")
AIM = 1.15
_URI = "stream://cost/1"
_RATE = 48_000
_SCHED = 2  # of a process's clock as Linux numbers them (clock_getcpuclockid): what it ran, in nanoseconds


@dataclass
class UploadCost:
    """CPU seconds per minute of capture, a figure per round: of the capture without upload, and with it; then of the
    uploader. `n_bytes` had gone up by the ends of the windows, of `window_s` each."""

    window_s: float
    chunk_s: float
    load: float
    lost_frames: int = 0
    n_bytes: int = 0
    without: list[float] = field(default_factory=list)
    beside: list[float] = field(default_factory=list)
    uploader: list[float] = field(default_factory=list)

    @property
    def capture_ratio(self) -> float:
        """The capture's with upload to the capture's without, of the medians."""
        return median(self.beside) / median(self.without)

    @property
    def all_ratio(self) -> float:
        """The same, the uploader counted in."""
        return median(map(sum, zip(self.beside, self.uploader, strict=True))) / median(self.without)


def measure_upload_cost(session: Session, folder: Path, rounds: int, window_s: float, chunk_s: float) -> UploadCost:
    """Stereo at 48 kHz in real time, in chunks of so many seconds; of a minute's window the metadata is a part."""
    found = UploadCost(window_s, chunk_s, os.getloadavg()[0])
    with ExitStack() as stack:
        bucket = stack.enter_context(local_s3())
        source = CountingSource(session, name="upload-cost", channels=2, driver=True, patience_ms=0)
        stack.enter_context(source)
        for number in range(rounds):
            kinds = ("without", "with") if number % 2 else ("with", "without")  # who comes first is woken first
            _round(found, session, source, folder / f"{number}", f"{bucket}/{number}", kinds)
    return found


def _round(
    found: UploadCost, session: Session, source: CountingSource, folder: Path, url: str, kinds: tuple[str, str]
) -> None:
    variables = {name: value for name, value in os.environ.items() if name.startswith("AWS_")}
    with ExitStack() as stack:
        engines = {}
        for name in kinds:
            options = ("--upload", url, "--upload-as", "rig") if name == "with" else ()
            (folder / name).mkdir(parents=True)
            engine = stack.enter_context(Engine(session, folder / name, options=options, variables=variables))
            engine.call(
                "stream_start", uri=_URI, device_identity=source.name, format={"type": "audio"},
                chunk_size_bytes=round(found.chunk_s * _RATE) * 8,
            )  # fmt: skip
            engines[name] = engine
        for engine in engines.values():  # past their starts
            engine.await_status(_URI, lambda status: status["sealed_frame"] > 0)
        uploading = engines["with"]
        uploading.await_status(_URI, lambda status: (status["uploaded_frame"] or 0) > 0)
        pids = (engines["without"].pid, uploading.pid, _uploader_of(uploading.pid))
        before, began = [_cpu_s(pid) for pid in pids], time.monotonic()
        time.sleep(found.window_s)
        passed_s = time.monotonic() - began
        spent = [(_cpu_s(pid) - cpu_s) / passed_s * 60 for pid, cpu_s in zip(pids, before, strict=True)]
        for each, cpu in zip((found.without, found.beside, found.uploader), spent, strict=True):
            each.append(cpu)
        for engine in engines.values():
            found.lost_frames += engine.call("stream_stop", uri=_URI)["lost_frames"]
        found.n_bytes += _sent(uploading)


def _sent(engine: Engine) -> int:
    return int(engine.call("status")["upload"]["n_bytes"])


def _uploader_of(pid: int) -> int:
    """The process that this chaosd has started for it. Raises RigError."""
    for task in Path(f"/proc/{pid}/task").iterdir():
        with suppress(FileNotFoundError, ProcessLookupError):  # a thread may end between the listing and the look
            for child in (task / "children").read_text().split():
                if b"chaos.upload" in Path(f"/proc/{child}/cmdline").read_bytes():
                    return int(child)
    raise RigError(f"chaosd (process {pid}) has no uploader")


def _cpu_s(pid: int) -> float:
    """Of all its threads, those that have ended too."""
    return time.clock_gettime((~pid << 3) | _SCHED)


def table(found: UploadCost) -> str:
    """The section of the page."""
    without, beside, uploader = (median(each) for each in (found.without, found.beside, found.uploader))
    rows = [
        ("chaosd without upload", f"{without:.2f}"),
        ("chaosd with it, the process that captures", f"{beside:.2f}"),
        ("its uploader, a process at the lowest priority", f"{uploader:.2f}"),
    ]
    lines = ["| CPU seconds a minute of capture | |", "| --- | --- |", *(f"| {what} | {cpu} |" for what, cpu in rows)]
    made = (
        f"Capture with upload: {found.capture_ratio:.2f} of that without (aim: {AIM}), both of the process that"
        f" captures; {found.all_ratio:.2f} with the uploader's process counted in. Stereo f32 at 48 kHz, chunks of"
        f" {found.chunk_s:g} s, side by side for {found.window_s:.0f} s, medians of {len(found.without)} rounds,"
        f" {found.lost_frames} frames lost, {found.n_bytes / 1e6:.0f} MB uploaded;"
        f" the S3 is moto on the same machine, not counted; a load of {found.load:.1f} beforehand."
        f" {dt.datetime.now(dt.UTC):%Y-%m-%d}, by `tools/fleet --capture`, on {machine_line()}."
    )
    return "\n\n".join([made, "\n".join(lines)])
