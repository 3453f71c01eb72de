"""Timing that is fair: every subject in every round, in an order that changes, and the best round counts."""

from __future__ import annotations

import gc
import random
import time
from collections.abc import Callable, Mapping

Action = Callable[[int], int]
"""Does its work for the round of that number, and returns how many times it did it."""


def best(subjects: Mapping[str, Action], rounds: int) -> dict[str, float]:
    """Return the seconds that one time takes, by subject, in its best round."""
    found = dict.fromkeys(subjects, float("inf"))
    order = list(subjects)
    chance = random.Random(0)
    for number in range(rounds):
        chance.shuffle(order)
        for name in order:
            gc.collect()
            started = time.perf_counter()
            times = subjects[name](number)
            found[name] = min(found[name], (time.perf_counter() - started) / times)
    return found
