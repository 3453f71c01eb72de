"""What a collection sees in a remote: the files that are listed, beside what its segments tell.  Floor: repo.

The name of a pack is the digest of its file. So one that is not as long as it was written is damaged, which
the listing tells: what should be in it is looked for elsewhere, as if it were gone.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from casstore.catalog.census import Census, Use, census_there
from casstore.catalog.records import OBJECT, PACK, Location
from casstore.digest import Digest
from casstore.errors import FormatError, IntegrityError, NotFoundError
from casstore.repo.plan import Failure
from casstore.repo.plan_gc import DataFile, Holdings, SegmentFile
from casstore.store.layout import OBJECTS, PACKS, digest_in
from casstore.store.pack import Pack, read_pack

if TYPE_CHECKING:
    from casstore.backends.base import Info
    from casstore.catalog.index import Index
    from casstore.catalog.tracking import Tracking
    from casstore.repo.manifest import Listed
    from casstore.repo.remote import Remote

_UNUSED = Use()


@dataclass(frozen=True, slots=True)
class Seen:
    """What was seen in a remote.

    Attributes:
        holdings: What a collection is planned from.
        census: The use of packs and objects.
        lost: Packs that segments tell of, and that are gone or cut without having been doomed.
        cut: Those of them that are cut, each as a failure.
    """

    holdings: Holdings
    census: Census
    lost: Sequence[Digest]
    cut: tuple[Failure, ...]

    @property
    def absent(self) -> Sequence[Digest]:
        """Objects that are needed and not there: their file is gone or cut, or no segment locates them."""
        return self.census.nowhere


def look(remote: Remote, index: Index, tracking: Tracking, listed: Iterable[Listed]) -> Seen:
    """Return what a remote holds, now that its manifest was read: what is named was there before.

    Args:
        remote: The remote.
        index: Knows nothing but the segments of the remote.
        tracking: The part of that index about it.
        listed: The segments that it lists.
    """
    packs = dict(_ours(remote, PACKS))
    objects = dict(_ours(remote, OBJECTS))
    told = {digest: info.stored for digest, info in index.packs(packs).items()}
    # Where they differ, the pack itself says who is wrong: a segment may lie.
    unlike = (digest for digest, stored in told.items() if packs[digest].size != stored)
    cut = {digest for digest in unlike if not _is_whole(remote, digest)}
    found, gone = census_there(index, tracking, packs.keys() - cut, objects)
    holdings = replace(
        _holdings(remote, tracking, listed, [*_packs(packs, found), *_objects(objects, found)]),
        incomplete=bool(found.nowhere),
    )
    lost = [digest for digest in gone if digest not in holdings.doomed]
    failures = (_failure(packs[digest], told[digest]) for digest in lost if digest in cut)
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


def _packs(packs: dict[Digest, Info], found: Census) -> Iterator[DataFile]:
    for digest, info in packs.items():
        use = found.packs.get(digest, _UNUSED)
        yield DataFile(PACK, digest, info.size, info.modified, use.needed, use.members)


def _objects(objects: dict[Digest, Info], found: Census) -> Iterator[DataFile]:
    for digest, info in objects.items():
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
