"""A device whose driver never moves its position on, on a real PipeWire."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from harness import RawClient
from rig import Session

STILL = """{
    factory.name = audiotestsrc
    library.name = audiotestsrc/libspa-audiotestsrc
    node.name = still
    media.class = Audio/Source
    object.linger = true
}"""


@pytest.fixture
def still(session: Session) -> Iterator[str]:
    """SPA's test source as a device: it drives the graph, and its clock stands at 0."""
    session.run("timeout", "5", "pw-cli", "create-node", "adapter", STILL)
    node = session.await_global("Node", {"node.name": "still"})
    yield "still"
    session.run("timeout", "5", "pw-cli", "destroy", str(node["id"]))


def test_a_clock_that_stands_still_is_told_and_captured(still: str, client: RawClient) -> None:
    uri = "stream://still/1"
    client.call("device_wait", name=still, timeout_s=10)
    client.call("stream_start", uri=uri, device_identity=still, format={"type": "audio"})
    while client.event("stream_head_position", timeout_s=10)["frame"] < 48000:
        pass
    assert any("stands still" in note for note in client.call("stream_status", uri=uri)["notes"])
    stopped = client.call("stream_stop", uri=uri)
    assert (stopped["clean"], stopped["n_frames"] >= 48000) == (True, True)
