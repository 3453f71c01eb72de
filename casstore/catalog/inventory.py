"""What a remote lacks and what it offers, asked of the index in a few statements.  Floor: catalog.

A plan looks at every object that is to move. So these are rows as they come from SQLite, in the order of the
plan, and what can be counted or decided in SQL is.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from casstore.catalog.index import Index
from casstore.catalog.rows import PackInfo, pack_info, stored_from
from casstore.catalog.statements import COUNT_NEEDED, STAYS
from casstore.digest import Digest, Key
from casstore.store.sealed import Stored


class Row(NamedTuple):
    """An object that is to move, where it is.

    Attributes:
        digest: SHA-256 of its content.
        size: Bytes of content.
        stored: Bytes of its file, or of its frame in a pack.
        pack: The row number of its pack; None where it has a file of its own.
        offset: Where in the pack.
        frames: Its frames, as the index keeps them.
    """

    digest: Digest
    size: int
    stored: int
    pack: int | None
    offset: int | None
    frames: bytes | None


def stored_of(row: Row, packs: Mapping[int, PackInfo]) -> Stored:
    """Return the object of a row, given its pack."""
    if row.pack is None:
        return stored_from(bytes.fromhex(row.digest), row.size, row.stored, row.frames)
    pack = packs[row.pack]
    dictionary = None if pack.dictionary is None else bytes.fromhex(pack.dictionary)
    place = (bytes.fromhex(pack.digest), row.offset or 0, dictionary)
    return stored_from(bytes.fromhex(row.digest), row.size, row.stored, None, *place)


class Counts(NamedTuple):
    """How many rows of each kind are pending: claims, objects put by hand, others that a remote needs."""

    claims: int = 0
    kept: int = 0
    needed: int = 0


NONE = Counts()
"""Nothing is pending."""


@dataclass(frozen=True, slots=True)
class Lacking:
    """What a remote lacks.

    Attributes:
        claims: How many claims.
        kept: How many objects put by hand.
        objects: The objects of those that are here and not there for good, the earliest entries' first.
        behind: Claims whose object is neither here nor there for good.
        lost: Those of them whose object no remote holds.
        lost_kept: Objects put by hand that are neither here nor in any remote.
        packs: The packs here that the objects lie in, by row number.
        needed: How many objects that it needs, whatever leads to them, and that are here or were just sent.
        behind_kept: Objects put by hand that are neither here nor there for good.
        dictionaries: Dictionaries that it needs, and that are here.
        stuck: What of the claims and the rest leads to objects that are here and cannot be read.
    """

    claims: int
    kept: int
    objects: list[Row]
    behind: int
    lost: list[Key]
    lost_kept: list[Digest]
    packs: dict[int, PackInfo]
    needed: int = 0
    behind_kept: int = 0
    dictionaries: tuple[Row, ...] = ()
    stuck: Counts = NONE

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to send or to tell."""
        return not (self.claims or self.kept or self.needed)


@dataclass(frozen=True, slots=True)
class Share:
    """What is wanted of one pack of a remote, or of its files of their own.

    Attributes:
        row: The row number of the pack; None where they have files of their own.
        pack: The pack, if it is one.
        objects: How many objects are wanted.
        stored: Bytes of their frames or files.
    """

    row: int | None
    pack: PackInfo | None
    objects: int
    stored: int


@dataclass(frozen=True, slots=True)
class Offered:
    """What a remote holds of what is wanted here.

    Attributes:
        objects: The objects that are there and not here, those of the newest entries first.
        packs: The packs there that they lie in, by row number.
    """

    objects: list[Row]
    packs: dict[int, PackInfo]


_DEEPEST = """
SELECT coalesce(max(length(e.refs)), 0) / 32 FROM {0} w CROSS JOIN entries e ON e.key = w.id
WHERE w.remote = ?1 AND w.kind = 0
"""

