"""What each remote holds, lacks and offers, as the index remembers it.  Floor: catalog.

Knowledge of a remote comes from its segments alone, and from uploads of this store. It is belief, not truth:
`disbelieve` and `reset` take it away when the remote turns out otherwise, and the next push repairs it.
"""

from __future__ import annotations

import json
import secrets
import sqlite3
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from casstore.catalog import statements
from casstore.catalog.batch import Batch, batch_of
from casstore.catalog.index import Index, now, put_pack
from casstore.catalog.learning import Arrivals, Learner, put_remote
from casstore.catalog.records import (
    NEVER,
    OBJECT,
    Doomed,
    Location,
    Record,
    decode_record,
    encode_claim,
    encode_record,
)
from casstore.catalog.rows import refs_from, stored_from
from casstore.digest import Digest, Key
from casstore.store.marker import Marker
from casstore.store.pack import Pack
from casstore.store.sealed import Stored

_BELIEFS = ("remote_segments", "remote_objects", "elsewhere", "wanted", "replaced", "doomed", "untold")


@dataclass(frozen=True, slots=True)
class Sides:
    """Where an object is believed to be.

    Attributes:
        here: How it is stored here; None where it is not.
        there: How the remote holds it; None where it does not.
        anywhere: Whether any remote holds it.
        doomed: Whether the remote holds it only in a pack that a collection will delete: it may be read, but
            not relied upon.
    """

    here: Stored | None
    there: Stored | None
    anywhere: bool
    doomed: bool = False

    @property
    def stays(self) -> bool:
        """Whether the remote holds it for good."""
        return self.there is not None and not self.doomed


