"""Takes by level with a real graph: each begins `pre` before the first loud frame, exactly; the ring has no seam."""

from __future__ import annotations

import math
from itertools import pairwise
from pathlib import Path

import numpy as np
from harness import RawClient, SourceFactory
from rig.counting import encode

import chaos
from chaos.store.info import load
from chaos.store.verify import verify

URI = "stream://doorbell/1"
RATE = 48_000
PERIOD = 1 << 15
LOUD = 1 << 11
"""Of the low 15 bits that the first channel carries the upper four are set for so many frames on end, each period."""
PRE, HOLD = 4_800, 2_400
ABOVE = 15 / 16 - 0.5 / PERIOD  # between the quietest of these frames and the loudest of the others


def test_each_take_is_the_loud_frames_and_what_lies_about_them(
    client: RawClient, counting_source: SourceFactory
) -> None:
    source = counting_source("doorbell", driver=True, speed=4)
    client.call("device_wait", name=source.name, timeout_s=50)
    client.call(
        "stream_start",
        uri=URI,
        device_identity=source.name,
        format={"type": "audio"},
        channel_map=["FL"],
        chunk_size_bytes=65_536,
        trigger={"above_dbfs": 20 * math.log10(ABOVE), "pre_s": PRE / RATE, "hold_s": HOLD / RATE},
    )
    listens = client.event("stream_standby", stream_uri=URI)
    assert (listens["above_dbfs"], listens["channels"]) == (20 * math.log10(ABOVE), 1)
    ended = [client.event("stream_trigger_ended", stream_uri=URI) for _ in range(4)][1:]  # the first may be cut short
    stopped = client.call("stream_stop", uri=URI)
    assert (stopped["recording"], stopped["clean"], stopped["lost_frames"]) == ("", True, 0)
    assert stopped["n_takes"] >= 4
    first = [_check(told["recording"], source.source_id) for told in ended]
    assert [after - before for before, after in pairwise(first)] == [PERIOD, PERIOD]


def _check(path: str, source_id: int) -> int:
    """The position of the take's first frame, once all its frames are what the source had there."""
    info = load(Path(path))
    report = verify(info.path)
    assert (report.ok, report.clean, report.gaps) == (True, True, [])
    position = info.anchors[0].position
    with chaos.open(info.path) as recording:
        samples = np.asarray(recording[:])
    assert samples.shape == (1, PRE + LOUD + HOLD)
    expected = encode(position + np.arange(samples.shape[1]), 2, source_id)[0]
    assert np.array_equal(samples[0], expected)
    assert np.flatnonzero(samples[0] > ABOVE).tolist() == list(range(PRE, PRE + LOUD))
    return position
