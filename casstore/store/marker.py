"""The format marker, ``casstore.json``: what a store needs its readers to know.  Floor: store."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import orjson

from casstore.digest import HASH_NAME
from casstore.errors import ExistsError, FormatError
from casstore.store.layout import DEFAULT_SHARDS, MARKER

if TYPE_CHECKING:
    from casstore.backends.base import Backend

VERSION = 1
PACKED = "packs"
"""The feature of a store that may hold packs, merged segments and doomed files."""

FEATURES: frozenset[str] = frozenset({PACKED})
"""Features this version can read."""

_MARKER_MAX = 64 * 1024
_SHARD_MAX = 4


@dataclass(frozen=True, slots=True)
class Marker:
    """What the marker of a store says.

    Attributes:
        shards: Hex digits of the two folder levels.
        features: Names of what a reader must understand beyond version 1.
    """

    shards: tuple[int, int] = DEFAULT_SHARDS
    features: tuple[str, ...] = (PACKED,)


def encode_marker(marker: Marker) -> bytes:
    """Return the bytes of `marker`: one JSON object and a newline."""
    content = {
        "format": "casstore",
        "version": VERSION,
        "hash": HASH_NAME,
        "shards": list(marker.shards),
        "features": list(marker.features),
    }
    return orjson.dumps(content, option=orjson.OPT_SORT_KEYS | orjson.OPT_APPEND_NEWLINE)


def decode_marker(content: bytes, where: str) -> Marker:
    """Return what the marker's bytes say.

    Args:
        content: The bytes of ``casstore.json``.
        where: The store they came from, for messages.

    Raises:
        FormatError: They are no marker, or one that this version must not read.
    """
    fields = _fields(content, where)
    version = fields.get("version")
    if not isinstance(version, int) or version < 1:
        raise FormatError(f"{where}: {MARKER} names no version; restore it or start a new store")
    features = fields.get("features", [])
    if not isinstance(features, list) or not all(isinstance(name, str) for name in features):
        raise FormatError(f"{where}: {MARKER} has a malformed list of features")
    unknown = sorted(set(features) - FEATURES)
    if version > VERSION or unknown or fields.get("hash") != HASH_NAME:
        needs = f"version {version}, hash {fields.get('hash')}" + (
            f", {', '.join(unknown)}" if unknown else ""
        )
        raise FormatError(f"{where} was written by a newer casstore ({needs}); upgrade casstore to use it")
    return Marker(_shards(fields.get("shards"), where), tuple(features))


def read_marker(backend: Backend) -> Marker:
    """Return the marker of the store on `backend`.

    Raises:
        NotFoundError: There is no store.
        FormatError: The marker cannot or must not be read.
    """
    return decode_marker(backend.read(MARKER), backend.url)


def ensure_marker(backend: Backend) -> Marker:
    """Write the marker of a new store on `backend`, or return the one that another machine wrote first."""
    marker = Marker()
    try:
        backend.write(MARKER, encode_marker(marker), exclusive=True)
    except ExistsError:
        return read_marker(backend)
    return marker


def require_feature(backend: Backend, marker: Marker, feature: str) -> Marker:
    """Let the marker of the store on `backend` name a feature that the store is about to need."""
    if feature in marker.features:
        return marker
    upgraded = Marker(marker.shards, tuple(sorted({*marker.features, feature})))
    backend.write(MARKER, encode_marker(upgraded))
    return upgraded


def _fields(content: bytes, where: str) -> dict[str, object]:
    try:
        fields = orjson.loads(content) if len(content) <= _MARKER_MAX else None
    except orjson.JSONDecodeError:
        fields = None
    if not isinstance(fields, dict) or fields.get("format") != "casstore":
        raise FormatError(f"{where}: {MARKER} is not a casstore marker; is this the right folder or prefix?")
    return fields


def _shards(value: object, where: str) -> tuple[int, int]:
    match value:
        case [int(first), int(second)] if 0 < first <= _SHARD_MAX and 0 < second <= _SHARD_MAX:
            return first, second
    raise FormatError(f"{where}: {MARKER} has malformed shard widths: {value!r}")
