"""``casstore verify``, ``rebuild`` and ``evict``."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from casstore.repo.repository import Repository
from tests.cli.conftest import Run, add_entry
from tests.stores import damage


def spoil(home: Path) -> str:
    """Flip a byte of one object's file, and return its name in the store."""
    store = home / "store"
    path = min((store / "objects").rglob("*.zst"))
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    return path.relative_to(store).as_posix()


def test_verify_of_a_sound_store(casstore: Run) -> None:
    """Says how much was checked."""
    add_entry(1)
    assert re.fullmatch(r"checked 2 objects \(\d+ B\), 0 segments: all good\n", casstore("verify").stdout)
    told = casstore("verify", "--json").json()
    assert set(told) == {"objects", "packs", "segments", "bytes", "lost", "held", "failures"}
    assert (told["objects"], told["packs"], told["failures"]) == (2, 0, [])


def test_repack_says_what_it_would_do_and_what_it_did(casstore: Run) -> None:
    """Objects, packs, bytes before and after, and what that frees of the disk."""
    for number in range(20):
        add_entry(number)
    would = casstore("repack", "--dry-run").stdout
    assert re.fullmatch(r"would pack 40 objects \([\d.]+ KiB\)\n", would)
    assert casstore("repack", "--dry-run", "--json").json() | {"bytes": 0} == {
        "objects": 40,
        "bytes": 0,
        "packs": 0,
    }
    assert casstore("stats").stdout.count("packs ") == 0
    told = casstore("repack").stdout
    sizes = r"[\d.]+ KiB became [\d.]+ KiB, [\d.]+ KiB of the disk freed"
    assert re.fullmatch(rf"packed 40 objects into 1 pack: {sizes}\n", told)
    done = casstore("repack", "--json").json()
    assert set(done) == {"objects", "packs", "replaced", "before", "after", "blocks", "failures"}
    assert {done["objects"], done["packs"], done["before"], done["after"], done["blocks"]} == {0}
    assert re.search(r"^packs    1, [\d.]+ KiB$", casstore("stats").stdout, re.MULTILINE)
    verified = casstore("verify").stdout
    assert re.fullmatch(r"checked 40 objects \(.*\), 1 pack, 0 segments: all good\n", verified)


def test_repack_lists_what_it_cannot_read(casstore: Run, home: Path) -> None:
    """And exits with 1."""
    add_entry(1)
    spoil(home)
    first, last = casstore("repack", code=1).stdout.splitlines()
    assert re.match(r"[0-9a-f]{64}: ", first)
    assert last.startswith("packed 1 object into 1 pack: ")


def test_repack_tells_of_packs(casstore: Run) -> None:
    """One in which nothing lives any more is removed."""
    keys = [add_entry(number) for number in range(2)]
    casstore("repack")
    for key in keys:
        shown = casstore("show", key, "--json").json()
        casstore("delete", "--force", shown["object"], *shown["refs"])
    assert casstore("repack", "--dry-run").stdout == "would rewrite 1 pack\n"
    assert re.fullmatch(r"removed 1 pack: \d+ B became 0 B, [\d.]+ KiB .* freed\n", casstore("repack").stdout)


def test_verify_lists_what_fails_and_exits_with_1(casstore: Run, home: Path) -> None:
    """NAME: REASON, on standard output."""
    add_entry(1)
    name = spoil(home)
    first, last = casstore("verify", code=1).stdout.splitlines()
    assert first.startswith(f"{name}: ")
    assert last.endswith(": 1 failure")


def test_verify_json_lists_what_fails(casstore: Run, home: Path) -> None:
    """With the same exit code."""
    add_entry(1)
    name = spoil(home)
    (failure,) = casstore("verify", "--json", code=1).json()["failures"]
    assert set(failure) == {"name", "reason"}
    assert failure["name"] == name


