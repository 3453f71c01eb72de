"""The plan of an eviction: which objects go, and which packs are rewritten for it.  Floor: repo.  Pure.

An object with a file of its own frees its bytes when it goes. One in a pack frees nothing until the pack is
rewritten without it, which costs as much as what stays in it. So a pack is left alone until what is to go and
what is dead already make half of it.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from casstore.catalog.listed import Candidate
from casstore.catalog.packed import Share
from casstore.digest import Digest
from casstore.repo.plan_push import TOC_ENTRY

EVICT_TO = 0.9
"""The share of the size cap that an eviction leaves filled, so that the next put does not evict again."""

WORTH = 0.5
"""The share of a pack that must become free for it to be rewritten: so a rewritten byte frees another."""

_DIGEST = 32  # bytes


@dataclass(frozen=True, slots=True)
class Thinning:
    """A pack to rewrite without some of its objects, or to remove where nothing else lives in it."""

    pack: Digest
    dropped: tuple[Digest, ...]


@dataclass(frozen=True, slots=True)
class EvictPlan:
    """What to evict.

    Attributes:
        objects: Objects that go with their file.
        packs: Packs that are rewritten, and what they lose.
        stored: Bytes that frees, about.
        lost: Those objects that no remote holds.
    """

    objects: tuple[Digest, ...] = ()
    packs: tuple[Thinning, ...] = ()
    stored: int = 0
    lost: tuple[Digest, ...] = field(default=())

    @property
    def count(self) -> int:
        """How many objects go."""
        return len(self.objects) + sum(len(each.dropped) for each in self.packs)

    @property
    def is_empty(self) -> bool:
        """Whether nothing goes."""
        return not self.objects and not self.packs


@dataclass(slots=True)
class _Victims:
    """Objects that would go: many, of which a few will, so that each takes 32 bytes."""

    held: bytearray = field(default_factory=bytearray)
    others: bytearray = field(default_factory=bytearray)
    bytes: int = 0

    def __len__(self) -> int:
        return (len(self.held) + len(self.others)) // _DIGEST

    def add(self, candidate: Candidate) -> None:
        chosen = self.held if candidate.held else self.others
        chosen += bytes.fromhex(candidate.digest)
        self.bytes += candidate.stored

    def digests(self) -> tuple[Digest, ...]:
        """Return all of them."""
        return (*_digests(self.held), *_digests(self.others))

    def lost(self) -> Iterator[Digest]:
        """Yield those that no remote holds."""
        return _digests(self.others)


def _digests(joined: bytearray) -> Iterator[Digest]:
    return (Digest(joined[start : start + _DIGEST].hex()) for start in range(0, len(joined), _DIGEST))


@dataclass(slots=True)
class _Part:
    """A pack, and what would go of it."""

    share: Share
    victims: _Victims = field(default_factory=_Victims)

    @property
    def gain(self) -> int:
        """Bytes that a rewriting frees."""
        staying = self.share.objects - len(self.victims)
        rest = self.share.bytes - self.victims.bytes + TOC_ENTRY * staying if staying > 0 else 0
        return self.share.pack.stored - rest

    @property
    def is_smaller(self) -> bool:
        """Whether a rewriting would leave anything out."""
        return len(self.victims) > 0 or self.share.objects < self.share.pack.members

    @property
    def is_worth_it(self) -> bool:
        return self.gain >= WORTH * self.share.pack.stored


def plan_evict(
    order: Iterable[Candidate],
    packs: Mapping[int, Share],
    total: int,
    max_size: int,
    spared: Collection[Digest],
) -> EvictPlan:
    """Return what to evict.

    Args:
        order: Objects that may go, the first to go first.
        packs: The packs that are here, by their row.
        total: Stored bytes that the cap governs.
        max_size: The cap; nothing goes while `total` is not above it.
        spared: Objects that were used a moment ago, and the dictionaries that packs here need.
    """
    if total <= max_size:
        return EvictPlan()
    choice = _Choice(packs, total - int(max_size * EVICT_TO))
    for candidate in order:
        if choice.is_enough:
            break
        if candidate.digest not in spared:
            choice.add(candidate)
    choice.take_the_rest()
    return choice.plan()


class _Choice:
    """What was chosen so far."""

    def __init__(self, packs: Mapping[int, Share], excess: int) -> None:
        self._excess = excess
        self._freed = 0
        self._loose = _Victims()
        self._parts = {row: _Part(share) for row, share in packs.items()}
        self._rewritten: dict[int, _Part] = {}
        for row, part in self._parts.items():  # what is dead goes before what lives
            if part.is_worth_it:
                self._rewrite(row, part)

    @property
    def is_enough(self) -> bool:
        return self._freed >= self._excess

    def add(self, candidate: Candidate) -> None:
        """Choose the next to go."""
        if candidate.pack is None:
            self._loose.add(candidate)
            self._freed += candidate.stored
            return
        part = self._parts.get(candidate.pack)
        if part is None:  # it came since the packs were looked at
            return
        before = part.gain
        part.victims.add(candidate)
        if candidate.pack in self._rewritten:
            self._freed += part.gain - before
        elif part.is_worth_it:
            self._rewrite(candidate.pack, part)

    def take_the_rest(self) -> None:
        """Rewrite also packs that are not worth it, those that free most first, until it is enough."""
        parts = [
            (part.gain, row)
            for row, part in self._parts.items()
            if row not in self._rewritten and part.is_smaller
        ]
        for gain, row in sorted(parts, reverse=True):
            if self.is_enough or gain <= 0:
                return
            self._rewrite(row, self._parts[row])

    def plan(self) -> EvictPlan:
        thinned = tuple(
            Thinning(part.share.pack.digest, part.victims.digests()) for part in self._rewritten.values()
        )
        lost = [self._loose.lost(), *(part.victims.lost() for part in self._rewritten.values())]
        return EvictPlan(
            self._loose.digests(), thinned, self._freed, tuple(itertools.chain.from_iterable(lost))
        )

    def _rewrite(self, row: int, part: _Part) -> None:
        self._rewritten[row] = part
        self._freed += part.gain
