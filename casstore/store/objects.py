"""Objects on one backend: put, read whole or in part, verify.  Floor: store.

An object is a sealed file (`casstore.store.sealed`) or lies in a pack (`casstore.store.pack`). Whoever reads
says what it believes of the object (`Stored`); nothing is returned that does not fit its digest, or for a
part, the digests of its frames. This module knows of no index, entry or remote.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from casstore.digest import Digest, digest_of
from casstore.errors import IntegrityError
from casstore.store.codec import FRAME_SIZE, Codec, Dictionary, decompress, read_frames, seal, unseal
from casstore.store.layout import object_name, pack_name
from casstore.store.pack import decode_member
from casstore.store.sealed import Frames, Place, Stored, create, examine, write_sealed

if TYPE_CHECKING:
    from casstore.backends.base import Backend
    from casstore.store.dictionaries import Dictionaries


class ObjectStore:
    """The objects of one store.

    Args:
        backend: Where they are.
        shards: Widths of the folder levels, as the store's marker gives them.
        codec: Compresses what is put.
        spool: A local folder for the unfinished files of large objects.
        dictionaries: Where the dictionaries of packs are found, which is always here.
    """

    def __init__(
        self,
        backend: Backend,
        shards: tuple[int, int],
        codec: Codec,
        spool: Path,
        dictionaries: Dictionaries,
    ) -> None:
        self.backend = backend
        self.dictionaries = dictionaries
        self._shards = shards
        self._codec = codec
        self._spool = spool

    def name(self, digest: Digest) -> str:
        """Return the name of an object's own file."""
        return object_name(digest, self._shards)

    def pack_name(self, pack: Digest) -> str:
        """Return the name of a pack's file."""
        return pack_name(pack, self._shards)

    def put(self, content: bytes, digest: Digest | None = None) -> Stored:
        """Store `content`, whose digest a caller may already know."""
        if len(content) > FRAME_SIZE:
            with self.encode(BytesIO(content)) as (known, path):
                self.backend.upload(path, self.name(known.digest), consume=True)
            return known
        digest = digest or digest_of(content)
        sealed = seal(self._codec.compress(content))
        self.backend.write(self.name(digest), sealed)
        return Stored(digest, len(content), len(sealed))

    @contextmanager
    def encode(self, source: BinaryIO) -> Iterator[tuple[Stored, Path]]:
        """Compress a stream of any length into a spool file, which is removed afterwards.

        Yields:
            What the object would be, and the file, ready for `Backend.upload`.
        """
        with self.spooled() as path:
            with create(path) as file:
                known = write_sealed(source, file, self._codec)
            yield known, path

    def get(self, known: Stored) -> bytes:
        """Return the content of an object.

        Raises:
            NotFoundError: Its file is not there, or its pack, or the pack's dictionary.
            IntegrityError: The file does not hold it.
        """
        if known.place is not None:
            return decode_member(self.frame(known, known.place), known, self.dictionary(known.place))
        return decode(self.backend.read(self.name(known.digest)), known)

    def frame(self, known: Stored, place: Place) -> bytes:
        """Return the frame of an object in a pack, unverified, by one ranged read."""
        return self.backend.read_range(self.pack_name(place.pack), place.offset, known.stored)

    def dictionary(self, place: Place) -> Dictionary | None:
        """Return what an object's frame in a pack was compressed with."""
        return None if place.dictionary is None else self.dictionaries(place.dictionary)

    def get_range(self, known: Stored, start: int, length: int) -> bytes:
        """Return up to `length` bytes of content from offset `start`, reading only their frames."""
        stop = min(start + length, known.size)
        if start >= stop:
            return b""
        if known.frames is None:
            return self.get(known)[start:stop]
        first, last = start // FRAME_SIZE, (stop - 1) // FRAME_SIZE
        content = b"".join(self._frames(known, known.frames, first, last + 1))
        return content[start - first * FRAME_SIZE : stop - first * FRAME_SIZE]

    def stream(self, known: Stored) -> Iterator[bytes]:
        """Yield the content of an object in pieces of at most `FRAME_SIZE`, each verified before it goes out.

        Raises:
            NotFoundError: Its file is not there.
            IntegrityError: A frame, or at the end the whole, does not fit its digest.
        """
        if known.frames is None:
            yield self.get(known)
            return
        whole = hashlib.sha256()
        for content in self._frames(known, known.frames, 0, len(known.frames.stored)):
            whole.update(content)
            yield content
        if whole.hexdigest() != known.digest:
            raise IntegrityError(f"object {known.digest} does not fit its digest")

    def fetch(self, known: Stored, path: Path) -> Stored:
        """Copy an object's file to the local `path` and verify it there, in bounded memory.

        Returns:
            What the file truly holds, frames included.
        """
        self.backend.download(self.name(known.digest), path)
        return examine(path, known)

    @contextmanager
    def spooled(self) -> Iterator[Path]:
        """Yield a path for a new spool file, which is removed afterwards if it is there."""
        path = self._spool / f"{os.urandom(12).hex()}.tmp"
        try:
            yield path
        finally:
            path.unlink(missing_ok=True)

    def _frames(self, known: Stored, frames: Frames, first: int, end: int) -> Iterator[bytes]:
        name, start = self.name(known.digest), sum(frames.stored[:first])
        for i in range(first, end):
            content = decompress(self.backend.read_range(name, start, frames.stored[i]))
            if digest_of(content) != frames.digests[i]:
                raise IntegrityError(f"object {known.digest}: frame {i} does not fit its digest")
            start += frames.stored[i]
            yield content


def decode(sealed: bytes, known: Stored) -> bytes:
    """Return the content that an object's file holds.

    Raises:
        IntegrityError: It is not what `known` says.
    """
    frames = unseal(sealed)
    if known.size <= FRAME_SIZE:
        content = decompress(frames)
    else:
        content = b"".join(_bounded(read_frames(BytesIO(frames), len(frames)), known.size))
    if len(content) != known.size or hashlib.sha256(content).hexdigest() != known.digest:
        raise IntegrityError(f"object {known.digest} does not fit its digest")
    return content


def _bounded(frames: Iterator[bytes], size: int) -> Iterator[bytes]:
    for frame in frames:
        content = decompress(frame)
        size -= len(content)
        if size < 0:
            raise IntegrityError("an object is larger than recorded")
        yield content
