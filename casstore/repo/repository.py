"""The repository: one local store and its remotes, as programs use them.  Floor: repo.

Reading and writing stand in `casstore.repo.content`, since a hit must load no more than it needs; what takes
time (sync, verify, evict, repack, rebuild) stands in modules that are loaded when they are first asked for.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import threading
import weakref
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from casstore.backends.local import LocalBackend
from casstore.config import Config, store_path
from casstore.config.mounts import check_local
from casstore.errors import CasstoreError, NotFoundError
from casstore.quiet import ignore
from casstore.repo.content import Content
from casstore.repo.local import GRACE, Local, open_local
from casstore.store.marker import ensure_marker, read_marker

if TYPE_CHECKING:
    from casstore.events import OnEvent
    from casstore.repo.evict import EvictReport
    from casstore.repo.gc import GcReport
    from casstore.repo.plan import Plan
    from casstore.repo.plan_repack import RepackPlan
    from casstore.repo.rebuild import RebuildReport
    from casstore.repo.repack import RepackReport
    from casstore.repo.sync import Report, Status
    from casstore.repo.verify import VerifyReport
    from casstore.store.marker import Marker

SEAL_AT = 16 * 1024 * 1024
"""Bytes of journal that are turned into a segment, which takes about a quarter of them."""


@dataclass(frozen=True, slots=True)
class Sizes:
    """What a store holds, in numbers; sizes in bytes.

    Attributes:
        entries: Entries, those whose object is elsewhere included.
        objects: Objects stored here.
        size: Their content.
        stored: The files they take, packs included with all that is in them.
        max_size: The cap on the files of objects that were not put by hand.
        kept_objects: Objects that were put by hand.
        kept_stored: What those take of the files.
        packs: Packs stored here.
        packs_stored: Their files.
    """

    entries: int
    objects: int
    size: int
    stored: int
    max_size: int
    kept_objects: int
    kept_stored: int
    packs: int
    packs_stored: int


class Repository(Content):
    """A local store with its remotes; thread-safe, usable after a fork, and a context manager.

    Use `Repository.open`. It pickles as its folder and settings, and is opened where it is unpickled.
    """

    def __init__(self, local: Local, config: Config, max_size: int) -> None:
        super().__init__(local, config, max_size)
        _OPEN.add(self)

    @classmethod
    def open(
        cls,
        path: str | Path | None = None,
        *,
        durable: bool | None = None,
        max_size: int | None = None,
        create: bool = True,
        on_event: OnEvent = ignore,
    ) -> Self:
        """Open a store, begun first where there is none; a lost or damaged index is rebuilt.

        Args:
            path: Its folder; by default ``CASSTORE_DIR``, else casstore's folder among the user's caches.
            durable: Whether writes reach the disk before they return; by default as configured.
            max_size: The size cap in bytes; by default as configured.
            create: Whether to begin a store where there is none.
            on_event: Told of a rebuild.

        Raises:
            NotFoundError: There is no store and `create` is false.
            FormatError: The store needs a newer casstore.
            ConfigError: Its ``config.toml`` is wrong, or the store is on a network file system.
        """
        root = store_path(path)
        config = Config.load(root)
        check_local(root, allowed=config.network_allowed)
        durable = config.durable if durable is None else durable
        local = _open(root, config, durable=durable, create=create, on_event=on_event)
        return cls(local, config, config.max_size if max_size is None else max_size)

    def __reduce__(self) -> tuple[object, ...]:
        return _reopened, (type(self), self.path, self.local.durable, self._max_size)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # Sync

    def plan_push(self, remote: str | None = None) -> Plan:
        """Return what `push` would do; the remote's manifest is read (one LIST, one GET a new segment)."""
        from casstore.repo import sync

        return sync.status(self, remote, first=True).push

    def plan_pull(self, remote: str | None = None, *, manifest_only: bool = False) -> Plan:
        """Return what `pull` would do; the remote's manifest is read (one LIST, one GET a new segment)."""
        from casstore.repo import sync

        return sync.status(self, remote, manifest_only=manifest_only).pull

    def status(self, remote: str | None = None) -> Status:
        """Return what a push and a pull would do, after reading the remote's manifest.

        Raises:
            NotFoundError: There is no store at the remote; see `plan_push` for what a first push would do.
        """
        from casstore.repo import sync

        return sync.status(self, remote)

    def push(
        self,
        remote: str | None = None,
        *,
        anew: bool = False,
        on_event: OnEvent = ignore,
        workers: int | None = None,
    ) -> Report:
        """Send what a remote lacks: objects first, then the segment that names them.

        Args:
            remote: Its name or URL; by default the configured one.
            anew: Whether a remote that is gone is begun anew, with all that is here.
            on_event: Told of the progress.
            workers: Requests under way at once.

        Raises:
            RemoteGoneError: There was a store, and is none; and `anew` is false.
        """
        from casstore.repo import sync

        return sync.push(self, remote, on_event, workers, anew=anew)

    def pull(
        self,
        remote: str | None = None,
        *,
        manifest_only: bool = False,
        again: bool = False,
        on_event: OnEvent = ignore,
        workers: int | None = None,
    ) -> Report:
        """Bring what a remote has: segments first, then objects, as many as the size cap has room for.

        Args:
            remote: Its name or URL; by default the configured one.
            manifest_only: Bring no objects; each is fetched when it is first used.
            again: Believe again that the remote holds what it did not: its files were restored.
            on_event: Told of the progress.
            workers: Requests under way at once.

        Raises:
            NotFoundError: There is no store at the remote.
        """
        from casstore.repo import sync

        return sync.pull(self, remote, on_event, workers, manifest_only=manifest_only, again=again)

    def gc(
        self,
        remote: str | None = None,
        *,
        grace: int = GRACE,
        dry_run: bool = False,
        on_event: OnEvent = ignore,
    ) -> GcReport:
        """Delete from a remote what nobody needs any more, in two steps: doom it; later, delete it.

        Args:
            remote: Its name or URL; by default the configured one.
            grace: Milliseconds for which something must have been doomed to be deleted.
            dry_run: Whether to do nothing but tell.
            on_event: Told of the progress.

        Raises:
            NotFoundError: There is no store at the remote.
        """
        from casstore.repo.gc import gc

        return gc(self, remote, grace, on_event, dry_run=dry_run)

    # Care

    def verify(self, *, on_event: OnEvent = ignore) -> VerifyReport:
        """Read every object and segment stored here, and compare each with its digest.

        What is bad or gone is wanted again: the next pull from a remote that holds it brings it.
        """
        from casstore.repo.verify import verify

        return verify(self.local, on_event)

    def evict(self, *, on_event: OnEvent = ignore) -> EvictReport:
        """Bring the store under its size cap: least recently used first, held by a remote before others."""
        from casstore.repo.evict import evict

        return evict(self.local, self._max_size, on_event)

    def rebuild(self, *, on_event: OnEvent = ignore) -> RebuildReport:
        """Make the index anew from segments, journal and objects."""
        from casstore.repo.rebuild import rebuild

        self.local.index.close()
        return rebuild(self.path, on_event)

    def plan_repack(self) -> RepackPlan:
        """Return what `repack` would do."""
        from casstore.repo.repack import plan_repack

        return plan_repack(self.local)

    def repack(self, *, on_event: OnEvent = ignore) -> RepackReport:
        """Turn small objects with files of their own into packs, merge small packs, and drop what is dead."""
        from casstore.repo.repack import repack

        return repack(self.local, on_event)

    def sizes(self) -> Sizes:
        """Return how much the store holds."""
        index = self.local.index
        entries, objects, size, _, kept, kept_stored = index.sums()
        packs, packs_stored = index.pack_sums()
        stored = index.evictable() + kept_stored
        return Sizes(entries, objects, size, stored, self._max_size, kept, kept_stored, packs, packs_stored)

    def flush(self) -> None:
        """Write what was collected in memory, and wait for a running eviction."""
        if self._evicting is not None and self._evicting is not threading.current_thread():
            self._evicting.join()
            self._evicting = None
        self._ahead.join()
        self.local.index.flush()

    def close(self) -> None:
        """Flush, and release files and connections."""
        self.flush()
        _OPEN.discard(self)
        for remote in self._remotes.values():
            remote.backend.close()
        self.local.finish_journal()
        if self.local.journal.size() >= SEAL_AT:
            from casstore.repo.recover import seal

            seal(self.local)
        self.local.index.close()


