"""chaosctl top where chaosd doesn't answer: keys are heard, and the picture goes on."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import pytest

from chaos.cli.asker import Asker
from chaos.cli.board import Board
from chaos.cli.levels import Levels
from chaos.cli.top import _Screen, _Top
from chaos.client import Asking
from chaos.terms.errors import StreamNotFound

HANGS_S = 60.0
STREAM: dict[str, Any] = {
    "uri": "stream://desk/1", "state": "streaming", "head_frame": 48_000, "recording": "",
    "format": {"type": "audio", "channels": 2, "sample_rate": 48_000, "sample_format": "f32"},
    "n_chunks_sealed": 0, "n_gaps": 0, "lost_frames": 0, "slots": {"total": 4, "free": 3, "full": 0},
    "levels": [], "device": None,
}  # fmt: skip


class Chaosd(Asking):
    """Answers `stream_list` and `stream_stop` once it is told to; until then it hangs, as one that is stopped does."""

    def __init__(self) -> None:
        self.goes_on = threading.Event()
        self.asked: list[str] = []
        self.is_asked = threading.Event()
        self.answers: dict[str, Any] = {"stream_list": {"streams": [STREAM]}}

    def call(self, op: str, /, **fields: Any) -> dict[str, Any]:
        self.asked.append(op)
        self.is_asked.set()
        assert self.goes_on.wait(HANGS_S)
        answer = self.answers.get(op)
        if answer is None:
            raise StreamNotFound("no such stream")
        return dict(answer)


class Keys(_Screen):
    """A person who presses these keys, each once the step before it has been done."""

    def __init__(self, *steps: str | Callable[[], object]) -> None:
        super().__init__()
        self.steps = list(steps)
        self.shown: list[list[str]] = []

    def size(self) -> tuple[int, int]:
        return 80, 24

    def draw(self, lines: list[str]) -> None:
        self.shown.append(lines)

    def key(self, timeout_s: float) -> str:
        step = self.steps.pop(0)
        if isinstance(step, str):
            return step
        step()
        return ""


@pytest.fixture
def chaosd() -> Iterator[Chaosd]:
    made = Chaosd()
    yield made
    made.goes_on.set()


def watch(chaosd: Chaosd, tmp_path: Path, *steps: str | Callable[[], object]) -> str:
    """What is noted at the end."""
    keys, board = Keys(*steps), Board(30)
    levels = cast("Levels", type("NoLevels", (), {"of": staticmethod(lambda stream: stream)}))
    _Top(Asker(chaosd), tmp_path, levels, keys, board, 30).run([STREAM])
    assert len(keys.shown) == len(steps), "the picture went on at each step"
    return board.note


def test_q_ends_it_while_chaosd_hangs(chaosd: Chaosd, tmp_path: Path) -> None:
    watch(chaosd, tmp_path, lambda: chaosd.is_asked.wait(HANGS_S), "j", "q")
    assert not chaosd.goes_on.is_set()
    assert chaosd.asked == ["stream_list"]


def test_ctrl_c_does_so_too(chaosd: Chaosd, tmp_path: Path) -> None:
    def interrupt() -> None:
        raise KeyboardInterrupt

    watch(chaosd, tmp_path, lambda: chaosd.is_asked.wait(HANGS_S), interrupt)
    assert not chaosd.goes_on.is_set()


def test_what_a_key_asked_for_is_awaited_where_chaosd_answers(
    chaosd: Chaosd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("chaos.cli.top._ASK_S", HANGS_S)
    chaosd.goes_on.set()
    chaosd.answers["stream_stop"] = {"n_frames": 5, "lost_frames": 0}
    assert watch(chaosd, tmp_path, "s", "y", "q") == "stopped: 5 frames of stream://desk/1, 0 lost"
    del chaosd.answers["stream_stop"]
    assert watch(chaosd, tmp_path, "s", "y", "q") == "no such stream"


def test_keys_that_are_typed_fast_are_heard_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    reading, writing = os.pipe()
    with os.fdopen(reading) as typed, os.fdopen(writing, "wb", buffering=0) as keyboard:
        monkeypatch.setattr("sys.stdin", typed)
        screen = _Screen()
        keyboard.write(b"sy\x1b[Aq")
        assert [screen.key(HANGS_S) for _ in range(4)] == ["s", "y", "\x1b[A", "q"]
        assert screen.key(0) == ""
