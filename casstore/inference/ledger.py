"""The ledger: what was spent, and what the cache saved.  Floor: inference.

Additive counters by provider and model, so that ledgers of many processes and days sum to the truth. Kept in
memory for this process, and passed to the store, which adds the day. The names are stable and stand in
`designs/inference.md`.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Any, Protocol

from casstore.inference.types import Response, Usage

FUNCTION = "function"
"""The provider under which calls of memoized functions are counted."""

_SPENT = ("calls", "unpriced_calls", "spent")
_REASONS = ("uncached_", "unstored_")
_SAVED = ("hits", "unpriced_hits", "saved")


class Counted(Protocol):
    """One counter of a store's ledger."""

    @property
    def provider(self) -> str:
        """Who was asked."""

    @property
    def model(self) -> str:
        """For which model."""

    @property
    def name(self) -> str:
        """What is counted."""

    @property
    def value(self) -> float:
        """How much."""


@dataclass(frozen=True, slots=True)
class Savings:
    """What was spent and saved, by one model or by all.

    Attributes:
        calls: Calls made of the provider.
        hits: Answers given without one.
        uncached: Calls, among `calls`, that had no key.
        input_spent: Tokens read in calls; the other token counts likewise: ``cached`` and ``written`` (into
            the provider's prompt cache) are part of those, ``reasoning`` is part of ``output``.
        money_spent: USD paid for the calls whose price is known.
        money_saved: USD not paid for the hits whose price is known.
        seconds_spent: Time waited for providers.
        seconds_saved: Time they took for the answers given without them.
        unpriced_calls: Calls, among `calls`, whose price is not known.
        unpriced_hits: Hits, among `hits`, whose price is not known.
    """

    calls: int = 0
    hits: int = 0
    uncached: int = 0
    input_spent: int = 0
    input_saved: int = 0
    output_spent: int = 0
    output_saved: int = 0
    cached_spent: int = 0
    cached_saved: int = 0
    reasoning_spent: int = 0
    reasoning_saved: int = 0
    written_spent: int = 0
    written_saved: int = 0
    money_spent: float = 0.0
    money_saved: float = 0.0
    seconds_spent: float = 0.0
    seconds_saved: float = 0.0
    unpriced_calls: int = 0
    unpriced_hits: int = 0


_WHOLE = {each.name: each.type == "int" for each in fields(Savings)}


class Ledger:
    """The counters of this process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: dict[tuple[str, str], dict[str, float]] = {}

    def add(self, provider: str, model: str, counts: Mapping[str, float]) -> None:
        """Add `counts` to what is known of a model."""
        with self._lock:
            known = self._counts.setdefault((provider, model), {})
            for name, value in counts.items():
                known[name] = known.get(name, 0) + value

    def total(self) -> Savings:
        """Return the sum over all models."""
        with self._lock:
            return _sum(pair for known in self._counts.values() for pair in known.items())

    def reasons(self) -> dict[str, int]:
        """Return why calls were not kept, and how often, over all models."""
        with self._lock:
            return _reasons(pair for known in self._counts.values() for pair in known.items())

    def by_model(self) -> dict[tuple[str, str], Savings]:
        """Return the sums by provider and model."""
        with self._lock:
            return {who: _sum(known.items()) for who, known in self._counts.items()}


def by_model(tallies: Iterable[Counted]) -> dict[tuple[str, str], Savings]:
    """Return what a store's ledger says, by provider and model."""
    pairs: dict[tuple[str, str], list[tuple[str, float]]] = {}
    for tally in tallies:
        pairs.setdefault((tally.provider, tally.model), []).append((tally.name, tally.value))
    return {who: _sum(found) for who, found in sorted(pairs.items())}


def total(tallies: Iterable[Counted]) -> Savings:
    """Return what a store's ledger says, all in all."""
    return _sum((tally.name, tally.value) for tally in tallies)


def reasons(tallies: Iterable[Counted]) -> dict[str, int]:
    """Return why calls were not kept, and how often, over all models."""
    return _reasons((tally.name, tally.value) for tally in tallies)


def _reasons(pairs: Iterable[tuple[str, float]]) -> dict[str, int]:
    sums: dict[str, int] = {}
    for name, value in pairs:
        if name.startswith(_REASONS):
            sums[name] = sums.get(name, 0) + int(value)
    return sums


def counts_of_call(response: Response, *, keyed: bool = True) -> dict[str, float]:
    """Return what a call of the provider adds to the ledger."""
    counts = _counts(response.usage, response.cost, response.seconds, _SPENT)
    if not keyed:
        counts["uncached"] = 1
    return counts


def counts_of_hit(response: Response) -> dict[str, float]:
    """Return what an answer given without a call adds to the ledger."""
    original = response.original
    if original is None:
        return {"hits": 1}
    return _counts(original.usage, original.cost, original.seconds, _SAVED)


def _counts(
    usage: Usage, cost: float | None, seconds: float, names: tuple[str, str, str]
) -> dict[str, float]:
    times, unpriced, suffix = names
    counts: dict[str, float] = {times: 1}
    if usage.input:
        counts["input_" + suffix] = usage.input
    if usage.output:
        counts["output_" + suffix] = usage.output
    if usage.cached:
        counts["cached_" + suffix] = usage.cached
    if usage.reasoning:
        counts["reasoning_" + suffix] = usage.reasoning
    if usage.written:
        counts["written_" + suffix] = usage.written
    if seconds:
        counts["seconds_" + suffix] = seconds
    if cost is None:
        counts[unpriced] = 1
    else:
        counts["money_" + suffix] = cost
    return counts


def _sum(pairs: Iterable[tuple[str, float]]) -> Savings:
    sums: dict[str, float] = {}
    for name, value in pairs:
        if name in _WHOLE:
            sums[name] = sums.get(name, 0) + value
    counts: dict[str, Any] = {name: int(value) if _WHOLE[name] else value for name, value in sums.items()}
    return Savings(**counts)