# The objects that a remote's pending or wanted rows lead to. Refs stand one behind another, 32 bytes each;
# most entries have none or one. Objects put by hand, and others that a remote needs, come last.
_MOVING = """
WITH RECURSIVE number(n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM number WHERE n + 1 < {deepest}),
moving(digest, created, id, n) AS (
    SELECT e.object, {sign} e.created, w.id, -1 FROM {table} w CROSS JOIN entries e ON e.key = w.id
    WHERE w.remote = ?1 AND w.kind = 0 AND e.object IS NOT NULL
    {refs} UNION ALL SELECT id, 9e18, id, -1 FROM {table} WHERE remote = ?1 AND kind > 0)
"""

_MOVING_REFS = """
    UNION ALL SELECT substr(e.refs, 32 * n + 1, 32), {sign} e.created, w.id, n
    FROM {table} w CROSS JOIN entries e ON e.key = w.id JOIN number ON length(e.refs) > 32 * n
    WHERE w.remote = ?1 AND w.kind = 0 AND e.object IS NOT NULL
"""

_TO_SEND = f"""
SELECT lower(hex(o.digest)), o.size, o.stored, o.pack, o.offset, o.frames
FROM moving m CROSS JOIN objects o ON o.digest = m.digest WHERE NOT {STAYS.format("m.digest")}
ORDER BY m.created, m.id, m.n
"""

_AWAY = "NOT EXISTS (SELECT 1 FROM objects o WHERE o.digest = {0})"

_ABSENT = _AWAY.format("h.object")

_TO_FETCH = f"""
SELECT lower(hex(h.object)), h.size, h.stored, h.pack, h.offset, h.frames
FROM moving m CROSS JOIN remote_objects h ON h.remote = ?1 AND h.object = m.digest
WHERE {_ABSENT} AND {{where}} ORDER BY m.created, m.id, m.n
"""

_BESIDES = "(h.pack IS NULL OR h.pack NOT IN (SELECT value FROM json_each(?2)))"

# Of entries without refs, as most are: one look instead of one for the refs and one that knows how many there
# are. The last column tells whether an entry has some.
_PLAIN_SHARES = f"""
SELECT h.pack, count(h.object), sum(h.stored), max(m.refs) FROM (
    SELECT digest, max(refs) AS refs FROM (
        SELECT e.object AS digest, length(e.refs) AS refs
        FROM wanted w CROSS JOIN entries e ON e.key = w.id
        WHERE w.remote = ?1 AND w.kind = 0 AND e.object IS NOT NULL
        UNION ALL SELECT id, 0 FROM wanted WHERE remote = ?1 AND kind = 1)
    GROUP BY digest) m
LEFT JOIN remote_objects h ON h.remote = ?1 AND h.object = m.digest AND {_ABSENT}
GROUP BY h.object IS NULL, h.pack ORDER BY h.pack DESC
"""

_SHARES = f"""
SELECT h.pack, count(*), sum(h.stored), 0 FROM remote_objects h
WHERE h.remote = ?1 AND h.object IN (SELECT digest FROM moving) AND {_ABSENT}
GROUP BY h.pack ORDER BY h.pack DESC
"""

_BEHIND = f"""
SELECT lower(hex(p.id)), EXISTS (
    SELECT 1 FROM remotes r CROSS JOIN remote_objects h ON h.remote = r.id AND h.object = e.object)
FROM pending p JOIN entries e ON e.key = p.id
WHERE p.remote = ?1 AND p.kind = 0 AND e.object IS NOT NULL
    AND NOT EXISTS (SELECT 1 FROM objects o WHERE o.digest = e.object) AND NOT {STAYS.format("e.object")}
"""

_BEHIND_KEPT = f"""
SELECT lower(hex(p.id)), EXISTS (
    SELECT 1 FROM remotes r CROSS JOIN remote_objects h ON h.remote = r.id AND h.object = p.id)
FROM pending p WHERE p.remote = ?1 AND p.kind = 1
    AND NOT EXISTS (SELECT 1 FROM objects o WHERE o.digest = p.id) AND NOT {STAYS.format("p.id")}
"""

