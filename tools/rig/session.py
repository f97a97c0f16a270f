"""A PipeWire and WirePlumber of one's own, in folders of their own, that leaves nothing behind."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from rig.programs import program

__all__ = ["RigError", "Session"]

_CONF = Path(__file__).with_name("pipewire.conf")
_DRIVER = (
    "{ factory = spa-node-factory args = { factory.name = support.node.driver"
    " node.name = Dummy-Driver node.group = pipewire.dummy priority.driver = 20000 } }"
)
_VIRTUAL_MIC = (
    "{ factory = adapter args = { factory.name = support.null-audio-sink node.name = virtual-mic"
    ' node.description = "Virtual microphone" media.class = "Audio/Source/Virtual"'
    ' audio.position = "FL,FR" zeroramp.duration = 0 } }'  # from 1.7 on it fades what is played into it in and out
)
_BUS_CONF = """<busconfig>
  <type>session</type> <listen>unix:path={socket}</listen> <auth>EXTERNAL</auth>
  <policy context="default"><allow send_destination="*"/><allow receive_sender="*"/><allow own="*"/></policy>
</busconfig>
"""
# The machine's own cards belong to whoever sits at it. WirePlumber 0.4 reads Lua, 0.5 its conf.
_NO_HARDWARE = {
    "main.lua.d/60-no-hardware.lua": (
        "for _, monitor in ipairs({ alsa_monitor, v4l2_monitor, libcamera_monitor }) do\n"
        "  monitor.enabled = false\nend\n"
    ),
    "bluetooth.lua.d/60-no-hardware.lua": (
        "for _, monitor in ipairs({ bluez_monitor, bluez_midi_monitor }) do\n"
        "  monitor.enabled = false\nend\n"
    ),
    "wireplumber.conf.d/60-no-hardware.conf": (
        "wireplumber.profiles = { main = { hardware.audio = disabled hardware.bluetooth = disabled"
        " hardware.video-capture = disabled } }\n"
    ),
}
_FOREIGN = ("PIPEWIRE_", "WIREPLUMBER_", "SPA_", "PULSE_", "DBUS_", "XDG_", "DISPLAY", "WAYLAND_", "NOTIFY_")
# Where another release of PipeWire lies (tools/pipewire-1.4 sets them) belongs to no session.
_INSTALLATION = {
    "SPA_PLUGIN_DIR",
    "PIPEWIRE_MODULE_DIR",
    "PIPEWIRE_CONFIG_DIR",
    "WIREPLUMBER_MODULE_DIR",
    "WIREPLUMBER_DATA_DIR",
    "WIREPLUMBER_CONFIG_DIR",
}


class RigError(Exception):
    """The private PipeWire didn't come up, or a program in it failed; the message has its last words."""


