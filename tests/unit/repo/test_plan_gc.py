"""What a collection dooms, moves and deletes."""

from __future__ import annotations

from dataclasses import replace

from casstore.catalog.records import OBJECT, PACK, SEGMENT
from casstore.digest import Digest, digest_of
from casstore.repo.local import GRACE
from casstore.repo.plan_gc import DataFile, Garbage, GcPlan, Holdings, SegmentFile, plan_gc

NOW = 1_000 * GRACE
OLD = NOW - GRACE
YOUNG = NOW - GRACE + 1
DUE = NOW
NOT_DUE = NOW + 1
LARGE = 1 << 25


def name(number: int) -> Digest:
    """Return a digest."""
    return digest_of(b"%d" % number)


def pack(
    number: int, needed: int = 0, members: int = 10, modified: int | None = OLD, stored: int = LARGE
) -> DataFile:
    """Return a pack."""
    return DataFile(PACK, name(number), stored, modified, needed, members)


def loose(number: int, needed: int = 0, modified: int | None = OLD) -> DataFile:
    """Return an object's own file."""
    return DataFile(OBJECT, name(number), 100, modified, needed)


def segment(number: int, stored: int = LARGE, *, replaced: bool = False) -> SegmentFile:
    """Return a segment."""
    return SegmentFile(name(number), stored, replaced)


def planned(
    *files: DataFile | SegmentFile,
    doomed: dict[int, int] | None = None,
    own: tuple[int, ...] = (),
    grace: int = GRACE,
) -> GcPlan:
    """Plan a collection of some files."""
    holdings = Holdings(
        [each for each in files if isinstance(each, SegmentFile)],
        [each for each in files if isinstance(each, DataFile)],
        {name(number): after for number, after in (doomed or {}).items()},
        {name(number) for number in own},
    )
    return plan_gc(holdings, NOW, grace)


def names(garbage: tuple[Garbage, ...]) -> list[Digest]:
    """Return the digests of garbage."""
    return [each.digest for each in garbage]


def test_what_is_needed_stays() -> None:
    """Large packs and segments in use, and needed objects, are left alone."""
    assert planned(pack(1, 10), pack(2, 5), loose(3, 1), segment(4)).is_empty


def test_what_nobody_needs_is_doomed_and_not_deleted() -> None:
    """Packs, objects, and segments that another stands for."""
    plan = planned(pack(1), loose(2), segment(3, replaced=True))
    assert names(plan.doomed) == [name(1), name(2), name(3)]
    assert [each.what for each in plan.doomed] == [PACK, OBJECT, SEGMENT]
    assert (plan.deleted, plan.packs, plan.segments) == ((), (), ())


def test_nothing_happens_while_something_needed_is_missing() -> None:
    """Not to what is garbage, sparse or small, and not to what is due: any file may hold the last copy."""
    files = [pack(1), pack(2, 1), pack(3, 9, stored=10), pack(4, 9, stored=10), loose(5)]
    segments = [segment(6, replaced=True), segment(7, 10), segment(8, 10)]
    holdings = Holdings(segments, files, {name(1): DUE, name(6): DUE})
    assert plan_gc(holdings, NOW, GRACE).deleted
    assert plan_gc(replace(holdings, incomplete=True), NOW, GRACE) == GcPlan(waiting=2)


def test_what_is_new_is_left_alone() -> None:
    """Somebody may be about to tell of it; where its age is not known, its grace protects it."""
    assert planned(pack(1, modified=YOUNG), loose(2, modified=YOUNG)).is_empty
    assert names(planned(pack(1, modified=None)).doomed) == [name(1)]


def test_what_an_own_push_left_is_not_doomed() -> None:
    """The next push tells of it."""
    assert planned(pack(1), loose(2), own=(1, 2)).is_empty


def test_what_was_doomed_for_long_enough_is_deleted_names_first() -> None:
    """Segments, then packs, then objects; what was doomed later waits."""
    files = (loose(1), pack(2), segment(3, replaced=True), pack(4), loose(5), segment(6, replaced=True))
    plan = planned(*files, doomed={1: DUE, 2: DUE, 3: DUE, 4: NOT_DUE, 5: NOT_DUE, 6: NOT_DUE})
    assert names(plan.deleted) == [name(3), name(2), name(1)]
    assert (plan.waiting, plan.doomed) == (3, ())


def test_another_grace_moves_the_hour() -> None:
    """With a grace of 0, all that was doomed goes; with a longer one, it waits longer."""
    doomed = {1: NOW + GRACE, 2: NOW + GRACE + 1}
    assert names(planned(pack(1), pack(2), doomed=doomed, grace=0).deleted) == [name(1)]
    assert planned(pack(1), doomed={1: DUE}, grace=2 * GRACE).deleted == ()


def test_what_became_needed_is_moved_and_not_deleted() -> None:
    """Out of a doomed pack into another; an object with a file of its own stays in it."""
    plan = planned(pack(1, 1), loose(2, 1), doomed={1: DUE, 2: DUE})
    assert (plan.packs, plan.deleted, plan.doomed) == ((name(1),), (), ())
    assert planned(pack(1, 1), doomed={1: NOT_DUE}).packs == ()


def test_what_was_written_again_is_not_deleted() -> None:
    """Whoever wrote it is about to rely on it."""
    plan = planned(pack(1, modified=YOUNG), loose(2, modified=YOUNG), doomed={1: DUE, 2: DUE})
    assert (plan.deleted, plan.waiting) == ((), 2)


def test_a_segment_that_nothing_stands_for_is_never_deleted() -> None:
    """Whatever somebody says of it."""
    assert planned(segment(1), doomed={1: 0}).deleted == ()


def test_a_pack_that_is_mostly_garbage_is_moved_and_doomed() -> None:
    """Its needed objects go into others."""
    plan = planned(pack(1, 4, 10), pack(2, 5, 10))
    assert (plan.packs, names(plan.doomed)) == ((name(1),), [name(1)])
    assert planned(pack(1, 4, 10, modified=YOUNG)).is_empty


def test_small_packs_and_segments_are_folded_if_there_are_two() -> None:
    """One alone stays as it is, so that a second collection finds nothing to do."""
    assert planned(pack(1, 10, stored=1000), segment(2, 1000)).is_empty
    plan = planned(pack(1, 10, stored=1000), pack(2, 10, stored=2000), segment(3, 1000), segment(4, 2000))
    assert set(plan.packs) == {name(1), name(2)}
    assert set(plan.segments) == {name(3), name(4)}
    assert set(names(plan.doomed)) == {name(1), name(2), name(3), name(4)}


def test_large_ones_are_not_rewritten_for_a_small_one() -> None:
    """So collecting every day costs what changed."""
    assert planned(pack(1, 10, stored=9 << 20), pack(2, 10, stored=1000)).is_empty
    assert planned(segment(1, 3 << 20), segment(2, 1000)).is_empty
