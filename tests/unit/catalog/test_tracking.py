"""What is believed of remotes: what they lack, what was chosen to be published, where their objects lie."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from casstore.catalog.batch import batch_of
from casstore.catalog.holding import is_held, remotes_holding
from casstore.catalog.index import Index, put_claim, put_objects, put_pack_here
from casstore.catalog.inventory import entries_due
from casstore.catalog.learning import absorb
from casstore.catalog.merge import rank
from casstore.catalog.records import Doomed, Entry, Kept, Location, Record, Replaces, decode_record
from casstore.catalog.tracking import Tracking
from casstore.digest import Digest, digest_of
from casstore.store.pack import Contents, Pack
from casstore.store.sealed import Place, Stored
from tests.properties.strategies import records
from tests.stores import key
from tests.tracked import pending, pending_kept, wanted

ONE, TWO = "memory://one", "memory://two"
LATER = 1 << 60


@pytest.fixture
def index(tmp_path: Path) -> Iterator[Index]:
    """Return an empty index."""
    index = Index(tmp_path / "index.sqlite", create=True)
    yield index
    index.close()


@pytest.fixture
def tracking(index: Index) -> Tracking:
    """Return what is known of a remote of which nothing is known."""
    tracking = Tracking(index, ONE)
    assert tracking.id == 1
    return tracking


def content(number: int) -> Digest:
    """Return the digest of a numbered object."""
    return digest_of(b"object %d" % number)


def entry(number: int, generation: int = 0) -> Entry:
    """Return the entry that leads to a numbered object."""
    return Entry(key(number), content(number), generation, number, {"n": number})


def pack(name: int, *numbers: int) -> Pack:
    """Return a pack of numbered objects, 10 bytes each."""
    objects = [content(number) for number in numbers]
    inside = Contents(None, objects, [20] * len(objects), [10] * len(objects))
    return Pack(digest_of(b"pack %d" % name), 10 * len(objects) + 50, inside)


def segment(number: int) -> Digest:
    """Return the name of a numbered segment."""
    return digest_of(b"segment %d" % number)


def put(index: Index, *entries: Entry) -> None:
    """Let entries stand, whose objects are here in files of their own."""
    with index.writing() as connection:
        for each in entries:
            put_claim(connection, each)
            put_objects(connection, [Stored(each.object, 20, 25)], used=1)


def chosen(tracking: Tracking, mark: int) -> list[Record]:
    """Return the claims that a publishing takes."""
    return list(map(decode_record, tracking.chosen_claims(mark)))


# Publishing


def test_what_the_remote_holds_is_chosen(index: Index, tracking: Tracking) -> None:
    """Claims are published once their object is in the remote; the others wait, and nothing is lost."""
    put(index, entry(1), entry(2))
    tracking.uploaded([Stored(content(1), 20, 25)])
    mark = tracking.choose()
    assert chosen(tracking, mark) == [entry(1)]
    told = tracking.untold()
    assert told == [Location(Stored(content(1), 20, 25))]
    tracking.pushed(segment(1), mark, told)
    assert [each.key for each in pending(tracking)] == [key(2)]
    assert (tracking.untold(), tracking.segments()) == ([], {segment(1)})


def test_objects_put_by_hand_are_chosen_alike(index: Index, tracking: Tracking) -> None:
    """An object without an entry is published as kept, once it is there."""
    with index.writing() as connection:
        put_objects(connection, [Stored(content(1), 20, 25), Stored(content(2), 20, 25)], used=1, kept=True)
    tracking.uploaded([], [pack(1, 2)])
    mark = tracking.choose()
    assert (chosen(tracking, mark), tracking.chosen_kept(mark)) == ([], [content(2)])
    tracking.pushed(segment(1), mark, tracking.untold())
    assert pending_kept(tracking) == [content(1)]


def test_claim_replaced_while_it_is_published_stays_pending(index: Index, tracking: Tracking) -> None:
    """What takes the place of a chosen claim meanwhile is published another time."""
    put(index, entry(1), entry(2))
    tracking.uploaded([Stored(content(1), 20, 25), Stored(content(2), 20, 25)])
    mark = tracking.choose()
    newer = Entry(key(1), content(2), 1, 5)
    put(index, newer)
    tracking.pushed(segment(1), mark, tracking.untold())
    assert [each.key for each in pending(tracking)] == [key(1)]
    assert chosen(tracking, tracking.choose()) == [newer]


def test_claim_replaced_before_it_is_read_is_left_out(index: Index, tracking: Tracking) -> None:
    """A publishing takes the claims that were chosen as they were, none that came since."""
    put(index, entry(1), entry(2))
    tracking.uploaded([Stored(content(1), 20, 25), Stored(content(2), 20, 25)])
    mark = tracking.choose()
    put(index, Entry(key(1), content(3), 1, 5))
    assert chosen(tracking, mark) == [entry(2)]
    tracking.pushed(segment(1), mark, [])
    assert [each.key for each in pending(tracking)] == [key(1)]


def test_two_publishings_at_once(index: Index, tracking: Tracking) -> None:
    """Of two that chose one after the other, each settles what it took, and what neither took stays."""
    put(index, entry(1))
    tracking.uploaded([Stored(content(1), 20, 25)])
    first = tracking.choose()
    assert chosen(tracking, first) == [entry(1)]
    put(index, entry(2))
    tracking.uploaded([Stored(content(2), 20, 25)])
    second = tracking.choose()
    assert first != second
    tracking.pushed(segment(1), first, tracking.untold()[:1])
    assert chosen(tracking, second) == [entry(1), entry(2)]
    put(index, entry(3))
    tracking.pushed(segment(2), second, tracking.untold())
    assert [each.key for each in pending(tracking)] == [key(3)]
    assert tracking.segments() == {segment(1), segment(2)}


def test_tombstones_need_no_object(index: Index, tracking: Tracking) -> None:
    """That a key has no answer any more can be published at once."""
    end = decode_record(b'{"kind":"tombstone","key":"%b","generation":0,"created":1}' % key(1).encode())
    absorb(index, [end])  # type: ignore[list-item]  # it is a tombstone
    assert chosen(tracking, tracking.choose()) == [end]


def test_untold_survives(tmp_path: Path) -> None:
    """What was uploaded and no segment tells is told by the next push, of another process too."""
    first = Index(tmp_path / "index.sqlite", create=True)
    Tracking(first, ONE).uploaded([Stored(content(1), 20, 25)], [pack(1, 2, 3)])
    first.close()
    again = Index(tmp_path / "index.sqlite")
    records = Tracking(again, ONE).untold()
    assert sorted(map(repr, records)) == sorted(
        map(repr, [Location(Stored(content(1), 20, 25)), pack(1, 2, 3)])
    )
    assert Tracking(again, TWO).untold() == []
    tracking = Tracking(again, ONE)
    tracking.uploaded([Stored(content(4), 20, 25)])  # after the publishing looked
    tracking.pushed(segment(1), tracking.choose(), records)
    assert tracking.untold() == [Location(Stored(content(4), 20, 25))]
    tracking.reset()
    assert tracking.untold() == []
    again.close()


def test_other_remotes_wait_for_their_own_push(index: Index, tracking: Tracking) -> None:
    """What one remote said is pending for the others alone."""
    other = Tracking(index, TWO)
    assert other.id == 2
    tracking.apply(segment(1), [entry(1), entry(2)])
    assert [each.key for each in pending(other)] == [key(1), key(2)]
    assert pending(tracking) == []
    other.apply(segment(2), [entry(1), entry(3)])
    assert [each.key for each in pending(other)] == [key(2)]
    assert [each.key for each in pending(tracking)] == [key(3)]


# Where objects lie


def there(tracking: Tracking, number: int) -> Stored | None:
    """Return how the remote holds an object."""
    return tracking.sides([content(number)])[content(number)].there


def test_objects_of_a_pack_are_found(index: Index, tracking: Tracking) -> None:
    """One record says where each of a pack's objects lies."""
    tracking.apply(segment(1), [pack(1, 1, 2, 3), Location(Stored(content(4), 20, 25))])
    assert there(tracking, 2) == Stored(content(2), 20, 10, None, Place(pack(1, 1).digest, 10))
    assert there(tracking, 4) == Stored(content(4), 20, 25)
    assert remotes_holding(index, content(3)) == [
        (ONE, Stored(content(3), 20, 10, None, Place(pack(1, 1).digest, 20)))
    ]


