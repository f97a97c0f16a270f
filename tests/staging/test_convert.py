"""The conversions from the graph's samples against numpy, each of their ways, to the last sample and no further."""

from __future__ import annotations

import ctypes
from functools import cache

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prepared import pages
from proof.kernels import WAYS, load_kernels

kernels = cache(load_kernels)
GUARD = 0x5A
LINE = 64


def addresses(planes: list[npt.NDArray[np.float32]]) -> ctypes.Array[ctypes.c_void_p]:
    """Where they lie, as the kernels take it."""
    return (ctypes.c_void_p * len(planes))(*(plane.ctypes.data for plane in planes))


FORMS = {"s16": (2, np.int16, 32767.0), "s32": (4, np.int32, 2147483520.0)}  # bytes, type, the greatest


def whole(samples: npt.NDArray[np.float32], form: str) -> npt.NDArray[np.integer]:
    """What they are as whole numbers, by numpy. NaN is the lowest."""
    _, dtype, top = FORMS[form]
    full = -float(np.iinfo(dtype).min)
    low = np.where(np.isnan(samples), np.float32(-1), samples).astype(np.float64)
    return np.rint(np.clip(low * full, -full, top)).astype(dtype)


def noise(n: int, seed: int) -> npt.NDArray[np.float32]:
    """Samples within and beyond full scale, halves between two whole numbers, bit patterns with infinities and NaNs."""
    rng = np.random.default_rng(seed)
    kinds = (
        rng.uniform(-1.2, 1.2, n),
        (rng.integers(-40_000, 40_000, n) + 0.5) / 32768,
        rng.integers(-(1 << 23), 1 << 23, n) / (1 << 23),
        np.frombuffer(rng.bytes(4 * n), np.float32),
    )
    with np.errstate(invalid="ignore", over="ignore"):
        return np.choose(rng.integers(0, 4, n), [kind.astype(np.float32) for kind in kinds])


def check(channels: int, n_frames: int, way: str, form: str, *, at: int, before: int, stride: int) -> bool:
    """Converts planes, from sample `at` on, to `before` samples behind the begin of a cache line.

    Reads behind a plane would fault; what is not a sample's place must stay as it was. False where the processor
    lacks the way.
    """
    width = FORMS[form][0]
    planes = [pages(4 * (at + n_frames)).view(np.float32) for _ in range(channels)]
    for number, plane in enumerate(planes):
        plane[:] = noise(len(plane), n_frames + number)
    room = np.full((before + channels * stride) * width + 2 * LINE, GUARD, np.uint8)
    first = -room.ctypes.data % LINE + before * width
    expected = room.copy()
    for number, plane in enumerate(planes):
        place = first + number * stride * width
        expected[place : place + n_frames * width] = whole(plane[at:], form).view(np.uint8)
    to = room.ctypes.data + first
    if not kernels().convert(WAYS[way], width, to, stride, addresses(planes), channels, at, n_frames):
        return False
    assert np.array_equal(room, expected)
    return True


@given(
    channels=st.integers(1, 64),
    n_frames=st.one_of(st.integers(0, 70), st.integers(0, 1100)),
    at=st.integers(0, 40),
    before=st.integers(0, LINE - 1),
    spare=st.integers(0, 70),
    form=st.sampled_from(list(FORMS)),
    way=st.sampled_from(list(WAYS)),
)
def test_every_sample_is_converted_in_its_place(
    channels: int, n_frames: int, at: int, before: int, spare: int, form: str, way: str
) -> None:
    check(channels, n_frames, way, form, at=at, before=before, stride=n_frames + spare)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("n_frames", [*range(67), 1023, 1024, 8192])
def test_all_lengths_at_all_places(n_frames: int, form: str, way: str) -> None:
    for before in range(LINE // np.dtype(FORMS[form][1]).itemsize):
        if not check(3, n_frames, way, form, at=before % 5, before=before, stride=n_frames + 3):
            pytest.skip("this processor lacks the way")


@pytest.mark.parametrize("form", FORMS)
def test_what_was_whole_is_so_again(form: str) -> None:
    """Of 16 bits all numbers; of 32 bits those whose upper 24 say all, as a converter gives them."""
    width, dtype, top = FORMS[form]
    full = -float(np.iinfo(dtype).min)
    numbers = np.arange(-32768, 32768)
    if form == "s32":
        numbers = np.random.default_rng(1).integers(-(1 << 23), 1 << 23, 1 << 16) << 8
    plane = (numbers / full).astype(np.float32)
    found = np.zeros(len(plane), dtype)
    assert kernels().convert(WAYS["best"], width, found.ctypes.data, len(plane), addresses([plane]), 1, 0, len(plane))
    assert np.array_equal(found, numbers)
    beyond = np.array([1.0, 2.0, np.inf, -1.0, -2.0, -np.inf], np.float32)
    assert whole(beyond, form).tolist() == [top] * 3 + [-full] * 3
