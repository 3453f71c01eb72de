"""Several processes, forks and threads on one store."""

from __future__ import annotations

import fcntl
import multiprocessing
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from functools import partial
from multiprocessing.context import ForkContext
from pathlib import Path

import pytest

from casstore.catalog.connecting import locked
from casstore.repo.repository import Repository
from tests.children import PATIENCE, ended, fork
from tests.stores import answer, answers, fill, key
from tests.unit.repo.conftest import Open

CONTEXT: ForkContext = multiprocessing.get_context("fork")


def run_all(*programs: tuple[Callable[..., None], tuple[object, ...]]) -> None:
    """Run functions in processes of their own, all at once, and expect them to end well."""
    children = [fork(partial(target, *args)) for target, args in programs]
    assert [ended(child) for child in children] == [0] * len(children)


def _put(path: Path, numbers: range) -> None:
    with Repository.open(path) as store:
        fill(store, numbers)


def test_processes_lose_nothing(opened: Open, tmp_path: Path) -> None:
    """Four processes put at once into a store that none of them found; nobody is locked out or loses one."""
    path = tmp_path / "store"
    run_all(*((_put, (path, range(begin, begin + 200))) for begin in range(0, 800, 200)))
    store = opened()
    assert answers(store) == {key(number): answer(number) for number in range(800)}
    sizes = store.sizes()
    assert (sizes.entries, sizes.objects) == (800, 800)
    assert store.local.index.evictable() == sizes.stored
    assert store.verify().failures == ()
    store.rebuild()
    assert store.sizes().entries == 800


def _put_contested(path: Path, name: str) -> None:
    with Repository.open(path) as store:
        for number in range(50):
            entry = store.put_entry(key(number), f"{name} {number}".encode())
            assert store.read_entry(key(number))[0] == entry


def test_processes_agree_on_the_first_answer(opened: Open, tmp_path: Path) -> None:
    """Of several processes that answer one key, all see the same first answer."""
    run_all(*((_put_contested, (tmp_path / "store", name)) for name in "abc"))
    found = answers(opened())
    assert len(found) == 50
    assert all(entry.generation == 0 for entry in opened().entries())


def test_forked_workers_reopen(store: Repository) -> None:
    """Children of a process that has the store open use it at once, with what they write apart."""
    fill(store, range(5))

    def work(begin: int) -> None:
        assert store.read_entry(key(1))[1] == answer(1)
        fill(store, range(begin, begin + 50))
        store.flush()

    run_all(*((work, (begin,)) for begin in (100, 200, 300)))
    fill(store, range(400, 410))
    expected = [*range(5), *range(100, 150), *range(200, 250), *range(300, 350), *range(400, 410)]
    assert answers(store) == {key(number): answer(number) for number in expected}
    assert store.verify().failures == ()


def test_child_outlives_its_parents_use(opened: Open, tmp_path: Path) -> None:
    """A worker goes on when its parent has closed the store and other processes come and go."""
    ready, proceed = CONTEXT.Event(), CONTEXT.Event()
    parent = opened()
    fill(parent, [0])

    def work() -> None:
        fill(parent, [1])
        ready.set()
        for number in range(100, 150):
            assert proceed.wait(30)
            fill(parent, [number])

    worker = fork(work)
    assert ready.wait(30)
    parent.close()
    _put_elsewhere(tmp_path / "store", range(2, 5))
    proceed.set()
    for begin in range(200, 230, 10):
        _put_elsewhere(tmp_path / "store", range(begin, begin + 10))
    assert ended(worker) == 0
    expected = [*range(5), *range(100, 150), *range(200, 230)]
    assert answers(opened()) == {key(number): answer(number) for number in expected}


def _put_elsewhere(path: Path, numbers: range) -> None:
    program = (
        "import sys; from pathlib import Path; from tests.unit.repo.test_processes import _put;"
        "_put(Path(sys.argv[1]), range(int(sys.argv[2]), int(sys.argv[3])))"
    )
    command = [sys.executable, "-c", program, str(path), str(numbers.start), str(numbers.stop)]
    subprocess.run(command, check=True, timeout=PATIENCE)


def test_fork_while_threads_write(store: Repository) -> None:
    """A child that is forked while threads of its parent hold locks is not stuck."""
    stop = threading.Event()

    def write(begin: int) -> None:
        number = begin
        while not stop.is_set():
            fill(store, [number])
            number += 1

    threads = [threading.Thread(target=write, args=(begin,)) for begin in (1000, 2000)]
    for thread in threads:
        thread.start()
    try:
        for round_ in range(10):
            assert ended(fork(partial(fill, store, [round_]))) == 0
    finally:
        stop.set()
        for thread in threads:
            thread.join(PATIENCE)
    assert not any(thread.is_alive() for thread in threads)
    found = answers(store)
    assert found.items() >= {key(number): answer(number) for number in range(10)}.items()


