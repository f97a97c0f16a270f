"""MIDI captured end to end: a device whose events and frames are known, the engine, a recording, its reader."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from harness import RawClient
from rig import MIDI, Event, MidiSource, Session, random_tune

import chaos
from chaos.store.verify import verify

QUANTA = [32, 64, 256, 1024, 8192]

Record = Callable[..., tuple[list[Event], list[Event], dict[str, Any]]]
"""What was offered and what is in the recording, both at frames of the graph's clock, and how the stream ended."""


def start(client: RawClient, source: MidiSource, uri: str, **fields: Any) -> dict[str, Any]:
    device = client.call("device_wait", name=source.name, timeout_s=10, format="midi")["device"]
    return client.call(
        "stream_start", uri=uri, device_identity=device["identity"], format={"type": "midi"}, **fields
    )


def stored_events(path: str | Path) -> list[Event]:
    """The events of a recording at positions of the clock, without the active sensing before the script."""
    with chaos.open(Path(path)) as recording:
        first = recording.anchors[0]
        return [
            Event(int(row.frame) - first.frame + first.position, 0, int(row.kind), row.bytes)
            for row in recording.events[:]
            if row.bytes not in (b"\xfe", b"\x00\x00\xfe\x10")
        ]


@pytest.fixture
def record(session: Session, client: RawClient) -> Iterator[Record]:
    """Records a device that plays a script."""
    with ExitStack() as stack:

        def recorded(
            script: Sequence[Event], quantum: int = 1024, speed: float = 20, **options: Any
        ) -> tuple[list[Event], list[Event], dict[str, Any]]:
            session.force_quantum(quantum)
            name = f"keys-{quantum}-{len(script)}"
            source = stack.enter_context(MidiSource(session, script, name=name, speed=speed, **options))
            uri = f"stream://keys/{quantum}"
            begun = start(client, source, uri)
            assert begun["format"] == {"type": "midi"}
            first = source.play()
            overflowed = source.await_end()
            source.hold()
            stopped = client.call("stream_stop", uri=uri)
            stopped["overflowed"] = overflowed
            report = verify(Path(stopped["recording"]))
            assert report.ok, report.bad
            return sorted(event.moved(first) for event in script), sorted(stored_events(stopped["recording"])), stopped

        yield recorded


@pytest.mark.parametrize("quantum", QUANTA)
def test_every_event_is_at_its_frame(record: Record, quantum: int) -> None:
    """Also at the first and the last frame of cycles, over chunks."""
    script = random_tune(quantum, 1000, 400_000)
    edges = [cycle * quantum + at for cycle in range(20) for at in (0, quantum - 1)]
    script += [Event(frame, 0, MIDI, bytes([0x90, number, 1])) for number, frame in enumerate(edges)]
    offered, found, stopped = record(script, quantum)
    assert found == offered
    assert (stopped["lost_frames"], stopped["n_gaps"], stopped["clean"]) == (0, 0, True)
