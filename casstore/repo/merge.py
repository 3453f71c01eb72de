"""Merging: what a push does so that small pushes do not pile up in a remote.  Floor: repo.

A push that has something to tell folds small segments, and the small packs that they tell of, into its own
segment and pack. It takes no request more than it would have taken, but where many packs of others have come
together, which it fetches. What was folded is doomed: readers pass over it, and a collection deletes it later
(`casstore.repo.gc`). What is kept, dropped and doomed is decided by what the index knows when all is
uploaded, so that whatever went wrong before leaves the old packs in their place.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING

from casstore.catalog.folding import Union, coverage, members_of, packs_in, remembered
from casstore.catalog.index import now
from casstore.catalog.inventory import packs_of
from casstore.catalog.records import PACK, SEGMENT, Doomed, Record, Replaces
from casstore.catalog.segment import write_merged
from casstore.digest import Digest
from casstore.errors import FormatError, IntegrityError, NotFoundError
from casstore.repo.local import GRACE, Local
from casstore.repo.plan_merge import (
    ENTRY_STORED,
    FOLDED_MAX,
    NO_MERGE,
    OBJECT_STORED,
    Candidate,
    Merge,
    fold,
    fold_packs,
    without,
)
from casstore.repo.plan_push import last_pack
from casstore.repo.recover import add_segment
from casstore.repo.transfer import parallel
from casstore.store.layout import segment_name
from casstore.store.pack import Pack

if TYPE_CHECKING:
    from casstore.catalog.inventory import Lacking, Row
    from casstore.repo.manifest import Listed
    from casstore.repo.plan_push import PushPlan
    from casstore.repo.remote import Remote

TRUSTED = GRACE // 2
"""Milliseconds for which an interrupted push believes in what it uploaded: a collection deletes it later."""


NO_MARK = -1
"""Marks no claim: what is published tells of no pending one."""


def distrust(remote: Remote) -> None:
    """Believe no longer in uploads that were interrupted long ago, before a push is planned."""
    remote.tracking.distrust(now() - TRUSTED)


def planned_merge(
    local: Local,
    remote: Remote,
    listed: Sequence[Listed],
    lacking: Lacking,
    obtain: Callable[[Digest], bool],
) -> Merge:
    """Return what a push would fold.

    Args:
        local: The local store.
        remote: The remote.
        listed: The segments that it lists.
        lacking: What the push sends.
        obtain: Whether a dictionary that packs here need is here, or can be had.
    """
    if lacking.is_empty:
        return NO_MERGE
    doomed = frozenset(record.digest for record in remote.tracking.doomed())
    nothing = Merge(barred=doomed)
    added = ENTRY_STORED * lacking.claims + OBJECT_STORED * len(lacking.objects)
    segments = fold(_foldable(local, remote, listed), added, FOLDED_MAX)
    packs: dict[Digest, Pack] = {}
    for segment in segments:
        try:
            found = packs_in(local.path(segment_name(segment)), segment)
        except (FileNotFoundError, IntegrityError, FormatError):  # another process folded it meanwhile
            return nothing
        packs |= {pack.digest: pack for pack in found}
    if not segments:
        return nothing
    sent = {row.digest for row in lacking.objects}
    standing = [pack for pack in packs.values() if pack.digest not in doomed]
    candidates = _candidates(local, remote, standing, sent, obtain)
    chosen, fetched = fold_packs(candidates, last_pack(lacking, doomed))
    chosen.sort(key=lambda pack: (-pack.stored, pack.digest))  # the oldest first, most likely
    members = tuple({row.digest: row for pack in chosen for row in pack.members}.values())
    with local.index.reading() as connection:
        sources = packs_of(connection, (row.pack for row in members))
    return Merge(
        tuple(sorted(segments)),
        tuple(pack.digest for pack in chosen),
        tuple(fetched),
        members,
        sources,
        frozenset(each.digest for each in listed),
        doomed,
    )


def _foldable(local: Local, remote: Remote, listed: Iterable[Listed]) -> Iterator[tuple[int, Digest]]:
    """Yield the segments that may be folded: those that nothing replaces, and that are here whole."""
    tracking = remote.tracking
    known, replaced = tracking.segments(), tracking.replaced()
    for each in listed:
        folds = each.digest in known and each.digest not in replaced and each.stored <= FOLDED_MAX
        if folds and local.path(segment_name(each.digest)).exists():
            yield each.stored, each.digest


def _candidates(
    local: Local,
    remote: Remote,
    packs: Iterable[Pack],
    sent: Collection[Digest],
    obtain: Callable[[Digest], bool],
) -> Iterator[Candidate]:
    """Yield packs, and of each what it alone holds and is not `sent` anyway."""
    current = local.index.current_dictionary()  # which a push that packs anything brings
    for pack in packs:
        dictionary = pack.contents.dictionary
        digests = [digest for digest in pack.contents.digests if digest not in sent]
        members = members_of(local.index, remote.tracking.id, digests)
        needed = [member for member in members if not member.stays or member.pack == pack.digest]
        here = [member.here for member in needed if member.here is not None]
        there = [member.there for member in needed if member.there is not None]
        readable = all(map(obtain, _dictionaries(local, here)))
        at_hand = len(here) == len(needed) and readable
        usable = readable and (dictionary == current or _is_here(local, dictionary))
        fetchable = len(there) == len(needed) and usable
        yield Candidate(pack.digest, pack.stored, tuple(here if at_hand else there), at_hand, fetchable)


def _dictionaries(local: Local, rows: Iterable[Row]) -> set[Digest]:
    """Return the dictionaries that objects here are compressed with."""
    with local.index.reading() as connection:
        packs = packs_of(connection, (row.pack for row in rows))
    return {pack.dictionary for pack in packs.values() if pack.dictionary is not None}


def _is_here(local: Local, dictionary: Digest | None) -> bool:
    """Return whether a dictionary is here; it is, where none is needed."""
    return dictionary is None or local.index.known(dictionary) is not None


def fetched(local: Local, remote: Remote, plan: PushPlan) -> PushPlan:
    """Fetch what a push folds and does not have; return the plan without what cannot be had."""
    if not plan.merge.fetched:
        return plan
    numbers = {info.digest: number for number, info in plan.merge.sources.items()}
    wanted = {digest: plan.merge.sources[numbers[digest]].dictionary for digest in plan.merge.fetched}
    # Planning brought the current dictionary, if it is to be had.
    usable = [digest for digest, dictionary in wanted.items() if _is_here(local, dictionary)]
    missing = {numbers[digest] for digest in wanted.keys() - usable}
    bring = partial(local.bring_pack, remote.objects())
    for digest, pack in parallel(bring, usable):
        if isinstance(pack, Pack):
            local.adopt(pack, used=0)
        elif isinstance(pack, NotFoundError | IntegrityError):
            missing.add(numbers[digest])
        else:
            raise pack
    return replace(plan, packs=without(plan.packs, missing)) if missing else plan


def publish(
    local: Local,
    remote: Remote,
    merge: Merge,
    fresh: Iterable[Record | bytes],
    told: Sequence[Record],
    mark: int,
) -> None:
    """Publish a segment with what is new, and with what those held that it takes the place of.

    Args:
        local: The local store.
        remote: The remote.
        merge: What is folded.
        fresh: What is new.
        told: The records of uploads among that.
        mark: What the pending claims among that are marked with.
    """
    publish_folding(local, remote, _opened(local, remote, merge), fresh, told, mark)


@dataclass(frozen=True, slots=True)
class Folding:
    """Segments that were read to be folded.

    Attributes:
        segments: Which.
        union: Their records.
        dropped: Packs and objects of which the merged segment does not tell.
        doomed: What it dooms that was not doomed before.
        listed: The segments that the remote lists.
        at: The time by the remote's clock.
    """

    segments: tuple[Digest, ...] = ()
    union: Union = field(default_factory=Union)
    dropped: frozenset[Digest] = frozenset()
    doomed: tuple[Doomed, ...] = ()
    listed: frozenset[Digest] = frozenset()
    at: int = 0

    @property
    def replaces(self) -> list[Digest]:
        """The segments that the merged one stands for, and that may still be met."""
        return sorted({*self.segments, *(self.union.replaces & self.listed)})


def publish_folding(
    local: Local,
    remote: Remote,
    folding: Folding,
    fresh: Iterable[Record | bytes],
    told: Sequence[Record],
    mark: int,
) -> None:
    """Publish a segment with what is new, and with what was folded; see `publish`."""
    tracking = remote.tracking
    news = [*folding.doomed, *tracking.spared(told)]
    if folding.segments:
        segment = write_folded(local, remote, folding, itertools.chain(fresh, news))
    else:
        segment = add_segment(local, itertools.chain(fresh, news))
        remote.prepare(packs=bool(news))
        remote.publish(segment)
    with local.index.writing():
        tracking.pushed(segment, mark, told)
        if news:
            tracking.apply(segment, [*map(Replaces, folding.replaces), *news])
    for each in folding.segments:  # all of whose records another one has here
        local.backend.delete(segment_name(each))


def _opened(local: Local, remote: Remote, merge: Merge) -> Folding:
    """Read what is to be folded: nothing, where another process was faster."""
    union = read_union(local, merge.segments) if merge.segments else None
    if union is None:
        return Folding()
    tracking, at = remote.tracking, remote.backend.now()
    known = {record.digest for record in tracking.doomed()}
    candidates = [pack for digest, pack in union.packs.items() if digest in known or digest in merge.packs]
    dropped = coverage(local.index, tracking.id, candidates)
    doomed = [Doomed(SEGMENT, digest, at + GRACE) for digest in merge.segments]
    doomed += [Doomed(PACK, digest, at + GRACE) for digest in sorted(dropped) if digest not in known]
    return Folding(merge.segments, union, dropped, tuple(doomed), merge.listed, at)


def read_union(local: Local, segments: Iterable[Digest]) -> Union | None:
    """Return the records of segments that are here; None where one is no longer here whole."""
    union = Union()
    try:
        for segment in segments:
            union.add(local.path(segment_name(segment)), segment)
    except (FileNotFoundError, IntegrityError, FormatError):
        return None
    return union


def write_folded(local: Local, remote: Remote, folding: Folding, fresh: Iterable[Record | bytes]) -> Digest:
    """Write a merged segment, and return its digest.

    It is there before it is here: it holds the time, so an interrupted push could not make it again.
    """
    told_of = remembered(folding.union.doomed.values(), folding.listed, folding.at)
    others = folding.union.records(folding.dropped, told_of)
    with local.objects.spooled() as path:
        known = write_merged(folding.replaces, fresh, others, path, local.codec)
        remote.prepare(packs=True)
        remote.publish_file(path, known.digest)
        local.take_in(path, segment_name(known.digest))
    return known.digest
