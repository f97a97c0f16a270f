"""Events in the store: sealed, read by any Zarr library, whole after a crash, gone when retention takes them."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import xarray
import zarr
from crashing import fast_folder
from hypothesis import given, settings
from hypothesis import strategies as st
from keys import CrashingKeys, check_keys, events_of, rows_of
from sequences import MIDI1

import chaos
from chaos.engine.messages import RetireChunks
from chaos.store import events
from chaos.store.age import Now
from chaos.store.info import load
from chaos.store.metadata import rebuild_metadata
from chaos.store.recovery import recover
from chaos.store.retention import retire
from chaos.store.retired import retired_gaps
from chaos.store.store import Store
from chaos.store.verify import verify
from chaos.terms.errors import InvalidRequest
from chaos.terms.units import parse_keep

NOTE = b"\x90\x40\x7f"
STEPS = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(["write", "miss", "no_data"]), st.integers(1, 50)),
        st.tuples(st.sampled_from(["rotate", "tick"]), st.just(0)),
    ),
    max_size=25,
)


@pytest.fixture(autouse=True)
def _small_chunk_files(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that few events fill many files."""
    for name, column in events.COLUMNS.items():
        monkeypatch.setitem(events.COLUMNS, name, column._replace(n_items=64 if name == "bytes" else 8))


@settings(max_examples=60, deadline=None)
@given(
    steps=STEPS,
    chunk_frames=st.integers(1, 40),
    n_slots=st.integers(3, 6),
    seed=st.integers(0, 99),
    crashes=st.booleans(),
)
def test_every_committed_event_is_stored_once(
    steps: list[tuple[str, int]], chunk_frames: int, n_slots: int, seed: int, crashes: bool
) -> None:
    with fast_folder() as folder:
        stream = CrashingKeys(
            folder / "store", folder / "slots", chunk_frames=chunk_frames, n_slots=n_slots, seed=seed
        )
        for name, n_frames in steps:
            getattr(stream, name)(*([n_frames] if n_frames else []))
        if crashes:
            stream.crash()
            recover(Store(folder / "store"), folder / "slots")
        else:
            stream.stop()
        if stream.n_frames:
            check_keys(stream)
            assert load(stream.recording).clean is not crashes


def a_take(folder: Path, n_chunks: int = 8) -> CrashingKeys:
    """Of chunks of 16 frames, each with 5 events of 3 bytes; it runs."""
    folder.mkdir(exist_ok=True)
    stream = CrashingKeys(folder, folder.parent / "slots")
    for number in range(n_chunks):
        stream.play(16, [(3 * at, MIDI1, bytes([0x90, number, at])) for at in range(5)])
        stream.tick()
    return stream


def test_after_a_power_cut_all_but_what_came_after_the_last_checkpoint_is_there(tmp_path: Path) -> None:
    stream = a_take(tmp_path / "store")
    stream.play(10, [(1, MIDI1, NOTE)])
    stream.tick()
    n_events = len(stream.offered)
    stream.play(5, [(1, MIDI1, NOTE)])
    stream.crash()
    stream.staging.path.unlink()
    recover(Store(tmp_path / "store"), tmp_path / "slots")
    assert events_of(stream.recording) == rows_of(stream.recording) == stream.offered[:n_events]
    assert verify(stream.recording).ok


def test_a_running_take_is_read_up_to_its_head(tmp_path: Path) -> None:
    stream = a_take(tmp_path / "store")
    stream.play(10, [(1, MIDI1, NOTE)])
    assert events_of(stream.recording) == stream.offered
    assert rows_of(stream.recording) == stream.offered[:-1], "what is sealed"
    assert verify(stream.recording).ok
    with chaos.open(stream.recording) as recording:
        assert recording.events[128:].bytes.tolist() == [NOTE]
        assert len(recording.events[3:7]) == 2
        assert recording.dtype == recording[0:5].dtype
        assert [message.type for message in recording.messages(0, 4)] == ["note_on"] * 2
        stream.stop()
        follower = recording.follow(16, first_frame=0)
        assert [row.frame for block in follower for row in block] == [event[0] for event in stream.offered]


def test_people_open_it_with_xarray(tmp_path: Path) -> None:
    stream = a_take(tmp_path / "store")
    stream.stop()
    dataset = xarray.open_zarr(stream.recording, group="events")
    assert dataset["frame"].values.tolist() == [event[0] for event in stream.offered]
    assert set(dataset) == {"raw", "frame", "offset", "size", "kind", "bytes"}
    assert dict(dataset.sizes) == {"raw_byte": 8 << 14, "event": 40, "byte": 120}
    whole = xarray.open_datatree(stream.recording, engine="zarr")
    assert whole["events"]["kind"].values.tolist() == [MIDI1] * 40


