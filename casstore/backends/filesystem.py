"""Bytes by name on any fsspec filesystem.  Floor: backends.

Stores whose puts are atomic are written in place; on others content goes to a hidden temporary name and is
renamed; fsspec's own local filesystem is written by `casstore.backends.atomic`. What a driver raises becomes
an error of ours at one seam. It knows nothing of S3, which is a subclass.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import datetime
from functools import partial
from pathlib import Path
from urllib.parse import SplitResult

from fsspec import AbstractFileSystem, Callback, get_filesystem_class
from fsspec.implementations.local import LocalFileSystem

from casstore.backends import atomic
from casstore.backends.base import Info
from casstore.backends.counts import RequestCounter
from casstore.backends.mapping import from_driver_error, short_range
from casstore.backends.names import check_folder, check_name, check_range, check_target, is_listed
from casstore.backends.progress import Progress, watched
from casstore.backends.traffic import drawn, ours
from casstore.errors import CasstoreError, ConfigError

Connect = Callable[[], AbstractFileSystem]

_ATOMIC_PUTS = frozenset({"abfs", "abfss", "adl", "az", "gcs", "gs", "memory", "oci", "oss", "tos"})
"""Schemes whose puts show all of the content or nothing: object stores, and a dictionary."""

_MODIFIED = ("mtime", "LastModified", "last_modified", "updated", "created")
"""What drivers call the time of the last write, the surest first."""

_exclusive = threading.Lock()
"""Held by exclusive writes where the filesystem itself cannot refuse to replace."""


def _renew_lock() -> None:
    """A forked child must not wait for a thread that only its parent has."""
    global _exclusive  # noqa: PLW0603 - locks cannot be reset in place
    _exclusive = threading.Lock()


os.register_at_fork(after_in_child=_renew_lock)

_inherited: list[AbstractFileSystem] = []
"""Parents' filesystems, kept from being collected in a child: closing them would touch shared descriptors."""


