"""Repacks and evictions that end at any write, and processes killed at any moment: the store stays whole."""

from __future__ import annotations

import random
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from casstore.catalog.database import Database
from casstore.digest import Key, digest_of
from casstore.repo.repository import Repository
from tests.crash.aftermath import die
from tests.crash.forks import Forks, Job, content_of, put_number
from tests.crash.test_each_write import completes, until_it_completes
from tests.doubles import Crash, CrashingBackend
from tests.stores import answer, answers, fill, key, noise, use_backend

BY_HAND = b"put by hand"
COUNT = 12


def check_whole(
    root: Path, expected: dict[Key, bytes], *, all_of_it: bool = True, deleted: dict[Key, bytes] | None = None
) -> None:
    """Check that a store verifies in a copy, answers rightly, and does so with another index too.

    Args:
        root: The store.
        expected: The right answers.
        all_of_it: Whether each must be there.
        deleted: Answers that were deleted, which a new index finds again where their pack is still there.
    """
    right = expected | (deleted or {})
    copy = Path(shutil.copytree(root, root.with_name("copy"), dirs_exist_ok=True))
    with Repository.open(copy) as store:
        assert store.verify().failures == ()
        assert store.get(digest_of(BY_HAND)) == BY_HAND
        _compare(store, expected, right, all_of_it=all_of_it)
        store.rebuild()
        assert store.get(digest_of(BY_HAND)) == BY_HAND
        _compare(store, expected, right, all_of_it=all_of_it)
        assert {info.digest for info in store.objects() if info.kept} == {digest_of(BY_HAND)}
    shutil.rmtree(copy)
    with Repository.open(root) as store:
        _compare(store, expected, right, all_of_it=all_of_it)
        assert store.get(digest_of(BY_HAND)) == BY_HAND


def _compare(
    store: Repository, expected: dict[Key, bytes], right: dict[Key, bytes], *, all_of_it: bool
) -> None:
    found = {each: content for each, content in answers(store).items() if content is not None}
    if all_of_it:
        assert found.items() >= expected.items()
    assert found.items() <= right.items()


def prepared(root: Path) -> tuple[Repository, dict[Key, bytes]]:
    """Return a store with two packs, objects with files of their own, and one put by hand in a pack."""
    store = Repository.open(root)
    store.put(BY_HAND)
    for begin in (0, COUNT):
        fill(store, range(begin, begin + COUNT))
        store.repack()
    fill(store, range(2 * COUNT, 3 * COUNT))
    store.flush()
    return store, {key(number): answer(number) for number in range(3 * COUNT)}


def test_repack_dies_at_a_write(tmp_path: Path) -> None:
    """Each object is in its old file or in the new pack, and a rerun completes it."""

    def attempt(after: int, folder: Path) -> bool:
        store, expected = prepared(folder / "store")
        for number in range(COUNT):  # a pack all of whose objects are elsewhere, and one that is half dead
            store.delete(digest_of(answer(number)), force=True)
        deleted = {key(number): expected.pop(key(number)) for number in range(COUNT)}
        use_backend(store, CrashingBackend(store.local.backend, after, torn=store.path))
        done = completes(store.repack)
        die(store)
        check_whole(store.path, expected, deleted=deleted)
        with Repository.open(store.path) as again:
            again.repack()
            assert not again.plan_repack().objects
            assert again.verify().failures == ()
            assert again.sizes().stored == _bytes(again)
        return done

    # The new pack, twelve files, the pack that was dead; of the other, with what was put by hand, a new one.
    assert until_it_completes(attempt, tmp_path) >= 1 + COUNT + 1


@pytest.mark.parametrize("moment", ["sync", "writing"])
def test_repack_dies_around_its_transactions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    """Between the new file, the index and the old files as well."""
    store, expected = prepared(tmp_path / "store")

    def crash(*_: object, **__: object) -> None:
        raise Crash

    with monkeypatch.context() as patched:
        if moment == "sync":
            patched.setattr(Database, "sync", crash)
        else:
            patched.setattr("casstore.repo.rewrite.put_pack", crash)
        assert not completes(store.repack)
    die(store)
    check_whole(store.path, expected)
    with Repository.open(store.path) as again:
        again.repack()
        assert again.verify().failures == ()
        again.repack()
        assert again.sizes().stored == _bytes(again)


def test_eviction_dies_at_a_write(tmp_path: Path) -> None:
    """What was rescued is there, what was to go is there or not, and a rerun comes under the cap."""

    def attempt(after: int, folder: Path) -> bool:
        store = Repository.open(folder / "store")
        store.put(BY_HAND)
        for begin in (0, 10):
            for number in range(begin, begin + 10):
                store.put_entry(key(number), noise(1000, number))
            store.repack()
        for number in range(20, 25):
            store.put_entry(key(number), noise(1000, number))
        store.flush()
        with store.local.index.writing() as connection:
            for number in range(25):
                row = (number % 7, bytes.fromhex(digest_of(noise(1000, number))))
                connection.execute("UPDATE objects SET used = ? WHERE digest = ?", row)
        expected = {key(number): noise(1000, number) for number in range(25)}
        store._max_size = 9000
        use_backend(store, CrashingBackend(store.local.backend, after, torn=store.path))
        done = completes(store.evict)
        die(store)
        check_whole(store.path, expected, all_of_it=False)
        with Repository.open(store.path, max_size=9000) as again:
            again.verify()
            again.local.index._uses.clear()
            again.local.index._recent.clear()
            again.evict()
            assert again.local.index.evictable() <= 9000
            assert again.verify().failures == ()
            assert None not in answers(again).values()
        return done

    assert until_it_completes(attempt, tmp_path) >= 4


def _bytes(store: Repository) -> int:
    folders = (store.path / "objects", store.path / "packs")
    return sum(path.stat().st_size for folder in folders for path in folder.rglob("*.zst"))


@pytest.mark.parametrize("operation", ["repack", "evict"])
def test_killed_care_leaves_a_whole_store(forks: Forks, tmp_path: Path, operation: str) -> None:
    """SIGKILL at a few seeded moments of a repack and of an eviction from packs."""
    _kill_often(forks, tmp_path, operation, 6)


@pytest.mark.soak
@pytest.mark.parametrize("operation", ["repack", "evict"])
def test_often_killed_care_leaves_a_whole_store(forks: Forks, tmp_path: Path, operation: str) -> None:
    """Many moments."""
    _kill_often(forks, tmp_path, operation, 60)


def _kill_often(forks: Forks, folder: Path, operation: str, kills: int) -> None:
    moments = random.Random(operation)
    expected = {key(number): content_of(number) for number in range(60)}
    original = folder / "original"
    _fill(original, packed=operation == "evict")
    seconds = forks.run(Job(operation, str(_copy(original, folder / "first")))).seconds
    for number in range(kills):
        root = _copy(original, folder / f"store-{number}")
        job = Job(operation, str(root))
        forks.run(replace(job, kill_after=moments.uniform(0, seconds)))
        check_whole(root, expected, all_of_it=operation == "repack")
        forks.run(job)
        check_whole(root, expected, all_of_it=operation == "repack")


def _fill(root: Path, *, packed: bool) -> None:
    with Repository.open(root) as store:
        store.put(BY_HAND)
        for number in range(60):
            put_number(store, number)
            if packed and number % 20 == 19:
                store.repack()


def _copy(original: Path, target: Path) -> Path:
    return Path(shutil.copytree(original, target))
