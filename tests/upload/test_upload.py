"""Uploads: at every moment the beginning of what is here; resumed by what is known; nothing twice, nothing lost."""

from __future__ import annotations

import shutil
import threading
from functools import partial
from pathlib import Path
from queue import Queue

import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from keys import CrashingKeys, events_of, rows_of
from recorded import Rotator
from sequences import MIDI1
from uploading import FlakyBucket, copied, memory_url, record, takes_in, tree, upload

from chaos.protocol.uploads import Told, Uploaded, UploadState
from chaos.remote.bucket import Bucket, StoreUnreachable
from chaos.store.catalog import Catalog
from chaos.store.retention import retire
from chaos.store.store import Store
from chaos.store.summary import RecordingSummary, summaries
from chaos.store.uploaded import set_target
from chaos.store.verify import verify
from chaos.terms.errors import ChaosError, InvalidRequest, StorageFull
from chaos.terms.ledger import Cause
from chaos.terms.units import parse_keep
from chaos.upload.uploader import Uploader


def fill(rotator: Rotator) -> None:
    rotator.anchor()
    rotator.write(40)
    rotator.gap(21)
    rotator.write(30)
    rotator.anchor()
    rotator.writer.flush()


def forget(store: Store) -> None:
    """What was known of the upload is lost, as when a damaged database is thrown away."""
    for path in (store.root / ".upload").glob("known.db*"):
        path.unlink()


def check_is_a_beginning(objects: dict[str, bytes], rotator: Rotator, to: Path) -> int:
    """Whatever can be opened is sound, and the beginning of what was recorded; how many frames that are."""
    for take in takes_in(objects):
        folder = copied(objects, take, to)
        report = verify(folder)
        assert report.ok, report.bad
        assert report.proof == "hashes"
        audio = np.asarray(zarr.open_group(folder, mode="r")["audio"][:])
        assert (audio == rotator.model[:, : audio.shape[1]]).all()
        assert report.n_frames >= audio.shape[1]
        return int(audio.shape[1])
    return 0


def test_what_was_recorded_is_there_to_the_byte(tmp_path: Path) -> None:
    store, url = Store(tmp_path / "store"), memory_url()
    rotator = record(store)
    fill(rotator)
    rotator.stop()
    told = [each for each in upload(store, url) if isinstance(each, Uploaded)]
    here, objects = store.path("stream://mic/take"), tree(url)
    assert (told[-1].n_frames, told[-1].ended, told[-1].n_absent) == (rotator.frame, True, 0)
    (take,) = takes_in(objects)
    for path in here.rglob("[!.]*"):
        name = path.relative_to(here).as_posix()
        if path.is_file() and name not in ("journal.jsonl", "zarr.json") and not name.startswith("overview/"):
            assert objects[f"{take}/{name}"] == path.read_bytes(), name
    assert verify(here).recording_hash_v3 == verify(copied(objects, take, tmp_path / "copy")).recording_hash_v3


@pytest.mark.parametrize("after", [False, True])
def test_wherever_the_store_fails_the_tree_is_a_beginning_and_the_rest_follows(tmp_path: Path, after: bool) -> None:
    store = Store(tmp_path / "store")
    rotator = record(store)
    fill(rotator)
    number, lengths = 0, set()
    while True:
        url = memory_url()
        bucket: list[FlakyBucket] = []

        def opened(where: str, number: int = number, bucket: list[FlakyBucket] = bucket) -> Bucket:
            bucket.append(FlakyBucket(where, number, after=after))
            return bucket[0]

        try:
            upload(store, url, opened)
        except StoreUnreachable:
            lengths.add(check_is_a_beginning(tree(url), rotator, tmp_path / f"{number}"))
            upload(store, url)
        else:
            break
        assert check_is_a_beginning(tree(url), rotator, tmp_path / f"{number}-again") == 80
        number += 1
        forget(store)
    assert number > 12, "it fails at each put once"
    assert lengths == {0, 80}


