"""What a remote holds and what of it is needed, as a newcomer would find it.  Floor: catalog.

It is asked of an index that knows nothing but the segments of that remote, so that no belief of a store, no
claim that it has not pushed and no object that it holds plays a part.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Iterator
from dataclasses import dataclass

from casstore.catalog.index import Index
from casstore.catalog.rows import refs_from, stored_from
from casstore.catalog.tracking import Tracking
from casstore.digest import Digest
from casstore.store.sealed import Stored


@dataclass(frozen=True, slots=True)
class Use:
    """How a pack is used.

    Attributes:
        members: Objects that are in it.
        needed: Those of them that are looked for in it, and that somebody needs.
    """

    members: int = 0
    needed: int = 0


@dataclass(frozen=True, slots=True)
class Census:
    """What a remote holds.

    Attributes:
        packs: The use of each pack in which any object is looked for.
        loose: The objects with files of their own, and whether somebody needs them.
        nowhere: Objects that somebody needs and that no segment locates.
        dictionaries: Dictionaries of packs in which anything that somebody needs is looked for.
    """

    packs: dict[Digest, Use]
    loose: dict[Digest, bool]
    nowhere: tuple[Digest, ...]
    dictionaries: tuple[Digest, ...] = ()

    def uses(self, pack: Digest) -> bool:
        """Return whether anything that somebody needs is looked for in a pack."""
        return pack in self.packs and self.packs[pack].needed > 0


_NEEDED = "CREATE TABLE IF NOT EXISTS needed(digest BLOB PRIMARY KEY) WITHOUT ROWID"

_NEED = (
    "DELETE FROM needed",
    "INSERT OR IGNORE INTO needed SELECT object FROM entries WHERE object IS NOT NULL",
    "INSERT OR IGNORE INTO needed SELECT id FROM wanted WHERE kind = 1",
)

_NEED_DICTIONARIES = """
INSERT OR IGNORE INTO needed SELECT k.dictionary FROM packs k
WHERE k.dictionary IS NOT NULL AND k.id IN (
    SELECT h.pack FROM remote_objects h JOIN needed n ON n.digest = h.object WHERE h.remote = ?)
"""

_DICTIONARIES = """
SELECT DISTINCT k.dictionary FROM packs k JOIN needed n ON n.digest = k.dictionary ORDER BY k.dictionary
"""

_PACKS = """
SELECT k.digest, k.members, count(n.digest)
FROM remote_objects h JOIN packs k ON k.id = h.pack LEFT JOIN needed n ON n.digest = h.object
WHERE h.remote = ? GROUP BY h.pack
"""

_LOOSE = """
SELECT h.object, n.digest IS NOT NULL FROM remote_objects h LEFT JOIN needed n ON n.digest = h.object
WHERE h.remote = ? AND h.pack IS NULL
UNION SELECT k.dictionary, 1 FROM packs k JOIN needed n ON n.digest = k.dictionary
"""

_NOWHERE = """
SELECT n.digest FROM needed n
WHERE NOT EXISTS (SELECT 1 FROM remote_objects h WHERE h.remote = ? AND h.object = n.digest)
"""

_MEMBERS = """
SELECT h.object, h.size, h.stored, h.frames, k.digest, h.offset, k.dictionary
FROM remote_objects h JOIN packs k ON k.id = h.pack JOIN needed n ON n.digest = h.object
WHERE h.remote = ? AND k.digest IN (SELECT digest FROM chosen) ORDER BY h.pack, h.offset
"""


def census(index: Index, remote: int) -> Census:
    """Return what a remote, by its row number, holds and what of it is needed."""
    with index.writing() as connection:
        connection.execute(_NEEDED)
        for statement in _NEED:
            connection.execute(statement)
        connection.executemany("INSERT OR IGNORE INTO needed VALUES (?)", list(_refs(connection)))
        connection.execute(_NEED_DICTIONARIES, (remote,))
        packs = {
            Digest(digest.hex()): Use(members, needed)
            for digest, members, needed in connection.execute(_PACKS, (remote,))
        }
        rows = connection.execute(_LOOSE, (remote,))
        loose: dict[Digest, bool] = {}
        for digest, needed in rows:
            name = Digest(digest.hex())
            loose[name] = loose.get(name, False) or bool(needed)
        nowhere = tuple(Digest(digest.hex()) for (digest,) in connection.execute(_NOWHERE, (remote,)))
        rows = connection.execute(_DICTIONARIES)
        dictionaries = tuple(Digest(digest.hex()) for (digest,) in rows)
    return Census(packs, loose, nowhere, dictionaries)


def census_there(
    index: Index, tracking: Tracking, packs: Collection[Digest], objects: Collection[Digest]
) -> tuple[Census, tuple[Digest, ...]]:
    """Return the census of a remote that holds these packs and objects, and the packs told of that are gone.

    What a file that is gone should hold is looked for in the other places that segments tell of.
    """
    with index.reading() as connection:
        told = {Digest(digest.hex()) for (digest,) in connection.execute("SELECT digest FROM packs")}
    found = census(index, tracking.id)
    while True:
        gone = [digest for digest, use in found.packs.items() if use.needed and digest not in packs]
        sought = [digest for digest, needed in found.loose.items() if needed and digest not in objects]
        sought += [known.digest for known in needed_of(index, tracking.id, gone)]
        if not {*sought} - {*found.nowhere}:
            return found, tuple(sorted(told.difference(packs)))
        tracking.disbelieve(sought)
        found = census(index, tracking.id)


def packs_with(index: Index, dictionaries: Collection[Digest]) -> set[Digest]:
    """Return the packs that segments tell of and that are compressed with any of some dictionaries."""
    query = "SELECT digest FROM packs WHERE dictionary = ?"
    with index.reading() as connection:
        rows = [connection.execute(query, (bytes.fromhex(each),)).fetchall() for each in dictionaries]
    return {Digest(digest.hex()) for found in rows for (digest,) in found}


def needed_of(index: Index, remote: int, packs: Collection[Digest]) -> list[Stored]:
    """Return the needed objects that are looked for in some packs, pack by pack; after a `census`."""
    with index.writing() as connection:
        connection.execute("CREATE TABLE IF NOT EXISTS chosen(digest BLOB PRIMARY KEY) WITHOUT ROWID")
        connection.execute("DELETE FROM chosen")
        rows = [(bytes.fromhex(digest),) for digest in packs]
        connection.executemany("INSERT OR IGNORE INTO chosen VALUES (?)", rows)
        return [stored_from(*row) for row in connection.execute(_MEMBERS, (remote,))]


def _refs(connection: sqlite3.Connection) -> Iterator[tuple[bytes]]:
    for (refs,) in connection.execute("SELECT refs FROM entries WHERE object IS NOT NULL AND refs <> x''"):
        yield from ((bytes.fromhex(ref),) for ref in refs_from(refs))
