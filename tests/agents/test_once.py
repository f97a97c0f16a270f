"""A repeated call is done once."""

from __future__ import annotations

import threading

import pytest

from chaos.agents.once import Once
from chaos.terms.errors import InvalidRequest, StreamExists


def test_a_repeated_call_has_the_first_answer() -> None:
    once, done = Once(), []
    answers = [once.do("mark", "1", b"{}", lambda: done.append(1) or len(done)) for _ in range(3)]
    assert answers == [1, 1, 1]
    assert once.do("mark", "2", b"{}", lambda: "another") == "another"
    assert once.do("save", "1", b"{}", lambda: "another tool") == "another tool"
    with pytest.raises(InvalidRequest, match="used for another call"):
        once.do("mark", "1", b'{"label":"x"}', lambda: None)


def test_what_failed_is_tried_anew() -> None:
    once = Once()

    def fail() -> None:
        raise StreamExists("there")

    with pytest.raises(StreamExists):
        once.do("stream_create", "1", b"{}", fail)
    assert once.do("stream_create", "1", b"{}", lambda: "done") == "done"


def test_one_that_is_still_being_done_is_waited_for() -> None:
    once, begun, go_on, answers = Once(), threading.Event(), threading.Event(), []

    def slow() -> str:
        begun.set()
        assert go_on.wait(60)
        return "done"

    def ask() -> None:
        answers.append(once.do("save", "1", b"{}", slow))

    threads = [threading.Thread(target=ask) for _ in range(4)]
    threads[0].start()
    assert begun.wait(60)
    for thread in threads[1:]:
        thread.start()
    go_on.set()
    for thread in threads:
        thread.join(60)
    assert answers == ["done"] * 4


def test_no_more_than_so_many_are_remembered() -> None:
    once = Once()
    for number in range(1500):
        once.do("mark", str(number), b"{}", lambda: None)
    assert len(once._calls) == 1000
    assert once.do("mark", "1499", b"{}", lambda: "anew") is None
    assert once.do("mark", "0", b"{}", lambda: "anew") == "anew"
