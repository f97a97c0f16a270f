"""An S3 of one's own, as the tools have it."""

from __future__ import annotations

from proof.s3 import local_s3

__all__ = ["local_s3"]
