"""A push that folds, and a collection, end before their first write, their second, and so on.

After each end the remote names nothing that it does not hold, all stores have what was pushed, and a rerun
completes what was begun.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from casstore.digest import Key
from casstore.errors import BackendError
from casstore.repo.repository import Repository
from tests.clock import Clock, running_clock
from tests.crash.aftermath import die
from tests.crash.test_each_write import DyingBackend, completes, open_through, until_it_completes
from tests.doubles import CrashingBackend, FaultyBackend
from tests.format.reader import check_promises
from tests.stores import answer, answers, files, fill, key, noise, use_backend

FIRST = range(30)
LATER = range(30, 40)
FORGOTTEN = range(8)


@pytest.fixture(scope="module")
def team(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a store that pushed three times, another that pulled, and their remote."""
    folder = tmp_path_factory.mktemp("team")
    with Repository.open(folder / "store") as store, Repository.open(folder / "other") as other:
        for start in FIRST[::10]:
            fill(store, range(start, start + 10))
            store.put_entry(key(1000), noise(1 << 20))
            store.push((folder / "remote").as_uri())
        other.pull((folder / "remote").as_uri())
    return folder


@pytest.fixture
def clock() -> Iterator[Clock]:
    """Yield a clock that stands unless it is set forward."""
    with running_clock() as found:
        yield found


def copied(team: Path, folder: Path) -> tuple[Repository, Path]:
    """Return the store of a copy of the team, ready for its fourth push, and its remote."""
    shutil.copytree(team, folder, dirs_exist_ok=True)
    _moved(folder / "store", team, folder)
    _moved(folder / "other", team, folder)
    store = Repository.open(folder / "store")
    fill(store, LATER)
    for number in FORGOTTEN:
        store.forget(key(number))
    return store, folder / "remote"


def _moved(root: Path, old: Path, new: Path) -> None:
    """Let a copied store know that its remote was copied too."""
    with Repository.open(root) as store, store.local.index.writing() as connection:
        urls = ((new / "remote").as_uri(), (old / "remote").as_uri())
        connection.execute("UPDATE remotes SET url = ? WHERE url = ?", urls)


def expected(*, pushed: bool = True) -> dict[Key, bytes]:
    """Return what the team has before the fourth push, and after it."""
    numbers = [*FIRST, *LATER] if pushed else FIRST
    kept = [number for number in numbers if not pushed or number not in FORGOTTEN]
    return {key(number): answer(number) for number in kept} | {key(1000): noise(1 << 20)}


def check_newcomer(remote: Path, *, pushed: bool | None = None) -> None:
    """Check that nothing leads to nothing, and that a newcomer gets all of one state, without a failure."""
    check_promises(remote)
    with Repository.open(remote.parent / "newcomer") as newcomer:
        assert newcomer.pull(remote.as_uri()).failures == ()
        found = answers(newcomer)
        states = [expected(pushed=each) for each in ((True, False) if pushed is None else (pushed,))]
        assert found in states
        assert not newcomer.verify().failures
    shutil.rmtree(remote.parent / "newcomer")


def check_rerun(root: Path, remote: Path) -> None:
    """Push again: it completes, there is nothing left to do, and everybody has everything."""
    with Repository.open(root) as store:
        report = store.push(remote.as_uri())
        assert (report.failures, report.left) == ((), 0)
        assert store.push(remote.as_uri()).requests == {"LIST": 1}
        assert store.gc(remote.as_uri()).missing == 0
        assert not store.verify().failures
        store.rebuild()
        assert answers(store) == expected()
    with Repository.open(root.with_name("other")) as other:
        assert not other.pull(remote.as_uri()).failures
        assert answers(other) == expected()
        assert other.push(remote.as_uri()).entries == 0
    check_newcomer(remote, pushed=True)


