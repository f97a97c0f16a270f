"""What the uploader's process tells chaosd: a JSON object a line."""

from __future__ import annotations

from typing import Literal

import msgspec

__all__ = ["Told", "UploadState", "Uploaded", "decode_told", "encode_told"]


class Uploaded(msgspec.Struct, frozen=True, tag_field="type", tag="uploaded"):
    """All before frame `n_frames` of this take is there; `ended`: and that is all of it. `n_absent` chunks are not:
    retention took them before, or they are damaged here, and then `n_frames` is not behind the first of these."""

    uri: str
    recording: str
    n_frames: int
    ended: bool
    n_bytes: int
    n_absent: int = 0


class UploadState(msgspec.Struct, frozen=True, tag_field="type", tag="state"):
    """How the uploader stands: "uploading", "idle" (all that is sealed is there, but for what `reason` names),
    "waiting" (the store can't be reached; it is tried again) or "refused" (it can't go on without a person); `reason`
    says why. `n_takes` are not all there.
    """

    state: Literal["uploading", "idle", "waiting", "refused"]
    reason: str = ""
    n_takes: int = 0
    n_bytes: int = 0


Told = Uploaded | UploadState
_decoder = msgspec.json.Decoder(Told)


def encode_told(told: Told) -> bytes:
    return msgspec.json.encode(told) + b"\n"


def decode_told(line: bytes) -> Told:
    """Raises ValueError."""
    told: Told = _decoder.decode(line)
    return told
