"""What is compared: casstore at its several depths, diskcache, and caches of a few lines written by hand.

All make their keys of the same request with the same JSON library (orjson, sorted keys, SHA-256), and give
the answer as parsed JSON; none waits for the disk. casstore alone checks what it reads against a digest.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import diskcache
import orjson
import zstandard

from casstore.digest import Key
from casstore.errors import NotFoundError
from casstore.inference.adapters.openai import OpenAIClient
from casstore.inference.cache import Cache
from casstore.inference.canonical import canonical
from casstore.inference.request import key_of
from casstore.inference.types import Response
from casstore.repo.repository import Repository
from scripts._bench.workload import MODEL, Pair

Request = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Subject:
    """A cache.

    Attributes:
        put: Keeps an answer.
        get: Returns the text of the answer to a request; None where there is none.
        close: Writes what is left.
    """

    put: Callable[[Pair], None]
    get: Callable[[Request], str | None]
    close: Callable[[], None]


class Prepared(OpenAIClient):
    """A model that answers at once, and what it was told to."""

    response: Response

    def connect(self) -> None:
        """Need no SDK."""

    def converse(self, *_: Any, **__: Any) -> Response:
        """Return the prepared answer."""
        return self.response


def client(folder: Path, memory: int) -> Subject:
    """Return a cached client as programs use it, with the ledger and all.

    Args:
        folder: The store's folder.
        memory: Bytes for the memory tier.
    """
    model, cache = Prepared(MODEL), Cache(folder, memory=memory)
    wrapped = cache.wrap(model)

    def converse(request: Request) -> Response:
        limit = request["max_completion_tokens"]
        return wrapped.converse(request["messages"], max_completion_tokens=limit)

    def put(pair: Pair) -> None:
        model.response = pair.response
        converse(pair.request)

    def get(request: Request) -> str | None:
        answer = converse(request)
        return answer.text if answer.hit else None

    return Subject(put, get, cache.close)


def store(folder: Path) -> Subject:
    """Return casstore's store without the clients: a repository, and a key of one's own."""
    repository = Repository.open(folder)

    def put(pair: Pair) -> None:
        content, labels = orjson.dumps(pair.reply), {"model": MODEL}
        repository.put_entry(_key(pair.request), content, labels=labels)

    def get(request: Request) -> str | None:
        try:
            _, content = repository.read_entry(_key(request))
        except NotFoundError:
            return None
        return _text(orjson.loads(content))

    return Subject(put, get, repository.close)


def pack(folder: Path) -> None:
    """Move the small objects of a store into packs, as `casstore repack` does."""
    with Repository.open(folder) as repository:
        repository.repack()


def on_diskcache(folder: Path) -> Subject:
    """Return diskcache, as it comes."""
    cache = diskcache.Cache(str(folder))

    def put(pair: Pair) -> None:
        cache[_digest(pair.request)] = orjson.dumps(pair.reply)

    def get(request: Request) -> str | None:
        content = cache.get(_digest(request))
        return None if content is None else _text(orjson.loads(content))

    return Subject(put, get, cache.close)


def on_files(folder: Path, *, index: bool = False) -> Subject:
    """Return what one writes in an afternoon: a compressed JSON file an answer, complete or not there.

    Args:
        folder: Where the files are.
        index: Whether each put is also one INSERT into SQLite, so that there is a list of what is there.
    """
    for number in range(256):
        (folder / f"{number:02x}").mkdir(parents=True)
    compress = zstandard.ZstdCompressor(3).compress
    decompress = zstandard.ZstdDecompressor().decompress
    listed = _open_index(folder / "index.sqlite")

    def path(name: str) -> str:
        return f"{folder}/{name[:2]}/{name}.json.zst"

    def put(pair: Pair) -> None:
        name, content = _digest(pair.request), orjson.dumps(pair.reply)
        target = path(name)
        temporary = f"{target}.{os.getpid()}.tmp"
        with open(temporary, "wb") as file:  # noqa: PTH123 - the fastest way, as one would in a cache
            file.write(compress(content))
        os.replace(temporary, target)  # noqa: PTH105 - likewise
        if index:
            listed.execute("INSERT OR REPLACE INTO answers VALUES (?, ?)", (name, len(content)))

    def get(request: Request) -> str | None:
        try:
            with open(path(_digest(request)), "rb") as file:  # noqa: PTH123 - likewise
                return _text(orjson.loads(decompress(file.read())))
        except FileNotFoundError:
            return None

    return Subject(put, get, listed.close)


def _open_index(path: Path) -> sqlite3.Connection:
    index = sqlite3.connect(path, isolation_level=None)
    index.execute("PRAGMA journal_mode = WAL")
    index.execute("PRAGMA synchronous = NORMAL")
    index.execute("CREATE TABLE answers(key TEXT PRIMARY KEY, size INTEGER)")
    return index


def _digest(request: Request) -> str:
    return sha256(orjson.dumps(request, option=orjson.OPT_SORT_KEYS)).hexdigest()


def _key(request: Request) -> Key:
    return key_of(canonical(request))


def _text(reply: Mapping[str, Any]) -> str:
    return str(reply["choices"][0]["message"]["content"])
