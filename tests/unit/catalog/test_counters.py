"""Counters: what is added is summed, sooner or later, and never lost."""

from __future__ import annotations

import threading

from casstore.catalog.counters import SUM_AT, Counters


def test_what_is_added_is_summed() -> None:
    """By whom it is of, and by name; later changes of what was given change nothing."""
    counters: Counters[str] = Counters()
    given = {"hits": 1.0}
    counters.add("a", given)
    given["hits"] = 7
    counters.add("a", {"hits": 2, "saved": 0.5})
    counters.add("b", {"hits": 1})
    assert counters.sums() == {"a": {"hits": 3, "saved": 0.5}, "b": {"hits": 1}}
    assert len(counters) == 2


def test_what_is_taken_begins_again() -> None:
    """What was taken is counted there no more, and nothing is left."""
    counters: Counters[str] = Counters()
    counters.add("a", {"hits": 1})
    assert counters.take() == {"a": {"hits": 1}}
    assert len(counters) == 0
    assert counters.take() == {}


def test_much_is_summed_by_itself() -> None:
    """What was put aside does not grow without end."""
    counters: Counters[str] = Counters()
    for _ in range(10 * SUM_AT):
        counters.add("a", {"hits": 1})
    assert len(counters._added) < SUM_AT
    assert counters.sums() == {"a": {"hits": 10 * SUM_AT}}


def test_threads_lose_nothing() -> None:
    """Some add while others take."""
    counters: Counters[int] = Counters()
    taken: list[float] = []

    def add() -> None:
        for number in range(3000):
            counters.add(number % 3, {"hits": 1})

    def take() -> None:
        for _ in range(300):
            taken.extend(known["hits"] for known in counters.take().values())

    threads = [threading.Thread(target=work) for work in (add, take, add, take)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    taken.extend(known["hits"] for known in counters.take().values())
    assert sum(taken) == 6000
