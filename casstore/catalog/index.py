"""The index: one SQLite database that answers what a store holds.  Floor: catalog.

The only module that imports sqlite3. The index is derived: whatever it says can be found again in segments,
journal and objects, last uses and the ledger excepted. It is in WAL mode: readers never wait, writers wait
for one another. One connection a process, used by one thread at a time; a forked child opens its own.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from casstore.catalog import statements
from casstore.catalog.records import Claim
from casstore.catalog.rows import claim_from, claim_row, stored_from, stored_row
from casstore.digest import Digest, Key
from casstore.errors import BackendError, ConfigError, FormatError, NotFoundError
from casstore.store.sealed import Stored

BUSY_TIMEOUT = 30.0
"""Seconds a writer waits for another before it gives up."""

_DAMAGED = ("SQLITE_CORRUPT", "SQLITE_NOTADB", "SQLITE_CORRUPT_INDEX", "SQLITE_CORRUPT_VTAB")


class DamagedIndexError(FormatError):
    """The index cannot be read; it can be rebuilt."""


@dataclass(frozen=True, slots=True)
class Found:
    """What the index knows of a key.

    Attributes:
        claim: The entry or tombstone that stands.
        known: The entry's object, where it is stored here.
    """

    claim: Claim
    known: Stored | None


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    """An object stored here.

    Attributes:
        digest: SHA-256 of its content.
        size: Bytes of content.
        stored: Bytes of its file.
        used: When it was last used, in milliseconds since the Unix epoch.
        kept: It was put by hand, and is not evicted while it is only here.
    """

    digest: Digest
    size: int
    stored: int
    used: int
    kept: bool


@dataclass(frozen=True, slots=True)
class Tally:
    """One counter of the ledger: `name` of `model` at `provider` on `day` (UTC, ``YYYY-MM-DD``)."""

    day: str
    provider: str
    model: str
    name: str
    value: float


def now() -> int:
    """Return the time in milliseconds since the Unix epoch."""
    return time.time_ns() // 1_000_000


class Index:
    """The index of one store.

    Args:
        path: The database file.
        durable: Whether a transaction reaches the disk before it returns.

    Raises:
        DamagedIndexError: The file is no index of this version.
    """

    def __init__(self, path: Path, *, durable: bool = False) -> None:
        self._path = path
        self._durable = durable
        self._lock = threading.RLock()
        self._open: sqlite3.Connection | None = None
        self._owner = 0
        self._inode = 0
        self._uses: dict[Digest, int] = {}
        self._tallies: dict[tuple[str, str, str, str], float] = {}
        with self.reading():
            pass

    # Transactions

    @contextlib.contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """Yield the connection for statements that change nothing."""
        with self._lock, _mapped(self._path):
            yield self._connection()

    @contextlib.contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """Yield the connection within a transaction, which is rolled back if the block raises."""
        with self._lock:
            self._follow()
            with self._transaction("BEGIN IMMEDIATE") as connection:
                yield connection

    @contextlib.contextmanager
    def staging(self) -> Iterator[sqlite3.Connection]:
        """Yield the connection within a transaction for temporary tables alone, which waits for nobody."""
        with self._lock, self._transaction("BEGIN") as connection:
            yield connection

    @contextlib.contextmanager
    def _transaction(self, begin: str) -> Iterator[sqlite3.Connection]:
        with _mapped(self._path):
            connection = self._connection()
            connection.execute(begin)
            try:
                yield connection
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise

    def close(self) -> None:
        """Write what was collected in memory, and close."""
        self.flush()
        with self._lock:
            self._drop_connection()

    def identity(self) -> int:
        """Return what tells this index from one that is rebuilt in its place."""
        with self._lock:
            self._follow()
            self._connection()
            return self._inode

    # Entries and objects

    def find(self, key: Key) -> Found | None:
        """Return what is known of `key`, in one statement."""
        with self._lock, _mapped(self._path):
            row = self._connection().execute(statements.FIND, (bytes.fromhex(key),)).fetchone()
        if row is None:
            return None
        content, generation, created, labels, refs, size, stored, frames = row
        claim = claim_from((bytes.fromhex(key), content, generation, created, labels, refs))
        return Found(claim, None if size is None else stored_from(content, size, stored, frames))

    def claims(self) -> Iterator[Claim]:
        """Yield every standing claim, by key."""
        query = "SELECT * FROM entries WHERE key > ? ORDER BY key LIMIT 1000"
        for key, content, generation, created, labels, refs in self._pages(query):
            yield claim_from((key, content, generation, created, labels, refs))

    def known(self, digest: Digest) -> Stored | None:
        """Return what is stored here of an object."""
        with self.reading() as connection:
            row = connection.execute(
                "SELECT digest, size, stored, frames FROM objects WHERE digest = ?", (bytes.fromhex(digest),)
            ).fetchone()
        return None if row is None else stored_from(*row)

    def objects(self) -> Iterator[ObjectInfo]:
        """Yield every object stored here, by digest."""
        query = (
            "SELECT digest, size, stored, used, kept FROM objects WHERE digest > ? ORDER BY digest LIMIT 1000"
        )
        for digest, size, stored, used, kept in self._pages(query):
            yield ObjectInfo(Digest(digest.hex()), size, stored, used, bool(kept))

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

    def evictable(self) -> int:
        """Return the stored bytes that the size cap governs."""
        with self.reading() as connection:
            (total,) = connection.execute("SELECT evictable FROM totals").fetchone()
        return int(total)

    def eviction_order(self) -> Iterator[tuple[Digest, int, bool]]:
        """Yield what may be evicted, the first to go first: digest, stored bytes, held by a remote."""
        self.flush()
        with self.reading() as connection:
            rows = connection.execute(statements.EVICTABLE).fetchall()
        for digest, stored, _, held in rows:
            yield Digest(digest.hex()), stored, bool(held)

    # What is collected in memory

    def touch(self, digest: Digest) -> None:
        """Note that an object was used now."""
        self._uses[digest] = now()

    def used_here(self) -> Mapping[Digest, int]:
        """Return the uses that are not written yet, in milliseconds since the Unix epoch."""
        return dict(self._uses)

    def tally(self, provider: str, model: str, counts: Mapping[str, float]) -> None:
        """Add to counters of the ledger, under today's date."""
        day = time.strftime("%Y-%m-%d", time.gmtime())
        with self._lock:
            for name, value in counts.items():
                counter = (day, provider, model, name)
                self._tallies[counter] = self._tallies.get(counter, 0) + value

    def tallies(self) -> list[Tally]:
        """Return the ledger, written or not, by day."""
        self.flush()
        with self.reading() as connection:
            return [Tally(*row) for row in connection.execute("SELECT * FROM tallies")]

    def collected(self) -> int:
        """Return how many uses and counters wait to be written."""
        return len(self._uses) + len(self._tallies)

    def flush(self) -> None:
        """Write the uses and counters collected in memory, in one transaction."""
        with self._lock:
            uses, tallies = self._uses, self._tallies
            if not uses and not tallies:
                return
            rows = [(used, bytes.fromhex(digest)) for digest, used in uses.items()]
            with self.writing() as connection:
                connection.executemany("UPDATE objects SET used = max(used, ?) WHERE digest = ?", rows)
                connection.executemany(
                    statements.TALLY, [(*counter, value) for counter, value in tallies.items()]
                )
            self._uses, self._tallies = {}, {}

    # The connection

    def _connection(self) -> sqlite3.Connection:
        if self._open is None or self._owner != os.getpid():
            # A connection must not be closed in a forked child: that would release the parent's locks.
            self._forget_parent()
            self._open = _connect(self._path, durable=self._durable)
            self._owner = os.getpid()
            self._inode = self._path.stat().st_ino
        return self._open

    def _forget_parent(self) -> None:
        if self._open is not None:
            _INHERITED.append(self._open)
            self._uses, self._tallies = {}, {}

    def _follow(self) -> None:
        """Reopen if another process has rebuilt the index."""
        with contextlib.suppress(FileNotFoundError):
            if self._open is None or self._path.stat().st_ino == self._inode:
                return
        self._drop_connection()

    def _drop_connection(self) -> None:
        if self._open is not None and self._owner == os.getpid():
            self._open.close()
        self._open = None

    def _pages(self, query: str) -> Iterator[tuple[Any, ...]]:
        """Yield rows in pages, so that no statement stays open while a caller takes its time."""
        after = b""
        while True:
            with self.reading() as connection:
                rows = connection.execute(query, (after,)).fetchall()
            if not rows:
                return
            yield from rows
            after = rows[-1][0]


