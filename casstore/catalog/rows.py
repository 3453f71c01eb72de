"""Between records and the rows of the index.  Floor: catalog.  Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import orjson

from casstore.catalog.records import Claim, Entry, Tombstone, dump_labels
from casstore.digest import Digest, Key
from casstore.errors import BackendError, malformed
from casstore.store.sealed import Frames, Place, Stored

ClaimRow = tuple[bytes, bytes | None, int, int, str, bytes]
"""key, object (None: a tombstone), generation, created, labels, refs."""

_DIGEST_BYTES = 32


@dataclass(frozen=True, slots=True)
class PackInfo:
    """A pack, here or in a remote.

    Attributes:
        digest: SHA-256 of its file.
        stored: Bytes of its file.
        members: How many objects lie in it.
        dictionary: What its frames need.
        here: Whether it is stored here.
    """

    digest: Digest
    stored: int
    members: int
    dictionary: Digest | None
    here: bool


class DamagedIndexError(BackendError):
    """The index cannot be read; whoever uses it next has it rebuilt."""

    def __init__(self, message: str, *, transient: bool = True) -> None:
        super().__init__(message, transient=transient)


def claim_row(claim: Claim) -> ClaimRow:
    """Return the row of a claim."""
    key = bytes.fromhex(claim.key)
    if isinstance(claim, Tombstone):
        return key, None, claim.generation, claim.created, "", b""
    refs = bytes.fromhex("".join(claim.refs))
    labels = dump_labels(claim.labels).decode()
    return key, bytes.fromhex(claim.object), claim.generation, claim.created, labels, refs


def claim_from(row: ClaimRow) -> Claim:
    """Return the claim in a row.

    Raises:
        DamagedIndexError: The row cannot be what was written.
    """
    key, content, generation, created, labels, refs = row
    return claim_on(Key(key.hex()), content, generation, created, labels, refs)


def claim_on(
    key: Key, content: bytes | None, generation: int, created: int, labels: str, refs: bytes
) -> Claim:
    """Return the claim on `key` that the rest of a row tells.

    Raises:
        DamagedIndexError: The row cannot be what was written.
    """
    try:
        if content is None:
            return Tombstone(key, generation, created)
        return Entry(
            key,
            Digest(content.hex()),
            generation,
            created,
            orjson.loads(labels),
            refs_from(refs) if refs else (),
        )
    except (ValueError, TypeError, AttributeError) as error:
        raise DamagedIndexError(f"the index has a damaged row: {malformed(error)}") from error


def refs_from(refs: bytes) -> tuple[Digest, ...]:
    """Return the digests that stand one behind another in `refs`."""
    starts = range(0, len(refs), _DIGEST_BYTES)
    return tuple([Digest(refs[start : start + _DIGEST_BYTES].hex()) for start in starts])


def pack_info(digest: bytes, stored: int, members: int, dictionary: bytes | None, here: int) -> PackInfo:
    """Return the pack in a row."""
    name = None if dictionary is None else Digest(dictionary.hex())
    return PackInfo(Digest(digest.hex()), stored, members, name, bool(here))


def stored_from(
    digest: bytes,
    size: int,
    stored: int,
    frames: bytes | None,
    pack: bytes | None = None,
    offset: int = 0,
    dictionary: bytes | None = None,
) -> Stored:
    """Return the object in a row."""
    place = None
    if pack is not None:
        place = Place(Digest(pack.hex()), offset, None if dictionary is None else Digest(dictionary.hex()))
    return Stored(Digest(digest.hex()), size, stored, None if frames is None else _load_frames(frames), place)


def dump_frames(frames: Frames | None) -> bytes | None:
    """Return the frames of an object as the index keeps them."""
    return None if frames is None else orjson.dumps([frames.stored, frames.digests])


def _load_frames(text: bytes) -> Frames:
    stored, digests = _pair(orjson.loads(text))
    return Frames(tuple(stored), tuple(digests))


def _pair(value: Any) -> tuple[list[int], list[Digest]]:
    return value[0], value[1]
