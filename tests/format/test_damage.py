"""One flipped bit in any byte of an object or segment is noticed, does no harm, and heals from a remote."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import pytest

from casstore.digest import Digest
from casstore.errors import IntegrityError, NotFoundError
from casstore.repo import ahead
from casstore.repo.repository import Repository
from tests.stores import answer, answers, damage, files, fill, key, noise

LARGE = b"".join(b"line %07d of a large object\n" % number for number in range(300)) * 500
"""5,400,000 bytes: two frames."""

SMALL = {
    "empty": b"",
    "short": b"hello\n",
    "json": b'{"choices":[{"message":{"content":"Yes, it is. Yes, it is."}}],"model":"m","n":1}' * 3,
    "one byte again and again": bytes(2000),
    "incompressible": noise(120),
}


@pytest.fixture
def remote(tmp_path: Path) -> Path:
    """Return the folder of the remote."""
    return tmp_path / "remote"


@pytest.fixture
def store(tmp_path: Path, remote: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Repository]:
    """Return an empty store that pushes to the remote, and fetches no pack ahead: files stay files."""
    monkeypatch.setattr(ahead, "MISSES", math.inf)
    with Repository.open(tmp_path / "store") as repository:
        yield repository


def pushed(store: Repository, remote: Path, content: bytes) -> tuple[Digest, Path]:
    """Put an answer under key 0, push it, and return its digest and its local file."""
    entry = store.put_entry(key(0), content)
    store.push(remote.as_uri())
    return entry.object, store.path / store.local.objects.name(entry.object)


def set_aside(store: Repository) -> int:
    """Return how many files are in quarantine, and empty it."""
    found = [path for path in (store.path / "quarantine").iterdir() if path.is_file()]
    for path in found:
        path.unlink()
    return len(found)


def flips(size: int) -> list[tuple[int, int]]:
    """Return every byte of a file by its offset, each with one bit to flip."""
    return [(offset, 1 << offset * 5 % 8) for offset in range(size)]


@pytest.mark.parametrize("name", SMALL)
def test_a_read_notices_every_damaged_byte(store: Repository, remote: Path, name: str) -> None:
    """A read puts the bad file aside, fetches the good copy, and returns the right answer."""
    content = SMALL[name]
    digest, path = pushed(store, remote, content)
    good = path.read_bytes()
    for offset, mask in flips(len(good)):
        damage(path, offset, mask)
        assert store.read_entry(key(0))[1] == content
        assert (path.read_bytes(), set_aside(store)) == (good, 1)
        damage(path, offset, mask)
        assert store.get(digest) == content
        assert (path.read_bytes(), set_aside(store)) == (good, 1)


@pytest.mark.parametrize("name", SMALL)
def test_verify_notices_every_damaged_byte(store: Repository, remote: Path, name: str) -> None:
    """Verification names the bad file and puts it aside; a read brings the good copy, a put makes another."""
    content = SMALL[name]
    _, path = pushed(store, remote, content)
    good = path.read_bytes()
    for offset, mask in flips(len(good)):
        damage(path, offset, mask)
        (failure,) = store.verify().failures
        assert failure.name == path.relative_to(store.path).as_posix()
        assert (path.exists(), set_aside(store)) == (False, 1)
        assert store.put_entry(key(0), content).generation == 0
        assert path.read_bytes() == good
    damage(path)
    assert len(store.verify().failures) == 1
    assert store.read_entry(key(0))[1] == content
    assert not store.verify().failures


@pytest.mark.parametrize("name", SMALL)
def test_without_another_copy_a_damaged_object_is_a_miss(store: Repository, name: str) -> None:
    """No byte of a damaged answer is given out, and a new answer takes its place."""
    content = SMALL[name]
    entry = store.put_entry(key(0), content)
    path = store.path / store.local.objects.name(entry.object)
    damage(path)
    with pytest.raises(NotFoundError):
        store.read_entry(key(0))
    assert store.put_entry(key(0), content).generation == 1
    assert store.read_entry(key(0))[1] == content


def test_damage_in_a_large_object_is_noticed(store: Repository, remote: Path) -> None:
    """Wherever in its frames or seal an object of several frames is damaged, a whole read heals it."""
    digest, path = pushed(store, remote, LARGE)
    good = path.read_bytes()
    frames = store.local.index.known(digest)
    assert frames is not None
    assert frames.frames is not None
    first, second = frames.frames.stored
    edges = {0, 4, 5, 8, 12, first - 1, first, first + 4, first + second - 1, first + second, len(good) - 1}
    for offset in sorted(edges | set(range(0, len(good), len(good) // 12))):
        damage(path, offset)
        assert store.get(digest) == LARGE
        assert path.read_bytes() == good
        damage(path, offset)
        (failure,) = store.verify().failures
        assert digest in failure.name
        assert store.get(digest) == LARGE


def test_a_damaged_large_object_gives_out_no_wrong_byte_in_parts(store: Repository, remote: Path) -> None:
    """Streams and ranges check each frame before it goes out, and go on with the good copy."""
    digest, path = pushed(store, remote, LARGE)
    length = path.stat().st_size
    for offset in range(0, length, length // 12):
        damage(path, offset)
        assert b"".join(store.stream(digest)) == LARGE
        damage(path, offset)
        assert store.get_range(digest, len(LARGE) - 50, 50) == LARGE[-50:]
        assert store.get(digest) == LARGE


def test_damaged_bytes_of_a_remote_pack_are_noticed(store: Repository, remote: Path, tmp_path: Path) -> None:
    """A pull brings what is good of a bad pack and says what is not; from the good one it brings all."""
    fill(store, range(1, 4))
    pushed(store, remote, SMALL["json"])
    expected = {key(0): SMALL["json"]} | {key(number): answer(number) for number in range(1, 4)}
    (there,) = (path for path in (remote / "packs").rglob("*") if path.is_file())
    good = there.read_bytes()
    for number, (offset, mask) in enumerate(flips(len(good))[::7]):
        damage(there, offset, mask)
        with Repository.open(tmp_path / f"{number}") as other:
            report = other.pull(remote.as_uri())
            found = answers(other)
            assert all(content in {None, expected[name]} for name, content in found.items())
            assert report.failures or found == expected
            assert not other.verify().failures
            there.write_bytes(good)
            other.remote(remote.as_uri()).tracking.reset()
            assert not other.pull(remote.as_uri()).failures
            assert answers(other) == expected


def test_every_damaged_byte_of_a_remote_segment_is_noticed(
    store: Repository, remote: Path, tmp_path: Path
) -> None:
    """A bad segment is refused whole and changes nothing; once it is good, the next pull takes it over."""
    fill(store, range(2))
    store.push(remote.as_uri())
    (there,) = (remote / "manifest").iterdir()
    good = there.read_bytes()
    with Repository.open(tmp_path / "other") as other:
        for offset, mask in flips(len(good)):
            damage(there, offset, mask)
            report = other.pull(remote.as_uri())
            assert [failure.name for failure in report.failures] == [f"manifest/{there.name}"]
            assert (list(other.entries()), files(other.path, "manifest"), report.entries) == ([], {}, 0)
            there.write_bytes(good)
        assert other.pull(remote.as_uri()).entries == 2
        assert other.read_entry(key(1))[1] == answer(1)


def test_every_damaged_byte_of_a_local_segment_is_noticed(store: Repository, remote: Path) -> None:
    """Verification puts a bad segment aside, and the next sync brings it again; no entry is lost."""
    fill(store, range(1))
    store.push(remote.as_uri())
    (path,) = (store.path / "manifest").iterdir()
    good = path.read_bytes()
    for offset, mask in flips(len(good)):
        damage(path, offset, mask)
        (failure,) = store.verify().failures
        assert (failure.name, set_aside(store)) == (f"manifest/{path.name}", 1)
        assert not store.pull(remote.as_uri()).failures
        assert path.read_bytes() == good
    assert not store.verify().failures


def test_a_rebuild_reports_a_damaged_segment_and_a_sync_brings_it_back(
    store: Repository, remote: Path
) -> None:
    """A segment that is bad when the index is rebuilt costs nothing that a remote has."""
    fill(store, range(3))
    store.push(remote.as_uri())
    store.local.finish_journal()
    (path,) = (store.path / "manifest").iterdir()
    damage(path)
    (failure,) = store.rebuild().failures
    assert failure.name == f"manifest/{path.name}"
    assert store.pull(remote.as_uri()).entries == 3
    assert store.read_entry(key(1))[1] == answer(1)
    assert not store.verify().failures


def test_a_good_object_under_a_wrong_name_is_noticed(store: Repository, remote: Path) -> None:
    """A whole, sealed file that is not what its name says is as bad as a damaged one."""
    digest, path = pushed(store, remote, answer(0))
    other = store.put_entry(key(1), answer(1)).object
    path.write_bytes((store.path / store.local.objects.name(other)).read_bytes())
    with pytest.raises(IntegrityError):
        store.local.read(store.local.index.known(digest) or pytest.fail("it is not known"))
    assert store.read_entry(key(0))[1] == answer(0)
