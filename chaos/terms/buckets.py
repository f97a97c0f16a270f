"""Places in object stores: s3://bucket/prefix and the like, and the names of recorders below them."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

from chaos.terms.errors import InvalidRequest

__all__ = ["SCHEMES", "check_recorder", "check_url", "is_remote_url"]

SCHEMES = ("s3", "gs", "az", "file", "memory")


def is_remote_url(text: str) -> bool:
    """Whether it names a place in an object store."""
    return text.partition("://")[0] in SCHEMES and "://" in text


def check_url(url: str) -> str:
    """The URL without a slash at its end. Raises InvalidRequest; what is said repeats no credentials."""
    try:
        parts = urlsplit(url)
        has_secrets = "@" in parts.netloc or ":" in parts.netloc or bool(parts.query)
    except ValueError:
        raise InvalidRequest("that is not a URL", hint="write it as s3://bucket/prefix") from None
    if has_secrets or parts.fragment:
        raise InvalidRequest(
            "a URL of an object store has no user, password or query",
            hint="leave credentials to the environment (AWS_ACCESS_KEY_ID and so on), and write s3://bucket/prefix",
        )
    is_local = parts.scheme == "file"
    if parts.scheme not in SCHEMES or is_local is bool(parts.netloc) or (is_local and len(parts.path) < 2):
        raise InvalidRequest(
            f"{url!r} is not a place in an object store",
            hint="write it as s3://bucket/prefix, gs://bucket/prefix, az://container/prefix or file:///folder",
        )
    if "//" in parts.path or any(part in (".", "..") for part in parts.path.split("/")):
        raise InvalidRequest(f"{url!r} has an empty or a dotted part", hint="write it as s3://bucket/prefix")
    return url.rstrip("/")


def check_recorder(name: str) -> str:
    """Raises InvalidRequest for what can't name a recorder."""
    if not re.fullmatch(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,63}", name):
        raise InvalidRequest(
            f"{name!r} can't name a recorder", hint="use 1 to 64 of A-Z a-z 0-9 . _ -, not beginning with a dot"
        )
    return name
