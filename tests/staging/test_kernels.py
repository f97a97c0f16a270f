"""The kernels against numpy, each of their ways, to the last sample and no further."""

from __future__ import annotations

import ctypes
import math
from functools import cache

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prepared import pages
from proof.kernels import WAYS, load_kernels

from chaos._audio import interleave

kernels = cache(load_kernels)
GUARD = 0x5A
LINE = 64


def check(source: npt.NDArray[np.generic], way: str, before: int, stride: int) -> bool:
    """Deinterleaves `source`, (frames, channels), to `before` samples behind the begin of a cache line.

    Reads behind the source would fault; what is not a sample's place must stay as it was. False where the processor
    lacks the way.
    """
    n_frames, channels = source.shape
    width = source.itemsize
    given_bytes = pages(source.nbytes)
    given_bytes[:] = np.frombuffer(source.tobytes(), np.uint8)
    room = np.full((before + channels * stride) * width + 2 * LINE, GUARD, np.uint8)
    first = -room.ctypes.data % LINE + before * width
    expected = room.copy()
    planes = expected[first : first + channels * stride * width].reshape(channels, stride * width)
    planes[:, : n_frames * width] = np.ascontiguousarray(source.T).view(np.uint8).reshape(channels, n_frames * width)
    to = room.ctypes.data + first
    if not kernels().deinterleave(WAYS[way], width, to, stride, given_bytes.ctypes.data, channels, n_frames):
        return False
    assert np.array_equal(room, expected)
    return True


