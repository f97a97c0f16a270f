"""A slot that is given back: first its entry is forgotten, then it is cleared, then the callback may have it."""

from __future__ import annotations

import os
import threading
from functools import partial
from pathlib import Path

from chaos import _layout
from chaos.staging.layout import NONE
from chaos.staging.owner import Staging
from chaos.terms.form import AudioForm

CHUNK_FRAMES = 1 << 22  # 16 MiB: clearing it takes long enough to be looked at
ROUNDS = 200


def test_while_a_slot_is_cleared_it_names_no_chunk_and_is_not_free() -> None:
    """Else a follower takes zeros for frames, and the callback's frames are wiped."""
    wake = os.eventfd(0, os.EFD_NONBLOCK)
    path = Path(f"/dev/shm/test-{os.getpid()}-{os.urandom(4).hex()}.staging")
    form = AudioForm(1, CHUNK_FRAMES, "f32")
    staging = Staging(
        path, uri="stream://t/1", recording="", run_id="0" * 32, form=form, n_slots=1, sample_rate=48000, wake_fd=wake
    )  # fmt: skip
    try:
        seen = 0
        for number in range(ROUNDS):
            staging.slots.cycle(number * CHUNK_FRAMES, CHUNK_FRAMES, b"\1" * form.chunk_bytes)
            full = staging.slots.take_full()
            assert full is not None
            seen += _looked_at(staging, full[0])
            if seen >= 3:
                break
        assert seen, "nobody looked while a slot was being cleared"
    finally:
        staging.close()
        os.close(wake)


def _looked_at(staging: Staging, slot: int) -> bool:
    """Gives the slot back, and looks on from another thread. Whether that saw it half cleared."""
    read = partial(_layout.load, staging._map)
    entry = read(_layout.OFFSETS["table_offset"]) + slot * _layout.ENTRY_BYTES
    n_free = read(_layout.OFFSETS["free_write"])
    ready, found = threading.Event(), []

    def look() -> None:
        with staging.slot(slot) as data:
            last = len(data) - 1
            ready.set()
            while data[last]:
                began = data[0] == 0
                state = read(entry), read(_layout.OFFSETS["free_write"])
                if began and data[last]:
                    found.append(state)

    watcher = threading.Thread(target=look)
    watcher.start()
    ready.wait()
    staging.slots.give_back(slot)
    watcher.join()
    assert set(found) <= {(NONE, n_free)}
    return bool(found)