_COUNT = (
    "SELECT count(*) FILTER (WHERE kind = 0), count(*) FILTER (WHERE kind = 1) FROM {0} WHERE remote = ?1"
)

_PENDING_FOR = """
SELECT count(*) FILTER (WHERE p.kind = 0), count(*) FILTER (WHERE p.kind = 1),
    count(*) FILTER (WHERE p.kind = 2)
FROM pending p LEFT JOIN entries e ON p.kind = 0 AND e.key = p.id
WHERE p.remote = ?1 AND CASE p.kind WHEN 0 THEN e.object ELSE p.id END IN (SELECT digest FROM over)
"""

_THERE = "EXISTS (SELECT 1 FROM remote_objects h WHERE h.remote = ?1 AND h.object = {0})"

_NOWHERE = """NOT EXISTS (
    SELECT 1 FROM remotes r CROSS JOIN remote_objects h ON h.remote = r.id AND h.object = {0})"""

_LACKS = f"({_AWAY} AND {_THERE})"

# What is neither here nor known to be anywhere is waited for, until somebody sends it again and tells where.
_AWAITED = f"({_AWAY} AND ({_THERE} OR {_NOWHERE}))"

_MISSING = f"""
SELECT lower(hex(e.object)) FROM wanted w CROSS JOIN entries e ON e.key = w.id
WHERE w.remote = ?1 AND w.kind = 0 AND e.object IS NOT NULL
    AND {_AWAY.format("e.object")} AND {_NOWHERE.format("e.object")}
UNION SELECT lower(hex(w.id)) FROM wanted w
WHERE w.remote = ?1 AND w.kind = 1 AND {_AWAY.format("w.id")} AND {_NOWHERE.format("w.id")}
"""

_NUMBER = "WITH RECURSIVE number(n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM number WHERE n + 1 < {deepest})"

_WANTING = f"""EXISTS (
    SELECT 1 FROM entries e WHERE e.key = wanted.id AND e.object IS NOT NULL
        AND ({_AWAITED.format("e.object")} OR length(e.refs) > 0 AND EXISTS (SELECT 1 FROM number
            WHERE length(e.refs) > 32 * n AND {_LACKS.format("substr(e.refs, 32 * n + 1, 32)")})))
"""

_ANY_WANTED = "SELECT 1 FROM wanted WHERE remote = ?1 LIMIT 1"

# Where refs are none and all is here, as it mostly is, this look is enough.
_SEEMS_UNSETTLED = f"""
SELECT EXISTS (SELECT 1 FROM wanted w CROSS JOIN entries e ON e.key = w.id WHERE w.remote = ?1 AND w.kind = 0
    AND e.object IS NOT NULL AND (length(e.refs) > 0 OR {_AWAY.format("e.object")}))
"""

_DUE = f"{_NUMBER} SELECT count(*) FROM wanted WHERE remote = ?1 AND kind = 0 AND {_WANTING}"

_SETTLE = f"{_NUMBER} DELETE FROM wanted WHERE remote = ?1 AND kind = 0 AND NOT {_WANTING}"

_SETTLE_ALL = "DELETE FROM wanted WHERE remote = ?1 AND kind = 0"

_SETTLE_KEPT = f"DELETE FROM wanted WHERE remote = ?1 AND kind = 1 AND NOT {_AWAITED.format('wanted.id')}"

_WAITING = f"""{_NUMBER}
SELECT count(*) FROM wanted w JOIN entries e ON e.key = w.id WHERE w.remote = ?1 AND w.kind = 0
    AND (e.object IN (SELECT digest FROM over) OR EXISTS (SELECT 1 FROM number
        WHERE length(e.refs) > 32 * n AND substr(e.refs, 32 * n + 1, 32) IN (SELECT digest FROM over)))
"""


