"""Everything that can go wrong, as exceptions with a stable code.

A code is part of the wire protocol (docs/PROTOCOL.md, "Error codes"); the exit code is the commands'. Messages say
what was wrong, hints what would work.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

__all__ = [
    "BadAnswer",
    "ChannelsMismatch",
    "ChaosError",
    "DeviceAmbiguous",
    "DeviceNotFound",
    "ForeignClock",
    "FormatUnsupported",
    "InternalError",
    "InvalidChunkSize",
    "InvalidFormat",
    "InvalidRange",
    "InvalidRequest",
    "InvalidURI",
    "LimitReached",
    "NotRecovered",
    "PathNotAllowed",
    "PipeWireUnavailable",
    "RateMismatch",
    "RecordingNotFound",
    "Refused",
    "StagingFull",
    "StorageFailed",
    "StorageFull",
    "StreamExists",
    "StreamNotFound",
    "TimedOut",
    "Unauthorized",
    "UnknownOp",
    "error_from_code",
]


class ChaosError(Exception):
    """Base of all errors that are shown to people and programs.

    `code` never changes once released; `hint` says what would work; `details` is JSON-serialisable.
    """

    code: ClassVar[str] = "internal"
    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, *, hint: str = "", details: Mapping[str, Any] | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.details = dict(details or {})

    def to_wire(self) -> dict[str, Any]:
        """The `error` object of an answer."""
        return {"code": self.code, "message": self.message, "hint": self.hint, "details": self.details}


class InternalError(ChaosError):
    """A bug in chaosd: the message names it, the log has the traceback."""


class InvalidRequest(ChaosError):
    code = "invalid_request"
    exit_code = 2


class UnknownOp(InvalidRequest):
    code = "unknown_op"


class InvalidURI(InvalidRequest):
    code = "invalid_uri"


class InvalidFormat(ChaosError):
    code = "invalid_format"
    exit_code = 4


class InvalidChunkSize(InvalidRequest):
    code = "invalid_chunk_size"


class InvalidRange(InvalidRequest):
    code = "invalid_range"


class PathNotAllowed(InvalidRequest):
    code = "path_not_allowed"


class DeviceNotFound(ChaosError):
    code = "device_not_found"
    exit_code = 3


class DeviceAmbiguous(ChaosError):
    """More than one device matches the name; `details["candidates"]` lists them."""

    code = "device_ambiguous"
    exit_code = 3


class RateMismatch(ChaosError):
    code = "rate_mismatch"
    exit_code = 4


class ChannelsMismatch(ChaosError):
    code = "channels_mismatch"
    exit_code = 4


class FormatUnsupported(ChaosError):
    code = "format_unsupported"
    exit_code = 4


class ForeignClock(ChaosError):
    """The device does not run by its own clock, so that PipeWire resamples it."""

    code = "foreign_clock"
    exit_code = 4


class ForeignLink(ChaosError):
    """Another client linked a source to one of our captures; no frame is kept until that link is gone."""

    code = "foreign_link"


class StreamExists(InvalidRequest):
    code = "stream_exists"


class StreamNotFound(InvalidRequest):
    code = "stream_not_found"


class SessionExists(InvalidRequest):
    code = "session_exists"


class SessionNotFound(InvalidRequest):
    code = "session_not_found"


class RecordingNotFound(ChaosError):
    code = "recording_not_found"
    exit_code = 6


class NotRecovered(ChaosError):
    """A chaosd that died, or could not store all, recorded it: its last frames are in no recording yet. Programs here
    find it; it is never sent."""

    code = "not_recovered"
    exit_code = 6


class TimedOut(ChaosError):
    code = "timeout"
    exit_code = 7


class StorageFull(ChaosError):
    code = "storage_full"
    exit_code = 6


class StorageFailed(ChaosError):
    code = "storage_failed"
    exit_code = 6


class StagingFull(ChaosError):
    code = "staging_full"
    exit_code = 6


class LimitReached(ChaosError):
    """The process may open no more files, and so takes no more streams; or so few that it doesn't begin."""

    code = "limit_reached"
    exit_code = 6


class PipeWireUnavailable(ChaosError):
    code = "pipewire_unavailable"
    exit_code = 7


class Unauthorized(ChaosError):
    code = "unauthorized"
    exit_code = 7


class Refused(Unauthorized):
    """What a chaosd answers that is reached, and does not allow what was asked."""

    exit_code = 2


class BadAnswer(ChaosError):
    """What listens there is not chaosd, or one of another version. Clients find it; it is never sent."""

    code = "bad_answer"
    exit_code = 7


def _all_errors() -> dict[str, type[ChaosError]]:
    found: dict[str, type[ChaosError]] = {}
    waiting: list[type[ChaosError]] = [ChaosError]
    while waiting:
        kind = waiting.pop()
        waiting.extend(kind.__subclasses__())
        if kind is not ChaosError:
            found[kind.code] = kind
    return found


_BY_CODE = _all_errors()


def error_from_code(code: str, message: str, hint: str = "", details: Mapping[str, Any] | None = None) -> ChaosError:
    """The exception that an answer's error object stands for; an unknown code becomes `InternalError`."""
    return _BY_CODE.get(code, InternalError)(message, hint=hint, details=details)
