"""The packs that are here, as the index sees them: what lives in each, and what may move.  Floor: catalog.

Objects move from where they were into packs and from pack to pack by these statements alone. None of them
reads all objects but those that say so, since a store may hold millions. Files are not known here.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from casstore.catalog.database import Connection
from casstore.catalog.index import Index
from casstore.catalog.rows import PackInfo, stored_from
from casstore.digest import Digest
from casstore.store.sealed import Stored

_PAGE = 1000
_ANY = 1 << 62
_DIGEST = 32  # bytes

_SHARES = "SELECT pack, count(*), sum(stored) FROM objects WHERE pack IS NOT NULL GROUP BY pack"

_HERE = "SELECT id, digest, stored, members, dictionary FROM packs WHERE here AND stored < ? ORDER BY id"

_MEMBERS = """
SELECT o.digest, o.size, o.stored, o.frames, p.digest, o.offset, p.dictionary
FROM objects o JOIN packs p ON p.id = o.pack WHERE p.digest = ? ORDER BY o.offset
"""

_LOOSE = """
SELECT digest, size, stored, frames FROM objects
WHERE digest > ? AND pack IS NULL AND size < ? ORDER BY digest LIMIT ?
"""

_MOVE = """
UPDATE objects SET stored = ?, frames = NULL, pack = (SELECT id FROM packs WHERE digest = ?), offset = ?
WHERE digest = ? AND pack IS (SELECT id FROM packs WHERE digest = ?) AND offset IS ?
"""


@dataclass(frozen=True, slots=True)
class Share:
    """A pack that is here, and what of it is alive.

    Attributes:
        row: Its row in the index; packs that came later have greater ones.
        pack: The pack.
        objects: The objects that lie in it as far as the index believes.
        bytes: The bytes of their frames.
    """

    row: int
    pack: PackInfo
    objects: int
    bytes: int


def shares(index: Index) -> dict[int, Share]:
    """Return every pack that is here, by its row; all objects are looked at."""
    with index.aside() as connection:
        living = {row: (objects, size) for row, objects, size in connection.execute(_SHARES)}
        packs = connection.execute(_HERE, (_ANY,)).fetchall()
    return {row: Share(row, _info(*rest), *living.get(row, (0, 0))) for row, *rest in packs}


def packs_here(index: Index, *, below: int = _ANY) -> list[PackInfo]:
    """Return the packs that are here and have less than `below` bytes, the first that came first."""
    with index.reading() as connection:
        rows = connection.execute(_HERE, (below,)).fetchall()
    return [_info(*rest) for _, *rest in rows]


def dictionaries_needed(index: Index, *, here: bool) -> set[Digest]:
    """Return the dictionaries that packs need: those that are here, or all that are known."""
    query = "SELECT DISTINCT dictionary FROM packs WHERE dictionary IS NOT NULL"
    with index.reading() as connection:
        rows = connection.execute(f"{query} AND here" if here else query).fetchall()
    return {Digest(digest.hex()) for (digest,) in rows}


def members_of(index: Index, pack: Digest) -> list[Stored]:
    """Return the objects that lie in a pack as far as the index believes; all objects are looked at."""
    with index.reading() as connection:
        rows = connection.execute(_MEMBERS, (bytes.fromhex(pack),)).fetchall()
    return [stored_from(*row) for row in rows]


def loose_objects(index: Index, below: int) -> Iterator[Stored]:
    """Yield the objects of less than `below` bytes that have a file of their own, by digest, in pages."""
    after = b""
    while True:
        with index.reading() as connection:
            rows = connection.execute(_LOOSE, (after, below, _PAGE)).fetchall()
        if not rows:
            return
        yield from (stored_from(*row) for row in rows)
        after = rows[-1][0]


def written_order(index: Index) -> Iterator[Digest]:
    """Yield the objects of all entries in the order the entries were written, some of them repeatedly.

    A million take 32 MB: read at once, so that no statement stays open while a caller takes its time.
    """
    order = bytearray()
    query = "SELECT object, refs FROM entries WHERE object IS NOT NULL ORDER BY created, key"
    with index.aside() as connection, contextlib.closing(connection.execute(query)) as rows:
        for digest, refs in rows:
            order += digest + refs
    for start in range(0, len(order), _DIGEST):
        yield Digest(order[start : start + _DIGEST].hex())


def move_objects(connection: Connection, moves: Iterable[tuple[Stored, Stored]]) -> int:
    """Note that objects are stored elsewhere now, those that still are where they were.

    Args:
        connection: The index's.
        moves: How each was stored, and how it is; packs are noted already.

    Returns:
        How many moved.
    """
    rows = []
    for old, new in moves:
        pack, offset = _place(new)
        rows.append((new.stored, pack, offset, bytes.fromhex(new.digest), *_place(old)))
    return int(connection.executemany(_MOVE, rows).rowcount) if rows else 0


def living_in(connection: Connection, pack: Digest, digests: Iterable[Digest]) -> set[Digest]:
    """Return those of `digests` that lie in a pack as far as the index believes."""
    query = "SELECT 1 FROM objects WHERE digest = ? AND pack = (SELECT id FROM packs WHERE digest = ?)"
    row = bytes.fromhex(pack)
    return {
        digest
        for digest in digests
        if connection.execute(query, (bytes.fromhex(digest), row)).fetchone() is not None
    }


def drop_members(connection: Connection, pack: Digest, digests: Iterable[Digest]) -> set[Digest]:
    """Note that objects no longer lie in a pack, nor anywhere here; return those that did."""
    inside = living_in(connection, pack, digests)
    rows = [(bytes.fromhex(digest),) for digest in inside]
    connection.executemany("DELETE FROM objects WHERE digest = ?", rows)
    connection.executemany("DELETE FROM pending WHERE kind = 1 AND id = ?", rows)
    return inside


def is_pack_here(connection: Connection, pack: Digest) -> bool:
    """Return whether a pack is believed to be here."""
    query = "SELECT 1 FROM packs WHERE digest = ? AND here"
    return connection.execute(query, (bytes.fromhex(pack),)).fetchone() is not None


def leave_pack(connection: Connection, pack: Digest) -> None:
    """Note that a pack in which nothing lives is no longer here."""
    connection.execute("UPDATE packs SET here = 0 WHERE digest = ?", (bytes.fromhex(pack),))


def _place(known: Stored) -> tuple[bytes | None, int | None]:
    place = known.place
    return (None, None) if place is None else (bytes.fromhex(place.pack), place.offset)


def _info(digest: bytes, stored: int, members: int, dictionary: bytes | None) -> PackInfo:
    name = None if dictionary is None else Digest(dictionary.hex())
    return PackInfo(Digest(digest.hex()), stored, members, name, here=True)
