"""The process ends before its first write, its second, its third, and so on until it gets through.

After each end: the store opens again without a manual step, nothing in it or in the remote is torn or leads
to nothing, and a rerun completes what was begun.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar

import pytest

from casstore.backends import open_backend
from casstore.backends.base import Backend
from casstore.catalog.journal import Journal
from casstore.catalog.records import Record, encode_record
from casstore.digest import Key, digest_of
from casstore.repo import plan_merge
from casstore.repo import remote as remotes
from casstore.repo.repository import Repository
from tests.crash.aftermath import check_local, check_remote, die
from tests.doubles import Crash, CrashingBackend, WrappedBackend
from tests.stores import answer, answers, fill, key, use_backend

T = TypeVar("T")

LARGE = b"a line of an object in two frames\n" * 124_000
BY_HAND = b"put by hand"
THEIRS = {key(number): answer(number) for number in range(100, 103)}
OURS = {
    key(0): answer(0),
    key(1): answer(1, 1),
    key(3): answer(3),
    key(4): b"",
}


class DyingBackend(WrappedBackend):
    """Answers some requests of any kind, and then the process is dead."""

    def __init__(self, inner: Backend, after: int) -> None:
        super().__init__(inner)
        self._lock = threading.Lock()
        self._left = after

    def around(self, operation: str, name: str, run: Callable[[], T]) -> T:
        """Answer, or end."""
        with self._lock:
            if not self._left:
                raise Crash(f"{operation} {name}")
            self._left -= 1
        return run()


def prepared(root: Path, by_hand: bytes = BY_HAND) -> Repository:
    """Return a store with answers, a refresh, a tombstone, refs, and an object put by hand."""
    store = Repository.open(root)
    fill(store, range(3))
    store.put_entry(key(1), answer(1, 1), replace=True)
    store.forget(key(2))
    store.put_entry(key(3), answer(3), refs=[b"a request", b"an image"])
    store.put_entry(key(4), b"")
    store.put(by_hand)
    return store


def until_it_completes(attempt: Callable[[int, Path], bool], folder: Path) -> int:
    """Let `attempt` die after 0, 1, 2 ... steps, each in a folder of its own; return how often it died."""
    for after in itertools.count():
        here = folder / f"after-{after}"
        here.mkdir()
        if attempt(after, here):
            return after
    raise AssertionError


def completes(operation: Callable[[], object]) -> bool:
    """Do `operation` and return whether it came to its end."""
    try:
        operation()
    except Crash:
        return False
    return True


def open_through(monkeypatch: pytest.MonkeyPatch, wrap: Callable[[Backend], Backend]) -> None:
    """Let remotes be opened through a wrapper."""

    def opened(url: str, **options: Any) -> Backend:
        return wrap(open_backend(url, **options))

    monkeypatch.setattr(remotes, "open_backend", opened)


def check_rerun_of_push(
    root: Path, remote: Path, expected: dict[Key, bytes], by_hand: bytes = BY_HAND
) -> None:
    """Push again: it completes, there is nothing left to do, and another store gets everything."""
    with Repository.open(root) as store:
        report = store.push(remote.as_uri())
        assert (report.failures, report.left) == ((), 0)
        assert store.push(remote.as_uri()).requests == {"LIST": 1}
        assert not store.verify().failures
    with Repository.open(root.parent / "fresh") as other:
        assert not other.pull(remote.as_uri()).failures
        assert answers(other) == expected
        assert other.get(digest_of(by_hand)) == by_hand
    check_remote(remote, expected)


@pytest.mark.parametrize("size", [30, 6_000_000])
def test_put_by_hand(tmp_path: Path, size: int) -> None:
    """An object put by hand is there whole, or not at all; put again, it is there."""
    content = (b"%d " % size) * (size // 3)

    def attempt(after: int, folder: Path) -> bool:
        store = Repository.open(folder / "store")
        backend = CrashingBackend(store.local.backend, after, torn=store.path)
        use_backend(store, backend)
        done = completes(lambda: store.put(content))
        die(store)
        check_local(store.path, {})
        with Repository.open(store.path) as again:
            assert again.has(digest_of(content)) is done
            assert again.get(again.put(content)) == content
            (found,) = again.objects()
            assert found.kept
        return done

    assert until_it_completes(attempt, tmp_path) == 1


def test_put_entry(tmp_path: Path) -> None:
    """An entry is there with its objects, or it is a miss; asked again, it is there."""

    def attempt(after: int, folder: Path) -> bool:
        store = Repository.open(folder / "store")
        fill(store, [1])
        use_backend(store, CrashingBackend(store.local.backend, after, torn=store.path))
        done = completes(lambda: store.put_entry(key(0), answer(0), refs=[b"a request", b"an image"]))
        die(store)
        before = {key(1): answer(1)}
        after_it = before | {key(0): answer(0)}
        check_local(store.path, after_it if done else before)
        with Repository.open(store.path) as again:
            again.put_entry(key(0), answer(0), refs=[b"a request", b"an image"])
        check_local(store.path, after_it)
        return done

    assert until_it_completes(attempt, tmp_path) == 3


@pytest.mark.parametrize("moment", ["before", "within", "behind"])
@pytest.mark.parametrize("replace", [False, True])
def test_put_entry_around_its_journal_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str, *, replace: bool
) -> None:
    """Without a whole line in the journal the entry never was; with one, the next push brings it to all."""
    store = Repository.open(tmp_path / "store")
    fill(store, [0, 1] if replace else [1])
    append = Journal.append

    def crash(journal: Journal, records: Iterable[Record]) -> None:
        line = b"".join(encode_record(record) for record in records)
        if moment == "within":
            journal._write(line[: len(line) // 2])
        elif moment == "behind":
            append(journal, records)
        raise Crash

    with monkeypatch.context() as patched:
        patched.setattr(Journal, "append", crash)
        with pytest.raises(Crash):
            store.put_entry(key(0), answer(0, 1), replace=replace)
    die(store)
    before = {key(0): answer(0), key(1): answer(1)} if replace else {key(1): answer(1)}
    expected = before | ({key(0): answer(0, 1)} if moment == "behind" else {})
    with Repository.open(store.path) as again:
        report = again.push((tmp_path / "remote").as_uri())
        assert (report.left, report.entries) == (0, len(expected))
        assert answers(again) == expected
        assert not again.verify().failures
    with Repository.open(tmp_path / "other") as other:
        other.pull((tmp_path / "remote").as_uri())
        assert answers(other) == expected
    check_local(store.path, expected)


@pytest.mark.parametrize("first", [True, False], ids=["first", "later"])
def test_push_dies_at_a_write_to_the_remote(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, first: bool
) -> None:
    """The remote never names what it does not hold, and a rerun sends the rest."""
    by_hand = LARGE if first else BY_HAND

    def attempt(after: int, folder: Path) -> bool:
        remote = folder / "remote"
        expected = _others_pushed(remote) if not first else {}
        store = prepared(folder / "store", by_hand)
        with monkeypatch.context() as patched:
            open_through(patched, lambda inner: CrashingBackend(inner, after, torn=remote))
            done = completes(lambda: store.push(remote.as_uri(), workers=2))
        die(store)
        reading = check_remote(remote, OURS | expected)
        assert (reading is not None and len(reading.entries) == len(OURS | expected)) is done
        check_local(store.path, OURS | expected, all_of_it=first)
        check_rerun_of_push(store.path, remote, OURS | expected, by_hand)
        return done

    # A pack and a segment; for the first one the marker, and a large object.
    assert until_it_completes(attempt, tmp_path) == (4 if first else 2)


def test_push_dies_at_a_write_to_its_own_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The segment is written here before it is sent; without it nothing is published."""
    monkeypatch.setattr(plan_merge, "MANY", 1)  # the pack of the others is folded, too

    def attempt(after: int, folder: Path) -> bool:
        remote = folder / "remote"
        expected = OURS | _others_pushed(remote)
        store = prepared(folder / "store")
        use_backend(store, CrashingBackend(store.local.backend, after, torn=store.path))
        done = completes(lambda: store.push(remote.as_uri(), workers=2))
        die(store)
        check_remote(remote, expected)
        check_local(store.path, expected, all_of_it=False)
        check_rerun_of_push(store.path, remote, expected)
        return done

    # The segment and the pack of the others, its own segment for both, and the others' goes.
    assert until_it_completes(attempt, tmp_path) == 4


