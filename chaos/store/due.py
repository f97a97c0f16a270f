"""What retention asks the catalogue, so that a pass reads only the journals of takes that something may go of.

It may name too many, whose journals then say otherwise, and leaves out none that is known.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from pathlib import Path

from chaos.store.age import SAME_NS, Now
from chaos.store.catalog import Catalog
from chaos.store.database import transaction

__all__ = ["Due"]

_WAIT_NS = 600_000_000_000


class Due:
    """The takes of a catalogue by the age and the size of what they hold."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog

    def older_than(self, keep_ns: int, now: Now, keep: str | None = None) -> list[Path]:
        """The takes whose oldest chunk may be older, by either clock, or is of a time to come; only those with this
        `keep`, if one is given."""

        def work(base: sqlite3.Connection) -> list[Path]:
            also, values = ("", ()) if keep is None else (" AND keep = ?", (keep,))
            wait = f"oldest_ns IS NOT NULL AND {_not_waiting(now, 'abs(wait_ns)')}{also}"
            terms = {
                "oldest_ns < ?": (now.wall_ns - keep_ns,),
                "oldest_ns > ?": (now.wall_ns + SAME_NS,),
                "boot = ? AND oldest_monotonic_ns < ?": (now.boot_id, now.monotonic_ns - keep_ns),
            }
            query = " UNION ".join(f"SELECT name, take FROM take WHERE {term} AND {wait}" for term in terms)
            found = base.execute(query, [value for given in terms.values() for value in (*given, *values)])
            return [self._catalog.path(name, take) for name, take in found]

        return self._catalog.ask(work)

    def beyond(
        self, n_bytes: int, now: Now, keep: str | None = None, more: int = 0
    ) -> list[tuple[int, list[Path]]]:
        """By how many bytes the chunks that are there exceed that, and the takes that hold the oldest of them.

        All takes together; or, with `keep`, those that have it, each stream's by themselves. What waits is left out.
        The takes hold `more` bytes beyond what is too much.
        """

        def work(base: sqlite3.Connection) -> list[tuple[int, list[Path]]]:
            if keep is None:
                (total,) = base.execute("SELECT total(n_bytes) FROM take WHERE oldest_ns IS NOT NULL").fetchone()
                groups = [(int(total), "oldest_ns IS NOT NULL", ())]
            else:
                query = (
                    "SELECT total(n_bytes), name, root FROM take WHERE keep = ? AND oldest_ns IS NOT NULL "
                    "GROUP BY name, root"
                )
                where = "keep = ? AND name = ? AND root = ? AND oldest_ns IS NOT NULL"
                groups = [(int(total), where, (keep, *at)) for total, *at in base.execute(query, (keep,)).fetchall()]
            found = []
            for total, where, values in groups:
                if total > n_bytes:
                    paths = self._oldest_paths(base, total - n_bytes + more, f"{where} AND {_not_waiting(now)}", values)
                    found.append((total - n_bytes, paths))
            return found

        return self._catalog.ask(work)

    def _oldest_paths(
        self, base: sqlite3.Connection, excess: int, where: str, values: Sequence[str]
    ) -> list[Path]:
        paths: list[Path] = []
        until_ns = -1 << 63
        query = f"SELECT name, take, n_bytes, oldest_ns, ended_ns FROM take WHERE {where} ORDER BY oldest_ns"
        for name, take, n_bytes, oldest_ns, ended_ns in base.execute(query, values):
            if excess <= 0 and oldest_ns > until_ns:  # it began after the last of what is to go had ended
                break
            paths.append(self._catalog.path(name, take))
            if excess > 0:
                excess -= n_bytes
                until_ns = max(until_ns, ended_ns)
        return paths

    def keeps(self) -> list[str]:
        """What takes are to keep for themselves, each once, as it was asked for."""

        def work(base: sqlite3.Connection) -> list[str]:
            return [keep for (keep,) in base.execute("SELECT DISTINCT keep FROM take WHERE keep IS NOT NULL")]

        return self._catalog.ask(work)

    def wait(self, paths: Iterable[Path], now: Now, *, only_by_age: bool = False) -> None:
        """Nothing can go of these takes for now: they are passed over for some minutes, or until they change; or
        nothing by its age, which is in doubt. That stands in the catalogue as a moment below zero."""
        until_ns = (now.wall_ns + _WAIT_NS) * (-1 if only_by_age else 1)

        def work(base: sqlite3.Connection) -> None:
            query = "UPDATE take SET wait_ns = ? WHERE name = ? AND take = ?"
            with transaction(base):
                base.executemany(query, [(until_ns, path.parent.name, path.stem) for path in paths])

        self._catalog.ask(work)

    def wake(self) -> None:
        """What made takes wait may have gone: a pin. All are looked at again."""

        def work(base: sqlite3.Connection) -> None:
            with transaction(base):
                base.execute("UPDATE take SET wait_ns = 0 WHERE wait_ns != 0")

        self._catalog.ask(work)

    def least_stand_ns(self, boot: str) -> int | None:
        """How low the wall clock has stood over CLOCK_MONOTONIC in the takes of this run of the kernel."""

        def work(base: sqlite3.Connection) -> int | None:
            (stand,) = base.execute("SELECT min(least_stand_ns) FROM take WHERE boot = ?", (boot,)).fetchone()
            return None if stand is None else int(stand)

        return self._catalog.ask(work)


def _not_waiting(now: Now, until: str = "wait_ns") -> str:
    """In SQL. What is to wait for longer was so told under another clock."""
    return f"({until} < {now.wall_ns:d} OR {until} > {now.wall_ns + _WAIT_NS:d})"
