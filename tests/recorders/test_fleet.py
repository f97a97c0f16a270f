"""What many recorders heard between two moments: lazy, to the bit; gaps by their cause, times within their bounds."""

from __future__ import annotations

import pickle
from datetime import datetime
from itertools import pairwise
from pathlib import Path

import dask
import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from indexed import begun, moment, one_take
from keys import CrashingKeys
from recorded import definition
from uploading import upload

import chaos
from chaos.recorders.index import index
from chaos.recorders.lazy import Timing, anchors_near
from chaos.recorders.relate import Clock
from chaos.remote.bucket import Bucket
from chaos.store.retention import retire
from chaos.store.store import Store
from chaos.terms.errors import InvalidRange, InvalidRequest, RecordingNotFound, StorageFailed
from chaos.terms.ledger import GAP_COLUMNS, Cause, ClockAnchor, ClockState
from chaos.terms.units import parse_keep

RATE = 48_000
NAME = "mic/take0.20260131T120000.000000Z"


@pytest.fixture
def url(indexed_store: str) -> str:
    return indexed_store


def selected(url: str, first: float = 0, last: float = 60, hosts: list[str] | None = None) -> xr.DataTree:
    return chaos.fleet(url).select(moment(first), moment(last), hosts)


def test_a_selection_is_what_was_recorded(tmp_path: Path, url: str) -> None:
    models = {host: one_take(tmp_path, url, host, seed=at) for at, host in enumerate(("rig1", "rig2"))}
    store, running = begun(tmp_path, "rig3", seed=7)
    upload(store, url, recorder="rig3")
    index(url)
    tree = selected(url)
    assert tree.attrs["hosts"] == ["rig1", "rig2", "rig3"]
    for host, rotator in {**models, "rig3": running}.items():
        data = tree[f"{host}/{NAME}"]
        n_frames = data.sizes["frame"]
        assert n_frames == (9600 if host == "rig3" else 11_100)
        audio = data["audio"]
        assert dask.is_dask_collection(audio.data)
        assert (audio.values == rotator.model[:, :n_frames]).all()
        expected = np.zeros(n_frames, "u1")
        expected[4000:8100] = Cause.MISSED
        assert (data["gap"].values == expected).all()
        told = data["gap"].attrs
        assert told["flag_meanings"].split()[told["flag_values"].index(Cause.MISSED)] == "missed"
        with chaos.open(tree[f"{host}/{NAME}"].attrs["url"]) as there:
            at = there.moment_of(7000)
        assert abs(data["time"].values[7000] - np.datetime64(at.replace(tzinfo=None), "ns")) < np.timedelta64(2, "us")
        low, high = data["time_bounds"].values[7000]
        assert low < data["time"].values[7000] < high
        assert high - low > np.timedelta64(2, "ms"), "twice the millisecond that the kernel told"


def test_references_that_are_damaged_are_made_anew_where_they_lie(tmp_path: Path, url: str) -> None:
    model = one_take(tmp_path, url).model
    index(url)
    bucket = Bucket(url)
    for key, _ in list(bucket.objects(".fleet/days")):
        if "/snapshots/" in key:
            bucket.put(key, bucket.get(key)[:-20])
    with pytest.raises(StorageFailed) as refused:
        selected(url)
    assert f"chaosctl fleet index --all {url}" in refused.value.hint
    assert index(url, look_back_days=None).mended == ["2026-01-31"]
    assert (selected(url)[f"rig1/{NAME}"]["audio"].values == model).all()


def test_a_part_begins_and_ends_at_its_moments(tmp_path: Path, url: str) -> None:
    rotator = one_take(tmp_path, url)
    index(url)
    data = selected(url, 0.05, 0.2)[f"rig1/{NAME}"]
    assert data.attrs["first_frame"] == 2400
    assert (data["audio"].values == rotator.model[:, 2400:9600]).all()
    assert (data["gap"].values[1600:5700] == Cause.MISSED).all()
    assert np.count_nonzero(data["gap"].values) == 4100
    times = data["time"].values
    assert times[0] == np.datetime64("2026-01-31T12:00:00.05", "ns")
    assert (times < np.datetime64("2026-01-31T12:00:00.2", "ns")).all()


