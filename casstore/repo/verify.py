"""Verification: every byte a store holds, against its digest.  Floor: repo."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from casstore.backends.reasons import words
from casstore.catalog.holding import remotes_holding, unlearn_segment
from casstore.catalog.index import put_objects, put_pack
from casstore.catalog.packed import is_pack_here, members_of, packs_here
from casstore.catalog.segment import read_segment
from casstore.errors import CasstoreError, FormatError, IntegrityError, NotFoundError
from casstore.events import Advanced, Finished, OnEvent, Started
from casstore.repo.plan import Failure
from casstore.repo.recover import reseal
from casstore.store.layout import MANIFEST, OBJECTS, PACKS, digest_in
from casstore.store.pack import Pack, read_pack
from casstore.store.sealed import UNKNOWN, Stored, examine

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from casstore.backends.base import Info
    from casstore.digest import Digest
    from casstore.repo.local import Local

_GONE = "the index knows it, but the file is gone"


@dataclass(frozen=True, slots=True)
class VerifyReport:
    """What a verification found.

    Attributes:
        objects: Objects read, each of those in packs included.
        segments: Segments read.
        bytes: Stored bytes read.
        failures: What did not hold; bad files are in ``quarantine/`` now.
        packs: Packs read.
        lost: Objects that were here and are no more.
        held: Those of them that a remote is believed to hold: a pull from it brings them back.
    """

    objects: int
    segments: int
    bytes: int
    failures: tuple[Failure, ...]
    packs: int = 0
    lost: int = 0
    held: int = 0


def verify(local: Local, on_event: OnEvent) -> VerifyReport:
    """Read all that the local store holds, and stop believing in what is bad or missing."""
    for folder in ("", f"{MANIFEST}/", f"{OBJECTS}/*/*/", f"{PACKS}/*/*/"):
        local.sweep(f"{folder}.*.tmp")
    files, packs, segments = (_listed(local, folder) for folder in (OBJECTS, PACKS, MANIFEST))
    size = sum(info.size for info in (*files, *packs, *segments))
    on_event(Started("verify", len(files) + len(packs) + len(segments), size))
    objects = _Objects(local)
    failures = _each(local, files, objects.check_file, on_event)
    failures += _each(local, packs, objects.check_pack, on_event)
    told = {failure.name for failure in failures}
    failures += [failure for failure in objects.failures if failure.name not in told]
    bad = _each(local, segments, _check_segment, on_event)
    if bad:  # perhaps no remote has them, and no journal still has their records
        reseal(local)
    failures += bad
    failures += objects.missing()
    on_event(Finished("verify"))
    lost = objects.lost(objects.doubted)
    held = sum(bool(remotes_holding(local.index, digest)) for digest in lost)
    return VerifyReport(
        objects.count, len(segments), size, tuple(failures), len(packs), lost=len(lost), held=held
    )


def _listed(local: Local, folder: str) -> list[Info]:
    return sorted(local.backend.list(folder), key=lambda info: info.name)


def _each(
    local: Local, files: list[Info], check: Callable[[Local, Info], None], on_event: OnEvent
) -> list[Failure]:
    failures: list[Failure] = []
    for info in files:
        failures += _failures(local, info, check)
        on_event(Advanced("verify", 1, info.size))
    return failures


def _failures(local: Local, info: Info, check: Callable[[Local, Info], None]) -> list[Failure]:
    try:
        check(local, info)
    except NotFoundError:  # removed since it was listed
        return []
    except (CasstoreError, OSError) as error:
        return [Failure(info.name, words(error))]
    return []


class _Objects:
    """Checks objects: in files of their own, and each in its pack.

    Attributes:
        count: Objects that were read.
        doubted: Objects that could not be read where they were believed to be.
        failures: Objects that were bad in packs whose bytes are right, and dictionaries that are not here.
    """

    def __init__(self, local: Local) -> None:
        self._local = local
        self._present: set[Digest] = set()
        self._missing: set[Digest] = set()
        self.count = 0
        self.doubted: set[Digest] = set()
        self.failures: list[Failure] = []

    def lost(self, digests: Iterable[Digest]) -> list[Digest]:
        """Return those objects that are here no more."""
        return [digest for digest in digests if self._local.index.known(digest) is None]

    def check_file(self, local: Local, info: Info) -> None:
        """Check one object's file, and take it in where the index does not know it."""
        digest = digest_in(info.name)
        if info.name != local.objects.name(digest):
            raise FormatError(f"it belongs at {local.objects.name(digest)}; move it there")
        self.count += 1
        known = local.index.known(digest)
        try:
            found = examine(local.path(info.name), known or Stored(digest, UNKNOWN, info.size))
        except IntegrityError:
            if known is None or known.place is not None:  # nothing relies on this file
                local.quarantine(info.name)
            else:
                self._doubt(digest)
            raise
        except FileNotFoundError:
            return
        if found != known:  # a crash came between the file and the index: it may stay, and may go first
            with local.index.writing() as connection:
                if local.path(info.name).exists():  # else it was evicted since it was read
                    put_objects(connection, [found], used=0)

    def check_pack(self, local: Local, info: Info) -> None:
        """Check one pack, and take it in where the index does not know it."""
        digest = digest_in(info.name)
        if info.name != local.objects.pack_name(digest):
            raise FormatError(f"it belongs at {local.objects.pack_name(digest)}; move it there")
        local.let_go(info.name)
        try:
            pack = read_pack(local.path(info.name), digest)
        except IntegrityError as error:
            members = self._doubt_pack(digest)
            self.count += len(members)
            raise IntegrityError(f"{error}{self._told(members)}") from error
        except FileNotFoundError:
            return
        if self._has_dictionary(pack):
            good = [known for known in pack.members() if self._is_good(known)]
            self.count += len(pack.contents.digests)
            self._take_in(pack, good)

    def missing(self) -> list[Failure]:
        """Return what the index knows and is gone, which it knows no longer."""
        local, failures = self._local, []
        for pack in packs_here(local.index):
            name = local.objects.pack_name(pack.digest)
            if _is_gone(local, name, partial(_is_pack_here, local, pack.digest)):
                self._doubt_pack(pack.digest)
                failures.append(Failure(name, _GONE))
        for info in local.index.objects():
            name = local.objects.name(info.digest)
            if not info.packed and _is_gone(local, name, partial(_is_loose_here, local, info.digest)):
                self._doubt(info.digest)
                failures.append(Failure(name, _GONE))
        return failures

    def _doubt(self, digest: Digest, believed: Stored | None = None) -> None:
        self.doubted.add(digest)
        self._local.doubt(digest, believed)

    def _doubt_pack(self, digest: Digest) -> list[Digest]:
        """Look again at a pack, and return what was believed to be in it."""
        members = [known.digest for known in members_of(self._local.index, digest)]
        self.doubted.update(members)
        self._local.doubt_pack(digest)
        return members

    def _told(self, members: Sequence[Digest]) -> str:
        """Return what became of the objects in a pack, for people."""
        if not members:
            return ""
        lost = len(self.lost(members))
        return f"; of its objects {len(members) - lost:,} saved, {lost:,} lost"

    def _has_dictionary(self, pack: Pack) -> bool:
        needed = pack.contents.dictionary
        if needed is None or needed in self._present:
            return True
        if needed in self._missing:
            return False
        self._local.objects.dictionaries.forget(needed)  # what counts is its file
        if self._local.has_dictionary(needed):
            self._present.add(needed)
            return True
        self._missing.add(needed)
        self._doubt(needed)
        name = self._local.objects.name(needed)
        self.failures.append(Failure(name, f"it is the dictionary of pack {pack.digest}, and not here"))
        return False

    def _is_good(self, known: Stored) -> bool:
        try:
            self._local.objects.get(known)
        except NotFoundError:  # the pack was removed since it was read
            return False
        except IntegrityError as error:
            if self._local.index.known(known.digest) == known:  # else nothing relies on it
                self._doubt(known.digest, known)
                self.failures.append(Failure(known.digest, str(error)))
            return False
        return True

    def _take_in(self, pack: Pack, good: list[Stored]) -> None:
        """Take in a pack that a crash kept from the index: it may stay, and may go first."""
        with self._local.index.writing() as connection:
            path = self._local.path(self._local.objects.pack_name(pack.digest))
            if good and path.exists() and not is_pack_here(connection, pack.digest):
                put_pack(connection, pack, here=True)
                put_objects(connection, good, used=0, replace=False)


def _check_segment(local: Local, info: Info) -> None:
    digest = digest_in(info.name)
    try:
        for _ in read_segment(local.path(info.name), digest):
            pass
    except IntegrityError:
        local.quarantine(info.name)
        unlearn_segment(local.index, digest)
        raise
    except FileNotFoundError:
        return


def _is_gone(local: Local, name: str, is_believed: Callable[[], bool]) -> bool:
    """Return whether the index believes in a file that is not there.

    Whoever evicts or repacks takes the belief away first, so what was believed a moment ago is asked again.
    """
    path = local.path(name)
    if path.exists():
        return False
    with local.index.writing():  # nobody puts or removes it meanwhile
        return is_believed() and not path.exists()


def _is_loose_here(local: Local, digest: Digest) -> bool:
    known = local.index.known(digest)
    return known is not None and known.place is None


def _is_pack_here(local: Local, digest: Digest) -> bool:
    with local.index.reading() as connection:
        return is_pack_here(connection, digest)
