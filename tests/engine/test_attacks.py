"""What a client and a file system may do to a capture, one after the other: a store that goes in every way there is,
chunk names that can't be, and storms of commands on one stream. Each is answered once, and none as a defect."""

from __future__ import annotations

import random
import shutil
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest
from rights import needs_limits, passes_within_limits, without_limits
from still import StillGraph, config_in, start_of

from chaos.engine.engine import Engine
from chaos.protocol import requests as r
from chaos.protocol.answers import EngineStatus
from chaos.terms.errors import ChaosError, InternalError, StreamNotFound

URI = "stream://mic/1"
NAME_MAX = 255


@pytest.fixture
def engine(folder: Path, graph: StillGraph) -> Iterator[Engine]:
    with Engine(config_in(folder, allow_paths=(folder / "out",))) as engine:
        yield engine


def answer_of(future: Future[Any]) -> Any:
    """Its result, or the error that it is refused with: never a defect."""
    error = future.exception(30)
    assert error is None or (isinstance(error, ChaosError) and not isinstance(error, InternalError)), error
    return error or future.result()


def send(engine: Engine, request: r.Request | Callable[[], r.Request]) -> Future[Any]:
    """As the door has it: what is refused at once is an answer, too."""
    try:
        return engine.submit(request() if callable(request) else request)
    except ChaosError as error:
        refused: Future[Any] = Future()
        refused.set_exception(error)
        return refused


def ask(engine: Engine, request: r.Request | Callable[[], r.Request]) -> Any:
    return answer_of(send(engine, request))


def begin(engine: Engine, graph: StillGraph, uri: str = URI, **options: Any) -> Any:
    begun, moment = send(engine, lambda: start_of(uri, **options)), threading.Event()
    while not begun.done():
        graph.run()
        moment.wait(0.002)
    return answer_of(begun)


def _gone(store: Path, aside: Path) -> None:
    store.rename(aside)


def _a_file(store: Path, aside: Path) -> None:
    store.rename(aside)
    store.write_bytes(b"")


def _a_link_to_nothing(store: Path, aside: Path) -> None:
    store.rename(aside)
    store.symlink_to(store.parent / "nothing")


def _a_link_to_itself(store: Path, aside: Path) -> None:
    store.rename(aside)
    store.symlink_to(store)


def _another_folder(store: Path, aside: Path) -> None:
    store.rename(aside)
    store.mkdir(mode=0o700)


def _recordings_a_file(store: Path, aside: Path) -> None:
    store.rename(aside)
    store.mkdir(mode=0o700)
    (store / "recordings").write_bytes(b"")


@pytest.mark.parametrize(
    "harm", [_gone, _a_file, _a_link_to_nothing, _a_link_to_itself, _another_folder, _recordings_a_file]
)
def test_whatever_becomes_of_the_store_everything_is_answered_and_the_engine_goes_on(
    engine: Engine, graph: StillGraph, folder: Path, harm: Callable[[Path, Path], None]
) -> None:
    store, aside = folder / "store", folder / "aside"
    begin(engine, graph)
    graph.run(20)
    harm(store, aside)
    graph.run(20)
    every_command_is_answered(engine, folder)
    if store.is_symlink() or store.is_file():
        store.unlink()
    else:
        shutil.rmtree(store, ignore_errors=True)
    aside.rename(store)
    goes_on(engine, graph)


def every_command_is_answered(engine: Engine, folder: Path) -> None:
    sent = [
        engine.submit(request)
        for request in (
            r.Status(),
            r.RecordingList(),
            r.Verify(uri=URI),
            r.Retire(),
            r.SetMark(uri=URI, label="a"),
            r.StreamStatusOf(uri=URI),
            r.StreamSwitchChunk(uri=URI, new_chunk_path=str(folder / "out" / "1")),
            start_of("stream://mic/2", wait=True),
            r.StreamStop(uri=URI),
            r.StreamStop(uri=URI),
            r.StreamStop(uri="stream://mic/2"),
        )
    ]
    answers = [answer_of(each) for each in sent]
    assert isinstance(answers[0], EngineStatus)


def goes_on(engine: Engine, graph: StillGraph) -> None:
    for uri in ("stream://mic/2", "stream://mic/3"):
        ask(engine, r.StreamStop(uri=uri))
    assert not isinstance(begin(engine, graph, "stream://mic/3"), ChaosError)
    assert ask(engine, r.StreamStop(uri="stream://mic/3")).clean
    assert ask(engine, r.Status()).store.error is None


@needs_limits
@pytest.mark.parametrize("mode", [0o000, 0o300, 0o400, 0o500, 0o600], ids=oct)
@pytest.mark.parametrize("what", ["store", "store/recordings", "take", "out"])
def test_limits_of_a_folder_that_come_in_mid_capture(
    engine: Engine, graph: StillGraph, folder: Path, what: str, mode: int
) -> None:
    (folder / "out").mkdir()
    begun = begin(engine, graph)
    graph.run(20)
    harmed = Path(begun.recording) if what == "take" else folder / what
    before = harmed.stat().st_mode
    harmed.chmod(mode)
    graph.run(20)
    every_command_is_answered(engine, folder)
    harmed.chmod(before)
    goes_on(engine, graph)


