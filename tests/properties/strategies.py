"""Hypothesis strategies for records; few keys, digests and times, so that claims collide."""

from __future__ import annotations

from hypothesis import strategies as st

from casstore.catalog.records import Claim, Doomed, Entry, Kept, Location, Record, Replaces, Tombstone
from casstore.digest import Digest, Key, digest_of
from casstore.store.pack import PACK_MAX, Contents, Pack
from casstore.store.sealed import Frames, Stored
from tests.stores import key

INTEGERS = st.integers(0, 2**53 - 1)
_JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text("abé", max_size=3), inner, max_size=3)
    ),
    max_leaves=5,
)


def digests() -> st.SearchStrategy[Digest]:
    """Draw one of a few digests."""
    return st.integers(0, 4).map(lambda number: digest_of(bytes([number])))


def keys() -> st.SearchStrategy[Key]:
    """Draw one of a few keys."""
    return st.integers(0, 2).map(key)


def claims(numbers: st.SearchStrategy[int] = INTEGERS) -> st.SearchStrategy[Claim]:
    """Draw an entry or a tombstone."""
    labels = st.dictionaries(st.text("abcé\0", max_size=3), _JSON, max_size=2)
    refs = st.lists(digests(), max_size=2).map(tuple)
    entries = st.builds(Entry, keys(), digests(), numbers, numbers, labels, refs)
    return entries | st.builds(Tombstone, keys(), numbers, numbers)


def locations() -> st.SearchStrategy[Location]:
    """Draw the location of an object, of one frame or several."""
    several = st.lists(st.tuples(INTEGERS, digests()), min_size=2, max_size=4).map(
        lambda pairs: Frames(tuple(pair[0] for pair in pairs), tuple(pair[1] for pair in pairs))
    )
    stored = st.builds(Stored, digests(), INTEGERS, INTEGERS, st.none() | several)
    return st.builds(Location, stored, st.booleans())


def packs() -> st.SearchStrategy[Pack]:
    """Draw a pack of one to four objects."""
    members = st.lists(
        st.tuples(digests(), st.integers(0, 2**20), st.integers(1, PACK_MAX // 5)), min_size=1, max_size=4
    )
    return st.builds(_pack, members, st.none() | digests(), st.integers(1, 200))


def _pack(members: list[tuple[Digest, int, int]], dictionary: Digest | None, table: int) -> Pack:
    """Return a pack under a name that is its own, as a digest is."""
    objects, sizes, lengths = (list(column) for column in zip(*members, strict=True))
    contents = Contents(dictionary, objects, sizes, lengths)
    return Pack(digest_of(f"{contents} {table}".encode()), sum(lengths) + table, contents)


def records() -> st.SearchStrategy[Record]:
    """Draw a record of any kind."""
    doomed = st.builds(Doomed, st.sampled_from(["pack", "segment"]), digests(), INTEGERS)
    return (
        claims()
        | locations()
        | packs()
        | st.builds(Kept, digests())
        | doomed
        | st.builds(Replaces, digests())
    )
