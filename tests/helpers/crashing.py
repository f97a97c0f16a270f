"""A stream without PipeWire that may crash: the callback's own code, the rotator's own code, and a model."""

from __future__ import annotations

import os
import secrets
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import zarr
from prepared import in_graph
from recorded import DTYPES, definition

from chaos.engine.messages import ClockWasSet, Rotate, Stored, StoreRest, Tick
from chaos.engine.rotator import ChunkRotatorActor, RotatorPlan
from chaos.protocol.events import Event
from chaos.staging.layout import SUFFIX
from chaos.staging.owner import Staging
from chaos.store.about import about
from chaos.store.info import load
from chaos.store.store import Store
from chaos.store.verify import verify
from chaos.system.kernelclock import ClockQuality, clock_quality
from chaos.system.machine import boot_id
from chaos.terms.ledger import Cause, Gap

__all__ = ["RATE", "CrashingStream", "causes_of", "check_recording", "fast_folder"]

RATE = 48000


@contextmanager
def fast_folder() -> Iterator[Path]:
    """A folder of its own, in memory where that is possible: fsync costs nothing there."""
    base = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix="chaos-", dir=base) as name:
        folder = Path(name)
        (folder / "store").mkdir()
        yield folder


class _Ear:
    """Stands for the stream's actor: hears what it is told."""

    def __init__(self) -> None:
        self.heard: list[Any] = []

    def tell(self, message: Any) -> None:
        self.heard.append(message)


