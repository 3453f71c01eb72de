"""What the counters of a ledger come to; a process that only hits need not ask.  Floor: inference."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields
from typing import Any, Protocol

_REASONS = ("uncached_", "unstored_")


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


def by_model(tallies: Iterable[Counted]) -> dict[tuple[str, str], Savings]:
    """Return what a store's ledger says, by provider and model."""
    pairs: dict[tuple[str, str], list[tuple[str, float]]] = {}
    for tally in tallies:
        pairs.setdefault((tally.provider, tally.model), []).append((tally.name, tally.value))
    return {who: summed(found) for who, found in sorted(pairs.items())}


def total(tallies: Iterable[Counted]) -> Savings:
    """Return what a store's ledger says, all in all."""
    return summed((tally.name, tally.value) for tally in tallies)


def reasons(tallies: Iterable[Counted]) -> dict[str, int]:
    """Return why calls were not kept, and how often, over all models."""
    return reasons_in((tally.name, tally.value) for tally in tallies)


def reasons_in(pairs: Iterable[tuple[str, float]]) -> dict[str, int]:
    """Return why calls were not kept, and how often, from counters by name."""
    sums: dict[str, int] = {}
    for name, value in pairs:
        if name.startswith(_REASONS):
            sums[name] = sums.get(name, 0) + int(value)
    return sums


def summed(pairs: Iterable[tuple[str, float]]) -> Savings:
    """Return the sum of counters by name."""
    sums: dict[str, float] = {}
    for name, value in pairs:
        if name in _WHOLE:
            sums[name] = sums.get(name, 0) + value
    counts: dict[str, Any] = {name: int(value) if _WHOLE[name] else value for name, value in sums.items()}
    return Savings(**counts)
