"""``casstore init``."""

from __future__ import annotations

from pathlib import Path

from tests.cli.conftest import Run


def test_init_makes_a_store(casstore: Run, home: Path) -> None:
    """It says where, and how large it may grow."""
    assert casstore("init").stdout == f"store at {home}/store, at most 1.0 GiB\n"
    assert (home / "store" / "casstore.json").is_file()


def test_init_again_changes_nothing(casstore: Run, home: Path) -> None:
    """As git init does."""
    casstore("init", "--max-size", "2GiB")
    before = (home / "store" / "casstore.json").read_bytes()
    assert casstore("init").stdout == f"store at {home}/store, at most 2.0 GiB\n"
    assert (home / "store" / "casstore.json").read_bytes() == before


def test_init_sets_the_size_cap_as_written(casstore: Run) -> None:
    """Also of a store that is there."""
    casstore("init")
    casstore("init", "--max-size", "500MB")
    assert casstore("config", "get", "max_size").stdout == "500MB\n"


def test_init_refuses_what_is_no_size(casstore: Run, home: Path) -> None:
    """As a mistake in usage, before anything is made."""
    told = casstore("init", "--max-size", "big", code=2).stderr
    assert told == (
        "casstore: Invalid value for '--max-size': not a size: 'big'; write a number and a unit: 1GiB, 500MB,"
        " 1073741824; see casstore init --help\n"
    )
    assert not (home / "store").exists()


def test_the_store_is_named_before_or_after_the_command(casstore: Run, home: Path) -> None:
    """And goes before ``CASSTORE_DIR``."""
    assert casstore("--store", "one", "init").stdout == f"store at {home}/one, at most 1.0 GiB\n"
    assert casstore("init", "--store", "two").stdout == f"store at {home}/two, at most 1.0 GiB\n"
    assert not (home / "store").exists()
