"""The second reader sees in casstore's stores what casstore sees."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from casstore.catalog.records import Entry
from casstore.repo.repository import Repository
from casstore.store.codec import FRAME_SIZE
from tests.format.frames import RefusedError
from tests.format.reader import Reading, check_promises, read_marker, read_segment, read_store
from tests.stores import answer, damage, files, fill, key, noise

COMPRESSIBLE = b"a line of a large object\n" * 180_000


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Repository]:
    """Return a store with something of everything."""
    with Repository.open(tmp_path / "store") as repository:
        repository.put_entry(key(0), b"")
        repository.put_entry(key(1), answer(1), labels={"model": "m", "cost": 0.5, "é": ["ü", None]})
        repository.put_entry(key(2), noise(300))
        repository.put_entry(key(3), noise(FRAME_SIZE))
        repository.put_entry(key(4), noise(FRAME_SIZE + 1))
        repository.put_entry(key(5), COMPRESSIBLE, refs=[b"a request", noise(50, 1), b""])
        repository.put_entry(key(6), answer(6))
        repository.put_entry(key(6), answer(6, 1), replace=True)
        repository.put_entry(key(7), answer(7))
        repository.forget(key(7))
        repository.put_entry(key(8), answer(8))
        repository.forget(key(8))
        repository.put_entry(key(8), answer(8, 1))
        repository.put(b"put by hand")
        repository.put(COMPRESSIBLE[:-1])
        yield repository


def seen(repository: Repository) -> tuple[dict[str, bytes], dict[str, dict[str, Any]]]:
    """Return casstore's own view of a store: its objects, and its entries as fields."""
    objects = {str(info.digest): repository.get(info.digest) for info in repository.objects()}
    return objects, {entry.key: _fields(entry) for entry in repository.entries()}


def _fields(entry: Entry) -> dict[str, Any]:
    fields = {"kind": "entry", **dataclasses.asdict(entry), "refs": list(entry.refs)}
    if not entry.refs:
        del fields["refs"]
    return fields


def assert_same(reading: Reading, repository: Repository) -> None:
    """Compare the two views of one store."""
    objects, entries = seen(repository)
    assert reading.objects == objects
    assert reading.entries == entries


def test_objects_and_the_journal_of_a_local_store_read_alike(store: Repository) -> None:
    """A store that was never pushed has everything in its objects and its journal."""
    assert not files(store.path, "manifest")
    assert_same(read_store(store.path), store)


def test_segments_of_a_local_store_read_alike(store: Repository, tmp_path: Path) -> None:
    """After a push the segments say what the journal said, and newer claims compete with theirs."""
    store.push(f"file://{tmp_path}/remote")
    store.put_entry(key(1), answer(1, 1), replace=True)
    store.forget(key(6))
    store.push(f"file://{tmp_path}/remote")
    assert len(files(store.path, "manifest")) == 2
    store.put_entry(key(9), answer(9))
    assert_same(read_store(store.path), store)


def test_a_remote_reads_alike_and_keeps_its_promises(store: Repository, tmp_path: Path) -> None:
    """A pushed store reads without its pusher: entries lead to objects, and every object has a location."""
    remote = tmp_path / "remote"
    store.push(remote.as_uri())
    store.put_entry(key(1), answer(1, 1), replace=True)
    store.push(remote.as_uri())
    reading = check_promises(remote)
    _, entries = seen(store)
    assert reading.entries == entries
    assert reading.answers() == {entry.key: store.read_entry(entry.key)[1] for entry in store.entries()}
    assert reading.kept == {info.digest for info in store.objects() if info.kept}
    assert reading.kept <= reading.located
    assert reading.packs


