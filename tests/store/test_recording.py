from __future__ import annotations

import mmap
import os
import struct
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from blake3 import blake3
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from recorded import DTYPES, PulledPlug, Rotator, definition, failing_call, names, no_space

from chaos.read import recording as reader
from chaos.store.documents import TABLE_ROWS
from chaos.store.info import load
from chaos.store.metadata import rebuild_metadata
from chaos.store.part import committed_frames
from chaos.store.store import Store
from chaos.store.verify import verify
from chaos.store.writer import RecordingWriter
from chaos.terms.errors import InvalidRequest, InvalidURI, StorageFull, StreamExists
from chaos.terms.form import AudioForm, SampleFormat
from chaos.terms.ledger import Cause, ClockAnchor, Confidence, Gap


def files(folder: Path) -> dict[str, bytes]:
    """All files below, by name; hidden ones too."""
    paths = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


def check(store: Path, rotator: Rotator) -> None:
    """The finished recording equals the model: through Zarr, our reader, the ledger and verify."""
    path = rotator.writer.path
    group: Any = zarr.open_group(path, mode="r")
    np.testing.assert_array_equal(group["audio"][:], rotator.model)
    assert group["audio"].dtype == rotator.model.dtype
    rows = [(gap.first_frame, gap.n_frames, gap.cause, gap.confidence) for gap in rotator.gaps]
    assert [tuple(row) for row in group["gaps"][:]] == rows
    assert group.attrs["n_frames"] == rotator.frame
    with reader.open(path) as recording:
        np.testing.assert_array_equal(recording[:], rotator.model)
        assert recording.gaps == sorted(rotator.gaps, key=lambda gap: gap.first_frame)
    report = verify(path)
    assert report.bad == []
    assert report.ok
    assert report.n_frames == rotator.frame
    for sealed in load(path).chunks:
        object_path = store / "objects" / sealed.hash[:2] / sealed.hash[2:]
        assert object_path.samefile(sealed.path)
        assert not object_path.stat().st_mode & 0o222
        assert blake3(object_path.read_bytes()).hexdigest() == sealed.hash
    assert not [name for name in files(path) if "/." in name or name.startswith(".")]
    assert not [name for name in names(path.parent) if name.startswith(".")]


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("write"), st.integers(1, 40)),
        st.tuples(st.just("gap"), st.integers(0, 70)),
        st.tuples(st.sampled_from(["checkpoint", "anchor", "flush"]), st.just(0)),
    ),
    max_size=30,
)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(
    steps=STEPS,
    channels=st.integers(1, 4),
    chunk_frames=st.integers(1, 20),
    sample_format=st.sampled_from(["f32", "s16", "s32"]),
    seed=st.integers(0, 1 << 32),
)
def test_any_recording_equals_its_model(
    tmp_path_factory: pytest.TempPathFactory,
    steps: list[tuple[str, int]],
    channels: int,
    chunk_frames: int,
    sample_format: SampleFormat,
    seed: int,
) -> None:
    store = tmp_path_factory.mktemp("store")
    shape = definition(channels=channels, chunk_frames=chunk_frames, sample_format=sample_format)
    rotator = Rotator(RecordingWriter.create(Store(store), shape), seed)
    n_anchors = 0
    for step, n_frames in steps:
        match step:
            case "write":
                rotator.write(n_frames)
            case "gap":
                rotator.gap(n_frames)
            case "checkpoint":
                rotator.checkpoint()
            case "anchor":
                rotator.anchor()
                n_anchors += 1
            case "flush":
                rotator.writer.flush()
                group: Any = zarr.open_group(rotator.writer.path, mode="r")
                n_sealed = rotator.writer.n_frames
                np.testing.assert_array_equal(group["audio"][:], rotator.model[:, :n_sealed])
                assert verify(rotator.writer.path).bad == []
    rotator.stop()
    check(store, rotator)
    assert len(load(rotator.writer.path).anchors) == n_anchors


