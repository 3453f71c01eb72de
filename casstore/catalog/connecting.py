"""How the index's database is opened, and how SQLite fails.  Floor: catalog.

The only module that makes connections.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from casstore.catalog import statements
from casstore.catalog.rows import DamagedIndexError
from casstore.errors import BackendError, CasstoreError

LOCK = "index.lock"
"""Held by several while they open the index, and by one alone while it puts another in its place."""

BUSY_TIMEOUT = 30.0
"""Seconds a writer waits for another before it gives up."""

CACHE = -8192
"""KiB of pages held: the inner ones of a million entries."""

_ROOM = 128 * 1024
"""Free bytes below which a disk counts as full: SQLite's shared memory alone takes 32 KiB."""

_PRAGMAS = {
    "cache_size": CACHE,
    "wal_autocheckpoint": 4000,  # pages of 4 KiB: a checkpoint waits for the disk; random keys bring it soon
}

_DAMAGED = ("SQLITE_CORRUPT", "SQLITE_NOTADB", "SQLITE_IOERR_SHORT_READ")
"""How the names of errors begin that only another index mends."""


_TROUBLE = {
    "SQLITE_CANTOPEN": "it cannot be opened; check who owns the folder and its mode",
    "SQLITE_IOERR": "the disk or share reports an error; check it, and try again",
    "SQLITE_NOMEM": "no memory is left; close some programs, and try again",
    "SQLITE_PERM": "permission denied; check who owns the folder and its mode",
    "SQLITE_PROTOCOL": "too many processes open it at once; try again",
}
"""SQLite's error codes, by how their names begin, in words."""


def connect(path: Path, *, durable: bool, create: bool) -> tuple[sqlite3.Connection, int]:
    """Open the index's file.

    Args:
        path: The file.
        durable: Whether a transaction reaches the disk before it returns.
        create: Begin an empty index where there is none.

    Returns:
        The connection, and the inode of what it reads and writes.

    Raises:
        DamagedIndexError: There is no index of this version.
        BackendError: The file cannot be used.
    """
    with _in_place(path):
        connection = _connect(path, durable=durable, create=create)
        return connection, path.stat().st_ino


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[None]:
    """Keep every process from opening the index while the block puts another in its place.

    An index is several files of fixed names, which SQLite opens one after the other: who opened the database
    of one and the log of the other would read and write a mixture.

    Raises:
        OSError: The lock's file cannot be made.
    """
    with locked(path.with_name(LOCK)):
        yield


@contextlib.contextmanager
def _in_place(path: Path) -> Iterator[None]:
    """Hold the index in its place while it is opened; in a folder that may only be read, nobody moves it."""
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(OSError):
            stack.enter_context(locked(path.with_name(LOCK), os.O_RDONLY, fcntl.LOCK_SH))
        yield


@contextlib.contextmanager
def locked(path: Path, access: int = os.O_RDWR, lock: int = fcntl.LOCK_EX) -> Iterator[None]:
    """Hold a lock on the file at `path`, which is made if need be, alone unless `lock` says otherwise."""
    descriptor = os.open(path, access | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, lock)
        yield
    finally:
        fcntl.flock(descriptor, fcntl.LOCK_UN)  # a child forked meanwhile has the descriptor too
        os.close(descriptor)


def _connect(path: Path, *, durable: bool, create: bool) -> sqlite3.Connection:
    if create and not path.exists():  # SQLite would make the file with the umask's mode
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600))
    if not path.exists():
        raise DamagedIndexError(f"{path} is not there")
    with Mapped(path):
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
    if create:  # says nothing to an index that has tables
        connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
    if connection.execute("PRAGMA journal_mode").fetchone() != ("wal",):
        _patiently(connection, "PRAGMA journal_mode = WAL")
    for pragma, value in _PRAGMAS.items():
        connection.execute(f"PRAGMA {pragma} = {value}")
    connection.execute(f"PRAGMA synchronous = {'FULL' if durable else 'NORMAL'}")
    if durable:
        connection.execute(
            "PRAGMA fullfsync = ON"
        )  # macOS: past the disk's own cache; elsewhere it is no setting
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


class Mapped:
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
        if error is None:
            return
        if isinstance(error, sqlite3.Error | UnicodeDecodeError):
            translated = _translated(error, self._path)
        elif isinstance(error, DamagedIndexError):
            translated = error
        else:
            return
        if self._distrust is not None and isinstance(translated, DamagedIndexError):
            self._distrust()
        if translated is not error:
            raise translated from error


def _is_full(path: Path) -> bool:
    status = os.statvfs(path.parent)
    return status.f_bavail * status.f_frsize < _ROOM


def _translated(error: sqlite3.Error | UnicodeDecodeError, path: Path) -> CasstoreError:
    name = getattr(error, "sqlite_errorname", "")
    no_text = isinstance(error, UnicodeDecodeError)  # SQLite's message quotes a damaged schema
    if no_text or name.startswith(_DAMAGED) or (name == "SQLITE_CANTOPEN" and not path.exists()):
        return DamagedIndexError(f"{path} is damaged; the next command that uses it rebuilds it")
    if name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
        held = f"{path} was locked for {BUSY_TIMEOUT:.0f} s by another process"
        return BackendError(f"{held}; try again when it is done", transient=True)
    if name == "SQLITE_FULL" or (name.startswith("SQLITE_IOERR") and _is_full(path)):
        return BackendError(
            f"cannot use {path}: the disk is full; free some space, by other means than casstore"
        )
    if name.startswith("SQLITE_READONLY"):
        return BackendError(
            f"cannot use {path}, which may only be read: SQLite writes beside it even to read, so make the"
            " store's folder writable, or use a copy of the store"
        )
    known = next((told for start, told in _TROUBLE.items() if name.startswith(start)), None)
    told = known or f'SQLite says "{error}": remove the file while no process uses it, and it is rebuilt'
    return BackendError(f"cannot use {path}: {told}")
