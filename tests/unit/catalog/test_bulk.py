"""Inserting many rows at once."""

from __future__ import annotations

import sqlite3

from hypothesis import given
from hypothesis import strategies as st

from casstore.catalog.bulk import Insert

INSERT = Insert("INSERT INTO made", "dntb", "ON CONFLICT(digest) DO UPDATE SET text = excluded.text")

Row = tuple[bytes | None, int | None, str | None, bytes | None]

digests = st.binary(min_size=32, max_size=32)
numbers = st.integers(0, 2**53 - 1)
texts = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=5)
even = st.tuples(digests, numbers, texts, st.binary(max_size=5))
alike = st.tuples(digests, st.just(7), st.just("é"), st.none())
uneven = st.tuples(
    st.none() | st.binary(max_size=3),
    st.none() | st.integers(-(2**63), 2**63 - 1),
    st.none() | texts,
    st.none() | st.binary(max_size=3),
)


def inserted(rows: list[Row], *, at_once: bool) -> list[Row]:
    """Return what a table holds after an insertion."""
    connection = sqlite3.connect(":memory:")
    connection.execute("CREATE TABLE made(digest BLOB UNIQUE, number INTEGER, text TEXT, binary BLOB)")
    if at_once:
        INSERT.run(connection, rows)
    else:
        connection.executemany(f"{INSERT.begin} VALUES (?, ?, ?, ?) {INSERT.end}", rows)
    found: list[Row] = connection.execute("SELECT *, typeof(text) FROM made ORDER BY rowid").fetchall()
    connection.close()
    return found


@given(
    st.lists(even, max_size=60) | st.lists(alike, max_size=60) | st.lists(even | alike | uneven, max_size=60)
)
def test_rows_at_once_are_rows_one_by_one(rows: list[Row]) -> None:
    """Whatever the values are, nulls and numbers of any size among them, and where keys meet again."""
    assert inserted(rows, at_once=True) == inserted(rows, at_once=False)


def test_more_rows_than_a_statement_takes() -> None:
    """Thousands of rows are all inserted, in their order, by a few statements."""
    rows: list[Row] = [(bytes([n % 251, n // 251]) * 16, n, str(n), b"x" * (n % 3)) for n in range(2_345)]
    statements: list[str] = []
    connection = sqlite3.connect(":memory:", isolation_level=None)
    connection.execute("CREATE TABLE made(digest BLOB UNIQUE, number INTEGER, text TEXT, binary BLOB)")
    connection.set_trace_callback(statements.append)
    INSERT.run(connection, rows)
    assert len(statements) == 3
    assert connection.execute("SELECT * FROM made ORDER BY rowid").fetchall() == rows
