"""The journal: what was appended is replayed, whatever happened to the process or the disk."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from casstore.catalog.journal import Journal, replay
from casstore.catalog.records import Record, Tombstone
from casstore.errors import BackendError
from tests.children import ended, fork
from tests.properties.strategies import records
from tests.stores import damage, key


def tombstone(number: int) -> Tombstone:
    """Return the record of a number."""
    return Tombstone(key(number), 0, number)


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    """Return an empty journal."""
    return Journal(tmp_path / "journal", durable=False)


def held(journal: Journal) -> list[Record]:
    """Return all records of a journal, none of them damaged."""
    found = replay(journal.paths())
    assert found.damaged == 0
    return list(found.records)


@given(st.lists(st.lists(records(), max_size=3), max_size=5))
@settings(max_examples=50, deadline=None)
def test_round_trip(tmp_path_factory: pytest.TempPathFactory, batches: list[list[Record]]) -> None:
    """Records come back in the order in which they were appended."""
    journal = Journal(tmp_path_factory.mktemp("journal"), durable=False)
    for batch in batches:
        journal.append(batch)
    assert held(journal) == [record for batch in batches for record in batch]


def test_journal_that_was_never_written_is_empty(journal: Journal) -> None:
    """A journal without a folder has no files, no bytes and nothing to finish."""
    journal.finish()
    assert (journal.paths(), journal.size(), held(journal)) == ([], 0, [])


def test_files_are_private(journal: Journal) -> None:
    """Folder and files are for their owner alone."""
    journal.append([tombstone(1)])
    (path,) = journal.paths()
    assert (path.stat().st_mode & 0o777, path.parent.stat().st_mode & 0o777) == (0o600, 0o700)


def test_torn_last_line_is_passed_over(journal: Journal) -> None:
    """A line cut short by a crash does not hide those before it."""
    journal.append([tombstone(1), tombstone(2)])
    (path,) = journal.paths()
    whole = path.read_bytes()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        found = replay([path])
        complete = whole[: length + 1].count(b"\n")  # a line that lacks only its newline is whole
        assert list(found.records) == [tombstone(1), tombstone(2)][:complete]


def test_damaged_line_is_counted_and_costs_no_other(journal: Journal) -> None:
    """Whatever byte changes, only the lines it touches are lost, and they are counted."""
    numbers = range(3)
    journal.append(tombstone(number) for number in numbers)
    (path,) = journal.paths()
    whole = path.read_bytes()
    line = len(whole) // 3
    for position in range(0, len(whole), 7):
        path.write_bytes(whole)
        damage(path, position, 0x01)
        found = replay([path])
        expected = [tombstone(number) for number in numbers if number != position // line]
        joined = (position + 1) % line == 0  # a newline that changed joins two lines
        assert set(found.records) >= set(expected[:1] if joined else expected)
        assert found.damaged == 1
        assert len(found.records) + found.damaged + joined == 3


@pytest.mark.parametrize("content", [b"\0" * 4096, b"junk\n" * 10, b"\xff" * 99, b"00000000 \n", b"\n\n\n"])
def test_file_of_junk_holds_nothing(journal: Journal, content: bytes) -> None:
    """A file that was overwritten yields no record."""
    journal.append([tombstone(1)])
    (path,) = journal.paths()
    path.write_bytes(content)
    assert replay([path]).records == ()


def test_full_disk_is_an_error_and_the_next_append_is_whole(
    journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A write that the disk took in part raises; what is appended later does not become part of it."""
    journal.append([tombstone(1)])
    write = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, content: write(descriptor, content[:30]))
    with pytest.raises(BackendError, match="free some space"):
        journal.append([tombstone(2)])
    monkeypatch.undo()
    journal.append([tombstone(3)])
    found = replay(journal.paths())
    assert found.records == (tombstone(1), tombstone(3))
    assert found.damaged == 1


