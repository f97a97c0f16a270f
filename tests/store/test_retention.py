"""Retention: the oldest goes, the ledger tells it, pins and other recordings keep what they have."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from crashing import CrashingStream, fast_folder
from recorded import START_NS, PulledPlug, Rotator, definition, failing_call, names

from chaos.cli.main import main
from chaos.engine.messages import RetireChunks
from chaos.read import recording as reader
from chaos.store.info import load
from chaos.store.objects import ObjectStore
from chaos.store.recovery import recover
from chaos.store.retention import collect, pin, pins, plan, retire, unpin
from chaos.store.store import Store
from chaos.store.verify import verify
from chaos.store.writer import RecordingWriter
from chaos.terms.errors import InvalidRange, InvalidRequest, InvalidURI, RecordingNotFound
from chaos.terms.ledger import Cause, lost_frames
from chaos.terms.units import Keep, parse_keep

CHUNK_BYTES = 2 * 16 * 4


@pytest.fixture
def store() -> Iterator[Path]:
    with fast_folder() as folder:
        yield folder / "store"


def record(store: Path, take: str, n_frames: int, seed: int = 0, **more: Any) -> Rotator:
    """A finished recording of chunks of 16 frames."""
    stream = Rotator(RecordingWriter.create(Store(store), definition(f"stream://mic/{take}", **more)), seed)
    stream.write(n_frames)
    stream.stop()
    return stream


def retired(path: Path) -> list[tuple[int, int]]:
    gaps = [gap for gap in load(path).gaps if gap.cause is Cause.RETIRED]
    return [(gap.first_frame, gap.n_frames) for gap in gaps]


def objects(store: Path) -> int:
    return sum(1 for path in (store / "objects").glob("*/*"))


@pytest.mark.parametrize(
    ("text", "keep"),
    [
        ("7d", Keep(604800.0, None)),
        ("12h", Keep(43200.0, None)),
        ("200GB", Keep(None, 200 << 30)),
        ("1.5h", Keep(5400.0, None)),
        ("2T", Keep(None, 2 << 40)),
    ],
)
def test_what_to_keep_is_a_time_or_a_size(text: str, keep: Keep) -> None:
    assert parse_keep(text) == keep


@pytest.mark.parametrize("text", ["", "7 parsecs", "GB", "-1d"])
def test_what_is_neither_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        parse_keep(text)
    assert "200GB" in caught.value.hint


def test_the_oldest_chunks_go_until_the_size_fits(store: Path) -> None:
    stream = record(store, "1", 100)
    path = stream.writer.path
    (done,) = retire(Store(store), Keep(None, 3 * CHUNK_BYTES))
    assert (done.n_frames, done.n_bytes, len(done.chunks)) == (64, 4 * CHUNK_BYTES, 4)
    assert retired(path) == [(0, 64)]
    assert names(path / "audio" / "c" / "0") == ["4", "5", "6"]
    assert objects(store) == 3
    report = verify(path)
    assert report.ok, report.bad
    assert (report.n_frames, report.lost_frames) == (100, 0)
    assert retire(Store(store), Keep(None, 3 * CHUNK_BYTES)) == []


def test_readers_see_a_ledger_entry_and_never_silence(store: Path) -> None:
    stream = record(store, "1", 100)
    retire(Store(store), Keep(None, 3 * CHUNK_BYTES))
    with reader.open(stream.writer.path) as recording:
        np.testing.assert_array_equal(recording[64:], stream.model[:, 64:])
        assert np.isnan(recording.read(0, 64, "nan")).all()
        with pytest.raises(InvalidRange):
            recording.read(60, 70, "error")
        assert [gap.cause for gap in recording.gaps] == [Cause.RETIRED]


def test_what_is_older_than_the_time_goes(store: Path) -> None:
    stream = record(store, "1", 100)
    frame_ns = 1_000_000_000 / 48000
    now_ns = START_NS + int((64 + 48000) * frame_ns) + 1
    retire(Store(store), Keep(1.0, None), now_ns)
    assert retired(stream.writer.path) == [(0, 64)]
    assert retire(Store(store), Keep(1.0, None), now_ns) == []


def test_the_oldest_of_all_recordings_goes_first(store: Path) -> None:
    late = record(store, "late", 64, 1, started_wall_ns=START_NS + 10_000_000_000).writer.path
    early = record(store, "early", 64, 2).writer.path
    retire(Store(store), Keep(None, 5 * CHUNK_BYTES))
    assert (retired(early), retired(late)) == ([(0, 48)], [])
    retire(Store(store), Keep(None, 2 * CHUNK_BYTES))
    assert (retired(early), retired(late)) == ([(0, 48), (48, 16)], [(0, 32)])
    assert verify(early).ok
    assert verify(late).ok


def test_a_recording_has_a_limit_of_its_own(store: Path) -> None:
    small = record(store, "small", 64, 1, keep=f"{2 * CHUNK_BYTES}B").writer.path
    short = record(store, "short", 64, 2, keep="1h").writer.path
    free = record(store, "free", 64, 3).writer.path
    retire(Store(store), None)
    assert (retired(small), retired(short), retired(free)) == ([(0, 32)], [(0, 64)], [])


def test_gaps_inside_of_what_goes_stay_in_the_ledger(store: Path) -> None:
    stream = Rotator(RecordingWriter.create(Store(store), definition("stream://mic/1")))
    stream.write(10)
    stream.gap(30)
    stream.write(60)
    stream.stop()
    path = stream.writer.path
    retire(Store(store), Keep(None, 2 * CHUNK_BYTES))
    assert retired(path) == [(0, 10), (40, 40)]
    assert lost_frames(load(path).gaps) == 30
    assert verify(path).ok


def test_a_chunk_that_two_recordings_have_stays_for_the_other(store: Path) -> None:
    one = record(store, "1", 64, 7).writer.path
    second = record(store, "2", 64, 7, started_wall_ns=START_NS + 10_000_000_000).writer.path
    assert objects(store) == 4
    retire(Store(store), Keep(None, 4 * CHUNK_BYTES))
    assert (retired(one), retired(second), objects(store)) == ([(0, 64)], [], 4)
    assert verify(second).ok


def test_a_pinned_slice_keeps_its_chunks(store: Path) -> None:
    stream = record(store, "1", 100)
    path = stream.writer.path
    made = pin(Store(store), "interview", load(path), 20, 40)
    assert [span.chunk for span in made.chunks] == [1, 2]
    assert pins(Store(store)) == [made]
    retire(Store(store), Keep(None, 0))
    assert retired(path) == [(0, 16), (48, 52)]
    with reader.open(path) as recording:
        np.testing.assert_array_equal(recording[20:40], stream.model[:, 20:40])
    unpin(Store(store), "interview")
    retire(Store(store), Keep(None, 0))
    assert retired(path) == [(0, 16), (48, 52), (16, 32)]
    assert objects(store) == 0
    with pytest.raises(RecordingNotFound):
        unpin(Store(store), "interview")
    with pytest.raises(InvalidURI):
        pin(Store(store), "../up", load(path), 0, 1)


def test_objects_that_nothing_refers_to_are_collected(store: Path) -> None:
    record(store, "1", 64)
    stray = store / "stray"
    stray.write_bytes(b"once a chunk")
    ObjectStore(store / "objects").add("ab" * 32, stray)
    assert collect(Store(store)) == 0
    stray.unlink()
    assert collect(Store(store)) == 1
    assert objects(store) == 4


def test_a_retirement_may_die_at_any_call_and_is_done_again() -> None:
    number, done = 0, False
    while not done:
        with fast_folder() as folder:
            store = folder / "store"
            path = record(store, "1", 100).writer.path
            try:
                with failing_call(number, PulledPlug):
                    retire(Store(store), Keep(None, 2 * CHUNK_BYTES))
                done = True
            except PulledPlug:
                pass
            recover(Store(store), folder / "slots")
            retire(Store(store), Keep(None, 2 * CHUNK_BYTES))
            assert retired(path) == [(0, 80)]
            assert (objects(store), names(path / "audio" / "c" / "0")) == (2, ["5", "6"])
            assert verify(path).bad == []
            number += 1
    assert number > 20


def test_a_running_recording_is_left_to_its_rotator(store: Path) -> None:
    stream = CrashingStream(store, store.parent / "slots", n_slots=8)
    stream.write(100)
    stream.rotate()
    (planned,) = retire(Store(store), Keep(None, 2 * CHUNK_BYTES))
    assert (planned.live, retired(stream.recording)) == (True, [])
    stream.rotator.on_receive(RetireChunks(planned.chunks, planned.gaps))
    assert stream.told("stream_gap") == ["stream_gap"]
    assert retired(stream.recording) == [(0, 64)]
    assert plan(Store(store), Keep(None, 2 * CHUNK_BYTES)) == []
    stream.write(20)
    stream.stop()
    report = verify(stream.recording)
    assert report.ok, report.bad
    with reader.open(stream.recording) as recording:
        np.testing.assert_array_equal(recording[64:], stream.model[:, 64:])


def test_the_commands_pin_and_retire(store: Path) -> None:
    stream = record(store, "1", 100)
    options = ["--endpoint", f"ipc://{store.parent}/c", "--events", f"ipc://{store.parent}/e", "--store", str(store)]

    def run(*command: str) -> dict[str, Any]:
        result = CliRunner().invoke(main, [*options, *command, "--json"])
        assert result.exit_code == 0, result.output
        found: dict[str, Any] = json.loads(result.stdout)
        return found

    assert run("pin", "p", "stream://mic/1", "--from", "0", "--to", "16")["n_frames"] == 16
    (done,) = run("retire", "--keep", f"{3 * CHUNK_BYTES}B")["retired"]
    assert done["chunks"] == 4
    assert retired(stream.writer.path) == [(16, 64)]
    assert run("unpin", "p") == {"unpinned": "p"}


def test_a_recording_whose_keep_makes_no_sense_costs_only_itself(store: Path) -> None:
    odd, plain = record(store, "odd", 64, keep="9" * 400 + "d"), record(store, "plain", 64, 1)
    planned = plan(Store(store), Keep(None, 0))
    assert {each.recording for each in planned} == {str(odd.writer.path), str(plain.writer.path)}
    assert plan(Store(store), None) == []


def test_a_damaged_pin_keeps_what_can_be_read_of_it_and_stops_nothing(store: Path) -> None:
    kept, other = record(store, "kept", 64), record(store, "other", 64, 1)
    pin(Store(store), "precious", load(kept.writer.path), 0, 32)
    path = store / "pins" / "precious.json"
    path.write_bytes(path.read_bytes()[:-3])
    (store / "pins" / "junk.json").write_bytes(b"\xff\0{")
    assert pins(Store(store)) == []
    retire(Store(store), Keep(None, 0))
    assert [(path.name) for path in sorted(Path(load(kept.writer.path).chunks[0].path).parent.iterdir())] == ["0", "1"]
    assert retired(other.writer.path) == [(0, 64)]
