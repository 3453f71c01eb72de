"""The plan of a pull: which packs are worth taking whole, and which parts of others.  Floor: repo.  Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from casstore.catalog.inventory import Offered, Row, Share, stored_of
from casstore.catalog.rows import PackInfo
from casstore.digest import Digest
from casstore.repo.large import count_fetches
from casstore.repo.plan import Contact, Move, Plan, contact_requests, without_zeros
from casstore.repo.plan_push import TOC_ENTRY
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
    """A pack to fetch whole, its row number, and how many objects are wanted of it."""

    pack: PackInfo
    row: int
    objects: int


@dataclass(frozen=True, slots=True)
class PullPlan(Plan):
    """A pull.

    Attributes:
        loose: Objects to fetch from files of their own.
        whole: Packs to fetch whole.
        ranges: Parts of other packs.
        dictionaries: Dictionaries to fetch, with their stored bytes.
        over: Objects that do not fit under the size cap.
    """

    loose: tuple[Stored, ...] = ()
    whole: tuple[WholePack, ...] = ()
    ranges: tuple[Range, ...] = ()
    dictionaries: tuple[tuple[Digest, int], ...] = ()
    over: tuple[Digest, ...] = ()

    @property
    def pack_count(self) -> int:
        """How many packs are fetched whole."""
        return len(self.whole)


def worth_taking(shares: Collection[Share], room: int) -> list[WholePack]:
    """Return the packs to fetch whole, where all that is wanted fits; else it matters what comes first.

    Args:
        shares: What is wanted, by pack.
        room: Stored bytes that fit under the size cap.
    """
    room -= sum(share.stored + _table(share.objects, share.row) for share in shares)
    whole: list[WholePack] = []
    for share in shares if room >= 0 else ():
        if share.row is None or share.pack is None:
            continue
        more = share.pack.stored - share.stored - _table(share.objects, share.row)
        if more <= room and _is_most(share.objects, share.stored, share.pack):
            whole.append(WholePack(share.pack, share.row, share.objects))
            room -= more
    return whole


def plan_pull(
    contact: Contact,
    offered: Offered,
    room: int,
    dictionaries: Mapping[Digest, int] | None = None,
    taken: Sequence[WholePack] = (),
    spare: int = 0,
) -> PullPlan:
    """Return what a pull would bring; how many entries that is, is for the caller to say.

    Args:
        contact: What is known of the remote.
        offered: What it holds of what is wanted, the most welcome first, besides what is in `taken`.
        room: Stored bytes that fit under the size cap; what does not fit stays behind.
        dictionaries: Dictionaries of the packs there that are not here, and their stored bytes.
        taken: Packs that will be fetched whole.
        spare: Bytes of the room to leave free where not all fits.
    """
    missing = dictionaries or {}
    room -= sum(each.pack.stored for each in taken) + sum(missing.values())
    if sum(map(_cost, offered.objects)) > room:
        room -= spare
    fetched, over = _fitting(offered.objects, room)
    more, ranges = _packs(fetched, offered.packs, room - sum(map(_cost, fetched)))
    whole = [*taken, *more]
    needed = {each.pack.dictionary for each in whole}
    needed |= {each.members[0].place.dictionary for each in ranges if each.members[0].place is not None}
    fetching = {digest: size for digest, size in missing.items() if digest in needed}
    fetched = [row for row in fetched if row.digest not in fetching]  # it comes first, and once
    loose = tuple(stored_of(row, offered.packs) for row in fetched if row.pack is None)
    requests = contact_requests(contact)
    requests["GET"] += sum(count_fetches(known, contact.part_size) for known in loose)
    requests["GET"] += len(whole) + len(ranges) + len(fetching)
    return PullPlan(
        "pull",
        contact.remote,
        tuple(Move(*row[:3]) for row in fetched),
        0,
        without_zeros(requests),
        sum(known.stored for known in loose)
        + sum(each.pack.stored for each in whole)
        + sum(each.length for each in ranges)
        + sum(fetching.values()),
        len(over),
        loose=loose,
        whole=tuple(whole),
        ranges=tuple(ranges),
        dictionaries=tuple(sorted(fetching.items())),
        over=tuple(over),
        unlisted=sum(each.objects for each in taken),
    )


def ranges_of(pack: Digest, members: Iterable[Stored]) -> list[Range]:
    """Return the parts of a pack that hold `members`, those close to each other in one."""
    placed = sorted((known.place.offset, known.digest, known) for known in members if known.place is not None)
    found: list[list[Stored]] = []
    end = 0
    for offset, _, known in placed:
        if not found or offset - end > GAP:
            found.append([])
        found[-1].append(known)
        end = max(end, offset + known.stored)
    return [_range(pack, part) for part in found]


def _fitting(offered: list[Row], room: int) -> tuple[list[Row], list[Digest]]:
    """Choose what fits: the objects to fetch, up to the first that does not fit."""
    for position, row in enumerate(offered):
        room -= _cost(row)
        if room < 0:
            return offered[:position], [left.digest for left in offered[position:]]
    return offered, []


def _packs(
    fetched: Iterable[Row], packs: dict[int, PackInfo], room: int
) -> tuple[list[WholePack], list[Range]]:
    members: dict[int, list[Row]] = {}
    for row in fetched:
        if row.pack is not None:
            members.setdefault(row.pack, []).append(row)
    whole: list[WholePack] = []
    ranges: list[Range] = []
    for number, inside in members.items():
        pack = packs[number]
        more = pack.stored - sum(map(_cost, inside))
        if more <= room and _is_enough(inside, pack):
            whole.append(WholePack(pack, number, len(inside)))
            room -= more
        else:
            ranges += ranges_of(pack.digest, (stored_of(row, packs) for row in inside))
    return whole, ranges


def _cost(row: Row) -> int:
    """Return the bytes that an object will take here."""
    return row.stored + _table(1, row.pack)


def _table(objects: int, pack: int | None) -> int:
    """Return the bytes that objects take in a pack's table of contents, if they lie in one."""
    return 0 if pack is None else TOC_ENTRY * objects


def _is_most(objects: int, stored: int, pack: PackInfo) -> bool:
    """Return whether so many objects, of so many bytes, are all or most of a pack."""
    return objects == pack.members or stored >= ENOUGH * pack.stored


def _is_enough(inside: list[Row], pack: PackInfo) -> bool:
    """Return whether a pack is better taken whole than in parts."""
    if _is_most(len(inside), sum(row.stored for row in inside), pack):
        return True
    parts = ranges_of(pack.digest, (stored_of(row, {row.pack or 0: pack}) for row in inside))
    return sum(part.length for part in parts) >= ENOUGH * pack.stored


def _range(pack: Digest, members: list[Stored]) -> Range:
    places = [(known.place.offset, known.stored) for known in members if known.place is not None]
    start = places[0][0]
    return Range(pack, start, max(offset + stored for offset, stored in places) - start, tuple(members))
