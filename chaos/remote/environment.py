"""Where an object store is, as the environment says: one place for obstore, which puts and gets, and icechunk, which
refers to what is there. Credentials are not looked at: each library finds them by itself.
"""

from __future__ import annotations

import os
from typing import NamedTuple
from urllib.parse import urlsplit

from chaos.terms.errors import InvalidRequest

__all__ = ["Place", "azure_account", "place_of"]

_ENDPOINTS = {
    "s3": ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT"),
    "az": ("AZURE_STORAGE_ENDPOINT", "AZURE_ENDPOINT"),
}  # fmt: skip
_REGIONS = ("AWS_REGION", "AWS_DEFAULT_REGION")


class Place(NamedTuple):
    """`endpoint` is another server's than the provider's own, `region` that of S3; None where it is not told."""

    endpoint: str | None
    region: str | None

    @property
    def allow_http(self) -> bool:
        """Whether it is told to go without TLS."""
        return self.endpoint is not None and self.endpoint.startswith("http://")


def place_of(scheme: str) -> Place:
    """Of s3, gs or az. Raises InvalidRequest where an endpoint has credentials in it; what is said repeats none."""
    for name in _ENDPOINTS.get(scheme, ()):
        _check_endpoint(name)
    return Place(_first(_ENDPOINTS.get(scheme, ())), _first(_REGIONS) if scheme == "s3" else None)


def azure_account() -> str | None:
    """The storage account that az:// is in."""
    return _first(("AZURE_STORAGE_ACCOUNT_NAME",))


def _check_endpoint(name: str) -> None:
    try:
        parts = urlsplit(os.environ.get(name, ""))
        is_bare = parts.username is None and parts.password is None and not parts.query and not parts.fragment
    except ValueError:
        raise InvalidRequest(f"{name} is not a URL", hint="write it as https://host:port") from None
    if not is_bare:
        raise InvalidRequest(
            f"{name} has a user, password or query in it",
            hint="write it as https://host:port, and leave credentials to AWS_ACCESS_KEY_ID and the like",
        )


def _first(names: tuple[str, ...]) -> str | None:
    return next((found for name in names if (found := os.environ.get(name))), None)
