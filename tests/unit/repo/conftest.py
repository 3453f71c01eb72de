"""Stores, and a remote of each kind."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from casstore.repo import gc, repack, sync  # noqa: F401 - before a test patches what they import
from casstore.repo.repository import Repository
from tests.conftest import Bucket

Open = Callable[..., Repository]


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Open]:
    """Return a function that opens the store of a name; all are closed at the end."""
    repositories: list[Repository] = []

    def open_store(name: str = "store", **options: object) -> Repository:
        repository = Repository.open(tmp_path / name, **options)  # type: ignore[arg-type] # passed on as they are
        repositories.append(repository)
        return repository

    yield open_store
    for repository in repositories:
        repository.close()


@pytest.fixture
def store(opened: Open) -> Repository:
    """Return an empty store."""
    return opened("store")


@pytest.fixture(params=["file", "s3"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Return the URL of an empty remote, in a folder and in a bucket."""
    if request.param == "file":
        return (tmp_path / "remote").as_uri()
    bucket: Bucket = request.getfixturevalue("bucket")
    return bucket.url


@pytest.fixture
def folder_url(tmp_path: Path) -> str:
    """Return the URL of an empty remote in the folder ``remote``."""
    return (tmp_path / "remote").as_uri()
