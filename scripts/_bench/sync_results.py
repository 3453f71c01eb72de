"""The table of the comparison of syncs, in Markdown, and what it says of the design's budgets."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict

from scripts._bench.peers import (
    CASSTORE,
    COLD_PULL,
    COLD_PUSH,
    IDLE_PULL,
    IDLE_PUSH,
    NEW_PULL,
    NEW_PUSH,
    OPERATIONS,
    PLAIN,
    RESTIC,
    Peer,
)
from scripts._bench.results import duration
from scripts._bench.sources import Disk
from scripts._bench.sync_round import Result

MEGABYTE = 1_000_000

_FASTER_THAN_FILES = {COLD_PUSH: 6.0, COLD_PULL: 12.0}
_AGAINST_PLAIN, _PULLED, _INDEX, _MEMORY = 2.5, 1.1, 400, 300 * MEGABYTE
_REQUESTS = {IDLE_PUSH: 1, IDLE_PULL: 1, NEW_PUSH: 4, NEW_PULL: 4}
"""The budgets of the design."""

_HEAD = ("operation", "program", "time", "ratio", "CPU", "memory", "requests", "payload", "at rest")


def best(results: Iterable[Result]) -> dict[tuple[str, str], Result]:
    """Return the fastest result of each subject at each operation."""
    found: dict[tuple[str, str], Result] = {}
    for result in results:
        place = (result.operation, result.peer)
        if place not in found or result.cost.seconds < found[place].cost.seconds:
            found[place] = result
    return found


def table(results: Iterable[Result]) -> Iterator[str]:
    """Yield the lines of the table, the fastest first; the ratio is of each one's time to casstore's."""
    found = best(results)
    yield from markdown(_HEAD, [row for operation in OPERATIONS for row in _rows(operation, found)], left=2)


def _rows(operation: str, found: Mapping[tuple[str, str], Result]) -> Iterator[Sequence[str]]:
    mine = found.get((operation, CASSTORE))
    of_operation = [result for (name, _), result in found.items() if name == operation]
    for result in sorted(of_operation, key=lambda each: each.cost.seconds):
        yield (
            operation,
            result.peer,
            duration(result.cost.seconds),
            f"{result.cost.seconds / mine.cost.seconds:.2f}" if mine else "",
            duration(result.cost.cpu),
            megabytes(result.cost.memory),
            requests(result.traffic.requests),
            _payload(result),
            _at_rest(result),
        )


def verdicts(results: Iterable[Result], subjects: Sequence[Peer], entries: int) -> Iterator[str]:
    """Yield what the figures say of each budget, a line each."""
    found = best(results)
    for operation, budget in _FASTER_THAN_FILES.items():
        mine = found[operation, CASSTORE].cost.seconds
        names = {each.name for each in subjects if each.a_request_a_file}
        singles = [each for (name, peer), each in found.items() if name == operation and peer in names]
        if singles:
            fastest = min(singles, key=lambda result: result.cost.seconds)
            times = fastest.cost.seconds / mine
            yield _verdict(f"{operation}: faster than {fastest.peer}", times, budget, at_least=True)
        if (operation, RESTIC) in found:
            times = found[operation, RESTIC].cost.seconds / mine
            yield _verdict(f"{operation}: faster than restic", times, 1, at_least=True)
    for plain in PLAIN:
        if (COLD_PULL, plain) in found:
            times = found[COLD_PULL, CASSTORE].cost.seconds / found[COLD_PULL, plain].cost.seconds
            yield _verdict(f"cold pull: times that of {plain}", times, _AGAINST_PLAIN)
    for operation, most in _REQUESTS.items():
        sent = sum(found[operation, CASSTORE].traffic.requests.values())
        yield _verdict(f"{operation}: requests", sent, most)
    yield _verdict_on_disk(found[COLD_PUSH, CASSTORE].bucket, found[COLD_PULL, CASSTORE].disk, entries)
    peak = max(found[operation, CASSTORE].cost.memory for operation in OPERATIONS)
    yield _verdict("peak memory in MB", peak / MEGABYTE, _MEMORY / MEGABYTE)
    yield from _uncounted(found)


def _verdict_on_disk(bucket: int, disk: Disk | None, entries: int) -> str:
    pulled = 0 if disk is None else disk.blocks
    return _verdict(
        "pulled bytes to those in the bucket, index apart", (pulled - _INDEX * entries) / bucket, _PULLED
    )


def _verdict(what: str, value: float, budget: float, *, at_least: bool = False) -> str:
    kept = value >= budget if at_least else value <= budget
    bound = "at least" if at_least else "at most"
    return f"{'kept ' if kept else 'OVER '} {what}: {value:.4g} ({bound} {budget:g})"


def _uncounted(found: Mapping[tuple[str, str], Result]) -> Iterator[str]:
    """Yield where casstore's own count of requests differs from the server's."""
    for operation in OPERATIONS:
        result = found[operation, CASSTORE]
        if dict(result.reported) != dict(result.traffic.requests):
            own, theirs = requests(result.reported), requests(result.traffic.requests)
            yield f"OVER  {operation}: casstore reports {own}, the server {theirs}"


def to_json(result: Result) -> dict[str, object]:
    """Return a result with stable names; times in seconds, sizes in bytes."""
    cost = {name: value for name, value in asdict(result.cost).items() if name != "output"}
    return {
        "program": result.peer,
        "operation": result.operation,
        **cost,
        "requests": dict(result.traffic.requests),
        "reported_requests": dict(result.reported),
        "received": result.traffic.received,
        "sent": result.traffic.sent,
        "bucket": result.bucket,
        "disk": None if result.disk is None else asdict(result.disk),
    }


def markdown(head: Sequence[str], rows: Sequence[Sequence[str]], *, left: int) -> Iterator[str]:
    """Yield a Markdown table, aligned for those who read it as text.

    Args:
        head: The names of the columns.
        rows: The cells.
        left: How many columns are words, which stand to the left; the others are figures.
    """
    widths = [max(len(row[index]) for row in (head, *rows)) for index in range(len(head))]

    def line(cells: Sequence[str]) -> str:
        padded = [
            f"{cell:<{width}}" if index < left else f"{cell:>{width}}"
            for index, (cell, width) in enumerate(zip(cells, widths, strict=True))
        ]
        return f"| {' | '.join(padded)} |"

    yield line(head)
    rules = ["-" * width if index < left else "-" * (width - 1) + ":" for index, width in enumerate(widths)]
    yield line(rules)
    yield from map(line, rows)


def requests(counts: Mapping[str, int]) -> str:
    """Return requests by verb, for people."""
    return ", ".join(f"{count:,} {verb}" for verb, count in counts.items()) or "none"


def megabytes(size: int) -> str:
    """Return a size for people, in megabytes: columns of one unit can be compared."""
    digits = 1 if size >= 10 * MEGABYTE else 2
    return f"{size / MEGABYTE:,.{digits}f} MB"


def _payload(result: Result) -> str:
    return megabytes(result.traffic.received + result.traffic.sent)


def _at_rest(result: Result) -> str:
    if result.disk is None:
        return megabytes(result.bucket)
    return f"{megabytes(result.disk.size)}, {megabytes(result.disk.blocks)} in blocks"
