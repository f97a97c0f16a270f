"""Bytes that find their way: coverage-guided fuzzing of what chaosd reads from others, with atheris.

Three targets: commands as clients send them, pods as devices tell their formats in, and whole stories of PipeWire's
registry. A run begins with well-formed seeds, keeps every input that reaches new code, and mutates those on. What it
found makes the messages of `proof.clients`. An exception that is not the declared one ends a run.

    python -m proof.fuzz TARGET CORPUS [LIBFUZZER OPTION...]
"""

from __future__ import annotations

import json
import math
import os
import re
import struct
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = ["TARGETS", "Fuzzed", "fuzz", "seeds"]

URI = "stream://abuse/mutated"
NOBODY = "nobody-here"
MAX_BYTES = {"commands": 4096, "pods": 1024, "registry": 2048}
_COMMANDS = (
    {"op": "ping", "id": "x"},
    {"op": "status"},
    {"op": "slice", "uri": URI, "from": {"utc": "2026-01-31T12:00:00Z"}, "to": {"seconds_ago": 3.5},
     "output": "materialize", "path": "/x/y", "container": "wav", "subtype": "pcm_24", "gaps": "cut"},
    {"op": "slice", "uri": URI, "from": {"frame": 10}, "to": {"frame": 20}, "output": "virtual"},
    {"op": "stream_start", "uri": URI, "device_identity": NOBODY, "chunk_size_bytes": 65536, "latency_frames": 256,
     "format": {"type": "audio", "sample_rate": 48000, "channels": 2, "sample_format": "f32", "layout": "planar"},
     "staging_seconds": 3.0, "chunk_path": "/a/b", "keep": "7d", "channel_map": ["FL", "2"]},
    {"op": "stream_start", "uri": URI, "device_identity": NOBODY, "format": {"type": "midi"}, "roll": "1h",
     "align": "clock", "accept_port_change": True, "roll_on_format_change": False},
    {"op": "device_wait", "name": NOBODY, "timeout_s": 0.01},
    {"op": "device_find", "name": NOBODY},
    {"op": "device_list", "direction": "input", "format": "audio"},
    {"op": "events_since", "seq": 3, "limit": 10},
    {"op": "stream_switch_chunk", "uri": URI, "new_chunk_path": "/a"},
    {"op": "stream_status", "uri": URI},
    {"op": "stream_list"},
    {"op": "stream_accept_port", "uri": URI},
    {"op": "mark", "uri": URI, "label": "here", "frame": 5},
    {"op": "verify", "uri": URI},
    {"op": "retire", "keep": "200GB", "dry_run": True},
    {"op": "recording_list", "uri": URI, "device": "x", "since": "2026-01-31T12:00:00+01:00", "limit": 5},
)  # fmt: skip
_WORDS = ("9" * 25, "1e999", "-1", "null", "\\ud800", "\\u0000", "NaN", "T24:00:00Z", "/../", "true", "[[", "{}")
_PROPERTIES = ("node.name", "media.class", "device.id", "node.id", "port.id", "port.direction", "audio.channel",
               "format.dsp", "api.alsa.card", "device.serial", "device.bus-path", "object.serial")  # fmt: skip


@dataclass(frozen=True)
class Fuzzed:
    """What came of one target. `covered` are the branches that were reached; `defect` is what ended the run, if so."""

    target: str
    n_runs: int
    seconds: int
    covered: int
    n_kept: int
    defect: str | None


def fuzz(target: str, corpus: Path, *, n_runs: int, seconds: float) -> Fuzzed:
    """Fuzzes one target in a process of its own until `n_runs` or `seconds` are over; `corpus` is gone on with."""
    corpus.mkdir(parents=True, exist_ok=True)
    words = corpus.with_name(f"{corpus.name}.words")
    words.write_text("".join(f'"{_quoted(word)}"\n' for word in _words()))
    options = [f"-runs={n_runs}", f"-max_total_time={math.ceil(seconds)}", f"-max_len={MAX_BYTES[target]}"]
    options += [f"-dict={words}", "-timeout=10", "-rss_limit_mb=2048", f"-artifact_prefix={corpus}."]
    done = subprocess.run(
        [sys.executable, "-m", "proof.fuzz", target, str(corpus), *options],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}, capture_output=True, text=True, errors="replace",
    )  # fmt: skip
    said = done.stdout + done.stderr
    covered = re.findall(r"cov: (\d+)", said)
    runs = re.search(r"Done (\d+) runs in (\d+) second", said)
    if done.returncode != 0 or runs is None or not covered:
        return Fuzzed(target, 0, 0, 0, 0, said[-4000:])
    n_kept = sum(1 for _ in corpus.iterdir())
    return Fuzzed(target, int(runs[1]), int(runs[2]), int(covered[-1]), n_kept, None)


