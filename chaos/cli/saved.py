"""How chaosctl shows what a `save` has written, and what of it is not exact."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from chaos.cli.show import dbfs, duration, lost
from chaos.cli.verdict import told_once
from chaos.terms.counting import counted

if TYPE_CHECKING:
    from chaos.export.report import SaveReport
    from chaos.terms.latency import Latency

__all__ = ["saved_lines"]


def saved_lines(reports: Sequence[SaveReport]) -> list[str]:
    """The reports of a `save`: a line for each file, and one more where it is not exact."""
    lines = []
    for report in reports:
        length = duration(report.n_written, report.sample_rate)
        if report.midi is not None:
            lines += _saved_midi(report, length) + _beside(report)
            continue
        lines.append(
            f"{report.path}: {length}, {report.container} {report.subtype}, {report.channels} ch"
            f" {report.sample_rate} Hz, {counted(len(report.gaps), 'gap')}, {_missing(report)}"
        )
        if report.retired_frames:
            lines.append(f"  {report.retired_frames} of the missing frames were retired")
        lines += _beside(report) + _damaged(report)
        if report.max_error is None:
            lines.append(f"  not exact: {report.subtype} is a lossy codec")
        elif not report.is_exact and report.max_error:
            error = f"{dbfs(20 * math.log10(report.max_error))} dBFS"
            lines.append(
                f"  not exact: converted to {report.subtype}, largest error {error},"
                f" {counted(report.clipped, 'sample')} clipped"
            )
    if reports[0].aligned_by:
        place = f", from frame {reports[0].first_frame}" if not reports[0].frames_before else ""
        lines.append(f"aligned by the {reports[0].aligned_by.replace('_', ' ')}{place}")
        lines += _latency_lines(reports)
    return lines


def _beside(report: SaveReport) -> list[str]:
    """What a session's file has of the time when its stream was not recorded."""
    before, after = (duration(n, report.sample_rate) for n in (report.frames_before, report.frames_after))
    lines = []
    if report.frames_before:
        lines.append(f"  began {before} ({report.frames_before} frames) after the session: silence there")
    if report.frames_after:
        lines.append(f"  ended {after} ({report.frames_after} frames) before the session: silence there")
    return lines


def _latency_lines(reports: Sequence[SaveReport]) -> list[str]:
    """How late the devices say that their ports are, where that could matter: a line for each, or none."""
    told = {report.uri: report.latency for report in reports if report.latency is not None}
    if not any(each.is_late for each in told.values()):
        return []
    late = (f"  {uri}: {_latency(latency)}" for uri, latency in told.items())
    which = "its latest port, or of an interleaved capture the one that PipeWire tells of"
    return [f"how late each device says that it is: {which} (the files were not moved by that):", *late]


def _latency(latency: Latency) -> str:
    """`1 quantum + 12 frames`."""
    quanta = "1 quantum" if latency.quanta == 1 else f"{latency.quanta:g} quanta" if latency.quanta else ""
    frames = counted(latency.frames, "frame") if latency.frames else ""
    ms = f"{latency.ns / 1e6:g} ms" if latency.ns else ""
    return " + ".join(filter(None, (quanta, frames, ms))) or "not at all"


def _missing(report: SaveReport) -> str:
    n_frames = report.missing_frames
    return f"{counted(n_frames, 'frame')} missing{lost(n_frames, report.sample_rate)}"


def _damaged(report: SaveReport) -> list[str]:
    return told_once(
        (
            {"reason": damage.reason, "expected": damage.expected, "found": damage.found},
            f"  DAMAGED: chunk {damage.chunk} of {damage.take} ({damage.reason}), frames {damage.first_frame} to"
            f" {damage.first_frame + damage.n_frames}",
        )
        for damage in report.damaged
    )


def _saved_midi(report: SaveReport, length: str) -> list[str]:
    """What a MIDI file has, and what of the recording it can't say."""
    midi = report.midi
    assert midi is not None
    what = "packet" if report.container == "midi2" else "event"
    lines = [
        f"{report.path}: {length}, {report.container} {report.subtype}, {counted(midi.n_events, what)},"
        f" {counted(len(report.gaps), 'gap')}, {_missing(report)}"
    ]
    lines += _damaged(report)
    if midi.max_shift_frames:
        lines.append(f"  not exact: events go to the nearest tick, at most {midi.max_shift_frames:.1f} frames away")
    if midi.drift_ppm:
        lines.append(f"  not exact: its seconds are off by {midi.drift_ppm:.1f} ppm; ticks are frames all the same")
    if midi.rounded:
        lines.append(f"  MIDI 1 says less than these did; the packets stand beside them: {_messages(midi.rounded)}")
    if midi.set_aside:
        place = "left out: a clip has no place for them" if report.container == "midi2" else "kept as meta events"
        lines.append(f"  {_messages(midi.set_aside)} {place}")
    return lines


def _messages(counts: Mapping[str, int]) -> str:
    """`5 active-sensing messages, 1 clock message`"""
    return ", ".join(counted(n, f"{name.replace('_', '-')} message") for name, n in sorted(counts.items()))
