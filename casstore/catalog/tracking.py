"""What each remote holds, lacks and offers, as the index remembers it.  Floor: catalog.

Knowledge of a remote comes from its segments alone, and from uploads of this store. It is belief, not truth:
`disbelieve` and `reset` take it away when the remote turns out otherwise, and the next push repairs it.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from casstore.catalog import statements
from casstore.catalog.index import Index
from casstore.catalog.records import Claim, Location, Record
from casstore.catalog.rows import claim_from, claim_row, refs_from, stored_from, stored_row
from casstore.digest import Digest, Key
from casstore.store.marker import Marker
from casstore.store.sealed import Stored

_NO_REMOTE = 0

ENTRY, KEPT = 0, 1
"""Kinds of what is pending or wanted, as the index writes them."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """An entry or an object put by hand that a pull should bring.

    Attributes:
        kind: 0 for an entry, 1 for an object put by hand.
        id: The entry's key or the object's digest, 64 hex digits.
        objects: Digests of the objects it takes.
    """

    kind: int
    id: str
    objects: tuple[Digest, ...]


@dataclass(frozen=True, slots=True)
class Sides:
    """Where an object is believed to be.

    Attributes:
        here: How it is stored here; None where it is not.
        there: How the remote holds it; None where it does not.
        anywhere: Whether any remote holds it.
    """

    here: Stored | None
    there: Stored | None
    anywhere: bool


class Tracking:
    """The part of the index that is about one remote.

    Args:
        index: The store's index.
        url: The remote, as its configuration spells it; it is registered if it is new, everything pending.
    """

    def __init__(self, index: Index, url: str) -> None:
        self._index = index
        self._url = url
        self._id = 0
        self._identity = 0

    @property
    def id(self) -> int:
        """The remote's row in the index, another one when the index was rebuilt."""
        identity = self._index.identity()
        if identity != self._identity:
            self._id, self._identity = self._find() or self._register(), identity
        return self._id

    def marker(self) -> Marker | None:
        """Return the remote's marker, if it was read before."""
        with self._index.reading() as connection:
            (shards,) = connection.execute("SELECT shards FROM remotes WHERE id = ?", (self.id,)).fetchone()
        if shards is None:
            return None
        first, second = json.loads(shards)
        return Marker((first, second))

    def remember_marker(self, marker: Marker) -> None:
        """Note that the remote's marker was read or written."""
        with self._index.writing() as connection:
            row = (json.dumps(marker.shards), self.id)
            connection.execute("UPDATE remotes SET shards = ? WHERE id = ?", row)

    def segments(self) -> set[Digest]:
        """Return the segments of the remote whose records are known here."""
        with self._index.reading() as connection:
            rows = connection.execute("SELECT segment FROM remote_segments WHERE remote = ?", (self.id,))
            return {Digest(segment.hex()) for (segment,) in rows}

    def apply(self, segment: Digest, records: Iterable[Record]) -> int:
        """Take over the records of one of the remote's segments, in one transaction.

        Returns:
            How many entries changed here.
        """
        with self._index.writing() as connection:
            _stage(connection)
            for record in records:
                if isinstance(record, Location):
                    self._learn(connection, record)
                elif isinstance(record, Claim):
                    connection.execute(statements.STAGE_CLAIM, claim_row(record))
            changed = _absorb_staged(connection, self.id)
            connection.execute(statements.SETTLE_PENDING, (self.id,))
            connection.execute(statements.WANT_INCOMING, (self.id,))
            connection.execute(
                "INSERT OR IGNORE INTO remote_segments VALUES (?, ?)", (self.id, bytes.fromhex(segment))
            )
        return changed

    def reset(self) -> None:
        """Forget all that is believed of the remote: everything is pending, nothing is known to be there."""
        with self._index.writing() as connection:
            for table in ("remote_segments", "remote_objects", "wanted"):
                connection.execute(f"DELETE FROM {table} WHERE remote = ?", (self.id,))
            connection.execute("UPDATE remotes SET shards = NULL WHERE id = ?", (self.id,))
            connection.execute(statements.PEND_EVERYTHING, {"remote": self.id})

    # Push

    def pending_claims(self) -> Iterator[Claim]:
        """Yield the claims the remote lacks, by key."""
        with self._index.reading() as connection:
            rows = connection.execute(statements.PENDING_CLAIMS, (self.id,)).fetchall()
        yield from map(claim_from, rows)

    def pending_kept(self) -> list[Digest]:
        """Return the objects put by hand that the remote lacks, by digest."""
        with self._index.reading() as connection:
            rows = connection.execute(statements.PENDING_KEPT, (self.id,)).fetchall()
        return [Digest(digest.hex()) for (digest,) in rows]

    def sides(self, digests: Iterable[Digest]) -> dict[Digest, Sides]:
        """Return for each object how it is stored here and there."""
        with self._index.staging() as connection:
            _ask(connection, digests)
            found = connection.execute(statements.SIDES, (self.id,)).fetchall()
        return {
            Digest(row[0].hex()): Sides(
                _side(row[0], *row[1:4]), _side(row[0], *row[4:7]), anywhere=bool(row[7])
            )
            for row in found
        }

    def uploaded(self, objects: Iterable[Stored]) -> None:
        """Note that objects were uploaded, so that an interrupted push need not send them again."""
        with self._index.writing() as connection:
            rows = [(self.id, *stored_row(known)) for known in objects]
            connection.executemany(statements.PUT_REMOTE_OBJECT, rows)

    def pushed(self, segment: Digest, claims: Iterable[Claim], kept: Iterable[Digest]) -> None:
        """Note that a segment with these claims and objects stands in the remote."""
        with self._index.writing() as connection:
            _stage(connection)
            connection.executemany(statements.STAGE_CLAIM, map(claim_row, claims))
            # A claim that was replaced here while it was being pushed stays pending.
            connection.execute(statements.SETTLE_PENDING, (self.id,))
            rows = [(self.id, bytes.fromhex(digest)) for digest in kept]
            connection.executemany("DELETE FROM pending WHERE remote = ? AND kind = 1 AND id = ?", rows)
            connection.execute(
                "INSERT OR IGNORE INTO remote_segments VALUES (?, ?)", (self.id, bytes.fromhex(segment))
            )

    def unpend(self, keys: Iterable[Key], kept: Iterable[Digest]) -> None:
        """Give up on pushing what this store no longer has."""
        rows = [(self.id, 0, bytes.fromhex(key)) for key in keys]
        rows += [(self.id, 1, bytes.fromhex(digest)) for digest in kept]
        with self._index.writing() as connection:
            connection.executemany("DELETE FROM pending WHERE remote = ? AND kind = ? AND id = ?", rows)

    def disbelieve(self, digests: Iterable[Digest]) -> None:
        """Note that the remote does not hold objects, or not whole: what leads to them is pending again."""
        with self._index.writing() as connection:
            _ask(connection, digests)
            for statement in statements.DISBELIEVE:
                connection.execute(statement, (self.id,))

    # Pull

    def due(self) -> int:
        """Return how many entries a pull should bring the objects of."""
        with self._index.reading() as connection:
            query = "SELECT count(*) FROM wanted WHERE remote = ? AND kind = 0"
            return int(connection.execute(query, (self.id,)).fetchone()[0])

    def wanted(self) -> list[Wanted]:
        """Return what a pull should bring: the newest entries first, then objects put by hand."""
        with self._index.reading() as connection:
            entries = connection.execute(statements.WANTED_ENTRIES, (self.id,)).fetchall()
            kept = connection.execute(
                "SELECT id FROM wanted WHERE remote = ? AND kind = 1 ORDER BY id", (self.id,)
            ).fetchall()
        return [Wanted(ENTRY, key.hex(), _objects_of(content, refs)) for key, content, refs in entries] + [
            Wanted(KEPT, digest.hex(), (Digest(digest.hex()),)) for (digest,) in kept
        ]

    def brought(self, wanted: Iterable[Wanted]) -> None:
        """Note that these are no longer to be brought by a pull."""
        rows = [(self.id, item.kind, bytes.fromhex(item.id)) for item in wanted]
        with self._index.writing() as connection:
            connection.executemany("DELETE FROM wanted WHERE remote = ? AND kind = ? AND id = ?", rows)

    def _find(self) -> int | None:
        with self._index.reading() as connection:
            row = connection.execute("SELECT id FROM remotes WHERE url = ?", (self._url,)).fetchone()
        return row[0] if row else None

    def _register(self) -> int:
        with self._index.writing() as connection:
            connection.execute("INSERT OR IGNORE INTO remotes(url) VALUES (?)", (self._url,))
            (remote,) = connection.execute("SELECT id FROM remotes WHERE url = ?", (self._url,)).fetchone()
            connection.execute(statements.PEND_EVERYTHING, {"remote": remote})
        return int(remote)

    def _learn(self, connection: sqlite3.Connection, record: Location) -> None:
        row = stored_row(record.known)
        connection.execute(statements.PUT_REMOTE_OBJECT, (self.id, *row))
        if record.kept:
            settled = (self.id, row[0])
            connection.execute("DELETE FROM pending WHERE remote = ? AND kind = 1 AND id = ?", settled)
            connection.execute(
                "INSERT OR IGNORE INTO wanted SELECT ?1, 1, ?2"
                " WHERE NOT EXISTS (SELECT 1 FROM objects WHERE digest = ?2)",
                settled,
            )


