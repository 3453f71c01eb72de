"""SIGKILL at random moments of put, push, pull and collection, in real processes; the moments are seeded.

Nothing torn becomes visible, no wrong byte is returned, what a put said it stored is there, and running the
same again completes it.
"""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from casstore.digest import Key
from casstore.repo.repository import Repository
from tests.conftest import Bucket
from tests.crash.aftermath import check_local, check_remote, mirror
from tests.crash.forks import NO_GRACE, Forks, Job, content_of, put_number
from tests.stores import answers, key

ENTRIES = 24
SUITE_KILLS = 3
SOAK_KILLS = 50
"""For each of the seven cases: 350 in all."""

CASES = ["put", "push-file", "push-s3", "pull-file", "pull-s3", "gc-file", "gc-s3"]


class World:
    """A store, and where it is about a remote, that remote and another store that uses it.

    Args:
        folder: Where all of it is.
        operation: What is to be killed in it.
        url: The remote.
    """

    def __init__(self, folder: Path, operation: str, url: str) -> None:
        self._folder = folder
        self._root = folder / "store"
        self._remote = folder / "remote" if url.startswith("file:") else None
        self._said = folder / "said"
        self._expected = expected(ENTRIES)
        self._url = url
        self._looks = 0
        self.job = Job(operation, str(self._root), url, (0, ENTRIES), str(self._said))
        if operation == "push":
            _put_all(self._root)
        elif operation == "pull":
            _put_all(folder / "other", push_to=url)
        elif operation == "gc":
            _put_garbage(folder, self._root, url)

    def check(self) -> None:
        """Look at what a killed process left."""
        if self._root.joinpath("casstore.json").exists():
            check_local(self._root, self._expected, all_of_it=self.job.operation == "push")
        if self._said.exists():
            with Repository.open(self._root) as store:
                for number in map(int, self._said.read_text().split()):
                    assert store.read_entry(key(number))[1] == content_of(number)
        if self.job.operation in ("push", "gc"):
            self._check_remote()

    def complete(self) -> None:
        """Run the same again, here, and see that all of it is done."""
        with Repository.open(self._root) as store:
            if self.job.operation == "put":
                for number in range(ENTRIES):
                    put_number(store, number)
            elif self.job.operation == "gc":
                self._collect(store)
            else:
                operation = store.push if self.job.operation == "push" else store.pull
                report = operation(self._url)
                assert (report.failures, report.left) == ((), 0)
                assert operation(self._url).requests == {"LIST": 1}
            assert answers(store) == self._expected
        check_local(self._root, self._expected)
        if self.job.operation in ("push", "gc"):
            assert self._check_remote() == len(self._expected)

    def _collect(self, store: Repository) -> None:
        for _ in range(3):  # what is moved, what is doomed then, and what that was told by
            report = store.gc(self._url, grace=NO_GRACE)
            assert (report.failures, report.missing) == ((), 0)
        assert (report.doomed, report.deleted) == (0, 0)
        with Repository.open(self._root.with_name("newcomer")) as newcomer:
            newcomer.pull(self._url)
            assert answers(newcomer) == self._expected
        shutil.rmtree(newcomer.path)

    def _check_remote(self) -> int:
        self._looks += 1
        root = self._remote or mirror(self._url, self._folder / f"mirror-{self._looks}")
        reading = check_remote(root, self._expected)
        return len(reading.entries) if reading else 0


def expected(entries: int) -> dict[Key, bytes]:
    """Return the answers to the first numbers."""
    return {key(number): content_of(number) for number in range(entries)}


def _put_all(root: Path, *, push_to: str | None = None) -> None:
    with Repository.open(root) as store:
        for number in range(ENTRIES):
            put_number(store, number)
        if push_to is not None:
            store.push(push_to)


def _put_garbage(folder: Path, collector: Path, url: str) -> None:
    """Let stores push little by little, with answers that are replaced later, and the collector pull."""
    for number in range(3):
        with Repository.open(folder / f"other-{number}") as store:
            for each in range(ENTRIES):
                store.put_entry(key(each), b"out of date", replace=True)
            store.push(url)
    with Repository.open(collector) as store:
        store.pull(url)
        for number in range(ENTRIES):
            question = [b"question %d" % number]
            store.put_entry(key(number), content_of(number), refs=question, replace=True)
        store.push(url)


def kill_often(forks: Forks, new_world: Callable[[], World], kills: int, seed: str) -> None:
    """Kill a process in one world after another, up to three times in each, until it happened `kills` times.

    The first one is left alone, to learn how long it takes.
    """
    moments = random.Random(seed)
    world = new_world()
    seconds = forks.run(world.job).seconds
    world.check()
    world.complete()
    killed = 0
    for _ in range(10 * kills):
        world = new_world()
        for _ in range(3):
            moment = moments.triangular(0, seconds, 0.7 * seconds)  # more often when it is writing
            outcome = forks.run(replace(world.job, kill_after=moment))
            killed += outcome.killed
            world.check()
            if not outcome.killed or killed == kills:
                break
        world.complete()
        if killed == kills:
            return
    pytest.fail(f"only {killed} of {kills} processes were still at work when they were to be killed")


@pytest.fixture
def new_world(case: str, tmp_path: Path, bucket: Bucket) -> Callable[[], World]:
    """Return what makes a new world of a case: a store of its own, and a remote of its own."""
    operation, _, kind = case.partition("-")
    count = iter(range(100_000))

    def make() -> World:
        name = f"world-{next(count)}"
        folder = tmp_path / name
        folder.mkdir()
        url = f"{bucket.url}/{name}" if kind == "s3" else (folder / "remote").as_uri()
        return World(folder, operation, url)

    return make


@pytest.mark.parametrize("case", CASES)
def test_a_killed_process_leaves_nothing_that_a_rerun_does_not_complete(
    forks: Forks, new_world: Callable[[], World], case: str
) -> None:
    """A few moments of each operation."""
    kill_often(forks, new_world, SUITE_KILLS, case)


@pytest.mark.soak
@pytest.mark.parametrize("case", CASES)
def test_many_killed_processes_leave_nothing_that_a_rerun_does_not_complete(
    forks: Forks, new_world: Callable[[], World], case: str
) -> None:
    """Many moments of each operation."""
    kill_often(forks, new_world, SOAK_KILLS, f"soak {case}")
