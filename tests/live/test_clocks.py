"""A device whose driver never moves its position on, on a real PipeWire."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from harness import Daemon, RawClient
from rig import Session

STILL = """{
    factory.name = audiotestsrc
    library.name = audiotestsrc/libspa-audiotestsrc
    node.name = still
    media.class = Audio/Source
    object.linger = true
}"""


class Still:
    """SPA's test source as a device: it drives the graph, and its clock stands at 0."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._id: str | None = None

    def insert(self) -> None:
        self._session.run("timeout", "5", "pw-cli", "create-node", "adapter", STILL)
        self._id = str(self._session.await_global("Node", {"node.name": "still"})["id"])

    def remove(self) -> None:
        if self._id is not None:
            self._session.run("timeout", "5", "pw-cli", "destroy", self._id)
            self._id = None


@pytest.fixture
def client(own_session: Session, tmp_path: Path) -> Iterator[RawClient]:
    """Of a chaosd in a PipeWire of its own: after such a device 0.3.65 may give no device its ports any more."""
    with Daemon(own_session, tmp_path) as daemon:
        yield daemon.client


def test_a_clock_that_stands_still_is_told_and_captured(own_session: Session, client: RawClient) -> None:
    uri = "stream://still/1"
    still = Still(own_session)
    still.insert()
    client.call("device_wait", name="still", timeout_s=50)
    client.call("stream_start", uri=uri, device_identity="still", format={"type": "audio"})
    frame = 0
    while frame < 48000:
        said = client.next_event()
        if said["type"] == "stream_state" and said["state"] == "stalled":
            # Linked at the wrong moment, it has no buffer left (PipeWire 1.6) and stops for good.
            still.remove()
            client.event("stream_state", stream_uri=uri, state="waiting")
            still.insert()
        frame = said.get("frame", frame)
    assert any("stands still" in note for note in client.call("stream_status", uri=uri)["notes"])
    stopped = client.call("stream_stop", uri=uri)
    assert (stopped["clean"], stopped["n_frames"] >= 48000) == (True, True)