def test_the_group_says_what_its_arrays_say(tmp_path: Path) -> None:
    stream = a_take(tmp_path / "store")
    stream.stop()
    group = json.loads((stream.recording / "zarr.json").read_text())
    told = group["consolidated_metadata"]["metadata"]
    assert told == {name: json.loads((stream.recording / name / "zarr.json").read_text()) for name in told}
    assert [name for name, _ in zarr.open_group(stream.recording, mode="r").members()] != []
    before = {path: path.read_bytes() for path in stream.recording.rglob("*") if path.is_file()}
    for path in (stream.recording / "events").rglob("*"):
        if path.is_file() and "raw" not in path.parts:
            path.unlink()
    assert not verify(stream.recording).ok
    rebuild_metadata(stream.recording)
    assert {path: path.read_bytes() for path in stream.recording.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize("name", ["frame", "offset", "size", "kind", "bytes"])
def test_an_array_that_says_another_thing_than_the_chunks_is_found(tmp_path: Path, name: str) -> None:
    stream = a_take(tmp_path / "store")
    stream.stop()
    path = stream.recording / "events" / name / "c" / "1"
    content = bytearray(path.read_bytes())
    content[3] ^= 1
    path.write_bytes(content)
    (bad,) = verify(stream.recording).bad
    assert (bad.reason, bad.found) == ("metadata_mismatch", f"events/{name}")


@pytest.mark.parametrize("left", [0, 3, None])
def test_an_array_that_is_shorter_than_what_was_sealed_is_told_so(tmp_path: Path, left: int | None) -> None:
    stream = a_take(tmp_path / "store")
    stream.stop()
    path = stream.recording / "events" / "frame" / "c" / "0"
    n_events = sum(sealed.n_events for sealed in load(stream.recording).chunks)
    if left is None:
        path.unlink()
    else:
        os.truncate(path, left)
    (bad,) = verify(stream.recording).bad
    assert (bad.reason, bad.found) == ("metadata_mismatch", "events/frame")
    assert bad.expected == f"{n_events} items, as sealed; chunk files of it are missing or cut short"


def test_events_are_sliced_by_whole_frames(tmp_path: Path) -> None:
    stream = a_take(tmp_path / "store")
    stream.stop()
    with chaos.open(stream.recording) as recording:
        with pytest.raises(TypeError, match=r"whole frames, not 1\.5"):
            recording.events[1.5:3]  # type: ignore[misc]
        with pytest.raises(TypeError, match="slice of frames"):
            recording.events[3]  # type: ignore[index]


@pytest.mark.parametrize("running", [True, False])
def test_what_retention_takes_is_in_no_array(tmp_path: Path, running: bool) -> None:
    stream = a_take(tmp_path / "store")
    store = Store(tmp_path / "store")
    if not running:
        stream.stop()
    if running:
        info = load(stream.recording)
        chunks = info.chunks[:3]
        stream.rotator.on_receive(RetireChunks(chunks, retired_gaps(chunks, info.gaps)))
    else:
        retire(store, parse_keep(f"{5 << 14}B"), Now.read())
    assert events_of(stream.recording) == stream.offered[15:]
    assert rows_of(stream.recording) == [(0, 0, b"")] * 15 + stream.offered[15:]
    assert b"\x90\x00" not in b"".join(
        path.read_bytes() for path in (stream.recording / "events").rglob("*") if path.is_file()
    )
    if running:
        stream.write(40)
        stream.stop()
    assert verify(stream.recording).ok
    rebuild_metadata(stream.recording)
    assert rows_of(stream.recording)[:40] == [(0, 0, b"")] * 15 + stream.offered[15:40]
    assert verify(stream.recording).ok


def test_a_recording_of_events_is_not_audio_and_the_other_way_round(tmp_path: Path) -> None:
    stream = a_take(tmp_path / "store")
    stream.stop()
    with chaos.open(stream.recording) as recording:
        with pytest.raises(InvalidRequest, match="holds no floats"):
            recording.read(0, 10, missing="nan")
        with pytest.raises(InvalidRequest, match="holds MIDI, not audio"):
            recording.definition.audio  # noqa: B018
