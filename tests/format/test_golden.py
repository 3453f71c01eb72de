"""The store under ``golden/``, written by an earlier casstore, is readable for as long as its version is."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from casstore.digest import digest_of
from casstore.errors import NotFoundError
from casstore.events import Event, Warned
from casstore.repo.repository import Repository
from tests.format import make_golden
from tests.format.make_golden import ANSWERS, FIRST_MOMENT, FORGOTTEN, GOLDEN, PUT_BY_HAND, UNPUBLISHED, key
from tests.format.reader import check_promises, read_marker, read_store
from tests.stores import answers, files

PUBLISHED = {name: content for name, content in ANSWERS.items() if name not in UNPUBLISHED} | {
    UNPUBLISHED[1]: b"seen by who pulls from here"
}
"""What a store that pulls from the golden one gets: its manifest, not its journal."""


@pytest.fixture
def golden(tmp_path: Path) -> Path:
    """Return a copy of the golden store."""
    return shutil.copytree(GOLDEN, tmp_path / "golden")


def test_the_golden_store_is_what_version_1_is_made_of() -> None:
    """Marker, objects, segments and a journal with a torn line: no index, and nothing else."""
    parts = {path.relative_to(GOLDEN).parts[0] for path in GOLDEN.rglob("*") if path.is_file()}
    assert parts == {"casstore.json", "journal", "manifest", "objects"}
    size = sum(path.stat().st_size for path in GOLDEN.rglob("*") if path.is_file())
    assert size < 30_000
    marker = b'{"features":[],"format":"casstore","hash":"sha256","shards":[1,1],"version":1}\n'
    assert (GOLDEN / "casstore.json").read_bytes() == marker


def test_it_opens_without_an_index(golden: Path) -> None:
    """Opening rebuilds the index, says so, and every answer reads as it was written."""
    events: list[Event] = []
    with Repository.open(golden, on_event=events.append) as repository:
        assert answers(repository) == ANSWERS
        for content in PUT_BY_HAND:
            assert repository.get(digest_of(content)) == content
        for missing in (FORGOTTEN, UNPUBLISHED[1]):
            with pytest.raises(NotFoundError):
                repository.entry(missing)
        assert not repository.verify().failures
    (warning,) = [event for event in events if isinstance(event, Warned)]
    assert "1 journal lines" in warning.message


def test_it_keeps_what_else_is_said_of_an_entry(golden: Path) -> None:
    """Labels, refs, generation and time are those of the day it was written."""
    with Repository.open(golden) as repository:
        plain = repository.entry(key("plain"))
        assert plain.labels == {"model": "m-1", "cost": {"usd": 0.25}}
        assert (plain.generation, plain.refs) == (0, ())
        refreshed = repository.entry(key("refreshed"))
        assert (refreshed.generation, refreshed.labels) == (1, {"n": 2, "é": "ü"})
        assert [repository.get(ref) for ref in repository.entry(key("with refs")).refs] == [
            make_golden.REQUEST,
            b"an image, say",
        ]
        assert repository.entry(key("forgotten, then asked again")).generation == 1
        assert all(entry.created > FIRST_MOMENT for entry in repository.entries())
        assert {info.digest for info in repository.objects() if info.kept} == set(map(digest_of, PUT_BY_HAND))


def test_a_rebuild_finds_the_same_again(golden: Path) -> None:
    """A rebuild reports the torn line of the journal and no other loss."""
    with Repository.open(golden) as repository:
        report = repository.rebuild()
        assert (report.entries, report.absent, report.damaged) == (len(ANSWERS), 0, 1)
        assert not report.failures
        assert answers(repository) == ANSWERS


def test_it_is_read_alike_by_the_second_reader() -> None:
    """The reader that shares no line with casstore finds the same answers."""
    reading = read_store(GOLDEN)
    assert reading.answers() == {str(name): content for name, content in ANSWERS.items()}
    assert all(reading.objects[digest_of(content)] == content for content in PUT_BY_HAND)


def test_another_store_pulls_from_it(golden: Path, tmp_path: Path) -> None:
    """As a remote it gives all that its manifest names, once, and is not changed by it."""
    before = files(golden, "")
    with Repository.open(tmp_path / "store") as repository:
        report = repository.pull(golden.as_uri())
        assert not report.failures
        assert answers(repository) == PUBLISHED
        assert repository.pull(golden.as_uri()).requests == {"LIST": 1}
        for content in PUT_BY_HAND:
            assert repository.get(digest_of(content)) == content
    assert files(golden, "") == before


def test_another_store_pushes_into_it(golden: Path, tmp_path: Path) -> None:
    """As a remote it takes new entries, after its marker names packs; what it held stays what it was."""
    before = files(golden, "")
    marker = before.pop("casstore.json")
    with Repository.open(tmp_path / "store") as repository:
        repository.put_entry(key("new"), b"a new one")
        repository.push(golden.as_uri())
    after = files(golden, "")
    assert before.items() <= after.items()
    assert json.loads(after["casstore.json"]) == json.loads(marker) | {"features": ["packs"]}
    assert any(name.startswith("packs/") for name in after)
    reading = read_store(golden)
    expected = {str(name): content for name, content in ANSWERS.items()}
    assert reading.answers() == expected | {str(key("new")): b"a new one"}


def test_it_is_upgraded_where_it_stands(golden: Path, tmp_path: Path) -> None:
    """Opened as a local store it keeps its marker until it gets what an older casstore could not read."""
    marker = (golden / "casstore.json").read_bytes()
    with Repository.open(golden) as repository:
        assert answers(repository) == ANSWERS
        repository.put_entry(key("new"), b"a new one")
        assert not repository.plan_push((tmp_path / "remote").as_uri()).failures
    assert (golden / "casstore.json").read_bytes() == marker
    with Repository.open(golden) as repository:
        repository.push((tmp_path / "remote").as_uri())
        assert answers(repository) == ANSWERS | {key("new"): b"a new one"}
        assert not repository.verify().failures
    assert read_marker(golden).features == read_marker(tmp_path / "remote").features == {"packs"}
    reading = check_promises(tmp_path / "remote")
    assert reading.answers() == {str(name): content for name, content in ANSWERS.items()} | {
        str(key("new")): b"a new one"
    }


@pytest.mark.parametrize("change", ["put", "pull"])
def test_whatever_is_new_upgrades_it(golden: Path, tmp_path: Path, change: str) -> None:
    """Putting by hand and pulling write what an older casstore could not read, so they upgrade it too."""
    with Repository.open(tmp_path / "other") as other:
        other.put_entry(key("another's"), b"answer")
        other.push((tmp_path / "remote").as_uri())
    with Repository.open(golden) as repository:
        if change == "put":
            repository.put(b"more by hand")
        else:
            repository.pull((tmp_path / "remote").as_uri())
    assert read_marker(golden).features == {"packs"}


def test_what_it_holds_can_still_be_made(tmp_path: Path) -> None:
    """The script that made it makes a store of the same content with today's casstore."""
    make_golden.main(tmp_path / "again")
    old, new = read_store(GOLDEN), read_store(tmp_path / "again")
    assert (old.objects, old.claims) == (new.objects, new.claims)
