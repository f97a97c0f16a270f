"""chaosd's configuration file: TOML, checked before anything begins, each problem with its line.

    store = "~/recordings"
    keep = "30d"

    [[stream]]
    name = "logger"           # each time it begins it is a take of its own: stream://logger/20261126T101500Z
    device = "USB Mic"
    roll = "1h"
    align = "clock"

    [[session]]
    name = "jam"
    [[session.stream]]
    name = "voice"
    device = "Scarlett"
"""

from __future__ import annotations

import codecs
import datetime as dt
import os
import re
import stat
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, NamedTuple, TypeAlias

import msgspec

from chaos.protocol.codec import decode_request
from chaos.protocol.config import Config, absolute, is_remote
from chaos.protocol.configkeys import (
    BY_THE_CLOCK,
    FOLDERS,
    IN_FORMAT,
    OF_MEMBER,
    OF_SESSION,
    OF_STREAM,
    SETTINGS,
    Keys,
    in_keys,
    unit_of,
)
from chaos.protocol.configlines import line_of, line_of_giving_up, number_in
from chaos.protocol.fields import check_field
from chaos.protocol.folders import refused
from chaos.protocol.requests import SessionStart, StreamStart
from chaos.terms.counting import counted
from chaos.terms.errors import ChaosError, InvalidRequest
from chaos.terms.units import parse_latency_frames
from chaos.terms.uri import check_session, make_uri

__all__ = ["BadConfig", "ConfigFile", "ConfiguredSession", "ConfiguredStream", "Problem", "read_config"]

_MAX_BYTES = 1 << 20
_TWICE = re.compile(r"Cannot declare \((.*)\) twice")  # tomllib, of a table
_KEYS = re.compile(r"'([^']*)'")
_MOST_LEVELS = 8  # a channel of a session's stream has six
_TOO_DEEP = ("this is nested too deeply", "a configuration has settings, [[stream]] and [[session]]")
_TOO_LARGE = ("this number is too large", "TOML's whole numbers have 64 bits")
_BEGUN = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)  # any moment: whether a take can have such a name

Place: TypeAlias = tuple[str | int, ...]
"""Where a value stands: `("stream", 0, "roll")`."""


class Problem(NamedTuple):
    """What is wrong in a configuration file, in which line (0: of the file as a whole), and what would work."""

    line: int
    message: str
    hint: str


class BadConfig(InvalidRequest):
    """`problems` are all that were found."""

    def __init__(self, path: Path, problems: list[Problem]) -> None:
        self.path, self.problems = path, problems
        first, n_more = problems[0], len(problems) - 1
        more = f" (and {n_more} more: chaosctl config check {path})" if n_more else ""
        super().__init__(f"{path}:{first.line}: {first.message}{more}", hint=first.hint)

    def lines(self) -> list[str]:
        """All of them as compilers tell errors, each with what would work below it."""
        return [
            line
            for each in self.problems
            for line in (f"{self.path}:{each.line}: {each.message}", *([f"  {each.hint}"] if each.hint else []))
        ]


class ConfiguredStream(NamedTuple):
    """`fields` are those of StreamStart but for its URI."""

    name: str
    fields: dict[str, Any]

    def start(self, now: dt.datetime) -> StreamStart:
        """Begins its next take, named by the time. It waits for a device that is away."""
        request: StreamStart = _request(StreamStart, uri=make_uri(self.name, _stamp(now)), wait=True, **self.fields)
        return request


class ConfiguredSession(NamedTuple):
    name: str
    streams: tuple[ConfiguredStream, ...]

    def start(self, now: dt.datetime) -> SessionStart:
        """Begins the session anew, under its name and the time."""
        name = f"{self.name}-{_stamp(now)}"
        streams = [{"uri": make_uri(each.name, name), **each.fields} for each in self.streams]
        request: SessionStart = _request(SessionStart, session=name, streams=streams, wait=True)
        return request


@dataclass(frozen=True, slots=True)
class ConfigFile:
    """`settings` are fields of Config; streams and sessions are what is to run from the start on."""

    path: Path
    settings: dict[str, Any]
    log_level: str | None
    streams: tuple[ConfiguredStream, ...]
    sessions: tuple[ConfiguredSession, ...]

    def told(self) -> str:
        """That it is sound, what it has run, and what nobody looked at."""
        what = f"{counted(len(self.streams), 'stream')}, {counted(len(self.sessions), 'session')}"
        return f"{self.path}: ok, {what}; whether the devices are there was not checked"


