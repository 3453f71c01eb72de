"""Push, pull and status: what moves, what it costs, and what happens when it is interrupted."""

from __future__ import annotations

import contextlib
import json
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import TypeVar

import pytest

from casstore.backends.base import Backend
from casstore.backends.open import open_backend
from casstore.backends.progress import watched
from casstore.backends.retry import RetryingBackend
from casstore.backends.s3 import S3Backend
from casstore.catalog import inventory, statements
from casstore.catalog.holding import remotes_holding
from casstore.catalog.journal import _line
from casstore.catalog.learning import absorb
from casstore.catalog.records import Entry, Location
from casstore.digest import digest_of
from casstore.errors import BackendError, FormatError, NotFoundError, RemoteGoneError
from casstore.events import Advanced, Event, Finished, Started
from casstore.repo import plan_pull, plan_push
from casstore.repo import pull as pull_module
from casstore.repo import push as push_module
from casstore.repo import remote as remote_module
from casstore.repo.plan_merge import NO_MERGE
from casstore.repo.recover import add_segment
from casstore.repo.repository import Repository
from casstore.store.codec import FRAME_SIZE
from casstore.store.layout import digest_in
from casstore.store.marker import ensure_marker
from scripts._bench.texts import Answers
from scripts._demo.documents import documents
from tests.conftest import Bucket
from tests.doubles import Crash, CrashingBackend, FaultyBackend, RecordingBackend, WrappedBackend
from tests.s3 import Server
from tests.stores import (
    MIB,
    answer,
    answers,
    damage,
    dump,
    files,
    fill,
    key,
    noise,
    record_remote,
    use_backend,
)
from tests.unit.repo.conftest import Open

ONE_LIST = {"LIST": 1}

_T = TypeVar("_T")


def expected(*numbers: int) -> dict[str, bytes | None]:
    """Return what `answers` finds in a store with the answers to some numbers."""
    return {key(number): answer(number) for number in numbers}


# What moves


def test_what_is_pushed_can_be_pulled(store: Repository, opened: Open, url: str) -> None:
    """Entries, their refs, objects put by hand, replacements and tombstones reach another store."""
    fill(store, range(4))
    store.put_entry(key(9), b"with a ref", refs=[b"the request"])
    store.put_entry(key(0), answer(0, 1), replace=True)
    store.forget(key(1))
    large = store.put(noise(FRAME_SIZE + 10))
    report = store.push(url)
    assert (report.entries, report.objects, report.left, report.failures) == (5, 6, 0, ())
    other = opened("other")
    report = other.pull(url)
    assert (report.entries, report.objects, report.left, report.failures) == (5, 6, 0, ())
    assert answers(other) == {**expected(2, 3), key(0): answer(0, 1), key(9): b"with a ref"}
    assert list(other.entries()) == list(store.entries())
    assert other.get(digest_of(b"the request")) == b"the request"
    assert other.get(large) == noise(FRAME_SIZE + 10)
    assert files(other.path, "manifest") == files(store.path, "manifest")
    assert other.verify().failures == ()


@pytest.fixture
def tiny_packs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every object have a pack of its own, and take a pack whole only where all of it is wanted."""
    monkeypatch.setattr(plan_push, "PACK_FRAMES", 1)


def test_costs_of_a_first_and_a_second_push(
    store: Repository, opened: Open, bucket: Bucket, requests_log: Server
) -> None:
    """A push is one LIST, a PUT for the pack and one for the segment; into a new store, the marker too."""
    fill(store, range(3))
    assert store.push(bucket.url).requests == requests_log.verbs() == {"LIST": 1, "GET": 1, "PUT": 3}
    fill(store, range(3, 13))
    requests_log.clear()
    assert store.push(bucket.url).requests == requests_log.verbs() == {"LIST": 1, "PUT": 2}
    requests_log.clear()
    other = opened("other")
    report = other.pull(bucket.url)
    assert report.requests == requests_log.verbs()
    assert report.requests["GET"] <= 1 + 2 + 2  # marker, segments, packs
    requests_log.clear()
    assert other.pull(bucket.url).requests == requests_log.verbs() == ONE_LIST


def test_thousands_of_entries_move_in_a_few_requests(
    store: Repository, opened: Open, bucket: Bucket, requests_log: Server
) -> None:
    """3,000 entries are a dictionary, a pack and a segment, there and back; ten more are two requests."""
    fill(store, range(3000))
    requests_log.clear()
    report = store.push(bucket.url)
    assert requests_log.verbs() == report.requests == {"LIST": 1, "GET": 1, "PUT": 4}
    assert (report.objects, report.entries) == (3000, 3000)
    other = opened("other")
    requests_log.clear()
    report = other.pull(bucket.url)
    assert requests_log.verbs() == report.requests == {"LIST": 1, "GET": 4}
    assert (report.objects, report.entries) == (3000, 3000)
    assert answers(other) == expected(*range(3000))
    fill(store, range(3000, 3010))
    requests_log.clear()
    assert store.push(bucket.url).requests == requests_log.verbs() == {"LIST": 1, "PUT": 2}
    requests_log.clear()
    assert other.pull(bucket.url).requests == requests_log.verbs() == {"LIST": 1, "GET": 2}
    assert answers(other) == expected(*range(3010))


def test_pulled_packs_stay_packs(store: Repository, opened: Open, folder_url: str, tmp_path: Path) -> None:
    """A pack that is wanted whole is one file here too, the very bytes that the remote has."""
    fill(store, range(50))
    store.push(folder_url)
    other = opened("other")
    other.pull(folder_url)
    assert files(other.path, "packs") == files(tmp_path / "remote", "packs") != {}
    assert files(other.path, "objects") == files(tmp_path / "remote", "objects") == {}


def test_a_pulled_store_takes_little_more_than_the_remote(
    store: Repository, opened: Open, folder_url: str, tmp_path: Path
) -> None:
    """A tenth more, and 400 bytes of index an entry, whose labels and size are as of models' answers."""
    labels: dict[str, object] = {
        "kind": "reply",
        "model": "claude-haiku-4-5",
        "usage": {"input": 1234, "output": 567},
    }
    labels |= {"host": "api.openai.com", "provider": "openai", "seconds": 12.345678, "cost": 0.000123456}
    for number in range(2000):
        store.put_entry(key(number), noise(800, number), labels=labels)
    store.push(folder_url)
    with opened("other") as other:
        other.pull(folder_url)
    size = sum(len(content) for content in files(other.path, "").values())
    assert size <= 1.1 * sum(map(len, files(tmp_path / "remote", "").values())) + 400 * 2000


