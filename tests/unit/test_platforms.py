"""Where casstore runs: what it says elsewhere, and what differs between systems; see designs/platforms.md."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from casstore import Repository
from casstore.backends import atomic

ROOT = Path(__file__).parents[2]

ELSEWHERE = """
import sys
sys.platform = "win32"
sys.modules["fcntl"] = None  # importing it is an ImportError
import casstore
"""

STRICT = ("-W", "error::DeprecationWarning", "-W", "error::PendingDeprecationWarning")


def test_windows_is_told_in_one_line_where_casstore_runs() -> None:
    """Not "No module named 'fcntl'": which systems are supported, which this is, and the way out."""
    told = subprocess.run([sys.executable, "-c", ELSEWHERE], capture_output=True, text=True, check=False)
    assert told.returncode == 1
    assert told.stderr.splitlines()[-1] == (
        "ImportError: casstore runs on Linux and macOS, and this Python is for win32;"
        " on Windows, install and run it in WSL (wsl --install)"
    )
    assert "fcntl'" not in told.stderr


def test_metadata_and_readme_name_systems_and_versions() -> None:
    """A reader of either learns it before installing."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    named = set(project["classifiers"])
    assert {"Operating System :: MacOS", "Operating System :: POSIX :: Linux"} <= named
    assert {f"Programming Language :: Python :: 3.{minor}" for minor in range(11, 15)} <= named
    assert "Linux and macOS with Python 3.11 to 3.14; on Windows, in WSL" in (ROOT / "README.md").read_text(
        "utf-8"
    )


def test_a_child_process_does_its_work_without_a_deprecated_call(tmp_path: Path) -> None:
    """Warnings of child processes do not reach pytest, so this one ends at the first."""
    command = [sys.executable, *STRICT, "-m", "casstore.cli", "--store"]

    def run(store: str, *arguments: str, text: str | None = None) -> str:
        return subprocess.run(
            [*command, str(tmp_path / store), *arguments],
            input=text,
            capture_output=True,
            text=True,
            check=True,
        ).stdout

    (tmp_path / "file").write_text("content")
    digest = run("here", "put", str(tmp_path / "file")).split()[0]
    run("here", "push", str(tmp_path / "remote"))
    run("there", "pull", str(tmp_path / "remote"))
    assert run("there", "cat", digest) == "content"


def test_a_durable_write_on_macos_passes_the_cache_of_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There, fsync leaves data in the disk; each file and folder gets F_FULLFSYNC in its place."""
    full_sync = 51
    asked: list[int] = []
    monkeypatch.setattr(atomic, "_FULL_SYNC", full_sync)
    monkeypatch.setattr(fcntl, "fcntl", lambda _, command: asked.append(command))
    monkeypatch.setattr(os, "fsync", lambda _: pytest.fail("fsync is not enough"))
    atomic.write_file(f"{tmp_path}/a", b"x", durable=True)
    assert asked == [full_sync, full_sync]


def test_a_share_without_full_sync_gets_a_plain_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """SQLite does the same: what a network share refuses is no reason to refuse the write."""
    asked: list[int] = []

    def refuse(_descriptor: int, _command: int) -> None:
        raise OSError(45, "Operation not supported")

    monkeypatch.setattr(atomic, "_FULL_SYNC", 51)
    monkeypatch.setattr(fcntl, "fcntl", refuse)
    monkeypatch.setattr(os, "fsync", asked.append)
    atomic.write_file(f"{tmp_path}/a", b"x", durable=True)
    assert len(asked) == 2


def test_no_two_names_of_a_store_differ_in_case_alone(tmp_path: Path) -> None:
    """The disks of macOS take those for one; every name is ASCII, of which Unicode has one form."""
    with Repository.open(tmp_path / "store") as repository:
        for number in range(50):
            repository.put(f"content {number}".encode())
    names = [str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*")]
    assert len({name.lower() for name in names}) == len(names) > 50
    assert all(name.isascii() for name in names)
