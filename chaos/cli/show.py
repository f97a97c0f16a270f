"""How chaosctl shows devices, streams and recordings: one thing looks the same in all commands."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from chaos.protocol.config import IN_MEMORY
from chaos.protocol.events import COMMON_FIELDS
from chaos.terms.counting import counted
from chaos.terms.states import shown_state

if TYPE_CHECKING:
    from chaos.store.removal import Removal

__all__ = [
    "DEVICE_HEADERS",
    "RECORDING_HEADERS",
    "REMOTE_HEADERS",
    "STREAM_HEADERS",
    "daemon_lines",
    "dbfs",
    "decibels",
    "device_format",
    "device_rows",
    "duration",
    "event_line",
    "held_state",
    "kept_lines",
    "level",
    "local_time",
    "lost",
    "mark_lines",
    "recording_rows",
    "remote_rows",
    "removal_lines",
    "retired_lines",
    "signal_lines",
    "size",
    "stream_format",
    "stream_lines",
    "stream_rows",
]

Wire = Mapping[str, Any]


def duration(n_frames: int, sample_rate: int | None) -> str:
    """`1:02:03.450` for a number of frames; the number itself where the rate is not known."""
    if not sample_rate:
        return counted(n_frames, "frame")
    ms = n_frames * 1000 // sample_rate
    return f"{ms // 3_600_000}:{ms // 60_000 % 60:02}:{ms // 1000 % 60:02}.{ms % 1000:03}"


def lost(n_frames: int, sample_rate: int | None) -> str:
    """What follows a count of frames: ` (3.5 s)`; nothing after 0, or where the rate is not known."""
    if not n_frames or not sample_rate:
        return ""
    seconds = n_frames / sample_rate
    return f" ({seconds:.1f} s)" if seconds >= 1 else f" ({1000 * seconds:.3g} ms)"


def local_time(utc: str) -> str:
    """An ISO 8601 time in local time, with its zone; as it is where it can't be read."""
    try:
        return f"{dt.datetime.fromisoformat(utc).astimezone():%Y-%m-%d %H:%M:%S %Z}"
    except (ValueError, OverflowError, OSError):
        return utc


def dbfs(value: float | None) -> str:
    """`-12.3`; `0.0` also where a little is missing to it, `-inf` for nothing at all."""
    return "-inf" if value is None else f"{round(value, 1) + 0.0:.1f}"


def decibels(levels: Sequence[Wire], most: int = 8) -> str:
    """Peaks in dBFS, channel by channel."""
    shown = [dbfs(level["peak_dbfs"]) for level in levels[:most]]
    return " ".join([*shown, *(["..."] if len(levels) > most else [])])


def level(stream: Wire) -> str:
    """Peaks in dBFS, or of a MIDI stream what was heard last."""
    activity = stream.get("activity")
    if activity is None:
        return decibels(stream["levels"])
    return f"{activity['events_per_s']:g}/s {activity['last'] or 'nothing yet'}"


def _heard(stream: Wire) -> str:
    activity = stream.get("activity")
    if activity is None:
        return f"  peak dBFS  {decibels(stream['levels'], most=64)}"
    when = "" if activity["last_frame"] is None else f" at frame {activity['last_frame']}"
    return f"  heard      {activity['last'] or 'nothing yet'}{when}, {activity['events_per_s']:g} events a second"


def device_format(wire: Wire) -> str:
    """`2 ch 48000 Hz` of a device's or a stream's format, as far as that is known; else `audio`."""
    if wire["type"] != "audio":
        return str(wire["type"])
    known = [f"{wire[name]} {unit}" for name, unit in (("channels", "ch"), ("sample_rate", "Hz")) if wire.get(name)]
    return " ".join(known) or "audio"


_ANY_RATE = (1 << 31) - 1  # what a node of no rate of its own says it can do
DEVICE_HEADERS = (" ", "DESCRIPTION", "KIND", "FORMAT", "NAME", "IDENTITY")


def device_rows(devices: Sequence[Wire]) -> list[tuple[str, ...]]:
    """Device objects as rows under `DEVICE_HEADERS`."""
    return [
        (
            "*" if device["is_default"] else " ",
            device["description"],
            _device_kind(device),
            f"{device_format(device['format'])}{_offered_rates(device)}",
            device["name"],
            device["identity"],
        )
        for device in devices
    ]


def _device_kind(device: Wire) -> str:
    if device.get("identity_basis") == "program":
        return "program"
    return "monitor" if device["is_monitor"] else str(device["direction"])


