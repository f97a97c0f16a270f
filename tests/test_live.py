"""A capture in Python: what it is asked for is checked before anything is read. What it reads is in tests/live."""

from __future__ import annotations

from typing import Any
from unittest import mock

import pytest

import chaos
from chaos.live import Capture
from chaos.terms.errors import InvalidRange


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
