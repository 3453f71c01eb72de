"""What a store takes of the disk, before and after casstore repack, and the same answers as plain files.

A block of most file systems has 4 KiB, so a file of its own takes at least as much. The disk is that of the
folder for temporary files (TMPDIR): in memory, and in file systems that put small files together, figures
are others.
"""

from __future__ import annotations

import argparse
import itertools
import json
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from casstore.repo.repository import Repository
from scripts._bench.results import duration, machine
from scripts._bench.sources import Disk, disk, fill, supply, write_file
from scripts._bench.sync_results import MEGABYTE, markdown
from scripts._bench.texts import real

ENTRIES = 20_000


@dataclass(frozen=True, slots=True)
class Repacked:
    """What was measured.

    Attributes:
        plain: The answers, a file each.
        before: Objects and packs of a store into which they were put.
        after: The same, repacked.
        besides: What else the store takes, repacked: the index, the journal.
        seconds: How long the repack took.
    """

    plain: Disk
    before: Disk
    after: Disk
    besides: Disk
    seconds: float


def main(arguments: Sequence[str]) -> int:
    """Measure, and print."""
    parser = argparse.ArgumentParser(
        prog="scripts/bench repack", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    parser.add_argument(
        "--entries", type=int, default=ENTRIES, help="how many answers (default: %(default)s)"
    )
    options = parser.parse_args(arguments)
    name, texts = real()
    with tempfile.TemporaryDirectory(prefix="casstore-bench-") as folder:
        found = measure(Path(folder), itertools.islice(supply(1, texts), options.entries))
    if options.json:
        print(json.dumps({"machine": machine(), "texts": name, **asdict(found)}, indent=2))
    else:
        print(f"{options.entries:,} answers: {name}; repacked in {duration(found.seconds)}\n")
        print("\n".join(table(found)))
    return 0


def measure(folder: Path, answers: Iterator[bytes]) -> Repacked:
    """Return what answers take in an empty folder."""
    files, store = folder / "files", folder / "store"
    kept = list(answers)
    for answer in kept:
        write_file(files, answer)
    fill(store, kept)
    before = _objects(store)
    begun = time.perf_counter()
    with Repository.open(store) as repository:
        repository.repack()
    seconds = time.perf_counter() - begun
    after, whole = _objects(store), disk(store)
    besides = Disk(whole.size - after.size, whole.blocks - after.blocks, whole.files - after.files)
    return Repacked(disk(files), before, after, besides, seconds)


def table(found: Repacked) -> Iterator[str]:
    """Yield the lines of the table; the ratio is of the blocks to those of the store before."""
    rows = {
        "a plain file each": found.plain,
        "objects as they were put": found.before,
        "**the same, repacked**": found.after,
        "index, journal and the rest": found.besides,
    }
    lines = [
        (
            title,
            f"{each.files:,}",
            f"{each.size / MEGABYTE:.1f} MB",
            f"{each.blocks / MEGABYTE:.1f} MB",
            f"{each.blocks / found.before.blocks:.2f}",
        )
        for title, each in rows.items()
    ]
    yield from markdown(("", "files", "bytes", "in blocks", "ratio"), lines, left=1)


def _objects(store: Path) -> Disk:
    parts = [disk(store / name) for name in ("objects", "packs")]
    return Disk(*(sum(column) for column in zip(*((p.size, p.blocks, p.files) for p in parts), strict=True)))
