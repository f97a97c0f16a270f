"""CURVE keys on disk: this user's own pair, who may come in, and who is expected where.

    <folder>/own.key                    the secret and the public key of this user on this machine (0600)
    <folder>/authorized/<name>.key      public keys that chaosd lets in
    <folder>/hosts/<host>.key           public keys of the chaosd on other machines
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import zmq

from chaos.system.files import open_regular
from chaos.system.keyfiles import check_mode, default_folder, key_path, remove_key, write_key
from chaos.terms.errors import InvalidRequest, Unauthorized

__all__ = ["KeyPair", "Keys", "default_folder"]


class KeyPair(NamedTuple):
    """In Z85, 40 characters each."""

    public: str
    secret: str


class Keys:
    """The keys in one folder. Nothing is kept in memory: who is removed is out.

    Raises Unauthorized for folders that others may write to and a secret that they may read, StorageFailed where the
    system refuses, InvalidRequest for what is not a key or not a name. A file of another's key that others may write
    to, or that is damaged, is not used (`unused`), and costs nobody else.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder or default_folder()
        self._own = self.folder / "own.key"
        self._authorized = self.folder / "authorized"
        self._hosts = self.folder / "hosts"

    def make(self) -> KeyPair:
        """A new pair of one's own. Raises InvalidRequest if there is one already."""
        pair = KeyPair(*(key.decode() for key in zmq.curve_keypair()))
        if self.has_own():
            raise InvalidRequest(f"there is a key already: {self._own}", hint="remove that file to have a new one")
        write_key(self.folder, self._own, "curve", pair.public, pair.secret)
        return pair

    def own(self) -> KeyPair:
        """Raises Unauthorized if there is none."""
        if not self.has_own():
            raise Unauthorized(f"there is no key in {self.folder}", hint="make one: chaosctl keys new")
        check_mode(self._own, 0o077, "be read by others", "chmod 600")
        public, secret = self._read(self._own)
        if secret is None:
            raise Unauthorized(f"{self._own} has no secret key in it", hint="remove it, and run: chaosctl keys new")
        return KeyPair(public, secret)

    def has_own(self) -> bool:
        return os.path.lexists(self._own)

    def authorized(self) -> dict[str, str]:
        """The public keys that may come in, by name."""
        return self._all(self._authorized)

    def hosts(self) -> dict[str, str]:
        """The public keys that are expected of the chaosd on other machines, by host."""
        return self._all(self._hosts)

    def host(self, name: str) -> str | None:
        """The public key that is expected of the chaosd on this host; None where none is known."""
        return next((self._public(path) for path in self._files(self._hosts) if path.stem == name), None)

    def unused(self) -> list[Unauthorized]:
        """Why some of the keys are not used, each of which costs nobody else: files that are damaged, or that others
        may write to."""
        unused = []
        for path in (*self._files(self._authorized), *self._files(self._hosts)):
            try:
                self._public(path)
            except Unauthorized as error:
                unused.append(error)
        return unused

    def add(self, name: str, public: str, *, is_host: bool = False) -> None:
        """Lets a key in or, with `is_host`, expects it of that host. Raises InvalidRequest if the name is taken."""
        path = self._path(name, is_host)
        _check_key(public)
        if path.exists():
            named = f"--host {name}" if is_host else name
            raise InvalidRequest(f"{name} has a key already", hint=f"remove it first: chaosctl keys remove {named}")
        write_key(self.folder, path, "curve", public)

    def remove(self, name: str, *, is_host: bool = False) -> None:
        path = self._path(name, is_host)
        remove_key(path, "chaosctl keys list")

    def stamp(self) -> frozenset[tuple[str, int, int, int]]:
        """Changes whenever keys are added or removed, or a key's file is written to or opened to others."""
        try:
            found = [(path, path.lstat()) for path in (self._authorized, *self._authorized.iterdir())]
        except OSError:
            return frozenset()
        return frozenset((str(path), each.st_ctime_ns, each.st_ino, each.st_mode) for path, each in found)

    def _path(self, name: str, is_host: bool) -> Path:
        return key_path(self._hosts if is_host else self._authorized, name)

    def _all(self, folder: Path) -> dict[str, str]:
        """Those that can be used: the others are in `unused`."""
        found = {}
        for path in self._files(folder):
            with suppress(Unauthorized):
                found[path.stem] = self._public(path)
        return found

    def _files(self, folder: Path) -> list[Path]:
        if not folder.is_dir():
            return []
        for each in (self.folder, folder):
            check_mode(each, 0o022, "be written to by others", "chmod 700")
        return sorted(folder.glob("*.key"))

    def _public(self, path: Path) -> str:
        try:
            check_mode(path, 0o022, "be written to by others", "chmod 600")
        except OSError as error:  # it has just been removed
            raise Unauthorized(f"{path} is not a key file: {error.strerror}", hint="chaosctl keys list") from None
        return self._read(path)[0]

    def _read(self, path: Path) -> tuple[str, str | None]:
        try:
            from zmq.auth import load_certificate

            os.close(open_regular(path))  # a pipe would be waited for without end
            public, secret = load_certificate(path)
        except (OSError, ValueError) as error:
            raise Unauthorized(f"{path} is not a key file: {error}", hint=f"remove it: rm {path}") from None
        keys = [key.decode(errors="replace") for key in (public, secret) if key is not None]
        for key in keys:
            try:
                _check_key(key)
            except InvalidRequest:
                raise Unauthorized(f"{path} is damaged", hint=f"remove it: rm {path}") from None
        return keys[0], keys[1] if len(keys) > 1 else None


def _check_key(key: str) -> None:
    try:
        from zmq.utils import z85

        if len(z85.decode(key.encode("ascii"))) == 32:
            return
    except Exception:  # it raises whatever comes: struct.error, KeyError, ValueError
        pass
    raise InvalidRequest(f"{key[:60]!r} is not a public key", hint="it has 40 characters; see: chaosctl keys list")