def _reopened(cls: type[Repository], path: Path, durable: bool, max_size: int) -> Repository:
    return cls.open(path, durable=durable, max_size=max_size)


_OPEN: weakref.WeakSet[Repository] = weakref.WeakSet()


def _flush_all() -> None:
    for repository in list(_OPEN):
        # At exit there is nobody left to tell; what is lost are last uses and counters.
        with contextlib.suppress(CasstoreError):
            repository.flush()


def _after_fork() -> None:
    """In a forked child: a lock that another thread of the parent held would never be released."""
    for repository in list(_OPEN):
        repository.local.journal.renew_lock()


atexit.register(_flush_all)
os.register_at_fork(after_in_child=_after_fork)


def begin(root: Path, *, durable: bool, create: bool) -> Marker:
    """Return the marker of a store, which is made where there is none; the index is not opened.

    Raises:
        NotFoundError: There is no store and `create` is false.
        FormatError: The store needs a newer casstore.
    """
    backend = LocalBackend(root, durable=durable)
    try:
        return read_marker(backend)
    except NotFoundError:
        if not create:
            raise NotFoundError(f"there is no store at {root}: run 'casstore init' to begin one") from None
        return ensure_marker(backend)


def _open(root: Path, config: Config, *, durable: bool, create: bool, on_event: OnEvent) -> Local:
    marker = begin(root, durable=durable, create=create)

    def restore() -> None:  # a store's first moment, or its index is lost or damaged
        from casstore.repo import rebuild

        rebuild.restore(root, on_event)

    return open_local(root, config, marker, durable=durable, restore=restore)
