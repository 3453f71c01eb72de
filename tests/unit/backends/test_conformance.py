"""Every backend under the one conformance suite."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from fsspec.implementations.dirfs import DirFileSystem
from fsspec.implementations.local import LocalFileSystem
from fsspec.implementations.memory import MemoryFileSystem

from casstore.backends.base import Backend
from casstore.backends.filesystem import FsspecBackend
from casstore.backends.local import LocalBackend
from casstore.backends.open import open_backend
from casstore.backends.retry import RetryingBackend
from casstore.backends.s3 import S3Backend
from tests.conftest import Bucket
from tests.suites.backend import BackendSuite


class TestLocalBackend(BackendSuite):
    """The fast lane."""

    @pytest.fixture
    def backend(self, folder: Path) -> Backend:
        """Return the backend under test."""
        return LocalBackend(folder)


class TestDurableLocalBackend(BackendSuite):
    """The fast lane with every write on the disk."""

    @pytest.fixture
    def backend(self, folder: Path) -> Backend:
        """Return the backend under test."""
        return LocalBackend(folder, durable=True)


class TestFsspecLocal(BackendSuite):
    """fsspec's local filesystem, written by our atomic functions."""

    @pytest.fixture
    def backend(self, folder: Path) -> Backend:
        """Return the backend under test."""
        return FsspecBackend(LocalFileSystem, str(folder), url=f"local://{folder}", atomic_put=False)


class TestFsspecRenaming(BackendSuite):
    """A filesystem with rename but neither atomic puts nor exclusive ones, as sftp is."""

    exclusive_between_processes = False

    @pytest.fixture
    def backend(self, folder: Path) -> Backend:
        """Return the backend under test."""
        folder.mkdir()
        return FsspecBackend(
            lambda: DirFileSystem(str(folder), LocalFileSystem()), "root", url="test://root", atomic_put=False
        )


class TestMemory(BackendSuite):
    """The memory of this process."""

    between_processes = exclusive_between_processes = streams = False

    @pytest.fixture
    def backend(self, monkeypatch: pytest.MonkeyPatch) -> Backend:
        """Return the backend under test."""
        monkeypatch.setattr(MemoryFileSystem, "store", {})
        monkeypatch.setattr(MemoryFileSystem, "pseudo_dirs", [""])
        return open_backend("memory://team")


class TestS3(BackendSuite):
    """A bucket on a real HTTP server."""

    @pytest.fixture
    def backend(self, bucket: Bucket) -> Iterator[Backend]:
        """Return the backend under test."""
        backend = S3Backend(bucket.name, "team")
        yield backend
        backend.close()


class TestSeaweed(BackendSuite):
    """A bucket on a server that checks signatures and checksums, and does not serve one request at a time."""

    @pytest.fixture
    def backend(self, seaweed_bucket: Bucket) -> Iterator[Backend]:
        """Return the backend under test."""
        prefix = seaweed_bucket.url.rpartition("/")[2]
        backend = S3Backend(seaweed_bucket.name, prefix)
        yield backend
        backend.close()


class TestRetrying(BackendSuite):
    """The wrapper of every remote changes nothing."""

    @pytest.fixture
    def backend(self, folder: Path) -> Backend:
        """Return the backend under test."""
        return RetryingBackend(LocalBackend(folder))
