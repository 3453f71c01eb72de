"""Listings of the index for people: entries by age, and the objects stored here with the reason for each.

Rows come in pages, so that a listing of any size begins at once and holds no statement open.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from casstore.catalog.listed import HeldObject
from casstore.catalog.records import Entry
from casstore.catalog.rows import claim_from, refs_from
from casstore.digest import Digest

if TYPE_CHECKING:
    from casstore.catalog.index import Index

PAGE: Final = 1000
"""Rows that are read at once."""

_COLUMNS = "SELECT e.key, e.object, e.generation, e.created, e.labels, e.refs, o.size FROM entries e"

_SIZES = "LEFT JOIN objects o ON o.digest = e.object"

# The first page is one pass over the entries that keeps the oldest alone; the keys of the rest are sorted
# only when somebody reads on.
_OLDEST = f"""
WITH oldest AS (SELECT key FROM entries WHERE object IS NOT NULL ORDER BY created, key LIMIT {PAGE})
{_COLUMNS} {_SIZES} WHERE e.key IN (SELECT key FROM oldest) ORDER BY e.created, e.key
"""

_LATER = """
SELECT key FROM entries WHERE object IS NOT NULL AND (created, key) > (?, ?) ORDER BY created, key
"""

_ENTRY = f"{_COLUMNS} {_SIZES} WHERE e.key = ? AND e.object IS NOT NULL"

_WHY: Final = {"entry": 1, "put": 2, "dictionary": 4, "ref": 8}
"""Why an object stays, by its bit in ``reasons``."""

_REASONS = "CREATE TEMP TABLE reasons(digest BLOB PRIMARY KEY, why INTEGER NOT NULL) WITHOUT ROWID"

_GIVE = "ON CONFLICT(digest) DO UPDATE SET why = why | excluded.why"

_OBJECTS = f"""
SELECT o.digest, o.size, o.stored, o.used, p.digest, coalesce(r.why, 0) | {_WHY["put"]} * o.kept
FROM objects o LEFT JOIN reasons r ON r.digest = o.digest LEFT JOIN packs p ON p.id = o.pack
WHERE o.digest > ? ORDER BY o.digest LIMIT {PAGE}
"""


def entries_by_age(index: Index) -> Iterator[tuple[Entry, int | None]]:
    """Yield every entry, the oldest first, with the size of its object; None where that is not here."""
    with index.reading() as connection:
        page = [_entry(row) for row in connection.execute(_OLDEST)]
    yield from page
    if len(page) < PAGE:
        return
    last = page[-1][0]
    with index.reading() as connection:
        later = connection.execute(_LATER, (last.created, bytes.fromhex(last.key))).fetchall()
    for start in range(0, len(later), PAGE):
        with index.reading() as connection:
            found = [connection.execute(_ENTRY, key).fetchone() for key in later[start : start + PAGE]]
            page = [_entry(row) for row in found if row is not None]  # else it was forgotten meanwhile
        yield from page


def objects_here(index: Index) -> Iterator[HeldObject]:
    """Yield every object stored here, by digest, with where it lies and why it stays."""
    after = b""
    with index.aside() as connection:
        _give_reasons(connection)
        while rows := connection.execute(_OBJECTS, (after,)).fetchall():
            yield from map(_held, rows)
            after = rows[-1][0]


def _give_reasons(connection: sqlite3.Connection) -> None:
    connection.execute(_REASONS)
    connection.execute(
        f"INSERT INTO reasons SELECT object, {_WHY['entry']} FROM entries WHERE object IS NOT NULL {_GIVE}"
    )
    connection.execute(
        f"INSERT INTO reasons SELECT dictionary, {_WHY['dictionary']} FROM packs"
        f" WHERE here AND dictionary IS NOT NULL {_GIVE}"
    )
    refs = connection.execute("SELECT refs FROM entries WHERE object IS NOT NULL AND refs <> x''")
    rows = ((bytes.fromhex(ref),) for (some,) in refs.fetchall() for ref in refs_from(some))
    connection.executemany(f"INSERT INTO reasons VALUES (?, {_WHY['ref']}) {_GIVE}", rows)


def _entry(row: tuple[bytes, bytes, int, int, str, bytes, int | None]) -> tuple[Entry, int | None]:
    claim = claim_from(row[:6])
    assert isinstance(claim, Entry)  # noqa: S101 - the statements leave tombstones out
    return claim, row[6]


def _held(row: tuple[bytes, int, int, int, bytes | None, int]) -> HeldObject:
    digest, size, stored, used, pack, bits = row
    why = tuple(name for name, bit in _WHY.items() if bits & bit)
    return HeldObject(
        Digest(digest.hex()), size, stored, used, None if pack is None else Digest(pack.hex()), why
    )
