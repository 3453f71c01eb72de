"""Plans: what would move, as frozen values.  Floor: repo.  Pure.

A plan is made from inventories and nothing else, so that what ``--dry-run`` prints is what a transfer does.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from casstore.catalog.records import Claim, Entry
from casstore.digest import Digest

LIST_PAGE = 1000
"""Names an S3 server lists in one answer."""


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
        objects: The objects to move, as far as the plan was asked to list them.
        entries: How many entries and tombstones that makes known, or brings the objects of.
        requests: The requests it would take, by verb, the LIST of the remote's segments included.
        bytes: Stored bytes to move; of objects that are yet to be packed, as they are expected to be.
        left: How many objects stay behind: on a pull, those beyond the size cap, which are fetched when first
            used; on a push, those that are not here, be it that another remote holds them.
        failures: Segments of the remote that were refused when this was planned.
        unlisted: How many more objects are to move.
        missing: On a pull, how many objects stay wanted, since the remote does not hold them as it said, nor
            does another.
    """

    operation: str
    remote: str
    objects: tuple[Move, ...]
    entries: int
    requests: Mapping[str, int]
    bytes: int
    left: int
    failures: tuple[Failure, ...] = ()
    unlisted: int = 0
    missing: int = 0

    @property
    def pack_count(self) -> int:
        """How many packs move whole."""
        return 0

    @property
    def count(self) -> int:
        """How many objects move."""
        return len(self.objects) + self.unlisted

    @property
    def is_empty(self) -> bool:
        """Whether nothing would change."""
        return not self.count and not self.entries


@dataclass(frozen=True, slots=True)
class Contact:
    """What was learnt from a remote before planning.

    Attributes:
        remote: Its name.
        segments: Segments it lists.
        first: It was not met before, or has no segments, so its marker is to be read.
        empty: It has no marker yet, so a push is to write one.
        packs: Its marker says that it may hold packs.
        part_size: See `Backend.part_size`.
    """

    remote: str
    segments: int
    first: bool = False
    empty: bool = False
    packs: bool = True
    part_size: int | None = None


def contact_requests(contact: Contact) -> dict[str, int]:
    """Return the requests of reading a manifest, by verb; GETs of new segments are not foreseen."""
    return {"LIST": max(1, -(-contact.segments // LIST_PAGE)), "GET": int(contact.first)}


def without_zeros(requests: Mapping[str, int]) -> Mapping[str, int]:
    """Return the verbs that occur."""
    return {verb: count for verb, count in requests.items() if count}


def objects_of(claim: Claim) -> tuple[Digest, ...]:
    """Return the objects that travel with a claim."""
    return (claim.object, *claim.refs) if isinstance(claim, Entry) else ()