def test_threads_share_a_store(store: Repository) -> None:
    """Eight threads put, read and tally through one repository."""
    failures: list[BaseException] = []

    def work(begin: int) -> None:
        try:
            for number in range(begin, begin + 40):
                fill(store, [number])
                assert store.read_entry(key(number))[1] == answer(number)
                store.tally("openai", "gpt", {"hits": 1})
        except BaseException as error:  # noqa: BLE001 - told below, in the thread that can fail the test
            failures.append(error)

    threads = [threading.Thread(target=work, args=(begin,)) for begin in range(0, 320, 40)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    assert not any(thread.is_alive() for thread in threads)
    assert failures == []
    assert len(answers(store)) == 320
    assert [tally.value for tally in store.tallies()] == [320]


def test_processes_discover_a_lost_index_at_once(opened: Open, tmp_path: Path) -> None:
    """Several processes that open a store without an index see every entry, and lose none of their own."""
    path = tmp_path / "store"
    for _ in range(3):
        with opened() as store:
            fill(store, range(100))
            before = len(answers(store))
        (path / "index.sqlite").unlink()
        for each in ("index.sqlite-wal", "index.sqlite-shm"):
            (path / each).unlink(missing_ok=True)
        run_all(*((_open_and_see, (path,)) for _ in range(4)))
        assert len(answers(opened())) == before + 4


def _open_and_see(path: Path) -> None:
    with Repository.open(path) as store:
        assert set(answers(store)) >= {key(number) for number in range(100)}
        fill(store, [1000 + os.getpid()])


def _rebuild(path: Path) -> None:
    with Repository.open(path) as store:
        for _ in range(5):
            store.rebuild()


def test_rebuild_while_others_write(opened: Open, tmp_path: Path) -> None:
    """Entries that are put while another process rebuilds the index are in the new one."""
    path = tmp_path / "store"
    _put(path, range(50))
    run_all((_rebuild, (path,)), (_put, (path, range(100, 300))), (_put, (path, range(300, 500))))
    expected = {*range(50), *range(100, 500)}
    assert answers(opened()) == {key(number): answer(number) for number in expected}


def test_a_forked_child_holds_no_lock(tmp_path: Path) -> None:
    """A lock held while a process forks is free when its holder lets go, however long the child lives."""
    reader, writer = os.pipe()

    def wait() -> None:
        os.read(reader, 1)

    with locked(tmp_path / "lock"):
        child = fork(wait)
    with (tmp_path / "lock").open() as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    os.write(writer, b"x")
    assert ended(child) == 0
    os.close(reader)
    os.close(writer)


def test_last_uses_are_flushed_at_exit(opened: Open, tmp_path: Path) -> None:
    """A process that ends without closing the store leaves its last uses and counters."""
    with opened() as store:
        fill(store, [1])
        before = next(store.objects()).used
    program = (
        "import sys; from casstore.repo.repository import Repository; from tests.stores import key;"
        "store = Repository.open(sys.argv[1]); store.read_entry(key(1)); store.tally('a', 'b', {'hits': 1})"
    )
    subprocess.run([sys.executable, "-c", program, str(tmp_path / "store")], check=True)
    again = opened()
    assert next(again.objects()).used > before
    assert [tally.value for tally in again.tallies()] == [1]


def test_two_processes_push_one_store(opened: Open, tmp_path: Path) -> None:
    """Two processes put into one store and push it at the same time; nothing is lost or left behind."""
    path, url = tmp_path / "store", (tmp_path / "remote").as_uri()
    run_all(*((_put_and_push, (path, url, begin)) for begin in (0, 100)))
    store = opened()
    store.push(url)
    other = opened("other")
    other.pull(url)
    expected = [*range(20), *range(100, 120)]
    assert answers(other) == answers(store) == {key(number): answer(number) for number in expected}
    (path / "index.sqlite").unlink()
    assert answers(opened()) == answers(other)


def _put_and_push(path: Path, url: str, begin: int) -> None:
    with Repository.open(path) as store:
        for number in range(begin, begin + 20):
            fill(store, [number])
            assert store.push(url).failures == ()


@pytest.mark.parametrize("operation", ["import casstore", "hit"])
def test_light_things_stay_light(opened: Open, tmp_path: Path, operation: str) -> None:
    """Importing casstore, and a hit in a local store, load nothing that is not needed for it."""
    with opened() as store:
        fill(store, [1])
    heavy = {
        "fsspec",
        "s3fs",
        "aiobotocore",
        "botocore",
        "click",
        "rich",
        "asyncio",
        "tomlkit",
        "platformdirs",
    }
    heavy |= {"tomllib", "concurrent.futures", "casstore.repo.sync", "casstore.repo.rebuild", "ssl", "email"}
    if operation == "import casstore":
        heavy |= {"sqlite3", "zstandard", "orjson"}
    program = (
        "import sys, casstore\n"
        "if sys.argv[1] == 'hit':\n"
        "    with casstore.Repository.open(sys.argv[2]) as store:\n"
        f"        store.read_entry({key(1)!r})\n"
        "print(*sys.modules)\n"
    )
    command = [sys.executable, "-c", program, operation, str(tmp_path / "store")]
    found = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    assert heavy.isdisjoint(found), heavy.intersection(found)
