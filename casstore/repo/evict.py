"""Eviction: bringing a store under its size cap.  Floor: repo."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from casstore.catalog.index import RECENT, now, remove_entries_of, remove_objects
from casstore.events import Advanced, Finished, OnEvent, Started
from casstore.repo.plan import plan_evict

if TYPE_CHECKING:
    from casstore.digest import Digest
    from casstore.repo.local import Local

_BATCH = 500


@dataclass(frozen=True, slots=True)
class EvictReport:
    """What an eviction did.

    Attributes:
        objects: Objects removed from here.
        bytes: Stored bytes that freed.
        entries: Entries that are gone, since no remote held their object.
    """

    objects: int
    bytes: int
    entries: int


def evict(local: Local, max_size: int, on_event: OnEvent) -> EvictReport:
    """Remove objects until the store is under its cap; those put by hand and those just used stay."""
    since = now() - RECENT
    spared = {digest for digest, used in local.index.used_here().items() if used >= since}
    plan = plan_evict(local.index.eviction_order(), local.index.evictable(), max_size, spared)
    on_event(Started("evict", len(plan.objects), plan.stored))
    entries = 0
    lost = set(plan.lost)
    for start in range(0, len(plan.objects), _BATCH):
        batch = plan.objects[start : start + _BATCH]
        entries += remove(local, batch, [digest for digest in batch if digest in lost])
        on_event(Advanced("evict", len(batch), 0))
    on_event(Finished("evict"))
    return EvictReport(len(plan.objects), plan.stored, entries)


def remove(local: Local, digests: Iterable[Digest], lost: Iterable[Digest] = ()) -> int:
    """Remove objects from here: first the belief, then the file.

    Args:
        local: The store.
        digests: The objects.
        lost: Those of them that no remote holds, whose entries go too.

    Returns:
        How many entries went.
    """
    digests = list(digests)
    with local.index.writing() as connection:
        remove_objects(connection, digests)
        entries = remove_entries_of(connection, lost)
    with local.index.writing():  # nobody puts one again between the look and the deletion
        for digest in digests:
            if local.index.known(digest) is None:
                local.backend.delete(local.objects.name(digest))
    return entries