class CrashingStream:
    """`write`, `miss` and `no_data` are cycles of the graph, `rotate` and `tick` the rotator's turns.

    `model` holds the frames, (channels, n), and `causes` a Cause for each frame, 0 where it was captured.
    """

    def __init__(
        self,
        store: Path,
        staging_dir: Path,
        uri: str = "stream://mic/take",
        *,
        channels: int = 2,
        chunk_frames: int = 16,
        n_slots: int = 4,
        sample_format: Any = "f32",
        external: bool = False,
        margin_bytes: int = 0,
        continues: str | None = None,
        seed: int = 0,
        chunk_bytes: int | None = None,
        quality: Callable[[], ClockQuality] = clock_quality,
        session: tuple[str, list[str]] | None = None,
    ) -> None:
        self.uri = uri
        store.mkdir(parents=True, exist_ok=True)  # as the daemon has it at its start
        self.recording = Store(store).path(uri)
        self.events: list[tuple[str, dict[str, Any]]] = []
        self.stream = _Ear()
        self._wake = os.eventfd(0, os.EFD_NONBLOCK)
        path = staging_dir / f"{secrets.token_hex(4)}{SUFFIX}"
        run_id = secrets.token_hex(16)
        more = {"staging": str(path), "external": external, "chunk_bytes": chunk_bytes}
        if session is not None:
            more |= {"session": session[0], "session_uris": session[1]}
        plan = definition(uri, channels, chunk_frames, sample_format, **more)
        plan = msgspec.structs.replace(plan, run_id=run_id, boot_id=boot_id(), continues=continues)
        self.about = about(plan, Store(store))
        self.staging = Staging(
            path,
            uri=uri,
            recording="",
            run_id=run_id,
            form=plan.form,
            n_slots=n_slots,
            sample_rate=0,
            wake_fd=self._wake,
            about=self.about,
        )
        first_path = store / "outside" / "0" if external else None
        told = RotatorPlan(Store(store), plan, self._hear, first_path, margin_bytes, quality)
        self.rotator = ChunkRotatorActor(self.stream, self.staging, told)  # type: ignore[arg-type]
        self.model: npt.NDArray[Any] = np.zeros((channels, 0), DTYPES.get(sample_format, "u1"))
        self.causes: npt.NDArray[np.int64] = np.zeros(0, np.int64)
        self._random = np.random.default_rng(seed)
        self._position = 1000
        self._booked = 1000
        self._began_ns = time.monotonic_ns()

    @property
    def n_frames(self) -> int:
        return self.model.shape[1]

    def told(self, *kinds: str) -> list[str]:
        """The events of these types so far, in order."""
        return [kind for kind, _ in self.events if kind in kinds]

    def write(self, n_frames: int) -> None:
        """A cycle whose frames are captured as far as there are slots."""
        shape = self.model.shape[0], n_frames
        if self.model.dtype.kind == "f":
            frames = self._random.uniform(-1, 1, shape).astype(self.model.dtype)
        else:
            frames = self._random.integers(-30000, 30000, shape).astype(self.model.dtype)
        before = self.staging.slots.stats()["n_captured"]
        self._cycle(n_frames, in_graph(frames).tobytes())
        n_captured = self.staging.slots.stats()["n_captured"] - before
        causes = np.full(n_frames, int(Cause.OVERRUN))
        causes[:n_captured] = 0
        frames[:, n_captured:] = 0
        self._expect(frames, causes)

    def miss(self, n_frames: int) -> None:
        """Cycles that run without us; the next one tells."""
        if self.n_frames:
            self._position += n_frames

    def no_data(self, n_frames: int) -> None:
        """A cycle in which the device delivers nothing."""
        if self.n_frames:
            self._cycle(n_frames, None)
            self._expect_gap(n_frames, Cause.NO_DATA)

    def hand_over(self, following: CrashingStream, n_frames: int) -> bool:
        """Whether `following` goes on with the next cycle, of `n_frames`, in this stream's place."""
        if not self.staging.slots.hands_over(following.staging.slots, self._position, n_frames, rate=RATE):
            return False
        following._position = following._booked = self._position
        following._began_ns = self._began_ns
        following.write(n_frames)
        return True

    def rotate(self) -> None:
        self.rotator.on_receive(Rotate())

    def tick(self) -> None:
        self.rotator.on_receive(Tick())

    def clock_was_set(self) -> None:
        self.rotator.on_receive(ClockWasSet())

    def finish(self, end_ns: int | None = None) -> None:
        """The rotator stores the rest, if it can. `end_ns`: when that is (CLOCK_MONOTONIC), where it matters."""
        self.rotator.on_receive(StoreRest(end_ns))

    def stop(self, end_ns: int | None = None) -> None:
        """A clean end; what storage refuses stays in staging."""
        self.finish(end_ns)
        self._let_go(remove=not any(isinstance(told, Stored) and told.error for told in self.stream.heard))

    def crash(self) -> None:
        """As `kill -9` does: locks go, files stay, and what was in memory is gone."""
        self.rotator.on_stop()
        self._let_go(remove=False)

    def _hear(self, event: Event) -> None:
        self.events.append((event.type, msgspec.structs.asdict(event)))

    def _let_go(self, *, remove: bool) -> None:
        try:
            self.staging.close(remove=remove)
        finally:
            os.close(self._wake)

    def _cycle(self, n_frames: int, data: bytes | None) -> None:
        if self._position > self._booked:
            self._expect_gap(self._position - self._booked, Cause.MISSED)
        elapsed_ns = (self._position - 1000) * 1_000_000_000 // RATE
        self.staging.slots.cycle(
            self._position, n_frames, data, rate=RATE, monotonic_ns=self._began_ns + elapsed_ns
        )
        self._position += n_frames
        self._booked = self._position

    def _expect_gap(self, n_frames: int, cause: Cause) -> None:
        silence = np.zeros((self.model.shape[0], n_frames), self.model.dtype)
        self._expect(silence, np.full(n_frames, int(cause)))

    def _expect(self, frames: npt.NDArray[Any], causes: npt.NDArray[np.int64]) -> None:
        self.model = np.concatenate([self.model, frames], axis=1)
        self.causes = np.concatenate([self.causes, causes])


def causes_of(gaps: Iterable[Gap], n_frames: int) -> npt.NDArray[np.int64]:
    """The cause of each frame by the ledger, 0 where none is told; each frame may be in one gap at most."""
    causes = np.zeros(n_frames, np.int64)
    for gap in gaps:
        within = causes[gap.first_frame : gap.end_frame]
        assert not within.any(), f"{gap} overlaps another"
        within[:] = gap.cause
    return causes


def check_recording(stream: CrashingStream, n_lost: int = 0) -> None:
    """The recording holds each frame of the model and tells each gap, and behind them only that the engine was
    down; the last `n_lost` frames of the model may be in that."""
    info = load(stream.recording)
    assert verify(stream.recording).bad == []
    kept = stream.n_frames - n_lost
    group: Any = zarr.open_group(stream.recording, mode="r")
    audio = group["audio"][:]
    np.testing.assert_array_equal(audio[:, :kept], stream.model[:, :kept])
    assert not audio[:, kept:].any()
    causes = causes_of(info.gaps, info.n_frames)
    np.testing.assert_array_equal(causes[:kept], stream.causes[:kept])
    assert set(causes[kept:]) <= {int(Cause.ENGINE_DOWN)}
    assert info.n_frames >= kept
