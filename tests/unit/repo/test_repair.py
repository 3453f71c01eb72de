"""Repairing a remote: what it needs and lacks, and is here in any form, goes up with the next push."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from casstore.digest import Digest, digest_of
from casstore.repo.repository import Repository
from tests.doubles import Crash, CrashingBackend
from tests.stores import MIB, answer, damage, files, fill, key, noise
from tests.unit.repo.conftest import Open


@pytest.fixture
def remote(tmp_path: Path) -> Path:
    """Return the folder behind ``folder_url``."""
    return tmp_path / "remote"


@pytest.fixture
def small_dictionaries(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a hundred objects be enough for a dictionary."""
    monkeypatch.setattr("casstore.store.dictionaries.TRAINED_ON", 100)
    monkeypatch.setattr("casstore.repo.packing.TRAINED_ON", 100)


def lose(remote: Path, folder: str) -> None:
    """Remove all files of a kind from a remote."""
    shutil.rmtree(remote / folder)


def forms(store: Repository, url: str, form: str) -> dict[Digest, bytes]:
    """Put something into a store in one form, push it, and return what a newcomer must be able to read."""
    content = noise(2 * MIB) if form == "loose" else answer(1)
    if form in ("put by hand", "loose"):
        store.put(content)
    elif form == "ref":
        store.put_entry(key(1), answer(2), refs=[content])
    else:
        store.put_entry(key(1), content)
    assert store.push(url).failures == ()
    return {digest_of(content): content}


@pytest.mark.parametrize("form", ["entry", "ref", "put by hand", "loose"])
@pytest.mark.parametrize("told_by", ["gc", "pull"])
def test_what_was_pulled_goes_up_again(
    opened: Open, folder_url: str, remote: Path, form: str, told_by: str
) -> None:
    """A colleague's copy mends the remote, also of what only the remote says was put by hand."""
    expected = forms(opened("author"), folder_url, form)
    puller, late = opened("puller"), opened("late")
    assert puller.pull(folder_url).failures == ()
    late.pull(folder_url, manifest_only=True)
    lose(remote, "objects" if form == "loose" else "packs")
    if told_by == "gc":
        told = puller.gc(folder_url)
        assert (told.missing, told.here) == ((2, 2) if form == "ref" else (1, 1))
        assert puller.push(folder_url).objects == told.missing
    else:  # who notices has nothing, until somebody brings it
        assert late.pull(folder_url).failures != ()
        for content in (*expected.values(), answer(2)):
            late.put(content)
        late.push(folder_url)
    assert opened("bare").gc(folder_url).missing == 0
    newcomer = opened("newcomer")
    assert newcomer.pull(folder_url).failures == ()
    assert {digest: newcomer.get(digest) for digest in expected} == expected


def test_a_push_that_nothing_is_missing_for_costs_one_request(
    opened: Open, folder_url: str, remote: Path
) -> None:
    """What was sent again is pending no more, here and wherever a segment tells of it."""
    forms(opened("author"), folder_url, "put by hand")
    stores = [opened(name) for name in ("one", "two")]
    for store in stores:
        store.pull(folder_url)
    lose(remote, "packs")
    for store in stores:
        assert store.gc(folder_url).here == 1
    assert [store.push(folder_url).objects for store in stores] == [1, 0]
    for store in stores:
        assert store.push(folder_url).requests == {"LIST": 1}
        assert store.plan_push(folder_url).requests == {"LIST": 1}


@pytest.mark.parametrize("writes", [0, 1])
def test_an_interrupted_repair_is_completed(opened: Open, folder_url: str, remote: Path, writes: int) -> None:
    """Stopped before or after the pack, which the next push tells of."""
    expected = forms(opened("author"), folder_url, "put by hand")
    store = opened("puller")
    store.pull(folder_url)
    lose(remote, "packs")
    store.gc(folder_url)
    there = store.remote(folder_url)
    inner = there.backend
    there.backend = CrashingBackend(inner, writes)
    with pytest.raises(Crash):
        store.push(folder_url)
    there.backend = inner
    assert store.push(folder_url).objects == 1 - writes
    newcomer = opened("newcomer")
    assert newcomer.pull(folder_url).failures == ()
    assert {digest: newcomer.get(digest) for digest in expected} == expected


def test_what_is_nowhere_is_sent_once_it_is_here(opened: Open, folder_url: str, remote: Path) -> None:
    """A collection that found it missing need not be run again."""
    expected = forms(opened("author"), folder_url, "put by hand")
    store = opened("late")
    store.pull(folder_url, manifest_only=True)
    lose(remote, "packs")
    assert (store.gc(folder_url).here, store.push(folder_url).objects) == (0, 0)
    store.put_entry(key(5), *expected.values())
    assert store.push(folder_url).objects == 1
    assert store.gc(folder_url).missing == 0


