"""Collection: garbage is doomed, deleted when it was for long enough, and what is needed is never missed."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from casstore.backends.open import open_backend
from casstore.backends.s3 import S3Backend
from casstore.catalog.records import Doomed, Replaces
from casstore.catalog.segment import write_merged
from casstore.digest import Digest, Key, digest_of
from casstore.errors import BackendError
from casstore.events import Advanced, Event, Finished, Started
from casstore.repo.plan import Failure
from casstore.repo.recover import add_segment
from casstore.repo.repository import Repository
from casstore.store.pack import read_pack
from tests.clock import HOUR, Clock, running_clock
from tests.conftest import Bucket
from tests.doubles import Crash, CrashingBackend, FaultyBackend
from tests.s3 import Server
from tests.stores import answer, answers, damage, files, fill, key, noise, record_remote
from tests.unit.repo.conftest import Open

DAY = 25
"""Hours after which what was doomed may go."""


@pytest.fixture
def clock() -> Iterator[Clock]:
    """Yield a clock that stands unless it is set forward."""
    with running_clock() as found:
        yield found


@pytest.fixture
def remote(tmp_path: Path) -> Path:
    """Return the folder behind ``folder_url``."""
    return tmp_path / "remote"


def pushed(store: Repository, url: str, pushes: int) -> None:
    """Push ten entries, and ten more, and so on."""
    for number in range(pushes):
        fill(store, range(10 * number, 10 * number + 10))
        assert store.push(url).failures == ()


def count(remote: Path) -> dict[str, int]:
    """Return how many files of each kind there are."""
    return {folder: len(files(remote, folder)) for folder in ("manifest", "packs", "objects")}


def check(opened: Open, url: str, expected: Mapping[Key, bytes | None], *stores: Repository) -> None:
    """Check that a newcomer and others get everything."""
    newcomer = opened(f"newcomer-{os.urandom(4).hex()}")
    for each in (newcomer, *stores):
        assert each.pull(url).failures == ()
        assert answers(each) == expected
        assert each.push(url).entries == 0
        assert each.verify().failures == ()


def test_what_pushes_merged_goes_after_the_grace(
    store: Repository, opened: Open, folder_url: str, remote: Path, clock: Clock
) -> None:
    """Then one segment and one pack are left; a third collection finds nothing to do."""
    other = opened("other")
    pushed(store, folder_url, 20)
    other.pull(folder_url)
    before = count(remote)
    first = store.gc(folder_url)
    assert (first.deleted, first.missing, first.failures) == (0, 0, ())
    assert count(remote)["packs"] >= before["packs"] == 20
    clock.forward(DAY, remote)
    plan = store.gc(folder_url, dry_run=True)
    second = store.gc(folder_url)
    assert (plan.deleted, plan.bytes) == (second.deleted, second.bytes)
    assert second.deleted == sum(before.values())
    assert count(remote) == {"manifest": 1, "packs": 1, "objects": 0}
    assert store.gc(folder_url).requests == {"LIST": 3}
    check(opened, folder_url, answers(store), other)


def test_requests_of_a_collection(
    store: Repository, opened: Open, bucket: Bucket, requests_log: Server
) -> None:
    """Three LISTs where there is nothing to do; to doom, a pack and a segment; to delete, one each."""
    pushed(store, bucket.url, 4)
    requests_log.clear()
    report = store.gc(bucket.url)
    assert requests_log.verbs() == report.requests
    assert report.requests["LIST"] == 3
    assert report.requests.get("PUT", 0) <= 2
    waiting = report.waiting + report.doomed
    requests_log.clear()
    assert store.gc(bucket.url).requests == requests_log.verbs() == {"LIST": 3}
    requests_log.clear()
    report = store.gc(bucket.url, grace=-10 * HOUR)
    assert report.requests == requests_log.verbs() == {"LIST": 6, "DELETE": waiting}
    check(opened, bucket.url, answers(store))


@pytest.mark.parametrize("has", [True, False], ids=["who has all", "who has nothing"])
def test_dry_run_predicts_requests_and_bytes(
    store: Repository,
    opened: Open,
    bucket: Bucket,
    requests_log: Server,
    monkeypatch: pytest.MonkeyPatch,
    *,
    has: bool,
) -> None:
    """To doom, merge and delete, and to find nothing to do: as the server counts them."""
    monkeypatch.setattr("casstore.store.dictionaries.TRAINED_ON", 100)
    monkeypatch.setattr("casstore.repo.packing.TRAINED_ON", 100)
    fill(store, range(120))
    store.push(bucket.url)  # with a dictionary
    for number in (200, 300):
        other = opened(f"other-{number}")
        fill(other, range(10 * number, 10 * number + 10))
        other.push(bucket.url)
    collector = store if has else opened("bare")
    if has:
        store.pull(bucket.url)
    seen = []
    for grace in (DAY * HOUR, -DAY * HOUR, DAY * HOUR):
        plan = collector.gc(bucket.url, grace=grace, dry_run=True)
        requests_log.clear()
        report = collector.gc(bucket.url, grace=grace)
        assert plan.requests == report.requests == requests_log.verbs()
        assert plan.moved == pytest.approx(report.moved, rel=0.1)  # answers so small are mostly digests
        assert replace(plan, requests={}, seconds=0, moved=0) == replace(
            report, requests={}, seconds=0, moved=0
        )
        seen.append((report.repacked > 0, report.deleted > 0))
    assert seen == [(True, False), (False, True), (False, False)]
    check(opened, bucket.url, answers(store) | answers(other))


def test_dry_run_predicts_a_rescue(
    store: Repository, opened: Open, folder_url: str, remote: Path, clock: Clock
) -> None:
    """What became needed is moved, and what it lay in goes at once."""
    pushed(store, folder_url, 1)
    packs = [Digest(Path(name).stem) for name in files(remote, "packs")]
    hostile = add_segment(store.local, [Doomed("pack", pack, 0) for pack in packs])
    store.remote(folder_url).publish(hostile)
    clock.forward(DAY, remote)
    plan = store.gc(folder_url, dry_run=True)
    report = store.gc(folder_url)
    assert (plan.repacked, plan.deleted, plan.requests) == (1, 1, report.requests)
    assert (report.repacked, report.deleted, report.waiting) == (1, 1, 0)


def test_dry_run_changes_nothing(store: Repository, folder_url: str, remote: Path, clock: Clock) -> None:
    """It tells what would be doomed, folded and deleted."""
    pushed(store, folder_url, 5)
    clock.forward(DAY, remote)
    before = {folder: files(remote, folder) for folder in ("manifest", "packs", "objects")}
    report = store.gc(folder_url, dry_run=True)
    assert report.deleted > 0
    assert before == {folder: files(remote, folder) for folder in before}


def test_what_was_forgotten_goes(
    store: Repository, opened: Open, folder_url: str, remote: Path, clock: Clock
) -> None:
    """Out of packs that hold what is needed too, and large objects with files of their own."""
    pushed(store, folder_url, 1)
    store.put_entry(key(100), noise(1 << 20))
    store.push(folder_url)
    other = opened("other")
    other.pull(folder_url)
    for number in (*range(8), 100):
        store.forget(key(number))
    store.push(folder_url)
    for _ in range(2):
        clock.forward(DAY, remote)
        report = store.gc(folder_url)
        assert (report.failures, report.missing) == ((), 0)
    clock.forward(DAY, remote)
    store.gc(folder_url)
    assert count(remote) == {"manifest": 1, "packs": 1, "objects": 0}
    check(opened, folder_url, {key(number): answer(number) for number in (8, 9)}, other)


def test_what_is_only_forgotten_here_stays(
    store: Repository, opened: Open, folder_url: str, remote: Path, clock: Clock
) -> None:
    """What was not pushed is nobody's word but this store's."""
    pushed(store, folder_url, 1)
    for number in range(10):
        store.forget(key(number))
    for _ in range(3):
        clock.forward(DAY, remote)
        assert store.gc(folder_url).deleted == 0
    other = opened("other")
    other.pull(folder_url)
    assert answers(other) == {key(number): answer(number) for number in range(10)}


def test_what_an_interrupted_push_left_goes(
    store: Repository,
    opened: Open,
    folder_url: str,
    remote: Path,
    clock: Clock,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Not before it is older than the grace, and not before it was doomed for as long."""
    pushed(store, folder_url, 1)
    clock.forward(DAY, remote)
    dead = opened("dead")
    dead.put_entry(key(200), b"never told of")
    dead.put_entry(key(201), noise(1 << 20))
    dead.remote(folder_url).backend = CrashingBackend(dead.remote(folder_url).backend, 2)
    with pytest.raises(Crash):
        dead.push(folder_url)
    clock.stamp(remote)
    assert store.gc(folder_url).doomed == 0
    clock.forward(DAY, remote)
    assert store.gc(folder_url).doomed == 2
    assert count(remote)["objects"] == 1
    clock.forward(DAY, remote)
    assert store.gc(folder_url).deleted == 2
    assert count(remote)["objects"] == 0
    again = opened("again")
    again.put_entry(key(201), noise(1 << 20))
    again.push(folder_url)
    check(opened, folder_url, answers(store) | {key(201): noise(1 << 20)}, store)


