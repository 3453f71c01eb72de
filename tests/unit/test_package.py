"""What ``import casstore`` offers, and what it costs."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import casstore
from casstore.digest import Key

HEAVY = ("aiobotocore", "anthropic", "asyncio", "boto3", "click", "fsspec", "httpx", "openai", "rich", "s3fs")

LATER = ("casstore.backends.base", "casstore.catalog.listed", "casstore.events", "casstore.repo.push")
"""What is loaded when it is first asked for: each would cost a process that only hits a millisecond."""

HIT = """
import sys
from casstore import Repository
with Repository.open(sys.argv[1]) as repository:
    print(repository.read_entry("0" * 64)[1].decode())
print(sorted(sys.modules.keys() & set(sys.argv[2:])))
"""


def test_every_name_can_be_imported() -> None:
    """No name in ``__all__`` is a mistake, and none that can be had is missing there."""
    assert set(casstore.__all__) == set(casstore._HOMES)
    for name in casstore.__all__:
        assert getattr(casstore, name).__name__ == name or name == "Message"


def test_an_unknown_name_is_an_attribute_error() -> None:
    """As of any module."""
    with pytest.raises(AttributeError, match="casstore"):
        _ = casstore.nothing


def test_import_loads_nothing_heavy() -> None:
    """Neither an SDK, nor s3fs, nor the command line's packages."""
    code = "import casstore, sys; print(sorted(sys.modules.keys() & set(sys.argv[1:])))"
    told = subprocess.run([sys.executable, "-c", code, *HEAVY], capture_output=True, text=True, check=True)
    assert told.stdout == "[]\n"


def test_a_local_hit_loads_nothing_heavy(folder: Path) -> None:
    """Opening a local store and reading an entry takes no fsspec, no driver, nor what hits do without."""
    with casstore.Repository.open(folder / "store") as repository:
        repository.put_entry(Key("0" * 64), b"answer")
    told = subprocess.run(
        [sys.executable, "-c", HIT, folder / "store", *HEAVY, *LATER],
        capture_output=True,
        text=True,
        check=True,
    )
    assert told.stdout == "answer\n[]\n"


ROOT = Path(__file__).parents[2]
NO_SDK = {"bench", "cassettes", "dev"}


def rows() -> dict[tuple[str, str], tuple[str, str]]:
    """Return the rows of ``scripts/sdks.txt``: of an extra and an end, the package and all requirements."""
    lines = (ROOT / "scripts" / "sdks.txt").read_text(encoding="utf-8").splitlines()
    cells = [line.split(maxsplit=4) for line in lines if line and not line.startswith("#")]
    return {(extra, end): (package, requirements) for extra, end, package, _, requirements in cells}


def test_every_sdk_is_tested_from_the_lowest_version_that_its_extra_allows() -> None:
    """And in its newest one: ``scripts/test-sdks`` has a row for each."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    found, extras = rows(), project["optional-dependencies"]
    ends = {(extra, end) for extra in extras.keys() - NO_SDK for end in ("lowest", "newest")}
    assert found.keys() == ends
    for extra in extras.keys() - NO_SDK:
        package, pinned = found[extra, "lowest"]
        (bound,) = [each.rpartition(">=")[2] for each in extras[extra] if re.match(rf"{package}[\[>]", each)]
        version = re.search(rf"(?:^|\s){package}(?:\[\w+\])?==(\S+)", pinned)
        assert version is not None
        assert f"{version[1]}.0.0".startswith(f"{bound}.")
        assert "==" not in found[extra, "newest"][1]
