"""The store against a list of frames and gaps, through whatever may happen to it, in any order."""

from __future__ import annotations

import random
import threading
import time
from contextlib import ExitStack
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import soundfile
from catalogued import agree
from crashing import CrashingStream, causes_of, fast_folder
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from chaos.engine import intake
from chaos.engine.messages import RetireChunks
from chaos.export.save import save
from chaos.read import recording as reader
from chaos.store import about, age, completion
from chaos.store.catalog import Catalog
from chaos.store.due import Due
from chaos.store.info import RecordingInfo, load
from chaos.store.pins import pin, pins, unpin
from chaos.store.recovery import recover
from chaos.store.retention import Retired, collect, retire
from chaos.store.slices import chunk_spans
from chaos.store.store import Store
from chaos.store.verify import verify
from chaos.terms.ledger import Cause
from chaos.terms.units import Keep

CHUNK_FRAMES = 16
CHUNK_BYTES = 2 * CHUNK_FRAMES * 4
HOUR_S = 3600


class WallClock:
    """The module `time` as those see it that ask for the wall clock: it can be set. Time itself goes on."""

    def __init__(self) -> None:
        self.by_ns = 0

    def __getattr__(self, name: str) -> object:
        return getattr(time, name)

    def time_ns(self) -> int:
        return time.time_ns() + self.by_ns


