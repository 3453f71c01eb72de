"""Verify and rebuild: what was damaged is found, and what was lost is made again."""

from __future__ import annotations

import math
import os
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from casstore.catalog.index import Index
from casstore.catalog.packed import packs_here
from casstore.catalog.rows import DamagedIndexError
from casstore.digest import Digest, Key, digest_of
from casstore.errors import CasstoreError, NotFoundError
from casstore.events import Advanced, Event, Finished, Started, Warned
from casstore.quiet import ignore
from casstore.repo import ahead
from casstore.repo import verify as verify_module
from casstore.repo.evict import evict, remove
from casstore.repo.repository import Repository
from casstore.store.codec import FRAME_SIZE
from casstore.store.sealed import Stored, examine
from tests.conftest import Bucket
from tests.s3 import Server
from tests.stores import answer, answers, damage, dump, files, fill, key, noise
from tests.unit.repo.conftest import Open


def everything(store: Repository) -> tuple[dict[Key, bytes | None], set[Digest]]:
    """Return the answers of a store, and the objects put by hand."""
    return answers(store), {info.digest for info in store.objects() if info.kept}


def full(store: Repository, url: str) -> None:
    """Give a store entries that are pushed, not pushed, replaced, forgotten, and objects put by hand."""
    fill(store, range(6))
    store.forget(key(0))
    store.put(b"by hand, pushed")
    store.push(url)
    fill(store, range(10, 14))
    store.put_entry(key(1), answer(1, 2), replace=True)
    store.forget(key(2))
    store.put(noise(2 * FRAME_SIZE))


# Verify


def test_good_store_verifies(store: Repository, folder_url: str) -> None:
    """A good store has no failures, and the report counts all of its files."""
    full(store, folder_url)
    events: list[Event] = []
    report = store.verify(on_event=events.append)
    objects, segments = files(store.path, "objects"), files(store.path, "manifest")
    assert (report.objects, report.segments, report.failures) == (len(objects), len(segments), ())
    assert report.bytes == sum(map(len, (*objects.values(), *segments.values())))
    assert events[0] == Started("verify", len(objects) + len(segments), report.bytes)
    assert sum(event.size for event in events if isinstance(event, Advanced)) == report.bytes
    assert events[-1] == Finished("verify")


