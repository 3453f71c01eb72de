"""The index's file: one SQLite database, its connection and its transactions.  Floor: catalog.

One connection a process, used by one thread at a time; a forked child opens its own. The file may be replaced
under an open connection, when the index is rebuilt: whoever reads or writes next sees that and opens the new.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from casstore.backends.atomic import sync_file
from casstore.catalog.connecting import BUSY_TIMEOUT, CACHE, Mapped, connect, replacing
from casstore.catalog.rows import DamagedIndexError
from casstore.errors import BackendError, CasstoreError

Connection = sqlite3.Connection
"""What transactions are made on."""

_LARGE_CACHE = -16384
"""KiB of pages held while a sync goes through all of 100,000 entries."""

_FREE = 1 / 16
"""The share of free pages from which they are given back; others are soon in use again."""


class Database:
    """The database of one index.

    Args:
        path: The file.
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
        self._file = os.fspath(path)
        self._durable = durable
        self._create = create
        self._restore = restore
        self._lock = threading.RLock()
        self._aside = threading.RLock()
        self._mapped = Mapped(path, self._distrust)
        self._open: sqlite3.Connection | None = None
        self._cursor: sqlite3.Cursor | None = None
        self._owner = 0
        self._inode = 0
        self._broken = False
        _ALL.add(self)
        with self.reading():
            pass

    @contextlib.contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """Yield the connection for statements that change nothing."""
        with self._lock, self._mapped:
            yield self._current()

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
    def in_bulk(self) -> Iterator[None]:
        """Hold more of the database in memory while the block goes through much of it."""
        self._hold(_LARGE_CACHE)
        try:
            yield
        finally:
            with contextlib.suppress(CasstoreError):  # what ended the block is what to tell
                self._hold(CACHE)

    def shrink(self) -> None:
        """Give pages back to the disk that became free, where they are many."""
        with self.reading() as connection:
            (free,), (pages,) = (
                connection.execute(f"PRAGMA {count}").fetchone() for count in ("freelist_count", "page_count")
            )
            if free > _FREE * pages and not self._is_busy():
                connection.executescript("PRAGMA incremental_vacuum")  # `execute` would free one page

    def _hold(self, size: int) -> None:
        with self.reading() as connection:
            connection.execute(f"PRAGMA cache_size = {size}")

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

    @contextlib.contextmanager
    def aside(self) -> Iterator[sqlite3.Connection]:
        """Yield a connection of its own for what takes long, while others go on using the index.

        One at a time, and none while the process forks: the child would inherit what SQLite holds for it.
        """
        with self._aside, self._mapped:
            connection, _ = connect(self._path, durable=self._durable, create=False)
            try:
                yield connection
            finally:
                connection.close()

    def sync(self) -> None:
        """Put the transactions so far on the disk, also where they do not wait for it by themselves.

        Raises:
            BackendError: The disk failed.
        """
        if self._durable:
            return
        log = self._path.with_name(f"{self._path.name}-wal")
        try:
            sync_file(log)  # SQLite's locks are on the other two files: no closing here can release them
        except FileNotFoundError:  # the last connection closed, which has synced it all
            return
        except OSError as error:
            raise BackendError(f"cannot sync {log}: {error.strerror}") from error

    @property
    def alone(self) -> AbstractContextManager[object]:
        """A block in which no other thread of this process uses the index."""
        return self._lock

    def close(self) -> None:
        """Close the connection; the next use opens another."""
        with self._lock:
            self._drop_connection()

    def identity(self) -> int:
        """Return what tells this index from one that is rebuilt in its place."""
        with self._lock:
            self._current()
            return self._inode

    def before_fork(self) -> bool:
        """Wait for what is under way, and close the connection, which a child must not even know of.

        SQLite keeps one account of a process's locks on a file, and a child inherits it: the child's own
        connection would rely on locks that only its parent has, and lose what it writes.

        Returns:
            Whether the locks are held now.
        """
        if not self._aside.acquire(timeout=BUSY_TIMEOUT):
            return False
        if not self._lock.acquire(timeout=BUSY_TIMEOUT):
            self._aside.release()
            return False
        if not self._is_busy():
            self._drop_connection()
        return True

    def after_fork_in_parent(self) -> None:
        """Go on; the next use opens another connection."""
        self._lock.release()
        self._aside.release()

    def after_fork_in_child(self) -> None:
        """Begin with a free lock, and with nothing collected in memory."""
        self._lock = threading.RLock()
        self._aside = threading.RLock()
        self._forget_collected()

    def _current(self) -> sqlite3.Connection:
        """Return the connection to what is the index now: another process may have rebuilt it."""
        connection = self._connection()
        if connection.in_transaction or self._is_current():
            return connection
        self._drop_connection()
        return self._connection()

    def _connection(self) -> sqlite3.Connection:
        if self._open is None or not self._is_usable():
            self._drop_connection()
            self._open, self._inode = self._connected()
            self._cursor = self._open.cursor()
            self._owner = os.getpid()
        return self._open

    def _look(self, statement: str, key: bytes) -> list[Any]:
        """Return what a statement finds for one key, on the connection that is open.

        All of it, which ends the statement: the cursor lives on, as making another takes longer than Python's
        whole part in a look.
        """
        return self._cursor.execute(statement, (key,)).fetchall() if self._cursor is not None else []

    def _is_usable(self) -> bool:
        """Return whether the connection is this process's, and of no index that turned out damaged."""
        return self._owner == os.getpid() and not (self._broken and not self._is_busy())

    def _connected(self) -> tuple[sqlite3.Connection, int]:
        try:
            return connect(self._path, durable=self._durable, create=self._create)
        except DamagedIndexError:
            if self._restore is None:
                raise
        self._restore()
        return connect(self._path, durable=self._durable, create=False)

    def _is_busy(self) -> bool:
        """Return whether a transaction is under way, which holds the connection in its place."""
        return self._open is not None and self._owner == os.getpid() and self._open.in_transaction

    def _is_current(self) -> bool:
        """Return whether the file that is open is still the index."""
        try:
            return os.stat(self._file).st_ino == self._inode  # noqa: PTH116 - a put asks often
        except FileNotFoundError:
            return False

    def _distrust(self) -> None:
        """Put a damaged index out of the way, so that whoever comes next has it rebuilt."""
        self._broken = True
        with contextlib.suppress(OSError), replacing(self._path):
            if self._is_current():
                self._path.rename(self._path.with_name(f"{self._path.name}.damaged"))

    def _forget_collected(self) -> None:
        """In a forked child: forget what the parent collected in memory, and will write."""

    def _drop_connection(self) -> None:
        if self._open is not None and self._owner == os.getpid():
            self._open.close()
        elif self._open is not None:
            # In a forked child; closing the parent's connection here would release the parent's locks.
            _INHERITED.append((self._open, self._cursor))
            self._forget_collected()
        self._open, self._cursor, self._broken = None, None, False


_INHERITED: list[tuple[sqlite3.Connection, sqlite3.Cursor | None]] = []
"""Connections of the parent, kept in a forked child so that they are never closed there."""

_ALL: weakref.WeakSet[Database] = weakref.WeakSet()
_forking = threading.local()


def _before_fork() -> None:
    _forking.held = [database for database in list(_ALL) if database.before_fork()]


def _after_fork_in_parent() -> None:
    for database in _forking.held:
        database.after_fork_in_parent()
    _forking.held = []


def _after_fork_in_child() -> None:
    _forking.held = []
    for database in list(_ALL):
        database.after_fork_in_child()


os.register_at_fork(
    before=_before_fork, after_in_parent=_after_fork_in_parent, after_in_child=_after_fork_in_child
)
