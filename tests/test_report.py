"""The bench's report: what it says of aims that were not met, in words with this run's figures."""

from __future__ import annotations

from pathlib import Path

import pytest
from proof.costs import BARE, OURS, Cost, DataThread, add_threads
from proof.kernels import Bandwidth
from proof.report import Findings, aims, limits, write_report
from proof.scale import Idle, Latencies, Streams
from proof.speed import Callback, Throughput
from proof.starting import STEPS, Commands, Starts
from proof.storing import Storing


def found(slow: float) -> Findings:
    """What a machine found that is `slow` times as slow as the aims want, or as fast for less than 1."""
    cpu = {OURS: [1.2 * slow], BARE: [1.0], "pw-record": [2.0]}
    thread = DataThread(0.5, 2.0, 1.0, 1.0)
    return Findings(
        seconds=1.0,
        at="2026-01-31 12:00 UTC",
        pipewire="0.3.65",
        quick=True,
        costs=[
            Cost(
                n,
                1024,
                cpu=cpu,
                data_thread=[thread],
                threads={"data thread": [0.5], "chaosd-rotator": [0.25], "chaosd-pump": [0.1]},
                lost={OURS: [64.0], BARE: [128.0]},
                times={OURS: [1.0], BARE: [2.0]},
                stolen_ms={OURS: [30.0], BARE: [0.0]},
            )
            for n in (2, 64)
        ],
        storing=[Storing(n, 0.3, 0.1, 0.05, 0.02, 0.4) for n in (2, 64)],
        kernels=[Bandwidth("s16", 8, 8.0 / slow, 10.0, 2.0, 1.0, 0.8 / slow, (0.8 / slow,))],
        callbacks=[Callback(2, 1024, False, [1.5 * slow], [1.0], [1.4])],
        throughput=[
            Throughput(n, [97.0], [139 / slow], [139.0], [139.0], [91.0], {"names": [0.3, 0.2, 0.1]}) for n in (2, 64)
        ],
        streams=[Streams(1, 1.0, None, 0, 40.0, 10, 1.0)],
        idle=Idle(1.0, 0, 0.0, 30.0),
        latencies=Latencies([1.0], [1.0]),
        starts=[Starts(256, [15.0 * slow], [2.0], {step: [slow * k] for k, step in enumerate(STEPS)})],
        commands=Commands([1.0], [1.0], [1.0]),
    )


def test_nothing_is_said_where_all_is_met() -> None:
    assert all(aim.met for aim in aims(found(1.0)))
    assert limits(found(1.0)) == []


@pytest.mark.parametrize(
    "said",
    [
        "A start at quantum 256: 6.0 ms until",
        "CPU at 2 channels, quantum 1024: the client that only copies takes 1.000 s a minute",
        "it is 0.87, 0.53 below the aim. The rotator's turns beside them take 0.030, the threads",
        "told by it 0.100; 58% is left",
        "By thread: data thread 0.500, chaosd-rotator 0.250, chaosd-pump 0.100.",
        "| 1.00, 1.00 |",
        "64 (1; 30) / 128 (2; 0) / -",
        "CPU at 64 channels",
        "64 channels faster than real time: the graph, as fast as it goes, offers 0.70 of what the disk writes",
        "stores 0.65. Of its time names take 0.20, one after the other",
        "The slowest kernel (s16, 8 channels)",
    ],
)
def test_what_stands_in_the_way_of_each_aim_is_in_the_report(tmp_path: Path, said: str) -> None:
    assert said in write_report(found(2.0), tmp_path).read_text()


def test_a_threads_time_is_told_by_its_last_name_and_none_of_one_that_ended() -> None:
    cost = Cost(2, 1024)
    before = {1: ("python", 0), 2: ("chaosd-stream", 10**9), 3: ("chaosd-stream", 9 * 10**9)}
    after = {1: ("python", 10**9), 2: ("chaosd-rotator", 3 * 10**9), 4: ("python", 5 * 10**8), 5: ("python", 10**9)}
    add_threads(cost, before, after, 5, 60.0)
    assert cost.threads == {"python": [1.5], "chaosd-rotator": [2.0], "data thread": [1.0]}