def test_verify_says_what_was_lost_and_what_brings_it_back(casstore: Run, home: Path) -> None:
    """How much of it a remote holds, and the command; then that command does."""
    add_entry(1)
    casstore("push", "./remote")
    add_entry(2)
    for path in (home / "store" / "objects").rglob("*.zst"):
        path.unlink()
    outcome = casstore("verify", code=1)
    assert re.search(r"\nchecked 0 objects \(\d+ B\), 1 segment: 4 failures\n", outcome.stdout)
    assert outcome.stderr == (
        "casstore: 4 objects lost; a remote holds 2: run casstore pull; 2 known nowhere else\n"
    )
    assert casstore("pull", "./remote").stdout.startswith("pulled 2 objects in 1 pack")
    assert casstore("verify").stdout.startswith("checked 2 objects")


def test_rebuild_finds_everything_again(casstore: Run) -> None:
    """Entries that were never pushed included."""
    key = add_entry(1)
    assert casstore("rebuild").stdout == "rebuilt the index: 1 entry, 2 objects\n"
    assert [entry["key"] for entry in casstore("ls", "--json").json()] == [key]
    told = casstore("rebuild", "--json").json()
    assert told == {"entries": 1, "objects": 2, "absent": 0, "damaged": 0, "failures": []}


def test_rebuild_tells_entries_whose_object_is_elsewhere(casstore: Run) -> None:
    """As after a pull of the manifest alone."""
    add_entry(1)
    casstore("push", "./remote")
    casstore("--store", "other", "pull", "--manifest-only", "./remote")
    told = casstore("--store", "other", "rebuild").stdout
    assert told == "rebuilt the index: 1 entry (1 without its object here), 0 objects\n"


def test_a_lost_index_is_rebuilt_unasked(casstore: Run, home: Path) -> None:
    """With a warning on standard error; the result is as before."""
    key = add_entry(1)
    for path in (home / "store").glob("index.sqlite*"):
        path.unlink()
    outcome = casstore("ls", "--json")
    assert [entry["key"] for entry in outcome.json()] == [key]
    assert outcome.stderr.startswith("casstore: warning: rebuilt the index: 1 entries, 2 objects")


def test_evict_brings_the_store_under_its_cap(casstore: Run) -> None:
    """It says what went, and what of that is nowhere else."""
    for number in range(5):
        add_entry(number)
    casstore("put", "-", stdin=b"hello\n")
    casstore("config", "set", "max_size", "1")
    told = casstore("evict").stdout
    assert re.fullmatch(r"evicted 10 objects \(.*B\); 5 entries of no remote went with them\n", told)
    with Repository.open() as repo:
        assert (repo.sizes().objects, repo.sizes().entries) == (1, 0)
    assert casstore("evict", "--json").json() == {"objects": 0, "bytes": 0, "entries": 0}


@pytest.mark.parametrize("heal", ["pull", "cat"])
@pytest.mark.parametrize("loss", ["gone", "damaged"])
def test_what_was_put_by_hand_stays_so_through_loss_and_healing(
    casstore: Run, home: Path, loss: str, heal: str
) -> None:
    """Whatever brings it back: it is outside the cap, and no eviction takes it."""
    digest = casstore("put", "-", stdin=b"precious").stdout.split()[0]
    for number in range(5):
        add_entry(number)
    casstore("push", "./remote")
    before = casstore("stats", "--json").json()
    name = f"{digest}.zst"
    (path,) = (home / "store" / "objects").rglob(name)
    if loss == "gone":
        path.unlink()
    else:
        damage(path)
    casstore("verify", code=1)
    assert casstore("stats", "--json").json()["kept_objects"] == 0
    casstore(*(["pull", "./remote"] if heal == "pull" else ["cat", digest]))
    after = casstore("stats", "--json").json()
    assert after["kept_objects"] == before["kept_objects"] == 1
    casstore("config", "set", "max_size", "1")
    casstore("evict")
    (left,) = casstore("ls", "--objects", "--json").json()
    assert (left["digest"], left["why"]) == (digest, ["put"])
    assert casstore("cat", digest).raw == b"precious"


def test_what_was_deleted_by_hand_is_not_put_again_by_a_pull(casstore: Run) -> None:
    """Its mark went with it; a pull that brings it brings it as any other."""
    digest = casstore("put", "-", stdin=b"precious").stdout.split()[0]
    casstore("push", "./remote")
    casstore("delete", digest)
    casstore("pull", "--again", "./remote")
    assert casstore("stats", "--json").json()["kept_objects"] == 0
