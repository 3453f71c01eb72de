"""Segments: written from records, and refused where they are not what they should be."""

from __future__ import annotations

import io
import json
import tracemalloc
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from casstore.catalog import segment
from casstore.catalog.batch import batch_of
from casstore.catalog.records import Claim, Doomed, Entry, Kept, Record, Replaces, encode_record
from casstore.catalog.rows import claim_row
from casstore.catalog.segment import (
    HEADER,
    REPLACED_MAX,
    Head,
    read_batches,
    read_fresh,
    read_head,
    read_segment,
    write_merged,
    write_segment,
)
from casstore.digest import Digest, digest_of
from casstore.errors import CasstoreError, FormatError, IntegrityError
from casstore.store.codec import FRAME_SIZE, Codec, seal
from casstore.store.sealed import write_sealed
from tests.properties.strategies import records
from tests.stores import damage, key

CODEC = Codec()


def entry(number: int, size: int = 0) -> Entry:
    """Return an entry with labels of a size."""
    return Entry(key(number), digest_of(b""), 0, number, {"pad": "x" * size})


def from_content(path: Path, content: bytes) -> Digest:
    """Write a well-sealed file with any content."""
    with path.open("wb") as file:
        return write_sealed(io.BytesIO(content), file, CODEC).digest


@given(st.lists(records(), max_size=20))
@settings(max_examples=60, deadline=None)
def test_round_trip(tmp_path_factory: pytest.TempPathFactory, made: list[Record]) -> None:
    """A segment reads as it was written, and equal records make an equal segment."""
    path = tmp_path_factory.getbasetemp() / "segment"
    known = write_segment(made, path, CODEC)
    assert list(read_segment(path, known.digest)) == made
    assert write_segment(iter(made), path, CODEC) == known


def test_lines_may_cross_frames(tmp_path: Path) -> None:
    """Records whose lines run over the edge of a frame come back whole."""
    made = [entry(number, 60_000) for number in range(200)]
    known = write_segment(made, tmp_path / "segment", CODEC)
    assert known.size > 2 * FRAME_SIZE
    assert list(read_segment(tmp_path / "segment", known.digest)) == made


def test_writing_and_reading_take_little_memory(tmp_path: Path) -> None:
    """A segment of 60 MB is written and read with a small part of it in memory."""
    made = (entry(number, 60_000) for number in range(1000))
    tracemalloc.start()
    known = write_segment(made, tmp_path / "segment", CODEC)
    count = sum(1 for _ in read_segment(tmp_path / "segment", known.digest))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert count == 1000
    assert known.size > 60_000_000
    assert peak < 30_000_000


def test_every_flipped_byte_is_found(tmp_path: Path) -> None:
    """Whatever byte of a segment's file changes, none of its records is read."""
    path = tmp_path / "segment"
    known = write_segment([entry(1), entry(2)], path, CODEC)
    good = path.read_bytes()
    for position in range(len(good)):
        path.write_bytes(good)
        damage(path, position, 1 << position % 8)
        with pytest.raises(IntegrityError):
            next(read_segment(path, known.digest))


@given(st.lists(records(), max_size=20))
@settings(max_examples=60, deadline=None)
def test_many_at_once_are_the_same(tmp_path_factory: pytest.TempPathFactory, made: list[Record]) -> None:
    """Read in batches, a segment holds what it holds record by record; its lines may be given instead."""
    path = tmp_path_factory.getbasetemp() / "batches"
    known = write_segment(made, path, CODEC)
    batches = list(read_batches(path))
    expected = batch_of(made)
    assert Counter(row for batch in batches for row in batch.claims) == Counter(expected.claims)
    assert [record for batch in batches for record in batch.others] == expected.others
    assert write_segment(map(encode_record, made), path, CODEC) == known


# Merged segments

FRESH: list[Record] = [entry(1), entry(2, 300), Kept(digest_of(b"kept")), Doomed("pack", digest_of(b"p"), 7)]
OTHERS: list[Record] = [entry(number, 50) for number in range(3, 300)]


def names(count: int) -> list[Digest]:
    """Return names of segments."""
    return [digest_of(b"%d" % number) for number in range(count)]


def merged(path: Path, count: int = 5) -> Digest:
    """Write a merged segment."""
    return write_merged(names(count), FRESH, OTHERS, path, CODEC).digest


def head_of(path: Path, read: int = 64 * 1024) -> Head:
    """Return the head of a merged segment, read from its first bytes."""
    with path.open("rb") as file:
        head = read_head(file.read(read))
    assert head is not None
    return head


