"""What a push folds: few segments stay, and each byte is rewritten seldom."""

from __future__ import annotations

import itertools
import math

from hypothesis import given, settings
from hypothesis import strategies as st

from casstore.catalog.inventory import Row
from casstore.digest import Digest, digest_of
from casstore.repo import plan_merge
from casstore.repo.plan_merge import Candidate, fold, fold_packs, with_old, without
from casstore.store.pack import PACK_FRAMES, PACK_MEMBERS

ENDLESS = 1 << 40


def pushed(sizes: list[int], limit: int = ENDLESS) -> tuple[list[int], list[int]]:
    """Push segments of some sizes; return those that are left, and what each push folded."""
    live: list[int] = []
    folded = []
    for size in sizes:
        chosen = fold([(stored, number) for number, stored in enumerate(live)], size, limit)
        merged = size + sum(live[number] for number in chosen)
        live = [stored for number, stored in enumerate(live) if number not in set(chosen)] + [merged]
        folded.append(merged - size)
    return live, folded


def row(number: int, stored: int = 100, pack: int | None = None) -> Row:
    """Return an object."""
    return Row(digest_of(b"%d" % number), 2 * stored, stored, pack, 0, None)


def candidate(
    number: int, members: int = 1, stored: int = 100, *, here: bool = True, fetchable: bool = True
) -> Candidate:
    """Return a pack of as many objects, its size the sum of theirs."""
    rows = tuple(row(1000 * number + each, stored, number) for each in range(members))
    return Candidate(name(number), members * stored, rows, here, fetchable)


def name(number: int) -> Digest:
    """Return the digest of a pack."""
    return digest_of(b"pack %d" % number)


def test_equal_pushes_count_as_a_number_does() -> None:
    """A thousand pushes of one size leave at most ten segments."""
    live, _ = pushed([1] * 1000)
    assert len(live) <= 10
    assert sum(live) == 1000


@settings(max_examples=200)
@given(st.lists(st.integers(1, 10_000), min_size=1, max_size=200))
def test_few_segments_are_left_and_each_byte_is_rewritten_seldom(sizes: list[int]) -> None:
    """Of whatever sizes pushes are: each segment left is more than twice the next, so there are log2 of them.

    A byte that is rewritten comes into a segment at least half as large again.
    """
    live, folded = pushed(sizes)
    assert sum(live) == sum(sizes)
    ordered = sorted(live)
    assert all(2 * small < large for small, large in itertools.pairwise(ordered))
    assert len(live) <= 1 + math.log2(sum(sizes) / min(live))
    assert sum(folded) <= sum(sizes) * (1 + math.log(sum(sizes) / min(sizes), 1.5))


@given(st.lists(st.integers(1, 10_000), min_size=1, max_size=100), st.integers(1, 5_000))
def test_a_push_folds_no_more_than_it_may(sizes: list[int], limit: int) -> None:
    """What one push rewrites is bounded, however large the remote is."""
    _, folded = pushed(sizes, limit)
    assert max(folded) <= limit


def test_smaller_and_smaller_pushes_are_folded_too() -> None:
    """Pushes of which each is a little smaller than the last do not pile up."""
    live, _ = pushed(list(range(1100, 100, -1)))
    assert len(live) <= 12


def test_small_packs_are_folded_the_smallest_first_while_there_is_room() -> None:
    """What does not fit into one pack with what is new stays where it is."""
    half = PACK_FRAMES // 2
    packs = [
        candidate(1, 1, half - 1),
        candidate(2, 1, half - 2),
        candidate(3, 1, 1000),
        candidate(4, 1, half),
    ]
    chosen, fetched = fold_packs(packs, [row(1)])
    assert ([each.digest for each in chosen], fetched) == ([name(3), name(2)], [])


def test_a_pack_has_room_for_so_many_objects() -> None:
    """The table of contents of a pack stays within its bounds; one place is left to give it another name."""
    new = [row(number, 1) for number in range(PACK_MEMBERS - 4)]
    chosen, _ = fold_packs([candidate(1, 2, 1), candidate(2, 3, 1)], new)
    assert [each.digest for each in chosen] == [name(1)]


def test_packs_of_others_are_fetched_when_there_are_many() -> None:
    """All that fit, and the smallest first; fewer stay as they are, and so do those that cannot be used."""
    away = [candidate(number, 1, 100 * number, here=False) for number in range(1, plan_merge.MANY)]
    mine, useless = candidate(20, 1, 350), candidate(21, here=False, fetchable=False)
    assert fold_packs([*away, mine, useless], [row(1)]) == ([mine], [])
    last = candidate(22, 1, 5000, here=False)
    chosen, fetched = fold_packs([*away, mine, useless, last], [row(1)])
    assert chosen == [*away[:3], mine, *away[3:], last]
    assert fetched == [each.digest for each in (*away, last)]
    size = plan_merge.SMALL_PACK - 100
    large = [candidate(number, 1, size, here=False) for number in range(plan_merge.MANY)]
    assert len(fold_packs(large, [row(1)])[1]) == 2


def test_one_pack_alone_is_not_rewritten() -> None:
    """Where nothing new is packed, it takes two to be folded; one that holds nothing any more always is."""
    assert fold_packs([candidate(1)], []) == ([], [])
    empty = candidate(2, 0)
    assert fold_packs([candidate(1), empty], []) == ([empty], [])
    assert len(fold_packs([candidate(1), candidate(2)], [])[0]) == 2


def test_old_objects_come_first_in_the_last_pack() -> None:
    """Whoever has them reads the new ones in one range."""
    assert with_old([(row(1),), (row(2),)], [row(3), row(4)]) == ((row(1),), (row(3), row(4), row(2)))
    assert with_old([], [row(3)]) == ((row(3),),)
    assert with_old([(row(1),)], []) == ((row(1),),)


def test_what_could_not_be_fetched_is_left_out() -> None:
    """A pack that would be empty then is not made."""
    packs = ((row(1, pack=7),), (row(2, pack=7), row(3)))
    assert without(packs, {7}) == ((row(3),),)
