"""A day's takes as one Zarr hierarchy: an icechunk repository of references to the very objects that recorders
uploaded.

    HOST/NAME/TAKE.STARTED/        a group: its attributes are the take's row and its definition
        audio, gaps, clock         as in the take's own folder

Nothing is copied. A chunk that lies in gaps altogether has no reference and reads as zeros; one that is referred to and
is not there is an error when it is read, never silence. A repository for each day, of the takes that began on it:
icechunk's snapshot names every group of its repository and is written with every commit, so one for all days would cost
more each day.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import unquote, urlsplit

import msgspec

from chaos.recorders.table import HIDDEN, IndexDamaged, Row
from chaos.remote.bucket import Bucket
from chaos.remote.environment import azure_account, place_of
from chaos.store.documents import TABLE_ROWS
from chaos.store.lines import Definition
from chaos.terms.errors import InvalidRequest, StorageFailed

if TYPE_CHECKING:
    from collections.abc import Iterator

    import icechunk
    import zarr

__all__ = ["Day", "Looked", "chunks_with_data", "lost_reference"]

_SPLIT = 8640  # references in one manifest of a long take: a day's


class Looked(NamedTuple):
    """A take as it was found: its row, its definition and arrays' documents as in its `zarr.json`, and its gaps as
    (first frame, end frame)."""

    row: Row
    definition: Definition
    arrays: dict[str, dict[str, Any]]
    gaps: list[tuple[int, int]]


def chunks_with_data(n_frames: int, size: int, gaps: Sequence[tuple[int, int]], first: int = 0) -> list[int]:
    """The chunks from `first` on that don't lie in gaps altogether: those are never written."""
    gone: set[int] = set()
    reached = begin = 0
    for start, end in [*sorted(gaps), (n_frames + size, n_frames + size)]:
        if start > reached:
            whole = -(-reached // size) if reached >= n_frames else reached // size
            gone.update(range(-(-begin // size), whole))
            begin = start
        reached = max(reached, end)
    return [chunk for chunk in range(first, -(-n_frames // size)) if chunk not in gone]


class Day:
    """The repository of a day, below `url`. Methods raise StorageFailed, and InvalidRequest where icechunk can't refer
    to objects there."""

    def __init__(self, url: str, day: str) -> None:
        import icechunk

        icechunk.set_logs_filter("error")
        self._url = url
        self._where = f"{HIDDEN}/days/{day}"
        container, self._access = _container(url)
        self._storage = _storage(url, self._where)
        self._config = icechunk.RepositoryConfig.default()
        self._config.set_virtual_chunk_container(container)
        split = icechunk.ManifestSplittingConfig.from_dict(
            {icechunk.ManifestSplitCondition.AnyArray(): {icechunk.ManifestSplitDimCondition.Any(): _SPLIT}}
        )
        self._config.manifest = icechunk.ManifestConfig(splitting=split)

    def read(self) -> icechunk.IcechunkStore:
        """The store of the day as it is now, for zarr; it pickles, and holds no credentials."""
        import icechunk

        with self._errors("read"):
            # with where the objects are as it is known here: the job that wrote it may have another way there
            repository = icechunk.Repository.open(
                self._storage, self._config, authorize_virtual_chunk_access=self._access
            )
            return repository.readonly_session("main").store

    def check(self, rows: Sequence[Row]) -> None:
        """Whether all of these takes are in it, and where their chunks are can be read. Raises IndexDamaged, and
        StorageFailed where the object store itself can't be read."""
        import icechunk

        try:
            store = self.read()
            for row in rows:
                with self._errors("read"):
                    for _, array in group_of(store, row).arrays():
                        array.nchunks_initialized  # noqa: B018  reads where its chunks are
        except StorageFailed as error:
            with self._errors("read"):
                icechunk.Repository.exists(_storage(self._url, HIDDEN))  # is it the credentials, or the network?
            raise IndexDamaged(self._url, error.message) from None

    def remove(self) -> None:
        """So that it is made anew by the next `write`. Raises StorageFailed and Unauthorized."""
        Bucket(self._url).remove_below(self._where)

    def write(self, takes: Sequence[Looked]) -> int:
        """Adds takes, or takes them further, in one commit; how many references are new."""
        import icechunk

        with self._errors("write"):
            if icechunk.Repository.exists(self._storage):
                repository = icechunk.Repository.open(
                    self._storage, self._config, authorize_virtual_chunk_access=self._access
                )
            else:
                repository = self._created()
            session = repository.writable_session("main")
            n_refs = sum(self._add(session.store, take) for take in takes)
            if session.has_uncommitted_changes:
                session.commit(f"{len(takes)} takes")
            return n_refs

    def _created(self) -> icechunk.Repository:
        import icechunk

        try:
            repository = icechunk.Repository.create(
                self._storage, self._config, authorize_virtual_chunk_access=self._access
            )
            repository.save_config()
        except icechunk.IcechunkError as error:
            if "already exists" in str(error) or icechunk.Repository.exists(self._storage):
                raise self._another() from None
            raise
        return repository

    def _another(self) -> StorageFailed:
        return StorageFailed(
            f"another job has written to {self._url}/{self._where} meanwhile",
            hint="run one chaosctl fleet index at a time; run it again",
        )

    def _add(self, store: icechunk.IcechunkStore, take: Looked) -> int:
        import zarr

        path = take.row.path
        group = zarr.open_group(store, path=path, mode="a", zarr_format=3)
        told = {"take": msgspec.to_builtins(take.row), "definition": msgspec.to_builtins(take.definition)}
        if dict(group.attrs) != told:
            group.attrs.put(told)
        n_refs = 0
        for name, document in take.arrays.items():
            n_refs += self._array(store, f"{path}/{name}", document, take, is_audio=name == "audio")
        return n_refs

    def _array(
        self, store: icechunk.IcechunkStore, path: str, document: dict[str, Any], take: Looked, *, is_audio: bool
    ) -> int:
        import icechunk
        import numpy as np
        import zarr

        shape, chunks = document["shape"], document["chunk_grid"]["configuration"]["chunk_shape"]
        axis = 1 if is_audio else 0
        try:
            array = zarr.open_array(store, path=path, mode="r+")
            before = array.shape[axis]
            if before < shape[axis]:
                array.resize(tuple(shape))
        except FileNotFoundError:
            before = 0
            array = zarr.create_array(
                store, name=path, shape=tuple(shape), chunks=tuple(chunks), dtype=document["data_type"],
                fill_value=document["fill_value"], compressors=None, dimension_names=document["dimension_names"],
                attributes=document["attributes"],
            )  # fmt: skip
        if before >= shape[axis]:
            return 0
        n_bytes = int(np.prod(chunks)) * array.dtype.itemsize
        first, name = before // chunks[axis], path.rpartition("/")[2]
        if is_audio:
            places = [[0, chunk] for chunk in chunks_with_data(shape[1], chunks[1], take.gaps, first)]
        else:
            places = [[row, 0] for row in range(first, -(-shape[0] // TABLE_ROWS))]
        where = f"{_prefix(self._url)}{take.row.url.removeprefix(self._url).lstrip('/')}/{name}/c"
        found = [icechunk.VirtualChunkSpec(at, f"{where}/{at[0]}/{at[1]}", 0, n_bytes) for at in places]
        if found:
            store.set_virtual_refs(path, found, validate_containers=False)  # all are below ours; to look takes a tenth
        return len(found)

    @contextmanager
    def _errors(self, doing: str) -> Iterator[None]:
        import icechunk

        where = f"{self._url}/{self._where}"
        try:
            yield
        except icechunk.ConflictError:
            raise self._another() from None
        except icechunk.IcechunkError as error:
            hint = (
                "check that the object store is there, and the credentials in the environment; where the index is"
                f" damaged, this makes it anew: chaosctl fleet index --all {self._url}"
            )
            raise StorageFailed(f"could not {doing} {where}: {_first_line(error)}", hint=hint) from None


@contextmanager
def lost_reference(url: str) -> Iterator[None]:
    """Has a chunk that is not there any more told as such. Raises StorageFailed."""
    import icechunk

    try:
        yield
    except icechunk.IcechunkError as error:
        hint = f"check it with: chaosctl verify {url}; if it is well: chaosctl fleet index --all {_of_all(url)}"
        raise StorageFailed(f"an object of {url} can't be read: {_first_line(error)}", hint=hint) from None


def group_of(store: icechunk.IcechunkStore, row: Row) -> zarr.Group:
    """The take's group. Raises IndexDamaged where it is not there."""
    import icechunk
    import zarr

    try:
        return zarr.open_group(store, path=row.path, mode="r", zarr_format=3)
    except (FileNotFoundError, ValueError, icechunk.IcechunkError) as error:
        message = f"the references to {row.url} can't be read: {_first_line(error)}"
        raise IndexDamaged(_of_all(row.url), message) from None


def _of_all(url: str) -> str:
    """Of a take's URL the prefix of all recorders."""
    return url.rsplit("/", 4)[0]


def _first_line(error: Exception) -> str:
    lines = [line.strip(" x\u00d7|`->") for line in str(error).splitlines() if line.strip()]
    return (lines[0] if lines else type(error).__name__)[:300]


def _prefix(url: str) -> str:
    """With a slash at its end, as icechunk names containers."""
    parts = urlsplit(url)
    return f"file://{unquote(parts.path)}/" if parts.scheme == "file" else f"{url}/"


def _s3() -> dict[str, Any]:
    place = place_of("s3")
    return {
        "region": place.region, "endpoint_url": place.endpoint, "allow_http": place.allow_http,
        "force_path_style": place.endpoint is not None,
    }  # fmt: skip


def _azure() -> dict[str, str]:
    place = place_of("az")
    told = {"account": azure_account(), "azure_storage_endpoint": place.endpoint,
            "azure_allow_http": "true" if place.allow_http else None}  # fmt: skip
    return {name: value for name, value in told.items() if value is not None}


def _storage(url: str, below: str) -> icechunk.Storage:
    import icechunk

    parts = urlsplit(url)
    prefix = f"{parts.path.strip('/')}/{below}".strip("/")
    if parts.scheme == "s3":
        return icechunk.s3_storage(bucket=parts.netloc, prefix=prefix, from_env=True, **_s3())
    if parts.scheme == "gs":
        return icechunk.gcs_storage(bucket=parts.netloc, prefix=prefix, from_env=True)
    if parts.scheme == "az":
        account = azure_account()
        if account is None:
            raise InvalidRequest(f"{url} is in no account", hint="set AZURE_STORAGE_ACCOUNT_NAME")
        return icechunk.azure_storage(
            account=account, container=parts.netloc, prefix=prefix, from_env=True, config=_azure()
        )
    folder = Path(unquote(parts.path)) / below
    return icechunk.local_filesystem_storage(str(folder))


def _container(url: str) -> tuple[icechunk.VirtualChunkContainer, dict[str, Any]]:
    """Where the objects are that may be referred to, and with what they are read: what the environment says then."""
    import icechunk

    prefix, scheme = _prefix(url), urlsplit(url).scheme
    if scheme == "s3":
        container = icechunk.VirtualChunkContainer(prefix, icechunk.s3_store(**_s3()))
        return container, icechunk.containers_credentials({prefix: icechunk.s3_from_env_credentials()})
    if scheme == "gs":
        container = icechunk.VirtualChunkContainer(prefix, icechunk.gcs_store())
        return container, icechunk.containers_credentials({prefix: icechunk.gcs_from_env_credentials()})
    if scheme == "az":
        container = icechunk.VirtualChunkContainer(prefix, icechunk.ObjectStoreConfig.Azure(_azure()))
        return container, icechunk.containers_credentials({prefix: icechunk.azure_from_env_credentials()})
    if scheme == "file":
        container = icechunk.VirtualChunkContainer(
            prefix, icechunk.local_filesystem_store(unquote(urlsplit(url).path))
        )
        # From version 2 on icechunk wants it said that files may be read; the one for Python 3.11 has no word for it.
        access = getattr(icechunk.credentials, "LocalFileSystemAccess", None)
        return container, icechunk.containers_credentials({prefix: access})
    raise InvalidRequest(
        f"an index can't be kept in {scheme}://", hint="use s3://bucket/prefix, az://container/prefix or file:///folder"
    )
