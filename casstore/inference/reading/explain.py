"""Why a request hits, misses or passes by the cache.  Floor: inference.

What a call would do is asked of the HTTP core itself, so an explanation cannot differ from it. For a miss the
stored requests that are likest are read, and the nearest one is told with where it differs. That work is
bounded by `COMPARED` and `COMPARED_BYTES`.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from heapq import nlargest
from typing import TYPE_CHECKING, Any, Final, Literal

from casstore.catalog.records import Entry
from casstore.digest import Key
from casstore.errors import ConfigError, NotFoundError
from casstore.inference.canonical import CanonicalError
from casstore.inference.http.controls import overrides_in
from casstore.inference.http.exchange import HttpRequest
from casstore.inference.http.material import HTTP_KEY_HEADERS, Material
from casstore.inference.ledger import FUNCTION
from casstore.inference.policy import Mode, Settings
from casstore.inference.reading.asked import StoredForm
from casstore.inference.reading.differences import Difference, differences
from casstore.inference.reading.source import Source, has_request, parsed, request_bytes
from casstore.inference.request import canonical_request, key_of
from casstore.inference.types import Request

if TYPE_CHECKING:
    from casstore.inference.cache import Cache
    from casstore.inference.http.core import HttpCache

COMPARED: Final = 200
"""Stored requests that are compared at most: the newest of the same provider and path, those of the same
model before others."""

COMPARED_BYTES: Final = 64 * 1024 * 1024
"""Bytes of stored requests after which no further one is compared."""

_TOLD: Final = 20
"""Differences that are told to a person."""

_ONE_KIND_ALONE: Final = ("kind", "method", "model")
"""What stands in the requests of one layer and not of the other, and so says nothing of a request."""


Explained = HttpRequest | StoredForm | Request
"""What can be explained: a request over HTTP, a stored one, or one of casstore's own clients."""


@dataclass(frozen=True, slots=True)
class Nearest:
    """The stored request that is likest.

    Attributes:
        entry: Its entry.
        differences: Where it differs.
        other_layer: It was stored by the other layer (casstore's own clients, or HTTP), whose keys differ.
    """

    entry: Entry
    differences: tuple[Difference, ...]
    other_layer: bool = False


@dataclass(frozen=True, slots=True)
class Explanation:
    """What would become of a request.

    Attributes:
        state: ``hit``, ``miss`` or ``passed``: it has no key, or may not be stored.
        reason: One word on a miss (``absent``, ``age``, ``refresh``) or on what passes; empty for a hit.
        detail: The same for a person.
        key: Its key; None for one that passes.
        material: What the key is made of: its canonical JSON, parsed.
        left_out: Parts of the request that are not in the key.
        entry: Of a hit, or of one that is too old, the entry.
        nearest: Of a miss, the nearest stored request; None where none is like it.
        compared: How many stored requests were compared.
        unread: How many more are of the same provider and path, but did not store their request.
    """

    state: Literal["hit", "miss", "passed"]
    reason: str = ""
    detail: str = ""
    key: Key | None = None
    material: Mapping[str, Any] | None = field(default=None, repr=False)
    left_out: tuple[str, ...] = ()
    entry: Entry | None = None
    nearest: Nearest | None = None
    compared: int = 0
    unread: int = 0

    def __str__(self) -> str:
        return "\n".join(self._lines())

    def _lines(self) -> Iterator[str]:
        yield f"{self.state}: {self.detail}" if self.detail else self.state
        if self.key is not None:
            yield f"key: {self.key}"
        if self.left_out:
            yield f"not in the key: {', '.join(self.left_out)}"
        if self.state == "miss" and self.reason == "absent":
            yield from self._near()

    def _near(self) -> Iterator[str]:
        compared = f"{self.compared:,} stored {'request' if self.compared == 1 else 'requests'} compared"
        if self.unread:
            compared += f"; {self.unread:,} more did not store theirs (keep_requests)"
        if self.nearest is None:
            yield f"nearest: none of this provider and path ({compared})"
            return
        yield f"nearest: {self.nearest.entry.key} ({compared})"
        if self.nearest.other_layer:
            yield "  stored by the other layer: keys of cache.wrap and of SDKs over HTTP are never the same"
        yield from (f"  {each}" for each in self.nearest.differences[:_TOLD])
        more = len(self.nearest.differences) - _TOLD
        if more > 0:
            yield f"  and {more} more"


def explain(http: HttpCache, asked: Explained) -> Explanation:
    """Return what would become of a request now; nothing is asked of a provider, nothing stored or counted.

    Args:
        http: The cache, and the rules that hold.
        asked: The request.

    Raises:
        ConfigError: The store cannot be read in this way, or a header of the cache is wrong.
    """
    if isinstance(asked, HttpRequest):
        return _over_http(http, asked)
    settings = http.cache.settings({})
    if isinstance(asked, StoredForm):
        return _looked_up(_source(http.cache), asked.key, asked.value, settings, ())
    return explain_call(http.cache, asked, settings)