def test_what_became_needed_is_rescued(
    store: Repository, opened: Open, folder_url: str, remote: Path, clock: Clock
) -> None:
    """Somebody who did not know that it is doomed told of it: it is moved, and then the rest goes."""
    pushed(store, folder_url, 1)
    other = opened("other")
    other.pull(folder_url)
    for number in range(10):
        store.forget(key(number))
    store.push(folder_url)
    clock.forward(DAY, remote)
    assert store.gc(folder_url).doomed > 0
    other.put_entry(key(300), answer(3))
    unaware = add_segment(other.local, [other.entry(key(300))])  # as if its push had begun before
    other.remote(folder_url).publish(unaware)
    store.local.backend.delete(store.local.objects.name(digest_of(answer(3))))
    clock.forward(DAY, remote)
    report = store.gc(folder_url)
    assert (report.repacked, report.missing, report.failures) == (1, 0, ())
    assert report.deleted > 0
    newcomer = opened("newcomer")
    assert newcomer.pull(folder_url).failures == ()
    assert answers(newcomer) == {key(300): answer(3)}
    assert newcomer.sizes().objects == 1


def test_an_object_of_its_own_that_became_needed_stays(
    store: Repository, opened: Open, folder_url: str, remote: Path, clock: Clock
) -> None:
    """It can have no other name."""
    digest = store.put(noise(1 << 20))
    store.push(folder_url)
    store.remote(folder_url).publish(add_segment(store.local, [Doomed("object", digest, 0)]))
    clock.forward(DAY, remote)
    assert store.gc(folder_url).missing == 0
    late = opened("late")
    late.pull(folder_url)
    assert late.get(digest) == noise(1 << 20)


