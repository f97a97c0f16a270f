"""Whatever a tool is called with, it answers or says what is wrong; nothing is raised or written that must not be."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from recorded import Rotator, definition

from chaos.agents.account import clock_of
from chaos.agents.answers import ANSWERS
from chaos.agents.arguments import EXAMPLES, TOOLS
from chaos.agents.tools import Settings, Tools
from chaos.store.store import Store
from chaos.store.writer import RecordingWriter
from chaos.terms.errors import ChaosError
from chaos.terms.ledger import ClockAnchor, ClockState

URI = "stream://mic/take"
ODD_TEXT = st.sampled_from(
    [
        *("", " ", ".", "..", "/", "\0", "a\0b", "../x.wav", "x.wav", "a/b.wav", "~", "x" * 300, "stream://", URI),
        *("stream://../..", "stream://mic/take.0001", "stream://mic/nothing", "\x1b[2J", "\ud800", "%s%n"),
        *("-30s", "30s", "1e400s", "0s", "5", "99999999999", "head", "start", "7d", "take.flac", "take.mid", "take.no"),
        *("2026-01-31T14:05:00Z", "2026-13-99", "9999-12-31T23:59:59+00:00", "0001-01-01T00:00:00Z"),
        *("audio", "zeros", "cut", "nan"),
    ]
)
ODD = ODD_TEXT | st.text(max_size=10) | st.integers(-(2**70), 2**70) | st.floats() | st.none() | st.booleans()


@pytest.fixture(scope="module")
def place() -> Iterator[Path]:
    """A store with a recording, and a folder to save in, below a folder that nothing else is in."""
    with TemporaryDirectory() as name:
        root = Path(name)
        rotator = Rotator(RecordingWriter.create(Store(root / "store"), definition(chunk_frames=1024)))
        rotator.write(4096)
        rotator.stop()
        (root / "saved").mkdir()
        yield root


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(st.sampled_from(sorted(set(TOOLS) - {"recording_delete"})), st.data())
def test_anything_is_answered_or_refused(place: Path, tool: str, data: st.DataObject) -> None:
    names = st.sampled_from(TOOLS[tool].__struct_fields__)
    asked = EXAMPLES[tool] | data.draw(st.dictionaries(names, ODD | st.just(URI), max_size=4))
    asked = {**asked, **({"uri": URI} if "uri" in asked and data.draw(st.booleans()) else {})}
    tools = Tools(Settings(f"ipc://{place}/c", f"ipc://{place}/e", place / "store", place / "saved"))
    with suppress(ChaosError):
        answer = tools.call(tool, asked)
        assert type(answer) is ANSWERS[tool]
        msgspec.json.encode(msgspec.to_builtins(answer))
    assert {each.name for each in place.iterdir()} <= {"store", "saved"}


@pytest.mark.parametrize(
    ("states", "state", "max_error_s"),
    [
        ([], "unknown", None),
        ([(ClockState.SYNCHRONIZED, 1000), (ClockState.SYNCHRONIZED, 3000)], "synchronized", 3e-6),
        ([(ClockState.SYNCHRONIZED, 1000), (ClockState.SYNCHRONIZED, None)], "synchronized", None),
        ([(ClockState.SYNCHRONIZED, 1000), (ClockState.TIMESYNCD, 0)], "timesyncd", None),
        ([(ClockState.TIMESYNCD, 0), (ClockState.UNSYNCHRONIZED, 1)], "unsynchronized", None),
        ([(ClockState.UNKNOWN, None), (ClockState.SYNCHRONIZED, 1)], "unknown", None),
    ],
)
def test_the_worst_that_is_known_of_the_clock_counts(
    states: list[tuple[ClockState, int | None]], state: str, max_error_s: float | None
) -> None:
    anchors = [ClockAnchor(0, 0, 0, 0, 1, error, error, known) for known, error in states]
    sure = clock_of(anchors)
    assert (sure.state, sure.max_error_s, sure.was_set) == (state, max_error_s, False)
    assert clock_of([*anchors, ClockAnchor(9, 9, 9, 9, step_ns=5)]).was_set
