"""What every backend must do, as one class of tests.

A test class for one backend inherits `BackendSuite` and gives it the fixture ``backend``.
"""

from __future__ import annotations

import os
import signal
import threading
import time
import tracemalloc
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest

from casstore.backends.base import Backend
from casstore.errors import BackendError, ExistsError, FormatError, IntegrityError, NotFoundError
from tests.children import ended, fork

MIB = 1024 * 1024

HOSTILE = [
    "",
    "/etc/passwd",
    "..",
    "../outside",
    "objects/../../outside",
    "objects/..",
    "./here",
    "objects//a",
    "objects/",
    ".hidden",
    "objects/.name.0.tmp",
    "objects\\a",
    "objects/a\0b",
    "objects/a\n",
    "objects/é",
    "s3://other/name",
]


class BackendSuite:
    """The contract of `casstore.backends.base.Backend`."""

    between_processes = True
    """Whether a forked child sees the same store."""

    exclusive_between_processes = True
    """Whether exclusive writes of several processes exclude each other."""

    streams = True
    """Whether uploads and downloads need not hold all of the content."""

    def test_reads_what_was_written(self, backend: Backend) -> None:
        """A name holds exactly the bytes written to it."""
        content = bytes(range(256)) * 9
        backend.write("objects/a/b/one", content)
        assert backend.read("objects/a/b/one") == content

    def test_holds_no_bytes_at_all(self, backend: Backend) -> None:
        """Empty content is content."""
        backend.write("objects/empty", b"")
        assert backend.read("objects/empty") == b""
        assert [(info.name, info.size) for info in backend.list("objects")] == [("objects/empty", 0)]

    def test_write_replaces(self, backend: Backend) -> None:
        """A second write replaces the first, also by less."""
        backend.write("name", b"longer than the next")
        backend.write("name", b"short")
        assert backend.read("name") == b"short"

    def test_missing_name_is_not_found(self, backend: Backend, tmp_path: Path) -> None:
        """Each way of reading says that a name is missing."""
        backend.write("objects/other", b"x")
        with pytest.raises(NotFoundError):
            backend.read("objects/none")
        with pytest.raises(NotFoundError):
            backend.read_range("objects/none", 0, 1)
        with pytest.raises(NotFoundError):
            backend.download("objects/none", tmp_path / "target")

    def test_missing_store_is_not_found(self, backend: Backend) -> None:
        """Reading from a store nobody wrote to is a miss, not a failure."""
        with pytest.raises(NotFoundError):
            backend.read("casstore.json")

    def test_folder_is_not_a_name(self, backend: Backend) -> None:
        """What only stands before other names cannot be read."""
        backend.write("objects/a/b/one", b"x")
        with pytest.raises(NotFoundError):
            backend.read("objects/a")

    @pytest.mark.parametrize(("start", "length"), [(0, 1), (0, 10), (3, 4), (9, 1), (0, 0), (4, 0)])
    def test_range_is_exact(self, backend: Backend, start: int, length: int) -> None:
        """A range is the bytes asked for, no more."""
        backend.write("name", b"0123456789")
        assert backend.read_range("name", start, length) == b"0123456789"[start : start + length]

    @pytest.mark.parametrize(("start", "length"), [(0, 11), (9, 2), (10, 1), (50, 5)])
    def test_short_range_is_an_error(self, backend: Backend, start: int, length: int) -> None:
        """A range that ends before it should is an integrity error, which no repetition helps."""
        backend.write("name", b"0123456789")
        with pytest.raises(IntegrityError):
            backend.read_range("name", start, length)

    @pytest.mark.parametrize(("start", "length"), [(-1, 1), (0, -1), (-5, 5)])
    def test_backward_range_is_refused(self, backend: Backend, start: int, length: int) -> None:
        """Negative numbers never count from the end."""
        backend.write("name", b"0123456789")
        with pytest.raises(FormatError):
            backend.read_range("name", start, length)

    def test_exclusive_write_takes_a_free_name(self, backend: Backend) -> None:
        """An exclusive write to a free name is a write."""
        backend.write("objects/new", b"first", exclusive=True)
        assert backend.read("objects/new") == b"first"

    def test_exclusive_write_never_replaces(self, backend: Backend) -> None:
        """An exclusive write to a taken name changes nothing and says so."""
        backend.write("name", b"first")
        with pytest.raises(ExistsError):
            backend.write("name", b"second", exclusive=True)
        assert backend.read("name") == b"first"
        assert [info.name for info in backend.list("")] == ["name"]

    def test_one_exclusive_thread_wins(self, backend: Backend) -> None:
        """Of many threads that write exclusively one succeeds, and its content stays."""
        backend.write("warm", b"")
        start = threading.Barrier(8)

        def compete(number: int) -> bool:
            start.wait()
            return _wins(backend, str(number).encode() * 1000)

        with ThreadPoolExecutor(8) as pool:
            won = list(pool.map(compete, range(8)))
        assert won.count(True) == 1
        assert backend.read("prize") == str(won.index(True)).encode() * 1000

    def test_one_exclusive_process_wins(self, backend: Backend) -> None:
        """Of many processes that write exclusively one succeeds, and its content stays."""
        if not self.exclusive_between_processes:
            pytest.skip("exclusive within one process only")
        backend.write("warm", b"")
        statuses = _in_children(4, lambda number: 0 if _wins(backend, str(number).encode() * 1000) else 1)
        assert sorted(statuses) == [0, 1, 1, 1]
        assert backend.read("prize") == str(statuses.index(0)).encode() * 1000

    @pytest.mark.parametrize("size", [0, 1, 100_000, 16 * MIB, 20 * MIB + 1])
    def test_file_goes_up_and_down(self, backend: Backend, tmp_path: Path, size: int) -> None:
        """A file of any size comes back as it went, above the limit for multipart too."""
        content = os.urandom(4096) * (size // 4096) + b"x" * (size % 4096)
        (tmp_path / "up").write_bytes(content)
        backend.upload(tmp_path / "up", "packs/a/b/pack")
        backend.download("packs/a/b/pack", tmp_path / "down")
        assert (tmp_path / "down").read_bytes() == content
        assert [info.size for info in backend.list("packs")] == [size]

    def test_missing_target_is_no_miss(self, backend: Backend, tmp_path: Path) -> None:
        """When the local file cannot be made, nobody may believe that the name is gone."""
        backend.write("name", b"x")
        for target in (tmp_path / "none" / "target", tmp_path):
            with pytest.raises(BackendError):
                backend.download("name", target)

    def test_missing_source_is_an_error(self, backend: Backend, tmp_path: Path) -> None:
        """A file that is not there cannot go up, and leaves no trace."""
        with pytest.raises(BackendError):
            backend.upload(tmp_path / "none", "objects/name")
        assert list(backend.list("")) == []

    def test_upload_leaves_the_file(self, backend: Backend, tmp_path: Path) -> None:
        """A file stays its owner's, and later changes to it are not the store's."""
        (tmp_path / "up").write_bytes(b"mine")
        backend.upload(tmp_path / "up", "name")
        assert (tmp_path / "up").read_bytes() == b"mine"
        (tmp_path / "up").write_bytes(b"late")
        assert backend.read("name") == b"mine"

    def test_upload_may_consume_the_file(self, backend: Backend, tmp_path: Path) -> None:
        """A file that its owner needs no more goes up as any other."""
        (tmp_path / "up").write_bytes(b"yours")
        backend.upload(tmp_path / "up", "objects/name", consume=True)
        assert backend.read("objects/name") == b"yours"

    def test_upload_and_download_replace(self, backend: Backend, tmp_path: Path) -> None:
        """Both replace what was there, also by less."""
        (tmp_path / "up").write_bytes(b"new")
        (tmp_path / "down").write_bytes(b"something longer")
        backend.write("name", b"something old")
        backend.upload(tmp_path / "up", "name")
        backend.download("name", tmp_path / "down")
        assert (tmp_path / "down").read_bytes() == b"new"

    def test_files_move_in_bounded_memory(self, backend: Backend, tmp_path: Path) -> None:
        """A big file is never held whole, neither going up nor coming down."""
        if not self.streams:
            pytest.skip("this storage is memory")
        size = 96 * MIB
        with (tmp_path / "up").open("wb") as file:
            file.truncate(size)
        backend.write("warm", b"")
        tracemalloc.start()
        try:
            backend.upload(tmp_path / "up", "big")
            backend.download("big", tmp_path / "down")
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert (tmp_path / "down").stat().st_size == size
        assert peak < 60 * MIB

    def test_lists_at_any_depth(self, backend: Backend) -> None:
        """A listing gives every name below the folder with its size, and no other."""
        for name, size in {"m": 9, "m/1": 1, "m/x/2": 2, "m/x/y/z/3": 3, "mm/4": 4, "top": 5}.items():
            if name != "m":
                backend.write(name, b"x" * size)
        assert {info.name: info.size for info in backend.list("m")} == {"m/1": 1, "m/x/2": 2, "m/x/y/z/3": 3}
        assert {info.name: info.size for info in backend.list("m/x/y")} == {"m/x/y/z/3": 3}
        assert {info.name for info in backend.list("")} == {"m/1", "m/x/2", "m/x/y/z/3", "mm/4", "top"}

    def test_listed_files_have_an_age(self, backend: Backend) -> None:
        """Where a listing tells when a name was written, it was just now, by the clock of the storage."""
        backend.write("m/1", b"x")
        (info,) = backend.list("m")
        assert info.modified is None or abs(backend.now() - info.modified) < 60_000

    def test_the_clock_goes_forward(self, backend: Backend) -> None:
        """The time is in milliseconds, before and after the first answer."""
        before = time.time_ns() // 1_000_000
        assert abs(backend.now() - before) < 60_000
        list(backend.list("m"))
        assert abs(backend.now() - before) < 60_000
        assert backend.now() <= backend.now()

    def test_missing_folder_is_empty(self, backend: Backend) -> None:
        """A folder that is not there lists nothing, before the first write and after."""
        assert list(backend.list("manifest")) == []
        assert list(backend.list("")) == []
        backend.write("objects/a", b"x")
        assert list(backend.list("manifest")) == []

    def test_name_is_not_below_itself(self, backend: Backend) -> None:
        """Listing a name that is no folder gives nothing."""
        backend.write("casstore.json", b"x")
        assert list(backend.list("casstore.json")) == []

    def test_sees_at_once_what_changed(self, backend: Backend) -> None:
        """No listing and no miss is remembered."""
        with pytest.raises(NotFoundError):
            backend.read("m/1")
        assert list(backend.list("m")) == []
        backend.write("m/1", b"x")
        assert [info.name for info in backend.list("m")] == ["m/1"]
        assert backend.read("m/1") == b"x"
        backend.delete("m/1")
        assert list(backend.list("m")) == []

    def test_delete_removes_one_name(self, backend: Backend) -> None:
        """A deleted name is gone, its neighbours are not."""
        backend.write("m/1", b"one")
        backend.write("m/2", b"two")
        backend.delete("m/1")
        with pytest.raises(NotFoundError):
            backend.read("m/1")
        assert backend.read("m/2") == b"two"

    def test_deleting_nothing_is_no_error(self, backend: Backend) -> None:
        """A name that is not there may be deleted, in an empty store too."""
        backend.delete("objects/none")
        backend.write("objects/one", b"x")
        backend.delete("objects/none")
        assert backend.read("objects/one") == b"x"

    @pytest.mark.parametrize("name", HOSTILE)
    def test_hostile_names_are_refused(self, backend: Backend, tmp_path: Path, name: str) -> None:
        """No method takes a name that could leave the store or hide in it."""
        (tmp_path / "file").write_bytes(b"x")
        attempts: list[Callable[[], object]] = [
            lambda: backend.read(name),
            lambda: backend.read_range(name, 0, 1),
            lambda: backend.download(name, tmp_path / "file"),
            lambda: backend.write(name, b"x"),
            lambda: backend.write(name, b"x", exclusive=True),
            lambda: backend.upload(tmp_path / "file", name),
            lambda: backend.delete(name),
        ]
        if name:
            attempts.append(lambda: list(backend.list(name)))
        for attempt in attempts:
            with pytest.raises(FormatError):
                attempt()
        assert list(backend.list("")) == []

    def test_many_threads_at_once(self, backend: Backend) -> None:
        """Threads that write, read, list and delete do not disturb each other."""

        def work(number: int) -> bytes:
            name = f"objects/{number % 4}/{number}"
            backend.write(name, b"%d" % number * 500)
            list(backend.list("manifest"))
            backend.write(f"gone/{number}", b"x")
            backend.delete(f"gone/{number}")
            return backend.read(name)

        with ThreadPoolExecutor(16) as pool:
            assert list(pool.map(work, range(100))) == [b"%d" % number * 500 for number in range(100)]
        assert len(list(backend.list("objects"))) == 100
        assert list(backend.list("gone")) == []

    def test_reader_sees_whole_contents_only(self, backend: Backend) -> None:
        """While a name is replaced again and again, each read gives all of one content."""
        contents = [bytes([number]) * 300_000 for number in (1, 2)]
        backend.write("name", contents[0])
        done = threading.Event()

        def replace() -> None:
            for turn in range(40):
                backend.write("name", contents[turn % 2])
            done.set()

        with ThreadPoolExecutor(1) as pool:
            writing = pool.submit(replace)
            seen = [backend.read("name")]
            while not done.is_set() and not writing.done():
                seen.append(backend.read("name"))
            writing.result()
        assert all(content in contents for content in seen)

    def test_child_process_goes_on(self, backend: Backend) -> None:
        """A backend used before a fork works in the child, and still in the parent."""
        if not self.between_processes:
            pytest.skip("each process has a memory of its own")
        backend.write("before", b"parent")

        def child(number: int) -> int:
            backend.write(f"child-{number}", backend.read("before"))
            return 0

        assert _in_children(2, child) == [0, 0]
        assert backend.read("child-0") == backend.read("child-1") == b"parent"

    def test_killed_writer_leaves_nothing_torn(self, backend: Backend, tmp_path: Path) -> None:
        """After SIGKILL in the midst of writing each listed name holds all of one content."""
        if not self.between_processes:
            pytest.skip("each process has a memory of its own")
        backend.write("name", b"\0" * 500_000)
        for turn in range(5):
            _killed_after(0.02 + 0.02 * turn, lambda: _write_for_ever(backend, tmp_path))
            names = [info.name for info in backend.list("")]
            assert "name" in names
            for name in names:
                content = backend.read(name)
                assert len(content) == 500_000
                assert len(set(content)) == 1

    def test_counts_requests_by_verb(self, backend: Backend, tmp_path: Path) -> None:
        """Each operation counts as one request of its verb."""
        (tmp_path / "file").write_bytes(b"xyz")
        assert dict(backend.requests()) == {}
        backend.write("m/1", b"xyz")
        backend.upload(tmp_path / "file", "m/2")
        backend.read("m/1")
        backend.read_range("m/1", 1, 1)
        backend.download("m/2", tmp_path / "down")
        list(backend.list("m"))
        backend.delete("m/1")
        before = backend.requests()
        assert dict(before) == {"PUT": 2, "GET": 3, "LIST": 1, "DELETE": 1}
        backend.read("m/2")
        assert before["GET"] == 3

    def test_counts_every_thread(self, backend: Backend) -> None:
        """No thread's request is lost from the count."""
        backend.write("name", b"x")
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda _: backend.read("name"), range(200)))
        assert backend.requests()["GET"] == 200


