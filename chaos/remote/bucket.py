"""An object store by its URL: s3://, gs://, az://, file:/// and, within one process, memory://.

Credentials come from where the provider's own tools look (the environment, instance roles, and for S3 also profiles, if
boto3 is installed), and are never taken from a URL. obstore is loaded with the first bucket.
"""

from __future__ import annotations

import os
import re
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar
from urllib.parse import unquote, urlsplit

from chaos.remote.environment import place_of
from chaos.terms.buckets import check_url
from chaos.terms.errors import InvalidRequest, StorageFailed, Unauthorized

if TYPE_CHECKING:
    from obstore.store import ObjectStore

__all__ = ["Bucket", "KeyMissing", "KeyTaken", "StoreUnreachable"]

TIMEOUT_S = 300
_SILENCE_S = 30  # that long a store may say nothing while something is read
_MEMORIES: dict[str, Any] = {}
_T = TypeVar("_T")
_Done = Literal["put", "get", "head", "list", "delete"]


class StoreUnreachable(StorageFailed):
    """The object store can't be reached, or could not do it; it may be asked again."""


class KeyTaken(Exception):
    """There is an object of that key already."""


class KeyMissing(Exception):
    """There is no object of that key."""


class Bucket:
    """The objects below one URL. Keys are relative to it, with slashes; from any thread.

    A signal's handler runs, and may raise, also while the store says nothing; after half a minute without a word what
    was to be read is given up. Methods raise StoreUnreachable where the store can't be reached or fails, and
    Unauthorized where it doesn't take the credentials; either may be called again. `counts` has how many requests of
    each kind were made.
    """

    def __init__(self, url: str) -> None:
        self.url = check_url(url)
        self.counts: Counter[_Done] = Counter()
        self._lock = threading.Lock()
        self._store, self._writing = _opened(self.url)
        self._below = urlsplit(self.url).path.strip("/") if self.url.startswith("memory:") else ""

    @property
    def store(self) -> ObjectStore:
        """obstore's, for what reads by it."""
        return self._store

    def url_of(self, key: str) -> str:
        return f"{self.url}/{key}"

    def put_new(self, key: str, data: bytes) -> None:
        """Puts an object whole, or not at all. Raises KeyTaken if there is one: it stays as it is.

        Where an answer was lost and the request sent again, KeyTaken may mean our own.
        """
        self._put(key, data, "create")

    def put(self, key: str, data: bytes) -> None:
        """Puts an object whole, in the place of one that is there."""
        self._put(key, data, "overwrite")

    def _put(self, key: str, data: bytes, mode: Literal["create", "overwrite"]) -> None:
        self._count("put")
        with self._errors("write", key):
            _breakable(lambda: self._writing.put(self._key(key), data, mode=mode, use_multipart=False))

    def get(self, key: str) -> bytes:
        """Raises KeyMissing."""
        self._count("get")
        with self._errors("read", key):
            return _breakable(lambda: bytes(self._store.get(self._key(key)).bytes()))

    def find(self, key: str) -> bytes | None:
        """What `get` gives; None where there is no such object."""
        try:
            return self.get(key)
        except KeyMissing:
            return None

    def size(self, key: str) -> int | None:
        """How many bytes the object has; None where there is none."""
        self._count("head")
        try:
            with self._errors("read", key):
                return int(_breakable(lambda: self._store.head(self._key(key)))["size"])
        except KeyMissing:
            return None

    def folders(self, prefix: str = "") -> list[str]:
        """The names right below a prefix that have something below them, sorted."""
        self._count("list")
        with self._errors("list", prefix):
            found = _breakable(lambda: self._store.list_with_delimiter(self._key(prefix) or None))["common_prefixes"]
        return sorted(each.rstrip("/").rpartition("/")[2] for each in found)

    def objects(self, prefix: str = "", after: str | None = None) -> Iterator[tuple[str, int]]:
        """All keys below a prefix, each with its size; with `after` those behind that key. A list call per 1,000."""
        with self._errors("list", prefix):
            begin = None if after is None else self._key(after)
            batches = iter(self._store.list(self._key(prefix) or None, offset=begin, chunk_size=1000))
            while batch := _breakable(lambda: next(batches, [])):
                self._count("list")
                for each in batch:
                    yield each["path"].removeprefix(self._below).lstrip("/"), each["size"]

    def remove_below(self, prefix: str) -> None:
        """Removes all objects below a prefix."""
        keys = [self._key(key) for key, _ in self.objects(prefix)]
        self._count("delete")
        with self._errors("remove", prefix):
            _breakable(lambda: self._writing.delete(keys))

    def _count(self, kind: _Done) -> None:
        with self._lock:
            self.counts[kind] += 1

    def _key(self, key: str) -> str:
        """As the store has it: one in memory knows no prefix of its own."""
        return f"{self._below}/{key}".strip("/")

    @contextmanager
    def _errors(self, doing: str, key: str) -> Iterator[None]:
        from obstore import exceptions

        where = self.url_of(key)
        try:
            yield
        except exceptions.AlreadyExistsError:
            raise KeyTaken(where) from None
        except (exceptions.NotFoundError, FileNotFoundError) as error:
            if doing == "write" or _NO_BUCKET.search(str(error)):
                raise _no_bucket(doing, where) from error
            raise KeyMissing(where) from None
        except (exceptions.PermissionDeniedError, exceptions.UnauthenticatedError) as error:
            raise Unauthorized(f"{self.url} refuses these credentials", hint=_CREDENTIALS) from error
        except (exceptions.BaseError, OSError) as error:
            if _OVER.search(str(error)):  # S3 answers 400 then, as to what makes no sense
                raise Unauthorized(f"{self.url} refuses these credentials: they are over", hint=_CREDENTIALS) from None
            if _NO_BUCKET.search(str(error)):
                raise _no_bucket(doing, where) from None
            if _INSTANCE.search(str(error)):  # an instance's role is looked for last of all
                raise Unauthorized(f"no credentials for {self.url} were found", hint=_CREDENTIALS) from None
            message = f"could not {doing} {where}: {_first_cause(error)}"
            raise StoreUnreachable(message, hint="is the network there, and the endpoint right?") from None


