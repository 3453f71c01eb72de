"""Objects larger than memory pass through in a bounded part of it."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.crash.large_file import STATUS

pytestmark = pytest.mark.skipif(not STATUS.exists(), reason="the system does not tell a program's peak")

ROOT = Path(__file__).parent.parent.parent
MIB = 1024 * 1024


def peak(folder: Path, size: int) -> int:
    """Let a process of its own take an object through store, remote, store and file; return its peak."""
    if shutil.disk_usage(folder).free < 2 * size:
        pytest.skip(f"there are not {2 * size} bytes free in {folder}")
    command = [sys.executable, "-W", "error", "-m", "tests.crash.large_file", str(folder), str(size)]
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
