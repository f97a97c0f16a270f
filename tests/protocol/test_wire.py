"""The wire's vocabulary: what is sound round-trips, what is not is refused with the field's name."""

from __future__ import annotations

import datetime as dt
import json
import os
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chaos.protocol import codec as wire
from chaos.protocol import requests as r
from chaos.terms.chunking import MAX_CHUNK_BYTES
from chaos.terms.containers import CONTAINERS
from chaos.terms.errors import (
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
from chaos.terms.formats import MAX_CHANNELS, SAMPLE_BYTES

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
    r.AudioFormat,
    sample_rate=st.none() | st.integers(1000, 1_536_000),
    channels=st.none() | st.integers(1, 256),
    sample_format=st.sampled_from(list(SAMPLE_BYTES)),
    layout=st.sampled_from([None, "planar", "interleaved"]),
) | st.just(r.MidiFormat())
seconds = st.floats(0, 86400)
moments = (
    st.sampled_from(["start", "head"])
    | st.builds(r.Moment, frame=st.integers(0, 2**63 - 1))
    | st.builds(r.Moment, seconds_ago=st.floats(0, 1e9))
    | st.builds(r.Moment, utc=st.datetimes(dt.datetime(1970, 1, 2), timezones=st.just(dt.UTC)))
)


def is_label(text: str) -> bool:
    return bool(text.strip()) and "\0" not in text


