"""Segments: immutable batches of records, one file each, named by digest.  Floor: catalog.

The content of a segment is JSON Lines: a header line, then its records in an order that depends on nothing
but the records, so that the same records make the same segment. Its file is a sealed file, as an object's is.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import orjson

from casstore.catalog.records import Record, decode_record, encode_record
from casstore.digest import Digest
from casstore.errors import FormatError
from casstore.store.codec import Codec
from casstore.store.sealed import UNKNOWN, Stored, contents, create, examine, write_sealed

VERSION = 1
HEADER = orjson.dumps({"kind": "segment", "version": VERSION}, option=orjson.OPT_SORT_KEYS)

LINE_MAX = 32 * 1024 * 1024
"""Bytes of a line: the frames of an object of 1.7 TB."""

_BATCH = 1024 * 1024  # bytes of lines joined at a time, about

SEGMENT_MAX = 4 * 1024 * 1024 * 1024
"""Bytes of a segment's content: about ten million entries."""


def write_segment(records: Iterable[Record], path: Path, codec: Codec) -> Stored:
    """Write `records`, in their order, as a segment's file, and return its digest and sizes."""
    with create(path) as file:
        return write_sealed(io.BufferedReader(_LineReader(records)), file, codec)


def read_segment(path: Path, digest: Digest) -> Iterator[Record]:
    """Yield the records of the segment at `path`, of which nothing is believed before all of it was verified.

    Raises:
        IntegrityError: The file does not hold that segment.
        FormatError: Its content is no segment of this version.
    """
    examine(path, Stored(digest, UNKNOWN, 0), limit=SEGMENT_MAX)
    lines = _lines(contents(path))
    _check_header(next(lines, b""))
    for line in lines:
        yield decode_record(line)


def _check_header(line: bytes) -> None:
    try:
        fields = orjson.loads(line)
    except orjson.JSONDecodeError:
        fields = None
    if not isinstance(fields, dict) or fields.get("kind") != "segment":
        raise FormatError("a file in manifest/ is not a segment: it has no header line")
    if fields.get("version") != VERSION:
        found = str(fields.get("version"))[:20]
        raise FormatError(f"a segment of version {found}; this casstore reads {VERSION}: upgrade casstore")


def _lines(pieces: Iterable[bytes]) -> Iterator[bytes]:
    rest = b""
    for piece in pieces:
        *whole, rest = (rest + piece).split(b"\n")
        yield from whole
        if len(rest) > LINE_MAX:
            raise FormatError(f"a segment has a line of more than {LINE_MAX} bytes")
    if rest:
        raise FormatError("a segment does not end with a newline")


class _LineReader(io.RawIOBase):
    """The lines of a segment as a stream."""

    def __init__(self, records: Iterable[Record]) -> None:
        super().__init__()
        self._lines = self._generate(records)
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
    def _generate(records: Iterable[Record]) -> Iterator[bytes]:
        batch, size = [HEADER], 0
        for record in records:
            line = encode_record(record)
            batch.append(line)
            size += len(line)
            if size >= _BATCH:
                yield b"\n".join(batch) + b"\n"
                batch, size = [], 0
        if batch:
            yield b"\n".join(batch) + b"\n"