def _wins(backend: Backend, content: bytes) -> bool:
    try:
        backend.write("prize", content, exclusive=True)
    except ExistsError:
        return False
    return True


def _write_for_ever(backend: Backend, scratch: Path) -> None:
    source = scratch / f"source-{os.getpid()}"
    turn = 0
    while True:
        turn = turn % 250 + 1
        backend.write("name", bytes([turn]) * 500_000)
        source.write_bytes(bytes([turn]) * 500_000)
        backend.upload(source, f"other-{turn % 3}")


def _in_children(count: int, work: Callable[[int], int]) -> list[int]:
    """Run `work` in forked children at the same time; return how they ended, which it tells."""
    reader, writer = os.pipe()
    children = [fork(partial(_released, reader, writer, work, number)) for number in range(count)]
    os.close(reader)
    os.close(writer)
    return [ended(child) for child in children]


def _released(reader: int, writer: int, work: Callable[[int], int], number: int) -> int:
    """Wait until the parent has started every child and closed the pipe; then work."""
    os.close(writer)
    os.read(reader, 1)
    return work(number)


def _killed_after(seconds: float, work: Callable[[], None]) -> None:
    child = fork(work)
    time.sleep(seconds)
    os.kill(child, signal.SIGKILL)
    assert ended(child) == -signal.SIGKILL
