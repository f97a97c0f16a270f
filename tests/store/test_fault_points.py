"""Whatever fails, wherever: nothing is unaccounted for, verification tells the truth, and the next start recovers.

Each phase of a store's life is gone through once for each call that it makes below the store, with each fault at that
call. CHAOS_FAULT_STEP=1 takes all calls (`just faultpoints`); else every few of them, others for each fault.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import get_args
from unittest import mock

import numpy as np
import pytest
import soundfile
from catalogued import agree
from crashing import CrashingStream, causes_of, fast_folder
from faultpoints import Dead, Fault, Faults, What, faults

from chaos.engine.messages import RetireChunks
from chaos.export.save import SaveReport, save
from chaos.read import recording as reader
from chaos.store import recovery, writer
from chaos.store.catalog import Catalog
from chaos.store.info import load
from chaos.store.journal import JOURNAL_NAME
from chaos.store.marking import mark_ended
from chaos.store.pins import pin, pinned_hashes, pins, unpin
from chaos.store.recovery import recover
from chaos.store.removal import remove
from chaos.store.retention import retire
from chaos.store.store import Store
from chaos.store.verify import verify
from chaos.terms.errors import RecordingNotFound, StorageFailed, StorageFull
from chaos.terms.ledger import Cause
from chaos.terms.marks import Mark
from chaos.terms.units import Keep

CHUNK_BYTES = 2 * 16 * 4
STEP = int(os.environ.get("CHAOS_FAULT_STEP", "7"))


class Life:
    """One store, its takes, and how much of each is known to be on the disk."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.store = Store(folder / "store")
        self.slots = folder / "slots"
        self.streams: list[CrashingStream] = []
        self.running: list[CrashingStream] = []
        self.saved: dict[CrashingStream, int] = {}
        self.removed: set[CrashingStream] = set()
        self.catalog = Catalog(self.store)
        self.met: Faults | None = None
        self.report: SaveReport | None = None

    def start(self, take: str, n_slots: int = 8) -> CrashingStream:
        uri = f"stream://mic/{take}"
        stream = CrashingStream(self.store.root, self.slots, uri, n_slots=n_slots, seed=len(self.streams))
        self.streams.append(stream)
        self.running.append(stream)
        return stream

    def tick(self, stream: CrashingStream) -> None:
        """What was there when a checkpoint came through survives everything."""
        n_refused = len(stream.told("stream_error"))
        n_frames = stream.n_frames
        stream.tick()
        self.live_on()
        if len(stream.told("stream_error")) == n_refused:
            self.saved[stream] = n_frames

    def stop(self, stream: CrashingStream) -> None:
        self.running.remove(stream)
        with suppress(OSError):  # of the staging file's end
            stream.stop()
        self.live_on()

    def live_on(self) -> None:
        """An actor goes on whatever a message raises; a dead process does not."""
        if self.met is not None and self.met.is_dead:
            raise Dead

    def take(self, take: str, n_frames: int) -> CrashingStream:
        """A finished take with gaps."""
        stream = self.start(take)
        stream.write(n_frames - 20)
        stream.rotate()
        stream.miss(3)
        stream.write(10)
        stream.no_data(7)
        stream.rotate()
        self.tick(stream)
        self.stop(stream)
        self.saved[stream] = stream.n_frames
        return stream

    def crash(self) -> None:
        for stream in self.running:
            stream.crash()
        self.running.clear()

    def again(self, work: Callable[[], object]) -> None:
        """What is refused once works the next time."""
        try:
            work()
        except (StorageFull, StorageFailed):
            work()


# ---- the phases: what is there before, and what is done

Phase = Callable[[Life], Callable[[], object]]


def create(life: Life) -> Callable[[], object]:
    stream = life.start("1")
    stream.write(20)
    return lambda: life.tick(stream)