def put_claim(connection: sqlite3.Connection, claim: Claim, *, but: int = 0) -> None:
    """Let `claim` stand for its key, pending for every remote `but` one."""
    row = claim_row(claim)
    connection.execute(statements.PUT_CLAIM, row)
    connection.execute(
        "INSERT OR IGNORE INTO pending SELECT id, 0, ? FROM remotes WHERE id <> ?", (row[0], but)
    )


def put_objects(
    connection: sqlite3.Connection, objects: Iterable[Stored], *, used: int, kept: bool = False
) -> None:
    """Note that objects are stored here."""
    rows = []
    for known in objects:
        digest, size, stored, frames = stored_row(known)
        rows.append((digest, size, stored, used, kept, frames))
    connection.executemany(statements.PUT_OBJECT, rows)
    if kept:
        digests = [(row[0],) for row in rows]
        connection.executemany("INSERT OR IGNORE INTO pending SELECT id, 1, ? FROM remotes", digests)


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


_INHERITED: list[sqlite3.Connection] = []
"""Connections of the parent, kept in a forked child so that they are never closed there."""


def _connect(path: Path, *, durable: bool) -> sqlite3.Connection:
    if not path.exists():  # SQLite would make the file with the umask's mode
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600))
    connection = sqlite3.connect(path, timeout=BUSY_TIMEOUT, isolation_level=None, check_same_thread=False)
    try:
        _prepare(connection, durable=durable)
    except BaseException:
        connection.close()
        raise
    return connection


