"""``casstore gc``."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.conftest import Run, add_entry
from tests.clock import Clock, running_clock
from tests.stores import damage, files

FIELDS = {
    *("remote", "dry_run", "doomed", "folded", "repacked", "deleted", "bytes", "moved", "waiting", "missing"),
    "here",
    *("requests", "seconds", "failures"),
}


@pytest.fixture
def clock() -> Iterator[Clock]:
    """Yield a clock that stands unless it is set forward."""
    with running_clock() as found:
        yield found


@pytest.fixture
def team(casstore: Run) -> str:
    """Configure a remote, and push into it often enough to leave garbage."""
    casstore("init")
    casstore("remote", "add", "team", "./remote")
    for number in range(4):
        add_entry(number)
        casstore("push", "team")
    return "team"


def test_garbage_is_marked_and_deleted_later(casstore: Run, team: str, home: Path, clock: Clock) -> None:
    """The output says how many files, and what it took."""
    told = casstore("gc").stdout.splitlines()
    assert re.fullmatch(
        r"[1-9]\d* files? marked before: a casstore gc that comes 24h after the mark deletes them", told[0]
    )
    assert re.fullmatch(r"\d+ requests \(.*\), \d+\.\d\d s", told[-1])
    clock.forward(25, home / "remote")
    planned = casstore("gc", "--dry-run").stdout.splitlines()[0]
    done = casstore("gc", team).stdout.splitlines()[0]
    assert planned == done.replace("deleted", "would delete")
    assert re.fullmatch(r"deleted \d+ files \(.* KiB\)", done)
    assert len(files(home / "remote", "manifest")) == len(files(home / "remote", "packs")) == 1
    assert casstore("gc").stdout.splitlines()[:-1] == ["nothing to collect in team"]


def test_json(casstore: Run, team: str) -> None:
    """One document with everything, of a dry run too."""
    for arguments in ((), ("--dry-run",)):
        told = casstore("gc", team, "--json", *arguments).json()
        assert set(told) == FIELDS
        assert told["dry_run"] is bool(arguments)
        assert (told["remote"], told["missing"], told["failures"]) == ("team", 0, [])
        assert (told["requests"]["LIST"], told["requests"]["HEAD"]) == (3, 0)


def test_grace(casstore: Run, team: str, home: Path, clock: Clock) -> None:
    """As long as one says; what is no duration is a mistake in usage."""
    casstore("gc", "--grace", "0s")
    clock.forward(0.01)
    casstore("gc", "--grace", "0s")
    assert len(files(home / "remote", "manifest")) == 1
    assert "not a duration: 'soon'" in casstore("gc", "--grace", "soon", code=2).stderr


@pytest.fixture
def other(home: Path) -> tuple[str, str]:
    """Return the option for a store that has another entry, which it has not pushed."""
    add_entry(100, store=str(home / "other"))
    return "--store", str(home / "other")


def test_what_is_missing_is_a_failure_and_told_how_to_mend(
    casstore: Run, team: str, home: Path, other: tuple[str, str]
) -> None:
    """Objects that somebody removed from the remote: the steps that are told bring them back."""
    for path in (home / "remote" / "packs").rglob("*.zst"):
        path.unlink()
    away = "8 not here: where they are, run casstore gc {0} and then casstore push {0}"
    for arguments in (("--dry-run",), ()):
        told = casstore("gc", "./remote", *arguments, *other, code=1)
        url = (home / "remote").as_uri()
        assert told.stderr == f"casstore: 8 objects needed and not in {url}; {away.format(url)}\n"
    assert casstore("gc", team, code=1).stderr.endswith("; 8 here: run casstore push team\n")
    casstore("push", team)
    casstore("gc", "./remote", *other)


def test_what_is_missing_is_here_in_part(
    casstore: Run, team: str, home: Path, other: tuple[str, str]
) -> None:
    """Both steps are told."""
    add_entry(0, store=other[1])
    for path in (home / "remote" / "packs").rglob("*.zst"):
        path.unlink()
    told = casstore("gc", "./remote", *other, code=1).stderr
    url = (home / "remote").as_uri()
    assert f"; 2 here: run casstore push {url}; 6 not here: where they are, run casstore gc {url} " in told


def test_what_cannot_be_read_is_told_once_for_each_reason(
    casstore: Run, team: str, home: Path, other: tuple[str, str]
) -> None:
    """Not for each object; and how to mend it."""
    for path in (home / "remote" / "packs").rglob("*.zst"):
        path.unlink()
    reasons, missing, advice = casstore("pull", "./remote", *other, code=1).stderr.strip().rsplit("\n", 2)
    assert re.fullmatch(r"(casstore: \w{64} and \d+ more: packs/\S+ is not in \S+\n?){1,3}", reasons)
    assert "objects known at file://" in missing
    url = (home / "remote").as_uri()
    assert f"where it still is: run casstore gc {url} and then casstore push {url} there" in advice


def test_a_cut_pack_is_a_failure_and_told_how_to_mend(casstore: Run, team: str, home: Path) -> None:
    """Its file is named with both lengths; a push sends again what was in it."""
    casstore("gc", team, "--grace", "0s")
    casstore("gc", team, "--grace", "0s")
    ((name, content),) = files(home / "remote", "packs").items()
    (home / "remote" / name).write_bytes(content[:-7])
    damaged, advice = casstore("gc", team, code=1).stderr.splitlines()
    assert damaged == (
        f"casstore: {name}: it is damaged: it has {len(content) - 7:,} bytes, and had {len(content):,}"
    )
    assert advice == "casstore: 8 objects needed and not in team; 8 here: run casstore push team"
    casstore("push", team)
    assert files(home / "remote", "packs")[name] == content
    assert casstore("gc", team).stderr == ""


def test_a_damaged_pack_is_mended_by_the_steps_that_are_told(
    casstore: Run, team: str, home: Path, other: tuple[str, str]
) -> None:
    """Its file is named: once it is removed, who has the objects sends them again."""
    casstore("gc", team)
    for path in (home / "remote" / "packs").rglob("*.zst"):
        damage(path, 20)
    told = casstore("pull", "./remote", *other, code=1).stderr
    (name,) = {*re.findall(r"packs/\S+\.zst", told)}
    (home / "remote" / name).unlink()
    casstore("gc", team, code=1)
    casstore("push", team)
    casstore("gc", team)
    casstore("pull", "./remote", *other)
    assert casstore("verify", *other).stdout.endswith("all good\n")
    assert len(casstore("ls", *other).stdout.splitlines()) == 5
