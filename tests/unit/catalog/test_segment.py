"""Segments: written from records, and refused where they are not what they should be."""

from __future__ import annotations

import io
import json
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from casstore.catalog import segment
from casstore.catalog.records import Entry, Record
from casstore.catalog.segment import HEADER, read_segment, write_segment
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
