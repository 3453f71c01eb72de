"""Atomic writes and the rule for modes on local disks.  Floor: backends.

Content goes to a hidden temporary file in the folder of its final name and gets that name by one rename, or
by one link where the name must be new. It raises plain OSError and knows neither names nor error trees.

**The rule for modes**: a root that does not exist is made 0700 and its files 0600. A root that exists says
with its own mode bits who else may read or write, and everything made below follows it: a team shares a
folder by ``chmod g+rwxs``. The umask never decides.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat
from dataclasses import dataclass

COPY_CHUNK = 1024 * 1024
"""Bytes held in memory while a file is copied."""

_NO_LINKS = frozenset({errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK})
"""How file systems without hard links (FAT, some network shares) refuse one; on macOS two of them differ."""

_FULL_SYNC: int | None = getattr(fcntl, "F_FULLFSYNC", None)
"""The command of macOS that empties the disk's own cache, which its fsync does not; see fsync(2) there."""


@dataclass(frozen=True, slots=True)
class Modes:
    """Permission bits for what is made below one root."""

    file: int = 0o600
    folder: int = 0o700


PRIVATE = Modes()


def modes_below(root: str) -> Modes:
    """Return the modes for what is made below `root`, by the rule above."""
    try:
        granted = stat.S_IMODE(os.stat(root).st_mode)
    except FileNotFoundError:
        return PRIVATE
    return Modes(file=granted & 0o066 | 0o600, folder=granted & 0o2077 | 0o700)


def make_folder(path: str, modes: Modes, *, durable: bool = False) -> None:
    """Make the folder `path` and its missing parents; one that exists stays as it is.

    Raises:
        OSError: The folder cannot be made.
    """
    missing = []
    while not os.path.isdir(path):
        missing.append(path)
        parent = os.path.dirname(path)
        if parent == path:
            break
        path = parent
    for folder in reversed(missing):
        _make_one(folder, modes, durable=durable)


def _make_one(path: str, modes: Modes, *, durable: bool) -> None:
    try:
        os.mkdir(path, modes.folder)
    except FileExistsError:
        if not os.path.isdir(path):
            raise
        return  # another process was faster
    _grant(path, modes.folder)
    if durable:
        sync_folder(os.path.dirname(path))


def write_file(
    path: str, content: bytes, modes: Modes = PRIVATE, *, durable: bool = False, exclusive: bool = False
) -> None:
    """Make the file `path` hold `content`, all or nothing. Its folder must exist.

    Args:
        path: The final path.
        content: All bytes.
        modes: Whose file mode it gets.
        durable: Return only when file and name are on the disk.
        exclusive: Refuse to replace; one of several racing writers succeeds.

    Raises:
        FileExistsError: `exclusive`, and the path is taken.
        OSError: It cannot be written; `path` is as it was.
    """
    temporary = temporary_beside(path)
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, modes.file)
    try:
        try:
            _grant(descriptor, modes.file)
            write_all(descriptor, content)
            if durable:
                sync(descriptor)
        finally:
            os.close(descriptor)
        publish(temporary, path, durable=durable, exclusive=exclusive)
    except BaseException:
        remove(temporary)
        raise


def copy_file(source: str, path: str, modes: Modes = PRIVATE, *, durable: bool = False) -> None:
    """Make the file `path` hold the content of the file `source`, all or nothing, in bounded memory.

    Raises:
        OSError: It cannot be written; `path` is as it was.
    """
    temporary = temporary_beside(path)
    try:
        fill_file(source, temporary, modes, durable=durable)
        publish(temporary, path, durable=durable)
    except BaseException:
        remove(temporary)
        raise


def fill_file(source: str, path: str, modes: Modes = PRIVATE, *, durable: bool = False) -> None:
    """Copy the file `source` over the file `path` in bounded memory, not atomically.

    Raises:
        OSError: Either cannot be opened, read or written.
    """
    reader = os.open(source, os.O_RDONLY | os.O_CLOEXEC)
    try:
        writer = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, modes.file)
        try:
            _grant(writer, modes.file)
            while chunk := os.read(reader, COPY_CHUNK):
                write_all(writer, chunk)
            if durable:
                sync(writer)
        finally:
            os.close(writer)
    finally:
        os.close(reader)


