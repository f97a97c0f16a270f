"""What the log is told of many clients that are disconnected at once."""

from __future__ import annotations

import pytest

from chaos.doors.zmq import notices
from chaos.doors.zmq.notices import Notices


def test_a_burst_has_two_lines(caplog: pytest.LogCaptureFixture) -> None:
    told = Notices()
    for number in range(60):
        told.disconnected(f"it left {number} bytes unread")
    told.disconnected("it sent too much")
    told.tell_the_rest()
    assert told.wait_ms is not None
    told.tell_the_rest(of_all=True)
    assert told.wait_ms is None
    assert [record.message for record in caplog.records] == [
        "a client is disconnected: it left 0 bytes unread",
        "a client is disconnected: it sent too much",
        "59 more clients are disconnected, the last: it left 59 bytes unread",
    ]


def test_what_comes_after_a_burst_is_told_at_once(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(notices, "_ONE_BURST_S", 0.0)
    told = Notices()
    for _ in range(3):
        for _ in range(2):
            told.disconnected("it sent too much")
        assert told.wait_ms == 0
        told.tell_the_rest()
    assert [record.message.partition(":")[0] for record in caplog.records] == [
        "a client is disconnected", "one more client is disconnected"
    ] * 3  # fmt: skip
