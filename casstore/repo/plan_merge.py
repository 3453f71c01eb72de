"""The plan of a merge: which segments and packs of a remote a push folds into its own.  Floor: repo.  Pure.

The logarithmic method: from the smallest up, a segment is folded while it is at most twice as large as what
has come together so far. So each segment that stays is more than twice as large as the new one, which keeps
their number at the log2 of all over the smallest; and whenever a record is rewritten, it comes into a segment
at least half as large again.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from casstore.catalog.inventory import Row
from casstore.catalog.rows import PackInfo
from casstore.digest import Digest
from casstore.store.pack import PACK_FRAMES, PACK_MEMBERS

RATIO = 2
"""A segment is folded if it is at most so many times as large as what has come together.

With 1, pushes of which each is a little smaller than the last would never be folded.
"""

FOLDED_MAX = 4 * 1024 * 1024
"""Bytes of segments that a push folds at most: 30,000 entries, rewritten in half a second."""

SMALL_PACK = PACK_FRAMES // 2
"""Bytes below which a pack is folded."""

MANY = 8
"""From how many small packs on those of others are fetched to be folded.

Each that is fetched becomes an eighth of a larger one, so a push fetches little more than one on the average.
"""

ENTRY_STORED, OBJECT_STORED = 120, 45
"""Bytes that an entry, and an object in a pack, take in a segment (measured: 100 to 190, and 39 to 45)."""


@dataclass(frozen=True, slots=True)
class Merge:
    """What a push folds into its own segment and pack.

    Attributes:
        segments: The segments.
        packs: The packs that its own takes the place of, if all goes well.
        fetched: Those of them that are fetched, since their objects are not here.
        members: Their objects, where they are here or will be.
        sources: The packs that these lie in here, by row number.
        listed: The segments that the remote lists.
        barred: What is doomed there: a new pack must not take such a name, since the file may be deleted.
    """

    segments: tuple[Digest, ...] = ()
    packs: tuple[Digest, ...] = ()
    fetched: tuple[Digest, ...] = ()
    members: tuple[Row, ...] = ()
    sources: Mapping[int, PackInfo] = field(default_factory=dict)
    listed: frozenset[Digest] = frozenset()
    barred: frozenset[Digest] = frozenset()


NO_MERGE = Merge()
"""Nothing is folded."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A small pack in a folded segment.

    Attributes:
        digest: Its digest.
        stored: Its bytes.
        members: Those of its objects that no other pack holds, in order, where they are here or would be.
        here: Whether all of these are here.
        fetchable: Whether it can be fetched and used.
    """

    digest: Digest
    stored: int
    members: tuple[Row, ...]
    here: bool
    fetchable: bool


Sized = TypeVar("Sized")


def fold(sizes: Iterable[tuple[int, Sized]], new: int, limit: int) -> list[Sized]:
    """Return what to fold, the smallest first.

    Args:
        sizes: What could be, with the bytes of each.
        new: Bytes that are new.
        limit: Bytes to fold at most.
    """
    chosen: list[Sized] = []
    total = 0
    for stored, each in sorted(sizes, key=lambda pair: pair[0]):
        if stored > RATIO * (new + total) or total + stored > limit:
            break
        chosen.append(each)
        total += stored
    return chosen


def fold_packs(candidates: Iterable[Candidate], new: Sequence[Row]) -> tuple[list[Candidate], list[Digest]]:
    """Choose the packs to fold into one with `new` objects: the smallest first, while there is room.

    Packs of others are fetched once there are many, and then all that fit: one a push would cost each push
    a request, and still leave as many as there are pushes that fold nothing.

    Returns:
        The packs, and which of them to fetch.
    """
    small = sorted((pack for pack in candidates if pack.stored < SMALL_PACK), key=_by_size)
    fetches = sum(pack.fetchable and not pack.here for pack in small) >= MANY
    room = PACK_FRAMES - sum(row.stored for row in new)
    places = PACK_MEMBERS - len(new) - 1  # one is left for another name
    chosen: list[Candidate] = []
    for pack in small:
        weight = sum(row.stored for row in pack.members)
        at_hand = pack.here or (fetches and pack.fetchable)
        if at_hand and weight <= room and len(pack.members) <= places:
            chosen.append(pack)
            room -= weight
            places -= len(pack.members)
    if not new and sum(bool(pack.members) for pack in chosen) < 2:  # noqa: PLR2004 - one alone stays as it is
        chosen = [pack for pack in chosen if not pack.members]
    return chosen, [pack.digest for pack in chosen if not pack.here]


def _by_size(pack: Candidate) -> tuple[int, Digest]:
    return pack.stored, pack.digest


def with_old(packs: Sequence[tuple[Row, ...]], members: Sequence[Row]) -> tuple[tuple[Row, ...], ...]:
    """Return the packs to make, old objects first in the last of them.

    Whoever has the old ones then reads one range.
    """
    if not members:
        return tuple(packs)
    last = packs[-1] if packs else ()
    return (*packs[:-1], (*members, *last))


def without(packs: Sequence[tuple[Row, ...]], numbers: Collection[int]) -> tuple[tuple[Row, ...], ...]:
    """Return the packs to make, less the objects that lie in some packs here, by row number."""
    left = (tuple(row for row in members if row.pack not in numbers) for members in packs)
    return tuple(members for members in left if members)
