"""The promise for MIDI: a keyboard that plays hundreds of events a second, what is done to its capture, the account.

Each event offered is in the recording, at its frame and with its bytes, once; or it lies in a gap of the ledger. The
faults are `proof.truth`'s, and bursts that are more than a cycle's buffer holds.
"""

from __future__ import annotations

import random
import time
from bisect import bisect_right
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from rig import MIDI, Event, MidiSource, Session, random_tune

import chaos
from chaos.terms.ledger import ClockAnchor, Gap
from proof.engine import Engine, data_thread
from proof.faults import SlowDisk, hold_thread, stopped

__all__ = ["Account", "account", "capture"]

URI = "stream://truth/keys"
KINDS = ("client_stopped", "data_thread_held", "quantum_changed", "device_lost", "disk_slow")
APART = 1 << 40
_JUMPS = ("driver_switch", "clock_jump")
BURST = 100


@dataclass
class Account:
    """What became of the events: `lost` are those that are neither stored nor in a gap, `misplaced` those that are
    stored and were not offered there."""

    offered: int = 0
    stored: int = 0
    in_gaps: Counter[str] = field(default_factory=Counter)
    misplaced: int = 0
    lost: int = 0
    first_bad: list[str] = field(default_factory=list)
    verified: bool = True
    faults: Counter[str] = field(default_factory=Counter)

    @property
    def ok(self) -> bool:
        return self.verified and not (self.misplaced or self.lost)


def capture(session: Session, folder: Path, *, seconds: float, seed: int, pause_s: float = 0.6) -> Account:
    """One capture with its faults, `pause_s` apart in the mean. Raises RigError where the rig itself fails."""
    chance, faults = random.Random(seed), Counter[str]()
    disk = SlowDisk(folder)
    lives: list[list[Event]] = []
    with Engine(session, folder, variables=disk.variables) as engine, ExitStack() as stack:

        def plug_in() -> MidiSource:
            """One more life of the device: its clock is far from that of the one before."""
            tune = random_tune(seed + len(lives), int(400 * seconds), int(48_000 * 2 * seconds))
            bursts = [
                Event(at, 0, MIDI, b"\xf0" + bytes([n % 128]) * 1000 + b"\xf7")
                for at in range(200_000, int(48_000 * 2 * seconds), 400_000)
                for n in range(BURST)
            ]
            script = [event for event in [*tune, *bursts] if event.data != b"\xfe"]
            source = MidiSource(
                session, script, name="truth-keys", start=APART * (len(lives) + 1), patience_ms=0, buffer_bytes=1 << 18
            )
            stack.callback(source.stop)
            engine.await_state(URI, "streaming")
            first = source.play()
            lives.append([event.moved(first) for event in script])
            return source

        engine.call("stream_start", uri=URI, device_identity="truth-keys", format={"type": "midi"}, wait=True)
        source = plug_in()
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            time.sleep(chance.uniform(0.1, 2 * pause_s))  # capture runs well between faults
            kind = chance.choice(KINDS)
            faults[kind] += 1
            lasts_s = chance.choice([0.001, 0.01, 0.03, 0.1, 0.3]) * chance.uniform(0.5, 1.0)
            match kind:
                case "client_stopped":
                    with stopped(engine.pid):
                        time.sleep(lasts_s)  # the fault lasts
                case "data_thread_held":
                    hold_thread(data_thread(engine.pid), lasts_s)
                case "quantum_changed":
                    session.force_quantum(chance.choice([64, 128, 256, 512, 1024, 2048]))
                case "device_lost":
                    source.stop()
                    engine.await_state(URI, "waiting")
                    source = plug_in()
                case "disk_slow":
                    disk.set(1.0)
                    time.sleep(0.5)
                    disk.set(0)
        source.hold()
        path = Path(engine.call("stream_stop", uri=URI)["recording"])
        verified = bool(engine.call("verify", uri=URI)["ok"])
    session.force_quantum(0)
    with chaos.open(path) as recording:
        rows = [(int(row.frame), row.bytes) for row in recording.events[:] if row.bytes != b"\xfe"]
        found = account(lives, rows, recording.anchors, recording.gaps, recording.n_frames)
    found.verified, found.faults = verified, faults
    return found


def account(
    lives: list[list[Event]],
    rows: list[tuple[int, bytes]],
    anchors: list[ClockAnchor],
    gaps: list[Gap],
    n_frames: int,
) -> Account:
    """What became of the events offered in each life of the device, whose positions are APART."""
    found = Account()
    stored = Counter(rows)
    ends = {(gap.end_frame, gap.cause.label) for gap in gaps}
    spans = sorted((gap.first_frame, gap.end_frame, gap.cause.label) for gap in gaps if gap.n_frames)
    for number, events in enumerate(lives):
        mine = sorted(
            (each for each in anchors if each.position // APART == number + 1), key=lambda anchor: anchor.position
        )
        later = min((each.frame for each in anchors if each.position // APART > number + 1), default=n_frames)
        for event in events:
            if not mine:  # it was gone before anything of it was captured
                break
            at = max(bisect_right(mine, event.frame, key=lambda anchor: anchor.position) - 1, 0)
            frame = mine[at].frame + event.frame - mine[at].position
            if frame < 0 or frame >= later:  # before the take, or behind what the device had played
                continue
            found.offered += 1
            if at + 1 < len(mine) and frame >= mine[at + 1].frame:  # the clock jumped over it faster than time went on
                jumps = [cause for end, cause in ends if end == mine[at + 1].frame and cause in _JUMPS]
                if jumps:
                    found.in_gaps[jumps[0]] += 1
                else:
                    found.lost += 1
                    found.first_bad.append(f"jumped over: {event.data[:8].hex()} before frame {mine[at + 1].frame}")
                continue
            if stored[frame, event.data] > 0:
                stored[frame, event.data] -= 1
                found.stored += 1
                continue
            span = bisect_right(spans, frame, key=lambda each: each[0]) - 1
            if span >= 0 and frame < spans[span][1]:
                found.in_gaps[spans[span][2]] += 1
                continue
            found.lost += 1
            found.first_bad.append(f"lost: {event.data[:8].hex()} at frame {frame}")
    for (frame, data), times in stored.items():
        found.misplaced += times
        if times:
            found.first_bad.append(f"not offered there: {data[:8].hex()} at frame {frame}")
    return found