def read_config(path: Path, look_with: Path | Literal[False] | None = False) -> ConfigFile:
    """Reads and checks it. Raises BadConfig with everything that is wrong, InvalidRequest where it can't be read.

    With `look_with`, the folder of the user's keys or None, it is wrong, too, where its settings can't work together or
    this machine does not let chaosd have their folders and sockets.
    """
    path = absolute(path)
    try:
        # Nobody may ever write into a pipe: it is opened without waiting.
        with open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK)) as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                hint = "save the configuration as a file, and name that"
                raise InvalidRequest(f"{path} is not a plain file", hint=hint)
            raw = file.read(_MAX_BYTES + 1)
    except OSError as error:
        raise InvalidRequest(
            f"can't read the configuration {path}: {error.strerror}", hint="name one with --config FILE"
        ) from None
    if len(raw) > _MAX_BYTES:
        raise InvalidRequest(f"{path} is larger than 1 MiB", hint="a configuration is a short text file")
    return _Checked(path, raw).file(look_with)


def _stamp(now: dt.datetime) -> str:
    return f"{now.astimezone(dt.UTC):%Y%m%dT%H%M%SZ}"


def _request(kind: type[Any], **fields: Any) -> Any:
    """The request, as if it had come over the wire: judged by the same code."""
    return decode_request(msgspec.json.encode({"op": kind.__struct_config__.tag, **fields}))


