"""The moving of objects: what is made ahead."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from casstore.repo.transfer import prefetched


def test_the_next_is_made_while_the_caller_works_on_one() -> None:
    """Order stays, and never more than one is made ahead."""
    made: list[int] = []
    second = threading.Event()

    def items() -> Iterator[int]:
        for number in range(5):
            made.append(number)
            if number == 1:
                second.set()
            yield number

    seen = []
    for number in prefetched(items()):
        if number == 0:
            assert second.wait(10)
        seen.append(number)
        assert len(made) <= number + 2
    assert seen == made == list(range(5))


def test_what_fails_ahead_fails_in_its_turn() -> None:
    """What was made before comes first."""

    def items() -> Iterator[int]:
        yield 1
        raise ValueError("broken")

    found = prefetched(items())
    assert next(found) == 1
    with pytest.raises(ValueError, match="broken"):
        next(found)


def test_a_caller_that_stops_leaves_no_thread() -> None:
    """What is being made then is made, and nothing after it."""
    before = threading.active_count()
    found = prefetched(iter(range(1, 100)))
    assert next(found) == 1
    found.close()
    assert threading.active_count() == before
