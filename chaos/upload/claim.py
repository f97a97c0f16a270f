"""Whose prefix it is: one store's and, of its copies, that one's which came last.

A copy of a store (a card's image, a backup that was put back) has the number of the first. So each start leaves a new
mark in the claim over there and in the store here: a store that doesn't have the mark which is over there is another
copy than the one that uploaded last.
"""

from __future__ import annotations

import os
import time

import msgspec

from chaos import __version__
from chaos.remote.bucket import Bucket, KeyTaken
from chaos.remote.layout import CLAIM, Claim
from chaos.store.uploaded import Uploads
from chaos.terms.errors import InvalidRequest, StorageFull

__all__ = ["PrefixClaim"]

_AGAIN_S = 600.0


class PrefixClaim:
    """The claim of `uploads`' store on the prefix of a bucket, as `recorder`. For one thread."""

    def __init__(self, uploads: Uploads, recorder: str) -> None:
        self._uploads = uploads
        self._recorder = recorder
        self._is_marked = False
        self._looked_at: float | None = None

    def check(self, bucket: Bucket) -> None:
        """Claims the prefix with the first call, and asks from time to time whether it is still ours.

        Raises InvalidRequest where it is another store's, or another copy's of this one; as Bucket and Uploads do.
        """
        now = time.monotonic()
        if self._looked_at is not None and now - self._looked_at < _AGAIN_S:
            return
        found = bucket.find(CLAIM)
        if found is None:
            own = self._marked(bucket, [])
            try:
                bucket.put_new(CLAIM, msgspec.json.encode(own))
                self._is_marked = True
            except KeyTaken:
                found = bucket.get(CLAIM)
        if found is not None:
            self._look(bucket, _read(found))
        self._looked_at = now

    def _look(self, bucket: Bucket, found: Claim | None) -> None:
        if found is None or found.store_id != self._uploads.store_id():
            raise InvalidRequest(
                f"{bucket.url} is another recorder's", hint="give this one a name of its own: --upload-as NAME"
            )
        if found.mark and found.mark not in self._uploads.marks(bucket.url):
            raise InvalidRequest(
                f"another copy of this store has uploaded to {bucket.url} since this one did",
                hint="give this one a name of its own: --upload-as NAME; or, if the other is gone for good,"
                f" remove {bucket.url_of(CLAIM)}",
            )
        if not self._is_marked:
            try:
                own = self._marked(bucket, [found.mark])
            except StorageFull:  # what is here is to go up, so that there is room again
                return
            bucket.put(CLAIM, msgspec.json.encode(own))
            self._is_marked = True

    def _marked(self, bucket: Bucket, may_be_there: list[str]) -> Claim:
        """A claim with a new mark, which the store here has from now on, beside those that may be there if it gets lost
        on its way."""
        mark = os.urandom(8).hex()
        self._uploads.set_marks(bucket.url, [*may_be_there, mark])
        return Claim(self._recorder, self._uploads.store_id(), f"chaosd {__version__}", mark)


def _read(claim: bytes) -> Claim | None:
    try:
        return msgspec.json.decode(claim, type=Claim)
    except msgspec.DecodeError:
        return None
