"""Takes that go on into each other, and recordings whose oldest audio goes while they run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from harness import RawClient, RefusedError, SourceFactory
from rig import Session, modulus

from chaos.store.info import load
from chaos.store.verify import verify
from chaos.terms.ledger import Cause

URI = "stream://tape/1"


def rolled_to(event: dict[str, Any], former: list[str]) -> str:
    assert event["continues"] == former[-1]
    return str(event["take"])


@pytest.mark.parametrize("layout", ["planar", "interleaved"])
def test_takes_join_without_a_seam(
    session: Session, client: RawClient, counting_source: SourceFactory, layout: str
) -> None:
    session.force_quantum(256)
    source = counting_source("tape", driver=True, speed=4)
    client.call("device_wait", name=source.name, timeout_s=50)
    client.call(
        "stream_start",
        uri=URI,
        device_identity=source.name,
        format={"type": "audio", "layout": layout},
        chunk_size_bytes=16384,
        roll="1s",
    )
    uris = [URI]
    while len(uris) < 3:
        uris.append(rolled_to(client.event("stream_rolled", stream_uri=URI), uris))
    client.event("stream_chunk_sealed")
    stopped = client.call("stream_stop", uri=URI)
    while (event := client.next_event())["type"] != "stream_stopped":  # a busy machine may roll once more
        if event["type"] == "stream_rolled":
            uris.append(rolled_to(event, uris))
    assert uris[:3] == [URI, f"{URI}.0002", f"{URI}.0003"]
    folder = Path(stopped["recording"]).parent
    takes = [load(folder / f"{uri.rpartition('/')[2]}.zarr") for uri in uris]
    assert stopped["recording"] == str(takes[-1].path)
    number = None
    for info, uri, former in zip(takes, uris, [None, *uris], strict=False):
        assert (info.definition.uri, info.definition.continues) == (uri, former)
        assert (info.clean, info.gaps) == (True, [])
        assert verify(info.path).bad == []
        group: Any = zarr.open_group(info.path, mode="r")
        found = source.check(np.asarray(group["audio"][:]), first=number)
        assert found.ok, found
        number = (found.first + info.n_frames) % modulus(2)


def test_a_running_recording_lets_its_oldest_go(
    session: Session, client: RawClient, counting_source: SourceFactory
) -> None:
    session.force_quantum(256)
    source = counting_source("loop", driver=True, speed=4)
    client.call("device_wait", name=source.name, timeout_s=50)
    form = {"type": "audio"}
    client.call(
        "stream_start",
        uri=URI,
        device_identity=source.name,
        format=form,
        chunk_size_bytes=16384,
        keep="100kB",
    )
    client.event("stream_chunk_sealed", chunk=15)
    (retired,) = client.call("retire")["retired"]
    assert (retired["uri"], retired["live"]) == (URI, True)
    gap = client.event("stream_gap", cause="retired")
    assert (gap["first_frame"], gap["n_frames"]) == (0, retired["n_frames"])
    stopped = client.call("stream_stop", uri=URI)
    assert (stopped["clean"], stopped["lost_frames"]) == (True, 0)
    info = load(Path(stopped["recording"]))
    assert verify(info.path).bad == []
    assert [each.cause for each in info.gaps] == [Cause.RETIRED]
    group: Any = zarr.open_group(info.path, mode="r")
    found = source.check(np.asarray(group["audio"][:]), gaps=[(0, gap["n_frames"])])
    assert found.ok, found


@pytest.mark.parametrize("asked", [{"roll": "10ms"}, {"roll": "often"}, {"keep": "some"}])
def test_what_makes_no_sense_is_refused(client: RawClient, asked: dict[str, str]) -> None:
    with pytest.raises(RefusedError) as caught:
        client.call("stream_start", uri=URI, device_identity="?", format={"type": "audio"}, **asked)
    assert caught.value.code == "invalid_request"
