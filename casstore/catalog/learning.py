"""Taking over what others say: claims that win, and where a remote holds objects.  Floor: catalog.

Everything here is part of somebody's transaction.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from operator import itemgetter

from casstore.catalog import statements
from casstore.catalog.index import Index, put_pack
from casstore.catalog.places import RemoteRow, remote_members, remote_rows
from casstore.catalog.records import (
    NEVER,
    OBJECT,
    PACK,
    Claim,
    Doomed,
    Kept,
    Location,
    Record,
    Replaces,
    encode_record,
)
from casstore.catalog.rows import ClaimRow, claim_row
from casstore.digest import Digest
from casstore.store.pack import Pack
from casstore.store.sealed import Stored

_NO_REMOTE = 0
_ROWS = 250_000  # sorted together: neighbours in the table, half the time of a random order


class Arrivals:
    """Claims on their way into the index, of which the best for each key counts.

    They are staged, and then compared with what stands; where nothing stands yet, they need no stage.

    Args:
        connection: The index's, in a transaction.
        source: The remote they come from; 0 where it is none.
    """

    def __init__(self, connection: sqlite3.Connection, source: int) -> None:
        self._connection = connection
        self._source = source
        self._first = connection.execute("SELECT 1 FROM entries LIMIT 1").fetchone() is None
        if not self._first:
            connection.execute(statements.STAGE)
            connection.execute("DELETE FROM incoming")

    def add(self, claims: Sequence[ClaimRow]) -> None:
        """Take some in."""
        (statements.FIRST_CLAIM if self._first else statements.STAGE_CLAIM).run(self._connection, claims)

    def absorb(self) -> int:
        """Let those stand that win, pending for every remote but their source, and return how many did."""
        if self._first:
            self._connection.execute(statements.PEND_FIRST, (self._source,))
            return int(self._connection.execute("SELECT count(*) FROM entries").fetchone()[0])
        self._connection.execute(statements.PEND_BETTER, (self._source,))
        return self._connection.execute(statements.APPLY_BETTER).rowcount

    def settle(self) -> None:
        """Let nothing stay pending that its source said just now."""
        query = "SELECT 1 FROM pending WHERE remote = ? AND kind = 0 LIMIT 1"
        if not self._first and self._connection.execute(query, (self._source,)).fetchone():
            self._connection.execute(statements.SETTLE_PENDING, (self._source,))

    def want(self) -> None:
        """Let a pull from their source bring the objects of those that stand."""
        want = statements.WANT_FIRST if self._first else statements.WANT_INCOMING
        self._connection.execute(want, (self._source,))


def absorb(index: Index, claims: Iterable[Claim]) -> int:
    """Let those of `claims` stand that win over what the index has, pending for every remote.

    Returns:
        How many did.
    """
    with index.writing() as connection:
        arrivals = Arrivals(connection, _NO_REMOTE)
        arrivals.add(list(map(claim_row, claims)))
        return arrivals.absorb()


class Learner:
    """Takes over what the records of one segment say of a remote, claims excepted.

    Args:
        connection: The index's, in a transaction.
        remote: The remote's row.
        spared_until: When at the earliest (ms) that may be deleted which the segment is the first to doom.
    """

    def __init__(self, connection: sqlite3.Connection, remote: int, spared_until: int) -> None:
        self._connection = connection
        self._remote = remote
        self._spared_until = spared_until
        self._loose: list[Stored] = []
        self._kept: list[Digest] = []
        self._packs: list[Pack] = []
        self._dooms = False

    def learn(self, record: Record) -> None:
        """Take one record in; locations and packs are learnt together at the end."""
        if isinstance(record, Location):
            self._loose.append(record.known)
            if record.kept:
                self._kept.append(record.known.digest)
        elif isinstance(record, Pack):
            self._packs.append(record)
        elif isinstance(record, Kept):
            self._kept.append(record.object)
        elif isinstance(record, Doomed):
            self._doom(record)
        elif isinstance(record, Replaces):
            replaced = (self._remote, bytes.fromhex(record.segment))
            for table in ("replaced", "remote_segments"):
                self._connection.execute(f"INSERT OR IGNORE INTO {table} VALUES (?, ?)", replaced)

    def _doom(self, record: Doomed) -> None:
        """Note what is doomed; whoever says so first cannot say that it was long ago."""
        name = (self._remote, bytes.fromhex(record.digest))
        query = "SELECT 1 FROM doomed WHERE remote = ? AND digest = ?"
        known = self._connection.execute(query, name).fetchone()
        after = record.after if known else max(record.after, self._spared_until)
        self._connection.execute(statements.DOOM, (*name, record.what, after))
        self._dooms = True

    def finish(self) -> None:
        """Learn where objects are, now that all that is doomed is known."""
        put_remote(self._connection, self._remote, self._loose, self._packs)
        self._hear()
        if self._dooms:
            self._connection.execute(statements.MOVE_ELSEWHERE, (self._remote,))
        rows = [(self._remote, bytes.fromhex(digest)) for digest in self._kept]
        self._connection.executemany("DELETE FROM pending WHERE remote = ? AND kind = 1 AND id = ?", rows)
        self._connection.executemany(statements.WANT_KEPT, rows)
        self._connection.execute(statements.SETTLE_NEEDED, (self._remote,))

    def _hear(self) -> None:
        """Note that what was uploaded here, before a push died, is told by another store now."""
        query = "SELECT record FROM untold WHERE remote = ?"
        untold = {record for (record,) in self._connection.execute(query, (self._remote,))}
        if untold:  # another may lie: only what is told as it would be told here is told
            records: list[Record] = [*self._packs, *map(Location, self._loose)]
            told = set(map(encode_record, records))
            rows = [(self._remote, record) for record in untold & told]
            self._connection.executemany("DELETE FROM untold WHERE remote = ? AND record = ?", rows)


def put_remote(
    connection: sqlite3.Connection, remote: int, loose: Sequence[Stored], packs: Iterable[Pack]
) -> None:
    """Note how a remote holds objects: in files of their own and in packs.

    What lies in a doomed pack, or in a doomed file of its own, is noted only where no better place is known.
    """
    doomed = _doomed_objects(connection, remote)
    rows = remote_rows(connection, remote, (known for known in loose if known.digest not in doomed))
    for pack in packs:
        number = put_pack(connection, pack, here=False)
        members = remote_members(remote, pack, number)
        if _is_doomed(connection, remote, pack):
            statements.PUT_DOOMED_OBJECT.run(connection, sorted(members))
            continue
        rows.extend(members)
        if len(rows) > _ROWS:
            _put(connection, rows)
            rows = []
    _put(connection, rows)
    if doomed:
        rows = remote_rows(connection, remote, (known for known in loose if known.digest in doomed))
        statements.PUT_DOOMED_OBJECT.run(connection, sorted(rows, key=itemgetter(1)))


def _doomed_objects(connection: sqlite3.Connection, remote: int) -> set[Digest]:
    query = "SELECT digest FROM doomed WHERE remote = ? AND what = ? AND after < ?"
    return {Digest(digest.hex()) for (digest,) in connection.execute(query, (remote, OBJECT, NEVER))}


def _put(connection: sqlite3.Connection, rows: Sequence[RemoteRow]) -> None:
    statements.PUT_REMOTE_OBJECT.run(connection, sorted(rows, key=itemgetter(1)))


def _is_doomed(connection: sqlite3.Connection, remote: int, pack: Pack) -> bool:
    query = "SELECT 1 FROM doomed WHERE remote = ? AND digest = ? AND what = ?"
    return connection.execute(query, (remote, bytes.fromhex(pack.digest), PACK)).fetchone() is not None
