"""S3 over real HTTP: exact requests, errors as ours, credentials by the ordinary chain."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from botocore import session
from botocore.loaders import Loader

from casstore.backends.open import open_backend
from casstore.backends.progress import Progress, watched, watching
from casstore.backends.retry import RetryingBackend
from casstore.backends.s3 import S3Backend
from casstore.errors import BackendError, ConfigError, ExistsError, NotFoundError
from tests.conftest import Bucket
from tests.s3 import Fault, Request, Server


@pytest.fixture
def backend(bucket: Bucket) -> Iterator[S3Backend]:
    """Return a store under a prefix, without the retrying wrapper."""
    backend = S3Backend(bucket.name, "team")
    yield backend
    backend.close()


@pytest.fixture
def big(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a file of two and a half parts of 64 KiB."""
    monkeypatch.setattr(S3Backend, "part_size", 64 * 1024)
    path = tmp_path / "big"
    path.write_bytes(os.urandom(160 * 1024))
    return path


def test_whole_read_is_one_get(backend: S3Backend, bucket: Bucket, requests_log: Server) -> None:
    """Reading a whole object sends one GET, and no HEAD before it."""
    requests_log.put(bucket.name, "team/objects/a", b"content")
    assert backend.read("objects/a") == b"content"
    assert requests_log.requests() == [Request("GET", f"/{bucket.name}/team/objects/a", "")]


def test_ranged_read_is_one_get(backend: S3Backend, bucket: Bucket, requests_log: Server) -> None:
    """Reading a range sends one GET for exactly these bytes."""
    requests_log.put(bucket.name, "team/objects/a", b"0123456789")
    assert backend.read_range("objects/a", 2, 3) == b"234"
    assert [(request.verb, request.range) for request in requests_log.requests()] == [("GET", "bytes=2-4")]


def test_missing_name_costs_one_request(backend: S3Backend, requests_log: Server, tmp_path: Path) -> None:
    """A miss is the 404 of the one GET, whichever way it was asked."""
    misses: list[Callable[[], object]] = [
        lambda: backend.read("objects/none"),
        lambda: backend.read_range("objects/none", 0, 5),
        lambda: backend.download("objects/none", tmp_path / "down"),
    ]
    for miss in misses:
        requests_log.clear()
        with pytest.raises(NotFoundError):
            miss()
        assert requests_log.verbs() == {"GET": 1}
    assert not (tmp_path / "down").exists()


def test_download_of_a_big_object_is_one_get(
    backend: S3Backend, requests_log: Server, big: Path, tmp_path: Path
) -> None:
    """A download is one GET whatever the size, and so is a read."""
    backend.upload(big, "packs/big")
    requests_log.clear()
    backend.download("packs/big", tmp_path / "down")
    assert backend.read("packs/big") == big.read_bytes()
    assert requests_log.verbs() == {"GET": 2}


def test_write_is_one_put(backend: S3Backend, requests_log: Server) -> None:
    """Content in memory goes up in one PUT whatever its size."""
    backend.write("packs/large", bytes(64 * 1024 * 1024))
    backend.write("objects/a", b"x", exclusive=True)
    assert requests_log.verbs() == {"PUT": 2}


def test_upload_of_a_small_file_is_one_put(
    backend: S3Backend, requests_log: Server, big: Path, tmp_path: Path
) -> None:
    """A file of less than two parts goes up in one PUT."""
    (tmp_path / "file").write_bytes(big.read_bytes()[: 2 * backend.part_size - 1])
    backend.upload(tmp_path / "file", "objects/b")
    assert requests_log.verbs() == {"PUT": 1}
    assert backend.read("objects/b") == (tmp_path / "file").read_bytes()


def test_big_upload_goes_in_parts(backend: S3Backend, requests_log: Server, big: Path) -> None:
    """A bigger file goes up in parts, after a look for an upload to take up, between one POST and another."""
    backend.upload(big, "packs/big")
    assert requests_log.verbs() == dict(backend.requests()) == {"LIST": 1, "POST": 2, "PUT": 3}
    assert backend.read("packs/big") == big.read_bytes()


def test_delete_is_one_request(backend: S3Backend, requests_log: Server) -> None:
    """A deletion is one DELETE, of what is there and of what is not."""
    backend.write("objects/a", b"x")
    requests_log.clear()
    backend.delete("objects/a")
    backend.delete("objects/none")
    assert requests_log.verbs() == {"DELETE": 2}


