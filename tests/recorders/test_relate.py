"""Which frame was when in another recording: clocks whose truth is known, held against the bounds that are told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from recorded import definition

import chaos
from chaos.recorders.relate import VALID_S, Relation, relate
from chaos.store.info import RecordingInfo, load
from chaos.store.store import Store
from chaos.store.writer import RecordingWriter
from chaos.terms.errors import InvalidRange, InvalidRequest
from chaos.terms.ledger import ClockAnchor, ClockState

RATE = 48_000
NS = 1_000_000_000
START = 1_769_860_800 * NS


def recording(
    folder: Path,
    name: str,
    *,
    ppm: float = 0.0,
    wall_error_ns: int = 0,
    told_ns: int | None = 0,
    begun_s: float = 0.0,
    n_anchors: int = 7,
    steps: dict[int, int] | None = None,
    slew_ppm: float = 0.0,
    clock_id: int | None = 5,
    position: int = 0,
    **how: Any,
) -> RecordingInfo:
    """An anchor every 10 s: frame N of a device that is `ppm` fast was at `begun_s` + N / rate of the true time, and
    the wall clock stood `wall_error_ns` off then, of which `told_ns` are told."""
    writer = RecordingWriter.create(Store(folder), definition(f"stream://{name}/take", chunk_frames=1600, **how))
    offset_ns, rate = wall_error_ns, RATE * (1 + ppm / 1e6)
    for number in range(n_anchors):
        frame = number * 10 * RATE
        true_ns = begun_s * NS + frame / rate * NS
        step = (steps or {}).get(number, 0)
        offset_ns += step + round(slew_ppm * 1e-6 * 10 * NS * (number > 0))
        writer.anchor(
            ClockAnchor(
                frame, position + frame, round(true_ns), START + round(true_ns) + offset_ns, clock_id,
                told_ns, None if told_ns is None else 0,
                ClockState.SYNCHRONIZED if told_ns is not None else ClockState.UNKNOWN, step,
            )
        )  # fmt: skip
    writer.flush()
    writer.close()
    return load(writer.path)


def truth(frame: int, one_ppm: float, one_begun_s: float, other_ppm: float, other_begun_s: float) -> float:
    moment_s = one_begun_s + frame / (RATE * (1 + one_ppm / 1e6))
    return (moment_s - other_begun_s) * RATE * (1 + other_ppm / 1e6)


@settings(max_examples=40, deadline=None)
@given(
    ppm=st.tuples(st.floats(-200, 200), st.floats(-200, 200)),
    off_ms=st.tuples(st.integers(-2000, 2000), st.integers(-2000, 2000)),
    begun_s=st.floats(-20, 20),
    slew=st.tuples(st.floats(-500, 500), st.floats(-500, 500)),
    frame=st.integers(21 * RATE, 39 * RATE),
)
def test_between_machines_the_truth_lies_between_the_bounds(
    tmp_path_factory: pytest.TempPathFactory,
    ppm: tuple[float, float],
    off_ms: tuple[int, int],
    begun_s: float,
    slew: tuple[float, float],
    frame: int,
) -> None:
    folder = tmp_path_factory.mktemp("pair")
    infos = []
    for at, begun in enumerate((0.0, begun_s)):
        worst_ns = abs(off_ms[at]) * 1_000_000 + round(abs(slew[at]) * 1e-6 * 60 * NS)
        infos.append(
            recording(
                folder, f"m{at}", ppm=ppm[at], wall_error_ns=off_ms[at] * 1_000_000, told_ns=worst_ns, begun_s=begun,
                slew_ppm=slew[at], boot_id=f"boot{at}",
            )
        )  # fmt: skip
    relation = Relation(*infos)
    assert relation.by == "wall_clock"
    place = relation.place(frame)
    assert place.lower is not None
    assert place.upper is not None
    assert place.lower - 1 <= truth(frame, ppm[0], 0.0, ppm[1], begun_s) <= place.upper + 1
    worst = relation.worst_error(21 * RATE, 39 * RATE)
    assert worst is not None
    assert place.error is not None
    assert place.error <= worst + 1


def test_where_a_clock_is_not_known_there_are_no_bounds(tmp_path: Path) -> None:
    here = recording(tmp_path, "a", told_ns=1000, boot_id="one")
    there = recording(tmp_path, "b", told_ns=None, boot_id="two")
    for one, other in ((here, there), (there, here)):
        place = Relation(one, other).place(30 * RATE)
        assert (place.frame, place.lower, place.upper, place.error) == (30 * RATE, None, None, None)
        assert Relation(one, other).worst_error(0, 60 * RATE) is None


def test_one_clock_is_exact(tmp_path: Path) -> None:
    how = {"boot_id": "one"}
    here, there = recording(tmp_path, "a", position=700, **how), recording(tmp_path, "b", position=0, **how)
    relation = Relation(here, there)
    assert relation.by == "graph_clock"
    assert relation.place(12_345) == (13_045.0, 13_045.0, 13_045.0)
    assert relation.worst_error(0, 50 * RATE) == 0


def test_a_clock_that_began_anew_is_told_by_time(tmp_path: Path) -> None:
    how = {"boot_id": "one"}
    here = recording(tmp_path, "a", position=90_000_000, **how)
    there = recording(tmp_path, "b", position=0, begun_s=5.0, **how)
    relation = Relation(here, there)
    place = relation.place(30 * RATE)
    assert place.frame == 25 * RATE
    assert place.error is not None
    assert place.error > 0


def test_in_one_run_of_the_kernel_the_wall_clock_is_not_asked(tmp_path: Path) -> None:
    here = recording(tmp_path, "a", told_ns=None, boot_id="one", clock_id=1, steps={3: NS})
    there = recording(tmp_path, "b", told_ns=None, boot_id="one", clock_id=2, begun_s=3.0, ppm=50)
    relation = Relation(here, there)
    assert relation.by == "monotonic_clock"
    place = relation.place(25 * RATE)
    assert place.lower is not None
    assert place.upper is not None
    assert place.lower <= truth(25 * RATE, 0, 0, 50, 3.0) <= place.upper


def test_where_the_wall_clock_was_set_nothing_is_told(tmp_path: Path) -> None:
    here = recording(tmp_path, "a", boot_id="one", steps={3: 5 * NS})
    there = recording(tmp_path, "b", boot_id="two")
    relation = Relation(here, there)
    relation.place(15 * RATE)
    with pytest.raises(InvalidRange, match="was set"):
        relation.place(25 * RATE)


def test_what_no_anchor_is_near_is_refused(tmp_path: Path) -> None:
    here, there = recording(tmp_path, "a", boot_id="one"), recording(tmp_path, "b", boot_id="two", begun_s=100.0)
    relation = Relation(here, there)
    last = 60 * RATE
    with pytest.raises(InvalidRange, match="no clock anchor"):
        relation.place(last + int((VALID_S + 1) * RATE))
    with pytest.raises(InvalidRange, match="stream://b/take"):
        relation.place(0)
    assert relation.place(last).frame == pytest.approx(-40 * RATE)


def test_a_stream_of_several_takes_is_refused(tmp_path: Path) -> None:
    recording(tmp_path, "a", boot_id="one")
    for take, continues in (("take", None), ("take.0002", "stream://b/take")):
        writer = RecordingWriter.create(Store(tmp_path), definition(f"stream://b/{take}", continues=continues))
        writer.finish(0, True)
    with chaos.open("stream://a/take", tmp_path) as here, chaos.open("stream://b/take", tmp_path) as there:
        for one, other in ((here, there), (there, here)):
            with pytest.raises(InvalidRequest, match="2 takes"):
                chaos.relate(one, other)


def test_recordings_are_related_as_they_are_opened(tmp_path: Path) -> None:
    one = recording(tmp_path, "a", boot_id="one")
    other = recording(tmp_path, "b", boot_id="two", begun_s=1.0)
    with chaos.open(one.path) as here, chaos.open(other.path) as there:
        assert chaos.relate(here, there).place(20 * RATE).frame == 19 * RATE
        assert relate(here, there).by == "wall_clock"
