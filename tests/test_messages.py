"""The wire's vocabulary: what is sound round-trips, what is not is refused with the field's name."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chaos import messages as m
from chaos.chunking import MAX_CHUNK_BYTES, SAMPLE_BYTES, chunk_frames
from chaos.errors import (
    ChaosError,
    InternalError,
    InvalidChunkSize,
    InvalidFormat,
    InvalidRange,
    InvalidRequest,
    InvalidURI,
    PathNotAllowed,
    StreamExists,
    UnknownOp,
)
from chaos.uri import make_uri, parse_uri, slug

START: dict[str, Any] = {
    "op": "stream_start",
    "uri": "stream://desk/take1",
    "device_identity": "mic",
    "format": {"type": "audio"},
}

part = st.from_regex(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,63}", fullmatch=True)
uris = st.builds(lambda name, take: f"stream://{name}/{take}", part, part)
text = st.text(st.characters(exclude_categories=("Cs",)), min_size=1, max_size=100)
paths = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\0"), max_size=50).map(
    "/".__add__
)
ids = st.none() | text
formats = st.builds(
    m.AudioFormat,
    sample_rate=st.none() | st.integers(1000, 1_536_000),
    channels=st.none() | st.integers(1, 64),
    sample_format=st.sampled_from(list(SAMPLE_BYTES)),
    layout=st.sampled_from([None, "planar", "interleaved"]),
) | st.just(m.MidiFormat())
seconds = st.floats(0, 86400)
moments = (
    st.sampled_from(["start", "head"])
    | st.builds(m.Moment, frame=st.integers(0, 2**63 - 1))
    | st.builds(m.Moment, seconds_ago=st.floats(0, 1e9))
    | st.builds(m.Moment, utc=st.datetimes(dt.datetime(1970, 1, 2), timezones=st.just(dt.UTC)))
)
requests = st.one_of(
    st.builds(m.Ping, id=ids),
    st.builds(m.Status, id=ids),
    st.builds(
        m.DeviceList,
        id=ids,
        direction=st.sampled_from([None, "input", "output"]),
        format=st.sampled_from([None, "audio", "midi"]),
    ),
    st.builds(m.DeviceFind, id=ids, name=text),
    st.builds(m.DeviceWait, id=ids, name=text, timeout_s=seconds),
    st.builds(
        m.StreamStart,
        id=ids,
        uri=uris,
        device_identity=text,
        format=formats,
        chunk_size_bytes=st.none() | st.integers(1024 * 64 * 4, MAX_CHUNK_BYTES),
        latency_frames=st.none() | st.integers(1, 65536),
        staging_seconds=st.none() | st.floats(0.1, 3600),
        wait=st.booleans(),
        chunk_path=st.none() | paths,
    ),
    st.builds(m.StreamSwitchChunk, id=ids, uri=uris, new_chunk_path=paths),
    st.builds(m.StreamStop, id=ids, uri=uris),
    st.builds(m.StreamList, id=ids),
    st.builds(m.StreamStatusOf, id=ids, uri=uris),
    st.builds(m.RecordingList, id=ids),
    st.builds(
        m.Slice,
        id=ids,
        uri=uris,
        from_=st.just("start") | st.builds(m.Moment, frame=st.just(0)),
        to=moments,
        output=st.sampled_from(["virtual", "materialize"]),
        path=st.none() | paths,
        container=st.sampled_from([None, "wav", "rf64", "flac", "raw"]),
        gaps=st.sampled_from(["zeros", "cut", "nan"]),
    ),
    st.builds(m.Verify, id=ids, uri=uris),
    st.builds(m.EventsSince, id=ids, seq=st.integers(0, 2**63 - 1), limit=st.integers(1, 10_000)),
    st.builds(m.Shutdown, id=ids),
    st.builds(m.Retire, id=ids, keep=st.none() | st.sampled_from(["7d", "200GB", "90"])),
)
anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)


def start(**fields: Any) -> bytes:
    return json.dumps({**START, **fields}).encode()


def refusal(call: Callable[[], object]) -> ChaosError | None:
    try:
        call()
    except ChaosError as e:
        return e
    return None


@given(requests)
def test_requests_round_trip(request: m.Request) -> None:
    raw = msgspec.json.encode(request)
    assert m.decode_request(raw) == request
    assert m.request_id(raw) == request.id


def test_every_op_of_the_protocol_is_there() -> None:
    assert set(m.REQUESTS) == set(m.RESULTS)
    assert set(m.REQUESTS) >= {
        *("ping", "status", "device_list", "device_find", "device_wait", "stream_start", "stream_switch_chunk"),
        *("stream_stop", "stream_list", "stream_status", "recording_list", "slice", "verify", "events_since"),
        "shutdown",
    }


@given(
    st.binary()
    | anything.map(lambda value: json.dumps(value).encode())
    | st.builds(
        lambda op, fields: json.dumps({**fields, "op": op}).encode(),
        st.sampled_from(list(m.REQUESTS)),
        st.dictionaries(st.sampled_from(["uri", "name", "format", "from", "to", "seq", "id", "x"]), anything),
    )
)
def test_whatever_comes_gives_a_request_or_a_helpful_error(raw: bytes) -> None:
    error = refusal(lambda: m.decode_request(raw))
    if error is not None:
        assert error.code in (
            "invalid_request",
            "unknown_op",
            "invalid_uri",
            "invalid_format",
            "invalid_range",
        )
        assert error.message
        assert error.hint
        answer = json.loads(m.encode_error(m.request_id(raw), error))
        assert answer["error"]["code"] == error.code


@pytest.mark.parametrize(
    ("raw", "kind", "words"),
    [
        (b"", InvalidRequest, "not JSON"),
        (b"\xff\xfe\x00", InvalidRequest, "not JSON"),
        (b'{"op":"ping"} {}', InvalidRequest, "not JSON"),
        (b"[" * 900_000, InvalidRequest, "no JSON object"),
        (b'{"op":"ping","id":' + b"[" * 500_000, InvalidRequest, "not JSON"),
        (b"[1]", InvalidRequest, "no JSON object"),
        (b"{}", InvalidRequest, "no `op`"),
        (b'{"op": 3}', InvalidRequest, "`op`"),
        (b'{"op": "pnig"}', UnknownOp, "pnig"),
        (b'{"op": "ping", "id": 7}', InvalidRequest, "`id`"),
        (
            b'{"op": "device_wait", "name": "m", "timeout_s": "3"}',
            InvalidRequest,
            "`timeout_s`: expected `float`, got",
        ),
        (b'{"op": "device_wait", "name": "m", "timeout_s": -1}', InvalidRequest, "got -1"),
        (b'{"op": "device_wait", "name": "m", "timeout_s": 1e999}', InvalidRequest, "timeout_s"),
        (b'{"op": "device_wait", "name": "m", "timeout_s": NaN}', InvalidRequest, "not JSON"),
        (b'{"op": "device_wait", "name": "m"}', InvalidRequest, "needs the field `timeout_s`"),
        (b'{"op": "device_find", "name": ""}', InvalidRequest, "`name`"),
        (b'{"op": "device_list", "direction": "in"}', InvalidRequest, "`direction`"),
        (b'{"op": "events_since", "seq": -1}', InvalidRequest, "`seq`"),
        (start(uri="stream://a/../b"), InvalidURI, "3 parts"),
        (start(uri="stream://a/.."), InvalidURI, "begins with a dot"),
        (start(uri=7), InvalidRequest, "`uri`"),
        (start(chunk_size_bytes=1), InvalidChunkSize, "less than 1024 frames"),
        (start(chunk_size_bytes=1 << 30), InvalidChunkSize, "too large"),
        (start(chunk_size_bytes="1M"), InvalidRequest, "`chunk_size_bytes`"),
        (start(format=3), InvalidRequest, "`format`"),
        (start(format={}), InvalidFormat, "type"),
        (start(format={"type": "video"}), InvalidFormat, "type"),
        (start(format={"type": "audio", "channels": "2"}), InvalidRequest, "`format.channels`"),
        (start(format={"type": "audio", "channels": 65}), InvalidFormat, "65"),
        (start(format={"type": "audio", "sample_rate": 0}), InvalidFormat, "sample_rate"),
        (start(format={"type": "audio", "sample_format": "f64"}), InvalidFormat, "f64"),
        (start(format={"type": "audio", "layout": "packed"}), InvalidFormat, "packed"),
        (start(chunk_path="take.raw"), PathNotAllowed, "absolute"),
        (start(chunk_path="/a\0b"), PathNotAllowed, "absolute"),
        (start(staging_seconds=0), InvalidRequest, "`staging_seconds`"),
        (start(wait=1), InvalidRequest, "`wait`"),
        (b" " * (2 << 20), InvalidRequest, "2097152 bytes"),
    ],
)
def test_refusals_name_what_was_wrong(raw: bytes, kind: type[ChaosError], words: str) -> None:
    with pytest.raises(ChaosError) as caught:
        m.decode_request(raw)
    assert type(caught.value) is kind
    assert words in caught.value.message
    assert caught.value.hint


@pytest.mark.parametrize(
    ("raw", "hint"),
    [
        (b'{"op": "strem_start"}', "did you mean stream_start?"),
        (b'{"op": "zzz"}', "the ops are ping, status"),
        (start(lateny_frames=256), "did you mean latency_frames?"),
        (start(format={"type": "audio", "chanels": 2}), "did you mean channels?"),
        (b'{"op": "ping", "zzz": 1}', "ping takes id"),
        (b'{"op": "device_list", "direction": "in"}', "use one of input, output"),
        (start(chunk_size_bytes=8191, format={"type": "audio", "channels": 2}), "2 channels is 8192"),
    ],
)
def test_hints_say_what_would_work(raw: bytes, hint: str) -> None:
    with pytest.raises(ChaosError) as caught:
        m.decode_request(raw)
    assert hint in caught.value.hint


@pytest.mark.parametrize(
    ("first", "last", "kind"),
    [
        ({"frame": 5}, {"frame": 4}, InvalidRange),
        ({"frame": -1}, "head", InvalidRange),
        ({}, "head", InvalidRange),
        ({"frame": 1, "seconds_ago": 1}, "head", InvalidRange),
        ({"seconds_ago": -1}, "head", InvalidRange),
        ("begin", "head", InvalidRequest),
        (3, "head", InvalidRequest),
        ({"utc": "2026-01-31T12:00:00"}, "head", InvalidRequest),
    ],
)
def test_times_that_are_none(first: Any, last: Any, kind: type[ChaosError]) -> None:
    request = {"op": "slice", "uri": "stream://a/b", "from": first, "to": last, "output": "virtual"}
    with pytest.raises(ChaosError) as caught:
        m.decode_request(json.dumps(request).encode())
    assert type(caught.value) is kind
    assert caught.value.hint


def test_the_id_comes_back_also_from_what_is_wrong() -> None:
    assert m.request_id(b'{"op": 3, "id": "seven"}') == "seven"
    assert m.request_id(b'{"pad": "' + b"x" * (2 << 20) + b'", "id": "seven"}') == "seven"
    assert m.request_id(b'{"id": 7}') is None
    assert m.request_id(b"\xff") is None


def test_answers() -> None:
    assert json.loads(m.encode_ok("1", {"a": 1})) == {"ok": True, "id": "1", "result": {"a": 1}}
    assert json.loads(m.encode_error(None, StreamExists("m", hint="h", details={"d": 1}))) == {
        "ok": False,
        "id": None,
        "error": {"code": "stream_exists", "message": "m", "hint": "h", "details": {"d": 1}},
    }


def test_an_error_that_json_cannot_hold_is_told_all_the_same() -> None:
    answer = json.loads(m.encode_error("1", InternalError("odd \udcff", details={"what": object()})))
    assert answer["error"]["code"] == "internal"
    assert "odd" in answer["error"]["message"]


@given(uris | st.none(), st.integers(0, 2**53))
def test_events_carry_topic_and_common_fields(uri: str | None, seq: int) -> None:
    topic, payload = m.make_event(
        "stream_state", seq=seq, run_id="r", stream_uri=uri, state="paused", reason=""
    )
    event = json.loads(payload)
    assert topic.decode() == ("stream_state" if uri is None else f"stream_state {uri}")
    assert event["type"] == "stream_state"
    assert event["seq"] == seq
    assert event["run_id"] == "r"
    assert event["wall_ns"] > 0
    assert event["monotonic_ns"] > 0
    assert event.get("stream_uri") == uri
    assert event["state"] == "paused"


def test_events_that_break_the_protocol_are_not_made() -> None:
    with pytest.raises(ValueError, match="stream_stat"):
        m.make_event("stream_stat", seq=1, run_id="r")
    with pytest.raises(ValueError, match="reason"):
        m.make_event("stream_state", seq=1, run_id="r", state="paused")


@given(
    st.none() | st.integers(-1, 2 * MAX_CHUNK_BYTES),
    st.integers(1, 64),
    st.integers(1000, 1_536_000),
    st.sampled_from(list(SAMPLE_BYTES)),
)
def test_chunks_hold_whole_frames(size: int | None, channels: int, rate: int, sample_format: str) -> None:
    frame_bytes = channels * SAMPLE_BYTES[sample_format]
    error = refusal(
        lambda: chunk_frames(size, channels=channels, sample_rate=rate, sample_format=sample_format)
    )
    if error is not None:
        assert size is not None
        assert not error.details["smallest"] <= size <= error.details["largest"]
        return
    n_frames = chunk_frames(size, channels=channels, sample_rate=rate, sample_format=sample_format)
    assert n_frames >= 1024
    if size is None:
        assert n_frames <= max(1024, 10 * rate)
        assert n_frames == 1024 or n_frames * frame_bytes <= 16 << 20
    else:
        assert size - frame_bytes < n_frames * frame_bytes <= size


@given(part, part)
def test_uris_are_taken_apart_and_put_together(name: str, take: str) -> None:
    assert parse_uri(make_uri(name, take)) == (name, take)


@given(st.text())
def test_a_slug_is_a_uri_part(anyhow: str) -> None:
    make_uri(slug(anyhow), "take")


@pytest.mark.parametrize(
    "wrong",
    [
        "",
        "desk/take",
        "stream:/a/b",
        "stream://a",
        "stream://a/",
        "stream:///b",
        "stream://a/b/c",
        "stream://a/.b",
        f"stream://a/{'x' * 65}",
        "stream://a/b c",
        "stream://a/b\n",
        "stream://\u00e4/b",
        "STREAM://a/b",
        "stream://a/b\0",
    ],
)
def test_uris_that_are_none(wrong: str) -> None:
    with pytest.raises(InvalidURI) as caught:
        parse_uri(wrong)
    assert "stream://<name>/<take>" in caught.value.hint