def test_listing_costs_its_pages(backend: S3Backend, bucket: Bucket, requests_log: Server) -> None:
    """A listing is one LIST for each thousand names at whatever depth, and one where there is nothing."""
    for number in range(1001):
        requests_log.put(bucket.name, f"team/m/{number % 7}/{number}", b"")
    assert len(list(backend.list("m"))) == 1001
    assert requests_log.verbs() == {"LIST": 2}
    requests_log.clear()
    assert list(backend.list("none")) == []
    assert requests_log.verbs() == {"LIST": 1}


def test_listing_stays_below_the_prefix(backend: S3Backend, bucket: Bucket, requests_log: Server) -> None:
    """What others keep in the bucket, also under a prefix that begins alike, is not listed."""
    for key in ("team/m/1", "team2/m/2", "m/3", "teammate"):
        requests_log.put(bucket.name, key, b"x")
    assert [info.name for info in backend.list("")] == ["m/1"]


def test_store_may_be_a_whole_bucket(bucket: Bucket, requests_log: Server) -> None:
    """Without a prefix the names stand at the top of the bucket."""
    backend = S3Backend(bucket.name)
    backend.write("m/1", b"x")
    assert [info.name for info in backend.list("")] == ["m/1"]
    assert [info.name for info in backend.list("m")] == ["m/1"]
    assert requests_log.requests()[0].path == f"/{bucket.name}/m/1"
    assert backend.url == f"s3://{bucket.name}"
    backend.close()


def test_counts_what_the_server_saw(
    backend: S3Backend, requests_log: Server, big: Path, tmp_path: Path
) -> None:
    """The backend's own count is the server's log, failures and concurrent requests included."""
    requests_log.fail(Fault("GET"))
    with pytest.raises(BackendError):
        backend.read("objects/0")
    backend.upload(big, "packs/big")
    backend.download("packs/big", tmp_path / "down")

    def work(number: int) -> None:
        backend.write(f"objects/{number}", b"x")
        backend.read(f"objects/{number}")
        list(backend.list("objects"))
        backend.delete(f"objects/{number}")

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(40)))
    assert dict(backend.requests()) == requests_log.verbs()
    assert requests_log.verbs() == {"GET": 42, "PUT": 43, "POST": 2, "LIST": 41, "DELETE": 40}


def test_nothing_is_sent_before_the_first_request(bucket: Bucket, requests_log: Server) -> None:
    """Opening a remote, and closing it unused, sends nothing."""
    backend = open_backend(bucket.url)
    assert backend.url == bucket.url
    backend.close()
    assert requests_log.requests() == []


def test_other_services_are_not_looked_at(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    """Making a client reads S3's folder of botocore's data, and none of the 400 of other services."""
    looked: list[str] = []
    listdir = os.listdir

    def look(path: str) -> list[str]:
        looked.append(path)
        return listdir(path)

    monkeypatch.setattr(os, "listdir", look)
    monkeypatch.setattr(session, "create_loader", lambda _: Loader())  # not the one that all tests share
    backend = S3Backend(bucket.name)
    assert list(backend.list("objects")) == []
    backend.close()
    assert {Path(path).name for path in looked if "botocore" in path} == {"s3"}


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (503, "SlowDown"),
        (503, "ServiceUnavailable"),
        (500, "InternalError"),
        (502, "Whatever"),
        (400, "RequestTimeout"),
        (429, "TooManyRequests"),
        (409, "OperationAborted"),
    ],
)
def test_passing_trouble_is_transient(
    backend: S3Backend, requests_log: Server, status: int, code: str
) -> None:
    """Answers that ask to come back later are transient, and are not repeated below our own retry."""
    requests_log.fail(Fault("GET", status=status, code=code))
    requests_log.fail(Fault("PUT", status=status, code=code))
    requests_log.fail(Fault("LIST", status=status, code=code))
    requests: list[Callable[[], object]] = [
        lambda: backend.read("objects/a"),
        lambda: backend.write("objects/a", b"x"),
        lambda: list(backend.list("objects")),
    ]
    for request in requests:
        with pytest.raises(BackendError) as caught:
            request()
        assert caught.value.transient
    assert requests_log.verbs() == {"GET": 1, "PUT": 1, "LIST": 1}