def lacking(index: Index, remote: int) -> Lacking:
    """Return what a remote lacks, by its row number."""
    with index.staging() as connection:
        (claims, kept) = connection.execute(_COUNT.format("pending"), (remote,)).fetchone()
        (needed,) = connection.execute(COUNT_NEEDED, (remote,)).fetchone()
        if not claims and not kept and not needed:
            return Lacking(0, 0, [], 0, [], [], {})
        moving, deepest = _moving(connection, remote, "pending", "")
        rows = _rows(connection, moving + _TO_SEND, remote)
        objects = _unique(rows)
        # Where each leads to one object, and all are here, as in a first push, there is no need to look.
        all_here = not deepest and not needed and len(rows) == claims + kept
        behind = [] if all_here else connection.execute(_BEHIND, (remote,)).fetchall()
        behind_kept = connection.execute(_BEHIND_KEPT, (remote,)).fetchall()
        packs = packs_of(connection, (row.pack for row in objects))
    lost = [Key(key) for key, anywhere in behind if not anywhere]
    lost_kept = [Digest(digest) for digest, anywhere in behind_kept if not anywhere]
    found = Lacking(
        claims, kept, objects, len(behind), lost, lost_kept, packs, needed, behind_kept=len(behind_kept)
    )
    return _apart(found, set(index.dictionaries())) if needed else found


def _apart(found: Lacking, dictionaries: set[Digest]) -> Lacking:
    """Return what a remote lacks with its dictionaries apart, since these have files of their own."""
    return replace(
        found,
        objects=[row for row in found.objects if row.digest not in dictionaries],
        dictionaries=tuple(row for row in found.objects if row.digest in dictionaries),
    )


def pending_for(index: Index, remote: int, objects: Iterable[Digest]) -> Counts:
    """Return how much of what is pending for a remote, by its row number, are or answers any of `objects`."""
    with index.staging() as connection:
        _put_over(connection, objects)
        return Counts(*connection.execute(_PENDING_FOR, (remote,)).fetchone())


def shares(index: Index, remote: int) -> list[Share]:
    """Return what a pull should bring from a remote, by pack, the packs first that were learnt of last."""
    with index.staging() as connection:
        if not any(connection.execute(_COUNT.format("wanted"), (remote,)).fetchone()):
            return []
        rows = connection.execute(_PLAIN_SHARES, (remote,)).fetchall()
        if any(refs for *_, refs in rows):
            moving, _ = _moving(connection, remote, "wanted", "-")
            rows = connection.execute(moving + _SHARES, (remote,)).fetchall()
        packs = packs_of(connection, (row for row, *_ in rows))
    return [Share(row, packs.get(row or 0), objects, stored) for row, objects, stored, _ in rows if objects]


def offered(index: Index, remote: int, besides: Iterable[int] = ()) -> Offered:
    """Return what a remote holds of what a pull from it should bring, by its row number.

    Args:
        index: The store's index.
        remote: The remote's row.
        besides: Packs, by row number, whose objects are left out.
    """
    with index.staging() as connection:
        if not any(connection.execute(_COUNT.format("wanted"), (remote,)).fetchone()):
            return Offered([], {})
        moving, _ = _moving(connection, remote, "wanted", "-")
        query = moving + _TO_FETCH.format(where=_BESIDES)
        objects = _unique(_rows(connection, query, remote, json.dumps(list(besides))))
        return Offered(objects, packs_of(connection, (row.pack for row in objects)))


def entries_due(index: Index, remote: int) -> int:
    """Return how many entries a pull should bring the objects of; what is here by now it need not."""
    with index.reading() as connection:
        if not connection.execute(_COUNT.format("wanted"), (remote,)).fetchone()[0]:
            return 0
        deepest = _deepest(connection, remote, "wanted")
        return int(connection.execute(_DUE.format(deepest=deepest), (remote,)).fetchone()[0])


