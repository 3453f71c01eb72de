"""Eviction: the cap is kept, in the right order, and nothing dear goes."""

from __future__ import annotations

import math
import subprocess
import sys
import threading
from contextlib import AbstractContextManager
from sqlite3 import Connection

import pytest

from casstore.catalog import index as index_module
from casstore.catalog.listed import Candidate
from casstore.catalog.packed import Share
from casstore.catalog.rows import PackInfo
from casstore.digest import Digest, digest_of
from casstore.errors import NotFoundError
from casstore.events import Advanced, Event, Finished, Started
from casstore.repo import ahead
from casstore.repo.plan_evict import plan_evict
from casstore.repo.plan_push import TOC_ENTRY
from casstore.repo.repository import Repository
from tests.stores import answers, files, key, noise
from tests.unit.repo.conftest import Open

SIZE = 1000


def put(store: Repository, *numbers: int) -> None:
    """Put entries of about 1,000 stored bytes, each used before the next."""
    for number in numbers:
        store.put_entry(key(number), noise(SIZE, number))
        with store.local.index.writing() as connection:  # as if a while ago
            digest = bytes.fromhex(digest_of(noise(SIZE, number)))
            connection.execute("UPDATE objects SET used = ? WHERE digest = ?", (number + 1, digest))


def here(store: Repository) -> list[int]:
    """Return the numbers of the entries whose object is here."""
    return [number for number in range(20) if store.has(digest_of(noise(SIZE, number)))]


def stored(store: Repository) -> int:
    """Return the bytes of all files of objects and packs."""
    return sum(map(len, (*files(store.path, "objects").values(), *files(store.path, "packs").values())))


def test_nothing_goes_below_the_cap(opened: Open) -> None:
    """A store that is not above its cap keeps everything."""
    store = opened(max_size=6000)
    put(store, *range(5))
    assert store.evict().objects == 0
    assert here(store) == [0, 1, 2, 3, 4]


