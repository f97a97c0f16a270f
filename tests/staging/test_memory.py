"""Staging's memory: there before the callback may have it, locked as far as allowed, and never at others' cost."""

from __future__ import annotations

import errno
import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import pytest
from prepared import await_ready

from chaos import _cycle
from chaos._memory import Mapping, hold_code
from chaos.staging.owner import Staging
from chaos.terms.errors import StagingFull
from chaos.terms.form import AudioForm

MIB = 1 << 20


@pytest.fixture
def wake() -> Iterator[int]:
    fd = os.eventfd(0, os.EFD_NONBLOCK)
    yield fd
    os.close(fd)


@pytest.fixture
def folder() -> Iterator[Path]:
    """On tmpfs."""
    path = Path(f"/dev/shm/test-{os.getpid()}-{os.urandom(4).hex()}")
    path.mkdir()
    yield path
    for left in path.iterdir():
        left.unlink()
    path.rmdir()


def make(
    folder: Path, wake: int, form: AudioForm, n_slots: int, *, path: Path | None = None, behind: bool = False
) -> Staging:
    return Staging(
        path or folder / "s.staging", uri="stream://t/1", recording="", run_id="0" * 32, form=form, n_slots=n_slots,
        sample_rate=48000, wake_fd=wake, behind=behind,
    )  # fmt: skip


def test_code_that_runs_in_the_callback_is_there_before_it_does() -> None:
    """Else its first run, or the first after the kernel has taken the page for others, is a page fault."""
    hold_code([_cycle.__file__], ["/libc.so"])
    of_code = re.compile(r"^[0-9a-f]+-[0-9a-f]+ r-xp .* (\S+)\n((?:\w+: .*\n)+)", re.MULTILINE)
    found = {Path(path).name: dict(re.findall(r"(\w+): +(\d+) kB", told)) for path, told in of_code.findall(smaps())}
    ours = found[Path(_cycle.__file__).name]
    assert ours["Rss"] == ours["Size"]


def smaps() -> str:
    return Path("/proc/self/smaps").read_text()


def test_a_mapping_is_a_buffer_of_the_file(folder: Path) -> None:
    with (folder / "f").open("w+b") as file:
        file.truncate(3 * 4096)
        mapping = Mapping(file.fileno(), 3 * 4096)
    with memoryview(mapping) as view:
        view[4096:4099] = b"abc"
        with pytest.raises(BufferError):
            mapping.close()
    assert (folder / "f").read_bytes()[4096:4099] == b"abc"
    assert len(mapping) == 3 * 4096
    mapping.close()
    mapping.close()
    assert mapping.closed
    with pytest.raises(ValueError, match="closed"):
        mapping.hold(0, 4096)
    with pytest.raises(ValueError, match="closed"):
        memoryview(mapping)


def test_holding_keeps_what_is_there(folder: Path) -> None:
    (folder / "f").write_bytes(bytes(range(256)) * 64)
    with (folder / "f").open("r+b") as file:
        mapping = Mapping(file.fileno(), 256 * 64)
    mapping.hold(0, 256 * 64)
    assert bytes(mapping) == bytes(range(256)) * 64
    mapping.close()


def test_slots_come_to_the_callback_one_by_one_and_all_of_them(folder: Path, wake: int) -> None:
    staging = make(folder, wake, AudioForm(2, 48_000, "f32"), 200)
    assert staging.slots.stats()["slots_free"] >= 1, "the first are there at once"
    await_ready(staging)
    assert staging.slots.stats()["slots_free"] == 200
    assert staging.locked_bytes in (staging.file_bytes, 0) or staging.locked_bytes % 4096 == 0
    staging.close()


def test_a_capture_begins_with_the_first_frame_that_has_a_place(folder: Path, wake: int) -> None:
    """What comes before the first slot is there is no overrun: the take has not begun."""
    preparing, go_on = threading.Event(), threading.Event()
    real = os.posix_fallocate

    def fallocate(fd: int, at: int, n: int) -> None:
        if at:
            preparing.set()
            go_on.wait(60)
        real(fd, at, n)

    with mock.patch.object(os, "posix_fallocate", fallocate):
        staging = make(folder, wake, AudioForm(1, 64, "f32"), 3, behind=True)
        preparing.wait(60)
        staging.slots.cycle(0, 64, bytes(256))
        assert staging.slots.stats()["first_ns"] == staging.slots.stats()["head_frame"] == 0
        go_on.set()
        await_ready(staging)
    staging.slots.cycle(64, 64, bytes(256))
    stats = staging.slots.stats()
    assert (stats["first_position"], stats["head_frame"], stats["n_gaps"]) == (64, 64, 0)
    staging.close()


