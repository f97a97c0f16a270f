"""What is said of a stream's URI is said of all its takes: verify, pin, mark, rm. A take has a URI of its own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from blake3 import blake3
from crashing import fast_folder
from recorded import Rotator, definition
from rolled import URI, begin, three_takes

import chaos
from chaos.cli.verdict import verify_lines
from chaos.store.digest import read_digest
from chaos.store.info import load
from chaos.store.marking import mark_in
from chaos.store.pins import pin, pins, unpin
from chaos.store.removal import removable, remove
from chaos.store.retention import retire
from chaos.store.store import Store
from chaos.store.takes import take_uris, takes_of
from chaos.store.verdict import Absent
from chaos.store.verify import verify, verify_uri
from chaos.store.writer import RecordingWriter
from chaos.terms.errors import InvalidRange, InvalidRequest, RecordingNotFound
from chaos.terms.units import Keep


@pytest.fixture
def store() -> Iterator[Store]:
    with fast_folder() as folder:
        yield Store(folder / "store")


@pytest.fixture
def takes(store: Store) -> list[Rotator]:
    takes = three_takes(store.root)
    takes[2].stop()
    return takes


def test_a_take_is_of_the_stream_once_it_is_known_where_it_begins(store: Store) -> None:
    """A stream has rolled, and the last chunk of the take before is not sealed yet: a save in that moment left its
    frames out, and called that exact."""
    first = begin(store.root, "1", 0, 1)
    first.write(24)
    second = begin(store.root, "1.0002", 40, 2, continues=URI)
    second.write(16)
    assert [(take.origin, take.digest.definition.uri) for take in takes_of(store, URI)] == [(0, URI)]
    first.write(16)
    first.stop()
    assert [take.origin for take in takes_of(store, URI)] == [0, 40]
    second.stop()


def test_verify_is_of_all_takes(store: Store, takes: list[Rotator]) -> None:
    done: list[tuple[int, int]] = []
    report = verify_uri(store, URI, lambda n_done, n_all: done.append((n_done, n_all)))
    assert (report.ok, report.uri, report.n_frames, report.clean, report.n_chunks) == (True, URI, 155, False, 8)
    assert [(take.uri, take.first_frame, take.n_frames, take.ok) for take in report.takes] == [
        (URI, 0, 40, True),
        (f"{URI}.0002", 40, 37, True),
        (f"{URI}.0003", 125, 30, True),
    ]
    assert [(gap["first_frame"], gap["n_frames"], gap["cause"]) for gap in report.gaps] == [
        (60, 7, "missed"),
        (77, 48, "engine_down"),
    ]
    assert report.lost_frames == 55
    assert [chunk["first_frame"] for chunk in report.chunks] == [0, 16, 32, 40, 56, 72, 125, 141]
    singles = [verify(take.writer.path) for take in takes]
    assert [take.recording_hash for take in report.takes] == [each.recording_hash for each in singles]
    hashes = b"".join(bytes.fromhex(chunk["hash"]) for each in singles for chunk in each.chunks)
    assert report.root_hash == blake3(hashes).hexdigest()
    assert done[-1] == (8, 8)
    assert [n for n, _ in done] == sorted(n for n, _ in done)
    text = '["chaosd stream",1]\n["uri","stream://mic/1"]\n' + "".join(
        f'["take","{take.uri}",{take.first_frame},"{take.recording_hash}"]\n' for take in report.takes
    )
    assert report.recording_hash == blake3(text.encode()).hexdigest()
    text = '["chaosd stream",2]\n["uri","stream://mic/1"]\n' + "".join(
        f'["take","{take.uri}",{take.first_frame},"{take.recording_hash_v3}"]\n' for take in report.takes
    )
    assert report.recording_hash_v3 == blake3(text.encode()).hexdigest()


@pytest.mark.parametrize("number", [0, 1, 2])
def test_a_defect_of_any_take_is_told_with_its_place(store: Store, takes: list[Rotator], number: int) -> None:
    chunk = Path(load(takes[number].writer.path).chunks[1].path)
    chunk.chmod(0o644)
    chunk.write_bytes(bytes([chunk.read_bytes()[0] ^ 1]) + chunk.read_bytes()[1:])
    report = verify_uri(store, URI)
    uri, origin = (URI, f"{URI}.0002", f"{URI}.0003")[number], (0, 40, 125)[number]
    assert [(bad.reason, bad.take, bad.chunk, bad.first_frame) for bad in report.bad] == [
        ("hash_mismatch", uri, 1, origin + 16)
    ]
    assert (report.ok, [take.ok for take in report.takes]) == (False, [at != number for at in range(3)])
    assert [verify_uri(store, f"{URI}.000{at + 1}").ok for at in range(3)] == [at != number for at in range(3)]


def test_a_take_before_that_is_not_in_the_store_is_told(store: Store, takes: list[Rotator]) -> None:
    assert verify_uri(store, URI).absent == []
    assert verify_uri(store, f"{URI}.0002").absent == []
    takes[1].writer.path.rename(store.root / "elsewhere.zarr")
    for uri in (URI, f"{URI}.0003"):
        report = verify_uri(store, uri)
        assert report.absent == [Absent(f"{URI}.0003", f"{URI}.0002")]
        assert report.ok, "it may have been removed on purpose"
        said = f"  {URI}.0003 goes on from {URI}.0002, which is not in this store"
        assert said in verify_lines(msgspec.to_builtins(report), 0)


def test_one_take_is_verified_as_that(store: Store, takes: list[Rotator]) -> None:
    for number, take in enumerate(takes, 1):
        report = verify_uri(store, f"{URI}.{number:04}")
        assert (report.n_frames, report.takes) == (take.frame, [])
    with pytest.raises(RecordingNotFound):
        verify_uri(store, "stream://mic/2")


def test_a_pin_keeps_what_lies_in_any_take(store: Store, takes: list[Rotator]) -> None:
    made = pin(store, "kept", URI, 36, 130)
    assert [(span.first_frame, span.n_frames) for span in made.chunks] == [
        (36, 4), (40, 16), (56, 16), (72, 5), (125, 5)
    ]  # fmt: skip
    assert pins(store) == [made]
    retire(store, Keep(None, 0))
    left = [[Path(each.path).exists() for each in load(take.writer.path).chunks] for take in takes]
    assert left == [[False, False, True], [True, True, True], [True, False]]
    unpin(store, "kept")
    retire(store, Keep(None, 0))
    assert not any(Path(each.path).exists() for take in takes for each in load(take.writer.path).chunks)


@pytest.mark.parametrize(
    ("frame", "take", "within"),
    [(None, 2, 30), (0, 0, 0), (39, 0, 39), (40, 1, 0), (90, 1, 37), (125, 2, 0), (155, 2, 30)],
)
def test_a_mark_is_put_where_the_stream_has_that_frame(
    store: Store, takes: list[Rotator], frame: int | None, take: int, within: int
) -> None:
    path, mark = mark_in(store, URI, frame, "here")
    assert (path, mark.frame) == (takes[take].writer.path, within)
    assert [mark.frame for mark in load(path).marks] == [within]


def test_a_mark_behind_the_stream_is_refused(store: Store, takes: list[Rotator]) -> None:
    with pytest.raises(InvalidRange, match="155 frames"):
        mark_in(store, URI, 156, "nowhere")
    with pytest.raises(InvalidRange):
        mark_in(store, f"{URI}.0001", 41, "nowhere")


def test_a_stream_is_removed_with_all_its_takes(store: Store, takes: list[Rotator]) -> None:
    assert take_uris(store, URI) == [URI, f"{URI}.0002", f"{URI}.0003"]
    assert take_uris(store, f"{URI}.0001") == [URI]
    assert take_uris(store, f"{URI}.0002") == [f"{URI}.0002"]
    pin(store, "kept", URI, 130, 131)
    with pytest.raises(InvalidRequest, match="kept"):
        removable(store, take_uris(store, URI)[2])
    remove(store, take_uris(store, f"{URI}.0001")[0])
    assert take_uris(store, URI) == [f"{URI}.0002", f"{URI}.0003"]
    assert verify_uri(store, URI).n_frames == 37 + 48 + 30


def test_what_began_by_itself_under_such_a_name_stays(store: Store, takes: list[Rotator]) -> None:
    for take, more in (("1.0004", {}), ("1.0005", {"continues": f"{URI}.0004"})):
        other = begin(store.root, take, 0, 9, **more)
        other.write(20)
        other.stop()
    assert take_uris(store, URI) == [URI, f"{URI}.0002", f"{URI}.0003"]
    assert verify_uri(store, URI).n_frames == 155
    assert take_uris(store, f"{URI}.0004") == [f"{URI}.0004"]


def test_takes_of_other_formats_are_removed_too(store: Store) -> None:
    first = begin(store.root, "1", 0, 1)
    first.write(20)
    first.stop()
    mono = RecordingWriter.create(store, definition(f"{URI}.0002", channels=1, continues=URI))
    mono.finish(0, clean=True)
    assert take_uris(store, URI) == [URI, f"{URI}.0002"]
    assert [take.channels for take in verify_uri(store, URI).takes] == [2, 1]


def changed(store: Path) -> list[Rotator]:
    """Two channels, then, 48 frames later, one: the device changed its format."""
    first = begin(store, "1", 0, 1)
    first.anchor()
    first.write(40)
    first.stop()
    end_ns = read_digest(first.writer.path).monotonic_ns(40)
    shape = definition(f"{URI}.0002", channels=1, after_change=URI)
    shape = msgspec.structs.replace(shape, started_monotonic_ns=end_ns + 1_000_000)
    second = Rotator(RecordingWriter.create(Store(store), shape), 2)
    second.write(30)
    second.stop()
    return [first, second]


def test_a_stream_that_changed_its_format_is_all_its_takes_where_that_can_be(tmp_path: Path) -> None:
    store = Store(tmp_path)
    takes = changed(tmp_path)
    assert take_uris(store, URI) == [URI, f"{URI}.0002"]
    report = verify_uri(store, URI)
    assert (report.ok, [(take.uri, take.channels, take.first_frame) for take in report.takes]) == (
        True,
        [(URI, 2, 0), (f"{URI}.0002", 1, 88)],
    )
    assert [(gap["first_frame"], gap["n_frames"], gap["cause"]) for gap in report.gaps] == [(40, 48, "device_away")]
    with pytest.raises(InvalidRequest, match="changed its format and has 2 takes: 2 channels at 48000 Hz") as refused:
        chaos.open(URI, tmp_path)
    assert refused.value.hint == f"name one of them: {URI}.0001, {URI}.0002"
    for number, take in enumerate(takes, 1):
        with chaos.open(f"{URI}.000{number}", tmp_path) as one:
            assert one.path == take.writer.path
    for uri in reversed(take_uris(store, URI)):
        remove(store, uri)
    assert store.paths() == []


def test_what_somebody_began_under_such_a_name_is_no_take_of_it(tmp_path: Path) -> None:
    begin(tmp_path, "1", 0, 1).stop()
    begin(tmp_path, "1.0002", 100, 2, channels=1).stop()
    assert take_uris(Store(tmp_path), URI) == [URI]