def seeds(target: str) -> list[bytes]:
    """Inputs that are well-formed."""
    if target == "commands":
        return [json.dumps(command).encode() for command in _COMMANDS]
    audio = _object(0x40003, 3, {1: _pod(3, _u32(1)), 2: _pod(3, _u32(1)), 0x10001: _enum(3, 0x101, 0x206),
                                 0x10003: _enum(4, 48000, 44100), 0x10004: _pod(4, _u32(2)),
                                 0x10005: _pod(13, _u32(4, 3, 3, 4))})  # fmt: skip
    volume = _object(0x40002, 2, {0x10003: _pod(6, struct.pack("<f", 0.5)), 0x10004: _pod(2, _u32(0)),
                                  0x10008: _pod(13, _u32(4, 6) + struct.pack("<2f", 1, 0.25)),
                                  0x80001: _pod(14, _pod(8, b"monitor.channel-volumes\0") + _pod(2, _u32(1))),
                                  })  # fmt: skip
    config = _object(0x40008, 11, {1: _pod(3, _u32(1)), 2: _pod(3, _u32(3)), 5: audio})
    if target == "pods":
        return [bytes([number]) + pod for number, pod in ((3, audio), (4, audio), (2, volume), (11, config))]
    mic = b"node.name\0mic\0media.class\0Audio/Source\0api.alsa.card\0" + b"9" * 30 + b"\0"
    node = struct.pack("<II?", 0, 1, True) + mic
    port = b"node.id\x0040\0port.direction\0out\0port.id\0000\0audio.channel\0FL\0"
    told = [(100, 40, 8, 1, mic), (102, 40, 8, 0, node), (103, 40, 8, 3 << 32, audio), (103, 40, 8, 11 << 32, config),
            (104, 40, 8, 2, b""), (100, 42, 9, 2, port), (101, 42, 9, 0, b""),
            (106, 30, 5, 1, struct.pack("<I??", 0, True, True) + b'default.audio.source\0{"name": "mic"}\0'),
            ]  # fmt: skip
    return [b"".join(_told(*record) for record in told), _told(*told[0]), _told(*told[-1])]


# ---- the targets: each raises for what may not be

def _commands() -> Callable[[bytes], None]:
    from chaos.protocol.codec import decode_request, encode_error, encode_ok, request_id
    from chaos.terms.errors import ChaosError

    def check(raw: bytes) -> None:
        named = request_id(raw)
        try:
            request = decode_request(raw)
        except ChaosError as error:
            check_refusal(json.loads(encode_error(named, error)), named)
            return
        assert request.id == named
        answer = json.loads(encode_ok(named, request))
        assert decode_request(json.dumps(answer["result"]).encode()) == request

    def check_refusal(answer: dict[str, Any], named: str | None) -> None:
        assert (answer["ok"], answer["id"]) == (False, named)
        assert answer["error"]["code"] != "internal"
        assert answer["error"]["message"]
        assert answer["error"]["hint"]

    return check


def _pods() -> Callable[[bytes], None]:
    from chaos.graph.nodeformat import node_format, node_volume
    from chaos.graph.pod import PodError, parse

    def check(raw: bytes) -> None:
        try:
            value = parse(raw[1:])
        except PodError:
            return
        params = dict.fromkeys({raw[0], 3}, (value,))
        found = node_format(params)
        assert 0 <= found.channels <= 4096
        volume = node_volume(params, by_monitor=bool(raw[0] & 1), props={})
        assert math.isfinite(volume.sample_gain)

    return check


def _registry() -> Callable[[bytes], None]:
    from chaos.graph.devices import DeviceMap
    from chaos.graph.objects import Decoder

    def check(raw: bytes) -> None:
        decoder, devices, at = Decoder(), DeviceMap(), 0
        while at + _HEAD.size <= len(raw):
            kind, object_id, serial, b, size = _HEAD.unpack_from(raw, at)
            at += _HEAD.size + size
            payload = raw[at - size : at]
            if at > len(raw) or not _is_framed(kind, b, payload):
                continue
            event = decoder.decode((kind, object_id, serial, b, payload))
            if event is not None:
                devices.apply(event)
        for node_id in list(devices.unsettled):
            devices.settle(node_id)
        for device in devices.devices():
            json.dumps(device.to_wire()).encode()
            assert math.isfinite(device.sample_gain)
        assert devices.devices() == devices.devices()

    return check


TARGETS: dict[str, Callable[[], Callable[[bytes], None]]] = {
    "commands": _commands,
    "pods": _pods,
    "registry": _registry,
}


def _is_framed(kind: int, b: int, payload: bytes) -> bool:
    """Whether the extension could have sent it: kinds, counts and NULs are its own, the rest comes from others."""
    if kind == 100:
        return 1 <= b <= 6
    if kind == 106:
        return payload[9:].count(0) >= 2
    return kind != 102 or len(payload) >= 9


_HEAD = struct.Struct("<BHHQH")  # kind, id, serial, b and the payload's size, as this target has them


def _told(kind: int, object_id: int, serial: int, b: int, payload: bytes) -> bytes:
    return _HEAD.pack(kind, object_id, serial, b, len(payload)) + payload


def _u32(*values: int) -> bytes:
    return struct.pack(f"<{len(values)}I", *values)


def _pod(kind: int, body: bytes) -> bytes:
    return _u32(len(body), kind) + body + b"\0" * (-len(body) % 8)


def _object(kind: int, param: int, props: dict[int, bytes]) -> bytes:
    return _pod(15, _u32(kind, param) + b"".join(_u32(key, 0) + value for key, value in props.items()))


def _enum(kind: int, *values: int) -> bytes:
    return _pod(19, _u32(3, 0, 4, kind, *values))


def _words() -> list[str]:
    """What the mutations are made of beside single bytes: names, operations, and values that are hard to take."""
    def names(value: object) -> set[str]:
        if isinstance(value, dict):
            return set(value).union(*map(names, value.values()))
        return {value} if isinstance(value, str) else set()

    return sorted({*_WORDS, *_PROPERTIES}.union(*map(names, _COMMANDS)))


def _quoted(word: str) -> str:
    return "".join(c if c.isalnum() or c in "_-./:" else f"\\x{ord(c):02x}" for c in word)


def main(arguments: Sequence[str]) -> None:
    """Never returns: libFuzzer ends the process."""
    import atheris

    target, corpus, *options = arguments
    for number, seed in enumerate(seeds(target)):
        (Path(corpus) / f"seed-{number}").write_bytes(seed)
    with atheris.instrument_imports(include=["chaos"]):
        check = TARGETS[target]()
    atheris.Setup([sys.argv[0], corpus, *options], check)
    atheris.Fuzz()


if __name__ == "__main__":
    main(sys.argv[1:])
