"""What the tools take: a struct per tool, its JSON schema, and what is wrong with arguments that do not fit.

An agent reads the error and tries again, so each says which argument is meant and what a call looks like that works.
"""

from __future__ import annotations

import re
from difflib import get_close_matches
from typing import Annotated, Any, Literal, TypeAlias

import msgspec
import msgspec.inspect

from chaos.protocol.requests import STANDBY_SECONDS
from chaos.terms.containers import GapFill
from chaos.terms.errors import InvalidRequest
from chaos.terms.formats import AudioFormat, MidiFormat
from chaos.terms.marks import Label

__all__ = [
    "EXAMPLES",
    "TOOLS",
    "Arguments",
    "DeviceList",
    "Keep",
    "Mark",
    "RecordingDelete",
    "RecordingList",
    "Save",
    "SessionDevice",
    "SessionStart",
    "SessionStop",
    "StreamCreate",
    "StreamStatus",
    "StreamStop",
    "decoded",
    "schema_of",
]

_MAX_SHOWN = 120
_COMPLAINT = re.compile(r"(?P<what>.*?)(?: - at `\$\.?(?P<path>.*)`)?", re.DOTALL)
_UNKNOWN = re.compile(r"Object contains unknown field `(.*)`", re.DOTALL)
_MISSING = re.compile(r"Object missing required field `(.*)`")


def _said(text: str, **limits: Any) -> msgspec.Meta:
    return msgspec.Meta(description=text, **limits)


Uri: TypeAlias = Annotated[
    str,
    _said(
        "The stream's URI, stream://NAME/TAKE; each part is 1 to 64 of A-Z a-z 0-9 . _ -", min_length=1, max_length=200
    ),
]
Name: TypeAlias = Annotated[
    str, _said("A device's identity as device_list has it, or its name", min_length=1, max_length=1024)
]
Session: TypeAlias = Annotated[
    str, _said("The session's name: 1 to 64 of A-Z a-z 0-9 . _ -", min_length=1, max_length=64)
]
Kind: TypeAlias = Literal["audio", "midi"]
Place: TypeAlias = Annotated[
    str,
    _said(
        "A frame (480000), a time from the start (30s) or before the end (-30s), or a time with its zone"
        " (2026-01-31T14:05:00Z)",
        min_length=1,
        max_length=64,
    ),
]
Duration: TypeAlias = Annotated[str, _said("A time with its unit: 30s, 5m, 2h", min_length=1, max_length=32)]
RequestId: TypeAlias = Annotated[
    str,
    _said(
        "Any text that names this call: the same call with the same request_id is done once, and answered again",
        min_length=1,
        max_length=256,
    ),
]
Recorded: TypeAlias = Annotated[
    AudioFormat | MidiFormat | Kind,
    _said('"audio" or "midi" in the device\'s own format, or an object: {"type": "audio", "sample_format": "s16"}'),
]
ChunkSize: TypeAlias = Annotated[int, _said("How much is sealed at a time; left out, about 10 s", ge=1, le=2**40)]
Standby: TypeAlias = Annotated[
    float,
    _said("Only hold so many seconds in memory, until the tool keep", ge=STANDBY_SECONDS[0], le=STANDBY_SECONDS[1]),
]
Limit: TypeAlias = Annotated[int, _said("How many at most", ge=1, le=1000)]


