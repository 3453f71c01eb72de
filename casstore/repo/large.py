"""Large objects from a remote: in groups of frames, taken up where another try ended.  Floor: repo.

The location of a large object tells how long each of its frames is and what it holds. So every frame is
verified as it comes, and what a killed process has brought is found again by reading it, with nothing noted
anywhere. A location is believed in nothing: where it does not fit the file, the file is fetched whole, and
either way the whole is examined at the end. Neither the index nor the place of the object is known here.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self

from casstore.backends.mapping import from_os_error
from casstore.backends.progress import watched
from casstore.backends.workers import run_all
from casstore.digest import Digest, digest_of
from casstore.errors import CasstoreError, IntegrityError, NotFoundError
from casstore.store.codec import FRAME_SIZE, SEAL_SIZE, STORED_MAX, decompress
from casstore.store.sealed import Frames, Stored, examine

if TYPE_CHECKING:
    from casstore.store.objects import ObjectStore

GROUPS_AT_ONCE = 4
"""Groups under way in one process. Each is held twice while it arrives: 160 MiB, where one has 20 MiB."""

PARTIAL = ".partial"
"""How the names of spool files end that the next try takes up."""

_slots = threading.BoundedSemaphore(GROUPS_AT_ONCE)


def _renew_slots() -> None:
    """A forked child must not wait for a thread that only its parent has."""
    global _slots  # noqa: PLW0603 - semaphores cannot be reset in place
    _slots = threading.BoundedSemaphore(GROUPS_AT_ONCE)


os.register_at_fork(after_in_child=_renew_slots)


@dataclass(frozen=True, slots=True)
class Group:
    """Frames that are fetched by one request; the last group has the seal too.

    Attributes:
        first: Its first frame.
        end: The frame behind its last.
        start: Where it begins in the file.
        length: Stored bytes.
    """

    first: int
    end: int
    start: int
    length: int


def groups_of(known: Stored, group_size: int | None) -> tuple[Group, ...]:
    """Return the groups in which an object is fetched; none where it is fetched whole.

    Args:
        known: What is believed of it.
        group_size: Stored bytes at which a group ends; objects of less than twice as many are fetched whole.
    """
    if group_size is None or known.frames is None or known.stored < 2 * group_size:
        return ()
    return tuple(_grouped(known.frames, group_size)) if _is_plausible(known, known.frames) else ()


def count_fetches(known: Stored, group_size: int | None) -> int:
    """Return how many requests the fetching of an object takes."""
    return len(groups_of(known, group_size)) or 1


def _is_plausible(known: Stored, frames: Frames) -> bool:
    """Return whether these could be the frames of this object, so that none is larger than any frame is."""
    return (
        len(frames.stored) == -(-known.size // FRAME_SIZE)
        and all(0 < length <= STORED_MAX for length in frames.stored)
        and sum(frames.stored) + SEAL_SIZE == known.stored
    )


def _grouped(frames: Frames, group_size: int) -> Iterator[Group]:
    first = start = length = 0
    last = len(frames.stored) - 1
    for i, stored in enumerate(frames.stored):
        length += stored + (SEAL_SIZE if i == last else 0)
        if length >= group_size or i == last:
            yield Group(first, i + 1, start, length)
            first, start, length = i + 1, start + length, 0


@contextlib.contextmanager
def fetched(source: ObjectStore, known: Stored, spool: Path) -> Iterator[tuple[Stored, Path]]:
    """Bring an object's file from `source` into a spool file, verified, to be moved from there.

    Args:
        source: The objects of a remote.
        known: What is believed of the object.
        spool: The folder for unfinished files.

    Yields:
        What the file truly holds, frames included, and the file.

    Raises:
        NotFoundError: It is not there.
        IntegrityError: It is not what it should be.
        BackendError: The remote or the disk failed; what was brought is there for the next try.
    """
    groups = groups_of(known, source.backend.part_size)
    if groups and known.frames is not None:
        with _Spool(spool, known) as file:
            found = file.fill(source, known.frames, groups)
            if found is not None:
                yield found, file.path
                return
    with source.spooled() as path:
        yield source.fetch(known, path), path


class _Spool:
    """The spool file of one object: the one that lasts, or where somebody is at work on that, one of our own.

    Args:
        folder: Where it is.
        known: What is believed of the object.
    """

    def __init__(self, folder: Path, known: Stored) -> None:
        self._known = known
        self._lasts = True
        self.path = folder / f"{known.digest}{PARTIAL}"

    def __enter__(self) -> Self:
        try:
            self._descriptor = self._open()
            if os.fstat(self._descriptor).st_size > self._known.stored:  # begun for another location
                os.ftruncate(self._descriptor, self._known.stored)
        except OSError as error:
            raise self._failed(error) from error
        return self

    def __exit__(self, *_: object) -> None:
        try:
            if not self._lasts and _is_at(self._descriptor, self.path):
                self.path.unlink()
        finally:
            os.close(self._descriptor)  # and with it goes the lock

    def fill(self, source: ObjectStore, frames: Frames, groups: tuple[Group, ...]) -> Stored | None:
        """Fetch what is not here, and examine the whole; return None where it is not as `frames` say."""
        progress = watched()

        def work(group: Group) -> None:
            with _slots:
                if not self._holds(frames, group):
                    self._fetch(source, frames, group)
            if progress is not None:
                progress.add(group.length)

        try:
            run_all(work, groups, GROUPS_AT_ONCE)
            with _slots:  # it holds a frame twice, too
                found = examine(self.path, self._known)
        except IntegrityError:
            self._lasts = False
            return None
        except NotFoundError:
            self._lasts = False
            raise
        self._lasts = False  # it is moved to where it belongs
        return found

    def _open(self) -> int:
        descriptor = _locked(self.path)
        if descriptor is None:
            self._lasts = False
            self.path = self.path.with_name(f"{os.urandom(12).hex()}.tmp")
            descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        return descriptor

    def _holds(self, frames: Frames, group: Group) -> bool:
        """Return whether an earlier try has brought a group."""
        try:
            position = group.start
            for i in range(group.first, group.end):
                _check(os.pread(self._descriptor, frames.stored[i], position), frames.digests[i])
                position += frames.stored[i]
            return os.fstat(self._descriptor).st_size >= group.start + group.length
        except IntegrityError:
            return False
        except OSError as error:
            raise self._failed(error) from error

    def _fetch(self, source: ObjectStore, frames: Frames, group: Group) -> None:
        try:
            content = self._read(source, frames, group)
        except IntegrityError:  # damaged on the way, perhaps
            content = self._read(source, frames, group)
        try:
            rest, position = memoryview(content), group.start
            while rest:
                written = os.pwrite(self._descriptor, rest, position)
                rest, position = rest[written:], position + written
        except OSError as error:
            raise self._failed(error) from error

    def _read(self, source: ObjectStore, frames: Frames, group: Group) -> bytes:
        """Fetch a group, each of its frames verified."""
        name = source.name(self._known.digest)
        content = source.backend.read_range(name, group.start, group.length)
        view, position = memoryview(content), 0
        for i in range(group.first, group.end):
            _check(view[position : position + frames.stored[i]], frames.digests[i])
            position += frames.stored[i]
        return content

    def _failed(self, error: OSError) -> CasstoreError:
        """Return the error for a disk that failed or is full; then nothing stays on it."""
        self._lasts = False
        return from_os_error(error, "write", self.path.name, str(self.path.parent))


def _check(frame: bytes | memoryview, digest: Digest) -> None:
    if digest_of(decompress(frame)) != digest:
        raise IntegrityError("a frame does not fit its digest")


def _locked(path: Path) -> int | None:
    """Open a file, made where there is none, for this thread alone; None where it cannot be."""
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:  # somebody has it, or the file system knows no locks
            os.close(descriptor)
            return None
        if _is_at(descriptor, path):
            os.utime(descriptor)  # nobody takes it for a dead process's any more
            return descriptor
        os.close(descriptor)  # whoever had it has moved it into its place


def _is_at(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False