def _prepare(connection: sqlite3.Connection, *, durable: bool) -> None:
    if connection.execute("PRAGMA journal_mode").fetchone() != ("wal",):
        _patiently(connection, "PRAGMA journal_mode = WAL")
    connection.execute(f"PRAGMA synchronous = {'FULL' if durable else 'NORMAL'}")
    if _version(connection) == 0:
        connection.execute("BEGIN IMMEDIATE")
        if _version(connection) == 0:
            for statement in statements.SCHEMA.split(";\n"):
                connection.execute(statement)
            connection.execute(f"PRAGMA user_version = {statements.SCHEMA_VERSION}")
        connection.execute("COMMIT")
    if _version(connection) != statements.SCHEMA_VERSION:
        raise DamagedIndexError(f"an index of version {_version(connection)}")


def _version(connection: sqlite3.Connection) -> int:
    return int(connection.execute("PRAGMA user_version").fetchone()[0])


def _patiently(connection: sqlite3.Connection, statement: str) -> None:
    """Execute a statement for which SQLite does not wait by itself."""
    deadline = time.monotonic() + BUSY_TIMEOUT
    while True:
        try:
            connection.execute(statement)
        except sqlite3.OperationalError as error:
            if error.sqlite_errorname != "SQLITE_BUSY" or time.monotonic() > deadline:
                raise
            time.sleep(0.01)
        else:
            return


@contextlib.contextmanager
def _mapped(path: Path) -> Iterator[None]:
    """Turn SQLite's errors into casstore's: the one place that does."""
    try:
        yield
    except sqlite3.DatabaseError as error:
        name = getattr(error, "sqlite_errorname", "")
        if name in _DAMAGED:
            raise DamagedIndexError(f"{path} is damaged ({error}): run 'casstore rebuild'") from error
        if name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
            message = (
                f"{path} was locked for {BUSY_TIMEOUT:.0f} s by another process; try again when it is done"
            )
            raise BackendError(message, transient=True) from error
        if name == "SQLITE_FULL":
            raise BackendError(f"cannot write {path}: the disk is full; free some space") from error
        raise BackendError(f"cannot use {path}: {error}") from error
