"""Bad packs: what is good is saved, what is not is had from elsewhere, and no lie is believed twice."""

from __future__ import annotations

import io
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from casstore.digest import Digest, digest_of
from casstore.errors import IntegrityError, NotFoundError
from casstore.repo.repository import Repository
from casstore.store.codec import Codec
from casstore.store.pack import PackWriter, read_contents
from tests.stores import answer, answers, damage, files, fill, key
from tests.unit.repo.conftest import Open

COUNT = 12
EVERYTHING = {key(number): answer(number) for number in range(COUNT)}


def packed(store: Repository) -> Path:
    """Fill a store, pack it, and return the pack."""
    fill(store, range(COUNT))
    store.repack()
    return only_pack(store)


def only_pack(store: Repository) -> Path:
    """Return the one pack of a store."""
    (name,) = files(store.path, "packs")
    return store.path / name


def frame_of(path: Path, number: int) -> int:
    """Return a position in the frame of an object, whose damage the object's digest tells."""
    contents = read_contents(path)
    position = list(contents.digests).index(digest_of(answer(number)))
    return list(contents.offsets())[position] + contents.lengths[position] // 2


def spoil_frame(path: Path, number: int) -> None:
    """Overwrite the frame of an object."""
    contents = read_contents(path)
    position = list(contents.digests).index(digest_of(answer(number)))
    content = bytearray(path.read_bytes())
    start = list(contents.offsets())[position]
    content[start : start + contents.lengths[position]] = b"\xff" * contents.lengths[position]
    path.write_bytes(content)


def spoil_all(path: Path) -> None:
    """Overwrite all of a pack."""
    path.write_bytes(b"\xff" * path.stat().st_size)


