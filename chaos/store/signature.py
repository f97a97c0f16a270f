"""Signatures of recordings: somebody's word, with a key, that a recording's hash is what it is.

They lie beside the journal in `signatures.json`, one for each key. What is signed is the recording hash, how many marks
that covers, and the signer's own time, as PROTOCOL.md has it: retention changes none of it, and a mark that is set
later is told as one that nobody signed; anything else that a recording tells makes the signature bad.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Literal

import msgspec

from chaos.store.hashes import recording_hash, recording_hash_v3
from chaos.store.info import RecordingInfo, load
from chaos.store.journal import JOURNAL_NAME, Journal
from chaos.system.files import read_regular, replace, storage_errors
from chaos.system.signing import SigningPair, can_check, is_signed_by
from chaos.terms.counting import counted
from chaos.terms.errors import InvalidRequest, StorageFailed, StreamExists
from chaos.terms.moments import utc_text

__all__ = ["SIGNATURES_NAME", "Signature", "SignatureVerdict", "check_ended", "check_signatures", "sign"]

SIGNATURES_NAME = "signatures.json"
_FIRST_SCHEME, _SCHEME = "ed25519", "ed25519-v3"


class Signature(msgspec.Struct, frozen=True):
    """`signed_wall_ns` is what the signer's clock said. Keys, hash and signature are hex digits.

    The scheme "ed25519-v3" signs version 3 of the recording hash, over the first `n_marks` marks, "ed25519" version 2.
    """

    scheme: str
    public_key: str
    signed_wall_ns: int
    recording_hash: str
    signature: str
    n_marks: Annotated[int, msgspec.Meta(ge=0)] = 0

    @property
    def message(self) -> bytes:
        """The bytes that are signed."""
        signed = ("signed", self.signed_wall_ns)
        lines: tuple[tuple[str | int, ...], ...]
        if self.scheme == _FIRST_SCHEME:
            lines = (("chaosd signature", 1), ("recording_hash", 2, self.recording_hash), signed)
        else:
            whole = ("recording_hash", 3, self.recording_hash)
            lines = (("chaosd signature", 2), whole, ("marks", self.n_marks), signed)
        return b"".join(msgspec.json.encode(line) + b"\n" for line in lines)

    def hash_of(self, info: RecordingInfo) -> str:
        """The hash of the recording as it is now, of the version and with as many marks as were signed."""
        return recording_hash(info) if self.scheme == _FIRST_SCHEME else recording_hash_v3(info, self.n_marks)


class SignatureVerdict(msgspec.Struct, frozen=True):
    """What a signature proves. `state` is "good" (the holder of the key signed just this recording), "bad" or
    "unchecked"; `reason` says why it is one of the latter. Of a stream of several takes `take` is whose it is.

    `hash_version` is that of the recording hash that was signed: 2 covers neither marks nor the clock's errors.
    `unsigned_marks` are how many marks it does not cover: with version 3 those that were set after it was signed."""

    state: Literal["good", "bad", "unchecked"]
    public_key: str | None
    signed_utc: str | None
    reason: str | None = None
    take: str | None = None
    hash_version: int | None = None
    unsigned_marks: int = 0


def sign(path: Path, pair: SigningPair, expected_hash: str, wall_ns: int) -> Signature:
    """Signs the recording in this folder, durably; a signature of the same key is replaced.

    `expected_hash` is the `recording_hash_v3` that a verification found, and what is signed: it raises InvalidRequest
    if the recording has another one now, or has not ended, StreamExists while it is being written, StorageFull or
    StorageFailed.
    """
    lock = Journal.lock(path / JOURNAL_NAME)
    try:
        info = load(path)
        if not info.finish:
            raise _interrupted(info)
        if recording_hash_v3(info) != expected_hash:
            raise InvalidRequest(f"{path} has changed since it was verified", hint="try again")
        made = Signature(_SCHEME, pair.public, wall_ns, expected_hash, "", len(info.marks))
        made = msgspec.structs.replace(made, signature=pair.sign(made.message))
        try:
            known = _read(path)
        except ValueError:
            name = path / SIGNATURES_NAME
            raise StorageFailed(f"{name} is damaged", hint="move it away, or restore it from a copy") from None
        kept = [each for each in known if each.public_key != pair.public]
        with storage_errors("sign", path):
            replace(path / SIGNATURES_NAME, msgspec.json.format(msgspec.json.encode([*kept, made])) + b"\n")
    finally:
        os.close(lock)
    return made


def check_ended(info: RecordingInfo) -> None:
    """Raises StreamExists for a recording that is being written, InvalidRequest for one that waits for recovery."""
    uri = info.definition.uri
    if info.is_live:
        hint = "run chaosctl stop, or sign one by one the takes that have ended: chaosctl sign stream://NAME/TAKE.0001"
        raise StreamExists(f"{uri} is still being recorded: nothing was signed", hint=hint)
    if not info.finish:
        raise _interrupted(info)


def _interrupted(info: RecordingInfo) -> InvalidRequest:
    message = f"{info.definition.uri} was interrupted and not recovered yet"
    return InvalidRequest(message, hint="run: chaosctl recover")


def check_signatures(info: RecordingInfo) -> list[SignatureVerdict]:
    """What the signatures in this recording's folder prove."""
    try:
        return [_checked(each, info) for each in _read(info.path)]
    except (OSError, ValueError) as error:
        return [SignatureVerdict("bad", None, None, f"{SIGNATURES_NAME} can't be read: {error}")]


def _checked(signature: Signature, info: RecordingInfo) -> SignatureVerdict:
    try:
        signed_utc = utc_text(signature.signed_wall_ns)
    except (ValueError, OverflowError, OSError):
        signed_utc = None
    state: Literal["good", "bad", "unchecked"] = "bad"
    reason: str | None = None
    if signature.scheme not in (_FIRST_SCHEME, _SCHEME):
        state, reason = "unchecked", f"{signature.scheme[:40]} is not known to this version"
        return SignatureVerdict(state, signature.public_key, signed_utc, reason)
    if signature.n_marks > len(info.marks):
        reason = f"it covers {counted(signature.n_marks, 'mark')}, and the recording has {len(info.marks)}"
    elif signature.recording_hash != signature.hash_of(info):
        reason = f"it is of a recording whose recording hash is {signature.recording_hash[:80]}"
    elif not can_check():
        state, reason = "unchecked", "the library for it is missing: pip install 'chaosd[sign]'"
    elif is_signed_by(signature.public_key, signature.message, signature.signature):
        state = "good"
    else:
        reason = "it was not made with that key, or was changed"
    is_first = signature.scheme == _FIRST_SCHEME
    n_unsigned = max(0, len(info.marks) - (0 if is_first else signature.n_marks))
    version = 2 if is_first else 3
    return SignatureVerdict(
        state, signature.public_key, signed_utc, reason, hash_version=version, unsigned_marks=n_unsigned
    )


def _read(path: Path) -> list[Signature]:
    """ValueError for a file that makes no sense."""
    try:
        raw = read_regular(path / SIGNATURES_NAME)
    except FileNotFoundError:
        return []
    return msgspec.json.decode(raw, type=list[Signature])
