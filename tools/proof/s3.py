"""An S3 of one's own: moto's server in a process, with a bucket."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from unittest import mock
from urllib.request import Request, urlopen

__all__ = ["local_s3"]
_SERVER = """
import sys, threading
from moto.server import ThreadedMotoServer
server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
server.start()
print(server.get_host_and_port()[1], flush=True)
sys.stdin.read()
"""
_buckets = itertools.count()


@contextmanager
def local_s3() -> Iterator[str]:
    """The URL of a new bucket; the environment names the server, and credentials that it takes, meanwhile."""
    server = subprocess.Popen([sys.executable, "-W", "ignore", "-c", _SERVER], stdin=subprocess.PIPE,
                              stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)  # fmt: skip
    assert server.stdin is not None
    assert server.stdout is not None
    try:
        endpoint = f"http://127.0.0.1:{int(server.stdout.readline())}"
        keys = {"AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing", "AWS_REGION": "us-east-1"}
        with mock.patch.dict(os.environ, {**keys, "AWS_ENDPOINT_URL": endpoint}):
            name = f"bucket{next(_buckets)}"
            urlopen(Request(f"{endpoint}/{name}", method="PUT")).close()
            yield f"s3://{name}"
    finally:
        server.stdin.close()
        server.wait(60)
        server.stdout.close()
