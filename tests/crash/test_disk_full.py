"""A disk that fills up, here or in the remote: a clear error, nothing lost, and on it goes with room."""

from __future__ import annotations

import errno
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from casstore.backends.mapping import from_os_error
from casstore.digest import Key, digest_of
from casstore.errors import BackendError
from casstore.repo.repository import Repository
from tests.crash.aftermath import check_local, check_remote
from tests.crash.small_disk import BALLAST
from tests.doubles import FaultyBackend
from tests.stores import answer, answers, fill, key, noise, use_backend

ROOT = Path(__file__).parent.parent.parent
OURS = {key(number): answer(number) for number in range(3)}
NEW = noise(500)


@pytest.fixture
def store(folder: Path) -> Iterator[Repository]:
    """Return a store with three entries."""
    with Repository.open(folder) as repository:
        fill(repository, range(3))
        yield repository


def faulty(store: Repository) -> FaultyBackend:
    """Let the store's own folder fill up on order."""
    backend = FaultyBackend(store.local.backend)
    use_backend(store, backend)
    return backend


def faulty_remote(store: Repository, url: str) -> FaultyBackend:
    """Let a remote fill up on order."""
    remote = store.remote(url)
    backend = remote.backend = FaultyBackend(remote.backend)
    return backend


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """Let the system refuse to make any file of this process longer."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("room", [0, 200, 600])
def test_put_entry_on_a_full_disk(store: Repository, room: int) -> None:
    """The entry that did not fit never was; the others are there, and it is stored once there is room."""
    backend = faulty(store)
    backend.fill_up(room)
    with pytest.raises(BackendError, match="disk is full"):
        store.put_entry(key(9), NEW, refs=[noise(400, 1)])
    assert answers(store) == OURS
    backend.heal()
    store.put_entry(key(9), NEW, refs=[noise(400, 1)])
    assert answers(store) == OURS | {key(9): NEW}
    check_local(store.path, OURS | {key(9): NEW})


@pytest.mark.parametrize("size", [500, 6_000_000])
def test_put_by_hand_on_a_full_disk(store: Repository, size: int) -> None:
    """An object that does not fit leaves nothing behind, not even its unfinished file."""
    backend = faulty(store)
    backend.fill_up(100)
    with pytest.raises(BackendError, match="disk is full"):
        store.put(noise(size))
    assert [info for info in store.objects() if info.kept] == []
    assert list((store.path / "tmp").iterdir()) == []
    backend.heal()
    digest = store.put(noise(size))
    assert store.get(digest) == noise(size)
    check_local(store.path, OURS)


@pytest.mark.parametrize("room", [0, 79, 100, 200, 300])
def test_push_into_a_full_remote(store: Repository, tmp_path: Path, room: int) -> None:
    """The push fails with the remote's word, publishes nothing, and completes once there is room."""
    remote = tmp_path / "remote"
    backend = faulty_remote(store, remote.as_uri())
    backend.fill_up(room)
    with pytest.raises(BackendError, match="disk is full"):
        store.push(remote.as_uri())
    assert not (remote / "manifest").exists()
    check_remote(remote, OURS)
    assert answers(store) == OURS
    backend.heal()
    assert store.push(remote.as_uri()).entries == 3
    reading = check_remote(remote, OURS)
    assert reading is not None
    assert len(reading.entries) == 3


@pytest.mark.parametrize("room", [0, 420, 500])
def test_pull_onto_a_full_disk(store: Repository, tmp_path: Path, room: int) -> None:
    """What fits is there, the rest is still wanted, and a rerun brings it."""
    remote = (tmp_path / "remote").as_uri()
    store.push(remote)
    with Repository.open(tmp_path / "other") as other:
        backend = faulty(other)
        backend.fill_up(room)
        with pytest.raises(BackendError, match="disk is full"):
            other.pull(remote)
        assert not other.verify().failures
        backend.heal()
        report = other.pull(remote)
        assert (report.failures, report.left) == ((), 0)
        assert answers(other) == OURS
    check_local(tmp_path / "other", OURS)


@pytest.mark.parametrize("size", [200_000, 6_000_000])
def test_a_file_that_the_system_refuses_to_write(store: Repository, size: int) -> None:
    """The system's own refusal becomes a clear error too, and leaves no unfinished file."""
    for put in (store.put, lambda content: store.put_entry(key(9), content)):
        with files_of_at_most(100_000), pytest.raises(BackendError, match="cannot write"):
            put(noise(size))
    assert answers(store) == OURS
    assert not [path for path in store.path.rglob("*.tmp") if path.is_file()]
    store.put_entry(key(9), noise(size))
    check_local(store.path, OURS | {key(9): noise(size)})


