"""Inserting many rows with few statements, which leave Python free for other work.  Floor: catalog.

SQLite takes a value at a time, and Python can do nothing else while one is handed over. So a thousand rows
are handed over as a few values, the columns, in each of which the values of the rows stand one behind
another; the statement takes them apart. While it runs, another thread can make the next rows.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import accumulate
from typing import Any

_AT_ONCE = 1000
"""Rows a statement."""

_FEW = 20
"""Rows below which a statement for each is as fast."""

_DIGEST = 32  # bytes
_DIGITS = 16  # of a number: 2^53 - 1 has as many

_ROWS = "WITH RECURSIVE number(n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM number WHERE n + 1 < ?)"
_NUMBER = f"CAST(substr(?, {_DIGITS} * n + 1, {_DIGITS}) AS INTEGER)"

_Column = tuple[str, list[Any]]
"""The expression for a column's value in row `n`, and what is bound to its question marks."""


@dataclass(frozen=True, slots=True)
class Insert:
    """A statement that inserts rows.

    Attributes:
        begin: What stands before its values.
        columns: A letter for what the values of each column are: (d)igests, (n)umbers, (t)exts or (b)inaries.
        end: What stands behind its values.
    """

    begin: str
    columns: str
    end: str = ""

    def run(self, connection: sqlite3.Connection, rows: Sequence[tuple[Any, ...]]) -> None:
        """Insert rows, one behind another."""
        for start in range(0, len(rows), _AT_ONCE):
            some = rows[start : start + _AT_ONCE]
            if len(some) < _FEW or not self._insert(connection, some):
                values = ", ".join("?" * len(self.columns))
                connection.executemany(f"{self.begin} VALUES ({values}) {self.end}", some)

    def _insert(self, connection: sqlite3.Connection, rows: Sequence[tuple[Any, ...]]) -> bool:
        """Insert rows at once, and return whether that can be: not where nulls stand among other values."""
        try:
            columns = [
                _COLUMNS[kind](values)
                for kind, values in zip(self.columns, zip(*rows, strict=True), strict=True)
            ]
        except (TypeError, ValueError, AttributeError):
            return False
        statement = _statement(self.begin, tuple(expression for expression, _ in columns), self.end)
        connection.execute(statement, [len(rows), *(value for _, values in columns for value in values)])
        return True


@cache
def _statement(begin: str, expressions: tuple[str, ...], end: str) -> str:
    # WHERE keeps ON CONFLICT from being read as a join.
    return f"{begin} {_ROWS} SELECT {', '.join(expressions)} FROM number WHERE true {end}"


def _digests(values: Sequence[bytes]) -> _Column:
    if set(map(len, values)) != {_DIGEST}:
        raise ValueError("not all of them are digests")
    return f"substr(?, {_DIGEST} * n + 1, {_DIGEST})", [b"".join(values)]


def _numbers(values: Sequence[int]) -> _Column:
    return ("?", [values[0]]) if _are_one(values) else (_NUMBER, [_digits(values)])


def _texts(values: Sequence[str]) -> _Column:
    expression, bound = _binaries([text.encode() for text in values])
    return f"CAST({expression} AS TEXT)", bound


def _binaries(values: Sequence[bytes]) -> _Column:
    if _are_one(values):
        return "?", [values[0]]
    lengths = list(map(len, values))
    starts = list(accumulate(lengths[:-1], initial=1))
    return f"substr(?, {_NUMBER}, {_NUMBER})", [b"".join(values), _digits(starts), _digits(lengths)]


def _are_one(values: Sequence[object]) -> bool:
    return values.count(values[0]) == len(values)


def _digits(numbers: Sequence[int]) -> bytes:
    digits = b"".join(map(b"%16d".__mod__, numbers))
    if len(digits) != _DIGITS * len(numbers):
        raise ValueError("a number has too many digits")
    return digits


_COLUMNS: dict[str, Callable[[Sequence[Any]], _Column]] = {
    "d": _digests,
    "n": _numbers,
    "t": _texts,
    "b": _binaries,
}
