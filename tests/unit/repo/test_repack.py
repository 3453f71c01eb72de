"""Repacking: small objects go into packs, small packs into larger ones, and nobody notices but the disk."""

from __future__ import annotations

import io
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from casstore.backends import local as local_backend
from casstore.catalog.rows import PackInfo
from casstore.digest import Digest, digest_of
from casstore.errors import NotEnoughCopiesError
from casstore.events import Advanced, Event, Finished, Started
from casstore.repo.local import Local
from casstore.repo.plan_repack import FULL, plan_merges
from casstore.repo.repack import tidy_packs
from casstore.repo.repository import Repository
from casstore.store.codec import Codec
from casstore.store.objects import ObjectStore
from casstore.store.pack import PACK_MEMBERS, PACKED_MAX, Pack, PackWriter, read_contents
from casstore.store.sealed import Stored
from tests.children import ended, fork
from tests.stores import answer, answers, files, fill, key, noise
from tests.unit.repo.conftest import Open

OPENED: list[str] = []


def _hear(event: str, arguments: tuple[Any, ...]) -> None:
    if event == "open":
        OPENED.append(str(arguments[0]))


sys.addaudithook(_hear)


def packs(store: Repository) -> list[str]:
    """Return the names of the pack files of a store."""
    return sorted(files(store.path, "packs"))


def pull_ten(store: Repository, number: int) -> None:
    """Let a pack of ten objects come in, as a pull brings it."""
    file = io.BytesIO()
    writer = PackWriter(file, Codec())
    for each in range(10 * number, 10 * number + 10):
        writer.add(digest_of(answer(each)), answer(each))
    pack = writer.finish()
    adopt(store, pack, file.getvalue())


def adopt(store: Repository, pack: Pack, content: bytes) -> None:
    """Let the file of a pack come in."""
    store.local.backend.write(store.local.objects.pack_name(pack.digest), content)
    assert store.local.adopt(pack, used=1)


# Loose objects


def test_repacked_objects_are_read_as_before(store: Repository, tmp_path: Path) -> None:
    """Every way to read an object gives what it gave, and the small files are gone."""
    fill(store, range(30))
    store.forget(key(29))
    by_hand, large = store.put(b"by hand"), store.put(noise(PACKED_MAX))
    before = answers(store)
    report = store.repack()
    assert (report.objects, report.packs, report.replaced, report.failures) == (31, 1, 0, ())
    assert files(store.path, "objects").keys() == {store.local.objects.name(large)}
    assert answers(store) == before
    assert store.get(by_hand) == b"".join(store.stream(by_hand)) == b"by hand"
    assert store.get_range(by_hand, 3, 2) == b"ha"
    store.export(by_hand, tmp_path / "target")
    assert (tmp_path / "target").read_bytes() == b"by hand"
    assert {info.digest for info in store.objects() if info.kept} == {by_hand, large}
    assert store.get(large) == noise(PACKED_MAX)
    assert store.verify().failures == ()
    assert store.repack().packs == 0


def test_an_object_alone_stays_in_its_file(store: Repository) -> None:
    """In a pack it would take more, and a file all the same; once there is another one, both go."""
    store.put(b"one")
    before = files(store.path, "objects")
    assert store.plan_repack().is_empty
    assert store.repack().objects == 0
    assert files(store.path, "objects") == before
    assert not packs(store)
    store.put(b"two")
    assert (store.plan_repack().objects, store.repack().objects) == (2, 2)


