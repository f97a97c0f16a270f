"""What a daemon, and those who talk to it, are set to: frozen, validated once, passed in."""

from __future__ import annotations

import contextlib
import math
import os
import platform
import re
import stat
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from chaos.protocol.requests import STAGING_SECONDS
from chaos.terms.buckets import check_recorder, check_url
from chaos.terms.errors import InvalidRequest, StorageFailed
from chaos.terms.units import parse_keep

__all__ = [
    "IN_MEMORY",
    "Config",
    "absolute",
    "check_default",
    "check_remote",
    "check_share",
    "default_endpoints",
    "file_system_of",
    "in_memory",
    "ipc_path",
    "is_remote",
    "next_port",
    "remote_endpoint",
    "remote_endpoints",
    "session_folder",
]

IN_MEMORY = frozenset({"tmpfs", "ramfs"})
"""File systems that staging is safe on: elsewhere writeback takes pages away, and the callback waits for them."""

_IPC = "ipc://"
_TCP = "tcp://"
_DEFAULT_PORT = 47800
_RUN_USER = Path("/run/user")
_MAX_SOCKET_PATH = 107
_OWN_HINT = "set XDG_RUNTIME_DIR to a folder of your own, or use --endpoint, --events and --staging-dir"
SHARED_MEMORY = Path("/dev/shm")


def session_folder() -> Path | None:
    """The user's runtime folder: XDG_RUNTIME_DIR, else /run/user/<uid> where that is there and ours.

    A login by ssh has the variable and a cron job has not: both must find the same daemon, and the same PipeWire.
    """
    named = os.environ.get("XDG_RUNTIME_DIR", "")
    if named.startswith("/"):  # another one is to be ignored, says its specification
        return Path(named)
    usual = _RUN_USER / str(os.getuid())
    try:
        return usual if usual.stat().st_uid == os.getuid() else None
    except OSError:
        return None


def _runtime() -> Path:
    return (session_folder() or Path(tempfile.gettempdir(), f"runtime-{os.getuid()}")) / "chaos"


def _staging() -> Path:
    if session_folder() is not None:
        usual = _runtime() / "staging"
        if file_system_of(usual) in IN_MEMORY or file_system_of(SHARED_MEMORY) not in IN_MEMORY:
            return usual
    return SHARED_MEMORY / f"chaos-{os.getuid()}"


def in_memory() -> Path | None:
    """A folder that is in memory and takes our files; None where there is none."""
    is_good = file_system_of(SHARED_MEMORY) in IN_MEMORY and os.access(SHARED_MEMORY, os.W_OK | os.X_OK)
    return SHARED_MEMORY if is_good else None


def file_system_of(path: Path) -> str:
    """The kind of file system that a path lies on, or would, "tmpfs" for example; "" where it can't be told."""
    for each in (path, *path.parents):
        try:
            device = each.stat().st_dev
        except OSError:
            continue
        wanted = f"{os.major(device)}:{os.minor(device)}"
        with contextlib.suppress(OSError):
            for line in Path("/proc/self/mountinfo").read_text(errors="replace").splitlines():
                fields = line.split()
                if fields[2] == wanted:
                    return fields[fields.index("-") + 1]
        break
    return ""


def _store() -> Path:
    import platformdirs  # clients, who need no store, are not to wait for it

    return Path(platformdirs.user_data_dir("chaos", appauthor=False))


def default_endpoints() -> tuple[str, str]:
    """Where chaosd listens for commands and tells events, unless it is told otherwise."""
    return f"{_IPC}{_runtime()}/command", _default_events()


def _default_events() -> str:
    return f"{_IPC}{_runtime()}/events"