class Session:
    """A private PipeWire: `with Session() as session: session.run("pw-cli", "info", "0")`.

    A virtual microphone `virtual-mic` is there to be played into. `objects` are further entries of PipeWire's
    `context.objects`; without `wireplumber` nothing makes links or ports, as on a machine without session
    manager. `prefix_env` are the variables that point at another PipeWire than the installed one.

    Its folder lies on tmpfs where there is one, as a login's runtime folder does. Whatever it started dies
    with the thread that made it, also if that is killed; the folder then goes when the next Session begins.
    """

    def __init__(
        self,
        *,
        objects: Sequence[str] = (),
        wireplumber: bool = True,
        prefix_env: Mapping[str, str] | None = None,
        timeout_s: float = 60.0,
    ) -> None:
        self._objects = [_DRIVER, _VIRTUAL_MIC, *objects]
        self._with_wireplumber = wireplumber
        self._prefix_env = dict(prefix_env or {})
        self._timeout_s = timeout_s
        self._children: list[subprocess.Popen[bytes]] = []
        self._pipewire: subprocess.Popen[bytes] | None = None
        self._wireplumber: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Session:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def env(self) -> dict[str, str]:
        """The environment in which a program belongs to this session."""
        inherited = {k: v for k, v in os.environ.items() if k in _INSTALLATION or not k.startswith(_FOREIGN)}
        return {
            **inherited,
            "HOME": str(self.root / "home"),
            "XDG_RUNTIME_DIR": str(self.runtime_dir),
            "XDG_CONFIG_HOME": str(self.root / "config"),
            "XDG_STATE_HOME": str(self.root / "state"),
            "XDG_DATA_HOME": str(self.root / "data"),
            "XDG_CACHE_HOME": str(self.root / "cache"),
            "DBUS_SESSION_BUS_ADDRESS": f"unix:path={self.runtime_dir / 'bus'}",
            **self._prefix_env,
        }

    @property
    def runtime_dir(self) -> Path:
        return self.root / "run"

    def start(self) -> None:
        """Starts the daemons; returns when a device can be captured. Raises `RigError`."""
        base = Path("/dev/shm") if os.access("/dev/shm", os.W_OK) else Path("/tmp")
        _sweep(base)
        unlocked = Path(tempfile.mkdtemp(prefix=".rig-", dir=base))
        self._lock = (unlocked / "lock").open("w")
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        self.root = unlocked.rename(base / unlocked.name[1:])
        for name in ("home", "run", "config", "state", "data", "cache", "log"):
            (self.root / name).mkdir(mode=0o700)
        for name, text in _NO_HARDWARE.items():
            path = self.root / "config" / "wireplumber" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        objects = "\n    ".join(self._objects)
        self._conf = self.root / "pipewire.conf"
        self._conf.write_text(f"{_CONF.read_text()}context.objects = [\n    {objects}\n]\n")
        try:
            if self._with_wireplumber:
                self._start_bus()
            self.start_pipewire()
        except RigError as error:
            said = "".join(f"\n{name}: {self.log(name)}" for name in ("pipewire", "wireplumber", "dbus"))
            self.stop()
            raise RigError(f"{error}{said}") from error
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Ends all that runs in the session and removes its folder; may be called twice."""
        for child in reversed(self._children):
            _end(child)
        self._children.clear()
        self._pipewire = self._wireplumber = None
        self._lock.close()
        shutil.rmtree(self.root, ignore_errors=True)

    def start_pipewire(self) -> None:
        """Starts PipeWire, and WirePlumber if the session has one, and waits until devices can be linked."""
        self._pipewire = self.spawn("pipewire", "-c", str(self._conf), log="pipewire")
        self._await_socket(self._pipewire, self.runtime_dir / "pipewire-0", "pipewire")
        if not self._with_wireplumber:
            self.await_global("Node", {"node.name": "virtual-mic"})
            return
        self._wireplumber = self.spawn("wireplumber", log="wireplumber")
        self.await_global("Metadata", {"metadata.name": "default"})
        microphone = self.await_global("Node", {"node.name": "virtual-mic"})
        self.await_global("Port", {"node.id": str(microphone["id"]), "port.direction": "out"})

    def kill_pipewire(self) -> None:
        """Ends PipeWire as a crash would (SIGKILL), and WirePlumber with it."""
        for child in (self._pipewire, self._wireplumber):
            if child is not None:
                child.kill()
                child.wait()
                self._children.remove(child)
        self._pipewire = self._wireplumber = None

    def restart_pipewire(self) -> None:
        self.kill_pipewire()
        self.start_pipewire()

    @property
    def pipewire_pid(self) -> int:
        if self._pipewire is None:
            raise RigError("PipeWire does not run in this session")
        return self._pipewire.pid

    def spawn(
        self, *command: str, log: str | None = None, stdin: int | None = None, stdout: int | None = None
    ) -> subprocess.Popen[bytes]:
        """Starts a program in the session; it ends with the session at the latest.

        What it says goes to the session's log of that name (see `log`); `stdout` may be `subprocess.PIPE`.
        """
        name = log or Path(command[0]).name
        with (self.root / "log" / name).open("ab") as said:
            child = subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", "--", *command],
                env=self.env,
                stdin=subprocess.DEVNULL if stdin is None else stdin,
                stdout=said if stdout is None else stdout,
                stderr=said,
            )
        self._children.append(child)
        return child

    def play(self, path: Path) -> subprocess.Popen[bytes]:
        """Plays a stereo sound file into `virtual-mic`; returns when it is linked. Raises `RigError`."""
        player = self.spawn("pw-cat", "--playback", "--target", "0", str(path))
        node = self.await_global("Node", {"application.name": "pw-cat"})
        for channel in ("FL", "FR"):
            port = {"node.id": str(node["id"]), "port.direction": "out", "audio.channel": channel}
            self.await_global("Port", port)
            self.run("pw-link", f"{node['node.name']}:output_{channel}", f"virtual-mic:input_{channel}")
        return player

    def end(self, child: subprocess.Popen[bytes], timeout_s: float = 5.0) -> int:
        """Ends one that `spawn` started by SIGTERM, then SIGKILL; its exit code, negative if a signal's."""
        if child in self._children:
            self._children.remove(child)
        return _end(child, timeout_s)

    def run(self, *command: str, timeout_s: float | None = None) -> str:
        """Runs a program in the session to its end and returns its stdout; `RigError` if it fails."""
        try:
            done = subprocess.run(
                command, env=self.env, capture_output=True, text=True, timeout=timeout_s or self._timeout_s
            )
        except subprocess.TimeoutExpired as error:
            raise RigError(f"{command[0]} took longer than {error.timeout:g} s") from error
        if done.returncode:
            raise RigError(f"{' '.join(command)} ended with {done.returncode}: {done.stderr.strip()}")
        return done.stdout

    def objects(self) -> list[dict[str, Any]]:
        """PipeWire's objects as pw-dump tells of them. What comes or goes while it runs it tells in further lists."""
        said, at, there = self.run("pw-dump", "--no-colors").strip(), 0, dict[int, dict[str, Any]]()
        while at < len(said):
            told, at = json.JSONDecoder().raw_decode(said, at)
            for each in told:
                if "info" in each and each["info"] is None:
                    there.pop(each["id"], None)
                else:
                    there.setdefault(each["id"], each)
            at += len(said[at:]) - len(said[at:].lstrip())
        return list(there.values())

    def log(self, name: str) -> str:
        """What `spawn`ed programs of that log name have said so far."""
        path = self.root / "log" / name
        return path.read_text(errors="replace") if path.exists() else ""

    def await_global(self, kind: str, properties: Mapping[str, str]) -> dict[str, Any]:
        """Waits for an object of PipeWire's registry: its `id` and registry properties. Raises `RigError`.

        `kind` is the last part of its interface: Node, Port, Link, Client, Device or Metadata.
        """
        wanted = [f"{key}={value}" for key, value in properties.items()]
        said = self.run(
            str(program("await-global")), str(self._timeout_s), kind, *wanted, timeout_s=self._timeout_s + 5
        )
        found: dict[str, Any] = json.loads(said)
        return found

    def force_quantum(self, n_frames: int) -> None:
        """Fixes the graph's frames per cycle; 0 lets it choose again."""
        self.run("pw-metadata", "-n", "settings", "0", "clock.force-quantum", str(n_frames))

    def _start_bus(self) -> None:
        path = self.runtime_dir / "bus"
        conf = self.root / "bus.conf"
        conf.write_text(_BUS_CONF.format(socket=path))
        bus = self.spawn("dbus-daemon", "--nofork", f"--config-file={conf}", log="dbus")
        self._await_socket(bus, path, "dbus")

    def _await_socket(self, owner: subprocess.Popen[bytes], path: Path, log: str) -> None:
        deadline = time.monotonic() + self._timeout_s
        while not _accepts(path):
            if owner.poll() is not None or time.monotonic() > deadline:
                raise RigError(f"{log} did not come up:\n{self.log(log)}")
            time.sleep(0.005)


def _accepts(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as client:
        return client.connect_ex(str(path)) == 0


def _end(child: subprocess.Popen[bytes], timeout_s: float = 5.0) -> int:
    child.terminate()
    try:
        code = child.wait(timeout_s)
    except subprocess.TimeoutExpired:
        child.kill()
        code = child.wait()
    for pipe in (child.stdin, child.stdout):
        if pipe is not None:
            pipe.close()
    return code


def _sweep(base: Path) -> None:
    """Removes the folders of sessions whose owner is dead: nobody holds their lock."""
    for folder in base.glob("rig-*"):
        try:
            with (folder / "lock").open("r+") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder, ignore_errors=True)
        except OSError:
            continue
