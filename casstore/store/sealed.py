"""Sealed files: content of any length as zstd frames and a seal.  Floor: store.

They are written and verified in bounded memory.
Objects and segments are such files. What one is called and where it lies is not known here.
"""

from __future__ import annotations

import hashlib
import io
import os
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from casstore.backends.mapping import from_os_error
from casstore.digest import Digest, digest_of
from casstore.errors import IntegrityError
from casstore.store.codec import (
    FRAME_SIZE,
    SEAL_SIZE,
    Codec,
    check_seal,
    content_size,
    decompress,
    read_frames,
    seal_for,
)
from casstore.values import quick_value

UNKNOWN = -1
"""The size of content whose size is not known."""

UNBOUNDED = 1 << 62


@dataclass(frozen=True, slots=True)
class Frames:
    """The frames of an object of more than `FRAME_SIZE` bytes.

    Attributes:
        stored: Stored bytes of each.
        digests: SHA-256 of the content of each.
    """

    stored: tuple[int, ...]
    digests: tuple[Digest, ...]


@quick_value(frozen=True, slots=True)
class Place:
    """Where in a pack an object lies.

    Attributes:
        pack: The pack.
        offset: Bytes of the pack before the object's frame.
        dictionary: What the frame needs to be decompressed.
    """

    pack: Digest
    offset: int
    dictionary: Digest | None = None


@quick_value(frozen=True, slots=True)
class Stored:
    """What is known of an object where it is stored.

    Attributes:
        digest: SHA-256 of its content.
        size: Bytes of content.
        stored: Bytes of the file, or of its frame in a pack.
        frames: Its frames, where it has several and they are known.
        place: Where it lies in a pack; None where it has a file of its own.
    """

    digest: Digest
    size: int
    stored: int
    frames: Frames | None = None
    place: Place | None = None


def create(path: Path) -> BinaryIO:
    """Open the new file `path`, whose every failure to be written is a `BackendError`.

    Raises:
        BackendError: It cannot be made.
    """
    try:
        return _NewFile(io.FileIO(path, "wb"))
    except OSError as error:
        raise from_os_error(error, "write", path.name, str(path.parent)) from error


class _NewFile(io.BufferedWriter):
    """A file whose last bytes may not fit on the disk, which shows when it is closed."""

    def close(self) -> None:
        try:
            super().close()
        except OSError as error:
            raise from_os_error(error, "write", "an unfinished file", str(self.name)) from error


def write_sealed(source: BinaryIO, file: BinaryIO, codec: Codec) -> Stored:
    """Compress all of `source` into `file`, and return what it holds.

    Raises:
        BackendError: `file` cannot be written, most likely since the disk is full.
        OSError: `source` cannot be read.
    """
    writer = SealedWriter(file, codec)
    writer.add(source)
    return writer.finish()


class SealedWriter:
    """Writes a sealed file, source by source.

    Args:
        file: Where to; written from front to back.
        codec: Compresses what is added.
    """

    def __init__(self, file: BinaryIO, codec: Codec) -> None:
        self._file = file
        self._codec = codec
        self._total = Total()

    def add(self, source: BinaryIO) -> None:
        """Compress all of `source`, beginning with a new frame."""
        while content := _read_full(source):
            self._add(self._codec.compress(content), content)
            del content  # not to be held while the next is read

    def copy(self, frames: BinaryIO, length: int) -> None:
        """Copy frames, undecoded but for their checksums, from the next `length` bytes of `frames`."""
        for frame in read_frames(frames, length):
            self._add(frame, decompress(frame))

    def finish(self) -> Stored:
        """Write the seal, and return what the file holds."""
        if not self._total.lengths:
            self._add(self._codec.compress(b""), b"")
        _write(self._file, seal_for(self._total.checksum))
        return self._total.known()

    def _add(self, frame: bytes, content: bytes) -> None:
        _write(self._file, frame)
        self._total.add(frame, content)


def _write(file: BinaryIO, content: bytes) -> None:
    try:
        file.write(content)
        file.flush()  # so that a full disk is told here, and not when the file is closed
    except OSError as error:
        raise from_os_error(error, "write", "an unfinished file", str(getattr(file, "name", ""))) from error


def examine(path: Path, expected: Stored, *, limit: int = UNBOUNDED, even: bool = True) -> Stored:
    """Verify the sealed file at `path` in bounded memory, and return what it truly holds, frames included.

    Args:
        path: A local file.
        expected: Its digest; and its size, or `UNKNOWN`.
        limit: Bytes of content at which to give up.
        even: Whether every frame but the last must be full, so that any part of the content can be found.

    Raises:
        IntegrityError: It does not hold the expected content.
    """
    total = Total(each=even)
    limit = limit if expected.size == UNKNOWN else expected.size
    with path.open("rb") as file:
        length = os.fstat(file.fileno()).st_size - SEAL_SIZE
        for frame in read_frames(file, length):
            if even and total.size != len(total.lengths) * FRAME_SIZE:
                raise IntegrityError(f"{path.name} has a frame of less than 4 MiB that is not its last")
            total.add(frame, decompress(frame))
            if total.size > limit:
                raise IntegrityError(f"{path.name} holds more content than it may")
        check_seal(file.read(), total.checksum)
    known = total.known()
    if known.digest != expected.digest or expected.size not in (UNKNOWN, known.size):
        raise IntegrityError(f"{path.name} does not fit its digest {expected.digest}")
    return known


def contents(path: Path) -> Iterator[bytes]:
    """Yield the content of the sealed file at `path`, a frame at a time, unverified: `examine` it first."""
    with path.open("rb") as file:
        for frame in read_frames(file, os.fstat(file.fileno()).st_size - SEAL_SIZE):
            yield decompress(frame)


def claimed_size(path: Path) -> int:
    """Return how many bytes of content the headers in the file at `path` claim, without decoding it."""
    with path.open("rb") as file:
        length = os.fstat(file.fileno()).st_size - SEAL_SIZE
        return sum(content_size(frame) for frame in read_frames(file, length))


class Total:
    """Adds up the frames of one file as they go by.

    Args:
        each: Whether the digest of each frame is to be known.

    Attributes:
        checksum: Their CRC-32.
        size: Bytes of their content.
        lengths: Bytes of each.
    """

    def __init__(self, *, each: bool = True) -> None:
        self._whole = hashlib.sha256()
        self._each = each
        self.checksum = 0
        self.size = 0
        self.lengths: list[int] = []
        self._digests: list[Digest] = []

    def add(self, frame: bytes, content: bytes) -> None:
        """Take in the next frame, and what it holds."""
        self._whole.update(content)
        self.checksum = zlib.crc32(frame, self.checksum)
        self.size += len(content)
        self.lengths.append(len(frame))
        if self._each:  # of the first, it is known already
            self._digests.append(digest_of(content) if self._digests else Digest(self._whole.hexdigest()))

    def known(self) -> Stored:
        """Return what a file of these frames holds."""
        frames = Frames(tuple(self.lengths), tuple(self._digests)) if len(self._digests) > 1 else None
        return Stored(Digest(self._whole.hexdigest()), self.size, sum(self.lengths) + SEAL_SIZE, frames)


def _read_full(source: BinaryIO) -> bytes:
    """Read `FRAME_SIZE` bytes, or what there is: a pipe gives less at a time."""
    pieces: list[bytes] = []
    missing = FRAME_SIZE
    while missing and (piece := source.read(missing)):
        pieces.append(piece)
        missing -= len(piece)
    return b"".join(pieces)
