"""What a client can do to a chaosd: odd messages, odd connections, odd numbers of both."""

from __future__ import annotations

import json
import os
import random
import resource
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import zmq
from rig import RigError

from chaos.protocol.codec import decode_request
from chaos.protocol.requests import DeviceWait, Retire, SetMark, Shutdown, StreamStart, StreamStop
from chaos.terms.errors import ChaosError
from proof.fuzz import NOBODY
from proof.scene import KEPT, PATIENCE_MS, Abuse, Scene

__all__ = ["CLIENTS", "IDLE", "a_hundred", "crowd"]

IDLE = 1100
STREAMS = 100
_LASTING = {"chunk_size_bytes": 768_000, "staging_seconds": 6}  # two seconds a chunk: a hundred of them fit one disk
MESSAGE_FRAMES = 2500
_BITS = [
    *(b'"', b"\\", b"\xff", b"\xed\xa0\x80", b"\\ud800", b"1e999", b"-1", b"9" * 25, b"9" * 5000, b"null", b"{", b"}"),
    *(b"[", b"]", b"0.1", b"\0", b"\\u0000", b"\xc3\x28", b"true", b"NaN", b"T24:00:00Z", b"/../", b"d", b"GB"),
    b"x" * 300,
]


# ---- messages

def _mutated(seed: bytes, chance: random.Random) -> bytes:
    raw = bytearray(seed)
    for _ in range(chance.randrange(1, 5)):
        at = chance.randrange(len(raw) + 1)
        match chance.randrange(5):
            case 0:
                raw[at:at] = chance.choice(_BITS)
            case 1:
                raw[at : at + chance.randrange(1, 12)] = chance.choice(_BITS)
            case 2:
                raw[at : at + 1] = bytes([chance.randrange(256)])
            case 3:
                del raw[at : at + chance.randrange(1, 8)]
            case _:
                other = chance.randrange(len(raw) + 1)
                raw[at:at] = raw[min(at, other) : max(at, other)][:60]
    return bytes(raw)


def _is_meant(raw: bytes) -> bool:
    """Whether a mutated message came out as one that would do something, or be answered late."""
    try:
        request = decode_request(raw)
    except ChaosError:
        return False
    if isinstance(request, DeviceWait):
        return request.timeout_s > 0.1
    if isinstance(request, StreamStart):
        return request.wait or NOBODY not in request.device_identity
    return isinstance(request, Shutdown | StreamStop | Retire | SetMark)


def _mutate(scene: Scene, n: int) -> None:
    """Each is answered, exactly once."""
    with scene.client() as client:
        sent = [_mutated(scene.chance.choice(scene.corpus), scene.chance) for _ in range(n)]
        window = [raw for raw in sent if not _is_meant(raw)]
        for raw in window:
            client.send(raw)
        for _ in window:
            _answer(client, "a mutated message")
        client.send(b'{"op": "ping", "id": "last"}')
        if _answer(client, "a ping")["id"] != "last":
            raise RigError("a mutated message was answered twice")


def _answer(client: zmq.Socket[bytes], to: str) -> dict[str, object]:
    if not client.poll(PATIENCE_MS):
        raise RigError(f"{to} was not answered")
    answer: dict[str, object] = json.loads(client.recv())
    return answer


def _endless(scene: Scene, n: int) -> None:
    """2,500 frames of 1 MiB in one message: cut off long before."""
    for _ in range(n):
        with scene.client(reconnect_ivl=60_000, sndtimeo=1000) as client:
            dropped = client.get_monitor_socket(zmq.EVENT_DISCONNECTED)
            client.send_multipart([b"x" * (1 << 20)] * MESSAGE_FRAMES, copy=False)
            if not dropped.poll(PATIENCE_MS):
                raise RigError(f"a message of {MESSAGE_FRAMES} MiB was taken")
            client.disable_monitor()


