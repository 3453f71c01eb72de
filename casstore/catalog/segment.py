"""Segments: immutable batches of records, one file each, named by digest.  Floor: catalog.

The content of a segment is JSON Lines: a header line, then its records in an order that depends on nothing
but the records, so that the same records make the same segment. Its file is a sealed file, as an object's is.

A *merged* segment stands for others. Its first frame is its head: the header line and the segments it
replaces. Then come, in frames of their own, its fresh records, which none of those holds, and then theirs. So
who knows all that it replaces reads the first few frames and has no need of the others.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import orjson

from casstore.catalog.batch import Batch, decode_batch
from casstore.catalog.records import Record, Replaces, decode_record, encode_record, integer
from casstore.digest import Digest, parse_digest
from casstore.errors import FormatError, IntegrityError, malformed
from casstore.store.codec import SEAL_SIZE, Codec, decompress, read_frames
from casstore.store.sealed import (
    UNKNOWN,
    SealedWriter,
    Stored,
    Total,
    contents,
    create,
    examine,
    write_sealed,
)

VERSION = 1
HEADER = orjson.dumps({"kind": "segment", "version": VERSION}, option=orjson.OPT_SORT_KEYS)

LINE_MAX = 32 * 1024 * 1024
"""Bytes of a line: the frames of an object of 1.7 TB."""

REPLACED_MAX = 40_000
"""Segments that one may replace: the lines of as many fit into one frame."""

_BATCH = 1024 * 1024  # bytes of lines joined at a time, about
_PAGE = 1000  # lines read at a time, at most: more, and memory is not reused

SEGMENT_MAX = 4 * 1024 * 1024 * 1024
"""Bytes of a segment's content: about ten million entries."""


@dataclass(frozen=True, slots=True)
class Head:
    """The first frame of a merged segment.

    Attributes:
        replaces: The segments it stands for.
        digest: SHA-256 of the lines of its fresh records.
        size: Bytes of those lines.
        offset: Bytes of the file before their frames.
        stored: Bytes of their frames.
    """

    replaces: tuple[Digest, ...]
    digest: Digest
    size: int
    offset: int
    stored: int


def write_segment(records: Iterable[Record | bytes], path: Path, codec: Codec) -> Stored:
    """Write `records`, in their order, as a segment's file, and return its digest and sizes.

    Records may be given as their lines, without newlines.
    """
    with create(path) as file:
        return write_sealed(_stream([HEADER], records), file, codec)


def write_merged(
    replaces: Sequence[Digest],
    fresh: Iterable[Record | bytes],
    others: Iterable[Record | bytes],
    path: Path,
    codec: Codec,
) -> Stored:
    """Write a merged segment's file, and return its digest and sizes.

    Args:
        replaces: The segments it stands for.
        fresh: Records that none of those holds.
        others: Their records, those left out that nobody needs any more.
        path: The file.
        codec: Compresses it.
    """
    if len(replaces) > REPLACED_MAX:
        raise ValueError(f"a segment replaces at most {REPLACED_MAX} others, not {len(replaces)}")
    spool = path.with_name(f"{path.name}.fresh.tmp")
    try:
        with create(spool) as file:
            part = write_sealed(_stream([], fresh), file, codec)
        stored = part.stored - SEAL_SIZE
        header = {
            "fresh": {"digest": part.digest, "size": part.size, "stored": stored},
            "kind": "segment",
            "version": VERSION,
        }
        with create(path) as file, spool.open("rb") as frames:
            writer = SealedWriter(file, codec)
            head = orjson.dumps(header, option=orjson.OPT_SORT_KEYS)
            writer.add(_stream([head], [Replaces(digest) for digest in sorted(replaces)]))
            writer.copy(frames, stored)
            writer.add(_stream([], others))
            return writer.finish()
    finally:
        spool.unlink(missing_ok=True)


def read_segment(path: Path, digest: Digest) -> Iterator[Record]:
    """Yield the records of the segment at `path`, of which nothing is believed before all of it was verified.

    Raises:
        IntegrityError: The file does not hold that segment.
        FormatError: Its content is no segment of this version.
    """
    check_segment(path, digest)
    for lines in _read_lines(path):
        yield from map(decode_record, lines)


def read_batches(path: Path) -> Iterator[Batch]:
    """Yield the records of the segment at `path`, which was checked just now, many at once, made rows.

    Raises:
        IntegrityError: The file was damaged since.
        FormatError: Its content is no segment of this version.
    """
    return map(decode_batch, _read_lines(path))


