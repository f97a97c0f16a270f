"""Marks each place where a device becomes loud, to the sample, so that `chaosctl list` and a saved file have it.

    python level_marks.py "USB Mic" --above -20 --marks 3
"""

from __future__ import annotations

import argparse

import numpy as np

import chaos

HOLD_S = 0.5  # as long as it must be quiet before the next mark


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("device", nargs="?")
    parser.add_argument("--above", type=float, default=-20.0, help="dBFS")
    parser.add_argument("--marks", type=int, default=10, help="how many until it ends")
    options = parser.parse_args()
    threshold = 10 ** (options.above / 20)
    with chaos.capture(options.device) as stream:
        quiet_from, n_marks = 0, 0
        blocks = stream.recording.follow(stream.sample_rate // 20, 0)  # from the recording's first frame on
        begin = 0
        for block in blocks:
            for at in np.flatnonzero((abs(block) > threshold).any(axis=0)):
                frame = begin + int(at)
                if frame >= quiet_from:
                    n_marks += 1
                    stream.mark(f"loud {n_marks}", frame)
                    moment = stream.recording.moment_of(frame)
                    print(f"{stream.uri} frame {frame}: {moment:%H:%M:%S.%f}", flush=True)
                quiet_from = frame + round(HOLD_S * stream.sample_rate)
            begin = blocks.frame
            if n_marks >= options.marks:
                break


if __name__ == "__main__":
    main()