class FsspecBackend:
    """Bytes by name below one path of an fsspec filesystem.

    Args:
        connect: Makes the filesystem; called once in every process, on first use.
        root: The path in it.
        url: What `Backend.url` says; without credentials.
        atomic_put: Whether puts are atomic, so that no temporary name is needed.
        durable: Local writes return only when they are on the disk.
    """

    part_size: int | None = None

    def __init__(
        self, connect: Connect, root: str, *, url: str, atomic_put: bool, durable: bool = False
    ) -> None:
        self._connect = connect
        self._prefix = root.rstrip("/") + "/"
        self._url = url
        self._atomic_put = atomic_put
        self._durable = durable
        self._filesystems: dict[int, AbstractFileSystem] = {}
        self._counter = RequestCounter()

    @property
    def url(self) -> str:
        """Where this is."""
        return self._url

    def now(self) -> int:
        """Return this machine's time; see `Backend.now`."""
        return time.time_ns() // 1_000_000

    def requests(self) -> Mapping[str, int]:
        """Return requests so far by verb."""
        return self._counter.snapshot()

    def read(self, name: str) -> bytes:
        """Return all bytes of `name`; see `Backend.read`."""
        path = self._path(name)
        self._count("GET")
        with self._seam("read", name):
            content: bytes = self._filesystem().cat_file(path)
        return content

    def read_range(self, name: str, start: int, length: int) -> bytes:
        """Return exactly `length` bytes from `start`; see `Backend.read_range`."""
        path = self._path(name)
        check_range(start, length)
        if not length:
            return b""  # HTTP has no way to ask for nothing
        self._count("GET")
        with self._seam("read", name):
            content: bytes = self._filesystem().cat_file(path, start=start, end=start + length)
        if len(content) != length:
            raise short_range(name, self._url, start, length, len(content))
        return content

    def download(self, name: str, path: Path) -> None:
        """Copy `name` into the local file `path`; see `Backend.download`."""
        source = self._path(name)
        check_target(path)
        self._count("GET")
        with self._seam("read", name):
            self._get_file(self._filesystem(), source, path)

    def write(self, name: str, content: bytes, *, exclusive: bool = False) -> None:
        """Make `name` hold `content`; see `Backend.write`."""
        path = self._path(name)
        self._count("PUT")
        with self._seam("write", name):
            filesystem = self._filesystem()
            if isinstance(filesystem, LocalFileSystem):
                self._write_local(path, content, exclusive=exclusive)
            elif self._atomic_put:
                self._put(filesystem, path, content, exclusive=exclusive)
            else:
                temporary = atomic.temporary_beside(path)
                with _removed_on_failure(filesystem, temporary):
                    _in_folder(filesystem, path, lambda: filesystem.pipe_file(temporary, content))
                    _rename(filesystem, temporary, path, exclusive=exclusive)

    def upload(self, path: Path, name: str, *, consume: bool = False) -> None:
        """Make `name` hold the content of `path`; see `Backend.upload`."""
        target = self._path(name)
        self._count("PUT")
        with self._seam("write", name):
            filesystem = self._filesystem()
            if isinstance(filesystem, LocalFileSystem):
                self._upload_local(path, target, consume=consume)
            elif self._atomic_put:
                self._put_file(filesystem, path, target)
            else:
                temporary = atomic.temporary_beside(target)
                with _removed_on_failure(filesystem, temporary):
                    _in_folder(filesystem, target, lambda: filesystem.put_file(str(path), temporary))
                    _rename(filesystem, temporary, target, exclusive=False)

    def delete(self, name: str) -> None:
        """Remove `name`; see `Backend.delete`."""
        path = self._path(name)
        self._count("DELETE")
        with self._seam("delete", name):
            self._remove(self._filesystem(), path)

    def list(self, folder: str) -> Iterator[Info]:
        """Yield every name below `folder`; see `Backend.list`."""
        path = self._prefix + check_folder(folder)
        self._count("LIST")
        with self._translated("list", folder):
            for found, size, modified in drawn(partial(self._found, path.rstrip("/"))):
                name = found.removeprefix(self._prefix)
                if name != found and is_listed(name):
                    yield Info(name, size, modified)

    def close(self) -> None:
        """Close this process's connections."""
        filesystem = self._filesystems.pop(os.getpid(), None)
        if filesystem is not None:
            self._disconnect(filesystem)

    def _path(self, name: str) -> str:
        return self._prefix + check_name(name)

    def _filesystem(self) -> AbstractFileSystem:
        """Return this process's filesystem. Of two threads that make one, the first one's is used by both."""
        process = os.getpid()
        filesystem = self._filesystems.get(process)
        if filesystem is None:
            _inherited.extend(self._filesystems.values())
            filesystem = self._filesystems.setdefault(process, self._connect())
        return filesystem

    def _found(self, path: str) -> Iterable[tuple[str, int, int | None]]:
        return self._find(self._filesystem(), path)

    @contextmanager
    def _seam(self, action: str, name: str) -> Iterator[None]:
        """Do what `_translated` does, and mark what is sent as casstore's own."""
        with self._translated(action, name), ours():
            yield

    @contextmanager
    def _translated(self, action: str, name: str) -> Iterator[None]:
        """Turn what a driver raises into our errors: any type, since each driver has types of its own."""
        try:
            yield
        except CasstoreError:
            raise
        except Exception as error:
            raise self._translate(error, action, name) from error

    # What a subclass may do better.

    def _count(self, verb: str) -> None:
        self._counter.add(verb)

    def _translate(self, error: Exception, action: str, name: str) -> CasstoreError:
        return from_driver_error(error, action, name, self._url)

    def _disconnect(self, filesystem: AbstractFileSystem) -> None:
        """Close what `filesystem` holds; most hold nothing."""

    def _get_file(self, filesystem: AbstractFileSystem, path: str, target: Path) -> None:
        progress = watched()
        told = {} if progress is None else {"callback": _Told(progress)}
        filesystem.get_file(path, str(target), **told)

    def _put(self, filesystem: AbstractFileSystem, path: str, content: bytes, *, exclusive: bool) -> None:
        if not exclusive:
            filesystem.pipe_file(path, content)
            return
        with _exclusive:
            filesystem.pipe_file(path, content, mode="create")

    def _put_file(self, filesystem: AbstractFileSystem, path: Path, target: str) -> None:
        filesystem.put_file(str(path), target)

    def _remove(self, filesystem: AbstractFileSystem, path: str) -> None:
        with suppress(FileNotFoundError):
            filesystem.rm_file(path)

    def _find(self, filesystem: AbstractFileSystem, path: str) -> Iterable[tuple[str, int, int | None]]:
        filesystem.invalidate_cache()
        with suppress(FileNotFoundError):
            found = filesystem.find(path, detail=True)
            # Asked about a file, find returns that file: it is not below itself.
            return [(each, info["size"], _modified(info)) for each, info in found.items() if each != path]
        return ()

    # Local files.

    def _write_local(self, path: str, content: bytes, *, exclusive: bool) -> None:
        modes = atomic.modes_below(self._prefix)
        atomic.make_folder(path.rpartition("/")[0], modes, durable=self._durable)
        atomic.write_file(path, content, modes, durable=self._durable, exclusive=exclusive)

    def _upload_local(self, path: Path, target: str, *, consume: bool) -> None:
        place = atomic.move_file if consume else atomic.copy_file
        modes = atomic.modes_below(self._prefix)
        atomic.make_folder(target.rpartition("/")[0], modes, durable=self._durable)
        place(str(path), target, modes, durable=self._durable)


