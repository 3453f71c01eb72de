"""The index: one SQLite database that answers what a store holds.  Floor: catalog.

The index is derived: whatever it says can be found again in segments, journal and objects, last uses and the
ledger excepted. What is known of remotes stands in `casstore.catalog.tracking`.
"""

from __future__ import annotations

import contextlib
import sqlite3
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from casstore.catalog import statements
from casstore.catalog.counters import Counters, Sums
from casstore.catalog.database import Database
from casstore.catalog.places import members_here, object_rows
from casstore.catalog.records import Claim
from casstore.catalog.rows import (
    DamagedIndexError,
    PackInfo,
    claim_from,
    claim_on,
    claim_row,
    pack_info,
    stored_from,
)
from casstore.digest import Digest, Key
from casstore.errors import ConfigError, NotFoundError
from casstore.store.pack import Pack
from casstore.store.sealed import Stored
from casstore.values import quick_value

if TYPE_CHECKING:
    from casstore.catalog.listed import Candidate, ObjectInfo, Tally

_T = TypeVar("_T")

_Counted = tuple[int, str, str]
"""What the ledger's counters are of: a day (since 1970), a provider, a model."""

_DAY = 24 * 3600  # seconds

RECENT = 60_000
"""Milliseconds for which a use by this process is remembered after it was written."""


@quick_value(frozen=True, slots=True)
class Found:
    """What the index knows of a key.

    Attributes:
        claim: The entry or tombstone that stands.
        known: The entry's object, where it is stored here.
    """

    claim: Claim
    known: Stored | None


def now() -> int:
    """Return the time in milliseconds since the Unix epoch."""
    return time.time_ns() // 1_000_000