def _refused(scene: Scene, n: int) -> None:
    """Names, paths and numbers that can't be."""
    store = str(scene.engine.store)
    start = {"uri": "stream://abuse/refused", "device_identity": scene.source.name, "format": {"type": "audio"}}
    for _ in range(n):
        for path in (f"{store}/pins/x.json", f"{store}/objects/ab", f"{store}/{'n' * 256}", "/etc/x",
                     f"{store}/../x", "/proc/self/mem", "relative"):  # fmt: skip
            scene.refused("stream_start", "path_not_allowed", "invalid_request", **start, chunk_path=path)
            scene.refused("slice", "path_not_allowed", "invalid_request", uri=KEPT, output="materialize", path=path,
                          **{"from": {"frame": 0}, "to": {"frame": 1}})  # fmt: skip
        scene.refused("stream_start", "invalid_request", **start, keep="4" * 400 + "d")
        scene.refused("stream_switch_chunk", "path_not_allowed", uri=KEPT, new_chunk_path=f"{store}/{'n' * 256}")
        scene.refused("stream_start", "invalid_uri", **{**start, "uri": "stream://../x"})


def _waits(scene: Scene, n: int) -> None:
    """For 30 days each, by a client that goes at once."""
    for _ in range(n):
        with scene.client() as client:
            for _ in range(100):
                client.send(b'{"op": "device_wait", "name": "nobody-here", "timeout_s": 2592000}')
            client.send(b'{"op": "ping"}')
            client.poll(PATIENCE_MS)


# ---- streams

def _start_and_stop(scene: Scene, n: int) -> None:
    for _ in range(n):
        scene.engine.call("stream_stop", uri=scene.start(scene.source.name))


def _start_stop(scene: Scene, n: int) -> None:
    """Nobody waits for an answer: none of the streams may run on."""
    form = {"type": "audio"}
    with scene.client() as client:
        for number in range(n):
            uri = f"stream://behind/{scene.chance.randrange(1 << 60)}"
            fields = {"uri": uri, "device_identity": scene.source.name, "format": form, "staging_seconds": 1}
            for op, more in (("stream_start", fields), ("stream_stop", {"uri": uri})):
                client.send(json.dumps({"op": op, "id": f"{number}", **more}).encode())
        for _ in range(2 * n):
            if not client.poll(50_000):
                raise RigError("a start or its stop was not answered")
            answer = json.loads(client.recv())
            if not answer["ok"]:
                raise RigError(f"refused: {answer['error']['message']}")
    streams = scene.engine.call("stream_list")["streams"]
    if [each["uri"] for each in streams] != [KEPT]:
        raise RigError(f"streams run on: {[each['uri'] for each in streams]}")


def _stop_twice(scene: Scene, n: int) -> None:
    """By two clients at once, each of which is answered."""
    for _ in range(n):
        uri = scene.start(scene.source.name)
        raw = json.dumps({"op": "stream_stop", "uri": uri}).encode()
        with scene.client() as one, scene.client() as other:
            for client in (one, other, one):
                client.send(raw)
            for client in (one, other, one):
                _answer(client, "a stop")


def a_hundred(scene: Scene, n: int) -> None:
    for _ in range(n):
        uris = [scene.start(scene.source.name, **_LASTING) for _ in range(STREAMS)]
        with scene.client() as client:
            client.send(b'{"op": "ping"}')
            _answer(client, f"a client beside {STREAMS} streams")
        for uri in uris:
            scene.engine.call("stream_stop", uri=uri)


def _large(scene: Scene, n: int) -> None:
    for _ in range(n):
        with scene.stream(scene.source.name, staging_seconds=3600):
            pass


# ---- clients that come, go, and don't read

def _subscribe(scene: Scene, n: int) -> None:
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    there: list[zmq.Socket[bytes]] = []
    for _ in range(n):
        subscriber = context.socket(zmq.SUB)
        subscriber.linger, subscriber.rcvhwm = 0, scene.chance.choice([1, 1000])
        subscriber.connect(scene.engine.client.events_endpoint)
        subscriber.subscribe(scene.chance.choice([b"", b"stream_", b"stream_head_position", b"device_", b"nothing"]))
        if scene.chance.random() < 0.3:
            subscriber.poll(scene.chance.randrange(100))
        there.append(subscriber)
        if len(there) > 20:
            there.pop(scene.chance.randrange(len(there))).close()
    context.destroy(linger=0)


