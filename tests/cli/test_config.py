"""``casstore config`` and ``casstore remote``."""

from __future__ import annotations

from pathlib import Path

import pytest

from casstore.config import mounts
from tests.cli.conftest import Run


def test_settings_are_set_told_and_unset(casstore: Run) -> None:
    """As they were written, or their defaults."""
    casstore("config", "set", "max_size", "5GiB")
    assert casstore("config", "get", "max_size").stdout == "5GiB\n"
    casstore("config", "unset", "max_size")
    assert casstore("config", "get", "max_size").stdout == "1.0 GiB\n"
    assert casstore("config", "get", "max_size", "--json").json() == {
        "name": "max_size",
        "value": 1 << 30,
        "is_default": True,
    }


def test_settings_are_listed(casstore: Run, home: Path) -> None:
    """NAME=VALUE, or as JSON with typed values."""
    casstore("config", "set", "durable", "yes")
    casstore("remote", "add", "team", "./remote")
    assert casstore("config", "list").stdout == (
        f"""\
max_size=1.0 GiB
level=3
durable=true
allow_network=false
default_remote=team
remotes.team.url=file://{home}/remote
"""
    )
    settings = {setting["name"]: setting for setting in casstore("config", "list", "--json").json()}
    assert settings["durable"] == {"name": "durable", "value": True, "is_default": False}
    assert settings["level"] == {"name": "level", "value": 3, "is_default": True}


def test_a_typo_is_told_with_what_was_meant(casstore: Run, home: Path) -> None:
    """In one line, and nothing is written."""
    told = casstore("config", "set", "max_sise", "1GiB", code=1).stderr
    assert told == "casstore: no such setting: 'max_sise'; did you mean max_size?\n"
    assert casstore("config", "get", "colour", code=1).stderr.startswith(
        "casstore: no such setting: 'colour'; "
    )
    assert not (home / "store" / "config.toml").exists()


def test_a_bad_value_is_told(casstore: Run) -> None:
    """With the setting and what it takes."""
    told = casstore("config", "set", "level", "99", code=1).stderr
    assert told == "casstore: level: must be a whole number from 1 to 19, not '99'\n"


def test_a_broken_file_is_told_by_every_command(casstore: Run, home: Path) -> None:
    """With its name and line; no traceback."""
    casstore("init")
    (home / "store" / "config.toml").write_text("level = 3\nmax_size = \n")
    for args in (["ls"], ["config", "list"], ["push"], ["config", "set", "level", "4"]):
        told = casstore(*args, code=1).stderr
        assert told.startswith(f"casstore: {home}/store/config.toml: not valid TOML: ")
        assert "line 2" in told
        assert told.count("\n") == 1


def test_remotes_are_added_listed_and_removed(casstore: Run, home: Path) -> None:
    """The first is the default."""
    assert casstore("remote", "add", "team", "s3://bucket/llm").stdout == "added team (s3://bucket/llm)\n"
    casstore("remote", "add", "disk", "./disk")
    assert casstore("remote", "list").stdout == (
        f"team  s3://bucket/llm{' ' * (len(str(home)) - 3)}  default\ndisk  file://{home}/disk\n"
    )
    assert casstore("remote", "remove", "team").stdout == "removed team\n"
    assert casstore("remote", "list").stdout == f"disk  file://{home}/disk\n"


def test_remote_json_has_stable_fields(casstore: Run) -> None:
    """What was not given is null."""
    casstore("remote", "add", "team", "s3://bucket", "--endpoint", "http://localhost:1", "--region", "here")
    assert casstore("remote", "list", "--json").json() == [
        {
            "name": "team",
            "url": "s3://bucket",
            "endpoint": "http://localhost:1",
            "region": "here",
            "profile": None,
            "is_default": True,
        }
    ]


@pytest.mark.parametrize(
    "url",
    [
        "https://s3.amazonaws.com/b",
        "HTTP://localhost:9000/b",
        "zip://a.zip",
        "github://repo/x",
        "filecache::s3://b/p",
    ],
)
def test_a_remote_that_cannot_be_written_is_refused_when_it_is_named(casstore: Run, url: str) -> None:
    """By remote add and by config set, with the URLs that can be written; no setting changes."""
    casstore("remote", "add", "team", "s3://bucket/p")
    for command in (("remote", "add", "other", url), ("config", "set", "remotes.team.url", url)):
        told = casstore(*command, code=1).stderr
        assert told.startswith("casstore: nothing can be pushed to a ")
        assert "s3://bucket/prefix, file:///folder" in told
    assert casstore("remote", "list").stdout == "team  s3://bucket/p  default\n"


def test_the_address_of_an_s3_service_is_told_apart_from_its_buckets(casstore: Run) -> None:
    """Amazon's needs no endpoint, another one does."""
    for url in ("https://s3.amazonaws.com/b", "https://b.s3.eu-west-1.amazonaws.com"):
        told = casstore("remote", "add", "team", url, code=1).stderr
        assert told.endswith("; for a bucket of Amazon S3 write s3://bucket/prefix\n")
    told = casstore("remote", "add", "team", "http://localhost:9000/b", code=1).stderr
    assert told.endswith("write s3://bucket/prefix with --endpoint https://host\n")


def test_a_bad_remote_is_refused(casstore: Run, home: Path) -> None:
    """A taken name, a bad one, a URL with credentials, one to remove that is not there."""
    casstore("remote", "add", "team", "s3://bucket")
    before = (home / "store" / "config.toml").read_bytes()
    assert "already" in casstore("remote", "add", "team", "s3://other", code=1).stderr
    assert "not a name" in casstore("remote", "add", "a/b", "s3://other", code=1).stderr
    keyed = casstore("remote", "add", "other", "s3://KEY:hunter2@bucket", code=1).stderr
    assert "AWS chain" in keyed
    assert "hunter2" not in keyed
    assert "no remote is called" in casstore("remote", "remove", "other", code=1).stderr
    assert (home / "store" / "config.toml").read_bytes() == before


def test_a_taken_name_says_how_to_change_its_url(casstore: Run, home: Path) -> None:
    """By a command that does so and leaves the name and the default as they are."""
    casstore("remote", "add", "team", "s3://buckte")
    told = casstore("remote", "add", "team", "./bucket", code=1).stderr
    assert told == (
        "casstore: there is a remote 'team' already; to change where it is: casstore config set"
        " remotes.team.url URL; or remove it first: casstore remote remove team\n"
    )
    casstore("config", "set", "remotes.team.url", "./bucket")
    assert casstore("remote", "list").stdout == f"team  file://{home}/bucket  default\n"


def test_a_setting_lets_a_store_be_used_on_a_network_file_system(
    casstore: Run, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It can be set where every other command is refused, and taken back."""
    table = home / "mountinfo"
    table.write_text(f"40 22 0:99 / {home} rw - nfs4 server:/home rw\n")
    monkeypatch.setattr(mounts, "MOUNT_TABLE", table)
    for command in ("init", "ls", "put mountinfo", "rebuild", "remote add team ./remote"):
        told = casstore(*command.split(), code=1).stderr
        assert told.startswith(f"casstore: the store {home}/store is on a network file system (nfs4), ")
        assert told.count("\n") == 1
    assert not (home / "store").exists()

    casstore("config", "set", "allow_network", "true")
    casstore("put", str(table))
    casstore("config", "unset", "allow_network")
    assert "CASSTORE_ALLOW_NETWORK=true" in casstore("ls", code=1).stderr