def test_merged_segment_is_a_segment(tmp_path: Path) -> None:
    """Read whole it holds what it replaces, its fresh records and the others, and equal ones are equal."""
    digest = merged(tmp_path / "merged")
    found = list(read_segment(tmp_path / "merged", digest))
    assert found == [*map(Replaces, sorted(names(5))), *FRESH, *OTHERS]
    batches = list(read_batches(tmp_path / "merged"))
    assert [row for batch in batches for row in batch.claims] == [
        claim_row(record) for record in found if isinstance(record, Claim)
    ]
    again = write_merged(names(5)[::-1], iter(FRESH), iter(OTHERS), tmp_path / "again", CODEC)
    assert again.digest == digest
    assert (tmp_path / "again").read_bytes() == (tmp_path / "merged").read_bytes()
    assert {path.name for path in tmp_path.iterdir()} == {"merged", "again"}


def test_first_bytes_tell_what_is_new(tmp_path: Path) -> None:
    """From the head and the next few frames come what is replaced and the fresh records, and no others."""
    path = tmp_path / "merged"
    merged(path)
    head = head_of(path)
    assert head.replaces == tuple(sorted(names(5)))
    frames = path.read_bytes()[head.offset : head.offset + head.stored]
    assert read_fresh(frames, head) == FRESH
    assert head.offset + head.stored < path.stat().st_size // 4


def test_head_of_anything_else_is_none(tmp_path: Path) -> None:
    """An ordinary segment has no head, and of a head that is cut nothing is believed."""
    write_segment(OTHERS, tmp_path / "plain", CODEC)
    assert read_head((tmp_path / "plain").read_bytes()) is None
    merged(tmp_path / "merged")
    good = (tmp_path / "merged").read_bytes()
    for length in range(head_of(tmp_path / "merged").offset):
        assert read_head(good[:length]) is None


@pytest.mark.parametrize("count", [0, 1, 1000, REPLACED_MAX])
def test_head_holds_many_names(tmp_path: Path, count: int) -> None:
    """As many segments as one may replace fit into the one frame of its head."""
    digest = write_merged(names(count), [], [], tmp_path / "merged", CODEC).digest
    head = head_of(tmp_path / "merged", FRAME_SIZE)
    assert len(head.replaces) == count
    assert (head.size, head.stored > 0) == (0, True)
    assert read_fresh((tmp_path / "merged").read_bytes()[head.offset :][: head.stored], head) == []
    assert len(list(read_segment(tmp_path / "merged", digest))) == count


def test_more_names_are_not_written(tmp_path: Path) -> None:
    """What would need a second frame is refused by the writer, and leaves no file."""
    with pytest.raises(ValueError, match="at most"):
        write_merged(names(REPLACED_MAX + 1), [], [], tmp_path / "merged", CODEC)
    assert list(tmp_path.iterdir()) == []


def test_tampered_fresh_records_are_refused(tmp_path: Path) -> None:
    """Whatever byte of the fresh part changes, none of its records is believed."""
    path = tmp_path / "merged"
    merged(path)
    head = head_of(path)
    good = path.read_bytes()[head.offset : head.offset + head.stored]
    for position in range(len(good)):
        bad = bytearray(good)
        bad[position] ^= 1 << position % 8
        try:
            assert read_fresh(bytes(bad), head) == FRESH  # zstd decodes one flip in hundreds to the same
        except IntegrityError:
            continue
    for wrong in (b"", good[:-1], good + good, CODEC.compress(b"x" * head.size)):
        with pytest.raises(IntegrityError):
            read_fresh(wrong, head)


def test_fresh_part_that_unfolds_is_given_up(tmp_path: Path) -> None:
    """A fresh part that holds more than the head says is given up at the first frame beyond it."""
    path = tmp_path / "merged"
    merged(path)
    head = head_of(path)
    bomb = CODEC.compress(b"\n" * FRAME_SIZE) * 500
    tracemalloc.start()
    with pytest.raises(IntegrityError):
        read_fresh(bomb, head)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 4 * FRAME_SIZE


def test_every_flipped_byte_of_a_head_is_found(tmp_path: Path) -> None:
    """Read whole, a merged segment is verified to its last bit, its head too."""
    path = tmp_path / "merged"
    digest = merged(path)
    good = path.read_bytes()
    for position in range(head_of(path).offset):
        path.write_bytes(good)
        damage(path, position, 1 << position % 8)
        with pytest.raises(IntegrityError):
            next(read_segment(path, digest))


