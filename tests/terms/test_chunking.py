"""How large chunks are, as asked and when nobody says."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chaos.terms.chunking import MAX_CHUNK_BYTES, MIN_CHUNK_FRAMES, chunk_frames, is_short
from chaos.terms.errors import InvalidChunkSize
from chaos.terms.formats import SAMPLE_BYTES


@pytest.mark.parametrize(
    ("channels", "seconds"), [(1, 10), (2, 10), (8, 10), (16, 5.461), (21, 4.161), (22, 0.9), (32, 0.9), (64, 0.9)]
)
def test_the_default_is_ten_seconds_or_16_mib_or_less_than_a_second(channels: int, seconds: float) -> None:
    assert chunk_frames(None, channels=channels, sample_rate=48000) / 48000 == pytest.approx(seconds, abs=0.001)


@pytest.mark.parametrize(("channels", "short"), [(2, False), (21, False), (22, True), (64, True)])
def test_the_default_of_many_channels_is_stored_within_the_second(channels: int, short: bool) -> None:
    assert is_short(chunk_frames(None, channels=channels, sample_rate=48000), 48000) == short


@given(st.integers(1, 64), st.integers(8000, 384000), st.sampled_from(["f32", "s16", "s32"]))
def test_the_default_fits(channels: int, sample_rate: int, sample_format: str) -> None:
    n_frames = chunk_frames(None, channels=channels, sample_rate=sample_rate, sample_format=sample_format)
    assert MIN_CHUNK_FRAMES <= n_frames <= 10 * sample_rate
    assert n_frames * channels * (2 if sample_format == "s16" else 4) <= 16 << 20


@given(
    st.none() | st.integers(-1, 2 * MAX_CHUNK_BYTES),
    st.integers(1, 64),
    st.integers(1000, 1_536_000),
    st.sampled_from(list(SAMPLE_BYTES)),
)
def test_chunks_hold_whole_frames(size: int | None, channels: int, rate: int, sample_format: str) -> None:
    frame_bytes = channels * SAMPLE_BYTES[sample_format]
    refused: dict[str, int] = {}
    try:
        n_frames = chunk_frames(size, channels=channels, sample_rate=rate, sample_format=sample_format)
    except InvalidChunkSize as error:
        refused = error.details
    if refused:
        assert size is not None
        assert not refused["smallest"] <= size <= refused["largest"]
        return
    assert n_frames >= 1024
    if size is None:
        assert n_frames <= max(1024, 10 * rate)
        assert n_frames == 1024 or n_frames * frame_bytes <= 16 << 20
    else:
        assert size - frame_bytes < n_frames * frame_bytes <= size