class _Told(Callback):  # type: ignore[misc] # fsspec has no types
    """What a driver tells of the pieces of one file as they come."""

    def __init__(self, progress: Progress) -> None:
        super().__init__()
        self._progress = progress
        self._position = 0

    def relative_update(self, inc: int = 1) -> None:
        """Note that a piece has come."""
        self._position += inc
        self._progress.reach(self._position)


class MemoryBackend(FsspecBackend):
    """Bytes by name in this process's memory, in whole pieces: fsspec's memory files share one position."""

    def _get_file(self, filesystem: AbstractFileSystem, path: str, target: Path) -> None:
        target.write_bytes(filesystem.cat_file(path))

    def _put_file(self, filesystem: AbstractFileSystem, path: Path, target: str) -> None:
        filesystem.pipe_file(target, path.read_bytes())


def open_fsspec(parts: SplitResult, *, durable: bool = False) -> FsspecBackend:
    """Open the store at the URL `parts` with fsspec's driver for its scheme.

    Raises:
        ConfigError: fsspec knows no such scheme, or its driver is not installed.
    """
    kind = _driver(parts.scheme)
    url = parts.geturl()
    options = kind._get_kwargs_from_urls(url)  # noqa: SLF001 - what fsspec.core.url_to_fs does itself
    backend = MemoryBackend if parts.scheme == "memory" else FsspecBackend
    return backend(
        lambda: kind(**options, skip_instance_cache=True),
        kind._strip_protocol(url),  # noqa: SLF001 - likewise
        url=parts._replace(query="", fragment="").geturl(),
        atomic_put=parts.scheme in _ATOMIC_PUTS,
        durable=durable,
    )


def _driver(scheme: str) -> type[AbstractFileSystem]:
    try:
        kind: type[AbstractFileSystem] = get_filesystem_class(scheme)
    except ValueError as error:
        raise ConfigError(
            f"unknown kind of store: {scheme}://; known are a path, file://, s3://, memory:// and what an"
            " installed fsspec driver opens"
        ) from error
    except ImportError as error:
        advice = f"install {error.name}" if error.name else str(error)  # fsspec's own: "Install gcsfs to ..."
        raise ConfigError(f"{scheme}:// needs a package that is not installed: {advice}") from error
    return kind


def _modified(info: Mapping[str, object]) -> int | None:
    """Return when a file was last written, in milliseconds, where its driver's listing tells."""
    for field in _MODIFIED:
        match info.get(field):
            case datetime() as when:
                return int(when.timestamp() * 1000)
            case int() | float() as seconds:
                return int(seconds * 1000)
    return None


def _in_folder(filesystem: AbstractFileSystem, path: str, write: Callable[[], None]) -> None:
    """Run `write`; where it finds no folder, make the folder of `path` and run it again."""
    try:
        write()
    except FileNotFoundError:
        filesystem.makedirs(path.rpartition("/")[0], exist_ok=True)
        write()


def _rename(filesystem: AbstractFileSystem, temporary: str, path: str, *, exclusive: bool) -> None:
    if not exclusive:
        filesystem.mv(temporary, path)
        return
    # The best there is: exact within this process, a short race with others.
    with _exclusive:
        filesystem.invalidate_cache()
        if filesystem.exists(path):
            raise FileExistsError(path)
        filesystem.mv(temporary, path)


@contextmanager
def _removed_on_failure(filesystem: AbstractFileSystem, temporary: str) -> Iterator[None]:
    try:
        yield
    except BaseException:
        with suppress(OSError):
            filesystem.rm_file(temporary)
        raise
