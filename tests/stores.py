"""Stores with plain numbers for keys: what tests of several floors fill, compare and damage."""

from __future__ import annotations

import dataclasses
import random
import sqlite3
from collections.abc import Iterable
from pathlib import Path

from casstore.backends.base import Backend
from casstore.digest import Key, digest_of
from casstore.errors import NotFoundError
from casstore.repo.repository import Repository
from casstore.store.dictionaries import Dictionaries
from casstore.store.objects import ObjectStore
from tests.doubles import RecordingBackend

MIB = 1024 * 1024


def key(number: int) -> Key:
    """Return the key of a number."""
    return Key(digest_of(f"question {number}".encode()))


def answer(number: int, version: int = 0) -> bytes:
    """Return what `fill` stores under a number."""
    return f"answer {number}, version {version}. ".encode() * 8


def fill(repository: Repository, numbers: Iterable[int]) -> None:
    """Put the answers to numbers into a store."""
    for number in numbers:
        repository.put_entry(key(number), answer(number), labels={"number": number})


def answers(repository: Repository) -> dict[Key, bytes | None]:
    """Return every entry with its answer, None where that is nowhere to be had."""
    found: dict[Key, bytes | None] = {}
    for entry in list(repository.entries()):
        try:
            found[entry.key] = repository.read_entry(entry.key)[1]
        except NotFoundError:
            found[entry.key] = None
    return found


def noise(size: int, seed: int = 0) -> bytes:
    """Return bytes that do not compress."""
    return random.Random(seed).randbytes(size)


def dump(root: Path) -> dict[str, list[tuple[object, ...]]]:
    """Return all rows of a store's index, read behind its back; last uses left out."""
    connection = sqlite3.connect(root / "index.sqlite")
    try:
        rows = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
        tables = {name: connection.execute(f"SELECT * FROM {name}").fetchall() for (name,) in rows}
    finally:
        connection.close()
    tables["objects"] = [(*row[:3], *row[4:]) for row in tables["objects"]]
    return tables


def damage(path: Path, offset: int | None = None, mask: int = 0x10) -> None:
    """Flip bits of one byte of a file, by default the one in its middle."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2 if offset is None else offset] ^= mask
    path.write_bytes(content)


def files(root: Path, folder: str) -> dict[str, bytes]:
    """Return the files below a folder of a store, by name."""
    found = (path for path in (root / folder).rglob("*") if path.is_file())
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in found}


def use_backend(repository: Repository, backend: Backend) -> None:
    """Let a store, of which no remote was opened yet, read and write its own folder through `backend`."""
    local = repository.local
    shards, dictionaries = local.objects._shards, Dictionaries(backend, local.objects._shards)
    objects = ObjectStore(backend, shards, local.codec, local.spool, dictionaries)
    repository.local = dataclasses.replace(local, backend=backend, objects=objects)


def record(repository: Repository) -> RecordingBackend:
    """Write down what a store does in its own folder from now on."""
    backend = RecordingBackend(repository.local.backend)
    use_backend(repository, backend)
    return backend


def record_remote(repository: Repository, url: str) -> RecordingBackend:
    """Write down what a store does in a remote from now on."""
    remote = repository.remote(url)
    backend = RecordingBackend(remote.backend)
    remote.backend = backend
    return backend
