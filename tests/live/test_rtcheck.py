"""What `tools/rtcheck` proves, as part of the suite: the process callback does nothing that could make it late."""

from __future__ import annotations

import json
import platform
from pathlib import Path

import pytest
from proof import rtcheck
from rig import Session


@pytest.mark.parametrize(("channels", "layout", "sample_format"), rtcheck.CASES)
def test_the_callback_does_not_allocate_lock_fault_or_call_the_kernel(
    session: Session, tmp_path: Path, channels: int, layout: str, sample_format: str
) -> None:
    assert platform.machine() == "x86_64", "Syscall User Dispatch is x86-64's"
    case = rtcheck.check(session, tmp_path, channels, layout, sample_format)
    expect_clean(case)
    assert {"device_away", "missed", "overrun"} <= set(case.causes)
    assert case.n_chunks > 20


def test_the_callback_of_events_does_neither(session: Session, tmp_path: Path) -> None:
    assert platform.machine() == "x86_64", "Syscall User Dispatch is x86-64's"
    case = rtcheck.check_midi(session, tmp_path)
    expect_clean(case)
    assert {"device_away", "midi_overflow", "overrun"} <= set(case.causes)
    assert case.n_chunks > 10


def test_nor_where_a_device_breaks_every_rule(session: Session, tmp_path: Path) -> None:
    assert platform.machine() == "x86_64", "Syscall User Dispatch is x86-64's"
    case = rtcheck.check_device(session, tmp_path, "planar")
    expect_clean(case)
    assert {"device_away", "missed", "no_data", "clock_jump", "overrun"} <= set(case.causes)


def expect_clean(case: rtcheck.Case) -> None:
    assert case.dispatch_errno == 0
    assert case.blind == [], "a detector did not see the offence it was shown"
    assert case.control.syscalls[rtcheck.GETPPID] == 1
    assert case.ok, json.dumps(case.findings())