def absorb(index: Index, claims: Iterable[Claim]) -> int:
    """Let those of `claims` stand that win over what the index has, pending for every remote.

    Returns:
        How many did.
    """
    with index.writing() as connection:
        _stage(connection)
        connection.executemany(statements.STAGE_CLAIM, map(claim_row, claims))
        return _absorb_staged(connection, _NO_REMOTE)


def unlearn_segment(index: Index, segment: Digest) -> None:
    """Note that a segment is no longer here, so that it is fetched again from the remotes that have it."""
    with index.writing() as connection:
        connection.execute("DELETE FROM remote_segments WHERE segment = ?", (bytes.fromhex(segment),))


def remotes_holding(index: Index, digest: Digest) -> list[tuple[str, Stored]]:
    """Return the URLs of the remotes believed to hold an object, and how each holds it."""
    with index.reading() as connection:
        rows = connection.execute(
            "SELECT r.url, h.object, h.size, h.stored, h.frames FROM remotes r"
            " CROSS JOIN remote_objects h ON h.remote = r.id AND h.object = ? ORDER BY r.id",
            (bytes.fromhex(digest),),
        ).fetchall()
    return [(url, stored_from(*row)) for url, *row in rows]


def _ask(connection: sqlite3.Connection, digests: Iterable[Digest]) -> None:
    connection.execute("CREATE TEMP TABLE IF NOT EXISTS asked(digest BLOB PRIMARY KEY) WITHOUT ROWID")
    connection.execute("DELETE FROM asked")
    rows = ((bytes.fromhex(digest),) for digest in digests)
    connection.executemany("INSERT OR IGNORE INTO asked VALUES (?)", rows)


def _side(digest: bytes, size: int | None, stored: int, frames: bytes | None) -> Stored | None:
    return None if size is None else stored_from(digest, size, stored, frames)


def _absorb_staged(connection: sqlite3.Connection, source: int) -> int:
    changed = connection.execute(statements.FIND_CHANGED).rowcount
    connection.execute(statements.APPLY_CHANGED)
    connection.execute(statements.PEND_CHANGED, (source,))
    return changed


def _stage(connection: sqlite3.Connection) -> None:
    for statement in statements.STAGE.split(";\n"):
        connection.execute(statement)
    connection.execute("DELETE FROM incoming")
    connection.execute("DELETE FROM changed")


def _objects_of(content: bytes | None, refs: bytes | None) -> tuple[Digest, ...]:
    """Return the objects of a wanted entry; none if it was replaced by a tombstone."""
    if content is None:
        return ()
    return (Digest(content.hex()), *refs_from(refs or b""))
