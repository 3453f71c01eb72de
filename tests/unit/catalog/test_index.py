"""The index: what it answers, and what becomes of it between processes, threads and on a bad disk."""

from __future__ import annotations

import contextlib
import shutil
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from casstore.catalog import connecting
from casstore.catalog.index import (
    Index,
    now,
    put_claim,
    put_objects,
    remove_entries_of,
    remove_objects,
)
from casstore.catalog.listed import ObjectInfo
from casstore.catalog.records import Entry, Location, Tombstone
from casstore.catalog.rows import DamagedIndexError
from casstore.catalog.tracking import Tracking
from casstore.digest import Digest, Key, digest_of
from casstore.errors import BackendError, ConfigError, NotFoundError
from casstore.store.sealed import Frames, Stored
from tests.children import ended, fork
from tests.stores import key
from tests.tracked import pending


@pytest.fixture
def index(tmp_path: Path) -> Iterator[Index]:
    """Return an empty index."""
    index = Index(tmp_path / "index.sqlite", create=True)
    yield index
    index.close()


def stored(number: int, size: int = 100) -> Stored:
    """Return what is known of an object."""
    return Stored(digest_of(bytes([number])), size * 2, size)


def put(index: Index, *numbers: int, used: int = 1, kept: bool = False) -> None:
    """Note objects."""
    with index.writing() as connection:
        put_objects(connection, map(stored, numbers), used=used, kept=kept)


def put_entry(index: Index, number: int) -> Entry:
    """Let an entry stand whose object has the same number."""
    entry = Entry(key(number), stored(number).digest, 0, number, {"n": number}, (digest_of(b"ref"),))
    with index.writing() as connection:
        put_claim(connection, entry)
    return entry


def test_index_file_is_private(index: Index, tmp_path: Path) -> None:
    """Only its owner reads the index, whatever the umask."""
    assert index.evictable() == 0
    assert (tmp_path / "index.sqlite").stat().st_mode & 0o777 == 0o600


def test_find(index: Index) -> None:
    """A key gives its claim, and its object where that is here."""
    entry = put_entry(index, 1)
    found = index.find(key(1))
    assert found is not None
    assert (found.claim, found.known) == (entry, None)
    put(index, 1)
    found = index.find(key(1))
    assert found is not None
    assert found.known == stored(1)
    assert index.find(key(2)) is None


def test_frames_are_remembered(index: Index) -> None:
    """What is known of a large object's frames comes back as it was."""
    frames = Frames((10, 20), (digest_of(b"a"), digest_of(b"b")))
    known = Stored(digest_of(b"large"), 5_000_000, 42, frames)
    with index.writing() as connection:
        put_objects(connection, [known], used=0)
    assert index.known(known.digest) == known


def test_lists_go_by_name_across_pages(index: Index) -> None:
    """Entries and objects are listed completely, by name, however many."""
    digests = [digest_of(str(number).encode()) for number in range(2500)]
    with index.writing() as connection:
        put_objects(connection, [Stored(digest, 1, 1) for digest in digests], used=7)
        for number, digest in enumerate(digests):
            put_claim(connection, Tombstone(Key(str(digest)), 0, number))
    assert [info.digest for info in index.objects()] == sorted(digests)
    assert [str(claim.key) for claim in index.claims()] == sorted(map(str, digests))
    assert next(index.objects()) == ObjectInfo(min(digests), 1, 1, 7, kept=False)


def test_resolve(index: Index) -> None:
    """A prefix stands for the one key that begins with it; tombstones do not count."""
    first, second = Key("abcd" + "0" * 60), Key("abce" + "0" * 60)
    dead = Tombstone(Key("abcf" + "0" * 60), 0, 0)
    with index.writing() as connection:
        put_claim(connection, dead)
        for each in (first, second):
            put_claim(connection, Entry(each, digest_of(b""), 0, 0))
    assert index.resolve("abcd") == first
    assert index.resolve("abcd0") == first
    assert index.resolve(second) == second
    with pytest.raises(ConfigError, match="several keys begin with abc"):
        index.resolve("abc")
    for absent in ("abcf", "abd"):
        with pytest.raises(NotFoundError):
            index.resolve(absent)


