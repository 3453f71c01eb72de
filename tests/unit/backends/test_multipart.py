"""Uploads in parts: what is sent, what is not sent again, and who is left alone, over real HTTP."""

from __future__ import annotations

import hashlib
import io
import os
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import pytest
from s3fs import S3FileSystem

from casstore.backends.multipart import MAX_PARTS, PARTS_AT_ONCE, Upload, Window, count_parts, split
from casstore.backends.retry import RetryingBackend
from casstore.backends.s3 import S3Backend
from casstore.errors import BackendError, NotFoundError
from tests.conftest import Bucket
from tests.s3 import Fault, Server

PART = 16 * 1024
PARTS = 9
NAME = "objects/a/b/large"
KEY = f"team/{NAME}"


@pytest.fixture
def backend(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> Iterator[S3Backend]:
    """Return a store with parts of 16 KiB, without the retrying wrapper."""
    monkeypatch.setattr(S3Backend, "part_size", PART)
    backend = S3Backend(bucket.name, "team")
    yield backend
    backend.close()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Return a file of eight parts and a half."""
    path = tmp_path / "file"
    path.write_bytes(os.urandom(PART * PARTS - PART // 2))
    return path


def sent_parts(server: Server) -> list[int]:
    """Return the numbers of the parts that were sent since the log was cleared."""
    queries = [parse_qs(request.query) for request in server.requests() if request.verb == "PUT"]
    return sorted(int(query["partNumber"][0]) for query in queries)


def call(backend: S3Backend, method: str, **arguments: object) -> Any:
    """Send one request behind the backend's back, but through its connections."""
    return backend._filesystem().call_s3(method, Bucket=backend._bucket, **arguments)


def unfinished(backend: S3Backend) -> list[str]:
    """Return the unfinished uploads in the bucket."""
    return [each["UploadId"] for each in call(backend, "list_multipart_uploads").get("Uploads", ())]


def begin(backend: S3Backend, *parts: bytes) -> str:
    """Begin an upload as another machine would, and send its first parts."""
    upload = str(call(backend, "create_multipart_upload", Key=KEY)["UploadId"])
    for number, part in enumerate(parts, start=1):
        call(backend, "upload_part", Key=KEY, UploadId=upload, PartNumber=number, Body=part)
    return upload


def pieces(content: bytes) -> list[bytes]:
    """Return the parts of content."""
    return [content[start : start + PART] for start in range(0, len(content), PART)]


# What is sent


def test_requests_of_an_upload(backend: S3Backend, bucket: Bucket, requests_log: Server, file: Path) -> None:
    """An upload asks for unfinished ones of exactly its key, begins, sends each part once, and completes."""
    backend.upload(file, NAME)
    requests = requests_log.requests()
    assert [request.verb for request in requests] == ["LIST", "POST", *["PUT"] * PARTS, "POST"]
    asked = parse_qs(requests[0].query, keep_blank_values=True)
    assert (requests[0].path, asked["prefix"]) == (f"/{bucket.name}", [KEY])
    assert "uploads" in asked
    assert sent_parts(requests_log) == list(range(1, PARTS + 1))
    assert backend.read(NAME) == file.read_bytes()
    assert unfinished(backend) == []


def test_parts_in_flight(backend: S3Backend, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many files go up at once, one backend has three parts in flight."""
    original = S3FileSystem.call_s3
    lock, running, most = threading.Lock(), 0, 0
    together = threading.Barrier(PARTS_AT_ONCE)

    def counted(self: S3FileSystem, method: str, **arguments: object) -> Any:
        nonlocal running, most
        if method != "upload_part":
            return original(self, method, **arguments)
        with lock:
            running += 1
            most = max(most, running)
        together.wait(timeout=30)  # three must meet, or nothing goes on
        try:
            return original(self, method, **arguments)
        finally:
            with lock:
                running -= 1

    monkeypatch.setattr(S3FileSystem, "call_s3", counted)
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda name: backend.upload(file, name), ["objects/one", "objects/two"]))
    assert most == PARTS_AT_ONCE


@pytest.mark.parametrize("size", [PART, 5 * PART, 5 * PART + 1, 6 * PART - 1, (MAX_PARTS + 1) * PART, 10**9])
def test_parts_of_a_size(size: int) -> None:
    """Parts cover a file without a gap, are alike but for the last, and never too many."""
    parts = split(size, PART)
    assert [part.number for part in parts] == list(range(1, len(parts) + 1))
    assert [part.start for part in parts] == [i * parts[0].length for i in range(len(parts))]
    assert sum(part.length for part in parts) == size
    assert len(parts) <= MAX_PARTS
    assert parts[0].length >= min(PART, size)
    if size >= 2 * PART:
        assert count_parts(size, PART) == len(parts)


def test_small_files_have_no_parts() -> None:
    """What is smaller than two parts, or goes where there are none, is one request."""
    assert [count_parts(size, PART) for size in (0, 1, 2 * PART - 1)] == [1, 1, 1]
    assert count_parts(10**12, None) == 1


def test_window_is_a_file(file: Path) -> None:
    """A window on a file is read and moved in as a file that holds just that."""
    content = file.read_bytes()[100:5000]
    with file.open("rb") as source, Window(source.fileno(), 100, 4900) as window:
        assert window.read() == content
        assert (window.read(), window.tell()) == (b"", 4900)
        assert window.seek(0, io.SEEK_END) == 4900
        assert window.seek(-10, io.SEEK_CUR) == 4890
        assert window.read(100) == content[-10:]
        window.seek(7)
        assert (window.read(3), window.tell()) == (content[7:10], 10)


# What is not sent again


def test_parts_that_are_there_are_not_sent_again(
    backend: S3Backend, requests_log: Server, file: Path
) -> None:
    """After a failure nothing is taken back; the next try sends what is missing, to the same upload."""
    requests_log.fail(Fault("PUT", after=4, status=403, code="AccessDenied"))
    with pytest.raises(BackendError):
        backend.upload(file, NAME)
    assert "DELETE" not in requests_log.verbs()
    with pytest.raises(NotFoundError):
        backend.read(NAME)
    upload = unfinished(backend)
    there = [part["PartNumber"] for part in call(backend, "list_parts", Key=KEY, UploadId=upload[0])["Parts"]]
    assert len(there) >= 4
    requests_log.clear()
    backend.upload(file, NAME)
    assert sent_parts(requests_log) == sorted(set(range(1, PARTS + 1)) - set(there))
    verbs = requests_log.verbs()
    assert (verbs["LIST"], verbs["GET"], verbs["POST"]) == (1, 1, 1)
    assert backend.read(NAME) == file.read_bytes()
    assert unfinished(backend) == []


def test_another_machine_takes_up_an_upload(
    backend: S3Backend, bucket: Bucket, requests_log: Server, file: Path
) -> None:
    """An upload that another machine began with the same bytes is as good as one's own."""
    begin(S3Backend(bucket.name, "team"), *pieces(file.read_bytes())[:6])
    requests_log.clear()
    backend.upload(file, NAME)
    assert sent_parts(requests_log) == [7, 8, 9]
    assert backend.read(NAME) == file.read_bytes()


def test_failed_part_is_repeated_alone(backend: S3Backend, requests_log: Server, file: Path) -> None:
    """Within the retrying wrapper, a part that failed for a passing reason is sent again, and no other is."""
    requests_log.fail(Fault("PUT", after=3, times=2))
    requests_log.fail(Fault("LIST"))
    requests_log.fail(Fault("POST", after=1, applied=True))
    RetryingBackend(backend, sleep=lambda _: None).upload(file, NAME)
    assert requests_log.verbs() == {"LIST": 2, "POST": 3, "PUT": PARTS + 2}
    assert backend.read(NAME) == file.read_bytes()


def test_failing_part_is_tried_as_often_as_any_request(
    backend: S3Backend, requests_log: Server, file: Path
) -> None:
    """A part that fails again and again ends the upload when it was tried as often as anything else is."""
    requests_log.fail(Fault("PUT", times=1000))
    with pytest.raises(BackendError) as caught:
        RetryingBackend(backend, attempts=2, sleep=lambda _: None).upload(file, NAME)
    assert caught.value.transient
    numbers = sent_parts(requests_log)
    assert all(numbers.count(number) <= 2 for number in numbers)
    assert requests_log.verbs()["POST"] == 1


def test_listing_of_parts_is_read_page_by_page(file: Path) -> None:
    """The parts of a large upload are listed in pages, and all of them count."""
    parts = split(file.stat().st_size, PART)
    content = pieces(file.read_bytes())
    calls: list[str] = []

    def answer(method: str, **arguments: Any) -> Mapping[str, Any]:
        calls.append(method)
        if method == "list_multipart_uploads":
            return {"Uploads": [{"Key": KEY, "UploadId": "it", "Initiated": 1}]}
        if method == "list_parts":
            first = arguments.get("PartNumberMarker", 0)
            page = [
                {"PartNumber": part.number, "Size": part.length, "ETag": f'"{md5}"'}
                for part in parts[first : first + 4]
                for md5 in [hashlib.md5(content[part.number - 1]).hexdigest()]
            ]
            return {"Parts": page, "IsTruncated": first < 8, "NextPartNumberMarker": first + 4}
        assert method == "complete_multipart_upload"
        assert [part["PartNumber"] for part in arguments["MultipartUpload"]["Parts"]] == list(range(1, 10))
        return {}

    with file.open("rb") as source:
        slots = threading.BoundedSemaphore(PARTS_AT_ONCE)
        Upload(answer, lambda request: request(), slots, KEY, source.fileno(), PART).run()
    assert calls == ["list_multipart_uploads", *["list_parts"] * 3, "complete_multipart_upload"]


# Who is left alone


def test_upload_of_other_bytes_is_left_alone(backend: S3Backend, requests_log: Server, file: Path) -> None:
    """An upload with parts of other bytes is neither taken up nor ended: it may be under way elsewhere."""
    ours = pieces(file.read_bytes())
    foreign = {
        begin(backend, ours[0], os.urandom(PART)),
        begin(backend, os.urandom(PART // 2)),
        begin(backend),
    }
    requests_log.clear()
    backend.upload(file, NAME)
    assert sent_parts(requests_log) == list(range(1, PARTS + 1))
    assert requests_log.verbs() == {"LIST": 1, "GET": 3, "POST": 2, "PUT": PARTS}
    assert backend.read(NAME) == file.read_bytes()
    assert set(unfinished(backend)) == foreign


def test_older_upload_is_taken_up_behind_a_foreign_one(
    backend: S3Backend, requests_log: Server, file: Path
) -> None:
    """One's own unfinished upload is found though somebody has begun another since."""
    begin(backend, *pieces(file.read_bytes())[:5])
    foreign = begin(backend, os.urandom(PART))
    requests_log.clear()
    backend.upload(file, NAME)
    assert sent_parts(requests_log) == [6, 7, 8, 9]
    assert unfinished(backend) == [foreign]


def test_upload_of_a_longer_name_is_left_alone(backend: S3Backend, file: Path) -> None:
    """A name that begins like this one has uploads of its own."""
    longer = call(backend, "create_multipart_upload", Key=f"{KEY}.more")["UploadId"]
    body = pieces(file.read_bytes())[0]
    call(backend, "upload_part", Key=f"{KEY}.more", UploadId=longer, PartNumber=1, Body=body)
    backend.upload(file, NAME)
    assert unfinished(backend) == [longer]


@pytest.mark.parametrize(("status", "code"), [(403, "AccessDenied"), (501, "NotImplemented")])
def test_without_leave_to_list_nothing_is_taken_up(
    backend: S3Backend, requests_log: Server, file: Path, status: int, code: str
) -> None:
    """Credentials that may not list uploads, and services that cannot, do with an upload from the start."""
    requests_log.fail(Fault("LIST", status=status, code=code))
    backend.upload(file, NAME)
    assert requests_log.verbs() == {"LIST": 1, "POST": 2, "PUT": PARTS}
    assert backend.read(NAME) == file.read_bytes()


# Uploads that vanish


def test_upload_that_vanished_begins_anew(backend: S3Backend, requests_log: Server, file: Path) -> None:
    """When somebody has ended the upload before it was completed, another one is made."""
    requests_log.fail(Fault("POST", after=1, status=404, code="NoSuchUpload"))
    backend.upload(file, NAME)
    assert requests_log.verbs() == {"LIST": 2, "POST": 4, "PUT": 2 * PARTS}
    assert backend.read(NAME) == file.read_bytes()


@pytest.mark.parametrize("code", ["NoSuchUpload", "InvalidPart"])
def test_upload_that_always_vanishes(backend: S3Backend, requests_log: Server, file: Path, code: str) -> None:
    """When the second upload vanishes too, this is an error that says to try later, and is not repeated."""
    for _ in range(2):  # the second is counted from the first
        requests_log.fail(Fault("POST", after=1, status=404, code=code))
    with pytest.raises(BackendError, match=code) as caught:
        RetryingBackend(backend, sleep=lambda _: None).upload(file, NAME)
    assert caught.value.transient
    assert requests_log.verbs() == {"LIST": 2, "POST": 4, "PUT": 2 * PARTS}


def test_upload_that_another_machine_completed(backend: S3Backend, requests_log: Server, file: Path) -> None:
    """When the upload is gone because the object is there, nothing is sent again."""
    requests_log.fail(Fault("POST", after=1, status=404, code="NoSuchUpload", applied=True))
    backend.upload(file, NAME)
    assert requests_log.verbs() == {"LIST": 2, "POST": 2, "PUT": PARTS}
    assert backend.read(NAME) == file.read_bytes()


def test_two_machines_send_the_same_file(backend: S3Backend, bucket: Bucket, file: Path) -> None:
    """One completes under the other's hands, who finds the object there; nobody sends it twice."""
    other = S3Backend(bucket.name, "team")
    upload = begin(other, *pieces(file.read_bytes()))
    etags = call(other, "list_parts", Key=KEY, UploadId=upload)["Parts"]
    parts = [{"PartNumber": part["PartNumber"], "ETag": part["ETag"]} for part in etags]

    def complete() -> None:
        call(other, "complete_multipart_upload", Key=KEY, UploadId=upload, MultipartUpload={"Parts": parts})

    with_interruption(backend, "complete_multipart_upload", complete, file)
    assert backend.read(NAME) == file.read_bytes()
    assert unfinished(backend) == []
    other.close()


def test_two_machines_send_the_object_as_each_has_it(
    backend: S3Backend, bucket: Bucket, tmp_path: Path, file: Path
) -> None:
    """Stored at two levels, an object has two files; one stands in the end, and it is whole."""
    theirs = tmp_path / "theirs"
    theirs.write_bytes(file.read_bytes()[: 3 * PART] + os.urandom(4 * PART))
    other = S3Backend(bucket.name, "team")
    for _ in range(3):
        with ThreadPoolExecutor(4) as pool:
            jobs = [
                pool.submit(each.upload, path, NAME) for each in (backend, other) for path in (file, theirs)
            ]
        for job in jobs:
            job.result()
        assert backend.read(NAME) in {file.read_bytes(), theirs.read_bytes()}
    other.close()


def with_interruption(backend: S3Backend, method: str, interrupt: Callable[[], object], file: Path) -> None:
    """Upload a file, and do something else just before the request `method`."""
    filesystem = backend._filesystem()
    original = filesystem.call_s3

    def interrupted(called: str, **arguments: object) -> Any:
        if called == method:
            filesystem.call_s3 = original
            interrupt()
        return original(called, **arguments)

    filesystem.call_s3 = interrupted
    backend.upload(file, NAME)