@dataclass(frozen=True, kw_only=True, slots=True)
class Config:
    """All settings with their defaults. Raises InvalidRequest for one that cannot work.

    `keys` is the folder with the keys that `tcp://` endpoints need; without it they are refused. Events are told at
    the port above that of commands unless they have an endpoint of their own.

    `remote` is the name of PipeWire's socket (None: PipeWire's own choice). `staging_seconds` is how much
    audio the slots of a stream hold; `head_position_hz` how often its head is told while somebody listens;
    `event_history` how many events `events_since` can go back, as far as `event_history_bytes` holds them.
    Where less than `free_margin_bytes` is left in the store, a stream that runs warns. `keep` ("7d",
    "200GB") is what retention leaves of the store, None all. Whatever hangs, the engine ends `stop_within_s` after it
    was told to. `store_mode` is the mode of the store's folders, and tells who besides the user may read recordings: a
    microphone is private. With `allow_commands` clients may have programs run (`on_seal`, `on_roll`).

    `upload` is where sealed chunks go besides ("s3://bucket/prefix"), below `upload_as`, the recorder's own name (None:
    the machine's), at `upload_limit` bytes a second at most.
    """

    endpoint: str = field(default_factory=lambda: default_endpoints()[0])
    events_endpoint: str = field(default_factory=_default_events)
    keys: Path | None = None
    store: Path = field(default_factory=_store)
    staging_dir: Path = field(default_factory=_staging)
    allow_paths: tuple[Path, ...] = ()
    remote: str | None = None
    staging_seconds: float = 30.0
    head_position_hz: float = 10.0
    event_history: int = 10_000
    event_history_bytes: int = 4 << 20
    free_margin_bytes: int = 1 << 30
    keep: str | None = None
    stop_within_s: float = 60.0
    store_mode: int = 0o700
    allow_commands: bool = False
    upload: str | None = None
    upload_as: str | None = None
    upload_limit: int | None = None

    def __post_init__(self) -> None:
        if is_remote(self.endpoint) and self.events_endpoint == _default_events():
            object.__setattr__(self, "events_endpoint", next_port(self.endpoint))
        for endpoint in (self.endpoint, self.events_endpoint):
            if is_remote(endpoint) and self.keys is not None:
                check_remote(endpoint)
            else:
                ipc_path(endpoint)
        if self.endpoint == self.events_endpoint:
            raise InvalidRequest(
                f"commands and events cannot share {self.endpoint}", hint="give the events another endpoint"
            )
        for name in ("store", "staging_dir"):
            object.__setattr__(self, name, absolute(getattr(self, name)))
        object.__setattr__(self, "allow_paths", tuple(absolute(path) for path in self.allow_paths))
        if self.keys is not None:
            object.__setattr__(self, "keys", absolute(self.keys))
        if self.keep is not None:
            parse_keep(self.keep)
        _check("staging_seconds", self.staging_seconds, *STAGING_SECONDS)
        _check("head_position_hz", self.head_position_hz, 0.1, 1000)
        _check("event_history", self.event_history, 1, 1_000_000)
        _check("event_history_bytes", self.event_history_bytes, 1 << 16, 1 << 40)
        _check("stop_within_s", self.stop_within_s, 1, 86400)
        if not 0 <= self.free_margin_bytes <= 1 << 60:
            raise InvalidRequest(f"free_margin_bytes is {self.free_margin_bytes}", hint="use a size from 0 to 1048576T")
        if self.store_mode & 0o700 != 0o700 or self.store_mode & ~0o775:
            raise InvalidRequest(
                f"{self.store_mode:o} can't be the mode of the store",
                hint="use 700 (only you), 750 (your group may read), 770 (and write) or 755 (everyone may read)",
            )

        self._check_upload()

    def _check_upload(self) -> None:
        if self.upload_as is not None:
            check_recorder(self.upload_as)
            if self.upload is None:
                hint = "say where to: --upload s3://BUCKET/PREFIX"
                raise InvalidRequest("upload_as names a recorder, and nothing is uploaded", hint=hint)
        if self.upload_limit is not None:
            _check("upload_limit", self.upload_limit, 1024, 1 << 40)
        if self.upload is None:
            return
        object.__setattr__(self, "upload", check_url(self.upload))
        if self.upload.startswith("memory:"):
            raise InvalidRequest(
                f"{self.upload} would be gone when the uploader ends", hint="use file:///folder to try it out"
            )

    @property
    def recorder(self) -> str:
        """The recorder's name in the object store."""
        return self.upload_as or re.sub(r"[^A-Za-z0-9._-]", "-", platform.node()).strip(".")[:64] or "recorder"

    @property
    def upload_prefix(self) -> str | None:
        """Where this recorder's own objects lie; None without upload."""
        return None if self.upload is None else f"{self.upload}/{self.recorder}"

    def prepare(self) -> None:
        """Make the folders: those of sockets and staging for the user alone (0700), and the store.

        Raises StorageFailed, or InvalidRequest where a folder of ours belongs to somebody else.
        """
        try:
            local = [each for each in (self.endpoint, self.events_endpoint) if not is_remote(each)]
            for folder in (*(ipc_path(endpoint).parent for endpoint in local), self.staging_dir):
                _make_private(folder)
            _share(self.store, self.store_mode)
        except OSError as e:
            raise StorageFailed(
                f"cannot make the folder {e.filename}: {e.strerror}",
                hint="choose other folders with --endpoint, --events, --staging-dir and --store",
                details={"errno": e.errno},
            ) from e