class Tracking:
    """The part of the index that is about one remote.

    Args:
        index: The store's index.
        url: The remote, as its configuration spells it; it is registered if it is new, everything pending.
    """

    def __init__(self, index: Index, url: str) -> None:
        self._index = index
        self.url = url
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
            (text,) = connection.execute("SELECT marker FROM remotes WHERE id = ?", (self.id,)).fetchone()
        if text is None:
            return None
        (first, second), features = json.loads(text)
        return Marker((first, second), tuple(features))

    def remember_marker(self, marker: Marker) -> None:
        """Note that the remote's marker was read or written."""
        with self._index.writing() as connection:
            row = (json.dumps([marker.shards, marker.features]), self.id)
            connection.execute("UPDATE remotes SET marker = ? WHERE id = ?", row)

    def segments(self) -> set[Digest]:
        """Return the segments of the remote whose records are known here."""
        with self._index.reading() as connection:
            rows = connection.execute("SELECT segment FROM remote_segments WHERE remote = ?", (self.id,))
            return {Digest(segment.hex()) for (segment,) in rows}

    def replaced(self) -> set[Digest]:
        """Return the segments of the remote that merged ones are known to stand for."""
        with self._index.reading() as connection:
            rows = connection.execute("SELECT segment FROM replaced WHERE remote = ?", (self.id,))
            return {Digest(segment.hex()) for (segment,) in rows}

    def apply(self, segment: Digest, records: Iterable[Record], spared_until: int = 0) -> int:
        """Take over the records of one of the remote's segments; see `apply_batches`."""
        return self.apply_batches(segment, [batch_of(records)], spared_until)

    def apply_batches(self, segment: Digest, batches: Iterable[Batch], spared_until: int = 0) -> int:
        """Take over the records of one of the remote's segments, many at once, in one transaction.

        Args:
            segment: The segment.
            batches: Its records.
            spared_until: When at the earliest (ms) that may be deleted which it is the first to doom.

        Returns:
            How many entries changed here.
        """
        with self._index.writing() as connection:
            arrivals, learner = Arrivals(connection, self.id), Learner(connection, self.id, spared_until)
            for batch in batches:
                arrivals.add(batch.claims)
                for record in batch.others:
                    learner.learn(record)
            learner.finish()
            changed = arrivals.absorb()
            arrivals.settle()
            arrivals.want()
            self._know(connection, [segment])
        return changed

    def forget_segments(self, vanished: Iterable[Digest]) -> None:
        """Note that segments are gone from the remote, whose records others hold."""
        rows = [(self.id, bytes.fromhex(segment)) for segment in vanished]
        with self._index.writing() as connection:
            for table in ("remote_segments", "replaced"):
                connection.executemany(f"DELETE FROM {table} WHERE remote = ? AND segment = ?", rows)
            connection.executemany("DELETE FROM doomed WHERE remote = ? AND digest = ?", rows)

    def doomed(self) -> list[Doomed]:
        """Return the packs and segments that a collection will delete from the remote, by digest."""
        query = "SELECT what, digest, after FROM doomed WHERE remote = ? AND after < ? ORDER BY digest"
        with self._index.reading() as connection:
            rows = connection.execute(query, (self.id, NEVER)).fetchall()
        return [Doomed(what, Digest(digest.hex()), after) for what, digest, after in rows]

    def reset(self) -> None:
        """Forget all that is believed of the remote: everything is pending, nothing is known to be there."""
        with self._index.writing() as connection:
            for table in _BELIEFS:
                connection.execute(f"DELETE FROM {table} WHERE remote = ?", (self.id,))
            connection.execute("UPDATE remotes SET marker = NULL WHERE id = ?", (self.id,))
            connection.execute(statements.PEND_EVERYTHING, {"remote": self.id})

    # Push

    def choose(self) -> int:
        """Choose all that is pending and whose objects the remote holds now, to be published together.

        Refs that it does not hold are pending, since it will need them.

        Returns:
            A number that what is chosen is marked with, until it is chosen again or changes.
        """
        mark = secrets.randbits(62) + 1
        with self._index.writing() as connection:
            for statement in statements.CHOOSE:
                connection.execute(statement, (self.id, mark))
            connection.execute(statements.PEND_REFS, (self.id, mark))
        return mark

    def chosen_claims(self, mark: int) -> Iterator[bytes]:
        """Yield the claims that were chosen, by key, each as the line of its record."""
        after = b""
        while True:
            with self._index.reading() as connection:
                rows = connection.execute(statements.CHOSEN_CLAIMS, (self.id, after, mark)).fetchall()
            if not rows:
                return
            for key, content, generation, created, labels, refs in rows:
                digest = None if content is None else content.hex()
                yield encode_claim(
                    key.hex(), digest, generation, created, labels, refs_from(refs) if refs else ()
                )
            after = rows[-1][0]

    def chosen_kept(self, mark: int) -> list[Digest]:
        """Return the objects put by hand that were chosen, by digest."""
        with self._index.reading() as connection:
            rows = connection.execute(statements.CHOSEN_KEPT, (self.id, mark)).fetchall()
        return [Digest(digest.hex()) for (digest,) in rows]

    def untold(self) -> list[Record]:
        """Return the records of what was uploaded and no segment tells yet, by digest."""
        query = "SELECT record FROM untold WHERE remote = ? ORDER BY digest"
        with self._index.reading() as connection:
            rows = connection.execute(query, (self.id,)).fetchall()
        return [decode_record(record) for (record,) in rows]

    def sides(self, digests: Iterable[Digest]) -> dict[Digest, Sides]:
        """Return for each object how it is stored here and there."""
        with self._index.staging() as connection:
            _ask(connection, digests)
            found = connection.execute(statements.SIDES, (self.id,)).fetchall()
        return {
            Digest(row[0].hex()): Sides(
                _side(row[0], *row[1:7]),
                _side(row[0], *row[7:13]),
                anywhere=bool(row[14]),
                doomed=bool(row[13]),
            )
            for row in found
        }

    def uploaded(self, objects: Iterable[Stored], packs: Iterable[Pack] = ()) -> None:
        """Note that objects and packs were uploaded, so that an interrupted push need not send them again."""
        loose, packed = list(objects), list(packs)
        records: list[Location | Pack] = [*map(Location, loose), *packed]
        with self._index.writing() as connection:
            for record in records:
                digest = record.digest if isinstance(record, Pack) else record.known.digest
                row = (self.id, bytes.fromhex(digest), encode_record(record), now())
                connection.execute("INSERT OR REPLACE INTO untold VALUES (?, ?, ?, ?)", row)
            put_remote(connection, self.id, loose, packed)
            rows = [(self.id, bytes.fromhex(known.digest)) for known in loose]
            connection.executemany(statements.SPARE, rows)

    def spared(self, told: Iterable[Record]) -> list[Doomed]:
        """Return what to say of objects among `told` that were doomed, and uploaded again."""
        query = "SELECT digest FROM doomed WHERE remote = ? AND after = ?"
        with self._index.reading() as connection:
            rows = connection.execute(query, (self.id, NEVER)).fetchall()
        spared = {digest.hex() for (digest,) in rows}
        loose = [record.known.digest for record in told if isinstance(record, Location)]
        return [Doomed(OBJECT, digest, NEVER) for digest in loose if digest in spared]

    def distrust(self, before: int) -> None:
        """Believe no longer in what was uploaded before a time (ms) and no segment tells yet.

        A collection takes it for what an interrupted push left behind, and may have deleted it.
        """
        query = "SELECT record FROM untold WHERE remote = ? AND at < ?"
        with self._index.reading() as connection:
            records = [decode_record(row[0]) for row in connection.execute(query, (self.id, before))]
        if not records:
            return
        with self._index.writing() as connection:
            connection.execute("DELETE FROM untold WHERE remote = ? AND at < ?", (self.id, before))
            for record in records:
                if isinstance(record, Pack):
                    number = put_pack(connection, record, here=False)
                    self._doubt(connection, record.contents.digests, number)
                elif isinstance(record, Location):
                    self._doubt(connection, [record.known.digest], 0)

    def pushed(self, segment: Digest, mark: int, told: Iterable[Record]) -> None:
        """Note that a segment stands in the remote, with what was chosen and these records."""
        rows = [
            (self.id, bytes.fromhex(record.digest if isinstance(record, Pack) else record.known.digest))
            for record in told
            if isinstance(record, Pack | Location)
        ]
        with self._index.writing() as connection:
            connection.execute("DELETE FROM pending WHERE remote = ? AND chosen = ?", (self.id, mark))
            connection.executemany("DELETE FROM untold WHERE remote = ? AND digest = ?", rows)
            connection.execute(statements.SETTLE_NEEDED, (self.id,))
            self._know(connection, [segment])

    def unpend(self, keys: Iterable[Key], kept: Iterable[Digest]) -> None:
        """Give up on pushing what this store no longer has."""
        rows = [(self.id, 0, bytes.fromhex(key)) for key in keys]
        rows += [(self.id, 1, bytes.fromhex(digest)) for digest in kept]
        with self._index.writing() as connection:
            connection.executemany("DELETE FROM pending WHERE remote = ? AND kind = ? AND id = ?", rows)

    def disbelieve(self, digests: Iterable[Digest]) -> None:
        """Note that the remote does not hold objects where it was believed to, or not whole.

        Those that it holds nowhere else are pending, and so is what leads to them here: somebody needs them,
        perhaps for an entry, a ref or an object put by hand that only the remote tells of.
        """
        doubtful = list(digests)
        if not doubtful:  # as nearly always: all entries would be looked at
            return
        with self._index.writing() as connection:
            self._doubt(connection, doubtful, None)
            connection.execute(statements.PEND_NEEDED, (self.id,))

    def look_past(self, dictionaries: Iterable[Digest], digests: Iterable[Digest]) -> None:
        """Look for objects where none of some dictionaries is needed, if the remote holds them so, too."""
        lacking = json.dumps(list(dictionaries))
        with self._index.writing() as connection:
            _ask(connection, digests)
            for statement in statements.LOOK_PAST:
                connection.execute(statement, (self.id, lacking))
            connection.execute(statements.FOUND_THERE, (self.id,))

    def lacks(self, digests: Iterable[Digest]) -> None:
        """Note what the remote needs and lacks: these objects, and no others."""
        with self._index.writing() as connection:
            connection.execute(statements.FORGET_NEEDED, (self.id,))
            self.disbelieve(digests)

    def _doubt(self, connection: sqlite3.Connection, digests: Iterable[Digest], place: int | None) -> None:
        _ask(connection, digests)
        for statement in statements.DISBELIEVE:
            connection.execute(statement, (self.id, place))
        for statement in statements.LOOK_ELSEWHERE:
            connection.execute(statement, (self.id,))

    def _find(self) -> int | None:
        with self._index.reading() as connection:
            row = connection.execute("SELECT id FROM remotes WHERE url = ?", (self.url,)).fetchone()
        return row[0] if row else None

    def _register(self) -> int:
        with self._index.writing() as connection:
            connection.execute("INSERT OR IGNORE INTO remotes(url) VALUES (?)", (self.url,))
            (remote,) = connection.execute("SELECT id FROM remotes WHERE url = ?", (self.url,)).fetchone()
            connection.execute(statements.PEND_EVERYTHING, {"remote": remote})
        return int(remote)

    def _know(self, connection: sqlite3.Connection, segments: Iterable[Digest]) -> None:
        rows = [(self.id, bytes.fromhex(segment)) for segment in segments]
        connection.executemany("INSERT OR IGNORE INTO remote_segments VALUES (?, ?)", rows)


def _ask(connection: sqlite3.Connection, digests: Iterable[Digest]) -> None:
    connection.execute("CREATE TEMP TABLE IF NOT EXISTS asked(digest BLOB PRIMARY KEY) WITHOUT ROWID")
    connection.execute("DELETE FROM asked")
    rows = ((bytes.fromhex(digest),) for digest in digests)
    connection.executemany("INSERT OR IGNORE INTO asked VALUES (?)", rows)


def _side(digest: bytes, size: int | None, *rest: Any) -> Stored | None:
    return None if size is None else stored_from(digest, size, *rest)