@given(
    st.lists(st.tuples(st.sampled_from(["put", "keep", "grow", "remove"]), st.integers(0, 4)), max_size=25)
)
@settings(max_examples=40, deadline=None)
def test_totals_are_sums(tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, int]]) -> None:
    """The running total of what may be evicted is the sum over the objects, whatever was done to them."""
    index = Index(tmp_path_factory.mktemp("index") / "index.sqlite", create=True)
    for step, number in steps:
        with index.writing() as connection:
            if step == "remove":
                remove_objects(connection, [stored(number).digest])
            else:
                size = 333 if step == "grow" else 100
                put_objects(connection, [stored(number, size)], used=0, kept=step == "keep")
    infos = list(index.objects())
    assert index.evictable() == sum(info.stored for info in infos if not info.kept)
    assert index.sums() == (
        0,
        len(infos),
        sum(info.size for info in infos),
        sum(info.stored for info in infos),
        sum(info.kept for info in infos),
        sum(info.stored for info in infos if info.kept),
    )
    index.close()


def test_last_use_never_goes_back(index: Index) -> None:
    """Noting an object again with an earlier use, or as not kept, takes neither its use nor its mark."""
    put(index, 1, used=500, kept=True)
    put(index, 1, used=0)
    (info,) = index.objects()
    assert (info.used, info.kept) == (500, True)


def test_uses_are_collected_and_flushed(index: Index, tmp_path: Path) -> None:
    """Uses are written in one batch, on flush or close; the ledger adds up."""
    put(index, 1, 2)
    before = now()
    index.touch(stored(1).digest)
    index.tally("openai", "gpt", {"hits": 1})
    index.tally("openai", "gpt", {"hits": 2, "saved": 0.5})
    assert index.collected() == 2
    other = Index(tmp_path / "index.sqlite")
    assert {info.used for info in other.objects()} == {1}
    index.close()
    assert sorted(info.used >= before for info in other.objects()) == [False, True]
    assert {(tally.name, tally.value) for tally in other.tallies()} == {("hits", 3), ("saved", 0.5)}
    other.tally("openai", "gpt", {"hits": 1})
    assert {(tally.name, tally.value) for tally in other.tallies()} == {("hits", 4), ("saved", 0.5)}
    other.close()


def test_failed_flush_keeps_what_was_collected(index: Index, monkeypatch: pytest.MonkeyPatch) -> None:
    """Uses and counters that could not be written are written by the next flush."""
    put(index, 1)
    index.touch(stored(1).digest)
    index.tally("a", "b", {"hits": 1})
    monkeypatch.setattr(index, "writing", lambda: (_ for _ in ()).throw(BackendError("full")))
    with pytest.raises(BackendError):
        index.flush()
    monkeypatch.undo()
    assert index.collected() == 2
    index.flush()
    assert index.collected() == 0
    assert next(index.objects()).used > 1


def test_uses_of_a_moment_ago_are_remembered(index: Index, monkeypatch: pytest.MonkeyPatch) -> None:
    """What this process used is known for a minute after it was written, and then no more."""
    digest = stored(1).digest
    index.touch(digest)
    index.flush()
    assert index.used_here().keys() == {digest}
    later = now() + 120_000
    monkeypatch.setattr("casstore.catalog.index.now", lambda: later)
    index.touch(stored(2).digest)
    index.flush()
    assert index.used_here().keys() == {stored(2).digest}


