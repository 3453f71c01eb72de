"""The plan of a pull: which packs are worth taking whole, and which parts of others.  Floor: repo.  Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from casstore.catalog.index import PackInfo
from casstore.catalog.tracking import ENTRY, Sides, Wanted
from casstore.digest import Digest
from casstore.repo.plan import Contact, Move, Plan, contact_requests, without_zeros
from casstore.store.sealed import Stored

GAP = 256 * 1024
"""Unwanted bytes that are read along rather than asking twice: what comes in the time of a request."""

ENOUGH = 0.5
"""The share of a pack from which it is taken whole."""


@dataclass(frozen=True, slots=True)
class Range:
    """A part of a pack to read at once.

    Attributes:
        pack: The pack.
        start: Bytes of the pack before it.
        length: Its bytes.
        members: The wanted objects in it, by offset.
    """

    pack: Digest
    start: int
    length: int
    members: tuple[Stored, ...]


@dataclass(frozen=True, slots=True)
class WholePack:
    """A pack to fetch whole, and the objects wanted of it."""

    pack: PackInfo
    members: tuple[Digest, ...]


@dataclass(frozen=True, slots=True)
class PullPlan(Plan):
    """A pull.

    Attributes:
        wanted: What it brings, what is here already and what is not to be had: no longer wanted afterwards.
        loose: Objects to fetch from files of their own.
        whole: Packs to fetch whole.
        ranges: Parts of other packs.
        dictionaries: Dictionaries to fetch.
    """

    wanted: tuple[Wanted, ...] = ()
    loose: tuple[Stored, ...] = ()
    whole: tuple[WholePack, ...] = ()
    ranges: tuple[Range, ...] = ()
    dictionaries: tuple[Digest, ...] = ()


@dataclass(frozen=True, slots=True)
class Offer:
    """What a pull is planned from.

    Attributes:
        wanted: What it should bring, the most welcome first.
        sides: For every object of those, how it is stored here and there.
        packs: The packs that such objects lie in there.
        dictionaries: Dictionaries of those packs that are not here, and their stored bytes.
        room: Stored bytes that fit under the size cap; what does not fit stays behind.
        new: How many entries became known just now.
        due: How many were known before whose objects are among those wanted.
    """

    wanted: Sequence[Wanted]
    sides: Mapping[Digest, Sides]
    room: int
    new: int
    due: int = 0
    packs: Mapping[Digest, PackInfo] = field(default_factory=dict)
    dictionaries: Mapping[Digest, int] = field(default_factory=dict)


def plan_pull(contact: Contact, offer: Offer) -> PullPlan:
    """Return what a pull would do."""
    fetched, over, room = _fitting(offer)
    loose = tuple(known for known in fetched.values() if known.place is None)
    whole, ranges = _packs(fetched, offer.packs, room)
    needed = {each.pack.dictionary for each in whole}
    needed |= {each.members[0].place.dictionary for each in ranges if each.members[0].place is not None}
    dictionaries = tuple(sorted(digest for digest in offer.dictionaries if digest in needed))
    settled = tuple(item for item in offer.wanted if not over.intersection(item.objects))
    behind = _entries(offer.wanted) - _entries(settled)
    requests = contact_requests(contact)
    requests["GET"] += len(loose) + len(whole) + len(ranges) + len(dictionaries)
    return PullPlan(
        "pull",
        contact.remote,
        tuple(Move(known.digest, known.size, known.stored) for known in fetched.values()),
        max(offer.new, offer.new + offer.due - behind),
        without_zeros(requests),
        sum(known.stored for known in loose)
        + sum(each.pack.stored for each in whole)
        + sum(each.length for each in ranges)
        + sum(offer.dictionaries[digest] for digest in dictionaries),
        len(over),
        wanted=settled,
        loose=loose,
        whole=tuple(whole),
        ranges=tuple(ranges),
        dictionaries=dictionaries,
    )


def ranges_of(pack: Digest, members: Collection[Stored]) -> list[Range]:
    """Return the parts of a pack that hold `members`, those close to each other in one."""
    placed = sorted((known.place.offset, known) for known in members if known.place is not None)
    found: list[list[Stored]] = []
    end = -GAP - 1
    for offset, known in placed:
        if offset - end > GAP or not found:
            found.append([])
        found[-1].append(known)
        end = offset + known.stored
    return [_range(pack, part) for part in found]


def _fitting(offer: Offer) -> tuple[dict[Digest, Stored], set[Digest], int]:
    """Choose what fits: the objects to fetch, those that do not fit, and the room that is left."""
    fetched: dict[Digest, Stored] = {}
    over: set[Digest] = set()
    room = offer.room
    for digest in (digest for item in offer.wanted for digest in item.objects):
        side = offer.sides[digest]
        if side.here is not None or side.there is None or digest in fetched or digest in over:
            continue
        if side.there.stored <= room:
            room -= side.there.stored
            fetched[digest] = side.there
        else:
            room = -1
            over.add(digest)
    return fetched, over, max(room, 0)


def _packs(
    fetched: Mapping[Digest, Stored], packs: Mapping[Digest, PackInfo], room: int
) -> tuple[list[WholePack], list[Range]]:
    members: dict[Digest, list[Stored]] = {}
    for known in fetched.values():
        if known.place is not None:
            members.setdefault(known.place.pack, []).append(known)
    whole: list[WholePack] = []
    ranges: list[Range] = []
    for pack, inside in members.items():
        parts = ranges_of(pack, inside)
        info = packs[pack]
        more = info.stored - sum(known.stored for known in inside)
        if more <= room and sum(part.length for part in parts) >= ENOUGH * info.stored:
            whole.append(WholePack(info, tuple(known.digest for known in inside)))
            room -= more
        else:
            ranges += parts
    return whole, ranges


def _range(pack: Digest, members: list[Stored]) -> Range:
    places = list(_places(members))
    start = places[0][0]
    return Range(pack, start, max(end for _, end in places) - start, tuple(members))


def _places(members: list[Stored]) -> Iterator[tuple[int, int]]:
    for known in members:
        if known.place is not None:
            yield known.place.offset, known.place.offset + known.stored


def _entries(wanted: Sequence[Wanted]) -> int:
    return sum(item.kind == ENTRY for item in wanted)
