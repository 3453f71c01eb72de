"""The local store: its folder, opened.  Floor: repo.

Holds the parts that every operation on the local store works with, and the few steps they share: putting an
object and a claim in the order that a crash forgives, and taking belief away when an object turns out bad.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from casstore.backends.atomic import sync_file
from casstore.backends.local import LocalBackend
from casstore.catalog.index import Index, now, put_claim, put_objects, put_pack_here
from casstore.catalog.journal import Journal
from casstore.catalog.records import Claim, Kept
from casstore.digest import Digest, digest_of
from casstore.errors import IntegrityError, NotFoundError
from casstore.store.codec import FRAME_SIZE, STORED_MAX, Codec, Dictionary
from casstore.store.dictionaries import Dictionaries, read_dictionary
from casstore.store.marker import PACKED, Marker, read_marker, require_feature
from casstore.store.objects import ObjectStore, decode
from casstore.store.pack import Pack, read_pack
from casstore.store.sealed import UNKNOWN, Place, Stored, examine

if TYPE_CHECKING:
    from casstore.backends.base import Backend
    from casstore.config import Config
    from casstore.digest import Key

INDEX = "index.sqlite"
JOURNAL = "journal"
SPOOL = "tmp"
UNFINISHED_AGE = 24 * 3600 * 1000
"""Milliseconds after which nobody is at work on an unfinished file any more."""

GRACE = 24 * 3600 * 1000
"""Milliseconds for which what is doomed in a remote stays there: longer than any push or pull takes."""

QUARANTINE = "quarantine"


class LackingDictionaryError(NotFoundError):
    """What an object is compressed with is not where the object is, with which nothing is wrong.

    Attributes:
        dictionary: The dictionary.
    """

    def __init__(self, message: str, dictionary: Digest) -> None:
        super().__init__(message)
        self.dictionary = dictionary

    def __reduce__(self) -> tuple[type[LackingDictionaryError], tuple[str, Digest]]:
        """Keep the dictionary when the error travels between processes."""
        return type(self), (str(self.args[0]), self.dictionary)


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
        marker: What its marker said when it was opened.
        let_go: Has a file opened anew when a part of it is next read, since another may be in its place.
    """

    root: Path
    durable: bool
    codec: Codec
    backend: Backend
    objects: ObjectStore
    index: Index
    journal: Journal
    marker: Marker
    let_go: Callable[[str], None]

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
            NotFoundError: It is gone or bad; the index no longer believes in it. Or its pack's dictionary is.
        """
        try:
            content = self.objects.get(known)
        except (NotFoundError, IntegrityError):
            again = self.look_again(known)
            if again is None:
                self.doubt(known.digest, known)
                raise
            content = self._read_or_doubt(again)
        self.index.touch(known.digest)
        return content

    def _read_or_doubt(self, known: Stored) -> bytes:
        try:
            return self.objects.get(known)
        except (NotFoundError, IntegrityError):
            self.doubt(known.digest, known)
            raise

    def look_again(self, known: Stored) -> Stored | None:
        """Return where an object is that could not be read: it may have moved since it was looked up.

        Returns:
            How it is stored, if it is worth another try; None where it is here no more, or only as it was.
        """
        current = self.index.known(known.digest)
        if current is None or current.place is None:
            return None if current == known else current
        self.let_go(self.objects.pack_name(current.place.pack))
        return current

    def bring(self, source: ObjectStore, known: Stored) -> Stored:
        """Copy an object's file from another store, verified before it is here; the index is not told.

        Raises:
            LackingDictionaryError: What it is compressed with is not there.
            NotFoundError: It is not there.
            IntegrityError: It is not what it should be.
        """
        if known.place is not None:
            self._bring_dictionary_of(source, known.place)
            return self.objects.put(source.get(known), known.digest)
        if known.size <= FRAME_SIZE and known.stored <= STORED_MAX:
            with contextlib.suppress(IntegrityError):
                # As many bytes as recorded, so that a hostile file cannot fill the memory.
                sealed = source.backend.read_range(source.name(known.digest), 0, known.stored)
                decode(sealed, known)
                self.backend.write(self.objects.name(known.digest), sealed)
                return Stored(known.digest, known.size, len(sealed))
        # Large; or somebody stored it anew, at another level, and the file has another length now.
        from casstore.repo.large import fetched

        with fetched(source, known, self.spool) as (found, path):
            self.backend.upload(path, self.objects.name(known.digest), consume=True)
        return found

    def _bring_dictionary_of(self, source: ObjectStore, place: Place) -> None:
        if place.dictionary is None:
            return
        try:
            self.bring_dictionary(source, place.dictionary)
        except (NotFoundError, IntegrityError) as error:
            raise LackingDictionaryError(
                f"{source.backend.url} lacks the dictionary {place.dictionary}: {error}", place.dictionary
            ) from error

    def take_in(self, path: Path, name: str) -> None:
        """Put a pack or segment, ready at `path`, in its place."""
        self.require_packs()
        self.backend.upload(path, name, consume=True)

    def require_packs(self) -> None:
        """Let the store's marker say that it may hold packs, and the records that came with them."""
        if PACKED not in self.marker.features:
            require_feature(self.backend, read_marker(self.backend), PACKED)

    def bring_pack(self, source: ObjectStore, digest: Digest) -> Pack:
        """Copy a whole pack from another store, verified before it is here; the index is not told.

        It is not copied if it is here already, brought by a pull that died before the index was told.

        Raises:
            NotFoundError: It is not there.
            IntegrityError: It is not what it should be.
        """
        name = self.objects.pack_name(digest)
        with contextlib.suppress(OSError, IntegrityError):
            return read_pack(self.path(name), digest)
        with self.objects.spooled() as path:
            source.backend.download(source.pack_name(digest), path)
            pack = read_pack(path, digest)
            self.take_in(path, name)
        return pack

    def adopt(self, pack: Pack, *, used: int) -> bool:
        """Note a pack that is here now, and its objects, in one transaction.

        What is stored here otherwise stays as it is.

        Returns:
            Whether it is here: another process may have evicted it since it was put in its place.
        """
        with self.index.writing() as connection:
            if not self.path(self.objects.pack_name(pack.digest)).exists():
                return False
            put_pack_here(connection, pack, used=used)
        return True

    def bring_dictionary(self, source: ObjectStore, digest: Digest) -> Dictionary:
        """Return a dictionary, copied from another store if it is not here.

        Raises:
            NotFoundError: It is not there.
            IntegrityError: It is not what it should be.
        """
        try:
            return self.objects.dictionaries(digest)
        except NotFoundError:
            pass
        except IntegrityError:
            self.doubt(digest)
        dictionary = read_dictionary(source.backend, source.name(digest), digest)
        return self.keep_dictionary(dictionary)

    def keep_dictionary(self, dictionary: Dictionary) -> Dictionary:
        """Store a dictionary as the object that it is."""
        known = self.put(dictionary.content)
        if known.place is not None or not self.has_file(known):  # a pack must not need another pack for it
            known = self.objects.put(dictionary.content, dictionary.digest)
        with self.index.writing() as connection:
            put_objects(connection, [known], used=now())
        return dictionary

    def has_dictionary(self, digest: Digest) -> bool:
        """Return whether a dictionary is here, and good."""
        try:
            self.objects.dictionaries(digest)
        except (NotFoundError, IntegrityError):
            return False
        return True

    def doubt(self, digest: Digest, believed: Stored | None = None) -> None:
        """Look again at an object that could not be read as the index believes, and correct the belief.

        A bad file goes into quarantine. Nobody puts the object meanwhile, since that takes the index too.

        Args:
            digest: The object.
            believed: What could not be read; where the index believes otherwise by now, nothing is doubted.
        """
        known = self.index.known(digest)
        if believed is not None and known != believed:
            return
        if known is not None and known.place is not None:
            from casstore.repo.packs import doubt_member  # seldom needed

            doubt_member(self, known, known.place)
            return
        self._doubt_file(digest)

    def _doubt_file(self, digest: Digest) -> None:
        from casstore.catalog.holding import lose_objects

        name = self.objects.name(digest)
        with self.index.writing() as connection:
            try:
                found = examine(self.path(name), Stored(digest, UNKNOWN, 0))
            except FileNotFoundError:
                lose_objects(connection, [digest])
            except IntegrityError:
                lose_objects(connection, [digest])
                self.quarantine(name)
            else:
                put_objects(connection, [found], used=now())

    def doubt_pack(self, digest: Digest) -> None:
        """Look again at a pack that could not be read as the index believes, and correct the belief."""
        from casstore.repo.packs import doubt_pack

        doubt_pack(self, digest)

    def disbelieve(self, known: Stored) -> None:
        """Stop believing in an object that cannot be read here and is not to be mended."""
        from casstore.catalog.holding import lose_objects

        with self.index.writing() as connection:
            if self.index.known(known.digest) == known:
                lose_objects(connection, [known.digest])

    def quarantine(self, name: str) -> None:
        """Move a file out of the store, into the quarantine folder."""
        folder = self.root / QUARANTINE
        folder.mkdir(mode=0o700, exist_ok=True)
        target = folder / f"{now()}-{os.urandom(3).hex()}-{Path(name).name}"
        try:
            self.path(name).replace(target)
        except FileNotFoundError:  # another process was faster
            return

    def claim(
        self,
        key: Key,
        decide: Callable[[Claim | None, Sequence[Digest]], Claim],
        contents: Sequence[bytes] = (),
    ) -> Claim:
        """Let a claim on `key` stand: objects first, then the journal, then the index.

        Args:
            key: The key.
            decide: Returns the claim that should stand, given the one that does and the objects' digests.
            contents: The objects it leads to.

        Returns:
            The claim that stands now.
        """
        objects = [self.put(content) for content in contents]
        with self.index.alone, self.journal.undone_on_failure(), self.index.writing() as connection:
            standing = self.index.claim(key)
            claim = decide(standing, [known.digest for known in objects])
            used = now()
            if claim is not standing:
                self.journal.append([claim])
                put_claim(connection, claim)
            else:  # the objects lead nowhere: they go first
                used = 0
            stored = [
                self._where_it_is(known) or self.objects.put(content, known.digest)
                for known, content in zip(objects, contents, strict=True)
            ]
            put_objects(connection, stored, used=used)
        return claim

    def keep(self, known: Stored, path: Path) -> None:
        """Store an object that is put by hand and ready at `path`, unless it is here already."""
        if self.durable:  # now, rather than while others wait to write
            sync_file(path)
        with self.index.alone, self.journal.undone_on_failure(), self.index.writing() as connection:
            here = self.index.known(known.digest)
            if here is None or not self.has_file(here):
                self.backend.upload(path, self.objects.name(known.digest), consume=True)
                here = known
            elif self.index.is_kept(known.digest):
                self.index.touch(known.digest)
                return
            self.require_packs()
            self.journal.append([Kept(here.digest)])
            put_objects(connection, [here], used=now(), kept=True)

    def finish_journal(self) -> None:
        """Finish this process's journal, while no thread stands between the journal and the index."""
        with self.index.reading():
            self.journal.finish()

    def sweep(self, pattern: str = f"{SPOOL}/*") -> None:
        """Remove what processes that ended long ago left unfinished, by default in the spool."""
        long_ago = now() - UNFINISHED_AGE
        for path in self.root.glob(pattern):
            with contextlib.suppress(OSError):
                if path.stat().st_mtime_ns // 1_000_000 >= long_ago:
                    continue
                if path.is_dir():  # a collection's
                    shutil.rmtree(path)
                else:
                    path.unlink()

    def _where_it_is(self, known: Stored) -> Stored | None:
        """Return how an object that was here a moment ago is stored; None where it was evicted since."""
        if known.place is None and self.has_file(known):
            return known
        current = self.index.known(known.digest)  # it may have moved into a pack meanwhile
        return current if current is not None and self.has_file(current) else None

    def has_file(self, known: Stored) -> bool:
        """Return whether there is a file where an object should be, whatever it holds."""
        place = known.place
        name = self.objects.name(known.digest) if place is None else self.objects.pack_name(place.pack)
        return os.path.exists(f"{self.root}/{name}")  # noqa: PTH110 — on the path of every put


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
        ObjectStore(backend, marker.shards, codec, spool, Dictionaries(backend, marker.shards)),
        Index(root / INDEX, durable=durable, restore=restore),
        Journal(root / JOURNAL, durable=durable),
        marker,
        backend.let_go,
    )
