"""Where clients may have files put, also while somebody swaps folders for links."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from rights import needs_limits, passes_within_limits, without_limits

from chaos.store.places import Places
from chaos.store.store import Store
from chaos.system.files import make_folders, write_new
from chaos.system.folders import held_folder
from chaos.terms.errors import PathNotAllowed


@pytest.fixture
def places(tmp_path: Path) -> Places:
    (tmp_path / "store").mkdir()
    return Places(Store(tmp_path / "store"), (tmp_path / "allowed",))


@pytest.mark.parametrize(
    "path",
    [
        "store/x/chunk.raw",
        "store/chunk.raw",
        "store/slices/x.wav",
        "allowed/deep/new/chunk.raw",
        "store/../allowed/chunk.raw",
        "store/sub/../chunk",
        "allowed/" + "n" * 255,
        "allowed/" + "d/" * 500 + "chunk",
    ],
)
def test_paths_in_the_store_or_an_allowed_folder_are_permitted(tmp_path: Path, places: Places, path: str) -> None:
    assert places.permit(f"{tmp_path}/{path}") == (tmp_path / path).resolve()


@pytest.mark.parametrize(
    "path",
    [
        "other/chunk",
        "store",
        "store/../other",
        "storeroom/chunk",
        "store/link/chunk",
        "store/loop/chunk",
        "store/loop",
        "a\0b",
        "store/pins/x.json",
        "store/objects/ab",
        "store/objects/ab/cdef",
        "store/recordings/a/b.zarr/audio/c/0/999",
        "store/x/../pins/y",
        "store/inside/ab",
        "store/catalog.db",
        "store/catalog.db-wal",
        "store/pins",
        "store/objects",
        "store/recordings",
        "store/slices",
        "store/slices/",
        "store/slices/../slices",
        "store/.claims.lock",
        "store/.hidden",
        "allowed/" + "n" * 256,
        "allowed/" + "\N{MUSICAL SYMBOL G CLEF}" * 64,
        "allowed/" + "n" * 256 + "/chunk",
        "allowed/" + "d/" * 2100 + "chunk",
        "store/file/chunk",
    ],
)
def test_paths_elsewhere_are_not(tmp_path: Path, places: Places, path: str) -> None:
    store = tmp_path / "store"
    (store / "link").symlink_to("/etc")
    (store / "loop").symlink_to("loop")
    (store / "objects").mkdir()
    (store / "inside").symlink_to("objects")
    (store / "file").write_text("")
    with pytest.raises(PathNotAllowed) as refused:
        places.permit(f"{tmp_path}/{path}")
    assert refused.value.hint


@needs_limits
@pytest.mark.parametrize("mode", [0o300, 0o500], ids=oct)
def test_a_folder_without_the_right_to_write_is_told_at_once(tmp_path: Path, places: Places, mode: int) -> None:
    """Nor is one that can be written to and not read, since nothing in it could be made durable."""
    (tmp_path / "allowed").mkdir(mode=mode)
    with pytest.raises(PathNotAllowed, match="can't make files"):
        places.permit(tmp_path / "allowed" / "new" / "chunk")
    (tmp_path / "allowed").chmod(0o700)


@without_limits
def test_that_holds_for_who_is_not_root() -> None:
    passes_within_limits(__file__, "without_the_right")


def test_a_link_that_came_after_the_check_is_not_followed(tmp_path: Path, places: Places) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "allowed" / "sub").mkdir(parents=True)
    path = places.permit(tmp_path / "allowed" / "sub" / "chunk")
    (tmp_path / "allowed" / "sub").rename(tmp_path / "allowed" / "gone")
    (tmp_path / "allowed" / "sub").symlink_to(tmp_path / "outside")
    with pytest.raises(NotADirectoryError), held_folder(path.parent, make=True):
        pass
    assert list((tmp_path / "outside").iterdir()) == []


def test_a_folder_swapped_again_and_again_never_leads_outside(tmp_path: Path) -> None:
    outside, sub = tmp_path / "outside", tmp_path / "allowed" / "sub"
    outside.mkdir()
    sub.mkdir(parents=True)
    over = threading.Event()

    def swap() -> None:
        while not over.is_set():
            sub.rename(sub.with_name("aside"))
            sub.symlink_to(outside)
            sub.unlink()
            sub.with_name("aside").rename(sub)

    swapping = threading.Thread(target=swap)
    swapping.start()
    n_made = n_refused = 0
    while n_made < 100 or n_refused < 100:
        try:
            with held_folder(sub) as folder:
                write_new(folder / str(n_made), b"x", durable=False)
                n_made += 1
        except (NotADirectoryError, FileNotFoundError):
            n_refused += 1
    over.set()
    swapping.join()
    assert list(outside.iterdir()) == []
    assert n_made == len(list(sub.iterdir()))


def test_folders_may_be_as_deep_as_paths_can_be(tmp_path: Path) -> None:
    deepest = tmp_path / "/".join(["d"] * 1500)
    make_folders(deepest)
    while deepest != tmp_path:  # pytest's own way of removing folders can't go so deep
        deepest.rmdir()
        deepest = deepest.parent
