"""What happens many times alike, and how it is counted."""

from __future__ import annotations

from chaos.system.bursts import Bursts, More


def test_the_first_of_each_kind_is_told_and_the_others_are_counted() -> None:
    bursts = Bursts(60.0)
    assert [bursts.begins(kind, what) for kind, what in (("a", "a1"), ("a", "a2"), ("b", "b1"), ("a", "a3"))] == [
        True, False, True, False,
    ]  # fmt: skip
    assert bursts.over() == []
    assert 0 < (bursts.wait_s or 0) <= 60
    assert bursts.over(of_all=True) == [More("a", 2, "a3")]
    assert bursts.wait_s is None


def test_behind_a_burst_another_begins() -> None:
    bursts = Bursts(0.0)
    for _ in range(3):
        assert bursts.begins("a", "a1")
        assert not bursts.begins("a", "a2")
        assert bursts.wait_s == 0
        assert bursts.over() == [More("a", 1, "a2")]