def move_file(source: str, path: str, modes: Modes = PRIVATE, *, durable: bool = False) -> None:
    """Rename `source` to `path` with the mode of `modes`; copy it where it is on another file system.

    Raises:
        OSError: It cannot be moved; `path` is as it was.
    """
    try:
        os.chmod(source, modes.file)
        if durable:
            sync_file(source)
        publish(source, path, durable=durable)
    except OSError as error:
        if error.errno not in {errno.EXDEV, errno.EPERM}:
            raise
        copy_file(source, path, modes, durable=durable)


def publish(temporary: str, path: str, *, durable: bool = False, exclusive: bool = False) -> None:
    """Give the finished file `temporary` its final name `path`.

    Raises:
        FileExistsError: `exclusive`, and the path is taken; `temporary` stays.
        OSError: The rename failed; `temporary` stays.
    """
    if exclusive:
        _publish_new(temporary, path)
    else:
        os.replace(temporary, path)
    if durable:
        sync_folder(os.path.dirname(path))


def _publish_new(temporary: str, path: str) -> None:
    try:
        os.link(temporary, path)
    except FileExistsError:
        # Over NFS a link may be made and its answer lost; the second name tells (see open(2), O_EXCL).
        if not os.path.exists(path) or not os.path.samefile(temporary, path):
            raise
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        _rename_new(temporary, path)
        return
    os.unlink(temporary)


def _rename_new(temporary: str, path: str) -> None:
    """Rename to a free name, one process at a time: every exclusive writer here holds the folder's lock."""
    folder = os.open(os.path.dirname(path), os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        if os.path.lexists(path):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), path)
        os.rename(temporary, path)
    finally:
        os.close(folder)


def _grant(made: str | int, mode: int) -> None:
    """Set the mode of what was just made, whatever the umask took away."""
    try:  # noqa: SIM105 — on the path of every put
        os.chmod(made, mode)
    except PermissionError:  # we own it: the file system has no modes (FAT, some shares), its mount decides
        pass


def temporary_beside(path: str) -> str:
    """Return a fresh hidden path in the folder of `path`; hidden names are never listed."""
    folder, _, name = path.rpartition("/")
    return f"{folder}/.{name[:128]}.{os.urandom(8).hex()}.tmp"


def is_temporary(name: str) -> bool:
    """Tell whether the file name `name` is one that `temporary_beside` makes."""
    return name.startswith(".") and name.endswith(".tmp")


def write_all(descriptor: int, content: bytes) -> None:
    """Write every byte of `content`; one call to the system may take only some.

    Raises:
        OSError: The disk is full, or failed.
    """
    written = os.write(descriptor, content)
    if written == len(content):
        return
    rest = memoryview(content)[written:]
    while rest:
        rest = rest[os.write(descriptor, rest) :]


def sync(descriptor: int) -> None:
    """Put an open file on the disk itself, not only into the disk's cache.

    Raises:
        OSError: The disk failed.
    """
    if _FULL_SYNC is not None:
        with contextlib.suppress(OSError):  # a network share has no such command
            fcntl.fcntl(descriptor, _FULL_SYNC)
            return
    os.fsync(descriptor)


def sync_folder(path: str) -> None:
    """Put the names in the folder `path` on the disk.

    Raises:
        OSError: The disk failed.
    """
    _sync(path, os.O_RDONLY | os.O_DIRECTORY)


def sync_file(path: str | os.PathLike[str]) -> None:
    """Put the content of the file `path` on the disk.

    Raises:
        OSError: The disk failed.
    """
    _sync(path, os.O_RDONLY)


def _sync(path: str | os.PathLike[str], flags: int) -> None:
    descriptor = os.open(path, flags | os.O_CLOEXEC)
    try:
        sync(descriptor)
    finally:
        os.close(descriptor)


def remove(path: str) -> None:
    """Remove the file `path` where it is there.

    Raises:
        OSError: It is there and cannot be removed.
    """
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)