def wanted_in(index: Index, remote: int, pack: int) -> list[Digest]:
    """Return what a pull should bring that lies in one pack of a remote, by the pack's row number."""
    with index.staging() as connection:
        moving, _ = _moving(connection, remote, "wanted", "-")
        query = moving + _TO_FETCH.format(where="h.pack = ?2")
        return [row.digest for row in _unique(_rows(connection, query, remote, pack))]


def waiting_for(index: Index, remote: int, objects: Iterable[Digest]) -> int:
    """Return how many entries that a pull should bring lead to any of `objects`."""
    with index.staging() as connection:
        _put_over(connection, objects)
        waiting = _WAITING.format(deepest=_deepest(connection, remote, "wanted"))
        return int(connection.execute(waiting, (remote,)).fetchone()[0])


def missing_objects(index: Index, remote: int) -> list[Digest]:
    """Return what a pull should bring, refs excepted, and is neither here nor believed to be in a remote."""
    with index.reading() as connection:
        return [Digest(digest) for (digest,) in connection.execute(_MISSING, (remote,))]


def settle(index: Index, remote: int) -> bool:
    """Want no longer what is here, or in another remote alone; the rest stays wanted.

    So does what is lost: a collection may tell where it is again, and of no entry that leads to it.

    Returns:
        Whether anything is left.
    """
    with index.writing() as connection:
        connection.execute(_SETTLE_KEPT, (remote,))
        if connection.execute(_SEEMS_UNSETTLED, (remote,)).fetchone()[0]:
            deepest = _deepest(connection, remote, "wanted")
            connection.execute(_SETTLE.format(deepest=deepest), (remote,))
        else:
            connection.execute(_SETTLE_ALL, (remote,))
        return connection.execute(_ANY_WANTED, (remote,)).fetchone() is not None


def _put_over(connection: sqlite3.Connection, objects: Iterable[Digest]) -> None:
    connection.execute("CREATE TEMP TABLE IF NOT EXISTS over(digest BLOB PRIMARY KEY) WITHOUT ROWID")
    connection.execute("DELETE FROM over")
    rows = ((bytes.fromhex(digest),) for digest in objects)
    connection.executemany("INSERT OR IGNORE INTO over VALUES (?)", rows)


def _deepest(connection: sqlite3.Connection, remote: int, table: str) -> int:
    """Return the most refs that an entry has of those pending or wanted."""
    return int(connection.execute(_DEEPEST.format(table), (remote,)).fetchone()[0])


def _moving(connection: sqlite3.Connection, remote: int, table: str, sign: str) -> tuple[str, int]:
    """Return the start of a query for what moves, and the most refs that an entry has."""
    deepest = _deepest(connection, remote, table)
    refs = _MOVING_REFS.format(table=table, sign=sign) if deepest else ""
    return _MOVING.format(table=table, sign=sign, deepest=deepest, refs=refs), deepest


def _rows(connection: sqlite3.Connection, query: str, *values: Any) -> list[Row]:
    cursor = connection.cursor()
    cursor.row_factory = lambda _, row: Row._make(row)
    return cursor.execute(query, values).fetchall()


def _unique(rows: list[Row]) -> list[Row]:
    """Return the objects that a query found, each where it was found first."""
    found: dict[Digest, Row] = {}
    for row in rows:
        found.setdefault(row.digest, row)
    return rows if len(found) == len(rows) else list(found.values())


def packs_of(connection: sqlite3.Connection, rows: Iterable[int | None]) -> dict[int, PackInfo]:
    """Return packs, by row number."""
    query = "SELECT digest, stored, members, dictionary, here FROM packs WHERE id = ?"
    numbers = {row for row in rows if row is not None}
    return {row: pack_info(*connection.execute(query, (row,)).fetchone()) for row in numbers}
