"""Objects larger than memory, and many entries, pass through in a bounded part of it."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import Bucket
from tests.crash.large_file import STATUS
from tests.s3 import Server

pytestmark = pytest.mark.skipif(not STATUS.exists(), reason="the system does not tell a program's peak")

ROOT = Path(__file__).parent.parent.parent
MIB = 1024 * 1024


def peak(folder: Path, size: int, *url: str, room: int = 2) -> int:
    """Let a process of its own take an object through store, remote, store and file; return its peak."""
    if shutil.disk_usage(folder).free < room * size:
        pytest.skip(f"there are not {room * size} bytes free in {folder}")
    command = [sys.executable, "-W", "error", "-m", "tests.crash.large_file", str(folder), str(size), *url]
    outcome = subprocess.run(command, check=False, capture_output=True, text=True, cwd=ROOT)
    shutil.rmtree(folder)
    assert outcome.returncode == 0, outcome.stderr
    return int(outcome.stdout)


def test_a_file_larger_than_the_memory_it_may_take(tmp_path: Path) -> None:
    """96 MiB go in and out, to a remote and back, in 80 MB."""
    assert peak(tmp_path, 96 * MIB) < 80_000_000


@pytest.mark.soak
def test_a_file_of_10_gib(tmp_path: Path) -> None:
    """10 GiB go in and out, to a remote and back, in 200 MB."""
    assert peak(tmp_path, 10 * 1024 * MIB) < 200_000_000


@pytest.mark.soak
def test_a_file_of_2_gib_through_s3(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    """2 GiB that do not compress go to a bucket in parts and come back in groups, in 300 MB."""
    pytest.importorskip("tests.seaweed", reason="moto holds all of a bucket in memory")
    bucket: Bucket = request.getfixturevalue("seaweed_bucket")
    assert peak(tmp_path, 2048 * MIB, bucket.url, room=5) < 300_000_000


def test_a_file_in_parts_through_s3(tmp_path: Path, bucket: Bucket, requests_log: Server) -> None:
    """A file of several parts goes to a bucket and comes back, and is never held as a whole."""
    assert peak(tmp_path, 160 * MIB, bucket.url, room=5) < 240_000_000
    assert requests_log.verbs()["PUT"] == 1 + 11 + 1  # marker, parts, segment
    assert requests_log.verbs()["GET"] == 2 + 1 + 10  # both markers, segment, groups


# Many entries


def steps(folder: Path, count: int, *names: str) -> dict[str, int]:
    """Let each step with so many entries be done by a process of its own; return their peaks."""
    program = [sys.executable, "-W", "error", "-m", "tests.crash.many_entries", str(folder)]
    found = {}
    for name in names:
        command = [*program, name, str(count)]
        outcome = subprocess.run(command, check=False, capture_output=True, text=True, cwd=ROOT)
        assert outcome.returncode == 0, outcome.stderr
        found[name] = int(outcome.stdout)
    shutil.rmtree(folder)
    return found


def test_opening_a_store_takes_as_much_with_ten_times_the_entries(tmp_path: Path) -> None:
    """Nothing is read but what a hit needs, no manifest: in far less than the 60 MB of the design."""
    few, many = (steps(tmp_path / f"{count}", count, "take", "hit")["hit"] for count in (1000, 10_000))
    assert many < few + 1_000_000
    assert many < 40_000_000


def test_a_sync_takes_little_for_each_entry(tmp_path: Path) -> None:
    """Pushed or pulled, 3,500 bytes at most, the packs under way included; an answer has 2,000."""
    few, many = (steps(tmp_path / f"{count}", count, "put", "push", "pull") for count in (1000, 10_000))
    for step in ("push", "pull"):
        assert (many[step] - few[step]) / 9000 < 3500, (step, few, many)


@pytest.mark.soak
def test_opening_a_store_of_a_million_entries(tmp_path: Path) -> None:
    """And one hit, in 60 MB."""
    assert steps(tmp_path / "store", 1_000_000, "take", "hit")["hit"] < 60_000_000


@pytest.mark.soak
def test_a_sync_of_100_000_entries(tmp_path: Path) -> None:
    """Pushed, and pulled, in 300 MB each."""
    peaks = steps(tmp_path / "store", 100_000, "put", "push", "pull")
    assert max(peaks["push"], peaks["pull"]) < 300_000_000
