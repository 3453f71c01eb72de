"""Where everything is: the one module that spells paths.  Floor: store.

It turns digests into names and names back into digests, and knows nothing of what the names hold.
"""

from __future__ import annotations

from casstore.digest import Digest, parse_digest
from casstore.errors import FormatError

MARKER = "casstore.json"
OBJECTS = "objects"
PACKS = "packs"
MANIFEST = "manifest"
SUFFIX = ".zst"

DEFAULT_SHARDS = (1, 1)
"""Hex digits of the two folder levels: 256 leaves (see designs/decisions/0002)."""


def object_name(digest: Digest, shards: tuple[int, int] = DEFAULT_SHARDS) -> str:
    """Return the name of a loose object, ``objects/a/b/<digest>.zst``."""
    return _sharded(OBJECTS, digest, shards)


def pack_name(digest: Digest, shards: tuple[int, int] = DEFAULT_SHARDS) -> str:
    """Return the name of a pack, ``packs/a/b/<digest>.zst``."""
    return _sharded(PACKS, digest, shards)


def segment_name(digest: Digest) -> str:
    """Return the name of a segment, ``manifest/<digest>.zst``."""
    return f"{MANIFEST}/{digest}{SUFFIX}"


def _sharded(folder: str, digest: Digest, shards: tuple[int, int]) -> str:
    first, second = shards
    return f"{folder}/{digest[:first]}/{digest[first : first + second]}/{digest}{SUFFIX}"


def digest_in(name: str) -> Digest:
    """Return the digest that the last part of `name` spells.

    Raises:
        FormatError: The last part is not ``<digest>.zst``.
    """
    last = name.rpartition("/")[2]
    if not last.endswith(SUFFIX):
        raise FormatError(f"not named by a digest: {name[:200]!r}")
    return parse_digest(last[: -len(SUFFIX)])
