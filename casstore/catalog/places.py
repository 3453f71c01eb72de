"""Where objects lie, as rows of the index: in files of their own, or in packs.  Floor: catalog."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator
from itertools import repeat

from casstore.catalog.rows import dump_frames
from casstore.digest import Digest, bytes_of
from casstore.store.pack import Pack
from casstore.store.sealed import Stored

RemoteRow = tuple[int, bytes, int, int, bytes | None, int | None, int | None]
"""remote, object, size, stored, frames, pack, offset."""

ObjectRow = tuple[bytes, int, int, int, bool, bytes | None, int | None, int | None]
"""digest, size, stored, used, kept, frames, pack, offset."""


class PackRows:
    """Finds the rows of packs that were noted before, each once.

    Args:
        connection: The index's.
        here: Whether only those that are here will do.
    """

    def __init__(self, connection: sqlite3.Connection, *, here: bool = False) -> None:
        self._connection = connection
        self._query = f"SELECT id FROM packs WHERE digest = ?{' AND here' if here else ''}"
        self._numbers: dict[Digest, int] = {}

    def place(self, known: Stored) -> tuple[int | None, int | None]:
        """Return the pack's row and the offset of an object; Nones where it has a file of its own."""
        if known.place is None:
            return None, None
        pack = known.place.pack
        number = self._numbers.get(pack)
        if number is None:
            row = self._connection.execute(self._query, (bytes.fromhex(pack),)).fetchone()
            if row is None:
                raise ValueError(f"pack {pack} was not noted before its objects")
            number = self._numbers[pack] = row[0]
        return number, known.place.offset


def remote_rows(connection: sqlite3.Connection, remote: int, objects: Iterable[Stored]) -> list[RemoteRow]:
    """Return the rows of objects as a remote holds them."""
    packs = PackRows(connection)
    return [
        (
            remote,
            bytes.fromhex(known.digest),
            known.size,
            known.stored,
            dump_frames(known.frames),
            *packs.place(known),
        )
        for known in objects
    ]


def object_rows(
    connection: sqlite3.Connection, objects: Iterable[Stored], used: int, *, kept: bool
) -> list[ObjectRow]:
    """Return the rows of objects as they are stored here."""
    packs = PackRows(connection, here=True)
    return [
        (
            bytes.fromhex(known.digest),
            known.size,
            known.stored,
            used,
            kept,
            dump_frames(known.frames),
            *packs.place(known),
        )
        for known in objects
    ]


def remote_members(remote: int, pack: Pack, number: int) -> Iterator[RemoteRow]:
    """Yield the rows of what lies in a pack of a remote, without making a value of each."""
    inside = pack.contents
    return zip(
        repeat(remote),
        bytes_of(inside.digests),
        inside.sizes,
        inside.lengths,
        repeat(None),
        repeat(number),
        inside.offsets(),
        strict=False,
    )


def members_here(pack: Pack, number: int, used: int) -> Iterator[ObjectRow]:
    """Yield the rows of what lies in a pack that is here, without making a value of each."""
    inside = pack.contents
    return zip(
        bytes_of(inside.digests),
        inside.sizes,
        inside.lengths,
        repeat(used),
        repeat(False),
        repeat(None),
        repeat(number),
        inside.offsets(),
        strict=False,
    )
