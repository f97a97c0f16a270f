"""The capture that everything else is measured against: a client that copies and does nothing else."""

from __future__ import annotations

import json
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from rig.programs import program
from rig.session import Session

__all__ = ["Tapped", "tap"]


@dataclass(frozen=True)
class Tapped:
    """`samples` of shape (channels, frames), zeros where a cycle was missed; `first` is the clock position of
    frame 0, `missed` how many frames of cycles passed the client by."""

    samples: npt.NDArray[np.float32]
    first: int
    missed: int


def tap(session: Session, target: str, channels: int, n_frames: int, timeout_s: float = 60.0) -> Tapped:
    """Captures frames of the node of that name with a minimal client in C. Raises `RigError`."""
    path = session.root / f"tap-{target}.f32"
    said = session.run(
        str(program("tap")), target, str(channels), str(n_frames), str(path), timeout_s=timeout_s
    )
    done = json.loads(said.splitlines()[-1])
    samples = np.fromfile(path, dtype=np.float32).reshape(channels, n_frames)
    path.unlink()
    return Tapped(samples=samples, first=done["first"], missed=done["missed"])