class Arguments(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Of a tool, whose description is the struct's docstring."""


class Changing(Arguments, kw_only=True):
    """Of a tool that changes something."""

    request_id: RequestId | None = None


class DeviceList(Arguments, kw_only=True):
    """List the devices that can be recorded: identity, description, format, and which is the default."""

    format: Kind | None = None
    all: Annotated[bool, _said("Also what programs play, and outputs")] = False


class StreamCreate(Changing, kw_only=True):
    """Start recording a device, and return once it streams. It goes on until stream_stop. Every frame is recorded, or
    is in the gap ledger with its place, length and cause."""

    uri: Uri
    device_identity: Name
    format: Recorded = "audio"
    chunk_size_bytes: ChunkSize | None = None
    keep: Annotated[str, _said("How much of the recording stays: 7d, 200GB", max_length=32)] | None = None
    wait: Annotated[bool, _said("Begin without the device, and record when it comes")] = False
    standby_s: Standby | None = None


class StreamStop(Changing, kw_only=True):
    """Stop a stream. Returns when all is stored, with the account of the recording: length, gaps, hash, clock."""

    uri: Uri


class StreamStatus(Arguments, kw_only=True):
    """How the streams that run are: state and reason, length, lost frames, levels, silence. Of one also its gaps."""

    uri: Uri | None = None


class Keep(Changing, kw_only=True):
    """Turn what a stream in standby holds into its recording, from the oldest frame on; it goes on recording."""

    uri: Uri


class Save(Changing, kw_only=True):
    """Save a recording, or a part of it, as a file (wav, flac, w64, caf, opus, raw, mid), also while it is recorded. It
    reports gaps and damage. An existing file is never replaced."""

    uri: Uri
    path: Annotated[
        str,
        _said(
            "A file in the folder that this server may write to; its ending says the format",
            min_length=1,
            max_length=1024,
        ),
    ]
    last: Duration | None = None
    first: Annotated[Place, _said("Where it begins; left out, at the start")] | None = None
    end: Annotated[Place, _said("Where it ends; left out, at the end")] | None = None
    gaps: Annotated[GapFill, _said("What missing frames become: zeros, nan, or cut out")] = "zeros"


class Mark(Changing, kw_only=True):
    """Name a frame, so that it is found again. Left out, it is the newest frame, or the end of a recording that has
    ended."""

    uri: Uri
    label: Annotated[Label, _said("1 to 200 characters")]
    frame: Annotated[int, _said("Counted from the take's first", ge=0, le=2**63 - 1)] | None = None


class RecordingList(Arguments, kw_only=True):
    """List recordings, newest first; those that match all that is given. With a uri each has its full account."""

    uri: Uri | None = None
    device: Annotated[str, _said("A part of the device's name", min_length=1, max_length=1024)] | None = None
    since: Annotated[str, _said("A time with its zone: 2026-01-31T14:05:00Z", max_length=64)] | None = None
    until: Annotated[str, _said("A time with its zone: 2026-01-31T14:05:00Z", max_length=64)] | None = None
    limit: Limit = 20


class SessionDevice(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """A stream of a session."""

    device_identity: Name
    uri: Annotated[Uri | None, _said("Left out, stream://DEVICE/SESSION")] = None
    format: Recorded = "audio"


class SessionStart(Changing, kw_only=True):
    """Record several devices together; those of one driver begin with the same frame. All of them begin, or none."""

    session: Session
    devices: Annotated[list[SessionDevice], _said("What is recorded", min_length=1, max_length=64)]


class SessionStop(Changing, kw_only=True):
    """Stop all streams of a session. Returns the account of each recording."""

    session: Session


class RecordingDelete(Changing, kw_only=True):
    """Delete a recording for good, all takes of it. Refused while it is recorded, pinned or being saved."""

    uri: Uri


TOOLS: dict[str, type[Arguments]] = {
    "device_list": DeviceList,
    "stream_create": StreamCreate,
    "stream_stop": StreamStop,
    "stream_status": StreamStatus,
    "keep": Keep,
    "save": Save,
    "mark": Mark,
    "recording_list": RecordingList,
    "session_start": SessionStart,
    "session_stop": SessionStop,
    "recording_delete": RecordingDelete,
}

EXAMPLES: dict[str, dict[str, Any]] = {
    "device_list": {"format": "audio"},
    "stream_create": {"uri": "stream://desk/take-1", "device_identity": "USB Mic", "format": "audio"},
    "stream_stop": {"uri": "stream://desk/take-1"},
    "stream_status": {"uri": "stream://desk/take-1"},
    "keep": {"uri": "stream://desk/idea"},
    "save": {"uri": "stream://desk/take-1", "path": "take-1.wav", "last": "30s"},
    "mark": {"uri": "stream://desk/take-1", "label": "verse 2"},
    "recording_list": {"since": "2026-01-31T00:00:00Z", "limit": 5},
    "session_start": {"session": "jam", "devices": [{"device_identity": "USB Mic"}]},
    "session_stop": {"session": "jam"},
    "recording_delete": {"uri": "stream://desk/take-1"},
}
"""A call of each tool that works; errors show it."""


def schema_of(kind: type[msgspec.Struct]) -> dict[str, Any]:
    """Its JSON schema with an object at the root, as the protocol has it."""
    (_,), parts = msgspec.json.schema_components([kind], ref_template="#/$defs/{name}")
    root = dict(parts.pop(kind.__name__))
    for name in ("title", "description"):  # the tool has them
        root.pop(name, None)
    return root | ({"$defs": parts} if parts else {})


def decoded(tool: str, given: dict[str, Any]) -> Arguments:
    """A tool's arguments. Raises InvalidRequest, and what the formats raise."""
    try:
        _check_text(given)
        return msgspec.convert(given, TOOLS[tool])
    except UnicodeEncodeError:
        raise InvalidRequest(
            "an argument has half of a surrogate pair in it, which is not a character", hint=_example(tool)
        ) from None
    except msgspec.ValidationError as e:
        raise _explained(tool, given, str(e)) from None
    except RecursionError:
        raise InvalidRequest("the arguments are nested too deep", hint=_example(tool)) from None


def _check_text(value: Any) -> None:
    """Raises UnicodeEncodeError for text that no file and no message can hold."""
    if isinstance(value, str):
        value.encode()
    elif isinstance(value, dict):
        for key, each in value.items():
            _check_text(key)
            _check_text(each)
    elif isinstance(value, list | tuple):
        for each in value:
            _check_text(each)


def _explained(tool: str, given: dict[str, Any], complaint: str) -> InvalidRequest:
    match = _COMPLAINT.fullmatch(complaint)
    what, path = (match["what"], match["path"] or "") if match else (complaint, "")
    if unknown := _UNKNOWN.fullmatch(what):
        where = f"`{path}` of {tool}" if path else tool
        names = _names_at(tool, path)
        near = get_close_matches(unknown[1][:100], names, n=1) or [
            name for name in names if unknown[1] and name.startswith(unknown[1])
        ]
        guess = f"did you mean `{near[0]}`?" if near else f"it takes {', '.join(names)}."
        hint = f"{guess} {_example(tool)}"
        return InvalidRequest(f"{where} has no argument `{_shown(unknown[1])}`", hint=hint)
    if missing := _MISSING.fullmatch(what):
        where = f"`{path}` of {tool}" if path else tool
        return InvalidRequest(f"{where} needs `{missing[1]}`", hint=_example(tool))
    is_choice = what.startswith(("Invalid enum value", "Invalid value"))
    came = "" if is_choice or "got" in what or not path else f", got {_value_at(given, path)}"
    choices = f"it takes {' or '.join(_choices(tool, path))}. " if is_choice else ""
    hint = f"{choices}{_example(tool)}"
    return InvalidRequest(f"argument `{path}` of {tool}: {what[:1].lower()}{what[1:]}{came}", hint=hint)


def _choices(tool: str, path: str) -> list[str]:
    """What an argument of that name may be, as the schema has it."""
    [*_, name] = _steps(path)
    found: dict[str, None] = {}

    def look(part: Any, is_meant: bool) -> None:
        if isinstance(part, list):
            for each in part:
                look(each, is_meant)
        elif isinstance(part, dict):
            if is_meant:
                found.update(dict.fromkeys(_encoded(each) for each in part.get("enum", ()) if each is not None))
            for key, each in part.items():
                look(each, key == name or (is_meant and key == "anyOf"))

    look(schema_of(TOOLS[tool]), False)
    return list(found)


def _names_at(tool: str, path: str) -> list[str]:
    """What an object at that place may have."""
    kinds: list[Any] = [msgspec.inspect.type_info(TOOLS[tool])]
    for step in [*(each for each in _steps(path) if not each.isdecimal()), None]:
        found: list[Any] = []
        for kind in kinds:
            while isinstance(kind, msgspec.inspect.Metadata | msgspec.inspect.ListType):
                kind = kind.type if isinstance(kind, msgspec.inspect.Metadata) else kind.item_type
            found += kind.types if isinstance(kind, msgspec.inspect.UnionType) else [kind]
        fields = [field for kind in found if isinstance(kind, msgspec.inspect.StructType) for field in kind.fields]
        if step is None:
            return list(dict.fromkeys(field.encode_name for field in fields))
        kinds = [field.type for field in fields if field.encode_name == step]
    return []


def _steps(path: str) -> list[str]:
    """`devices[0].format` taken apart."""
    return re.findall(r"[^.\[\]]+", path)


def _encoded(value: Any) -> str:
    return msgspec.json.encode(value).decode()


def _example(tool: str) -> str:
    return f"for example: {tool} {_encoded(EXAMPLES[tool])}"


def _shown(text: str) -> str:
    return text if len(text) <= _MAX_SHOWN else f"{text[:_MAX_SHOWN]}..."


def _value_at(given: Any, path: str) -> str:
    value = given
    for key in _steps(path):
        if isinstance(value, list):
            value = value[int(key)] if key.isdecimal() and int(key) < len(value) else None
        else:
            value = value.get(key) if isinstance(value, dict) else None
    try:
        return _shown(_encoded(value))
    except (ValueError, RecursionError, TypeError):
        return "what can't be shown"
