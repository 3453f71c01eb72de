"""The journal: records that no segment holds yet, so that a lost index loses no entry.  Floor: catalog.

A folder of append-only files, one a process. A line is the CRC-32 of a record in eight hex digits, a space
and the record. A process holds an exclusive `flock` on its file while it lives, so the files that can be
locked are those whose process is gone. A torn last line, left by a crash, is passed over: its `append` never
returned. A file whose process closed it in order is renamed ``.done``: the index has all of its records.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import threading
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from casstore.backends.atomic import sync, sync_folder
from casstore.catalog.records import Record, decode_record, encode_record
from casstore.errors import BackendError, FormatError

SUFFIX = ".log"
DONE_SUFFIX = ".done"
_CHECKSUM_DIGITS = 8
_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC


@dataclass(frozen=True, slots=True)
class Replayed:
    """What a journal held.

    Attributes:
        records: The records that could be read, in the order they were written.
        damaged: Lines that could not.
    """

    records: tuple[Record, ...]
    damaged: int


class Claimed:
    """Journal files whose process is gone or has moved on, locked until they are discarded or released."""

    def __init__(self) -> None:
        self._open: dict[Path, int] = {}

    @property
    def paths(self) -> list[Path]:
        """The files, in no order that matters."""
        return list(self._open)

    @property
    def unfinished(self) -> list[Path]:
        """Those that were not closed in order, so that the index may lack some of their records."""
        return [path for path in self._open if path.suffix == SUFFIX]

    def add(self, path: Path) -> None:
        """Claim `path` if no living process holds it."""
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:  # another process discarded it
            return
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(descriptor)
            return
        self._open[path] = descriptor

    def discard(self) -> None:
        """Remove the files: their records stand in a segment now."""
        for path in self._open:
            path.unlink(missing_ok=True)
        self.release()

    def release(self) -> None:
        """Leave the files as they are."""
        for descriptor in self._open.values():
            os.close(descriptor)
        self._open.clear()


class Journal:
    """Appends to this process's file; thread-safe, and a forked child begins a file of its own.

    Args:
        folder: Where the files are.
        durable: Whether an append reaches the disk before it returns.
    """

    def __init__(self, folder: Path, *, durable: bool) -> None:
        self._folder = folder
        self._durable = durable
        self._lock = threading.Lock()
        self._path: Path | None = None
        self._descriptor = -1
        self._owner = 0
        self._torn = False

    def append(self, records: Iterable[Record]) -> None:
        """Write records to the journal.

        Raises:
            BackendError: The disk is full, or cannot be written.
        """
        lines = b"".join(_line(record) for record in records)
        with self._lock:
            try:
                self._write(lines)
            except OSError as error:
                self._torn = True
                raise BackendError(
                    f"cannot write {self._folder}: {error.strerror}; free some space"
                ) from error

    @contextlib.contextmanager
    def undone_on_failure(self) -> Iterator[None]:
        """Take back what is appended in a block that fails: nobody was told that it is stored.

        The caller sees to it that nobody else in this process appends meanwhile.
        """
        owner, length = self._owner, self._length()
        try:
            yield
        except (Exception, KeyboardInterrupt):
            with self._lock, contextlib.suppress(OSError):
                if self._owner == os.getpid():
                    os.ftruncate(self._descriptor, length if self._owner == owner else 0)
            raise

    def finish(self) -> None:
        """Leave this process's file, all of whose records the index has; the next append begins another."""
        with self._lock:
            if self._path is not None and self._owner == os.getpid():
                self._path.rename(self._path.with_suffix(DONE_SUFFIX))
            self._leave()

    def renew_lock(self) -> None:
        """Begin with a free lock, in a forked child."""
        self._lock = threading.Lock()

    def claim(self) -> Claimed:
        """Claim every file that no living process writes to."""
        claimed = Claimed()
        for path in self.paths():
            claimed.add(path)
        return claimed

    def paths(self) -> list[Path]:
        """Return the files of all processes."""
        return sorted([*self._folder.glob(f"*{SUFFIX}"), *self._folder.glob(f"*{DONE_SUFFIX}")])

    def size(self) -> int:
        """Return the bytes of all files."""
        total = 0
        for path in self.paths():
            with contextlib.suppress(FileNotFoundError):
                total += path.stat().st_size
        return total

    def _length(self) -> int:
        return os.fstat(self._descriptor).st_size if self._owner == os.getpid() else 0

    def _write(self, lines: bytes) -> None:
        if self._owner != os.getpid():
            self._begin()
        if self._torn:  # what follows a torn line must not become part of it
            lines = b"\n" + lines
        written = os.write(self._descriptor, lines)
        if written != len(lines):
            raise OSError(0, "the disk is full")
        if self._durable:
            sync(self._descriptor)
        self._torn = False

    def _begin(self) -> None:
        self._leave()
        self._folder.mkdir(mode=0o700, exist_ok=True)
        while self._descriptor < 0:
            path = self._folder / f"{os.getpid()}-{os.urandom(6).hex()}{SUFFIX}"
            descriptor = os.open(path, _FLAGS, 0o600)
            if _is_ours(descriptor):
                self._path, self._descriptor, self._owner = path, descriptor, os.getpid()
            else:
                os.close(descriptor)
        if self._durable:
            sync_folder(str(self._folder))

    def _leave(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
        self._path, self._descriptor, self._owner, self._torn = None, -1, 0, False


def _is_ours(descriptor: int) -> bool:
    """Lock a new file, unless another process claimed it first; to wait for that one could take long."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return os.fstat(descriptor).st_nlink > 0


def replay(paths: Iterable[Path]) -> Replayed:
    """Read the records of journal files."""
    records: list[Record] = []
    damaged = 0
    for path in paths:
        for line in _lines(path):
            try:
                records.append(_record(line))
            except FormatError:
                damaged += 1
    return Replayed(tuple(records), damaged)


def _lines(path: Path) -> Iterator[bytes]:
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return
    *lines, torn = content.split(b"\n")
    yield from (line for line in lines if line)
    if torn:
        yield torn


def _line(record: Record) -> bytes:
    text = encode_record(record)
    return b"%08x %b\n" % (zlib.crc32(text), text)


def _record(line: bytes) -> Record:
    checksum, _, text = line.partition(b" ")
    if len(checksum) != _CHECKSUM_DIGITS or checksum != b"%08x" % zlib.crc32(text):
        raise FormatError("a damaged line in the journal")
    return decode_record(text)