def test_failing_disk_is_an_error(journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    """A write that fails altogether raises, and the next one succeeds."""

    def fail(descriptor: int, content: bytes) -> int:
        raise OSError(28, "No space left on device")

    journal.append([tombstone(1)])
    monkeypatch.setattr(os, "write", fail)
    with pytest.raises(BackendError, match="No space left"):
        journal.append([tombstone(2)])
    monkeypatch.undo()
    journal.append([tombstone(3)])
    assert held(journal) == [tombstone(1), tombstone(3)]


def test_durable_append_reaches_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where durability was asked, every append is followed by fsync, and the new file's name too."""
    synced: list[int] = []
    monkeypatch.setattr(os, "fsync", synced.append)
    journal = Journal(tmp_path / "journal", durable=True)
    journal.append([tombstone(1)])
    journal.append([tombstone(2)])
    assert len(synced) == 3


def test_forked_child_writes_a_file_of_its_own(journal: Journal) -> None:
    """Parent and child append to different files, and nothing is lost."""
    journal.append([tombstone(1)])
    assert ended(fork(lambda: journal.append([tombstone(2)]))) == 0
    journal.append([tombstone(3)])
    assert len(journal.paths()) == 2
    assert set(held(journal)) == {tombstone(1), tombstone(2), tombstone(3)}


def test_finish_in_a_child_leaves_the_parent_its_file(journal: Journal) -> None:
    """A child that finishes its journal does not rename the one its parent writes to."""
    journal.append([tombstone(1)])
    assert ended(fork(journal.finish)) == 0
    assert [path.suffix for path in journal.paths()] == [".log"]


def test_living_process_keeps_its_file(journal: Journal, tmp_path: Path) -> None:
    """Nobody claims the file of a process that lives, and anybody that of one that is gone."""
    program = (
        "import sys; from pathlib import Path; from casstore.catalog.journal import Journal;"
        "from tests.unit.catalog.test_journal import tombstone;"
        "journal = Journal(Path(sys.argv[1]), durable=False); journal.append([tombstone(1)]);"
        "print('ready', flush=True); sys.stdin.read()"
    )
    folder = str(tmp_path / "journal")
    command = [sys.executable, "-c", program, folder]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        assert process.stdout.readline() == "ready\n"
        assert journal.claim().paths == []
        process.kill()
        process.wait()
        claimed = journal.claim()
    assert claimed.paths == claimed.unfinished
    assert replay(claimed.paths).records == (tombstone(1),)
    claimed.discard()
    assert journal.paths() == []


def test_finished_file_is_claimed_but_complete(journal: Journal) -> None:
    """A file that was closed in order can be claimed at once, and the index needs nothing from it."""
    journal.append([tombstone(1)])
    journal.finish()
    journal.append([tombstone(2)])
    claimed = journal.claim()
    assert [path.suffix for path in claimed.paths] == [".done"]
    assert claimed.unfinished == []
    claimed.release()
    assert len(journal.paths()) == 2


def test_released_files_stay(journal: Journal, tmp_path: Path) -> None:
    """What was claimed and not discarded can be claimed by another."""
    journal.append([tombstone(1)])
    journal.finish()
    first = journal.claim()
    assert Journal(tmp_path / "journal", durable=False).claim().paths == []
    first.release()
    assert len(journal.claim().paths) == 1


def test_claimant_that_is_faster_than_the_lock(journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    """A new file that another process claims before it is locked is left to it, without waiting."""
    opened: list[Path] = []
    real, rival = os.open, Journal(journal._folder, durable=False)
    claims = []

    def slow(path: Path, flags: int, mode: int = 0o777) -> int:
        descriptor = real(path, flags, mode)
        if flags & os.O_CREAT and not opened:
            opened.append(path)
            claims.append(rival.claim())
        return descriptor

    monkeypatch.setattr(os, "open", slow)
    journal.append([tombstone(1)])
    assert claims[0].paths == opened
    claims[0].discard()
    assert held(journal) == [tombstone(1)]


def _append_many(folder: Path, begin: int) -> None:
    for number in range(begin, begin + 200):
        journal = Journal(folder, durable=False)
        journal.append([tombstone(number)])
        journal.finish()


def test_claims_race_appends(tmp_path: Path) -> None:
    """While processes append and finish, what others claim, together with the rest, is everything."""
    folder = tmp_path / "journal"
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=_append_many, args=(folder, begin)) for begin in (0, 1000)]
    for process in processes:
        process.start()
    seen: list[Record] = []
    lock = threading.Lock()

    def collect() -> None:
        while any(process.is_alive() for process in processes):
            claimed = Journal(folder, durable=False).claim()
            records = replay(claimed.paths).records
            claimed.discard()
            with lock:
                seen.extend(records)

    threads = [threading.Thread(target=collect) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    seen += replay(Journal(folder, durable=False).paths()).records
    expected = {*range(200), *range(1000, 1200)}
    assert {record.created for record in seen if isinstance(record, Tombstone)} == expected
