"""The demo: ten seconds from a device to a verified recording and a WAV file, through chaosd itself.

Where a PipeWire session with a capture device runs, that device is captured. Otherwise a private session is
started, and music is played into its virtual microphone. With --session a player of our own plays a tune in a private
session, as MIDI and as clicks at the same frames; both are recorded as one session, and saved side by side.

Its store is a new temporary folder unless --store names one: a chaosd that runs has its own for itself alone.
"""

from __future__ import annotations

import argparse
import datetime as dt
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from rig import CLICK, MIDI, Event, MidiSource, Session
from rig.music import tune, write_music

from chaos.cli.show import decibels, device_format, duration
from chaos.client import Client, DaemonUnreachable
from chaos.terms.errors import ChaosError, TimedOut

BIN = Path(sys.executable).parent
CHUNK_S = 2
METER_FLOOR_DBFS = -60.0
METER_WIDTH = 24


@contextmanager
def engine(folder: Path, store: Path, env: dict[str, str]) -> Iterator[Client]:
    """A chaosd with endpoints of its own; the client is connected when it answers, and it ends cleanly."""
    command, events = (f"ipc://{folder}/{name}" for name in ("command", "events"))
    process = subprocess.Popen(
        [BIN / "chaosd", "--endpoint", command, "--events", events, "--store", store], env=env
    )
    try:
        with Client(command, events) as client:
            deadline = time.monotonic() + 10
            while True:
                try:
                    client.call("ping")
                    break
                except DaemonUnreachable:
                    if process.poll() is not None or time.monotonic() > deadline:
                        raise
                    time.sleep(0.02)
            yield client
    finally:
        process.terminate()
        process.wait()


def microphone(client: Client) -> dict[str, Any] | None:
    """The default capture device, else the first one, when no more turn up; None without any."""
    with client.events("device_", timeout_s=1.0) as changes:
        while True:
            listed = client.call("device_list", direction="input", format="audio")
            found: list[dict[str, Any]] = listed["devices"]
            inputs = [device for device in found if not device["is_monitor"]]
            default = next((device for device in inputs if device["is_default"]), None)
            if default is not None:
                return default
            try:
                next(changes)
            except TimedOut:
                return next(iter(inputs), None)


def users_pipewire() -> bool:
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    return runtime is not None and Path(runtime, "pipewire-0").is_socket()


def store_of(options: argparse.Namespace) -> Path:
    """The folder that was named, else a new one, which stays: the recording in it is there to be looked at."""
    if options.store is not None:
        return Path(options.store)
    store = Path(tempfile.mkdtemp(prefix="chaos-demo-store-"))
    print(f"The recording is kept in {store}; remove that folder when you don't need it.", flush=True)
    return store


def open_device(
    stack: ExitStack, store: Path, seconds: float, private: bool
) -> tuple[Client, dict[str, Any]]:
    """A running engine and what it shall capture: the user's device, or music in a session of our own."""
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="chaos-demo-")))
    if users_pipewire() and not private:
        with ExitStack() as trial:
            client = trial.enter_context(engine(folder, store, dict(os.environ)))
            device = microphone(client)
            if device is not None:
                stack.push(trial.pop_all())
                return client, device
        print("Your PipeWire session has no capture device; starting a private one.")
    else:
        print("Starting a private PipeWire session.")
    session = stack.enter_context(Session())
    write_music(folder / "music.wav", seconds + 10)
    session.play(folder / "music.wav")
    client = stack.enter_context(engine(folder, store, session.env))
    return client, client.call("device_find", name="virtual-mic")["device"]


@contextmanager
def display() -> Iterator[Callable[[list[str], bool], None]]:
    """Shows lines: in place on a terminal; elsewhere only those that are worth keeping."""
    if not sys.stdout.isatty():
        yield lambda lines, keep: print("\n".join(lines)) if keep else None
        return
    from rich.console import Console
    from rich.live import Live

    console = Console(highlight=False, markup=False)
    with Live(console=console, auto_refresh=False, transient=True) as live:
        yield lambda lines, keep: (
            console.print("\n".join(lines)) if keep else live.update("\n".join(lines), refresh=True)
        )


def meter(level: dict[str, Any]) -> str:
    peak = METER_FLOOR_DBFS if level["peak_dbfs"] is None else max(METER_FLOOR_DBFS, level["peak_dbfs"])
    filled = round(METER_WIDTH * (1 - peak / METER_FLOOR_DBFS))
    return "  " + "█" * filled + "·" * (METER_WIDTH - filled)