def test_no_segment_goes_that_nothing_stands_for(
    store: Repository, opened: Open, folder_url: str, remote: Path, clock: Clock
) -> None:
    """Whoever calls it doomed."""
    pushed(store, folder_url, 1)
    ((name, _),) = files(remote, "manifest").items()
    segment = Digest(Path(name).stem)
    store.remote(folder_url).publish(add_segment(store.local, [Doomed("segment", segment, 0)]))
    clock.forward(DAY, remote)
    other = opened("other")
    other.gc(folder_url)
    check(opened, folder_url, answers(store), other)


@pytest.mark.parametrize("late", [False, True], ids=["who knew", "a newcomer"])
def test_whoever_says_that_something_was_doomed_long_ago_is_not_believed(
    store: Repository, opened: Open, folder_url: str, remote: Path, clock: Clock, *, late: bool
) -> None:
    """It was doomed when the file that says so was written: who relies on it has as long as ever."""
    pushed(store, folder_url, 1)
    store.put_entry(key(100), noise(1 << 20))
    store.push(folder_url)
    clock.forward(10 * DAY, remote)
    victims = [Doomed("segment", Digest(Path(name).stem), 0) for name in files(remote, "manifest")]
    victims += [Doomed("pack", Digest(Path(name).stem), 0) for name in files(remote, "packs")]
    victims += [Doomed("object", Digest(Path(name).stem), 0) for name in files(remote, "objects")]
    lies = [Replaces(victim.digest) for victim in victims if victim.what == "segment"]
    with store.local.objects.spooled() as path:  # it hides them all, and what they tell of
        hostile = write_merged([lie.segment for lie in lies], victims, [], path, store.local.codec)
        store.remote(folder_url).publish_file(path, hostile.digest)
    clock.stamp(remote)
    before = count(remote)
    for hours in (1, 22, 2):
        collector = opened("newcomer") if late else store
        assert collector.gc(folder_url).deleted == 0
        assert sum(count(remote).values()) >= sum(before.values())
        clock.forward(hours, remote)
    assert collector.gc(folder_url).deleted > 0