def test_a_take_is_not_handed_over_to_before_that_has_a_slot(folder: Path, wake: int) -> None:
    go_on = threading.Event()
    real = os.posix_fallocate

    def fallocate(fd: int, at: int, n: int) -> None:
        if at:
            go_on.wait(60)
        real(fd, at, n)

    one = make(folder, wake, AudioForm(1, 64, "f32"), 3)
    with mock.patch.object(os, "posix_fallocate", fallocate):
        other = make(folder, wake, AudioForm(1, 64, "f32"), 3, path=folder / "other.staging", behind=True)
        one.slots.cycle(0, 64, bytes(256))
        assert not one.slots.hands_over(other.slots, 64, 64)
        go_on.set()
        await_ready(other)
    assert one.slots.hands_over(other.slots, 64, 64)
    one.close()
    other.close()


def test_what_others_of_the_process_are_promised_is_not_free(folder: Path, wake: int) -> None:
    """Slots are allocated one by one: until then the file system does not know of them."""
    go_on = threading.Event()
    real, room = os.posix_fallocate, os.statvfs(folder)
    n_slots = room.f_bavail * room.f_frsize * 2 // 3 // MIB

    def fallocate(fd: int, at: int, n: int) -> None:
        if at:
            go_on.wait(60)
            raise OSError(errno.ENOSPC, "none is left")
        real(fd, at, n)

    with mock.patch.object(os, "posix_fallocate", fallocate):
        staging = make(folder, wake, AudioForm(1, MIB // 4, "f32"), n_slots, behind=True)
        other = folder / "other.staging"
        with pytest.raises(StagingFull):
            make(folder, wake, AudioForm(1, MIB // 4, "f32"), n_slots, path=other, behind=True)
        assert not other.exists()
        go_on.set()
        await_ready(staging)
    assert staging.slots.stats()["slots_free"] == 0, "it goes on with those that there are"
    make(folder, wake, AudioForm(1, MIB // 4, "f32"), 3, path=other).close()
    staging.close()


def test_it_may_be_closed_while_it_is_being_prepared(folder: Path, wake: int) -> None:
    staging = make(folder, wake, AudioForm(2, 48_000, "f32"), 2000)
    staging.close()
    assert not list(folder.iterdir())


def test_others_go_on_while_a_large_one_is_prepared(folder: Path) -> None:
    """Other threads of Python's run while pages are brought in. No thread is made to give up the GIL meanwhile, so one
    that runs had been given it.
    """
    n_bytes, is_holding, is_over, ran = 64 * MIB, threading.Event(), threading.Event(), threading.Event()

    def look() -> None:
        while not is_over.wait(0.0005):
            if is_holding.is_set():
                ran.set()

    before = sys.getswitchinterval()
    sys.setswitchinterval(60)
    other = threading.Thread(target=look)
    other.start()
    try:
        with (folder / "large").open("w+b") as file:
            for _ in range(50):  # on a busy machine the other one may come too late
                file.truncate(n_bytes)
                mapping = Mapping(file.fileno(), n_bytes)
                is_holding.set()
                mapping.hold(0, n_bytes)
                is_holding.clear()
                mapping.close()
                file.truncate(0)
                if ran.is_set():
                    break
    finally:
        sys.setswitchinterval(before)
        is_over.set()
        other.join()
    assert ran.is_set()


LOCKING = """
import json, os, resource, sys, threading
from pathlib import Path
from chaos.staging.owner import Staging
from chaos.terms.form import AudioForm

limit = int(sys.argv[2])
resource.setrlimit(resource.RLIMIT_MEMLOCK, (limit, limit))
staging = Staging(Path(sys.argv[1]), uri="stream://t/1", recording="", run_id="0" * 32,
                  form=AudioForm(2, 65536, "f32"), n_slots=8, sample_rate=48000, wake_fd=os.eventfd(0))
for thread in threading.enumerate():
    if thread.name == "chaosd-slots":
        thread.join(30)
vm = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmLck"))
smaps, at, locked = Path("/proc/self/smaps").read_text().splitlines(), None, []
for line in smaps:
    if sys.argv[1] in line:
        at = line.split("-")[0]
    elif line.startswith("VmFlags") and at:
        locked.append("lo" in line.split())
        at = None
print(json.dumps([staging.locked_bytes, staging.file_bytes, int(vm.split()[1]) * 1024, locked]))
staging.close()
"""


@pytest.mark.parametrize("limit", [64 << 10, MIB, 3 * MIB + 12288, 7 * MIB])
def test_as_much_is_locked_as_the_limit_allows_from_the_first_page_on(folder: Path, limit: int) -> None:
    # The limit doesn't hold for root, who alone can give up what lifts it.
    bound = ["setpriv", "--bounding-set=-ipc_lock", "--inh-caps=-ipc_lock", "--"] if os.geteuid() == 0 else []
    command = [*bound, sys.executable, "-c", LOCKING, str(folder / "s"), str(limit)]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    locked, size, seen, parts = json.loads(said)
    assert locked == min(limit, size)
    assert seen == locked
    assert parts == ([True] if locked == size else [True, False]), "one stretch, from the first page on"
