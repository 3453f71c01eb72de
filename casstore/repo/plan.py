"""Plans: what would move, as frozen values.  Floor: repo.  Pure.

A plan is made from inventories and nothing else, so that what ``--dry-run`` prints is what a transfer does.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from casstore.backends.multipart import count_parts
from casstore.catalog.records import Claim, Entry
from casstore.catalog.tracking import ENTRY, Sides, Wanted
from casstore.digest import Digest, Key
from casstore.repo.large import count_fetches
from casstore.store.sealed import Stored

LIST_PAGE = 1000
"""Names an S3 server lists in one answer."""

EVICT_TO = 0.9
"""The share of the size cap that an eviction leaves filled, so that the next put does not evict again."""


@dataclass(frozen=True, slots=True)
class Move:
    """One object to move: bytes of content, and bytes as stored, which are what moves."""

    digest: Digest
    size: int
    stored: int


@dataclass(frozen=True, slots=True)
class Failure:
    """Something that could not be moved or does not hold what it should: its name, and why."""

    name: str
    reason: str


@dataclass(frozen=True, slots=True)
class Plan:
    """What a push or a pull would do.

    Attributes:
        operation: ``push`` or ``pull``.
        remote: The remote's name.
        objects: The objects to move.
        entries: How many entries and tombstones that makes known, or brings the objects of.
        requests: The requests it would take, by verb, the LIST of the remote's segments included.
        left: How many objects stay behind: on a pull, those beyond the size cap, which are fetched when first
            used; on a push, those that are not here, be it that another remote holds them.
        failures: Segments of the remote that were refused when this was planned.
    """

    operation: str
    remote: str
    objects: tuple[Move, ...]
    entries: int
    requests: Mapping[str, int]
    left: int
    failures: tuple[Failure, ...] = ()

    @property
    def bytes(self) -> int:
        """Stored bytes to move."""
        return sum(move.stored for move in self.objects)

    @property
    def is_empty(self) -> bool:
        """Whether nothing would change."""
        return not self.objects and not self.entries


@dataclass(frozen=True, slots=True)
class PushPlan(Plan):
    """A push.

    Attributes:
        claims: The claims to publish, by key.
        kept: The objects put by hand to publish.
        named: Every object that the new segment tells the location of.
        lost: Claims that can never be pushed, since their object is nowhere.
        lost_kept: Objects put by hand that are no longer here.
    """

    claims: tuple[Claim, ...] = ()
    kept: tuple[Digest, ...] = ()
    named: tuple[Digest, ...] = ()
    lost: tuple[Key, ...] = ()
    lost_kept: tuple[Digest, ...] = ()


@dataclass(frozen=True, slots=True)
class PullPlan(Plan):
    """A pull.

    Attributes:
        wanted: What it brings, what is here already and what is not to be had: no longer wanted afterwards.
        known: The objects to fetch as the remote holds them, in the order of `objects`.
    """

    wanted: tuple[Wanted, ...] = ()
    known: tuple[Stored, ...] = ()


@dataclass(frozen=True, slots=True)
class Contact:
    """What was learnt from a remote before planning.

    Attributes:
        remote: Its name.
        segments: Segments it lists.
        first: It was not met before, so its marker is to be read.
        empty: It has no marker yet, so a push is to write one.
        part_size: See `Backend.part_size`.
    """

    remote: str
    segments: int
    first: bool = False
    empty: bool = False
    part_size: int | None = None


@dataclass(frozen=True, slots=True)
class EvictPlan:
    """What to evict: objects, their stored bytes, and those of them that no remote holds."""

    objects: tuple[Digest, ...] = ()
    stored: int = 0
    lost: tuple[Digest, ...] = field(default=())


def plan_push(
    contact: Contact, claims: Sequence[Claim], kept: Sequence[Digest], sides: Mapping[Digest, Sides]
) -> PushPlan:
    """Return what a push would do.

    Args:
        contact: What is known of the remote.
        claims: The claims it lacks.
        kept: The objects put by hand it lacks.
        sides: For every object of those, how it is stored here and there.
    """
    held = {digest for digest, side in sides.items() if side.here is not None or side.there is not None}
    sent = [claim for claim in claims if not isinstance(claim, Entry) or claim.object in held]
    behind = [claim for claim in claims if isinstance(claim, Entry) and claim.object not in held]
    kept_here = [digest for digest in kept if digest in held]
    named = sorted({*kept_here, *(ref for claim in sent for ref in objects_of(claim) if ref in held)})
    moves = tuple(_move(sides[digest].here) for digest in named if sides[digest].there is None)
    return PushPlan(
        "push",
        contact.remote,
        moves,
        len(sent),
        push_requests(contact, moves, publishes=bool(sent or kept_here)),
        len(behind) + len(kept) - len(kept_here),
        claims=tuple(sent),
        kept=tuple(kept_here),
        named=tuple(named),
        lost=tuple(claim.key for claim in behind if not sides[claim.object].anywhere),
        lost_kept=tuple(digest for digest in kept if digest not in held),
    )


def plan_pull(
    contact: Contact,
    wanted: Sequence[Wanted],
    sides: Mapping[Digest, Sides],
    *,
    room: int,
    new: int,
    due: int = 0,
) -> PullPlan:
    """Return what a pull would do.

    Args:
        contact: What is known of the remote.
        wanted: What it should bring, the most welcome first.
        sides: For every object of those, how it is stored here and there.
        room: Stored bytes that fit under the size cap; what does not fit stays behind.
        new: How many entries became known just now.
        due: How many were known before whose objects are among those wanted.
    """
    fetched: dict[Digest, Stored] = {}
    over: set[Digest] = set()
    for digest in (digest for item in wanted for digest in item.objects):
        side = sides[digest]
        if side.here is not None or side.there is None or digest in fetched or digest in over:
            continue
        room -= side.there.stored
        if room >= 0:
            fetched[digest] = side.there
        else:
            over.add(digest)
    known = tuple(fetched.values())
    settled = tuple(item for item in wanted if not over.intersection(item.objects))
    behind = sum(item.kind == ENTRY for item in wanted) - sum(item.kind == ENTRY for item in settled)
    requests = _contact_requests(contact)
    requests["GET"] += sum(count_fetches(each, contact.part_size) for each in known)
    return PullPlan(
        "pull",
        contact.remote,
        tuple(map(_move, known)),
        max(new, new + due - behind),
        _without_zeros(requests),
        len(over),
        wanted=settled,
        known=known,
    )


def plan_evict(
    order: Iterable[tuple[Digest, int, bool]], total: int, max_size: int, spared: Collection[Digest]
) -> EvictPlan:
    """Return what to evict.

    Args:
        order: Objects that may go, the first to go first: digest, stored bytes, held by a remote.
        total: Stored bytes that the cap governs.
        max_size: The cap; nothing goes while `total` is not above it.
        spared: Objects that were used a moment ago.
    """
    if total <= max_size:
        return EvictPlan()
    excess = total - int(max_size * EVICT_TO)
    chosen: list[Digest] = []
    lost: list[Digest] = []
    freed = 0
    for digest, stored, held in order:
        if freed >= excess:
            break
        if digest in spared:
            continue
        chosen.append(digest)
        freed += stored
        if not held:
            lost.append(digest)
    return EvictPlan(tuple(chosen), freed, tuple(lost))


def objects_of(claim: Claim) -> tuple[Digest, ...]:
    """Return the objects that travel with a claim."""
    return (claim.object, *claim.refs) if isinstance(claim, Entry) else ()


def push_requests(contact: Contact, moves: Collection[Move], *, publishes: bool) -> Mapping[str, int]:
    """Return the requests of a push by verb, large objects in parts counted as S3 does."""
    requests = _contact_requests(contact)
    if publishes:
        parts = [count_parts(move.stored, contact.part_size) for move in moves]
        in_parts = sum(count > 1 for count in parts)
        requests["PUT"] = 1 + contact.empty + sum(parts)
        requests["POST"] = 2 * in_parts  # one begins, one completes
        requests["LIST"] += in_parts  # for an upload to take up; what that saves is not foreseen
    return _without_zeros(requests)


def _contact_requests(contact: Contact) -> dict[str, int]:
    return {"LIST": max(1, -(-contact.segments // LIST_PAGE)), "GET": int(contact.first)}


def _without_zeros(requests: Mapping[str, int]) -> Mapping[str, int]:
    return {verb: count for verb, count in requests.items() if count}


def _move(known: Stored | None) -> Move:
    if known is None:
        raise ValueError("an object that is nowhere cannot move")
    return Move(known.digest, known.size, known.stored)