def checkpoint(life: Life) -> Callable[[], object]:
    stream = life.start("1")
    stream.write(5)
    life.tick(stream)

    def work() -> None:
        stream.write(4)
        life.tick(stream)
        stream.miss(3)
        stream.write(2)
        life.tick(stream)
        stream.no_data(6)
        life.tick(stream)
        stream.no_data(30)
        life.tick(stream)
        for _ in range(3):  # the second comes after a part was made
            stream.write(5)
            life.tick(stream)

    return work


def seal(life: Life) -> Callable[[], object]:
    stream = life.start("1")
    stream.write(5)
    life.tick(stream)

    def work() -> None:
        stream.write(40)
        stream.rotate()
        stream.no_data(20)
        stream.write(30)
        stream.rotate()
        life.tick(stream)

    return work


def seal_at_once(life: Life) -> Callable[[], object]:
    """Several chunks that are full together, the first with a part, with a gap among them."""
    stream = life.start("1")
    stream.write(5)
    life.tick(stream)

    def work() -> None:
        with mock.patch.object(writer, "AHEAD_BYTES", 1):
            stream.write(30)
            stream.no_data(20)
            stream.write(28)
            stream.rotate()
            stream.write(40)
            life.tick(stream)

    return work


def stop(life: Life) -> Callable[[], object]:
    stream = life.start("1")
    stream.write(25)
    life.tick(stream)

    def work() -> None:
        stream.write(10)
        life.stop(stream)

    return work


def retirement(life: Life) -> Callable[[], object]:
    finished = life.take("1", 100)
    pin(life.store, "kept", load(finished.recording), 20, 30)
    live = life.start("2", 12)
    live.write(100)
    live.rotate()
    life.tick(live)

    def work() -> None:
        for each in retire(life.store, Keep(None, 3 * CHUNK_BYTES), catalog=life.catalog):
            if each.live:
                live.rotator.on_receive(RetireChunks(each.chunks, each.gaps))

    return work


def recovery_of_slots(life: Life) -> Callable[[], object]:
    stream = life.start("1")
    stream.write(20)
    life.tick(stream)
    stream.miss(5)
    stream.write(30)
    life.tick(stream)
    stream.write(20)
    life.crash()
    return lambda: recover(life.store, life.slots)


def recovery_of_parts(life: Life) -> Callable[[], object]:
    stream = life.start("1")
    stream.write(20)
    life.tick(stream)
    stream.write(9)
    stream.no_data(3)
    life.tick(stream)
    life.crash()
    stream.staging.path.unlink()
    return lambda: recover(life.store, life.slots)


def repair(life: Life) -> Callable[[], object]:
    stream = life.take("1", 100)
    journal = stream.recording / JOURNAL_NAME
    lines = journal.read_bytes().splitlines(keepends=True)
    (number,) = (k for k, line in enumerate(lines) if b'"type":"chunk"' in line and b'"chunk":2' in line)
    lines[number] = lines[number].replace(b'"chunk":2', b'"chunk":3')
    journal.write_bytes(b"".join(lines))
    return lambda: recover(life.store, life.slots)


def pinning(life: Life) -> Callable[[], object]:
    stream = life.take("1", 100)
    info = load(stream.recording)
    pin(life.store, "old", info, 40, 50)

    def work() -> None:
        life.again(lambda: pin(life.store, "kept", info, 0, 20))
        life.again(lambda: pin(life.store, "kept", info, 0, 40))
        life.again(lambda: unpin(life.store, "old"))

    return work


def marking(life: Life) -> Callable[[], object]:
    stream = life.take("1", 60)
    return lambda: life.again(lambda: mark_ended(stream.recording, Mark(7, "verse")))


def removal(life: Life) -> Callable[[], object]:
    life.take("1", 60)
    stream = life.take("2", 60)
    life.removed.add(stream)

    def work() -> None:
        try:
            remove(life.store, stream.uri)
        except (StorageFull, StorageFailed):
            with suppress(RecordingNotFound):  # it may have come so far that nobody takes it for one any more
                remove(life.store, stream.uri)

    return work