_FRESH = {"digest": digest_of(b""), "size": 0, "stored": 10}


@pytest.mark.parametrize(
    "fresh",
    [
        pytest.param([], id="a list"),
        pytest.param(7, id="a number"),
        pytest.param({}, id="empty"),
        pytest.param(_FRESH | {"digest": "../x"}, id="path for a digest"),
        pytest.param(_FRESH | {"size": -1}, id="negative size"),
        pytest.param(_FRESH | {"stored": -1}, id="negative length"),
        pytest.param(_FRESH | {"stored": "10"}, id="text for a length"),
        pytest.param(_FRESH | {"size": 1.5}, id="fraction"),
        pytest.param(_FRESH | {"size": True}, id="boolean"),
        pytest.param(_FRESH | {"size": 10**400}, id="size of 400 digits"),
    ],
)
def test_malformed_heads_are_refused(fresh: object) -> None:
    """A head that cannot be right is a format error, whether it is read alone or with the whole."""
    header = json.dumps({"kind": "segment", "version": 1, "fresh": fresh}).encode()
    with pytest.raises(FormatError):
        read_head(CODEC.compress(header + b"\n"))


def _line(count: int) -> bytes:
    return HEADER + b"\n" + b'{"kind":"tombstone","key":"' + b"a" * count


HOSTILE: dict[str, Callable[[], bytes]] = {
    "empty": lambda: b"",
    "not JSON": lambda: b"hello\n",
    "no header": lambda: b'{"kind":"tombstone"}\n',
    "header is a list": lambda: b"[]\n",
    "wrong version": lambda: json.dumps({"kind": "segment", "version": 2}).encode() + b"\n",
    "version is text": lambda: b'{"kind":"segment","version":"1"}\n',
    "unknown kind": lambda: HEADER + b'\n{"kind":"news"}\n',
    "empty line": lambda: HEADER + b"\n\n",
    "no newline at the end": lambda: HEADER,
    "cut record": lambda: _line(10),
    "record is no object": lambda: HEADER + b"\n1\n",
    "NaN": lambda: HEADER + b'\n{"kind":"tombstone","generation":NaN}\n',
    "deep": lambda: HEADER + b"\n" + b"[" * 200_000 + b"\n",
    "endless line": lambda: _line(segment.LINE_MAX + 2 * FRAME_SIZE),
    "nul bytes": lambda: bytes(1000),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_content_that_is_no_segment_is_refused(tmp_path: Path, name: str) -> None:
    """A well-sealed file with any other content is a format error with a reason."""
    digest = from_content(tmp_path / "segment", HOSTILE[name]())
    with pytest.raises(FormatError) as caught:
        list(read_segment(tmp_path / "segment", digest))
    assert 20 < len(str(caught.value)) < 300


def test_other_version_says_to_upgrade(tmp_path: Path) -> None:
    """A segment of a later version tells what to do about it."""
    digest = from_content(tmp_path / "segment", HOSTILE["wrong version"]())
    with pytest.raises(FormatError, match="upgrade casstore"):
        list(read_segment(tmp_path / "segment", digest))


def test_name_must_fit_the_content(tmp_path: Path) -> None:
    """A segment under the name of another is refused before one record is read."""
    write_segment([entry(1)], tmp_path / "segment", CODEC)
    with pytest.raises(IntegrityError, match="does not fit its digest"):
        next(read_segment(tmp_path / "segment", digest_of(b"another")))


def test_bomb_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A small file that unfolds beyond the bound on segments is given up there."""
    monkeypatch.setattr(segment, "SEGMENT_MAX", 2 * FRAME_SIZE)
    path = tmp_path / "bomb"
    path.write_bytes(seal(CODEC.compress(b"\n" * FRAME_SIZE) * 2000))
    assert path.stat().st_size < 1_000_000
    with pytest.raises(IntegrityError, match="more content than it may"):
        next(read_segment(path, digest_of(b"")))


@given(st.binary(max_size=300))
@settings(max_examples=100, deadline=None)
def test_any_content_is_records_or_refused(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    """Whatever follows the header is records or one of our errors."""
    path = tmp_path_factory.getbasetemp() / "any"
    digest = from_content(path, HEADER + b"\n" + content)
    try:
        list(read_segment(path, digest))
    except CasstoreError:
        return
    assert not content