def test_first_push_to_a_second_remote_is_foreseen(
    store: Repository, bucket: Bucket, folder_url: str
) -> None:
    """Where a dictionary is here already, nothing is asked of the new remote for its sake."""
    fill(store, range(1500))
    store.push(folder_url)
    plan = store.plan_push(bucket.url)
    assert plan.requests == store.push(bucket.url).requests


def test_packs_are_noted_alike_whoever_read_the_manifest(
    store: Repository, opened: Open, folder_url: str, tmp_path: Path
) -> None:
    """The short way for packs whose records were read just now gives the same index as the long way."""
    fill(store, range(50))
    store.push(folder_url)
    fill(store, range(40, 100))
    store.push(folder_url)
    at_once = opened("at-once")
    at_once.pull(folder_url)
    before = opened("before")
    before.pull(folder_url, manifest_only=True)
    before.close()
    opened("before").pull(folder_url)
    tables = [dump(tmp_path / name) for name in ("at-once", "before")]
    for table in ("objects", "packs", "totals", "remote_objects", "pending"):
        assert tables[0][table] == tables[1][table], table
    assert tables[0]["wanted"] == tables[1]["wanted"] == []
    assert len(tables[0]["objects"]) == 100


def test_pack_that_a_dead_pull_brought_is_not_fetched_again(
    store: Repository, opened: Open, folder_url: str, tmp_path: Path
) -> None:
    """It is verified where it lies, and noted; a bad one is fetched anew."""
    fill(store, range(50))
    store.push(folder_url)
    for name, is_bad in (("good", False), ("bad", True)):
        other = opened(name)
        (pack,) = files(tmp_path / "remote", "packs")
        path = other.path / pack
        path.parent.mkdir(parents=True)
        shutil.copyfile(tmp_path / "remote" / pack, path)
        if is_bad:
            damage(path)
        report = other.pull(folder_url)
        assert report.requests["GET"] == 2 + is_bad  # the marker and the segment
        assert (report.objects, report.failures) == (50, ())
        assert other.verify().failures == ()