def _deaf(scene: Scene, n: int) -> None:
    for _ in range(n):
        with scene.client(reconnect_ivl=60_000, sndtimeo=1000) as client, suppress(zmq.Again):
            for _ in range(2000):
                client.send(b'{"op": "events_since", "seq": 0, "limit": 10000}')
        scene.engine.call("ping")


def _prefixes(scene: Scene, n: int) -> None:
    for number in range(n):
        with scene.client(zmq.SUB, sndhwm=0, reconnect_ivl=60_000) as client:
            for each in range(20_000):
                client.subscribe(f"stream_gap stream://a/{number}-{each}".encode())
            scene.engine.call("ping")


def _vanish(scene: Scene, n: int) -> None:
    """In mid-command, and in mid-greeting with bytes that are not ZeroMQ's."""
    for number in range(n):
        if number % 2:
            with scene.client() as client:
                client.send(b'{"op": "status"}')
            continue
        with socket.socket(socket.AF_UNIX) as raw, suppress(OSError):
            raw.settimeout(1)
            raw.connect(scene.engine.client.endpoint.removeprefix("ipc://"))
            raw.sendall(scene.chance.randbytes(scene.chance.randrange(1, 300)))


def _crowd(scene: Scene, n: int) -> None:
    for number in range(n):
        path = (scene.engine.client.endpoint, scene.engine.client.events_endpoint)[number % 2].removeprefix("ipc://")
        with crowd(path, IDLE):
            scene.engine.call("ping")


@contextmanager
def crowd(path: str, n: int) -> Iterator[None]:
    """Up to `n` connections that say nothing, made as fast as can be; meanwhile this process may open them all."""
    made = []
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    try:
        for _ in range(n):
            made.append(connecting := socket.socket(socket.AF_UNIX))
            connecting.setblocking(False)
            with suppress(OSError):
                connecting.connect(path)
        yield
    finally:
        for each in made:
            each.close()
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


# ---- the same user's other programs

def _reports(scene: Scene, n: int) -> None:
    for _ in range(n):
        os.kill(scene.engine.pid, signal.SIGUSR1)
        scene.engine.call("ping")


def _store_away(scene: Scene, n: int) -> None:
    """The store's folder has another name for a moment, while clients ask about it."""
    store: Path = scene.engine.store
    away = store.with_name("away")
    for _ in range(n):
        store.rename(away)
        try:
            for op in ("status", "recording_list", "stream_list"):
                with suppress(ChaosError):
                    scene.engine.call(op)
            time.sleep(0.05)  # chunks are sealed meanwhile
        finally:
            away.rename(store)


CLIENTS = (
    Abuse("a mutated message", 1_000_000, _mutate, batch=2000, weight=6),
    Abuse("a stream started and stopped", 1_000, _start_and_stop, batch=20),
    Abuse("a subscriber that comes, goes, or doesn't read", 1, _subscribe, batch=50, lasts_s=3600, weight=4),
    Abuse("a start and its stop, sent at once", 500, _start_stop, batch=10),
    Abuse("a stream stopped by two clients at once", 500, _stop_twice, batch=10),
    Abuse(f"{STREAMS} streams at once, and a client more", 5, a_hundred),
    Abuse(f"{IDLE} connections at once that say nothing", 200, _crowd, batch=5),
    Abuse("a client that asks for 100 waits of 30 days, and goes", 1_000, _waits, batch=20),
    Abuse("a client that goes in mid-command, or talks nonsense", 4_000, _vanish, batch=100),
    Abuse("a client with 20,000 subscriptions", 50, _prefixes),
    Abuse("a client that asks 2,000 times and doesn't read", 200, _deaf),
    Abuse(f"a message of {MESSAGE_FRAMES:,} frames of 1 MiB", 50, _endless),
    Abuse("names, paths and numbers that can't be, 17 of them", 200, _refused, batch=5),
    Abuse("a stream with an hour of staging", 10, _large),
    Abuse("SIGUSR1", 500, _reports, batch=20),
    Abuse("the store's folder moved away and back", 200, _store_away, batch=5),
)
