"""What a take's samples are like: levels, silence, clipping, samples that are not numbers."""

from __future__ import annotations

import math
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from lone import CYCLE, LoneStream
from racing import filling_within

from chaos.engine import messages as m
from chaos.engine.signal import Signal
from chaos.protocol.events import StreamClipping, StreamNotFinite, StreamSilent

SECOND = 188 * CYCLE
QUIET = (0.0001, 0.0, 0.0, 0, 10**9, 0, 10**9)


def loud(n_clipped: int = 0, at: int = 10**9, n_odd: int = 0) -> tuple[float, float, float, int, int, int, int]:
    return 0.5, 0.25 * 100, 10.0, n_clipped, at, n_odd, at


def test_silence_is_told_after_its_time_and_when_it_is_over() -> None:
    signal = Signal(100, 2, -60.0, 3.0)
    assert signal.take(0, 100, [loud(), QUIET]) == []
    assert signal.take(100, 300, [QUIET, QUIET]) == []
    [told] = signal.take(300, 400, [QUIET, QUIET])
    assert told == StreamSilent(silent=True, since_frame=100, below_dbfs=-60.0)
    assert signal.status().silent_since_frame == 100
    assert signal.take(400, 900, [QUIET, QUIET]) == []
    [told] = signal.take(900, 1000, [QUIET, loud()])
    assert told == StreamSilent(silent=False, since_frame=900, below_dbfs=-60.0)
    assert signal.status().silent_since_frame is None


def test_clipping_is_a_spell_that_ends_after_a_second_without() -> None:
    signal = Signal(100, 1, -60.0, 30.0)
    [told] = signal.take(0, 50, [loud(3, 20)])
    assert told == StreamClipping(clipping=True, first_frame=20, n_samples=3)
    assert signal.take(50, 100, [loud(109, 60)]) == []
    assert signal.take(100, 199, [loud()]) == []
    [told] = signal.take(199, 210, [loud()])
    assert told == StreamClipping(clipping=False, first_frame=20, n_samples=112)
    [told] = signal.take(210, 300, [loud(1, 250)])
    assert told == StreamClipping(clipping=True, first_frame=250, n_samples=1)
    status = signal.status()
    assert (status.n_clipped, status.first_clipped_frame) == (113, 20)


def test_what_is_no_number_is_said_and_is_not_silence() -> None:
    signal = Signal(100, 1, -60.0, 1.0)
    odd = (0.0, 0.0, 0.0, 0, 10**9, 7, 40)
    [told] = signal.take(0, 100, [odd])
    assert told == StreamNotFinite(not_finite=True, first_frame=40, n_samples=7)
    assert (signal.status().n_not_finite, signal.status().silent_since_frame) == (7, None)


def test_levels_are_those_of_the_last_second() -> None:
    signal = Signal(100, 1, -60.0, 30.0)
    assert signal.status().channels[0].peak_dbfs is None
    signal.take(0, 100, [loud()])
    signal.take(100, 150, [QUIET])
    [channel] = signal.status().channels
    assert channel.peak_dbfs == pytest.approx(20 * math.log10(0.5))
    assert channel.rms_dbfs == pytest.approx(20 * math.log10(0.5))
    assert channel.dc == pytest.approx(0.1)


def play(stream: LoneStream, samples: np.ndarray[Any, Any]) -> None:
    """Two channels of these samples, cycle by cycle; then a second has passed."""
    for k in range(0, len(samples), CYCLE):
        stream.capture.cycle(np.tile(samples[k : k + CYCLE], 2).tobytes())
        if k // CYCLE % 8 == 7:
            stream.catch_up()
    take = stream.actor._takes.current
    assert take is not None
    stream.pump.timers["tick", take.staging.path]()
    stream.catch_up()


def told(stream: LoneStream) -> list[tuple[str, dict[str, Any]]]:
    found = []
    while not stream.events.empty():
        kind, fields = stream.events.get()
        if kind in ("stream_silent", "stream_clipping", "stream_not_finite"):
            found.append((kind, fields))
    return found


@pytest.mark.parametrize("standby", [{}, {"standby_s": 1.0}])
def test_the_rotator_measures_every_frame_once(folder: Path, standby: dict[str, float]) -> None:
    stream = LoneStream(folder, silent_after_s=1.0, **standby)
    stream.plug()
    sound = np.full(SECOND, 0.25, "<f4")
    sound[5000:5112] = 1.0
    play(stream, sound)
    play(stream, np.zeros(3 * SECOND, "<f4"))
    odd = np.zeros(CYCLE, "<f4")
    odd[7], odd[9] = np.nan, np.inf
    play(stream, odd)
    clipped = {"first_frame": 5000, "n_samples": 224}
    since = {"since_frame": SECOND, "below_dbfs": -60.0}
    found = told(stream)
    assert [kind for kind, _ in found].count("stream_silent") == 2
    assert ("stream_clipping", {"clipping": False, **clipped}) in found
    [silent] = [fields for kind, fields in found if kind == "stream_silent" and fields["silent"]]
    assert 0 <= silent["since_frame"] - SECOND < 1024, since
    assert ("stream_not_finite", {"not_finite": True, "first_frame": 4 * SECOND + 7, "n_samples": 4}) in found
    if standby:
        future: Future[Any] = Future()
        stream.give(m.KeepStandby(future))
        kept = future.result(10)
        tick = stream.actor._takes.current
        assert tick is not None
        stream.pump.timers["tick", tick.staging.path]()
        stream.catch_up()
    stopping: Future[Any] = Future()
    stream.give(m.Stop(stopping))
    stream.take_in(m.Stored)
    signal = stopping.result(10).signal
    first = 4 * SECOND + CYCLE - kept.n_frames if standby else 0
    assert signal.n_not_finite == 4
    assert signal.first_not_finite_frame == 4 * SECOND + 7 - first
    assert (signal.n_clipped, signal.first_clipped_frame) == ((0, None) if standby else (224, 5000))
    assert signal.frame == 4 * SECOND + CYCLE - first
    stream.close()


@pytest.mark.parametrize("sample_format", ["s16", "s32"])
def test_whole_numbers_clip_at_their_ends(folder: Path, sample_format: str) -> None:
    stream = LoneStream(folder, sample_format=sample_format)
    stream.plug()
    samples = np.zeros(CYCLE, "<f4")
    samples[3], samples[5], samples[9] = 1.0, -1.0, 0.5
    play(stream, samples)
    [(name, fields)] = told(stream)
    assert (name, fields["n_samples"], fields["first_frame"]) == ("stream_clipping", 4, 3)
    stream.close()




def test_a_slot_that_becomes_full_while_it_is_listened_to_is_measured_whole(folder: Path) -> None:
    stream = LoneStream(folder)
    stream.plug()

    def bring(n_frames: int, value: float) -> None:
        for _ in range(-(-n_frames // CYCLE)):
            stream.capture.cycle(np.full(2 * CYCLE, value, "<f4").tobytes())

    play(stream, np.zeros(CYCLE, "<f4"))
    bring(CYCLE, 1.0)
    with filling_within("_listen", lambda room: bring(room + CYCLE, 0.0)) as filled:
        play(stream, np.zeros(0, "<f4"))
    assert filled
    play(stream, np.zeros(CYCLE, "<f4"))
    [(name, fields)] = told(stream)[:1]
    assert (name, fields["first_frame"], fields["n_samples"]) == ("stream_clipping", CYCLE, 2 * CYCLE)
    stream.close()
