"""Eviction: bringing a store under its size cap.  Floor: repo."""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from casstore.catalog.index import RECENT, now, remove_entries_of, remove_objects
from casstore.catalog.packed import dictionaries_needed, shares
from casstore.errors import BackendError
from casstore.events import Advanced, Finished, OnEvent, Started
from casstore.repo.plan_evict import EvictPlan, plan_evict
from casstore.repo.plan_repack import FULL
from casstore.repo.rewrite import Change, Rewritten, living, rewrite, source_of
from casstore.store.pack import PACK_MEMBERS, Pack

if TYPE_CHECKING:
    from casstore.digest import Digest
    from casstore.repo.local import Local
    from casstore.store.sealed import Stored

_BATCH = 500

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})


@dataclass(frozen=True, slots=True)
class EvictReport:
    """What an eviction did.

    Attributes:
        objects: Objects removed from here.
        bytes: Bytes of files that freed; what had to be written for it is taken off.
        entries: Entries that are gone, since no remote held their object.
    """

    objects: int
    bytes: int
    entries: int


def evict(local: Local, max_size: int, on_event: OnEvent) -> EvictReport:
    """Remove objects until the store is under its cap; those put by hand and those just used stay.

    What frees less than was foreseen is made up for by another plan, as long as there is something to free.

    Raises:
        BackendError: The disk is too full to rewrite what has to be, and nothing can go instead.
    """
    total = Rewritten()
    while True:
        plan = planned_eviction(local, max_size)
        before = total.before - total.after
        if plan.is_empty:
            break
        on_event(Started("evict", plan.count, plan.stored))
        full = _Eviction(local, plan, total, on_event).run()
        on_event(Finished("evict"))
        if total.before - total.after <= before:
            if full is not None:
                raise BackendError(
                    "cannot evict: the disk is full, and what is to stay of packs has to be written anew; "
                    "free some space, by other means than casstore"
                ) from full
            break
    return EvictReport(total.dropped, total.before - total.after, total.entries)


def planned_eviction(local: Local, max_size: int) -> EvictPlan:
    """Return what an eviction would do."""
    total = local.index.evictable()
    if total <= max_size:
        return EvictPlan()
    since = now() - RECENT
    spared = {digest for digest, used in local.index.used_here().items() if used >= since}
    spared |= dictionaries_needed(local.index, here=True)
    packs = shares(local.index)
    with contextlib.closing(local.index.eviction_order()) as order:
        return plan_evict(order, packs, total, max_size, spared)


class _Eviction:
    """Does what a plan says: what has a file of its own first, since it takes no room to remove it."""

    def __init__(self, local: Local, plan: EvictPlan, total: Rewritten, on_event: OnEvent) -> None:
        self._local = local
        self._plan = plan
        self._total = total
        self._on_event = on_event
        self._lost = set(plan.lost)
        self._full: BackendError | None = None

    def run(self) -> BackendError | None:
        """Remove the objects; return why packs were not rewritten, if the disk was too full for it."""
        for start in range(0, len(self._plan.objects), _BATCH):
            self._remove(self._plan.objects[start : start + _BATCH])
        for group in self._groups():
            self._thin(group)
        return self._full

    def _remove(self, batch: tuple[Digest, ...]) -> None:
        found = [self._local.index.known(digest) for digest in batch]
        loose = [known for known in found if known is not None and known.place is None]
        lost = [known.digest for known in loose if known.digest in self._lost]
        self._total.entries += remove(self._local, [known.digest for known in loose], lost)
        self._total.dropped += len(loose)
        self._total.before += sum(known.stored for known in loose)
        self._on_event(Advanced("evict", len(batch), sum(known.stored for known in loose)))

    def _groups(self) -> Iterator[list[_Thinned]]:
        """Yield packs to rewrite together: of one dictionary, and as many as fill one."""
        waiting: dict[Digest | None, list[_Thinned]] = {}
        infos = self._local.index.packs(each.pack for each in self._plan.packs)
        for thinning in self._plan.packs:
            source = source_of(self._local, infos[thinning.pack])
            if source is None:
                continue
            dropped = set(thinning.dropped)
            staying = [known for known in living(self._local, source) if known.digest not in dropped]
            kind = source.contents.dictionary
            if not _fits(waiting.get(kind, []), staying):
                yield waiting.pop(kind)
            waiting.setdefault(kind, []).append(_Thinned(source, staying, dropped))
        yield from waiting.values()

    def _thin(self, group: list[_Thinned]) -> None:
        """Rewrite packs; on a full disk, one after the other goes whole until there is room for the rest."""
        while (full := self._attempt(group)) is not None:
            spare = self._spare(group)
            if spare is None:
                self._full = full
                return
            going = {known.digest for known in spare.staying}
            self._rewrite([_Thinned(spare.source, [], spare.dropped | going)])
            group = [each for each in group if each is not spare]

    def _attempt(self, group: list[_Thinned]) -> BackendError | None:
        """Rewrite packs; return the error where the disk is full."""
        try:
            if group:
                self._rewrite(group)
        except BackendError as error:
            if not _is_full(error):
                raise
            return error
        return None

    def _spare(self, group: list[_Thinned]) -> _Thinned | None:
        """Return the first pack that can go whole: a remote holds all that was to stay, none put by hand."""
        staying = {known.digest for each in group for known in each.staying}
        with contextlib.closing(self._local.index.eviction_order()) as order:
            staying -= {each.digest for each in order if each.held and each.digest in staying}
        for each in group:
            if staying.isdisjoint(known.digest for known in each.staying):
                return each
        return None

    def _rewrite(self, group: list[_Thinned]) -> None:
        dropped = {digest for each in group for digest in each.dropped}
        needed = group[0].source.contents.dictionary
        change = Change(
            [known for each in group for known in each.staying],
            None if needed is None else self._local.objects.dictionaries(needed),
            [each.source for each in group],
            dropped,
            dropped & self._lost,
        )
        before = self._total.before - self._total.after
        rewrite(self._local, change, self._total)
        freed = self._total.before - self._total.after - before
        self._on_event(Advanced("evict", len(dropped), max(0, freed)))


@dataclass(frozen=True, slots=True)
class _Thinned:
    """A pack, which of its objects stay, and which go."""

    source: Pack
    staying: list[Stored]
    dropped: set[Digest]


def _is_full(error: BackendError) -> bool:
    return isinstance(error.__cause__, OSError) and error.__cause__.errno in _FULL


def _fits(group: list[_Thinned], more: list[Stored]) -> bool:
    """Return whether what stays of another pack fits into one new pack with what stays of these."""
    staying = [known for each in group for known in each.staying]
    return not staying or (
        sum(known.stored for known in (*staying, *more)) <= FULL and len(staying) + len(more) <= PACK_MEMBERS
    )


def remove(local: Local, digests: Iterable[Digest], lost: Iterable[Digest] = ()) -> int:
    """Remove objects from here: first the belief, then the file.

    What lies in a pack stays in it, unseen, until that is rewritten. Dictionaries that packs here need stay.

    Args:
        local: The store.
        digests: The objects.
        lost: Those of them that no remote holds, whose entries go too.

    Returns:
        How many entries went.
    """
    with local.index.writing() as connection:
        needed = dictionaries_needed(local.index, here=True)
        going = [digest for digest in digests if digest not in needed]
        remove_objects(connection, going)
        entries = remove_entries_of(connection, [digest for digest in lost if digest not in needed])
    with local.index.writing():  # nobody puts one again between the look and the deletion
        for digest in going:
            known = local.index.known(digest)
            if known is None or known.place is not None:
                local.backend.delete(local.objects.name(digest))
    return entries
