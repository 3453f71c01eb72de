"""Two machines, which are two processes with a store each, push into one bucket at the same moment."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from casstore.repo.repository import Repository
from tests.conftest import Bucket
from tests.crash.aftermath import check_remote, mirror
from tests.crash.forks import Forks, Job, content_of, running_forks
from tests.stores import answers, key

SUITE_ROUNDS = 10
SOAK_ROUNDS = 60
EACH = 6
SHARED = 2
"""Of each machine's entries in a round, those whose keys the other one answers too."""


@pytest.fixture(scope="module")
def second_forks() -> Iterator[Forks]:
    """Yield another program that forks, so that two jobs run at once."""
    with running_forks() as found:
        yield found


def push_together(first: Forks, second: Forks, folder: Path, url: str, rounds: int) -> None:
    """Let two machines push, round after round, and look at what the bucket has in the end."""
    step = 2 * EACH - SHARED
    meeting = folder / "meeting"
    meeting.mkdir()
    job = Job("put and push", "", url, meeting=str(meeting), rounds=rounds, step=step)
    first.begin(replace(job, store=str(folder / "one"), numbers=(0, EACH)))
    second.begin(replace(job, store=str(folder / "two"), numbers=(EACH - SHARED, step)))
    assert [forks.end().code for forks in (first, second)] == [0, 0]
    expected = {key(number): content_of(number) for number in range(rounds * step)}
    reading = check_remote(mirror(url, folder / "mirror"), expected)
    assert reading is not None
    assert reading.entries.keys() == {str(name) for name in expected}
    stores = [Repository.open(folder / name) for name in ("one", "two", "newcomer")]
    for store in stores:
        assert not store.pull(url).failures
        assert answers(store) == expected
    entries = [{entry.key: entry for entry in store.entries()} for store in stores]
    assert entries[0] == entries[1] == entries[2]
    for store in stores:
        assert not store.status(url).push.entries
        store.close()


def test_nobody_loses_an_entry(forks: Forks, second_forks: Forks, tmp_path: Path, bucket: Bucket) -> None:
    """Both succeed, everything is in the bucket, and all agree whose answer stands."""
    push_together(forks, second_forks, tmp_path, bucket.url, SUITE_ROUNDS)


@pytest.mark.soak
def test_nobody_loses_an_entry_in_many_rounds(
    forks: Forks, second_forks: Forks, tmp_path: Path, bucket: Bucket
) -> None:
    """The same, long enough for rare orders of events."""
    push_together(forks, second_forks, tmp_path, bucket.url, SOAK_ROUNDS)
