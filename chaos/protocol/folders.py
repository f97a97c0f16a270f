"""Whether this machine lets chaosd have the folders and sockets that a configuration names. Nothing is made."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

from chaos.protocol.config import Config, check_share, ipc_path, is_remote
from chaos.terms.errors import ChaosError, StorageFailed

__all__ = ["refused"]


def refused(config: Config) -> list[tuple[str, ChaosError]]:
    """All that `Config.prepare` and the sockets would be refused, each with the field that it is of."""
    return [(field, error) for field, check in _checks(config) if (error := _told(check)) is not None]


def _checks(config: Config) -> Iterator[tuple[str, Callable[[], None]]]:
    for field in ("endpoint", "events_endpoint"):
        if not is_remote(endpoint := getattr(config, field)):
            socket = ipc_path(endpoint)
            yield field, lambda socket=socket: _check_socket(socket)  # type: ignore[misc]
    yield "store", lambda: _check_store(config.store, config.store_mode)
    yield "staging_dir", lambda: _check_folder(config.staging_dir)


def _told(check: Callable[[], None]) -> ChaosError | None:
    try:
        check()
    except ChaosError as error:
        return error
    except OSError as error:
        return _no_folder(Path(str(error.filename or "")), error.errno or errno.EIO)
    return None


def _check_store(store: Path, mode: int) -> None:
    check_share(store, mode)
    _check_folder(store)


def _check_socket(socket: Path) -> None:
    if os.path.lexists(socket) and not (socket.exists() and stat.S_ISSOCK(socket.stat().st_mode)):
        raise StorageFailed(f"{socket} is there already, and is not a socket", hint="name another one, or remove it")
    _check_folder(socket.parent)


def _check_folder(folder: Path) -> None:
    """Raises StorageFailed where it could neither be used nor made."""
    there = next(each for each in (folder, *folder.parents) if os.path.lexists(each))
    if not there.is_dir():
        raise _no_folder(there, errno.ENOTDIR)
    if not os.access(there, os.W_OK | os.X_OK):
        is_read_only = bool(os.statvfs(there).f_flag & os.ST_RDONLY)
        raise _no_folder(there, errno.EROFS if is_read_only else errno.EACCES)


def _no_folder(folder: Path, number: int) -> StorageFailed:
    return StorageFailed(
        f"can't use {folder}: {os.strerror(number)}",
        hint="name a folder that this user may write to",
        details={"errno": number},
    )