def _offered_rates(device: Wire) -> str:
    """What a device can be run at, where that is not settled yet."""
    if device["format"].get("sample_rate") or device["format"]["type"] != "audio":
        return ""
    rates = "/".join(map(str, device.get("rates") or ()))
    low, high = device.get("rate_range") or (0, 0)
    if not rates and low <= 1 and high >= _ANY_RATE:
        return " any rate"
    return f" {rates or f'{low}-{high}'} Hz" if rates or high else ""


def stream_format(wire: Wire) -> str:
    """`2 ch 48000 Hz f32`."""
    return f"{device_format(wire)} {wire.get('sample_format', '')}".rstrip()


STREAM_HEADERS = ("URI", "STATE", "HEAD", "CHUNKS", "GAPS", "LOST", "LEVEL", "SIGNAL", "DEVICE")


def _state(stream: Wire) -> str:
    if stream.get("begins_utc"):
        from chaos.cli.when import words

        begins = dt.datetime.fromisoformat(stream["begins_utc"])
        return f"{stream['state']}, {words('from', begins, dt.datetime.now().astimezone())}"
    return held_state(stream)


def held_state(stream: Wire) -> str:
    """See `shown_state`."""
    has_take = bool((stream.get("trigger") or {}).get("take"))
    return shown_state(str(stream["state"]), is_held=stream.get("standby_s") is not None, has_take=has_take)


def stream_rows(streams: Sequence[Wire]) -> list[tuple[str, ...]]:
    """StreamStatus objects as rows under `STREAM_HEADERS`."""
    return [
        (
            stream["uri"],
            _state(stream),
            duration(stream["head_frame"], stream["format"].get("sample_rate")),
            str(stream["n_chunks_sealed"]),
            str(stream["n_gaps"]),
            str(stream["lost_frames"]),
            level(stream),
            _signal_note(stream.get("signal")),
            _device_name(stream["device"]),
        )
        for stream in streams
    ]


def stream_lines(stream: Wire) -> list[str]:
    """A StreamStatus in full."""
    rate = stream["format"].get("sample_rate")
    slots, drift, head = stream["slots"], stream["drift_ppm"], stream["head_frame"]
    frames, gaps = counted(stream["lost_frames"], "frame"), counted(stream["n_gaps"], "gap")
    graph = (
        f"  graph      quantum {stream['quantum']}, {stream['callbacks']} callbacks,"
        f" drift {'not known yet' if drift is None else f'{drift:+.1f} ppm'}"
    )
    return [
        f"{stream['uri']}: {held_state(stream)}{', ' + stream['reason'] if stream.get('reason') else ''}",
        f"  device     {_device_name(stream['device'])}",
        *([f"  format     {form}"] if (form := stream_format(stream["format"])) else []),
        *_times(stream),
        *_trigger(stream),
        f"  head       {f'{duration(head, rate)} (frame {head})' if rate else f'frame {head}'}",
        *([f"  chunks     {stream['n_chunks_sealed']} sealed, of {n} frames"] if (n := stream["chunk_frames"]) else []),
        f"  loss       {frames}{lost(stream['lost_frames'], rate)} in {gaps},"
        f" {counted(stream['overruns'], 'overrun')}, {counted(stream['xruns'], 'xrun')}",
        *([f"  slots      {slots['free']} free, {slots['full']} full, {n} in total"] if (n := slots["total"]) else []),
        *([graph] if stream["quantum"] else []),
        *([_heard(stream)] if stream.get("activity") or stream["levels"] else []),
        f"  recording  {_where(stream)}",
        *_sealed_lines(stream),
        *([f"  take       {stream['take']}, continues {stream['continues']}"] if stream.get("continues") else []),
        *(f"  signal     {line}" for line in signal_lines(stream.get("signal"), rate)),
        *note_lines(stream),
    ]


def _times(stream: Wire) -> list[str]:
    """When a stream begins and ends by itself, in local time."""
    told = [(name, stream.get(f"{name}_utc")) for name in ("begins", "ends")]
    return [f"  {name:<10} {local_time(utc)}" for name, utc in told if utc]


def _sealed_lines(stream: Wire) -> list[str]:
    """How far the take is sealed and uploaded, where there is an upload."""
    if stream.get("uploaded_frame") is None:
        return []
    return [f"  uploaded   up to frame {stream['uploaded_frame']}, sealed up to frame {stream['sealed_frame']}"]


def _trigger(stream: Wire) -> list[str]:
    if (trigger := stream.get("trigger")) is None:
        return []
    takes = f"  trigger    above {trigger['above_dbfs']:g} dBFS: {counted(trigger['n_takes'], 'take')}"
    if not trigger["take"]:
        return [takes]
    rate = stream["format"].get("sample_rate")
    so_far = f", {duration(trigger['n_frames'], rate)} so far" if "n_frames" in trigger else ""
    return [f"{takes}, now {trigger['take']}{so_far}"]