def test_the_tree_is_as_designed(tmp_path: Path) -> None:
    rotator = Rotator(RecordingWriter.create(Store(tmp_path), definition()))
    rotator.write(16)
    rotator.gap(32)
    rotator.write(20)
    rotator.stop()
    path = tmp_path / "recordings" / "mic" / "take.zarr"
    assert rotator.writer.path == path == Store(tmp_path).path("stream://mic/take")
    assert sorted(files(path)) == [
        "audio/c/0/0",
        "audio/c/0/3",
        "audio/c/0/4",
        "audio/zarr.json",
        "clock/zarr.json",
        "gaps/c/0/0",
        "gaps/zarr.json",
        "journal.jsonl",
        "overview/0/c.0.0.0",
        "overview/0/zarr.json",
        "overview/zarr.json",
        "zarr.json",
    ]
    tail = np.frombuffer((path / "audio/c/0/4").read_bytes(), "<f4").reshape(2, 16)
    np.testing.assert_array_equal(tail[:, :4], rotator.model[:, 64:68])
    assert not tail[:, 4:].any()
    audio: Any = zarr.open_array(path / "audio", mode="r")
    assert audio.metadata.dimension_names == ("channel", "frame")
    assert audio.chunks == (2, 16)
    assert audio.attrs["sample_rate"] == 48000
    assert audio.attrs["device"] == "A microphone"
    group: Any = zarr.open_group(path, mode="r")
    assert group.attrs["state"] == "finished"
    assert group.attrs["clean"] is True
    assert group.attrs["started_utc"] == "2026-01-31T12:00:00.000000000Z"
    assert group.attrs["definition"]["uri"] == "stream://mic/take"
    assert dict(group["gaps"].attrs)["columns"] == ["first_frame", "n_frames", "cause", "confidence"]


@pytest.mark.parametrize("sample_format", sorted(DTYPES))
def test_bytes_are_stored_as_they_came(tmp_path: Path, sample_format: SampleFormat) -> None:
    shape = definition(channels=3, chunk_frames=1024, sample_format=sample_format)
    writer = RecordingWriter.create(Store(tmp_path), shape)
    noise = os.urandom(shape.form.chunk_bytes)
    sealed = writer.seal(0, memoryview(noise), 0, 1024)
    assert Path(sealed.path).read_bytes() == noise
    assert sealed.hash == blake3(noise).hexdigest()
    writer.finish(1024, True)


def test_a_reader_sees_it_grow(tmp_path: Path) -> None:
    rotator = Rotator(RecordingWriter.create(Store(tmp_path), definition()))
    group: Any = zarr.open_group(rotator.writer.path, mode="r")
    assert group["audio"].shape == (2, 0)
    for n_sealed in range(1, 6):
        rotator.write(16)
        array: Any = zarr.open_array(rotator.writer.path / "audio", mode="r")
        np.testing.assert_array_equal(array[:], rotator.model)
        assert array.shape == (2, n_sealed * 16)
    rotator.writer.close()


def test_long_tables_span_chunks(tmp_path: Path) -> None:
    rotator = Rotator(RecordingWriter.create(Store(tmp_path), definition()))
    for _ in range(TABLE_ROWS):
        rotator.gap(1)
    rotator.writer.flush()
    assert verify(rotator.writer.path).ok
    for _ in range(2 * TABLE_ROWS + 5):
        rotator.gap(1)
        rotator.anchor()
    rotator.stop()
    check(tmp_path, rotator)
    before = files(rotator.writer.path)
    assert sorted(name for name in before if name.startswith("gaps/c")) == [
        f"gaps/c/{chunk}/0" for chunk in range(4)
    ]
    clock: Any = zarr.open_array(rotator.writer.path / "clock", mode="r")
    assert clock.shape == (2 * TABLE_ROWS + 5, 8)
    rebuild_metadata(rotator.writer.path)
    assert files(rotator.writer.path) == before


def test_the_clock_table_may_lag_and_is_whole_at_the_end(tmp_path: Path) -> None:
    rotator = Rotator(RecordingWriter.create(Store(tmp_path), definition()))
    for _ in range(3):
        rotator.anchor()
        rotator.write(16)
    path = rotator.writer.path
    assert verify(path).ok
    group: Any = zarr.open_group(path, mode="r")
    assert group["audio"].shape[1] == 48
    assert group["clock"].shape[0] <= len(load(path).anchors) == 3
    rotator.stop()
    assert zarr.open_group(path, mode="r")["clock"].shape == (3, 8)
    check(tmp_path, rotator)


