"""The Zarr v3 documents of a recording, made by hand so that the engine needs no Zarr library.

    zarr.json            the group; attributes: definition, state, clock, software, and what people ask for;
                         with the documents of its arrays (consolidated), so that one read opens all
    audio/               (channel, frame), chunks of (channels, chunk_frames), raw little-endian, fill value 0
    events/              of a MIDI recording, in place of audio: a group of arrays; see `chaos.store.events`
    overview/            of audio: a group of arrays, one per level; see `chaos.store.overview`
    gaps/                (n, GAP_COLUMNS) int64, a row per gap; in order of entry
    clock/               (n, CLOCK_COLUMNS) int64, a row per clock anchor; in order of entry
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec

from chaos.store.events import COLUMNS
from chaos.store.levels import FILE_BLOCKS, N_VALUES, VALUES, block_frames, level_lengths
from chaos.store.lines import Definition, Finish
from chaos.terms.form import AudioForm, MidiForm
from chaos.terms.formats import SAMPLES
from chaos.terms.ledger import CLOCK_COLUMNS, FIRST_CLOCK_COLUMNS, GAP_COLUMNS, Cause, ClockState, Confidence, Row
from chaos.terms.moments import utc_text

__all__ = [
    "TABLE_ROWS",
    "Lengths",
    "clock_columns",
    "columns_like",
    "form_documents",
    "group_document",
    "table_chunk",
    "table_document",
    "table_rows",
]

TABLE_ROWS = 1024
_VERSIONS = {"gaps": (GAP_COLUMNS,), "clock": (CLOCK_COLUMNS, FIRST_CLOCK_COLUMNS)}
_CLOCK_UNITS = {
    "frame": "frames",
    "position": "frames of the graph",
    "monotonic_ns": "ns (CLOCK_MONOTONIC)",
    "wall_ns": "ns (1970-01-01 UTC)",
    "max_error_ns": "ns; -1: not known",
    "est_error_ns": "ns; -1: not known",
    "clock_state": "see clock_states",
    "step_ns": "ns that the wall clock was set by, since the row before",
}


def _document(content: dict[str, Any]) -> bytes:
    return msgspec.json.format(msgspec.json.encode(content), indent=2) + b"\n"


def _array(
    data_type: str,
    shape: list[int],
    chunk_shape: list[int],
    names: list[str],
    attributes: dict[str, Any],
    *,
    separator: str = "/",
    fill_value: Any = None,
) -> dict[str, Any]:
    return {
        "zarr_format": 3,
        "node_type": "array",
        "shape": shape,
        "data_type": data_type,
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": chunk_shape}},
        "chunk_key_encoding": {"name": "default", "configuration": {"separator": separator}},
        "fill_value": (0.0 if data_type.startswith("float") else 0) if fill_value is None else fill_value,
        "codecs": [{"name": "bytes", "configuration": {"endian": "little"}}],
        "dimension_names": names,
        "attributes": attributes,
    }


class Lengths(NamedTuple):
    """How long a recording's arrays are: frames of those that hold its form, rows of the tables, events and their bytes
    of MIDI. `is_whole`: the overview has all of it, and not only what fills a file."""

    n_frames: int
    n_gaps: int
    n_anchors: int
    n_events: int = 0
    n_event_bytes: int = 0
    is_whole: bool = False


def group_document(definition: Definition, finish: Finish | None, lengths: Lengths) -> bytes:
    """The group's zarr.json, with the arrays' own in it (consolidated), which must not be shorter than these.

    The state is "recording" until there is a finish.
    """
    device, lengths = definition.device_name, lengths._replace(is_whole=finish is not None)
    attributes: dict[str, Any] = {
        "title": f"{definition.uri}, {device}" if device else definition.uri,
        "software": definition.software,
        "state": "finished" if finish else "recording",
        "uri": definition.uri,
        "device": device,
        "started_utc": utc_text(definition.started_wall_ns),
        "sample_rate": definition.sample_rate,
        "sample_rate_units": "Hz",
        "n_frames": finish.n_frames if finish else None,
        "clean": finish.clean if finish else None,
        "clock": {
            "started_wall_ns": definition.started_wall_ns,
            "started_monotonic_ns": definition.started_monotonic_ns,
            "frames_per_second": definition.sample_rate,
        },
        "definition": msgspec.to_builtins(definition),
    }
    arrays = {
        "gaps": _table("gaps", lengths.n_gaps, GAP_COLUMNS),
        "clock": _table("clock", lengths.n_anchors, clock_columns(definition)),
        **_form(definition, lengths),
    }
    return _document(
        {
            "zarr_format": 3,
            "node_type": "group",
            "attributes": attributes,
            "consolidated_metadata": {"kind": "inline", "must_understand": False, "metadata": arrays},
        }
    )


def form_documents(definition: Definition, lengths: Lengths) -> dict[str, bytes]:
    """The zarr.json of each array (and group) that holds the recording's form, by name, while it is so long; none of an
    external recording."""
    return {name: _document(array) for name, array in _form(definition, lengths).items()}


def clock_columns(definition: Definition) -> Sequence[str]:
    """The columns of this recording's `clock`."""
    return CLOCK_COLUMNS if definition.clock_errors else FIRST_CLOCK_COLUMNS


