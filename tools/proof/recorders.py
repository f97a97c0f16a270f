"""The recorders that chaosd is measured beside, each if it is installed, and what their processes use."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from rig import CountingSource, RigError, Session

__all__ = ["PEERS", "Peer", "Usage", "by_thread", "ports_of", "start_peer", "usage"]

_START_S = 10.0
_SOUNDDEVICE = """
import queue, sys
import sounddevice, soundfile
path, channels, blocksize = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
blocks = queue.Queue()
with soundfile.SoundFile(path, "w", 48000, channels, "FLOAT") as file, sounddevice.InputStream(
    device="pipewire", samplerate=48000, channels=channels, blocksize=blocksize, dtype="float32",
    callback=lambda data, frames, time, status: blocks.put(data.copy()),
):
    while True:
        file.write(blocks.get())
"""


@dataclass(frozen=True)
class Peer:
    """A recorder: `command(source, quantum, path)` is its command line."""

    name: str
    needs: str
    command: Callable[[CountingSource, int, Path], list[str]]

    @property
    def is_installed(self) -> bool:
        return find_spec("sounddevice") is not None if self.needs == "sounddevice" else bool(shutil.which(self.needs))


def _pw_record(source: CountingSource, quantum: int, path: Path) -> list[str]:
    return ["pw-record", "--target", source.name, "--channels", str(source.channels), "--format", "f32", str(path)]


def _pw_record_rt(source: CountingSource, quantum: int, path: Path) -> list[str]:
    return ["env", "PIPEWIRE_CONFIG_NAME=client-rt.conf", *_pw_record(source, quantum, path)]


def _jack_capture(source: CountingSource, quantum: int, path: Path) -> list[str]:
    ports = [f"{source.name}:{port}" for port in ports_of(source)]
    options = [option for port in ports for option in ("-p", port)]
    plain = ["jack_capture", "--no-stdin", "-dm", "-b", "FLOAT", "-f", "wav", "-c", str(source.channels)]
    return ["pw-jack", *plain, *options, str(path)]


def _arecord(source: CountingSource, quantum: int, path: Path) -> list[str]:
    sizes = ["--period-size", str(quantum), "--buffer-size", str(8 * quantum)]
    shape = ["-f", "FLOAT_LE", "-r", "48000", "-c", str(source.channels)]
    return ["arecord", "-q", "-D", "pipewire", *shape, *sizes, str(path)]


def _ffmpeg(source: CountingSource, quantum: int, path: Path) -> list[str]:
    of_input = ["-f", "alsa", "-channels", str(source.channels), "-sample_rate", "48000", "-i", "pipewire"]
    return ["ffmpeg", "-loglevel", "error", "-y", *of_input, "-c:a", "pcm_f32le", str(path)]


def _sounddevice(source: CountingSource, quantum: int, path: Path) -> list[str]:
    return [sys.executable, "-c", _SOUNDDEVICE, str(path), str(source.channels), str(quantum)]


PEERS = (
    Peer("pw-record", "pw-record", _pw_record),
    Peer("pw-record, RT", "pw-record", _pw_record_rt),
    Peer("jack_capture", "jack_capture", _jack_capture),
    Peer("arecord", "arecord", _arecord),
    Peer("ffmpeg", "ffmpeg", _ffmpeg),
    Peer("sounddevice", "sounddevice", _sounddevice),
)


def ports_of(source: CountingSource) -> list[str]:
    """The names of its ports, in the channels' order."""
    listed = source.session.run("pw-link", "-o").splitlines()
    return [line.split(":", 1)[1] for line in listed if line.startswith(f"{source.name}:")]


def start_peer(
    session: Session, peer: Peer, source: CountingSource, quantum: int, path: Path
) -> subprocess.Popen[bytes]:
    """Starts it; returns when its file grows. Raises RigError where it doesn't."""
    session.run("pw-metadata", "0", "default.configured.audio.source", f'{{ "name": "{source.name}" }}')
    log = f"{path.stem}-{peer.needs}"
    child = session.spawn(*peer.command(source, quantum, path), log=log)
    deadline = time.monotonic() + _START_S
    while not path.exists() or path.stat().st_size < 8192:
        if child.poll() is not None or time.monotonic() > deadline:
            session.end(child)
            raise RigError(f"{peer.name} records nothing: {session.log(log)[-300:]}")
        time.sleep(0.02)  # all that these programs tell is how large their file is
    return child


@dataclass(frozen=True)
class Usage:
    """What a process has used so far: `cpu_ns` of all its threads that live, how often they were switched to."""

    at_s: float
    cpu_ns: int
    switches: int
    n_threads: int

    def cpu_per_minute(self, before: Usage) -> float:
        """CPU seconds per minute since `before`."""
        return (self.cpu_ns - before.cpu_ns) / 1e9 / (self.at_s - before.at_s) * 60

    def switches_per_second(self, before: Usage) -> float:
        return (self.switches - before.switches) / (self.at_s - before.at_s)


def by_thread(pid: int) -> dict[int, tuple[str, int]]:
    """Name and nanoseconds of CPU so far of each thread of a process that lives."""
    found = {}
    for task in Path(f"/proc/{pid}/task").iterdir():
        with suppress(FileNotFoundError, ProcessLookupError):  # a thread may end between the listing and the look
            run_ns = int((task / "schedstat").read_text().split()[0])
            found[int(task.name)] = (task / "comm").read_text().strip(), run_ns
    return found


def usage(pid: int) -> Usage:
    cpu_ns, switches, n_threads = 0, 0, 0
    at_s = time.monotonic()
    for task in Path(f"/proc/{pid}/task").iterdir():
        with suppress(FileNotFoundError, ProcessLookupError):  # a thread may end between the listing and the look
            run_ns = int((task / "schedstat").read_text().split()[0])
            status = (task / "status").read_text().splitlines()
            n_threads += 1
            cpu_ns += run_ns
            switches += sum(int(line.split()[1]) for line in status if "ctxt_switches" in line)
    return Usage(at_s, cpu_ns, switches, n_threads)