requests = st.one_of(
    st.builds(r.Ping, id=ids),
    st.builds(r.Status, id=ids),
    st.builds(
        r.DeviceList,
        id=ids,
        direction=st.sampled_from([None, "input", "output"]),
        format=st.sampled_from([None, "audio", "midi"]),
        all=st.booleans(),
    ),
    st.builds(r.DeviceFind, id=ids, name=text),
    st.builds(r.DeviceWait, id=ids, name=text, timeout_s=seconds),
    st.builds(
        r.StreamStart,
        id=ids,
        uri=uris,
        device_identity=text,
        format=formats,
        chunk_size_bytes=st.none() | st.integers(1024 * MAX_CHANNELS * 4, MAX_CHUNK_BYTES),
        latency_frames=st.none() | st.integers(1, 65536),
        staging_seconds=st.none() | st.floats(0.1, 3600),
        wait=st.booleans(),
        chunk_path=st.none() | paths,
    ),
    st.builds(r.StreamSwitchChunk, id=ids, uri=uris, new_chunk_path=paths),
    st.builds(r.StreamStop, id=ids, uri=uris),
    st.builds(r.SetMark, id=ids, uri=uris, label=text.filter(is_label), frame=st.none() | st.integers(0, 2**63 - 1)),
    st.builds(
        r.SessionStart,
        id=ids,
        session=part,
        streams=st.lists(
            st.builds(r.SessionStream, uri=uris, device_identity=text, format=formats),
            min_size=1,
            max_size=3,
            unique_by=lambda stream: stream.uri,
        ),
    ),
    st.builds(r.SessionStop, id=ids, session=part),
    st.builds(r.SessionStatusOf, id=ids, session=part),
    st.builds(r.SessionList, id=ids),
    st.builds(r.StreamList, id=ids),
    st.builds(r.StreamStatusOf, id=ids, uri=uris),
    st.builds(r.RecordingList, id=ids),
    st.builds(
        r.Slice,
        id=ids,
        uri=uris,
        from_=st.just("start") | st.builds(r.Moment, frame=st.just(0)),
        to=moments,
        output=st.just("materialize"),
        path=st.none() | paths,
        container=st.sampled_from([None, *CONTAINERS]),
        gaps=st.sampled_from(["zeros", "cut", "nan"]),
    ),
    st.builds(r.Slice, id=ids, uri=uris, from_=st.just("start"), to=moments, output=st.just("virtual")),
    st.builds(r.Verify, id=ids, uri=uris),
    st.builds(r.EventsSince, id=ids, seq=st.integers(0, 2**63 - 1), limit=st.integers(1, 10_000)),
    st.builds(r.Shutdown, id=ids),
    st.builds(r.Retire, id=ids, keep=st.none() | st.sampled_from(["7d", "200GB", "90min"])),
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
def test_requests_round_trip(request: r.Request) -> None:
    raw = msgspec.json.encode(request)
    assert wire.decode_request(raw) == request
    assert wire.request_id(raw) == request.id


def test_every_op_of_the_protocol_is_there() -> None:
    assert set(r.REQUESTS) >= {
        *("ping", "status", "device_list", "device_find", "device_wait", "stream_start", "stream_switch_chunk"),
        *("stream_stop", "stream_list", "stream_status", "recording_list", "slice", "verify", "events_since"),
        "shutdown",
    }


@given(
    st.binary()
    | anything.map(lambda value: json.dumps(value).encode())
    | st.builds(
        lambda op, fields: json.dumps({**fields, "op": op}).encode(),
        st.sampled_from(list(r.REQUESTS)),
        st.dictionaries(st.sampled_from(["uri", "name", "format", "from", "to", "seq", "id", "x"]), anything),
    )
)
def test_whatever_comes_gives_a_request_or_a_helpful_error(raw: bytes) -> None:
    error = refusal(lambda: wire.decode_request(raw))
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
        answer = json.loads(wire.encode_error(wire.request_id(raw), error))
        assert answer["error"]["code"] == error.code


@pytest.mark.parametrize(
    ("raw", "kind", "words"),
    [
        (b"", InvalidRequest, "not JSON"),
        (b"\xff\xfe\x00", InvalidRequest, "not JSON"),
        (b'{"op":"ping"} {}', InvalidRequest, "not JSON"),
        (b"[" * 900_000, InvalidRequest, "not a JSON object"),
        (b'{"op":"ping","id":' + b"[" * 500_000, InvalidRequest, "not JSON"),
        (b"[1]", InvalidRequest, "not a JSON object"),
        (
            b'{"op": "slice", "uri": "stream://a/b", "from": {"utc": "\xff"}, "to": "head", "output": "virtual"}',
            InvalidRequest,
            "not JSON in UTF-8",
        ),
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
        (start(uri="stream://a/../b"), InvalidURI, "has 3"),
        (start(uri="stream://a/.."), InvalidURI, "starts with a dot"),
        (start(uri=7), InvalidRequest, "`uri`"),
        (start(chunk_size_bytes=1), InvalidChunkSize, "must hold 1024 frames"),
        (start(chunk_size_bytes=1 << 30), InvalidChunkSize, "too large"),
        (start(chunk_size_bytes="1M"), InvalidRequest, "`chunk_size_bytes`"),
        (start(format=3), InvalidRequest, "`format`"),
        (start(format={}), InvalidFormat, "type"),
        (start(format={"type": "video"}), InvalidFormat, "type"),
        (start(format={"type": "audio", "channels": "2"}), InvalidRequest, "`format.channels`"),
        (start(format={"type": "audio", "channels": 257}), InvalidFormat, "257"),
        (start(format={"type": "audio", "sample_rate": 0}), InvalidFormat, "sample_rate"),
        (start(format={"type": "audio", "sample_format": "f64"}), InvalidFormat, "f64"),
        (start(format={"type": "audio", "layout": "packed"}), InvalidFormat, "packed"),
        (start(chunk_path="take.raw"), PathNotAllowed, "absolute"),
        (start(chunk_path="/a\0b"), PathNotAllowed, "absolute"),
        (start(staging_seconds=0), InvalidRequest, "`staging_seconds`"),
        (start(wait=1), InvalidRequest, "`wait`"),
        (b" " * (2 << 20), InvalidRequest, "2097152 bytes"),
        (b'{"op": "ping", "op": "shutdown"}', InvalidRequest, '"op" twice'),
        (b'{"op": "shutdown", "\\u006fp": "ping"}', InvalidRequest, '"op" twice'),
        (b'{"op": "ping", "id": "a", "id": "b"}', InvalidRequest, '"id" twice'),
        (start().replace(b'"audio"', b'"audio", "type": "midi"'), InvalidRequest, '"type" twice'),
        (b'{"op": "ping", "id": "\\ud800"}', InvalidRequest, r"\ud800 in it, half of a character"),
        (b'{"op": "ping", "id": "\\ud800\\ud800"}', InvalidRequest, r"\ud800 in it, half of a character"),
        (b'{"op": "ping", "id": "\\uD83C\\uDFA4\\uDFA4"}', InvalidRequest, r"\uDFA4 in it, half of a character"),
        (start(start_at="2027-01-01T23:59:60Z"), InvalidRequest, '`start_at`: "2027-01-01T23:59:60Z" is not a moment'),
        (start(start_at="2027-01-01T12:00:00"), InvalidRequest, "is not a moment"),
        (start(start_at="9999-12-31T23:59:59.9999999Z"), InvalidRequest, "is not a moment"),
    ],
)
def test_refusals_name_what_was_wrong(raw: bytes, kind: type[ChaosError], words: str) -> None:
    with pytest.raises(ChaosError) as caught:
        wire.decode_request(raw)
    assert type(caught.value) is kind
    assert words in caught.value.message
    assert caught.value.hint


def test_both_halves_of_a_character_are_one_and_moments_are_taken_to_the_microsecond() -> None:
    asked = wire.decode_request(b'{"op": "ping", "id": "\\uD83C\\uDFA4 \\\\ud800"}')
    assert asked.id == "\N{MICROPHONE} \\ud800"
    begun = wire.decode_request(start(start_at="2027-01-01T12:00:00.123456789Z"))
    assert isinstance(begun, r.StreamStart)
    assert begun.start_at == dt.datetime(2027, 1, 1, 12, 0, 0, 123457, tzinfo=dt.UTC)


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
        (start(start_at="2027-01-01T23:59:60Z"), "with seconds up to 59: for a leap second use the one after it"),
        (start(start_at="2027-01-01T12:00:00"), "with a zone"),
        (b'{"op": "ping", "id": "\\ud800"}', "in UTF-8"),
    ],
)
def test_hints_say_what_would_work(raw: bytes, hint: str) -> None:
    with pytest.raises(ChaosError) as caught:
        wire.decode_request(raw)
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
        wire.decode_request(json.dumps(request).encode())
    assert type(caught.value) is kind
    assert caught.value.hint


