"""A recording as a picture, by matplotlib (`chaosd[plot]`), which is loaded where one is made."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

from chaos.terms.errors import FormatUnsupported, InvalidRequest
from chaos.terms.ledger import Cause

if TYPE_CHECKING:
    from chaos.read.overview import Overview
    from chaos.read.recording import Recording

__all__ = ["ENDINGS", "check_ending", "draw", "load_library"]

ENDINGS = (".png", ".svg", ".pdf")
_COLOURS = {
    Cause.MISSED: "tab:orange", Cause.HARDWARE_XRUN: "tab:brown", Cause.OVERRUN: "tab:red",
    Cause.DEVICE_AWAY: "tab:purple", Cause.DRIVER_SWITCH: "tab:olive", Cause.ENGINE_DOWN: "black",
    Cause.NO_DATA: "tab:pink", Cause.RETIRED: "tab:gray", Cause.FOREIGN: "tab:cyan", Cause.MIDI_OVERFLOW: "tab:red",
    Cause.CLOCK_JUMP: "tab:green",
}  # fmt: skip
_MOST_CHANNELS = 16
_MOST_NOTES = 20_000
_MOST_LABELS = 30
_WINDOW = 2048
_COLUMNS = 1000
_FLOOR_DB = -120.0


def check_ending(out: Path) -> None:
    """Raises FormatUnsupported for a picture of no kind that is made."""
    if out.suffix.lower() not in ENDINGS:
        raise FormatUnsupported(f"{out.name}: not a kind of picture", hint=f"use one of {', '.join(ENDINGS)}")


def load_library() -> Any:
    """matplotlib's Figure. Raises InvalidRequest where it is not there."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise InvalidRequest(
            "plot needs the Python library matplotlib", hint="install it with: pip install 'chaosd[plot]'"
        ) from None
    return Figure


def draw(recording: Recording, found: Overview, out: Path, *, spectrogram: bool) -> None:
    """Writes the picture of an overview. Raises OSError, and what reading raises."""
    figure_of = load_library()
    if found.n_events is not None:
        figure = figure_of(figsize=(14, 4.5), layout="constrained")
        rows = [figure.subplots()]
        _draw_notes(rows[0], recording, found)
    else:
        n = min(recording.channels, _MOST_CHANNELS)
        figure = figure_of(figsize=(14, max(3.0, min(20.0, 2.2 * n * (2 if spectrogram else 1)))), layout="constrained")
        rows = figure.subplots(n * (2 if spectrogram else 1), 1, sharex=True, squeeze=False)[:, 0]
        for channel in range(n):
            _draw_wave(rows[channel * (2 if spectrogram else 1)], recording, found, channel)
            if spectrogram:
                _draw_spectrum(rows[2 * channel + 1], recording, found, channel)
    figure.suptitle(_title(recording, found), fontsize=10)
    _frame(rows, found)
    options = {"metadata": {"Date": None}} if out.suffix.lower() == ".svg" else {}
    figure.savefig(out, dpi=110, **options)


def _seconds(found: Overview, frames: Any) -> Any:
    return frames / found.sample_rate


def _title(recording: Recording, found: Overview) -> str:
    first = int(found.edges[0])
    device = recording.definition.device_name or ""
    began = f"{recording.moment_of(first):%Y-%m-%d %H:%M:%S} UTC"
    return f"{_plain(recording.uri)}   {_plain(device)}\nfrom frame {first} on, {began}"


def _frame(axes: Sequence[Any], found: Overview) -> None:
    """Gaps, marks, legend: what all pictures have."""
    first, last = int(found.edges[0]), int(found.edges[-1])
    for axis in axes:
        seen = _draw_gaps(axis, found)
        for number, mark in enumerate(found.marks):
            at = _seconds(found, mark.frame - first)
            axis.axvline(at, color="tab:green", linewidth=1)
            if axis is axes[0] and number < _MOST_LABELS:
                axis.annotate(_plain(mark.label), (at, 1), xycoords=("data", "axes fraction"), fontsize=8,
                              color="tab:green", rotation=30, annotation_clip=False)  # fmt: skip
        if last > first:
            axis.set_xlim(0, _seconds(found, last - first))
        if seen and axis is axes[0]:
            axis.legend(loc="upper right", fontsize=8)
    axes[-1].set_xlabel("seconds")


def _plain(text: str) -> str:
    """Dollar signs would begin a formula."""
    return text.replace("$", r"\$")


