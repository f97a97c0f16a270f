"""A stream of several takes in an object store: by one URL, on one timeline, as on the disk."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import soundfile
from click.testing import CliRunner
from recorded import START_NS
from rolled import URI, begin, three_takes
from uploading import memory_url, record, upload

import chaos
from chaos.cli.main import main
from chaos.read.remotestream import RemoteStream
from chaos.remote.bucket import Bucket
from chaos.store.marking import mark_in
from chaos.store.store import Store
from chaos.store.verify import verify_uri
from chaos.terms.errors import InvalidRequest, RecordingNotFound


def test_it_reads_as_on_the_disk(tmp_path: Path, object_store: str) -> None:
    store = tmp_path / "store"
    *_, last = three_takes(store)
    last.stop()
    mark_in(Store(store), f"{URI}.0002", 5, "verse")
    upload(Store(store), object_store)
    url = f"{object_store}/rig1/recordings/mic/1"
    with chaos.open(url) as there, chaos.open(URI, store) as here:
        assert isinstance(there, RemoteStream)
        assert (there.uri, there.state, there.n_frames) == (here.uri, "finished", here.n_frames)
        assert (there[:] == here[:]).all()
        assert (there[35:130] == here[35:130]).all()
        assert there.gaps == here.gaps
        assert {gap.cause.label for gap in there.gaps} >= {"missed", "engine_down"}
        assert there.marks == here.marks
        assert there.anchors == here.anchors
        assert [take.origin for take in there.takes] == [0, 40, 125]
        assert there.moment_of(130) == here.moment_of(130)
        folder = there.path
    assert not folder.exists()


def test_it_grows_with_the_stream(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("remote", "remotestream"):
        monkeypatch.setattr(f"chaos.read.{module}._AGAIN_S", 0.0)
    store, object_store = Store(tmp_path / "store"), memory_url()
    first = begin(store.root, "1", 0, 1)
    first.write(40)
    upload(store, object_store)
    with chaos.open(f"{object_store}/rig1/recordings/mic/1") as there:
        assert there.n_frames == 32, "what is sealed"
        first.stop()
        second = begin(store.root, "1.0002", 40, 2, continues=URI)
        second.write(20)
        second.stop()
        upload(store, object_store)
        there.refresh()
        there.refresh()
        assert there.n_frames == 60
        with chaos.open(URI, store.root) as here:
            assert (there[:] == here[:]).all()


def test_verify_and_save_take_it(tmp_path: Path, object_store: str) -> None:
    store = tmp_path / "store"
    *_, last = three_takes(store)
    last.stop()
    upload(Store(store), object_store)
    url = f"{object_store}/rig1/recordings/mic/1"
    here = verify_uri(Store(store), URI)

    def run(*arguments: str) -> str:
        done = CliRunner().invoke(main, arguments)
        assert done.exit_code == 0, done.output
        return done.stdout

    there = json.loads(run("verify", url, "--json"))
    assert (there["recording"], there["root_hash"]) == (url, here.root_hash)
    assert [take["ok"] for take in there["takes"]] == [True] * 3
    assert there["recording_hash_v3"] == here.recording_hash_v3
    sampled = json.loads(run("verify", url, "--sample", "1%", "--json"))
    assert (sampled["ok"], sampled["all_checked"], sampled["proof"]) == (True, False, "nothing")
    assert len(sampled["sample"]) == 3, "of each take one chunk"
    assert "checked: 3 chunks by hash, the" in run("verify", url, "--sample", "1%")
    run("save", url, str(tmp_path / "all.wav"))
    with chaos.open(URI, store) as recording:
        assert soundfile.info(tmp_path / "all.wav").frames == recording.n_frames
    chunk = next(key for key, _ in Bucket(object_store).objects("rig1/recordings") if "1.0002" in key and "/c/" in key)
    data = Bucket(object_store).get(chunk)
    Bucket(object_store).put(chunk, bytes(len(data)))
    bad = json.loads(CliRunner().invoke(main, ["verify", url, "--json"]).stdout)
    assert [(each["reason"], each["take"]) for each in bad["bad"]] in (
        [("hash_mismatch", f"{URI}.0002")], [("metadata_mismatch", f"{URI}.0002")]
    )  # fmt: skip


def test_of_a_uri_that_was_used_again_the_newest_counts(tmp_path: Path) -> None:
    """And none of the takes that went on from the one before."""
    store, object_store = Store(tmp_path / "store"), memory_url()
    *_, last = three_takes(store.root)
    last.stop()
    upload(store, object_store)
    shutil.rmtree(store.recordings / "mic")
    again = record(store, URI, started_wall_ns=START_NS + 10**12)
    again.write(48)
    again.stop()
    upload(store, object_store)
    with chaos.open(f"{object_store}/rig1/recordings/mic/1") as there:
        assert there.n_frames == 48
        assert (there[:] == again.model).all()


def test_what_is_not_there_is_told(tmp_path: Path) -> None:
    object_store = memory_url()
    with pytest.raises(RecordingNotFound) as absent:
        chaos.open(f"{object_store}/rig1/recordings/mic/1")
    assert "chaosctl list" in absent.value.hint
    with pytest.raises(InvalidRequest, match="is not a recording"):
        chaos.open(f"{object_store}/rig1")
