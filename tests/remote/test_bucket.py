"""Object stores: the same contract in memory, in a folder and on an S3; URLs that are refused; credentials unsaid."""

from __future__ import annotations

import base64
import hashlib
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest
from proof.faultystore import FaultyStore

from chaos.remote.bucket import Bucket, KeyMissing, KeyTaken, StoreUnreachable, _breakable
from chaos.terms.buckets import check_url
from chaos.terms.errors import InvalidRequest, Unauthorized


@pytest.fixture
def url(object_store: str) -> str:
    return object_store


def test_an_object_is_put_once(url: str) -> None:
    bucket = Bucket(url)
    bucket.put_new("a/b", b"one")
    with pytest.raises(KeyTaken):
        bucket.put_new("a/b", b"two")
    assert bucket.get("a/b") == b"one"
    bucket.put("a/b", b"three")
    assert bucket.get("a/b") == Bucket(url).get("a/b") == b"three"
    assert bucket.size("a/b") == 5


def test_what_is_not_there_is_told(url: str) -> None:
    bucket = Bucket(url)
    with pytest.raises(KeyMissing):
        bucket.get("a/b")
    assert bucket.find("a/b") is None
    assert bucket.size("a/b") is None


def test_keys_are_listed_by_prefix_and_from_one_on(url: str) -> None:
    bucket = Bucket(f"{url}/deep/er")
    for key in ("rig1/takes/1", "rig1/takes/2", "rig1/takes/3", "rig2/takes/1"):
        bucket.put(key, b"x" * 7)
    assert bucket.folders() == ["rig1", "rig2"]
    assert bucket.folders("rig1") == ["takes"]
    assert sorted(bucket.objects("rig1/takes")) == [("rig1/takes/1", 7), ("rig1/takes/2", 7), ("rig1/takes/3", 7)]
    assert sorted(bucket.objects("rig1/takes", after="rig1/takes/1")) == [("rig1/takes/2", 7), ("rig1/takes/3", 7)]
    assert sorted(key for key, _ in Bucket(url).objects("deep/er/rig2")) == ["deep/er/rig2/takes/1"]


@pytest.mark.parametrize(
    "bad", ["s3://", "s3:///x", "http://host/x", "ftp://x/y", "file://x", "file:///", "nonsense", "s3://b/../x", "s3://b//x"]
)
def test_what_is_no_object_store_is_refused(bad: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        check_url(bad)
    assert "s3://bucket/prefix" in refused.value.hint


@pytest.mark.parametrize("bad", ["s3://key:hush@bucket/x", "az://c/x?sig=hush", "s3://hush@bucket",
                                 "s3://key:hu/sh@bucket/hush", "s3://key:hush"])
def test_credentials_in_a_url_are_refused_and_not_repeated(bad: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        check_url(bad)
    assert "hush" not in f"{refused.value.message}{refused.value.hint}"


def test_a_store_that_is_away_is_told_in_a_line(s3: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    with pytest.raises(StoreUnreachable) as refused:
        Bucket(s3).put_new("key", b"")
    assert "\n" not in refused.value.message
    assert len(refused.value.message) < 500


def test_an_object_goes_with_its_checksum_and_only_where_there_is_none(
    s3: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    heads: list[dict[str, str]] = []

    class Listening(FaultyStore):
        def _refusal(self, handler: BaseHTTPRequestHandler) -> tuple[int, str] | None:
            heads.append({name.lower(): value for name, value in handler.headers.items()})
            return None

    proxy = Listening(int(os.environ["AWS_ENDPOINT_URL"].rpartition(":")[2]), 0.0, 1)
    monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.endpoint)
    try:
        bucket = Bucket(f"{s3}/checked")
        bucket.put_new("key", b"data")
        bucket.put("key", b"other")
    finally:
        proxy.close()
    digests = [base64.b64encode(hashlib.sha256(data).digest()).decode() for data in (b"data", b"other")]
    assert [each.get("x-amz-checksum-sha256") for each in heads] == digests
    assert [each.get("if-none-match") for each in heads] == ["*", None]


def test_a_bucket_that_is_not_there_is_told(s3: str) -> None:
    with pytest.raises(StoreUnreachable, match="no such bucket"):
        Bucket("s3://nosuchbucket/x").put("key", b"")


@pytest.mark.parametrize("name", ["AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT"])
@pytest.mark.parametrize("endpoint", ["http://somebody:hush@localhost:1", "http://localhost:1/?key=hush", "http://[hush"])
def test_an_endpoint_with_credentials_is_refused_unsaid(
    monkeypatch: pytest.MonkeyPatch, name: str, endpoint: str
) -> None:
    monkeypatch.setenv(name, endpoint)
    with pytest.raises(InvalidRequest, match=name) as refused:
        Bucket("s3://bucket")
    assert "https://host:port" in refused.value.hint
    assert "hush" not in repr(refused.value.to_wire())


def test_a_bucket_that_is_not_there_is_called_that(s3: str) -> None:
    bucket = Bucket("s3://nobody-has-made-this-one")
    for ask in (bucket.folders, lambda: list(bucket.objects()), lambda: bucket.get("a")):
        with pytest.raises(StoreUnreachable, match="there is no such bucket") as refused:
            ask()
        assert refused.value.hint.startswith("make it first")


def test_without_credentials_that_is_said(s3: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    for name in ("AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "none"))
    monkeypatch.setenv("AWS_METADATA_ENDPOINT", "http://127.0.0.1:1")  # no instance's role, wherever this runs
    with pytest.raises(Unauthorized, match="no credentials"):
        Bucket(f"{s3}/x").folders()


@pytest.fixture
def silent(monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """An object store that takes connections and requests, and never answers."""
    for name, value in (("AWS_ACCESS_KEY_ID", "a"), ("AWS_SECRET_ACCESS_KEY", "b"), ("AWS_REGION", "x")):
        monkeypatch.setenv(name, value)
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(60)
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.getsockname()[1]}")
        yield server


@pytest.mark.parametrize("command", ["list", "verify", "save"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_store_that_never_answers_holds_up_no_signal(
    silent: socket.socket, tmp_path: Path, command: str, number: signal.Signals
) -> None:
    url = "s3://bucket/rig1/recordings/a/b.20260101T000000.000000Z.zarr"
    asked = [sys.executable, "-m", "chaos.cli.main", command, url, *(["x.wav"] if command == "save" else [])]
    process = subprocess.Popen(asked, env={**os.environ, "TMPDIR": str(tmp_path)}, cwd=tmp_path)
    connection, _ = silent.accept()
    with connection:
        assert connection.recv(1)  # it has asked
        process.send_signal(number)
        # `list` has nothing to tidy up, and so leaves SIGTERM as it is
        expected = 130 if number == signal.SIGINT else -number if command == "list" else 128 + number
        assert process.wait(20) == expected
    assert list(tmp_path.iterdir()) == []


def test_a_store_that_never_answers_is_given_up(silent: socket.socket, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("chaos.remote.bucket._SILENCE_S", 0.2)
    bucket = Bucket("s3://bucket/x")
    for ask in (lambda: list(bucket.objects()), lambda: bucket.get("a")):
        with pytest.raises(StoreUnreachable):
            ask()


def test_what_is_asked_on_the_main_thread_is_asked_as_anywhere() -> None:
    def fail() -> None:
        raise KeyMissing("x")

    assert _breakable(threading.get_ident) != threading.get_ident()
    with pytest.raises(KeyMissing):
        _breakable(fail)
