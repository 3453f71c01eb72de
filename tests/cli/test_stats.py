"""``casstore stats``."""

from __future__ import annotations

import pytest

from casstore.repo.repository import Repository
from tests.cli.conftest import Run, add_entry


def test_stats_tell_what_is_here_and_what_it_saved(casstore: Run) -> None:
    """By model, and all in all; no price is made up."""
    add_entry(1)
    with Repository.open() as repo:
        repo.tally("openai", "m-1", {"calls": 2, "hits": 3, "input_saved": 1200, "output_saved": 34})
        repo.tally("openai", "m-1", {"money_saved": 0.0123, "seconds_saved": 4.5})
        repo.tally("own", "m-2", {"calls": 1, "hits": 1000, "unpriced_hits": 1000, "input_saved": 5000})
        sizes = repo.sizes()
    assert casstore("stats").stdout == (
        f"""\
entries  1
objects  2, {sizes.size} B, put by hand: 0
stored   {sizes.stored} B, 0% of the 1.0 GiB cap

model       calls   hits  tokens saved  money saved  time saved
openai/m-1      2      3         1,234      $0.0123       4.5 s
own/m-2         1  1,000         5,000      unknown       0.0 s
all             3  1,003         6,234     $0.0123+       4.5 s
+ and unknown: 1,000 hits whose price is not known; see Cache(prices=...)
"""
    )


@pytest.mark.parametrize(
    ("saved", "unpriced", "told"),
    [
        (0.0, 0, "$0.0000"),
        (0.00002, 0, "<$0.0001"),
        (0.00002, 1, "unknown"),
        (0.0, 1, "unknown"),
        (0.00006, 1, "$0.0001+"),
    ],
)
def test_stats_show_no_money_only_where_there_is_none(
    casstore: Run, saved: float, unpriced: int, told: str
) -> None:
    """What rounds to nothing is a little, or beside hits without a price, not known."""
    with Repository.open() as repo:
        repo.tally("openai", "m-1", {"hits": 2, "money_saved": saved, "unpriced_hits": unpriced})
    assert casstore("stats").stdout.splitlines()[-2 if unpriced else -1].split()[4] == told


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(0, "0.0 s"), (89.9, "89.9 s"), (90, "1.5 min"), (5400, "1.5 h"), (4e7, "11,111.1 h")],
)
def test_stats_tell_time_in_a_unit_that_fits(casstore: Run, seconds: float, shown: str) -> None:
    """Seconds, minutes or hours."""
    with Repository.open() as repo:
        repo.tally("openai", "m-1", {"hits": 1, "seconds_saved": seconds})
    assert casstore("stats").stdout.endswith(f"  {shown}\n")


def test_stats_json_has_stable_fields(casstore: Run) -> None:
    """The sizes, the total, and a row for each model."""
    add_entry(1)
    with Repository.open() as repo:
        repo.tally("openai", "m-1", {"hits": 3, "money_saved": 0.25})
    told = casstore("stats", "--json").json()
    sizes = {"entries", "objects", "size", "stored", "max_size", "kept_objects", "kept_stored"}
    sizes |= {"packs", "packs_stored"}
    assert set(told) == sizes | {"total", "models", "reasons"}
    (row,) = told["models"]
    assert (row["provider"], row["model"], row["hits"], row["money_saved"]) == ("openai", "m-1", 3, 0.25)
    assert set(row) == set(told["total"]) | {"provider", "model"}
    assert told["total"]["money_saved"] == 0.25


def test_stats_tell_why_calls_were_not_kept(casstore: Run) -> None:
    """Over all models, the most frequent reason first."""
    with Repository.open() as repo:
        repo.tally("openai", "m-1", {"calls": 9, "uncached": 7, "uncached_state": 3, "unstored_status": 2})
        repo.tally("openai", "m-2", {"calls": 4, "uncached_stream": 4})
    assert casstore("stats").stdout.endswith("\n\nno key    stream 4, state 3\nnot kept  status 2\n")
    reasons = casstore("stats", "--json").json()["reasons"]
    assert reasons == {"uncached_state": 3, "uncached_stream": 4, "unstored_status": 2}


def test_stats_tell_tokens_on_request(casstore: Run) -> None:
    """What was read and written, and which part of it was cached and reasoning."""
    with Repository.open() as repo:
        repo.tally("openai", "m-1", {"calls": 1, "input_spent": 1200, "cached_spent": 1000})
        repo.tally("openai", "m-1", {"hits": 1, "output_saved": 34, "reasoning_saved": 30})
    assert casstore("stats", "--tokens").stdout.endswith(
        """
model       tokens   read  cached  written  reasoning
openai/m-1  spent   1,200   1,000        0          0
openai/m-1  saved       0       0       34         30
"""
    )


def test_stats_of_a_new_store_have_no_models(casstore: Run) -> None:
    """What was put by hand is told apart, as the cap does not govern it."""
    casstore("put", "-", stdin=b"hello\n")
    with Repository.open() as repo:
        stored = repo.sizes().kept_stored
    assert casstore("stats").stdout == (
        f"""\
entries  0
objects  1, 6 B, put by hand: 1
stored   0 B, 0% of the 1.0 GiB cap, and {stored} B put by hand
"""
    )
