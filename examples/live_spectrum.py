"""The spectrum of a device, ten times a second: the loudest frequency, and a bar for each octave.

    python live_spectrum.py "USB Mic" --for 10
"""

from __future__ import annotations

import argparse
import itertools

import numpy as np

import chaos

OCTAVES = [62.5 * 2**n for n in range(9)]
BARS = " ▁▂▃▄▅▆▇█"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("device", nargs="?")
    parser.add_argument("--for", dest="seconds", type=float, default=10.0)
    options = parser.parse_args()
    with chaos.capture(options.device, keep="1min") as stream:
        rate = stream.sample_rate
        window = np.hanning(round(0.1 * rate))
        frequencies = np.fft.rfftfreq(window.size, 1 / rate)
        for number, block in enumerate(stream.blocks(0.1)):
            if number >= options.seconds * 10 or block.shape[1] < window.size:
                break
            sound = block.mean(axis=0)  # NaN where frames are missing: there is no spectrum of those
            if np.isnan(sound).any():
                print("missing:", ", ".join(gap.cause.label for gap in stream.gaps[-1:]))
                continue
            power = np.abs(np.fft.rfft(sound * window)) ** 2
            edges = np.searchsorted(frequencies, [*(f / 2**0.5 for f in OCTAVES), OCTAVES[-1] * 2**0.5])
            bands = 10 * np.log10([power[a:b].sum() + 1e-12 for a, b in itertools.pairwise(edges)])
            bars = "".join(BARS[int(np.clip((band + 40) / 10, 0, 8))] for band in bands)
            print(f"{frequencies[power.argmax()]:7.0f} Hz  |{bars}|", flush=True)


if __name__ == "__main__":
    main()
