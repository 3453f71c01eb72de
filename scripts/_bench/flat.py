"""What should not grow with the store: a sync of nothing or of ten new, and opening it for one hit.

The remote is a store in a folder, which costs no server; the requests are casstore's own count.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from scripts._bench.peers import casstore_command
from scripts._bench.processes import Cost, measure
from scripts._bench.results import duration, say
from scripts._bench.sources import NEW, entry_key, fill, supply
from scripts._bench.sync_results import markdown, megabytes, requests
from scripts._bench.texts import real

SIZES = (1_000, 1_000_000)
"""Entries of the two stores that are compared."""

_ANSWER, _TEXTS = 400, 1000
"""Most bytes of an answer here, and how many texts they begin: what is measured is the number of entries."""

_SLOWER, _OPEN_MEMORY = 1.5, 60_000_000
"""The budgets of the design: how much longer it may take, and the peak memory of opening and one hit."""

_IDLE_PUSH, _IDLE_PULL, _NEW_PUSH = "no-op push", "no-op pull", f"push of {NEW} new"
_OPENING = "opening, one hit"
_OPEN = """
import sys
from casstore.digest import parse_key
from casstore.repo.repository import Repository
with Repository.open(sys.argv[1]) as repository:
    assert repository.read_entry(parse_key(sys.argv[2]))[1]
"""
_HEAD = ("operation", "entries", "time", "ratio", "memory", "requests", "budget")


@dataclass(frozen=True, slots=True)
class FlatRow:
    """What an operation takes with a store of that many entries.

    Attributes:
        operation: What was done.
        entries: How many there were.
        cost: What it cost, in the best of several tries.
        requests: Requests by casstore's count.
        slower: How many times as long it took as with the smaller store; None for the smaller.
    """

    operation: str
    entries: int
    cost: Cost
    requests: Mapping[str, int]
    slower: float | None = None

    @property
    def over(self) -> bool:
        """Whether it is over the design's budget."""
        opens_large = self.operation == _OPENING and self.cost.memory > _OPEN_MEMORY
        return opens_large or (self.slower is not None and self.slower > _SLOWER)

    def to_json(self) -> dict[str, object]:
        """Return the row with stable names; times in seconds, memory in bytes."""
        return {
            "operation": self.operation,
            "entries": self.entries,
            "seconds": self.cost.seconds,
            "cpu": self.cost.cpu,
            "memory": self.cost.memory,
            "requests": dict(self.requests),
            "slower": self.slower,
        }


def measure_flat(sizes: tuple[int, int], tries: int) -> list[FlatRow]:
    """Return what each operation takes with a small and with a large store, taking turns.

    Args:
        sizes: Entries of the two stores.
        tries: How often each is done; the fastest counts.
    """
    with tempfile.TemporaryDirectory(prefix="casstore-bench-", ignore_cleanup_errors=True) as name:
        folders = {size: Path(name) / str(size) for size in sizes}
        for size, folder in folders.items():
            _build(folder, size)
        found: dict[tuple[str, int], FlatRow] = {}
        for turn in range(tries):
            for size, folder in folders.items():
                for row in _operations(folder, size, turn):
                    place = (row.operation, size)
                    if place not in found or row.cost.seconds < found[place].cost.seconds:
                        found[place] = row
    return [_compared(row, found[row.operation, sizes[0]]) for _, row in sorted(found.items())]


def table(rows: Sequence[FlatRow]) -> Iterator[str]:
    """Yield the lines of a Markdown table."""
    cells = [
        (
            row.operation,
            f"{row.entries:,}",
            duration(row.cost.seconds),
            "" if row.slower is None else f"{row.slower:.2f}",
            megabytes(row.cost.memory),
            requests(row.requests),
            "OVER" if row.over else "kept",
        )
        for row in rows
    ]
    yield from markdown(_HEAD, cells, left=1)


def _build(folder: Path, size: int) -> None:
    """Make a store, a remote of its own that has all of it, and another store that has pulled all of it."""
    started = time.monotonic()
    few = [answer[:_ANSWER] for answer in islice(supply("flat", real()[1]), _TEXTS)]
    fill(folder / "source", (b"%d %b" % (number, few[number % _TEXTS]) for number in range(size)))
    _casstore(folder, "source", "push")
    _casstore(folder, "target", "pull")
    say(f"{size:,} entries made, pushed and pulled in {time.monotonic() - started:.0f} s")


def _operations(folder: Path, size: int, turn: int) -> Iterator[FlatRow]:
    yield _synced(folder, size, _IDLE_PUSH, "source", "push")
    yield _synced(folder, size, _IDLE_PULL, "target", "pull")
    yield FlatRow(_OPENING, size, _open(folder, size // 2), {})
    fill(folder / "source", islice(supply(f"{size} {turn}", real()[1]), NEW), f"turn {turn}")
    yield _synced(folder, size, _NEW_PUSH, "source", "push")
    _casstore(folder, "target", "pull")  # so that the next pull has nothing to do


def _synced(folder: Path, size: int, operation: str, store: str, verb: str) -> FlatRow:
    cost = _casstore(folder, store, verb)
    counts: Mapping[str, int] = json.loads(cost.output)["requests"]
    return FlatRow(operation, size, cost, {verb: count for verb, count in counts.items() if count})


def _casstore(folder: Path, store: str, verb: str) -> Cost:
    url = (folder / "remote").as_uri()
    return measure(casstore_command("--store", folder / store, verb, "--json", url), {}, folder)


def _open(folder: Path, number: int) -> Cost:
    command = (sys.executable, "-c", _OPEN, str(folder / "target"), entry_key(number))
    return measure(command, {}, folder)


def _compared(row: FlatRow, small: FlatRow) -> FlatRow:
    if row.entries == small.entries:
        return row
    slower = row.cost.seconds / small.cost.seconds
    return FlatRow(row.operation, row.entries, row.cost, row.requests, slower)