def test_doomed_packs_are_not_relied_upon(index: Index, tracking: Tracking) -> None:
    """What lies in a pack that will be deleted may be read, but nothing is published on its strength."""
    put(index, entry(1))
    tracking.apply(segment(1), [pack(1, 1), Doomed("pack", pack(1).digest, 9)])
    side = tracking.sides([content(1)])[content(1)]
    assert side.there is not None
    assert (side.doomed, side.stays) == (True, False)
    assert chosen(tracking, tracking.choose()) == []
    tracking.uploaded([Stored(content(1), 20, 25)])
    assert tracking.sides([content(1)])[content(1)].stays
    assert chosen(tracking, tracking.choose()) == [entry(1)]
    assert tracking.doomed() == [Doomed("pack", pack(1).digest, 9)]


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_what_lies_in_a_doomed_pack_and_elsewhere_is_elsewhere(
    index: Index, tracking: Tracking, order: tuple[int, ...]
) -> None:
    """In whatever order two packs with one object and the doom of one are read, the other one counts."""
    segments: list[list[Record]] = [[pack(1, 1, 2)], [pack(2, 3, 1)], [Doomed("pack", pack(1).digest, 9)]]
    for number in order:
        tracking.apply(segment(number), segments[number])
    side = tracking.sides([content(1)])[content(1)]
    assert side.there == Stored(content(1), 20, 10, None, Place(pack(2).digest, 10))
    assert side.stays
    assert not tracking.sides([content(2)])[content(2)].stays


