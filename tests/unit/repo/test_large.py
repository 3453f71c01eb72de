"""Large objects from a bucket: groups of frames, each fetched once, whatever fails, lies or is in the way."""

from __future__ import annotations

import dataclasses
import errno
import fcntl
import io
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from casstore.backends.s3 import S3Backend
from casstore.digest import Digest, digest_of
from casstore.errors import BackendError, IntegrityError, NotFoundError
from casstore.repo.large import GROUPS_AT_ONCE, Group, count_fetches, fetched, groups_of
from casstore.repo.repository import Repository
from casstore.store.codec import FRAME_SIZE, SEAL_SIZE, STORED_MAX, Codec
from casstore.store.objects import ObjectStore
from casstore.store.sealed import Frames, Stored, write_sealed
from tests.conftest import Bucket
from tests.doubles import FaultyBackend, WrappedBackend
from tests.s3 import Fault, Server
from tests.stores import answer, damage, files, fill, key, noise
from tests.unit.repo.conftest import Open

GROUP = 16 * 1024
FRAMES = 9
"""Each is 4 MiB and takes 8 KiB as stored, so that two are a group."""

SIZE = (FRAMES - 1) * FRAME_SIZE + 100_000


def content_of(seed: int = 0) -> bytes:
    """Return content of nine frames, the last one short; what of each does not compress are 8 KiB."""
    frames = (noise(8192, FRAMES * seed + i) * (FRAME_SIZE // 8192) for i in range(FRAMES))
    return b"".join(frames)[:SIZE]


CONTENT = content_of()


@pytest.fixture(autouse=True)
def _small_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(S3Backend, "part_size", GROUP)


@pytest.fixture
def known(store: Repository, bucket: Bucket, requests_log: Server) -> Stored:
    """Push a large object, and return how the bucket holds it."""
    digest = store.put(CONTENT)
    assert not store.push(bucket.url).failures
    requests_log.clear()
    found = store.local.index.known(digest)
    assert found is not None
    return found


@pytest.fixture
def source(store: Repository, bucket: Bucket, known: Stored) -> ObjectStore:
    """Return the objects of the bucket, the large one among them."""
    return store.remote(bucket.url).objects()


@pytest.fixture
def spool(tmp_path: Path) -> Path:
    """Return a folder for unfinished files."""
    folder = tmp_path / "spool"
    folder.mkdir()
    return folder


def bring(source: ObjectStore, known: Stored, spool: Path) -> bytes:
    """Fetch an object's file, and return it."""
    with fetched(source, known, spool) as (found, path):
        assert (found.digest, found.size) == (known.digest, known.size)
        assert found.frames is not None
        return path.read_bytes()


def ranges(server: Server) -> list[tuple[int, int]]:
    """Return the start and the length of each ranged GET since the log was cleared, in order of the file."""
    asked = [request.range for request in server.requests() if request.verb == "GET" and request.range]
    bounds = [tuple(map(int, each.removeprefix("bytes=").split("-"))) for each in asked]
    return sorted((start, last - start + 1) for start, last in bounds)


def places(groups: tuple[Group, ...]) -> list[tuple[int, int]]:
    """Return the start and the length of groups."""
    return [(group.start, group.length) for group in groups]


def frames_of(known: Stored) -> Frames:
    """Return the frames of an object that has some."""
    assert known.frames is not None
    return known.frames


# Groups


def made_up(*lengths: int, size: int | None = None) -> Stored:
    """Return an object with frames of these stored lengths."""
    frames = Frames(lengths, tuple(digest_of(b"%d" % i) for i in range(len(lengths))))
    size = len(lengths) * FRAME_SIZE if size is None else size
    return Stored(digest_of(b""), size, sum(lengths) + SEAL_SIZE, frames)


def test_groups_cover_the_file() -> None:
    """Groups follow each other, end with the frame that fills them, and the last one has the seal."""
    known = made_up(50, 50, 50, 60, 90, 120, 3)
    assert groups_of(known, 100) == (
        Group(0, 2, 0, 100),
        Group(2, 4, 100, 110),
        Group(4, 6, 210, 210),
        Group(6, 7, 420, 3 + SEAL_SIZE),
    )
    assert count_fetches(known, 100) == 4


@pytest.mark.parametrize(
    "known",
    [
        replace(made_up(100, 100), frames=None),
        made_up(100, 80),
        made_up(100, 100, 100, size=FRAME_SIZE),
        made_up(100, 100, 100, size=3 * FRAME_SIZE + 1),
        made_up(100, 0, 200),
        made_up(100, STORED_MAX + 1),
        replace(made_up(100, 100, 100), stored=311),
        replace(made_up(100, 100, 100), stored=2**52),
        replace(made_up(), stored=2**52),
    ],
    ids=[
        "no frames",
        "less than two groups",
        "more frames than content",
        "fewer frames than content",
        "empty frame",
        "frame longer than any",
        "shorter than its frames",
        "longer than its frames",
        "nothing",
    ],
)
def test_objects_that_are_fetched_whole(known: Stored) -> None:
    """Small objects, and those whose location cannot be right, are one request."""
    assert groups_of(known, 100) == ()
    assert count_fetches(known, 100) == 1


def test_backend_without_parts_is_read_whole() -> None:
    """Where nothing is sent in parts, nothing is fetched in groups."""
    assert groups_of(made_up(*[STORED_MAX] * 100), None) == ()


# Fetching


def test_object_comes_in_groups(opened: Open, bucket: Bucket, requests_log: Server, known: Stored) -> None:
    """A pull fetches each group by one ranged request, as status said, and nothing stays behind."""
    other = opened("other")
    plan = other.status(bucket.url).pull
    requests_log.clear()
    report = other.pull(bucket.url)
    groups = groups_of(known, GROUP)
    assert len(groups) == 5
    assert ranges(requests_log) == places(groups)
    assert requests_log.verbs() == plan.requests == report.requests == {"LIST": 1, "GET": len(groups)}
    assert report.bytes == plan.bytes == known.stored
    assert other.get(known.digest) == CONTENT
    assert other.local.index.known(known.digest) == known
    assert files(other.path, "tmp") == {}
    assert other.verify().failures == ()


def test_object_of_one_group_is_one_request(
    store: Repository, opened: Open, bucket: Bucket, requests_log: Server
) -> None:
    """An object of several frames that are less than two groups comes whole."""
    digest = store.put(bytes(2 * FRAME_SIZE))
    store.push(bucket.url)
    other = opened("other")
    other.pull(bucket.url, manifest_only=True)
    requests_log.clear()
    assert other.get(digest) == bytes(2 * FRAME_SIZE)
    assert [(request.verb, request.range) for request in requests_log.requests()] == [("GET", "")]


def test_fetching_on_demand_takes_groups_too(
    opened: Open, bucket: Bucket, requests_log: Server, known: Stored
) -> None:
    """An object that is needed now comes in the same way as by a pull."""
    other = opened("other")
    other.pull(bucket.url, manifest_only=True)
    requests_log.clear()
    assert other.get_range(known.digest, SIZE - 10, 10) == CONTENT[-10:]
    assert ranges(requests_log) == places(groups_of(known, GROUP))


def test_groups_in_flight(source: ObjectStore, known: Stored, spool: Path) -> None:
    """However many large objects come at once, four groups are under way in one process."""
    lock, running, most = threading.Lock(), 0, 0

    class Counting(WrappedBackend):
        def read_range(self, name: str, start: int, length: int) -> bytes:
            nonlocal running, most
            with lock:
                running += 1
                most = max(most, running)
            time.sleep(0.02)  # so that whoever may come, comes
            try:
                return super().read_range(name, start, length)
            finally:
                with lock:
                    running -= 1

    counting = ObjectStore(Counting(source.backend), source._shards, Codec(), spool, source.dictionaries)
    folders = [spool / str(number) for number in range(3)]
    for folder in folders:
        folder.mkdir()
    with ThreadPoolExecutor(3) as pool:
        found = list(pool.map(lambda folder: bring(counting, known, folder), folders))
    assert len(set(found)) == 1
    assert most == GROUPS_AT_ONCE


# Taking up


def interrupt(source: ObjectStore, known: Stored, spool: Path, server: Server, after: int) -> Path:
    """Let the remote fail after some groups, and return the partial file."""
    server.fail(Fault("GET", after=after, times=100, status=403, code="AccessDenied"))
    with pytest.raises(BackendError):
        bring(source, known, spool)
    server.clear()
    return spool / f"{known.digest}.partial"


def test_groups_that_are_here_are_not_fetched_again(
    source: ObjectStore, known: Stored, spool: Path, requests_log: Server
) -> None:
    """After a failure, the next try fetches exactly the groups that did not come."""
    partial = interrupt(source, known, spool, requests_log, 3)
    whole = source.backend.read(source.name(known.digest))
    requests_log.clear()
    here = partial.read_bytes().ljust(known.stored, b"\0")
    groups = groups_of(known, GROUP)
    missing = [
        place for place in places(groups) if here[place[0] : sum(place)] != whole[place[0] : sum(place)]
    ]
    assert len(missing) == 2
    assert bring(source, known, spool) == whole
    assert ranges(requests_log) == missing
    assert list(spool.iterdir()) == []


def test_damaged_group_is_fetched_again(
    source: ObjectStore, known: Stored, spool: Path, requests_log: Server
) -> None:
    """What an earlier try brought is verified: a group that the disk spoiled is fetched, no other."""
    groups = groups_of(known, GROUP)
    whole = source.backend.read(source.name(known.digest))
    partial = spool / f"{known.digest}.partial"
    partial.write_bytes(whole)
    damage(partial, groups[2].start + groups[2].length - 50)
    requests_log.clear()
    assert bring(source, known, spool) == whole
    assert ranges(requests_log) == places(groups[2:3])


@pytest.mark.parametrize("left", [b"", b"something else entirely", bytes(10_000_000), b"x" * 10_000_000])
def test_partial_file_that_is_none(
    source: ObjectStore, known: Stored, spool: Path, requests_log: Server, left: bytes
) -> None:
    """A partial file with anything in it, longer than the object or not, costs nothing and does no harm."""
    (spool / f"{known.digest}.partial").write_bytes(left)
    whole = source.backend.read(source.name(known.digest))
    requests_log.clear()
    assert bring(source, known, spool) == whole
    assert ranges(requests_log) == places(groups_of(known, GROUP))


def test_whole_partial_file_needs_no_request(
    source: ObjectStore, known: Stored, spool: Path, requests_log: Server
) -> None:
    """A process that died just before it moved the file has fetched it for the next one."""
    whole = source.backend.read(source.name(known.digest))
    (spool / f"{known.digest}.partial").write_bytes(whole)
    requests_log.clear()
    assert bring(source, known, spool) == whole
    assert requests_log.verbs() == {}


def test_old_partial_files_are_swept(store: Repository, bucket: Bucket) -> None:
    """A partial file that nobody took up for a day goes; a younger one stays."""
    old, young = (store.local.spool / f"{digest_of(name)}.partial" for name in (b"old", b"young"))
    for path in (old, young):
        path.write_bytes(b"frames")
    os.utime(old, (0, time.time() - 25 * 3600))
    store.plan_push(bucket.url)
    assert [path.name for path in store.local.spool.iterdir()] == [young.name]


def test_partial_file_at_work_is_not_old(
    source: ObjectStore, known: Stored, spool: Path, requests_log: Server
) -> None:
    """Whoever takes up a partial file makes it young again, so that it is not swept under his hands."""
    partial = interrupt(source, known, spool, requests_log, 1)
    os.utime(partial, (0, 0))
    seen: list[float] = []

    class Looking(WrappedBackend):
        def read_range(self, name: str, start: int, length: int) -> bytes:
            seen.append(partial.stat().st_mtime)
            return super().read_range(name, start, length)

    looking = Looking(source.backend)
    bring(ObjectStore(looking, source._shards, Codec(), spool, source.dictionaries), known, spool)
    assert min(seen) > time.time() - 3600


def test_full_disk_keeps_no_partial_file(
    source: ObjectStore, known: Stored, spool: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the disk is full, what was brought does not stay to fill it."""

    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(BackendError, match="disk is full"):
        bring(source, known, spool)
    assert list(spool.iterdir()) == []


# Lies and damage


class Spoiling(WrappedBackend):
    """Flips one bit in some of the ranges that are read."""

    def __init__(self, source: ObjectStore, times: int) -> None:
        super().__init__(source.backend)
        self._left = times
        self._lock = threading.Lock()

    def read_range(self, name: str, start: int, length: int) -> bytes:
        """Read, and perhaps spoil."""
        content = bytearray(super().read_range(name, start, length))
        with self._lock:
            self._left -= 1
            if self._left >= 0:
                content[length // 2] ^= 1
        return bytes(content)


def test_range_damaged_on_its_way(
    source: ObjectStore, known: Stored, spool: Path, requests_log: Server
) -> None:
    """A group that came damaged is asked for once more, and the others are not."""
    whole = source.backend.read(source.name(known.digest))
    requests_log.clear()
    spoiling = ObjectStore(Spoiling(source, 1), source._shards, Codec(), spool, source.dictionaries)
    assert bring(spoiling, known, spool) == whole
    groups = places(groups_of(known, GROUP))
    asked = ranges(requests_log)
    assert (len(asked), set(asked)) == (len(groups) + 1, set(groups))


def test_ranges_that_are_always_damaged(
    source: ObjectStore, known: Stored, spool: Path, requests_log: Server
) -> None:
    """Where no range is right twice in a row, the object is fetched whole."""
    whole = source.backend.read(source.name(known.digest))
    requests_log.clear()
    spoiling = ObjectStore(Spoiling(source, 1000), source._shards, Codec(), spool, source.dictionaries)
    assert bring(spoiling, known, spool) == whole
    assert [request.range for request in requests_log.requests()].count("") == 1
    assert list(spool.iterdir()) == []


def test_damaged_object_is_refused(source: ObjectStore, known: Stored, spool: Path) -> None:
    """An object that is damaged where it lies is an error, and leaves nothing."""
    backend = FaultyBackend(source.backend)
    backend.corrupt(source.name(known.digest))
    with pytest.raises(IntegrityError):
        bring(ObjectStore(backend, source._shards, Codec(), spool, source.dictionaries), known, spool)
    assert list(spool.iterdir()) == []


def test_missing_object_is_missing(source: ObjectStore, known: Stored, spool: Path) -> None:
    """An object that is gone is not found, and leaves nothing."""
    source.backend.delete(source.name(known.digest))
    with pytest.raises(NotFoundError):
        bring(source, known, spool)
    assert list(spool.iterdir()) == []


def swapped(frames: Frames) -> Frames:
    """Exchange the digests of two frames."""
    first, second, *rest = frames.digests
    return Frames(frames.stored, (second, first, *rest))


def shifted(frames: Frames) -> Frames:
    """Move a byte from one frame to another."""
    first, second, *rest = frames.stored
    return Frames((first + 1, second - 1, *rest), frames.digests)


def invented(frames: Frames) -> Frames:
    """Name digests of nothing."""
    return Frames(frames.stored, tuple(digest_of(b"%d" % i) for i in range(len(frames.digests))))


@pytest.mark.parametrize("lie", [swapped, shifted, invented])
def test_frames_that_are_lies(
    source: ObjectStore, known: Stored, spool: Path, lie: Callable[[Frames], Frames]
) -> None:
    """Whatever a location says of the frames, the object comes right, as it truly is."""
    with fetched(source, replace(known, frames=lie(frames_of(known))), spool) as (found, path):
        assert found == known
        assert path.stat().st_size == known.stored
    assert list(spool.iterdir()) == []


def test_object_that_was_stored_anew(source: ObjectStore, known: Stored, spool: Path) -> None:
    """When somebody has sent the object at another level since, it comes as it is stored now."""
    file = io.BytesIO()
    anew = write_sealed(io.BytesIO(CONTENT), file, Codec(19))
    source.backend.write(source.name(known.digest), file.getvalue())
    assert anew.frames != known.frames
    with fetched(source, known, spool) as (found, path):
        assert found == anew
        assert path.read_bytes() == file.getvalue()


def test_other_content_under_the_digest(source: ObjectStore, known: Stored, spool: Path) -> None:
    """A file of other content, with frames that fit it, is refused by the digest of the whole."""
    file = io.BytesIO()
    other = write_sealed(io.BytesIO(content_of(1)), file, Codec())
    source.backend.write(source.name(known.digest), file.getvalue())
    lie = dataclasses.replace(other, digest=known.digest)
    assert groups_of(lie, GROUP)
    with pytest.raises(IntegrityError):
        bring(source, lie, spool)
    assert list(spool.iterdir()) == []


# Several at once


def test_partial_file_of_somebody_else(
    source: ObjectStore, known: Stored, spool: Path, requests_log: Server
) -> None:
    """While somebody has the partial file, it is not touched, and the object comes by another."""
    partial = spool / f"{known.digest}.partial"
    partial.write_bytes(b"at work")
    whole = source.backend.read(source.name(known.digest))
    requests_log.clear()
    with partial.open("rb") as theirs:
        fcntl.flock(theirs, fcntl.LOCK_EX)
        assert bring(source, known, spool) == whole
    assert ranges(requests_log) == places(groups_of(known, GROUP))
    assert partial.read_bytes() == b"at work"
    assert list(spool.iterdir()) == [partial]


def test_partial_file_that_was_moved_meanwhile(
    source: ObjectStore, known: Stored, spool: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever waited for a lock on a file that is in its place by now begins a new one."""
    partial, final = spool / f"{known.digest}.partial", spool / "final"
    partial.write_bytes(b"complete")
    original = fcntl.flock

    def late(descriptor: int, operation: int) -> None:
        if partial.exists() and partial.read_bytes() == b"complete":
            partial.replace(final)
        original(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", late)
    bring(source, known, spool)
    assert final.read_bytes() == b"complete"
    assert list(spool.iterdir()) == [final]


_PULL = """
import sys, threading
from casstore.backends.s3 import S3Backend
from casstore.repo.repository import Repository
S3Backend.part_size = int(sys.argv[3])
read_range, lock, met = S3Backend.read_range, threading.Lock(), []
def meeting(self, name, start, length):
    with lock:
        if name.startswith("objects/") and not met:
            print("here", flush=True)
            met.append(sys.stdin.readline())
    return read_range(self, name, start, length)
S3Backend.read_range = meeting
with Repository.open(sys.argv[1]) as store:
    report = store.pull(sys.argv[2])
assert not report.failures and report.objects == 1, report
"""


def test_two_processes_pull_the_same_object(opened: Open, bucket: Bucket, known: Stored) -> None:
    """Two pulls into one store at once both bring the object, and leave one file."""
    other = opened("other")
    fill(other, [1])
    command = [sys.executable, "-W", "error", "-c", _PULL, str(other.path), bucket.url, str(GROUP)]
    pipe = subprocess.PIPE
    running = [subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True) for _ in range(2)]
    for process in running:
        assert process.stdout is not None
        assert process.stdout.readline() == "here\n"
    for process in running:
        _, said = process.communicate("go on\n", timeout=120)
        assert process.returncode == 0, said
    assert other.get(known.digest) == CONTENT
    assert other.read_entry(key(1))[1] == answer(1)
    assert files(other.path, "tmp") == {}
    assert other.verify().failures == ()
    assert Digest(known.digest) in {info.digest for info in other.objects()}