def check_segment(path: Path, digest: Digest) -> None:
    """Verify the bytes of the segment at `path`; of its records nothing is said.

    Raises:
        IntegrityError: The file does not hold that segment.
        FileNotFoundError: It is not there.
    """
    examine(path, Stored(digest, UNKNOWN, 0), limit=SEGMENT_MAX, even=False)


def read_head(beginning: bytes) -> Head | None:
    """Return what the first frame of a segment says, given the first bytes of its file.

    Returns:
        The head; None where it is no merged segment, or its first frame is longer than `beginning`.

    Raises:
        FormatError: It is no segment of this version.
    """
    try:
        frame = next(read_frames(BytesIO(beginning), len(beginning)))
        lines = decompress(frame).split(b"\n")
    except IntegrityError:
        return None
    fresh = _parse_header(lines[0]).get("fresh")
    if fresh is None:
        return None
    records = [decode_record(line) for line in lines[1:] if line]
    replaces = tuple(record.segment for record in records if isinstance(record, Replaces))
    try:
        digest, size, stored = parse_digest(fresh["digest"]), integer(fresh["size"]), integer(fresh["stored"])
    except (KeyError, TypeError, ValueError) as error:
        raise FormatError(f"a segment has a malformed header: {malformed(error)}") from error
    return Head(replaces, digest, size, len(frame), stored)


def read_fresh(frames: bytes, head: Head) -> list[Record]:
    """Return the fresh records of a merged segment, given their frames.

    Raises:
        IntegrityError: The frames do not hold what the head says.
        FormatError: One is no record of this version.
    """
    total = Total(each=False)
    pieces = []
    for frame in read_frames(BytesIO(frames), len(frames)):
        pieces.append(decompress(frame))
        total.add(frame, pieces[-1])
        if total.size > head.size:
            break
    if total.size != head.size or total.known().digest != head.digest:
        raise IntegrityError("the fresh records of a segment do not fit their digest")
    return [decode_record(line) for lines in _lines(pieces) for line in lines]


def _read_lines(path: Path) -> Iterator[list[bytes]]:
    """Yield the lines of a segment behind its header."""
    pages = _lines(contents(path))
    first = next(pages, [b""])
    _parse_header(first.pop(0))
    yield first
    del first  # it may be as large as a frame
    yield from pages


def _parse_header(line: bytes) -> dict[str, Any]:
    try:
        fields = orjson.loads(line)
    except orjson.JSONDecodeError:
        fields = None
    if not isinstance(fields, dict) or fields.get("kind") != "segment":
        raise FormatError("a file in manifest/ is not a segment: it has no header line")
    if fields.get("version") != VERSION:
        found = str(fields.get("version"))[:20]
        raise FormatError(f"a segment of version {found}; this casstore reads {VERSION}: upgrade casstore")
    return fields


def _lines(pieces: Iterable[bytes]) -> Iterator[list[bytes]]:
    """Yield the lines in pieces of text, some at once."""
    rest = b""
    for piece in pieces:
        *whole, rest = (rest + piece).split(b"\n")
        for start in range(0, len(whole), _PAGE):
            yield whole[start : start + _PAGE]
        if len(rest) > LINE_MAX:
            raise FormatError(f"a segment has a line of more than {LINE_MAX} bytes")
    if rest:
        raise FormatError("a segment does not end with a newline")


def _stream(begin: list[bytes], records: Iterable[Record | bytes]) -> io.BufferedReader:
    return io.BufferedReader(_LineReader(begin, records))


class _LineReader(io.RawIOBase):
    """The lines of a segment as a stream."""

    def __init__(self, begin: list[bytes], records: Iterable[Record | bytes]) -> None:
        super().__init__()
        self._lines = self._generate(begin, records)
        self._rest = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        target = memoryview(buffer)
        if not self._rest:
            self._rest = memoryview(next(self._lines, b""))
        count = min(len(target), len(self._rest))
        target[:count] = self._rest[:count]
        self._rest = self._rest[count:]
        return count

    @staticmethod
    def _generate(begin: list[bytes], records: Iterable[Record | bytes]) -> Iterator[bytes]:
        batch, size = begin, 0
        for record in records:
            line = record if isinstance(record, bytes) else encode_record(record)
            batch.append(line)
            size += len(line)
            if size >= _BATCH:
                yield b"\n".join(batch) + b"\n"
                batch, size = [], 0
        if batch:
            yield b"\n".join(batch) + b"\n"