def test_parts_of_a_pack_are_read_where_little_of_it_is_wanted(
    store: Repository, opened: Open, bucket: Bucket, requests_log: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Wanted objects close to each other come in one ranged read, and make one local pack."""
    monkeypatch.setattr(plan_pull, "GAP", 100)
    for number in range(40):
        store.put_entry(key(number), noise(1000, number))
        time.sleep(0.001)  # a pack holds them in the order they were written, by the clock
    store.push(bucket.url)
    other = opened("other")
    for number in range(40):
        if number not in {3, 4, 5, 20}:
            other.put(noise(1000, number))
    requests_log.clear()
    plan = other.plan_pull(bucket.url)
    report = other.pull(bucket.url)
    assert report.requests == {"LIST": 1, "GET": 2}
    assert (report.objects, report.bytes) == (4, plan.bytes)
    assert [request.range != "" for request in requests_log.requests() if "packs/" in request.path] == [
        True
    ] * 2
    assert len(files(other.path, "packs")) == 1
    assert answers(other) == {key(number): noise(1000, number) for number in range(40)}


def test_entry_on_demand_is_one_ranged_read(
    store: Repository, opened: Open, bucket: Bucket, requests_log: Server
) -> None:
    """A miss that a pack answers reads the entry's own bytes; the dictionary comes once, with the first."""
    fill(store, range(1500))
    store.push(bucket.url)
    other = opened("other")
    other.pull(bucket.url, manifest_only=True)
    requests_log.clear()
    assert other.read_entry(key(700))[1] == answer(700)
    assert requests_log.verbs() == {"GET": 2}
    requests_log.clear()
    assert other.read_entry(key(10))[1] == answer(10)
    (request,) = requests_log.requests()
    assert (request.verb, request.range != "") == ("GET", True)
    requests_log.clear()
    assert other.read_entry(key(10))[1] == answer(10)
    assert requests_log.requests() == []


def test_misses_in_one_pack_fetch_it_ahead(
    store: Repository, opened: Open, bucket: Bucket, requests_log: Server
) -> None:
    """After three misses in a pack the rest of it comes in one request, and then there are no more misses."""
    fill(store, range(30))
    store.push(bucket.url)
    other = opened("other")
    other.pull(bucket.url, manifest_only=True)
    requests_log.clear()
    for number in range(3):
        other.read_entry(key(number))
    other.flush()
    assert requests_log.verbs() == {"GET": 4}
    assert answers(other) == expected(*range(30))
    assert requests_log.verbs() == {"GET": 4}


@contextlib.contextmanager
def thousands_of_steps(repository: Repository) -> Iterator[list[int]]:
    """Yield a list that grows with every thousand steps of SQLite: looking at an entry takes several."""
    seen: list[int] = []

    def step() -> None:
        seen.append(1)

    with repository.local.index.reading() as connection:
        connection.set_progress_handler(step, 1000)
        yield seen
        connection.set_progress_handler(None, 0)


@pytest.mark.parametrize("count", [10, 10_000])
def test_nothing_to_do_is_one_list(
    store: Repository, opened: Open, bucket: Bucket, requests_log: Server, count: int
) -> None:
    """With nothing new, push, pull and status cost one LIST and a few looks, however large the store is."""
    fill(store, range(10))
    objects = [digest_of(answer(number)) for number in range(10)]
    claims = (Entry(key(number), objects[number % 10], 0, 1) for number in range(10, count))
    absorb(store.local.index, claims)
    store.push(bucket.url)
    other = opened("other")
    other.pull(bucket.url)
    assert other.sizes().entries == count
    for repository in (store, other, opened("store"), opened("other")):
        for operation in (repository.push, repository.pull):
            requests_log.clear()
            with thousands_of_steps(repository) as steps:
                report = operation(bucket.url)
            assert len(steps) < 3
            assert report.requests == requests_log.verbs() == ONE_LIST
            assert (report.objects, report.entries, report.bytes) == (0, 0, 0)
        requests_log.clear()
        status = repository.status(bucket.url)
        assert requests_log.verbs() == status.push.requests == status.pull.requests == ONE_LIST
        assert status.push.is_empty
        assert status.pull.is_empty


def test_status_predicts_requests_and_bytes(
    store: Repository,
    opened: Open,
    bucket: Bucket,
    requests_log: Server,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What status says of a push and a pull is what they then send, large objects in parts included.

    Requests are exact, of a push also its bytes but for what compression makes of a new pack: within 4 %.
    """
    monkeypatch.setattr(S3Backend, "part_size", 8 * MIB)
    fill(store, range(1200))
    store.put(noise(20 * MIB))  # three parts of 8 MiB at most
    store.put(noise(9 * MIB))  # one PUT
    store.put(bytes(64 * MIB))  # small when compressed
    for change in (None, 2000, 2001, None):
        if change is not None:
            store.put_entry(key(change), answer(change), refs=[answer(0), b"ref %d" % change])
        plan = store.plan_push(bucket.url)
        requests_log.clear()
        report = store.push(bucket.url)
        assert requests_log.verbs() == plan.requests == report.requests
        moved = sum(
            request.length
            for request in requests_log.requests()
            if request.verb == "PUT" and ("/objects/" in request.path or "/packs/" in request.path)
        )
        assert report.bytes == moved
        assert abs(plan.bytes - moved) <= max(0.04 * moved, 400)
        assert (len(plan.objects), plan.entries) == (report.objects, report.entries)
    other = opened("other")
    expected_pull = other.status(bucket.url).pull
    requests_log.clear()
    report = other.pull(bucket.url)
    assert requests_log.verbs() == expected_pull.requests == report.requests
    assert (len(expected_pull.objects), expected_pull.bytes) == (report.objects, report.bytes)


@pytest.mark.parametrize("seed", range(3))
def test_bytes_are_predicted_of_what_models_write(store: Repository, folder_url: str, seed: int) -> None:
    """Prose and JSON, much of which the dictionary was trained on, take what was predicted, within 4 %."""
    prose = islice(Answers(seed, {"prose": [document.text for document in documents(38)]}), 1500)
    calls = ({"id": noise(8, n).hex(), "name": "search", "arguments": {"page": n}} for n in range(500))
    for number, content in enumerate([*prose, *(json.dumps(call).encode() for call in calls)]):
        store.put_entry(key(number), content)
    plan = store.plan_push(folder_url)
    assert store.push(folder_url).bytes == pytest.approx(plan.bytes, rel=0.04)


def test_plans_of_an_empty_remote(store: Repository, bucket: Bucket, requests_log: Server) -> None:
    """Against an empty bucket too, a plan predicts what an empty push, a pull and a push then send."""
    plan = store.plan_push(bucket.url)
    requests_log.clear()
    assert store.push(bucket.url).requests == requests_log.verbs() == plan.requests
    ensure_marker(open_backend(bucket.url))
    plan = store.plan_pull(bucket.url)
    requests_log.clear()
    assert store.pull(bucket.url).requests == requests_log.verbs() == plan.requests
    fill(store, [1])
    plan = store.plan_push(bucket.url)
    requests_log.clear()
    assert store.push(bucket.url).requests == requests_log.verbs() == plan.requests


def advanced(events: list[Event], operation: str) -> tuple[int, int]:
    """Return how many objects and bytes events tell of an operation."""
    told = [event for event in events if isinstance(event, Advanced) and event.operation == operation]
    return sum(event.objects for event in told), sum(event.size for event in told)


def test_events_add_up(store: Repository, opened: Open, folder_url: str) -> None:
    """Progress events of push and pull add up to the plan they begin with."""
    fill(store, range(30))
    for repository, operation in ((store, "push"), (opened("other"), "pull")):
        events: list[Event] = []
        plan = getattr(repository, f"plan_{operation}")(folder_url)
        report = getattr(repository, operation)(folder_url, on_event=events.append, workers=3)
        assert events[0] == Started(operation, report.objects, plan.bytes)
        assert advanced(events, operation) == (report.objects, report.bytes)
        assert report.objects == 30
        assert events[-1] == Finished(operation)


def test_events_while_a_pack_is_made(store: Repository, folder_url: str) -> None:
    """Of a pack in the making is told a few objects at a time, to exactly what was announced."""
    fill(store, range(1500))
    events: list[Event] = []
    assert store.push(folder_url, on_event=events.append).packs == 1
    begun = next(event for event in events if isinstance(event, Started) and event.operation == "pack")
    made = [event for event in events if isinstance(event, Advanced) and event.operation == "pack"]
    assert begun.objects == 1500
    assert advanced(events, "pack") == (begun.objects, begun.size)
    assert 0 < max(event.objects for event in made) <= 150
    sent = next(
        event
        for event in events
        if isinstance(event, Advanced) and event.operation == "push" and event.objects
    )
    assert max(map(events.index, made)) < events.index(sent) < events.index(Finished("pack"))


class HaltingBackend(WrappedBackend):
    """Moves half of a pack, and goes on when that was told; of a first try it moves less, and fails."""

    def __init__(self, inner: Backend, told: threading.Event) -> None:
        super().__init__(inner)
        self.halfway: list[int] = []
        self._told = told

    def around(self, operation: str, name: str, run: Callable[[], _T]) -> _T:
        """Halt in the middle of a pack."""
        progress = watched()
        if progress is not None and name.startswith("packs"):
            self.halfway.append(1000 * (len(self.halfway) + 1))
            self._told.clear()
            progress.reach(self.halfway[-1])
            assert self._told.wait(10)
            if len(self.halfway) == 1:
                raise BackendError("cut off", transient=True)
        return run()


@pytest.mark.parametrize("operation", ["push", "pull"])
def test_events_while_a_pack_moves(store: Repository, opened: Open, folder_url: str, operation: str) -> None:
    """Bytes are told of as they move; a second try adds what is more than the first had moved."""
    for number in range(3):
        store.put_entry(key(number), noise(4000, number))
    repository = store
    if operation == "pull":
        store.push(folder_url)
        repository = opened("other")
    told = threading.Event()
    events: list[Event] = []

    def hear(event: Event) -> None:
        events.append(event)
        told.set()

    remote = repository.remote(folder_url)
    halting = HaltingBackend(remote.backend, told)
    remote.backend = RetryingBackend(halting, sleep=lambda _: None)
    report = getattr(repository, operation)(folder_url, on_event=hear)
    assert halting.halfway == [1000, 2000]
    steps = [event for event in events if isinstance(event, Advanced) and event.operation == operation]
    assert [(step.objects, step.size) for step in steps] == [(0, 1000), (0, 1000), (3, report.bytes - 2000)]


def test_events_of_what_is_done_again(
    store: Repository, opened: Open, folder_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A pack that is sent again, and one that is made again as its name is taken, are told of once."""
    fill(store, range(30))
    remote = store.remote(folder_url)
    faulty = FaultyBackend(remote.backend)
    faulty.fail("write", nth=2, transient=True)  # the marker is the first
    remote.backend = RetryingBackend(faulty, sleep=lambda _: None)
    barred = opened("other")
    fill(barred, range(30))
    barred.push(folder_url.replace("remote", "elsewhere"))
    (name,) = files(barred.path.parent / "elsewhere", "packs")
    taken = replace(NO_MERGE, barred=frozenset({digest_in(name)}))
    monkeypatch.setattr(push_module, "planned_merge", lambda *_: taken)
    events: list[Event] = []
    report = store.push(folder_url, on_event=events.append)
    assert report.requests["PUT"] == 3
    (other_name,) = files(store.path.parent / "remote", "packs")
    assert other_name != name
    assert advanced(events, "push") == (report.objects, report.bytes)
    assert advanced(events, "pack")[0] == 30


def test_manifest_only_pull_fetches_on_use(store: Repository, opened: Open, url: str) -> None:
    """With the manifest alone entries are known and fetched when read; a full pull brings the rest."""
    fill(store, range(6))
    store.push(url)
    other = opened("other")
    report = other.pull(url, manifest_only=True)
    assert (report.entries, report.objects) == (6, 0)
    assert other.sizes().objects == 0
    assert other.read_entry(key(2))[1] == answer(2)
    assert other.sizes().objects == 1
    assert other.pull(url).objects == 5
    assert answers(other) == expected(*range(6))


@pytest.mark.parametrize("rebuilt", [True, False], ids=["after a rebuild", "after reads"])
def test_what_is_here_is_not_foreseen(
    store: Repository, opened: Open, folder_url: str, tmp_path: Path, rebuilt: bool
) -> None:
    """A plan counts no entry whose objects came meanwhile, or were here when the manifest was read anew."""
    for number in range(4):
        store.put_entry(key(number), answer(number), refs=[b"request %d" % number])
    store.push(folder_url)
    other = opened("other")
    other.pull(folder_url, manifest_only=not rebuilt)
    if rebuilt:
        other.rebuild()
    missing = 0 if rebuilt else 3
    other.plan_pull(folder_url)
    if missing:
        other.read_entry(key(0))
        other.get(digest_of(b"request 0"))
    plan = other.plan_pull(folder_url)
    assert (plan.entries, plan.count) == (missing, 2 * missing)
    report = other.pull(folder_url)
    assert (report.entries, report.objects) == (plan.entries, plan.count)
    assert dump(tmp_path / "other")["wanted"] == []


def test_capped_pull_brings_the_newest(
    store: Repository, opened: Open, folder_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A pull brings as many of the newest entries as the cap has room for; the rest is fetched when used."""
    for number in range(10):
        monkeypatch.setattr("casstore.repo.content.now", lambda number=number: 1000 + number)
        store.put_entry(key(number), noise(1000, number))
    monkeypatch.undo()
    store.push(folder_url)
    other = opened("other", max_size=5000)
    plan = other.plan_pull(folder_url)
    report = other.pull(folder_url)
    assert (plan.entries, report.entries) == (4, 4)
    assert (report.objects, report.left) == (4, 6)
    assert (len(plan.objects), plan.left) == (4, 6)
    here = [number for number in range(10) if other.has(digest_of(noise(1000, number)))]
    assert here == [6, 7, 8, 9]
    assert other.pull(folder_url).requests == ONE_LIST
    other._max_size = 100_000
    assert answers(other) == {key(number): noise(1000, number) for number in range(10)}


@pytest.mark.parametrize("size", [100, 2000])
def test_capped_pull_leaves_room_for_a_put(
    store: Repository, opened: Open, folder_url: str, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    """All that it writes fits under the cap, tables and dictionaries too, and one put evicts none of it."""
    for module in ("store.dictionaries", "repo.packing"):
        monkeypatch.setattr(f"casstore.{module}.TRAINED_ON", 100)
    for number in range(400):
        store.put_entry(key(number), noise(size // 4, number).hex().encode() * 2)
    cap = store.push(folder_url).bytes // 2
    other = opened("other", max_size=cap)
    foreseen = other.plan_pull(folder_url).count
    report = other.pull(folder_url)
    assert 0 < report.objects == foreseen < 400
    assert 0.7 * cap < other.local.index.evictable() <= cap
    other.put_entry(key(1000), b"new")
    other.close()
    assert opened("other").sizes().objects > report.objects


# Conflicts


def test_first_answer_of_the_team_stands(store: Repository, opened: Open, url: str) -> None:
    """Of two answers to one key the earlier stands in both stores; a refresh and a tombstone win over it."""
    other = opened("other")
    store.put_entry(key(1), b"first")
    time.sleep(0.001)  # earlier is so by the clock, which counts milliseconds
    other.put_entry(key(1), b"second")
    other.push(url)
    store.push(url)
    other.pull(url)
    assert store.read_entry(key(1))[1] == other.read_entry(key(1))[1] == b"first"
    other.put_entry(key(1), b"refreshed", replace=True)
    other.push(url)
    store.push(url)
    assert store.read_entry(key(1))[1] == b"refreshed"
    store.forget(key(1))
    store.push(url)
    other.pull(url)
    with pytest.raises(NotFoundError):
        other.read_entry(key(1))
    assert other.status(url).push.is_empty


def test_two_remotes(store: Repository, opened: Open, tmp_path: Path) -> None:
    """What came from one remote is pushed to another, with each remote's own account."""
    one, two = ((tmp_path / name).as_uri() for name in ("one", "two"))
    fill(store, [1])
    store.push(one)
    middle = opened("middle")
    middle.pull(one)
    fill(middle, [2])
    assert middle.push(two).entries == 2
    assert middle.push(one).entries == 1
    last = opened("last")
    last.pull(two)
    assert answers(last) == expected(1, 2)
    assert store.pull(two).objects == 1
    assert store.status(one).push.is_empty


# What may be wrong with a remote


def test_place_without_a_store_is_told(
    store: Repository, opened: Open, bucket: Bucket, requests_log: Server
) -> None:
    """Who would read is told, for a LIST and the marker; nothing is made, until somebody pushes."""
    other = opened("other")
    for operation in (other.pull, other.plan_pull, other.status, other.gc):
        requests_log.clear()
        with pytest.raises(NotFoundError, match=rf"no store at {bucket.url}: .* casstore push {bucket.url}"):
            operation(bucket.url)
        assert requests_log.verbs() == {"LIST": 1, "GET": 1}
    assert list(open_backend(bucket.url).list("")) == []
    fill(store, [1])
    assert store.plan_push(bucket.url).entries == store.push(bucket.url).entries == 1
    assert other.pull(bucket.url).entries == 1


def test_remote_that_is_gone_is_not_taken_for_a_new_one(
    store: Repository, opened: Open, folder_url: str, tmp_path: Path
) -> None:
    """A folder that is not mounted: whatever is asked for is an error, nothing is made, nothing forgotten."""
    fill(store, range(3))
    large = store.put(noise(MIB))
    store.push(folder_url)
    other = opened("other")
    other.pull(folder_url, manifest_only=True)
    (tmp_path / "remote").rename(tmp_path / "unmounted")
    for each in (store, other):
        for operation in (each.push, each.pull, each.status, each.plan_push, each.plan_pull, each.gc):
            with pytest.raises(RemoteGoneError, match=r"see that it is mounted.* casstore push --anew"):
                operation(folder_url)
    for read in (lambda: other.get(large), lambda: other.read_entry(key(0))):
        with pytest.raises(BackendError):
            read()
    assert not (tmp_path / "remote").exists()
    (tmp_path / "unmounted").rename(tmp_path / "remote")
    assert store.push(folder_url).requests == store.pull(folder_url).requests == ONE_LIST
    assert other.push(folder_url).requests == ONE_LIST
    assert other.pull(folder_url).failures == ()
    assert answers(other) == expected(*range(3))
    assert other.get(large) == noise(MIB)


@pytest.mark.parametrize("size", [10, MIB], ids=["in a pack", "of its own"])
def test_no_object_is_given_up_because_its_remote_is_gone(
    store: Repository, opened: Open, folder_url: str, tmp_path: Path, size: int
) -> None:
    """It cannot be had now, which is no miss; once the folder is mounted, it is read."""
    digest = store.put(noise(size))
    store.push(folder_url)
    other = opened("other")
    other.pull(folder_url, manifest_only=True)
    (tmp_path / "remote").rename(tmp_path / "unmounted")
    with pytest.raises(RemoteGoneError):
        other.get(digest)
    (tmp_path / "unmounted").rename(tmp_path / "remote")
    other.close()
    assert opened("other").get(digest) == noise(size)


def test_emptied_bucket_is_not_taken_for_a_new_one(
    store: Repository, opened: Open, bucket: Bucket, s3_server: Server
) -> None:
    """It is asked for its marker once more, and nothing is written, until somebody begins it anew."""
    fill(store, range(3))
    store.push(bucket.url)
    other = opened("other")
    other.pull(bucket.url)
    backend = open_backend(bucket.url)
    for folder in ("manifest", "packs", "objects"):
        for info in list(backend.list(folder)):
            backend.delete(info.name)
    backend.delete("casstore.json")
    s3_server.clear()
    for operation in (store.push, store.pull, other.pull):
        with pytest.raises(RemoteGoneError):
            operation(bucket.url)
    assert s3_server.verbs() == {"LIST": 3, "GET": 3}
    assert store.push(bucket.url, anew=True).entries == 3
    assert other.push(bucket.url).entries == 0
    newcomer = opened("newcomer")
    newcomer.pull(bucket.url)
    assert answers(newcomer) == expected(*range(3))
    backend.close()


def test_emptied_remote_is_filled_again(
    store: Repository, opened: Open, folder_url: str, tmp_path: Path
) -> None:
    """One that was emptied has everything again once it is begun anew; one that was replaced, unasked."""
    fill(store, range(3))
    digest = store.put(b"by hand")
    store.push(folder_url)
    (tmp_path / "remote").rename(tmp_path / "emptied")
    assert store.push(folder_url, anew=True).entries == 3
    assert files(tmp_path / "remote", "packs") == files(tmp_path / "emptied", "packs") != {}
    assert store.push(folder_url, anew=True).requests == ONE_LIST
    (tmp_path / "remote").rename(tmp_path / "replaced")
    other = opened("other")
    fill(other, range(2, 5))
    other.push(folder_url)
    store.push(folder_url)
    other.pull(folder_url)
    assert answers(store).keys() == expected(*range(5)).keys()
    assert answers(other) == expected(*range(5))
    assert other.get(digest) == b"by hand"


def test_remote_emptied_after_an_interrupted_first_push(
    store: Repository, folder_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Uploads that no segment told yet are not believed in once the remote is gone."""
    fill(store, range(3))
    with monkeypatch.context() as patch:
        patch.setattr(remote_module.Remote, "publish", interrupt)
        with pytest.raises(KeyboardInterrupt):
            store.push(folder_url)
    (tmp_path / "remote").rename(tmp_path / "emptied")
    assert store.push(folder_url, anew=True).objects == 3
    assert files(tmp_path / "remote", "packs") == files(tmp_path / "emptied", "packs") != {}


def interrupt(*_: object) -> None:
    """End as Ctrl-C does."""
    raise KeyboardInterrupt


@pytest.mark.parametrize("harm", ["remove", "flip", "cut"])
@pytest.mark.usefixtures("tiny_packs")
def test_object_that_the_remote_lost(
    store: Repository, opened: Open, folder_url: str, tmp_path: Path, harm: str
) -> None:
    """A missing or bad object is reported by a pull and no longer believed in; who then has it sends it."""
    fill(store, range(3))
    store.push(folder_url)
    there = dict(remotes_holding(store.local.index, digest_of(answer(1))))[folder_url]
    assert there.place is not None
    path = tmp_path / "remote" / store.local.objects.pack_name(there.place.pack)
    if harm == "remove":
        path.unlink()
    elif harm == "flip":
        damage(path, there.stored // 2)
    else:
        path.write_bytes(path.read_bytes()[: there.stored - 5])
    other = opened("other")
    report = other.pull(folder_url)
    assert [failure.name for failure in report.failures] == [digest_of(answer(1))]
    assert report.objects == 2
    assert remotes_holding(other.local.index, digest_of(answer(1))) == []
    assert answers(other) == {**expected(0, 2), key(1): None}
    other.put_entry(key(5), answer(1))  # the same content by another way
    assert other.push(folder_url).failures == ()
    third = opened("third")
    assert third.pull(folder_url).failures == ()
    assert answers(third) == {**expected(0, 1, 2), key(5): answer(1)}


@pytest.mark.parametrize("noticed", ["pulled", "read"])
@pytest.mark.parametrize("size", [10, MIB], ids=["in a pack", "of its own"])
def test_what_is_restored_in_a_remote_is_believed_again(
    store: Repository, opened: Open, bucket: Bucket, requests_log: Server, size: int, noticed: str
) -> None:
    """Once somebody says so, for one request each; before, nothing is asked for what failed."""
    store.put_entry(key(1), noise(size), refs=[b"request"])
    store.push(bucket.url)
    there = dict(remotes_holding(store.local.index, digest_of(noise(size))))[bucket.url]
    objects = store.remote(bucket.url).objects()
    name = objects.name(there.digest) if there.place is None else objects.pack_name(there.place.pack)
    good = objects.backend.read(name)
    objects.backend.write(name, b"")
    other = opened("other")
    first = other.pull(bucket.url, manifest_only=noticed == "read")
    if noticed == "read":
        with pytest.raises(NotFoundError, match=r"does not hold it as it said: .* casstore pull --again"):
            other.read_entry(key(1))
    else:
        assert {failure.name for failure in first.failures} >= {there.digest}
    assert other.pull(bucket.url, again=True).missing == 1  # still damaged
    objects.backend.write(name, good)
    report = other.pull(bucket.url)
    assert (report.requests, report.missing, report.failures) == (ONE_LIST, 1, ())
    assert other.status(bucket.url).pull.missing == 1
    with pytest.raises(NotFoundError, match="no remote is known to hold it"):
        other.read_entry(key(1))
    requests_log.clear()
    report = other.pull(bucket.url, again=True)
    assert report.requests == requests_log.verbs()
    assert (report.requests["LIST"], report.missing, report.failures) == (1, 0, ())
    assert report.requests["GET"] <= 2  # the marker and the file
    assert report.entries == 1
    assert answers(other) == {key(1): noise(size)}
    for operation in (other.pull, other.push):
        assert operation(bucket.url).requests == ONE_LIST


@pytest.mark.usefixtures("tiny_packs")
def test_what_a_remote_lost_stays_wanted(
    store: Repository, opened: Open, folder_url: str, tmp_path: Path
) -> None:
    """Pulls that cannot bring it say nothing more; whoever sends it again need not tell of its entry."""
    fill(store, range(3))
    digest = store.put(b"by hand")
    store.push(folder_url)
    other = opened("other")
    for lost in (digest_of(answer(1)), digest):
        there = dict(remotes_holding(store.local.index, lost))[folder_url]
        assert there.place is not None
        (tmp_path / "remote" / store.local.objects.pack_name(there.place.pack)).unlink()
    assert len(other.pull(folder_url).failures) == 2
    for _ in range(2):
        assert (other.plan_pull(folder_url).entries, other.plan_pull(folder_url).objects) == (0, ())
        report = other.pull(folder_url)
        assert (report.entries, report.objects, report.failures) == (0, 0, ())
    remote = store.remote(folder_url)
    again = [store.local.index.known(lost) for lost in (digest_of(answer(1)), digest)]
    target = remote.prepare()
    for known in filter(None, again):
        target.put(store.local.read(known), known.digest)
    remote.publish(add_segment(store.local, [Location(known) for known in filter(None, again)]))
    report = other.pull(folder_url)
    assert (report.entries, report.objects, report.failures) == (1, 2, ())
    assert answers(other) == expected(0, 1, 2)
    assert other.get(digest) == b"by hand"
    with other.local.index.reading() as connection:
        assert connection.execute("SELECT count(*) FROM wanted").fetchone() == (0,)


def test_good_objects_of_a_bad_pack_are_brought(
    store: Repository, opened: Open, folder_url: str, tmp_path: Path
) -> None:
    """Of a pack with a damaged byte, all objects but the one it hit reach the other store."""
    fill(store, range(20))
    store.push(folder_url)
    there = dict(remotes_holding(store.local.index, digest_of(answer(7))))[folder_url]
    assert there.place is not None
    path = tmp_path / "remote" / store.local.objects.pack_name(there.place.pack)
    damage(path, there.place.offset + there.stored // 2)
    other = opened("other")
    report = other.pull(folder_url)
    assert [failure.name for failure in report.failures] == [digest_of(answer(7))]
    assert report.objects == 19
    assert answers(other) == {**expected(*range(20)), key(7): None}


def test_bad_local_object_is_not_pushed(store: Repository, opened: Open, folder_url: str) -> None:
    """An object that went bad here does not spread: it is reported, and its entry is not pushed."""
    fill(store, range(3))
    bad = digest_of(answer(1))
    damage(store.path / store.local.objects.name(bad))
    (store.path / store.local.objects.name(digest_of(answer(2)))).unlink()
    report = store.push(folder_url)
    assert {failure.name for failure in report.failures} == {bad, digest_of(answer(2))}
    assert report.entries == 1
    other = opened("other")
    other.pull(folder_url)
    assert answers(other) == expected(0)
    fill(store, [1])
    assert store.push(folder_url).failures == ()
    other.pull(folder_url)
    assert answers(other) == expected(0, 1)


def test_manifest_without_a_marker_is_refused(
    store: Repository, opened: Open, folder_url: str, tmp_path: Path
) -> None:
    """A remote whose marker was removed is not guessed at."""
    fill(store, [1])
    store.push(folder_url)
    (tmp_path / "remote" / "casstore.json").unlink()
    other = opened("other")
    for operation in (other.pull, other.push, other.status):
        with pytest.raises(FormatError, match=r"no casstore\.json"):
            operation(folder_url)
    assert other.sizes().entries == 0


@pytest.mark.parametrize(
    "change", [('"version":1', '"version":2'), ('"features":["packs"]', '"features":["later"]')]
)
def test_remote_of_a_later_version_is_refused(
    store: Repository, opened: Open, folder_url: str, tmp_path: Path, change: tuple[str, str]
) -> None:
    """A remote that needs a later casstore changes nothing here and is not written to."""
    fill(store, [1])
    store.push(folder_url)
    marker = tmp_path / "remote" / "casstore.json"
    marker.write_text(marker.read_text().replace(*change))
    before = files(tmp_path / "remote", ".")
    other = opened("other")
    fill(other, [2])
    for operation in (other.pull, other.push, other.status):
        with pytest.raises(FormatError, match="upgrade casstore"):
            operation(folder_url)
    assert answers(other) == expected(2)
    assert files(other.path, "manifest") == {}
    assert files(tmp_path / "remote", ".") == before


def test_remote_with_other_shards(store: Repository, opened: Open, folder_url: str, tmp_path: Path) -> None:
    """A remote is read and written with the folder widths that its own marker gives."""
    (tmp_path / "remote").mkdir()
    marker = '{"features":[],"format":"casstore","hash":"sha256","shards":[2,2],"version":1}\n'
    (tmp_path / "remote" / "casstore.json").write_text(marker)
    fill(store, range(3))
    store.push(folder_url)
    assert [len(name.split("/")[1]) for name in files(tmp_path / "remote", "packs")] == [2]
    assert '"features":["packs"]' in (tmp_path / "remote" / "casstore.json").read_text()
    other = opened("other")
    other.pull(folder_url)
    assert answers(other) == expected(*range(3))


def test_foreign_files_are_passed_over(store: Repository, folder_url: str, tmp_path: Path) -> None:
    """Files in a remote that are not ours are neither read nor counted."""
    fill(store, [1])
    store.push(folder_url)
    for name in ("manifest/README", "manifest/" + "A" * 64 + ".zst", "manifest/deep/x.zst", "other"):
        path = tmp_path / "remote" / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"foreign")
    assert store.pull(folder_url).requests == ONE_LIST


def test_unreachable_remote_is_an_error(store: Repository, folder_url: str) -> None:
    """When the remote fails, so do push, pull and status, and a later push completes."""
    fill(store, range(3))
    remote = store.remote(folder_url)
    faulty = FaultyBackend(remote.backend)
    remote.backend = faulty
    for operation in ("list", "write", "upload"):
        faulty.fail(operation, times=100)
        with pytest.raises(BackendError):
            store.push(folder_url)
        faulty.heal()
    assert store.push(folder_url).entries == 3
    assert store.push(folder_url).requests == ONE_LIST


# Interruptions


def crashed_push(store: Repository, url: str, after: int, side: str) -> CrashingBackend:
    """Push until the process dies at a write, here or there."""
    if side == "local":
        crashing = CrashingBackend(store.local.backend, after, torn=store.path)
        use_backend(store, crashing)
    else:
        remote = store.remote(url)
        crashing = CrashingBackend(remote.backend, after, torn=Path(url.removeprefix("file://")))
        remote.backend = crashing
    with contextlib.suppress(Crash):
        store.push(url, workers=1)
    return crashing


@pytest.mark.usefixtures("tiny_packs")
@pytest.mark.parametrize("side", ["local", "remote"])
def test_push_interrupted_anywhere_completes(opened: Open, tmp_path: Path, side: str) -> None:
    """Whichever write of a push is its last, a rerun completes it, and moves little again."""
    for after in range(30):
        url = (tmp_path / f"remote-{after}").as_uri()
        store = opened(f"store-{after}")
        fill(store, range(6))
        store.put(b"by hand")
        crashing = crashed_push(store, url, after, side)
        again = opened(f"store-{after}")
        backend = record_remote(again, url)
        assert again.push(url).failures == ()
        again_sent = len([name for name in backend.names("write") if name.startswith("packs")])
        sent = crashing.done["write"] - 1 if side == "remote" else 0  # one of them is the marker
        assert again_sent <= 7 - sent + 4
        assert again.push(url).requests == ONE_LIST
        other = opened(f"other-{after}")
        assert other.pull(url).failures == ()
        assert answers(other) == expected(*range(6))
        assert other.get(digest_of(b"by hand")) == b"by hand"
        assert again.verify().failures == ()
        if not crashing.crashed:
            break
    assert not crashing.crashed
    assert after == (1 if side == "local" else 9)


@pytest.mark.usefixtures("tiny_packs")
@pytest.mark.parametrize(("enough", "writes"), [(0, 8), (2, 3)], ids=["whole packs", "parts of packs"])
def test_pull_interrupted_anywhere_completes(
    opened: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, enough: int, writes: int
) -> None:
    """Whichever write of a pull is its last, nothing torn is visible, and a rerun completes it."""
    monkeypatch.setattr(pull_module, "_BATCH", 1)
    monkeypatch.setattr(plan_pull, "ENOUGH", enough)
    url = (tmp_path / "remote").as_uri()
    source = opened("source")
    fill(source, range(6))
    source.put(noise(FRAME_SIZE + 1))
    source.push(url)
    for after in range(30):
        store = opened(f"store-{after}")
        crashing = CrashingBackend(store.local.backend, after, torn=store.path)
        use_backend(store, crashing)
        with contextlib.suppress(Crash):
            store.pull(url, workers=1)
        again = opened(f"store-{after}")
        assert again.verify().failures == ()
        found = {each: content for each, content in answers(again).items() if content is not None}
        assert found.items() <= expected(*range(6)).items()
        backend = record_remote(again, url)
        assert again.pull(url).failures == ()
        assert len(backend.names("download")) <= 7 - len(found) + 1
        assert answers(again) == expected(*range(6))
        assert again.get(digest_of(noise(FRAME_SIZE + 1))) == noise(FRAME_SIZE + 1)
        assert again.pull(url).requests == ONE_LIST
        assert again.verify().failures == ()
        if not crashing.crashed:
            break
    assert not crashing.crashed
    assert after >= writes  # and more where small packs are merged


@pytest.mark.usefixtures("tiny_packs")
def test_what_was_sent_is_noted(store: Repository, folder_url: str) -> None:
    """What was sent before the remote failed is not sent again."""
    fill(store, range(100))
    remote = store.remote(folder_url)
    faulty = FaultyBackend(remote.backend)
    recording = RecordingBackend(faulty)
    remote.backend = recording
    faulty.fail("write", nth=60, times=1000)
    with pytest.raises(BackendError):
        store.push(folder_url, workers=2)
    faulty.heal()
    first = set(recording.names("write"))
    recording.calls.clear()
    assert store.push(folder_url, workers=2).entries == 100
    again = first & set(recording.names("write"))
    assert len(first) >= 60
    assert len(again) <= 2 * 4 + 2  # the jobs under way, and the ones that failed


# Journals of others


def test_push_takes_in_the_journal_of_a_dead_process(
    store: Repository, opened: Open, folder_url: str
) -> None:
    """A record that reached the journal and not the index is pushed by whoever pushes next."""
    fill(store, [1])
    claim = store.entry(key(1))
    journal = store.path / "journal" / "1-dead.log"
    lost = Entry(key(2), claim.object, 0, 5)
    journal.write_bytes(_line(lost) + b"torn")
    assert store.push(folder_url).entries == 2
    assert store.entry(key(2)) == lost
    assert list((store.path / "journal").iterdir()) == []
    other = opened("other")
    other.pull(folder_url)
    assert answers(other) == {**expected(1), key(2): answer(1)}


def test_pull_with_a_larger_cap_brings_the_rest(store: Repository, opened: Open, folder_url: str) -> None:
    """What did not fit stays wanted, and the next pull with room for it brings it."""
    fill(store, range(20))
    store.push(folder_url)
    small = opened("other", max_size=500)
    first = small.pull(folder_url)
    assert first.left > 0
    assert (first.entries, first.objects + first.left) == (first.objects, 20)
    assert small.pull(folder_url).entries == 0
    small.close()
    second = opened("other").pull(folder_url)
    assert (second.objects, second.entries, second.left) == (first.left, first.left, 0)


def test_no_look_up_reads_all_that_a_remote_holds(store: Repository, folder_url: str) -> None:
    """The time for an object does not grow with the store: SQLite scans no table of objects for it."""
    store.push(folder_url)
    with store.local.index.staging() as connection:
        connection.execute("CREATE TEMP TABLE IF NOT EXISTS asked(digest BLOB PRIMARY KEY) WITHOUT ROWID")
        asked: list[tuple[str, tuple[object, ...]]] = [(statements.SIDES, (1,)), (statements.EVICTABLE, ())]
        pending, _ = inventory._moving(connection, 1, "pending", "")
        wanted, _ = inventory._moving(connection, 1, "wanted", "-")
        asked += [(pending + inventory._TO_SEND, (1,))]
        asked += [(wanted + inventory._TO_FETCH.format(where=inventory._BESIDES), (1, "[2]"))]
        asked += [(wanted + inventory._TO_FETCH.format(where="h.pack = ?2"), (1, 1))]
        asked += [(wanted + inventory._SHARES, (1,))]
        for statement, values in asked:
            plan = connection.execute(f"EXPLAIN QUERY PLAN {statement}", values).fetchall()
            steps = [row[3] for row in plan]
            assert not [step for step in steps if step.startswith(("SCAN h", "SCAN e"))], steps
            assert not [step for step in steps if step.startswith("SEARCH h ") and "object=?" not in step]


def test_remote_that_was_removed_is_not_asked(store: Repository, opened: Open, folder_url: str) -> None:
    """Where its URL alone does not lead to it, its answers are misses, and new ones take their place."""
    fill(store, range(1))
    store.push(folder_url)
    other = opened("other")
    other.pull(folder_url, manifest_only=True)
    with other.local.index.writing() as connection:
        connection.execute("UPDATE remotes SET url = url || ' at http://localhost:1'")
    with pytest.raises(NotFoundError):
        other.read_entry(key(0))
    assert other.put_entry(key(0), b"new").generation == 1
    assert other.read_entry(key(0))[1] == b"new"
