"""The plan of a repack: which packs are merged or thinned.  Floor: repo.  Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from casstore.catalog.packed import Share
from casstore.catalog.rows import PackInfo
from casstore.digest import Digest
from casstore.repo.plan_push import TOC_ENTRY
from casstore.store.pack import PACK_MEMBERS

FANOUT = 4
"""Packs of about one size that become one: three of each size stay, and a byte is rewritten once a size."""

WORTH_A_PACK = 2
"""Objects that are packed at least: one alone would still take a file, and a larger one."""

FULL = 16 * 1024 * 1024
"""Bytes of a pack of local objects that counts as full; half of it is never merged."""

DEAD = 0.5
"""The share of a pack that is dead when it is rewritten without it."""


@dataclass(frozen=True, slots=True)
class RepackPlan:
    """What a repack would do.

    Attributes:
        objects: Objects with a file of their own that would go into packs.
        bytes: Bytes of their files.
        merged: Groups of packs of which one would be made each.
        thinned: Packs that would be rewritten without what is dead in them, or removed.
    """

    objects: int
    bytes: int
    merged: tuple[tuple[PackInfo, ...], ...]
    thinned: tuple[PackInfo, ...]

    @property
    def is_empty(self) -> bool:
        """Whether nothing would change."""
        return not (self.objects or self.merged or self.thinned)


@dataclass(frozen=True, slots=True)
class _Part:
    """Packs that become one."""

    packs: tuple[PackInfo, ...]
    weight: float

    @property
    def tier(self) -> int:
        return math.floor(math.log(self.weight, FANOUT))


def plan_merges(packs: Iterable[PackInfo], current: Digest | None = None) -> tuple[tuple[PackInfo, ...], ...]:
    """Return which packs to merge: four of about one size become one of the next, and so on.

    So of each size a few remain, and each byte is rewritten once for each size, O(log n) times.

    Args:
        packs: The packs that are here, the first that came first.
        current: The dictionary that packs without one are to be given; None where they stay without.
    """
    kinds: dict[Digest | None, list[_Part]] = {}
    for pack in packs:
        weight = _weight(pack)
        if weight < 1 / 2:
            kinds.setdefault(pack.dictionary or current, []).append(_Part((pack,), weight))
    merged = [part.packs for parts in kinds.values() for part in _merged(parts) if len(part.packs) > 1]
    return tuple(merged)


def plan_thinning(shares: Iterable[Share]) -> tuple[PackInfo, ...]:
    """Return the packs of which so much is dead that they are rewritten without it."""
    return tuple(
        share.pack
        for share in shares
        if share.objects < share.pack.members
        and share.pack.stored - _alive(share) >= DEAD * share.pack.stored
    )


def _alive(share: Share) -> int:
    """Return the bytes that what lives in a pack takes, with its table of contents."""
    return share.bytes + TOC_ENTRY * share.objects


def _weight(pack: PackInfo) -> float:
    """Return how full a pack is, of bytes or of objects."""
    return max(pack.stored / FULL, pack.members / PACK_MEMBERS)


def _merged(parts: Sequence[_Part]) -> list[_Part]:
    """Merge from the smallest size up: what becomes of one size may fill the next."""
    tiers: dict[int, list[_Part]] = {}
    for part in parts:
        tiers.setdefault(part.tier, []).append(part)
    for tier in range(min(tiers), 0):
        if len(tiers.get(tier, [])) < FANOUT:
            continue
        for part in _chunks(tiers.pop(tier)):
            tiers.setdefault(part.tier, []).append(part)
    return [part for parts in tiers.values() for part in parts]


def _chunks(parts: Iterable[_Part]) -> Iterator[_Part]:
    """Join parts, each as full as it may be."""
    joined = _Part((), 0)
    for part in parts:
        if joined.packs and joined.weight + part.weight > 1:
            yield joined
            joined = _Part((), 0)
        joined = _Part(joined.packs + part.packs, joined.weight + part.weight)
    if joined.packs:
        yield joined