def test_blocks_are_whole_chunks(tmp_path: Path, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("chaos.recorders.fleet._BLOCK_BYTES", 2 * 1600 * 2 * 4)
    rotator = one_take(tmp_path, url)
    index(url)
    audio = selected(url, 0.05, 60)[f"rig1/{NAME}"]["audio"]
    assert audio.data.chunks[1] == (2400, 3200, 3100)
    assert (audio.values == rotator.model[:, 2400:]).all()


def test_any_part_is_asked_for_as_of_an_array(tmp_path: Path) -> None:
    """dask passes an index on to what is read where it can."""
    url = f"file://{tmp_path}/bucket"
    one_take(tmp_path, url)
    index(url)
    data = selected(url, 0.05)[f"rig1/{NAME}"].to_dataset()
    whole = data.compute()
    some, mask = np.array([900, 3, 3, 7000]), np.arange(8700) % 999 == 0
    for frames in (5, -1, slice(None, None, 7), slice(4000, 10, -3), slice(5, 5), some, [2, -2], mask):
        for name in ("audio", "gap", "time", "time_bounds"):
            axis = data[name].dims.index("frame")
            key = (slice(None),) * axis + (frames,)
            np.testing.assert_array_equal(data[name].data[key].compute(), whole[name].values[key])
            np.testing.assert_array_equal(data[name].isel(frame=frames).values, whole[name].isel(frame=frames).values)
    assert data["audio"].data[1, 5].compute() == whole["audio"].values[1, 5]
    assert (data["audio"].data[[1, 0]].compute() == whole["audio"].values[[1, 0]]).all()
    assert (data["time_bounds"].data[:, 1].compute() == whole["time_bounds"].values[:, 1]).all()


def test_workers_read_for_themselves_and_are_given_no_credentials(tmp_path: Path, url: str) -> None:
    rotator = one_take(tmp_path, url)
    index(url)
    audio = selected(url)[f"rig1/{NAME}"]["audio"].data
    packed = pickle.dumps(audio)
    assert b"testing" not in packed
    assert (pickle.loads(packed).compute() == rotator.model).all()


def test_what_retention_took_first_is_zeros_with_its_cause(tmp_path: Path) -> None:
    url = f"file://{tmp_path}/bucket"
    store, rotator = begun(tmp_path)
    rotator.stop()
    retire(store, parse_keep("26000B"))
    upload(store, url, recorder="rig1")
    index(url)
    data = selected(url)[f"rig1/{NAME}"]
    gone = data["gap"].values == Cause.RETIRED
    assert gone.any()
    assert not data["audio"].values[:, gone].any()
    assert (data["audio"].values[:, ~gone] == rotator.model[:, ~gone]).all()


def test_an_object_that_is_lost_is_an_error_and_no_silence(tmp_path: Path) -> None:
    url = f"file://{tmp_path}/bucket"
    one_take(tmp_path, url)
    index(url)
    data = selected(url)[f"rig1/{NAME}"]
    (chunk,) = (tmp_path / "bucket" / "rig1").rglob("audio/c/0/1")
    chunk.unlink()
    with pytest.raises(StorageFailed) as told:
        data["audio"].compute()
    assert data.attrs["url"] in told.value.message
    assert "chaosctl verify" in told.value.hint


def test_how_far_hosts_may_have_been_apart_is_said(tmp_path: Path) -> None:
    url = f"file://{tmp_path}/bucket"
    for host, error_ns in (("rig1", 3_000_000), ("rig2", 2_000_000), ("rig3", 500_000)):
        one_take(tmp_path, url, host, error_ns=error_ns)
    one_take(tmp_path, url, "rig4", error_ns=None)
    index(url)
    hosts = ["rig1", "rig2", "rig3"]
    tree = selected(url, hosts=hosts)
    with (
        chaos.open(tree[f"rig1/{NAME}"].attrs["url"]) as one,
        chaos.open(tree[f"rig2/{NAME}"].attrs["url"]) as other,
    ):
        worst = chaos.relate(one, other).worst_error(0, 11_100)
    assert worst is not None
    assert tree.attrs["worst_alignment_error_s"] == pytest.approx(worst / RATE, abs=2e-6)
    assert tree.attrs["alignment_unknown"] == []
    assert selected(url, hosts=["rig1"]).attrs["worst_alignment_error_s"] == 0
    unknown = selected(url)
    assert unknown.attrs["worst_alignment_error_s"] is None
    assert unknown.attrs["alignment_unknown"] == ["rig4"]
    told = unknown[f"rig4/{NAME}"]
    assert "kernel" in told.attrs["time_unknown"]
    assert np.isnat(told["time_bounds"].values).all()


def test_midi_is_in_the_table_and_left_out_of_arrays(tmp_path: Path) -> None:
    url = f"file://{tmp_path}/bucket"
    one_take(tmp_path, url, "rig1")
    stream = CrashingKeys(tmp_path / "rig2", tmp_path / "staging")
    stream.write(40)
    stream.stop()
    upload(Store(tmp_path / "rig2"), url, recorder="rig2")
    index(url)
    takes = chaos.fleet(url).takes()
    assert "midi" in set(takes.sample_format)
    (midi,) = takes[takes.sample_format == "midi"].itertuples()
    tree = chaos.fleet(url).select("1970-01-01T00:00:00Z", "2100-01-01T00:00:00Z")
    assert tree.attrs["left_out"] == [midi.url]
    assert tree.attrs["hosts"] == ["rig1"]


def test_takes_are_chosen_by_time_and_host(tmp_path: Path) -> None:
    url = f"file://{tmp_path}/bucket"
    for day in range(3):
        one_take(tmp_path, url, "rig1", day=day)
    one_take(tmp_path, url, "rig2", day=1)
    index(url)
    fleet = chaos.fleet(url)
    assert len(fleet.takes()) == 4
    assert list(fleet.takes(moment(0, 1), moment(60, 1)).host) == ["rig1", "rig2"]
    assert list(fleet.takes(moment(0, 1), moment(60, 1), "rig2").uri) == ["stream://mic/take1"]
    assert fleet.takes(hosts=["rig9"]).empty
    assert str(fleet.takes().start.dtype).startswith("datetime64[ns, UTC")
    assert repr(fleet) == f"<Fleet {url}>"


def test_hosts_that_have_nothing_of_a_time_are_named(tmp_path: Path) -> None:
    url = f"file://{tmp_path}/bucket"
    one_take(tmp_path, url, "rig1")
    one_take(tmp_path, url, "rig2", day=1, seed=1)
    index(url)
    assert selected(url, hosts=["rig1", "rig2"]).attrs["hosts_without"] == ["rig2"]
    assert selected(url).attrs["hosts_without"] == []


@pytest.mark.parametrize(("column", "value"), [("n_frames", 1000), ("cause", 99)])
def test_gaps_that_were_changed_since_are_told(tmp_path: Path, column: str, value: int) -> None:
    url = f"file://{tmp_path}/bucket"
    one_take(tmp_path, url)
    index(url)
    (gaps,) = (path for path in (tmp_path / "bucket").rglob("gaps/c/0/0"))
    rows = np.frombuffer(gaps.read_bytes(), "<i8").reshape(-1, len(GAP_COLUMNS)).copy()
    rows[0, GAP_COLUMNS.index(column)] = value
    gaps.write_bytes(rows.tobytes())
    with pytest.raises(StorageFailed, match="gaps of") as refused:
        selected(url)
    assert "chaosctl verify" in refused.value.hint


def test_what_can_not_be_selected_is_refused(tmp_path: Path) -> None:
    url = f"file://{tmp_path}/bucket"
    with pytest.raises(RecordingNotFound) as absent:
        chaos.fleet(url)
    assert f"chaosctl fleet index {url}" in absent.value.hint
    one_take(tmp_path, url)
    index(url)
    fleet = chaos.fleet(url)
    for start, end in ((datetime(2026, 1, 31, 12), moment(1)), ("noon", moment(1)), (moment(1), moment(1))):
        with pytest.raises(InvalidRequest) as refused:
            fleet.select(start, end)
        assert refused.value.hint
    with pytest.raises(RecordingNotFound, match="has nothing of rig7"):
        fleet.select(moment(0), moment(1), ["rig1", "rig7"])
    with pytest.raises(RecordingNotFound, match="no audio of rig1"):
        fleet.select(moment(3600), moment(7200), "rig1")
    with pytest.raises(RecordingNotFound):
        fleet.select(moment(3600), moment(7200))


@settings(max_examples=60, deadline=None)
@given(
    steps=st.lists(
        st.tuples(
            st.integers(1, 100 * RATE), st.integers(-300, 300), st.sampled_from([0, 0, 0, 700_000_000, -700_000_000]),
            st.sampled_from([None, 0, 1_000_000, 5_000_000]),
        ),
        min_size=1, max_size=8,
    ),
    frames=st.lists(st.integers(-70 * RATE, 400 * RATE), min_size=1, max_size=20),
)  # fmt: skip
def test_times_of_many_frames_are_those_of_each(
    steps: list[tuple[int, int, int, int | None]], frames: list[int]
) -> None:
    frame = monotonic_ns = offset_ns = 0
    anchors = []
    for n_frames, ppm, step_ns, error_ns in steps:
        offset_ns += step_ns
        anchors.append(
            ClockAnchor(frame, frame, monotonic_ns, 10**18 + monotonic_ns + offset_ns, 5, error_ns, error_ns,
                        ClockState.SYNCHRONIZED, step_ns)
        )  # fmt: skip
        frame += n_frames
        monotonic_ns += round(n_frames * 1e9 / RATE * (1 + ppm / 1e6))
    clock, timing = Clock(definition(), anchors), Timing(anchors, RATE)
    wall_ns, errors_ns = timing.moments(np.array(frames))
    for each, found_ns, error_ns in zip(frames, wall_ns, errors_ns, strict=True):
        try:
            told = clock.moment(each, is_wall=True)
        except InvalidRange:
            assert np.datetime64(int(found_ns), "ns").astype("M8[ns]").astype(int) == np.iinfo("i8").min
            continue
        assert abs(int(found_ns) - told.ns) <= 2_000
        assert (error_ns < 0) == (told.error_ns is None)
        if told.error_ns is not None:
            assert told.error_ns - 1 <= error_ns <= told.error_ns + 2


@settings(max_examples=60, deadline=None)
@given(
    lengths=st.lists(st.integers(1, 30), min_size=1, max_size=12),
    begin_s=st.floats(-50, 400),
    length_s=st.floats(0.001, 100),
)
def test_the_anchors_about_a_span_tell_as_much_as_all(lengths: list[int], begin_s: float, length_s: float) -> None:
    seconds = np.cumsum([0, *lengths])
    anchors = [
        ClockAnchor(int(s) * RATE, 0, int(s) * 10**9, 10**18 + int(s) * 10**9 + int(s) * 1000, None, 7, 7,
                    ClockState.SYNCHRONIZED)
        for s in seconds
    ]  # fmt: skip
    begin_ns, end_ns = (10**18 + round(each * 1e9) for each in (begin_s, begin_s + length_s))
    near = anchors_near(np.array([anchor.row() for anchor in anchors]), begin_ns, end_ns)
    n_frames = int(seconds[-1]) * RATE
    whole, part = Timing(anchors, RATE), Timing(near, RATE)
    first, last = whole.span(begin_ns, end_ns, n_frames)
    assert part.span(begin_ns, end_ns, n_frames) == (first, last)
    if first < last:
        frames = np.arange(first, last, max(1, (last - first) // 50))
        for one, other in zip(whole.moments(frames), part.moments(frames), strict=True):
            assert (one == other).all()
    assert all(one.frame < other.frame for one, other in pairwise(near))
