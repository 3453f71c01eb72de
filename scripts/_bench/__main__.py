"""casstore measured against diskcache, caches written by hand, and boto3, as ratios of one run.

All subjects take turns in the same process, round by round; the best round of each counts. Nobody waits for
the disk (no fsync), all keys are made with the same JSON library.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import textwrap
from collections.abc import Sequence
from pathlib import Path

from scripts._bench.fresh import fresh
from scripts._bench.local import Local
from scripts._bench.results import Row, machine, table
from scripts._bench.transfer import transfer


def main(arguments: Sequence[str]) -> int:
    """Measure what the first argument names, or one machine where it names nothing; and print."""
    match arguments:
        case ["sync", *rest]:
            from scripts._bench.sync import main as sync

            return sync(rest)
        case ["http", *rest]:
            from scripts._bench.http import main as http

            return http(rest)
        case ["dictionaries", *rest]:
            from scripts._bench.dictionaries import main as dictionaries

            return dictionaries(rest)
        case ["repack", *rest]:
            from scripts._bench.repacked import main as repacked

            return repacked(rest)
        case _:
            return _local(arguments)


def _local(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="scripts/bench", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    parser.add_argument("--quick", action="store_true", help="fewer entries and rounds: a look, no figures")
    options = parser.parse_args(arguments)
    entries, rounds, moved = (300, 2, 200) if options.quick else (2000, 7, 5000)

    where = machine()
    if not options.json:
        print(_facts(where))
        print(f"{entries:,} entries of about 1.5 KB, best of {rounds} rounds{_caveat(options.quick)}\n")
    with tempfile.TemporaryDirectory(prefix="casstore-bench-") as name:
        rows, opened = measure(Path(name), entries, rounds, moved)
    if options.json:
        result = {"machine": where, "entries": entries, "rounds": rounds, "quick": options.quick}
        rows_json = [row.to_json() for row in rows]
        print(json.dumps({**result, "files_opened_by_1000_misses": opened, "rows": rows_json}, indent=2))
    else:
        print("\n".join(table(rows)))
        print(f"\n! over the design's budget; 1,000 misses opened {opened} files")
    return 0


def measure(folder: Path, entries: int, rounds: int, moved: int) -> tuple[list[Row], int]:
    """Return all rows, and how many files a thousand misses opened."""
    for name in ("local", "fresh", "transfer"):
        (folder / name).mkdir()
    local = Local(folder / "local", entries, rounds)
    rows = [*local.hits(), *local.misses(), *local.puts()]
    rows += fresh(folder / "fresh", 3 * rounds)
    rows += transfer(folder / "transfer", moved, max(2, rounds // 3))
    opened = local.opened_by_misses()
    local.close()
    return rows, opened


def _facts(where: dict[str, object]) -> str:
    first = f"Python {where['python']}, {where['system']}, {where['cpus']} CPUs, load {where['load']}"
    versions = ", ".join(f"{name} {where[name]}" for name in list(where)[4:])
    return f"{first}\n{textwrap.fill(versions, 80)}"


def _caveat(quick: bool) -> str:
    return "; --quick is a look, and no figures to quote" if quick else ""


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
