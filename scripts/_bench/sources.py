"""What is pushed: the same answers as a store of entries, and as a tree of files named by digest."""

from __future__ import annotations

import itertools
import os
import shutil
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from casstore.digest import Key, digest_of
from casstore.repo.repository import Repository
from scripts._bench.texts import Answers

NEW = 10
"""Entries that are new in the pushes and pulls of new ones."""


@dataclass(frozen=True, slots=True)
class Disk:
    """What a folder takes.

    Attributes:
        size: Bytes of its files.
        blocks: Bytes of the disk blocks of its files and folders.
        files: How many files.
    """

    size: int
    blocks: int
    files: int


class Sources:
    """Answers as a store and as files; each round begins with a fresh copy of the one, and with the other.

    Args:
        folder: An empty folder.
        entries: How many there are.
        rounds: For how many rounds there are new ones.
        texts: What the answers are made of.
        files: Whether anybody needs the files.
    """

    def __init__(
        self, folder: Path, entries: int, rounds: int, texts: Iterator[bytes], *, files: bool
    ) -> None:
        self.entries = entries
        self.files = folder / "files"
        self._store = folder / "store"
        held = itertools.islice(texts, entries)
        fill(self._store, self._kept(held) if files else held)
        self._new = [list(itertools.islice(texts, NEW)) for _ in range(rounds)]

    def copy_store(self, folder: Path) -> None:
        """Copy the store as it was before any push."""
        shutil.copytree(self._store, folder)

    def add(self, number: int, store: Path | None) -> None:
        """Add the new ones of a round to the files, and to a store."""
        for answer in self._new[number]:
            write_file(self.files, answer)
        if store:
            fill(store, self._new[number], f"round {number}")

    def take_away(self, number: int) -> None:
        """Remove the new ones of a round from the files."""
        for answer in self._new[number]:
            _path(self.files, answer).unlink(missing_ok=True)

    def _kept(self, answers: Iterable[bytes]) -> Iterator[bytes]:
        for answer in answers:
            write_file(self.files, answer)
            yield answer


def supply(seed: int | str, texts: dict[str, list[str]]) -> Iterator[bytes]:
    """Return an endless supply of answers, the same for the same seed."""
    return iter(Answers(seed, texts))


def fill(folder: Path, answers: Iterable[bytes], salt: str = "") -> None:
    """Put answers into a store, with keys and labels as a cache of models' answers gives them."""
    with Repository.open(folder) as repository:
        for number, answer in enumerate(answers):
            repository.put_entry(entry_key(number, salt), answer, labels=_labels(number, len(answer)))


def entry_key(number: int, salt: str = "") -> Key:
    """Return the key of a store's entry of that number."""
    return Key(digest_of(f"{salt} {number}".encode()))


def write_file(root: Path, answer: bytes) -> None:
    """Write an answer as a file of plain text, two folders deep as the store has it."""
    path = _path(root, answer)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(answer)


def disk(folder: Path) -> Disk:
    """Return what a folder takes, all in all."""
    size = blocks = files = 0
    for parent, _, names in os.walk(folder):
        blocks += Path(parent).stat().st_blocks * 512
        for name in names:
            status = Path(parent, name).stat()
            size += status.st_size
            blocks += status.st_blocks * 512
        files += len(names)
    return Disk(size, blocks, files)


def _path(root: Path, answer: bytes) -> Path:
    digest = sha256(answer).hexdigest()
    return root / digest[0] / digest[1] / digest


def _labels(number: int, size: int) -> dict[str, object]:
    model: Sequence[str] = ("gpt-4o-mini", "claude-haiku-4-5", "gpt-4.1")
    return {
        "kind": "reply",
        "provider": "openai",
        "host": "api.openai.com",
        "model": model[number % len(model)],
        "answered_by": model[number % len(model)],
        "stop": "end",
        "usage": {"input": 200 + number % 1800, "output": size // 4},
        "seconds": round(0.4 + size / 400 + number % 97 / 100, 6),
        "cost": round(size * 1.5e-7 + number % 1800 * 1e-7, 9),
    }
