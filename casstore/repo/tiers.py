"""The tiers of a repository: an object from the local store, else from a remote that holds it.  Floor: repo.

Every read goes through here: what cannot be read as believed is looked at again, and mended or fetched. What
is fetched stays, so the size cap is watched here too.
"""

from __future__ import annotations

import contextlib
import threading
import time
from typing import TYPE_CHECKING

from casstore.catalog.index import now, put_objects
from casstore.digest import Digest, parse_digest
from casstore.errors import BackendError, CasstoreError, IntegrityError, NotFoundError
from casstore.quiet import ignore
from casstore.repo.ahead import Ahead
from casstore.repo.local import LackingDictionaryError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from casstore.config import Config
    from casstore.repo.local import Local
    from casstore.repo.remote import Found, Remote
    from casstore.store.sealed import Stored

FLUSH_AT = 1000
"""Uses and counters collected in memory before they are written."""

AT_HAND = 128 * 1024
"""Bytes of the largest answer that is at hand: read and verified in less than a millisecond."""

FLUSH_PAUSE = 10.0
"""Seconds before they are tried again where they could not be written."""

LOOKS = 1024
"""How often a process asks how large the store is while it writes as much as its cap."""

REMOTE_PAUSE = 60.0
"""Seconds for which a remote that failed is not asked for single objects."""

MENDINGS = 4
"""How often an object is mended for one reading: meanwhile, it may be evicted, or its pack be merged."""


