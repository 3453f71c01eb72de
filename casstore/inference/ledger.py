"""The ledger: what was spent, and what the cache saved.  Floor: inference.

Additive counters by provider and model, so that ledgers of many processes and days sum to the truth. Kept in
memory for this process, and passed to the store, which adds the day. The names are stable and stand in
`designs/inference.md`. `casstore.inference.savings` sums them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from casstore.catalog.counters import Counters
from casstore.inference.types import Original, Response, Usage

if TYPE_CHECKING:
    from casstore.inference.savings import Savings

FUNCTION = "function"
"""The provider under which calls of memoized functions are counted."""

_SPENT = ("calls", "unpriced_calls", "spent")
_SAVED = ("hits", "unpriced_hits", "saved")


class Ledger:
    """The counters of this process."""

    def __init__(self) -> None:
        self._counters: Counters[tuple[str, str]] = Counters()

    def add(self, provider: str, model: str, counts: Mapping[str, float]) -> None:
        """Add `counts` to what is known of a model."""
        self._counters.add((provider, model), counts)

    def total(self) -> Savings:
        """Return the sum over all models."""
        from casstore.inference.savings import summed

        return summed(pair for known in self._counters.sums().values() for pair in known.items())

    def reasons(self) -> dict[str, int]:
        """Return why calls were not kept, and how often, over all models."""
        from casstore.inference.savings import reasons_in

        return reasons_in(pair for known in self._counters.sums().values() for pair in known.items())

    def by_model(self) -> dict[tuple[str, str], Savings]:
        """Return the sums by provider and model."""
        from casstore.inference.savings import summed

        return {who: summed(known.items()) for who, known in self._counters.sums().items()}


def counts_of_call(response: Response, *, keyed: bool = True) -> dict[str, float]:
    """Return what a call of the provider adds to the ledger."""
    counts = _counts(response.usage, response.cost, response.seconds, _SPENT)
    if not keyed:
        counts["uncached"] = 1
    return counts


def counts_of_hit(original: Original | None) -> dict[str, float]:
    """Return what an answer given without a call adds to the ledger, by what the first call took."""
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