def test_all_but_the_journal_can_be_rebuilt(tmp_path: Path) -> None:
    rotator = Rotator(RecordingWriter.create(Store(tmp_path), definition()))
    rotator.anchor()
    rotator.write(20)
    rotator.gap(40)
    with pytest.raises(StreamExists):
        rebuild_metadata(rotator.writer.path)
    rotator.stop()
    path = rotator.writer.path
    before = files(path)
    for name in before:
        if not name.startswith("audio/c") and name != "journal.jsonl":
            (path / name).unlink()
    assert not verify(path).ok
    rebuild_metadata(path)
    assert files(path) == before
    check(tmp_path, rotator)


def test_equal_chunks_share_one_object(tmp_path: Path) -> None:
    writer = RecordingWriter.create(Store(tmp_path), definition())
    silence = memoryview(bytes(2 * 16 * 4))
    writer.checkpoint(0, silence, 10)
    one = writer.seal(0, silence, 0, 16)
    writer.checkpoint(1, silence, 10)
    other = writer.seal(1, silence, 16, 16)
    assert one.hash == other.hash
    assert Path(one.path).samefile(other.path)
    writer.finish(32, True)
    assert verify(writer.path).ok
    assert names(writer.path / "audio" / "c" / "0") == ["0", "1"]


def test_a_take_is_recorded_once(tmp_path: Path) -> None:
    writer = RecordingWriter.create(Store(tmp_path), definition())
    before = files(tmp_path)
    with pytest.raises(StreamExists):
        RecordingWriter.create(Store(tmp_path), definition())
    writer.finish(0, True)
    with pytest.raises(StreamExists):
        RecordingWriter.create(Store(tmp_path), definition())
    assert files(tmp_path).keys() == before.keys()
    (tmp_path / "recordings" / "mic" / "empty.zarr").mkdir()
    with pytest.raises(StreamExists):
        RecordingWriter.create(Store(tmp_path), definition("stream://mic/empty"))