def _signal_note(signal: Wire | None) -> str:
    """`silent`, `clipped`, `NaN`: what `signal_lines` says more of."""
    if signal is None:
        return "-"
    notes = {
        "silent": signal["silent_since_frame"] is not None,
        "clipped": signal["n_clipped"],
        "NaN": signal["n_not_finite"],
    }
    return ", ".join(note for note, is_so in notes.items() if is_so) or "-"


def signal_lines(signal: Wire | None, sample_rate: int | None) -> list[str]:
    """What is wrong with a take's samples, a line each; nothing where all is well."""
    if signal is None:
        return []

    def at(frame: int) -> str:
        return duration(frame, sample_rate) if sample_rate else f"frame {frame}"

    lines = []
    if signal["silent_since_frame"] is not None:
        lines.append(f"silent since {at(signal['silent_since_frame'])}")
    for kind, word in (("clipped", "clipped"), ("not_finite", "NaN or infinite")):
        if n := signal[f"n_{kind}"]:
            lines.append(f"{counted(n, 'sample')} {word}, the first at {at(signal[f'first_{kind}_frame'])}")
    return lines


def _where(stream: Wire) -> str:
    held_s, trigger = stream.get("standby_s"), stream.get("trigger")
    if held_s is None:
        return str(stream["recording"]) or "none yet: no frame has come"
    if trigger is not None:
        return trigger["recording"] or f"none now: it holds the last {held_s:g} s, and records what is louder"
    return f"none: it holds the last {held_s:g} s until chaosctl keep"


def note_lines(answer: Wire) -> list[str]:
    """What the answer has to remark."""
    return [f"  note: {note}" for note in answer.get("notes", [])]


def daemon_lines(status: Wire) -> list[str]:
    """The part of `status` about the daemon itself."""
    pipewire, staging, store = status["pipewire"], status["staging"], status["store"]
    priority = f", {pipewire['rt_policy']} {pipewire['rt_priority']}" if pipewire["rt_policy"] else ""
    connection = f"{pipewire['version']}{priority}" if pipewire["connected"] else "not connected"
    return [
        f"pipewire  {connection}",
        f"staging   {_mib(staging['used_bytes'])} of {_mib(staging['limit_bytes'])},"
        f" {_mib(staging['locked_bytes'])} locked"
        + (f", on {kind} and not in memory" if (kind := staging.get("file_system", "")) not in IN_MEMORY else ""),
        f"store     {store['path']}, {_mib(store['free_bytes'])} free",
        *([f"  {store['error']}"] if store.get("error") else []),
        *upload_lines(status.get("upload")),
        *note_lines(status),
    ]


def upload_lines(upload: Wire | None) -> list[str]:
    """How the upload stands; nothing without one."""
    if upload is None:
        return []
    waiting = f", {counted(upload['n_takes'], 'recording')} not all there" if upload["n_takes"] else ""
    reason = f": {upload['reason']}" if upload["reason"] else ""
    return [f"upload    {upload['target']}, {upload['state']}{reason}{waiting}, {_mib(upload['n_bytes'])} sent"]


def capture_lines(captures: Sequence[Wire]) -> list[str]:
    """What is captured by other processes than chaosd, a line each."""
    return [
        f"recorded by chaosctl record, process {each['pid']}: {each['uri']},"
        f" {duration(each['n_frames'], each['sample_rate'])}, {counted(each['lost_frames'], 'frame')} lost,"
        f" {each['device'] or 'unknown device'}"
        for each in captures
    ]


RECORDING_HEADERS = ("DATE", "LENGTH", "SIZE", "GAPS", "MISSING", "STATE", "DEVICE", "URI")


def recording_rows(recordings: Sequence[Wire]) -> list[tuple[str, ...]]:
    """RecordingSummary objects as rows under `RECORDING_HEADERS`; dates are local, with their zone."""
    return [
        (
            _date(each["started_wall_ns"]),
            duration(each["n_frames"], each["sample_rate"]),
            size(each["n_bytes"]),
            str(each["n_gaps"]),
            f"{missing}{lost(missing, each['sample_rate'])}",
            each["state"],
            each["device"] or "-",
            each["uri"] + _what_before(each),
        )
        for each in recordings
        for missing in [each["lost_frames"] + each["retired_frames"]]
    ]


REMOTE_HEADERS = ("started", "length", "size", "lost", "state", "recorder", "device", "recording")


