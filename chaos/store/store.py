"""The store: one folder with everything that was recorded, and where each thing lies in it.

    recordings/<name>/<take>.zarr       a recording (stream://<name>/<take>); hidden while it is being made
    objects/ab/cdef...                  sealed chunks by their hash
    pins/<name>.json                    what retention has to leave alone
    catalog.db                          what all of these are, in short; made again where it is missing
    slices/                             files that were cut without a path being given
"""

from __future__ import annotations

import fcntl
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from chaos.store.info import RecordingInfo, load
from chaos.store.objects import ObjectStore
from chaos.system.files import share_as, storage_errors
from chaos.system.folders import folder_identity
from chaos.terms.errors import ChaosError, RecordingNotFound
from chaos.terms.uri import parse_uri

__all__ = ["Store", "name_and_take", "store_around"]

_SUFFIX = ".zarr"
_RECORDINGS = "recordings"


def _is_recording(folder: str) -> bool:
    """Whether a folder of this name is a recording, and not one that is still being made."""
    return folder[0] != "." and folder.endswith(_SUFFIX)


def _take_of(folder: str) -> str:
    """The take of the recording whose folder has this name."""
    return folder.removesuffix(_SUFFIX)


def name_and_take(path: Path) -> tuple[str, str]:
    """What `Store.place` made the path of a recording from."""
    return path.parent.name, _take_of(path.name)


def store_around(path: Path) -> Store | None:
    """The store that this recording lies in; None of one that lies elsewhere, a copy for example."""
    around = path.resolve().parents
    return Store(around[2]) if len(around) > 2 and around[1].name == _RECORDINGS else None


class Store:
    """A store by its folder. Making one touches nothing and costs nothing; the folder need not exist yet."""

    def __init__(self, root: Path) -> None:
        self.root = root.absolute()
        self.objects = ObjectStore(self.root / "objects")
        self.slices = self.root / "slices"
        self.pins = self.root / "pins"
        self.recordings = self.root / _RECORDINGS

    def share(self) -> None:
        """What this process makes from now on may be read by those who may read the store, and by nobody else."""
        mode = stat.S_IMODE(self.root.stat().st_mode) if self.root.exists() else 0o700
        share_as(mode & 0o777)

    def check(self, to: str = "open") -> None:
        """Raises StorageFailed where the store is not a folder: nothing, a file, a link that leads nowhere. `to` says
        for what it was wanted."""
        with storage_errors(to, self.root, of_recordings=False):
            folder_identity(self.root)

    def path(self, uri: str) -> Path:
        """Where the recording of this stream lies or would lie. Raises InvalidURI."""
        return self.place(*parse_uri(uri))

    def place(self, name: str, take: str) -> Path:
        """Where a take of a stream of this name lies or would lie."""
        return self.recordings / name / f"{take}{_SUFFIX}"

    def existing(self, uri: str) -> Path:
        """Where the recording of this stream lies. Raises InvalidURI, or RecordingNotFound if there is none."""
        path = self.path(uri)
        if not path.exists():
            raise RecordingNotFound(f"no recording of {uri}", hint="chaosctl list shows what there is")
        return path

    def owns(self, path: Path) -> bool:
        """Whether this path (absolute, links resolved) is among what the store itself is made of, or will be."""
        root = Path(os.path.realpath(self.root))  # which, unlike resolve, raises for no loop in its place
        try:
            first = path.relative_to(root).parts[0]
        except (ValueError, IndexError):
            return path == root
        own = {self.recordings.name, self.objects.root.name, self.pins.name}
        if first in own or first.startswith((".", "catalog.")):
            return True
        return path == root / self.slices.name  # what lies in there is its users'

    def hidden(self, path: Path) -> Path:
        """A name beside `path` for a recording that is being made; nobody takes it for one."""
        return path.with_name(f".{path.name}.{os.urandom(4).hex()}")

    @contextmanager
    def locked(self, what: str) -> Iterator[None]:
        """Holds the store's lock for `what` ("retention"); waits while another thread or process has it.

        Raises StorageFull, or StorageFailed, also where there is no store.
        """
        path = self.root / f".{what}.lock"
        with storage_errors("lock", path):
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            with storage_errors("lock", path):
                fcntl.flock(fd, fcntl.LOCK_EX)
            yield
        finally:
            os.close(fd)

    def paths(self) -> list[Path]:
        """The folders of all recordings, by name and take."""
        return sorted(self.recordings.glob(f"[!.]*/[!.]*{_SUFFIX}"))

    def names(self) -> dict[str, int]:
        """The names that streams were recorded under, and when a take of each last came or went, in ns of mtime."""
        found = {}
        with storage_errors("read", self.recordings):
            if not self.recordings.exists():
                return {}
            with os.scandir(self.recordings) as entries:
                for entry in entries:
                    with suppress(FileNotFoundError):
                        if entry.name[0] != "." and entry.is_dir():
                            found[entry.name] = entry.stat().st_mtime_ns
        return found

    def takes(self, name: str) -> Iterator[str]:
        """The takes recorded under a name, in no order."""
        with suppress(FileNotFoundError), os.scandir(self.recordings / name) as found:
            for each in found:
                if _is_recording(each.name):
                    yield _take_of(each.name)

    def half_made(self) -> Iterator[Path]:
        """The folders of recordings that are being made, or were when their engine died."""
        return self.recordings.glob(f"*/.*{_SUFFIX}.*")

    def infos(self) -> Iterator[RecordingInfo]:
        """What is known of each recording; damaged ones are left out."""
        for path in self.paths():
            with suppress(ChaosError):
                yield load(path)
