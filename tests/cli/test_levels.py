"""The levels that `top` shows: out of the slots of a running stream, without a word to its engine."""

from __future__ import annotations

from contextlib import closing
from typing import Any

import numpy as np
import pytest
from crashing import CrashingStream, fast_folder

from chaos.cli.levels import Levels

OLD: dict[str, Any] = {"head_frame": 1, "levels": [{"peak_dbfs": -1.0}, {"peak_dbfs": -2.0}]}


def told(recording: object, **more: Any) -> dict[str, Any]:
    """What the engine said of it some time ago."""
    return {"recording": str(recording), "state": "streaming", "format": {"type": "audio"}, **OLD, **more}


@pytest.mark.parametrize("sample_format", ["f32", "s16", "s32"])
def test_they_are_those_of_what_lies_in_the_slots_now(sample_format: str) -> None:
    with fast_folder() as folder, closing(Levels()) as levels:
        (folder / "slots").mkdir(mode=0o700)
        stream = CrashingStream(folder / "store", folder / "slots", chunk_frames=256, sample_format=sample_format)
        stream.write(8)
        stream.tick()  # which makes the recording
        for n_frames in (48, 88):  # the same opened recording sees what has come meanwhile
            stream.write(40)
            now = levels.of(told(stream.recording))
            assert now["head_frame"] == n_frames
            full_scale = 1.0 if sample_format == "f32" else 2.0 ** (int(sample_format[1:]) - 1)
            for channel, each in zip(stream.model, now["levels"], strict=True):
                peak = np.abs(channel.astype("f8")).max() / full_scale
                assert each["peak_dbfs"] == pytest.approx(20 * np.log10(peak), abs=0.01)
        assert not stream.told("stream_chunk_sealed"), "nothing of it was on the disk"
        stream.stop()


def test_what_cannot_be_read_is_as_the_engine_told_it() -> None:
    with fast_folder() as folder, closing(Levels()) as levels:
        for stream in (
            told(folder / "store/recordings/away/1.zarr"),
            told(""),
            told(folder, state="standby"),
            told(folder, format={"type": "midi"}),
        ):
            assert levels.of(stream) == stream
