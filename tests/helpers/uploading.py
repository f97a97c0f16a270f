"""What the tests of uploads share: takes in a store, an uploader that runs to its end, and a bucket that fails."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from recorded import Rotator, definition

from chaos.protocol.uploads import Told
from chaos.remote.bucket import Bucket, StoreUnreachable
from chaos.store.store import Store
from chaos.store.writer import RecordingWriter
from chaos.upload.uploader import Uploader

__all__ = ["FlakyBucket", "copied", "memory_url", "record", "takes_in", "tree", "upload"]

_numbers = iter(range(1_000_000))


def memory_url() -> str:
    """Of an object store of one's own."""
    return f"memory://bucket-{next(_numbers)}"


def record(store: Store, uri: str = "stream://mic/take", seed: int = 0, **how: Any) -> Rotator:
    return Rotator(RecordingWriter.create(store, definition(uri, **how)), seed)


def upload(
    store: Store, url: str, opened: Callable[[str], Bucket] = Bucket, recorder: str = "rig1", **how: Any
) -> list[Told]:
    """Uploads all that is sealed; what was told."""
    told: list[Told] = []
    Uploader(store, url, recorder, told.append, opened=opened, **how).run(until_done=True)
    return told


class FlakyBucket(Bucket):
    """Fails at its `number`-th put (from 0); with `after` only once that has come through: its answer is lost."""

    def __init__(self, url: str, number: int, *, after: bool = False) -> None:
        super().__init__(url)
        self.keys_put: list[str] = []
        self._number = number
        self._after = after

    def _put(self, key: str, data: bytes, mode: Any) -> None:
        self.keys_put.append(key)
        is_it = len(self.keys_put) - 1 == self._number
        if is_it and not self._after:
            raise StoreUnreachable(f"could not write {key}: injected")
        super()._put(key, data, mode)
        if is_it:
            raise StoreUnreachable(f"could not write {key}: the answer was lost")


def tree(url: str) -> dict[str, bytes]:
    """All that is in a bucket."""
    bucket = Bucket(url)
    return {key: bucket.get(key) for key, _ in bucket.objects()}


def takes_in(objects: dict[str, bytes]) -> list[str]:
    """The folders of takes that have come so far that they can be opened."""
    return sorted(key.removesuffix("/zarr.json") for key in objects if key.endswith(".zarr/zarr.json"))


def copied(objects: dict[str, bytes], take: str, to: Path) -> Path:
    """A take as a folder, its journal in one piece."""
    for key, data in objects.items():
        if key.startswith(f"{take}/"):
            path = to / key.removeprefix(f"{take}/")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
    if b'"state": "recording"' in objects[f"{take}/zarr.json"]:  # it says which journal counts
        whole = b""
        while (piece := to / "journal" / f"{len(whole):012d}.jsonl").exists():
            whole += piece.read_bytes()
        (to / "journal.jsonl").write_bytes(whole)
    return to