@settings(max_examples=15, deadline=None)
@given(steps=st.lists(st.sampled_from(["write", "gap", "upload", "fail", "forget"]), min_size=3, max_size=14),
       seed=st.integers(0, 99))  # fmt: skip
def test_any_course_of_recording_and_failing_gives_the_same(
    tmp_path_factory: pytest.TempPathFactory, steps: list[str], seed: int
) -> None:
    folder = tmp_path_factory.mktemp("course")
    store, url = Store(folder / "store"), memory_url()
    rotator = record(store, seed=seed)
    rotator.anchor()
    reached = 0
    for number, step in enumerate(steps):
        if step == "write":
            rotator.write(23)
        elif step == "gap":
            rotator.gap(19)
        elif step == "forget":
            forget(store)
        else:
            opened = partial(FlakyBucket, number=number) if step == "fail" else Bucket
            try:
                upload(store, url, opened)
            except StoreUnreachable:
                assert step == "fail"
            length = check_is_a_beginning(tree(url), rotator, folder / f"{number}")
            assert length >= reached, "what was there once stays"
            reached = length
    rotator.stop()
    upload(store, url)
    assert check_is_a_beginning(tree(url), rotator, folder / "end") == rotator.frame


def test_without_an_overview_the_journal_is_the_same_too(tmp_path: Path) -> None:
    store, url = Store(tmp_path / "store"), memory_url()
    rotator = record(store, overview=False)
    fill(rotator)
    rotator.stop()
    upload(store, url)
    objects = tree(url)
    (take,) = takes_in(objects)
    for name in ("journal.jsonl", "zarr.json"):
        assert objects[f"{take}/{name}"] == (rotator.writer.path / name).read_bytes()


def test_the_group_comes_last_and_after_all_it_tells_of(tmp_path: Path) -> None:
    store, url = Store(tmp_path / "store"), memory_url()
    rotator = record(store)
    fill(rotator)
    bucket = FlakyBucket(f"{url}/rig1", -1)
    upload(store, url, lambda _: bucket)
    names = [key.partition(".zarr/")[2] for key in bucket.keys_put if ".zarr/" in key]
    assert [name.startswith("audio/c/") for name in names] == [True] * 5 + [False] * (len(names) - 5)
    assert names[-1] == "zarr.json"
    assert names[5].startswith("journal/")
    assert names.index("gaps/c/0/0") < names.index("gaps/zarr.json") < names.index("zarr.json")


def test_what_is_known_to_be_there_is_not_asked_for_again(tmp_path: Path) -> None:
    store, url = Store(tmp_path / "store"), memory_url()
    rotator = record(store)
    fill(rotator)
    upload(store, url)
    rotator.write(32)
    bucket = FlakyBucket(f"{url}/rig1", -1)
    upload(store, url, lambda _: bucket)
    chunks = [key for key in bucket.keys_put if "/audio/c/" in key]
    assert sorted(key.rpartition("/")[2] for key in chunks) == ["5", "6"]
    assert (bucket.counts["list"], bucket.counts["head"], bucket.counts["get"]) == (0, 0, 1)