def _draw_gaps(axis: Any, found: Overview) -> set[int]:
    """Runs of points in which something is missing, by cause: a short gap is as wide as a point."""
    first, at, seen = int(found.edges[0]), 0, set[int]()
    for cause, run in groupby(found.cause.tolist()):
        n = len(list(run))
        if cause:
            label = None if cause in seen else Cause(cause).label.replace("_", " ")
            seen.add(cause)
            begin, end = (_seconds(found, int(found.edges[k]) - first) for k in (at, at + n))
            axis.axvspan(begin, end, color=_COLOURS.get(Cause(cause), "tab:red"), alpha=0.3, label=label, linewidth=1)
        at += n
    return seen


def _draw_wave(axis: Any, recording: Recording, found: Overview, channel: int) -> None:
    import numpy as np

    edges = _seconds(found, found.edges - found.edges[0])

    def steps(values: Any) -> Any:
        return np.append(values, values[-1:])

    low, high, rms = (each[channel] for each in (found.min, found.max, found.rms))
    axis.fill_between(edges, steps(low), steps(high), step="post", color="tab:blue", alpha=0.45, linewidth=0.3)
    axis.fill_between(edges, steps(-rms), steps(rms), step="post", color="tab:blue", linewidth=0)
    finite = np.abs(np.concatenate([low, high]))
    peak = float(np.nanmax(finite)) if np.isfinite(finite).any() else 0.0
    top = max(peak * 1.05, 1e-4)
    axis.set_ylim(-top, top)
    names = recording.definition.positions
    axis.set_ylabel(_plain(names[channel]) if channel < len(names) else f"channel {channel + 1}")
    axis.grid(alpha=0.3)


def _draw_spectrum(axis: Any, recording: Recording, found: Overview, channel: int) -> None:
    """A column is the spectrum of one window of samples at its place; where frames are missing there is none."""
    import numpy as np

    first, last = int(found.edges[0]), int(found.edges[-1])
    size = min(_WINDOW, last - first)
    if size < 16:
        return
    starts = np.linspace(first, last - size, min(_COLUMNS, max(1, (last - first) * 2 // size))).astype(np.int64)
    shape, scale = np.hanning(size), 1.0 if recording.dtype.kind == "f" else 2.0 ** (8 * recording.dtype.itemsize - 1)
    columns = np.full((size // 2 + 1, len(starts)), np.nan)
    for k, start in enumerate(starts.tolist()):
        if not recording.gaps_between(start, start + size):
            samples = np.nan_to_num(recording.read(start, start + size)[channel] / scale)
            power = np.abs(np.fft.rfft(samples * shape)) / (shape.sum() / 2)
            columns[:, k] = 20 * np.log10(np.maximum(power, 10 ** (_FLOOR_DB / 20)))
    extent = (0, _seconds(found, last - first), 0, found.sample_rate / 2000)
    image = axis.imshow(columns, origin="lower", aspect="auto", extent=extent, vmin=_FLOOR_DB, vmax=0, cmap="magma",
                        interpolation="nearest")  # fmt: skip
    axis.set_ylabel("kHz")
    axis.figure.colorbar(image, ax=axis, label="dBFS", pad=0.01)


def _draw_notes(axis: Any, recording: Recording, found: Overview) -> None:
    """A bar for each note; where there are too many, how many events there were."""
    import numpy as np

    assert found.n_events is not None
    first, last = int(found.edges[0]), int(found.edges[-1])
    if found.n_events.sum() <= _MOST_NOTES and (bars := _bars(recording, first, last)):
        starts = [(begin - first) / found.sample_rate for begin, _, _ in bars]
        lengths = [max(end - begin, 1) / found.sample_rate for begin, end, _ in bars]
        axis.barh([note for _, _, note in bars], lengths, left=starts, height=0.8)
        axis.set_ylabel("note (60: middle C)")
        axis.grid(alpha=0.3)
        return
    counts = np.append(found.n_events, found.n_events[-1:])
    axis.fill_between(_seconds(found, found.edges - first), counts, step="post")
    axis.set_ylabel("events")
    axis.set_ylim(0, max(1, int(counts.max(initial=0))) * 1.05)


def _bars(recording: Recording, first: int, last: int) -> list[tuple[int, int, int]]:
    """Notes as (first frame, end, number); one that is never released ends with the stretch."""
    on: dict[tuple[int | None, int | None, int], int] = {}
    bars = []
    for message in recording.messages(first, last):
        if message.type not in ("note_on", "note_off"):
            continue
        number = message.data[1] if len(message.data) == 3 else message.data[2]
        key = message.group, message.channel, number
        is_off = message.type == "note_off" or (len(message.data) == 3 and not message.data[2])
        if (begun := on.pop(key, None)) is not None:
            bars.append((begun, message.frame, number))
        if not is_off:
            on[key] = message.frame
    return [*bars, *((begun, last, key[2]) for key, begun in on.items())]
