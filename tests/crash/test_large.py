"""SIGKILL in the middle of a large object's push and pull: the rerun moves only what is missing."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path
from urllib.parse import parse_qs

import pytest

from casstore.backends.s3 import S3Backend
from casstore.digest import Digest
from casstore.repo.large import groups_of
from casstore.repo.repository import Repository
from casstore.store.codec import FRAME_SIZE
from tests.conftest import Bucket
from tests.s3 import Request, Server
from tests.stores import files, noise

ROOT = Path(__file__).parent.parent.parent
PART = 16 * 1024
FRAMES = 20
"""Each is 4 MiB and takes 8 KiB as stored; so two are a group, and as many a part."""

CONTENT = b"".join(noise(8192, seed) * (FRAME_SIZE // 8192) for seed in range(FRAMES))
SOAK = pytest.mark.soak


@pytest.fixture
def digest(folder: Path) -> Digest:
    """Put a large object into a store, and return its digest."""
    with Repository.open(folder) as store:
        return store.put(CONTENT)


def run(folder: Path, url: str, operation: str, verb: str = "", number: int = 0) -> int:
    """Push or pull in a process of its own, killed at a request; return its exit code."""
    arguments = [str(folder), url, operation, str(PART), verb, str(number)]
    command = [sys.executable, "-W", "error", "-m", "tests.crash.large_transfer", *arguments]
    outcome = subprocess.run(command, check=False, capture_output=True, text=True, cwd=ROOT, timeout=120)
    assert outcome.stderr == ""
    return outcome.returncode


def parts(requests: list[Request]) -> list[int]:
    """Return the numbers of the parts that were sent."""
    queries = [parse_qs(request.query) for request in requests if request.verb == "PUT"]
    return sorted(int(query["partNumber"][0]) for query in queries if "partNumber" in query)


def arrived(bucket: Bucket) -> list[int]:
    """Return the parts that the server has of the one unfinished upload."""
    backend = S3Backend(bucket.name, "team")
    filesystem = backend._filesystem()
    (upload,) = filesystem.call_s3("list_multipart_uploads", Bucket=bucket.name)["Uploads"]
    answer = filesystem.call_s3(
        "list_parts", Bucket=bucket.name, Key=upload["Key"], UploadId=upload["UploadId"]
    )
    backend.close()
    return [part["PartNumber"] for part in answer["Parts"]]


@pytest.mark.parametrize("number", [pytest.param(5, marks=SOAK), 8, pytest.param(11, marks=SOAK)])
def test_killed_push_sends_each_part_once(
    folder: Path, digest: Digest, bucket: Bucket, requests_log: Server, number: int
) -> None:
    """What reached the server before the kill is not sent again, and what is complete is whole."""
    with Repository.open(folder) as store:
        known = store.local.index.known(digest)
    assert known is not None
    count = -(-known.stored // PART)
    assert run(folder, bucket.url, "push", "PUT", number) == -signal.SIGKILL
    there = arrived(bucket)
    assert len(there) >= number - 4  # the marker was one, and three may have been in flight
    requests_log.clear()
    assert run(folder, bucket.url, "push") == 0
    assert parts(requests_log.requests()) == sorted(set(range(1, count + 1)) - set(there))
    with Repository.open(folder.parent / "other") as other:
        assert not other.pull(bucket.url).failures
        assert other.get(digest) == CONTENT


@pytest.mark.parametrize("number", [pytest.param(8, marks=SOAK), 10, pytest.param(12, marks=SOAK)])
def test_killed_pull_fetches_each_group_once(
    folder: Path, digest: Digest, bucket: Bucket, requests_log: Server, number: int
) -> None:
    """What reached the disk before the kill is not fetched again, and nothing torn becomes visible."""
    assert run(folder, bucket.url, "push") == 0
    with Repository.open(folder) as store:
        known = store.local.index.known(digest)
    assert known is not None
    groups = groups_of(known, PART)
    other = folder.parent / "other"
    assert run(other, bucket.url, "pull", "GET", number) == -signal.SIGKILL
    assert files(other, "objects") == {}
    (partial,) = files(other, "tmp").values()
    whole = files(folder, "objects").popitem()[1]
    missing = [
        f"bytes={group.start}-{group.start + group.length - 1}"
        for group in groups
        if partial[group.start : group.start + group.length]
        != whole[group.start : group.start + group.length]
    ]
    assert 0 < len(missing) < len(groups)
    requests_log.clear()
    assert run(other, bucket.url, "pull") == 0
    ranges = [request.range for request in requests_log.requests() if request.range]
    assert sorted(ranges) == sorted(missing)
    assert files(other, "tmp") == {}
    with Repository.open(other) as store:
        assert store.get(digest) == CONTENT
        assert not store.verify().failures
