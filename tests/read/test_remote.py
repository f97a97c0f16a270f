"""Recordings in an object store: read, listed, verified and saved like those on the disk."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
import soundfile
import xarray
from click.testing import CliRunner
from keys import CrashingKeys, events_of
from obstore.store import from_url
from recorded import Rotator
from uploading import memory_url, record, upload
from zarr.storage import ObjectStore

import chaos
from chaos.cli.main import main
from chaos.read.remote import open_remote, takes_in, verify_remote
from chaos.remote.bucket import Bucket
from chaos.store.marking import mark_in
from chaos.store.retention import retire
from chaos.store.store import Store
from chaos.store.verify import verify
from chaos.terms.errors import InvalidRange, InvalidRequest, RecordingNotFound
from chaos.terms.units import parse_keep


@pytest.fixture
def url(object_store: str) -> str:
    return object_store


def finished(store: Store, uri: str = "stream://mic/take") -> Rotator:
    rotator = record(store, uri, chunk_frames=1600)
    rotator.anchor()
    rotator.write(4000)
    rotator.gap(2100)
    rotator.write(3000)
    rotator.anchor()
    rotator.stop()
    return rotator


def only(url: str) -> str:
    ((found, _),) = takes_in(url).takes
    return found


def test_a_recording_reads_as_on_the_disk(tmp_path: Path, url: str) -> None:
    store = Store(tmp_path / "store")
    rotator = finished(store)
    mark_in(store, "stream://mic/take", 77, "verse")
    upload(store, url)
    with chaos.open(only(url)) as there, chaos.open("stream://mic/take", store.root) as here:
        assert (there[:] == here[:]).all()
        assert (there[4000:6200] == rotator.model[:, 4000:6200]).all()
        assert there.gaps == here.gaps
        assert there.marks == here.marks
        assert there.anchors == here.anchors
        assert (there.state, there.clean, there.shape, there.device) == ("finished", True, here.shape, here.device)
        assert np.isnan(there.read(4000, 4200, "nan")).all()
        assert there.moment_of(100) == here.moment_of(100)
        assert [block.shape[1] for block in there.follow(5000, 0)] == [5000, 4100]


def test_a_running_one_is_read_as_far_as_it_is_there_and_grows(
    tmp_path: Path, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("chaos.read.remote._AGAIN_S", 0.0)
    store = Store(tmp_path / "store")
    rotator = record(store, chunk_frames=1600)
    rotator.write(4000)
    upload(store, url)
    with open_remote(only(url)) as there:
        assert (there.state, there.n_frames) == ("recording", 3200)
        rotator.write(3000)
        rotator.gap(100)
        rotator.write(1000)
        rotator.writer.flush()
        upload(store, url)
        there.refresh()
        assert there.n_frames == 8000
        rotator.stop()
        upload(store, url)
        there.refresh()
        assert (there.state, there.n_frames, there.clean) == ("finished", 8100, True)
        assert (there[:] == rotator.model).all()
        assert len(there.gaps) == 1


def test_pieces_of_the_journal_are_put_together(
    tmp_path: Path, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("chaos.upload.take._SEGMENT_BYTES", 300)
    monkeypatch.setattr("chaos.read.remote._AGAIN_S", 0.0)
    store = Store(tmp_path / "store")
    rotator = record(store)
    rotator.write(40)
    upload(store, url)
    with open_remote(only(url)) as there:
        for _ in range(5):
            rotator.write(23)
            rotator.gap(9)
            rotator.writer.flush()
            upload(store, url)
            there.refresh()
            n_frames = there.n_frames
            assert (there[:n_frames] == rotator.model[:, :n_frames]).all()
    with open_remote(only(url)) as again:
        assert again.n_frames == n_frames
        assert len(again.gaps) == 5


def test_midi_reads_as_on_the_disk(tmp_path: Path) -> None:
    url = memory_url()
    stream = CrashingKeys(tmp_path / "store", tmp_path / "slots")
    for _ in range(6):
        stream.write(16)
        stream.tick()
    stream.stop()
    upload(Store(tmp_path / "store"), url)
    with open_remote(only(url)) as there:
        assert [(int(row.frame), int(row.kind), row.bytes) for row in there.events[:]] == events_of(stream.recording)
    report = verify_remote(only(url))
    assert report.ok, report.bad


def test_verify_finds_what_is_wrong_over_there(tmp_path: Path, url: str) -> None:
    store = Store(tmp_path / "store")
    rotator = finished(store)
    upload(store, url)
    take = only(url)
    report = verify_remote(take)
    assert (report.ok, report.all_checked, report.recording) == (True, True, take)
    assert report.recording_hash_v3 == verify(rotator.writer.path).recording_hash_v3
    bucket = Bucket(take)
    chunk = bucket.get("audio/c/0/1")
    bucket.put("audio/c/0/1", chunk[:-1] + bytes([chunk[-1] ^ 1]))
    bucket.put("audio/c/0/99", chunk)
    bucket.put("gaps/c/0/0", bytes(32768))
    found = {(each.reason, each.chunk) for each in verify_remote(take).bad}
    assert found == {("hash_mismatch", 1), ("not_in_journal", 99), ("metadata_mismatch", None)}


def test_of_a_sample_it_is_said_what_was_checked_and_what_was_not(tmp_path: Path, url: str) -> None:
    store = Store(tmp_path / "store")
    finished(store)
    upload(store, url)
    take = only(url)
    bucket = Bucket(take)
    numbers = sorted(int(key.rpartition("/")[2]) for key, _ in bucket.objects("audio/c/0"))
    share = 1 / len(numbers)
    damaged = numbers[2]
    chunk = bucket.get(f"audio/c/0/{damaged}")
    bucket.put(f"audio/c/0/{damaged}", chunk[:-1] + bytes([chunk[-1] ^ 1]))
    seen = set()
    while seen != set(numbers):  # drawn anew each time: sooner or later each one
        report = verify_remote(take, share=share)
        (number,) = report.sample or []
        seen.add(number)
        assert (report.all_checked, report.proof) == (False, "nothing")
        assert report.ok == (number != damaged), "what was not hashed is not looked at"
    whole = verify_remote(take)
    assert (whole.ok, whole.sample) == (False, None)
    bucket.put(f"audio/c/0/{damaged}", chunk[:-1])
    others = numbers[0] if damaged != numbers[0] else numbers[1]
    bucket.store.delete(f"{bucket._below}/audio/c/0/{others}".strip("/"))
    found = {(each.reason, each.chunk) for each in verify_remote(take, share=share).bad}
    assert {("wrong_size", damaged), ("missing", others)} == found, "sizes and keys are looked at of all"


def test_chaosctl_verify_takes_a_sample(tmp_path: Path) -> None:
    store, url = Store(tmp_path / "store"), f"file://{tmp_path}/bucket"
    finished(store)
    upload(store, url)
    told = chaosctl("verify", only(url), "--sample", "16%")
    assert told.startswith("no defect in a sample: 9100 frames in 6 chunks")
    assert "checked: 1 chunk by hash (" in told
    assert "NOT checked: what is in the other 5 chunks" in told
    assert "proved" not in told
    report = json.loads(chaosctl("verify", only(url), "--sample", "21%", "--json"))
    assert (len(report["sample"]), report["all_checked"], report["ok"]) == (2, False, True)
    assert chaosctl("verify", only(url), "--sample", "100%").startswith("ok: ")
    assert CliRunner().invoke(main, ["verify", only(url), "--sample", "20%", "--strict"]).exit_code == 8
    for bad in ("5", "0%", "101%", "some"):
        assert "--sample 5%" in CliRunner().invoke(main, ["verify", only(url), "--sample", bad]).output
    here = CliRunner().invoke(main, ["verify", str(store.path("stream://mic/take")), "--sample", "5%"])
    assert (here.exit_code, "uploaded" in here.output) == (2, True)


def test_chunks_that_are_retired_here_read_from_there(tmp_path: Path) -> None:
    store, url = Store(tmp_path / "store"), memory_url()
    rotator = finished(store)
    upload(store, url)
    retire(store, parse_keep("1B"))
    with open_remote(only(url)) as there:
        assert (there[:] == rotator.model).all()
        assert [gap.cause.label for gap in there.gaps] == ["missed"]


def test_each_chunk_is_fetched_once_and_few_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store, url = Store(tmp_path / "store"), memory_url()
    rotator = finished(store)
    upload(store, url)
    with open_remote(only(url)) as there:
        before = there.info.bucket.counts["get"]  # type: ignore[attr-defined]
        for first in range(0, 9000, 100):
            there[first : first + 100]
        assert there.info.bucket.counts["get"] - before == len(there.info.chunks)  # type: ignore[attr-defined]
    monkeypatch.setattr("chaos.read.remote._KEPT_BYTES", 1)
    with open_remote(only(url)) as there:
        array = there[0:100]
        there[5000:9000]
        there[0:100]
        assert len(list((there.path / "audio" / "c" / "0").iterdir())) == 1
        folder = there.path.parents[2]
    assert not folder.exists()
    assert (array == rotator.model[:, :100]).all()


def test_what_is_not_there_is_told(tmp_path: Path) -> None:
    url = memory_url()
    with pytest.raises(RecordingNotFound):
        open_remote(f"{url}/rig1/recordings/mic/take.zarr")
    with pytest.raises(InvalidRequest, match="is not a recording") as refused:
        chaos.open(f"{url}/rig1")
    assert "chaosctl list" in refused.value.hint
    rotator = finished(Store(tmp_path / "store"))
    upload(Store(tmp_path / "store"), url)
    with open_remote(only(url)) as there, pytest.raises(InvalidRange):
        there.read(0, rotator.frame + 1)


def test_xarray_opens_it_as_it_is(tmp_path: Path, s3: str) -> None:
    store, url = Store(tmp_path / "store"), f"{s3}/{tmp_path.name}"
    rotator = finished(store)
    upload(store, url)
    how = {"endpoint": os.environ["AWS_ENDPOINT_URL"]}
    where = from_url(only(url), config=how, client_options={"allow_http": True})
    take = xarray.open_zarr(ObjectStore(where, read_only=True))
    assert (take.audio.values == rotator.model).all()
    assert take.attrs["sample_rate"] == 48000


def chaosctl(*arguments: str) -> str:
    done = CliRunner().invoke(main, arguments)
    assert done.exit_code == 0, done.output
    return done.output


def test_chaosctl_lists_verifies_and_saves_from_there(tmp_path: Path, url: str) -> None:
    store = Store(tmp_path / "store")
    rotator = finished(store)
    upload(store, url)
    (line,) = json.loads(chaosctl("list", url, "--json"))["recordings"]
    assert (line["uri"], line["n_frames"], line["state"]) == ("stream://mic/take", rotator.frame, "finished")
    assert line["gaps"] == {"missed": 2100}
    assert line["recording"] in chaosctl("list", f"{url}/rig1")
    assert chaosctl("verify", line["recording"]).startswith("ok: 9100 frames")
    chaosctl("save", line["recording"], str(tmp_path / "take.wav"))
    samples, rate = soundfile.read(tmp_path / "take.wav", dtype="float32")
    assert rate == 48000
    assert (rotator.model == samples.T).all()


def test_an_entry_that_is_damaged_is_named_by_list(tmp_path: Path) -> None:
    url = f"file://{tmp_path}/bucket"
    store = Store(tmp_path / "store")
    finished(store)
    finished(store, "stream://mic/other")
    upload(store, url)
    damaged, _ = sorted((tmp_path / "bucket").rglob("takes/*.json"))
    damaged.write_bytes(b'{"uri": ')
    done = CliRunner().invoke(main, ["list", url])
    assert (done.exit_code, f"{damaged.name} can't be read" in done.stderr) == (0, True)
    told = json.loads(CliRunner().invoke(main, ["list", "--json", url]).stdout)
    assert (len(told["recordings"]), [each.rpartition("/")[2] for each in told["unreadable"]]) == (1, [damaged.name])
