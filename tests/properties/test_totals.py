"""The bytes that the size cap governs, kept by triggers, against a model that adds them up."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from casstore.catalog.index import Index, put_objects, put_pack_here, remove_objects
from casstore.catalog.packed import drop_members, leave_pack, move_objects
from casstore.catalog.tracking import Tracking
from casstore.digest import Digest, digest_of
from casstore.store.pack import Contents, Pack
from casstore.store.sealed import Place, Stored

NUMBERS = st.integers(0, 5)
PACKS = st.integers(0, 2)
MEMBERS = ((0, 1, 2), (2, 3), (0, 1, 2, 3, 4, 5))
FRAME, FILE = 10, 37


def content(number: int) -> Digest:
    """Return the digest of a numbered object."""
    return digest_of(b"object %d" % number)


def pack(number: int) -> Pack:
    """Return one of three packs."""
    objects = [content(each) for each in MEMBERS[number]]
    inside = Contents(None, objects, [20] * len(objects), [FRAME] * len(objects))
    return Pack(digest_of(b"pack %d" % number), FRAME * len(objects) + 50 + number, inside)


def member(number: int, inside: int) -> Stored:
    """Return an object as it lies in a pack."""
    return next(known for known in pack(inside).members() if known.digest == content(number))


class Totals(RuleBasedStateMachine):
    """Objects come, are put by hand, move into packs and go, and so do packs."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.index = Index(self.folder / "index.sqlite", create=True)
        self.tracking = Tracking(self.index, "memory://one")
        self.places: dict[int, Stored] = {}
        self.kept: set[int] = set()
        self.packs: set[int] = set()

    @rule(number=NUMBERS, kept=st.booleans(), size=st.sampled_from([FILE, FILE + 5]))
    def put_loose(self, number: int, size: int, *, kept: bool) -> None:
        """Put an object in a file of its own, where it is from now on."""
        known = Stored(content(number), 20, size)
        with self.index.writing() as connection:
            put_objects(connection, [known], used=1, kept=kept)
        self.places[number] = known
        self.kept |= {number} if kept else set()

    @rule(number=PACKS)
    def take_pack(self, number: int) -> None:
        """Take a pack in; what was known elsewhere stays there."""
        with self.index.writing() as connection:
            put_pack_here(connection, pack(number), used=1)
        self.packs.add(number)
        for each in MEMBERS[number]:
            self.places.setdefault(each, member(each, number))

    @rule(number=PACKS)
    def hear_of_pack(self, number: int) -> None:
        """A remote tells of a pack, which changes nothing here."""
        self.tracking.uploaded([], [pack(number)])

    @rule(number=NUMBERS, inside=PACKS)
    def move(self, number: int, inside: int) -> None:
        """Move an object into a pack that is here."""
        if number in self.places and inside in self.packs and number in MEMBERS[inside]:
            new = member(number, inside)
            with self.index.writing() as connection:
                assert move_objects(connection, [(self.places[number], new)]) == 1
            self.places[number] = new

    @rule(number=NUMBERS)
    def remove(self, number: int) -> None:
        """Remove an object."""
        with self.index.writing() as connection:
            remove_objects(connection, [content(number)])
        self.places.pop(number, None)
        self.kept.discard(number)

    @rule(number=PACKS)
    def remove_pack(self, number: int) -> None:
        """Remove a pack, with what lies in it."""
        name = pack(number).digest
        inside = {each for each, known in self.places.items() if known.place and known.place.pack == name}
        with self.index.writing() as connection:
            dropped = drop_members(connection, name, map(content, MEMBERS[number]))
            leave_pack(connection, name)
        assert dropped == set(map(content, inside))
        self.packs.discard(number)
        for each in inside:
            del self.places[each]
            self.kept.discard(each)

    @invariant()
    def adds_up(self) -> None:
        """Loose objects not put by hand, and packs here without the frames of objects put by hand."""
        loose = sum(
            known.stored
            for number, known in self.places.items()
            if known.place is None and number not in self.kept
        )
        kept = sum(FRAME for number in self.kept if self.places[number].place is not None)
        packs = sum(pack(number).stored for number in self.packs)
        assert self.index.evictable() == loose + packs - kept

    @invariant()
    def is_where_it_should_be(self) -> None:
        """Every object is known where the model has it."""
        found = {info.digest: info.kept for info in self.index.objects()}
        assert found == {content(number): number in self.kept for number in self.places}
        for number, known in self.places.items():
            assert self.index.known(content(number)) == known
            assert known.place is None or isinstance(known.place, Place)

    def teardown(self) -> None:
        """Remove the index."""
        self.index.close()
        shutil.rmtree(self.folder)


TestTotals = Totals.TestCase
TestTotals.settings = settings(max_examples=25, stateful_step_count=20, deadline=None)