class Tiers:
    """The local store and the remotes behind it.

    Args:
        local: The local store.
        config: Its settings.
        max_size: The size cap.
    """

    def __init__(self, local: Local, config: Config, max_size: int) -> None:
        self.path = local.root
        self.config = config
        self.local = local
        self._max_size = max_size
        self._remotes: dict[str, Remote] = {}
        self._paused: dict[str, float] = {}
        self._unlooked = max_size
        self._evicting: threading.Thread | None = None
        self._flushing: threading.Thread | None = None
        self._ahead = Ahead(local, max_size)

    @property
    def max_size(self) -> int:
        """The size cap, in stored bytes of objects that were not put by hand."""
        return self._max_size

    def has(self, digest: Digest) -> bool:
        """Return whether an object is stored here."""
        return self.local.index.known(parse_digest(digest)) is not None

    def remote(self, name: str | None = None) -> Remote:
        """Return a remote by name or URL, opened once a process."""
        from casstore.config import resolve_remote
        from casstore.repo.remote import Remote

        config = resolve_remote(self.config, name)
        if config.identity not in self._remotes:
            self._remotes[config.identity] = Remote(self.local, config)
        return self._remotes[config.identity]

    def meet(self, found: Found) -> None:
        """Take over a remote where a store was found before this one was opened."""
        from casstore.repo.remote import Remote

        self._remotes[found.config.identity] = Remote(self.local, found.config, found)

    def _identified(self, identity: str) -> Remote:
        """Return the remote that the index knows by its identity: one in use, configured, or a mere URL."""
        if identity in self._remotes:
            return self._remotes[identity]
        named = (remote.name for remote in self.config.remotes.values() if remote.identity == identity)
        return self.remote(next(named, identity))

    def _read(self, digest: Digest) -> bytes:
        return self._read_known(self._fetched(digest))

    def _read_known(self, known: Stored) -> bytes:
        return b"".join(self._pieces(known, lambda known: [self.local.read(known)]))

    def _pieces(self, known: Stored, read: Callable[[Stored], Iterable[bytes]]) -> Iterator[bytes]:
        """Yield what is read of an object, which is mended where it is bad or gone, and then read on.

        Args:
            known: How it is believed to be stored.
            read: Reads it, as it is stored now, in one piece or more.
        """
        sent = 0
        for mendings in reversed(range(MENDINGS + 1)):
            try:
                for piece in _behind(sent, read(known)):
                    sent += len(piece)
                    yield piece
            except (NotFoundError, IntegrityError) as error:
                if not mendings:
                    raise
                known = self._mended(known, error)
            else:
                return

    def _mended(self, known: Stored, reason: CasstoreError) -> Stored:
        """Return an object that could not be read, for a reason: looked at again, or else fetched."""
        again = self.local.look_again(known)
        if again is not None and again != known:
            return again
        self.local.doubt(known.digest, known)
        current = self.local.index.known(known.digest)
        if current is None:
            try:
                return self._fetch(known.digest)
            except NotFoundError as error:
                if isinstance(reason, IntegrityError):
                    raise NotFoundError(f"{error}. It was damaged here, see quarantine/: {reason}") from error
                raise
        needed = None if current.place is None else current.place.dictionary
        if needed is not None and not self.obtain_dictionary(needed):
            self.local.disbelieve(current)
            return self._fetch(known.digest)
        return current

    def obtain_dictionary(self, digest: Digest) -> bool:
        """Return whether a dictionary is here and good, fetched from a remote if need be.

        Raises:
            BackendError: A remote that is believed to hold it failed.
        """
        if self.local.has_dictionary(digest):
            return True
        self.local.doubt(digest)
        try:
            self._fetch(digest)
        except NotFoundError:
            return False
        return self.local.has_dictionary(digest)

    def _fetched(self, digest: Digest) -> Stored:
        known = self.local.index.known(digest)
        return known if known is not None else self._fetch(digest)

    def _fetch(self, digest: Digest) -> Stored:
        """Bring one object from a remote that is believed to hold it."""
        failed: BackendError | None = None
        refused = []
        for identity, known in self._holding(digest):
            try:
                return self._fetch_from(identity, known)
            except NotFoundError as error:
                refused.append(str(error))
            except BackendError as error:
                failed = error
        if failed is not None:
            raise failed
        if refused:
            why = f"{'; '.join(refused)}; once it is restored there: casstore pull --again"
        else:
            why = "no remote is known to hold it: casstore pull finds what is new, --again what is restored"
        raise NotFoundError(f"object {digest} is not in {self.path}, and {why}")

    def _fetch_from(self, identity: str, known: Stored) -> Stored:
        if time.monotonic() < self._paused.get(identity, 0):
            raise BackendError(f"{identity} failed and is left alone for a while", transient=True)
        remote = self._identified(identity)
        try:
            brought = self._bring_from_any_place(remote, known)
        except BackendError:
            self._paused[identity] = time.monotonic() + REMOTE_PAUSE
            raise
        with self.local.index.writing() as connection:
            put_objects(connection, [brought], used=now())
        if known.place is not None:
            self._ahead.missed(remote, known.place.pack)
        self._tidy(brought.stored)
        return brought

    def _bring_from_any_place(self, remote: Remote, known: Stored) -> Stored:
        """Bring one object from where a remote is believed to hold it, or else from where besides."""
        lacking: list[Digest] = []
        while True:
            try:
                return self._bring(remote, known)
            except LackingDictionaryError as error:
                lacking.append(error.dictionary)
                remote.tracking.look_past(lacking, [known.digest])
                there = remote.tracking.sides([known.digest])[known.digest].there
                if there is None or there == known:
                    raise
            except (NotFoundError, IntegrityError) as error:
                remote.tracking.disbelieve([known.digest])
                there = remote.tracking.sides([known.digest])[known.digest].there
                if there is None:
                    raise NotFoundError(
                        f"{remote.tracking.url} does not hold it as it said: {error}"
                    ) from error
            known = there

    def _bring(self, remote: Remote, known: Stored) -> Stored:
        """Bring one object; if its pack is gone, look where it is now, since packs are merged."""
        try:
            return self.local.bring(remote.objects(), known)
        except LackingDictionaryError:
            remote.require()
            raise
        except NotFoundError:
            if known.place is None:
                remote.require()
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
        from casstore.catalog.holding import remotes_holding

        known = {remote.identity for remote in self.config.remotes.values()} | self._remotes.keys()
        found = remotes_holding(self.local.index, digest)
        return [
            (identity, stored) for identity, stored in found if identity in known or " at " not in identity
        ]

    def _tidy(self, added: int) -> None:
        """After a write: begin an eviction, off the caller's path, if the store has outgrown its cap.

        Args:
            added: The bytes written, or more. Once they are a part of the cap, the store's size is asked.
        """
        self._tidy_uses()
        self._unlooked += added
        if self._unlooked * LOOKS < self._max_size:
            return
        self._unlooked = 0
        if not _runs(self._evicting) and self.local.index.evictable() > self._max_size:
            self._evicting = threading.Thread(target=self._evict_quietly, name="casstore-evict", daemon=True)
            self._evicting.start()

    def _evict_quietly(self) -> None:
        from casstore.repo.evict import evict

        # The cap is a wish: where it cannot be kept now, the next put tries again.
        with contextlib.suppress(CasstoreError):
            evict(self.local, self._max_size, ignore)

    def _tidy_uses(self) -> None:
        """Begin to write uses and counters, off the caller's path, if many were collected in memory."""
        if self.local.index.collected() >= FLUSH_AT and not _runs(self._flushing):
            self._flushing = threading.Thread(target=self._flush_quietly, name="casstore-flush", daemon=True)
            self._flushing.start()

    def _flush_quietly(self) -> None:
        with contextlib.suppress(CasstoreError):  # they stay collected, and are tried again after a while
            self.local.index.flush()
            return
        time.sleep(FLUSH_PAUSE)  # until then this thread runs, so none is begun


def _behind(skip: int, pieces: Iterable[bytes]) -> Iterator[bytes]:
    """Yield what stands in `pieces` behind the first `skip` bytes."""
    for piece in pieces:
        if skip < len(piece):
            yield piece[skip:]
        skip = max(0, skip - len(piece))


def _runs(thread: threading.Thread | None) -> bool:
    return thread is not None and thread.is_alive()
