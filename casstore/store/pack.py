"""Packs: many small objects in one file, a frame each.  Floor: store.

A pack is the frames of its objects in the order they were written, and behind them a table of contents in a
skippable frame, which zstd tools pass over. It is named by the digest of its file, so a copy of it is whole
or is none; each object is checked against its own digest as well. Its dictionary, if it has one, is an object
outside it. The same objects and dictionary make the same pack. Where packs lie is not known here.
"""

from __future__ import annotations

import hashlib
import itertools
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Protocol, TypeVar

import orjson

from casstore.backends.mapping import from_os_error
from casstore.digest import Digest, check_digests, digest_of, parse_digest
from casstore.errors import CasstoreError, FormatError, IntegrityError, malformed
from casstore.store.codec import FRAME_SIZE, Codec, Dictionary, decompress
from casstore.store.sealed import Place, Stored

PACKED_MAX = 1024 * 1024
"""Bytes of content from which an object has a file of its own."""

PACK_FRAMES = 24 * 1024 * 1024
"""Bytes at which a pack is full, counted as its objects would take loose.

A dictionary brings that to 11 to 18 MiB for LLM answers; counted before it is compressed, so that a plan
knows how many packs there will be.
"""

PACK_MEMBERS = 32_768
"""Objects in a pack: the table of contents of as many fits into one frame."""

PACK_MAX = 64 * 1024 * 1024
"""Bytes of the largest pack that is read."""

_TOC_START = b"\x5d\x2a\x4d\x18"  # magic of a skippable frame; the seal of other files has another one
_LENGTH = 4  # bytes of a length, little-endian
_TOC_END = b"cpk1"
_TAIL = _LENGTH + len(_TOC_END)  # the length of the compressed table, and the mark
_OBJECT_MAX = PACKED_MAX
_CHUNK = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Contents:
    """What a pack holds: three sequences of one length, an object at each position.

    Attributes:
        dictionary: What its frames need to be decompressed.
        digests: The objects.
        sizes: Bytes of content of each.
        lengths: Bytes of the frame of each.
    """

    dictionary: Digest | None
    digests: Sequence[Digest]
    sizes: Sequence[int]
    lengths: Sequence[int]

    def offsets(self) -> Iterator[int]:
        """Yield where each object's frame begins, and at last where the frames end."""
        return itertools.accumulate(self.lengths, initial=0)

    def stored(self, pack: Digest) -> Iterator[Stored]:
        """Yield each object as it is stored in `pack`."""
        for digest, size, length, offset in zip(
            self.digests, self.sizes, self.lengths, self.offsets(), strict=False
        ):
            yield Stored(digest, size, length, None, Place(pack, offset, self.dictionary))


@dataclass(frozen=True, slots=True)
class Pack:
    """A pack.

    Attributes:
        digest: SHA-256 of its file.
        stored: Bytes of its file.
        contents: What it holds.
    """

    digest: Digest
    stored: int
    contents: Contents

    def members(self) -> Iterator[Stored]:
        """Yield its objects in the order they were written."""
        return self.contents.stored(self.digest)


@dataclass(frozen=True, slots=True)
class Member:
    """An object on its way into a pack.

    Attributes:
        digest: Its digest, which the content fits.
        content: Its content.
        frame: Its frame, where one was made with the pack's dictionary before.
    """

    digest: Digest
    content: bytes
    frame: bytes | None = None


class Packable(Protocol):
    """What can be put in a pack: an object, and the bytes that it takes now."""

    @property
    def digest(self) -> Digest:
        """Its digest."""

    @property
    def stored(self) -> int:
        """Bytes of its file, or of its frame in a pack."""


P = TypeVar("P", bound=Packable)


def fill_packs(objects: Iterable[P], full: int) -> Iterator[tuple[P, ...]]:
    """Yield what goes into each new pack; where one ends depends on nothing behind it.

    One place is left, since a pack may have to take one object under two names.

    Args:
        objects: The objects, in their order; one that comes twice goes into a pack once.
        full: Bytes, as the objects are stored now, at which a pack is full.
    """
    group: dict[Digest, P] = {}
    weight = 0
    for known in objects:
        if known.digest in group:
            continue
        group[known.digest] = known
        weight += known.stored
        if weight >= full or len(group) == PACK_MEMBERS - 1:
            yield tuple(group.values())
            group, weight = {}, 0
    if group:
        yield tuple(group.values())


def contents_fields(contents: Contents) -> dict[str, Any]:
    """Return what a pack holds as the fields of a JSON object."""
    fields: dict[str, Any] = {
        "lengths": list(contents.lengths),
        "objects": list(contents.digests),
        "sizes": list(contents.sizes),
    }
    return fields if contents.dictionary is None else fields | {"dictionary": contents.dictionary}


def parse_contents(fields: Mapping[str, Any]) -> Contents:
    """Return what the fields of a JSON object say that a pack holds.

    Raises:
        FormatError: They cannot be right.
        KeyError: One is missing.
    """
    dictionary = fields.get("dictionary")
    digests, sizes, lengths = fields["objects"], fields["sizes"], fields["lengths"]
    if not isinstance(digests, list) or not 0 < len(digests) <= PACK_MEMBERS:
        raise FormatError(f"a pack holds 1 to {PACK_MEMBERS} objects")
    check_digests(digests)
    _check_numbers(sizes, len(digests), 0, _OBJECT_MAX)
    _check_numbers(lengths, len(digests), 1, PACK_MAX)
    return Contents(None if dictionary is None else parse_digest(dictionary), digests, sizes, lengths)