def test_every_flipped_byte_is_found(
    store: Repository, folder_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever byte of an object or a segment changes, verify tells, and the file is put aside."""
    monkeypatch.setattr(ahead, "MISSES", math.inf)  # the object is to come back as a file of its own
    store.put_entry(key(1), b"an answer, an answer, an answer")
    store.push(folder_url)
    good = files(store.path, "objects") | files(store.path, "manifest")
    for name, content in good.items():
        for position in range(0, len(content), 3):
            damage(store.path / name, position, 1 << position % 8)
            (failure,) = store.verify().failures
            assert failure.name == name
            assert not (store.path / name).exists()
            if name.startswith("objects"):
                store.get(digest_of(b"an answer, an answer, an answer"))
            else:
                store.pull(folder_url)
            assert store.verify().failures == ()
    assert answers(store) == {key(1): b"an answer, an answer, an answer"}


def test_verify_finds_missing_and_stray_files(store: Repository) -> None:
    """A row without a file goes, a file without a row is taken in, and a file in a wrong place is told."""
    fill(store, range(3))
    paths = [store.path / store.local.objects.name(digest_of(answer(number))) for number in range(3)]
    paths[0].unlink()
    with store.local.index.writing() as connection:
        connection.execute("DELETE FROM objects WHERE digest = ?", (bytes.fromhex(digest_of(answer(1))),))
    wrong = store.path / "objects" / "stray"
    wrong.write_bytes(paths[2].read_bytes())
    misplaced = store.path / "objects" / paths[2].name
    misplaced.write_bytes(paths[2].read_bytes())
    names = {failure.name for failure in store.verify().failures}
    assert names == {
        "objects/stray",
        f"objects/{paths[2].name}",
        paths[0].relative_to(store.path).as_posix(),
    }
    assert [store.has(digest_of(answer(number))) for number in range(3)] == [False, True, True]


def files_of(store: Repository) -> list[Path]:
    """Return the files of a store that hold answers: not the dictionary of its packs."""
    here = [store.local.index.known(digest_of(answer(number))) for number in range(1500)]
    objects = store.local.objects
    names = {
        objects.name(known.digest) if known.place is None else objects.pack_name(known.place.pack)
        for known in here
        if known is not None
    }
    return sorted(store.path / name for name in names)


def damage_frame(store: Repository, pack: Path) -> None:
    """Flip a bit of one answer in a pack."""
    known = store.local.index.known(digest_of(answer(1)))
    assert known is not None
    assert known.place is not None
    damage(pack, known.place.offset + known.stored // 2)


@pytest.mark.parametrize("harm", ["damaged", "gone"])
@pytest.mark.parametrize("count", [3, 1500], ids=["without a dictionary", "with a dictionary"])
def test_pull_brings_what_verify_found_lost(
    store: Repository, opened: Open, bucket: Bucket, requests_log: Server, harm: str, count: int
) -> None:
    """What is lost of a pack that went bad or is gone comes in one request, and then there is nothing."""
    for number in range(count):
        store.put_entry(key(number), answer(number), refs=[b"request %d" % number])
    by_hand = store.put(b"by hand")
    store.push(bucket.url)
    other = opened("other")
    other.pull(bucket.url)
    before = {each.digest for each in other.objects()}
    (pack,) = files_of(other)
    if harm == "gone":
        pack.unlink()
    else:
        damage_frame(other, pack)
    report = other.verify()
    assert len(report.failures) == 1
    assert report.lost == report.held == (2 * count + 1 if harm == "gone" else 1)
    plan = other.plan_pull(bucket.url)
    requests_log.clear()
    pulled = other.pull(bucket.url)
    assert (pulled.objects, pulled.failures) == (report.lost, ())
    assert pulled.requests == plan.requests == requests_log.verbs() == {"LIST": 1, "GET": 1}
    assert other.pull(bucket.url).requests == {"LIST": 1}
    assert {each.digest for each in other.objects()} == before
    assert other.get(by_hand) == b"by hand"
    assert other.verify().failures == ()


@pytest.mark.parametrize("beside", [False, True], ids=["alone", "with its pack"])
def test_pull_brings_a_lost_dictionary_once(
    store: Repository, opened: Open, bucket: Bucket, requests_log: Server, beside: bool
) -> None:
    """Be it wanted for itself alone, or needed by what is lost as well."""
    fill(store, range(1500))
    store.push(bucket.url)
    other = opened("other")
    other.pull(bucket.url)
    (dictionary,) = files(other.path, "objects")
    damage(other.path / dictionary)
    if beside:
        for path in files_of(other):
            path.unlink()
    other.verify()
    plan = other.plan_pull(bucket.url)
    requests_log.clear()
    assert other.pull(bucket.url).requests == plan.requests == requests_log.verbs()
    assert requests_log.verbs() == {"LIST": 1, "GET": 1 + beside}
    assert other.pull(bucket.url).requests == {"LIST": 1}
    assert other.verify().failures == ()


def test_what_no_remote_holds_is_lost_for_good(store: Repository, folder_url: str) -> None:
    """A pull asks for none of it, and verify tells it from what a remote holds."""
    fill(store, range(2))
    store.push(folder_url)
    fill(store, range(2, 5))
    for path in files_of(store):
        damage(path)
    report = store.verify()
    assert (report.objects, report.lost, report.held) == (5, 5, 2)
    assert store.pull(folder_url).objects == 2
    assert store.pull(folder_url).requests == {"LIST": 1}
    assert answers(store) == {key(number): answer(number) if number < 2 else None for number in range(5)}


def test_whoever_reads_what_was_damaged_is_told(store: Repository) -> None:
    """That it was damaged, and where it is now; and not only that it is not here."""
    digest = store.put(answer(1))
    damage(store.path / store.local.objects.name(digest))
    with pytest.raises(NotFoundError, match=r"no remote is known to hold it.*damaged here, see quarantine/"):
        store.get(digest)


def test_objects_of_a_bad_pack_are_counted(store: Repository) -> None:
    """As what they are: read one by one, and saved or lost."""
    fill(store, range(50))
    store.repack()
    (pack,) = files_of(store)
    damage_frame(store, pack)
    report = store.verify()
    assert (report.objects, report.packs, report.lost, report.held) == (50, 1, 1, 0)
    (failure,) = report.failures
    assert failure.reason.endswith("does not fit its digest; of its objects 49 saved, 1 lost")


@pytest.mark.parametrize("packed", [False, True], ids=["files of their own", "in a pack"])
def test_what_is_evicted_while_verify_runs_is_no_failure(
    store: Repository, monkeypatch: pytest.MonkeyPatch, packed: bool
) -> None:
    """It went in good order, after the index was asked what should be there."""
    fill(store, range(3))
    if packed:
        store.repack()
    objects = list(store.objects())
    packs = packs_here(store.local.index)
    evict(store.local, 0, ignore)
    store.local.index.flush()
    monkeypatch.setattr(verify_module, "packs_here", lambda _: packs)
    monkeypatch.setattr(Index, "objects", lambda _: iter(objects))
    assert store.verify().failures == ()


def test_what_is_evicted_while_verify_reads_it_is_not_taken_in(
    store: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file that was read, and is gone since, is not believed to be there."""
    fill(store, [1])
    digest = digest_of(answer(1))

    def read_and_evict(path: Path, known: Stored) -> Stored:
        found = examine(path, known)
        remove(store.local, [digest])
        return found

    with store.local.index.writing() as connection:
        connection.execute("UPDATE objects SET stored = stored + 1")
    monkeypatch.setattr(verify_module, "examine", read_and_evict)
    assert store.verify().failures == ()
    assert not store.has(digest)


# A lost index

Harm = Callable[[Path], object]


def _other_database(path: Path) -> None:
    path.unlink()
    _execute(path, "CREATE TABLE other(x)")


def _execute(path: Path, statement: str) -> None:
    connection = sqlite3.connect(path)
    connection.execute(statement)
    connection.commit()
    connection.close()


HARMS: dict[str, Harm] = {
    "removed": Path.unlink,
    "truncated to nothing": lambda path: path.write_bytes(b""),
    "garbage": lambda path: path.write_bytes(os.urandom(100_000)),
    "header only": lambda path: os.truncate(path, 100),
    "cut in half": lambda path: os.truncate(path, path.stat().st_size // 2),
    "another database": _other_database,
    "later version": lambda path: _execute(path, "PRAGMA user_version = 99"),
}


@pytest.mark.parametrize("harm", HARMS)
def test_lost_index_is_rebuilt(opened: Open, folder_url: str, harm: str) -> None:
    """However the index is lost, opening the store brings back every entry, pushed or not, and says so."""
    with opened() as store:
        full(store, folder_url)
        expected = everything(store)
    HARMS[harm](store.path / "index.sqlite")
    events: list[Event] = []
    again = _usable(lambda: opened(on_event=events.append))
    assert everything(again) == expected
    (warned,) = [event for event in events if isinstance(event, Warned)]
    assert "rebuilt the index: 8 entries" in warned.message
    assert again.push(folder_url).objects == 6
    assert again.push(folder_url).requests == {"LIST": 1}
    assert everything(again) == expected
    assert again.verify().failures == ()


def _usable(open_store: Callable[[], Repository]) -> Repository:
    """Open a store and use it, once more where the first use found the damage."""
    store = open_store()
    try:
        answers(store)
    except DamagedIndexError:
        answers(store)
    return store


def test_damaged_pages_are_rebuilt(opened: Open, folder_url: str) -> None:
    """Whichever page of the index is overwritten, at most one use fails before all entries are back."""
    with opened() as store:
        full(store, folder_url)
        expected = everything(store)
    path = store.path / "index.sqlite"
    whole = path.read_bytes()
    for start in range(0, len(whole), 4096):
        path.write_bytes(whole[:start] + b"\xa5" * 4096 + whole[start + 4096 :])
        with _usable(opened) as again:
            assert everything(again) == expected, start


def test_flipped_bytes_of_the_index_never_give_a_wrong_answer(opened: Open) -> None:
    """A byte that changes in the index may cost an entry, never its truth, and a rebuild has everything."""
    with opened() as store:
        fill(store, range(8))
        expected = everything(store)
    path = store.path / "index.sqlite"
    whole = path.read_bytes()
    for position in range(17, len(whole), 997):
        damage(path, position, 0x20)
        try:
            with opened() as again:
                found = {each: content for each, content in answers(again).items() if content is not None}
                assert found.items() <= expected[0].items()
        except CasstoreError:
            pass
        with opened() as again:
            again.rebuild()
            assert everything(again) == expected
        path.write_bytes(whole)
        for name in ("index.sqlite-wal", "index.sqlite-shm"):
            (store.path / name).unlink(missing_ok=True)


def test_index_lost_in_use(opened: Open) -> None:
    """A store whose index is removed while it is open goes on, with every entry."""
    store = opened()
    fill(store, range(3))
    (store.path / "index.sqlite").unlink()
    fill(store, range(3, 5))
    assert answers(store) == {key(number): answer(number) for number in range(5)}
    assert answers(opened()) == answers(store)


def test_rebuild_is_seen_by_who_has_the_store_open(opened: Open, folder_url: str) -> None:
    """After another has rebuilt the index, an open store reads, writes, pushes and pulls with the new one."""
    store, other = opened(), opened()
    full(store, folder_url)
    report = other.rebuild()
    assert (report.entries, report.absent, report.damaged, report.failures) == (8, 0, 0, ())
    fill(store, [20])
    assert everything(other) == everything(store)
    assert store.push(folder_url).entries == 7
    assert store.pull(folder_url).requests == {"LIST": 1}
    assert other.status(folder_url).push.is_empty


def test_rebuild_reports_what_it_could_not_recover(opened: Open) -> None:
    """Damaged journal lines, segments and objects are counted and named, and the rest comes back."""
    with opened() as store:
        fill(store, range(4))
    (journal,) = (store.path / "journal").iterdir()
    damage(journal, 30)
    bad = store.path / store.local.objects.name(digest_of(answer(3)))
    bad.write_bytes(b"junk")
    (store.path / "manifest").mkdir()
    (store.path / "manifest" / ("0" * 64 + ".zst")).write_bytes(b"junk")
    (store.path / "index.sqlite").unlink()
    events: list[Event] = []
    again = opened(on_event=events.append)
    (warned,) = [event for event in events if isinstance(event, Warned)]
    for part in ("3 entries", "3 objects", "could not read 2 files", "could not read 1 journal lines"):
        assert part in warned.message
    assert set(answers(again).values()) == {answer(1), answer(2), None}
    report = again.rebuild()
    assert (report.entries, report.absent, report.damaged, len(report.failures)) == (3, 1, 1, 2)


def test_rebuild_changes_nothing_in_a_good_store(store: Repository, folder_url: str) -> None:
    """A rebuilt index has the same entries and objects as the one it replaces."""
    full(store, folder_url)
    before = dump(store.path)
    report = store.rebuild()
    after = dump(store.path)
    assert report.entries == 8
    assert report.absent == 0
    assert (after["entries"], after["objects"]) == (before["entries"], before["objects"])
    assert after["totals"] == before["totals"]
    assert min(path.name[-12:] for path in (store.path / "quarantine").iterdir()) == "index.sqlite"


def test_damaged_local_segment_is_fetched_again(opened: Open, folder_url: str) -> None:
    """A segment whose local file went bad is brought again by the next sync after a rebuild."""
    with opened() as store:
        fill(store, range(3))
        store.push(folder_url)
    (name,) = files(store.path, "manifest")
    damage(store.path / name)
    (store.path / "index.sqlite").unlink()
    again = opened()
    assert answers(again) == {}
    report = again.pull(folder_url)
    assert (report.entries, report.failures) == (3, ())
    assert answers(again) == {key(number): answer(number) for number in range(3)}
    assert again.verify().failures == ()


def test_bad_segment_is_made_good_from_the_index(opened: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a bad segment held that no remote has is written anew, and survives the loss of the index too."""
    monkeypatch.setattr("casstore.repo.repository.SEAL_AT", 1)
    with opened() as store:
        fill(store, range(5))
        store.forget(key(0))
        store.put(b"by hand")
        expected = everything(store)
    (name,) = files(store.path, "manifest")
    damage(store.path / name)
    with opened() as store:
        assert [failure.name for failure in store.verify().failures] == [name]
        assert store.verify().failures == ()
    (store.path / "index.sqlite").unlink()
    assert everything(opened()) == expected