def test_push_dies_at_any_request(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also between two writes, while it lists and reads, an end does no harm."""
    monkeypatch.setattr(plan_merge, "MANY", 1)  # the pack of the others is folded, too

    def attempt(after: int, folder: Path) -> bool:
        remote = folder / "remote"
        expected = OURS | _others_pushed(remote)
        store = prepared(folder / "store")
        with monkeypatch.context() as patched:
            open_through(patched, lambda inner: DyingBackend(inner, after))
            done = completes(lambda: store.push(remote.as_uri(), workers=2))
        die(store)
        check_remote(remote, expected)
        check_local(store.path, expected, all_of_it=False)
        check_rerun_of_push(store.path, remote, expected)
        return done

    # LIST, marker, the segment of the others and their pack, a pack and a segment for both.
    assert until_it_completes(attempt, tmp_path) == 6


def test_pull_dies_at_a_write_to_its_own_store(tmp_path: Path) -> None:
    """What was pulled is whole, and a rerun brings the rest."""
    remote = tmp_path / "remote"
    expected = _both_pushed(remote, LARGE)

    def attempt(after: int, folder: Path) -> bool:
        store = Repository.open(folder / "store")
        use_backend(store, CrashingBackend(store.local.backend, after, torn=store.path))
        done = completes(lambda: store.pull(remote.as_uri(), workers=2))
        die(store)
        check_local(store.path, expected, all_of_it=done)
        _check_rerun_of_pull(store.path, remote, expected, LARGE)
        return done

    # A segment, two packs, and a large object.
    assert until_it_completes(attempt, tmp_path / "rounds") == 4


def test_pull_dies_at_any_request(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Wherever the reading of the remote ends, nothing half-read is believed."""
    remote = tmp_path / "remote"
    expected = _both_pushed(remote)

    def attempt(after: int, folder: Path) -> bool:
        store = Repository.open(folder / "store")
        with monkeypatch.context() as patched:
            open_through(patched, lambda inner: DyingBackend(inner, after))
            done = completes(lambda: store.pull(remote.as_uri(), workers=2))
        die(store)
        check_local(store.path, expected, all_of_it=done)
        _check_rerun_of_pull(store.path, remote, expected)
        return done

    # LIST, marker, a segment and two packs.
    assert until_it_completes(attempt, tmp_path / "rounds") == 5


def _others_pushed(remote: Path) -> dict[Key, bytes]:
    with Repository.open(remote.with_name("others")) as others:
        fill(others, range(100, 103))
        others.push(remote.as_uri())
    return THEIRS


def _both_pushed(remote: Path, by_hand: bytes = BY_HAND) -> dict[Key, bytes]:
    (remote.parent / "rounds").mkdir()
    expected = OURS | _others_pushed(remote)
    with prepared(remote.with_name("ours"), by_hand) as ours:
        ours.push(remote.as_uri())
    return expected


def _check_rerun_of_pull(
    root: Path, remote: Path, expected: dict[Key, bytes], by_hand: bytes = BY_HAND
) -> None:
    with Repository.open(root) as store:
        report = store.pull(remote.as_uri())
        assert (report.failures, report.left) == ((), 0)
        assert store.pull(remote.as_uri()).requests == {"LIST": 1}
        assert answers(store) == expected
        assert store.get(digest_of(by_hand)) == by_hand
        assert store.push(remote.as_uri()).requests == {"LIST": 1}
        assert not store.verify().failures
