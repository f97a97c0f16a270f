"""The index over all recorders: kept a bit at a time by a job that may be killed, and each day costs as the first."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import icechunk
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from hypothesis import example, given
from hypothesis import strategies as st
from indexed import begun, one_take
from uploading import memory_url, upload

from chaos.cli.main import main
from chaos.read.remote import takes_in
from chaos.recorders.days import Day, Looked, chunks_with_data
from chaos.recorders.fleet import Fleet
from chaos.recorders.index import index
from chaos.recorders.table import read_state
from chaos.remote.bucket import Bucket
from chaos.remote.layout import TAKES
from chaos.terms.errors import InvalidRequest, RecordingNotFound, StorageFailed


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"file://{tmp_path}/bucket"


@given(
    n_frames=st.integers(0, 60),
    size=st.integers(1, 9),
    gaps=st.lists(st.tuples(st.integers(0, 60), st.integers(0, 30)), max_size=6),
    first=st.integers(0, 5),
)
@example(n_frames=10, size=4, gaps=[(8, 2)], first=0)
@example(n_frames=0, size=4, gaps=[], first=0)
def test_what_lies_in_gaps_altogether_has_no_object(
    n_frames: int, size: int, gaps: list[tuple[int, int]], first: int
) -> None:
    spans = [(begin, min(begin + length, n_frames)) for begin, length in gaps if begin < n_frames]
    missing = {frame for begin, end in spans for frame in range(begin, end)}
    expected = [
        chunk
        for chunk in range(first, -(-n_frames // size))
        if not missing.issuperset(range(chunk * size, min((chunk + 1) * size, n_frames)))
    ]
    assert chunks_with_data(n_frames, size, spans, first) == expected


def test_what_is_new_is_taken_in_and_nothing_twice(tmp_path: Path, url: str) -> None:
    one_take(tmp_path, url, "rig1")
    store, running = begun(tmp_path, "rig2", seed=1)
    upload(store, url, recorder="rig2")
    first = index(url)
    assert (first.n_recorders, first.n_new, first.n_grown, first.n_open) == (2, 2, 0, 1)
    assert first.n_references == (5 + 1 + 1) + (4 + 1 + 1), "chunks that are there, gaps, clock; chunk 6 is not sealed"
    again = index(url)
    assert (again.n_new, again.n_grown, again.n_references, again.days) == (0, 0, 0, [])
    running.write(1600)
    running.stop()
    upload(store, url, recorder="rig2")
    grown = index(url)
    assert (grown.n_new, grown.n_grown, grown.n_references, grown.n_open) == (0, 1, 2, 0)
    takes = Fleet(url).takes()
    assert list(takes.state) == ["finished", "finished"]
    assert list(takes.n_frames) == [11_100, 12_700]
    assert list(takes.gaps) == [{"missed": 4100}] * 2
    assert list(takes.clock_error_ns) == [1_000_000] * 2


def test_adding_a_day_costs_as_at_the_first_and_touches_no_other(tmp_path: Path, url: str) -> None:
    costs, folder = [], tmp_path / "bucket" / ".fleet"
    for day in range(9):
        one_take(tmp_path, url, day=day)
        before = {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}
        report = index(url, look_back_days=3)
        assert (report.n_new, len(report.days)) == (1, 1)
        changed = [path for path in folder.rglob("*") if path.is_file() and before.get(path) != path.stat().st_mtime_ns]
        assert {path.relative_to(folder).parts[0] for path in changed} == {"days", "takes", "index.json"}
        named = {part for path in changed for part in path.parts if report.days[0] in part}
        assert named == {report.days[0], f"day={report.days[0]}"}
        assert all(report.days[0] in str(path) or path.name == "index.json" for path in changed)
        costs.append((sum(report.requests.values()), sum(path.stat().st_size for path in changed)))
    requests, sizes = zip(*costs[4:], strict=True)
    assert len(set(requests)) == 1, "once it looks back as far as it ever does"
    assert requests[0] < costs[0][0] + 2 * 4
    assert max(sizes) < 1.05 * costs[0][1]
    assert len(Fleet(url).takes()) == 9


def test_a_job_that_was_killed_between_two_steps_is_made_good(
    tmp_path: Path, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    one_take(tmp_path, url)
    for step in ("write_day", "write_state"):
        with monkeypatch.context() as patched:
            patched.setattr(f"chaos.recorders.index.{step}", lambda *_: 1 / 0)
            with pytest.raises(ZeroDivisionError):
                index(url)
    index(url)
    assert len(Fleet(url).takes()) == 1
    assert Fleet(url).select("2026-01-31T12:00:00Z", "2026-01-31T12:00:01Z").attrs["hosts"] == ["rig1"]


def test_a_second_job_at_the_same_time_is_told(tmp_path: Path, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    one_take(tmp_path, url, "rig1")
    one_take(tmp_path, url, "rig2", seed=2)
    add, written = Day._add, []

    def add_late(self: Day, store: object, take: Looked) -> int:
        if not written:
            written.append(take)
            index(url)  # the other job is done before this one's first commit
        return add(self, store, take)  # type: ignore[arg-type]

    monkeypatch.setattr(Day, "_add", add_late)
    with pytest.raises(StorageFailed, match="another job") as refused:
        index(url)
    assert "one chaosctl fleet index at a time" in refused.value.hint
    index(url)
    assert len(Fleet(url).takes()) == 2


def test_what_began_long_before_is_found_when_all_is_looked_at(tmp_path: Path, url: str) -> None:
    one_take(tmp_path, url, "rig1", day=100)
    index(url)
    one_take(tmp_path, url, "rig2", day=1)
    assert index(url).n_new == 0
    assert index(url, look_back_days=None).n_new == 1
    assert list(Fleet(url).takes().host) == ["rig1", "rig2"]


def test_a_take_that_has_not_quite_come_or_makes_no_sense_stops_nobody(tmp_path: Path, url: str) -> None:
    one_take(tmp_path, url, "rig1")
    store, _ = begun(tmp_path, "rig2")
    upload(store, url, recorder="rig2")
    (entry,) = (tmp_path / "bucket" / "rig2" / "takes").iterdir()
    (group,) = (tmp_path / "bucket" / "rig2" / "recordings").rglob("*.zarr/zarr.json")
    whole = group.read_bytes()
    group.unlink()
    (entry.parent / "20260101T000000.000000Z.mic.odd.json").write_bytes(b"no JSON")
    report = index(url)
    assert report.n_new == 1
    assert [each.rpartition("/")[2] for each in report.incomplete] == [entry.name]
    assert [each.rpartition("/")[2] for each in report.unreadable] == ["20260101T000000.000000Z.mic.odd.json"]
    group.write_bytes(whole)
    assert index(url).n_new == 1


def test_a_recorder_that_speaks_for_another_is_left_out(tmp_path: Path, url: str) -> None:
    one_take(tmp_path, url, "rig1")
    one_take(tmp_path, url, "rig2")
    (entry,) = (tmp_path / "bucket" / "rig2" / "takes").iterdir()
    entry.write_bytes(entry.read_bytes().replace(b'"rig2"', b'"rig1"'))
    report = index(url)
    assert (report.n_new, len(report.unreadable)) == (1, 1)


@pytest.mark.parametrize("where", ["nothing", "a recorder", "memory"])
def test_what_can_not_be_indexed_is_refused(tmp_path: Path, url: str, where: str) -> None:
    errors = {"nothing": RecordingNotFound, "a recorder": InvalidRequest, "memory": InvalidRequest}
    one_take(tmp_path, url, "rig1")
    of = {"nothing": f"{url}/empty", "a recorder": f"{url}/rig1", "memory": memory_url()}
    with pytest.raises(errors[where]) as refused:
        index(of[where])
    assert refused.value.hint


def test_an_index_that_is_damaged_is_told(tmp_path: Path, url: str) -> None:
    one_take(tmp_path, url)
    index(url)
    bucket = Bucket(url)
    (table,) = (tmp_path / "bucket").rglob("*.parquet")
    kept = table.read_bytes()
    table.write_bytes(kept[:100])
    with pytest.raises(StorageFailed, match="can't be read"):
        Fleet(url).takes()
    table.write_bytes(kept)
    bucket.put(".fleet/index.json", b"{")
    with pytest.raises(StorageFailed, match="can't be read"):
        read_state(bucket)
    bucket.put(".fleet/index.json", b'{"format": 2}')
    with pytest.raises(StorageFailed, match="newer chaosd"):
        Fleet(url)


@pytest.mark.parametrize("how", ["lost", "cut short", "with bytes changed", "of fewer takes"])
def test_a_table_that_is_lost_or_damaged_is_told_and_made_anew(tmp_path: Path, url: str, how: str) -> None:
    one_take(tmp_path, url, "rig1")
    index(url)
    (table,) = (tmp_path / "bucket").rglob("*.parquet")
    whole = table.read_bytes()
    one_take(tmp_path, url, "rig2", seed=1)
    index(url)
    if how == "lost":
        table.unlink()
    elif how == "of fewer takes":
        table.write_bytes(whole)
    elif how == "cut short":
        table.write_bytes(table.read_bytes()[:100])
    else:
        data = bytearray(table.read_bytes())
        data[4 : len(data) // 2] = bytes(len(data) // 2 - 4)
        table.write_bytes(data)
    for ask in (Fleet(url).takes, lambda: Fleet(url).select("2026-01-31T12:00:00Z", "2026-01-31T12:00:01Z")):
        with pytest.raises(StorageFailed, match=r"takes\.parquet") as refused:
            ask()
        assert f"chaosctl fleet index --all {url}" in refused.value.hint
    done = CliRunner().invoke(main, ["fleet", "index", url])
    assert (done.exit_code, "the index of 2026-01-31 was damaged" in done.stderr) == (0, True)
    assert "0 new takes" in done.stdout
    assert list(Fleet(url).takes().host) == ["rig1", "rig2"]
    assert index(url).mended == []


# What a repository begins with: icechunk 1 (Python 3.11) and 2 lay it out otherwise.
ROOT = ["refs", "config.yaml"] if icechunk.__version__.startswith("1.") else ["repo"]


@pytest.mark.parametrize("part", ["snapshots", *ROOT, "manifests", "all of it"])
def test_a_repository_that_is_damaged_is_told_and_made_anew(tmp_path: Path, url: str, part: str) -> None:
    model = one_take(tmp_path, url, "rig1").model
    index(url)
    (day,) = (tmp_path / "bucket" / ".fleet" / "days").iterdir()
    whole = [path for path in day.rglob("*") if path.is_file()]
    damaged = [path for path in whole if part in ("all of it", path.relative_to(day).parts[0])]
    assert damaged
    for path in damaged:
        if part == "all of it":
            path.unlink()
        else:
            path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(StorageFailed) as refused:
        Fleet(url).select("2026-01-31T12:00:00Z", "2026-01-31T12:00:01Z")
    assert f"chaosctl fleet index --all {url}" in refused.value.hint
    assert index(url, look_back_days=None).mended == ["2026-01-31"]
    tree = Fleet(url).select("2026-01-31T12:00:00Z", "2026-01-31T12:00:01Z")
    (data,) = (each for each in tree.leaves)
    assert (data["audio"].values == model).all()
    assert index(url, look_back_days=None).mended == []


def test_a_store_that_can_not_be_read_costs_no_repository(
    tmp_path: Path, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    one_take(tmp_path, url)
    index(url)

    def refuse(*_: object, **__: object) -> None:
        raise icechunk.IcechunkError("access denied")

    monkeypatch.setattr(icechunk.Repository, "open", refuse)
    monkeypatch.setattr(icechunk.Repository, "exists", refuse)
    with pytest.raises(StorageFailed, match="access denied") as refused:
        index(url, look_back_days=None)
    assert "credentials" in refused.value.hint
    monkeypatch.undo()
    assert index(url, look_back_days=None).mended == []


def test_an_index_whose_beginning_is_damaged_is_made_anew(tmp_path: Path, url: str) -> None:
    one_take(tmp_path, url)
    index(url)
    Bucket(url).put(".fleet/index.json", b"{")
    with pytest.raises(StorageFailed) as refused:
        index(url)
    assert f"chaosctl fleet index --all {url}" in refused.value.hint
    report = index(url, look_back_days=None)
    assert (report.n_new, report.mended) == (0, [])
    state = read_state(Bucket(url))
    assert state is not None
    assert (state.days, state.hosts) == ({"2026-01-31": 1}, ["rig1"])


def test_what_was_finished_and_is_gone_is_said_to_be(tmp_path: Path, url: str) -> None:
    one_take(tmp_path, url, "rig1")
    one_take(tmp_path, url, "rig2")
    (group,) = (tmp_path / "bucket" / "rig2" / "recordings").rglob("*.zarr/zarr.json")
    group.unlink()
    for _ in range(2):
        done = CliRunner().invoke(main, ["fleet", "index", url])
        assert "rig2/" in done.stderr
        assert "is not there any more" in done.stderr
        assert "the next run" not in done.stderr
        assert done.stdout.rstrip().endswith("0 still open")


def test_all_looks_at_entries_that_are_indexed(tmp_path: Path, url: str) -> None:
    one_take(tmp_path, url)
    index(url)
    (entry,) = (tmp_path / "bucket" / "rig1" / TAKES).iterdir()
    entry.write_bytes(b"{")
    for _ in range(2):
        assert [each.rpartition("/")[2] for each in index(url, look_back_days=None).unreadable] == [entry.name]


def test_two_first_jobs_at_the_same_time_are_told(
    tmp_path: Path, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    one_take(tmp_path, url)
    create, begun_here = Day._created, []

    def create_late(self: Day) -> object:
        if not begun_here:
            begun_here.append(self)
            index(url)
        return create(self)

    monkeypatch.setattr(Day, "_created", create_late)
    with pytest.raises(StorageFailed, match="another job") as refused:
        index(url)
    assert "one chaosctl fleet index at a time" in refused.value.hint


def _run(arguments: Sequence[str]) -> str:
    done = CliRunner().invoke(main, arguments)
    assert done.exit_code == 0, done.output
    return done.stdout


def test_the_command_says_what_it_did(tmp_path: Path, url: str) -> None:
    one_take(tmp_path, url)
    assert "1 recorder: 1 new take, 0 that went on, 7 new references; 0 still open" in _run(["fleet", "index", url])
    assert json.loads(_run(["fleet", "index", url, "--all", "--json"]))["n_new"] == 0
    listed = takes_in(url).takes
    assert len(listed) == 1, "the index is no recorder"
    (table,) = (tmp_path / "bucket").rglob("*.parquet")
    rows = pq.read_table(table.parent.parent).to_pylist()
    assert [(row["host"], row["url"], str(row["day"])) for row in rows] == [("rig1", listed[0][0], "2026-01-31")]
    assert not CliRunner().invoke(main, ["fleet", "index", f"{url}/none"]).stdout
