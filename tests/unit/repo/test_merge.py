"""Small pushes add up: few segments and packs stay, at no request more, and nobody reads anything twice."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar
from unittest import mock

import pytest

from casstore.backends.base import Backend
from casstore.catalog.records import SEGMENT, Doomed
from casstore.catalog.tracking import Tracking
from casstore.digest import Digest, digest_of
from casstore.errors import NotFoundError
from casstore.repo import manifest, merge, plan_merge
from casstore.repo.local import GRACE
from casstore.repo.recover import add_segment
from casstore.repo.remote import Remote
from casstore.repo.repository import Repository
from casstore.store import pack as pack_module
from casstore.store.layout import digest_in
from tests.clock import running_clock
from tests.conftest import Bucket
from tests.doubles import WrappedBackend
from tests.s3 import Server
from tests.stores import answer, answers, damage, files, fill, key, noise, record_remote
from tests.unit.repo.conftest import Open

T = TypeVar("T")

EACH = 10


def push_often(store: Repository, url: str, pushes: range) -> None:
    """Push ten entries, and ten more, and so on."""
    for number in pushes:
        fill(store, range(EACH * number, EACH * number + EACH))
        report = store.push(url)
        assert (report.failures, report.left, report.objects) == ((), 0, EACH)
        assert report.requests["LIST"] == 1
        # A pack and a segment; the marker of a new remote; seldom, a dictionary.
        assert report.requests["PUT"] <= 3 + (number == pushes[0])


def live_segments(store: Repository, url: str) -> set[Digest]:
    """Return the segments of a remote that none stands for."""
    remote = store.remote(url)
    listed = {digest_in(info.name) for info in remote.backend.list("manifest")}
    return listed - remote.tracking.replaced()


def live_packs(store: Repository, url: str) -> set[Digest]:
    """Return the packs of a remote that are not doomed."""
    remote = store.remote(url)
    listed = {digest_in(info.name) for info in remote.backend.list("packs")}
    return listed - {record.digest for record in remote.tracking.doomed()}


def expected(count: int) -> dict[str, bytes | None]:
    """Return what a store has after some pushes."""
    return {key(number): answer(number) for number in range(EACH * count)}


# What a push does


def test_a_push_that_folds_is_three_requests(store: Repository, bucket: Bucket, requests_log: Server) -> None:
    """LIST, a pack and a segment, as a push that does not fold; as predicted."""
    push_often(store, bucket.url, range(1))
    for number in range(1, 7):
        fill(store, range(EACH * number, EACH * number + EACH))
        plan = store.plan_push(bucket.url)
        requests_log.clear()
        report = store.push(bucket.url)
        assert requests_log.verbs() == report.requests == plan.requests == {"LIST": 1, "PUT": 2}
        assert report.objects == len(plan.objects) == EACH
    assert len(live_segments(store, bucket.url)) < 4
    requests_log.clear()
    assert store.push(bucket.url).requests == requests_log.verbs() == {"LIST": 1}


@pytest.mark.parametrize("count", [60, pytest.param(1000, marks=pytest.mark.soak)], ids=["sixty", "thousand"])
def test_a_newcomer_reads_what_is_live_and_nothing_else(
    store: Repository, opened: Open, folder_url: str, count: int
) -> None:
    """After many pushes of ten few segments and packs are left, and these are all that a newcomer fetches."""
    push_often(store, folder_url, range(count))
    segments, packs = live_segments(store, folder_url), live_packs(store, folder_url)
    assert max(len(segments), len(packs)) <= 10
    other = opened("other")
    backend = record_remote(other, folder_url)
    assert other.pull(folder_url).failures == ()
    read = {*backend.names("download"), *backend.names("read_range")}
    assert {digest_in(name) for name in read if name.startswith("manifest/")} == segments
    assert {digest_in(name) for name in read if name.startswith("packs/")} == packs
    assert answers(other) == expected(count)
    assert other.pull(folder_url).requests == {"LIST": 1}
    assert len(files(store.path, "manifest")) == len(segments)
    assert store.verify().failures == other.verify().failures == ()


def test_who_pulls_after_each_push_reads_what_is_new(
    store: Repository, opened: Open, folder_url: str
) -> None:
    """One range of the merged pack, which holds the new objects last, and none of the old ones."""
    other = opened("other")
    for number in range(8):
        push_often(store, folder_url, range(number, number + 1))
        backend = record_remote(other, folder_url)
        report = other.pull(folder_url)
        assert report.objects == EACH
        assert len([call for call in backend.calls if call.name.startswith("packs/")]) == 1
        assert report.bytes < 2000
    assert answers(other) == expected(8)


def test_a_store_that_lost_its_index_has_all(store: Repository, opened: Open, folder_url: str) -> None:
    """The merged segment is here, with all that those held whose files are gone from here."""
    push_often(store, folder_url, range(5))
    store.rebuild()
    assert answers(store) == expected(5)
    report = store.push(folder_url)
    assert (report.objects, report.entries, report.failures) == (0, 0, ())
    assert answers(opened("store")) == expected(5)


def test_tombstones_refreshes_and_objects_put_by_hand_survive(
    store: Repository, opened: Open, folder_url: str
) -> None:
    """Of two claims on one key the one that stands is kept, and a store that meets both agrees."""
    other = opened("other")
    push_often(store, folder_url, range(2))
    other.pull(folder_url)
    digest = store.put(b"by hand")
    store.forget(key(1))
    store.put_entry(key(2), b"refreshed", replace=True, refs=[b"a request"])
    store.push(folder_url)
    push_often(store, folder_url, range(2, 9))
    for late in (other, opened("newcomer")):
        assert late.pull(folder_url).failures == ()
        assert late.get(digest) == b"by hand"
        assert late.get(digest_of(b"a request")) == b"a request"
        assert late.read_entry(key(2))[1] == b"refreshed"
        with pytest.raises(NotFoundError):
            late.entry(key(1))
        assert late.push(folder_url).entries == 0


def test_large_objects_stay_as_they_are(store: Repository, opened: Open, folder_url: str) -> None:
    """Their places are told of in the merged segment."""
    store.put_entry(key(1000), noise(1 << 20))
    store.push(folder_url)
    push_often(store, folder_url, range(6))
    other = opened("other")
    assert other.pull(folder_url).failures == ()
    assert other.read_entry(key(1000))[1] == noise(1 << 20)


def test_merged_packs_get_the_dictionary_that_young_ones_lacked(
    store: Repository, folder_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once enough small objects come together, one is trained."""
    for module in ("casstore.store.dictionaries", "casstore.repo.packing", "casstore.repo.moving"):
        monkeypatch.setattr(f"{module}.TRAINED_ON", 100)
    for number in range(40):
        fill(store, range(EACH * number, EACH * number + EACH))
        assert store.push(folder_url).failures == ()
        assert number > 6 or store.local.index.current_dictionary() is None
    dictionary = store.local.index.current_dictionary()
    assert dictionary is not None
    assert store.remote(folder_url).tracking.sides([dictionary])[dictionary].stays