def listing(life: Life) -> Callable[[], object]:
    life.take("1", 60)
    stream = life.start("2")
    stream.write(40)
    life.tick(stream)

    def work() -> None:
        life.catalog.entries()
        life.catalog.audit()
        life.catalog.close()
        (life.store.root / "catalog.db").unlink()
        life.catalog.entries()
        life.catalog.totals()

    return work


def export(life: Life) -> Callable[[], object]:
    stream = life.take("1", 100)

    def work() -> None:
        with reader.open(stream.recording) as recording:
            life.report = save(recording, life.folder / "out.wav", labels=True)

    return work


PHASES: dict[str, Phase] = {
    phase.__name__: phase
    for phase in (
        create,
        checkpoint,
        seal,
        seal_at_once,
        stop,
        retirement,
        recovery_of_slots,
        recovery_of_parts,
        repair,
        pinning,
        marking,
        removal,
        listing,
        export,
    )
}


# ---- what must be so afterwards

def check(life: Life, found: Faults, what: What) -> None:
    """After a death the next start comes; after an errno the process goes on, to its end."""
    is_cut = found.is_dead and what in ("cut", "cut_names")
    if not found.is_dead:
        for stream in life.running[:]:
            stream.write(9)
            life.tick(stream)
            life.stop(stream)
            life.saved[stream] = stream.n_frames
    life.crash()
    life.catalog.close()
    if is_cut:
        found.cut()
        for path in life.slots.glob("*"):
            path.unlink()
    with mock.patch.object(recovery, "HALF_MADE_AFTER_S", -1.0):
        report = recover(life.store, life.slots)
        assert report.ok, report
        assert recover(life.store, life.slots).items == [], "all was done the first time"
    assert list(life.slots.glob("*")) == []
    for stream in life.streams:
        accounted(life, stream, is_cut=is_cut)
    with Catalog(life.store) as catalog:
        assert catalog.audit() == 0
        agree(catalog, life.store.root)
    retire(life.store, None)
    tidy(life)
    exported(life)


def accounted(life: Life, stream: CrashingStream, *, is_cut: bool) -> None:
    """Each frame of the model is there or told, but for those after the last checkpoint where power was cut."""
    if not stream.recording.exists():
        assert stream in life.removed or (is_cut and stream not in life.saved), "it was on the disk"
        return
    info = load(stream.recording)
    assert verify(stream.recording).bad == []
    assert info.finish is not None
    least = life.saved.get(stream, 0) if is_cut else stream.n_frames
    assert info.n_frames >= least
    n = min(info.n_frames, stream.n_frames)
    causes = causes_of(info.gaps, info.n_frames)[:n]
    is_retired = causes == int(Cause.RETIRED)
    is_lost = causes == int(Cause.ENGINE_DOWN)
    assert not is_lost[:least].any()
    np.testing.assert_array_equal(np.where(is_retired, 0, causes)[~is_lost], stream.causes[:n][~is_lost])
    expected = np.where(is_retired | is_lost, np.float32(0), stream.model[:, :n])
    with reader.open(stream.recording) as recording:
        np.testing.assert_array_equal(recording[:n], expected)


def tidy(life: Life) -> None:
    """Nothing is left behind that nobody needs, and nothing has gone that somebody does."""
    used = pinned_hashes(life.store)
    for path in life.store.paths():
        chunks = path / "audio" / "c" / "0"
        there = {each.name for each in chunks.iterdir()}
        assert all(name.isdecimal() for name in there), there
        used |= {sealed.hash for sealed in load(path).chunks if str(sealed.chunk) in there}
    objects = {path.parent.name + path.name for path in life.store.objects.root.glob("*/*")}
    assert objects == used
    for each in pins(life.store):
        assert {span.hash for span in each.chunks} <= objects
    assert list(life.store.half_made()) == []


