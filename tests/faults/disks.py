"""Disks that can be filled, that can die and come back, and whose power can be cut. Only root may mount them."""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["PowerCutDisk", "may_mount", "small_disk"]

_IMAGE_BYTES = 4 << 30  # sparse; twenty cuts write about 27 MB each


def _run(*command: str | Path) -> None:
    subprocess.run(command, check=True, capture_output=True)


@functools.cache
def may_mount() -> bool:
    """Whether XFS images can be made and mounted here."""
    if os.geteuid() != 0 or not all(shutil.which(tool) for tool in ("mkfs.xfs", "xfs_io", "losetup", "fsfreeze")):
        return False
    with tempfile.TemporaryDirectory() as name:
        try:
            PowerCutDisk(Path(name)).close()
        except (OSError, subprocess.CalledProcessError):
            return False
    return True


@contextmanager
def small_disk(folder: Path, n_bytes: int) -> Iterator[Path]:
    """A filesystem of so many bytes, mounted at `folder`."""
    folder.mkdir()
    _run("mount", "-t", "tmpfs", "-o", f"size={n_bytes}", "tmpfs", folder)
    try:
        yield folder
    finally:
        _run("umount", "-l", folder)


class PowerCutDisk:
    """An XFS of its own in `folder`, mounted at `path`. Alive until `close`."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "disk"
        self.path.mkdir()
        memory = Path("/dev/shm")
        fd, name = tempfile.mkstemp(suffix=".xfs", dir=memory if os.access(memory, os.W_OK) else folder)
        os.ftruncate(fd, _IMAGE_BYTES)
        os.close(fd)
        self._image = Path(name)
        try:
            _run("mkfs.xfs", "-q", self._image)
            self.mount()
        except BaseException:
            self._image.unlink()
            raise

    def mount(self) -> None:
        """By a new device each time, as a disk that was pulled and put back has."""
        device = subprocess.run(
            ["losetup", "--find", "--show", self._image], check=True, capture_output=True, text=True
        ).stdout.strip()
        try:
            _run("mount", "-o", "nouuid", device, self.path)
        finally:
            _run("losetup", "--detach", device)  # at once or, where it is mounted, with its last user

    def die(self) -> None:
        """From now on nothing can be written, and what was not synced is gone."""
        _run("xfs_io", "-x", "-c", "shutdown", self.path)

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """Meanwhile whoever writes to it, or syncs, hangs in the kernel, beyond the reach of any signal."""
        _run("fsfreeze", "--freeze", self.path)
        try:
            yield
        finally:
            _run("fsfreeze", "--unfreeze", self.path)

    def come_back(self, *, in_use: bool = False) -> None:
        """Mounts it anew after it died; `in_use` says that a process still has files of it open."""
        _run("umount", *(["-l"] if in_use else []), self.path)
        self.mount()

    def close(self) -> None:
        _run("umount", "-l", self.path)
        self._image.unlink()
