"""The hand-off under fire: callback, rotator and a follower in another process, each as fast as it can.

Each frame is its own number, so that what is stored, skipped or seen in the wrong place shows. CHAOS_STRESS_SECONDS
makes it longer.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from chaos import _layout
from chaos.staging.owner import Staging
from chaos.staging.reader import StagingReader
from chaos.terms.form import AudioForm
from chaos.terms.ledger import Cause

SECONDS = float(os.environ.get("CHAOS_STRESS_SECONDS", "2"))
CHUNK, N_SLOTS, LONGEST = 256, 5, 700
FIRST = 1  # no frame's number is 0: that is what a gap reads as

FOLLOWER = """
import json, random, sys
from pathlib import Path
import numpy as np
from chaos.staging.live import LiveEnd
from chaos.staging.reader import StagingReader

reader = StagingReader(Path(sys.argv[1]))
live = LiveEnd(reader)
dice = random.Random(1)
chunk_frames = reader.form.chunk_frames
seen = lapped = checked = 0
print("ready", flush=True)
while reader.head_frame == 0 or reader.state("gap_cause") != 99:
    head = live.poll()
    if head == 0:
        continue
    chunk = max(0, (head - 1) // chunk_frames - dice.randrange(4))
    first = dice.randrange(chunk_frames)
    end = min(chunk_frames, head - chunk * chunk_frames)
    if first >= end:
        continue
    data = reader.read_chunk(chunk, first, end)
    if data is None:
        lapped += 1
        continue
    planes = np.frombuffer(data, "<i4").reshape(2, -1)
    at = chunk * chunk_frames + first
    want = np.arange(1 + at, 1 + at + planes.shape[1], dtype="<i4")
    for plane, sign in zip(planes, (1, -1)):
        wrong = (plane != sign * want) & (plane != 0)
        assert not wrong.any(), (chunk, first, end, plane[wrong][:4], want[wrong][:4])
    silent = at + np.flatnonzero(planes[0] == 0)
    if silent.size and not live.missed_notes:
        gaps = [(g.first_frame, g.end_frame) for g in live.closed_gaps.values()]
        gaps += [(live.open_gap.first_frame, head)] if live.open_gap else []
        told = np.zeros(silent.size, bool)
        for a, b in gaps[-400:]:
            told |= (silent >= a) & (silent < b)
        assert told.all(), (silent[~told][:5], gaps[-3:], head)
        checked += silent.size
    seen += planes.shape[1]
print(json.dumps([seen, lapped, checked]), flush=True)
"""


@pytest.fixture
def staging() -> Iterator[Staging]:
    wake = os.eventfd(0, os.EFD_NONBLOCK)
    path = Path(f"/dev/shm/test-{os.getpid()}-{os.urandom(4).hex()}.staging")
    made = Staging(
        path, uri="stream://t/1", recording="", run_id="0" * 32, form=AudioForm(2, CHUNK, "f32"), n_slots=N_SLOTS,
        sample_rate=48000, wake_fd=wake,
    )  # fmt: skip
    yield made
    made.close()
    os.close(wake)


class Callback(threading.Thread):
    """Cycles of any length, some missed, empty or torn; `offered` frames in all."""

    def __init__(self, staging: Staging) -> None:
        super().__init__()
        self.slots = staging.slots
        self.offered = 0
        self.end = threading.Event()

    def run(self) -> None:
        dice = random.Random(2)
        position = FIRST
        while not self.end.is_set():
            n = dice.randrange(1, LONGEST)
            kind = dice.random() if position > FIRST else 1.0
            if kind < 0.02:
                position += dice.randrange(1, 1000)
            numbers = np.arange(position, position + n, dtype="<i4")
            data = None if 0.02 < kind < 0.04 else np.stack((numbers, -numbers)).tobytes()
            self.slots.cycle(position, n, data, torn=0.04 < kind < 0.06)
            if 0.06 < kind < 0.08:
                self.slots.set_hint(Cause.DEVICE_AWAY)
            position += n
        self.offered = position - FIRST


class Rotator:
    """What it was given, checked at once; `silent` frames of it are zero."""

    def __init__(self, staging: Staging) -> None:
        self.staging = staging
        self.silent = 0
        self.stored = 0
        self.lost = 0

    def work(self) -> None:
        while (full := self.staging.slots.take_full()) is not None:
            slot, chunk = full
            with self.staging.slot(slot) as view:
                planes = np.frombuffer(view, "<i4").reshape(2, CHUNK).copy()
            numbers = np.arange(FIRST + chunk * CHUNK, FIRST + (chunk + 1) * CHUNK, dtype="<i4")
            kept = planes[0] != 0
            assert np.array_equal(planes[0], np.where(kept, numbers, 0))
            assert np.array_equal(planes[1], -planes[0])
            self.stored += int(kept.sum())
            self.staging.slots.give_back(slot)
        for note in self.staging.slots.take_notes():
            if note[0] == _layout.NOTE_KINDS["gap"]:
                self.lost += note[5]
            else:
                assert note[6] - note[4] == FIRST, "an anchor names the frame's own position"


@pytest.mark.timeout(SECONDS + 60)
def test_nothing_is_lost_doubled_or_mixed_while_all_three_race(staging: Staging) -> None:
    follower = subprocess.Popen(
        [sys.executable, "-c", FOLLOWER, str(staging.path)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert follower.stdout is not None
    assert follower.stdout.readline() == "ready\n", follower.communicate()[1]
    callback, rotator = Callback(staging), Rotator(staging)
    callback.start()
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline and follower.poll() is None:
        rotator.work()
    callback.end.set()
    callback.join()
    rotator.work()
    n_frames, gap = staging.slots.finish()
    rotator.work()
    rotator.lost += gap[1] if gap else 0
    staging._put("gap_cause", "Q", 99)  # tells the follower to end
    said, error = follower.communicate(timeout=60)
    assert follower.returncode == 0, error
    seen, _, checked = json.loads(said)
    assert n_frames == callback.offered == rotator.stored + rotator.lost
    assert min(seen, checked, rotator.stored, rotator.lost) > 0


def test_an_open_gap_is_told_with_its_own_cause(staging: Staging, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between a follower's looks at the gap and at its cause that gap ends and another one begins."""
    silence = bytes(2 * 4 * 64)
    staging.slots.cycle(0, 64, silence)
    staging.slots.cycle(64, 64, None)
    real, offset = _layout.load, _layout.OFFSETS["gap_cause"]

    def load(buffer: object, at: int) -> int:
        if at == offset and staging.slots.stats()["gap_first"] == 64:
            staging.slots.cycle(128, 64, silence)
            staging.slots.cycle(192, 64, None, foreign=True)
        return real(buffer, at)  # type: ignore[arg-type]

    with StagingReader(staging.path) as reader:
        assert reader.open_gap() == (64, Cause.NO_DATA)
        monkeypatch.setattr(_layout, "load", load)
        assert reader.open_gap() == (192, Cause.FOREIGN)


def test_a_word_is_read_whole_or_not_at_all() -> None:
    assert _layout.load((7).to_bytes(8, "little") * 2, 8) == 7
    for at in (4, 16, 1 << 40):
        with pytest.raises(ValueError, match="no such word"):
            _layout.load(bytes(16), at)
        with pytest.raises(ValueError, match="no such word"):
            _layout.store(bytearray(16), at, 1)
    words = bytearray(16)
    _layout.store(words, 8, (1 << 64) - 2)
    assert _layout.load(words, 8) == (1 << 64) - 2
    with pytest.raises(BufferError):
        _layout.store(bytes(16), 8, 1)
