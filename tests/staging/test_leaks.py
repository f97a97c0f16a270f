"""Handles that nobody closed say so, and give back what they held; and one that could not be made breaks nothing."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
from pathlib import Path

import pytest

from chaos.staging.owner import Staging
from chaos.terms.form import AudioForm

WITHOUT_DESCRIPTORS = """
import os, resource, sys
from chaos._connection import Connection
from chaos.terms.errors import ChaosError

resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
held = []
def fill():
    while True:
        try:
            held.append(os.open("/dev/zero", os.O_RDONLY))
        except OSError:
            return
before = os.fstat(0)
for n_free in range(20):
    fill()
    for _ in range(n_free):
        os.close(held.pop())
    try:
        Connection("nobody-is-there")
    except ChaosError as error:
        print(error.code, bool(error.hint))
print(os.path.sameopenfile(0, 0) and os.fstat(0) == before)
"""


def staging(folder: Path, wake: int) -> Staging:
    return Staging(
        folder / "s.staging", uri="stream://t/1", recording="", run_id="0" * 32,
        form=AudioForm(2, 64, "f32"), n_slots=3, sample_rate=48000, wake_fd=wake,
    )  # fmt: skip


def test_slots_that_nobody_closed_say_so(tmp_path: Path) -> None:
    wake = os.eventfd(0)
    lost = [staging(tmp_path, wake)]
    with pytest.warns(ResourceWarning, match="unclosed AudioSlots"):
        lost.clear()
    os.close(wake)


def test_closed_ones_say_nothing(tmp_path: Path) -> None:
    wake = os.eventfd(0)
    one = staging(tmp_path, wake)
    one.close()
    del one
    gc.collect()
    os.close(wake)


def test_a_connection_without_descriptors_is_refused_and_touches_no_other() -> None:
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_DESCRIPTORS], stdin=subprocess.PIPE, capture_output=True, text=True, check=True
    )
    *refused, same = done.stdout.split("\n")[:-1]
    assert refused == ["pipewire_unavailable True"] * 20
    assert same == "True"
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr
