"""Folding segments into one: their records read, each once, and what of it is needed.  Floor: catalog.

Claims are kept as the lines that they are, and taken apart only where two are about one key. What the records
of the segments say is in the union, but for claims that lost, and for packs and objects that are dropped by
name.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import orjson

from casstore.catalog.index import Index
from casstore.catalog.inventory import Row
from casstore.catalog.merge import rank
from casstore.catalog.records import (
    NEVER,
    SEGMENT,
    Claim,
    Doomed,
    Kept,
    Location,
    Record,
    Replaces,
    decode_record,
)
from casstore.catalog.segment import check_segment
from casstore.digest import Digest
from casstore.errors import FormatError
from casstore.store.pack import Pack
from casstore.store.sealed import contents

REMEMBERED = 90 * 24 * 3600 * 1000
"""Milliseconds for which a segment that is gone is told of: whoever comes back later begins anew."""

REMEMBERED_MAX = 1000
"""Segments that are gone and are told of, the latest: 45 KiB of a merged segment."""

_CLAIM_KINDS = ("entry", "tombstone")


class Union:
    """The records of several segments, each once.

    Attributes:
        packs: The packs they tell of.
        locations: The objects in files of their own, each with its line.
        replaces: The segments that they stand for.
        doomed: What they doom.
    """

    def __init__(self) -> None:
        self.packs: dict[Digest, Pack] = {}
        self.locations: dict[Digest, bytes] = {}
        self.replaces: set[Digest] = set()
        self.doomed: dict[Digest, Doomed] = {}
        self._claims: dict[str, bytes] = {}
        self._kept: set[Digest] = set()

    def add(self, path: Path, digest: Digest) -> None:
        """Take in the segment at `path`, once all of it was verified.

        Raises:
            IntegrityError: The file does not hold that segment.
            FormatError: Its content is no segment of this version.
            FileNotFoundError: It is not there.
        """
        for line in segment_lines(path, digest):
            fields = orjson.loads(line)
            if fields["kind"] in _CLAIM_KINDS:
                self._add_claim(fields["key"], line)
            else:
                self._add(decode_record(line), line)

    def records(
        self, dropped: Collection[Digest], remembered: Collection[Digest]
    ) -> Iterator[Record | bytes]:
        """Yield the records in an order that depends on nothing but themselves, what is replaced left out.

        Args:
            dropped: Packs and objects that are told of no more, since they are elsewhere or gone.
            remembered: Segments that are gone and stay told of.
        """
        yield from (self._claims[key] for key in sorted(self._claims))
        yield from map(Kept, sorted(self._kept))
        yield from (line for digest, line in sorted(self.locations.items()) if digest not in dropped)
        yield from (pack for digest, pack in sorted(self.packs.items()) if digest not in dropped)
        for digest, record in sorted(self.doomed.items()):
            if record.what != SEGMENT or digest in remembered:
                yield record

    def _add_claim(self, key: str, line: bytes) -> None:
        other = self._claims.get(key)
        if other is None or (other != line and _wins(line, other)):
            self._claims[key] = line

    def _add(self, record: Record, line: bytes) -> None:
        if isinstance(record, Pack):
            self.packs[record.digest] = record
        elif isinstance(record, Location):
            self.locations[record.known.digest] = line
        elif isinstance(record, Kept):
            self._kept.add(record.object)
        elif isinstance(record, Replaces):
            self.replaces.add(record.segment)
        elif isinstance(record, Doomed):
            other = self.doomed.get(record.digest)
            if other is None or other.after < record.after:
                self.doomed[record.digest] = record


def remembered(doomed: Iterable[Doomed], listed: Collection[Digest], now: int) -> set[Digest]:
    """Return the segments that a merged one should go on to call doomed.

    Args:
        doomed: What is doomed.
        listed: The segments that are still there.
        now: The time by the remote's clock.
    """
    segments = [record for record in doomed if record.what == SEGMENT]
    gone = [record for record in segments if record.digest not in listed and record.after + REMEMBERED > now]
    gone.sort(key=lambda record: (-record.after, record.digest))
    there = {record.digest for record in segments if record.digest in listed}
    return there | {record.digest for record in gone[:REMEMBERED_MAX]}


def packs_in(path: Path, digest: Digest) -> list[Pack]:
    """Return the packs that a segment tells of, taking no other record apart."""
    lines = (line for line in segment_lines(path, digest) if b'"kind":"pack"' in line)
    return [record for record in map(decode_record, lines) if isinstance(record, Pack)]


def segment_lines(path: Path, digest: Digest) -> Iterator[bytes]:
    """Yield the lines of the records of a segment that was taken over before."""
    check_segment(path, digest)
    rest = b""
    header = True
    for piece in contents(path):
        *lines, rest = (rest + piece).split(b"\n")
        yield from lines[1:] if header else lines
        header = header and not lines
    if rest:
        raise FormatError("a segment does not end with a newline")


def _wins(line: bytes, other: bytes) -> bool:
    one, two = decode_record(line), decode_record(other)
    return isinstance(one, Claim) and isinstance(two, Claim) and rank(one) < rank(two)


class Member(NamedTuple):
    """An object of a pack of a remote.

    Attributes:
        here: Where it is here; None where it is not.
        there: Where it is in the remote, as it is known now; None where it is not known to be.
        pack: The pack it is believed to be in there; None where it has a file of its own.
        stays: Whether the remote holds it for good, wherever.
    """

    here: Row | None
    there: Row | None
    pack: Digest | None
    stays: bool


_MEMBERS = f"""
SELECT lower(hex(m.digest)), o.size, o.stored, o.pack, o.offset, o.frames,
    h.size, h.stored, h.pack, h.offset, h.frames, lower(hex(k.digest)),
    EXISTS (SELECT 1 FROM doomed d WHERE d.remote = ?1
        AND d.digest = coalesce(k.digest, h.object) AND d.after < {NEVER})
FROM folding m LEFT JOIN objects o ON o.digest = m.digest
LEFT JOIN remote_objects h ON h.remote = ?1 AND h.object = m.digest LEFT JOIN packs k ON k.id = h.pack
ORDER BY m.position
"""


def members_of(index: Index, remote: int, digests: Sequence[Digest]) -> list[Member]:
    """Return where objects are, here and in a remote by its row number, in their order."""
    with index.staging() as connection:
        _ask(connection, digests)
        return [_member(*row) for row in connection.execute(_MEMBERS, (remote,))]


def _ask(connection: sqlite3.Connection, digests: Iterable[Digest]) -> None:
    connection.execute(
        "CREATE TEMP TABLE IF NOT EXISTS folding(position INTEGER PRIMARY KEY, digest BLOB UNIQUE)"
    )
    connection.execute("DELETE FROM folding")
    rows = ((bytes.fromhex(digest),) for digest in digests)
    connection.executemany("INSERT OR IGNORE INTO folding(digest) VALUES (?)", rows)


def _member(digest: str, *rest: object) -> Member:
    here = None if rest[0] is None else Row._make((digest, *rest[:5]))
    there = None if rest[5] is None else Row._make((digest, *rest[5:10]))
    pack = Digest(str(rest[10])) if rest[10] else None
    return Member(here, there, pack, there is not None and not rest[11])


def coverage(index: Index, remote: int, packs: Iterable[Pack]) -> frozenset[Digest]:
    """Return those of some packs that a remote, by its row number, needs no more: it holds all elsewhere."""
    return frozenset(
        pack.digest
        for pack in packs
        if all(
            member.stays and member.pack != pack.digest
            for member in members_of(index, remote, pack.contents.digests)
        )
    )