def _breakable(ask: Callable[[], _T]) -> _T:
    """What `ask` gives. On the main thread a signal's handler runs while it waits, and may raise: what was asked for is
    then left to a thread of its own, which keeps nobody."""
    if threading.current_thread() is not threading.main_thread():
        return ask()
    done: Future[_T] = Future()

    def work() -> None:
        try:
            done.set_result(ask())
        except BaseException as error:
            done.set_exception(error)

    threading.Thread(target=work, name="bucket", daemon=True).start()
    return done.result()


def _no_bucket(doing: str, where: str) -> StoreUnreachable:
    message = f"could not {doing} {where}: there is no such bucket"
    return StoreUnreachable(message, hint="make it first, or check its name and the region")


_OVER = re.compile(r"<Code>(ExpiredToken|InvalidToken|TokenRefreshRequired)</Code>")
_NO_BUCKET = re.compile(r"<Code>(NoSuchBucket|ContainerNotFound)</Code>")
_INSTANCE = re.compile(r"/latest/(api/token|meta-data/)")
_CREDENTIALS = "check the credentials in the environment, and that they may read and write there"


def _first_cause(error: Exception) -> str:
    """What went wrong in a line: of Rust's chain of causes the message alone, without what a URL's query may hold."""
    text = str(error).partition("\n\nDebug source")[0]
    return re.sub(r"\?[^\s\"')]+", "?...", " ".join(text.split()))[:300]


def _opened(url: str) -> tuple[ObjectStore, ObjectStore]:
    """To read by, and to write by."""
    try:
        from obstore.exceptions import BaseError
        from obstore.store import LocalStore, MemoryStore
    except ImportError:
        raise InvalidRequest(
            "object stores need obstore, which is not installed", hint="pip install 'chaosd[upload]'"
        ) from None
    parts = urlsplit(url)
    try:
        if parts.scheme == "memory":
            memory: ObjectStore = _MEMORIES.setdefault(parts.netloc, MemoryStore())
            return memory, memory
        if parts.scheme == "file":
            local = LocalStore(Path(unquote(parts.path)), mkdir=True)
            return local, local
        return _cloud(url, parts.scheme, {"read_timeout": timedelta(seconds=_SILENCE_S)}), _cloud(url, parts.scheme, {})
    except (BaseError, OSError, ValueError) as error:
        raise StoreUnreachable(f"could not open {url}: {_first_cause(error)}", hint=_CREDENTIALS) from None


def _cloud(url: str, scheme: str, client_options: dict[str, Any]) -> ObjectStore:
    from obstore.store import from_url

    how: Any = {
        # A put on a thin link takes minutes, and no answer comes meanwhile; what hangs is given up after them.
        "client_options": {
            "timeout": timedelta(seconds=TIMEOUT_S),
            "connect_timeout": timedelta(seconds=10),
            **client_options,
        },
        "retry_config": {"max_retries": 2, "retry_timeout": timedelta(seconds=30)},
    }
    place = place_of(scheme)
    how["client_options"]["allow_http"] = place.allow_http
    if scheme == "s3":
        how["config"] = {"checksum_algorithm": "SHA256"}
        if place.endpoint is not None:
            how["config"]["endpoint"] = place.endpoint
        if (provider := _profile()) is not None:
            how["credential_provider"] = provider
    return from_url(url, **how)


def _profile() -> Callable[[], Any] | None:
    """What the AWS SDK finds (profiles, SSO) where the environment has no key; None without boto3, or without any."""
    if os.environ.get("AWS_ACCESS_KEY_ID"):
        return None
    try:
        from obstore.auth.boto3 import Boto3CredentialProvider
    except ImportError:
        return None
    try:
        return Boto3CredentialProvider()
    except ValueError:
        return None