def test_while_it_records_its_metadata_is_replaced_once_a_minute(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, url, now_s = Store(tmp_path / "store"), memory_url(), [1000.0]
    monkeypatch.setattr("chaos.upload.uploader.time.monotonic", lambda: now_s[0])
    rotator = record(store)
    bucket = FlakyBucket(f"{url}/rig1", -1)
    uploader = Uploader(store, url, "rig1", lambda told: None, opened=lambda _: bucket)
    n_chunks, n_groups = [], []
    for second in range(0, 180, 5):
        now_s[0] = 1000.0 + second
        rotator.write(16)
        rotator.writer.flush()
        uploader.round()
        n_chunks.append(sum("/audio/c/" in key for key in bucket.keys_put))
        n_groups.append(sum(key.endswith(".zarr/zarr.json") for key in bucket.keys_put))
    uploader.close()
    assert n_chunks == list(range(1, 37)), "what is sealed goes up at once"
    assert n_groups == [1] * 12 + [2] * 12 + [3] * 12


def test_a_take_that_has_ended_costs_nothing_any_more(tmp_path: Path) -> None:
    store, url = Store(tmp_path / "store"), memory_url()
    rotator = record(store)
    fill(rotator)
    rotator.stop()
    upload(store, url)
    bucket = FlakyBucket(f"{url}/rig1", -1)
    upload(store, url, lambda _: bucket)
    assert (bucket.keys_put, bucket.counts["get"]) == (["recorder.json"], 1)
    assert not list((store.root / ".upload" / "takes").rglob("*.json"))


def test_what_retention_takes_here_afterwards_is_no_gap_there(tmp_path: Path) -> None:
    store, url = Store(tmp_path / "store"), memory_url()
    rotator = record(store)
    fill(rotator)
    rotator.stop()
    before = verify(store.path("stream://mic/take")).recording_hash_v3
    upload(store, url)
    retire(store, parse_keep("1B"))
    assert any(gap["cause"] == "retired" for gap in verify(store.path("stream://mic/take")).gaps)
    for _ in range(2):  # also where all that was known is lost: the objects themselves are found
        upload(store, url)
        objects = tree(url)
        (take,) = takes_in(objects)
        report = verify(copied(objects, take, tmp_path / "copy"))
        assert report.ok, report.bad
        assert [gap["cause"] for gap in report.gaps] == ["missed"]
        assert report.recording_hash_v3 == before
        forget(store)
        shutil.rmtree(tmp_path / "copy")


def test_what_retention_took_before_is_a_gap_there_too(tmp_path: Path) -> None:
    store, url = Store(tmp_path / "store"), memory_url()
    rotator = record(store)
    fill(rotator)
    rotator.stop()
    (n_bytes,) = {path.stat().st_size for path in (rotator.writer.path / "audio" / "c" / "0").iterdir()}
    retire(store, parse_keep(f"{2 * n_bytes}B"))
    told = [each for each in upload(store, url) if isinstance(each, Uploaded)]
    assert (told[-1].ended, told[-1].n_absent) == (True, 4)
    objects = tree(url)
    (take,) = takes_in(objects)
    report = verify(copied(objects, take, tmp_path / "copy"))
    assert report.ok, report.bad
    here = verify(rotator.writer.path)
    retired = {(gap["first_frame"], gap["n_frames"]) for gap in report.gaps if gap["cause"] == "retired"}
    assert retired == {(gap["first_frame"], gap["n_frames"]) for gap in here.gaps if gap["cause"] == "retired"}


def test_a_damaged_chunk_is_not_uploaded_and_the_rest_is(tmp_path: Path) -> None:
    store, url = Store(tmp_path / "store"), memory_url()
    rotator = record(store)
    fill(rotator)
    chunk = rotator.writer.path / "audio" / "c" / "0" / "1"
    chunk.chmod(0o600)
    chunk.write_bytes(b"x" + chunk.read_bytes()[1:])
    rotator.stop()
    told = [each for each in upload(store, url) if isinstance(each, Uploaded)]
    assert (told[-1].n_frames, told[-1].ended, told[-1].n_absent) == (16, False, 1)
    objects = tree(url)
    (take,) = takes_in(objects)
    report = verify(copied(objects, take, tmp_path / "copy"))
    assert [(defect.reason, defect.chunk) for defect in report.bad] == [("missing", 1)]


def spoil(path: Path) -> bytes:
    """Changes a byte of a chunk; what it was."""
    whole = path.read_bytes()
    path.chmod(0o600)
    path.write_bytes(bytes([whole[0] ^ 1]) + whole[1:])
    return whole


def listed(store: Store) -> list[RecordingSummary]:
    with Catalog(store) as catalog:
        return summaries(store, catalog.entries())


@pytest.mark.parametrize("is_missing", [False, True])
def test_of_a_chunk_that_can_not_go_up_nothing_is_claimed(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, is_missing: bool
) -> None:
    store, url = Store(tmp_path / "store"), memory_url()
    rotator = record(store)
    fill(rotator)
    rotator.stop()
    chunk = rotator.writer.path / "audio" / "c" / "0" / "1"
    whole = spoil(chunk)
    if is_missing:
        chunk.unlink()
    set_target(store.root, f"{url}/rig1")
    told: list[Told] = []
    uploader = Uploader(store, url, "rig1", told.append)
    for _ in range(4):
        uploader.round(hurry=True)
    uploader.close()
    assert [each.levelname for each in caplog.records] == ["WARNING"], "it is said once"
    assert "chaosctl verify stream://mic/take" in caplog.text
    (line,) = listed(store)
    assert (line.uploaded_frame, line.is_uploaded, line.upload_damaged) == (16, False, [1])
    assert [each.ended for each in told if isinstance(each, Uploaded)] == [False]
    assert 1 not in {each.chunk for gone in retire(store, parse_keep("1B")) for each in gone.chunks}
    chunk.write_bytes(whole)
    assert isinstance(last := upload(store, url)[-1], Uploaded)
    assert (last.n_frames, last.ended, last.n_absent) == (rotator.frame, True, 0)
    (line,) = listed(store)
    assert (line.is_uploaded, line.upload_damaged) == (True, [])
    (take,) = takes_in(objects := tree(url))
    assert verify(copied(objects, take, tmp_path / "copy")).ok


def test_an_uploader_at_rest_names_the_chunk_that_can_not_go_up(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    rotator = record(store)
    fill(rotator)
    rotator.stop()
    spoil(rotator.writer.path / "audio" / "c" / "0" / "1")
    states: Queue[UploadState] = Queue()
    uploader = Uploader(store, memory_url(), "rig1", lambda each: isinstance(each, UploadState) and states.put(each))
    thread = threading.Thread(target=uploader.run)
    thread.start()
    try:
        while (state := states.get(timeout=60)).state != "idle":
            pass
    finally:
        uploader.stop()
        thread.join(60)
    assert state.n_takes == 1
    assert "chunk 1 of stream://mic/take can't be uploaded" in state.reason


def test_how_many_takes_wait_is_told_also_where_the_bucket_is_away(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    fill(record(store))
    states: Queue[UploadState] = Queue()

    def away(url: str) -> Bucket:
        raise StoreUnreachable("injected")

    uploader = Uploader(store, memory_url(), "rig1", states.put, opened=away)  # type: ignore[arg-type]
    thread = threading.Thread(target=uploader.run)
    thread.start()
    try:
        state = states.get(timeout=60)
    finally:
        uploader.stop()
        thread.join(60)
    assert (state.state, state.n_takes) == ("waiting", 1)


def test_half_an_object_is_made_whole(tmp_path: Path) -> None:
    store, url = Store(tmp_path / "store"), memory_url()
    rotator = record(store)
    fill(rotator)
    upload(store, url)
    key = next(key for key in tree(url) if key.endswith("/audio/c/0/0"))
    Bucket(url).put(key, b"half")
    forget(store)
    upload(store, url)
    assert check_is_a_beginning(tree(url), rotator, tmp_path / "copy") == 80


def test_a_uri_that_is_used_again_overwrites_nothing(tmp_path: Path) -> None:
    store, url = Store(tmp_path / "store"), memory_url()
    for number in range(2):
        rotator = record(store, seed=number, started_wall_ns=1_769_860_800_000_000_000 + number * 1_000_000)
        fill(rotator)
        rotator.stop()
        upload(store, url)
        shutil.rmtree(rotator.writer.path)
    objects = tree(url)
    first, second = takes_in(objects)
    assert objects[f"{first}/audio/c/0/0"] != objects[f"{second}/audio/c/0/0"]
    for number, take in enumerate((first, second)):
        assert verify(copied(objects, take, tmp_path / f"copy{number}")).ok


def test_a_prefix_is_one_store_s(tmp_path: Path) -> None:
    url = memory_url()
    for name in ("one", "other"):
        fill(record(Store(tmp_path / name)))
    upload(Store(tmp_path / "one"), url)
    with pytest.raises(InvalidRequest, match="another recorder's") as refused:
        upload(Store(tmp_path / "other"), url)
    assert "--upload-as" in refused.value.hint
    upload(Store(tmp_path / "other"), url, recorder="rig2")
    assert Bucket(url).folders() == ["rig1", "rig2"]


def test_of_two_copies_of_a_store_the_one_that_started_last_has_the_prefix(tmp_path: Path) -> None:
    store, copy, url = Store(tmp_path / "store"), Store(tmp_path / "copy"), memory_url()
    fill(record(store))
    upload(store, url)
    shutil.copytree(store.root, copy.root)
    for _ in range(2):
        upload(store, url)  # which has started since it was copied
        with pytest.raises(InvalidRequest, match="another copy of this store") as refused:
            upload(copy, url)
    assert "--upload-as" in refused.value.hint
    upload(copy, url, recorder="rig2")
    Bucket(url).store.delete("rig1/recorder.json")
    upload(copy, url)
    with pytest.raises(InvalidRequest, match="another copy of this store"):
        upload(store, url)


def test_one_that_runs_is_told_that_a_copy_has_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store, copy, url, now_s = Store(tmp_path / "store"), Store(tmp_path / "copy"), memory_url(), [1000.0]
    monkeypatch.setattr("chaos.upload.claim.time.monotonic", lambda: now_s[0])
    fill(record(store))
    uploader = Uploader(store, url, "rig1", lambda told: None)
    uploader.round()
    shutil.copytree(store.root, copy.root)
    upload(copy, url)
    now_s[0] += 599
    uploader.round()
    now_s[0] += 1
    with pytest.raises(InvalidRequest, match="another copy of this store"):
        uploader.round()
    uploader.close()


def test_a_start_whose_mark_was_lost_on_its_way_is_no_other_copy(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    fill(record(store))
    for after in (False, True):
        url = memory_url()
        for _ in range(3):
            with pytest.raises(StoreUnreachable):
                upload(store, url, lambda where, after=after: FlakyBucket(where, 0, after=after))  # type: ignore[misc]
        upload(store, url)


def test_a_full_disk_takes_no_mark_and_the_upload_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store, url = Store(tmp_path / "store"), memory_url()
    fill(record(store))
    upload(store, url)

    def full(*_: object) -> None:
        raise StorageFull("injected")

    with monkeypatch.context() as patched:
        patched.setattr("chaos.store.uploaded.Uploads.set_marks", full)
        upload(store, url)
    upload(store, url)


def test_a_take_with_a_damaged_journal_holds_up_no_other(tmp_path: Path) -> None:
    store, url = Store(tmp_path / "store"), memory_url()
    for uri in ("stream://a/take", "stream://b/take"):
        rotator = record(store, uri)
        fill(rotator)
        rotator.stop()
    (store.path("stream://a/take") / "journal.jsonl").write_bytes(b"nonsense\n")
    with pytest.raises(ChaosError):
        upload(store, url)
    uploader = Uploader(store, url, "rig1", lambda told: None)
    assert uploader.round() > 0
    uploader.round(hurry=False)
    uploader.close()
    assert [take.partition("/recordings/")[2][:2] for take in takes_in(tree(url))] == ["b/"]


def test_a_damaged_line_is_damaged_there_too(tmp_path: Path) -> None:
    store, url = Store(tmp_path / "store"), memory_url()
    rotator = record(store)
    fill(rotator)
    rotator.gap(5, Cause.OVERRUN)
    rotator.stop()
    journal = rotator.writer.path / "journal.jsonl"
    lines = journal.read_bytes().split(b"\n")
    at = next(number for number, line in enumerate(lines) if b"overrun" in line)
    lines[at] = lines[at].replace(b"overrun", b"overrum")
    journal.write_bytes(b"\n".join(lines))
    upload(store, url)
    objects = tree(url)
    (take,) = takes_in(objects)
    here, there = verify(rotator.writer.path), verify(copied(objects, take, tmp_path / "copy"))
    damage = [each.found for each in here.bad if each.reason == "journal_damaged"]
    assert damage
    assert [each.found for each in there.bad if each.reason == "journal_damaged"] == damage


def test_a_torn_line_is_waited_for_without_asking_again_and_again(tmp_path: Path) -> None:
    store, url = Store(tmp_path / "store"), memory_url()
    rotator = record(store)
    fill(rotator)
    journal = rotator.writer.path / "journal.jsonl"
    with journal.open("ab") as file:
        file.write(b'{"check":"0000')
    upload(store, url)
    assert check_is_a_beginning(tree(url), rotator, tmp_path / "copy") == 80


def test_marks_after_the_end_follow(tmp_path: Path) -> None:
    from chaos.store.marking import mark_in

    store, url = Store(tmp_path / "store"), memory_url()
    rotator = record(store)
    fill(rotator)
    rotator.stop()
    upload(store, url)
    mark_in(store, "stream://mic/take", 5, "later")
    upload(store, url)
    objects = tree(url)
    (take,) = takes_in(objects)
    there = verify(copied(objects, take, tmp_path / "copy"))
    assert there.ok
    assert there.recording_hash_v3 == verify(rotator.writer.path).recording_hash_v3


def test_midi_is_there_with_its_events_also_once_retention_has_taken_it_here(tmp_path: Path) -> None:
    store, url = Store(tmp_path / "store"), memory_url()
    stream = CrashingKeys(tmp_path / "store", tmp_path / "slots")

    def play(first: int, n_chunks: int) -> None:
        for number in range(first, first + n_chunks):
            stream.play(16, [(3 * at, MIDI1, bytes([0x90, number, at])) for at in range(5)])
            stream.tick()

    play(0, 6)
    upload(store, url)
    play(6, 3)
    stream.stop()
    retired = 4 << 14
    assert sum(each.n_bytes for each in retire(store, parse_keep(f"{5 << 14}B"))) == retired
    upload(store, url)
    objects = tree(url)
    (take,) = takes_in(objects)
    there = verify(copied(objects, take, tmp_path / "copy"))
    assert there.ok, there.bad
    assert there.recording_hash_v3 == verify(stream.recording).recording_hash_v3
    assert rows_of(tmp_path / "copy") == events_of(tmp_path / "copy") == stream.offered


def test_what_begins_now_does_not_wait_for_what_years_have_left(tmp_path: Path) -> None:
    store, url = Store(tmp_path / "store"), memory_url()
    for number in range(12):
        rotator = record(store, f"stream://old/{number:02}")
        rotator.write(16)
        rotator.stop()
    uploader = Uploader(store, url, "rig1", lambda told: None)
    assert uploader.round() == 0, "there is more to do"
    live = record(store, "stream://new/take")
    live.write(16)
    uploader.round()
    assert any("/new/" in take for take in takes_in(tree(url)))
    for _ in range(8):
        uploader.round()
    assert len(takes_in(tree(url))) == 13
    assert uploader.round() > 0
    uploader.close()


def test_an_uploader_that_waits_for_a_store_ends_at_once(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    fill(record(store))
    waits = threading.Event()

    def tell(told: object) -> None:
        if getattr(told, "state", "") == "waiting":
            waits.set()

    uploader = Uploader(store, memory_url(), "rig1", tell, opened=lambda url: FlakyBucket(url, 0))
    thread = threading.Thread(target=uploader.run)
    thread.start()
    assert waits.wait(60)
    uploader.drain()
    thread.join(60)
    assert not thread.is_alive()