def _over_http(http: HttpCache, asked: HttpRequest) -> Explanation:
    settings = http.settings(overrides_in(asked.headers))
    if settings.mode is Mode.BYPASS:
        return Explanation("passed", "bypass", "the mode is bypass: the cache is neither read nor written")
    found = http.material_of(asked, settings)
    if not isinstance(found, Material):
        return Explanation("passed", found.reason, found.detail)
    value = json.loads(found.canonical)
    return _looked_up(_source(http.cache), found.key, value, settings, tuple(_left_out(asked, value)))


def explain_call(cache: Cache, asked: Request, settings: Settings, *, stream: bool = False) -> Explanation:
    """Return what would become of a call of a client from `Cache.wrap`; see `explain`.

    Args:
        cache: The cache.
        asked: The request that the client would send.
        settings: What holds for it.
        stream: The answer would be streamed.

    Raises:
        ConfigError: The store is out of reach, or cannot be read in this way.
    """
    if stream and cache.streams != "record":
        return Explanation("passed", "stream", 'streams are not recorded (streams="record" does it)')
    if settings.mode is Mode.BYPASS:
        return Explanation("passed", "bypass", "the mode is bypass: the cache is neither read nor written")
    try:
        spelled = canonical_request(
            asked,
            namespace=settings.namespace,
            sample=settings.sample,
            tag=settings.tag,
            aliases=cache.aliases,
        )
    except CanonicalError as error:
        return Explanation("passed", "json", f"the request has no canonical form: {error}")
    value = json.loads(spelled)
    left_out = tuple(f"body.{name}" for name in asked.body if name not in value["body"])
    return _looked_up(_source(cache), key_of(spelled), value, settings, left_out)


def _source(cache: Cache) -> Source:
    if not isinstance(cache.repository, Source):
        raise ConfigError("the cache has no store that can be read: open it with a path or a Repository")
    return cache.repository


def _left_out(asked: HttpRequest, value: Mapping[str, Any]) -> Iterator[str]:
    """Yield the fields of the body and the headers that are not in the key."""
    body = value.get("body")
    if isinstance(body, dict):
        sent = json.loads(asked.body)
        yield from (f"body.{name}" for name in sent if name not in body)
    yield from (f"header {name}" for name in asked.headers if name not in HTTP_KEY_HEADERS)


def _looked_up(
    source: Source, key: Key, value: Mapping[str, Any], settings: Settings, left_out: tuple[str, ...]
) -> Explanation:
    try:
        entry = source.entry(key)
    except NotFoundError:
        return _missed(source, key, value, left_out)
    age = time.time() - entry.created / 1000
    if settings.max_age is not None and age > settings.max_age:
        detail = f"stored {age:,.0f} s ago, and the maximum age is {settings.max_age:,.0f} s"
        return Explanation("miss", "age", detail, key, value, left_out, entry)
    if settings.mode is Mode.REFRESH:
        detail = "the mode is refresh: the provider is asked, and what is stored is replaced"
        return Explanation("miss", "refresh", detail, key, value, left_out, entry)
    here = source.has(entry.object)
    detail = "" if here else "its answer is not here, and would be fetched from a remote"
    return Explanation("hit", "" if here else "remote", detail, key, value, left_out, entry)


def _missed(source: Source, key: Key, value: Mapping[str, Any], left_out: tuple[str, ...]) -> Explanation:
    best: tuple[float, Nearest] | None = None
    compared = unread = 0
    left = COMPARED_BYTES
    for entry in _alike(source, value):
        content = request_bytes(source, entry) if left > 0 else None
        stored = None if content is None else parsed(content)
        if content is None or stored is None:
            unread += not has_request(entry)
            continue
        left -= len(content)
        if stored.get("path") != value.get("path"):
            continue
        compared += 1
        near = _near(entry, stored, dict(value))
        weight = sum(each.weight for each in near.differences)
        if best is None or weight < best[0]:
            best = weight, near
    detail = "nothing is stored for this key"
    nearest = None if best is None else best[1]
    return Explanation("miss", "absent", detail, key, value, left_out, None, nearest, compared, unread)


def _alike(source: Source, value: Mapping[str, Any]) -> list[Entry]:
    """Return the newest entries whose labels say that they are of the same provider and path."""
    provider, path, model = value.get("provider", FUNCTION), value.get("path"), _model(value)
    found = (
        entry
        for entry in source.entries()
        if entry.labels.get("provider") == provider and entry.labels.get("path", path) == path
    )
    return nlargest(COMPARED, found, key=lambda entry: (entry.labels.get("model") == model, entry.created))


def _model(value: Mapping[str, Any]) -> object:
    body = value.get("body")
    named = value.get("model") or value.get("function")
    return named or (body.get("model") if isinstance(body, dict) else None)


def _near(entry: Entry, stored: dict[str, Any], asked: dict[str, Any]) -> Nearest:
    other_layer = stored.get("kind") != asked.get("kind")
    if other_layer:
        for name in _ONE_KIND_ALONE:
            stored.pop(name, None)
            asked.pop(name, None)
    return Nearest(entry, tuple(differences(stored, asked)), other_layer)
