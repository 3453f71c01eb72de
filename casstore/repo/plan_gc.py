"""The plan of a collection: what of a remote is garbage, and what may be deleted now.  Floor: repo.  Pure.

Garbage is doomed first, for everyone to read. It is deleted by a collection that finds it doomed for longer
than the grace, still not needed, and not written again. What is needed and lies among garbage is moved.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

from casstore.catalog.records import OBJECT, PACK, SEGMENT
from casstore.digest import Digest
from casstore.repo.local import GRACE
from casstore.repo.plan import LIST_PAGE, Contact, without_zeros
from casstore.repo.plan_merge import SMALL_PACK, fold
from casstore.repo.plan_push import TOC, TOC_ENTRY

SMALL_SEGMENTS = 256 * 1024
"""Bytes of segments that count as new: twice as large ones are folded by every collection."""

SMALL_PACKS = 1024 * 1024
"""Likewise, of packs."""

FOLDED_SEGMENTS = 32 * 1024 * 1024
FOLDED_PACKS = 1024 * 1024 * 1024
"""Bytes that one collection folds at most."""

SPARSE = 0.5
"""The share of a pack's objects that must be needed; out of others, the needed ones move."""


@dataclass(frozen=True, slots=True)
class SegmentFile:
    """A segment in a remote: its digest, its bytes, and whether another one stands for it."""

    digest: Digest
    stored: int
    replaced: bool


@dataclass(frozen=True, slots=True)
class DataFile:
    """A pack, or an object's own file.

    Attributes:
        what: Which of both.
        digest: Its digest.
        stored: Its bytes.
        modified: When it was last written, by the remote's clock (ms); None where that is not known.
        needed: How many needed objects are looked for in it.
        members: How many objects there are in it; 0 where that is not known.
    """

    what: str
    digest: Digest
    stored: int
    modified: int | None
    needed: int
    members: int = 1


@dataclass(frozen=True, slots=True)
class Garbage:
    """A file that nobody needs: what it is, its digest and its bytes."""

    what: str
    digest: Digest
    stored: int


@dataclass(frozen=True, slots=True)
class Holdings:
    """What a collection is planned from.

    Attributes:
        segments: The segments that are listed.
        files: The packs and objects that are listed.
        doomed: What is doomed, and after when it may be deleted (ms, by the remote's clock).
        own: What an interrupted push of this store left, and its next push will tell of.
        incomplete: Whether objects are needed whose file is gone. A file that seems not to be needed may hold
            them, so none is doomed or deleted until they are there again.
        stuck: Packs of which not all that is needed can be had, so that they stay as they are.
    """

    segments: Collection[SegmentFile]
    files: Collection[DataFile]
    doomed: Mapping[Digest, int]
    own: Collection[Digest] = ()
    incomplete: bool = False
    stuck: Collection[Digest] = ()


@dataclass(frozen=True, slots=True)
class GcPlan:
    """A collection.

    Attributes:
        doomed: What to doom.
        segments: Segments to fold into one.
        packs: Packs whose needed objects to put into others.
        deleted: What to delete.
        rescued: Those of the packs that are to be deleted too, once what is needed of them was moved.
        waiting: How many doomed files are not to be deleted yet.
    """

    doomed: tuple[Garbage, ...] = ()
    segments: tuple[Digest, ...] = ()
    packs: tuple[Digest, ...] = ()
    deleted: tuple[Garbage, ...] = ()
    rescued: tuple[Garbage, ...] = ()
    waiting: int = 0

    @property
    def leaving(self) -> tuple[Garbage, ...]:
        """What is gone in the end."""
        return self.deleted + self.rescued

    @property
    def is_empty(self) -> bool:
        """Whether nothing would change."""
        return not (self.doomed or self.segments or self.packs or self.deleted)


def plan_gc(holdings: Holdings, now: int, grace: int) -> GcPlan:
    """Return what a collection would do.

    Args:
        holdings: What the remote holds.
        now: The time by the remote's clock, in milliseconds since the Unix epoch.
        grace: Milliseconds for which something must have been doomed to be deleted, and for which what is
            new is left alone.
    """
    listed = {segment.digest for segment in holdings.segments} | {each.digest for each in holdings.files}
    doomed_before = listed.intersection(holdings.doomed)
    if holdings.incomplete:
        return GcPlan(waiting=len(doomed_before))
    judged = _Judge(holdings, now, grace)
    packs = [each for each in holdings.files if each.what == PACK and each.digest not in holdings.stuck]
    moved = {each.digest for each in packs if judged.is_sparse(each) or judged.is_rescued(each)}
    moved |= _small_packs([each for each in packs if judged.stays(each) and each.digest not in moved], moved)
    doomed = [
        Garbage(each.what, each.digest, each.stored)
        for each in holdings.files
        if judged.is_garbage(each) or (each.digest in moved and each.digest not in holdings.doomed)
    ]
    folded = _small_segments(holdings)
    doomed += [
        Garbage(SEGMENT, each.digest, each.stored)
        for each in holdings.segments
        if each.digest not in holdings.doomed and (each.replaced or each.digest in folded)
    ]
    deleted = tuple(judged.deleted())
    rescued = tuple(Garbage(PACK, each.digest, each.stored) for each in packs if judged.is_rescued(each))
    waiting = len(doomed_before) - len(deleted) - len(rescued)
    return GcPlan(tuple(doomed), tuple(sorted(folded)), tuple(sorted(moved)), deleted, rescued, waiting)


