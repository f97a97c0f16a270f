"""The numbers that the counting source writes into frames, and what reads them back."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rig import check, decode, encode, leading_silence, modulus

channel_counts = st.integers(1, 64)
source_ids = st.integers(0, 65535)


@given(channels=channel_counts, source_id=source_ids, first=st.integers(0, 1 << 40), n=st.integers(1, 300))
def test_numbers_round_trip_through_samples(channels: int, source_id: int, first: int, n: int) -> None:
    numbers = np.arange(first, first + n)
    found = decode(encode(numbers, channels, source_id), source_id)
    assert np.array_equal(found, numbers % modulus(channels))


@given(channels=channel_counts, source_id=source_ids, first=st.integers(0, 1 << 30))
def test_numbers_survive_s32(channels: int, source_id: int, first: int) -> None:
    samples = encode(np.arange(first, first + 50), channels, source_id)
    as_s32 = (samples.astype(np.float64) * (1 << 31)).astype(np.int32)
    assert np.array_equal(decode(as_s32, source_id), decode(samples, source_id))


@given(pairs=st.integers(1, 32), source_id=source_ids, first=st.integers(0, 1 << 30))
def test_pairs_survive_s16(pairs: int, source_id: int, first: int) -> None:
    samples = encode(np.arange(first, first + 50), 2 * pairs, source_id)
    assert np.array_equal(decode((samples * 32768).astype(np.int16), source_id), decode(samples, source_id))


def test_a_lone_channel_does_not_fit_into_s16() -> None:
    with pytest.raises(ValueError, match="24 bits"):
        decode(np.zeros((1, 4), dtype=np.int16))


@pytest.mark.parametrize("channels", [1, 2, 8, 64])
def test_samples_are_within_one_and_never_all_equal(channels: int) -> None:
    samples = encode(np.arange(100_000), channels, 3)
    assert samples.min() >= -1.0
    assert samples.max() < 1.0
    assert not np.any(np.all(samples[:, 1:] == samples[:, :-1], axis=0))


@pytest.mark.parametrize("channels", [1, 2, 3, 8, 64])
def test_right_frames_are_right(channels: int) -> None:
    found = check(encode(np.arange(5000, 9000), channels, 9), 9)
    assert found.ok
    assert (found.first, found.first_bad) == (5000, None)


@pytest.mark.parametrize("channels", [1, 2, 8])
def test_a_lost_frame_moves_all_after_it(channels: int) -> None:
    numbers = np.delete(np.arange(1000, 3000), 700)
    found = check(encode(numbers, channels))
    assert (found.right, found.moved, found.first_bad) == (700, 1299, 700)


@pytest.mark.parametrize("channels", [1, 2, 8])
def test_a_doubled_frame_moves_all_after_it(channels: int) -> None:
    numbers = np.insert(np.arange(1000, 3000), 700, 1699)
    found = check(encode(numbers, channels))
    assert (found.right, found.moved, found.first_bad) == (700, 1301, 700)


@pytest.mark.parametrize("channels", [1, 2, 8])
def test_another_source_is_foreign(channels: int) -> None:
    samples = encode(np.arange(4000), channels, 1)
    samples[:, 1000:2000] = encode(np.arange(1000, 2000), channels, 2)
    found = check(samples, 1)
    assert (found.right, found.first_bad) == (3000, 1000)
    assert found.foreign > 990


def test_changed_samples_are_foreign() -> None:
    samples = encode(np.arange(1000), 2)
    samples[0, 10:20] *= np.float32(0.9)
    found = check(samples)
    assert (found.right, found.first_bad) == (990, 10)
    assert found.foreign > 0


def test_swapped_channel_pairs_are_foreign() -> None:
    samples = encode(np.arange(1000), 4)[[2, 3, 0, 1]]
    assert not check(samples).ok
    assert check(samples, first=0).right == 0


def test_silence_is_told_from_sound_and_belongs_into_gaps_only() -> None:
    samples = encode(np.arange(1000), 2)
    samples[:, 100:164] = 0
    assert check(samples).silent == 64
    assert check(samples, gaps=[(100, 64)]).ok
    assert check(samples, gaps=[(100, 60)]).silent == 4
    assert check(samples, gaps=[(100, 70)]).foreign == 6


def test_leading_silence_is_counted() -> None:
    samples = encode(np.arange(1000), 2)
    samples[:, :64] = 0
    assert leading_silence(samples) == 64
    assert leading_silence(np.zeros((2, 10), dtype=np.float32)) == 10


def test_nothing_is_not_ok() -> None:
    assert not check(np.zeros((2, 0), dtype=np.float32)).ok
