"""Records: what a manifest is made of, and how each is written.  Floor: catalog.

A record is one JSON object on a line. Kinds: entry, tombstone, location, pack, kept, doomed, replaces.
Reading believes nothing: every field is checked, digests are digests, numbers have bounds, and no field is
ever a path. Fields a reader does not know are ignored; a kind it does not know is refused, since skipping a
record could lose an entry.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson

from casstore.digest import Digest, Key, parse_digest, parse_key
from casstore.errors import ConfigError, FormatError, malformed
from casstore.store.pack import PACK_MAX, Pack, contents_fields, parse_contents
from casstore.store.sealed import Frames, Stored
from casstore.values import quick_value

LABELS_MAX = 64 * 1024
"""Bytes of an entry's labels as JSON."""

REFS_MAX = 1024
"""Objects that may travel with one entry."""

INT_MAX = 2**53 - 1
"""The largest number in a record: what every JSON reader keeps exact."""

NEVER = INT_MAX
"""After when what is doomed and was written anew may be deleted."""

LABELS_OPTION = orjson.OPT_SORT_KEYS | orjson.OPT_PASSTHROUGH_DATACLASS | orjson.OPT_PASSTHROUGH_DATETIME
"""How labels are written: with sorted keys, and from plain JSON values alone."""

OBJECT, PACK, SEGMENT = "object", "pack", "segment"
"""What can be doomed."""

_KINDS_DOOMED = (OBJECT, PACK, SEGMENT)


@quick_value(frozen=True, slots=True)
class Entry:
    """A key and the object that answers it.

    Attributes:
        key: What was asked.
        object: Digest of the result object.
        generation: 0 for a first answer; a refresh adds one.
        created: When, in milliseconds since the Unix epoch.
        labels: JSON-able metadata, at most `LABELS_MAX` bytes: by whom, how dear.
        refs: Other objects that travel with the entry, such as its request.
    """

    key: Key
    object: Digest
    generation: int
    created: int
    labels: Mapping[str, Any] = field(default_factory=dict)
    refs: tuple[Digest, ...] = ()


@dataclass(frozen=True, slots=True)
class Tombstone:
    """The end of the entries for a key, up to and including `generation`, for everyone."""

    key: Key
    generation: int
    created: int


@dataclass(frozen=True, slots=True)
class Location:
    """An object in a file of its own, and how to read it.

    Attributes:
        known: Its digest, sizes and frames.
        kept: It was put by hand; now said by a record of its own, since an object may move into a pack.
    """

    known: Stored
    kept: bool = False


@dataclass(frozen=True, slots=True)
class Kept:
    """An object that was put by hand, so it is wanted without an entry that leads to it."""

    object: Digest


@dataclass(frozen=True, slots=True)
class Doomed:
    """A pack, a segment or an object's own file that a collection will delete, not before `after`.

    The time is in milliseconds since the Unix epoch, by the clock of the store's server.
    """

    what: str
    digest: Digest
    after: int


@dataclass(frozen=True, slots=True)
class Replaces:
    """The segment that holds this record also holds every record of `segment`."""

    segment: Digest


Record = Entry | Tombstone | Location | Pack | Kept | Doomed | Replaces
Claim = Entry | Tombstone
"""What may be said of a key."""


def encode_record(record: Record) -> bytes:
    """Return the line of `record`, without its newline: JSON with sorted keys."""
    return orjson.dumps(_ENCODERS[type(record)](record), option=orjson.OPT_SORT_KEYS)


def encode_claim(
    key: str, content: str | None, generation: int, created: int, labels: str, refs: Sequence[str]
) -> bytes:
    """Return the line that `encode_record` makes of a claim, given what the index knows of it.

    Args:
        key: The key, in hex digits.
        content: The object's digest, in hex digits; None for a tombstone.
        generation: The claim's generation.
        created: When it was made.
        labels: The entry's labels as `dump_labels` wrote them.
        refs: The digests of its refs.
    """
    head = f'{{"created":{created},"generation":{generation},"key":"{key}","kind":"'
    if content is None:
        return f'{head}tombstone"}}'.encode()
    tail = ',"refs":["{}"]'.format('","'.join(refs)) if refs else ""
    return f'{head}entry","labels":{labels},"object":"{content}"{tail}}}'.encode()


def decode_record(line: bytes | memoryview) -> Record:
    """Return the record on a line.

    Raises:
        FormatError: The line is no record of this version.
    """
    try:
        fields = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        raise FormatError(f"a record is not JSON: {error}") from error
    return decode_fields(fields)


def decode_fields(fields: object) -> Record:
    """Return the record of a line whose JSON was read.

    Raises:
        FormatError: It is no record of this version.
    """
    if not isinstance(fields, dict):
        raise FormatError("a record is not a JSON object")
    decoder = _DECODERS.get(str(fields.get("kind")))
    if decoder is None:
        raise FormatError(f"a record of unknown kind {str(fields.get('kind'))[:40]!r}; upgrade casstore")
    try:
        return decoder(fields)
    except (KeyError, TypeError) as error:
        raise FormatError(f"a malformed {fields['kind']} record: {malformed(error)}") from error


def next_generation(claim: Claim) -> int:
    """Return the generation that wins over `claim`.

    Raises:
        FormatError: There is none: somebody has claimed the last one.
    """
    if claim.generation >= INT_MAX:
        raise FormatError(f"key {claim.key} is at the last generation; nothing can replace what it has")
    return claim.generation + 1


