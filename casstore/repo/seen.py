"""What a collection sees in a remote: the files that are listed, beside what its segments tell.  Floor: repo.

The name of a pack is the digest of its file. So one that is not as long as it was written is damaged, which
the listing tells: what should be in it is looked for elsewhere, as if it were gone.
"""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from casstore.backends.base import Info
from casstore.catalog.census import Census, Use, census_there, packs_with
from casstore.catalog.records import OBJECT, PACK, Location
from casstore.digest import Digest
from casstore.errors import FormatError, IntegrityError, NotFoundError
from casstore.repo.plan import Failure
from casstore.repo.plan_gc import DataFile, Holdings, SegmentFile
from casstore.store.layout import OBJECTS, PACKS, digest_in
from casstore.store.pack import Pack, read_pack

if TYPE_CHECKING:
    from casstore.catalog.index import Index
    from casstore.catalog.tracking import Tracking
    from casstore.repo.manifest import Listed
    from casstore.repo.remote import Remote
    from casstore.store.sealed import Stored

_UNUSED = Use()


@dataclass(frozen=True, slots=True)
class Seen:
    """What was seen in a remote.

    Attributes:
        holdings: What a collection is planned from.
        census: The use of packs and objects.
        lost: Packs that segments tell of, and that are gone, cut or useless without having been doomed.
        failures: Those of them that are cut, and dictionaries that cannot be had and are needed.
    """

    holdings: Holdings
    census: Census
    lost: Sequence[Digest]
    failures: tuple[Failure, ...]

    @property
    def absent(self) -> Sequence[Digest]:
        """Objects that are needed and not there: their file is gone or useless, or told of by no segment."""
        return self.census.nowhere


@dataclass(frozen=True, slots=True)
class Files:
    """The files that a remote lists.

    Attributes:
        segments: The segments.
        packs: The packs.
        objects: The objects' own files.
        cut: Packs that are damaged, with the length that each had when it was written.
    """

    segments: Sequence[Listed]
    packs: Mapping[Digest, Info]
    objects: Mapping[Digest, Info]
    cut: Mapping[Digest, int]

    def with_objects(self, sent: Iterable[Stored]) -> Files:
        """Return what is there once these objects were sent."""
        new = {known.digest: Info(known.digest, known.stored) for known in sent}
        return replace(self, objects={**self.objects, **new})


def list_files(remote: Remote, index: Index, segments: Iterable[Listed]) -> Files:
    """List what a remote holds, now that its manifest was read: what is named was there before.

    Args:
        remote: The remote.
        index: Knows nothing but the segments of the remote.
        segments: The segments that it lists.
    """
    packs = dict(_ours(remote, PACKS))
    told = {digest: info.stored for digest, info in index.packs(packs).items()}
    # Where they differ, the pack itself says who is wrong: a segment may lie.
    unlike = (digest for digest, stored in told.items() if packs[digest].size != stored)
    cut = {digest: told[digest] for digest in unlike if not _is_whole(remote, digest)}
    return Files(tuple(segments), packs, dict(_ours(remote, OBJECTS)), cut)


def look(
    remote: Remote, index: Index, tracking: Tracking, files: Files, unusable: Collection[Digest] = ()
) -> Seen:
    """Return what a remote holds.

    Args:
        remote: The remote.
        index: Knows nothing but the segments of the remote.
        tracking: The part of that index about it.
        files: What it lists.
        unusable: Dictionaries that cannot be had. Packs that need them count as gone.
    """
    useless = files.cut.keys() | packs_with(index, unusable)
    found, gone = census_there(index, tracking, files.packs.keys() - useless, files.objects)
    holdings = replace(
        _holdings(remote, tracking, files.segments, [*_packs(files, found), *_objects(files, found)]),
        incomplete=bool(found.nowhere),
    )
    lost = [digest for digest in gone if digest not in holdings.doomed]
    failures = (_failure(files.packs[digest], files.cut[digest]) for digest in lost if digest in files.cut)
    return Seen(holdings, found, lost, tuple(failures))


def _is_whole(remote: Remote, digest: Digest) -> bool:
    source = remote.objects()
    with source.spooled() as path:
        try:
            source.backend.download(source.pack_name(digest), path)
            read_pack(path, digest)
        except (NotFoundError, IntegrityError):
            return False
    return True


def _packs(files: Files, found: Census) -> Iterator[DataFile]:
    for digest, info in files.packs.items():
        use = found.packs.get(digest, _UNUSED)
        yield DataFile(PACK, digest, info.size, info.modified, use.needed, use.members)


def _objects(files: Files, found: Census) -> Iterator[DataFile]:
    for digest, info in files.objects.items():
        yield DataFile(OBJECT, digest, info.size, info.modified, int(found.loose.get(digest, False)))


def _holdings(
    remote: Remote, tracking: Tracking, listed: Iterable[Listed], files: Sequence[DataFile]
) -> Holdings:
    replaced = tracking.replaced()
    known = {record.digest: record.after for record in remote.tracking.doomed()}
    own = {
        record.digest if isinstance(record, Pack) else record.known.digest
        for record in remote.tracking.untold()
        if isinstance(record, Pack | Location)
    }
    return Holdings(
        [SegmentFile(each.digest, each.stored, each.digest in replaced) for each in listed],
        files,
        # Who has read all since then knows best when something was doomed first.
        {record.digest: known.get(record.digest, record.after) for record in tracking.doomed()},
        own,
    )


def _failure(info: Info, stored: int) -> Failure:
    return Failure(info.name, f"it is damaged: it has {info.size:,} bytes, and had {stored:,}")


def _ours(remote: Remote, folder: str) -> Iterator[tuple[Digest, Info]]:
    """Yield the packs or objects that a remote lists; what some tool left there is passed over."""
    store = remote.objects()
    name_of = store.pack_name if folder == PACKS else store.name
    for info in remote.backend.list(folder):
        with contextlib.suppress(FormatError):
            digest = digest_in(info.name)
            if info.name == name_of(digest):
                yield digest, info
