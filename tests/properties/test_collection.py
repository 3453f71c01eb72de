"""Merging and collection: whatever a team does in whatever order, no entry is lost, and all agree in the end.

Small limits let a few entries take every path: packs are full soon, segments are folded and not folded. Time
passes only when it is told to. Pushes die, and collections too. The oracle is the set of claims that each
store and the remote should know.
"""

from __future__ import annotations

import shutil
import tempfile
from contextlib import ExitStack
from pathlib import Path
from unittest import mock

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test

from casstore.backends.base import Backend
from casstore.backends.local import LocalBackend
from casstore.catalog.holding import is_held
from casstore.catalog.merge import merge as merged
from casstore.catalog.records import Claim, Entry
from casstore.digest import Digest, Key, digest_of
from casstore.errors import NotFoundError
from casstore.repo import manifest, merge, plan_gc, plan_merge
from casstore.repo.repository import Repository
from casstore.store.marker import ensure_marker
from tests.clock import running_clock
from tests.doubles import Crash, CrashingBackend
from tests.stores import answer, key
from tests.tracked import pending

STORES = st.integers(0, 2)
KEYS = st.integers(0, 5).map(key)
CONTENTS = st.integers(0, 7)
ANSWERS = {digest_of(answer(number)): answer(number) for number in range(8)}