def test_a_busy_remote_is_collected_all_the_same(
    store: Repository, opened: Open, folder_url: str, remote: Path, clock: Clock
) -> None:
    """What is doomed comes into a new segment with each push; who reads them knows since when it is."""
    collector = opened("collector")
    pushed(store, folder_url, 3)
    collector.gc(folder_url)
    for hour in range(48):
        if hour % 4 == 0:
            fill(store, range(1000 + hour, 1002 + hour))
            store.push(folder_url)
        clock.forward(1, remote)
    assert collector.gc(folder_url).deleted > 0


def test_a_dictionary_in_use_stays(
    store: Repository, opened: Open, folder_url: str, remote: Path, clock: Clock
) -> None:
    """No entry leads to it, but packs do."""
    fill(store, range(1000))
    store.push(folder_url)
    assert count(remote) == {"manifest": 1, "packs": 1, "objects": 1}
    for _ in range(3):
        clock.forward(DAY, remote)
        assert store.gc(folder_url).doomed == 0
    check(opened, folder_url, answers(store))


def test_what_is_not_ours_stays(store: Repository, folder_url: str, remote: Path, clock: Clock) -> None:
    """Files that some tool left, also among ours."""
    pushed(store, folder_url, 1)
    foreign = [
        remote / "packs" / "notes.txt",
        remote / "objects" / f"{'a' * 64}.zst",
        remote / "manifest" / "README",
        remote / "elsewhere" / f"{'b' * 64}.zst",
    ]
    for path in foreign:
        path.parent.mkdir(exist_ok=True)
        path.write_text("not ours")
    for _ in range(3):
        clock.forward(DAY, remote)
        store.gc(folder_url, grace=0)
    assert all(path.exists() for path in foreign)


def test_a_clock_that_is_ahead_deletes_nothing_early(store: Repository, bucket: Bucket, clock: Clock) -> None:
    """The server's clock counts, as its answers tell it."""
    pushed(store, bucket.url, 3)
    store.gc(bucket.url)
    clock.forward(1000)
    assert store.gc(bucket.url).deleted == 0
    backend = open_backend(bucket.url)
    assert backend.now() > clock.now() // 1_000_000 - HOUR  # nothing was asked of it yet
    list(backend.list("manifest"))
    assert backend.now() < clock.now() // 1_000_000 - 999 * HOUR
    backend.close()


