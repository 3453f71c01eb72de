"""Two and three stores with one remote: whatever is done in whatever order, all agree in the end.

The oracle is a set of claims for each store, and one for the remote; what a store should have is their merge.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from casstore.backends.open import open_backend
from casstore.catalog.merge import merge, rank
from casstore.catalog.records import Claim, Entry
from casstore.digest import Digest, Key, digest_of
from casstore.errors import NotFoundError
from casstore.repo.repository import Repository
from casstore.store.marker import ensure_marker
from tests.stores import answer, key

STORES = st.integers(0, 2)
KEYS = st.integers(0, 3).map(key)
CONTENTS = st.integers(0, 4)
ANSWERS = {digest_of(answer(number)): answer(number) for number in range(5)}


class Team(RuleBasedStateMachine):
    """Stores of a team, the remote they share, and what each should know."""

    count = 3

    @initialize()
    def begin(self) -> None:
        """Open new stores."""
        self.folder = Path(tempfile.mkdtemp(prefix="team-"))
        self.url = (self.folder / "remote").as_uri()
        ensure_marker(open_backend(self.url))  # else nobody could pull before the first push
        self.stores = [self._open(number) for number in range(self.count)]
        self.known: list[list[Claim]] = [[] for _ in self.stores]
        self.remote: list[Claim] = []
        self.kept: set[Digest] = set()
        self.sure = [True] * self.count

    def _open(self, number: int) -> Repository:
        return Repository.open(self.folder / str(number))

    def _note(self, number: int, name: Key) -> None:
        found = self.stores[number].local.index.find(name)
        assert found is not None
        self.known[number].append(found.claim)

    @rule(number=STORES, name=KEYS, content=CONTENTS, replace=st.booleans())
    def put(self, number: int, name: Key, content: int, *, replace: bool) -> None:
        """Answer a key, for the first time or anew."""
        number %= self.count
        self.stores[number].put_entry(name, answer(content), replace=replace)
        self._note(number, name)

    @rule(number=STORES, content=CONTENTS)
    def keep(self, number: int, content: int) -> None:
        """Put an object by hand."""
        self.kept.add(self.stores[number % self.count].put(answer(content)))

    @rule(number=STORES, name=KEYS)
    def forget(self, number: int, name: Key) -> None:
        """End an entry, if there is one."""
        number %= self.count
        stands = merge(self.known[number]).get(name)
        try:
            self.stores[number].forget(name)
        except NotFoundError:
            assert not isinstance(stands, Entry)
        else:
            assert isinstance(stands, Entry)
            self._note(number, name)

    @rule(number=STORES)
    def push(self, number: int) -> None:
        """Push: the remote has what the store has, and the store what the remote had."""
        number %= self.count
        plan = self.stores[number].status(self.url).push
        report = self.stores[number].push(self.url)
        assert report.failures == ()
        assert report.left == plan.left
        assert (report.objects, report.requests) == (len(plan.objects), plan.requests)
        assert report.bytes == pytest.approx(plan.bytes, rel=0.1, abs=150)  # how packs compress is estimated
        self.known[number] += self.remote
        if not report.left:
            self.remote = list(self.known[number])
        else:  # an entry whose object is nowhere is not pushed
            assert not self.sure[number]
            self.remote += self._pushed(number)
        self.sure[number] = True

    def _pushed(self, number: int) -> list[Claim]:
        """Return the claims that a push could send: those whose object was to be had."""
        with self.stores[number].local.index.reading() as connection:
            rows = connection.execute("SELECT object FROM remote_objects").fetchall()
        there = {row[0].hex() for row in rows}
        stands = merge(self.known[number]).values()
        return [claim for claim in stands if not isinstance(claim, Entry) or claim.object in there]

    @rule(number=STORES, manifest_only=st.booleans())
    def pull(self, number: int, *, manifest_only: bool) -> None:
        """Pull: the store has what the remote has."""
        number %= self.count
        assert self.stores[number].pull(self.url, manifest_only=manifest_only).failures == ()
        self.known[number] += self.remote
        self.sure[number] = True

    @rule(number=STORES)
    def evict(self, number: int) -> None:
        """Remove what the remote is known to hold, as an eviction may."""
        store = self.stores[number % self.count]
        for candidate in list(store.local.index.eviction_order()):
            if candidate.held:
                store.delete(candidate.digest)

    @rule(number=STORES)
    def repack(self, number: int) -> None:
        """Pack what has a file of its own, and merge packs."""
        assert self.stores[number % self.count].repack().failures == ()

    @rule(number=STORES, close=st.booleans())
    def lose_index(self, number: int, *, close: bool) -> None:
        """Lose the index, after closing the store in order or not."""
        number %= self.count
        if close:
            self.stores[number].close()
        (self.folder / str(number) / "index.sqlite").unlink()
        self.stores[number].close()
        self.stores[number] = self._open(number)
        self.sure[number] = False  # what the remote holds is known again with the next sync

    @precondition(lambda self: hasattr(self, "stores"))
    @invariant()
    def each_has_what_it_knows(self) -> None:
        """The entries of each store are the merge of the claims it knows."""
        for store, known in zip(self.stores, self.known, strict=True):
            expected = {name: claim for name, claim in merge(known).items() if isinstance(claim, Entry)}
            assert {entry.key: rank(entry) for entry in store.entries()} == {
                name: rank(claim) for name, claim in expected.items()
            }

    @rule(number=STORES, name=KEYS)
    def read(self, number: int, name: Key) -> None:
        """Read an entry: the right content, wherever it is; not found only where it is not, or not known."""
        number %= self.count
        stands = merge(self.known[number]).get(name)
        try:
            entry, content = self.stores[number].read_entry(name)
        except NotFoundError:
            assert not isinstance(stands, Entry) or not self.sure[number]
        else:
            assert isinstance(stands, Entry)
            assert rank(entry) == rank(stands)
            assert content == ANSWERS[entry.object]

    def teardown(self) -> None:
        """Let everybody push and pull: all have the same, and what was put by hand is everywhere."""
        if not hasattr(self, "stores"):
            return
        for _ in range(2):
            for store in self.stores:
                store.push(self.url)
        entries = [list(store.entries()) for store in self.stores]
        for store in self.stores:
            assert store.pull(self.url).failures == ()
            if entries[0]:
                assert store.pull(self.url).requests == {"LIST": 1}
        entries = [list(store.entries()) for store in self.stores]
        assert all(each == entries[0] for each in entries)
        for store in self.stores:
            for entry in entries[0]:
                assert store.read_entry(entry.key)[1] == ANSWERS[entry.object]
            assert {digest for digest in self.kept if store.get(digest) == ANSWERS[digest]} == self.kept
            assert store.verify().failures == ()
            store.close()
        shutil.rmtree(self.folder)


class Pair(Team):
    """Two stores."""

    count = 2


def test_two_stores_converge() -> None:
    """Two stores with one remote agree with the oracle at every step, and with each other in the end."""
    run_state_machine_as_test(Pair, settings=settings(max_examples=15, stateful_step_count=25, deadline=None))


def test_three_stores_converge() -> None:
    """So do three."""
    run_state_machine_as_test(Team, settings=settings(max_examples=20, stateful_step_count=30, deadline=None))
