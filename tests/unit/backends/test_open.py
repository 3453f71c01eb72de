"""URLs: which backend they open, and which are refused."""

from __future__ import annotations

from pathlib import Path

import pytest
from fsspec.registry import known_implementations

from casstore.backends import LocalBackend, RetryingBackend, open_backend
from casstore.backends.filesystem import FsspecBackend, MemoryBackend
from casstore.backends.s3 import S3Backend
from casstore.config.remotes import check_url
from casstore.errors import ConfigError


def _inner(url: str) -> object:
    backend = open_backend(url)
    assert isinstance(backend, RetryingBackend)
    return backend._inner


def test_path_is_the_fast_lane(folder: Path) -> None:
    """A plain path opens the fast lane itself, in no wrapper."""
    assert isinstance(open_backend(str(folder)), LocalBackend)


def test_home_is_understood(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A tilde in a plain path is the user's home."""
    monkeypatch.setenv("HOME", str(tmp_path))
    assert open_backend("~/store").url == f"file://{tmp_path}/store"


@pytest.mark.parametrize("name", ["a b", "a%20b", "100%", "é", "a?b#c", "\udcff"])
def test_a_folder_has_one_url_and_a_url_one_folder(tmp_path: Path, name: str) -> None:
    """Whoever wrote it, with or without need: as the URL of a path, and as a browser or Path writes it."""
    folder = tmp_path / name
    for url in (check_url(str(folder)), folder.as_uri(), LocalBackend(folder).url):
        backend = open_backend(url)
        backend.write("casstore.json", url.encode("utf-8", "surrogateescape"))
        assert (folder / "casstore.json").read_bytes() == url.encode("utf-8", "surrogateescape")


def test_remotes_are_retried(folder: Path) -> None:
    """Every URL with a scheme is a remote, and stands behind the one retry."""
    assert isinstance(_inner(f"file://{folder}"), LocalBackend)
    assert isinstance(_inner("s3://bucket/team"), S3Backend)
    assert isinstance(_inner("memory://team"), MemoryBackend)
    assert type(_inner(f"local://{folder}")) is FsspecBackend


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("s3://bucket", "s3://bucket"),
        ("s3://bucket/", "s3://bucket"),
        ("S3://bucket/team/a/", "s3://bucket/team/a"),
        ("file:///mnt/team/", "file:///mnt/team"),
        ("memory://team", "memory://team"),
    ],
)
def test_url_is_shown(url: str, shown: str) -> None:
    """A backend tells where it is."""
    assert open_backend(url).url == shown


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("s3://AKIA:secret@bucket/team", "credentials"),
        ("s3://AKIA@bucket/team", "credentials"),
        ("sftp://user:secret@host/path", "credentials"),
        ("s3:///team", "write s3://bucket/prefix"),
        ("s3://bucket/a?versionId=1", "write s3://bucket/prefix"),
        ("s3://bucket/a#b", "write s3://bucket/prefix"),
        ("s3://bucket/a//b", "write s3://bucket/prefix"),
        ("s3:bucket/team", "write s3://"),
        ("s3:/bucket/team", "write s3://"),
        ("file://mnt/team", "write file:///mnt/team"),
        ("file:///mnt/%00", "no folder has such a name"),
        ("nosuch://host/path", "unknown kind of store: nosuch://"),
        ("s3://[bucket", "not a URL"),
    ],
)
def test_wrong_urls_are_refused(url: str, words: str) -> None:
    """What cannot be opened is a wrong setting, and the message says what to write instead."""
    with pytest.raises(ConfigError, match=words) as caught:
        open_backend(url)
    assert "secret" not in str(caught.value)


def test_missing_driver_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """A scheme whose driver is not installed says what to install."""
    monkeypatch.setitem(
        known_implementations,
        "nodriver",
        {"class": "no_such_package.Driver", "err": "Install no_such_package to use it"},
    )
    with pytest.raises(ConfigError, match="Install no_such_package"):
        open_backend("nodriver://host/path")


def test_options_of_s3_are_for_s3(folder: Path) -> None:
    """S3's settings on another kind of store are a mistake that is told."""
    with pytest.raises(ConfigError, match="are for s3://"):
        open_backend(f"file://{folder}", endpoint="http://host")
    with pytest.raises(ConfigError, match="are for s3://"):
        open_backend("memory://team", region="eu-west-1")
    with pytest.raises(ConfigError, match="are for s3://"):
        open_backend(f"file://{folder}", profile="team")


def test_memory_stores_are_apart() -> None:
    """Two memory stores of different names do not see each other, two of one name do."""
    open_backend("memory://test-one").write("m/a", b"x")
    assert [info.name for info in open_backend("memory://test-one").list("")] == ["m/a"]
    assert list(open_backend("memory://test-two").list("")) == []