def test_least_recently_used_goes_first(opened: Open) -> None:
    """Above the cap the objects used longest ago go, until a tenth of it is free; their entries go too."""
    store = opened(max_size=100_000)
    put(store, *range(10))
    store._max_size = 6000
    report = store.evict()
    assert here(store) == [5, 6, 7, 8, 9]
    assert stored(store) <= 5400
    assert (report.objects, report.entries) == (5, 5)
    assert report.bytes == 10 * (stored(store) // 5) - stored(store)
    assert answers(store) == {key(number): noise(SIZE, number) for number in here(store)}


def test_what_a_remote_holds_goes_first(opened: Open, folder_url: str) -> None:
    """Objects that a remote holds go before older ones that are only here, and their entries stay."""
    store = opened(max_size=100_000)
    put(store, 5, 6, 7, 8)
    store.push(folder_url)
    put(store, 0, 1, 2, 3)
    store._max_size = 6000
    report = store.evict()
    assert here(store) == [0, 1, 2, 3, 8]
    assert report.entries == 0
    assert store.read_entry(key(5))[1] == noise(SIZE, 5)


def test_object_put_by_hand_stays(opened: Open) -> None:
    """What was put by hand neither counts nor goes, though it was used before everything else."""
    store = opened(max_size=3000)
    digest = store.put(noise(5000, 99))
    put(store, 0)
    store.put_entry(key(9), noise(5000, 99))
    assert store.evict().objects == 0
    put(store, 1, 2, 3)
    store.flush()
    store.evict()
    assert store.get(digest) == noise(5000, 99)
    assert store.read_entry(key(9))[1] == noise(5000, 99)


def test_what_was_just_used_stays(opened: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    """What this process read a moment ago stays, also when the index was told of it; later it may go."""
    store = opened(max_size=100_000)
    put(store, *range(6))
    store.read_entry(key(0))
    store.flush()
    store.read_entry(key(1))
    store._max_size = 2500
    store.evict()
    store.evict()
    assert here(store) == [0, 1]
    later = index_module.now() + 120_000
    monkeypatch.setattr("casstore.repo.evict.now", lambda: later)
    store._max_size = 1500
    store.evict()
    assert len(here(store)) == 1


def test_cap_is_kept_by_itself(opened: Open) -> None:
    """A long run of puts stays near the cap, by the bytes of real files, without being told to evict."""
    store = opened(max_size=20_000)
    for number in range(100, 300):
        store.put_entry(key(number), noise(SIZE, number))
        if not number % 10:
            store.flush()
    store.flush()
    store.evict()
    assert stored(store) == store.local.index.evictable() <= 20_000
    assert store.sizes().objects == len(files(store.path, "objects")) >= 15
    assert store.verify().failures == ()


def test_eviction_reports_its_progress(opened: Open) -> None:
    """Events tell what will go, and add up to it."""
    store = opened(max_size=100_000)
    put(store, *range(10))
    store._max_size = 6000
    events: list[Event] = []
    report = store.evict(on_event=events.append)
    assert events[0] == Started("evict", report.objects, report.bytes)
    assert sum(event.objects for event in events if isinstance(event, Advanced)) == report.objects
    assert events[-1] == Finished("evict")


def test_evicted_answer_may_be_given_again(opened: Open) -> None:
    """An entry that was evicted is not found; the next answer is the first again."""
    store = opened(max_size=100_000)
    put(store, 0, 1, 2)
    store._max_size = 1500
    store.evict()
    with pytest.raises(NotFoundError):
        store.read_entry(key(0))
    assert store.put_entry(key(0), b"again").generation == 0


def test_puts_and_evictions_at_once(opened: Open) -> None:
    """While others evict, what is put by hand is never lost, and no entry leads nowhere in the end."""
    store = opened(max_size=5000)
    other = opened(max_size=5000)
    done = threading.Event()

    def evict() -> None:
        while not done.is_set():
            other.evict()

    evictor = threading.Thread(target=evict)
    evictor.start()
    digests: list[Digest] = []
    try:
        for number in range(150):
            content = noise(SIZE, number % 30)
            store.put_entry(key(number), content)
            if number % 3 == 0:
                digests.append(store.put(content))
    finally:
        done.set()
        evictor.join()
        store.flush()  # it waits for an eviction that the last put began
    for number, digest in enumerate(digests):
        assert store.get(digest) == noise(SIZE, number * 3 % 30)
    assert None not in answers(store).values()
    assert store.verify().failures == ()


def test_object_put_again_during_its_removal_stays(opened: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    """When another puts an object between the loss of its row and that of its file, the file stays."""
    store, other = opened(), opened()
    digest = store.put(b"content")
    writing = store.local.index.writing
    begun: list[bool] = []

    def interrupted() -> AbstractContextManager[Connection]:
        begun.append(True)
        if len(begun) == 2:
            other.put(b"content")
        return writing()

    monkeypatch.setattr(store.local.index, "writing", interrupted)
    store.delete(digest, force=True)
    assert len(begun) >= 2
    assert other.get(digest) == b"content"


def test_what_is_evicted_before_it_is_read_comes_again(
    opened: Open, folder_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Under a small cap an eviction may be faster than whoever has fetched an object."""
    monkeypatch.setattr(ahead, "MISSES", math.inf)
    store, other = opened(), opened("other")
    put(store, 1, 2)
    store.push(folder_url)
    other.pull(folder_url, manifest_only=True)
    evicted: list[int] = []

    def evict(_added: int) -> None:
        if len(evicted) % 4 < 3:
            other._max_size = 0
            assert other.evict().objects == 1
        evicted.append(1)

    monkeypatch.setattr(other, "_tidy", evict)
    assert other.read_entry(key(1))[1] == noise(SIZE, 1)
    assert other.get(digest_of(noise(SIZE, 2))) == noise(SIZE, 2)
    assert len(evicted) == 8


_ENDS = """
import sys
if sys.argv[2] == "loaded":
    import concurrent.futures.thread
from casstore.digest import Key, digest_of
from casstore.repo.repository import Repository
store = Repository.open(sys.argv[1], max_size=100_000)
store.put_entry(Key(digest_of(b"new")), b"one more")
"""


@pytest.mark.parametrize("pools", ["loaded", "not loaded"])
def test_an_eviction_completes_while_the_program_ends(opened: Open, pools: str) -> None:
    """Also from packs, when no thread can be started any more; nothing is printed."""
    store = opened(max_size=10_000_000)
    put(store, *range(200))
    store.repack()
    assert stored(store) > 200_000
    store.close()
    command = [sys.executable, "-c", _ENDS, str(store.path), pools]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    assert (done.stdout, done.stderr) == ("", "")
    assert stored(store) <= 100_000


# Packs


def test_cap_counts_packs_as_they_are(opened: Open) -> None:
    """What a pack takes counts whole, but for what was put by hand."""
    store = opened(max_size=100_000)
    put(store, *range(10))
    store.repack()
    assert store.local.index.evictable() == stored(store) == store.sizes().stored
    store.put(noise(SIZE, 3))
    (info,) = [info for info in store.objects() if info.kept]
    assert store.local.index.evictable() == stored(store) - info.stored


def test_evicting_from_a_pack_rescues_what_was_used_lately(opened: Open, folder_url: str) -> None:
    """The pack goes, what was used longest ago with it, and the rest lies in a new one, as it was."""
    store = opened(max_size=100_000)
    put(store, *range(10))
    store.put(noise(SIZE, 0))
    store.repack()
    (before,) = files(store.path, "packs")
    store.push(folder_url)
    rows = {info.digest: (info.used, info.kept) for info in store.objects()}
    total = stored(store)
    store._max_size = 6000
    report = store.evict()
    (after,) = files(store.path, "packs")
    assert after != before
    gone = 10 - len(here(store))
    assert here(store) == [0, *range(1 + gone, 10)]
    assert (report.objects, report.entries) == (gone, 0)
    assert report.bytes == total - stored(store)
    assert store.local.index.evictable() <= 6000
    assert gone == 5
    assert {info.digest: (info.used, info.kept) for info in store.objects()} == {
        digest: row for digest, row in rows.items() if store.has(digest)
    }
    assert answers(store) == {key(number): noise(SIZE, number) for number in range(10)}
    store.flush()  # what came in had others evicted, and a file that goes is missing
    assert store.verify().failures == ()


def test_evicting_from_packs_alone_ends_under_the_cap(opened: Open) -> None:
    """Whatever the cap, a store of packs comes under it; in the end nothing is left, nor a dictionary."""
    store = opened(max_size=10_000_000)
    for number in range(1100):
        store.put_entry(key(number), b"answer %d: " % number + noise(30, number).hex().encode())
    store.repack()
    assert store.local.index.current_dictionary() is not None
    for take in (lambda total: total - 1, lambda total: total - 10_000, lambda _: 1):
        cap = take(stored(store))
        store._max_size = cap
        report = store.evict()
        assert stored(store) == store.local.index.evictable() <= cap
        assert report.objects > 0
        assert None not in answers(store).values()
        store.local.index._uses.clear()
        assert store.verify().failures == ()
    assert files(store.path, "packs") == {}
    assert stored(store) == 0


def test_several_packs_leave_one(opened: Open) -> None:
    """What stays of several packs comes together."""
    store = opened(max_size=100_000)
    for number in range(0, 16, 4):
        put(store, *range(number, number + 4))
        store.repack()
        with store.local.index.writing() as connection:  # as if every other one was used long ago
            for each in range(number, number + 4, 2):
                digest = bytes.fromhex(digest_of(noise(SIZE, each)))
                connection.execute("UPDATE objects SET used = 0 WHERE digest = ?", (digest,))
    store._max_size = 10_000
    store.evict()
    assert here(store) == list(range(1, 16, 2))
    assert len(files(store.path, "packs")) <= 2
    assert store.verify().failures == ()


def test_dead_bytes_go_first(opened: Open) -> None:
    """A store that is above its cap for what was deleted from a pack loses nothing else."""
    store = opened(max_size=100_000)
    put(store, *range(10))
    store.repack()
    for number in range(6):
        store.delete(digest_of(noise(SIZE, number)), force=True)
    store._max_size = 6000
    assert store.evict().objects == 0
    assert here(store) == [6, 7, 8, 9]
    assert store.local.index.evictable() == stored(store) <= 5400


def test_dictionary_in_use_is_never_evicted(opened: Open) -> None:
    """However long ago it was stored, what packs here need stays."""
    store = opened(max_size=10_000_000)
    for number in range(1100):
        store.put_entry(key(number), b"answer %d: " % number + noise(30, number).hex().encode())
    store.repack()
    dictionary = store.local.index.current_dictionary()
    assert dictionary is not None
    with store.local.index.writing() as connection:
        row = (bytes.fromhex(dictionary),)
        connection.execute("UPDATE objects SET used = 0 WHERE digest = ?", row)
    put(store, *range(2000, 2050))
    store.local.index._uses.clear()
    store._max_size = store.local.index.evictable() - 100
    store.evict()
    assert store.has(dictionary)
    assert store.verify().failures == ()


# The plan


def test_plan_takes_no_more_than_it_needs() -> None:
    """The plan goes down the order, passes over what is spared, and stops when a tenth is free."""
    digests = [digest_of(bytes([number])) for number in range(5)]
    order = [Candidate(digest, 100, number < 2) for number, digest in enumerate(digests)]
    plan = plan_evict(order, {}, 500, 350, {digests[1]})
    assert plan.objects == (digests[0], digests[2])
    assert (plan.stored, plan.lost, plan.count) == (200, (digests[2],), 2)
    assert plan_evict(order, {}, 500, 500, ()).is_empty
    assert plan_evict(order, {}, 500, 1, digests).is_empty


def share(number: int, *, members: int, living: int | None = None) -> Share:
    """Return a pack of objects of 100 bytes, some of which are dead."""
    living = members if living is None else living
    pack = PackInfo(digest_of(b"pack %d" % number), members * (100 + TOC_ENTRY), members, None, here=True)
    return Share(number, pack, living, living * 100)


def in_pack(pack: int, *numbers: int) -> list[Candidate]:
    """Return objects of 100 bytes that lie in a pack."""
    return [Candidate(digest_of(b"%d" % number), 100, held=True, pack=pack) for number in numbers]


def test_plan_leaves_a_pack_alone_until_half_of_it_goes() -> None:
    """What is in a pack frees nothing before it is worth rewriting; then all that was to go by then goes."""
    order = [*in_pack(1, 0, 1, 2), *in_pack(2, 10, 11), Candidate(digest_of(b"loose"), 100, held=True)]
    order += [*in_pack(1, 3, 4), *in_pack(2, 12, 13)]
    packs = {1: share(1, members=10), 2: share(2, members=10)}
    plan = plan_evict(order, packs, 2900, 2500, ())
    assert plan.objects == (digest_of(b"loose"),)
    (thinning,) = plan.packs
    assert thinning.pack == packs[1].pack.digest
    assert thinning.dropped == tuple(digest_of(b"%d" % number) for number in range(5))
    assert (plan.stored, plan.count) == (100 + 5 * (100 + TOC_ENTRY), 6)


def test_plan_takes_what_is_dead_first() -> None:
    """A pack of which half is dead is rewritten before anything that lives goes."""
    packs = {1: share(1, members=10, living=4), 2: share(2, members=10, living=0)}
    order = in_pack(1, 0, 1, 2, 3)
    plan = plan_evict(order, packs, 2800, 2000, ())
    assert {each.pack for each in plan.packs} == {packs[1].pack.digest, packs[2].pack.digest}
    assert plan.count == 0
    assert plan.stored == 16 * (100 + TOC_ENTRY)


def test_plan_rewrites_any_pack_where_nothing_else_helps() -> None:
    """Where too few may go, the packs that free most are rewritten, until it is enough."""
    packs = {1: share(1, members=10), 2: share(2, members=10), 3: share(3, members=10)}
    order = [*in_pack(1, 0), *in_pack(2, 10, 11, 12)]
    plan = plan_evict(order, packs, 4200, 4100, ())
    assert [each.pack for each in plan.packs] == [packs[2].pack.digest, packs[1].pack.digest]
    assert plan.count == 4
    assert plan_evict(in_pack(1, 0), packs, 4200, 4100, {digest_of(b"0")}).is_empty
