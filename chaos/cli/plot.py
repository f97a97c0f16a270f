"""chaosctl's commands that show what a recording is like: show, plot."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from chaos.cli.lines import columns_of
from chaos.cli.numbers import WholeNumber
from chaos.cli.out import say
from chaos.cli.session import Session, chosen_range, ended_by_signals, json_option, print_json, range_options
from chaos.terms.errors import PathNotAllowed

if TYPE_CHECKING:
    from collections.abc import Iterator

    from chaos.read.overview import Overview
    from chaos.read.recording import Recording

__all__ = ["COMMANDS"]

_PICTURE_POINTS = 2000
_PIPED_COLUMNS = 100


@click.command()
@click.argument("what", metavar="URI|PATH")
@range_options
@click.option("--points", type=WholeNumber(1, 1_000_000), metavar="N", help="Columns (default: as many as fit).")
@json_option
@click.pass_obj
def show(
    session: Session, what: str, last: str | None, first: str | None, end: str | None, points: int | None, as_json: bool
) -> None:
    """Draw a recording in the terminal: its waveform, or how many events a MIDI take has.

    Gaps are drawn as such, never as silence, and listed with their cause; marks stand below. It reads the recording's
    overview, so a long one takes no longer. With --json all numbers: per column the lowest and highest sample, the
    RMS, and how many frames are missing.
    """
    columns = columns_of() if sys.stdout.isatty() else _PIPED_COLUMNS
    with _stretch(session, what, last, first, end) as (recording, begin, stop):
        found = recording.overview(begin, stop, points or columns)
        if as_json:
            print_json(_numbers(recording, found))
            return
        from chaos.cli.waveform import overview_lines

        device = recording.definition.device_name
        say(f"{recording.uri}{f', {device}' if device else ''}, {recording.sample_rate} Hz, {recording.state}")
        is_plain = not (sys.stdout.encoding or "").lower().replace("-", "").startswith("utf")
        say(*overview_lines(found, recording.definition.positions, columns, is_plain=is_plain))


@click.command()
@click.argument("what", metavar="URI|PATH")
@click.argument("out", type=click.Path(path_type=Path, dir_okay=False))
@range_options
@click.option("--spectrogram", is_flag=True, help="Also draw each channel's spectrogram.")
@click.option("--force", is_flag=True, help="Replace OUT if it exists.")
@json_option
@click.pass_obj
def plot(
    session: Session,
    what: str,
    out: Path,
    last: str | None,
    first: str | None,
    end: str | None,
    spectrogram: bool,
    force: bool,
    as_json: bool,
) -> None:
    """Draw a recording as a picture: OUT is a .png, .svg or .pdf file. Needs matplotlib: pip install 'chaosd[plot]'

    A waveform for each channel: lowest and highest sample, and the RMS in a darker colour; of a MIDI take a bar for
    each note. Gaps are coloured by their cause, marks are green lines. With --json what was drawn is also printed.
    """
    from chaos.cli.picture import check_ending, draw, load_library
    from chaos.store.places import check_not_of_store
    from chaos.store.store import Store

    check_ending(out)
    if out.exists() and not force:
        raise PathNotAllowed(f"{out} exists already", hint="use another name, or --force to replace it")
    if not out.absolute().parent.is_dir():
        raise PathNotAllowed(f"there is no folder {out.absolute().parent}", hint="make it first")
    load_library()
    check_not_of_store(Store(session.store_folder()), out.absolute())
    with _stretch(session, what, last, first, end) as (recording, begin, stop):
        found = recording.overview(begin, stop, _PICTURE_POINTS)
        draw(recording, found, out, spectrogram=spectrogram)
        if as_json:
            print_json({"path": str(out.absolute()), **_numbers(recording, found)})
        else:
            say(f"{out}: frames {begin} to {stop} of {recording.uri}")


@contextmanager
def _stretch(
    session: Session, what: str, last: str | None, first: str | None, end: str | None
) -> Iterator[tuple[Recording, int, int]]:
    """The recording and its frames [first, end) that are meant. Raises what `chaos.open`, `chosen_range` and
    `checked_range` do."""
    from chaos.export.source import checked_range, first_kept
    from chaos.read.recording import open as open_recording
    from chaos.read.recovered import waits_for_recovery
    from chaos.terms.places import Timeline

    with ended_by_signals(), open_recording(what, session.store_folder()) as recording:
        n_frames = recording.n_frames
        begin, stop, _ = chosen_range(last, first, end, Timeline(n_frames, recording.frame_of, recording.moment_of))
        if begin is None:
            begin = min(first_kept(recording.gaps), n_frames)
        if stop is None and waits_for_recovery(recording):
            say(f"{recording.uri} is not recovered yet, so its last frames are missing: chaosctl recover", err=True)
        stop = n_frames if stop is None else stop
        yield recording, *checked_range(recording, begin, max(0, stop - begin))


def _numbers(recording: Recording, found: Overview) -> dict[str, Any]:
    """An overview as JSON: null where nothing is there."""
    from chaos.cli.waveform import cause_label

    def rows(values: Any) -> list[list[float | None]]:
        return [[None if value != value else value for value in row] for row in values.tolist()]

    signal: dict[str, Any] = {"min": rows(found.min), "max": rows(found.max), "rms": rows(found.rms)}
    if found.n_events is not None:
        signal = {"n_events": found.n_events.tolist()}
    return {
        "uri": recording.uri,
        "sample_rate": found.sample_rate,
        "edges": found.edges.tolist(),
        **signal,
        "missing_frames": found.missing.tolist(),
        "causes": [cause_label(cause) for cause in found.cause.tolist()],
        "gaps": [gap.to_wire() for gap in found.gaps],
        "marks": [{"frame": mark.frame, "label": mark.label} for mark in found.marks],
    }


COMMANDS = (show, plot)