class Index(Database):
    """The index of one store.

    Args:
        path: The database file.
        durable: Whether a transaction reaches the disk before it returns.
        create: Begin an empty index where there is none.
        restore: Called where the index is lost or damaged: puts another one in its place.

    Raises:
        DamagedIndexError: There is no index of this version, and nobody to restore it.
    """

    def __init__(
        self,
        path: Path,
        *,
        durable: bool = False,
        create: bool = False,
        restore: Callable[[], None] | None = None,
    ) -> None:
        super().__init__(path, durable=durable, create=create, restore=restore)
        self._uses: dict[Digest, int] = {}
        self._recent: dict[Digest, int] = {}
        self._tallies: Counters[_Counted] = Counters()

    def close(self) -> None:
        """Write what was collected in memory, and close."""
        self.flush()
        super().close()

    # Entries and objects

    def find(self, key: Key) -> Found | None:
        """Return what is known of `key`, in one statement."""
        with self._lock, self._mapped:
            self._connection()
            return self._found(key)

    def peek(self, key: Key) -> Found | None:
        """Return what `find` does if that takes no waiting; None where another thread uses the index."""
        if not self._lock.acquire(blocking=False):
            return None
        try:
            return self._found(key) if self._open is not None and self._is_usable() else None
        except (sqlite3.Error, DamagedIndexError):  # `find` meets it again, and has it mended
            return None
        finally:
            self._lock.release()

    def _found(self, key: Key) -> Found | None:
        rows = self._look(statements.FIND, bytes.fromhex(key))
        if not rows:
            return None
        content, generation, created, labels, refs, size, *stored = rows[0]
        claim = claim_on(key, content, generation, created, labels, refs)
        return Found(claim, None if size is None else stored_from(content, size, *stored))

    def claim(self, key: Key) -> Claim | None:
        """Return what stands for `key`, wherever its object is."""
        with self._lock, self._mapped:
            row = self._current().execute(statements.CLAIM, (bytes.fromhex(key),)).fetchone()
        return None if row is None else claim_from(row)

    def claims(self) -> Iterator[Claim]:
        """Yield every standing claim, by key."""
        query = "SELECT * FROM entries WHERE key > ? ORDER BY key LIMIT 1000"
        yield from self._pages(query, claim_from)

    def known(self, digest: Digest) -> Stored | None:
        """Return what is stored here of an object."""
        with self._lock, self._mapped:
            row = self._current().execute(statements.KNOWN, (bytes.fromhex(digest),)).fetchone()
        return None if row is None else stored_from(*row)

    def is_kept(self, digest: Digest) -> bool:
        """Return whether an object is stored here that was put by hand."""
        query = "SELECT 1 FROM objects WHERE digest = ? AND kept"
        with self.reading() as connection:
            return connection.execute(query, (bytes.fromhex(digest),)).fetchone() is not None

    def objects(self) -> Iterator[ObjectInfo]:
        """Yield every object stored here, by digest."""
        from casstore.catalog.listed import ObjectInfo

        columns = "digest, size, stored, used, kept, pack IS NOT NULL"
        query = f"SELECT {columns} FROM objects WHERE digest > ? ORDER BY digest LIMIT 1000"
        yield from self._pages(
            query,
            lambda row: ObjectInfo(Digest(row[0].hex()), row[1], row[2], row[3], bool(row[4]), bool(row[5])),
        )

    def resolve(self, prefix: str) -> Key:
        """Return the one key that begins with the hex digits `prefix`.

        Raises:
            NotFoundError: No key does.
            ConfigError: Several do.
        """
        low = bytes.fromhex(prefix.ljust(64, "0"))
        high = bytes.fromhex(prefix.ljust(64, "f"))
        with self.reading() as connection:
            rows = connection.execute(
                "SELECT key FROM entries WHERE key BETWEEN ? AND ? AND object IS NOT NULL LIMIT 2",
                (low, high),
            ).fetchall()
        if len(rows) > 1:
            raise ConfigError(f"several keys begin with {prefix}: give more digits")
        if not rows:
            raise NotFoundError(f"no entry has a key that begins with {prefix}")
        return Key(rows[0][0].hex())

    def sums(self) -> tuple[int, int, int, int, int, int]:
        """Return entries; objects, their bytes of content and stored; kept objects and their stored bytes."""
        with self.reading() as connection:
            (entries,) = connection.execute(
                "SELECT count(*) FROM entries WHERE object IS NOT NULL"
            ).fetchone()
            sums = connection.execute(
                "SELECT count(*), coalesce(sum(size), 0), coalesce(sum(stored), 0), coalesce(sum(kept), 0),"
                " coalesce(sum(stored * kept), 0) FROM objects"
            ).fetchone()
        return entries, *sums

    def pack_sums(self) -> tuple[int, int]:
        """Return how many packs are here, and the bytes of their files."""
        query = "SELECT count(*), coalesce(sum(stored), 0) FROM packs WHERE here"
        with self.reading() as connection:
            count, stored = connection.execute(query).fetchone()
        return count, stored

    def evictable(self) -> int:
        """Return the stored bytes that the size cap governs."""
        with self.reading() as connection:
            (total,) = connection.execute("SELECT evictable FROM totals").fetchone()
        return int(total)

    def packs(self, digests: Iterable[Digest]) -> dict[Digest, PackInfo]:
        """Return what is known of packs, here or in a remote."""
        query = "SELECT digest, stored, members, dictionary, here FROM packs WHERE digest = ?"
        found = {}
        with self.reading() as connection:
            for digest in digests:
                row = connection.execute(query, (bytes.fromhex(digest),)).fetchone()
                if row is not None:
                    found[digest] = pack_info(*row)
        return found

    def dictionaries(self) -> list[Digest]:
        """Return the dictionaries that packs need, here or in a remote."""
        query = "SELECT DISTINCT dictionary FROM packs WHERE dictionary IS NOT NULL ORDER BY dictionary"
        with self.reading() as connection:
            return [Digest(digest.hex()) for (digest,) in connection.execute(query)]

    def current_dictionary(self) -> Digest | None:
        """Return the dictionary that the newest pack with one needs, here or in a remote."""
        with self.reading() as connection:
            row = connection.execute(statements.CURRENT_DICTIONARY).fetchone()
        return None if row is None else Digest(row[0].hex())

    def eviction_order(self) -> Generator[Candidate, None, None]:
        """Yield what may be evicted, the first to go first."""
        from casstore.catalog.listed import Candidate

        self.flush()
        with self.aside() as connection, contextlib.closing(connection.execute(statements.EVICTABLE)) as rows:
            for digest, stored, pack, held in rows:
                yield Candidate(Digest(digest.hex()), stored, bool(held), pack)

    # What is collected in memory

    def touch(self, digest: Digest) -> None:
        """Note that an object was used now."""
        self._uses[digest] = now()

    def used_here(self) -> Mapping[Digest, int]:
        """Return the last uses by this process, at least the recent ones, in milliseconds since the epoch."""
        return self._recent | self._uses

    def tally(self, provider: str, model: str, counts: Mapping[str, float]) -> None:
        """Add to counters of the ledger, under today's date; waits for no transaction."""
        self._tallies.add((int(time.time() // _DAY), provider, model), counts)

    def tallies(self) -> list[Tally]:
        """Return the ledger, written or not, by day."""
        from casstore.catalog.listed import Tally

        self.flush()
        with self.reading() as connection:
            return [Tally(*row) for row in connection.execute("SELECT * FROM tallies")]

    def collected(self) -> int:
        """Return how many uses and counters wait to be written."""
        return len(self._uses) + len(self._tallies)

    def flush(self) -> None:
        """Write the uses and counters collected in memory, in one transaction."""
        with self._lock:
            if not self._uses and not self._tallies:
                return
            # Swapped first: other threads go on noting uses and counting meanwhile, without the index's lock.
            uses, self._uses = self._uses, {}
            tallies = self._tallies.take()
            try:
                self._write_collected(uses, tallies)
            except BaseException:
                self._uses = uses | self._uses
                for who, counts in tallies.items():
                    self._tallies.add(who, counts)
                raise
            since = now() - RECENT
            self._recent = {digest: used for digest, used in (self._recent | uses).items() if used >= since}

    def _write_collected(self, uses: Mapping[Digest, int], tallies: Sums[_Counted]) -> None:
        rows = [(used, bytes.fromhex(digest)) for digest, used in uses.items()]
        with self.writing() as connection:
            connection.executemany("UPDATE objects SET used = max(used, ?) WHERE digest = ?", rows)
            connection.executemany(statements.TALLY, _tally_rows(tallies))

    def _forget_collected(self) -> None:
        self._uses, self._recent, self._tallies = {}, {}, Counters()

    def _pages(self, query: str, convert: Callable[[Any], _T]) -> Iterator[_T]:
        """Yield converted rows in pages, so that no statement stays open while a caller takes its time."""
        after = b""
        while True:
            with self.reading() as connection:
                rows = connection.execute(query, (after,)).fetchall()
                page = [convert(row) for row in rows]
            if not rows:
                return
            yield from page
            after = rows[-1][0]


def _tally_rows(tallies: Sums[_Counted]) -> Iterator[tuple[str, str, str, str, float]]:
    for (days, provider, model), counts in tallies.items():
        day = time.strftime("%Y-%m-%d", time.gmtime(days * _DAY))
        yield from ((day, provider, model, name, value) for name, value in counts.items())


def put_claim(connection: sqlite3.Connection, claim: Claim) -> None:
    """Let `claim` stand for its key, pending for every remote."""
    row = claim_row(claim)
    connection.execute(statements.PUT_CLAIM, row)
    connection.execute(statements.PEND_CLAIM, row[:1])


def put_objects(
    connection: sqlite3.Connection,
    objects: Iterable[Stored],
    *,
    used: int,
    kept: bool = False,
    replace: bool = True,
) -> None:
    """Note that objects are stored here, each in a file of its own or in a pack that is here.

    Args:
        connection: The index's.
        objects: The objects.
        used: When they were last used.
        kept: Whether they were put by hand.
        replace: Whether this is where they are now, also if the index knows them elsewhere.
    """
    rows = object_rows(connection, objects, used, kept=kept)
    rows.sort()  # neighbours in the table: half the time of a random order
    (statements.PUT_OBJECT if replace else statements.ADD_OBJECT).run(connection, rows)
    if kept:
        digests = [(row[0],) for row in rows]
        connection.executemany(statements.PEND_KEPT, digests)


def put_pack_here(connection: sqlite3.Connection, pack: Pack, *, used: int) -> None:
    """Note a pack that is here now, and its objects, where the index does not know them elsewhere."""
    number = put_pack(connection, pack, here=True)
    statements.ADD_OBJECT.run(connection, sorted(members_here(pack, number, used), key=itemgetter(0)))


def put_pack(connection: sqlite3.Connection, pack: Pack, *, here: bool) -> int:
    """Note a pack, and return the number of its row."""
    dictionary = pack.contents.dictionary
    row = (
        bytes.fromhex(pack.digest),
        pack.stored,
        len(pack.contents.digests),
        None if dictionary is None else bytes.fromhex(dictionary),
        here,
    )
    (number,) = connection.execute(statements.PUT_PACK, row).fetchone()
    return int(number)


def remove_objects(connection: sqlite3.Connection, digests: Iterable[Digest]) -> None:
    """Note that objects are no longer stored here."""
    rows = [(bytes.fromhex(digest),) for digest in digests]
    connection.executemany("DELETE FROM objects WHERE digest = ?", rows)
    connection.executemany("DELETE FROM pending WHERE kind = 1 AND id = ?", rows)


def remove_entries_of(connection: sqlite3.Connection, digests: Iterable[Digest]) -> int:
    """Remove the entries that lead to objects which are gone for good; return how many there were."""
    rows = [(bytes.fromhex(digest),) for digest in digests]
    connection.execute("CREATE TEMP TABLE IF NOT EXISTS gone(digest BLOB PRIMARY KEY) WITHOUT ROWID")
    connection.executemany("INSERT OR IGNORE INTO gone VALUES (?)", rows)
    lost = "SELECT key FROM entries WHERE object IN (SELECT digest FROM gone)"
    connection.execute(f"DELETE FROM pending WHERE kind = 0 AND id IN ({lost})")
    removed = connection.execute("DELETE FROM entries WHERE object IN (SELECT digest FROM gone)").rowcount
    connection.execute("DELETE FROM gone")
    return removed
