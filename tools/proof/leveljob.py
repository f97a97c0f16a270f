"""How the level job of `examples/fleet_levels.py` gains from a second worker; both read the same takes of a folder."""

from __future__ import annotations

import datetime as dt
import importlib
import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dask.base import compute
from distributed import Client, LocalCluster

import chaos
from chaos.recorders.index import index
from chaos.store.store import Store
from chaos.upload.uploader import Uploader
from proof.catchup import record_stereo
from proof.report import machine_line

__all__ = ["MARKS", "Job", "measure_job", "table"]

MARKS = ("<!-- job: written by tools/fleet --job -->", "<!-- end of job -->")
_EXAMPLES = Path(__file__).parents[2] / "examples"
_HOSTS = ("rig1", "rig2")
_ROUNDS = 3


@dataclass
class Job:
    """The least of some rounds, in turns; `load` is that of the machine before."""

    n_bytes: int
    one_s: float
    two_s: float
    load: float


def measure_job(folder: Path, n_chunks: int) -> Job:
    """All below `folder`: two hosts with so many chunks each."""
    load = os.getloadavg()[0]
    url = f"file://{folder}/bucket"
    for host in _HOSTS:
        store = Store(folder / host)
        record_stereo(store, n_chunks)
        Uploader(store, url, host, lambda _: None).run(until_done=True)
    index(url)
    tree = chaos.fleet(url).select("1970-01-01T00:00Z", "2100-01-01T00:00Z")
    sys.path.insert(0, str(_EXAMPLES))  # workers are given it
    example: Any = importlib.import_module("fleet_levels")
    asked, _ = example.jobs(tree)
    took: dict[int, list[float]] = {1: [], 2: []}
    for number in range(2 * _ROUNDS):
        n_workers = 1 + number % 2
        took[n_workers].append(_seconds(asked, n_workers))
    n_bytes = sum(take["audio"].nbytes for take in tree.leaves)
    return Job(n_bytes, min(took[1]), min(took[2]), load)


def _seconds(asked: list[Any], n_workers: int) -> float:
    with (
        LocalCluster(n_workers=n_workers, threads_per_worker=1, dashboard_address=None) as cluster,  # type: ignore[no-untyped-call]
        Client(cluster) as client,  # type: ignore[no-untyped-call]
    ):
        client.run(__import__, "fleet_levels")  # what is imported once is not what is measured
        compute(*asked[:n_workers])  # type: ignore[no-untyped-call]
        began = time.monotonic()
        compute(*asked)  # type: ignore[no-untyped-call]
        return time.monotonic() - began


def table(found: Job) -> str:
    """The section of the page."""
    return (
        f"Levels and spectrum of {found.n_bytes / 1e6:.0f} MB of stereo: {found.one_s:.1f} s on one worker of one"
        f" thread, {found.two_s:.1f} s on two, {found.one_s / found.two_s:.2f} times as fast (aim: 1.7). The least of"
        f" {_ROUNDS} rounds each; the machine had a load of {found.load:.1f} beforehand."
        f" {dt.datetime.now(dt.UTC):%Y-%m-%d}, by `tools/fleet --job`, on {machine_line()}."
    )
