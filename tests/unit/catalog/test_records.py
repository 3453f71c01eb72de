"""Records: what is written is read, and nothing else is."""

from __future__ import annotations

import json
from collections import Counter
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from casstore.catalog.batch import batch_of, decode_batch
from casstore.catalog.records import (
    LABELS_MAX,
    Claim,
    Entry,
    Location,
    Record,
    decode_record,
    dump_labels,
    encode_claim,
    encode_record,
)
from casstore.catalog.rows import claim_from, claim_row, dump_frames, refs_from, stored_from
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
PACK: dict[str, Any] = {
    "kind": "pack",
    "pack": digest_of(b"pack"),
    "stored": 100,
    "objects": [digest_of(b"x"), digest_of(b"y")],
    "sizes": [50, 0],
    "lengths": [30, 10],
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
    known = location.known
    row = (bytes.fromhex(known.digest), known.size, known.stored, dump_frames(known.frames))
    assert stored_from(*row) == known


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
    "change",
    [
        pytest.param({"pack": "../../x"}, id="path for a digest"),
        pytest.param({"pack": None}, id="no digest"),
        pytest.param({"stored": 40}, id="no room for a table of contents"),
        pytest.param({"stored": 2**40}, id="too large"),
        pytest.param({"stored": True}, id="boolean for a number"),
        pytest.param({"stored": 100.0}, id="fraction"),
        pytest.param({"objects": []}, id="no objects"),
        pytest.param({"objects": [digest_of(b"x"), "../" * 21 + "x"]}, id="path among objects"),
        pytest.param({"objects": [digest_of(b"x"), ["a"]]}, id="list among objects"),
        pytest.param({"objects": digest_of(b"x")}, id="objects no list"),
        pytest.param({"sizes": [50]}, id="fewer sizes"),
        pytest.param({"sizes": [50, -1]}, id="negative size"),
        pytest.param({"sizes": [50, 10**400]}, id="size of 400 digits"),
        pytest.param({"sizes": [50, False]}, id="boolean size"),
        pytest.param({"lengths": [30, 0]}, id="frame of nothing"),
        pytest.param({"lengths": [60, 60]}, id="lengths beyond the file"),
        pytest.param({"lengths": [30, 10.0]}, id="fraction of a length"),
        pytest.param({"lengths": {}}, id="lengths no list"),
        pytest.param({"dictionary": "x"}, id="dictionary no digest"),
        pytest.param({"dictionary": []}, id="dictionary a list"),
    ],
)
def test_malformed_packs_are_refused(change: dict[str, Any]) -> None:
    """What a record says of a pack is checked as its table of contents is."""
    decode_record(json.dumps(PACK).encode())
    with pytest.raises(FormatError):
        decode_record(json.dumps(PACK | change).encode())


@pytest.mark.parametrize("field", [name for name in PACK if name != "kind"])
def test_missing_fields_of_packs_are_refused(field: str) -> None:
    """A pack record without one of its fields is a format error."""
    with pytest.raises(FormatError):
        decode_record(json.dumps({name: value for name, value in PACK.items() if name != field}).encode())


def test_kept_was_once_part_of_a_location() -> None:
    """An older location that says an object was put by hand is read so; a newer one leaves it out."""
    older = decode_record(json.dumps(LOCATION | {"kept": True}).encode())
    assert isinstance(older, Location)
    assert older.kept
    newer = decode_record(json.dumps(LOCATION).encode())
    assert isinstance(newer, Location)
    assert not newer.kept


@given(claims())
@settings(max_examples=100, deadline=None)
def test_lines_from_rows_are_those_of_records(claim: Claim) -> None:
    """The line that is made of a row of the index is the one that is made of the claim."""
    key, content, generation, created, labels, refs = claim_row(claim)
    digest = None if content is None else content.hex()
    line = encode_claim(key.hex(), digest, generation, created, labels, refs_from(refs))
    assert line == encode_record(claim)


# Many at once


@given(st.lists(records(), max_size=12))
@settings(max_examples=150, deadline=None)
def test_many_at_once_are_what_they_are_one_by_one(made: list[Record]) -> None:
    """A batch of lines holds the same rows and records as each of its lines by itself."""
    batch, same = decode_batch([encode_record(record) for record in made]), batch_of(made)
    assert Counter(batch.claims) == Counter(claim_row(each) for each in made if isinstance(each, Claim))
    assert batch.others == [each for each in made if not isinstance(each, Claim)]
    assert (Counter(same.claims), same.others) == (Counter(batch.claims), batch.others)


_CHANGES: list[dict[str, Any]] = [
    {"key": "A" * 64},
    {"key": 7},
    {"object": digest_of(b"") + "\n"},
    {"object": "٣" * 64},
    {"generation": -1},
    {"generation": 2**53},
    {"generation": 10**400},
    {"generation": True},
    {"created": 1.0},
    {"created": None},
    {"labels": []},
    {"labels": {"x": "y" * LABELS_MAX}},
    {"refs": "ab"},
    {"refs": {}},
    {"refs": None},
    {"refs": ["../x"]},
    {"refs": [digest_of(b"")] * 1025},
]

_WRONG = [
    b"",
    b"7",
    b"[]",
    b"{}",
    b'{"kind":"entry"}',
    b'{"kind":["entry"]}',
    *(json.dumps(ENTRY | change).encode() for change in _CHANGES),
    # Lines that only together are JSON.
    b'{"kind":"entry","x":[{}',
    b"{}]}",
    json.dumps(ENTRY).encode() + b"," + json.dumps(ENTRY).encode(),
]


@pytest.mark.parametrize("line", _WRONG)
@pytest.mark.parametrize("position", [0, 3])
def test_one_bad_line_among_many_is_found(line: bytes, position: int) -> None:
    """A line that is refused by itself is refused among good ones, wherever it stands."""
    good = [json.dumps(ENTRY).encode(), json.dumps(PACK).encode(), json.dumps(LOCATION).encode()]
    with pytest.raises(FormatError):
        decode_record(line)
    with pytest.raises(FormatError):
        decode_batch([*good[:position], line, *good[position:]])


@pytest.mark.parametrize(
    "change",
    [{"labels": {"b": 1, "a": [None, 2.5]}}, {"refs": []}, {"refs": [digest_of(b"r")]}, {"later": 1}],
)
def test_unusual_lines_are_read_alike(change: dict[str, Any]) -> None:
    """What another writer spells otherwise gives the same row at once and one by one."""
    line = json.dumps(ENTRY | change, indent=None).encode()
    record = decode_record(line)
    assert isinstance(record, Entry)
    assert decode_batch([line]).claims == [claim_row(record)]


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