def columns_like(name: str, n_columns: int) -> Sequence[str] | None:
    """The columns of a `gaps` or `clock` of this width, of any version of this program; None if there are none such."""
    return next((columns for columns in _VERSIONS[name] if len(columns) == n_columns), None)


def table_document(name: str, n_rows: int, columns: Sequence[str]) -> bytes:
    """The zarr.json of `gaps` or `clock` while it holds `n_rows` rows."""
    return _document(_table(name, n_rows, columns))


def _form(definition: Definition, lengths: Lengths) -> dict[str, dict[str, Any]]:
    if definition.external:
        return {}
    form = definition.form
    if isinstance(form, AudioForm):
        return {"audio": _audio(definition, lengths.n_frames, form), **_overview(definition, lengths)}
    return _events(form, lengths)


def _events(form: MidiForm, lengths: Lengths) -> dict[str, dict[str, Any]]:
    n_chunks = -(-lengths.n_frames // form.chunk_frames)
    attributes = {
        "long_name": "sealed chunks, one behind the other, as they are hashed: records, then zeros",
        "chunk_frames": form.chunk_frames,
        "chunk_bytes": form.chunk_bytes,
    }
    raw = _array("uint8", [n_chunks * form.chunk_bytes], [form.chunk_bytes], ["raw_byte"], attributes)
    group = {"zarr_format": 3, "node_type": "group", "attributes": {"long_name": "MIDI events"}}
    arrays = {"events": group, "events/raw": raw}
    for name, column in COLUMNS.items():
        length = lengths.n_event_bytes if name == "bytes" else lengths.n_events
        told = {"long_name": column.long_name}
        arrays[f"events/{name}"] = _array(column.data_type, [length], [column.n_items], [column.dimension], told)
    return arrays


def _audio(definition: Definition, n_frames: int, form: AudioForm) -> dict[str, Any]:
    attributes = {
        "long_name": "audio samples",
        "units": f"{SAMPLES[form.sample_format].full_scale} = full scale",
        "sample_rate": definition.sample_rate,
        "sample_rate_units": "Hz",
        "sample_format": definition.sample_format,
        "positions": definition.positions,
        "started_utc": utc_text(definition.started_wall_ns),
        "device": definition.device_name,
    }
    return _array(
        SAMPLES[form.sample_format].data_type,
        [definition.channels, n_frames],
        [definition.channels, definition.chunk_frames],
        ["channel", "frame"],
        attributes,
    )


def _overview(definition: Definition, lengths: Lengths) -> dict[str, dict[str, Any]]:
    if not definition.overview:
        return {}
    group = {
        "zarr_format": 3,
        "node_type": "group",
        "attributes": {"long_name": "what the samples are like, block by block", "values": VALUES},
    }
    arrays = {"overview": group}
    for level, n_blocks in enumerate(level_lengths(lengths.n_frames, is_whole=lengths.is_whole)):
        told = {
            "long_name": f"blocks of {block_frames(level)} frames",
            "units": "1.0 = full scale",
            "values": VALUES,
            "block_frames": block_frames(level),
        }
        arrays[f"overview/{level}"] = _array(
            "float32",
            [definition.channels, n_blocks, N_VALUES],
            [definition.channels, FILE_BLOCKS, N_VALUES],
            ["channel", f"block_{level}", "value"],
            told,
            separator=".",
            fill_value="NaN",
        )
    return arrays


def _table(name: str, n_rows: int, columns: Sequence[str]) -> dict[str, Any]:
    attributes: dict[str, Any]
    if name == "gaps":
        attributes = {
            "long_name": "frames that are not there; they read as zeros in audio",
            "columns": columns,
            "causes": {str(int(cause)): cause.label for cause in Cause},
            "confidences": {str(int(confidence)): confidence.label for confidence in Confidence},
        }
        names = ["gap", "gap_column"]
    else:
        attributes = {
            "long_name": "moments on all clocks",
            "columns": columns,
            "column_units": [_CLOCK_UNITS[column] for column in columns],
        }
        if "clock_state" in columns:
            attributes["clock_states"] = {str(int(state)): state.label for state in ClockState}
        names = ["anchor", "clock_column"]
    n_columns = len(columns)
    return _array("int64", [n_rows, n_columns], [TABLE_ROWS, n_columns], names, attributes)


def table_chunk(columns: Sequence[str], rows: Sequence[Row]) -> bytes:
    """One chunk file of `gaps` or `clock`: at most TABLE_ROWS rows, the rest zeros."""
    form = struct.Struct(f"<{len(columns)}q")
    return b"".join(form.pack(*row) for row in rows).ljust(TABLE_ROWS * form.size, b"\0")


def table_rows(columns: Sequence[str], chunk: bytes) -> list[Row]:
    """All rows of a chunk file of `gaps` or `clock`, those behind the table's end too. ValueError if it has
    another size."""
    form = struct.Struct(f"<{len(columns)}q")
    if len(chunk) != TABLE_ROWS * form.size:
        raise ValueError("not a whole chunk of a table")
    return list(form.iter_unpack(chunk))