def is_remote(endpoint: str) -> bool:
    """Whether an endpoint is one of the network, that only keys open."""
    return endpoint.startswith(_TCP)


def check_remote(endpoint: str) -> tuple[str, int]:
    """Host and port of a `tcp://` endpoint. Raises InvalidRequest."""
    match = re.fullmatch(r"tcp://(\[[0-9a-fA-F:.]+\]|[A-Za-z0-9.*_-]+):([0-9]{1,5})", endpoint)
    if match is None or not 0 < int(match[2]) < 65536:
        raise InvalidRequest(f"{endpoint!r} is not a valid endpoint", hint="write it as tcp://192.168.1.20:47800")
    return match[1], int(match[2])


def next_port(endpoint: str) -> str:
    """The endpoint of events that goes with one of commands: the port above it."""
    host, port = check_remote(endpoint)
    return f"{_TCP}{host}:{port + 1}"


def ipc_path(endpoint: str) -> Path:
    """The socket file of an `ipc://` endpoint.

    Raises InvalidRequest for other transports, relative or abstract names and paths too long for a socket.
    """
    if endpoint.startswith("tcp://"):
        raise InvalidRequest(
            f"{endpoint} is refused: without keys anyone on the network could record here",
            hint="make keys with `chaosctl keys new` and `chaosctl keys add`, or use ipc:// and log in with ssh",
        )
    path = endpoint.removeprefix(_IPC)
    if path == endpoint or not path.startswith("/") or "\0" in path or path.endswith("/"):
        raise InvalidRequest(
            f"{endpoint!r} is not a valid endpoint", hint="write it as ipc:///an/absolute/path"
        )
    _check_spelled(path)
    if len(os.fsencode(path)) > _MAX_SOCKET_PATH:
        raise InvalidRequest(
            f"the socket path {path} is longer than {_MAX_SOCKET_PATH} bytes",
            hint="choose a shorter one with --endpoint and --events",
        )
    return Path(path)


def absolute(path: Path | str, base: Path = Path()) -> Path:
    """The path that a person wrote, seen from `base`. Raises InvalidRequest for one that no file system can have."""
    if "\0" in str(path):
        raise InvalidRequest(f"{str(path)!r} is not a path: it has a NUL character", hint="write it without one")
    try:
        found = (base / Path(path).expanduser()).absolute()
    except RuntimeError:
        hint = "write the folder out, from / on"
        raise InvalidRequest(f"there is no home folder for the ~ of {str(path)!r}", hint=hint) from None
    _check_spelled(str(found))
    return found


def _check_spelled(path: str) -> None:
    """Raises InvalidRequest for a path that is not UTF-8, which no answer, event or journal could name, or that the
    locale can't spell."""
    try:
        path.encode()
        os.fsencode(path)
    except UnicodeEncodeError:
        hint = "use another name, or, where it is UTF-8, begin in such a locale: LC_ALL=C.UTF-8"
        raise InvalidRequest(f"{path!r} is not UTF-8 in this locale", hint=hint) from None


def _check(name: str, value: float, least: float, most: float) -> None:
    if not (math.isfinite(value) and least <= value <= most):
        raise InvalidRequest(
            f"{name} is {value}", hint=f"use a value from {least:.15g} to {most:.15g}"
        )


def _share(store: Path, mode: int) -> None:
    """Makes the store's folder, or gives the one that is there this mode: whoever may not enter it reads nothing below.

    Raises InvalidRequest where it is another user's and open to more people than `mode` says, or where other things
    are in it: `--store /tmp` must not close /tmp to everybody else. Raises StorageFailed where it is not a folder.
    """
    check_share(store, mode)
    _make(store)
    if stat.S_IMODE(store.stat().st_mode) != mode and store.stat().st_uid == os.getuid():
        store.chmod(mode)


def check_share(store: Path, mode: int) -> None:
    """Raises as `_share`, which makes what is not there yet."""
    if os.path.lexists(store) and not store.is_dir():
        raise StorageFailed(f"the store {store} is not a folder", hint="choose another with --store")
    if not store.exists():
        return
    found = store.stat()
    if stat.S_IMODE(found.st_mode) == mode:
        return
    if found.st_uid == os.getuid():
        if not _is_store(store):
            raise InvalidRequest(
                f"{store} has other things in it and mode {stat.S_IMODE(found.st_mode):o}, and a store has {mode:o}",
                hint=f"choose a folder for recordings alone, for example --store {store / 'chaos'}",
            )
    elif stat.S_IMODE(found.st_mode) & ~mode & 0o777:
        raise InvalidRequest(
            f"the store {store} belongs to another user and has mode {stat.S_IMODE(found.st_mode):o}, not {mode:o}",
            hint=f"start chaosd with --store-mode {stat.S_IMODE(found.st_mode) & 0o777:o} if that is meant",
        )


