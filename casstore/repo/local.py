"""The local store: its folder, opened.  Floor: repo.

Holds the parts that every operation on the local store works with, and the few steps they share: putting an
object and a claim in the order that a crash forgives, and taking belief away when an object turns out bad.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from casstore.backends.local import LocalBackend
from casstore.catalog.index import Index, now, put_claim, put_objects, remove_objects
from casstore.catalog.journal import Journal
from casstore.catalog.records import Claim, Location
from casstore.digest import Digest, digest_of
from casstore.errors import IntegrityError, NotFoundError
from casstore.store.codec import FRAME_SIZE, Codec
from casstore.store.objects import ObjectStore, decode
from casstore.store.sealed import Stored

if TYPE_CHECKING:
    from casstore.config import Config
    from casstore.digest import Key
    from casstore.store.marker import Marker

INDEX = "index.sqlite"
JOURNAL = "journal"
SPOOL = "tmp"
QUARANTINE = "quarantine"


@dataclass(frozen=True, slots=True)
class Local:
    """The parts of an open local store.

    Attributes:
        root: Its folder.
        durable: Whether writes reach the disk before they return.
        codec: Compresses at the level of the store's configuration.
        backend: Its bytes.
        objects: Its objects.
        index: Its index.
        journal: Its journal.
    """

    root: Path
    durable: bool
    codec: Codec
    backend: LocalBackend
    objects: ObjectStore
    index: Index
    journal: Journal

    @property
    def spool(self) -> Path:
        """The folder for unfinished files."""
        return self.root / SPOOL

    def path(self, name: str) -> Path:
        """Return the path of a name in the store."""
        return self.root / name

    def put(self, content: bytes) -> Stored:
        """Store an object, unless it is here; the index is not told."""
        digest = digest_of(content)
        return self.index.known(digest) or self.objects.put(content, digest)

    def read(self, known: Stored) -> bytes:
        """Return the content of an object stored here.

        Raises:
            NotFoundError: It is gone; the index no longer believes in it.
            IntegrityError: It is bad, and in quarantine now.
        """
        try:
            content = self.objects.get(known)
        except (NotFoundError, IntegrityError) as error:
            self.condemn(known.digest, error)
            raise
        self.index.touch(known.digest)
        return content

    def bring(self, source: ObjectStore, known: Stored) -> Stored:
        """Copy an object's file from another store, verified before it is here; the index is not told.

        Raises:
            NotFoundError: It is not there.
            IntegrityError: It is not what it should be.
        """
        if known.size <= FRAME_SIZE:
            sealed = source.backend.read(source.name(known.digest))
            decode(sealed, known)
            self.backend.write(self.objects.name(known.digest), sealed)
            return Stored(known.digest, known.size, len(sealed))
        with self.objects.spooled() as path:
            found = source.fetch(known, path)
            self.backend.upload(path, self.objects.name(known.digest), consume=True)
        return found

    def condemn(self, digest: Digest, error: Exception) -> None:
        """Stop believing in an object that turned out missing or bad, and keep a bad file for inspection."""
        with self.index.writing() as connection:
            remove_objects(connection, [digest])
        if isinstance(error, IntegrityError):
            self.quarantine(self.objects.name(digest))

    def quarantine(self, name: str) -> None:
        """Move a file out of the store, into the quarantine folder."""
        folder = self.root / QUARANTINE
        folder.mkdir(mode=0o700, exist_ok=True)
        target = folder / f"{now()}-{Path(name).name}"
        try:
            self.path(name).replace(target)
        except FileNotFoundError:  # another process was faster
            return

    def claim(self, key: Key, decide: Callable[[Claim | None], Claim], objects: Sequence[Stored]) -> Claim:
        """Let a claim on `key` stand whose objects are stored already: journal first, then the index.

        Args:
            key: The key.
            decide: Returns the claim that should stand, given the one that does.
            objects: The objects it leads to.

        Returns:
            The claim that stands now.
        """
        with self.index.writing() as connection:
            found = self.index.find(key)
            standing = None if found is None else found.claim
            claim = decide(standing)
            used = now()
            if claim is not standing:
                self.journal.append([claim])
                put_claim(connection, claim)
            else:  # the objects lead nowhere: they go first
                used = 0
            put_objects(connection, objects, used=used)
        return claim

    def keep(self, known: Stored) -> None:
        """Note an object that was put by hand."""
        with self.index.writing() as connection:
            self.journal.append([Location(known, kept=True)])
            put_objects(connection, [known], used=now(), kept=True)


def open_local(
    root: Path, config: Config, marker: Marker, *, durable: bool, restore: Callable[[], None]
) -> Local:
    """Open the parts of the store in the folder `root`.

    Args:
        root: The folder.
        config: Its settings.
        marker: What its marker says.
        durable: Whether writes reach the disk before they return.
        restore: Makes the index where it is lost or damaged, now or later.
    """
    codec = Codec(config.level)
    backend = LocalBackend(root, durable=durable)
    spool = root / SPOOL
    spool.mkdir(mode=0o700, exist_ok=True)
    return Local(
        root,
        durable,
        codec,
        backend,
        ObjectStore(backend, marker.shards, codec, spool),
        Index(root / INDEX, durable=durable, restore=restore),
        Journal(root / JOURNAL, durable=durable),
    )