@pytest.mark.parametrize("where", ["remote", "store"])
def test_a_push_that_folds_dies_at_a_write(
    tmp_path: Path, team: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    """Until its segment is there, the old ones stand; once it is, they may go."""

    def attempt(after: int, folder: Path) -> bool:
        store, remote = copied(team, folder)
        with monkeypatch.context() as patched:
            if where == "remote":
                open_through(patched, lambda inner: CrashingBackend(inner, after, torn=remote))
            else:
                use_backend(store, CrashingBackend(store.local.backend, after, torn=store.path))
            done = completes(lambda: store.push(remote.as_uri(), workers=2))
        die(store)
        check_newcomer(remote, pushed=True if done else None)
        check_rerun(store.path, remote)
        return done

    deaths = until_it_completes(attempt, tmp_path)
    # The pack and the segment; here, the segment, and the folded ones that go.
    assert deaths == 2 if where == "remote" else deaths >= 2


def test_a_push_that_folds_dies_at_any_request(
    tmp_path: Path, team: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """LIST, pack, segment."""

    def attempt(after: int, folder: Path) -> bool:
        store, remote = copied(team, folder)
        with monkeypatch.context() as patched:
            open_through(patched, lambda inner: DyingBackend(inner, after))
            done = completes(lambda: store.push(remote.as_uri(), workers=2))
        die(store)
        check_newcomer(remote)
        check_rerun(store.path, remote)
        return done

    assert until_it_completes(attempt, tmp_path) == 3


@pytest.mark.parametrize("operation", ["write", "upload"])
@pytest.mark.parametrize("lose_answer", [False, True])
def test_a_push_that_folds_fails(
    tmp_path: Path, team: Path, monkeypatch: pytest.MonkeyPatch, operation: str, *, lose_answer: bool
) -> None:
    """A pack or a segment that was refused, or whose answer was lost, is sent again."""
    store, remote = copied(team, tmp_path / "team")
    backend = store.remote(remote.as_uri())
    faulty = FaultyBackend(backend.backend)
    backend.backend = faulty
    faulty.fail(operation, lose_answer=lose_answer)
    with pytest.raises(BackendError):
        store.push(remote.as_uri())
    store.close()
    check_newcomer(remote)
    check_rerun(store.path, remote)


def test_a_collection_dies_at_a_write(
    tmp_path: Path, team: Path, monkeypatch: pytest.MonkeyPatch, clock: Clock
) -> None:
    """Wherever it ends, nothing that is needed is gone, and another one completes it."""

    def attempt(after: int, folder: Path) -> bool:
        store, remote = copied(team, folder)
        store.push(remote.as_uri())
        clock.forward(25, remote)
        store.close()
        store = Repository.open(store.path)
        with monkeypatch.context() as patched:
            open_through(patched, lambda inner: CrashingBackend(inner, after, torn=remote))
            done = completes(lambda: store.gc(remote.as_uri()))
        die(store)
        check_newcomer(remote, pushed=True)
        with Repository.open(folder / "other") as other:
            for _ in range(3):
                assert other.gc(remote.as_uri()).missing == 0
                clock.forward(25, remote)
        assert len(files(remote, "manifest")) == 1
        check_rerun(store.path, remote)
        return done

    assert until_it_completes(attempt, tmp_path) > 3


def test_a_collection_of_what_lost_a_pack_dies_at_a_write(
    tmp_path: Path, team: Path, monkeypatch: pytest.MonkeyPatch, clock: Clock
) -> None:
    """Wherever it ends it has deleted nothing, and who has what was lost sends it again."""

    def attempt(after: int, folder: Path) -> bool:
        store, remote = copied(team, folder)
        store.push(remote.as_uri())
        store.gc(remote.as_uri())
        doomed = {record.digest for record in store.remote(remote.as_uri()).tracking.doomed()}
        clock.forward(25, remote)
        for name in files(remote, "packs"):
            if Path(name).stem not in doomed:
                (remote / name).unlink()
        before = files(remote, "packs").keys() | files(remote, "objects").keys()
        store.close()
        store = Repository.open(store.path)
        with monkeypatch.context() as patched:
            open_through(patched, lambda inner: CrashingBackend(inner, after, torn=remote))
            done = completes(lambda: (store.gc(remote.as_uri()), store.push(remote.as_uri())))
        die(store)
        assert before <= files(remote, "packs").keys() | files(remote, "objects").keys()
        with Repository.open(store.path) as again:
            again.gc(remote.as_uri())
            again.push(remote.as_uri())
            assert again.gc(remote.as_uri()).missing == 0
        check_rerun(store.path, remote)
        return done

    assert until_it_completes(attempt, tmp_path) >= 2  # a pack and a segment


def test_a_collection_dies_at_a_write_to_its_own_store(tmp_path: Path, team: Path) -> None:
    """What was folded is here, in the one or in the others."""

    def attempt(after: int, folder: Path) -> bool:
        store, remote = copied(team, folder)
        store.push(remote.as_uri())
        store.close()
        store = Repository.open(store.path)
        fill(store, LATER)
        use_backend(store, CrashingBackend(store.local.backend, after, torn=store.path))
        done = completes(lambda: store.gc(remote.as_uri()))
        die(store)
        check_newcomer(remote, pushed=True)
        check_rerun(store.path, remote)
        return done

    until_it_completes(attempt, tmp_path)


def test_a_deletion_that_fails_is_done_by_the_next(tmp_path: Path, team: Path, clock: Clock) -> None:
    """An error of the remote ends a collection."""
    store, remote = copied(team, tmp_path / "team")
    store.push(remote.as_uri())
    clock.forward(25, remote)
    backend = store.remote(remote.as_uri())
    faulty = FaultyBackend(backend.backend)
    backend.backend = faulty
    faulty.fail("delete", nth=2)
    with pytest.raises(BackendError):
        store.gc(remote.as_uri())
    check_newcomer(remote, pushed=True)
    assert store.gc(remote.as_uri()).missing == 0
    store.close()
    check_rerun(store.path, remote)
