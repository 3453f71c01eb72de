"""``casstore get`` and ``casstore cat``."""

from __future__ import annotations

import os
from hashlib import sha256
from pathlib import Path

import pytest

from tests.cli.conftest import Run

HELLO = sha256(b"hello\n").hexdigest()
ABSENT = "0" * 64


@pytest.fixture(autouse=True)
def _hello(casstore: Run) -> None:
    casstore("put", "-", stdin=b"hello\n")


def test_get_writes_a_file_named_by_the_digest(casstore: Run, home: Path) -> None:
    """In the current folder, and prints its name."""
    assert casstore("get", HELLO).stdout == f"{HELLO}\n"
    assert (home / HELLO).read_bytes() == b"hello\n"


def test_get_writes_where_it_is_told(casstore: Run, home: Path) -> None:
    """A file, or a folder to put it in; a digest may be in capitals."""
    (home / "folder").mkdir()
    assert casstore("get", HELLO.upper(), "-o", "a.txt").stdout == "a.txt\n"
    assert casstore("get", HELLO, "-o", "folder").stdout == f"folder/{HELLO}\n"
    assert (home / "a.txt").read_bytes() == (home / "folder" / HELLO).read_bytes() == b"hello\n"


def test_get_escapes_a_name_that_is_no_line(casstore: Run, home: Path) -> None:
    """As casstore put does."""
    assert casstore("get", HELLO, "-o", "two\nlines\\").stdout == "\\two\\nlines\\\\\n"
    assert (home / "two\nlines\\").read_bytes() == b"hello\n"


def test_get_writes_to_standard_output(casstore: Run, home: Path) -> None:
    """Nothing but the bytes."""
    assert casstore("get", HELLO, "-o", "-").raw == b"hello\n"
    assert {path.name for path in home.iterdir()} == {"store"}


def test_get_replaces_a_file_only_by_force(casstore: Run, home: Path) -> None:
    """Nobody loses a file to a slip."""
    (home / "a.txt").write_bytes(b"mine")
    told = casstore("get", HELLO, "-o", "a.txt", code=1).stderr
    assert told == "casstore: a.txt is there already; --force replaces it\n"
    assert (home / "a.txt").read_bytes() == b"mine"
    casstore("get", HELLO, "-o", "a.txt", "--force")
    assert (home / "a.txt").read_bytes() == b"hello\n"


@pytest.mark.parametrize("command", ["get", "export"])
def test_only_an_ordinary_file_is_replaced(casstore: Run, home: Path, command: str) -> None:
    """A pipe or a device stays one, also by force; a link stays, and what it leads to is written."""
    digest = casstore("put", "-", stdin=b"content").stdout.split()[0]
    args = [command, *([digest] if command == "get" else []), "-f", "-o"]
    os.mkfifo(home / "pipe")
    refused = casstore(*args, "pipe", code=1)
    assert "pipe is no ordinary file" in refused.stderr
    assert (home / "pipe").is_fifo()
    (home / "file").write_bytes(b"old")
    (home / "link").symlink_to("file")
    casstore(*args, "link")
    assert (home / "link").is_symlink()
    assert (home / "file").read_bytes() == (b"content" if command == "get" else b"")


def test_get_into_no_folder_says_so(casstore: Run) -> None:
    """With the folder that is missing."""
    told = casstore("get", HELLO, "-o", "nowhere/a.txt", code=1).stderr
    assert told == "casstore: there is no folder nowhere to write to; make it first\n"


def test_get_into_a_folder_with_a_slash_never_makes_a_file_of_its_name(casstore: Run, home: Path) -> None:
    """Where the folder is there it is written to, as by cp; where it is not, or is a file, that is told."""
    (home / "folder").mkdir()
    (home / "file").write_bytes(b"mine")
    assert casstore("get", HELLO, "-o", "folder/").stdout == f"folder/{HELLO}\n"
    for name in ("none", "file"):
        told = casstore("get", HELLO, "-o", f"{name}/", "--force", code=1).stderr
        assert told == f"casstore: there is no folder {name} to write to; make it first\n"
    assert not (home / "none").exists()
    assert (home / "file").read_bytes() == b"mine"


def test_cat_writes_objects_one_after_the_other(casstore: Run) -> None:
    """Byte for byte."""
    assert casstore("cat", HELLO, HELLO).raw == b"hello\nhello\n"


@pytest.mark.parametrize("command", ["get", "cat", "delete"])
def test_what_is_not_here_is_told_in_one_line(casstore: Run, home: Path, command: str) -> None:
    """An absent object fails; what is no digest is a mistake in usage; no file is left behind."""
    told = casstore(command, ABSENT, code=1).stderr
    assert told.startswith(f"casstore: object {ABSENT} is ")
    assert told.count("\n") == 1
    usage = casstore(command, "../etc/passwd", code=2).stderr
    assert usage.endswith(f"; see casstore {command} --help\n")
    assert {path.name for path in home.iterdir()} == {"store"}


@pytest.mark.parametrize("command", ["cat", "get", "delete"])
def test_a_short_digest_is_told_to_be_short(casstore: Run, command: str) -> None:
    """Keys may be shortened, so somebody will try; what is no digest at all is told so."""
    assert casstore(command, "5891", code=2).stderr.endswith(
        ": 5891 has 4 digits, and a digest 64: give all of them; only the KEY of casstore show may be"
        f" shortened; see casstore {command} --help\n"
    )
    assert (
        ": not a digest (64 lower-case hex digits): 'report.pdf'"
        in casstore(command, "report.pdf", code=2).stderr
    )


def test_delete_removes_an_object(casstore: Run) -> None:
    """Which is how to be rid of what was put by hand; the only known copy goes by force alone."""
    refused = casstore("delete", HELLO, code=1)
    assert "only here: push it first" in refused.stderr
    assert casstore("delete", "--force", HELLO).stdout == f"deleted {HELLO}\n"
    assert casstore("ls", "--objects").stdout == ""
    casstore("cat", HELLO, code=1)