def test_the_manifest_says_how_objects_are_stored(store: Repository, tmp_path: Path) -> None:
    """Sizes, stored bytes and the digests of frames stand in the manifest as they are in the files."""
    remote = tmp_path / "remote"
    store.push(remote.as_uri())
    reading = check_promises(remote)
    large = {info.digest for info in store.objects() if info.size >= 1024 * 1024}
    assert {location["object"] for location in reading.locations} >= large
    for location in reading.locations:
        digest = location["object"]
        path = remote / "objects" / digest[0] / digest[1] / f"{digest}.zst"
        assert location["size"] == len(store.get(digest))
        assert location["stored"] == path.stat().st_size
        if location["size"] > FRAME_SIZE:
            assert sum(location["frames"]["stored"]) + 12 == location["stored"]
    for record in reading.of_kind("pack"):
        digest = record["pack"]
        path = remote / "packs" / digest[0] / digest[1] / f"{digest}.zst"
        assert record["stored"] == path.stat().st_size
        assert {"objects", "sizes", "lengths"} <= reading.packs[digest].keys()


def test_packs_that_arrived_read_alike(store: Repository, tmp_path: Path) -> None:
    """A store that pulled packs, and one that made packs of what it had, read as casstore reads them."""
    remote = tmp_path / "remote"
    store.push(remote.as_uri())
    with Repository.open(tmp_path / "other") as other:
        other.pull(remote.as_uri())
        assert files(other.path, "packs")
        assert_same(read_store(other.path), other)


def test_packs_have_dictionaries(tmp_path: Path) -> None:
    """With a thousand objects to push, their packs need a dictionary, which is an object of the store."""
    remote = tmp_path / "remote"
    with Repository.open(tmp_path / "store") as repository:
        fill(repository, range(1300))
        repository.push(remote.as_uri())
    reading = check_promises(remote)
    (dictionary,) = {table["dictionary"] for table in reading.packs.values()}
    assert dictionary in {location["object"] for location in reading.locations}
    assert reading.answers() == {key(number): answer(number) for number in range(1300)}


def test_a_store_with_wider_shards_reads_alike(tmp_path: Path) -> None:
    """Casstore follows the shard widths of a marker that it did not write, as the reader does."""
    root, remote = tmp_path / "store", tmp_path / "remote"
    marker = {"features": [], "format": "casstore", "hash": "sha256", "shards": [2, 3], "version": 1}
    for folder in (root, remote):
        folder.mkdir()
        (folder / "casstore.json").write_text(json.dumps(marker))
    with Repository.open(root) as repository:
        repository.put_entry(key(1), answer(1))
        repository.push(remote.as_uri())
        assert_same(read_store(root), repository)
        assert check_promises(remote).answers() == {key(1): answer(1)}
        assert read_marker(remote).shards == (2, 3)
        assert read_marker(remote).features == {"packs"}
        assert files(remote, "packs")


def test_a_segment_has_its_claims_by_key(store: Repository, tmp_path: Path) -> None:
    """Claims come first, by key, so that the same claims make the same lines."""
    store.push(f"file://{tmp_path}/remote")
    (path,) = (tmp_path / "remote" / "manifest").iterdir()
    kinds = [record["kind"] for record in read_segment(path)]
    claims = [record["key"] for record in read_segment(path) if "key" in record]
    assert claims == sorted(claims)
    assert {"entry", "tombstone"}.isdisjoint(kinds[len(claims) :])


def test_the_second_reader_refuses_what_the_format_forbids(store: Repository, tmp_path: Path) -> None:
    """The reader can say no: a missing object and a file that belongs elsewhere do not pass."""
    remote = tmp_path / "remote"
    store.push(remote.as_uri())
    digest = store.entry(key(4)).object
    path = remote / "objects" / digest[0] / digest[1] / f"{digest}.zst"
    wrong = remote / "objects" / "z" / path.name
    wrong.parent.mkdir()
    path.rename(wrong)
    with pytest.raises(RefusedError, match="wrong folder"):
        check_promises(remote)
    wrong.rename(path)
    (pack,) = (path for path in (remote / "packs").rglob("*") if path.is_file())
    good = pack.read_bytes()
    for offset in range(0, len(good), 211):
        damage(pack, offset)
        with pytest.raises(RefusedError, match="digest"):
            check_promises(remote)
        pack.write_bytes(good)
    pack.unlink()
    with pytest.raises(RefusedError, match="missing"):
        check_promises(remote)
