"""A session of audio and MIDI as tables: how loud it was after each note that was played.

    pip install "chaosd[xarray]"
    chaosctl session start jam --audio "Scarlett" --midi "Keystation" ... chaosctl session stop jam
    python session_tables.py jam

Frames of both count on the graph's clock where one driver ran both; `session_status` says by which they are related.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pandas as pd
import xarray as xr

import chaos


def notes_of(recording: chaos.Recording) -> pd.DataFrame:
    """A row for each note on: its frame, note and velocity."""
    found = [
        (message.frame, message.data[1], message.data[2], message.channel)
        for message in recording.messages()
        if message.type == "note_on" and message.data[2] > 0
    ]
    return pd.DataFrame(found, columns=["frame", "note", "velocity", "channel"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("session")
    parser.add_argument("--store", type=Path)
    parser.add_argument("--after", type=float, default=0.05, help="how many seconds after each note to look at")
    options = parser.parse_args()
    store = options.store or Path("~/.local/share/chaos").expanduser()
    names = sorted((store / "recordings").glob(f"*/{options.session}.zarr"))
    recordings = [chaos.open(path) for path in names]
    audio = next(each for each in recordings if each.definition.sample_format != "midi")
    midi = next(each for each in recordings if each.definition.sample_format == "midi")

    notes = notes_of(midi)
    shift = midi.anchors[0].position - audio.anchors[0].position  # of the graph's clock, to the frame
    notes["frame"] += shift
    notes["utc"] = [audio.moment_of(frame) for frame in notes["frame"]]

    sound = xr.open_zarr(audio.path).audio  # (channel, frame) in chunks of dask: nothing is read yet
    n_after = round(options.after * audio.sample_rate)
    peaks = [float(abs(sound[:, frame : frame + n_after]).max()) for frame in notes["frame"]]
    with np.errstate(divide="ignore"):
        notes["peak_dbfs"] = 20 * np.log10(peaks)
    missing = [bool(audio.gaps_between(frame, frame + n_after)) for frame in notes["frame"]]
    notes["missing"] = missing  # whether frames are missing there: they read as zeros in the array

    print(notes.to_string(index=False))
    notes.to_csv(f"{options.session}.csv", index=False)


if __name__ == "__main__":
    main()
