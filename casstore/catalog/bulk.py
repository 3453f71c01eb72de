"""Inserting many rows with few statements, in two thirds of the time of one each.  Floor: catalog."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import chain
from typing import Any

_AT_ONCE = 100
"""Rows a statement: with eight columns, fewer variables than any SQLite allows (999)."""


@dataclass(frozen=True, slots=True)
class Insert:
    """A statement that inserts rows.

    Attributes:
        begin: What stands before its values.
        columns: How many values a row has.
        end: What stands behind its values.
    """

    begin: str
    columns: int
    end: str = ""

    def run(self, connection: sqlite3.Connection, rows: Sequence[tuple[Any, ...]]) -> None:
        """Insert rows, one behind another."""
        whole = len(rows) - len(rows) % _AT_ONCE
        if whole:
            statement = _statement(self, _AT_ONCE)
            for start in range(0, whole, _AT_ONCE):
                connection.execute(statement, tuple(chain.from_iterable(rows[start : start + _AT_ONCE])))
        if whole < len(rows):
            connection.executemany(_statement(self, 1), rows[whole:])


@cache
def _statement(insert: Insert, rows: int) -> str:
    row = f"({', '.join('?' * insert.columns)})"
    return f"{insert.begin} VALUES {', '.join([row] * rows)} {insert.end}"
