"""A capture in Python: what it is asked for is checked before anything is read. What it reads is in tests/live."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from unittest import mock

import pytest

import chaos
from chaos.graph.deviceinfo import other_kind
from chaos.live import Capture
from chaos.terms.errors import DeviceNotFound, InvalidFormat, InvalidRange


def test_the_format_may_be_a_name() -> None:
    forms = {name: chaos.capture("mic", format=name)._format for name in ("f32", "s16", "s32", "audio", "midi")}
    assert forms["s16"] == chaos.AudioFormat(sample_format="s16")
    assert (forms["audio"], forms["midi"]) == (chaos.AudioFormat(), chaos.MidiFormat())
    for wrong in ("s24", "", 16, None):
        with pytest.raises(InvalidFormat) as refused:
            chaos.capture("mic", format=wrong)  # type: ignore[arg-type]
        assert '"s16"' in refused.value.hint


@pytest.mark.parametrize("form", ["midi", "audio"])
def test_a_hint_says_what_is_written_in_python(form: str) -> None:
    found = mock.Mock(kind="audio" if form == "midi" else "midi", description="Keystation")
    with (
        mock.patch.object(Capture, "_asked", mock.Mock(return_value=(mock.Mock(), Path()))),
        mock.patch.object(Capture, "_device", mock.Mock(side_effect=other_kind("Keystation", found))),
        pytest.raises(DeviceNotFound) as refused,
    ):
        chaos.capture("Keystation", format=form).__enter__()
    assert "--" not in refused.value.hint
    assert 'format="midi"' in refused.value.hint


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(1e10, "use 0 to 1_000_000_000 seconds"), (-1, "use 0 to"), (float("nan"), "use 0 to"), ("x", "write it like")],
)
def test_lengths_that_can_t_be_are_refused(seconds: Any, said: str) -> None:
    with mock.patch.object(Capture, "recording", mock.Mock(sample_rate=48_000, n_frames=10)):
        capture = chaos.capture("mic")
        for ask in (capture.last, capture.wait, capture.blocks):
            with pytest.raises(InvalidRange) as refused:
                ask(seconds)
            assert said in refused.value.hint