@pytest.mark.parametrize(
    ("status", "code", "advice"),
    [
        (403, "AccessDenied", "access denied"),
        (403, "InvalidAccessKeyId", "AWS_PROFILE"),
        (403, "SignatureDoesNotMatch", "AWS_PROFILE"),
        (400, "ExpiredToken", "expired"),
        (403, "RequestTimeTooSkewed", "clock"),
        (418, "Teapot", "Teapot"),
    ],
)
def test_lasting_trouble_says_what_to_do(
    backend: S3Backend, requests_log: Server, status: int, code: str, advice: str
) -> None:
    """Answers that repetition cannot change are permanent, and their message says what to change."""
    requests_log.fail(Fault("PUT", status=status, code=code, times=3))
    with pytest.raises(BackendError) as caught:
        backend.write("objects/a", b"x")
    assert not caught.value.transient
    assert advice in str(caught.value)


def test_conflict_of_exclusive_writes(backend: S3Backend, requests_log: Server) -> None:
    """Of an exclusive write, 409 means come back and 412 means taken."""
    requests_log.fail(Fault("PUT", status=409, code="ConditionalRequestConflict"))
    with pytest.raises(BackendError) as caught:
        backend.write("objects/a", b"x", exclusive=True)
    assert caught.value.transient
    assert not isinstance(caught.value, ExistsError)
    requests_log.fail(Fault("PUT", status=412, code="PreconditionFailed"))
    with pytest.raises(ExistsError):
        backend.write("objects/a", b"x", exclusive=True)


def test_exclusive_write_of_much(backend: S3Backend, big: Path) -> None:
    """Exclusive holds for content of any size."""
    backend.write("objects/a", b"first")
    with pytest.raises(ExistsError):
        backend.write("objects/a", big.read_bytes(), exclusive=True)
    assert backend.read("objects/a") == b"first"


@pytest.mark.parametrize("way", ["read", "read_range", "download"])
def test_answer_cut_short_is_transient(
    backend: S3Backend, bucket: Bucket, requests_log: Server, tmp_path: Path, way: str
) -> None:
    """A body that ends before its length is an error, never short content."""
    requests_log.put(bucket.name, "team/objects/a", b"x" * 100_000)
    requests_log.fail(Fault("GET", cut=True))
    ways: dict[str, Callable[[], object]] = {
        "read": lambda: backend.read("objects/a"),
        "read_range": lambda: backend.read_range("objects/a", 0, 50_000),
        "download": lambda: backend.download("objects/a", tmp_path / "down"),
    }
    with pytest.raises(BackendError) as caught:
        ways[way]()
    assert caught.value.transient
    assert requests_log.verbs() == {"GET": 1}


@pytest.mark.parametrize("operation", ["read", "write", "list", "delete"])
@pytest.mark.usefixtures("bucket")
def test_missing_bucket_is_no_miss(operation: str) -> None:
    """A bucket that does not exist is a failure that says so, not an empty store."""
    nowhere = S3Backend("no-such-bucket-anywhere", "team")
    operations: dict[str, Callable[[], object]] = {
        "read": lambda: nowhere.read("objects/a"),
        "write": lambda: nowhere.write("objects/a", b"x"),
        "list": lambda: list(nowhere.list("objects")),
        "delete": lambda: nowhere.delete("objects/a"),
    }
    with pytest.raises(BackendError, match="bucket does not exist") as caught:
        operations[operation]()
    assert not caught.value.transient
    nowhere.close()


def test_refused_connection_is_transient(bucket: Bucket) -> None:
    """A server that is not there may come back."""
    backend = S3Backend(bucket.name, endpoint="http://127.0.0.1:1")
    with pytest.raises(BackendError) as caught:
        backend.read("objects/a")
    assert caught.value.transient
    backend.close()


