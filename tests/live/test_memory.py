"""A stream with gigabytes of staging, beside one that captures."""

from __future__ import annotations

import pytest
from harness import RawClient, SourceFactory

pytestmark = pytest.mark.live

DRIVE = {"driver": True, "patience_ms": 1000}


def test_starting_a_large_stream_costs_its_neighbour_nothing(
    counting_source: SourceFactory, client: RawClient
) -> None:
    small, large = (counting_source(name, channels=2, **DRIVE) for name in ("small", "large"))
    for uri, source, seconds in (("stream://a/1", small, 5.0), ("stream://b/1", large, 3600.0)):
        client.call("device_wait", name=source.name, timeout_s=50)
        client.call(
            "stream_start", uri=uri, device_identity=source.name, format={"type": "audio"}, staging_seconds=seconds,
            chunk_size_bytes=1 << 16, wait=True,
        )  # fmt: skip
        client.event("stream_head_position", stream_uri=uri)
    while (staging := client.call("status")["staging"])["used_bytes"] <= 1 << 30:  # made while both run
        client.event("stream_head_position", stream_uri="stream://a/1")
    assert staging["file_system"] == "tmpfs"
    head = client.event("stream_head_position", stream_uri="stream://a/1")["frame"]
    while client.event("stream_head_position", stream_uri="stream://a/1")["frame"] < head + 48_000:
        pass
    asked = [client.send("stream_stop", uri=uri) for uri in ("stream://b/1", "stream://a/1")]
    for stopped in map(client.answer, asked):
        assert (stopped["clean"], stopped["lost_frames"], stopped["n_gaps"]) == (True, 0, 0)