@pytest.mark.usefixtures("small_dictionaries")
def test_a_dictionary_that_is_here_again_goes_up(
    opened: Open, folder_url: str, remote: Path, tmp_path: Path
) -> None:
    """In a file of its own, where readers of packs look for it."""
    author, store = opened("author"), opened("store")
    fill(author, range(120))
    author.push(folder_url)
    assert store.pull(folder_url).failures == ()
    ((name, content),) = files(remote, "objects").items()
    for file in (store.path / name, remote / name):
        file.unlink()
    told = store.gc(folder_url)
    assert (told.missing, told.here) == (120, 0)
    second = (tmp_path / "second").as_uri()
    author.push(second)
    store.pull(second)
    store.read_entry(key(1))  # fetches it
    report = store.push(folder_url)
    assert (report.failures, files(remote, "objects")) == ((), {name: content})
    assert store.gc(folder_url).missing == 0
    assert opened("newcomer").pull(folder_url).failures == ()


def test_a_ref_that_could_not_be_sent_goes_up_when_it_is_here_again(
    opened: Open, folder_url: str, store: Repository
) -> None:
    """Its entry went before it, so nothing else leads to it any more."""
    ref = noise(2 * MIB)
    store.put_entry(key(1), answer(1), refs=[ref])
    damage(store.path / store.local.objects.name(digest_of(ref)))
    first = store.push(folder_url)
    assert (first.entries, [failure.name for failure in first.failures]) == (1, [digest_of(ref)])
    store.put(ref)
    store.delete(digest_of(ref), force=True)
    assert store.push(folder_url).objects == 0
    store.put_entry(key(2), answer(2), refs=[ref])
    store.forget(key(2))
    assert store.push(folder_url).objects == 1
    newcomer = opened("newcomer")
    newcomer.pull(folder_url)
    assert newcomer.get(digest_of(ref)) == ref


def test_what_another_remote_has_is_not_given_up(opened: Open, folder_url: str, tmp_path: Path) -> None:
    """An object put by hand that was lost here goes to a second remote once the first one brought it back."""
    store, second = opened("store"), (tmp_path / "second").as_uri()
    content = noise(2 * MIB)
    digest = store.put(content)
    store.push(folder_url)
    store.plan_push(second)
    store.close()
    again = opened("store")
    damage(again.path / again.local.objects.name(digest))
    first = again.push(second)
    assert ([failure.name for failure in first.failures], first.objects) == ([digest], 0)
    assert again.push(second).left == 1
    assert again.get(digest) == content
    assert (again.push(second).objects, again.push(second).left) == (1, 0)


@pytest.mark.usefixtures("small_dictionaries")
@pytest.mark.parametrize("harm", ["gone", "bad"])
def test_objects_whose_dictionary_is_nowhere_go_up_again(
    opened: Open, folder_url: str, remote: Path, harm: str
) -> None:
    """Who has them otherwise sends them; stores that learnt of both places read what they can."""
    author, early, one = opened("author"), opened("early"), opened("one")
    fill(author, range(120))
    author.push(folder_url)
    early.pull(folder_url, manifest_only=True)
    one.pull(folder_url, manifest_only=True)
    ((name, _),) = files(remote, "objects").items()
    author.close()
    (author.path / name).unlink()
    damage(remote / name) if harm == "bad" else (remote / name).unlink()
    again = opened("author")
    assert (again.gc(folder_url).missing, again.gc(folder_url).here) == (120, 120)
    assert again.push(folder_url).objects == 120
    assert opened("newcomer").pull(folder_url).failures == ()
    assert early.pull(folder_url).failures == ()
    assert one.pull(folder_url, manifest_only=True).failures == ()
    assert one.read_entry(key(7))[1] == answer(7)
    told = opened("bare").gc(folder_url)
    assert (told.missing, told.failures, told.doomed + told.waiting > 0) == (0, (), True)


@pytest.mark.usefixtures("small_dictionaries")
def test_a_dictionary_that_nothing_needs_is_not_missed(
    opened: Open, folder_url: str, remote: Path, store: Repository
) -> None:
    """Once all that needs it was forgotten, collections go on without it."""
    fill(store, range(120))
    store.push(folder_url)
    for number in range(120):
        store.forget(key(number))
    store.push(folder_url)
    lose(remote, "objects")
    told = opened("bare").gc(folder_url)
    assert (told.missing, told.failures) == (0, ())