class _Checked:
    """One file as it is checked; what is wrong gathers in `_problems`."""

    def __init__(self, path: Path, raw: bytes) -> None:
        self._path = path
        self._problems: list[Problem] = []
        raw = raw.removeprefix(codecs.BOM_UTF8)  # some editors put it there
        try:
            self._text = raw.decode()
            self._document = tomllib.loads(self._text)
        except UnicodeDecodeError as error:
            line = raw[: error.start].count(b"\n") + 1
            raise BadConfig(path, [Problem(line, "this is not UTF-8", "save the file as UTF-8")]) from None
        except tomllib.TOMLDecodeError as error:
            message, _, place = str(error).partition(" (at ")
            line = number_in(place) or self._text.rstrip("\n").count("\n") + 1
            hint = "text is written in quotes, a list in [ ], a stream begins with [[stream]]"
            if twice := _TWICE.fullmatch(message):
                table = ".".join(_KEYS.findall(twice[1]))
                hint = f"put all its keys under one [{table}]; streams, of which there may be several, are [[stream]]"
                raise BadConfig(path, [Problem(line, f"[{table}] is there twice", hint)]) from None
            raise BadConfig(path, [Problem(line, f"this is not TOML: {message}", hint)]) from None
        except (RecursionError, ValueError) as error:  # where tomllib itself gives up
            what = _TOO_DEEP if isinstance(error, RecursionError) else _TOO_LARGE
            raise BadConfig(path, [Problem(line_of_giving_up(self._text), *what)]) from None
        if (odd := _odd_value(self._document)) is not None:
            where, what = odd
            raise BadConfig(path, [Problem(line_of(self._text, where), *what)])

    def file(self, look_with: Path | Literal[False] | None) -> ConfigFile:
        settings = self._settings({k: v for k, v in self._document.items() if k not in ("stream", "session")})
        log_level = settings.pop("log_level", None)
        if look_with is not False:
            self._look(settings, look_with)
        of_streams, of_sessions = self._tables((), self._document), self._tables((), self._document, "session")
        streams = [self._stream(place, table, OF_STREAM) for place, table in of_streams]
        sessions = [self._session(place, table) for place, table in of_sessions]
        self._check_names("stream", of_streams)
        self._check_names("session", of_sessions)
        if self._problems:
            raise BadConfig(self._path, sorted(set(self._problems)))
        return ConfigFile(
            self._path,
            settings,
            log_level,
            tuple(each for each in streams if each is not None),
            tuple(each for each in sessions if each is not None),
        )

    def _settings(self, table: Mapping[str, Any]) -> dict[str, Any]:
        n_before = len(self._problems)
        found = self._converted((), table, SETTINGS, ("stream", "session"))
        here = self._path.parent
        for key, (field, _) in SETTINGS.items():
            if field in FOLDERS and (value := found.pop(field, None)) is not None:
                self._try((key,), lambda field=field, value=value: found.update({field: _seen_from(here, value)}))  # type: ignore[misc]
        for key, (field, _) in SETTINGS.items():
            if field in found and field != "log_level":
                # Whether there are keys for tcp:// is asked when it is opened.
                needs_keys = field.endswith("endpoint") and is_remote(found[field])
                extra: dict[str, Any] = {"keys": here} if needs_keys else {}
                if field == "upload_as" and "upload" in found:
                    extra = {"upload": "s3://any/place"}  # its own is judged by itself
                self._try((key,), lambda field=field, extra=extra: Config(**{field: found[field], **extra}), SETTINGS)  # type: ignore[misc]
        if len(self._problems) == n_before and found.get("endpoint", "") == found.get("events_endpoint"):
            self._say(("events",), "events: commands have this endpoint", "give the events another one")
        return found

    def _look(self, found: Mapping[str, Any], keys: Path | None) -> None:
        """Says what of the settings this machine refuses, or can't be together with those before it."""
        good: dict[str, Any] = {"keys": keys}
        # `keys` before the endpoints that need them: of the others SETTINGS has what they need before them
        for key, (field, _) in sorted(SETTINGS.items(), key=lambda each: each[0] != "keys"):
            if field in found:
                n_before = len(self._problems)
                self._try((key,), lambda field=field: Config(**good | {field: found[field]}), SETTINGS)  # type: ignore[misc]
                if len(self._problems) == n_before:
                    good[field] = found[field]
        named = {field: key for key, (field, _) in SETTINGS.items()}
        for field, error in refused(Config(**good)):
            if field in good:
                self._try((named[field],), lambda error=error: _raise(error), SETTINGS)  # type: ignore[misc]
            else:  # the usual one
                self._problems.append(Problem(0, f"{named[field]}: {error.message}", error.hint))

    def _tables(
        self, place: Place, table: Mapping[str, Any], key: str = "stream"
    ) -> list[tuple[Place, dict[str, Any]]]:
        """The tables of an array of tables, each with its place."""
        found = table.get(key, [])
        if not isinstance(found, list) or not all(isinstance(each, dict) for each in found):
            header = ".".join([*(str(each) for each in place if isinstance(each, str)), key])
            self._say((*place, key), f"{key} must be a list of tables", f"begin each with [[{header}]]")
            return []
        return [((*place, key, number), each) for number, each in enumerate(found)]

    def _stream(
        self, place: Place, table: dict[str, Any], known: Keys
    ) -> ConfiguredStream | None:
        n_before = len(self._problems)
        found = self._converted(place, table, known)
        name, is_midi = found.pop("name", None), found.pop("midi", False)
        for key, field in (("name", name), ("device", found.get("device_identity"))):
            if field is None and key not in table:
                hint = 'for example name = "desk"' if key == "name" else "chaosctl devices lists what there is"
                self._say(place, f"this stream has no {key}", hint)
        if name is not None:
            self._try((*place, "name"), lambda: make_uri(name, _stamp(_BEGUN)))
        form = {field: found.pop(field) for field in IN_FORMAT if field in found}
        for key, (field, _) in known.items():
            if is_midi and field in form:
                self._say((*place, key), f"{key} is for audio, not for midi", "leave it out")
        if "latency_frames" in found and isinstance(found["latency_frames"], str):
            latency, rate = found.pop("latency_frames"), form.get("sample_rate")
            self._try((*place, "latency"), lambda: found.update(latency_frames=parse_latency_frames(latency, rate)))
        fields = {"format": {"type": "midi"} if is_midi else {"type": "audio", **form}, **found}
        self._judge(place, table, known, fields)
        if len(self._problems) > n_before:
            return None
        least = {"uri": "stream://x/x", "device_identity": "x"}
        self._try(place, lambda: _request(StreamStart, **least | fields), known)
        return ConfiguredStream(str(name), fields)

    def _judge(self, place: Place, table: Mapping[str, Any], known: Keys, fields: dict[str, Any]) -> None:
        """As an op would be judged, each field by itself, so that its line is known."""
        least = {"uri": "stream://x/x", "device_identity": "x", "format": {"type": fields["format"]["type"]}}
        for key, (field, _) in known.items():
            if field in fields["format"]:
                form = {"type": "audio", field: fields["format"][field]}
                self._try((*place, key), lambda form=form: _request(StreamStart, **least | {"format": form}), known)  # type: ignore[misc]
            elif field in fields:
                self._try((*place, key), lambda key=key, field=field: _judge_field(  # type: ignore[misc]
                    least, field, fields[field], table[key], unit_of(known, key)), known)

    def _session(self, place: Place, table: dict[str, Any]) -> ConfiguredSession | None:
        n_before = len(self._problems)
        found = self._converted(place, table, OF_SESSION, ("stream",))
        tables = self._tables(place, table)
        streams = [self._stream(below, each, OF_MEMBER) for below, each in tables]
        self._check_names("stream", tables)
        if "name" not in table:
            self._say(place, "this session has no name", 'for example name = "jam"')
        elif "name" in found:
            self._try((*place, "name"), lambda: check_session(f"{found['name']}-{_stamp(_BEGUN)}"))
        if not table.get("stream"):
            self._say(place, "this session has no streams", "begin each with [[session.stream]]")
        if len(self._problems) > n_before:
            return None
        return ConfiguredSession(found["name"], tuple(each for each in streams if each is not None))

    def _check_names(self, what: str, tables: list[tuple[Place, dict[str, Any]]]) -> None:
        """Two streams of one name would begin takes of one URI."""
        seen: set[str] = set()
        for place, table in tables:
            if not isinstance(name := table.get("name"), str):
                continue
            if name in seen:
                self._say((*place, "name"), f'there is another {what} "{name}"', "give each a name of its own")
            seen.add(name)

    def _converted(
        self,
        place: Place,
        table: Mapping[str, Any],
        known: Keys,
        tables: tuple[str, ...] = (),
    ) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for key, value in table.items():
            if key in known:
                field, convert = known[key]
                self._try((*place, key), lambda: found.update({field: convert(value)}))  # noqa: B023
            elif key not in tables:
                names = [*known, *tables]
                near = get_close_matches(key.replace("-", "_"), names, 1)
                hint = f'did you mean "{near[0]}"?' if near else f"known are {', '.join(names)}"
                if key in BY_THE_CLOCK:
                    hint = "it runs from chaosd's start on; by the clock type: chaosctl start --at 18:00 --for 2h"
                self._say((*place, key), f'unknown key "{key}"', hint)
        return found

    def _try(self, place: Place, step: Callable[[], object], known: Keys = MappingProxyType({})) -> None:
        """Does it; what it raises is a problem of that place, told in the words of `known`."""
        try:
            step()
        except ChaosError as error:
            name = place[-1] if isinstance(place[-1], str) else ""
            message, hint = in_keys(known, error.message), in_keys(known, error.hint)
            self._say(place, f"{name}: {message}" if name and not message.startswith(f"{name} ") else message, hint)

    def _say(self, place: Place, message: str, hint: str) -> None:
        self._problems.append(Problem(line_of(self._text, place), message, hint))


def _raise(error: ChaosError) -> None:
    raise error


def _judge_field(least: Mapping[str, Any], field: str, value: Any, written: Any, unit: str) -> None:
    check_field(field, value, written, unit)
    _request(StreamStart, **{**least, field: value})


def _seen_from(here: Path, value: str | list[str]) -> Path | tuple[Path, ...]:
    return absolute(value, here) if isinstance(value, str) else tuple(absolute(each, here) for each in value)


def _odd_value(document: dict[str, Any]) -> tuple[Place, tuple[str, str]] | None:
    """Where something stands that TOML's own parser takes and nothing here can use; and what is said of it."""
    left: list[tuple[Place, Any]] = [((), document)]
    while left:
        place, value = left.pop()
        if len(place) > _MOST_LEVELS:
            return place, _TOO_DEEP
        if isinstance(value, int) and not -(1 << 63) <= value < 1 << 63:
            return place, _TOO_LARGE
        if isinstance(value, dict | list):
            inner = value.items() if isinstance(value, dict) else enumerate(value)
            left += [((*place, key), each) for key, each in inner]
    return None
