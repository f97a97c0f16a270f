"""Threads' names, as people see them."""

from __future__ import annotations

import sys
import threading
from pathlib import Path

from chaos.system.threads import name_thread


def test_a_thread_and_those_it_starts_have_the_name_that_it_was_given() -> None:
    found = []

    def look() -> None:
        found.append(Path(f"/proc/self/task/{threading.get_native_id()}/comm").read_text().strip())

    def work() -> None:
        name_thread("chaosd-test")
        look()
        inner = threading.Thread(target=look, name="inner")
        inner.start()
        inner.join()

    outer = threading.Thread(target=work)
    outer.start()
    outer.join()
    look()
    assert found[:2] == ["chaosd-test", "inner" if sys.version_info >= (3, 14) else "chaosd-test"]
    assert found[2] != "chaosd-test"
