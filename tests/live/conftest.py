"""A private PipeWire, devices in it, `chaosd`s of one's own and clients that know only PROTOCOL.md."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from harness import Daemon, RawClient, SourceFactory
from rig import CountingSource, Session

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if HERE in item.path.parents:
            item.add_marker("live")


@pytest.fixture(scope="session")
def shared_session() -> Iterator[Session]:
    with Session() as session:
        yield session


@pytest.fixture
def session(shared_session: Session) -> Iterator[Session]:
    """The private PipeWire that all tests share, with the quantum as it was afterwards."""
    yield shared_session
    shared_session.force_quantum(0)


@pytest.fixture
def own_session() -> Iterator[Session]:
    """A private PipeWire for a test that breaks it."""
    with Session() as session:
        yield session


@pytest.fixture
def counting_source(session: Session) -> Iterator[SourceFactory]:
    """Makes counting sources, `counting_source("name", channels=8, driver=True)`; they end with the test."""
    ids = itertools.count(1)
    with ExitStack() as stack:

        def make(name: str = "counting-source", **options: Any) -> CountingSource:
            options.setdefault("source_id", next(ids))
            return stack.enter_context(CountingSource(session, name=name, **options))

        yield make


@pytest.fixture
def chaosd(session: Session, tmp_path: Path) -> Iterator[Callable[..., Daemon]]:
    """Starts daemons, `chaosd("--allow-path", path)`, each with endpoints and store of its own.

    At the end each must stop on SIGTERM with exit code 0.
    """
    numbers = itertools.count()
    with ExitStack() as stack:

        def start(*options: str) -> Daemon:
            folder = tmp_path / f"d{next(numbers)}"
            folder.mkdir()
            daemon = Daemon(session, folder, *options)
            stack.callback(daemon.close)
            return daemon

        yield start


@pytest.fixture
def daemon(chaosd: Callable[..., Daemon]) -> Daemon:
    return chaosd()


@pytest.fixture
def client(daemon: Daemon) -> RawClient:
    return daemon.client
