"""The plan of a push: which objects go in which packs, and what that takes.  Floor: repo.  Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from casstore.catalog.index import PackInfo
from casstore.catalog.tracking import Pending, Sides
from casstore.digest import Digest, Key
from casstore.repo.plan import Contact, Move, Plan, contact_requests, without_zeros
from casstore.store.codec import Dictionary
from casstore.store.pack import PACK_FRAMES, PACK_MEMBERS, PACKED_MAX
from casstore.store.sealed import Stored

TOC_ENTRY = 40
"""Bytes an object takes in a pack's table of contents: its digest, which does not compress, and lengths."""


@dataclass(frozen=True, slots=True)
class Packing:
    """How objects will be packed.

    Attributes:
        dictionary: With which dictionary.
        ratio: Stored bytes in a pack for each stored byte of an object's own file, measured on some.
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
        packs: The packs to make: the members of each, as they are stored here.
        whole: Packs that are here, to be sent as they are.
        loose: Objects to be sent as files of their own.
        dictionaries: Dictionaries to be sent.
        packing: How the new packs are made.
        publishes: Whether there is anything to tell the remote.
        lost: Claims that can never be pushed, since their object is nowhere.
        lost_kept: Objects put by hand that are no longer here.
    """

    packs: tuple[tuple[Stored, ...], ...] = ()
    whole: tuple[PackInfo, ...] = ()
    loose: tuple[Stored, ...] = ()
    dictionaries: tuple[Digest, ...] = ()
    packing: Packing = Packing()
    publishes: bool = False
    lost: tuple[Key, ...] = ()
    lost_kept: tuple[Digest, ...] = ()


@dataclass(frozen=True, slots=True)
class Inventory:
    """What a push is planned from.

    Attributes:
        pending: The claims the remote lacks, the earliest first.
        kept: The objects put by hand it lacks.
        sides: For every object of those, how it is stored here and there.
        packs: The packs here that such objects lie in.
        dictionaries: Dictionaries of those packs that the remote lacks.
    """

    pending: Sequence[Pending]
    kept: Sequence[Digest]
    sides: Mapping[Digest, Sides]
    packs: Mapping[Digest, PackInfo]
    dictionaries: Collection[Digest] = ()


def to_send(inventory: Inventory) -> list[Stored]:
    """Return the objects to send, as they are stored here, in the order their entries were written."""
    sides = inventory.sides
    sent = dict.fromkeys(digest for claim in inventory.pending for digest in claim.objects)
    found = (sides[digest] for digest in (*sent, *inventory.kept))
    ordered = {side.here.digest: side.here for side in found if side.here is not None and not side.stays}
    return list(ordered.values())


def small(objects: Iterable[Stored]) -> list[Stored]:
    """Return those of `objects` that belong into packs."""
    return [known for known in objects if known.size < PACKED_MAX]


def plan_push(contact: Contact, inventory: Inventory, packing: Packing) -> PushPlan:
    """Return what a push would do.

    Args:
        contact: What is known of the remote.
        inventory: What it lacks, and where that is.
        packing: How small objects are packed.
    """
    sides = inventory.sides
    held = {digest for digest, side in sides.items() if side.here is not None or side.stays}
    behind = [each for each in inventory.pending if each.object is not None and each.object not in held]
    kept = [digest for digest in inventory.kept if digest in held]
    sent = to_send(inventory)
    whole, rest = _whole(small(sent), inventory.packs)
    packs = tuple(_grouped(rest))
    loose = tuple(known for known in sent if known.size >= PACKED_MAX)
    dictionaries = _dictionaries(inventory, packing, whole, packs)
    entries = len(inventory.pending) - len(behind)
    moves = tuple(_move(known, packing) for known in sent)
    plan = PushPlan(
        "push",
        contact.remote,
        moves,
        entries,
        {},
        _bytes(moves, packing, dictionaries, whole, packs),
        len(behind) + len(inventory.kept) - len(kept),
        packs=packs,
        whole=whole,
        loose=loose,
        dictionaries=dictionaries,
        packing=packing,
        publishes=bool(entries or kept),
        lost=tuple(each.key for each in behind if each.object and not sides[each.object].anywhere),
        lost_kept=tuple(digest for digest in inventory.kept if digest not in held),
    )
    return _with_requests(plan, contact)


def _whole(
    sent: list[Stored], packs: Mapping[Digest, PackInfo]
) -> tuple[tuple[PackInfo, ...], list[Stored]]:
    """Find the packs here all of whose objects are to be sent, and what is to be sent besides."""
    counts: dict[Digest, int] = {}
    for known in sent:
        if known.place is not None:
            counts[known.place.pack] = counts.get(known.place.pack, 0) + 1
    whole = {pack for pack, count in counts.items() if pack in packs and packs[pack].members == count}
    rest = [known for known in sent if known.place is None or known.place.pack not in whole]
    return tuple(packs[pack] for pack in counts if pack in whole), rest


def _grouped(members: Iterable[Stored]) -> Iterator[tuple[Stored, ...]]:
    """Yield what goes into each pack; where one ends depends on nothing behind it."""
    group: list[Stored] = []
    weight = 0
    for known in members:
        group.append(known)
        weight += known.stored
        if weight >= PACK_FRAMES or len(group) == PACK_MEMBERS:
            yield tuple(group)
            group, weight = [], 0
    if group:
        yield tuple(group)


def _dictionaries(
    inventory: Inventory, packing: Packing, whole: Collection[PackInfo], packs: Collection[object]
) -> tuple[Digest, ...]:
    needed = {pack.dictionary for pack in whole if pack.dictionary in inventory.dictionaries}
    if packs and packing.dictionary is not None and not packing.there:
        needed.add(packing.dictionary.digest)
    return tuple(sorted(digest for digest in needed if digest is not None))


def _move(known: Stored, packing: Packing) -> Move:
    ratio = packing.ratio if known.place is None and known.size < PACKED_MAX else 1.0
    return Move(known.digest, known.size, round(known.stored * ratio))


def _bytes(
    moves: Iterable[Move],
    packing: Packing,
    dictionaries: Collection[Digest],
    whole: Iterable[PackInfo],
    packs: Iterable[Collection[Stored]],
) -> int:
    tables = TOC_ENTRY * (sum(map(len, packs)) + sum(pack.members for pack in whole))
    return sum(move.stored for move in moves) + tables + len(dictionaries) * packing.stored


def _with_requests(plan: PushPlan, contact: Contact) -> PushPlan:
    return replace(plan, requests=push_requests(contact, plan))


def push_requests(contact: Contact, plan: PushPlan) -> Mapping[str, int]:
    """Return the requests of a push by verb, large objects in parts counted as S3 does."""
    requests = contact_requests(contact)
    if plan.publishes:
        files = [known.stored for known in plan.loose] + [pack.stored for pack in plan.whole]
        parts = [_parts(stored, contact.part_size) for stored in files]
        marker = contact.empty or not contact.packs
        requests["PUT"] = 1 + marker + len(plan.packs) + len(plan.dictionaries) + sum(parts)
        requests["POST"] = sum(2 for count in parts if count > 1)  # one begins, one completes
    return without_zeros(requests)


def _parts(stored: int, part_size: int | None) -> int:
    return 1 if part_size is None or stored < 2 * part_size else -(-stored // part_size)