def test_touching_while_flushing(index: Index) -> None:
    """Threads note uses while another writes them, and none is lost or breaks the writing."""
    digests = [digest_of(str(number).encode()) for number in range(3000)]
    with index.writing() as connection:
        put_objects(connection, [Stored(digest, 1, 1) for digest in digests], used=0)

    def touch(part: list[Digest]) -> None:
        for digest in part:
            index.touch(digest)

    threads = [threading.Thread(target=touch, args=(digests[start::3],)) for start in range(3)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        index.flush()
    index.flush()
    assert all(info.used for info in index.objects())


def test_eviction_order(index: Index) -> None:
    """What a remote holds goes first, then what was used longest ago; what was kept does not go."""
    for number, used in ((1, 30), (2, 10), (3, 20), (4, 5)):
        put(index, number, used=used)
    put(index, 5, used=1, kept=True)
    tracking = Tracking(index, "memory://one")
    tracking.apply(digest_of(b"segment"), [Location(stored(1)), Location(stored(3))])
    tracking.uploaded([stored(2)])  # no segment tells of it, so a collection may delete it
    order = [(each.digest, each.held) for each in index.eviction_order()]
    expected = [(3, True), (1, True), (4, False), (2, False)]
    assert order == [(stored(number).digest, held) for number, held in expected]


def test_entries_of_lost_objects_go(index: Index) -> None:
    """Entries whose object is gone for good leave the index and the list of what is to be pushed."""
    tracking = Tracking(index, "memory://one")
    assert tracking.segments() == set()
    for number in (1, 2):
        put_entry(index, number)
    with index.writing() as connection:
        assert remove_entries_of(connection, [stored(1).digest, stored(7).digest]) == 1
    assert [claim.key for claim in index.claims()] == [key(2)]
    assert [claim.key for claim in pending(tracking)] == [key(2)]


def test_transaction_is_all_or_nothing(index: Index) -> None:
    """A block that raises leaves nothing of what it wrote, also from a block within it."""

    def fail() -> None:
        with index.writing():
            put(index, 1)
            assert index.known(stored(1).digest) is not None
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert index.known(stored(1).digest) is None
    put(index, 2)
    assert [info.digest for info in index.objects()] == [stored(2).digest]


def test_busy_index_is_a_passing_error(index: Index, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A writer that waited too long for another says so, and may try again."""
    monkeypatch.setattr(connecting, "BUSY_TIMEOUT", 0.01)
    other = Index(tmp_path / "index.sqlite")
    with index.writing():
        assert list(other.objects()) == []
        with pytest.raises(BackendError, match="by another process") as caught, other.writing():
            pass
    assert caught.value.transient
    other.close()


def test_opening_waits_while_the_index_is_replaced(index: Index, tmp_path: Path) -> None:
    """Nobody opens half of one index and half of another: who comes between waits for the new one."""
    put(index, 1)
    replacement = Index(tmp_path / "new.sqlite", create=True)
    put(replacement, 2)
    replacement.close()
    found: list[Digest] = []

    def work() -> None:
        with contextlib.closing(Index(tmp_path / "index.sqlite")) as other:
            found.extend(info.digest for info in other.objects())

    reader = threading.Thread(target=work)
    with connecting.replacing(tmp_path / "index.sqlite"):
        for path in tmp_path.glob("index.sqlite*"):
            path.rename(tmp_path / f"old-{path.name}")
        reader.start()
        reader.join(0.1)
        assert reader.is_alive()
        (tmp_path / "new.sqlite").rename(tmp_path / "index.sqlite")
    reader.join()
    assert found == [stored(2).digest]


def test_forked_child_opens_its_own(index: Index) -> None:
    """A child uses the index through a connection of its own, and forgets what its parent will write."""
    put(index, 1)
    index.touch(stored(1).digest)
    index.tally("a", "b", {"hits": 1})
    parent = index._open

    def work() -> None:
        put(index, 2)
        index.flush()
        assert index._open is not parent
        assert not index.tallies()

    assert ended(fork(work)) == 0
    assert len(list(index.objects())) == 2
    assert [tally.value for tally in index.tallies()] == [1]


@pytest.mark.parametrize("content", [b"", b"junk" * 2000, b"SQLite format 3\0" + b"\xff" * 5000])
def test_file_that_is_no_index_is_refused(tmp_path: Path, content: bytes) -> None:
    """Without somebody to restore it, a file that is no index is damaged, and so is none at all."""
    (tmp_path / "index.sqlite").write_bytes(content)
    with pytest.raises(DamagedIndexError):
        Index(tmp_path / "index.sqlite")
    with pytest.raises(DamagedIndexError):
        Index(tmp_path / "absent.sqlite")
    assert not (tmp_path / "absent.sqlite").exists()


def test_a_schema_that_is_no_text_is_damaged(index: Index, tmp_path: Path) -> None:
    """What SQLite says of it cannot be shown, which is no error of another kind."""
    index.close()
    path = tmp_path / "index.sqlite"
    content = path.read_bytes().replace(b"tabletallies", b"table\xffallies")
    path.write_bytes(content.replace(b"CREATE TABLE tallies", b"CREATE\0TABLE tallies"))
    with pytest.raises(DamagedIndexError):
        Index(path)


def test_index_of_another_version_is_refused(index: Index, tmp_path: Path) -> None:
    """An index that a later version wrote is not read."""
    index.close()
    connection = sqlite3.connect(tmp_path / "index.sqlite")
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(DamagedIndexError, match="version 99"):
        Index(tmp_path / "index.sqlite")


def test_index_of_the_first_version_is_made_anew(tmp_path: Path) -> None:
    """An index from before packs is restored when it is opened, and not read."""
    path = tmp_path / "index.sqlite"
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE objects(digest BLOB PRIMARY KEY, size INTEGER)")
    connection.execute("PRAGMA user_version = 1")
    connection.close()
    with pytest.raises(DamagedIndexError, match="version 1"):
        Index(path, create=True)

    def restore() -> None:
        path.unlink()
        Index(path, create=True).close()

    index = Index(path, restore=restore)
    put(index, 1)
    assert [info.digest for info in index.objects()] == [stored(1).digest]
    index.close()


def test_replaced_index_is_followed(index: Index, tmp_path: Path) -> None:
    """When another index was put in its place, an open one reads and writes that, also about remotes."""
    tracking = Tracking(index, "memory://one")
    put(index, 1)
    tracking.uploaded([stored(1)])
    other = Index(tmp_path / "other.sqlite", create=True)
    put(other, 2, 3)
    other.close()
    (tmp_path / "other.sqlite").replace(tmp_path / "index.sqlite")
    for name in ("index.sqlite-wal", "index.sqlite-shm"):
        (tmp_path / name).unlink()
    assert tracking.segments() == set()
    assert tracking.sides([stored(1).digest])[stored(1).digest].there is None
    put(index, 4)
    again = Index(tmp_path / "index.sqlite")
    assert {info.digest for info in again.objects()} == {stored(number).digest for number in (2, 3, 4)}
    again.close()


def test_writer_that_waited_writes_to_the_new_index(index: Index, tmp_path: Path) -> None:
    """A writer that waited while the index was replaced writes to the new one."""
    rebuilder = Index(tmp_path / "index.sqlite")
    with rebuilder.writing():
        writer = threading.Thread(target=put, args=(index, 4))
        writer.start()
        fresh = Index(tmp_path / "fresh.sqlite", create=True)
        fresh.close()
        for name in ("index.sqlite", "index.sqlite-wal", "index.sqlite-shm"):
            (tmp_path / name).rename(tmp_path / f"old-{name}")
        (tmp_path / "fresh.sqlite").rename(tmp_path / "index.sqlite")
    rebuilder.close()
    writer.join()
    again = Index(tmp_path / "index.sqlite")
    assert [info.digest for info in again.objects()] == [stored(4).digest]
    again.close()


def test_lost_index_is_restored_in_use(tmp_path: Path) -> None:
    """An index whose file vanishes or is damaged while it is open is restored by its next or second use."""
    template = tmp_path / "template.sqlite"
    Index(template, create=True).close()
    restored: list[bool] = []

    def restore() -> None:
        restored.append(True)
        shutil.copy(template, tmp_path / "index.sqlite")
        for name in ("index.sqlite-wal", "index.sqlite-shm"):
            (tmp_path / name).unlink(missing_ok=True)

    index = Index(tmp_path / "index.sqlite", restore=restore)
    assert len(restored) == 1
    (tmp_path / "index.sqlite").unlink()
    put(index, 1)
    assert len(restored) == 2
    index.close()
    connection = sqlite3.connect(tmp_path / "index.sqlite")
    (page,) = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = 'objects'").fetchone()
    connection.close()
    whole = bytearray((tmp_path / "index.sqlite").read_bytes())
    whole[4096 * (page - 1) : 4096 * page] = b"\xa5" * 4096
    (tmp_path / "index.sqlite").write_bytes(whole)
    with pytest.raises(DamagedIndexError):
        list(index.objects())
    assert list(index.objects()) == []
    assert len(restored) == 3
    index.close()


def test_many_free_pages_go_back_to_the_disk(index: Index, tmp_path: Path) -> None:
    """Few of them stay, for what comes next."""

    def free() -> int:
        index.shrink()
        with index.reading() as connection:
            return int(connection.execute("PRAGMA freelist_count").fetchone()[0])

    with index.writing() as connection:
        rows = [(number, digest_of(str(number).encode())) for number in range(5000)]
        connection.executemany("INSERT INTO remote_segments VALUES (?, ?)", rows)
        connection.execute("DELETE FROM remote_segments WHERE remote < 250")
    kept = free()
    assert kept > 0
    with index.writing() as connection:
        connection.execute("DELETE FROM remote_segments WHERE remote < 4000")
    assert free() == 0


def test_an_index_that_may_only_be_read_is_told_so(index: Index, tmp_path: Path) -> None:
    """To read it, SQLite writes beside it; so nobody is told that something could not be written."""
    path = tmp_path / "index.sqlite"
    connection = sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)
    with pytest.raises(BackendError, match=r"cannot use .*, which may only be read"), connecting.Mapped(path):
        connection.execute("PRAGMA user_version = 7")
    connection.close()
