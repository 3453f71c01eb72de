"""Records: what is written is read, and nothing else is."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings

from casstore.catalog.records import (
    LABELS_MAX,
    Entry,
    Location,
    Record,
    decode_record,
    dump_labels,
    encode_record,
)
from casstore.catalog.rows import claim_from, claim_row, stored_from, stored_row
from casstore.digest import digest_of
from casstore.errors import ConfigError, FormatError
from tests.properties.strategies import claims, locations, records
from tests.stores import key

ENTRY: dict[str, Any] = {
    "kind": "entry",
    "key": key(1),
    "object": digest_of(b"x"),
    "generation": 0,
    "created": 1_700_000_000_000,
    "labels": {},
}
LOCATION: dict[str, Any] = {"kind": "location", "object": digest_of(b"x"), "size": 1, "stored": 20}


@given(records())
@settings(max_examples=200, deadline=None)
def test_round_trip(record: Record) -> None:
    """Any record reads as it was written, from one line."""
    line = encode_record(record)
    assert b"\n" not in line
    assert decode_record(line) == record
    assert encode_record(decode_record(line)) == line


@given(claims())
@settings(max_examples=100, deadline=None)
def test_rows_hold_claims(claim: Any) -> None:
    """A claim that went through a row of the index is the same."""
    assert claim_from(claim_row(claim)) == claim


@given(locations())
@settings(max_examples=50, deadline=None)
def test_rows_hold_objects(location: Location) -> None:
    """What is known of an object survives its row in the index."""
    assert stored_from(*stored_row(location.known)) == location.known


def test_unknown_fields_are_ignored() -> None:
    """A later version may add fields to a record."""
    assert isinstance(decode_record(json.dumps({**ENTRY, "later": [1, 2]}).encode()), Entry)


@pytest.mark.parametrize(
    "change",
    [
        pytest.param({"kind": "news"}, id="unknown kind"),
        pytest.param({"kind": ["entry"]}, id="kind of a wrong type"),
        pytest.param({"key": "../../etc/passwd"}, id="path for a key"),
        pytest.param({"object": "/etc/passwd"}, id="path for a digest"),
        pytest.param({"object": "A" * 64}, id="upper case"),
        pytest.param({"object": "a" * 63}, id="short digest"),
        pytest.param({"object": "a" * 64 + "\n"}, id="digest and newline"),
        pytest.param({"object": None}, id="no digest"),
        pytest.param({"generation": -1}, id="negative generation"),
        pytest.param({"generation": 2**53}, id="huge generation"),
        pytest.param({"generation": 10**400}, id="generation of 400 digits"),
        pytest.param({"generation": 1.0}, id="fraction"),
        pytest.param({"generation": True}, id="boolean for a number"),
        pytest.param({"created": "today"}, id="text for a number"),
        pytest.param({"labels": []}, id="labels no object"),
        pytest.param({"labels": {"x": "y" * LABELS_MAX}}, id="huge labels"),
        pytest.param({"labels": None}, id="no labels"),
        pytest.param({"refs": "ab"}, id="refs no list"),
        pytest.param({"refs": [digest_of(b"")] * 1025}, id="too many refs"),
        pytest.param({"refs": ["../x"]}, id="path among refs"),
    ],
)
def test_malformed_entries_are_refused(change: dict[str, Any]) -> None:
    """An entry with one wrong field is a format error."""
    with pytest.raises(FormatError):
        decode_record(json.dumps(ENTRY | change).encode())


@pytest.mark.parametrize("field", list(ENTRY))
def test_missing_fields_are_refused(field: str) -> None:
    """An entry without one of its fields is a format error."""
    with pytest.raises(FormatError):
        decode_record(json.dumps({name: value for name, value in ENTRY.items() if name != field}).encode())


@pytest.mark.parametrize(
    "change",
    [
        {"pack": "a" * 64},
        {"size": -1},
        {"size": 2**60},
        {"stored": None},
        {"frames": []},
        {"frames": False},
        {"frames": {"stored": [1], "digests": []}},
        {"frames": {"stored": "12", "digests": ["a" * 64, "b" * 64]}},
        {"frames": {"stored": [1], "digests": "a" * 64}},
        {"frames": {"stored": 1, "digests": 1}},
        {"frames": {"stored": [1.5], "digests": ["a" * 64]}},
    ],
)
def test_malformed_locations_are_refused(change: dict[str, Any]) -> None:
    """A location with one wrong field is a format error."""
    with pytest.raises(FormatError):
        decode_record(json.dumps(LOCATION | change).encode())


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"not JSON",
        b"[]",
        b"null",
        b'"entry"',
        b"{",
        b"\xff\xfe",
        b'{"kind": NaN}',
        b"[" * 100_000,
        b'{"kind":"entry","labels":' + b'{"a":' * 500 + b"1" + b"}" * 501,
        b'{"kind":"tombstone"}',
        b'{"kind":"doomed","what":"store","digest":"' + b"a" * 64 + b'","after":1}',
        b'{"kind":"replaces","segment":"../x"}',
    ],
)
def test_lines_that_are_no_records_are_refused(line: bytes) -> None:
    """Bytes that are no record are a format error, however they are broken."""
    with pytest.raises(FormatError):
        decode_record(line)


def test_deep_labels_are_refused() -> None:
    """Labels nested beyond what the writer could write again are refused."""
    deep = json.dumps(ENTRY).replace('"labels": {}', '"labels": ' + '{"a": ' * 400 + "1" + "}" * 400)
    with pytest.raises(FormatError):
        decode_record(deep.encode())


@pytest.mark.parametrize(
    "labels",
    [
        {"x": object()},
        {"x": {1, 2}},
        {"x": datetime.now(tz=UTC)},
        {"x": None, "y": float("nan")},
        {1: "x"},
        {"x": 2**70},
        {"x": "\ud800"},
        {"x": "y" * LABELS_MAX},
        {"x": float("nan")},
        {"x": [float("inf")]},
    ],
)
def test_labels_must_be_json(labels: dict[Any, Any]) -> None:
    """Labels that JSON cannot hold as they are, or too large ones, are refused."""
    with pytest.raises(ConfigError):
        dump_labels(labels)
