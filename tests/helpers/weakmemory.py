"""Small programs on a memory like C11's, tried in every order of their steps and with every value that a load may see.

A thread is a generator function that yields one access after the other and is sent what a load gives. A location keeps
all that was stored there; a load may see any of it that is not older than what its thread has seen of the location, and
a release hands on what its thread has seen to whoever acquires it. So stores may pass each other and loads give old
values, as on ARM, and more than there. Loads see no store that comes after them in time, and two stores that nothing
orders are an error: each word has one writer at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import NamedTuple

__all__ = ["FENCE", "Load", "Program", "Step", "Store", "Unordered", "outcomes"]

View = tuple[int, ...]  # how much of each location has been seen


class Unordered(Exception):
    """Two threads may store to one place at a time."""


class Load(NamedTuple):
    place: str
    acquires: bool = True


class Store(NamedTuple):
    place: str
    value: int
    releases: bool = True


class _Fence(NamedTuple):
    """Acquires what loads before it have seen, and has stores after it release what was done before it."""


FENCE = _Fence()
Step = Load | Store | _Fence
Program = Generator[Step, int, object]


class _Thread(NamedTuple):
    seen: tuple[int, ...]  # what its loads gave, which is all that it can know
    n_done: int
    now: View
    after_fence: View  # what a fence would acquire
    at_fence: View  # what the last one releases


class _State(NamedTuple):
    threads: tuple[_Thread, ...]
    stored: tuple[tuple[tuple[int, View], ...], ...]  # of each location: values, each with what it hands on


def outcomes(begin: dict[str, int], *threads: Callable[[], Program]) -> set[tuple[object, ...]]:
    """What the threads may return together. Raises Unordered."""
    places = {place: number for number, place in enumerate(begin)}
    nothing = (0,) * len(places)
    first = _State(
        tuple(_Thread((), 0, nothing, nothing, nothing) for _ in threads),
        tuple(((value, nothing),) for value in begin.values()),
    )
    found: set[tuple[object, ...]] = set()
    known, todo = {first}, [first]
    while todo:
        state = todo.pop()
        ends = []
        for number, (program, thread) in enumerate(zip(threads, state.threads, strict=True)):
            step, result = _next(program, thread)
            if step is None:
                ends.append(result)
                continue
            for after in _taken(state, number, step, places):
                if after not in known:
                    known.add(after)
                    todo.append(after)
        if len(ends) == len(threads):
            found.add(tuple(ends))
    return found


def _next(program: Callable[[], Program], thread: _Thread) -> tuple[Step | None, object]:
    """The thread's next step, or None and what it returns."""
    running, seen = program(), iter(thread.seen)
    try:
        step = next(running)
        for _ in range(thread.n_done):
            step = running.send(next(seen)) if isinstance(step, Load) else next(running)
    except StopIteration as end:
        return None, end.value
    return step, None


def _taken(state: _State, number: int, step: Step, places: dict[str, int]) -> list[_State]:
    thread = state.threads[number]._replace(n_done=state.threads[number].n_done + 1)
    if isinstance(step, _Fence):
        return [_with(state, number, thread._replace(now=thread.after_fence, at_fence=thread.after_fence))]
    at = places[step.place]
    there = state.stored[at]
    if isinstance(step, Store):
        if thread.now[at] != len(there) - 1:
            raise Unordered(step.place)
        own = _at(thread.now, at, len(there))
        handed = own if step.releases else _at(thread.at_fence, at, len(there))
        stored = (*state.stored[:at], (*there, (step.value, handed)), *state.stored[at + 1 :])
        thread = thread._replace(now=own, after_fence=_both(thread.after_fence, own))
        return [_with(state, number, thread)._replace(stored=stored)]
    found = []
    for index in range(thread.now[at], len(there)):
        value, handed = there[index]
        now = _at(thread.now, at, index)
        now = _both(now, handed) if step.acquires else now
        after = _both(_both(thread.after_fence, now), handed)
        found.append(_with(state, number, thread._replace(seen=(*thread.seen, value), now=now, after_fence=after)))
    return found


def _with(state: _State, number: int, thread: _Thread) -> _State:
    return state._replace(threads=(*state.threads[:number], thread, *state.threads[number + 1 :]))


def _at(view: View, at: int, index: int) -> View:
    return (*view[:at], index, *view[at + 1 :])


def _both(one: View, other: View) -> View:
    return tuple(map(max, one, other))
