"""A device that is unplugged, plugged in again, mistaken, meddled with: its frames or a gap, never another's frames.

The graph's clock is a second source, louder and always there, that drives the graph without missing a cycle; what the
plugged device sends is numbered by that clock. So a recording is right when each frame carries the number of its
place, over all gaps.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import zarr
from harness import Daemon, RawClient, SourceFactory
from rig import CountingSource, RigError, Session
from rig.counting import check, modulus

from chaos.terms.ledger import Confidence

CYCLES = int(os.environ.get("CHAOS_PLUG_CYCLES", "10"))
AUDIO = {"type": "audio"}
PLUG_ID = 7
QUANTUM = 256


def samples_of(recording: str) -> npt.NDArray[Any]:
    return np.asarray(zarr.open_array(f"{recording}/audio", mode="r")[:])


def gaps_of(recording: str) -> list[list[int]]:
    """(first_frame, n_frames, cause, confidence) of each."""
    found: list[list[int]] = np.asarray(zarr.open_array(f"{recording}/gaps", mode="r")[:]).tolist()
    return found


def assert_all_in_place(recording: str, source_id: int) -> None:
    """Every frame that is in no gap is the source's and next to its neighbours, and gaps are silent.

    A gap of exact length is as long as the numbers say, to one quantum: the device may begin with what it made for the
    cycle before. One from clocks may be longer: then the graph stood still for a moment, as it does when a device dies
    in the middle of a cycle.
    """
    samples, gaps = samples_of(recording), gaps_of(recording)
    at, due, slack = 0, None, 0
    for first, n_frames, _, confidence in [*gaps, [samples.shape[1], 0, 0, Confidence.EXACT]]:
        assert not samples[:, first : first + n_frames].any()
        if first > at:
            found = check(samples[:, at:first], source_id)
            assert found.ok, (at, found, gaps)
            early = QUANTUM if due is None else (due - found.first + QUANTUM) % modulus(samples.shape[0])
            assert early <= slack + 2 * QUANTUM, (at, early - QUANTUM, gaps)
            due, slack = found.first + first - at, 0
        at = first + n_frames
        due = None if due is None else due + n_frames
        slack += 0 if confidence == Confidence.EXACT else n_frames


class Plug:
    """A device that can be taken away and brought back."""

    def __init__(self, session: Session, name: str, **options: Any) -> None:
        self._session = session
        self._name = name
        self._options = {"source_id": PLUG_ID, **options}
        self._device: CountingSource | None = None

    def insert(self) -> CountingSource:
        self._device = CountingSource(self._session, name=self._name, **self._options)
        return self._device

    def remove(self) -> None:
        if self._device is not None:
            self._device.stop()
            self._device = None


@contextmanager
def plug(session: Session, name: str, **options: Any) -> Iterator[Plug]:
    device = Plug(session, name, **options)
    try:
        yield device
    finally:
        device.remove()


@pytest.fixture
def loud(session: Session, counting_source: SourceFactory, client: RawClient) -> CountingSource:
    """The source that drives the graph, with a stream on it so that it does."""
    source = counting_source("loud", source_id=1, driver=True, patience_ms=400)
    session.force_quantum(QUANTUM)
    client.call("device_wait", name="loud", timeout_s=50)
    client.call("stream_start", uri="stream://loud/1", device_identity="loud", format=AUDIO)
    return source


def test_a_device_is_followed_over_many_plug_cycles(
    session: Session,
    loud: CountingSource,
    daemon: Daemon,
    client: RawClient,
    record_testsuite_property: Callable[[str, object], None],
) -> None:
    uri = "stream://plug/1"
    relinked_ms, told_ms, settled = [], [], (0, 0, 0)
    with plug(session, "plug") as device:
        device.insert()
        client.call("device_wait", name="plug", timeout_s=50)
        client.call("stream_start", uri=uri, device_identity="plug", format=AUDIO, staging_seconds=5)
        recording = client.recording_of(uri)
        for cycle in range(CYCLES):
            client.event("stream_head_position", stream_uri=uri)
            device.remove()
            gone = client.event("device_removed")
            waiting = client.event("stream_state", stream_uri=uri, state="waiting")
            assert "away" in waiting["reason"]
            told_ms.append((waiting["monotonic_ns"] - gone["monotonic_ns"]) / 1e6)
            device.insert()
            back = client.event("device_added")
            assert back["device"]["name"] == "plug"
            streaming, gap = client.all_of(
                {"type": "stream_state", "stream_uri": uri, "state": "streaming"},
                # That it is open may be told as late as this, too.
                {"type": "stream_gap", "stream_uri": uri, "cause": "device_away", "n_frames": lambda n: n is not None},
            )
            relinked_ms.append((streaming["monotonic_ns"] - back["monotonic_ns"]) / 1e6)
            assert gap["n_frames"] > 0
            if cycle == 2:
                settled = daemon.held()
        client.event("stream_head_position", stream_uri=uri)
        last = daemon.held_again(settled)
        stopped = client.call("stream_stop", uri=uri)
    control = client.call("stream_stop", uri="stream://loud/1")
    assert stopped["recording"] == recording
    assert stopped["clean"] is True
    assert_all_in_place(stopped["recording"], PLUG_ID)
    assert_all_in_place(control["recording"], loud.source_id)
    assert stopped["n_gaps"] >= CYCLES
    assert (last[0] <= settled[0], last[1] <= settled[1]) == (True, True)
    # KiB: the history keeps each cycle's events, but no more than 4 MiB of them.
    assert last[2] <= settled[2] + 1024 + min(24 * CYCLES, 6144)
    record_testsuite_property("relinked_ms_median", statistics.median(relinked_ms))
    record_testsuite_property("relinked_ms_worst", max(relinked_ms))
    print(
        f"{CYCLES} plug cycles: relinked in {statistics.median(relinked_ms):.1f} ms (median), "
        f"{max(relinked_ms):.1f} ms (worst); told of after {statistics.median(told_ms):.1f} ms; "
        f"before and after (fds, threads, KiB): {settled}, {last}"
    )


def test_another_device_of_the_same_name_is_not_taken(
    session: Session, loud: CountingSource, client: RawClient
) -> None:
    """Same name, same description, another serial number: the stream waits for its own."""
    uri = "stream://twin/1"
    with plug(session, "twin", properties={"device.serial": "Maker_Mic_00A1"}) as own:
        own.insert()
        client.call("device_wait", name="serial:Maker_Mic_00A1", timeout_s=50)
        client.call("stream_start", uri=uri, device_identity="twin", format=AUDIO)
        client.event("stream_head_position", stream_uri=uri)
        own.remove()
        client.event("stream_state", stream_uri=uri, state="waiting")
        with plug(session, "twin", source_id=8, properties={"device.serial": "Maker_Mic_00A2"}) as other:
            other.insert()
            client.call("device_wait", name="serial:Maker_Mic_00A2", timeout_s=50)
            before = client.call("stream_status", uri="stream://loud/1")["head_frame"]
            while client.event("stream_head_position", stream_uri="stream://loud/1")["frame"] < before + 12_000:
                pass
            assert client.call("stream_status", uri=uri)["state"] == "waiting"
            own.insert()
            client.event("stream_state", stream_uri=uri, state="streaming")
            client.event("stream_head_position", stream_uri=uri)
    assert_all_in_place(client.call("stream_stop", uri=uri)["recording"], PLUG_ID)


@pytest.mark.parametrize("layout", ["planar", "interleaved"])
def test_a_stream_may_wait_for_its_device(
    session: Session, loud: CountingSource, client: RawClient, layout: str
) -> None:
    uri = f"stream://late/{layout}"
    form = {**AUDIO, "layout": layout}
    started = client.call("stream_start", uri=uri, device_identity=f"late-{layout}", format=form, wait=True)
    assert started["state"] == "waiting"
    assert started["recording"] == ""
    with plug(session, f"late-{layout}") as device:
        for _ in range(3):
            device.insert()
            client.event("stream_state", stream_uri=uri, state="streaming")
            client.event("stream_head_position", stream_uri=uri)
            device.remove()
            client.event("stream_state", stream_uri=uri, state="waiting")
    stopped = client.call("stream_stop", uri=uri)
    assert stopped["clean"] is True
    assert_all_in_place(stopped["recording"], PLUG_ID)


def test_a_stream_that_waits_in_vain_stops_cleanly(client: RawClient) -> None:
    client.call("stream_start", uri="stream://never/1", device_identity="never", format=AUDIO, wait=True)
    status = client.call("stream_status", uri="stream://never/1")
    assert (status["state"], status["head_frame"]) == ("waiting", 0)
    stopped = client.call("stream_stop", uri="stream://never/1")
    assert (stopped["n_frames"], stopped["clean"]) == (0, True)


def inputs_of(session: Session, name: str) -> list[str]:
    return [line for line in session.run("pw-link", "-i").split() if line.startswith(f"{name}:input")]


def link_anyhow(session: Session, output: str, to: str) -> None:
    """Has PipeWire make the link; whoever asks may learn of its end before it learns of the link."""
    with contextlib.suppress(RigError):
        session.run("pw-link", output, to)


@pytest.mark.parametrize("layout", ["planar", "interleaved"])
def test_a_link_that_others_make_is_removed_and_no_frame_of_it_kept(
    session: Session, loud: CountingSource, client: RawClient, layout: str
) -> None:
    """PipeWire would mix the louder source in: that must never be in the recording."""
    uri = f"stream://mixed/{layout}"
    with plug(session, f"quiet-{layout}") as device:
        device.insert()
        client.call("device_wait", name=f"quiet-{layout}", timeout_s=50)
        form = {**AUDIO, "layout": layout}
        client.call("stream_start", uri=uri, device_identity=f"quiet-{layout}", format=form)
        inputs = inputs_of(session, f"chaosd.mixed.{layout}")
        assert len(inputs) == 2
        for port in inputs * 3:
            client.event("stream_head_position", stream_uri=uri)
            link_anyhow(session, "loud:capture_FL", port)
            told = client.event("stream_error", stream_uri=uri)
            assert (told["error"]["code"], told["recoverable"]) == ("foreign_link", True)
            assert "loud" in told["error"]["message"]
        client.event("stream_head_position", stream_uri=uri)
        device.remove()
        client.event("stream_state", stream_uri=uri, state="waiting")
        link_anyhow(session, "loud:capture_FR", inputs[0])
        client.event("stream_error", stream_uri=uri)
        device.insert()
        client.event("stream_state", stream_uri=uri, state="streaming")
        client.event("stream_head_position", stream_uri=uri)
        links = session.run("pw-link", "-l")
        stopped = client.call("stream_stop", uri=uri)
    assert links.count("loud:capture_FL") == 2  # itself and, once, at loud's own stream
    assert_all_in_place(stopped["recording"], PLUG_ID)


@pytest.mark.parametrize("layout", ["planar", "interleaved"])
def test_a_link_that_others_remove_is_made_again(
    session: Session, loud: CountingSource, client: RawClient, layout: str
) -> None:
    """Before it is told of there is a moment in which a converter makes up what the link no longer brings."""
    uri = "stream://cut/1"
    with plug(session, "cut") as device:
        device.insert()
        client.call("device_wait", name="cut", timeout_s=50)
        client.call("stream_start", uri=uri, device_identity="cut", format={**AUDIO, "layout": layout})
        for _ in range(3):
            client.event("stream_head_position", stream_uri=uri)
            session.run("pw-link", "-d", "cut:capture_FL", inputs_of(session, "chaosd.cut.1")[0])
            until = client.call("stream_status", uri=uri)["head_frame"] + 9600
            while client.event("stream_head_position", stream_uri=uri)["frame"] < until:
                pass
        stopped = client.call("stream_stop", uri=uri)
    assert stopped["clean"] is True
    assert stopped["lost_frames"] < 3 * 24_000  # the driver may wait 0.4 s for the cycle that was cut
    assert samples_of(stopped["recording"])[:, -1200:].any(axis=0).all()
    assert_all_in_place(stopped["recording"], PLUG_ID)


@pytest.mark.parametrize("layout", ["planar", "interleaved"])
@pytest.mark.parametrize("what", ["Node", "Port"])
def test_a_node_of_ours_that_others_remove_is_made_anew(
    session: Session, loud: CountingSource, daemon: Daemon, client: RawClient, what: str, layout: str
) -> None:
    """Also where one of its ports is taken away, and the node looks as if it went on. From PipeWire 1.4 on such a port
    may be back at once: then it is linked again, and the node stays."""
    uri = "stream://removed/1"
    with plug(session, "plug") as device:
        device.insert()
        client.call("device_wait", name="plug", timeout_s=50)
        client.call("stream_start", uri=uri, device_identity="plug", format={**AUDIO, "layout": layout})
        for _ in range(2):
            client.event("stream_head_position", stream_uri=uri)
            gone, serial = ours(session, "chaosd.removed.1", what)
            session.run("pw-cli", "destroy", str(gone))
            while ours(session, "chaosd.removed.1", what)[1] == serial:
                pass
            if what == "Node":
                client.event("stream_state", stream_uri=uri, state="waiting")
                client.event("stream_state", stream_uri=uri, state="streaming")
            before = client.call("stream_status", uri=uri)["head_frame"]
            while client.event("stream_head_position", stream_uri=uri)["frame"] < before + 4 * QUANTUM:
                pass
        stopped = client.call("stream_stop", uri=uri)
    assert stopped["clean"] is True
    assert_all_in_place(stopped["recording"], PLUG_ID)
    events = [each for each in client.call("events_since", seq=0)["events"] if each.get("stream_uri") == uri]
    waited = [each["reason"] for each in events if each["type"] == "stream_state" and each["state"] == "waiting"]
    assert all("another program removed" in reason for reason in waited)
    gaps = {each["first_frame"]: each for each in events if each["type"] == "stream_gap"}
    assert gaps
    assert {each["cause"] for each in gaps.values()} <= {"missed", "no_data", "device_away"}
    assert all(each["n_frames"] is not None for each in gaps.values()), "a gap that is over stays open in the events"


def ours(session: Session, name: str, what: str) -> tuple[int, int]:
    """Id and serial of a node in the graph, or of its first input port, once it is there."""
    while True:
        graph = session.objects()
        found = [each for each in graph if each["type"].endswith("Node") and props_of(each).get("node.name") == name]
        if found and what == "Node":
            return int(found[0]["id"]), int(props_of(found[0])["object.serial"])
        ports = [each for each in graph if each["type"].endswith("Port") and each["info"]["direction"] == "input"]
        for port in ports:
            if found and props_of(port)["node.id"] == found[0]["id"]:
                return int(port["id"]), int(props_of(port)["object.serial"])


def props_of(dumped: dict[str, Any]) -> dict[str, Any]:
    props: dict[str, Any] = dumped["info"]["props"]
    return props


def test_plugging_is_seen_live(session: Session, daemon: Daemon) -> None:
    """`chaosctl devices --watch --json`: a line of JSON for each event."""
    chaosctl = str(Path(sys.executable).with_name("chaosctl"))
    ends = ("--endpoint", daemon.command, "--events", daemon.events)
    watching = session.spawn(chaosctl, *ends, "devices", "--watch", "--json", stdout=subprocess.PIPE)
    assert watching.stdout is not None
    with plug(session, "seen") as device:
        seen: dict[str, Any] = {}
        while seen.get("type") != "device_added":
            device.remove()
            device.insert()
            readable, _, _ = select.select([watching.stdout], [], [], 0.5)
            seen = json.loads(watching.stdout.readline()) if readable else {}
        assert seen["device"]["name"] == "seen"
    while seen["type"] != "device_removed":
        seen = json.loads(watching.stdout.readline())
    assert seen["device"]["name"] == "seen"
    session.end(watching)
