"""The two examples of the fleet on dask.distributed, run as a person runs them: what they find is what was played."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import msgspec
import numpy as np
import pytest
import soundfile
from distributed import LocalCluster
from proof.faultystore import FaultyStore
from recorded import START_NS, Rotator, definition
from s3 import local_s3
from uploading import upload

from chaos.recorders.index import index
from chaos.store.store import Store
from chaos.store.writer import RecordingWriter
from chaos.terms.ledger import Cause, ClockAnchor, ClockState

EXAMPLES = Path(__file__).parents[2] / "examples"
RATE = 8000
CHUNK = RATE // 2
HOSTS = {"rig1": 440.0, "rig2": 1500.0}
CALL_AT = {"rig1": 21_000, "rig2": 61_000}


def _call() -> np.ndarray[Any, Any]:
    """A chirp of a quarter of a second."""
    at = np.arange(RATE // 4) / RATE
    return 0.8 * np.sin(2 * np.pi * (700 + 4000 * at) * at)


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Two hosts, ten seconds each: a tone at -20 dBFS with a call in it, and a second that is missing."""
    folder = tmp_path_factory.mktemp("fleet")
    with local_s3() as bucket:
        for host, frequency in HOSTS.items():
            store = Store(folder / host)
            shape = msgspec.structs.replace(definition("stream://mic/take", 1, CHUNK, boot_id=host), sample_rate=RATE)
            rotator = Rotator(RecordingWriter.create(store, shape))
            at = np.arange(10 * RATE)
            sound = 0.1 * np.sqrt(2) * np.sin(2 * np.pi * frequency * at / RATE)
            call = _call()
            sound[CALL_AT[host] : CALL_AT[host] + call.size] += call
            for second in range(10):
                elapsed_ns = second * 1_000_000_000
                rotator.writer.anchor(
                    ClockAnchor(second * RATE, 0, elapsed_ns, START_NS + elapsed_ns, 1, 2_000_000, 0,
                                ClockState.SYNCHRONIZED)
                )  # fmt: skip
                if second == 5:
                    rotator.gap(RATE, Cause.DEVICE_AWAY)
                else:
                    rotator._advance(sound[None, second * RATE : (second + 1) * RATE].astype("<f4"), is_data=True)
            rotator.stop()
            upload(store, f"{bucket}/jobs", recorder=host)
        index(f"{bucket}/jobs")
        yield f"{bucket}/jobs"


@pytest.fixture(scope="module")
def reads(url: str) -> Iterator[FaultyStore]:
    """What is read goes through a proxy, which counts."""
    store = FaultyStore(int(os.environ["AWS_ENDPOINT_URL"].rpartition(":")[2]), 0.0, 1)
    with mock.patch.dict(os.environ, AWS_ENDPOINT_URL=store.endpoint):
        yield store
    store.close()


@pytest.fixture(scope="module")
def scheduler(reads: FaultyStore) -> Iterator[str]:
    """Two workers, each a process: they read for themselves, by the environment."""
    with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster:
        yield cluster.scheduler_address


def run(name: str, *arguments: str) -> tuple[list[dict[str, str]], str]:
    done = subprocess.run([sys.executable, str(EXAMPLES / f"{name}.py"), *arguments], capture_output=True, text=True,
                          timeout=120, check=False)  # fmt: skip
    assert done.returncode == 0, done.stderr
    return list(csv.DictReader(done.stdout.splitlines())), done.stderr


def test_levels_of_each_hour_and_the_spectrum(
    url: str, scheduler: str, reads: FaultyStore, tmp_path: Path
) -> None:
    spectra = tmp_path / "spectra.npz"
    rows, _ = run("fleet_levels", url, "2026-01-31", "--scheduler", scheduler, "--spectra", str(spectra))
    assert [(row["host"], row["hour"], row["seconds"]) for row in rows] == [
        ("rig1", "2026-01-31T12Z", "9"), ("rig2", "2026-01-31T12Z", "9")
    ]  # fmt: skip
    for row in rows:
        assert float(row["L90"]) == pytest.approx(-20, abs=0.1)
        assert float(row["L50"]) == pytest.approx(-20, abs=0.1)
        assert float(row["L10"]) > -19
    chunks = {path: n for path, n in reads.got.items() if "/audio/c/" in path}
    assert len(chunks) == 2 * 9 * RATE // CHUNK
    assert set(chunks.values()) == {1}, "each byte is read once"
    with np.load(spectra) as told:
        for host, frequency in HOSTS.items():
            power = told[f"{host} {RATE} Hz"]
            assert abs(power.argmax() * RATE / 1024 - frequency) < RATE / 1024


def test_a_call_is_found_in_all_and_its_time_has_bounds(url: str, scheduler: str, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "call.wav", _call(), RATE)
    rows, said = run("fleet_search", url, str(tmp_path / "call.wav"), "2026-01-31T12:00Z", "2026-01-31T13:00Z",
                     "--scheduler", scheduler)  # fmt: skip
    assert [row["host"] for row in rows] == ["rig1", "rig2"]
    for row in rows:
        time, low, high = (np.datetime64(row[name], "ns") for name in ("time", "earliest", "latest"))
        truth = np.datetime64(START_NS, "ns") + np.timedelta64(CALL_AT[row["host"]] * 1_000_000_000 // RATE, "ns")
        assert abs(time - truth) < np.timedelta64(200, "us")
        assert low < truth < high
    assert "were not searched: something is missing there" in said