@dataclass(frozen=True, slots=True)
class Means:
    """What a collection needs, and has or has not at hand.

    Attributes:
        segments: Segments to fold that are not here.
        packs: Packs to move that are not here.
        checked: Dictionaries to look at in the remote.
        dictionaries: Dictionaries that are not here, and that moving takes.
        moved: The stored bytes and the number of the objects of each new pack.
        tells: Whether uploads are to be told of in any case.
        mended: Dictionaries to send again.
    """

    segments: int
    packs: int
    checked: int
    dictionaries: int
    moved: Sequence[tuple[int, int]]
    tells: bool
    mended: int = 0

    @property
    def bytes(self) -> int:
        """Bytes of the new packs, about."""
        return sum(stored + TOC + TOC_ENTRY * count for stored, count in self.moved)


def gc_requests(contact: Contact, holdings: Holdings, plan: GcPlan, means: Means) -> Mapping[str, int]:
    """Return the requests of a collection, by verb."""
    publishes = int(bool(plan.doomed or means.moved or means.tells or means.mended))
    kinds = Counter(each.what for each in holdings.files)
    lists = _pages(len(holdings.segments), kinds[PACK], kinds[OBJECT])
    if plan.leaving:
        lists += _pages(len(holdings.segments) + publishes, kinds[PACK] + len(means.moved), kinds[OBJECT])
    return without_zeros(
        {
            "LIST": lists,
            "GET": means.checked + means.packs + means.dictionaries + means.segments,
            "PUT": means.mended + len(means.moved) + publishes * (1 + (not contact.packs)),
            "DELETE": len(plan.leaving),
        }
    )


def _pages(*counts: int) -> int:
    return sum(max(1, -(-count // LIST_PAGE)) for count in counts)


class _Judge:
    """Says of single files what they are."""

    def __init__(self, holdings: Holdings, now: int, grace: int) -> None:
        self._holdings = holdings
        self._now = now
        self._grace = grace

    def deleted(self) -> Iterator[Garbage]:
        """Yield what may go now: names before data."""
        for segment in self._holdings.segments:
            if segment.replaced and self._is_due(segment.digest):
                yield Garbage(SEGMENT, segment.digest, segment.stored)
        for what in (PACK, OBJECT):
            for each in self._holdings.files:
                if each.what == what and not each.needed and self._is_due(each.digest) and self._is_old(each):
                    yield Garbage(what, each.digest, each.stored)

    def stays(self, each: DataFile) -> bool:
        """Return whether a file is needed and not doomed."""
        return bool(each.needed) and each.digest not in self._holdings.doomed

    def is_garbage(self, each: DataFile) -> bool:
        """Return whether a file is to be doomed: nobody needs it, and nobody may be about to tell of it."""
        known = each.digest in self._holdings.doomed or each.digest in self._holdings.own
        return not each.needed and not known and self._is_old(each)

    def is_sparse(self, each: DataFile) -> bool:
        """Return whether a pack holds more that is not needed than what is."""
        return self.stays(each) and self._is_old(each) and each.needed < SPARSE * each.members

    def is_rescued(self, each: DataFile) -> bool:
        """Return whether a pack could be deleted, but for objects that became needed."""
        return bool(each.needed) and self._is_due(each.digest) and self._is_old(each)

    def _is_due(self, digest: Digest) -> bool:
        after = self._holdings.doomed.get(digest)
        return after is not None and after - GRACE + self._grace <= self._now

    def _is_old(self, each: DataFile) -> bool:
        return each.modified is None or each.modified + self._grace <= self._now


def _small_packs(packs: Collection[DataFile], moved: Collection[Digest]) -> set[Digest]:
    sizes = ((each.stored, each.digest) for each in packs if each.stored < SMALL_PACK)
    chosen = fold(sizes, SMALL_PACKS, FOLDED_PACKS)
    return set(chosen) if len(chosen) + len(moved) > 1 else set()


def _small_segments(holdings: Holdings) -> set[Digest]:
    live = ((each.stored, each.digest) for each in holdings.segments if not each.replaced)
    chosen = fold(live, SMALL_SEGMENTS, FOLDED_SEGMENTS)
    return set(chosen) if len(chosen) > 1 else set()