class Team(RuleBasedStateMachine):
    """Stores of a team, the remote they share, and what each should know."""

    @initialize()
    def begin(self) -> None:
        """Open new stores, under limits that a few entries reach."""
        self.folder = Path(tempfile.mkdtemp(prefix="team-"))
        self.remote = self.folder / "remote"
        ensure_marker(LocalBackend(self.remote))  # else nobody could pull before the first push
        self.stack = ExitStack()
        self.clock = self.stack.enter_context(running_clock())
        for module, name, value in (
            (merge, "FOLDED_MAX", 2500),
            (plan_merge, "SMALL_PACK", 700),
            (plan_gc, "SMALL_PACK", 900),
            (manifest, "WHOLE", 900),
            (manifest, "HEAD_READ", 700),
        ):
            self.stack.enter_context(mock.patch.object(module, name, value))
        self.stores = [Repository.open(self.folder / str(number)) for number in range(3)]
        self.known: list[list[Claim]] = [[] for _ in self.stores]
        self.pushed: list[Claim] = []
        self.kept: set[Digest] = set()

    def _note(self, number: int, name: Key) -> None:
        found = self.stores[number].local.index.find(name)
        assert found is not None
        self.known[number].append(found.claim)

    @rule(number=STORES, name=KEYS, content=CONTENTS, replace=st.booleans())
    def put(self, number: int, name: Key, content: int, *, replace: bool) -> None:
        """Answer a key, for the first time or anew."""
        self.stores[number].put_entry(name, answer(content), refs=[answer(7 - content)], replace=replace)
        self._note(number, name)

    @rule(number=STORES, content=CONTENTS)
    def keep(self, number: int, content: int) -> None:
        """Put an object by hand."""
        self.kept.add(self.stores[number].put(answer(content)))

    @rule(number=STORES, name=KEYS)
    def forget(self, number: int, name: Key) -> None:
        """End an entry, if there is one."""
        try:
            self.stores[number].forget(name)
        except NotFoundError:
            return
        self._note(number, name)

    @rule(number=STORES)
    def push(self, number: int) -> None:
        """Push: the remote has what the store has, and the store what the remote had."""
        report = self.stores[number].push(self.remote.as_uri())
        assert (report.failures, report.left) == ((), 0)
        self.known[number] += self.pushed
        self.pushed = list(self.known[number])

    @rule(number=STORES, after=st.integers(0, 4), collecting=st.booleans())
    def die(self, number: int, after: int, *, collecting: bool) -> None:
        """Push or collect, and end after some writes."""
        remote = self.stores[number].remote(self.remote.as_uri())
        inner: Backend = remote.backend
        remote.backend = CrashingBackend(inner, after)
        try:
            if collecting:
                self.stores[number].gc(self.remote.as_uri())
            else:
                self.stores[number].push(self.remote.as_uri())
        except Crash:
            pass
        else:
            if not collecting:
                self.pushed = [*self.known[number], *self.pushed]
        remote.backend = inner
        self.known[number] += self.pushed

    @rule(number=STORES, manifest_only=st.booleans())
    def pull(self, number: int, *, manifest_only: bool) -> None:
        """Pull: the store has what the remote has."""
        assert self.stores[number].pull(self.remote.as_uri(), manifest_only=manifest_only).failures == ()
        self.known[number] += self.pushed

    @rule(number=STORES)
    def collect(self, number: int) -> None:
        """Collect garbage, of which nothing is missed."""
        report = self.stores[number].gc(self.remote.as_uri())
        assert (report.failures, report.missing) == ((), 0)
        self.known[number] += self.pushed

    @rule(hours=st.sampled_from([1, 13, 25]))
    def wait(self, hours: float) -> None:
        """Let time pass."""
        self.clock.forward(hours, self.remote)

    @rule(number=STORES)
    def evict(self, number: int) -> None:
        """Remove what the remote is known to hold, as an eviction may."""
        store = self.stores[number]
        lacked = pending(store.remote(self.remote.as_uri()).tracking)
        needed = {digest for claim in lacked for digest in claim.objects}
        for info in list(store.objects()):
            spared = info.kept or info.digest in needed or info.digest not in ANSWERS
            if not spared and is_held(store.local.index, info.digest):
                store.delete(info.digest)

    @rule(number=STORES)
    def repack(self, number: int) -> None:
        """Turn what has files of its own into packs, and small packs into one."""
        assert self.stores[number].repack().failures == ()

    @rule(number=STORES, name=KEYS)
    def read(self, number: int, name: Key) -> None:
        """Read an entry: the right content, wherever it is."""
        try:
            entry, content = self.stores[number].read_entry(name)
        except NotFoundError:
            return
        assert content == ANSWERS[entry.object]

    def teardown(self) -> None:
        """Let everybody push and pull, collect, wait and collect: all have the same, a newcomer too."""
        if not hasattr(self, "stores"):
            return
        url = self.remote.as_uri()
        for _ in range(2):
            for store in self.stores:
                report = store.push(url)
                assert (report.failures, report.left) == ((), 0)
        expected = {
            name: claim.object
            for name, claim in merged([claim for known in self.known for claim in known]).items()
            if isinstance(claim, Entry)
        }
        for hours in (25, 25, 25):
            self.stores[0].gc(url)
            self.clock.forward(hours, self.remote)
        if expected:
            assert self.stores[0].gc(url).missing == 0
        newcomer = Repository.open(self.folder / "newcomer")
        for store in (newcomer, *self.stores):
            assert store.pull(url).failures == ()
            assert {entry.key: entry.object for entry in store.entries()} == expected
            for name, content in expected.items():
                assert store.read_entry(name)[1] == ANSWERS[content]
            assert all(store.get(digest) == ANSWERS[digest] for digest in self.kept)
            assert store.push(url).entries == 0
            assert store.verify().failures == ()
            store.close()
        self.stack.close()
        shutil.rmtree(self.folder)


def test_nothing_that_was_pushed_is_lost() -> None:
    """Three stores that push, die, pull, evict, repack, wait and collect lose nothing and agree."""
    run_state_machine_as_test(Team, settings=settings(max_examples=25, stateful_step_count=30, deadline=None))


@pytest.mark.soak
def test_nothing_that_was_pushed_is_lost_in_many_stories() -> None:
    """The same, long enough for rare orders of events."""
    run_state_machine_as_test(
        Team, settings=settings(max_examples=300, stateful_step_count=50, deadline=None)
    )