def remote_rows(takes: Sequence[Wire]) -> list[tuple[str, ...]]:
    """Takes in an object store as rows under `REMOTE_HEADERS`."""
    return [
        (
            _date(each["started_wall_ns"]),
            duration(each["n_frames"], each["sample_rate"]),
            size(each["n_bytes"]),
            f"{each['lost_frames']}{lost(each['lost_frames'], each['sample_rate'])}",
            each["state"],
            each["recorder"],
            each["device"] or "-",
            each["recording"],
        )
        for each in takes
    ]


def _what_before(recording: Wire) -> str:
    """Which take a take went on from, or came after."""
    before = {
        "continues": "continues {}",
        "follows": "after {}, which did not end cleanly",
        "after_change": "after {}, in another format",
    }
    said = next((text.format(recording[key]) for key, text in before.items() if recording.get(key)), None)
    return f"  ({said})" if said else ""


def mark_lines(recordings: Sequence[Wire]) -> list[str]:
    """The marks of each, by frame."""
    return [
        f"  {duration(mark['frame'], each['sample_rate'])}  {mark['label']}  ({each['uri']}, frame {mark['frame']})"
        for each in recordings
        for mark in sorted(each["marks"], key=lambda mark: mark["frame"])
    ]


def _date(wall_ns: int | None) -> str:
    try:
        return (
            f"{dt.datetime.fromtimestamp((wall_ns or 0) / 1e9).astimezone():%Y-%m-%d %H:%M:%S %Z}" if wall_ns else "-"
        )
    except (ValueError, OverflowError, OSError):
        return "?"


def retired_lines(retired: Sequence[Wire]) -> list[str]:
    """What was retired, or would be, by recording."""
    return [
        f"{each['uri']}: {counted(each['chunks'], 'chunk')}, {counted(each['n_frames'], 'frame')},"
        f" {size(each['n_bytes'])}"
        for each in retired
    ]


_MOST_KEPT = 10


def kept_lines(found: Wire) -> list[str]:
    """What stays although a limit has no room for it, and what to type."""
    kept = found.get("kept", ())
    lines = [line for each in kept[:_MOST_KEPT] for line in (f"  {each['text']}", f"    {each['hint']}")]
    return [*lines, *([f"  and {len(kept) - _MOST_KEPT} more"] if len(kept) > _MOST_KEPT else [])]


def retired_total(retired: Sequence[Wire], *, dry_run: bool) -> str:
    """One line. What a stream that runs retires it deletes itself, soon after the answer."""
    verb = "would delete" if dry_run else "deleting" if any(each["live"] for each in retired) else "deleted"
    n_chunks, n_bytes = (sum(each[name] for each in retired) for name in ("chunks", "n_bytes"))
    return f"{verb} {counted(n_chunks, 'chunk')}, {size(n_bytes)} in all"


def removal_total(removals: Sequence[Removal], *, dry_run: bool) -> str:
    """One line."""
    verb = "would delete" if dry_run else "deleted"
    return f"{verb} {counted(len(removals), 'recording')}, {size(sum(each.n_bytes for each in removals))} in all"


def removal_lines(removals: Sequence[Removal]) -> list[str]:
    """Whole recordings that go."""
    return [
        line
        for each in removals
        for line in (
            f"{each.uri}: {counted(each.n_frames, 'frame')}, {counted(each.n_chunks, 'chunk')}, {size(each.n_bytes)}",
            f"  {each.recording}",
        )
    ]


def size(n_bytes: int) -> str:
    """`1.5 GiB`"""
    amount, unit = float(n_bytes), "B"
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if amount < 1024 or unit == "TiB":
            break
        amount /= 1024
    return f"{amount:.0f} B" if unit == "B" else f"{amount:.1f} {unit}"


def event_line(event: Wire) -> str:
    """`14:03:07.125 stream_gap stream://desk/take first_frame=4800 ...`, in local time."""
    when = dt.datetime.fromtimestamp(event["wall_ns"] / 1e9).astimezone()
    own = [f"{name}={_short(value)}" for name, value in event.items() if name not in (*COMMON_FIELDS, "stream_uri")]
    return " ".join(
        [f"{when:%H:%M:%S}.{when.microsecond // 1000:03}", event["type"], event.get("stream_uri", ""), *own]
    )


def _short(value: Any) -> str:
    if isinstance(value, dict):
        return str(value.get("description") or value.get("message") or value)
    return str(value)


def _mib(n_bytes: int | None) -> str:
    return "?" if n_bytes is None else f"{n_bytes / (1 << 20):.1f} MiB"


def _device_name(device: Wire | str | None) -> str:
    if isinstance(device, Mapping):
        return str(device["description"] or device["name"])
    return device or "-"