def test_missing_credentials_say_what_to_do(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without credentials the error names the ordinary ways to set them up, and nothing is repeated."""
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    backend = S3Backend(bucket.name)
    with pytest.raises(BackendError, match="aws configure") as caught:
        backend.read("objects/a")
    assert not caught.value.transient
    backend.close()


def test_unknown_profile_is_a_wrong_setting(bucket: Bucket) -> None:
    """A profile that is not there is named in the error."""
    backend = S3Backend(bucket.name, profile="nobody")
    with pytest.raises(ConfigError, match="nobody"):
        backend.read("objects/a")


def test_profile_gives_credentials(bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Credentials come from the named profile of the ordinary credentials file."""
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    (tmp_path / "credentials").write_text("[team]\naws_access_key_id = a\naws_secret_access_key = b\n")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    backend = S3Backend(bucket.name, profile="team", region="eu-west-1")
    backend.write("objects/a", b"x")
    assert backend.read("objects/a") == b"x"
    backend.close()


def test_endpoint_may_be_given(bucket: Bucket, monkeypatch: pytest.MonkeyPatch, requests_log: Server) -> None:
    """An endpoint given by hand is used, with the bucket in the path."""
    monkeypatch.delenv("AWS_ENDPOINT_URL")
    backend = open_backend(bucket.url, endpoint=bucket.endpoint)
    backend.write("objects/a", b"x")
    assert [request.path for request in requests_log.requests()] == [f"/{bucket.name}/team/objects/a"]
    backend.close()


def test_invalid_bucket_name_is_a_wrong_setting() -> None:
    """A name that no bucket can have is refused before anything is sent."""
    backend = S3Backend("Not_A_Bucket!")
    with pytest.raises(ConfigError):
        backend.read("objects/a")
    backend.close()


def test_remote_repeats_what_passes(bucket: Bucket, requests_log: Server) -> None:
    """An opened remote survives a moment of trouble, and each attempt is one request."""
    requests_log.put(bucket.name, "team/objects/a", b"x")
    requests_log.fail(Fault("GET", times=2))
    backend = open_backend(bucket.url)
    assert backend.read("objects/a") == b"x"
    assert requests_log.verbs() == {"GET": 3}
    backend.close()


def test_lost_answer_to_an_exclusive_write(bucket: Bucket, requests_log: Server) -> None:
    """When the write was done and its answer lost, the repeated write finds its own content and succeeds."""
    requests_log.fail(Fault("PUT", applied=True))
    backend = open_backend(bucket.url)
    backend.write("casstore.json", b"ours", exclusive=True)
    assert requests_log.verbs() == {"PUT": 2, "GET": 1}
    with pytest.raises(ExistsError):
        backend.write("casstore.json", b"ours", exclusive=True)
    backend.close()


def test_child_program_finds_the_bucket(bucket: Bucket, requests_log: Server) -> None:
    """A program started by a test reaches the bucket by its environment, and leaves without a word."""
    program = (
        "from casstore.backends import open_backend\n"
        f"backend = open_backend({bucket.url!r})\n"
        "backend.write('objects/a', b'from a child')\n"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert requests_log.verbs() == {"PUT": 1}


# How far it is


class Steps(Progress):
    """Notes each step besides."""

    def __init__(self) -> None:
        super().__init__()
        self.steps: list[int] = []

    def reach(self, position: int) -> None:
        """Note a step."""
        super().reach(position)
        self.steps.append(position)


def test_a_file_is_told_of_while_it_moves(backend: S3Backend, tmp_path: Path) -> None:
    """Up from memory, up from a file, and down, piece by piece to the last byte; not while it is signed."""
    content = os.urandom(3_000_000)
    (tmp_path / "up").write_bytes(content)
    moves: list[Callable[[], None]] = [
        lambda: backend.write("objects/a", content),
        lambda: backend.upload(tmp_path / "up", "objects/b"),
        lambda: backend.download("objects/a", tmp_path / "down"),
    ]
    for move in moves:
        progress = Steps()
        with watching(progress):
            move()
        assert progress.moved == len(content)
        assert progress.steps == sorted(progress.steps)
        assert progress.steps[0] < len(content) / 5
        assert len(progress.steps) > 5
    assert backend.read("objects/b") == content == (tmp_path / "down").read_bytes()


def test_a_file_in_parts_is_told_of_part_by_part(backend: S3Backend, big: Path, requests_log: Server) -> None:
    """A part that is sent again counts once."""
    requests_log.fail(Fault("PUT"))
    progress = Progress()
    with watching(progress):
        RetryingBackend(backend, base_delay=0).upload(big, "objects/a")
    assert progress.moved == 160 * 1024


def test_what_is_sent_again_is_told_of_once(backend: S3Backend, requests_log: Server) -> None:
    """From where the first try had come on."""
    requests_log.fail(Fault("PUT"))
    progress = Steps()
    with watching(progress):
        RetryingBackend(backend, base_delay=0).write("objects/a", os.urandom(500_000))
    assert progress.moved == max(progress.steps) == 500_000
    assert progress.steps != sorted(progress.steps)


def test_nobody_watches_what_nobody_asked_about(backend: S3Backend) -> None:
    """Neither in a block that is over, nor in another thread."""
    with watching(Progress()), ThreadPoolExecutor(1) as pool:
        assert watched() is not None
        assert pool.submit(watched).result() is None
    assert watched() is None
