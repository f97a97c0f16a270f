"""A follower of a live recording, in a process of its own. It says what it sees in JSON, line by line.

follower.py RECORDING SOURCE_ID BLOCK_FRAMES N_FRAMES

It begins at the head, says {"began": frame} after its first block, {"lapped": details} when it was lapped, and in the
end {"n_frames", "right", "lost", "n_laps", "interrupted"}: how many frames it got, how many of them were right (they
carry the number of their place, or are silent in a gap of the ledger), how many were in gaps, how often it was lapped,
and whether the engine had died.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2] / "tools"))

from rig.counting import check

import chaos
from chaos.read.follow import Interrupted, Lapped


def say(**what: Any) -> None:
    print(json.dumps(what), flush=True)


def main(path: str, source_id: int, block_frames: int, wanted: int) -> None:
    with chaos.open(path) as recording:
        follower = recording.follow(block_frames, timeout_s=60)
        n_frames = right = lost = 0
        origin: int | None = None
        interrupted = False
        while n_frames < wanted:
            frame = follower.frame
            try:
                block = next(follower)
            except Lapped as lapped:
                say(lapped=lapped.details)
                continue
            except StopIteration:
                break
            except Interrupted:
                interrupted = True
                break
            gaps = [
                (max(gap.first_frame - frame, 0), gap.end_frame - max(gap.first_frame, frame))
                for gap in recording.gaps_between(frame, follower.frame)
            ]
            if origin is None and gaps:
                continue
            first = None if origin is None else origin + frame
            found = check(block, source_id, first=first, gaps=gaps)
            if origin is None:
                origin = found.first - frame
                say(began=frame)
            n_frames += block.shape[1]
            right += found.right
            lost += sum(min(at + length, block.shape[1]) - at for at, length in gaps)
        say(n_frames=n_frames, right=right, lost=lost, n_laps=follower.n_laps, interrupted=interrupted)


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:5]))
