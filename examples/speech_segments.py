"""Finds speech while it is recorded, and marks where each stretch of it begins.

    pip install "auditok[webrtcvad]"
    python speech_segments.py "USB Mic" --for 60

auditok cuts the stream into stretches, and WebRTC's detector says what is a voice. Both are wheels of 0.2 MB in all.
"""

from __future__ import annotations

import argparse

import auditok
import numpy as np

import chaos

BLOCK_S = 0.1


class Blocks(auditok.AudioSource):
    """What auditok reads: the first channel of a capture as 16 bits, for so many seconds.

    A gap is silence to it: nobody spoke in frames that are not there. The ledger has it all the same.
    """

    def __init__(self, stream: chaos.Capture, seconds: float) -> None:
        super().__init__(stream.sample_rate, 2, 1)
        self._blocks = stream.blocks(BLOCK_S, missing="zeros")
        self.first_frame = self._blocks.frame
        self._left = round(seconds * stream.sample_rate)
        self._waiting = b""

    def is_open(self) -> bool:
        return True

    def open(self) -> None:
        pass

    def close(self) -> None:
        pass

    def read(self, size: int) -> bytes | None:
        while len(self._waiting) < 2 * size and self._left > 0:
            block = next(self._blocks, None)
            if block is None:
                self._left = 0
                break
            self._waiting += (np.clip(block[0], -1, 1) * 32767).astype("<i2").tobytes()
            self._left -= block.shape[1]
        given, self._waiting = self._waiting[: 2 * size], self._waiting[2 * size :]
        return given or None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("device", nargs="?")
    parser.add_argument("--for", dest="seconds", type=float, default=60.0)
    options = parser.parse_args()
    with chaos.capture(options.device) as stream:
        source = Blocks(stream, options.seconds)
        for number, region in enumerate(auditok.split(source, validator="webrtc", max_dur=None), 1):
            begin = region.start or 0.0
            first = source.first_frame + round(begin * stream.sample_rate)
            stream.mark(f"speech {number}", first)
            length = len(region) / stream.sample_rate
            print(f"{stream.uri} frame {first}: {begin:.2f} s, {length:.2f} s long", flush=True)


if __name__ == "__main__":
    main()
