"""Fills a small file system with a store: ``python -m tests.crash.small_disk FOLDER``, FOLDER being its root.

Prints how many entries fitted; fails where one of them is lost.
"""

from __future__ import annotations

import sys
from pathlib import Path

from casstore.digest import Key
from casstore.errors import BackendError
from casstore.repo.repository import Repository
from tests.crash.aftermath import check_local
from tests.stores import answers, key, noise

BALLAST = "ballast"
ATTEMPTS = 2_000


def content_of(number: int) -> bytes:
    """Return the answer to a number; every third is large, so that small ones still fit when it does not."""
    return noise(20_000 if number % 3 == 0 else 10, number)


def fill_up(store: Repository, numbers: range) -> set[Key]:
    """Put the answers to numbers; return the keys of those that fitted."""
    stored = set()
    for number in numbers:
        try:
            store.put_entry(key(number), content_of(number))
        except BackendError as error:
            if "full" not in str(error) and "No space" not in str(error):
                raise
        else:
            stored.add(key(number))
    return stored


def main(root: Path) -> None:
    """Fill the disk, look, make room, and go on."""
    (root / BALLAST).write_bytes(bytes(800_000))
    path = root / "store"
    expected = {key(number): content_of(number) for number in range(ATTEMPTS + 1)}
    with Repository.open(path) as store:
        stored = fill_up(store, range(ATTEMPTS))
        if len(stored) == ATTEMPTS:
            sys.exit(f"{root} never became full")
        check_answers(store, stored, expected)
        (root / BALLAST).unlink()
        stored |= fill_up(store, range(ATTEMPTS, ATTEMPTS + 1))
        if key(ATTEMPTS) not in stored:
            sys.exit("there is room again, and it is not used")
    # A put that failed may have left its answer: the right one.
    check_local(path, expected, all_of_it=False)
    with Repository.open(path) as store:
        check_answers(store, stored, expected)
    sys.stdout.write(f"{len(stored)}\n")


def check_answers(store: Repository, stored: set[Key], expected: dict[Key, bytes]) -> None:
    """See that every answer is there that a put stored."""
    found = answers(store)
    if any(found.get(name) != expected[name] for name in stored):
        sys.exit("an entry that was stored is lost")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