# Several stores


FEW = 16
"""How many packs a few hundred entries take at most, and twice as many as segments."""


@pytest.mark.parametrize(("pulls", "pushes"), [("never", 60), ("before", 30), ("after", 30)])
def test_two_stores_in_turn_take_four_requests_each(
    store: Repository, opened: Open, folder_url: str, pulls: str, pushes: int
) -> None:
    """Whether they pull or not, and few segments and packs stay."""
    team = [store, opened("other")]
    for number in range(pushes):
        mine, other = team[number % 2], team[1 - number % 2]
        fill(mine, range(EACH * number, EACH * number + EACH))
        reports = [mine.pull(folder_url)] if pulls == "before" and number else []
        reports.append(mine.push(folder_url))
        reports += [other.pull(folder_url)] if pulls == "after" else []
        marker = int(number < 2)  # it is read or written at the first contact
        assert max(sum(report.requests.values()) for report in reports) <= 4 + marker
        assert all(report.failures == () and report.left == 0 for report in reports)
    assert len(live_packs(mine, folder_url)) <= FEW
    assert len(live_segments(mine, folder_url)) <= FEW // 2
    for each in team:
        assert each.pull(folder_url).failures == ()
        assert answers(each) == expected(pushes)


@pytest.mark.parametrize("count", [20, pytest.param(100, marks=pytest.mark.soak)], ids=["twenty", "hundred"])
def test_stores_that_push_once_leave_few_packs(
    store: Repository, opened: Open, folder_url: str, count: int
) -> None:
    """Each reads the marker and the live segments; one in eight fetches the packs that have come together."""
    fetched = []
    for number in range(count):
        if number:
            store.pull(folder_url, manifest_only=True)
        live = len(live_segments(store, folder_url))
        once = opened(f"once-{number}")
        fill(once, range(EACH * number, EACH * number + EACH))
        report = once.push(folder_url)
        assert report.failures == ()
        assert report.requests.keys() == {"LIST", "GET", "PUT"}
        assert (report.requests["LIST"], report.requests["PUT"]) == (1, 2 + (number == 0))
        fetched.append(report.requests["GET"] - 1 - live)
    assert not {*fetched} & {*range(1, plan_merge.MANY)}
    assert sum(fetched) <= 1.25 * count
    store.pull(folder_url)
    assert len(live_packs(store, folder_url)) <= FEW
    assert len(live_segments(store, folder_url)) <= FEW // 2
    assert answers(store) == expected(count)


