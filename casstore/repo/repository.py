"""The repository: one local store and its remotes, as programs use them.  Floor: repo.

Reading and writing stand here, since a hit must load no more than it needs; what takes time (sync, verify,
evict, rebuild) stands in modules of its own that are loaded when they are first asked for.
"""

from __future__ import annotations

import atexit
import contextlib
import io
import os
import threading
import time
import weakref
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, BinaryIO, Self

from casstore.backends.local import LocalBackend
from casstore.catalog.index import ObjectInfo, Tally, now, put_objects
from casstore.catalog.records import REFS_MAX, Claim, Entry, Tombstone, dump_labels, next_generation
from casstore.catalog.tracking import remotes_holding
from casstore.config import Config, store_path
from casstore.digest import DIGEST_DIGITS, Digest, Key, parse_digest, parse_key
from casstore.errors import (
    BackendError,
    CasstoreError,
    ConfigError,
    IntegrityError,
    NotEnoughCopiesError,
    NotFoundError,
)
from casstore.events import OnEvent, ignore
from casstore.repo.ahead import Ahead
from casstore.repo.local import GRACE, Local, open_local
from casstore.store.marker import ensure_marker, read_marker
from casstore.store.sealed import Stored

if TYPE_CHECKING:
    from casstore.repo.evict import EvictReport
    from casstore.repo.gc import GcReport
    from casstore.repo.plan import Plan
    from casstore.repo.rebuild import RebuildReport
    from casstore.repo.remote import Remote
    from casstore.repo.sync import Report, Status
    from casstore.repo.verify import VerifyReport

SEAL_AT = 16 * 1024 * 1024
"""Bytes of journal that are turned into a segment, which takes about a quarter of them."""

FLUSH_AT = 1000
"""Uses and counters collected in memory before they are written."""

PREFIX_MIN = 4
"""Hex digits that may stand for a whole key."""

REMOTE_PAUSE = 60.0
"""Seconds for which a remote that failed is not asked for single objects."""


@dataclass(frozen=True, slots=True)
class Sizes:
    """What a store holds, in numbers; sizes in bytes.

    Attributes:
        entries: Entries, those whose object is elsewhere included.
        objects: Objects stored here.
        size: Their content.
        stored: Their files.
        max_size: The cap on the files of objects that were not put by hand.
        kept_objects: Objects that were put by hand.
        kept_stored: Their files.
    """

    entries: int
    objects: int
    size: int
    stored: int
    max_size: int
    kept_objects: int
    kept_stored: int