def whole_lines(n_samples: int, width: int) -> int:
    return -(-n_samples * width // LINE) * LINE // width


@given(
    channels=st.integers(1, 64),
    n_frames=st.one_of(st.integers(0, 70), st.integers(0, 1100)),
    before=st.integers(0, LINE - 1),
    spare=st.integers(0, 70),
    lines=st.booleans(),
    dtype=st.sampled_from([np.uint16, np.uint32]),
    way=st.sampled_from(list(WAYS)),
)
def test_every_sample_finds_its_place(
    channels: int, n_frames: int, before: int, spare: int, lines: bool, dtype: type[np.unsignedinteger], way: str
) -> None:
    source = np.random.default_rng(n_frames).integers(0, np.iinfo(dtype).max, (n_frames, channels), dtype)
    stride = n_frames + spare
    if lines or way == "streamed":
        stride = whole_lines(stride, source.itemsize)
    check(source, way, before, stride)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("dtype", [np.uint16, np.uint32])
@pytest.mark.parametrize("channels", range(1, 65))
def test_all_channel_counts_at_all_places(channels: int, dtype: type[np.unsignedinteger], way: str) -> None:
    for before in range(LINE // np.dtype(dtype).itemsize):
        n_frames = 257 + before
        source = np.arange(n_frames * channels, dtype=np.uint64).astype(dtype).reshape(n_frames, channels)
        stride = whole_lines(n_frames + 3, source.itemsize)
        if not check(source, way, before, stride):
            pytest.skip("this processor lacks the way")
        if way != "streamed":
            check(source, way, before, stride + 1)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("dtype", [np.uint16, np.uint32])
@pytest.mark.parametrize("channels", range(1, 65))
def test_all_short_lengths(channels: int, dtype: type[np.unsignedinteger], way: str) -> None:
    for n_frames in range(67):
        source = np.arange(n_frames * channels, dtype=np.uint64).astype(dtype).reshape(n_frames, channels)
        if not check(source, way, n_frames % 7, whole_lines(n_frames + 3, source.itemsize)):
            pytest.skip("this processor lacks the way")


@given(
    channels=st.integers(1, 64),
    n_bytes=st.one_of(st.integers(0, 9000), st.integers(0, 140).map(lambda lines: lines * LINE)),
    at=st.integers(0, 2).map(lambda frames: 4 * frames),
    before=st.one_of(st.just(0), st.integers(0, LINE - 1)),
    spare=st.one_of(st.just(0), st.just(LINE), st.integers(0, 2 * LINE)),
)
def test_planes_are_copied(channels: int, n_bytes: int, at: int, before: int, spare: int) -> None:
    sources = [pages(at + n_bytes) for _ in range(channels)]
    for number, source in enumerate(sources):
        source[:] = np.random.default_rng(number).integers(0, 256, len(source), np.uint8)
    stride = n_bytes + spare
    room = np.full(before + channels * stride + 2 * LINE, GUARD, np.uint8)
    first = -room.ctypes.data % LINE + before
    expected = room.copy()
    for number, source in enumerate(sources):
        expected[first + number * stride : first + number * stride + n_bytes] = source[at:]
    addresses = (ctypes.c_void_p * channels)(*(source.ctypes.data for source in sources))
    kernels().copy_planes(room.ctypes.data + first, stride, addresses, channels, at, n_bytes)
    assert np.array_equal(room, expected)


@given(
    channels=st.integers(0, 70),
    n_frames=st.one_of(st.integers(0, 70), st.integers(0, 1100)),
    dtype=st.sampled_from([np.uint16, np.uint32]),
)
def test_planes_are_laid_side_by_side(channels: int, n_frames: int, dtype: type[np.unsignedinteger]) -> None:
    width = np.dtype(dtype).itemsize
    planes = np.arange(channels * n_frames).reshape(channels, n_frames).astype(dtype)
    frames = bytearray(planes.nbytes)
    interleave(frames, list(planes), width)
    assert frames == planes.T.tobytes()


@pytest.mark.parametrize(
    ("n_bytes", "lengths", "width"), [(15, [8, 8], 4), (16, [8, 4], 4), (16, [8, 8], 3), (12, [6, 6], 4), (4, [], 2)]
)
def test_planes_that_do_not_fit_are_refused(n_bytes: int, lengths: list[int], width: int) -> None:
    frames = bytearray(n_bytes)
    with pytest.raises(ValueError, match="planes"):
        interleave(frames, [bytes([1]) * length for length in lengths], width)
    assert not any(frames)
    with pytest.raises(BufferError):
        interleave(bytes(8), [bytes(8)], 4)
    with pytest.raises(TypeError):
        interleave(frames, [bytes(n_bytes), None], 4)  # type: ignore[list-item]


class Measured(ctypes.Structure):
    """`struct chaos_measure`."""

    _fields_ = (
        *((name, ctypes.c_double) for name in ("peak", "squares", "sum")),
        *((name, ctypes.c_uint64) for name in ("n_clipped", "first_clipped", "n_odd", "first_odd")),
    )


FULL = {np.float32: 1.0, np.int32: 2.0**31, np.int16: 2.0**15}
ODD = [np.nan, -np.nan, np.inf, -np.inf]
LOUD = [1.0, -1.0, 32767 / 32768, -32767 / 32768, np.nextafter(np.float32(32767 / 32768), np.float32(0)), 7.5]


@given(
    n=st.one_of(st.integers(0, 40), st.integers(0, 5000)),
    dtype=st.sampled_from(list(FULL)),
    gain=st.sampled_from([0.0, 1e-30, 0.5, 0.999]),
    special=st.lists(st.tuples(st.integers(0, 5000), st.sampled_from([*ODD, *LOUD, -0.0, 3.4e38])), max_size=6),
    way=st.integers(0, 1),
)
def test_a_measure_is_that_of_a_plain_sum(
    n: int, dtype: type[np.number], gain: float, special: list[tuple[int, float]], way: int
) -> None:
    """Whatever blocks the samples fall in: the peak and the counts to the bit, the sums to what doubles can tell."""
    full = FULL[dtype]
    values = np.random.default_rng(n).uniform(-1, 1, n) * gain
    for at, value in special:
        if at < n and (dtype is np.float32 or np.isfinite(value)):
            values[at] = value
    samples = values.astype(np.float32) if dtype is np.float32 else whole(values, full, dtype)
    found = Measured()
    given_bytes = pages(samples.nbytes)
    given_bytes[:] = np.frombuffer(samples.tobytes(), np.uint8)
    kernels().measure(way, list(FULL).index(dtype), given_bytes.ctypes.data, n, ctypes.byref(found))
    exact = samples.astype(np.float64) / full
    is_odd = ~np.isfinite(exact)
    sound = exact[~is_odd]
    is_clipped = ~is_odd & (np.abs(exact) >= 32767 / 32768)
    assert found.peak == (np.abs(sound).max() if len(sound) else 0)
    assert found.n_odd == is_odd.sum()
    assert found.first_odd == first(is_odd)
    assert found.n_clipped == is_clipped.sum()
    assert found.first_clipped == first(is_clipped)
    assert abs(found.sum - math.fsum(sound)) <= 1e-12 * np.abs(sound).sum()
    assert abs(found.squares - math.fsum(sound**2)) <= 1e-12 * (sound**2).sum()


class Block(ctypes.Structure):
    """`struct chaos_block`."""

    _fields_ = (
        *((name, ctypes.c_float) for name in ("low", "high")),
        ("squares", ctypes.c_double),
        *((name, ctypes.c_uint32) for name in ("n", "n_finite")),
    )


@given(
    n=st.one_of(st.integers(0, 40), st.integers(0, 300)),
    dtype=st.sampled_from(list(FULL)),
    special=st.lists(st.tuples(st.integers(0, 300), st.sampled_from([*ODD, *LOUD, 0.0, -0.0, 3.4e38])), max_size=6),
)
def test_a_block_of_the_overview_is_the_same_whichever_way_it_is_made(
    n: int, dtype: type[np.number], special: list[tuple[int, float]]
) -> None:
    """To the bit, since *verify* makes it again, maybe on another processor; and what numpy says it is."""
    full = FULL[dtype]
    values = np.random.default_rng(n).uniform(-1, 1, n)
    for at, value in special:
        if at < n and (dtype is np.float32 or np.isfinite(value)):
            values[at] = value
    samples = values.astype(np.float32) if dtype is np.float32 else whole(values, full, dtype)
    given_bytes = pages(samples.nbytes)
    given_bytes[:] = np.frombuffer(samples.tobytes(), np.uint8)
    found, plain = Block(), Block()
    for way, block in enumerate((found, plain)):
        kernels().block(way, list(FULL).index(dtype), given_bytes.ctypes.data, n, ctypes.byref(block))
    assert bytes(found) == bytes(plain)
    exact = samples.astype(np.float64) / full
    sound = exact[np.isfinite(exact)]
    assert (found.n, found.n_finite) == (n, len(sound))
    assert (found.low, found.high) == (
        tuple(np.float32([sound.min(), sound.max()])) if len(sound) else (math.inf, -math.inf)
    )
    squares = (sound.astype(np.float32).astype(np.float64) ** 2).sum()
    assert abs(found.squares - squares) <= 1e-12 * squares


def whole(values: npt.NDArray[np.float64], full: float, dtype: type[np.number]) -> npt.NDArray[np.number]:
    return np.clip(np.round(values * full), -full, full - 1).astype(dtype)


def first(where: npt.NDArray[np.bool_]) -> int:
    return int(where.argmax()) if where.any() else len(where)
