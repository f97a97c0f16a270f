"""How fast an uploader catches up after an outage, beside what the link carries.

The link is the proxy of `proof.faultystore`, held to so many bytes a second; the take has chunks as of stereo at 48
kHz.
"""

from __future__ import annotations

import datetime as dt
import os
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from chaos.store.lines import Definition
from chaos.store.store import Store
from chaos.store.writer import RecordingWriter
from proof.faultystore import FaultyStore
from proof.fleet import BEGUN_NS, Recorder, Shape, Uploading
from proof.report import machine_line
from proof.s3 import local_s3

__all__ = ["MARKS", "CatchUp", "measure_catch_up", "record_stereo", "table"]

MARKS = ("<!-- catching up: written by tools/fleet --catch-up -->", "<!-- end of catching up -->")
_RATE, _CHUNK_S = 48_000, 10


@dataclass
class CatchUp:
    """`n_bytes` put in `seconds`, the start of the process and all metadata included, over a link of `link` bytes a
    second."""

    n_bytes: int
    seconds: float
    link: int

    @property
    def share(self) -> float:
        return self.n_bytes / self.seconds / self.link


def measure_catch_up(folder: Path, n_chunks: int, link: int) -> CatchUp:
    """All below `folder`."""
    recorder = Recorder(folder, 0, Shape(1))
    record_stereo(recorder.store, n_chunks)
    with ExitStack() as stack:
        url = stack.enter_context(local_s3())
        store = FaultyStore(int(os.environ["AWS_ENDPOINT_URL"].rpartition(":")[2]), 0.0, 1, link)
        stack.callback(store.close)
        uploading = Uploading(recorder, f"{url}/link", store.endpoint)
        stack.callback(uploading.close)
        began = time.monotonic()
        while not uploading.round(None):
            pass
        return CatchUp(store.n_bytes, time.monotonic() - began, link)


def record_stereo(store: Store, n_chunks: int) -> None:
    """A take of noise as of a stereo device at 48 kHz, 10 s a chunk."""
    size = _CHUNK_S * _RATE
    shape = Definition(
        uri="stream://logger/outage", channels=2, sample_rate=_RATE, sample_format="f32", chunk_frames=size,
        device={"identity": "serial:1"}, positions=["FL", "FR"], started_wall_ns=BEGUN_NS, started_monotonic_ns=0,
        software="chaosd simulation", run_id="run",
    )  # fmt: skip
    writer, random = RecordingWriter.create(store, shape), np.random.default_rng(1)
    for chunk in range(n_chunks):
        samples = random.uniform(-1, 1, (2, size)).astype("<f4")
        writer.seal(chunk, samples.data, chunk * size, size)
    writer.finish(n_chunks * size, True)


def table(found: CatchUp) -> str:
    """The section of the page."""
    return (
        f"Over a link of {found.link / 1e6:.0f} MB a second an uploader put {found.n_bytes / 1e6:.0f} MB in"
        f" {found.seconds:.1f} s, its start and all metadata included: {found.share:.2f} of the link (aim: 0.8)."
        f" {dt.datetime.now(dt.UTC):%Y-%m-%d}, by `tools/fleet --catch-up`, on {machine_line()}."
    )
