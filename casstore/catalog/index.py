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
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from casstore.catalog import statements
from casstore.catalog.records import Claim
from casstore.catalog.rows import DamagedIndexError, claim_from, claim_row, stored_from, stored_row
from casstore.digest import Digest, Key
from casstore.errors import BackendError, CasstoreError, ConfigError, NotFoundError
from casstore.store.sealed import Stored

BUSY_TIMEOUT = 30.0
"""Seconds a writer waits for another before it gives up."""

_PRAGMAS = {
    "cache_size": -8192,  # KiB: the inner pages of a million entries
    "wal_autocheckpoint": 4000,  # pages of 4 KiB: each checkpoint waits for the disk, and random keys fill it soon
}

_T = TypeVar("_T")

RECENT = 60_000
"""Milliseconds for which a use by this process is remembered after it was written."""

_DAMAGED = ("SQLITE_CORRUPT", "SQLITE_NOTADB", "SQLITE_IOERR_SHORT_READ")
"""How the names of errors begin that only another index mends."""


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
        self._path = path
        self._durable = durable
        self._create = create
        self._restore = restore
        self._lock = threading.RLock()
        self._mapped = _Mapped(path, self._distrust)
        self._open: sqlite3.Connection | None = None
        self._owner = 0
        self._inode = 0
        self._broken = False
        self._uses: dict[Digest, int] = {}
        self._recent: dict[Digest, int] = {}
        self._tallies: dict[tuple[str, str, str, str], float] = {}
        with self.reading():
            pass

    # Transactions

    @contextlib.contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """Yield the connection for statements that change nothing."""
        with self._lock, self._mapped:
            self._follow()
            yield self._connection()

    @contextlib.contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """Yield the connection within a transaction, which is rolled back if the block raises.

        Within another such block it is part of that one's transaction.
        """
        with self._lock:
            if self._is_busy():
                yield self._connection()
                return
            while True:
                with self._transaction("BEGIN IMMEDIATE") as connection:
                    if self._is_current():
                        yield connection
                        return
                self._drop_connection()  # another process put a new index in its place

    @contextlib.contextmanager
    def staging(self) -> Iterator[sqlite3.Connection]:
        """Yield the connection within a transaction for temporary tables alone, which waits for nobody."""
        with self._lock, self._transaction("BEGIN") as connection:
            yield connection

    @contextlib.contextmanager
    def _transaction(self, begin: str) -> Iterator[sqlite3.Connection]:
        with self._mapped:
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
        with self._lock, self._mapped:
            row = self._connection().execute(statements.FIND, (bytes.fromhex(key),)).fetchone()
            if row is None:
                return None
            content, generation, created, labels, refs, size, stored, frames = row
            claim = claim_from((bytes.fromhex(key), content, generation, created, labels, refs))
            return Found(claim, None if size is None else stored_from(content, size, stored, frames))

    def claims(self) -> Iterator[Claim]:
        """Yield every standing claim, by key."""
        query = "SELECT * FROM entries WHERE key > ? ORDER BY key LIMIT 1000"
        yield from self._pages(query, claim_from)

    def known(self, digest: Digest) -> Stored | None:
        """Return what is stored here of an object."""
        with self.reading() as connection:
            row = connection.execute(
                "SELECT digest, size, stored, frames FROM objects WHERE digest = ?", (bytes.fromhex(digest),)
            ).fetchone()
        return None if row is None else stored_from(*row)

    def objects(self) -> Iterator[ObjectInfo]:
        """Yield every object stored here, by digest."""
        columns = "digest, size, stored, used, kept"
        query = f"SELECT {columns} FROM objects WHERE digest > ? ORDER BY digest LIMIT 1000"
        yield from self._pages(
            query, lambda row: ObjectInfo(Digest(row[0].hex()), *row[1:4], kept=bool(row[4]))
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

    def evictable(self) -> int:
        """Return the stored bytes that the size cap governs."""
        with self.reading() as connection:
            (total,) = connection.execute("SELECT evictable FROM totals").fetchone()
        return int(total)

    def eviction_order(self) -> Iterator[tuple[Digest, int, bool]]:
        """Yield what may be evicted, the first to go first: digest, stored bytes, held by a remote."""
        self.flush()
        with self.reading() as connection:
            for digest, stored, _, held in connection.execute(statements.EVICTABLE):
                yield Digest(digest.hex()), stored, bool(held)

    # What is collected in memory

    def touch(self, digest: Digest) -> None:
        """Note that an object was used now."""
        self._uses[digest] = now()

    def used_here(self) -> Mapping[Digest, int]:
        """Return the last uses by this process, `RECENT` ones at least, in milliseconds since the Unix epoch."""
        return self._recent | self._uses

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
            if not self._uses and not self._tallies:
                return
            # Swapped first: other threads go on noting uses meanwhile, without the lock.
            uses, self._uses = self._uses, {}
            try:
                self._write_collected(uses)
            except BaseException:
                self._uses = uses | self._uses
                raise
            since = now() - RECENT
            self._recent = {digest: used for digest, used in (self._recent | uses).items() if used >= since}
            self._tallies = {}

    def _write_collected(self, uses: Mapping[Digest, int]) -> None:
        rows = [(used, bytes.fromhex(digest)) for digest, used in uses.items()]
        with self.writing() as connection:
            connection.executemany("UPDATE objects SET used = max(used, ?) WHERE digest = ?", rows)
            tallies = [(*counter, value) for counter, value in self._tallies.items()]
            connection.executemany(statements.TALLY, tallies)

    def renew_lock(self) -> None:
        """Begin with a free lock, in a forked child."""
        self._lock = threading.RLock()

    # The connection

    def _connection(self) -> sqlite3.Connection:
        if self._open is None or self._owner != os.getpid() or (self._broken and not self._is_busy()):
            self._drop_connection()
            self._open = self._connect()
            self._owner = os.getpid()
            self._inode = self._path.stat().st_ino
        return self._open

    def _connect(self) -> sqlite3.Connection:
        try:
            return _connect(self._path, durable=self._durable, create=self._create)
        except DamagedIndexError:
            if self._restore is None:
                raise
        self._restore()
        return _connect(self._path, durable=self._durable, create=False)

    def _is_busy(self) -> bool:
        """Return whether a transaction is under way, which holds the connection in its place."""
        return self._open is not None and self._owner == os.getpid() and self._open.in_transaction

    def _is_current(self) -> bool:
        """Return whether the file that is open is still the index."""
        try:
            return self._path.stat().st_ino == self._inode
        except FileNotFoundError:
            return False

    def _follow(self) -> None:
        """Reopen if another process has rebuilt the index."""
        if self._open is not None and not self._is_busy() and not self._is_current():
            self._drop_connection()

    def _distrust(self) -> None:
        """Put a damaged index out of the way, so that whoever comes next has it rebuilt."""
        self._broken = True
        with contextlib.suppress(OSError):
            if self._is_current():
                self._path.rename(self._path.with_name(f"{self._path.name}.damaged"))

    def _drop_connection(self) -> None:
        if self._open is not None and self._owner == os.getpid():
            self._open.close()
        elif self._open is not None:
            # In a forked child; closing the parent's connection here would release the parent's locks.
            _INHERITED.append(self._open)
            self._uses, self._recent, self._tallies = {}, {}, {}
        self._open, self._broken = None, False

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


def _connect(path: Path, *, durable: bool, create: bool) -> sqlite3.Connection:
    if create and not path.exists():  # SQLite would make the file with the umask's mode
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600))
    if not path.exists():
        raise DamagedIndexError(f"{path} is not there")
    with _Mapped(path):
        url = f"{path.absolute().as_uri()}?mode=rw"  # never makes a file
        connection = sqlite3.connect(
            url, uri=True, timeout=BUSY_TIMEOUT, isolation_level=None, check_same_thread=False
        )
        try:
            _prepare(connection, durable=durable, create=create)
        except BaseException:
            connection.close()
            raise
    return connection


