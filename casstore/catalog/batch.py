"""Many records at once, checked and made rows together: three times faster than one by one.  Floor: catalog.

Nearly all records of a manifest are entries, so these are what is fast. Whatever the quick look does not like
is looked at again, one by one, which tells what is wrong with it: the two never differ in what they accept.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Any

import orjson

from casstore.catalog.records import (
    INT_MAX,
    LABELS_MAX,
    LABELS_OPTION,
    REFS_MAX,
    Claim,
    Record,
    decode_fields,
)
from casstore.catalog.rows import ClaimRow, claim_row
from casstore.digest import bytes_of, check_digests
from casstore.errors import FormatError

_FIELDS = itemgetter("key", "object", "generation", "created", "labels")


@dataclass(frozen=True, slots=True)
class Batch:
    """Some records of one segment.

    Attributes:
        claims: The rows of its entries and tombstones.
        others: The other records.
    """

    claims: list[ClaimRow]
    others: list[Record]


def batch_of(records: Iterable[Record]) -> Batch:
    """Return records as a batch."""
    claims: list[ClaimRow] = []
    others: list[Record] = []
    for record in records:
        if isinstance(record, Claim):
            claims.append(claim_row(record))
        else:
            others.append(record)
    return Batch(claims, others)


def decode_batch(lines: Sequence[bytes]) -> Batch:
    """Return the records on some lines.

    Raises:
        FormatError: A line is no record of this version.
    """
    try:
        records = list(map(orjson.loads, lines))
    except orjson.JSONDecodeError as error:
        raise FormatError(f"a record is not JSON: {error}") from error
    entries = [each for each in records if type(each) is dict and each.get("kind") == "entry"]
    if len(entries) < len(records):
        others = [each for each in records if type(each) is not dict or each.get("kind") != "entry"]
        batch = batch_of(map(decode_fields, others))
    else:
        batch = Batch([], [])
    if entries:
        try:
            batch.claims.extend(_entry_rows(entries))
        except (FormatError, KeyError, TypeError):
            batch.claims.extend(batch_of(map(decode_fields, entries)).claims)
    return batch


def _entry_rows(entries: Sequence[dict[str, Any]]) -> Iterable[ClaimRow]:
    """Return the rows of entries.

    Raises:
        FormatError: One of them seems malformed.
        KeyError: One lacks a field.
        TypeError: One has a field of a wrong type.
    """
    keys, objects, generations, created, labels = zip(*map(_FIELDS, entries), strict=True)
    check_digests(keys)
    check_digests(objects)
    _check_numbers(generations)
    _check_numbers(created)
    refs = [_refs(each["refs"]) if "refs" in each else b"" for each in entries]
    return zip(bytes_of(keys), bytes_of(objects), generations, created, _texts(labels), refs, strict=True)


def _check_numbers(numbers: Sequence[Any]) -> None:
    if set(map(type, numbers)) != {int} or not 0 <= min(numbers) <= max(numbers) <= INT_MAX:
        raise FormatError("a number out of bounds")


def _texts(labels: Sequence[Any]) -> list[str]:
    """Return labels as JSON; what was read from JSON is neither NaN nor infinite."""
    texts = [orjson.dumps(each, option=LABELS_OPTION) for each in labels]
    if set(map(type, labels)) != {dict} or max(map(len, texts)) > LABELS_MAX:
        raise FormatError("labels that are no object, or too large")
    return [text.decode() for text in texts]


def _refs(refs: Any) -> bytes:
    if type(refs) is not list or len(refs) > REFS_MAX:
        raise FormatError("refs that are no list, or too many")
    check_digests(refs)
    return bytes.fromhex("".join(refs))
