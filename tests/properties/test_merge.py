"""Merging: which claim stands does not depend on order, repetition or who computes it."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from casstore.catalog.index import Index
from casstore.catalog.learning import absorb
from casstore.catalog.merge import merge, rank
from casstore.catalog.records import Claim, Entry, Tombstone
from casstore.catalog.tracking import Tracking
from casstore.digest import Key, digest_of
from tests.properties.strategies import claims
from tests.stores import key
from tests.tracked import pending

COLLIDING = claims(st.integers(0, 2))
"""Claims that differ in little, so that every step of the order decides."""

SMALLER, LARGER = sorted([digest_of(b"a"), digest_of(b"b")])


def standing(index: Index) -> dict[str, Claim]:
    """Return what an index has for each key."""
    return {claim.key: claim for claim in index.claims()}


@given(st.lists(COLLIDING, max_size=12), st.randoms(use_true_random=False))
@settings(max_examples=70, deadline=None)
def test_order_does_not_matter(made: list[Claim], random: object) -> None:
    """Merging is commutative: any order gives the same."""
    shuffled = list(made)
    random.shuffle(shuffled)  # type: ignore[attr-defined] # hypothesis types its randoms as objects
    assert merge(shuffled) == merge(made)


@given(st.lists(COLLIDING, max_size=6), st.lists(COLLIDING, max_size=6), st.lists(COLLIDING, max_size=6))
@settings(max_examples=70, deadline=None)
def test_grouping_and_repetition_do_not_matter(
    one: list[Claim], two: list[Claim], three: list[Claim]
) -> None:
    """Merging is associative and idempotent."""
    whole = merge([*one, *two, *three])
    assert merge([*merge([*one, *two]).values(), *three]) == whole
    assert merge([*one, *merge([*two, *three]).values()]) == whole
    assert merge([*whole.values(), *one, *two, *three, *one]) == whole


@given(COLLIDING, COLLIDING)
@settings(max_examples=70, deadline=None)
def test_rank_is_total(one: Claim, other: Claim) -> None:
    """Two claims on one key rank equal only where they are equal."""
    if one.key == other.key:
        assert (rank(one) == rank(other)) == (one == other or _alike(one, other))


def _alike(one: Claim, other: Claim) -> bool:
    """Tell whether two claims are written alike, though Python compares 0.0 and -0.0 otherwise."""
    return repr(one) == repr(other)


@pytest.mark.parametrize(
    ("winner", "loser"),
    [
        (Entry(key(1), digest_of(b"z"), 1, 9), Entry(key(1), digest_of(b"a"), 0, 1)),
        (Entry(key(1), digest_of(b"z"), 0, 1), Entry(key(1), digest_of(b"a"), 0, 2)),
        (Entry(key(1), SMALLER, 0, 1), Entry(key(1), LARGER, 0, 1)),
        (Tombstone(key(1), 0, 9), Entry(key(1), digest_of(b"a"), 0, 1)),
        (Entry(key(1), digest_of(b"a"), 1, 9), Tombstone(key(1), 0, 1)),
        (Tombstone(key(1), 0, 1), Tombstone(key(1), 0, 2)),
    ],
    ids=["generation", "earlier", "smaller digest", "tombstone", "answer after a tombstone", "tombstones"],
)
def test_order_of_claims(winner: Claim, loser: Claim) -> None:
    """Generation, then tombstone, then the earlier, then the smaller digest."""
    assert merge([winner, loser]) == merge([loser, winner]) == {key(1): winner}


def pending_keys(tracking: Tracking) -> set[Key]:
    """Return the keys of the claims that a remote lacks."""
    return {claim.key for claim in pending(tracking)}


@given(st.lists(st.lists(COLLIDING, max_size=6), max_size=5), st.lists(st.booleans(), min_size=5, max_size=5))
@settings(max_examples=30, deadline=None)
def test_index_agrees_with_the_pure_merge(
    tmp_path_factory: pytest.TempPathFactory, segments: list[list[Claim]], own: list[bool]
) -> None:
    """A remote's segments and this store's own claims, in any split, make the entries that merge gives."""
    index = Index(tmp_path_factory.mktemp("index") / "index.sqlite", create=True)
    tracking = Tracking(index, "memory://one")
    for number, (segment, is_own) in enumerate(zip(segments, own, strict=False)):
        before = standing(index)
        changed = absorb(index, segment) if is_own else tracking.apply(digest_of(bytes([number])), segment)
        after = standing(index)
        assert changed == sum(before.get(each) != claim for each, claim in after.items())
    expected = merge(claim for segment in segments for claim in segment)
    assert {each: rank(claim) for each, claim in standing(index).items()} == {
        each: rank(claim) for each, claim in expected.items()
    }
    index.close()


@given(st.lists(COLLIDING, max_size=10), st.lists(COLLIDING, max_size=10))
@settings(max_examples=30, deadline=None)
def test_pending_is_what_the_remote_lacks(
    tmp_path_factory: pytest.TempPathFactory, ours: list[Claim], theirs: list[Claim]
) -> None:
    """After a remote's segment was read, exactly those claims are to be pushed that win over its own."""
    path: Path = tmp_path_factory.mktemp("index") / "index.sqlite"
    index = Index(path, create=True)
    tracking = Tracking(index, "memory://one")
    absorb(index, ours)
    tracking.apply(digest_of(b"segment"), theirs)
    remote = merge(theirs)
    expected = {
        each: rank(claim)
        for each, claim in merge([*ours, *theirs]).items()
        if each not in remote or rank(remote[each]) != rank(claim)
    }
    assert {
        claim.key: rank(claim) for claim in standing(index).values() if claim.key in pending_keys(tracking)
    } == (expected)
    tracking.reset()
    assert pending_keys(tracking) == set(merge([*ours, *theirs]))
    index.close()
