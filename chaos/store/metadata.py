"""The Zarr v3 documents of a recording, made by hand, so that the engine needs no Zarr library.

    zarr.json            the group; attributes: definition, state, clock, software, and what people ask for;
                         with the documents of its arrays (consolidated), so that one read opens all
    audio/               (channel, frame), chunks of (channels, chunk_frames), raw little-endian, fill value 0
    gaps/                (n, 4) int64: first_frame, n_frames, cause, confidence; in order of entry
    clock/               (n, 4) int64: frame, position, monotonic_ns, wall_ns; in order of entry
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from chaos.store.journal import Definition, Finish
from chaos.system.files import make_folders, replace
from chaos.terms.ledger import Cause, ClockAnchor, Confidence, Gap

__all__ = [
    "CLOCK_COLUMNS",
    "GAP_COLUMNS",
    "TABLE_ROWS",
    "Lengths",
    "Row",
    "Table",
    "anchor_row",
    "audio_document",
    "gap_row",
    "group_document",
    "table_chunk",
    "table_document",
]

GAP_COLUMNS = ("first_frame", "n_frames", "cause", "confidence")
CLOCK_COLUMNS = ("frame", "position", "monotonic_ns", "wall_ns")
TABLE_ROWS = 1024

Row = tuple[int, int, int, int]

_DATA_TYPES = {"f32": "float32", "s16": "int16", "s32": "int32"}
_UNITS = {"f32": "1 = full scale", "s16": "32768 = full scale", "s32": "2147483648 = full scale"}


def gap_row(gap: Gap) -> Row:
    return gap.first_frame, gap.n_frames, int(gap.cause), int(gap.confidence)


def anchor_row(anchor: ClockAnchor) -> Row:
    return anchor.frame, anchor.position, anchor.monotonic_ns, anchor.wall_ns


def _document(content: dict[str, Any]) -> bytes:
    return msgspec.json.format(msgspec.json.encode(content), indent=2) + b"\n"


def _array(
    data_type: str, shape: list[int], chunk_shape: list[int], names: list[str], attributes: dict[str, Any]
) -> dict[str, Any]:
    return {
        "zarr_format": 3,
        "node_type": "array",
        "shape": shape,
        "data_type": data_type,
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": chunk_shape}},
        "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
        "fill_value": 0.0 if data_type.startswith("float") else 0,
        "codecs": [{"name": "bytes", "configuration": {"endian": "little"}}],
        "dimension_names": names,
        "attributes": attributes,
    }


def _started_utc(definition: Definition) -> str:
    seconds, rest_ns = divmod(definition.started_wall_ns, 1_000_000_000)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{rest_ns:09d}Z"


class Lengths(NamedTuple):
    """How long the arrays of a recording are: frames of `audio` (None: it has none), rows of the tables."""

    n_frames: int | None
    n_gaps: int
    n_anchors: int


def group_document(definition: Definition, finish: Finish | None, lengths: Lengths) -> bytes:
    """The group's zarr.json, with the arrays' own in it (consolidated), which must not be shorter than these.

    The state is "recording" until there is a finish.
    """
    device = _device_name(definition)
    attributes: dict[str, Any] = {
        "title": f"{definition.uri}, {device}" if device else definition.uri,
        "software": definition.software,
        "state": "finished" if finish else "recording",
        "uri": definition.uri,
        "device": device,
        "started_utc": _started_utc(definition),
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
    arrays = {"gaps": _table("gaps", lengths.n_gaps), "clock": _table("clock", lengths.n_anchors)}
    if lengths.n_frames is not None:
        arrays["audio"] = _audio(definition, lengths.n_frames)
    return _document(
        {
            "zarr_format": 3,
            "node_type": "group",
            "attributes": attributes,
            "consolidated_metadata": {"kind": "inline", "must_understand": False, "metadata": arrays},
        }
    )


def audio_document(definition: Definition, n_frames: int) -> bytes:
    """The zarr.json of `audio` while it holds `n_frames` frames."""
    return _document(_audio(definition, n_frames))


def table_document(name: str, n_rows: int) -> bytes:
    """The zarr.json of `gaps` or `clock` while it holds `n_rows` rows."""
    return _document(_table(name, n_rows))


def _device_name(definition: Definition) -> str | None:
    return definition.device.get("description") or definition.device.get("name")


def _audio(definition: Definition, n_frames: int) -> dict[str, Any]:
    attributes = {
        "long_name": "audio samples",
        "units": _UNITS[definition.sample_format],
        "sample_rate": definition.sample_rate,
        "sample_rate_units": "Hz",
        "sample_format": definition.sample_format,
        "positions": definition.positions,
        "started_utc": _started_utc(definition),
        "device": _device_name(definition),
    }
    return _array(
        _DATA_TYPES[definition.sample_format],
        [definition.channels, n_frames],
        [definition.channels, definition.chunk_frames],
        ["channel", "frame"],
        attributes,
    )


def _table(name: str, n_rows: int) -> dict[str, Any]:
    attributes: dict[str, Any]
    if name == "gaps":
        attributes = {
            "long_name": "frames that are not there; they read as zeros in audio",
            "columns": GAP_COLUMNS,
            "causes": {str(int(cause)): cause.label for cause in Cause},
            "confidences": {str(int(confidence)): confidence.label for confidence in Confidence},
        }
        names = ["gap", "gap_column"]
    else:
        attributes = {
            "long_name": "moments on all clocks",
            "columns": CLOCK_COLUMNS,
            "column_units": ["frames", "frames of the graph", "ns (CLOCK_MONOTONIC)", "ns (1970-01-01 UTC)"],
        }
        names = ["anchor", "clock_column"]
    return _array("int64", [n_rows, 4], [TABLE_ROWS, 4], names, attributes)


def table_chunk(rows: Sequence[Row]) -> bytes:
    """One chunk file of a table: at most TABLE_ROWS rows, the rest zeros."""
    numbers = [number for row in rows for number in row]
    return struct.pack(f"<{len(numbers)}q", *numbers).ljust(TABLE_ROWS * 32, b"\0")


class Table:
    """The rows of `gaps` or `clock`, and how much of them is on disk. Holds those of the last chunk only."""

    def __init__(self) -> None:
        self._rows: list[Row] = []
        self._first_row = 0
        self._stored = (-1, False)

    @property
    def n_rows(self) -> int:
        return self._first_row + len(self._rows)

    @property
    def n_stored(self) -> int:
        """How many of the rows `store` has brought to disk."""
        return max(0, self._stored[0])

    def append(self, row: Row) -> None:
        self._rows.append(row)

    def store(self, folder: Path, *, durable: bool = True) -> None:
        """Brings the array in this folder up to date, if it isn't; raises OSError and may be called again.

        What is not `durable` a later call that is makes so.

        Chunks are replaced first, then the shape, so that a reader sees only rows that are there.
        """
        n_rows = self.n_rows
        if self._stored in ((n_rows, True), (n_rows, durable)):
            return
        make_folders(folder / "c")
        for first in range(0, len(self._rows), TABLE_ROWS):
            chunk = folder / "c" / str((self._first_row + first) // TABLE_ROWS)
            make_folders(chunk)
            rows = self._rows[first : first + TABLE_ROWS]
            replace(chunk / "0", table_chunk(rows), durable=durable or len(rows) == TABLE_ROWS)
        replace(folder / "zarr.json", table_document(folder.name, n_rows), durable=durable)
        self._stored = n_rows, durable
        kept = n_rows - n_rows % TABLE_ROWS
        del self._rows[: kept - self._first_row]
        self._first_row = kept
