"""The store under ``golden-packs/``: packs, a dictionary, merged and doomed segments, readable for good."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from casstore.digest import Digest, Key, digest_of
from casstore.errors import NotFoundError
from casstore.repo.repository import Repository
from tests.format import make_golden_packs
from tests.format.make_golden_packs import ANSWERS, DOOMED_AFTER, EARLIER, FORGOTTEN, GOLDEN, PUT_BY_HAND, key
from tests.format.reader import check_promises, read_fresh, read_segment, read_store
from tests.stores import answers, damage, files

TEXTS = {str(name): content for name, content in ANSWERS.items()}


@pytest.fixture
def golden(tmp_path: Path) -> Path:
    """Return a copy of the golden store."""
    return shutil.copytree(GOLDEN, tmp_path / "golden")


def segments(root: Path) -> dict[str, list[dict[str, object]]]:
    """Return the records of each segment, by its name."""
    return {path.name[:64]: read_segment(path) for path in sorted((root / "manifest").iterdir())}


def merged(root: Path) -> Path:
    """Return the merged segment."""
    (path,) = (
        path
        for path in (root / "manifest").iterdir()
        if any(record["kind"] == "replaces" for record in read_segment(path))
    )
    return path


def test_it_is_made_of_everything() -> None:
    """Marker, objects, packs with and without a dictionary, and every kind of record; no index."""
    parts = {path.relative_to(GOLDEN).parts[0] for path in GOLDEN.rglob("*") if path.is_file()}
    assert parts == {"casstore.json", "manifest", "objects", "packs"}
    assert sum(path.stat().st_size for path in GOLDEN.rglob("*") if path.is_file()) < 40_000
    marker = b'{"features":["packs"],"format":"casstore","hash":"sha256","shards":[1,1],"version":1}\n'
    assert (GOLDEN / "casstore.json").read_bytes() == marker
    kinds = {record["kind"] for records in segments(GOLDEN).values() for record in records}
    assert kinds == {"entry", "tombstone", "location", "pack", "kept", "doomed", "replaces"}
    tables = read_store(GOLDEN).packs.values()
    assert sorted("dictionary" in table for table in tables) == [False, True, True]


def test_it_is_read_alike_by_the_second_reader() -> None:
    """The reader that shares no line with casstore finds every answer, and every promise kept."""
    reading = check_promises(GOLDEN)
    assert reading.answers() == TEXTS
    assert reading.kept == {digest_of(PUT_BY_HAND)}
    assert reading.objects[digest_of(PUT_BY_HAND)] == PUT_BY_HAND


def test_the_first_bytes_of_the_merged_segment_tell_what_is_new() -> None:
    """Who knows what it replaces reads its head and its fresh records, less than half of it."""
    stored = merged(GOLDEN).read_bytes()
    replaced, fresh = read_fresh(stored[: len(stored) // 2])
    assert len(replaced) == 2
    assert sum(name in segments(GOLDEN) for name in replaced) == 1
    assert {record["kind"] for record in fresh} == {"entry", "tombstone", "pack", "doomed"}


def test_another_store_pulls_from_it(golden: Path, tmp_path: Path) -> None:
    """As a remote it gives all that its manifest names, mostly in packs, and is not changed by it."""
    before = files(golden, "")
    with Repository.open(tmp_path / "store") as repository:
        report = repository.pull(golden.as_uri())
        assert not report.failures
        assert answers(repository) == ANSWERS
        assert repository.get(digest_of(PUT_BY_HAND)) == PUT_BY_HAND
        with pytest.raises(NotFoundError):
            repository.entry(FORGOTTEN)
        assert repository.pull(golden.as_uri()).requests == {"LIST": 1}
        assert files(repository.path, "packs")
        assert not repository.verify().failures
        doomed = repository.remote(golden.as_uri()).tracking.doomed()
        assert {(each.what, each.after) for each in doomed} == {
            ("pack", DOOMED_AFTER),
            ("segment", DOOMED_AFTER),
        }
        assert len(doomed) == 2  # the third is gone
    assert files(golden, "") == before


def test_another_store_pushes_into_it(golden: Path, tmp_path: Path) -> None:
    """As a remote it takes new entries, and what it held stays what it was."""
    before = files(golden, "")
    with Repository.open(tmp_path / "store") as repository:
        repository.put_entry(key("new"), b"a new one")
        repository.push(golden.as_uri())
    assert before.items() <= files(golden, "").items()
    assert read_store(golden).answers() == TEXTS | {str(key("new")): b"a new one"}


def test_it_opens_as_a_local_store(golden: Path) -> None:
    """Its index is made from segments, packs and objects, and every answer reads as it was written."""
    with Repository.open(golden) as repository:
        assert answers(repository) == ANSWERS
        assert repository.get(digest_of(PUT_BY_HAND)) == PUT_BY_HAND
        assert {info.digest for info in repository.objects() if info.kept} == {digest_of(PUT_BY_HAND)}
        assert repository.entry(key("refreshed")).generation == 1
        report = repository.rebuild()
        assert (report.entries, report.absent, report.failures) == (len(ANSWERS), 0, ())
        assert answers(repository) == ANSWERS
        assert not repository.verify().failures


def test_what_it_holds_can_still_be_made(tmp_path: Path) -> None:
    """The script that made it makes a store of the same content with today's casstore."""
    make_golden_packs.main(tmp_path / "again")
    old, new = read_store(GOLDEN), read_store(tmp_path / "again")
    assert (old.objects, old.claims) == (new.objects, new.claims)


