"""``casstore gc``."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.conftest import Run, add_entry
from tests.clock import Clock, running_clock
from tests.stores import files

FIELDS = {
    *("remote", "dry_run", "doomed", "folded", "repacked", "deleted", "bytes", "moved", "waiting", "missing"),
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
    assert re.fullmatch(r"[1-9]\d* files? marked before must wait", told[0])
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
        assert told["requests"]["LIST"] == 3


def test_grace(casstore: Run, team: str, home: Path, clock: Clock) -> None:
    """As long as one says; what is no duration is a mistake in usage."""
    casstore("gc", "--grace", "0s")
    clock.forward(0.01)
    casstore("gc", "--grace", "0s")
    assert len(files(home / "remote", "manifest")) == 1
    assert "not a duration: 'soon'" in casstore("gc", "--grace", "soon", code=2).stderr


def test_what_is_missing_is_a_failure(casstore: Run, team: str, home: Path) -> None:
    """Objects that somebody removed from the remote."""
    for path in (home / "remote" / "packs").rglob("*.zst"):
        path.unlink()
    told = casstore("gc", code=1)
    assert re.search(
        r"\d+ objects needed and not in team: where they are, run casstore gc and then casstore push",
        told.stderr,
    )