def _is_store(folder: Path) -> bool:
    """Whether it is, or may become one: it is empty, or a daemon has been there."""
    names = {each.name for each in folder.iterdir()}
    return not names or not names.isdisjoint({"catalog.db", "recordings"})


def _make(folder: Path) -> None:
    """Makes the folder, and those above it that are missing, for the user alone, whatever the umask allows."""
    missing = []
    while not folder.is_dir():
        missing.append(folder)
        folder = folder.parent
    for each in reversed(missing):
        each.mkdir(mode=0o700, exist_ok=True)


def _make_private(folder: Path) -> None:
    """Makes `folder` with mode 0700. One of our own choice that is there is checked and tightened."""
    if folder not in (_runtime(), _staging()):
        _make(folder)
        return
    named = os.environ.get("XDG_RUNTIME_DIR", "")
    if named.startswith("/") and not Path(named).is_dir():
        raise InvalidRequest(f"XDG_RUNTIME_DIR is {named}, and there is no such folder", hint=_OWN_HINT)
    _check_own(folder)
    _make(folder)
    _check_own(folder)
    if stat.S_IMODE(folder.stat().st_mode) != 0o700:
        folder.chmod(0o700)


def check_default(endpoint: str) -> None:
    """Raises InvalidRequest where an endpoint of our own choice lies in a folder that others could have made, or could
    change: whoever listens there may be anybody."""
    commands, events = default_endpoints()
    if endpoint not in (commands, events):
        return
    try:
        _check_own(ipc_path(endpoint).parent)
    except InvalidRequest as error:
        if os.getuid() != 0 or not _is_somebody_elses(ipc_path(endpoint).parent):
            raise
        hint = f"root has to name another user's chaosd: chaosctl --endpoint {commands} --events {events}"
        raise InvalidRequest(error.message, hint=hint) from None


def _is_somebody_elses(folder: Path) -> bool:
    try:
        return any(each.stat().st_uid != os.getuid() for each in (folder.parent, folder) if each.exists())
    except OSError:
        return False


def _check_own(folder: Path) -> None:
    """Raises InvalidRequest where others could replace this folder or what is in it, or where it is a link: a mode that
    is set would be that of another folder."""
    for each, find in ((folder.parent, Path.stat), (folder.parent, Path.lstat), (folder, Path.lstat)):
        try:
            found = find(each)
        except FileNotFoundError:
            continue
        except OSError as error:
            raise InvalidRequest(f"the folder {each} can't be used: {error.strerror}", hint=_OWN_HINT) from None
        if found.st_uid not in (os.getuid(), 0):
            raise InvalidRequest(f"the folder {each} belongs to another user", hint=_OWN_HINT)
        if each == folder and stat.S_ISLNK(found.st_mode):
            raise InvalidRequest(f"{folder} is a link, and has to be a folder", hint=f"remove it: rm {folder}")
        if find is Path.stat and found.st_mode & (stat.S_IWOTH | stat.S_ISVTX) == stat.S_IWOTH:
            raise InvalidRequest(
                f"everybody can write to {each}, and replace what is in it", hint=f"run: chmod 700 {each}"
            )


def remote_endpoint(host: str) -> str:
    """The command socket of HOST or HOST:PORT; an IPv6 address with a port is written as [::1]:47800."""
    name, colon, port = host.rpartition(":")
    if not colon or not (port.isascii() and port.isdecimal()) or (":" in name and not name.startswith("[")):
        name, port = host, str(_DEFAULT_PORT)
    if ":" in name and not name.startswith("["):
        name = f"[{name}]"
    return f"tcp://{name}:{port}"


def remote_endpoints(hosts: Iterable[str]) -> dict[str, str]:
    """The command socket of each. Raises InvalidRequest where two names are of one host and port."""
    found: dict[str, str] = {}
    names: dict[str, str] = {}
    for host in hosts:
        found[host] = remote_endpoint(host)
        known = names.setdefault(found[host].lower(), host)
        if known != host:
            raise InvalidRequest(f"{known} and {host} are the same host", hint="name each host once")
    return found
