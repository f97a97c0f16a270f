"""Key files: made for their owner alone, and not used where others could have read or changed them."""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path

from chaos.terms.errors import InvalidRequest, StorageFailed, Unauthorized

__all__ = ["check_mode", "default_folder", "key_path", "remove_key", "write_key"]

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,252}")


def default_folder() -> Path:
    import platformdirs  # only who goes over the network waits for it

    return Path(platformdirs.user_config_dir("chaos", appauthor=False)) / "keys"


def key_path(folder: Path, name: str) -> Path:
    """Where the key of this name lies. Raises InvalidRequest for what is not a name."""
    if not _NAME.fullmatch(name):
        raise InvalidRequest(f"{name!r} can't be the name of a key", hint="use letters, digits, dots and dashes")
    return folder / f"{name}.key"


def write_key(root: Path, path: Path, kind: str, public: str, secret: str | None = None) -> None:
    """A new key file of this kind ("curve"), durable, in a folder below `root`; both are made if need be.

    Raises StorageFailed, also where the file exists.
    """
    lines = [kind, f'    public-key = "{public}"', *([f'    secret-key = "{secret}"'] if secret else [])]
    try:
        for folder in (*reversed(root.parents), root, path.parent):
            if not folder.is_dir():
                folder.mkdir(mode=0o700, exist_ok=True)
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        with open(fd, "w") as file:  # noqa: PTH123
            file.write("\n".join([*lines, ""]))
            file.flush()
            os.fsync(fd)
    except OSError as error:
        raise _failed(path, error) from error


def remove_key(path: Path, listing: str) -> None:
    """Raises InvalidRequest where there is none (`listing`: the command that shows which there are), StorageFailed."""
    try:
        path.unlink()
    except FileNotFoundError:
        raise InvalidRequest(f"there is no key of {path.stem}", hint=f"see: {listing}") from None
    except OSError as error:
        raise _failed(path, error) from error


def check_mode(path: Path, forbidden: int, what: str, command: str) -> None:
    """Raises Unauthorized for a file or folder of another user's, a link, or one with any of the `forbidden` mode bits,
    with which it can `what` ("be read by others"); `command` ("chmod 600") mends that."""
    found = path.lstat()
    if stat.S_ISLNK(found.st_mode) or found.st_uid not in (os.geteuid(), 0):
        raise Unauthorized(f"{path} belongs to another user, or is a link", hint="put a file of your own there")
    if found.st_mode & forbidden:
        raise Unauthorized(f"{path} can {what}, and so is not used", hint=f"run: {command} {path}")


def _failed(path: Path, error: OSError) -> StorageFailed:
    return StorageFailed(f"could not write {path}: {error.strerror}", hint="check the folder and its permissions")