@needs_limits
@pytest.mark.parametrize("mode", [0o000, 0o300, 0o400, 0o500, 0o600], ids=oct)
@pytest.mark.parametrize("place", ["closed/a", "closed/in/a"])
def test_limits_of_a_folder_for_chunks(engine: Engine, graph: StillGraph, folder: Path, place: str, mode: int) -> None:
    """Who can't make files there, and make them durable, is told so at once, and the capture goes on."""
    closed = folder / "out" / "closed"
    (closed / "in").mkdir(parents=True)
    closed.chmod(mode)
    path = str(folder / "out" / place)
    can = "/in/" in place and mode & 0o100
    assert isinstance(begin(engine, graph, "stream://mic/first", chunk_path=path), ChaosError) is not bool(can)
    if can:
        assert ask(engine, r.StreamStop(uri="stream://mic/first")).clean
    assert not isinstance(begin(engine, graph, chunk_path=f"{folder}/out/a"), ChaosError)
    graph.run(6)
    switched = ask(engine, lambda: r.StreamSwitchChunk(uri=URI, new_chunk_path=f"{path}b"))
    assert isinstance(switched, ChaosError) is not bool(can)
    graph.run(6)
    assert ask(engine, r.StreamStop(uri=URI)).clean
    closed.chmod(0o700)


@without_limits
def test_the_same_holds_for_who_is_not_root() -> None:
    passes_within_limits(__file__, "limits_of")


@pytest.mark.parametrize("n_bytes", [200, 240, 249, 250, 251, 252, 255, 256, 300, 1000, 4000])
@pytest.mark.parametrize("letter", ["x", "é"])
def test_a_chunk_name_of_any_length_is_taken_or_refused_and_the_capture_goes_on(
    engine: Engine, graph: StillGraph, folder: Path, n_bytes: int, letter: str
) -> None:
    (folder / "out").mkdir()
    name = letter * (n_bytes // len(letter.encode()))
    first = begin(engine, graph, "stream://mic/first", chunk_path=str(folder / "out" / name))
    if not isinstance(first, ChaosError):
        graph.run(20)
        assert ask(engine, r.StreamStop(uri="stream://mic/first")).clean
    assert not isinstance(begin(engine, graph, chunk_path=str(folder / "out" / "a")), ChaosError)
    graph.run(6)
    switched = ask(engine, lambda: r.StreamSwitchChunk(uri=URI, new_chunk_path=str(folder / "out" / f"b{name}")))
    assert isinstance(switched, ChaosError) or len(f"b{name}".encode()) <= NAME_MAX
    graph.run(6)
    ask(engine, r.StreamSwitchChunk(uri=URI, new_chunk_path=str(folder / "out" / "c")))
    graph.run(6)
    assert ask(engine, r.StreamStop(uri=URI)).clean


@pytest.mark.parametrize("what", ["long", "parent is a file", "loop", "null", "folder", "outside", "dots"])
def test_a_chunk_path_that_cannot_be_is_refused_and_the_capture_goes_on(
    engine: Engine, graph: StillGraph, folder: Path, what: str
) -> None:
    out = folder / "out"
    out.mkdir()
    (out / "file").write_bytes(b"")
    (out / "loop").symlink_to("loop")
    (out / "folder").mkdir()
    path = {
        "long": f"{out}/{'d/' * 2500}x",
        "parent is a file": f"{out}/file/x",
        "loop": f"{out}/loop/x",
        "null": f"{out}/a\0b",
        "folder": f"{out}/folder",
        "outside": f"{folder}/elsewhere/x",
        "dots": f"{out}/../x",
    }[what]
    assert isinstance(begin(engine, graph, "stream://mic/first", chunk_path=path), ChaosError)
    assert not isinstance(begin(engine, graph, chunk_path=f"{out}/a"), ChaosError)
    graph.run(6)
    assert isinstance(ask(engine, lambda: r.StreamSwitchChunk(uri=URI, new_chunk_path=path)), ChaosError)
    graph.run(6)
    assert ask(engine, r.StreamStop(uri=URI)).clean


@pytest.mark.parametrize("seed", range(8))
def test_a_storm_of_commands_on_one_stream_is_answered_each_once(
    engine: Engine, graph: StillGraph, folder: Path, seed: int
) -> None:
    """By four clients at once, before it is there, while it runs, and after its end."""
    (folder / "out").mkdir()
    futures: list[Future[Any]] = []
    n_answers = threading.Semaphore(0)

    def storm(number: int) -> None:
        chance = random.Random(seed * 4 + number)
        for turn in range(30):
            path = str(folder / "out" / f"{number}-{turn}")
            request = chance.choice(
                [
                    r.StreamStop(uri=URI),
                    r.StreamSwitchChunk(uri=URI, new_chunk_path=path),
                    r.SetMark(uri=URI, label="m"),
                    r.StreamKeep(uri=URI),
                    r.StreamAcceptPort(uri=URI),
                    r.StreamStatusOf(uri=URI),
                    start_of(URI, wait=True, chunk_path=path if chance.random() < 0.5 else None),
                ]
            )
            future = send(engine, request)
            futures.append(future)
            future.add_done_callback(lambda _: n_answers.release())

    clients = [threading.Thread(target=storm, args=(number,)) for number in range(4)]
    for client in clients:
        client.start()
    while any(client.is_alive() for client in clients):
        graph.run()
    for client in clients:
        client.join()
    for future in futures:
        answer_of(future)
    assert all(n_answers.acquire(timeout=30) for _ in futures)
    last = ask(engine, r.StreamStop(uri=URI))
    assert isinstance(last, StreamNotFound) or last.clean
    assert not isinstance(begin(engine, graph, "stream://mic/after"), ChaosError)
    assert ask(engine, r.StreamStop(uri="stream://mic/after")).clean