def capture(client: Client, device: dict[str, Any], seconds: float) -> dict[str, Any]:
    """Records so long over several chunks while it shows how it goes: the result of `stream_stop`."""
    rate = device["format"]["sample_rate"] or 48000
    channels = device["format"]["channels"]
    uri = f"stream://demo/{dt.datetime.now():%Y%m%d-%H%M%S}"
    n_wanted = round(seconds * rate)
    followed = [f"{kind} {uri}" for kind in ("stream_head_position", "stream_chunk_sealed", "stream_gap")]
    with client.events(*followed) as events:
        client.start(
            uri=uri,
            device_identity=device["identity"],
            format={"type": "audio", "sample_format": "f32"},
            chunk_size_bytes=CHUNK_S * rate * channels * 4,
        )
        print(f"Capturing {device['description']}, {device_format(device['format'])}, as {uri}")
        told_s = n_sealed = 0
        stopped: dict[str, Any] | None = None
        events.timeout_s = 10
        with display() as show:
            for event in events:
                if event["type"] == "stream_gap":
                    show([f"  gap at frame {event['first_frame']}: {event['cause']}"], True)
                elif event["type"] == "stream_chunk_sealed":
                    n_sealed += 1
                    sealed = f"  chunk {event['chunk']}: {event['n_frames']} frames"
                    show([f"{sealed}, hash {event['hash'][:16]}…"], True)
                elif stopped is None:
                    head = event["frame"]
                    levels = client.call("stream_status", uri=uri)["levels"]
                    progress = f"  {duration(min(head, n_wanted), rate)}  peak dBFS {decibels(levels)}"
                    second = head // rate > told_s and not sys.stdout.isatty()
                    told_s = head // rate
                    show([progress] if second else [progress, *map(meter, levels[:8])], second)
                    if head >= n_wanted:
                        stopped = client.call("stream_stop", uri=uri)
                if stopped is not None and n_sealed >= stopped["n_chunks"]:
                    return stopped
    raise AssertionError("events end only with an exception")


def run(options: argparse.Namespace) -> int:
    store = store_of(options)
    with ExitStack() as stack:
        client, device = open_device(stack, store, options.seconds, options.private)
        stopped = capture(client, device, options.seconds)
        report = client.call("verify", uri=stopped["uri"])
    out = options.out.absolute()
    sys.stdout.flush()
    subprocess.run([BIN / "chaosctl", "save", stopped["recording"], out], check=True)
    rows = [
        ("frames captured", f"{stopped['n_frames']}"),
        ("chunks", f"{stopped['n_chunks']}"),
        ("gaps", f"{stopped['n_gaps']}"),
        ("frames lost", f"{stopped['lost_frames']}"),
        ("verified", "every chunk has its hash" if report["ok"] else f"BAD: {report['bad']}"),
        ("root hash", report["root_hash"]),
        ("recording", stopped["recording"]),
        ("sound file", str(out)),
        ("next", f"{BIN / 'chaosctl'} verify {stopped['recording']}"),
    ]
    print("\n".join(f"{name:16} {value}" for name, value in rows))
    return 0 if report["ok"] else 8


def run_session(options: argparse.Namespace) -> int:
    """A tune as audio and MIDI at once: recorded, verified and saved as one."""
    store = store_of(options)
    name = f"demo-{dt.datetime.now():%Y%m%d-%H%M%S}"
    out = options.out.absolute().with_suffix("")
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="chaos-demo-")))
        print("Starting a private PipeWire session, and a player in it.")
        session = stack.enter_context(Session())
        script = [Event(frame, port, kind, data) for frame, note in tune(options.seconds)
                  for port, kind, data in ((0, CLICK, b""), (1, MIDI, bytes([0x90, note, 100])))]  # fmt: skip
        player = stack.enter_context(MidiSource(session, script, name="player", channels=1, ports=["midi"]))
        client = stack.enter_context(engine(folder, store, session.env))
        streams = []
        for kind in ("audio", "midi"):
            device = client.call("device_wait", name="player", format=kind, timeout_s=20)["device"]
            uri = f"stream://player-{kind}/{name}"
            streams.append({"uri": uri, "device_identity": device["identity"], "format": {"type": kind}})
        client.call("session_start", session=name, streams=streams)
        print(f"Recording audio and MIDI of the player as session {name}")
        player.play()
        player.await_end(options.seconds + 30)
        heard = client.call("stream_status", uri=streams[1]["uri"])["activity"]
        told = client.call("session_status", session=name)["streams"]
        client.call("session_stop", session=name)
    print(f"The last thing heard: {heard['last']}; clocks: {', '.join(each['related_by'] for each in told)}")
    sys.stdout.flush()
    chaosctl = [str(BIN / "chaosctl"), "--store", str(store), "session"]
    verified = subprocess.run([*chaosctl, "verify", name], check=False).returncode
    subprocess.run([*chaosctl, "save", name, str(out), "--force"], check=True)
    return verified


def main() -> int:
    parser = argparse.ArgumentParser(prog="tools/demo", description=__doc__)
    parser.add_argument("--seconds", type=float, default=10.0, help="how long to capture (10)")
    parser.add_argument("--private", action="store_true", help="use no device of the running session")
    parser.add_argument("--session", action="store_true", help="record a tune as audio and MIDI at once")
    parser.add_argument("--out", type=Path, default=Path("demo.wav"), help="the sound file (demo.wav)")
    parser.add_argument("--store", type=Path, help="where the recording goes (a new temporary folder)")
    try:
        options = parser.parse_args()
        return run_session(options) if options.session else run(options)
    except ChaosError as error:
        print(f"demo: {error.message}\n  {error.hint}", file=sys.stderr)
        return error.exit_code


if __name__ == "__main__":
    sys.exit(main())