def test_what_is_not_where_it_was_may_be_elsewhere(tracking: Tracking) -> None:
    """When an object is missing from one of two places, it is looked for in the other, and then nowhere."""
    tracking.apply(segment(1), [Location(Stored(content(1), 20, 25))])
    tracking.apply(segment(2), [pack(1, 1)])
    first = there(tracking, 1)
    tracking.disbelieve([content(1)])
    second = there(tracking, 1)
    assert {known.place is None for known in (first, second) if known is not None} == {True, False}
    tracking.disbelieve([content(1)])
    assert there(tracking, 1) is None


def test_upload_told_by_another_is_believed_in(index: Index, tracking: Tracking) -> None:
    """What a push that died had uploaded is not sent again once another store's segment tells of it."""
    put(index, entry(1), entry(2))
    tracking.uploaded([Stored(content(2), 20, 25)], [pack(1, 1)])
    tracking.apply(segment(1), [pack(1, 1), Location(Stored(content(2), 20, 25)), entry(1), entry(2)])
    assert tracking.untold() == []
    assert is_held(index, content(1))
    tracking.distrust(LATER)
    assert pending(tracking) == []
    assert there(tracking, 1) is not None
    assert there(tracking, 2) is not None


@pytest.mark.parametrize("told", [[pack(2, 1, 2)], [Location(Stored(content(n), 20, 25)) for n in (1, 2)]])
@pytest.mark.parametrize("told_first", [True, False])
def test_only_the_upload_is_distrusted(
    index: Index, tracking: Tracking, told: list[Record], *, told_first: bool
) -> None:
    """What an upload that nobody told of held is looked for in its other place alone."""
    put(index, entry(1), entry(2), entry(3))
    if told_first:
        tracking.apply(segment(1), [*told, entry(1), entry(2)])
    tracking.uploaded([], [pack(1, 1, 2, 3)])
    if not told_first:
        tracking.apply(segment(1), [*told, entry(1), entry(2)])
    tracking.distrust(LATER)
    places = [known and known.place for known in (there(tracking, 1), there(tracking, 2))]
    assert pack(1).digest not in [place and place.pack for place in places]
    assert there(tracking, 1) is not None
    assert there(tracking, 3) is None
    assert [each.key for each in pending(tracking)] == [key(3)]
    tracking.disbelieve([content(1), content(2)])
    assert there(tracking, 1) is None


def test_doom_waits_for_the_last_word(tracking: Tracking) -> None:
    """Of two that doom one file, the later moment counts; when it is gone, nothing is said of it any more."""
    for number, after in enumerate([5, 9, 7]):
        tracking.apply(segment(number), [Doomed("segment", segment(9), after)])
    assert tracking.doomed() == [Doomed("segment", segment(9), 9)]
    tracking.forget_segments([segment(9)])
    assert tracking.doomed() == []


