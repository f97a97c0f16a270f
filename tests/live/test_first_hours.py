"""The first hours of four people, by what README has them type: each has in their hands what they came for.

Each command is taken from the page. Devices run faster than real ones, and the logger's hours are seconds.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import soundfile
import zarr
from harness import SourceFactory
from newcomer import Newcomer
from page import README, of_section
from rig import CountingSource, Session

RATE = 48_000


@pytest.fixture
def microphone(counting_source: SourceFactory) -> CountingSource:
    return counting_source("first-usb", description="USB Mic", driver=True, speed=8)


@pytest.fixture
def person(session: Session, microphone: CountingSource, tmp_path: Path) -> Iterator[Newcomer]:
    with Newcomer(session, tmp_path) as person:
        yield person
        person.type("chaosctl shutdown", codes=frozenset({0, 7}))


def commands(section: str) -> list[str]:
    """What the page has them type there, without its remarks."""
    typed = [each.command for block in of_section(section) if block.kind == "console" for each in block.typed]
    return [re.sub(r"\s+#.*", "", command) for command in typed]


def samples(path: Path) -> npt.NDArray[np.float32]:
    return soundfile.read(path, dtype="float32", always_2d=True)[0].T


@pytest.mark.skipif(not shutil.which("tmux"), reason="a key is pressed in tmux, which is not installed")
def test_a_musician_keeps_what_nobody_meant_to_record(
    person: Newcomer, microphone: CountingSource, tmp_path: Path
) -> None:
    """One line makes a file; the idea of a moment ago is kept by a key, and goes on."""
    record, begin, standby, keep, save, stop = commands("You play")
    person.type(record)
    take = microphone.check(samples(tmp_path / "take.wav"))
    assert (take.ok, take.n_frames) == (True, 5 * RATE)

    person.type(begin)
    person.type(standby)
    assert not list(person.store.rglob("idea*")), "nothing is on the disk"
    held = person.call("stream_status", uri="stream://desk/idea")["head_frame"]
    bound = re.search(r"exec (chaosctl [a-z]+)`", README.read_text())
    assert bound is not None
    assert bound[1] == keep
    (tmp_path / "keys").write_text(f"PS1='ready> '\nbind -x '\"\\C-k\": {keep}'\n")
    with person.terminal("bash --noprofile --rcfile keys -i") as desk:
        desk.until(lambda text: "ready>" in text)
        desk.press("C-k")
        desk.until(lambda text: "kept the last" in text)
    person.until(lambda client: client.call("stream_status", uri="stream://desk/idea")["head_frame"] > 31 * RATE)
    person.type(save)
    person.type(stop)
    [saved] = tmp_path.glob("usb-mic-*.wav")
    idea = microphone.check(samples(saved))
    assert (idea.ok, idea.n_frames) == (True, 30 * RATE)
    whole = microphone.check(zarr.open_array(person.store / "recordings/desk/idea.zarr/audio", mode="r")[:])
    assert whole.ok
    assert whole.n_frames > held, "from before the key was pressed"
    assert idea.first >= whole.first


def test_a_logger_proves_that_nothing_is_missing(
    person: Newcomer, microphone: CountingSource, tmp_path: Path
) -> None:
    """Takes follow each other without a frame between them, and `verify` says so of all of them."""
    start, status, mark, save, stop, verify, find = commands("You log")
    person.type("chaosd &")
    assert "--roll 1h" in start
    person.type(start.replace("--roll 1h", "--roll 1s"))
    person.until(lambda client: len(list((person.store / "recordings/logger").glob("*.zarr"))) >= 3)
    for command in (status, mark, save, stop):
        person.type(command)
    said = person.type(verify)
    takes = sorted((person.store / "recordings/logger").glob("*.zarr"), key=lambda path: path.stem)
    assert len(takes) >= 3
    assert "stream://logger/main" in person.type(find)
    whole = np.concatenate([zarr.open_array(take / "audio", mode="r")[:] for take in takes], axis=1)
    found = microphone.check(whole)
    assert found.ok, found
    ok = rf"^ok: {found.n_frames} frames in \d+ chunks, 0 gaps, 0 frames missing$"
    assert re.search(ok, said, re.MULTILINE), said
    news = microphone.check(samples(tmp_path / "news.flac"))
    assert news.ok, news
    assert "the news" in (tmp_path / "news.txt").read_text()


LIVE = """\
import chaos, numpy, xarray
with chaos.open("stream://desk/take-1") as recording:
    numpy.save("live.npy", recording[-48000:])
take = xarray.open_zarr("{path}")
numpy.save("sealed.npy", take.audio.values)
print(take.attrs["sample_rate"], take.audio.dims)
"""


def test_a_researcher_has_arrays_while_it_runs(person: Newcomer, microphone: CountingSource, tmp_path: Path) -> None:
    """The last second as numpy, what is sealed as xarray, of the running recording, and the same at its end."""
    start, stop, verify, save = commands("You research")
    path = re.search(r'open_zarr\("(.+)"\)', README.read_text())
    assert path is not None
    person.type("chaosd &")
    person.type(start)
    person.until(lambda client: client.call("stream_status", uri="stream://desk/take-1")["n_chunks_sealed"])
    (tmp_path / "live.py").write_text(LIVE.format(path=path[1]))
    assert "48000 ('channel', 'frame')" in person.type("python live.py")
    for command in (stop, verify, save):
        person.type(command)
    live, sealed = np.load(tmp_path / "live.npy"), np.load(tmp_path / "sealed.npy")
    saved = samples(tmp_path / "take-1.wav")
    assert live.shape == (2, RATE)
    for part in (live, sealed, saved):
        assert microphone.check(part).ok
    assert np.array_equal(sealed, saved[:, : sealed.shape[1]])
    assert sealed.shape[1] >= 10 * RATE


def test_a_box_comes_back_by_itself(person: Newcomer, microphone: CountingSource, tmp_path: Path) -> None:
    """What the unit starts records what the file says, and after `kill -9` it goes on as the next take."""
    check, _, install, _, uninstall, _ = commands("You build a box")
    [file] = [block for block in of_section("You build a box") if block.mark == "file: chaosd.toml"]
    (tmp_path / "chaosd.toml").write_text(file.text.partition("[[session]]")[0])  # the room's devices are away
    assert "ok, 1 stream" in person.type(check)
    person.type(install)
    unit = (tmp_path / "home/.config/systemd/user/chaosd.service").read_text()
    [started] = re.findall(r"^ExecStart=(.+)$", unit, re.MULTILINE)
    restarts = re.search(r"^Restart=on-failure$", unit, re.MULTILINE)
    assert restarts, "what follows does by hand as systemd would"
    takes = person.store / "recordings/logger"
    person.type(f"{started} &")
    person.until(lambda client: [each for each in client.call("stream_list")["streams"] if each["head_frame"] > RATE])
    said = person.type("chaosctl doctor", codes=frozenset({0, 5, 8}))
    assert re.search(r"USB Mic, .* 0 gaps, 0 lost, verified", said), said
    person.type("kill -9 %1")
    person.type(f"{started} &")
    person.until(lambda client: len(list(takes.glob("*.zarr"))) == 2)
    person.until(lambda client: [each for each in client.call("stream_list")["streams"] if each["head_frame"] > RATE])
    person.type(uninstall)
    person.type("chaosctl shutdown")
    for take in sorted(takes.glob("*.zarr")):
        found = microphone.check(zarr.open_array(take / "audio", mode="r")[:])
        assert found.ok, found
        assert found.n_frames > RATE
        person.type(f"chaosctl verify {take}")
