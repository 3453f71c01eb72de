"""``casstore status``, ``push`` and ``pull``."""

from __future__ import annotations

import os
import re
import stat
import subprocess
from pathlib import Path

import pytest

from casstore.cli import output
from casstore.repo.plan import Failure
from tests.cli.conftest import Run, add_entry
from tests.conftest import Bucket
from tests.s3 import Server

TRANSFER = {
    "operation",
    "remote",
    "dry_run",
    "objects",
    "packs",
    "entries",
    "bytes",
    "requests",
    "left",
    "seconds",
    "failures",
}
PLAN = TRANSFER - {"seconds", "failures"} | {"moves"}
VERBS = {"GET", "PUT", "LIST", "HEAD", "DELETE"}


@pytest.fixture
def team(casstore: Run) -> str:
    """Name a folder as the default remote."""
    casstore("remote", "add", "team", "./remote")
    return "team"


def test_push_and_pull_say_what_they_did(casstore: Run, team: str) -> None:
    """And what it cost; the second time there is nothing to do, for one request."""
    add_entry(1)
    assert re.fullmatch(
        r"pushed 2 objects in 1 pack \(\d+ B\), 1 entry to team\n\d+ requests \(.*\), \d+\.\d\d s\n",
        casstore("push").stdout,
    )
    assert re.fullmatch(
        r"pushed nothing to team\n1 request \(1 LIST\), \d+\.\d\d s\n", casstore("push", team).stdout
    )
    casstore("--store", "other", "remote", "add", "team", "./remote")
    assert re.fullmatch(
        r"pulled 2 objects in 1 pack \(\d+ B\), 1 entry from team\n\d+ requests \(.*\), \d+\.\d\d s\n",
        casstore("--store", "other", "pull").stdout,
    )
    assert casstore("--store", "other", "pull").stdout.startswith(
        "pulled nothing from team\n1 request (1 LIST)"
    )


def test_a_push_that_makes_a_folder_says_how_to_open_it_to_a_team(casstore: Run, home: Path) -> None:
    """Once; the commands that are told work, and what is pushed later follows the folder's mode."""
    add_entry(1)
    remote = home / "for us"
    told = casstore("push", "./for us").stderr
    assert stat.S_IMODE(remote.stat().st_mode) == 0o700
    what, _, commands = told.partition("; for a team: ")
    assert what == f"casstore: made the folder '{remote}' with mode 0700, so that only you can read it"
    subprocess.run(["sh", "-ec", commands.replace("GROUP", str(os.getgid()))], check=True)
    add_entry(2)
    assert casstore("push", "./for us").stderr == ""
    modes = {(path.is_dir(), stat.S_IMODE(path.stat().st_mode)) for path in [remote, *remote.rglob("*")]}
    assert modes == {(True, 0o2770), (False, 0o660)}


def test_a_push_into_a_folder_that_is_there_says_nothing_of_its_mode(casstore: Run, home: Path) -> None:
    """Its mode was chosen by somebody."""
    add_entry(1)
    (home / "remote").mkdir()
    assert casstore("push", "./remote").stderr == ""


def test_push_and_pull_json_have_stable_fields(casstore: Run, team: str) -> None:
    """Requests by verb, every verb there even where there was none."""
    add_entry(1)
    pushed = casstore("push", "--json").json()
    assert set(pushed) == TRANSFER
    assert (pushed["operation"], pushed["remote"], pushed["dry_run"]) == ("push", team, False)
    assert (pushed["objects"], pushed["entries"], pushed["left"], pushed["failures"]) == (2, 1, 0, [])
    pulled = casstore("--store", "other", "pull", "./remote", "--json").json()
    assert set(pulled) == TRANSFER | {"missing"}
    assert (pulled["operation"], pulled["objects"], pulled["entries"]) == ("pull", 2, 1)
    assert pulled["bytes"] == pushed["bytes"]
    assert set(pushed["requests"]) >= VERBS
    assert set(pulled["requests"]) >= VERBS


def test_what_ends_an_entry_is_told_as_such(casstore: Run, team: str) -> None:
    """It takes no object along, in either direction."""
    key = add_entry(1)
    casstore("push", team)
    casstore("--store", "other", "pull", "./remote")
    casstore("forget", key)
    assert "  no objects, 1 new or ended entry\n" in casstore("status").stdout
    assert casstore("push").stdout.startswith("pushed no objects, 1 new or ended entry to team\n")
    told = casstore("--store", "other", "pull", "./remote").stdout
    assert told.startswith("pulled no objects, 1 new or ended entry from ")


def test_a_dry_run_tells_and_moves_nothing(casstore: Run, team: str, home: Path) -> None:
    """Its numbers are those of the push that follows."""
    add_entry(1)
    planned = casstore("push", "--dry-run", "--json").json()
    assert set(planned) == PLAN | {"failures"}
    assert planned["dry_run"] is True
    assert not (home / "remote" / "objects").exists()
    told = casstore("push", team, "-n").stdout
    assert re.fullmatch(
        r"would push 2 objects in 1 pack \(\d+ B\), 1 entry to team\n\d+ requests \(.*\)\n", told
    )
    pushed = casstore("push", "--json").json()
    for field in ("objects", "packs", "entries", "requests", "left"):
        assert planned[field] == pushed[field], field
    assert len(planned["moves"]) == 2
    assert planned["bytes"] == pytest.approx(pushed["bytes"], rel=0.05)