def test_replaced_segments_are_known_and_need_no_reading(tracking: Tracking) -> None:
    """A merged segment makes known what it stands for."""
    tracking.apply(segment(1), [entry(1)])
    tracking.apply(segment(3), [Replaces(segment(1)), Replaces(segment(2)), entry(2)])
    assert tracking.segments() == {segment(1), segment(2), segment(3)}
    assert tracking.replaced() == {segment(1), segment(2)}
    tracking.forget_segments([segment(1)])
    assert (tracking.segments(), tracking.replaced()) == ({segment(2), segment(3)}, {segment(2)})


def test_disbelief_makes_pending_again(index: Index, tracking: Tracking) -> None:
    """An object that the remote turned out not to hold is sent again, with what leads to it."""
    put(index, entry(1), entry(2))
    tracking.uploaded([], [pack(1, 1, 2)])
    tracking.pushed(segment(1), tracking.choose(), tracking.untold())
    assert pending(tracking) == []
    tracking.disbelieve([content(1)])
    assert [each.key for each in pending(tracking)] == [key(1)]
    assert there(tracking, 1) is None
    assert there(tracking, 2) is not None


def test_first_segment_into_an_empty_index_is_like_any_other(index: Index, tracking: Tracking) -> None:
    """What is taken a short way where nothing stands yet gives the same as the long way."""
    second = Tracking(index, TWO)
    assert second.id == 2
    made: list[Record] = [
        entry(2),
        entry(1, 1),
        entry(1),
        pack(1, 2),
        Kept(content(7)),
        Location(Stored(content(7), 5, 9)),
    ]
    assert tracking.apply_batches(segment(1), map(batch_of, ([each] for each in made))) == 2
    assert {each.key for each in pending(second)} == {key(1), key(2)}
    assert pending(tracking) == []
    assert wanted(tracking) == [
        (0, key(2)),
        (0, key(1)),
        (1, content(7)),
    ]
    assert tracking.apply(segment(2), made) == 0
    assert entries_due(index, tracking.id) == 2


TABLES = {
    "entries": "SELECT * FROM entries",
    "segments": "SELECT remote, segment FROM remote_segments",
    "replaced": "SELECT remote, segment FROM replaced",
    "doomed": "SELECT remote, digest, after FROM doomed",
    "known": "SELECT remote, object FROM remote_objects",
    "packs": "SELECT digest, stored, members, dictionary, here FROM packs",
    "pending": "SELECT remote, kind, id FROM pending",
}


def tables(index: Index) -> dict[str, set[tuple[object, ...]]]:
    """Return what must not depend on the order in which segments were read."""
    with index.reading() as connection:
        return {name: set(connection.execute(query)) for name, query in TABLES.items()}


@given(st.lists(st.lists(records(), max_size=6), min_size=2, max_size=4), st.booleans())
@settings(max_examples=15, deadline=None)
def test_segments_may_be_read_in_any_order(
    tmp_path_factory: pytest.TempPathFactory, segments: list[list[Record]], again: bool
) -> None:
    """In whatever order, and some of them twice, the same segments make the same index."""
    seen = []
    numbered = list(enumerate(segments))
    for order in (numbered, numbered[::-1]):
        index = Index(tmp_path_factory.mktemp("order") / "index.sqlite", create=True)
        tracking, other = Tracking(index, ONE), Tracking(index, TWO)
        assert (tracking.id, other.id) == (1, 2)
        for number, made in [*order, *(order[:1] if again else ())]:
            tracking.apply(segment(number), made)
        seen.append(tables(index))
        index.close()
    assert seen[0] == seen[1]


def test_packs_that_differ_under_one_name_settle(index: Index, tracking: Tracking) -> None:
    """A pack that is here stays so when a remote tells of it, and the other way round."""
    known = pack(1, 1, 2)
    with index.writing() as connection:
        put_pack_here(connection, known, used=1)
    tracking.apply(segment(1), [known])
    (info,) = index.packs([known.digest]).values()
    assert (info.here, info.members, info.stored) == (True, 2, known.stored)
    side = tracking.sides([content(1)])[content(1)]
    assert side.here == side.there


def test_ranks_agree(index: Index, tracking: Tracking) -> None:
    """The short way keeps the claim that the pure merge would."""
    tracking.apply(segment(1), [entry(1), entry(1, 2), entry(1, 1)])
    (claim,) = index.claims()
    assert rank(claim) == rank(entry(1, 2))