def dump_labels(labels: Mapping[str, Any]) -> bytes:
    """Return labels as JSON with sorted keys.

    Raises:
        ConfigError: They are not JSON, or larger than `LABELS_MAX`.
    """
    try:
        text = orjson.dumps(dict(labels), option=LABELS_OPTION)
        if b"null" in text:  # orjson's word for NaN and infinities too
            json.dumps(dict(labels), allow_nan=False)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"labels must be JSON: {error}") from error
    if len(text) > LABELS_MAX:
        raise ConfigError(f"labels take {len(text)} bytes; at most {LABELS_MAX} are allowed")
    return text


def _encode_entry(entry: Entry) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "kind": "entry",
        "key": entry.key,
        "object": entry.object,
        "generation": entry.generation,
        "created": entry.created,
        "labels": dict(entry.labels),
    }
    return fields | {"refs": entry.refs} if entry.refs else fields


def _decode_entry(fields: dict[str, Any]) -> Entry:
    labels, refs = fields["labels"], fields.get("refs", [])
    if not isinstance(labels, dict) or len(orjson.dumps(labels)) > LABELS_MAX:
        raise FormatError("an entry's labels are no object, or too large")
    if not isinstance(refs, list) or len(refs) > REFS_MAX:
        raise FormatError("an entry's refs are no list, or too many")
    return Entry(
        parse_key(fields["key"]),
        parse_digest(fields["object"]),
        integer(fields["generation"]),
        integer(fields["created"]),
        labels,
        tuple(parse_digest(ref) for ref in refs),
    )


def _encode_tombstone(record: Tombstone) -> dict[str, Any]:
    return {
        "kind": "tombstone",
        "key": record.key,
        "generation": record.generation,
        "created": record.created,
    }


def _decode_tombstone(fields: dict[str, Any]) -> Tombstone:
    return Tombstone(parse_key(fields["key"]), integer(fields["generation"]), integer(fields["created"]))


def _encode_location(record: Location) -> dict[str, Any]:
    known = record.known
    fields: dict[str, Any] = {
        "kind": "location",
        "object": known.digest,
        "size": known.size,
        "stored": known.stored,
    }
    if known.frames is not None:
        fields["frames"] = {"stored": known.frames.stored, "digests": known.frames.digests}
    return fields | {"kept": True} if record.kept else fields


def _decode_location(fields: dict[str, Any]) -> Location:
    if "pack" in fields:
        raise FormatError("a location in a pack of a kind that is not known; upgrade casstore")
    frames = fields.get("frames")
    known = Stored(
        parse_digest(fields["object"]),
        integer(fields["size"]),
        integer(fields["stored"]),
        None if frames is None else _decode_frames(frames),
    )
    return Location(known, kept=fields.get("kept") is True)


def _decode_frames(fields: dict[str, Any]) -> Frames:
    stored = tuple(integer(length) for length in fields["stored"])
    digests = tuple(parse_digest(digest) for digest in fields["digests"])
    if len(stored) != len(digests):
        raise FormatError("a location lists more frames than digests, or fewer")
    return Frames(stored, digests)


def _encode_pack(record: Pack) -> dict[str, Any]:
    return {"kind": PACK, PACK: record.digest, "stored": record.stored} | contents_fields(record.contents)


def _decode_pack(fields: dict[str, Any]) -> Pack:
    pack = Pack(parse_digest(fields[PACK]), integer(fields["stored"]), parse_contents(fields))
    if not sum(pack.contents.lengths) < pack.stored <= PACK_MAX:
        raise FormatError("a pack's objects do not fit into its length")
    return pack


def _encode_kept(record: Kept) -> dict[str, Any]:
    return {"kind": "kept", "object": record.object}


def _decode_kept(fields: dict[str, Any]) -> Kept:
    return Kept(parse_digest(fields["object"]))


def _encode_doomed(record: Doomed) -> dict[str, Any]:
    return {"kind": "doomed", "what": record.what, "digest": record.digest, "after": record.after}


def _decode_doomed(fields: dict[str, Any]) -> Doomed:
    if fields["what"] not in _KINDS_DOOMED:
        raise FormatError("a doomed record dooms neither a pack, a segment nor an object")
    return Doomed(fields["what"], parse_digest(fields["digest"]), integer(fields["after"]))


def _encode_replaces(record: Replaces) -> dict[str, Any]:
    return {"kind": "replaces", "segment": record.segment}


def _decode_replaces(fields: dict[str, Any]) -> Replaces:
    return Replaces(parse_digest(fields["segment"]))


def integer(value: object) -> int:
    """Return a number from a record.

    Raises:
        FormatError: It is none, or none that every JSON reader keeps exact.
    """
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= INT_MAX:
        return value
    raise FormatError(f"not a number from 0 to 2^53 - 1: {str(value)[:40]!r}")


_ENCODERS: dict[type, Callable[[Any], dict[str, Any]]] = {
    Entry: _encode_entry,
    Tombstone: _encode_tombstone,
    Location: _encode_location,
    Pack: _encode_pack,
    Kept: _encode_kept,
    Doomed: _encode_doomed,
    Replaces: _encode_replaces,
}

_DECODERS: dict[str, Callable[[dict[str, Any]], Record]] = {
    "entry": _decode_entry,
    "tombstone": _decode_tombstone,
    "location": _decode_location,
    PACK: _decode_pack,
    "kept": _decode_kept,
    "doomed": _decode_doomed,
    "replaces": _decode_replaces,
}