def test_two_writers_at_once_cannot_both_win(tmp_path: Path) -> None:
    barrier = threading.Barrier(8)
    won: list[RecordingWriter] = []

    def race() -> None:
        barrier.wait()
        try:
            won.append(RecordingWriter.create(Store(tmp_path), definition()))
        except StreamExists:
            return

    threads = [threading.Thread(target=race) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1
    assert names(tmp_path / "recordings" / "mic") == ["take.zarr"]
    won[0].finish(0, True)
    assert verify(won[0].path).ok


@pytest.mark.parametrize("uri", ["stream://../x", "stream://a/../../b", "stream://a/.b", "file:///a", "stream://a"])
def test_no_uri_leaves_the_store(tmp_path: Path, uri: str) -> None:
    with pytest.raises(InvalidURI):
        RecordingWriter.create(Store(tmp_path), definition(uri))
    assert names(tmp_path) == []


def test_mistakes_of_the_caller_write_nothing(tmp_path: Path) -> None:
    writer = RecordingWriter.create(Store(tmp_path), definition())
    slot = memoryview(bytearray(128))
    writer.seal(1, slot, 16, 16)
    before = files(tmp_path)
    for chunk, data, first_frame, n_frames in [
        (0, slot, 0, 16),
        (2, slot, 31, 16),
        (2, slot, 32, 0),
        (2, slot, 32, 17),
        (2, slot[:-1], 32, 16),
    ]:
        with pytest.raises(ValueError, match=r"\d"):
            writer.seal(chunk, data, first_frame, n_frames)
    with pytest.raises(ValueError, match="gap"):
        writer.gap(Gap(-1, 5, Cause.MISSED, Confidence.EXACT))
    with pytest.raises(ValueError, match="external"):
        writer.seal_external(2, slot, tmp_path / "out", 32, 16)
    writer.gap(Gap(0, 16, Cause.MISSED, Confidence.EXACT))
    with pytest.raises(ValueError, match="fewer"):
        writer.finish(31, True)
    writer.close()
    after = files(tmp_path)
    del before["recordings/mic/take.zarr/journal.jsonl"], after["recordings/mic/take.zarr/journal.jsonl"]
    assert after == before


def test_sealing_and_finishing_again_changes_nothing(tmp_path: Path) -> None:
    writer = RecordingWriter.create(Store(tmp_path), definition())
    slot = memoryview(os.urandom(128))
    sealed = writer.seal(0, slot, 0, 9)
    before = files(tmp_path)
    assert writer.seal(0, slot, 0, 9) == sealed
    writer.checkpoint(0, slot, 9)
    assert files(tmp_path) == before
    writer.finish(9, True)
    before = files(tmp_path)
    writer.finish(9, True)
    writer.finish(1, False)
    writer.close()
    assert files(tmp_path) == before


def test_checkpoints_write_only_what_is_new(tmp_path: Path) -> None:
    shape = definition(channels=2, chunk_frames=1024)
    writer = RecordingWriter.create(Store(tmp_path), shape)
    slot = memoryview(os.urandom(shape.form.chunk_bytes))
    part = writer.path / "audio" / "c" / "0" / ".0.part"
    writer.checkpoint(0, slot, 0)
    assert not part.exists()
    writer.checkpoint(0, slot, 300)
    with failing_call(-1, no_space) as calls:
        writer.checkpoint(0, slot, 300)
        assert calls == []
        writer.checkpoint(0, slot, 1000)
    assert calls == ["pwrite", "pwrite", "pwrite", "fdatasync"]
    content = part.read_bytes()
    for channel in (0, 4096):
        assert content[channel : channel + 4000] == slot[channel : channel + 4000]
        assert not any(content[channel + 4000 : channel + 4096])
    assert committed_frames(part, AudioForm(2, 1024, "f32")) == 1000
    sealed = writer.seal(0, slot, 0, 1024)
    assert Path(sealed.path).read_bytes() == slot
    assert not part.exists()
    writer.finish(1024, True)


@given(st.data())
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
def test_a_torn_checkpoint_is_noticed(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    store = tmp_path_factory.mktemp("store")
    rotator = Rotator(RecordingWriter.create(Store(store), definition(chunk_frames=64)))
    ends = []
    for n_frames in data.draw(st.lists(st.integers(1, 20), min_size=1, max_size=3)):
        rotator.write(n_frames)
        rotator.checkpoint()
        ends.append(rotator.frame)
    part = rotator.writer.path / "audio" / "c" / "0" / ".0.part"
    content = bytearray(part.read_bytes())
    bit = data.draw(st.integers(0, len(content) * 8 - 1))
    content[bit // 8] ^= 1 << (bit % 8)
    part.write_bytes(content)
    n_whole = committed_frames(part, AudioForm(2, 64, "f32"))
    if bit // 8 >= 2 * 64 * 4:
        assert n_whole == ([0, *ends][(bit // 8 - 512) // 56])
    else:
        frame = (bit // 8) // 4 % 64
        assert n_whole == max([end for end in [0, *ends] if end <= frame] if frame < ends[-1] else ends)
    rotator.writer.close()


def scenario(store: Path, rotator: Rotator) -> list[Any]:
    """The calls of a small recording, one by one, so that each can be made again."""
    slots = [np.ascontiguousarray(rotator.noise(16)) for _ in range(2)]
    slots[1][:, 9:] = 0
    silence = np.zeros((2, 16), "<f4")
    writer = rotator.writer
    rotator.model = np.concatenate([slots[0], silence, silence, slots[1][:, :9]], axis=1)
    rotator.gaps = [Gap(32, 16, Cause.OVERRUN, Confidence.EXACT)]
    rotator.frame = 57
    return [
        lambda: writer.checkpoint(0, slots[0].data, 5),
        lambda: writer.checkpoint(0, slots[0].data, 12),
        lambda: writer.seal(0, slots[0].data, 0, 16),
        lambda: writer.seal(1, silence.data, 16, 16),
        lambda: writer.flush(),
        lambda: writer.checkpoint(3, slots[1].data, 7),
        lambda: writer.seal(3, slots[1].data, 48, 9),
        lambda: writer.finish(57, True),
    ]


def test_every_storage_call_may_fail_once(tmp_path: Path) -> None:
    """Wherever space runs out, the call says so and can be made again."""
    n_calls = 0
    while True:
        store = tmp_path / str(n_calls)
        rotator = Rotator(RecordingWriter.create(Store(store), definition()))
        with failing_call(n_calls, no_space) as calls:
            for step, call in enumerate(scenario(store, rotator)):
                if step == 3:
                    rotator.writer.gap(rotator.gaps[0])
                    rotator.writer.anchor(ClockAnchor(0, 1, 2, 3))
                try:
                    call()
                except StorageFull:
                    call()
        check(store, rotator)
        if len(calls) <= n_calls:
            break
        n_calls += 1
    assert n_calls > 80


def test_no_exception_holds_on_to_the_slot(tmp_path: Path) -> None:
    """Or the staging file could not be closed while somebody looks at the error."""
    n_calls, held = 0, list[StorageFull]()
    while True:
        memory = mmap.mmap(-1, 128)
        memory[:4] = n_calls.to_bytes(4, "little")
        with memoryview(memory) as slot, failing_call(n_calls, no_space) as calls:
            writer = None
            try:
                writer = RecordingWriter.create(Store(tmp_path), definition(f"stream://mic/{n_calls}"))
                writer.checkpoint(0, slot, 5)
                writer.seal(0, slot, 0, 9)
                writer.finish(9, True)
            except StorageFull as error:
                held.append(error)
        memory.close()
        if writer:
            writer.close()
        if len(calls) <= n_calls:
            break
        n_calls += 1
    assert len(held) > 100


def test_a_failed_creation_leaves_nothing(tmp_path: Path) -> None:
    n_calls = 0
    while True:
        store = tmp_path / str(n_calls)
        with failing_call(n_calls, no_space) as calls:
            try:
                writer = RecordingWriter.create(Store(store), definition())
            except StorageFull:
                assert names(store / "recordings" / "mic") == []
                writer = RecordingWriter.create(Store(store), definition())
        writer.finish(0, True)
        assert verify(writer.path).ok
        if len(calls) <= n_calls:
            break
        n_calls += 1
    assert n_calls > 15


def test_a_writer_may_die_in_any_call(tmp_path: Path) -> None:
    """What was checkpointed before is recovered to the last frame, and nothing is made up."""
    n_calls = 0
    while True:
        store = tmp_path / str(n_calls)
        rotator = Rotator(RecordingWriter.create(Store(store), definition()))
        calls = scenario(store, rotator)[:-1]
        gap = rotator.gaps[0]
        saved_after = [5, 12, 16, 48, 48, 55, 57]
        saved, done = 0, False
        try:
            with failing_call(n_calls, PulledPlug):
                for step, call in enumerate(calls):
                    if step == 3:
                        rotator.writer.gap(gap)
                    call()
                    saved = saved_after[step]
                done = True
        except PulledPlug:
            pass
        if done:
            rotator.writer.close()
            break
        n_calls += 1
        model = rotator.model
        rotator.die_and_recover(store)
        writer = rotator.writer
        assert writer.n_frames >= saved
        if load(writer.path).gaps and writer.n_frames < gap.first_frame:
            n_lost = gap.first_frame - writer.n_frames
            lost = Gap(writer.n_frames, n_lost, Cause.ENGINE_DOWN, Confidence.CLOCK)
            model[:, lost.first_frame : lost.end_frame] = 0
            writer.gap(lost)
        rotator.gaps = load(writer.path).gaps
        rotator.frame = writer.n_frames
        rotator.model = model[:, : writer.n_frames]
        writer.finish(writer.n_frames, False)
        check(store, rotator)
    assert n_calls > 60


def test_only_the_dead_are_reopened(tmp_path: Path) -> None:
    writer = RecordingWriter.create(Store(tmp_path), definition())
    with pytest.raises(StreamExists):
        RecordingWriter.reopen(Store(tmp_path), writer.path)
    writer.finish(0, True)
    with pytest.raises(InvalidRequest, match="finished"):
        RecordingWriter.reopen(Store(tmp_path), writer.path)


def test_external_chunks_go_to_the_controllers_files(tmp_path: Path) -> None:
    writer = RecordingWriter.create(Store(tmp_path / "store"), definition(external=True))
    out = tmp_path / "made" / "for" / "us"
    slots = [memoryview(os.urandom(128)) for _ in range(2)]
    writer.checkpoint(0, slots[0], 9)
    one = writer.seal_external(0, slots[0], out / "one.raw", 0, 16)
    assert (out / "one.raw").read_bytes() == slots[0]
    assert one.path == str(out / "one.raw")
    with pytest.raises(InvalidRequest, match="exists"):
        writer.seal_external(1, slots[1], out / "one.raw", 16, 16)
    assert (out / "one.raw").read_bytes() == slots[0]
    writer.seal_external(1, slots[1], out / "two.raw", 16, 4)
    with pytest.raises(ValueError, match="seal_external"):
        writer.seal(2, slots[1], 32, 16)
    writer.gap(Gap(20, 3, Cause.MISSED, Confidence.EXACT))
    writer.finish(23, True)
    assert names(out) == ["one.raw", "two.raw"]
    assert not (writer.path / "audio").exists()
    report = verify(writer.path)
    assert report.ok
    assert report.n_chunks == 2
    (out / "two.raw").chmod(0o644)
    (out / "two.raw").write_bytes(bytes(128))
    assert [(bad.reason, bad.chunk) for bad in verify(writer.path).bad] == [("hash_mismatch", 1)]


def test_an_external_seal_may_fail_anywhere(tmp_path: Path) -> None:
    n_calls = 0
    while True:
        store, out = tmp_path / f"store{n_calls}", tmp_path / f"out{n_calls}"
        writer = RecordingWriter.create(Store(store), definition(external=True))
        slot = memoryview(os.urandom(128))
        with failing_call(n_calls, no_space) as calls:
            try:
                writer.seal_external(0, slot, out / "one", 0, 16)
            except StorageFull:
                writer.seal_external(0, slot, out / "one", 0, 16)
        writer.finish(16, True)
        assert names(out) == ["one"]
        assert (out / "one").read_bytes() == slot
        assert verify(writer.path).ok
        if len(calls) <= n_calls:
            break
        n_calls += 1
    assert n_calls > 10


def test_gaps_are_integers_in_the_array_and_labels_in_the_journal(tmp_path: Path) -> None:
    writer = RecordingWriter.create(Store(tmp_path), definition())
    writer.gap(Gap(0, 5, Cause.DEVICE_AWAY, Confidence.CLOCK))
    writer.finish(5, False)
    row = struct.unpack_from("<4q", (writer.path / "gaps/c/0/0").read_bytes())
    assert row == (0, 5, 4, 2)
    journal = (writer.path / "journal.jsonl").read_text()
    assert '"first_frame":0,"n_frames":5,"cause":"device_away","confidence":"clock"}\n' in journal


@pytest.mark.parametrize("n_checkpointed", [0, 20_000])
def test_a_short_take_does_not_take_a_whole_chunk_of_the_disk(tmp_path: Path, n_checkpointed: int) -> None:
    """A chunk is 3.7 MiB, of which the take fills 0.4; its bytes and its hash are those of the whole chunk."""
    n_frames, chunk_frames = 48_000, 480_000
    samples = np.zeros((2, chunk_frames), "<f4")
    samples[:, :n_frames] = np.arange(1, n_frames + 1)
    data = samples.tobytes()
    store = Store(tmp_path / "store")
    writer = RecordingWriter.create(store, definition(chunk_frames=chunk_frames))
    if n_checkpointed:
        writer.checkpoint(0, memoryview(data), n_checkpointed)
    sealed = writer.seal(0, memoryview(data), 0, n_frames)
    writer.finish(n_frames, clean=True)
    file_of_it = Path(sealed.path)
    assert file_of_it.read_bytes() == data
    assert sealed.hash == blake3(data).hexdigest()
    report = verify(writer.path)
    assert (report.ok, report.bad, report.n_frames) == (True, [], n_frames)
    with reader.open(writer.path) as recording:
        assert np.array_equal(recording[:], samples[:, :n_frames])
    probe = tmp_path / "probe"
    with probe.open("wb") as file:
        file.truncate(1 << 20)
    if probe.stat().st_blocks == 0:  # the file system knows holes
        assert file_of_it.stat().st_blocks * 512 < len(data) // 4
