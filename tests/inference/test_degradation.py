"""A broken cache is no cache: one warning, and the model's answer always reaches the caller."""

from __future__ import annotations

import asyncio
import errno
import os
import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from casstore.errors import BackendError, FormatError, IntegrityError, OfflineMissError
from casstore.inference.cache import Cache
from casstore.inference.guard import PATIENCE, REST, SLOW, Guard
from casstore.inference.types import Chunk
from casstore.repo.repository import Repository
from tests.inference.fakes import HELLO, AsyncFakeClient, BrokenStore, DictStore, FakeClient, answered

FAULTS = [
    BackendError("unreachable", transient=True),
    IntegrityError("bytes do not match"),
    FormatError("a newer format"),
    OSError(errno.ENOSPC, "No space left on device"),
    PermissionError(errno.EACCES, "Permission denied"),
    OSError(errno.EROFS, "Read-only file system"),
    sqlite3.OperationalError("database is locked"),
    sqlite3.DatabaseError("malformed"),
    MemoryError(),
    RuntimeError("a bug"),
]
EVERYTHING = ["read_entry", "put_entry", "tally", "tallies", "push", "flush", "close", "forget"]


@pytest.mark.parametrize("fault", FAULTS, ids=repr)
@pytest.mark.parametrize("on", [["read_entry"], ["put_entry"], ["tally"], EVERYTHING], ids="+".join)
def test_no_fault_of_the_store_costs_an_answer(
    fault: Exception, on: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    """Whatever fails, sync and async, each question is answered; one line says so."""
    store = BrokenStore(fault, on)
    cache = Cache(store, memory=0, push="exit")
    client, async_client = FakeClient(), AsyncFakeClient(model="fake-2")
    for number in range(3):
        question = [{"role": "user", "content": f"question {number}"}]
        assert cache.wrap(client).converse(question).text == f"answer {number + 1}"
        assert asyncio.run(cache.wrap(async_client).converse(question)).text == f"answer {number + 1}"
    cache.savings()
    cache.close()
    assert store.did.count("fault") >= 3
    assert len(caplog.records) == 1
    assert type(fault).__name__ not in caplog.text
    assert cache.guard.faults == store.did.count("fault")


def test_an_unexpected_fault_can_be_looked_at(caplog: pytest.LogCaptureFixture) -> None:
    """The warning has no exception's name; where the level is DEBUG, its traceback follows."""
    caplog.set_level("DEBUG", logger="casstore")
    cache = Cache(BrokenStore(RuntimeError("a bug"), EVERYTHING), memory=0)
    cache.wrap(FakeClient()).converse(HELLO)
    warning, detail = caplog.records[:2]
    assert 'an unexpected fault and says "a bug"' in warning.getMessage()
    assert "RuntimeError" not in warning.getMessage()
    assert detail.levelname == "DEBUG"
    assert detail.exc_info is not None
    assert detail.exc_info[0] is RuntimeError


def test_memory_goes_on_without_the_store() -> None:
    """A store that cannot be written still leaves this process its answers."""
    cache = Cache(BrokenStore(OSError(errno.ENOSPC, "full"), ["put_entry"]))
    client = FakeClient()
    assert [cache.wrap(client).converse(HELLO).hit for _ in range(3)] == [False, True, True]


def test_offline_with_a_broken_store_is_a_miss() -> None:
    """Offline, there is nothing to fall back on: the caller learns that the answer is not there."""
    client = FakeClient()
    with pytest.raises(OfflineMissError):
        Cache(BrokenStore(OSError("x"), EVERYTHING), mode="offline").wrap(client).converse(HELLO)
    assert not client.calls


def test_a_store_that_cannot_be_opened(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A path that is a file gives a cache that lives in memory alone."""
    path = tmp_path / "file"
    path.write_text("not a folder")
    with Cache(path) as cache:
        client = FakeClient()
        assert [cache.wrap(client).converse(HELLO).hit for _ in range(2)] == [False, True]
        assert cache.savings().calls == 0
    assert len(caplog.records) == 1


def test_a_store_of_the_future(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A store that needs a newer casstore is left alone."""
    Repository.open(folder).close()
    marker = folder / "casstore.json"
    marker.write_text(
        marker.read_text().replace('"version": 1', '"version": 99').replace('"version":1', '"version":99')
    )
    assert "99" in marker.read_text()
    with Cache(folder) as cache:
        assert cache.wrap(FakeClient()).converse(HELLO).text == "answer 1"
    assert len(caplog.records) == 1


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_read_only_folder(folder: Path) -> None:
    """Stored answers are given, new ones are not kept."""
    with Cache(folder) as cache:
        cache.wrap(FakeClient()).converse(HELLO)
    for path in (folder, *folder.rglob("*")):
        path.chmod(0o500 if path.is_dir() else 0o400)
    with Cache(folder, memory=0) as cache:
        assert cache.wrap(FakeClient()).converse(HELLO, seed=1).text == "answer 1"
    for path in (folder, *folder.rglob("*")):
        path.chmod(0o700)


def test_a_store_removed_while_in_use(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Somebody deletes the cache folder under a running program: the program goes on."""
    client = FakeClient()
    cache = Cache(folder, memory=0)
    cached = cache.wrap(client)
    cached.converse(HELLO)
    shutil.rmtree(folder)
    for number in range(3):
        assert cached.converse(HELLO, seed=number).text
    cache.close()
    assert len(caplog.records) <= 1


def test_a_flipped_byte_is_a_miss_and_heals(folder: Path) -> None:
    """A damaged answer is never given; the next call's answer takes its place."""
    client = FakeClient()
    with Cache(folder) as cache:
        cache.wrap(client).converse(HELLO)
    (stored,) = (folder / "objects").rglob("*.zst")
    content = bytearray(stored.read_bytes())
    content[-3] ^= 0xFF
    stored.chmod(0o600)
    stored.write_bytes(content)
    with Cache(folder) as cache:
        assert cache.wrap(client).converse(HELLO).text == "answer 2"
    with Cache(folder) as cache:
        assert cache.wrap(client).converse(HELLO).text == "answer 2"
    assert len(client.calls) == 2


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"not JSON",
        b"[]",
        b"{}",
        b'{"casstore": 2, "kind": "response", "text": "t", "stop": "end", "model": "m"}\n',
        b'{"casstore": 1, "kind": "stream", "text": "t", "stop": "end", "model": "m"}\n',
        b'{"casstore": 1, "kind": "response", "text": 7, "stop": "end", "model": "m"}\n',
        b'{"casstore": 1, "kind": "response", "stop": "end", "model": "m"}\n',
        b"\xff\xfe",
    ],
)
def test_what_is_no_answer_is_a_miss(content: bytes) -> None:
    """An object of another form under our key, by mistake or malice, is never given as an answer."""
    store = DictStore()
    client = FakeClient()
    key = Cache(store).wrap(client).converse(HELLO).key
    assert key
    store.put_entry(key, content, replace=True)
    assert Cache(store).wrap(client).converse(HELLO).text == "answer 2"


def test_a_wrong_price_file_costs_no_answer(
    cache: Cache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The variable names a file that is not there: the answer has no price, and is given and stored."""
    monkeypatch.setenv("CASSTORE_PRICES", str(tmp_path / "absent.toml"))
    cached = cache.wrap(FakeClient())
    assert (cached.converse(HELLO).cost, cached.converse(HELLO).hit) == (None, True)


class Clock:
    """Time that passes when told."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        """Return the time."""
        return self.now


def test_a_store_that_keeps_callers_waiting_is_left_alone_for_a_while() -> None:
    """Slow faults are not asked for at each call; after a rest the store has another chance."""
    clock, tried = Clock(), []
    guard = Guard(clock)

    def fail(seconds: float) -> None:
        tried.append(seconds)
        clock.now += seconds
        raise BackendError("timed out", transient=True)

    for _ in range(PATIENCE + 3):
        guard.attempt("read", fail, SLOW)
    assert len(tried) == PATIENCE
    clock.now += REST
    guard.attempt("read", fail, SLOW)
    assert len(tried) == PATIENCE + 1


def test_a_slow_store_is_given_up_after_one_call() -> None:
    """A locked index makes the first call wait twice; the next ones go on with memory and prices alone."""
    clock = Clock()
    store = BrokenStore(sqlite3.OperationalError("database is locked"), ["read_entry", "put_entry"])
    fail = store._fail

    def wait_and_fail(*_args: object, **_more: object) -> Any:
        clock.now += SLOW
        return fail()

    store._fail = wait_and_fail  # type: ignore[method-assign]  # slower than it was
    cache = Cache(store, prices={"fake-1": {"input": 1, "output": 1, "cached": 1}})
    cache.guard._clock = clock
    client = FakeClient()
    for number in range(3):
        for _ in range(2):
            assert cache.wrap(client).converse(HELLO, seed=number).cost is not None
    assert (len(client.calls), store.did.count("fault")) == (3, 2)


def test_an_answer_that_is_no_json_is_given_and_not_kept(
    cache: Cache, caplog: pytest.LogCaptureFixture
) -> None:
    """What a client of somebody's own puts into a stream may be anything; the caller has it all the same."""

    class Odd(FakeClient):
        def stream(self, *_args: object, **_more: object) -> Iterator[Chunk]:
            yield Chunk("text", object())
            yield Chunk("", None, answered("text"))

    cache.streams = "record"
    for _ in range(2):
        chunks = list(cache.wrap(Odd()).stream(HELLO))
        assert chunks[-1].response is not None
        assert not chunks[-1].response.hit
    assert len(caplog.records) == 1


def test_a_store_that_fails_at_once_is_asked_each_time() -> None:
    """A fault that costs no time, and faults between successes, do not rest the store."""
    clock, tried = Clock(), []
    guard = Guard(clock)

    def fail(seconds: float) -> Any:
        tried.append(seconds)
        clock.now += seconds
        raise BackendError("no")

    for _ in range(10):
        guard.attempt("read", fail, 0.0)
    for _ in range(10):
        guard.attempt("read", fail, SLOW)
        assert guard.attempt("read", lambda: "fine") == "fine"
    assert len(tried) == 20


def test_an_answer_out_of_reach_is_paid_for_once(folder: Path) -> None:
    """A team's answer that cannot be fetched is asked again, and the new answer is kept."""
    team = folder / "team"
    with Repository.open(folder / "one") as one, Cache(one) as cache:
        cache.wrap(FakeClient()).converse(HELLO)
        one.push(str(team))
    with Repository.open(folder / "two") as two:
        two.pull(str(team), manifest_only=True)
    shutil.rmtree(team / "packs")
    (team / "objects").symlink_to(team / "objects")  # reading fails, and not as for what is missing
    client = FakeClient()
    for _ in range(2):
        with Cache(folder / "two", memory=0) as cache:
            answers = [cache.wrap(client).converse(HELLO) for _ in range(2)]
    assert [answer.hit for answer in answers] == [True, True]
    assert len(client.calls) == 1