def test_a_server_without_a_clock(bucket: Bucket, monkeypatch: pytest.MonkeyPatch, clock: Clock) -> None:
    """Where answers have no date, or none that can be read, this machine's clock has to do."""
    backend = S3Backend(bucket.name)
    for headers in ({}, {"date": "yesterday"}):
        backend._answered({"ResponseMetadata": {"HTTPHeaders": headers}})
    assert abs(backend.now() - clock.now() // 1_000_000) < HOUR
    backend.close()


def test_a_grace_of_nothing_deletes_what_was_doomed_before(
    store: Repository, opened: Open, folder_url: str, remote: Path, clock: Clock
) -> None:
    """And dooms what is garbage now for the next one."""
    pushed(store, folder_url, 4)
    store.gc(folder_url, grace=0)
    clock.forward(0.001, remote)
    store.gc(folder_url, grace=0)
    assert count(remote) == {"manifest": 1, "packs": 1, "objects": 0}
    check(opened, folder_url, answers(store))


def test_what_cannot_be_read_stops_a_collection(
    store: Repository, opened: Open, folder_url: str, remote: Path, clock: Clock
) -> None:
    """What a damaged segment tells of is needed, perhaps."""
    pushed(store, folder_url, 1)
    fill(store, range(100, 400))
    store.push(folder_url)
    clock.forward(DAY, remote)
    other = opened("other")
    for path in sorted((remote / "manifest").iterdir()):
        damage(path)
    report = other.gc(folder_url)
    assert (len(report.failures), report.doomed, report.deleted) == (2, 0, 0)


def test_what_is_missing_is_told_and_sent_again(
    store: Repository, opened: Open, folder_url: str, remote: Path
) -> None:
    """A pack that somebody removed is noticed, and who has its objects sends them again."""
    pushed(store, folder_url, 1)
    for path in (remote / "packs").rglob("*.zst"):
        path.unlink()
    assert opened("other").gc(folder_url).missing == 10
    assert store.gc(folder_url).missing == 10
    assert store.push(folder_url).objects == 10
    assert store.gc(folder_url).missing == 0
    check(opened, folder_url, answers(store))


@pytest.mark.parametrize("length", [0, 100, None], ids=["emptied", "cut", "grown"])
def test_a_pack_of_another_length_is_told_and_sent_again(
    store: Repository, opened: Open, folder_url: str, remote: Path, length: int | None
) -> None:
    """The listing tells that it is damaged: its objects count as missing, and who has them mends it."""
    pushed(store, folder_url, 1)
    ((name, content),) = files(remote, "packs").items()
    (remote / name).write_bytes(content + b"more" if length is None else content[:length])
    size = len(content) + 4 if length is None else length
    for collector, dry_run in ((opened("other"), True), (opened("other"), False), (store, False)):
        report = collector.gc(folder_url, dry_run=dry_run)
        assert (report.missing, report.doomed, report.deleted) == (10, 0, 0)
        assert report.failures == (
            Failure(name, f"it is damaged: it has {size:,} bytes, and had {len(content):,}"),
        )
    assert store.push(folder_url).objects == 10
    assert files(remote, "packs") == {name: content}
    assert (store.gc(folder_url).missing, store.gc(folder_url).failures) == (0, ())
    check(opened, folder_url, answers(store))


@pytest.mark.parametrize("cut", [0, 1])
def test_what_lies_in_a_cut_pack_and_in_another_stays_in_the_other(
    opened: Open, tmp_path: Path, clock: Clock, cut: int
) -> None:
    """The cut one is the one that goes, whichever of both a newcomer would look in."""
    together, names = tmp_path / "together", []
    for number in range(2):
        store, remote = opened(f"store {number}"), tmp_path / f"remote{number}"
        fill(store, [*range(5), 100 + number])
        store.push(remote.as_uri())
        shutil.copytree(remote, together, dirs_exist_ok=True)
        names.append(next(iter(files(remote, "packs"))))
    path, url = together / names[cut], together.as_uri()
    path.write_bytes(path.read_bytes()[:-1])
    collector = opened("collector")
    assert collector.gc(url).missing == 1  # what lay there alone
    fill(collector, [100 + cut])
    collector.push(url)
    (failure,) = collector.gc(url).failures
    assert failure.name == names[cut]
    assert collector.gc(url).failures == ()
    for _ in range(2):
        clock.forward(DAY, together)
        collector.gc(url)
    assert not path.exists()
    collector.pull(url)
    check(opened, url, answers(collector))
    assert answers(collector).keys() == {key(number) for number in [*range(5), 100, 101]}


def test_nothing_goes_while_something_needed_is_missing(
    store: Repository, opened: Open, folder_url: str, remote: Path, clock: Clock
) -> None:
    """A pack that another stands for may hold the last copy, once that other one is lost."""
    fill(store, range(10))
    store.push(folder_url)
    (first,) = files(remote, "packs")
    fill(store, range(10, 20))
    store.push(folder_url)
    (second,) = files(remote, "packs").keys() - {first}
    (remote / second).unlink()
    clock.forward(DAY, remote)
    report = opened("other").gc(folder_url, grace=0)
    assert (report.missing, report.doomed, report.deleted) == (20, 0, 0)
    assert first in files(remote, "packs")
    store.gc(folder_url)
    store.push(folder_url)
    check(opened, folder_url, answers(store))


@pytest.mark.parametrize("left", range(3))
def test_what_lies_in_three_packs_is_missing_only_without_all(
    opened: Open, tmp_path: Path, left: int
) -> None:
    """Whichever of them is left, its objects are found in it."""
    together, names = tmp_path / "together", []
    for number in range(3):
        store, remote = opened(f"store {number}"), tmp_path / f"remote{number}"
        fill(store, [*range(5), 100 + number])
        store.push(remote.as_uri())
        store.forget(key(100 + number))
        store.push(remote.as_uri())
        shutil.copytree(remote, together, dirs_exist_ok=True)
        names.append(next(iter(files(remote, "packs"))))
    for number in set(range(3)) - {left}:
        (together / names[number]).unlink()
    assert opened("collector").gc(together.as_uri(), dry_run=True).missing == 0


def test_what_was_lost_and_sent_again_in_another_pack_is_found_there(
    store: Repository, opened: Open, folder_url: str, remote: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The old pack stays told of, by a record that others read last: it is doomed, and hinders nobody."""
    monkeypatch.setattr("casstore.repo.plan_merge.RATIO", 0)  # as where its segment is too large to be folded
    pushed(store, folder_url, 1)
    ((name, _),) = files(remote, "packs").items()
    lost = read_pack(remote / name, Digest(Path(name).stem))
    (remote / name).unlink()
    assert store.gc(folder_url).missing == 10
    fill(store, range(10, 15))
    assert store.push(folder_url).objects == 15
    store.remote(folder_url).publish(add_segment(store.local, [lost]))
    plan = store.gc(folder_url, dry_run=True)
    report = store.gc(folder_url)
    assert (report.missing, report.requests) == (0, plan.requests)
    check(opened, folder_url, answers(store), store)
    assert store.gc(folder_url).requests == {"LIST": 3}


def test_what_is_due_stays_while_something_needed_is_missing(
    store: Repository, opened: Open, folder_url: str, remote: Path, clock: Clock
) -> None:
    """It was doomed when all was well; it goes when all is well again."""
    pushed(store, folder_url, 4)
    store.gc(folder_url)
    (live,) = files(remote, "packs").keys() - dead_packs(store, folder_url)
    lost = (remote / live).read_bytes()
    clock.forward(DAY, remote)
    (remote / live).unlink()
    before = {folder: files(remote, folder) for folder in ("manifest", "packs")}
    report = opened("other").gc(folder_url)
    assert (report.missing, report.deleted, report.waiting) == (40, 0, sum(map(len, before.values())) - 1)
    assert before == {folder: files(remote, folder) for folder in before}
    (remote / live).write_bytes(lost)
    assert opened("other").gc(folder_url).deleted == report.waiting


def dead_packs(store: Repository, url: str) -> set[str]:
    """Return the names of the packs of a remote that are doomed."""
    remote = store.remote(url)
    return {remote.objects().pack_name(record.digest) for record in remote.tracking.doomed()}


def test_nothing_goes_while_the_object_of_an_entry_is_nowhere(
    store: Repository, opened: Open, folder_url: str, remote: Path, clock: Clock
) -> None:
    """No segment tells of it; what none tells of may be it."""
    pushed(store, folder_url, 4)
    store.gc(folder_url)
    other = opened("other")
    other.put_entry(key(900), b"nowhere")
    other.remote(folder_url).publish(add_segment(other.local, [other.entry(key(900))]))
    clock.forward(DAY, remote)
    report = store.gc(folder_url)
    assert (report.missing, report.doomed, report.deleted) == (1, 0, 0)
    other.gc(folder_url)
    other.push(folder_url)
    assert store.gc(folder_url).deleted > 0


def test_what_is_lost_between_plan_and_deletion_stops_the_deletion(
    store: Repository, opened: Open, folder_url: str, remote: Path, clock: Clock
) -> None:
    """The second look is as careful as the first."""
    pushed(store, folder_url, 4)
    store.gc(folder_url)
    (live,) = files(remote, "packs").keys() - dead_packs(store, folder_url)
    clock.forward(DAY, remote)
    backend = record_remote(store, folder_url)
    listed = backend.list

    def losing(folder: str) -> Iterator[object]:
        if backend.names("list").count("manifest") == 2:
            (remote / live).unlink(missing_ok=True)
        return listed(folder)

    backend.list = losing  # type: ignore[method-assign,assignment]
    report = store.gc(folder_url)
    assert (report.deleted, backend.names("delete")) == (0, [])


@pytest.mark.parametrize("verb", ["gc", "push"])
def test_a_dictionary_that_cannot_be_sent_is_sent_by_what_comes_next(
    store: Repository, opened: Open, folder_url: str, remote: Path, monkeypatch: pytest.MonkeyPatch, verb: str
) -> None:
    """An error of the remote ends a collection; what it learnt by then stays known."""
    monkeypatch.setattr("casstore.store.dictionaries.TRAINED_ON", 100)
    monkeypatch.setattr("casstore.repo.packing.TRAINED_ON", 100)
    fill(store, range(120))
    store.push(folder_url)
    (dictionary,) = (remote / name for name in files(remote, "objects"))
    damage(dictionary)
    backend = store.remote(folder_url)
    faulty = FaultyBackend(backend.backend)
    backend.backend = faulty
    faulty.fail("write")
    with pytest.raises(BackendError):
        store.gc(folder_url)
    fill(store, range(120, 130))
    assert getattr(store, verb)(folder_url).failures == ()
    store.push(folder_url)
    check(opened, folder_url, answers(store), store)


@pytest.mark.parametrize("harm", ["gone", "bad"])
def test_a_lost_dictionary_is_sent_again(
    store: Repository, opened: Open, folder_url: str, remote: Path, harm: str
) -> None:
    """A collection reads the dictionaries in use, and mends one from here, or tells of all that needs it."""
    fill(store, range(1200))
    store.push(folder_url)
    (dictionary,) = (remote / name for name in files(remote, "objects"))
    if harm == "gone":
        dictionary.unlink()
    else:
        damage(dictionary)
    early, bare = opened("early"), opened("bare")
    for _ in range(2):
        assert len(early.pull(folder_url).failures) == 1200
    told = bare.gc(folder_url)
    assert ([failure.name[:8] for failure in told.failures], told.missing, told.here) == (
        ["objects/"],
        1200,
        0,
    )
    if harm == "gone":
        predicted = store.gc(folder_url, dry_run=True)
        assert (predicted.missing, predicted.requests) == (0, {"LIST": 3, "PUT": 2})
    mended = store.gc(folder_url)
    assert (mended.failures, mended.missing) == ((), 0)
    assert mended.requests == {"LIST": 3, "PUT": 2} | ({} if harm == "gone" else {"GET": 1})
    check(opened, folder_url, answers(store), early)


@pytest.mark.parametrize(("harm", "moved", "missing"), [("packs", 2, 0), ("objects", 0, 220)])
def test_packs_beside_a_damaged_one_are_not_rewritten_each_time(
    store: Repository,
    opened: Open,
    folder_url: str,
    remote: Path,
    monkeypatch: pytest.MonkeyPatch,
    harm: str,
    moved: int,
    missing: int,
) -> None:
    """What can be moved is, once; the damaged one stays and is told of, and who has its objects mends it.

    Without their dictionary, objects count as missing, and nothing moves.
    """
    monkeypatch.setattr("casstore.store.dictionaries.TRAINED_ON", 100)
    monkeypatch.setattr("casstore.repo.packing.TRAINED_ON", 100)
    fill(store, range(200))  # with a dictionary
    store.push(folder_url)
    harmed = remote / next(iter(files(remote, harm)))
    for number in (2, 3):
        without = opened(f"without-{number}")
        fill(without, range(100 * number, 100 * number + 10))
        without.push(folder_url)
    damage(harmed)
    bare = opened("bare")
    first = bare.gc(folder_url)
    assert (len(first.failures), first.repacked, first.missing) == (1, moved, missing)
    for _ in range(2):
        before = files(remote, "packs"), files(remote, "manifest")
        again = bare.gc(folder_url)
        assert [failure.name for failure in again.failures] == [failure.name for failure in first.failures]
        assert (again.repacked, again.doomed, again.folded) == (0, 0, 0)
        assert (files(remote, "packs"), files(remote, "manifest")) == before
    assert store.gc(folder_url).failures == ()
    check(opened, folder_url, answers(bare) | answers(store), store)


def test_a_dictionary_that_is_nowhere_stops_nobody_who_has_the_objects(
    store: Repository,
    opened: Open,
    folder_url: str,
    remote: Path,
    clock: Clock,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A push sends them again, packed without it; then the pack that needs it is garbage."""
    monkeypatch.setattr("casstore.store.dictionaries.TRAINED_ON", 100)
    monkeypatch.setattr("casstore.repo.packing.TRAINED_ON", 100)
    fill(store, range(200))
    store.push(folder_url)
    for number in range(150):
        store.forget(key(number))
    store.push(folder_url)
    ((name, _),) = files(remote, "objects").items()
    damage(remote / name)
    (store.path / name).unlink()
    store.close()
    again = opened("store")
    clock.forward(DAY, remote)
    told = again.gc(folder_url)
    assert (len(told.failures), told.missing, told.here) == (1, 50, 50)
    assert again.push(folder_url).objects == 50
    newcomer = opened("newcomer")  # before anything is doomed: it must look past the pack that was first
    assert newcomer.pull(folder_url).failures == ()
    assert (again.gc(folder_url).missing, again.gc(folder_url).doomed) == (0, 0)
    check(opened, folder_url, {key(number): answer(number) for number in range(150, 200)})


def test_an_empty_remote(store: Repository, opened: Open, folder_url: str) -> None:
    """There is nothing to collect."""
    opened("remote")
    report = store.gc(folder_url)
    assert (report.deleted, report.doomed, report.missing, report.failures) == (0, 0, 0, ())


def test_a_machine_that_has_nothing_collects(
    store: Repository, opened: Open, folder_url: str, remote: Path, clock: Clock
) -> None:
    """It fetches what it folds, and keeps none of it."""
    pushed(store, folder_url, 7)
    bare = opened("bare")
    report = bare.gc(folder_url)
    assert report.repacked > 1
    assert bare.sizes().objects == 0
    assert not list((bare.path / "tmp").iterdir())
    clock.forward(DAY, remote)
    bare.gc(folder_url)
    assert count(remote) == {"manifest": 1, "packs": 1, "objects": 0}
    check(opened, folder_url, answers(store), store)


def test_two_collections_at_once(
    store: Repository, opened: Open, folder_url: str, remote: Path, clock: Clock
) -> None:
    """Both fold and doom the same; nothing is lost, and later ones leave one of everything."""
    pushed(store, folder_url, 6)
    other = opened("other")
    backend = record_remote(store, folder_url)
    upload = backend.upload

    def overtaken(path: Path, name: str, *, consume: bool = False) -> None:
        backend.upload = upload  # type: ignore[method-assign]
        other.gc(folder_url)
        upload(path, name, consume=consume)

    backend.upload = overtaken  # type: ignore[method-assign]
    store.gc(folder_url)
    for _ in range(3):
        clock.forward(DAY, remote)
        for each in (store, other):
            report = each.gc(folder_url)
            assert (report.missing, report.failures) == (0, ())
    assert count(remote) == {"manifest": 1, "packs": 1, "objects": 0}
    check(opened, folder_url, {key(number): answer(number) for number in range(60)}, store)


def test_a_push_beside_the_last_look(
    store: Repository, opened: Open, folder_url: str, remote: Path, clock: Clock
) -> None:
    """What becomes needed between the plan and the deletion stays."""
    pushed(store, folder_url, 1)
    other = opened("other")
    other.pull(folder_url)
    for number in range(10):
        store.forget(key(number))
    store.push(folder_url)
    clock.forward(DAY, remote)
    store.gc(folder_url)
    clock.forward(DAY, remote)
    backend = record_remote(store, folder_url)
    listed = backend.list
    looks = []

    def looking(folder: str) -> Iterator[object]:
        if folder == "manifest":
            looks.append(folder)
        if len(looks) == 2:
            looks.append("once")
            other.put_entry(key(400), answer(4))
            other.remote(folder_url).publish(add_segment(other.local, [other.entry(key(400))]))
        return listed(folder)

    backend.list = looking  # type: ignore[method-assign,assignment]
    store.gc(folder_url)
    newcomer = opened("newcomer")
    assert newcomer.pull(folder_url).failures == ()
    assert newcomer.read_entry(key(400))[1] == answer(4)


def test_a_segment_that_lies_about_what_it_replaces_hides_and_is_not_believed_here(
    store: Repository, opened: Open, folder_url: str, remote: Path, clock: Clock
) -> None:
    """Who knew the entries keeps them, also when its index is lost."""
    pushed(store, folder_url, 1)
    other = opened("other")
    other.pull(folder_url)
    segments = [Path(name).stem for name in files(remote, "manifest")]
    lie = add_segment(store.local, [Replaces(Digest(segment)) for segment in segments])
    store.remote(folder_url).publish(lie)
    other.pull(folder_url)
    other.rebuild()
    assert answers(other) == answers(store)


def test_events_of_a_collection(store: Repository, folder_url: str, remote: Path, clock: Clock) -> None:
    """What is moved, and then what is deleted, adds up to what was announced."""
    pushed(store, folder_url, 4)
    clock.forward(DAY, remote)
    events: list[Event] = []
    report = store.gc(folder_url, on_event=events.append)
    starts = [event for event in events if isinstance(event, Started)]
    assert sum(start.objects for start in starts) == sum(
        event.objects for event in events if isinstance(event, Advanced)
    )
    assert starts[-1] == Started("gc", report.deleted, report.bytes)
    assert events[-1] == Finished("gc")


def test_what_a_killed_collection_left_is_swept(store: Repository, bucket: Bucket) -> None:
    """The folder of one that was killed a day ago goes with the next push, which it does not hinder."""
    fill(store, range(3))
    old, young = store.local.spool / "gc-old", store.local.spool / "gc-young"
    for folder in (old, young):
        folder.mkdir()
        (folder / "index.sqlite").write_bytes(b"unfinished")
    os.utime(old, (0, time.time() - 25 * 3600))
    store.push(bucket.url)
    assert list(store.local.spool.iterdir()) == [young]
