"""A device that is there and brings nothing, or nothing yet: it is told, and where it is known how long it is a gap."""

from __future__ import annotations

import wave
from pathlib import Path

import numpy as np
import pytest
from harness import RawClient, is_pipewire_from
from rig import CountingSource, FaultyDriver, Session, check

import chaos

AUDIO = {"type": "audio"}
FORMS = (AUDIO, {**AUDIO, "layout": "interleaved"}, {**AUDIO, "sample_format": "s16"})
URI = "stream://silent/1"
# From 1.7 on a sink that nobody plays into brings silence, a cycle long, which in planar ports is like any other.
BRINGS_SILENCE = is_pipewire_from(1, 7)
FALLS_SILENT_ID = 4662  # its second channel is zero for frames 32768 to 65535


@pytest.mark.parametrize("form", FORMS)
def test_a_device_that_nobody_feeds_has_a_gap_from_its_start(
    session: Session, client: RawClient, form: dict[str, str]
) -> None:
    session.force_quantum(1024)
    client.call("device_wait", name="virtual-mic", timeout_s=50)
    started = client.call("stream_start", uri=URI, device_identity="virtual-mic", format=form)
    if BRINGS_SILENCE and "layout" not in form:
        assert started["state"] == "streaming"
        stopped = client.call("stream_stop", uri=URI)
        assert (stopped["clean"], stopped["n_gaps"]) == (True, 0)
        with chaos.open(stopped["recording"]) as recording:
            assert not recording.read(0, stopped["n_frames"]).any()
        return
    assert (started["state"], started["reason"]) == (
        "stalled",
        "the device has delivered nothing for more than a second",
    )
    opened = client.event("stream_gap", stream_uri=URI)
    assert (opened["first_frame"], opened["n_frames"], opened["cause"]) == (0, None, "no_data")
    told = client.event("stream_state", stream_uri=URI, state="stalled")
    assert told["reason"] == started["reason"]
    status = client.call("stream_status", uri=URI)
    assert (status["state"], status["n_gaps"]) == ("stalled", 1)
    assert status["head_frame"] == status["lost_frames"] >= 48_000
    stopped = client.call("stream_stop", uri=URI)
    assert (stopped["clean"], stopped["n_gaps"]) == (True, 1)
    assert stopped["n_frames"] == stopped["lost_frames"] >= 48_000


@pytest.mark.parametrize("form", FORMS)
def test_its_first_frames_end_the_gap(
    session: Session, client: RawClient, tmp_path: Path, form: dict[str, str]
) -> None:
    if BRINGS_SILENCE and "layout" not in form:
        pytest.skip("from PipeWire 1.7 on there is no gap before a sink is played into")
    tone = tmp_path / "tone.wav"
    with wave.open(str(tone), "wb") as file:
        file.setparams((2, 2, 48000, 0, "NONE", ""))
        file.writeframes(np.full((48000 * 2, 2), 8192, np.int16).tobytes())
    session.force_quantum(1024)
    client.call("device_wait", name="virtual-mic", timeout_s=50)
    client.call("stream_start", uri=URI, device_identity="virtual-mic", format=form)
    player = session.play(tone)
    closed = client.event("stream_gap", stream_uri=URI)
    while closed["n_frames"] is None:
        closed = client.event("stream_gap", stream_uri=URI)
    assert (closed["first_frame"], closed["cause"]) == (0, "no_data")
    while client.event("stream_head_position", stream_uri=URI)["frame"] < closed["n_frames"] + 4800:
        pass
    session.end(player)
    stopped = client.call("stream_stop", uri=URI)
    assert stopped["clean"] is True
    with chaos.open(stopped["recording"]) as recording:
        samples = recording.read(0, stopped["n_frames"])
        lost = np.zeros(stopped["n_frames"], bool)
        for gap in recording.gaps:
            lost[gap.first_frame : gap.end_frame] = True
    assert not samples[:, lost].any()
    level = 8192 if form.get("sample_format") == "s16" else 0.25
    assert set(np.unique(samples[:, ~lost])) <= {0, level}
    assert (samples[:, ~lost] == level).any()


def test_a_channels_own_silence_is_kept(session: Session, client: RawClient) -> None:
    """Beside one that is heard: also where a converter might have made it up, and in the cycle in which it begins."""
    session.force_quantum(256)
    with CountingSource(session, name="half", source_id=FALLS_SILENT_ID, driver=True, speed=2, hold=True) as source:
        client.call("device_wait", name="half", timeout_s=50)
        form = {**AUDIO, "layout": "interleaved"}
        client.call("stream_start", uri=URI, device_identity="half", format=form, wait=True)
        source.wait_for("streaming")
        source.begin()
        while client.event("stream_head_position", stream_uri=URI)["frame"] < 72_000:
            pass
        stopped = client.call("stream_stop", uri=URI)
    with chaos.open(stopped["recording"]) as recording:
        samples, gaps = recording.read(0, stopped["n_frames"]), recording.gaps
    assert (samples[1] == 0).sum() >= 32_768
    assert "no_data" not in {gap.cause.label for gap in gaps}
    assert check(samples, FALLS_SILENT_ID, gaps=[(gap.first_frame, gap.n_frames) for gap in gaps]).ok


def test_a_driver_that_has_not_begun_is_told(session: Session, client: RawClient) -> None:
    session.force_quantum(1024)
    with FaultyDriver(session, name="asleep", hold=True) as device:
        client.call("device_wait", name="asleep", timeout_s=50)
        started = client.call("stream_start", uri=URI, device_identity="asleep", format=AUDIO)
        assert (started["state"], started["recording"]) == ("stalled", "")
        assert "no cycle" in started["reason"]
        device.begin()
        client.event("stream_state", stream_uri=URI, state="streaming")
        while client.event("stream_head_position", stream_uri=URI)["frame"] < 24_000:
            pass
        stopped = client.call("stream_stop", uri=URI)
    assert (stopped["clean"], stopped["n_gaps"]) == (True, 0)
    with chaos.open(stopped["recording"]) as recording:
        assert check(recording.read(0, stopped["n_frames"])).ok
