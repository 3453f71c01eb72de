"""What a repository holds, read and written: objects, entries and the ledger.  Floor: repo.

A hit must load no more than it needs: what is about remotes or takes long stands elsewhere.
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from casstore.backends.atomic import sync
from casstore.catalog.index import now
from casstore.catalog.records import REFS_MAX, Claim, Entry, Tombstone, dump_labels, next_generation
from casstore.digest import DIGEST_DIGITS, Digest, Key, parse_digest, parse_key
from casstore.errors import ConfigError, IntegrityError, NotEnoughCopiesError, NotFoundError
from casstore.repo.tiers import AT_HAND, Tiers

if TYPE_CHECKING:
    from casstore.catalog.listed import HeldObject, ObjectInfo, Tally

PREFIX_MIN = 4
"""Hex digits that may stand for a whole key."""


class Content(Tiers):
    """Objects, entries and the ledger."""

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
        return b"".join(
            self._pieces(known, lambda known: [self.local.objects.get_range(known, start, length)])
        )

    def stream(self, digest: Digest) -> Iterator[bytes]:
        """Yield the content of an object in verified pieces of at most 4 MiB.

        Raises:
            NotFoundError: It is neither here nor in any remote whose manifest is known.
        """
        digest = parse_digest(digest)
        known = self._fetched(digest)
        self.local.index.touch(digest)
        yield from self._pieces(known, self.local.objects.stream)

    def export(self, digest: Digest, path: Path) -> None:
        """Write the content of an object to the file `path`, which appears when it is whole and verified."""
        temporary = path.with_name(f".{path.name}.{os.urandom(6).hex()}.tmp")
        try:
            with temporary.open("xb") as file:
                for piece in self.stream(digest):
                    file.write(piece)
                file.flush()
                sync(file.fileno())
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)

    def delete(self, digest: Digest, *, force: bool = False) -> None:
        """Remove an object from here.

        Args:
            digest: The object.
            force: Remove it even if no remote is known to hold it.

        Raises:
            NotFoundError: It is not here.
            NotEnoughCopiesError: No remote is known to hold it, and `force` is false; or packs here need it.
        """
        from casstore.catalog.holding import is_held
        from casstore.catalog.packed import dictionaries_needed
        from casstore.repo.evict import remove

        if not self.has(digest):
            raise NotFoundError(f"object {digest} is not in {self.path}")
        if not force and not is_held(self.local.index, digest):
            raise NotEnoughCopiesError(f"object {digest} is known to be only here: push it first, or force")
        if digest in dictionaries_needed(self.local.index, here=True):
            raise NotEnoughCopiesError(f"object {digest} is the dictionary of packs that are here")
        remove(self.local, [digest])

    def objects(self) -> Iterator[ObjectInfo]:
        """Yield every object stored here, by digest."""
        return self.local.index.objects()

    def held_objects(self) -> Iterator[HeldObject]:
        """Yield every object stored here, by digest, with where it lies and why it stays."""
        from casstore.catalog.listing import objects_here

        self.local.index.flush()
        return objects_here(self.local.index)

    # Entries

    def put_entry(
        self,
        key: Key,
        content: bytes,
        *,
        labels: Mapping[str, Any] | None = None,
        refs: Sequence[bytes] = (),
        replace: bool = False,
        created: int | None = None,
    ) -> Entry:
        """Store the answer to a key, and return the entry that stands: the first one, unless replaced.

        Args:
            key: What was asked.
            content: The result object.
            labels: JSON-able metadata, at most 64 KiB as JSON.
            refs: Contents of other objects that travel with the entry.
            replace: Whether this answer takes the place of an earlier one, as a new generation.
            created: When the answer was first given, in milliseconds since the Unix epoch, where it was
                elsewhere; not later than now, which it is by default.

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
            given = now() if created is None else min(created, now())
            return Entry(key, digests[0], generation, given, labels, tuple(digests[1:]))

        claim = self.local.claim(key, decide, (content, *refs))
        self._tidy(len(content) + sum(map(len, refs)))
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
            except (NotFoundError, IntegrityError) as error:
                return entry, self._read_known(self._mended(found.known, error))
        return entry, self._read_known(self._fetch(entry.object))

    def peek_entry(self, key: Key) -> tuple[Entry, bytes] | None:
        """Return an entry and its answer if both are at hand, without waiting for a thread or a remote.

        None says nothing: the entry may be unknown, in a remote, large, damaged, or the index in use.
        """
        found = self.local.index.peek(parse_key(key))
        if found is None or not isinstance(found.claim, Entry) or found.known is None:
            return None
        if found.known.size > AT_HAND:
            return None
        try:
            content = self.local.objects.get(found.known)
        except (NotFoundError, IntegrityError):  # `read_entry` mends it
            return None
        self.local.index.touch(found.known.digest)
        return found.claim, content

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

    def entries_by_age(self) -> Iterator[tuple[Entry, int | None]]:
        """Yield every entry, the oldest first, with the size of its object; None where that is elsewhere."""
        from casstore.catalog.listing import entries_by_age

        return entries_by_age(self.local.index)

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
        try:
            return self.local.index.resolve(prefix)
        except NotFoundError:
            if len(prefix) < DIGEST_DIGITS or not self.has(Digest(prefix)):
                raise
        raise NotFoundError(
            f"{prefix} is the digest of an object, not a key: casstore cat prints it, casstore ls lists keys"
        )

    # The ledger

    def tally(self, provider: str, model: str, counts: Mapping[str, float]) -> None:
        """Add to today's counters of a model; they are written in batches."""
        self.local.index.tally(provider, model, counts)
        self._tidy_uses()

    def tallies(self) -> list[Tally]:
        """Return all counters of the ledger, by day."""
        return self.local.index.tallies()

    def _check(self, digest: Digest) -> None:
        """Read an object that may be here, and take the belief in it away where it is bad."""
        known = self.local.index.known(digest)
        if known is not None:
            try:
                for _ in self.local.objects.stream(known):
                    pass
            except (NotFoundError, IntegrityError):
                self.local.doubt(digest, known)


def _live(claim: Claim | None, key: Key) -> Entry:
    if isinstance(claim, Entry):
        return claim
    raise NotFoundError(f"no entry for key {key}")


def _tombstone(standing: Claim) -> Tombstone:
    return Tombstone(standing.key, standing.generation, now())