def test_a_virtual_slice_writes_no_file() -> None:
    request = {"op": "slice", "uri": "stream://a/b", "from": "start", "to": "head", "output": "virtual"}
    for more in ({"path": "/x.wav"}, {"container": "wav"}):
        with pytest.raises(InvalidRequest, match="no file"):
            wire.decode_request(json.dumps({**request, **more}).encode())


def test_the_id_comes_back_also_from_what_is_wrong() -> None:
    assert wire.request_id(b'{"op": 3, "id": "seven"}') == "seven"
    assert wire.request_id(b'{"pad": "' + b"x" * (2 << 20) + b'", "id": "seven"}') == "seven"
    assert wire.request_id(b'{"id": 7}') is None
    assert wire.request_id(b"\xff") is None


def test_answers() -> None:
    assert json.loads(wire.encode_ok("1", {"a": 1})) == {"ok": True, "id": "1", "result": {"a": 1}}
    assert json.loads(wire.encode_error(None, StreamExists("m", hint="h", details={"d": 1}))) == {
        "ok": False,
        "id": None,
        "error": {"code": "stream_exists", "message": "m", "hint": "h", "details": {"d": 1}},
    }


@pytest.mark.parametrize("field", ["from", "output", "uri", "gaps", "x" * 900_000])
def test_a_refusal_does_not_send_back_a_megabyte(field: str) -> None:
    sent = {"op": "slice", "uri": "stream://a/b", "from": "0", "to": "1", "output": "virtual", field: "f" * 900_000}
    error = refusal(lambda: wire.decode_request(json.dumps(sent).encode()))
    assert error is not None
    assert len(wire.encode_error("1", error)) < 5000
    assert len(wire.encode_error("1", InvalidRequest("m" * 900_000, hint="\udc80" * 900_000))) < 20_000


def test_an_error_that_json_cannot_hold_is_told_all_the_same() -> None:
    answer = json.loads(wire.encode_error("1", InternalError("odd \udcff", details={"what": object()})))
    assert answer["error"]["code"] == "internal"
    assert "odd" in answer["error"]["message"]


@pytest.mark.parametrize("label", [" ", "\t\n", "\u00a0\u2003", "verse\0two", "\0"])
def test_a_label_that_nobody_could_read_is_refused(label: str) -> None:
    raw = json.dumps({"op": "mark", "id": "1", "uri": "stream://mic/1", "label": label}).encode()
    with pytest.raises(InvalidRequest, match="a mark's label has") as caught:
        wire.decode_request(raw)
    assert "verse 2" in caught.value.hint


@pytest.mark.parametrize("label", ["x", " verse 2 ", "\u0418", "x" * 200])
def test_any_other_label_is_taken_as_it_is(label: str) -> None:
    raw = json.dumps({"op": "mark", "uri": "stream://mic/1", "label": label}).encode()
    assert wire.decode_request(raw).label == label  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", ["n" * 241, "ä" * 121, "folder" * 50 + "/file"])
@pytest.mark.parametrize("op", ["stream_switch_chunk", "stream_start", "slice"])
def test_names_that_no_file_can_have_are_refused(op: str, name: str) -> None:
    path = f"/srv/audio/{name}"
    fields: dict[str, Any] = {
        "stream_switch_chunk": {"new_chunk_path": path},
        "stream_start": {"device_identity": "mic", "format": {"type": "audio"}, "chunk_path": path},
        "slice": {"from": "start", "to": "head", "output": "materialize", "path": path},
    }[op]
    with pytest.raises(PathNotAllowed, match="240 bytes"):
        wire.decode_request(json.dumps({"op": op, "uri": "stream://mic/1", **fields}).encode())


def test_a_path_that_the_locale_cannot_spell_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsencode", lambda path: path.encode("latin-1"))
    fields = {"op": "stream_switch_chunk", "uri": "stream://mic/1"}
    assert wire.decode_request(json.dumps({**fields, "new_chunk_path": "/srv/audio/ä"}).encode())
    with pytest.raises(PathNotAllowed, match="can't be spelled in chaosd's locale"):
        wire.decode_request(json.dumps({**fields, "new_chunk_path": "/srv/audio/\u03a9"}).encode())