def exported(life: Life) -> None:
    """A file is whole or not there; the next save leaves nothing else."""
    out = life.folder / "out.wav"
    if not any(load(path).n_frames for path in life.store.paths()[:1]):
        return
    told = sum(each.n_frames for each in life.report.damaged) if life.report else 0  # what could not be read
    for is_anew in (False, True):
        with reader.open(life.store.paths()[0]) as recording:
            if is_anew:
                save(recording, out, force=True)
            if out.exists():
                samples, _ = soundfile.read(out, dtype="float32", always_2d=True)
                first = recording.n_frames - len(samples)
                n_other = int((recording[first:] != samples.T).any(axis=0).sum())
                assert n_other == 0 if is_anew else n_other <= told
    assert {path.name for path in life.folder.iterdir()} <= {"store", "slots", "out.wav", "out.txt"}


def run(phase: Phase, fault: Fault | None) -> Faults:
    """The phase with the fault, and what must be so after it."""
    with fast_folder() as folder, ExitStack() as stack:
        life = Life(folder)
        stack.callback(life.catalog.close)
        stack.callback(life.crash)
        work = phase(life)
        with faults(folder, fault) as found:
            life.met = found
            with suppress(StorageFull, StorageFailed):
                work()
            life.live_on()
        check(life, found, fault.what if fault else "EIO")
        return found


@pytest.mark.timeout(1200)
@pytest.mark.parametrize("what", get_args(What))
@pytest.mark.parametrize("name", PHASES)
def test_nothing_is_lost_wherever_it_fails(name: str, what: What) -> None:
    calls = run(PHASES[name], None).seen
    assert calls
    first = get_args(What).index(what) % min(STEP, len(calls))
    for number in range(first, len(calls), STEP):
        fault = Fault(what, number)
        try:
            found = run(PHASES[name], fault)
        except BaseException as error:
            error.add_note(f"{fault}: {calls[number]}, of {len(calls)} calls")
            raise
        assert found.happened or what in ("EIO", "ENOSPC"), fault


@pytest.mark.parametrize("call", ["fsync", "fdatasync", "pwrite", "replace", "link"])
def test_one_call_can_be_chosen(call: str) -> None:
    found = run(seal, Fault("kill", 1, call))
    assert found.happened is not None
    assert found.happened.startswith(call)
    assert found.seen.count(call) == 2


def test_a_dead_process_changes_nothing(tmp_path: Path) -> None:
    with fast_folder() as folder:
        with faults(folder, Fault("kill", 1)) as found:
            (folder / "one").mkdir()
            try:
                (folder / "two").mkdir()
            finally:
                (folder / "three").mkdir()
        assert found.is_dead
        assert [path.name for path in folder.iterdir() if path.name != "store"] == ["one"]


def test_of_a_power_cut_the_disk_keeps_what_was_synced() -> None:
    with fast_folder() as folder:
        (folder / "old").write_bytes(b"old")
        with faults(folder, Fault("cut", 0, "rmdir")) as found:
            fd = os.open(folder / "new", os.O_RDWR | os.O_CREAT)
            os.pwrite(fd, b"synced", 0)
            os.fsync(fd)
            os.pwrite(fd, b" or not", 6)
            (folder / "old").unlink()
            os.close(fd)
            (folder / "nothing").rmdir()
        found.cut()
        assert {path.name for path in folder.iterdir()} == {"store", "old"}, "no name was synced"
        assert (folder / "old").read_bytes() == b"old"
        with faults(folder, Fault("cut", 0, "rmdir")) as found:
            fd = os.open(folder / "new", os.O_RDWR | os.O_CREAT)
            os.pwrite(fd, b"synced", 0)
            os.fsync(fd)
            os.pwrite(fd, b" or not", 6)
            os.close(fd)
            fd = os.open(folder, os.O_RDONLY)
            os.fsync(fd)
            os.close(fd)
            (folder / "nothing").rmdir()
        found.cut()
        assert (folder / "new").read_bytes() == b"synced"
