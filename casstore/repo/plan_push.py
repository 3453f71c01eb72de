"""The plan of a push: which objects go in which packs, and what that takes.  Floor: repo.  Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace

from casstore.backends.multipart import count_parts
from casstore.catalog.inventory import Lacking, Row
from casstore.catalog.rows import PackInfo
from casstore.digest import Digest, Key
from casstore.repo.plan import Contact, Move, Plan, contact_requests, without_zeros
from casstore.repo.plan_merge import NO_MERGE, Merge, with_old
from casstore.store.codec import SEAL_SIZE, Dictionary
from casstore.store.pack import PACK_FRAMES, PACKED_MAX, fill_packs

TOC = 100
"""Bytes of a pack's table of contents besides its objects."""

TOC_ENTRY = 39
"""Bytes an object takes in it: its digest, which does not compress, and lengths (measured: 38.9 to 40.2)."""


@dataclass(frozen=True, slots=True)
class Packing:
    """How objects will be packed.

    Attributes:
        dictionary: With which dictionary.
        ratio: Bytes of a frame in a pack for each byte of an object's own frame, measured on some.
        stored: Stored bytes of the dictionary's file, about.
        there: Whether the remote holds the dictionary.
    """

    dictionary: Dictionary | None = None
    ratio: float = 1.0
    stored: int = 0
    there: bool = False


@dataclass(frozen=True, slots=True)
class PushPlan(Plan):
    """A push.

    Attributes:
        packs: The packs to make: the members of each, where they are here.
        whole: Packs that are here, to be sent as they are.
        loose: Objects to be sent as files of their own.
        sources: The packs here that objects lie in, by row number.
        dictionaries: Dictionaries to be sent.
        packing: How the new packs are made.
        publishes: Whether there is anything to tell the remote.
        lost: Claims that can never be pushed, since their object is nowhere.
        lost_kept: Objects put by hand that are no longer here.
        merge: What is folded into the new segment and the last of the new packs.
    """

    packs: tuple[tuple[Row, ...], ...] = ()
    whole: tuple[PackInfo, ...] = ()
    loose: tuple[Row, ...] = ()
    sources: Mapping[int, PackInfo] = field(default_factory=dict)
    dictionaries: tuple[Digest, ...] = ()
    packing: Packing = Packing()
    publishes: bool = False
    lost: tuple[Key, ...] = ()
    lost_kept: tuple[Digest, ...] = ()
    merge: Merge = NO_MERGE

    @property
    def pack_count(self) -> int:
        """How many packs are sent."""
        return len(self.packs) + len(self.whole)


def small(rows: Iterable[Row]) -> list[Row]:
    """Return those objects that belong into packs."""
    return [row for row in rows if row.size < PACKED_MAX]


def plan_push(
    contact: Contact,
    lacking: Lacking,
    packing: Packing,
    absent: Collection[Digest] = (),
    merge: Merge = NO_MERGE,
    *,
    listed: bool = False,
) -> PushPlan:
    """Return what a push would do.

    Args:
        contact: What is known of the remote.
        lacking: What it lacks, and where that is.
        packing: How small objects are packed.
        absent: Dictionaries of packs here that the remote lacks.
        merge: What is folded.
        listed: List all objects.
    """
    whole, rest = _whole(small(lacking.objects), lacking.packs, merge.barred)
    packs = with_old(tuple(fill_packs(rest, PACK_FRAMES)), merge.members)
    loose = tuple(row for row in lacking.objects if row.size >= PACKED_MAX)
    needed = {row.digest for row in lacking.dictionaries}
    dictionaries = _dictionaries(packing, whole, packs, absent, needed)
    stuck = lacking.stuck
    entries = lacking.claims - lacking.behind - stuck.claims
    kept = lacking.kept - lacking.behind_kept - stuck.kept
    plan = PushPlan(
        "push",
        contact.remote,
        tuple(_move(row, packing) for row in lacking.objects) if listed else (),
        entries,
        {},
        _bytes(lacking.objects, packing, dictionaries, whole, packs)
        + sum(row.stored for row in (*merge.members, *lacking.dictionaries)),
        lacking.behind + lacking.behind_kept,
        unlisted=0 if listed else len(lacking.objects),
        packs=packs,
        whole=whole,
        loose=loose,
        sources={**merge.sources, **lacking.packs},
        dictionaries=dictionaries,
        packing=packing,
        publishes=bool(entries or kept or lacking.needed > stuck.needed),
        lost=tuple(lacking.lost),
        lost_kept=tuple(lacking.lost_kept),
        merge=merge,
    )
    return replace(plan, requests=push_requests(contact, plan))


def last_pack(lacking: Lacking, barred: Collection[Digest]) -> tuple[Row, ...]:
    """Return the objects of the last pack that a push makes, if it makes any; see `Merge.barred`."""
    _, rest = _whole(small(lacking.objects), lacking.packs, barred)
    packs = list(fill_packs(rest, PACK_FRAMES))
    return packs[-1] if packs else ()


def _whole(
    sent: list[Row], packs: Mapping[int, PackInfo], barred: Collection[Digest]
) -> tuple[tuple[PackInfo, ...], list[Row]]:
    """Find the packs here all of whose objects are to be sent, and what is to be sent besides."""
    counts = Counter(row.pack for row in sent)
    complete = [number for number, pack in packs.items() if counts[number] == pack.members]
    whole = [number for number in complete if packs[number].digest not in barred]
    rest = [row for row in sent if row.pack not in whole] if whole else sent
    return tuple(packs[number] for number in whole), rest


def _dictionaries(
    packing: Packing,
    whole: Collection[PackInfo],
    packs: Collection[object],
    absent: Collection[Digest],
    needed: Collection[Digest],
) -> tuple[Digest, ...]:
    sent = {pack.dictionary for pack in whole if pack.dictionary in absent}
    if packs and packing.dictionary is not None and not packing.there:
        sent.add(packing.dictionary.digest)
    return tuple(sorted(digest for digest in (*(sent - {*needed}), *needed) if digest is not None))


def _move(row: Row, packing: Packing) -> Move:
    return Move(row.digest, row.size, _stored(row, packing))


def _stored(row: Row, packing: Packing) -> int:
    """Return the bytes that move for an object."""
    if row.pack is not None or row.size >= PACKED_MAX:
        return row.stored
    return round((row.stored - SEAL_SIZE) * packing.ratio)


def _bytes(
    objects: Iterable[Row],
    packing: Packing,
    dictionaries: Collection[Digest],
    whole: Iterable[PackInfo],
    packs: Iterable[Collection[Row]],
) -> int:
    inside = [len(members) for members in packs] + [pack.members for pack in whole]
    tables = TOC * len(inside) + TOC_ENTRY * sum(inside)
    return sum(_stored(row, packing) for row in objects) + tables + len(dictionaries) * packing.stored


def push_requests(contact: Contact, plan: PushPlan) -> Mapping[str, int]:
    """Return the requests of a push by verb, large objects in parts counted as S3 does."""
    requests = contact_requests(contact)
    if plan.publishes:
        files = [row.stored for row in plan.loose] + [pack.stored for pack in plan.whole]
        parts = [count_parts(stored, contact.part_size) for stored in files]
        large = sum(count > 1 for count in parts)
        marker = contact.empty or not contact.packs
        requests["GET"] += len(plan.merge.fetched)
        requests["PUT"] = 1 + marker + len(plan.packs) + len(plan.dictionaries) + sum(parts)
        requests["POST"] = 2 * large  # one begins, one completes
        requests["LIST"] += large  # looks for one to go on with
    return without_zeros(requests)