HARMS: dict[str, Callable[[Path], object]] = {
    "one object": lambda path: spoil_frame(path, 3),
    "cut in half": lambda path: os.truncate(path, path.stat().st_size // 2),
    "all of it": spoil_all,
    "gone": Path.unlink,
}


@pytest.mark.parametrize("harm", HARMS)
@pytest.mark.parametrize("read", ["get", "read_entry", "stream"])
def test_bad_pack_is_healed_from_a_remote(store: Repository, folder_url: str, harm: str, read: str) -> None:
    """Whatever is read of a bad pack comes from the remote where it is not good here."""
    path = packed(store)
    store.push(folder_url)
    assert len(answers(store)) == COUNT  # so that the file is held open
    HARMS[harm](path)
    for number in range(COUNT):
        digest = digest_of(answer(number))
        if read == "get":
            assert store.get(digest) == answer(number)
        elif read == "stream":
            assert b"".join(store.stream(digest)) == answer(number)
        else:
            assert store.read_entry(key(number))[1] == answer(number)
    store.verify()  # it notices what a descriptor that is held hides
    assert answers(store) == EVERYTHING
    assert store.verify().failures == ()


def test_what_is_good_of_a_bad_pack_is_saved(opened: Open) -> None:
    """The others go into a new pack, with their last uses and marks; the bad file is in quarantine."""
    store = opened()
    path = packed(store)
    kept = store.put(answer(5))
    store.flush()
    before = {info.digest: (info.used, info.kept) for info in store.objects()}
    spoil_frame(path, 3)
    store.close()
    with pytest.raises(NotFoundError):
        store.get(digest_of(answer(3)))
    assert not store.has(digest_of(answer(3)))
    del before[digest_of(answer(3))]
    assert {info.digest: (info.used, info.kept) for info in store.objects()} == before
    assert before[kept][1]
    assert not path.exists()
    assert [name[-len(path.name) :] for name in files(store.path, "quarantine")] == [path.name]
    assert store.local.index.packs([Digest(path.stem)])[Digest(path.stem)].here is False
    assert store.local.index.evictable() == only_pack(store).stat().st_size - sum(
        info.stored for info in store.objects() if info.kept
    )
    assert {content for content in answers(store).values() if content is not None} == {
        answer(number) for number in range(COUNT) if number != 3
    }
    assert store.verify().failures == ()
    assert store.put_entry(key(3), answer(3)).generation == 1
    assert store.read_entry(key(3))[1] == answer(3)


def test_bad_table_of_contents_costs_nothing(store: Repository) -> None:
    """Where only the table of contents is bad, every object is saved by what the index knows."""
    path = packed(store)
    damage(path, -10)
    (failure,) = store.verify().failures
    assert failure.name == path.relative_to(store.path).as_posix()
    assert answers(store) == EVERYTHING
    assert store.verify().failures == ()
    assert store.sizes().packs == 1


@pytest.mark.parametrize("harm", ["one object", "all of it", "gone"])
@pytest.mark.parametrize("elsewhere", ["loose", "pack"])
def test_bad_pack_is_healed_from_another_copy_here(store: Repository, harm: str, elsewhere: str) -> None:
    """A file of its own, or another pack that holds the object as well, takes the bad one's place."""
    path = packed(store)
    store.put(answer(3))
    if elsewhere == "loose":
        store.local.objects.put(answer(3))
    else:
        file = io.BytesIO()
        writer = PackWriter(file, Codec())
        writer.add(digest_of(answer(3)), answer(3))
        pack = writer.finish()
        store.local.backend.write(store.local.objects.pack_name(pack.digest), file.getvalue())
        store.local.adopt(pack, used=1)
    HARMS[harm](path)
    assert store.get(digest_of(answer(3))) == answer(3)
    assert [info.digest for info in store.objects() if info.kept] == [digest_of(answer(3))]


def test_descriptor_of_a_replaced_pack_is_let_go(opened: Open) -> None:
    """A process that holds the bad file open reads from the good one that another put in its place."""
    store, other = opened(), opened()
    path = packed(store)
    good = path.read_bytes()
    damaged = bytearray(good)
    position = frame_of(path, 3)
    damaged[position - 5 : position + 5] = b"\xff" * 10
    path.write_bytes(damaged)
    number = len(good) - 10
    store.local.backend.read_range(path.relative_to(store.path).as_posix(), number, 10)  # held open
    other.local.backend.write(path.relative_to(store.path).as_posix(), good)
    assert store.read_entry(key(3))[1] == answer(3)
    assert not (store.path / "quarantine").exists()
    assert only_pack(store) == path


# Packs that lie


def lying(store: Repository) -> tuple[Digest, Digest]:
    """Let a pack come in whose bytes are right, and which says of an object what is not true."""
    file = io.BytesIO()
    writer = PackWriter(file, Codec())
    writer.add(digest_of(b"true"), b"true")
    writer.add_frame(digest_of(answer(1)), len(answer(1)), Codec().compress(answer(2)[: len(answer(1))]))
    pack = writer.finish()
    store.local.backend.write(store.local.objects.pack_name(pack.digest), file.getvalue())
    assert store.local.adopt(pack, used=1)
    return digest_of(b"true"), digest_of(answer(1))


@pytest.mark.parametrize("read", ["get", "verify"])
def test_object_about_which_a_pack_lies_is_a_miss(store: Repository, read: str) -> None:
    """That object alone is no longer believed to be there, once for all."""
    true, lie = lying(store)
    if read == "get":
        with pytest.raises((NotFoundError, IntegrityError)):
            store.get(lie)
    else:
        (failure,) = store.verify().failures
        assert failure.name == lie
    assert not store.has(lie)
    assert store.get(true) == b"true"
    assert not (store.path / "quarantine").exists()
    assert store.verify().failures == ()
    assert not store.has(lie)
    store.put_entry(key(1), answer(1))
    assert store.read_entry(key(1))[1] == answer(1)


def test_lie_is_healed_from_a_remote(opened: Open, folder_url: str) -> None:
    """The read goes on to a remote that holds the object, and what it brings stays."""
    other = opened("other")
    fill(other, [1])
    other.push(folder_url)
    store = opened()
    lying(store)
    store.pull(folder_url, manifest_only=True)
    assert store.read_entry(key(1))[1] == answer(1)
    assert store.get(digest_of(answer(1))) == answer(1)
    assert store.verify().failures == ()


# Dictionaries


@pytest.fixture
def with_dictionary(opened: Open, folder_url: str) -> Repository:
    """Return a store whose pack needs a dictionary, pushed, opened anew."""
    with opened() as store:
        fill(store, range(1000))
        store.repack()
        assert store.local.index.current_dictionary() is not None
        store.push(folder_url)
    return opened()


def dictionary_of(store: Repository) -> Path:
    """Return the file of a store's dictionary."""
    digest = store.local.index.current_dictionary()
    assert digest is not None
    return store.path / store.local.objects.name(digest)


@pytest.mark.parametrize("harm", ["bad", "gone"])
def test_dictionary_is_fetched_again(with_dictionary: Repository, harm: str) -> None:
    """A dictionary that is bad or gone comes from a remote when an object of its pack is next read."""
    store = with_dictionary
    path = dictionary_of(store)
    if harm == "bad":
        damage(path)
    else:
        path.unlink()
    assert store.read_entry(key(7))[1] == answer(7)
    assert path.exists()
    assert store.sizes().packs == 1
    assert store.verify().failures == ()


@pytest.mark.parametrize("harm", ["bad", "gone"])
def test_verify_tells_of_a_dictionary(with_dictionary: Repository, harm: str) -> None:
    """A dictionary that is bad or gone is one failure; the objects of its packs are still believed in."""
    store = with_dictionary
    path = dictionary_of(store)
    if harm == "bad":
        damage(path)
    else:
        path.unlink()
    (failure,) = store.verify().failures
    assert failure.name == path.relative_to(store.path).as_posix()
    assert store.sizes().objects == 1000
    assert store.read_entry(key(7))[1] == answer(7)
    assert store.verify().failures == ()


def test_without_its_dictionary_an_object_is_a_miss(with_dictionary: Repository, tmp_path: Path) -> None:
    """Where no remote has the dictionary either, an object that needs it is a miss, and can be put again."""
    store = with_dictionary
    path = dictionary_of(store)
    path.unlink()
    for name in files(tmp_path / "remote", "objects") | files(tmp_path / "remote", "packs"):
        (tmp_path / "remote" / name).unlink()
    with pytest.raises(NotFoundError):
        store.read_entry(key(7))
    assert not store.has(digest_of(answer(7)))
    assert store.has(digest_of(answer(8)))
    store.put_entry(key(7), answer(7))
    assert store.read_entry(key(7))[1] == answer(7)


def test_fetching_one_object_brings_its_dictionary(
    with_dictionary: Repository, opened: Open, folder_url: str
) -> None:
    """A store that has neither reads an object that lies in a remote's pack."""
    other = opened("other")
    other.pull(folder_url, manifest_only=True)
    assert other.read_entry(key(7))[1] == answer(7)
    assert other.verify().failures == ()


def test_nothing_is_wrong_with_an_object_whose_dictionary_lacks(
    with_dictionary: Repository, opened: Open, folder_url: str, tmp_path: Path
) -> None:
    """It cannot be read, and why is told; once the dictionary is back, it can."""
    path = tmp_path / "remote" / dictionary_of(with_dictionary).relative_to(with_dictionary.path)
    other = opened("other")
    other.pull(folder_url, manifest_only=True)
    aside = path.rename(tmp_path / "aside")
    with pytest.raises(NotFoundError, match=f"lacks the dictionary {path.stem}"):
        other.read_entry(key(7))
    aside.rename(path)
    assert other.read_entry(key(7))[1] == answer(7)


@pytest.mark.parametrize("harm", ["bad", "gone"])
def test_push_fetches_a_dictionary_that_was_lost(
    with_dictionary: Repository, opened: Open, tmp_path: Path, harm: str
) -> None:
    """Packs go to a second remote with the dictionary that the first one has."""
    store, second = with_dictionary, (tmp_path / "second").as_uri()
    if harm == "bad":
        damage(dictionary_of(store))
    else:
        dictionary_of(store).unlink()
    report = store.push(second)
    assert (report.objects, report.failures, report.left) == (1000, (), 0)
    other = opened("other")
    other.pull(second)
    assert other.read_entry(key(7))[1] == answer(7)


def test_push_without_a_dictionary_sends_the_rest(
    with_dictionary: Repository, opened: Open, tmp_path: Path
) -> None:
    """What needs a dictionary that is nowhere stays, and is told of, each time; all else goes."""
    store, second = with_dictionary, (tmp_path / "second").as_uri()
    new = store.put(b"new")
    path = dictionary_of(store)
    path.unlink()
    shutil.rmtree(tmp_path / "remote" / "objects")
    for objects in (1, 0):
        report = store.push(second)
        (failure,) = report.failures
        assert (failure.name, report.objects, report.left) == (path.stem, objects, 1000)
        assert "1,000 objects need it" in failure.reason
    assert store.plan_push(second).left == 1000
    other = opened("other")
    other.pull(second)
    assert other.get(new) == b"new"


# Verify and rebuild


def test_unknown_pack_is_taken_in(store: Repository) -> None:
    """A pack that a crash kept from the index is adopted, and may go first; a stray file is told."""
    path = packed(store)
    with store.local.index.writing() as connection:
        connection.execute("DELETE FROM objects")
        connection.execute("DELETE FROM packs")
    stray = path.with_name("stray")
    stray.write_bytes(b"")
    misplaced = store.path / "packs" / path.name
    misplaced.write_bytes(path.read_bytes())
    assert {failure.name for failure in store.verify().failures} == {
        stray.relative_to(store.path).as_posix(),
        misplaced.relative_to(store.path).as_posix(),
    }
    assert {info.used for info in store.objects()} == {0}
    assert answers(store) == EVERYTHING
    stray.unlink()
    misplaced.unlink()
    report = store.verify()
    assert (report.objects, report.packs, report.failures) == (COUNT, 1, ())
    assert report.bytes == path.stat().st_size


def test_pack_that_is_gone_is_told(store: Repository) -> None:
    """One failure for the pack, not one for each object; none of them is believed in."""
    path = packed(store)
    path.unlink()
    (failure,) = store.verify().failures
    assert failure.name == path.relative_to(store.path).as_posix()
    assert store.sizes().objects == 0
    assert store.verify().failures == ()


def test_rebuild_finds_objects_in_packs(opened: Open, folder_url: str) -> None:
    """A rebuilt index has each object once, in its own file if it has one, and says what it cannot read."""
    with opened() as store:
        path = packed(store)
        store.local.objects.put(answer(3))
        kept = store.put(answer(5))
    bad = path.with_name(f"{'0' * 64}.zst")
    bad.write_bytes(b"junk")
    (store.path / "index.sqlite").unlink()
    again = opened()
    assert answers(again) == EVERYTHING
    objects = {info.digest: info for info in again.objects()}
    assert not objects[digest_of(answer(3))].packed
    assert [info.digest for info in objects.values() if info.kept] == [kept]
    assert len(objects) == COUNT
    assert [failure.name for failure in again.rebuild().failures] == [bad.relative_to(store.path).as_posix()]
    assert again.sizes().packs_stored == path.stat().st_size


@pytest.mark.parametrize("harm", ["bad", "gone"])
def test_pull_tells_of_a_dictionary_that_is_not_there(
    with_dictionary: Repository, opened: Open, tmp_path: Path, folder_url: str, harm: str
) -> None:
    """A pull claims nothing that could not be read: without their dictionary, all objects of a pack fail."""
    path = tmp_path / "remote" / dictionary_of(with_dictionary).relative_to(with_dictionary.path)
    if harm == "bad":
        damage(path)
    else:
        path.unlink()
    other = opened("other")
    report = other.pull(folder_url)
    assert len(report.failures) == 1000
    assert len({failure.reason for failure in report.failures}) == 1
    assert other.sizes().packs == 0
