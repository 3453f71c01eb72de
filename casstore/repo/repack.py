"""Repacking: small objects of the local store into packs, and small packs into larger ones.  Floor: repo."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from casstore.catalog.packed import dictionaries_needed, loose_objects, packs_here, shares, written_order
from casstore.errors import IntegrityError, NotFoundError
from casstore.events import OnEvent, telling
from casstore.repo.packing import choose_dictionary, read_sample, sample_size
from casstore.repo.plan import Failure
from casstore.repo.plan_repack import FULL, WORTH_A_PACK, RepackPlan, plan_merges, plan_thinning
from casstore.repo.rewrite import Change, Rewritten, living, rewrite, source_of
from casstore.store.pack import PACK_FRAMES, PACKED_MAX, fill_packs
from casstore.store.sealed import Stored

if TYPE_CHECKING:
    from casstore.catalog.rows import PackInfo
    from casstore.digest import Digest
    from casstore.repo.local import Local
    from casstore.store.codec import Dictionary


@dataclass(frozen=True, slots=True)
class RepackReport:
    """What a repack did.

    Attributes:
        objects: Objects with a file of their own that lie in packs now.
        packs: Packs that were written.
        replaced: Packs whose objects went into those.
        before: Bytes of the files that went.
        after: Bytes of the packs that were written.
        blocks: Bytes of disk blocks that this freed.
        failures: Objects that could not be read.
    """

    objects: int
    packs: int
    replaced: int
    before: int
    after: int
    blocks: int
    failures: tuple[Failure, ...]


def plan_repack(local: Local) -> RepackPlan:
    """Return what a repack would do."""
    objects = stored = 0
    for known in _loose(local):
        objects += 1
        stored += known.stored
    if objects < WORTH_A_PACK:
        objects = stored = 0
    current = local.index.current_dictionary()
    thinned = plan_thinning(shares(local.index).values())
    small = (pack for pack in packs_here(local.index) if pack not in thinned)
    return RepackPlan(objects, stored, plan_merges(small, current), thinned)


def repack(local: Local, on_event: OnEvent) -> RepackReport:
    """Turn small objects into packs in the order they were written, and rewrite packs where that is due."""
    plan = plan_repack(local)
    total = Rewritten()
    if not plan.is_empty:
        local.require_packs()
    dictionary = _dictionary(local, plan.objects)
    if plan.objects:
        with telling("repack", plan.objects, plan.bytes, on_event) as on_advance:
            for group in fill_packs(_in_order(local, dictionary), PACK_FRAMES):
                rewrite(local, Change(group, dictionary), total, on_advance)
    _rewrite(local, [(thinned,) for thinned in plan.thinned], None, total, on_event)
    # What was packed just now may be merged at once.
    current = None if dictionary is None else dictionary.digest
    merged = plan_merges(packs_here(local.index, below=FULL), current)
    _rewrite(local, merged, dictionary, total, on_event)
    return RepackReport(
        total.objects,
        total.packs,
        total.gone,
        total.before,
        total.after,
        total.blocks,
        tuple(total.failures),
    )


def tidy_packs(local: Local) -> None:
    """Merge packs that pulls left, where enough of one size have come together.

    Where not, it costs one small query. Frames are copied as they are.
    """
    for packs in plan_merges(packs_here(local.index, below=FULL)):
        _merge(local, packs, None, Rewritten())


def _rewrite(
    local: Local,
    groups: Sequence[Sequence[PackInfo]],
    dictionary: Dictionary | None,
    total: Rewritten,
    on_event: OnEvent,
) -> None:
    """Make one pack of each group of packs, and tell of it."""
    packs = list(itertools.chain.from_iterable(groups))
    if packs:
        with telling("repack", _members(packs), sum(pack.stored for pack in packs), on_event) as on_advance:
            for group in groups:
                _merge(local, group, dictionary, total)
                on_advance(_members(group), sum(pack.stored for pack in group))


def _merge(local: Local, packs: Sequence[PackInfo], dictionary: Dictionary | None, total: Rewritten) -> None:
    """Make one pack of several: with their own dictionary, or where they have none with the one given."""
    sources = [source for source in (source_of(local, pack) for pack in packs) if source is not None]
    if not sources:
        return
    own = next((each.contents.dictionary for each in sources if each.contents.dictionary is not None), None)
    if own is not None:
        try:
            dictionary = local.objects.dictionaries(own)
        except (NotFoundError, IntegrityError) as error:
            total.failures.append(Failure(local.objects.name(own), f"a dictionary that packs need: {error}"))
            return
    members = [known for source in sources for known in living(local, source)]
    rewrite(local, Change(members, dictionary, sources), total)


def _members(packs: Iterable[PackInfo]) -> int:
    return sum(pack.members for pack in packs)


def _dictionary(local: Local, objects: int) -> Dictionary | None:
    """Choose the dictionary of new packs, and store it."""
    current = _current_dictionary(local)
    if not objects:
        return current
    step = max(1, objects // sample_size(objects))
    chosen = itertools.islice(_in_order(local), 0, None, step)
    samples = read_sample(local, itertools.islice(chosen, sample_size(objects)))
    dictionary = choose_dictionary(local, samples, current)
    return dictionary if dictionary is None else local.keep_dictionary(dictionary)


def _current_dictionary(local: Local) -> Dictionary | None:
    digest = local.index.current_dictionary()
    if digest is None:
        return None
    try:
        return local.objects.dictionaries(digest)
    except (NotFoundError, IntegrityError):
        return None


def _loose(local: Local, dictionary: Dictionary | None = None) -> Iterator[Stored]:
    """Yield what belongs into packs: small objects with a file of their own that are no dictionaries."""
    dictionaries = _dictionaries(local, dictionary)
    return (known for known in loose_objects(local.index, PACKED_MAX) if known.digest not in dictionaries)


def _in_order(local: Local, dictionary: Dictionary | None = None) -> Iterator[Stored]:
    """Yield what belongs into packs in the order it was written; what no entry leads to comes last.

    What was packed meanwhile is passed over. Until it is, an object may be yielded repeatedly.
    """
    dictionaries = _dictionaries(local, dictionary)
    for digest in written_order(local.index):
        known = local.index.known(digest)
        if known is not None and _belongs(known) and digest not in dictionaries:
            yield known
    yield from _loose(local, dictionary)


def _dictionaries(local: Local, new: Dictionary | None) -> set[Digest]:
    """Return what stays out of packs, so that no pack is needed to read another."""
    needed = dictionaries_needed(local.index, here=False)
    return needed if new is None else needed | {new.digest}


def _belongs(known: Stored) -> bool:
    return known.place is None and known.size < PACKED_MAX
