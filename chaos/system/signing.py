"""Keys to sign recordings with (Ed25519), on disk: this user's own, and those of signers whom this user trusts.

    <folder>/signing.key                the secret and the public key of this user (0600)
    <folder>/signers/<name>.key         public keys of others

The cryptography is libsodium's, through PyNaCl, which is an extra and loaded where something is signed or a signature
is checked.
"""

from __future__ import annotations

import os
import re
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from chaos.system.files import read_regular
from chaos.system.keyfiles import check_mode, default_folder, key_path, remove_key, write_key
from chaos.terms.errors import InvalidRequest, StorageFailed, Unauthorized

__all__ = ["SigningKeys", "SigningPair", "can_check", "is_signed_by"]

_KIND = "ed25519"
_MAKE = "make one: chaosctl keys new --signing"
_LINE = re.compile(r'\s*(public|secret)-key = "([0-9a-f]{64})"')
_IS_KEY = re.compile("[0-9a-f]{64}").fullmatch


class SigningPair(NamedTuple):
    """32 bytes each, as 64 hex digits."""

    public: str
    secret: str

    def sign(self, message: bytes) -> str:
        """The signature of these bytes: 128 hex digits."""
        return str(_library().SigningKey(bytes.fromhex(self.secret)).sign(message).signature.hex())


def can_check() -> bool:
    """Whether the library is there."""
    try:
        _library()
    except InvalidRequest:
        return False
    return True


def is_signed_by(public: str, message: bytes, signature: str) -> bool:
    """Whether this is the signature of these bytes with the key; keys with which anything would count as signed are
    refused by the library. Raises InvalidRequest where that is missing."""
    nacl = _library()
    try:
        nacl.VerifyKey(bytes.fromhex(public)).verify(message, bytes.fromhex(signature))
    except Exception:  # BadSignatureError; ValueError and others for what is not a key or a signature
        return False
    return True


def _library() -> Any:
    try:
        from nacl import signing
    except ImportError:
        message = "signatures need the Python library PyNaCl"
        raise InvalidRequest(message, hint="install it with: pip install 'chaosd[sign]'") from None
    return signing


class SigningKeys:
    """The keys in one folder. Nothing is kept in memory.

    Raises StorageFailed for files that are damaged, or that others may read (the secret) or write to (all), and where
    the system refuses, InvalidRequest for what is not a key or not a name.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder or default_folder()
        self._own = self.folder / "signing.key"
        self._signers = self.folder / "signers"

    def make(self) -> SigningPair:
        """A new pair of one's own. Raises InvalidRequest if there is one already, or the library is missing."""
        made = _library().SigningKey.generate()
        if self.has_own():
            hint = "keep it: what was signed with it is checked against it"
            raise InvalidRequest(f"there is a signing key already: {self._own}", hint=hint)
        pair = SigningPair(made.verify_key.encode().hex(), made.encode().hex())
        write_key(self.folder, self._own, _KIND, pair.public, pair.secret)
        return pair

    def own(self) -> SigningPair:
        """Raises InvalidRequest if there is none."""
        if not self.has_own():
            raise InvalidRequest(f"there is no signing key in {self.folder}", hint=_MAKE)
        _check_mode(self._own, 0o077, "be read by others", "chmod 600")
        found = _read(self._own)
        if found.keys() != {"public", "secret"}:
            hint = "restore it from a copy; without one move it away, and chaosctl keys new --signing makes a new key"
            raise StorageFailed(f"{self._own} is damaged: it holds no signing key", hint=hint)
        return SigningPair(found["public"], found["secret"])

    def to_sign(self) -> SigningPair:
        """One's own pair. Raises InvalidRequest if the library is missing, which comes first, or what `own` does."""
        _library()
        return self.own()

    def has_own(self) -> bool:
        return os.path.lexists(self._own)

    def signers(self) -> dict[str, str]:
        """The public keys of others that are trusted, by name; not those of `unused`."""
        found = {}
        for path in self._signer_files():
            with suppress(StorageFailed):
                found[path.stem] = self._signer(path)
        return found

    def unused(self) -> list[StorageFailed]:
        """Why some key files of others are not used, each of which costs nobody else."""
        unused = []
        for path in self._signer_files():
            try:
                self._signer(path)
            except StorageFailed as error:
                unused.append(error)
        return unused

    def names(self) -> tuple[dict[str, str], list[StorageFailed]]:
        """Whose each public key is that is trusted, one's own too; and why some key files are not used, which keeps
        nobody from verifying."""
        names: dict[str, str] = {}
        unused: list[StorageFailed] = []
        try:
            files = self._signer_files()
        except StorageFailed as error:
            files = []
            unused.append(error)
        for path in files:
            try:
                names[self._signer(path)] = path.stem
            except StorageFailed as error:
                unused.append(error)
        if self.has_own():
            try:
                names[self.own().public] = "this user"
            except StorageFailed as error:
                unused.append(error)
        return names, unused

    def _signer_files(self) -> list[Path]:
        if not self._signers.is_dir():
            return []
        for folder in (self.folder, self._signers):
            _check_mode(folder, 0o022, "be written to by others", "chmod 700")
        return sorted(self._signers.glob("*.key"))

    def _signer(self, path: Path) -> str:
        _check_mode(path, 0o022, "be written to by others", "chmod 600")
        public = _read(path).get("public")
        if public is None:
            name = path.stem
            hint = f"chaosctl keys remove --signer {name}, then chaosctl keys add --signer {name} KEY"
            raise StorageFailed(f"{path} is damaged: it holds no key", hint=hint)
        return public

    def add(self, name: str, public: str) -> None:
        """Trusts a key. Raises InvalidRequest if the name is taken."""
        path = key_path(self._signers, name)
        if not _IS_KEY(public):
            hint = "it has 64 hex digits; see: chaosctl keys list"
            raise InvalidRequest(f"{public[:80]!r} is not a public key to check signatures with", hint=hint)
        if path.exists():
            hint = f"remove it first: chaosctl keys remove --signer {name}"
            raise InvalidRequest(f"the signer {name} has a key already", hint=hint)
        write_key(self.folder, path, _KIND, public)

    def remove(self, name: str) -> None:
        remove_key(key_path(self._signers, name), "chaosctl keys list")


def _check_mode(path: Path, forbidden: int, what: str, command: str) -> None:
    """As `check_mode`; nobody is kept out by it, a file of one's own can't be used."""
    try:
        check_mode(path, forbidden, what, command)
    except Unauthorized as error:
        raise StorageFailed(error.message, hint=error.hint) from None


def _read(path: Path) -> dict[str, str]:
    """The keys in a file, by kind; none of one that makes no sense."""
    try:
        kind, *lines = read_regular(path).decode("ascii").splitlines()
    except (OSError, ValueError):
        return {}
    found = [_LINE.fullmatch(line) for line in lines]
    return {each[1]: each[2] for each in found if each} if kind == _KIND and all(found) else {}
