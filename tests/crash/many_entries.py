"""Many entries through a store and a remote, each step in a process of its own, and the memory it takes.

``python -m tests.crash.many_entries FOLDER STEP COUNT`` prints the peak, in bytes; see `STEPS`.
The remote is a folder.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Callable
from pathlib import Path

from casstore.catalog.learning import absorb
from casstore.catalog.records import Entry
from casstore.digest import Key, digest_of
from casstore.repo.recover import add_segment
from casstore.repo.repository import Repository
from casstore.repo.run import Report
from casstore.store.layout import MANIFEST
from casstore.store.pack import PackWriter
from tests.crash.large_file import demand, peak_here

SIZE = 2000
"""Bytes of an answer. Half as many are new, so that packs are about as large as those of real answers."""

IN_A_PACK = 10_000


def key(number: int) -> Key:
    """Return the key of an entry."""
    return Key(digest_of(b"question %d" % number))


def answer(number: int) -> bytes:
    """Return the answer of an entry."""
    return random.Random(number).randbytes(SIZE // 2).hex().encode()


def put(folder: Path, count: int) -> None:
    """Put entries into a store one by one, as a program does."""
    with _opened(folder, "store", count) as store:
        for number in range(count):
            store.put_entry(key(number), answer(number), labels={"model": "m"})


def take(folder: Path, count: int) -> None:
    """Take entries into a store in packs, as a pull does: a million in minutes, and in a hundred files."""
    with _opened(folder, "store", count) as store:
        for start in range(0, count, IN_A_PACK):
            _take_pack(store, range(start, min(start + IN_A_PACK, count)))


def _take_pack(store: Repository, numbers: range) -> None:
    local = store.local
    with local.objects.spooled() as path:
        with path.open("xb") as file:
            writer = PackWriter(file, local.codec)
            digests = [digest_of(answer(number)) for number in numbers]
            for number, digest in zip(numbers, digests, strict=True):
                writer.add(digest, answer(number))
            pack = writer.finish()
        local.take_in(path, local.objects.pack_name(pack.digest))
    local.adopt(pack, used=1)
    pairs = zip(numbers, digests, strict=True)
    entries = [Entry(key(number), digest, 0, 1, {"model": "m"}) for number, digest in pairs]
    absorb(local.index, entries)
    add_segment(local, entries)


def push(folder: Path, count: int) -> None:
    """Push all of it."""
    with _opened(folder, "store", count) as store:
        _is_whole(store.push((folder / "remote").as_uri()), count)


def pull(folder: Path, count: int) -> None:
    """Pull all of it into another store."""
    with _opened(folder, "pulled", count) as store:
        _is_whole(store.pull((folder / "remote").as_uri()), count)


def hit(folder: Path, count: int) -> None:
    """Open the store, for one entry, and read nothing of its manifest."""
    demand(any((folder / "store" / MANIFEST).iterdir()), "there is no manifest")
    sys.addaudithook(_refuse_manifest)
    with Repository.open(folder / "store") as store:
        demand(store.read_entry(key(count // 2))[1] == answer(count // 2), "it is another answer")


def _refuse_manifest(event: str, arguments: tuple[object, ...]) -> None:
    if event in ("open", "os.listdir", "os.scandir"):
        demand(MANIFEST not in str(arguments[0]), "the manifest is read")


STEPS: dict[str, Callable[[Path, int], None]] = {
    "put": put,
    "take": take,
    "push": push,
    "pull": pull,
    "hit": hit,
}


def _opened(folder: Path, name: str, count: int) -> Repository:
    return Repository.open(folder / name, max_size=10 * SIZE * count)


def _is_whole(report: Report, count: int) -> None:
    demand((report.entries, report.objects, report.failures) == (count, count, ()), "not all came through")


if __name__ == "__main__":
    STEPS[sys.argv[2]](Path(sys.argv[1]), int(sys.argv[3]))
    sys.stdout.write(f"{peak_here()}\n")