def test_pack_is_in_the_order_entries_were_written(
    store: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An entry's object is followed by its refs; what no entry leads to comes last."""
    last = store.put(b"nobody leads here")
    for number in (3, 1, 2):
        monkeypatch.setattr("casstore.repo.content.now", lambda number=number: number)
        store.put_entry(key(number), answer(number), refs=[b"question %d" % number])
    store.repack()
    (name,) = packs(store)
    written = [content for number in (1, 2, 3) for content in (answer(number), b"question %d" % number)]
    assert list(read_contents(store.path / name).digests) == [*map(digest_of, written), last]


def test_report_counts_real_bytes(store: Repository) -> None:
    """Bytes before and after are those of files, and so is what the store says it takes."""
    fill(store, range(200))
    before = files(store.path, "objects")
    blocks = sum((store.path / name).stat().st_blocks for name in before) * 512
    events: list[Event] = []
    report = store.repack(on_event=events.append)
    (name,) = packs(store)
    content = files(store.path, "packs")[name]
    assert (report.before, report.after) == (sum(map(len, before.values())), len(content))
    assert report.blocks == blocks - (store.path / name).stat().st_blocks * 512 > 0
    sizes = store.sizes()
    assert sizes.stored == sizes.packs_stored == len(content) == store.local.index.evictable()
    assert (sizes.packs, sizes.objects, sizes.kept_stored) == (1, 200, 0)
    assert events[0] == Started("repack", 200, report.before)
    assert sum(event.size for event in events if isinstance(event, Advanced)) == report.before
    assert max(event.objects for event in events if isinstance(event, Advanced)) < 150
    assert sum(event.objects for event in events if isinstance(event, Advanced)) == 200
    assert events[-1] == Finished("repack")


def test_many_objects_get_a_dictionary(store: Repository) -> None:
    """A store with a thousand small objects trains one, keeps it as a file of its own, and never packs it."""
    fill(store, range(1300))
    report = store.repack()
    dictionary = store.local.index.current_dictionary()
    assert dictionary is not None
    assert files(store.path, "objects").keys() == {store.local.objects.name(dictionary)}
    assert report.objects == 1300
    fill(store, range(1300, 1310))
    store.repack()
    assert {read_contents(store.path / name).dictionary for name in packs(store)} == {dictionary}
    assert answers(store) == {key(number): answer(number) for number in range(1310)}
    assert store.local.objects.name(dictionary) in files(store.path, "objects")
    with pytest.raises(NotEnoughCopiesError, match="dictionary"):
        store.delete(dictionary, force=True)
    assert store.verify().failures == ()


def test_unreadable_object_is_told_and_the_rest_is_packed(store: Repository) -> None:
    """A bad file goes to quarantine, is named, and does not stop the others."""
    fill(store, range(5))
    (store.path / store.local.objects.name(digest_of(answer(3)))).write_bytes(b"junk")
    report = store.repack()
    assert [failure.name for failure in report.failures] == [digest_of(answer(3))]
    assert report.objects == 4
    assert {content for content in answers(store).values() if content} == {
        answer(number) for number in (0, 1, 2, 4)
    }
    assert store.verify().failures == ()


def test_plan_tells_and_changes_nothing(store: Repository) -> None:
    """A dry run counts what a repack would take in."""
    fill(store, range(5))
    for number in range(10, 14):
        pull_ten(store, number)
    before = files(store.path, "objects") | files(store.path, "packs")
    plan = store.plan_repack()
    assert (plan.objects, [len(group) for group in plan.merged], plan.thinned) == (5, [4], ())
    assert plan.bytes == sum(map(len, files(store.path, "objects").values()))
    assert files(store.path, "objects") | files(store.path, "packs") == before
    store.repack()
    assert store.plan_repack().is_empty


# Beside others


def test_reader_with_an_old_belief_finds_the_object_again(opened: Open) -> None:
    """Whoever looked an object up before another process packed it reads it from the pack."""
    store, other = opened(), opened()
    fill(store, range(5))
    known = store.local.index.known(digest_of(answer(1)))
    assert known is not None
    other.repack()
    assert store.local.read(known) == answer(1)
    assert store.get(known.digest) == answer(1)
    assert not (store.path / "quarantine").exists()
    in_pack = store.local.index.known(known.digest)
    assert in_pack is not None
    fill(other, range(5, 10))
    for number in range(10, 14):
        pull_ten(other, number)
    other.repack()
    tidy_all(other)
    assert store.local.read(in_pack) == answer(1)
    assert store.has(known.digest)


def tidy_all(store: Repository) -> None:
    """Rewrite every pack of a store into one."""
    from casstore.catalog.packed import packs_here
    from casstore.repo.rewrite import Change, Rewritten, living, rewrite, source_of

    sources = [source for info in packs_here(store.local.index) if (source := source_of(store.local, info))]
    members = [known for source in sources for known in living(store.local, source)]
    rewrite(store.local, Change(members, None, sources), Rewritten())


@pytest.mark.parametrize("read", ["get", "get_range", "stream", "read_entry"])
def test_object_that_moves_between_look_up_and_open(
    opened: Open, monkeypatch: pytest.MonkeyPatch, read: str
) -> None:
    """However it is read, an object whose file goes at that moment is read where it is then."""
    store, other = opened(), opened()
    fill(store, range(5))
    real = store.local.backend.read
    moved: list[str] = []

    def repacked_first(name: str) -> bytes:
        if not moved:
            moved.append(name)
            other.repack()
        return real(name)

    monkeypatch.setattr(store.local.backend, "read", repacked_first)
    digest = digest_of(answer(2))
    if read == "get":
        assert store.get(digest) == answer(2)
    elif read == "get_range":
        assert store.get_range(digest, 1, 5) == answer(2)[1:6]
    elif read == "stream":
        assert b"".join(store.stream(digest)) == answer(2)
    else:
        assert store.read_entry(key(2))[1] == answer(2)
    assert moved
    assert not (store.path / "quarantine").exists()
    assert len(answers(store)) == 5


def test_entry_put_while_its_object_is_packed(opened: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    """An object that is packed by another while an entry that needs it is put is there in the end."""
    store, other = opened(), opened()
    store.put_entry(key(1), b"shared")
    claim = store.local.claim

    def packed_first(*args: Any) -> Any:
        put = Local.put

        def put_and_lose(local: Local, content: bytes) -> Stored:
            known = put(local, content)
            other.repack()
            return known

        with monkeypatch.context() as patched:
            patched.setattr(Local, "put", put_and_lose)
            return claim(*args)

    monkeypatch.setattr(Local, "claim", lambda _, *args: packed_first(*args))
    store.put_entry(key(2), b"shared")
    monkeypatch.undo()
    assert answers(store) == {key(1): b"shared", key(2): b"shared"}
    assert store.verify().failures == ()


def test_repacks_and_puts_at_once(opened: Open) -> None:
    """Two stores repack while others put, read and delete: nothing is lost, and nothing is there twice."""
    stores = [opened() for _ in range(4)]
    failures: list[BaseException] = []
    done = threading.Event()

    def put(store: Repository, begin: int) -> None:
        try:
            for number in range(begin, begin + 60):
                fill(store, [number])
                assert store.read_entry(key(begin + (number - begin) // 2))[1]
        except BaseException as error:  # noqa: BLE001 - told below, in the thread that can fail the test
            failures.append(error)

    def repack(store: Repository) -> None:
        try:
            while not done.is_set():
                store.repack()
        except BaseException as error:  # noqa: BLE001 - likewise
            failures.append(error)

    writers = [threading.Thread(target=put, args=(store, 100 * n)) for n, store in enumerate(stores[:2])]
    packers = [threading.Thread(target=repack, args=(store,)) for store in stores[2:]]
    for thread in (*writers, *packers):
        thread.start()
    for thread in writers:
        thread.join(120)
    done.set()
    for thread in packers:
        thread.join(120)
    assert failures == []
    fill(stores[0], [200, 201])  # a last one alone would stay as it is
    stores[0].repack()
    assert answers(stores[1]) == {key(n): answer(n) for n in (*range(60), *range(100, 160), 200, 201)}
    assert files(stores[0].path, "objects") == {}
    assert stores[0].verify().failures == ()
    sizes = stores[0].sizes()
    assert sizes.stored == sum(map(len, files(stores[0].path, "packs").values()))


# Packed objects


def test_put_by_hand_of_what_lies_in_a_pack(store: Repository) -> None:
    """It is marked and not written again; a rebuild knows the mark; the cap no longer counts it."""
    fill(store, range(5))
    store.repack()
    before = store.local.index.evictable()
    digest = store.put(answer(1))
    assert files(store.path, "objects") == {}
    (info,) = [info for info in store.objects() if info.kept]
    assert (info.digest, info.packed) == (digest, True)
    assert store.local.index.evictable() == before - info.stored == before - store.sizes().kept_stored
    store.rebuild()
    assert [each.digest for each in store.objects() if each.kept] == [digest]


def test_deleted_object_leaves_its_pack_with_the_next_repack(store: Repository, folder_url: str) -> None:
    """It is gone at once for whoever asks; its bytes go when half of the pack is dead."""
    fill(store, range(10))
    store.repack()
    with pytest.raises(NotEnoughCopiesError):
        store.delete(digest_of(answer(0)))
    store.push(folder_url)
    store.delete(digest_of(answer(0)))
    assert not store.has(digest_of(answer(0)))
    assert store.repack().packs == 0
    for number in range(1, 7):
        store.delete(digest_of(answer(number)))
    before = packs(store)
    report = store.repack()
    assert (report.packs, report.replaced) == (1, 1)
    assert len(packs(store)) == 1
    assert packs(store) != before
    for number in range(7, 10):
        store.delete(digest_of(answer(number)))
    assert store.repack().packs == 0
    assert packs(store) == []
    assert answers(store) == {key(number): answer(number) for number in range(10)}


def test_hits_open_each_pack_once(store: Repository, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many objects are read, each pack is opened once, and only so many stay open."""
    for number in range(6):
        pull_ten(store, number)
    digests = [digest_of(answer(number)) for number in range(60)]
    OPENED.clear()
    for digest in digests * 3:
        assert store.get(digest)
    assert len([path for path in OPENED if "/packs/" in path]) == 6
    assert not [path for path in OPENED if "/objects/" in path]
    monkeypatch.setattr(local_backend, "HELD_OPEN", 4)
    store.local.backend.close()
    before = len(list(Path("/proc/self/fd").iterdir()))
    for digest in digests:
        store.get(digest)
    assert len(list(Path("/proc/self/fd").iterdir())) <= before + 4


def test_forked_child_reads_from_a_pack_held_open(store: Repository) -> None:
    """A child reads through the descriptors that its parent held, and so do threads of both."""
    fill(store, range(20))
    store.repack()
    assert len(answers(store)) == 20

    def work() -> None:
        assert answers(store) == {key(number): answer(number) for number in range(20)}

    assert ended(fork(work)) == 0
    found: list[int] = []
    threads = [threading.Thread(target=lambda: found.append(len(answers(store)))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert found == [20] * 4


# Small packs


def test_a_thousand_small_pulls_leave_few_packs(store: Repository) -> None:
    """Few packs stay, no byte is written more often than there are sizes, and all is read as before."""
    written: dict[Digest, int] = {}
    real = store.local.backend.upload

    def counted(path: Path, name: str, *, consume: bool = False) -> None:
        if name.startswith("packs/"):
            for digest in read_contents(path).digests:
                written[digest] = written.get(digest, 0) + 1
        real(path, name, consume=consume)

    store.local.backend.upload = counted  # type: ignore[method-assign] # what is written is counted
    for number in range(300):
        pull_ten(store, number)
        tidy_packs(store.local)
    assert len(packs(store)) <= 3 * 5
    assert max(written.values()) <= 5  # log4 of 300
    assert store.sizes().objects == 3000
    assert all(store.get(digest_of(answer(number))) for number in range(0, 3000, 7))
    assert store.verify().failures == ()


def test_tidying_nothing_costs_a_query(store: Repository, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no four packs are of one size, no file is opened, listed or written."""
    for number in range(3):
        pull_ten(store, number)
    before = dict(store.local.backend.requests())
    OPENED.clear()
    tidy_packs(store.local)
    assert dict(store.local.backend.requests()) == before
    assert OPENED == []


def test_last_uses_and_marks_move_along(store: Repository) -> None:
    """An object that moves from pack to pack keeps its last use and its mark."""
    for number in range(4):
        pull_ten(store, number)
    digest = store.put(answer(5))
    store.flush()
    with store.local.index.writing() as connection:
        connection.execute("UPDATE objects SET used = 77 WHERE digest = ?", (bytes.fromhex(digest),))
    before = [(info.digest, info.used, info.kept) for info in store.objects()]
    tidy_packs(store.local)
    assert len(packs(store)) == 1
    assert [(info.digest, info.used, info.kept) for info in store.objects()] == before


def info(size: int, number: int, *, members: int = 10, dictionary: str | None = None) -> PackInfo:
    """Return what the index says of a pack."""
    name = None if dictionary is None else digest_of(dictionary.encode())
    return PackInfo(digest_of(b"%d" % number), size, members, name, here=True)


def test_plan_merges_four_of_a_size() -> None:
    """Four of a size become one, and four such ones of the next; full packs and odd ones stay."""
    three = [info(1000, number) for number in range(3)]
    assert plan_merges(three) == ()
    assert plan_merges([*three, info(FULL, 9), info(100_000, 8)]) == ()
    assert plan_merges([*three, info(1000, 3)]) == ((*three, info(1000, 3)),)
    (cascade,) = plan_merges([info(2**12, n) for n in range(4)] + [info(2**14, n) for n in range(4, 7)])
    assert len(cascade) == 7


def test_plan_keeps_dictionaries_apart() -> None:
    """Packs of different dictionaries are not merged; those without may get the current one."""
    mixed = [info(1000, n, dictionary="ab"[n % 2]) for n in range(6)]
    assert plan_merges(mixed) == ()
    without = [info(1000, n) for n in (7, 8)]
    assert plan_merges([*mixed, *without]) == ()
    (group,) = plan_merges([*mixed, *without], digest_of(b"a"))
    assert len(group) == 5


def test_plan_makes_no_pack_too_large() -> None:
    """Neither bytes nor objects of what is merged exceed a pack's."""
    for packs in ([info(FULL // 3, n) for n in range(9)], [info(9, n, members=9000) for n in range(9)]):
        merged = plan_merges(packs)
        assert merged
        for group in merged:
            assert sum(pack.stored for pack in group) <= FULL
            assert sum(pack.members for pack in group) <= PACK_MEMBERS


READS: dict[str, Callable[[Repository, Digest], bytes]] = {
    "get": lambda store, digest: store.get(digest),
    "get_range": lambda store, digest: store.get_range(digest, 0, 1000),
    "stream": lambda store, digest: b"".join(store.stream(digest)),
}


@pytest.mark.parametrize("method", READS)
def test_what_is_moved_again_and_again_while_it_is_read_is_found(
    store: Repository, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    """Into a pack, then into another one, each time after it was looked up and before it was opened."""
    fill(store, range(10))
    digest = digest_of(answer(3))

    def merge() -> None:
        for number in range(2, 5):
            pull_ten(store, number)
        store.repack()

    moves: list[Callable[[], object]] = [store.repack, merge]
    original: Callable[..., object] = getattr(ObjectStore, method)

    def overtaken(self: ObjectStore, known: Stored, *rest: int) -> object:
        if moves and known.digest == digest:
            moves.pop(0)()
        return original(self, known, *rest)

    monkeypatch.setattr(ObjectStore, method, overtaken)
    assert READS[method](store, digest) == answer(3)
    assert (moves, len(packs(store))) == ([], 1)
    assert store.verify().failures == ()