def _check_numbers(numbers: object, count: int, low: int, high: int) -> None:
    if not isinstance(numbers, list) or len(numbers) != count or set(map(type, numbers)) != {int}:
        raise FormatError("a pack's table of contents has a list of another length, or not of numbers")
    if min(numbers) < low or max(numbers) > high:
        raise FormatError("a pack's table of contents has a number out of bounds")


class PackWriter:
    """Writes one pack.

    Args:
        file: Where to; written from front to back.
        codec: Compresses what is added.
        dictionary: With which.
    """

    def __init__(self, file: BinaryIO, codec: Codec, dictionary: Dictionary | None = None) -> None:
        self._file = file
        self._codec = codec
        self._dictionary = dictionary
        self._hash = hashlib.sha256()
        self._digests: list[Digest] = []
        self._sizes: list[int] = []
        self._lengths: list[int] = []
        self.stored = 0

    def __len__(self) -> int:
        return len(self._digests)

    def add(self, digest: Digest, content: bytes) -> None:
        """Add an object whose content fits its digest.

        Raises:
            BackendError: The file cannot be written.
        """
        self.add_all([Member(digest, content)])

    def add_frame(self, digest: Digest, size: int, frame: bytes) -> None:
        """Add an object whose frame was made with this pack's dictionary."""
        self._add([digest], [size], [frame])

    def add_all(self, members: Sequence[Member]) -> None:
        """Add objects in their order.

        Raises:
            BackendError: The file cannot be written.
        """
        fresh = [each.content for each in members if each.frame is None]
        made = iter(self._codec.compress_each(fresh, self._dictionary))
        frames = [next(made) if each.frame is None else each.frame for each in members]
        self._add([each.digest for each in members], [len(each.content) for each in members], frames)

    def _add(self, digests: Sequence[Digest], sizes: Sequence[int], frames: Sequence[bytes]) -> None:
        self._write(b"".join(frames))
        self._digests += digests
        self._sizes += sizes
        self._lengths += map(len, frames)

    def finish(self) -> Pack:
        """Write the table of contents, and return what was written."""
        dictionary = None if self._dictionary is None else self._dictionary.digest
        contents = Contents(dictionary, self._digests, self._sizes, self._lengths)
        self._write(_toc(contents, self._codec))
        try:
            self._file.flush()
        except OSError as error:
            raise self._failed(error) from error
        return Pack(Digest(self._hash.hexdigest()), self.stored, contents)

    def _write(self, content: bytes) -> None:
        try:
            self._file.write(content)
        except OSError as error:
            raise self._failed(error) from error
        self._hash.update(content)
        self.stored += len(content)

    def _failed(self, error: OSError) -> CasstoreError:
        return from_os_error(error, "write", "an unfinished pack", str(getattr(self._file, "name", "")))


def read_pack(path: Path, digest: Digest) -> Pack:
    """Return what the pack's file at `path` holds, all of whose bytes are verified first.

    Raises:
        IntegrityError: It is not the pack of that digest, or a pack that no casstore wrote.
        FileNotFoundError: It is not there.
    """
    with path.open("rb") as file:
        length = os.fstat(file.fileno()).st_size
        if length > PACK_MAX:
            raise IntegrityError(f"pack {digest} has {length} bytes; at most {PACK_MAX} are allowed")
        whole = hashlib.sha256()
        while chunk := file.read(_CHUNK):
            whole.update(chunk)
        if whole.hexdigest() != digest:
            raise IntegrityError(f"pack {digest} does not fit its digest")
        return Pack(digest, length, _read_toc(file, length))


def read_contents(path: Path) -> Contents:
    """Return what the table of contents of the pack at `path` says, unverified.

    Raises:
        IntegrityError: It has none.
        FileNotFoundError: It is not there.
    """
    with path.open("rb") as file:
        return _read_toc(file, os.fstat(file.fileno()).st_size)


def decode_member(frame: bytes | memoryview, known: Stored, dictionary: Dictionary | None) -> bytes:
    """Return the content of an object's frame from a pack.

    Raises:
        IntegrityError: It is not what `known` says.
    """
    content = decompress(frame, dictionary)
    if len(content) != known.size or digest_of(content) != known.digest:
        raise IntegrityError(f"object {known.digest} does not fit its digest")
    return content


def _toc(contents: Contents, codec: Codec) -> bytes:
    text = orjson.dumps(contents_fields(contents), option=orjson.OPT_SORT_KEYS)
    table = codec.compress(text)
    payload = table + len(table).to_bytes(_LENGTH, "little") + _TOC_END
    return _TOC_START + len(payload).to_bytes(_LENGTH, "little") + payload


def _read_toc(file: BinaryIO, length: int) -> Contents:
    file.seek(max(0, length - _TAIL))
    tail = file.read(_TAIL)
    start = length - _TAIL - int.from_bytes(tail[:_LENGTH], "little")
    head = len(_TOC_START) + _LENGTH
    if tail[_LENGTH:] != _TOC_END or start < head or length - start > FRAME_SIZE:
        raise IntegrityError("not a pack: it has no table of contents")
    file.seek(start - head)
    if file.read(head) != _TOC_START + (length - start).to_bytes(_LENGTH, "little"):
        raise IntegrityError("a pack's table of contents does not begin where it should")
    try:
        fields = orjson.loads(decompress(file.read(length - start - _TAIL)))
        contents = parse_contents(fields)
    except (FormatError, KeyError, TypeError, AttributeError, orjson.JSONDecodeError) as error:
        raise IntegrityError(f"a pack's table of contents is malformed: {malformed(error)}") from error
    if sum(contents.lengths) != start - head:
        raise IntegrityError("a pack's table of contents does not fit its length")
    return contents
