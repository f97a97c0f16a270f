"""The deinterleave kernels against numpy's transposition, with and without AVX2, to the last sample and no further."""

from __future__ import annotations

import mmap
from functools import cache

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from proof.kernels import load_kernels

kernels = cache(load_kernels)
GUARD = 0x5A


def deinterleave(source: npt.NDArray[np.generic], spare: int, plain: bool) -> npt.NDArray[np.generic]:
    """The planes, (channels, frames + spare); what the kernel does not write is GUARD bytes.

    The source lies at the very end of its pages, so that a read behind it would fault or find other numbers.
    """
    n_frames, channels = source.shape
    pages = mmap.mmap(-1, -(-max(1, source.nbytes) // mmap.PAGESIZE) * mmap.PAGESIZE)
    raw = np.frombuffer(pages, np.uint8)
    raw[len(raw) - source.nbytes :] = np.frombuffer(source.tobytes(), np.uint8)
    planes = np.full((channels, (n_frames + spare) * source.itemsize), GUARD, np.uint8).view(source.dtype)
    at = raw.ctypes.data + len(raw) - source.nbytes
    kernels().deinterleave(source.itemsize, plain, planes.ctypes.data, n_frames + spare, at, channels, n_frames)
    return planes


@given(
    channels=st.integers(1, 64),
    n_frames=st.one_of(st.integers(0, 70), st.integers(0, 1100)),
    spare=st.integers(0, 9),
    dtype=st.sampled_from([np.uint16, np.uint32]),
    plain=st.booleans(),
)
def test_every_sample_finds_its_place(
    channels: int, n_frames: int, spare: int, dtype: type[np.unsignedinteger], plain: bool
) -> None:
    source = np.random.default_rng(n_frames).integers(0, np.iinfo(dtype).max, (n_frames, channels), dtype)
    planes = deinterleave(source, spare, plain)
    assert np.array_equal(planes[:, :n_frames], source.T)
    assert np.all(planes[:, n_frames:].view(np.uint8) == GUARD)


@pytest.mark.parametrize("plain", [False, True])
@pytest.mark.parametrize("dtype", [np.uint16, np.uint32])
@pytest.mark.parametrize("channels", range(1, 65))
def test_all_channel_counts(channels: int, dtype: type[np.unsignedinteger], plain: bool) -> None:
    source = np.arange(257 * channels, dtype=np.uint64).astype(dtype).reshape(257, channels)
    assert np.array_equal(deinterleave(source, 3, plain)[:, :257], source.T)