class Repository:
    """A local store with its remotes; thread-safe, usable after a fork, and a context manager.

    Use `Repository.open`.
    """

    def __init__(self, local: Local, config: Config, max_size: int) -> None:
        self.path = local.root
        self.config = config
        self.local = local
        self._max_size = max_size
        self._remotes: dict[str, Remote] = {}
        self._paused: dict[str, float] = {}
        self._evicting: threading.Thread | None = None
        self._ahead = Ahead(local, max_size)
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
            ConfigError: Its ``config.toml`` is wrong.
        """
        root = store_path(path)
        config = Config.load(root)
        durable = config.durable if durable is None else durable
        local = _open(root, config, durable=durable, create=create, on_event=on_event)
        return cls(local, config, config.max_size if max_size is None else max_size)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # Objects

    def put(self, source: bytes | Path | BinaryIO) -> Digest:
        """Store content by hand, and return its digest; it is never evicted.

        An object that is here already is verified and not written again.

        Args:
            source: The content, a file, or a stream of any length.
        """
        if isinstance(source, Path):
            with source.open("rb") as file:
                return self.put(file)
        stream = io.BytesIO(source) if isinstance(source, bytes) else source
        with self.local.objects.encode(stream) as (known, path):
            self._check(known.digest)
            self.local.keep(known, path)
        return known.digest

    def get(self, digest: Digest) -> bytes:
        """Return the content of an object, fetched from a remote that holds it where it is not here.

        Raises:
            NotFoundError: It is neither here nor in any remote whose manifest is known.
        """
        return self._read(parse_digest(digest))

    def get_range(self, digest: Digest, start: int, length: int) -> bytes:
        """Return up to `length` bytes of an object from offset `start`, reading only their frames.

        Raises:
            ConfigError: `start` or `length` is negative.
            NotFoundError: It is neither here nor in any remote whose manifest is known.
        """
        if start < 0 or length < 0:
            raise ConfigError(f"not a range of bytes: {length} from {start}")
        digest = parse_digest(digest)
        known = self._fetched(digest)
        self.local.index.touch(digest)
        try:
            return self.local.objects.get_range(known, start, length)
        except (NotFoundError, IntegrityError):
            return self.local.objects.get_range(self._mended(digest), start, length)

    def stream(self, digest: Digest) -> Iterator[bytes]:
        """Yield the content of an object in verified pieces of at most 4 MiB.

        Raises:
            NotFoundError: It is neither here nor in any remote whose manifest is known.
        """
        digest = parse_digest(digest)
        known = self._fetched(digest)
        self.local.index.touch(digest)
        sent = 0
        try:
            for piece in self.local.objects.stream(known):
                sent += len(piece)
                yield piece
        except (NotFoundError, IntegrityError):
            yield from _rest(self.local.objects.stream(self._mended(digest)), sent)

    def export(self, digest: Digest, path: Path) -> None:
        """Write the content of an object to the file `path`, which appears when it is whole and verified."""
        temporary = path.with_name(f".{path.name}.{os.urandom(6).hex()}.tmp")
        try:
            with temporary.open("xb") as file:
                for piece in self.stream(digest):
                    file.write(piece)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)

    def has(self, digest: Digest) -> bool:
        """Return whether an object is stored here."""
        return self.local.index.known(parse_digest(digest)) is not None

    def delete(self, digest: Digest, *, force: bool = False) -> None:
        """Remove an object from here.

        Args:
            digest: The object.
            force: Remove it even if no remote is known to hold it.

        Raises:
            NotFoundError: It is not here.
            NotEnoughCopiesError: No remote is known to hold it, and `force` is false.
        """
        from casstore.repo.evict import remove

        if not self.has(digest):
            raise NotFoundError(f"object {digest} is not in {self.path}")
        if not force and not remotes_holding(self.local.index, digest):
            raise NotEnoughCopiesError(f"object {digest} is known to be only here: push it first, or force")
        remove(self.local, [digest])

    def objects(self) -> Iterator[ObjectInfo]:
        """Yield every object stored here, by digest."""
        return self.local.index.objects()

    # Entries

    def put_entry(
        self,
        key: Key,
        content: bytes,
        *,
        labels: Mapping[str, Any] | None = None,
        refs: Sequence[bytes] = (),
        replace: bool = False,
    ) -> Entry:
        """Store the answer to a key, and return the entry that stands: the first one, unless replaced.

        Args:
            key: What was asked.
            content: The result object.
            labels: JSON-able metadata, at most 64 KiB as JSON.
            refs: Contents of other objects that travel with the entry.
            replace: Whether this answer takes the place of an earlier one, as a new generation.

        Raises:
            ConfigError: `labels` are no JSON or too large, or there are too many `refs`.
            BackendError: The store cannot be written.
        """
        key = parse_key(key)
        labels = dict(labels or {})
        dump_labels(labels)
        if len(refs) > REFS_MAX:
            raise ConfigError(f"an entry has at most {REFS_MAX} refs, not {len(refs)}")

        def decide(standing: Claim | None, digests: Sequence[Digest]) -> Claim:
            if isinstance(standing, Entry) and not replace and self._is_reachable(standing.object):
                return standing
            generation = 0 if standing is None else next_generation(standing)
            return Entry(key, digests[0], generation, now(), labels, tuple(digests[1:]))

        claim = self.local.claim(key, decide, (content, *refs))
        self._tidy()
        return _live(claim, key)

    def read_entry(self, key: Key) -> tuple[Entry, bytes]:
        """Return an entry and its answer, from here or else from a remote whose manifest is known.

        Raises:
            NotFoundError: There is no such entry, or its object is nowhere to be had.
            BackendError: The object is in a remote that cannot be reached.
        """
        found = self.local.index.find(parse_key(key))
        if found is None:
            raise NotFoundError(f"no entry for key {key}")
        entry = _live(found.claim, key)
        if found.known is not None:
            try:
                return entry, self.local.read(found.known)
            except (NotFoundError, IntegrityError):
                pass  # the belief was corrected; a remote may have it
        return entry, self.local.read(self._fetched(entry.object))

    def entry(self, key: Key) -> Entry:
        """Return an entry without its answer.

        Raises:
            NotFoundError: There is no such entry.
        """
        found = self.local.index.find(parse_key(key))
        return _live(None if found is None else found.claim, key)

    def entries(self) -> Iterator[Entry]:
        """Yield every entry, by key, those whose object is elsewhere included."""
        return (claim for claim in self.local.index.claims() if isinstance(claim, Entry))

    def forget(self, key: Key) -> None:
        """End an entry for everyone: the next push tells the others.

        Raises:
            NotFoundError: There is no such entry.
        """
        entry = self.entry(key)
        self.local.claim(entry.key, lambda standing, _: _tombstone(standing or entry))

    def resolve(self, prefix: str) -> Key:
        """Return the one key that begins with `prefix`, at least four hex digits.

        Raises:
            NotFoundError: No key does.
            ConfigError: Several do, or `prefix` is too short or not hex.
        """
        if not PREFIX_MIN <= len(prefix) <= DIGEST_DIGITS or not set(prefix) <= set("0123456789abcdef"):
            raise ConfigError(f"not a key or the beginning of one (4 to 64 hex digits): {prefix!r}")
        return self.local.index.resolve(prefix)

    # The ledger

    def tally(self, provider: str, model: str, counts: Mapping[str, float]) -> None:
        """Add to today's counters of a model; they are written in batches."""
        self.local.index.tally(provider, model, counts)
        self._tidy_uses()

    def tallies(self) -> list[Tally]:
        """Return all counters of the ledger, by day."""
        return self.local.index.tallies()

    # Sync

    def plan_push(self, remote: str | None = None) -> Plan:
        """Return what `push` would do; the remote's manifest is read (one LIST, one GET a new segment)."""
        return self.status(remote).push

    def plan_pull(self, remote: str | None = None, *, manifest_only: bool = False) -> Plan:
        """Return what `pull` would do; the remote's manifest is read (one LIST, one GET a new segment)."""
        from casstore.repo import sync

        return sync.status(self, remote, manifest_only=manifest_only).pull

    def status(self, remote: str | None = None) -> Status:
        """Return what a push and a pull would do, after reading the remote's manifest."""
        from casstore.repo import sync

        return sync.status(self, remote)

    def push(
        self, remote: str | None = None, *, on_event: OnEvent = ignore, workers: int | None = None
    ) -> Report:
        """Send what a remote lacks: objects first, then the segment that names them.

        Args:
            remote: Its name or URL; by default the configured one.
            on_event: Told of the progress.
            workers: Requests under way at once.
        """
        from casstore.repo import sync

        return sync.push(self, remote, on_event, workers)

    def pull(
        self,
        remote: str | None = None,
        *,
        manifest_only: bool = False,
        on_event: OnEvent = ignore,
        workers: int | None = None,
    ) -> Report:
        """Bring what a remote has: segments first, then objects, as many as the size cap has room for.

        Args:
            remote: Its name or URL; by default the configured one.
            manifest_only: Bring no objects; each is fetched when it is first used.
            on_event: Told of the progress.
            workers: Requests under way at once.
        """
        from casstore.repo import sync

        return sync.pull(self, remote, on_event, workers, manifest_only=manifest_only)

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
        """
        from casstore.repo.gc import gc

        return gc(self, remote, grace, on_event, dry_run=dry_run)

    def remote(self, name: str | None = None) -> Remote:
        """Return a remote by name or URL, opened once a process."""
        from casstore.config import resolve_remote
        from casstore.repo.remote import Remote

        config = resolve_remote(self.config, name)
        if config.identity not in self._remotes:
            self._remotes[config.identity] = Remote(self.local, config)
        return self._remotes[config.identity]

    def _identified(self, identity: str) -> Remote:
        """Return the remote that the index knows by its identity: one in use, configured, or a mere URL."""
        if identity in self._remotes:
            return self._remotes[identity]
        named = (remote.name for remote in self.config.remotes.values() if remote.identity == identity)
        return self.remote(next(named, identity))

    # Care

    def verify(self, *, on_event: OnEvent = ignore) -> VerifyReport:
        """Read every object and segment stored here, and compare each with its digest."""
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

    def sizes(self) -> Sizes:
        """Return how much the store holds."""
        entries, objects, size, stored, kept, kept_stored = self.local.index.sums()
        return Sizes(entries, objects, size, stored, self._max_size, kept, kept_stored)

    @property
    def max_size(self) -> int:
        """The size cap, in stored bytes of objects that were not put by hand."""
        return self._max_size

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

    def _check(self, digest: Digest) -> None:
        """Read an object that may be here, and take the belief in it away where it is bad."""
        known = self.local.index.known(digest)
        if known is not None:
            try:
                for _ in self.local.objects.stream(known):
                    pass
            except (NotFoundError, IntegrityError):
                self.local.doubt(digest)

    def _read(self, digest: Digest) -> bytes:
        try:
            return self.local.read(self._fetched(digest))
        except (NotFoundError, IntegrityError):  # the belief was corrected; a remote may have it
            return self.local.read(self._fetched(digest))

    def _mended(self, digest: Digest) -> Stored:
        """Return an object that could not be read here as believed: looked at again, or else fetched."""
        self.local.doubt(digest)
        return self._fetched(digest)

    def _fetched(self, digest: Digest) -> Stored:
        known = self.local.index.known(digest)
        return known if known is not None else self._fetch(digest)

    def _fetch(self, digest: Digest) -> Stored:
        """Bring one object from a remote that is believed to hold it."""
        failed: BackendError | None = None
        for identity, known in self._holding(digest):
            try:
                return self._fetch_from(identity, known)
            except NotFoundError:
                continue
            except BackendError as error:
                failed = error
        if failed is not None:
            raise failed
        raise NotFoundError(
            f"object {digest} is neither in {self.path} nor in a remote whose manifest is known"
        )

    def _fetch_from(self, identity: str, known: Stored) -> Stored:
        if time.monotonic() < self._paused.get(identity, 0):
            raise BackendError(f"{identity} failed and is left alone for a while", transient=True)
        remote = self._identified(identity)
        try:
            brought = self._bring(remote, known)
        except (NotFoundError, IntegrityError) as error:
            remote.tracking.disbelieve([known.digest])
            raise NotFoundError(f"{identity} does not hold object {known.digest}: {error}") from error
        except BackendError:
            self._paused[identity] = time.monotonic() + REMOTE_PAUSE
            raise
        with self.local.index.writing() as connection:
            put_objects(connection, [brought], used=now())
        if known.place is not None:
            self._ahead.missed(remote, known.place.pack)
        self._tidy()
        return brought

    def _bring(self, remote: Remote, known: Stored) -> Stored:
        """Bring one object; if its pack is gone, look where it is now, since packs are merged."""
        try:
            return self.local.bring(remote.objects(), known)
        except NotFoundError:
            if known.place is None:
                raise
        remote.refresh()
        there = remote.tracking.sides([known.digest])[known.digest].there
        if there is None or there == known:
            raise NotFoundError(f"object {known.digest} is no longer in pack {known.place.pack}")
        return self.local.bring(remote.objects(), there)

    def _is_reachable(self, digest: Digest) -> bool:
        """Return whether an object is believed to be here or in a remote."""
        return self.has(digest) or bool(self._holding(digest))

    def _holding(self, digest: Digest) -> list[tuple[str, Stored]]:
        """Return the remotes believed to hold an object that can be asked for it, and how each holds it.

        One that was removed from the configuration cannot be, if its URL needed more to be understood.
        """
        known = {remote.identity for remote in self.config.remotes.values()} | self._remotes.keys()
        found = remotes_holding(self.local.index, digest)
        return [
            (identity, stored) for identity, stored in found if identity in known or " at " not in identity
        ]

    def _tidy(self) -> None:
        """After a write: begin an eviction, off the caller's path, if the store has outgrown its cap."""
        self._tidy_uses()
        running = self._evicting is not None and self._evicting.is_alive()
        if not running and self.local.index.evictable() > self._max_size:
            self._evicting = threading.Thread(target=self._evict_quietly, name="casstore-evict", daemon=True)
            self._evicting.start()

    def _evict_quietly(self) -> None:
        # The cap is a wish: where it cannot be kept now, the next put tries again.
        with contextlib.suppress(CasstoreError):
            self.evict()

    def _tidy_uses(self) -> None:
        if self.local.index.collected() >= FLUSH_AT:
            self.local.index.flush()


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


def _open(root: Path, config: Config, *, durable: bool, create: bool, on_event: OnEvent) -> Local:
    backend = LocalBackend(root, durable=durable)
    try:
        marker = read_marker(backend)
    except NotFoundError:
        if not create:
            raise NotFoundError(f"there is no store at {root}: run 'casstore init' to begin one") from None
        marker = ensure_marker(backend)

    def restore() -> None:  # a store's first moment, or its index is lost or damaged
        from casstore.repo import rebuild

        rebuild.restore(root, on_event)

    return open_local(root, config, marker, durable=durable, restore=restore)


def _live(claim: Claim | None, key: Key) -> Entry:
    if isinstance(claim, Entry):
        return claim
    raise NotFoundError(f"no entry for key {key}")


def _tombstone(standing: Claim) -> Tombstone:
    return Tombstone(standing.key, standing.generation, now())


def _rest(pieces: Iterator[bytes], skip: int) -> Iterator[bytes]:
    """Yield what stands in `pieces` behind the first `skip` bytes."""
    for piece in pieces:
        if skip < len(piece):
            yield piece[skip:]
        skip = max(0, skip - len(piece))