def test_a_dry_pull_moves_nothing(casstore: Run, team: str) -> None:
    """No object is here afterwards."""
    add_entry(1)
    casstore("push", team)
    planned = casstore("--store", "other", "pull", "./remote", "--dry-run", "--json").json()
    assert (planned["operation"], planned["objects"]) == ("pull", 2)
    assert casstore("--store", "other", "stats", "--json").json()["objects"] == 0


def test_status_tells_both_directions(casstore: Run, team: str, home: Path) -> None:
    """What would move, the bytes and the requests."""
    add_entry(1)
    casstore("push", team)
    add_entry(2, store="other")
    casstore("--store", "other", "push", "./remote")
    add_entry(3)
    lines = casstore("status").stdout.splitlines()
    assert lines[0] == f"remote  team (file://{home}/remote)"
    assert re.fullmatch(r"push    2 objects in 1 pack \(\d+ B\), 1 entry", lines[1])
    assert re.fullmatch(r"        \d+ requests \(.*\)", lines[2])
    assert re.fullmatch(r"pull    2 objects( in 1 pack)? \(\d+ B\), 1 entry", lines[3])
    assert re.fullmatch(r"        \d+ requests \(.*\)", lines[4])
    told = casstore("status", "--json").json()
    assert set(told) == {"remote", "push", "pull", "failures"}
    assert (set(told["push"]), set(told["pull"])) == (PLAN, PLAN | {"missing"})


def test_pull_manifest_only_brings_entries_without_objects(casstore: Run, team: str) -> None:
    """An object is fetched when it is first used."""
    key = add_entry(1)
    casstore("push", team)
    casstore("--store", "other", "pull", "./remote", "--manifest-only")
    assert [entry["key"] for entry in casstore("--store", "other", "ls", "--json").json()] == [key]
    assert casstore("--store", "other", "stats", "--json").json()["objects"] == 0