@pytest.mark.parametrize("harm", [False, True])
def test_packs_with_a_dictionary_are_fetched_too(
    store: Repository, opened: Open, folder_url: str, monkeypatch: pytest.MonkeyPatch, *, harm: bool
) -> None:
    """Whoever packs brings the dictionary anyway; where it is gone, those of them stay as they are."""
    for module in ("casstore.store.dictionaries", "casstore.repo.packing"):
        monkeypatch.setattr(f"{module}.TRAINED_ON", 100)
    monkeypatch.setattr(plan_merge, "MANY", 3)
    fill(store, range(150))
    store.push(folder_url)
    if harm:
        for name in files(Path(folder_url.removeprefix("file://")), "objects"):
            (Path(folder_url.removeprefix("file://")) / name).unlink()
    packs = []
    for number in range(15, 20):
        once = opened(f"once-{number}")
        fill(once, range(EACH * number, EACH * number + EACH))
        assert once.push(folder_url).failures == ()
        packs.append(len(live_packs(once, folder_url)))
    assert packs[-1] == (2 if harm else 1)


@pytest.mark.parametrize("where", ["here", "everywhere"])
def test_packs_whose_dictionary_is_lost_fail_no_push(
    opened: Open, folder_url: str, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    """It is fetched, and they are folded; where it is nowhere, they stay as they are, and all else goes."""
    for module in ("casstore.store.dictionaries", "casstore.repo.packing"):
        monkeypatch.setattr(f"{module}.TRAINED_ON", 100)
    remote = Path(folder_url.removeprefix("file://"))
    with opened() as store:
        for number in range(3):
            fill(store, range(100 * number, 100 * number + 100))
            store.repack()
            store.push(folder_url)
    for root in [store.path] if where == "here" else [store.path, remote]:
        shutil.rmtree(root / "objects")
    store = opened()
    lost = live_packs(store, folder_url)
    for number in range(30, 60):
        fill(store, range(EACH * number, EACH * number + EACH))
        report = store.push(folder_url)
        assert (report.failures, report.left, report.objects) == ((), 0, EACH)
    assert (lost <= live_packs(store, folder_url)) == (where == "everywhere")
    assert where == "everywhere" or answers(store) == expected(60)


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_two_pushers_fold_the_same_at_once(
    store: Repository, opened: Open, folder_url: str, monkeypatch: pytest.MonkeyPatch, order: tuple[int, int]
) -> None:
    """Both segments stand; who reads either, or both, in whatever order, has everything."""
    stores = [store, opened("other")]
    push_often(stores[0], folder_url, range(3))
    stores[1].pull(folder_url)
    fill(stores[0], [500])
    fill(stores[1], [600])
    first, second = (stores[number] for number in order)
    publish = Remote.publish_file

    def overtaken(remote: Remote, path: Path, segment: Digest) -> None:
        monkeypatch.setattr(Remote, "publish_file", publish)
        second.push(folder_url)
        middle = opened("middle")
        assert middle.pull(folder_url).failures == ()
        publish(remote, path, segment)

    monkeypatch.setattr(Remote, "publish_file", overtaken)
    first.push(folder_url)
    team = [*stores, opened("middle"), opened("newcomer")]
    for each in team:
        assert each.pull(folder_url).failures == ()
        assert answers(each) == {**expected(3), key(500): answer(500), key(600): answer(600)}
    push_often(first, folder_url, range(3, 9))
    assert first.gc(folder_url).missing == 0
    for each in team:
        assert each.pull(folder_url).failures == ()
        assert len(answers(each)) == 92
        assert each.push(folder_url).entries == 0


def test_a_segment_that_another_process_folded_is_no_hindrance(
    store: Repository, opened: Open, folder_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where its file is gone from here between plan and publishing, nothing is folded."""
    push_often(store, folder_url, range(1))
    monkeypatch.setattr(merge, "read_union", lambda local, segments: None)
    push_often(store, folder_url, range(1, 2))
    assert len(live_segments(store, folder_url)) == 2
    other = opened("other")
    other.pull(folder_url)
    assert answers(other) == expected(2)


# Readers


def test_who_knows_all_that_is_replaced_reads_the_beginning(
    store: Repository, opened: Open, bucket: Bucket, requests_log: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One ranged read of a large merged segment tells what is new, which survives a lost index too."""
    monkeypatch.setattr(manifest, "WHOLE", 4000)
    monkeypatch.setattr(manifest, "HEAD_READ", 6000)
    other = opened("other")
    push_often(store, bucket.url, range(7))
    other.pull(bucket.url)
    push_often(store, bucket.url, range(7, 8))
    assert len(live_segments(store, bucket.url)) == 1
    requests_log.clear()
    assert other.pull(bucket.url).entries == EACH
    read = [request for request in requests_log.requests() if "/manifest/" in request.path]
    assert [request.range for request in read] == ["bytes=0-5999"]
    other.rebuild()
    assert answers(other) == expected(8)


def test_a_long_fresh_part_takes_a_second_read(
    store: Repository, opened: Open, folder_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What does not lie in the first bytes is read by its length; what is most of the segment, with it."""
    monkeypatch.setattr(manifest, "WHOLE", 4000)
    monkeypatch.setattr(manifest, "HEAD_READ", 600)
    other = opened("other")
    push_often(store, folder_url, range(7))
    other.pull(folder_url)
    push_often(store, folder_url, range(7, 8))
    backend = record_remote(other, folder_url)
    assert other.pull(folder_url).entries == EACH
    assert [call.operation for call in backend.calls if "manifest/" in call.name] == ["read_range"] * 2
    assert answers(other) == expected(8)


def test_a_reader_that_was_away_begins_nothing_anew(store: Repository, opened: Open, folder_url: str) -> None:
    """What it knew was folded, and folded again, and deleted in between: what is doomed tells."""
    other = opened("other")
    remote = Path(folder_url.removeprefix("file://"))
    with running_clock() as clock:
        push_often(store, folder_url, range(1))
        other.pull(folder_url)
        for day in range(1, 6):
            push_often(store, folder_url, range(day, day + 1))
            store.gc(folder_url)
            clock.forward(25, remote)
        store.gc(folder_url)
        with mock.patch.object(Tracking, "reset") as reset:
            assert other.pull(folder_url).failures == ()
        reset.assert_not_called()
        assert answers(other) == expected(6)
        assert other.push(folder_url).requests == {"LIST": 1}


def test_a_reader_that_was_away_for_a_year_begins_anew(
    store: Repository, opened: Open, folder_url: str
) -> None:
    """What was deleted so long ago is told of no more; it reads everything, and loses nothing."""
    other = opened("other")
    fill(other, [900])
    remote = Path(folder_url.removeprefix("file://"))
    with running_clock() as clock:
        push_often(store, folder_url, range(1))
        other.pull(folder_url)
        for day in range(1, 4):
            clock.forward(24 * 120, remote)
            push_often(store, folder_url, range(day, day + 1))
            store.gc(folder_url)
        assert other.push(folder_url).entries == 1
        assert other.pull(folder_url).failures == ()
        assert answers(other) == {**expected(4), key(900): answer(900)}


class Overtaken(WrappedBackend):
    """Lets something happen before the first file below a folder is read."""

    def __init__(self, inner: Backend, folder: str, happen: Callable[[], None]) -> None:
        super().__init__(inner)
        self._folder = folder
        self._happen: Callable[[], None] | None = happen

    def around(self, operation: str, name: str, run: Callable[[], T]) -> T:
        """Let it happen, once."""
        if operation != "list" and name.startswith(self._folder) and self._happen is not None:
            happen, self._happen = self._happen, None
            happen()
        return run()


@pytest.mark.parametrize("folder", ["manifest/", "packs/"])
def test_a_puller_that_a_collection_overtakes_looks_again(
    store: Repository, opened: Open, folder_url: str, folder: str
) -> None:
    """Segments or packs that are gone when they are asked for are elsewhere: the manifest tells where."""
    with running_clock() as clock:
        push_often(store, folder_url, range(3))
        clock.forward(25, Path(folder_url.removeprefix("file://")))
        other = opened("other")

        def collect() -> None:
            push_often(store, folder_url, range(3, 4))
            fill(store, [700])
            store.push(folder_url)
            store.gc(folder_url)
            clock.forward(25, Path(folder_url.removeprefix("file://")))
            assert store.gc(folder_url).deleted

        remote = other.remote(folder_url)
        remote.backend = Overtaken(remote.backend, folder, collect)
        assert other.pull(folder_url).failures == ()
        assert other.pull(folder_url).failures == ()
        assert answers(other) == {**expected(4), key(700): answer(700)}


# What others say


def test_no_push_relies_on_what_is_doomed(store: Repository, opened: Open, folder_url: str) -> None:
    """Whatever somebody dooms is sent again by who needs it, and read until it is gone."""
    push_often(store, folder_url, range(1))
    packs = live_packs(store, folder_url)
    hostile = add_segment(store.local, [Doomed("pack", pack, 0) for pack in packs])
    store.remote(folder_url).publish(hostile)
    other = opened("other")
    assert other.pull(folder_url).failures == ()
    assert answers(other) == expected(1)
    other.put_entry(key(800), answer(3))
    assert other.push(folder_url).objects == 1
    assert store.gc(folder_url).missing == 0
    late = opened("late")
    assert late.pull(folder_url).failures == ()
    assert answers(late) == {**expected(1), key(800): answer(3)}


def test_a_pack_is_never_given_a_doomed_name(store: Repository, opened: Open, folder_url: str) -> None:
    """The same objects again make another pack, since the old one may be deleted any moment."""
    fill(store, [1])
    store.push(folder_url)
    (pack,) = live_packs(store, folder_url)
    hostile = add_segment(store.local, [Doomed("pack", pack, 0)])
    store.remote(folder_url).publish(hostile)
    other = opened("other")
    other.put_entry(key(2), answer(1))
    report = other.push(folder_url)
    assert (report.objects, report.entries, report.left) == (1, 1, 0)
    assert pack not in live_packs(other, folder_url)
    assert len(live_packs(other, folder_url)) == 1
    assert other.push(folder_url).requests == {"LIST": 1}


def test_a_full_pack_has_room_for_another_name(
    store: Repository, opened: Open, folder_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that holds as many objects as a reader accepts is not made, since it may have to hold one twice."""
    monkeypatch.setattr(pack_module, "PACK_MEMBERS", 3)
    other = opened("other")
    with running_clock() as clock:
        for number in range(3):
            for each, name in ((store, key(number)), (other, key(10 + number))):
                each.put_entry(name, answer(number))
            clock.forward(0.01)  # so that both pack them in one order
    store.push(folder_url)
    doomed = [Doomed("pack", pack, 0) for pack in live_packs(store, folder_url)]
    store.remote(folder_url).publish(add_segment(store.local, doomed))
    assert other.push(folder_url).failures == ()
    late = opened("late")
    assert late.pull(folder_url).failures == ()
    assert len(answers(late)) == 6


def test_a_large_object_that_was_doomed_is_sent_again(
    store: Repository, opened: Open, folder_url: str
) -> None:
    """It can have no other name, so it is told that it was written anew."""
    digest = store.put(noise(1 << 20))
    store.push(folder_url)
    hostile = add_segment(store.local, [Doomed("object", digest, 0)])
    store.remote(folder_url).publish(hostile)
    for number, objects in ((1, 2), (2, 1)):
        other = opened(f"store-{number}")
        other.put_entry(key(number), noise(1 << 20))
        other.put_entry(key(10 + number), b"%d" % number)
        report = other.push(folder_url)
        assert (report.left, report.objects) == (0, objects)
        assert other.push(folder_url).requests == {"LIST": 1}
    store.gc(folder_url, grace=0)
    late = opened("late")
    assert late.pull(folder_url).failures == ()
    assert late.get(digest) == noise(1 << 20)


def test_a_segment_that_vanished_and_was_doomed_is_no_loss(
    store: Repository, opened: Open, folder_url: str, tmp_path: Path
) -> None:
    """One that was neither replaced nor doomed makes the reader begin anew, as ever."""
    push_often(store, folder_url, range(1))
    other = opened("other")
    other.pull(folder_url)
    (segment,) = live_segments(store, folder_url)
    (tmp_path / "remote" / "manifest" / f"{segment}.zst").unlink()
    assert other.push(folder_url).entries == EACH
    (again,) = live_segments(other, folder_url)
    told = add_segment(other.local, [Doomed(SEGMENT, again, 0)])
    other.remote(folder_url).publish(told)
    other.pull(folder_url)
    (tmp_path / "remote" / "manifest" / f"{again}.zst").unlink()
    assert other.push(folder_url).entries == 0


# Interruptions


def test_an_upload_that_was_interrupted_long_ago_is_not_relied_upon(
    store: Repository, opened: Open, folder_url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A collection may have deleted it: it is sent again."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    fill(store, range(3))
    with running_clock() as clock:
        with monkeypatch.context() as patched:
            patched.setattr("casstore.repo.push.publish", interrupt)
            with pytest.raises(KeyboardInterrupt):
                store.push(folder_url)
        assert store.plan_push(folder_url).objects == ()
        clock.forward(GRACE // 3_600_000 / 2 + 1)
        for path in (tmp_path / "remote" / "packs").rglob("*.zst"):
            path.unlink()
        assert store.push(folder_url).objects == 3
    other = opened("other")
    assert other.pull(folder_url).failures == ()
    assert len(answers(other)) == 3


def test_a_bad_copy_here_leaves_the_old_pack_in_its_place(
    store: Repository, opened: Open, folder_url: str
) -> None:
    """A pack is doomed only if all that it holds has come into another."""
    push_often(store, folder_url, range(1))
    bad = digest_of(answer(3))
    damage(store.path / store.local.objects.name(bad))
    fill(store, range(10, 20))
    store.push(folder_url)
    other = opened("other")
    assert other.pull(folder_url).failures == ()
    assert answers(other) == expected(2)