# Damage


def places(path: Path, edges: int = 12) -> list[int]:
    """Return offsets in a file: its first and last bytes, and some between."""
    size = path.stat().st_size
    return sorted({*range(min(edges, size)), *range(0, size, max(1, size // 25)), *range(size - edges, size)})


def packs_of(root: Path) -> list[Path]:
    """Return the packs of a store."""
    return sorted(path for path in (root / "packs").rglob("*") if path.is_file())


def dictionary_of(root: Path) -> Path:
    """Return the file of the store's dictionary."""
    (digest,) = {table["dictionary"] for table in read_store(root).packs.values() if "dictionary" in table}
    return Path(root, "objects", digest[0], digest[1], f"{digest}.zst")


def test_flipped_bits_in_packs_are_found(golden: Path) -> None:
    """Wherever a bit of a pack flips, verification names it and puts it aside."""
    with Repository.open(golden) as repository:
        assert not repository.verify().failures
        repository.local.index.flush()
    for pack in packs_of(golden):
        good = pack.read_bytes()
        for offset in places(pack)[::4]:
            damage(pack, offset, 1 << offset % 8)
            with Repository.open(golden) as repository:
                failures = repository.verify().failures
                assert any(pack.name[:64] in failure.name for failure in failures)
            pack.parent.mkdir(exist_ok=True)
            for left in packs_of(golden):
                if left.name not in {each.name for each in packs_of(GOLDEN)}:
                    left.unlink()
            pack.write_bytes(good)
            with Repository.open(golden) as repository:
                repository.rebuild()


def is_right(found: dict[Key, bytes | None]) -> bool:
    """Return whether every answer that was found is one that the store ever gave."""
    return all(
        content is None or content in (ANSWERS.get(name), EARLIER.get(name))
        for name, content in found.items()
    )


def files_of(golden: Path) -> dict[str, Path]:
    """Return one file of each kind."""
    largest = max(packs_of(golden), key=lambda pack: pack.stat().st_size)
    return {"pack": largest, "dictionary": dictionary_of(golden), "merged segment": merged(golden)}


@pytest.mark.parametrize("what", ["pack", "dictionary", "merged segment"])
def test_a_pull_believes_no_damaged_byte(golden: Path, tmp_path: Path, what: str) -> None:
    """A pull from a remote with one flipped bit brings right answers or none; from the good one, all."""
    path = files_of(golden)[what]
    good = path.read_bytes()
    for number, offset in enumerate(places(path)[::5]):
        damage(path, offset, 1 << offset % 8)
        with Repository.open(tmp_path / f"{number}") as repository:
            report = repository.pull(golden.as_uri())
            assert report.failures or what == "pack"
            assert is_right(answers(repository))
            assert not repository.verify().failures
            path.write_bytes(good)
            repository.remote(golden.as_uri()).tracking.reset()
            assert not repository.pull(golden.as_uri()).failures
            assert answers(repository) == ANSWERS
        shutil.rmtree(tmp_path / f"{number}")


@pytest.mark.parametrize("what", ["pack", "dictionary", "merged segment"])
@pytest.mark.parametrize("part", [0.0, 0.001, 0.5, 0.999])
def test_a_pull_believes_no_cut_file(golden: Path, tmp_path: Path, what: str, part: float) -> None:
    """A file that ends too early, wherever, costs what it held and nothing else."""
    path = files_of(golden)[what]
    good = path.read_bytes()
    path.write_bytes(good[: int(len(good) * part)])
    with Repository.open(tmp_path / "store") as repository:
        repository.pull(golden.as_uri())
        assert is_right(answers(repository))
        path.write_bytes(good)
        repository.remote(golden.as_uri()).tracking.reset()
        repository.pull(golden.as_uri())
        assert answers(repository) == ANSWERS


def test_a_missing_dictionary_is_told_and_comes_back(golden: Path, tmp_path: Path) -> None:
    """Without the dictionary of its packs a store says which objects it cannot read."""
    path = dictionary_of(golden)
    good = path.read_bytes()
    path.unlink()
    with Repository.open(tmp_path / "store") as repository:
        assert repository.pull(golden.as_uri()).failures
        found = answers(repository)
        assert found[key("second 3")] is None
        path.write_bytes(good)
        repository.remote(golden.as_uri()).tracking.reset()
        assert not repository.pull(golden.as_uri()).failures
        assert answers(repository) == ANSWERS


def test_every_digest_in_a_name_is_that_of_its_file() -> None:
    """Packs are named by their bytes, objects and segments by their content."""
    for path in packs_of(GOLDEN):
        assert digest_of(path.read_bytes()) == Digest(path.name[:64])