def test_an_index_that_the_system_refuses_to_let_grow(folder: Path) -> None:
    """When not the object but the index finds no room, what was stored before is there, also afterwards."""
    stored: dict[Key, bytes] = {}
    with Repository.open(folder) as store:
        with files_of_at_most(300_000), pytest.raises(BackendError, match="cannot"):
            _fill_until_it_fails(store, stored)
        assert stored
        assert answers(store) == stored
        fill(store, range(len(stored), len(stored) + 5))
    everything = stored | {key(number): answer(number) for number in range(len(stored) + 5)}
    check_local(folder, everything)
    with Repository.open(folder) as store:
        store.rebuild()
        assert answers(store) == everything


def _fill_until_it_fails(store: Repository, stored: dict[Key, bytes]) -> None:
    for number in range(10_000):
        store.put_entry(key(number), answer(number), labels={"note": "x" * 2000})
        stored[key(number)] = answer(number)


def test_a_disk_that_is_truly_full(tmp_path: Path) -> None:
    """On a file system of a few MB: everything that was stored reads, and after making room it goes on."""
    mount = ["unshare", "--map-root-user", "--mount", "sh", "-c", 'mount -t tmpfs -o size=4m tmpfs "$1"']
    try:
        subprocess.run([*mount, "sh", str(tmp_path)], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"no file system can be mounted here: {error}")
    mount[-1] += ' && exec "$2" -W error -m tests.crash.small_disk "$1"'
    outcome = subprocess.run(
        [*mount, "sh", str(tmp_path), sys.executable], check=False, capture_output=True, text=True, cwd=ROOT
    )
    assert outcome.returncode == 0, outcome.stderr
    assert int(outcome.stdout) > 10
    assert not (tmp_path / BALLAST).exists(), "the file system was not one of its own"


def test_an_answer_that_was_stored_outlives_one_that_was_not(
    store: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A put that fails when the journal has its line already says nothing; the next put's answer stays."""

    def full(*_: object) -> None:
        raise BackendError("the index finds no room")

    with monkeypatch.context() as patched:
        patched.setattr("casstore.repo.local.put_claim", full)
        with pytest.raises(BackendError, match="no room"):
            store.put_entry(key(9), answer(9))
    time.sleep(0.002)  # what fails comes first, by the clock
    store.put_entry(key(9), answer(9, 1))
    store.rebuild()
    assert answers(store) == OURS | {key(9): answer(9, 1)}


@pytest.fixture
def capped(store: Repository, tmp_path: Path) -> Iterator[Repository]:
    """Return a store with forty entries in one pack, all of it in a remote, and a cap for a quarter of it."""
    remote = (tmp_path / "remote").as_uri()
    for number in range(40):
        store.put_entry(key(number), noise(1000, number))
    store.push(remote)
    with Repository.open(tmp_path / "capped") as other:
        other.pull(remote)
        other._max_size = 10_000
        yield other


@pytest.fixture
def no_room(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the system refuse to write any pack anew."""

    def full(*_: object) -> None:
        error = OSError(errno.ENOSPC, "No space left on device")
        raise from_os_error(error, "write", "an unfinished pack", "here") from error

    monkeypatch.setattr("casstore.repo.rewrite.pack_objects", full)


@pytest.mark.usefixtures("no_room")
def test_evict_on_a_full_disk(capped: Repository) -> None:
    """A pack that cannot be rewritten goes whole where a remote holds it; it comes back when it is used."""
    report = capped.evict()
    assert (report.objects, report.entries) == (40, 0)
    assert capped.local.index.evictable() == 0
    capped._max_size = 1_000_000
    assert answers(capped) == {key(number): noise(1000, number) for number in range(40)} | OURS
    assert not capped.verify().failures


@pytest.mark.usefixtures("no_room")
def test_evict_on_a_full_disk_spares_what_was_put_by_hand(capped: Repository) -> None:
    """Where something of a pack must stay, it stays as it is, and the error does not say to evict."""
    capped.put(noise(1000, 7))
    before = set(capped.objects())
    with pytest.raises(BackendError, match="by other means than casstore"):
        capped.evict()
    assert set(capped.objects()) == before
    assert capped.get(digest_of(noise(1000, 7))) == noise(1000, 7)


@pytest.mark.usefixtures("no_room")
def test_evict_on_a_full_disk_spares_what_is_nowhere_else(capped: Repository) -> None:
    """What no remote is believed to hold any more stays, where the cap does not ask for it."""
    with capped.local.index.writing() as connection:
        digest = bytes.fromhex(digest_of(noise(1000, 7)))
        connection.execute("DELETE FROM remote_objects WHERE object = ?", (digest,))
    with pytest.raises(BackendError, match="by other means than casstore"):
        capped.evict()
    assert capped.has(digest_of(noise(1000, 7)))


def test_evict_passes_other_errors_on(capped: Repository, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only a full disk is a reason to let go of what was to stay."""

    def broken(*_: object) -> None:
        raise BackendError("the disk is broken")

    monkeypatch.setattr("casstore.repo.rewrite.pack_objects", broken)
    before = set(capped.objects())
    with pytest.raises(BackendError, match="broken"):
        capped.evict()
    assert set(capped.objects()) == before