def _prepare(connection: sqlite3.Connection, *, durable: bool, create: bool) -> None:
    if connection.execute("PRAGMA journal_mode").fetchone() != ("wal",):
        _patiently(connection, "PRAGMA journal_mode = WAL")
    for pragma, value in _PRAGMAS.items():
        connection.execute(f"PRAGMA {pragma} = {value}")
    connection.execute(f"PRAGMA synchronous = {'FULL' if durable else 'NORMAL'}")
    if create and _version(connection) == 0:
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
            if not error.sqlite_errorname.startswith("SQLITE_BUSY") or time.monotonic() > deadline:
                raise
            time.sleep(0.01)
        else:
            return


class _Mapped:
    """Turns SQLite's errors into casstore's: the one place that does.

    A class, since a generator would cost a hit 2 us.

    Args:
        path: The database file.
        distrust: Called where the file turns out damaged.
    """

    __slots__ = ("_distrust", "_path")

    def __init__(self, path: Path, distrust: Callable[[], None] | None = None) -> None:
        self._path = path
        self._distrust = distrust

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, sqlite3.Error):
            translated = _translated(error, self._path)
        elif isinstance(error, DamagedIndexError):
            translated = error
        else:
            return
        if self._distrust is not None and isinstance(translated, DamagedIndexError):
            self._distrust()
        if translated is not error:
            raise translated from error


def _translated(error: sqlite3.Error, path: Path) -> CasstoreError:
    name = getattr(error, "sqlite_errorname", "")
    if name.startswith(_DAMAGED) or (name == "SQLITE_CANTOPEN" and not path.exists()):
        return DamagedIndexError(f"{path} is damaged ({error}); whoever uses it next rebuilds it")
    if name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
        held = f"{path} was locked for {BUSY_TIMEOUT:.0f} s by another process"
        return BackendError(f"{held}; try again when it is done", transient=True)
    if name == "SQLITE_FULL":
        return BackendError(f"cannot write {path}: the disk is full; free some space")
    return BackendError(f"cannot use {path}: {error}")
