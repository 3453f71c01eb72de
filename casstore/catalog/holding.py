"""What all remotes together are believed to hold.  Floor: catalog."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable

from casstore.catalog import statements
from casstore.catalog.index import Index
from casstore.catalog.rows import stored_from
from casstore.digest import Digest
from casstore.store.sealed import Stored


def unlearn_segment(index: Index, segment: Digest) -> None:
    """Note that a segment is no longer here, so that it is fetched again from the remotes that have it."""
    with index.writing() as connection:
        connection.execute("DELETE FROM remote_segments WHERE segment = ?", (bytes.fromhex(segment),))


def lose_objects(connection: sqlite3.Connection, digests: Iterable[Digest]) -> None:
    """Note that objects are gone which should be here: a pull from a remote that has them brings them.

    Those that were put by hand are marked so again when they are back, and remotes that lack them still do.
    """
    lost = list(digests)
    _remember_kept(connection, lost)
    connection.executemany("DELETE FROM objects WHERE digest = ?", [(bytes.fromhex(each),) for each in lost])
    connection.executemany(statements.WANT_AGAIN, [(bytes.fromhex(digest),) for digest in lost])


def _remember_kept(connection: sqlite3.Connection, lost: Iterable[Digest]) -> None:
    rows = [(bytes.fromhex(digest),) for digest in lost]
    query = "SELECT 1 FROM objects WHERE digest = ? AND kept"
    if any(connection.execute(query, row).fetchone() for row in rows):
        for statement in statements.REMEMBER_KEPT:
            connection.execute(statement)
        connection.executemany(statements.LOSE_KEPT, rows)


def is_held(index: Index, digest: Digest) -> bool:
    """Return whether some remote is believed to hold an object for good, and to tell of it."""
    with index.reading() as connection:
        row = connection.execute(f"SELECT {statements.HELD.format('?')}", (bytes.fromhex(digest),)).fetchone()
    return bool(row[0])


def remotes_holding(index: Index, digest: Digest) -> list[tuple[str, Stored]]:
    """Return the URLs of the remotes believed to hold an object, and how each holds it."""
    with index.reading() as connection:
        rows = connection.execute(
            "SELECT r.url, h.object, h.size, h.stored, h.frames, p.digest, h.offset, p.dictionary"
            " FROM remotes r CROSS JOIN remote_objects h ON h.remote = r.id AND h.object = ?"
            " LEFT JOIN packs p ON p.id = h.pack ORDER BY r.id",
            (bytes.fromhex(digest),),
        ).fetchall()
    return [(url, stored_from(*row)) for url, *row in rows]
