"""What a staging file says of the recording that its frames belong to, so that it can be made after a crash."""

from __future__ import annotations

import time

import msgspec

from chaos.staging.reader import StagingReader
from chaos.store.lines import Definition
from chaos.store.store import Store
from chaos.system.machine import machine_id

__all__ = ["About", "about", "definition_of"]


class About(msgspec.Struct, frozen=True):
    """The definition lacks what only the first frames tell. `wall_offset_ns`: wall clock minus CLOCK_MONOTONIC.

    `by_level`: what is held becomes recordings of their own wherever it is loud (`trigger`).
    """

    definition: Definition
    store: str
    machine: str
    wall_offset_ns: int
    by_level: bool = False


def about(definition: Definition, store: Store, *, by_level: bool = False) -> bytes:
    """What to put into a staging file."""
    offset_ns = time.time_ns() - time.monotonic_ns()
    return msgspec.json.encode(About(definition, str(store.root), machine_id(), offset_ns, by_level))


def definition_of(told: About, staging: StagingReader) -> Definition:
    """The definition with what the first frames have told since."""
    first_ns = staging.first_ns
    return msgspec.structs.replace(
        told.definition,
        sample_rate=staging.state("sample_rate"),
        started_monotonic_ns=first_ns,
        started_wall_ns=first_ns + told.wall_offset_ns,
    )