class StoreMachine(RuleBasedStateMachine):
    """Takes come one after the other; each is a `CrashingStream`, whose model knows every frame and cause."""

    def __init__(self) -> None:
        super().__init__()
        self._stack = ExitStack()
        self._folder = self._stack.enter_context(fast_folder())
        self._store = self._folder / "store"
        self._slots = self._folder / "slots"
        self._clock = WallClock()
        for module in (intake, about, age, completion):
            self._stack.enter_context(mock.patch.object(module, "time", self._clock))
        self._catalog = self._stack.enter_context(Catalog(Store(self._store)))
        self._takes: list[CrashingStream] = []
        self._cut: set[CrashingStream] = set()
        self._durable: dict[CrashingStream, int] = {}
        self._seams: list[tuple[CrashingStream, CrashingStream]] = []
        self._n_started = 0
        self._running: CrashingStream | None = None
        self._is_dead = False

    def teardown(self) -> None:
        if self._running is not None:
            self._running.crash()
        self._stack.close()

    @precondition(lambda self: self._running is None and not self._is_dead and len(self._takes) < 5)
    @rule(n_slots=st.integers(3, 6))
    def start(self, n_slots: int) -> None:
        self._running = self._fresh(n_slots, None)

    def _fresh(self, n_slots: int, continues: str | None) -> CrashingStream:
        number = self._n_started
        self._n_started += 1
        return CrashingStream(
            self._store,
            self._slots,
            f"stream://mic/{number}",
            chunk_frames=CHUNK_FRAMES,
            n_slots=n_slots,
            continues=continues,
            seed=number,
        )

    @precondition(lambda self: self._running is not None and not self._is_dead and len(self._takes) < 5)
    @rule(n_frames=st.integers(1, 60))
    def roll(self, n_frames: int) -> None:
        """The next take begins at the frame behind the last one's, or not at all."""
        former = self._running
        assert former is not None
        former.rotate()
        former.write(4)  # what closes an open gap, if there is a slot again
        fresh = self._fresh(4, former.uri)
        if not former.hand_over(fresh, n_frames):
            fresh.stop()
            return
        former.stop()
        self._end(former)
        self._running = fresh
        self._seams.append((former, fresh))

    @precondition(lambda self: self._running is not None)
    @rule(what=st.sampled_from(["write", "write", "write", "miss", "no_data"]), n_frames=st.integers(1, 60))
    def capture(self, what: str, n_frames: int) -> None:
        getattr(self._running, what)(n_frames)

    @precondition(lambda self: self._running is not None)
    @rule(what=st.sampled_from(["rotate", "tick"]))
    def seal(self, what: str) -> None:
        assert self._running is not None
        getattr(self._running, what)()
        if what == "tick":  # all but a gap that is still open, which is told on in steps
            self._durable[self._running] = int(np.flatnonzero(self._running.causes == 0).max(initial=-1)) + 1

    @rule(days=st.floats(-20_000, 400))
    def set_clock(self, days: float) -> None:
        self._clock.by_ns = int(days * 86_400e9)

    @precondition(lambda self: self._running is not None)
    @rule()
    def stop(self) -> None:
        assert self._running is not None
        self._running.stop()
        self._end(self._running)

    @precondition(lambda self: self._running is not None)
    @rule()
    def crash(self) -> None:
        assert self._running is not None
        self._running.crash()
        self._is_dead = True
        self._end(self._running)

    @precondition(lambda self: self._running is not None)
    @rule(gap=st.integers(0, 80), ticks=st.booleans())
    def cut_power(self, gap: int, ticks: bool) -> None:
        """Staging is in memory, and is gone; perhaps while a gap is open."""
        assert self._running is not None
        if gap:
            self._running.no_data(gap)
        if ticks:
            self.seal("tick")
        self._running.crash()
        self._running.staging.path.unlink()
        self._is_dead = self._running.recording.exists()
        self._cut.add(self._running)
        self._end(self._running)

    def _end(self, stream: CrashingStream) -> None:
        if stream.n_frames:
            self._takes.append(stream)
        self._running = None

    @rule()
    def recover(self) -> None:
        report = recover(Store(self._store), self._slots)
        assert report.ok
        assert {item.outcome for item in report.items} <= {"recovered", "removed"}
        assert len(report.items) == self._is_dead
        self._is_dead = False

    @rule(n_chunks=st.integers(0, 12), shared=st.booleans())
    def retire(self, n_chunks: int, shared: bool) -> None:
        """With the catalogue that has been there all the time, or with another process's."""
        keep = Keep(None, n_chunks * CHUNK_BYTES)
        self._carry_out(retire(Store(self._store), keep, catalog=self._catalog if shared else None))
        self._check_retired(n_chunks)

    @rule(n_chunks=st.tuples(st.integers(0, 12), st.integers(0, 12)))
    def retire_twice_at_once(self, n_chunks: tuple[int, int]) -> None:
        """Each plans and works by itself; what they name of a live take comes to its rotator from both."""
        done: list[list[Retired]] = []
        workers = [
            threading.Thread(target=lambda n=n: done.append(retire(Store(self._store), Keep(None, n * CHUNK_BYTES))))
            for n in n_chunks
        ]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        assert len(done) == 2, "none of them failed"
        for each in done:
            self._carry_out(each)
        self._check_retired(min(n_chunks))

    @rule()
    def retire_by_age(self) -> None:
        """Nothing here is an hour old, whatever the wall clock says."""
        assert retire(Store(self._store), Keep(HOUR_S, None)) == []

    def _carry_out(self, retired: list[Retired]) -> None:
        for each in retired:
            if each.live:
                assert self._running is not None
                self._running.rotator.on_receive(RetireChunks(each.chunks, each.gaps))

    def _check_retired(self, n_chunks: int) -> None:
        pinned = {span.hash for each in pins(Store(self._store)) for span in each.chunks}
        left = [path for path in self._store.glob("recordings/*/*/audio/c/0/[0-9]*") if self._is_settled(path)]
        objects = {path.parent.name + path.name for path in self._store.glob("objects/*/*")}
        assert len(left) <= max(n_chunks, len(pinned) + (self._running is not None))
        assert pinned <= objects
        assert collect(Store(self._store)) == 0

    def _is_settled(self, path: Path) -> bool:
        """A dead take's chunks stay until it is recovered."""
        return load(path.parents[3]).state != "interrupted"

    @precondition(lambda self: self._takes)
    @rule(seed=st.integers(0, 1000))
    def pin(self, seed: int) -> None:
        chance = random.Random(seed)
        info = load_if_there(chance.choice(self._takes))
        if info is not None:
            first, end = sorted(chance.randint(0, info.n_frames) for _ in range(2))
            pin(Store(self._store), "kept", info, first, end)

    @precondition(lambda self: pins(Store(self._store)))
    @rule()
    def unpin(self) -> None:
        unpin(Store(self._store), "kept")

    @precondition(lambda self: self._takes)
    @rule(seed=st.integers(0, 1000))
    def slice(self, seed: int) -> None:
        """What a virtual slice names is the audio of its frames."""
        chance = random.Random(seed)
        stream = chance.choice(self._takes)
        info = load_if_there(stream)
        if info is None:
            return
        first, end = sorted(chance.randint(0, min(info.n_frames, stream.n_frames)) for _ in range(2))
        for span in chunk_spans(info, first, end):
            whole = np.fromfile(span.path, "<f4").reshape(2, CHUNK_FRAMES)
            inside = span.first_frame % CHUNK_FRAMES
            last = span.first_frame + span.n_frames
            np.testing.assert_array_equal(
                whole[:, inside : inside + span.n_frames], stream.model[:, span.first_frame : last]
            )

    @precondition(lambda self: self._takes)
    @rule(seed=st.integers(0, 1000))
    def save_during_retirement(self, seed: int) -> None:
        """What a save reads stays until it has done, and the file is what its report says."""
        info = load_if_there(random.Random(seed).choice(self._takes))
        if info is None or info.state != "finished":
            return
        out = self._folder / "out.wav"
        with reader.open(info.path) as recording:
            before = recording[:]
            if not recording.n_frames:
                return

            def advance(n_done: int, n_all: int) -> None:
                if n_done:
                    self._carry_out(retire(Store(self._store), Keep(None, 0)))

            report = save(recording, out, 0, progress=advance, force=True)
        Due(self._catalog).wake()  # what was held waits for minutes
        samples, _ = soundfile.read(out, dtype="float32", always_2d=True)
        np.testing.assert_array_equal(samples.T, before)
        n_missing = int((causes_of(info.gaps, info.n_frames) != 0).sum())
        assert (report.n_frames, report.missing_frames, report.is_exact) == (info.n_frames, n_missing, True)

    @invariant()
    def all_takes_are_whole(self) -> None:
        for stream in self._takes:
            info = load_if_there(stream)
            if info is None or info.state != "finished":
                continue
            assert verify(info.path).bad == []
            least = self._durable.get(stream, 0) if stream in self._cut else stream.n_frames
            n = min(info.n_frames, stream.n_frames)
            assert n >= least
            causes = causes_of(info.gaps, info.n_frames)
            known, later = causes[:n], causes[n:]
            is_retired = known == int(Cause.RETIRED)
            np.testing.assert_array_equal(np.where(is_retired, 0, known), stream.causes[:n])
            assert set(later) <= {int(Cause.ENGINE_DOWN)}
            expected = np.where(is_retired, np.float32(0), stream.model[:, :n])
            with reader.open(info.path) as recording:
                np.testing.assert_array_equal(recording[:n], expected)

    @invariant()
    def catalogue_says_what_the_journals_say(self) -> None:
        agree(self._catalog, self._store)

    @invariant()
    def rolled_takes_are_neighbours(self) -> None:
        """By the graph's clock the one ends where the other begins: no frame is lost or doubled between them."""
        for former, following in self._seams:
            ended, begun = load_if_there(former), load_if_there(following)
            if ended is not None and begun is not None and begun.anchors:
                origin, first = ended.anchors[0], begun.anchors[0]
                assert origin.position - origin.frame + ended.n_frames == first.position - first.frame


def load_if_there(stream: CrashingStream) -> RecordingInfo | None:
    """What is known of the take, or None where its recording was not made before it died."""
    return load(stream.recording) if stream.recording.exists() else None


TestStore = StoreMachine.TestCase
TestStore.settings = settings(max_examples=60, stateful_step_count=50)
TestStore.pytestmark = [pytest.mark.timeout(600)]  # type: ignore[attr-defined]  # on a busy machine
