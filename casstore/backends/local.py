"""The fast lane: bytes by name in a local folder through plain system calls.  Floor: backends.

A read is open, fstat and one read of the known size; a write is one temporary file and one rename. Folders
are made when they turn out to be missing, never looked for. Files that are read in parts stay open, since
what reads one part of a pack soon reads another. It imports nothing heavy and no fsspec.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from casstore.backends import atomic
from casstore.backends.counts import RequestCounter
from casstore.backends.mapping import from_os_error, short_range
from casstore.backends.names import check_folder, check_name, check_range, check_target, is_listed
from casstore.config.location import file_url

if TYPE_CHECKING:
    from casstore.backends.base import Info

_READ = os.O_RDONLY | os.O_CLOEXEC

HELD_OPEN = 128
"""Files held open: the packs of a cache of 2 GiB."""


class LocalBackend:
    """Bytes by name below one local folder, which the first write makes.

    Args:
        root: The folder.
        durable: Writes return only when file and name are on the disk.
    """

    part_size: int | None = None

    def __init__(self, root: str | os.PathLike[str], *, durable: bool = False) -> None:
        self._root = os.path.abspath(os.fspath(root))
        self._prefix = self._root.rstrip("/") + "/"
        self._durable = durable
        self._modes: atomic.Modes | None = None
        self._counter = RequestCounter()
        self._held: dict[str, _Descriptor] = {}

    @property
    def url(self) -> str:
        """The root as a ``file://`` URL."""
        return file_url(self._root)

    def now(self) -> int:
        """Return this machine's time; see `Backend.now`."""
        return time.time_ns() // 1_000_000

    def requests(self) -> Mapping[str, int]:
        """Return operations so far by verb."""
        return self._counter.snapshot()

    def read(self, name: str) -> bytes:
        """Return all bytes of `name`; see `Backend.read`."""
        path = self._prefix + check_name(name)
        self._counter.add("GET")
        try:
            descriptor = os.open(path, _READ)
            try:
                size = os.fstat(descriptor).st_size
                return _read_exactly(descriptor, size)
            finally:
                os.close(descriptor)
        except OSError as error:
            raise from_os_error(error, "read", name, self.url) from error

    def read_range(self, name: str, start: int, length: int) -> bytes:
        """Return exactly `length` bytes from `start`; see `Backend.read_range`."""
        check_range(start, length)
        self._counter.add("GET")
        held = self._held.get(name) or self._hold(name)
        try:
            content = _pread(held.number, start, length)
        except OSError as error:
            raise from_os_error(error, "read", name, self.url) from error
        if len(content) != length:
            raise short_range(name, self.url, start, length, len(content))
        return content

    def download(self, name: str, path: Path) -> None:
        """Copy `name` into the local file `path`; see `Backend.download`."""
        source = self._prefix + check_name(name)
        check_target(path)
        self._counter.add("GET")
        try:
            atomic.fill_file(source, os.fspath(path))
        except OSError as error:
            raise from_os_error(error, "read", name, self.url) from error

    def write(self, name: str, content: bytes, *, exclusive: bool = False) -> None:
        """Make `name` hold `content`; see `Backend.write`."""
        path = self._prefix + check_name(name)
        self._held.pop(name, None)
        self._counter.add("PUT")
        modes = self._modes or self._find_modes()
        try:
            try:
                atomic.write_file(path, content, modes, durable=self._durable, exclusive=exclusive)
            except FileNotFoundError:
                atomic.make_folder(os.path.dirname(path), modes, durable=self._durable)
                atomic.write_file(path, content, modes, durable=self._durable, exclusive=exclusive)
        except OSError as error:
            raise from_os_error(error, "write", name, self.url) from error

    def upload(self, path: Path, name: str, *, consume: bool = False) -> None:
        """Copy the local file `path` to `name`, or rename it; see `Backend.upload`."""
        place = atomic.move_file if consume else atomic.copy_file
        source, target = os.fspath(path), self._prefix + check_name(name)
        self._held.pop(name, None)
        self._counter.add("PUT")
        modes = self._modes or self._find_modes()
        try:
            try:
                place(source, target, modes, durable=self._durable)
            except FileNotFoundError:
                atomic.make_folder(os.path.dirname(target), modes, durable=self._durable)
                place(source, target, modes, durable=self._durable)
        except OSError as error:
            raise from_os_error(error, "write", name, self.url) from error

    def delete(self, name: str) -> None:
        """Remove `name`; see `Backend.delete`."""
        path = self._prefix + check_name(name)
        self._held.pop(name, None)
        self._counter.add("DELETE")
        try:
            atomic.remove(path)
        except OSError as error:
            raise from_os_error(error, "delete", name, self.url) from error

    def list(self, folder: str) -> Iterator[Info]:
        """Yield every name below `folder`; see `Backend.list`."""
        check_folder(folder)
        self._counter.add("LIST")
        try:
            yield from self._walk(folder)
        except OSError as error:
            raise from_os_error(error, "list", folder, self.url) from error

    def close(self) -> None:
        """Close the files held open."""
        self._held.clear()

    def let_go(self, name: str) -> None:
        """Open a file anew when it is next read: another process may have replaced it."""
        self._held.pop(name, None)

    def _hold(self, name: str) -> _Descriptor:
        """Open a file, and hold it open in place of the one that was opened first."""
        try:
            held = _Descriptor(self._prefix + check_name(name))
        except OSError as error:
            raise from_os_error(error, "read", name, self.url) from error
        if len(self._held) >= HELD_OPEN:
            with suppress(KeyError, RuntimeError, StopIteration):  # another thread does the same
                del self._held[next(iter(self._held))]
        self._held[name] = held
        return held

    def _find_modes(self) -> atomic.Modes:
        self._modes = atomic.modes_below(self._root)
        return self._modes

    def _walk(self, folder: str) -> Iterator[Info]:
        from casstore.backends.base import Info  # a process that only hits lists nothing

        pending = [folder]
        while pending:
            inside = pending.pop()
            try:
                entries = os.scandir(self._prefix + inside)
            except (FileNotFoundError, NotADirectoryError):
                continue
            with entries:
                for entry in entries:
                    name = f"{inside}/{entry.name}" if inside else entry.name
                    if not is_listed(entry.name):
                        continue
                    if entry.is_dir(follow_symlinks=False):
                        pending.append(name)
                    elif (status := _status(entry)) is not None:
                        yield Info(name, status.st_size, status.st_mtime_ns // 1_000_000)


class _Descriptor:
    """An open file, closed when nobody reads it any more: a thread may be reading while another lets go."""

    __slots__ = ("number",)

    def __init__(self, path: str) -> None:
        self.number = -1
        self.number = os.open(path, _READ)

    def __del__(self) -> None:
        if self.number >= 0:
            os.close(self.number)


def _status(entry: os.DirEntry[str]) -> os.stat_result | None:
    """Return size and age of a regular file, None for what is none or was just removed."""
    try:
        return entry.stat() if entry.is_file(follow_symlinks=False) else None
    except FileNotFoundError:
        return None


def _read_exactly(descriptor: int, size: int) -> bytes:
    """Read to the end; the system may give less than `size` at once (2 GiB on Linux)."""
    content = os.read(descriptor, size)
    if len(content) == size:
        return content
    parts = [content]
    while chunk := os.read(descriptor, atomic.COPY_CHUNK):
        parts.append(chunk)
    return b"".join(parts)


def _pread(descriptor: int, start: int, length: int) -> bytes:
    content = os.pread(descriptor, length, start)
    while len(content) < length:
        more = os.pread(descriptor, length - len(content), start + len(content))
        if not more:
            break
        content += more
    return content
