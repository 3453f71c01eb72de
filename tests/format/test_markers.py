"""A store that needs a newer casstore is refused, with a word that helps, and nothing in it changes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from casstore.errors import FormatError
from casstore.repo.repository import Repository
from tests.stores import answer, answers, files, fill, key

MARKER: dict[str, Any] = {
    "features": [],
    "format": "casstore",
    "hash": "sha256",
    "shards": [1, 1],
    "version": 1,
}

NEWER = [
    pytest.param({"version": 2}, "version 2", id="version"),
    pytest.param({"features": ["packs", "wings"]}, "wings", id="feature"),
    pytest.param({"hash": "blake3"}, "blake3", id="hash"),
    pytest.param({"version": 2, "shards": {"width": 2}}, "version 2", id="version-of-another-form"),
]

BROKEN = [
    pytest.param(b"", id="empty"),
    pytest.param(b'{"format":"casstore","version":1', id="cut"),
    pytest.param(b'{"format":"restic","version":1}', id="of-another-program"),
    pytest.param(json.dumps(MARKER | {"version": "1"}).encode(), id="version-is-text"),
    pytest.param(json.dumps(MARKER | {"shards": [0, 1]}).encode(), id="no-shards"),
    pytest.param(json.dumps(MARKER | {"shards": [1, "../.."]}).encode(), id="shards-are-a-path"),
    pytest.param(json.dumps(MARKER | {"features": "none"}).encode(), id="features-are-text"),
    pytest.param(json.dumps(MARKER | {"padding": "x" * 65_536}).encode(), id="huge"),
]


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """Return the folder of a store with a few entries, both in segments and in the journal."""
    with Repository.open(tmp_path / "store") as repository:
        fill(repository, range(3))
        repository.push(f"file://{tmp_path}/remote")
        fill(repository, range(3, 5))
    return tmp_path / "store"


def times(root: Path) -> dict[str, int]:
    """Return when each file and folder of a store was last changed."""
    return {str(path): path.stat().st_mtime_ns for path in [root, *root.rglob("*")]}


@pytest.mark.parametrize(("change", "word"), NEWER)
def test_a_newer_store_is_not_opened(store: Path, change: dict[str, Any], word: str) -> None:
    """The message says what the store needs and what to do; no file is made, changed or removed."""
    (store / "casstore.json").write_text(json.dumps(MARKER | change))
    before, changed = files(store, ""), times(store)
    with pytest.raises(FormatError, match=word) as caught:
        Repository.open(store)
    assert "upgrade casstore" in str(caught.value)
    assert str(store) in str(caught.value)
    assert (files(store, ""), times(store)) == (before, changed)


@pytest.mark.parametrize(("change", "word"), NEWER)
@pytest.mark.parametrize("operation", ["push", "pull", "status"])
def test_a_newer_remote_is_left_alone(
    store: Path, tmp_path: Path, operation: str, change: dict[str, Any], word: str
) -> None:
    """Neither side changes when a remote needs a newer casstore, and the local store goes on working."""
    remote = tmp_path / "newer"
    with Repository.open(tmp_path / "other") as other:
        fill(other, range(10, 12))
        other.push(remote.as_uri())
    (remote / "casstore.json").write_text(json.dumps(MARKER | change))
    before, changed = files(remote, ""), times(remote)
    with Repository.open(store) as repository:
        kept = files(store, "objects") | files(store, "manifest")
        with pytest.raises(FormatError, match=word):
            getattr(repository, operation)(remote.as_uri())
        assert {entry.key for entry in repository.entries()} == {key(number) for number in range(5)}
        assert repository.read_entry(key(4))[1] == answer(4)
        assert files(store, "objects") | files(store, "manifest") == kept
    assert (files(remote, ""), times(remote)) == (before, changed)


@pytest.mark.parametrize("marker", BROKEN)
def test_what_is_no_marker_is_refused(store: Path, marker: bytes) -> None:
    """A damaged or foreign marker is an error and never a reason to begin a new store in its place."""
    good = (store / "casstore.json").read_bytes()
    (store / "casstore.json").write_bytes(marker)
    before, changed = files(store, ""), times(store)
    with pytest.raises(FormatError, match=r"casstore\.json"):
        Repository.open(store)
    assert (files(store, ""), times(store)) == (before, changed)
    (store / "casstore.json").write_bytes(good)
    with Repository.open(store) as repository:
        assert answers(repository) == {key(number): answer(number) for number in range(5)}


def test_fields_of_a_later_day_are_ignored(store: Path) -> None:
    """A marker may say more than this version reads."""
    (store / "casstore.json").write_text(json.dumps(MARKER | {"made-by": "a later casstore"}))
    with Repository.open(store) as repository:
        assert repository.read_entry(key(1))[1] == answer(1)