def test_the_remote_is_the_argument_the_variable_or_the_default(
    casstore: Run, team: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In that order."""
    casstore("remote", "add", "second", "./second")
    casstore("remote", "add", "third", "./third")
    assert casstore("push", "--json").json()["remote"] == team
    monkeypatch.setenv("CASSTORE_REMOTE", "second")
    assert casstore("push", "--json").json()["remote"] == "second"
    assert casstore("push", "third", "--json").json()["remote"] == "third"


@pytest.mark.parametrize("command", ["push", "pull", "status"])
def test_no_remote_says_how_to_add_one(casstore: Run, command: str) -> None:
    """In one line, with exit code 1."""
    casstore("init")
    told = casstore(command, code=1).stderr
    assert told == "casstore: no remote is configured; add one: casstore remote add NAME URL\n"
    assert "casstore remote add team URL" in casstore(command, "team", code=1).stderr


def test_credentials_in_a_url_are_refused(casstore: Run) -> None:
    """And not repeated."""
    casstore("init")
    told = casstore("push", "s3://AKIAKEY:hunter2@bucket", code=1).stderr
    assert "AWS chain" in told
    assert "hunter2" not in told


def test_pull_beyond_the_size_cap_says_what_stays(casstore: Run, team: str) -> None:
    """On standard error, with what to do."""
    for number in range(20):
        add_entry(number)
    casstore("push", team)
    casstore("--store", "other", "init", "--max-size", "1000")
    outcome = casstore("--store", "other", "pull", "./remote")
    assert re.fullmatch(
        r"casstore: \d+ objects left at the remote, beyond the size cap; fetched when used, or raise max_size"
        r" and pull again\n",
        outcome.stderr,
    )


def test_a_bad_segment_is_told_and_fails(casstore: Run, team: str, home: Path) -> None:
    """What is sound is pulled all the same."""
    add_entry(1)
    casstore("push", team)
    bad = home / "remote" / "manifest" / f"{'0' * 64}.zst"
    bad.write_bytes(b"not a segment")
    outcome = casstore("--store", "other", "pull", "./remote", code=1)
    assert outcome.stdout.startswith("pulled 2 objects")
    assert "0" * 64 in outcome.stderr
    for command in ("pull", "pull --dry-run"):
        casstore("--store", "other", *command.split(), "./remote", code=1)
    told = casstore("status", "--json", code=1).json()
    assert [failure["name"] for failure in told["failures"]] == [f"manifest/{'0' * 64}.zst"]


def test_what_the_remote_lost_is_told_until_it_is_restored(casstore: Run, team: str, home: Path) -> None:
    """By pull, status and show, with the command that brings it then."""
    key = add_entry(1)
    casstore("push", team)
    (pack,) = (path for path in (home / "remote" / "packs").rglob("*") if path.is_file())
    content = pack.read_bytes()
    pack.write_bytes(b"")
    casstore("--store", "other", "remote", "add", team, "./remote")
    told = "known at team, but missing or damaged there when asked for"
    assert f"casstore: 1 object {told}" in casstore("--store", "other", "pull", code=1).stderr
    pack.write_bytes(content)
    for command in ("pull", "pull --dry-run", "status"):
        stderr = casstore("--store", "other", *command.split(), code=1).stderr
        assert stderr.startswith(f"casstore: 1 object {told}")
        assert stderr.endswith("; once restored there, run casstore pull --again team\n")
    assert casstore("--store", "other", "pull", "--json", code=1).json()["missing"] == 1
    told_status = casstore("--store", "other", "status", "--json", code=1).json()
    assert (told_status["pull"]["missing"], told_status["failures"]) == (1, [])
    stderr = casstore("--store", "other", "show", key).stderr
    assert "no remote is known to hold it: casstore pull finds what is new, --again" in stderr
    casstore("--store", "other", "pull", "--again", "--dry-run", code=2)
    outcome = casstore("--store", "other", "pull", "--again")
    assert outcome.stdout.startswith("pulled 2 objects")
    assert outcome.stdout.splitlines()[0].endswith("1 entry from team")
    assert outcome.stderr == ""
    assert casstore("--store", "other", "show", key).stderr == ""
    for command in ("pull", "pull --dry-run", "status"):
        casstore("--store", "other", *command.split())


@pytest.mark.parametrize("command", ["pull", "pull --dry-run", "status", "gc", "gc --dry-run"])
def test_a_place_without_a_store_is_an_error_that_says_what_to_do(
    casstore: Run, team: str, home: Path, command: str
) -> None:
    """Nothing is made there, and a push makes a store."""
    told = (
        f"casstore: there is no store at {(home / 'remote').as_uri()}: check the spelling, or make one:"
        " casstore push team\n"
    )
    add_entry(1)
    assert casstore(*command.split(), team, code=1).stderr == told
    assert not (home / "remote").exists()
    casstore("push", team)
    casstore(*command.split(), team)


def test_a_pull_from_nowhere_makes_no_store(casstore: Run, home: Path) -> None:
    """Nor does one whose remote cannot be understood; one from a store makes it."""
    told = casstore("--store", "other", "pull", "./nowhere", code=1).stderr
    assert told.startswith(f"casstore: there is no store at file://{home}/nowhere: ")
    casstore("--store", "other", "pull", "nowhere", code=1)
    assert not (home / "other").exists()
    add_entry(1)
    casstore("push", "./somewhere")
    assert casstore("--store", "other", "pull", "./somewhere").stdout.startswith("pulled 2 objects")
    (home / "somewhere" / "casstore.json").unlink()
    told = casstore("--store", "another", "pull", "./somewhere", code=1).stderr
    assert "has a manifest but no casstore.json" in told


@pytest.mark.parametrize("command", ["push", "pull", "status", "gc"])
def test_a_remote_that_is_gone_is_an_error_that_says_what_to_do(
    casstore: Run, team: str, home: Path, command: str
) -> None:
    """Nothing is made where it was, unless one begins it anew."""
    add_entry(1)
    casstore("push")
    (home / "remote").rename(home / "unmounted")
    told = casstore(command, code=1).stderr
    assert told == (
        f"casstore: there is no store at {(home / 'remote').as_uri()} any more, though there was one:"
        " check the URL and, if it is a folder, see that it is mounted; if it was removed for good, begin it"
        " anew with what is here: casstore push --anew team\n"
    )
    assert not (home / "remote").exists()
    casstore("push", "--anew", "--dry-run", code=2)
    assert casstore("push", "--anew").stdout.startswith("pushed 2 objects in 1 pack")
    casstore(command)


def test_failures_are_not_told_by_the_thousand() -> None:
    """One line for each reason, and no more than twenty; a single one by its name."""
    same = [Failure(f"object {number}", "its pack is gone") for number in range(1234)]
    assert output.failure_lines(same) == ["object 0 and 1,233 more: its pack is gone"]
    other = [Failure(f"object {number}", f"reason {number}") for number in range(30)]
    told = output.failure_lines([*other, *same])
    assert told[:2] == ["object 0: reason 0", "object 1: reason 1"]
    assert told[20:] == ["and 1,244 failures more; --json lists all"]


def test_sync_through_a_bucket(casstore: Run, bucket: Bucket, requests_log: Server) -> None:
    """The requests told are those that the server got."""
    add_entry(1)
    casstore("remote", "add", "team", bucket.url)
    pushed = casstore("push", "--json").json()
    sent = requests_log.verbs()
    assert {verb: count for verb, count in pushed["requests"].items() if count} == dict(sent)
    requests_log.clear()
    assert casstore("push", "--json").json()["requests"]["LIST"] == 1
    assert dict(requests_log.verbs()) == {"LIST": 1}
    requests_log.clear()
    pulled = casstore("--store", "other", "pull", bucket.url, "--json").json()
    assert (pulled["objects"], pulled["entries"]) == (2, 1)
    assert {verb: count for verb, count in pulled["requests"].items() if count} == dict(requests_log.verbs())
    assert dict(requests_log.verbs()) == {"LIST": 1, "GET": 3}  # marker, segment, pack
